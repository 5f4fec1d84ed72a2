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
#[path = "allocator_tests.rs"]
mod tests;
