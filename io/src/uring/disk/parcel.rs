//! A buffer of any type in a slot, without an allocation for each operation.

use std::any::{TypeId, type_name};
use std::mem::{ManuallyDrop, MaybeUninit, align_of, size_of};

/// What has room in the slot itself: every buffer of this project. Larger ones are put on the heap.
const WORDS: usize = 12;

type Space = MaybeUninit<[usize; WORDS]>;

/// A value whose type is known only to who put it in.
///
/// Invariant, on which all `unsafe` here rests: from `new` to `take` or drop, `space` holds a live value of the type that
/// `drop_in_place` is for: the `B` that `kind` names, or a `Box<B>` where that does not fit.
pub(super) struct Parcel {
    space: Space,
    kind: TypeId,
    /// SAFETY: called once, by drop, while the invariant holds.
    drop_in_place: unsafe fn(*mut Space),
}

const fn fits<B>() -> bool {
    size_of::<B>() <= size_of::<Space>() && align_of::<B>() <= align_of::<Space>()
}

/// # Safety
///
/// `space` holds a live `T`, which nobody uses afterwards.
unsafe fn drop_as<T>(space: *mut Space) {
    // SAFETY: the caller's promise.
    unsafe { space.cast::<T>().drop_in_place() }
}

impl Parcel {
    pub(super) fn new<B: 'static>(value: B) -> Parcel {
        match fits::<B>() {
            true => Parcel::holding(TypeId::of::<B>(), value),
            false => Parcel::holding(TypeId::of::<B>(), Box::new(value)),
        }
    }

    fn holding<T>(kind: TypeId, value: T) -> Parcel {
        const { assert!(fits::<Box<()>>()) }
        assert!(fits::<T>(), "a value of {} bytes has no room here", size_of::<T>());
        let mut space = Space::uninit();
        // SAFETY: the space is large enough for a `T`, aligned for it, as was just asserted, and ours.
        unsafe { space.as_mut_ptr().cast::<T>().write(value) };
        Parcel { space, kind, drop_in_place: drop_as::<T> }
    }

    /// The value again. Panics if it is of another type.
    pub(super) fn take<B: 'static>(self) -> B {
        assert!(self.kind == TypeId::of::<B>(), "no {} was put in", type_name::<B>());
        let parcel = ManuallyDrop::new(self);
        let start = parcel.space.as_ptr();
        // SAFETY: by the invariant it holds a `B`, or a `Box<B>` if that does not fit; the parcel is not dropped, so this is
        // the only one to have it from now on.
        unsafe {
            match fits::<B>() {
                true => start.cast::<B>().read(),
                false => *start.cast::<Box<B>>().read(),
            }
        }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        // SAFETY: by the invariant the space holds what this function is for, and nobody has the parcel after this.
        unsafe { (self.drop_in_place)(&mut self.space) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    /// The second part is on another boundary than that of words.
    #[repr(align(64))]
    #[derive(Debug, PartialEq)]
    struct Aligned(u8);

    #[test]
    fn what_was_put_in_comes_out_small_large_or_aligned() {
        assert_eq!(Parcel::new(vec![1, 2, 3]).take::<Vec<i32>>(), [1, 2, 3]);
        assert_eq!(Parcel::new([7_u64; 100]).take::<[u64; 100]>(), [7; 100]);
        assert_eq!(Parcel::new(Aligned(3)).take::<Aligned>(), Aligned(3));
        Parcel::new(()).take::<()>();
    }

    #[test]
    fn it_is_dropped_once() {
        let witness = Rc::new(());
        let large = ([0_u64; 100], witness.clone());
        let parcels = [Parcel::new(witness.clone()), Parcel::new(large)];
        assert_eq!(Rc::strong_count(&witness), 3);
        drop(parcels);
        assert_eq!(Rc::strong_count(&witness), 1);
        drop(Parcel::new(witness.clone()).take::<Rc<()>>());
        assert_eq!(Rc::strong_count(&witness), 1);
    }

    #[test]
    #[should_panic(expected = "was put in")]
    fn another_type_does_not_come_out() {
        Parcel::new(1_u32).take::<i32>();
    }
}
