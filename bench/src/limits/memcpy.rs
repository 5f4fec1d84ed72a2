//! How fast this machine copies memory: what nothing that copies can exceed.

use super::slices::{Slice, slice};
use std::hint::black_box;
use std::time::Duration;

/// Copies walk over so much memory, so that caches do not hold it all.
const ARENA_BYTES: usize = 256 << 20;

/// Two regions that copies walk over.
pub(crate) struct Arena {
    from: Vec<u8>,
    to: Vec<u8>,
    offset: usize,
}

impl Arena {
    pub(crate) fn new() -> Self {
        // Not zero: zero pages would all be the same one.
        Arena { from: vec![1; ARENA_BYTES], to: vec![2; ARENA_BYTES], offset: 0 }
    }

    /// Copies of `size` bytes.
    pub(crate) fn measure(&mut self, size: usize, time: Duration) -> Slice {
        // A call of a few nanoseconds cannot be timed alone: small sizes are copied many at a time.
        let copies = (64 * 1024 / size).max(1);
        // Where the last size left off may be too near the end for this one.
        self.offset = 0;
        let mut slice = slice(time, || {
            for _ in 0..copies {
                let at = self.offset;
                self.to[at..at + size].copy_from_slice(black_box(&self.from[at..at + size]));
                self.offset = if at + 2 * size > ARENA_BYTES { 0 } else { at + size };
            }
            black_box(&mut self.to);
            Ok(())
        })
        .expect("copying does not fail");
        slice.calls_per_s *= copies as f64;
        slice.p50_us /= copies as f64;
        slice
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
}
