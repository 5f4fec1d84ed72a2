//! Best fit over free runs, neighbours merged at once.
//!
//! Two ordered maps over the same runs: by offset, to find neighbours; by length, to find the shortest run that is
//! long enough. Sizes are rounded up to [`EXTENT_ALIGNMENT`] only. All operations are O(log n) in the number of free
//! runs; the longest free run is always known.

use snowskin_io::memory::Span;
use snowskin_protocol::limits::EXTENT_ALIGNMENT;
use std::collections::{BTreeMap, BTreeSet};

/// Hands out spans of one run of memory.
#[derive(Debug)]
pub struct Allocator {
    by_offset: BTreeMap<usize, Span>,
    by_length: BTreeSet<(usize, usize)>,
    capacity_bytes: usize,
    free_bytes: usize,
}

impl Allocator {
    /// An allocator of the whole of `memory`.
    pub fn new(memory: Span) -> Self {
        let bytes = memory.len();
        let mut allocator = Allocator {
            by_offset: BTreeMap::new(),
            by_length: BTreeSet::new(),
            capacity_bytes: bytes,
            free_bytes: 0,
        };
        allocator.free(memory);
        allocator
    }

    /// A span of at least `bytes`, at least one unit long; `None` when no free run is long enough.
    pub fn allocate(&mut self, bytes: usize) -> Option<Span> {
        let needed = bytes.max(1).checked_next_multiple_of(EXTENT_ALIGNMENT)?;
        let &(length, offset) = self.by_length.range((needed, 0)..).next()?;
        let run = self.take_out(offset, length);
        if length == needed {
            return Some(run);
        }
        let (span, rest) = run.split_at(needed);
        self.put_in(rest);
        Some(span)
    }

    /// Takes a span back and merges it with free neighbours.
    pub fn free(&mut self, mut span: Span) {
        if let Some((&offset, before)) = self.by_offset.range(..span.offset()).next_back()
            && offset + before.len() == span.offset()
        {
            let before = self.take_out(offset, before.len());
            span = before.join(span).expect("neighbours of one mapping");
        }
        let end = span.offset() + span.len();
        if let Some(length) = self.by_offset.get(&end).map(Span::len) {
            let behind = self.take_out(end, length);
            span = span.join(behind).expect("neighbours of one mapping");
        }
        self.put_in(span);
    }

    /// All bytes.
    pub fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }

    /// Bytes not handed out.
    pub fn free_bytes(&self) -> usize {
        self.free_bytes
    }

    /// The longest free run.
    pub fn free_range_bytes_max(&self) -> usize {
        self.by_length.last().map_or(0, |&(length, _)| length)
    }

    fn take_out(&mut self, offset: usize, length: usize) -> Span {
        let known = self.by_length.remove(&(length, offset));
        assert!(known, "the two maps disagree about the free run at {offset}");
        self.free_bytes -= length;
        self.by_offset.remove(&offset).expect("the two maps agree")
    }

    fn put_in(&mut self, span: Span) {
        self.free_bytes += span.len();
        self.by_length.insert((span.len(), span.offset()));
        let overlapped = self.by_offset.insert(span.offset(), span);
        assert!(overlapped.is_none(), "a run was freed twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    const MEMORY: usize = 64 * EXTENT_ALIGNMENT;

    /// What an allocator must do, said with a bit per unit.
    struct Model {
        used: [bool; 64],
    }

    impl Model {
        fn longest_free(&self) -> usize {
            self.used.split(|used| *used).map(<[bool]>::len).max().unwrap_or(0)
        }

        fn mark(&mut self, span: &Span, used: bool) -> bool {
            let units = span.offset() / EXTENT_ALIGNMENT..(span.offset() + span.len()) / EXTENT_ALIGNMENT;
            let consistent = self.used[units.clone()].iter().all(|was| *was != used);
            self.used[units].fill(used);
            consistent
        }
    }

    fn agrees_with_the_model(steps: Vec<(bool, u16)>) -> bool {
        let mut allocator = Allocator::new(Span::map(MEMORY, false).unwrap());
        let mut model = Model { used: [false; 64] };
        let mut held: Vec<Span> = Vec::new();
        for (allocate, number) in steps {
            if allocate || held.is_empty() {
                let bytes = usize::from(number) % (MEMORY / 3);
                let units = bytes.max(1).div_ceil(EXTENT_ALIGNMENT);
                match allocator.allocate(bytes) {
                    Some(span) => {
                        if span.len() != units * EXTENT_ALIGNMENT || !model.mark(&span, true) {
                            return false;
                        }
                        held.push(span);
                    }
                    None if model.longest_free() >= units => return false,
                    None => {}
                }
            } else {
                let span = held.swap_remove(usize::from(number) % held.len());
                if !model.mark(&span, false) {
                    return false;
                }
                allocator.free(span);
            }
            let free = model.used.iter().filter(|used| !**used).count();
            if allocator.free_bytes() != free * EXTENT_ALIGNMENT
                || allocator.free_range_bytes_max() != model.longest_free() * EXTENT_ALIGNMENT
            {
                return false;
            }
        }
        held.drain(..).for_each(|span| allocator.free(span));
        allocator.free_range_bytes_max() == MEMORY
    }

    quickcheck! {
        fn every_history_agrees_with_the_model(steps: Vec<(bool, u16)>) -> bool {
            agrees_with_the_model(steps)
        }
    }

    #[test]
    fn best_fit_keeps_the_long_run_whole() {
        let mut allocator = Allocator::new(Span::map(MEMORY, false).unwrap());
        let small = allocator.allocate(4 * EXTENT_ALIGNMENT).unwrap();
        let wall = allocator.allocate(1).unwrap();
        allocator.free(small);
        let again = allocator.allocate(3 * EXTENT_ALIGNMENT).unwrap();
        assert_eq!(again.offset(), 0);
        assert_eq!(allocator.free_range_bytes_max(), MEMORY - 5 * EXTENT_ALIGNMENT);
        allocator.free(wall);
        allocator.free(again);
    }
}
