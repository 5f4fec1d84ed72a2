//! How fast this machine copies memory: what nothing that copies can exceed.

use super::slices::{Slice, slice};
use std::hint::black_box;
use std::ops::{Deref, DerefMut, Range};
use std::time::Duration;

/// Copies walk over so much memory, so that caches do not hold it all.
pub(crate) const WALK_BYTES: usize = 256 << 20;
const PAGE_BYTES: usize = 4 << 10;
/// A call of a few nanoseconds cannot be timed alone: so many bytes are copied at a time.
const BYTES_AT_A_TIME: usize = 64 << 10;

/// Where the next value lies in so many bytes; after the last one comes the first again.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    bytes: usize,
    at: usize,
}

impl Walk {
    pub(crate) fn new(bytes: usize) -> Self {
        Walk { bytes, at: 0 }
    }

    pub(crate) fn next(&mut self, size: usize) -> Range<usize> {
        assert!(size <= self.bytes, "{size} of {} bytes", self.bytes);
        let at = if self.at + size > self.bytes { 0 } else { self.at };
        self.at = at + size;
        at..self.at
    }
}

/// Copies of `size` bytes that walk over both; where there is room for one only, it is always the same one.
pub(crate) fn copies(from: &[u8], to: &mut [u8], size: usize, time: Duration) -> Slice {
    let (mut reads, mut writes) = (Walk::new(from.len()), Walk::new(to.len()));
    let count = (BYTES_AT_A_TIME / size).max(1);
    let mut slice = slice(time, || {
        for _ in 0..count {
            to[writes.next(size)].copy_from_slice(black_box(&from[reads.next(size)]));
        }
        black_box(&mut *to);
        Ok(())
    })
    .expect("copying does not fail");
    slice.calls_per_s *= count as f64;
    slice.p50_us /= count as f64;
    slice
}

/// What a caller reads into, from the beginning of a page, as values lie. A large `Vec` begins 16 bytes after one, and
/// so far apart 4 KiB are copied half as fast on some processors: no limit to be put beside.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    begin: usize,
}

impl Buffer {
    pub(crate) fn new(length: usize) -> Self {
        // Not zero: zero pages would all be the same one.
        let mut bytes = vec![2; length + PAGE_BYTES];
        let begin = bytes.as_ptr().align_offset(PAGE_BYTES);
        bytes.truncate(begin + length);
        Buffer { bytes, begin }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.begin..]
    }
}

/// Two regions that copies walk over.
pub(crate) struct Arena {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Arena {
    pub(crate) fn new() -> Self {
        // Not zero: zero pages would all be the same one.
        Arena { from: vec![1; WALK_BYTES], to: vec![2; WALK_BYTES] }
    }

    /// Copies of `size` bytes.
    pub(crate) fn measure(&mut self, size: usize, time: Duration) -> Slice {
        copies(&self.from, &mut self.to, size, time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_order_of_sizes_stays_inside() {
        let mut arena = Arena::new();
        for size in [64, 16 << 20, 3_000_000, 16 << 20, 64 << 10] {
            assert!(arena.measure(size, Duration::from_millis(30)).calls_per_s > 0.0, "{size}");
        }
    }

    #[test]
    fn a_buffer_begins_at_a_page() {
        for length in [1, 4_096, 1 << 20] {
            let mut buffer = Buffer::new(length);
            buffer[length - 1] = 3;
            assert_eq!((buffer.len(), buffer.as_ptr().addr() % PAGE_BYTES), (length, 0));
        }
    }

    #[test]
    fn a_walk_starts_over_where_the_next_value_does_not_fit() {
        let mut walk = Walk::new(10);
        assert_eq!([4, 4, 4, 6, 10].map(|size| walk.next(size)), [0..4, 4..8, 0..4, 4..10, 0..10]);
    }

    #[test]
    fn one_value_is_copied_to_one_place() {
        let mut to = [0; 8];
        copies(&[1, 2, 3, 4], &mut to[..4], 4, Duration::ZERO);
        assert_eq!(to, [1, 2, 3, 4, 0, 0, 0, 0]);
    }
}
