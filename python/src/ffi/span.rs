//! Memory by address and length, as callers name it.

use std::fmt;

/// So many bytes from an address on. Whoever makes one says in whose keeping they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: usize,
    bytes: usize,
}

impl Span {
    pub(crate) fn new(start: usize, bytes: usize) -> Self {
        Span { start, bytes }
    }

    pub(crate) fn start(self) -> usize {
        self.start
    }

    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }

    /// The first address behind it; `None`: there is none.
    pub(crate) fn end(self) -> Option<usize> {
        self.start.checked_add(self.bytes)
    }

    /// The bytes, to be read.
    ///
    /// # Safety
    ///
    /// They are mapped for reading as long as the slice is used: by an export that is held, or by the caller of the Python function, who
    /// has registered them.
    pub(crate) unsafe fn to_read<'a>(self) -> &'a [u8] {
        if self.bytes == 0 {
            return &[];
        }
        // SAFETY: as this function asks for; the start is not null since something is there.
        unsafe { std::slice::from_raw_parts(self.start as *const u8, self.bytes) }
    }

    /// The bytes, to be written.
    ///
    /// # Safety
    ///
    /// As [`Span::to_read`], mapped for writing; and no other slice of ours overlaps them ([`first_overlap`]).
    pub(crate) unsafe fn to_write<'a>(self) -> &'a mut [u8] {
        if self.bytes == 0 {
            return &mut [];
        }
        // SAFETY: as this function asks for.
        unsafe { std::slice::from_raw_parts_mut(self.start as *mut u8, self.bytes) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {:#x}", self.bytes, self.start)
    }
}

/// Two of the spans that have a byte in common, by their numbers. Spans in ascending order, as callers have them, cost one look each.
pub(crate) fn first_overlap(spans: &[Span]) -> Option<(usize, usize)> {
    let ends_before = |a: &Span, b: &Span| a.start + a.bytes <= b.start;
    if spans.is_sorted_by(ends_before) {
        return None;
    }
    let mut order: Vec<usize> = (0..spans.len()).filter(|&number| spans[number].bytes > 0).collect();
    order.sort_unstable_by_key(|&number| spans[number].start);
    let pair = order.windows(2).find(|pair| !ends_before(&spans[pair[0]], &spans[pair[1]]));
    pair.map(|pair| (pair[0].min(pair[1]), pair[0].max(pair[1])))
}
