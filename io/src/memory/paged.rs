//! A growing array that never moves what it has.
//!
//! ```text
//!   pages     ▢ ─► [ 0 … n-1 ]          n elements each, a power of two, some 64 KiB; memory for all n at once
//!             ▢ ─► [ n … 2n-1 ]
//!             ▢ ─► [ 2n … len-1, room ]
//! ```
//!
//! A `Vec` that is full copies all it has into twice the memory: with gigabytes in it, that stops a core for most of a
//! second. Here growing is one more page. What moves is the list of pages alone: 24 bytes for 64 KiB.
//!
//! It is no `Vec`: elements never leave it. Who needs that keeps a list of vacant indices.

use std::fmt;
use std::iter::Flatten;
use std::ops::{Index, IndexMut};
use std::slice;

/// A page has about this many bytes: small enough for a nearly empty array, large enough for a short list of pages.
const PAGE_BYTES: usize = 64 << 10;

/// The array. Indices count from 0 in the order of [`push`](Self::push).
pub struct Paged<T> {
    /// All are full but the last one; none is empty.
    pages: Vec<Vec<T>>,
}

impl<T> Paged<T> {
    /// The elements of a page are 2 to this power: as many as fit, at least one.
    const PAGE_BITS: u32 = match size_of::<T>() {
        0 => PAGE_BYTES.ilog2(),
        bytes if bytes > PAGE_BYTES => 0,
        bytes => (PAGE_BYTES / bytes).ilog2(),
    };
    const PAGE_ELEMENTS: usize = 1 << Self::PAGE_BITS;

    /// An empty array, without memory.
    pub const fn new() -> Self {
        Paged { pages: Vec::new() }
    }

    /// Puts an element at the end. Returns its index.
    pub fn push(&mut self, element: T) -> usize {
        let index = self.len();
        if index.is_multiple_of(Self::PAGE_ELEMENTS) {
            self.pages.push(Vec::with_capacity(Self::PAGE_ELEMENTS));
        }
        self.pages[index >> Self::PAGE_BITS].push(element);
        index
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self.pages.split_last() {
            Some((last, full)) => (full.len() << Self::PAGE_BITS) + last.len(),
            None => 0,
        }
    }

    /// Whether nothing was ever pushed.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The element at an index, if there is one.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index >> Self::PAGE_BITS)?.get(index & (Self::PAGE_ELEMENTS - 1))
    }

    /// The element at an index, if there is one, to change it.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index >> Self::PAGE_BITS)?.get_mut(index & (Self::PAGE_ELEMENTS - 1))
    }

    /// All elements, in the order of their indices.
    pub fn iter(&self) -> Flatten<slice::Iter<'_, Vec<T>>> {
        self.pages.iter().flatten()
    }

    /// Memory taken from the heap, used or not; what the elements themselves own is not in it.
    pub fn heap_bytes(&self) -> usize {
        self.pages.len() * (size_of::<T>() << Self::PAGE_BITS) + self.pages.capacity() * size_of::<Vec<T>>()
    }
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<usize> for Paged<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.pages[index >> Self::PAGE_BITS][index & (Self::PAGE_ELEMENTS - 1)]
    }
}

impl<T> IndexMut<usize> for Paged<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.pages[index >> Self::PAGE_BITS][index & (Self::PAGE_ELEMENTS - 1)]
    }
}

impl<T: fmt::Debug> fmt::Debug for Paged<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    /// Elements of which a page has `65_536 / BYTES`.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Wide<const BYTES: usize>([u8; BYTES]);

    fn agrees<const BYTES: usize>(steps: &[(bool, u16, u8)]) -> bool {
        let (mut paged, mut model) = (Paged::new(), Vec::new());
        for &(is_new, index, byte) in steps {
            let (element, index) = (Wide([byte; BYTES]), usize::from(index) % (model.len() + 2));
            if is_new || index % 2 == 0 {
                assert_eq!(paged.push(element), model.len());
                model.push(element);
            } else {
                assert_eq!(paged.get_mut(index).map(|at| *at = element).is_some(), index < model.len());
                model.get_mut(index).into_iter().for_each(|at| *at = element);
            }
            assert_eq!(paged.get(index), model.get(index));
            assert_eq!((paged.len(), paged.is_empty()), (model.len(), model.is_empty()));
        }
        let both = (0..model.len()).all(|index| paged[index] == model[index]);
        both && paged.iter().eq(&model) && paged.iter().rev().eq(model.iter().rev())
    }

    quickcheck! {
        fn it_is_a_vec(steps: Vec<(bool, u16, u8)>) -> bool {
            // Pages of 1, 1, 2, 4 (with room left), 65,536 elements, and elements of no bytes.
            agrees::<70_000>(&steps[..steps.len().min(20)])
                && agrees::<40_000>(&steps)
                && agrees::<32_768>(&steps)
                && agrees::<12_000>(&steps)
                && agrees::<1>(&steps)
                && agrees::<0>(&steps)
        }
    }

    #[test]
    fn nothing_moves_and_little_is_wasted() {
        let mut paged = Paged::new();
        paged.push([0_u64; 3]);
        let first: *const [u64; 3] = &paged[0];
        (1..1_000_000).for_each(|number| paged[number - 1][2] = paged.push([number as u64; 3]) as u64);
        assert_eq!((&raw const paged[0], paged[0]), (first, [0, 0, 1]));
        assert!(paged.heap_bytes() < 24 * 1_000_000 + PAGE_BYTES * 2, "{}", paged.heap_bytes());
        assert_eq!(Paged::<[u64; 3]>::new().heap_bytes(), 0);
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn there_is_nothing_behind_the_end() {
        let mut paged = Paged::default();
        paged.push('a');
        paged[1] = 'b';
    }
}
