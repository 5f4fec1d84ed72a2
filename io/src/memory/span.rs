//! Spans of mapped memory.
//!
//! ```text
//!   mapping  ├──────────────────────────────────────────────┤   memfd, mapped once, unmapped with its last span
//!   spans    ├── a ──┼───── b ─────┼─ c ─┼──────── d ───────┤   no gap that is not leaked, no overlap ever
//! ```
//!
//! Invariant: no two spans of a mapping overlap. [`Span::map`] makes one span of everything, [`Span::split_at`]
//! consumes a span to make two, [`Span::join`] consumes two neighbours to make one; spans cannot be cloned. So a
//! `&mut Span` is the only way to its bytes, as with any owned buffer.

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::MemfdFlags;
use std::io;
use std::rc::Rc;

/// One mapping of a memfd. Unmapped when the last span goes.
#[derive(Debug)]
struct Mapping {
    memory: MmapRaw,
}

/// An owned range of mapped memory.
#[derive(Debug)]
pub struct Span {
    mapping: Rc<Mapping>,
    offset: usize,
    bytes: usize,
}

/// Why memory could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum SpanError {
    /// The size is zero.
    #[error("a segment needs at least one byte")]
    Empty,
    /// The kernel refused.
    #[error("cannot get {bytes} bytes of memory ({step}): {source}")]
    Kernel {
        /// How much was asked for.
        bytes: usize,
        /// Which call failed.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Span {
    /// Maps `bytes` of fresh memory, zeroed, in one span. With `prefault`, every page is touched now, by the calling
    /// thread and so on its NUMA node; otherwise pages come at their first use.
    pub fn map(bytes: usize, prefault: bool) -> Result<Span, SpanError> {
        if bytes == 0 {
            return Err(SpanError::Empty);
        }
        let failed = |step| move |source: io::Error| SpanError::Kernel { bytes, step, source };
        let file = rustix::fs::memfd_create("snowskin-segment", MemfdFlags::CLOEXEC)
            .map_err(io::Error::from)
            .map_err(failed("memfd_create"))?;
        rustix::fs::ftruncate(&file, bytes as u64).map_err(io::Error::from).map_err(failed("ftruncate"))?;
        let memory = MmapOptions::new().len(bytes).map_raw(&file).map_err(failed("mmap"))?;
        if prefault {
            memory.advise(Advice::PopulateWrite).map_err(failed("madvise(MADV_POPULATE_WRITE)"))?;
        }
        Ok(Span { mapping: Rc::new(Mapping { memory }), offset: 0, bytes })
    }

    /// Bytes of the span.
    #[allow(clippy::len_without_is_empty, reason = "a span is never empty")]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Where the span begins in its mapping.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The bytes, to read.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: offset and length lie within the mapping (kept by map, split_at and join), which lives as long as
        // `self.mapping`. No other span overlaps, so nobody writes while `&self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start(), self.bytes) }
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; and `&mut self` is the only borrow of the only span of these bytes.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.bytes) }
    }

    /// Two spans: the first `count` bytes, and the rest. `count` must be within the span and leave a rest.
    pub fn split_at(self, count: usize) -> (Span, Span) {
        assert!(0 < count && count < self.bytes, "split a span of {} at {count}", self.bytes);
        let rest =
            Span { mapping: self.mapping.clone(), offset: self.offset + count, bytes: self.bytes - count };
        (Span { bytes: count, ..self }, rest)
    }

    /// One span of two that lie behind each other in the same mapping; both back if they do not.
    #[allow(clippy::result_large_err, reason = "the error is the two arguments, given back")]
    pub fn join(self, next: Span) -> Result<Span, (Span, Span)> {
        if Rc::ptr_eq(&self.mapping, &next.mapping) && self.offset + self.bytes == next.offset {
            Ok(Span { bytes: self.bytes + next.bytes, ..self })
        } else {
            Err((self, next))
        }
    }

    /// A second owner of the same bytes: one of the seeded bugs, and the reason why it is none of the others.
    #[cfg(snowskin_seeded_bugs)]
    pub fn alias(&self) -> Span {
        Span { mapping: self.mapping.clone(), offset: self.offset, bytes: self.bytes }
    }

    fn start(&self) -> *mut u8 {
        self.mapping.memory.as_mut_ptr().wrapping_add(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_write_and_join() {
        let (mut a, rest) = Span::map(1 << 16, true).unwrap().split_at(4096);
        let (mut b, c) = rest.split_at(4096);
        a.bytes_mut().fill(1);
        b.bytes_mut().fill(2);
        assert_eq!((a.len(), b.offset(), c.offset()), (4096, 4096, 8192));
        let (a, c) = a.join(c).expect_err("not neighbours");
        let whole = a.join(b).unwrap().join(c).unwrap();
        assert_eq!(whole.len(), 1 << 16);
        assert!(whole.bytes()[..4096].iter().all(|&byte| byte == 1));
        assert!(whole.bytes()[4096..8192].iter().all(|&byte| byte == 2));
        assert!(whole.bytes()[8192..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn spans_of_different_mappings_do_not_join() {
        let (a, _) = Span::map(8192, false).unwrap().split_at(4096);
        let (_, b) = Span::map(8192, false).unwrap().split_at(4096);
        assert!(a.join(b).is_err());
    }

    #[test]
    fn impossible_sizes_are_errors() {
        assert!(matches!(Span::map(0, false), Err(SpanError::Empty)));
        let error = Span::map(1 << 60, false).expect_err("an exabyte").to_string();
        assert!(error.contains("mmap") || error.contains("ftruncate"), "{error}");
    }
}
