//! Hands out spans of one run of memory: best fit in O(1), neighbours merged at once, the longest free run always known.
//!
//! What is free is decided by numbers alone ([`Ranges`], in units of [`EXTENT_ALIGNMENT`]); this holds the memory that
//! belongs to them. Sizes are rounded up to a unit and no further.

use super::ranges::{RangeId, Ranges};
use snowskin_io::memory::Span;
use snowskin_protocol::limits::EXTENT_ALIGNMENT;

/// Hands out spans.
#[derive(Debug)]
pub struct Allocator {
    ranges: Ranges,
    /// The memory of each free range, by its name.
    free: Vec<Option<Span>>,
}

/// Memory that was handed out.
#[derive(Debug)]
pub struct Grant {
    /// The memory, in whole units.
    pub span: Span,
    range: RangeId,
}

#[cfg(snowskin_seeded_bugs)]
impl Grant {
    /// A second owner of the same bytes.
    pub(super) fn alias(&self) -> Grant {
        Grant { span: self.span.alias(), range: self.range }
    }
}

impl Allocator {
    /// An allocator of the whole of `memory`, which has whole units only.
    pub fn new(memory: Span) -> Self {
        assert!(memory.len().is_multiple_of(EXTENT_ALIGNMENT), "{} bytes are no whole units", memory.len());
        let units = u32::try_from(memory.len() / EXTENT_ALIGNMENT).expect("a segment has less than 2 TiB");
        let ranges = Ranges::new(units);
        let mut allocator = Allocator { ranges, free: Vec::new() };
        if let Some(whole) = allocator.ranges.whole() {
            allocator.keep(whole, memory);
        }
        allocator
    }

    /// A span of at least `bytes`, at least one unit long; `None` when no free run is long enough.
    pub fn allocate(&mut self, bytes: usize) -> Option<Grant> {
        let units = u32::try_from(bytes.max(1).div_ceil(EXTENT_ALIGNMENT)).ok()?;
        let cut = self.ranges.allocate(units)?;
        let run = self.take(cut.range);
        let Some(rest) = cut.rest else { return Some(Grant { span: run, range: cut.range }) };
        let (span, left) = run.split_at(units as usize * EXTENT_ALIGNMENT);
        self.keep(rest, left);
        Some(Grant { span, range: cut.range })
    }

    /// Takes a span back and merges it with free neighbours.
    pub fn free(&mut self, grant: Grant) {
        let Grant { mut span, range } = grant;
        let merged = self.ranges.free(range);
        if let Some(before) = merged.before {
            span = self.take(before).join(span).expect("neighbours of one mapping");
        }
        if let Some(behind) = merged.behind {
            span = span.join(self.take(behind)).expect("neighbours of one mapping");
        }
        self.keep(range, span);
    }

    /// All bytes.
    pub fn capacity_bytes(&self) -> usize {
        self.ranges.units() as usize * EXTENT_ALIGNMENT
    }

    /// Bytes not handed out.
    pub fn free_bytes(&self) -> usize {
        self.ranges.free_units() as usize * EXTENT_ALIGNMENT
    }

    /// The longest free run.
    pub fn free_range_bytes_max(&self) -> usize {
        self.ranges.longest() as usize * EXTENT_ALIGNMENT
    }

    fn take(&mut self, range: RangeId) -> Span {
        self.free[range.index()].take().expect("a free range has its memory")
    }

    fn keep(&mut self, range: RangeId, span: Span) {
        if self.free.len() <= range.index() {
            self.free.resize_with(range.index() + 1, || None);
        }
        let overlapped = self.free[range.index()].replace(span);
        assert!(overlapped.is_none(), "{range:?} was freed twice");
    }
}

#[cfg(test)]
#[path = "allocator_tests.rs"]
mod tests;
