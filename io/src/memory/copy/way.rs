//! Whether a copy goes around the caches.
//!
//! An ordinary store first reads the line that it overwrites. A streaming store does not, so a copy from and to cold
//! memory is nearly twice as fast with it; but from cache to cache it is slower, since it goes to memory. Nobody tells us
//! where the bytes are. A long copy looks how long its first kilobytes take; one that would be over before that tells
//! anything does as those before it did on its thread.
//!
//! An ordinary copy makes 27 to 44 bytes in a nanosecond from cache to cache, 15 to 24 with one end in memory, 10 to 12 with
//! both (EPYC 9004); a streaming one 27, 20 to 26, and 20. It pays where both ends are in memory. With one of them there
//! it would pay, too, but what it writes is in no cache the next time: who uses a buffer again and again would never
//! get out of it.

use snowskin_protocol::CHUNK_BYTES;
use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

/// An ordinary copy that is slower is from memory to memory.
const CACHED_BYTES_PER_NS_MIN: usize = 15;
/// Longer copies look for themselves ...
pub(super) const LONG_BYTES_MIN: usize = 256 * 1024;
/// ... shorter ones do as others did, and the shortest are in the caches when their reader comes.
pub(super) const MEDIUM_BYTES_MIN: usize = 32 * 1024;
/// A copy is slow before the processor has seen where it goes: so many bytes say nothing ...
pub(super) const LEAD_BYTES: usize = CHUNK_BYTES;
/// ... and so many tell how fast it goes: it costs little if it was the wrong way.
pub(super) const LOOK_BYTES: usize = 2 * CHUNK_BYTES;
/// The next looks.
pub(super) const LOOK_AGAIN_BYTES: usize = 16 * CHUNK_BYTES;
/// So many copies of medium length do the same ...
const ROUND: u8 = 64;
/// ... but for the first, which go the ordinary way: what is read and written again and again is in the caches after these, ...
const TRIALS: u8 = 8;
/// ... so that the last of them tell what is to be done. It takes one fast one of these to stay with the caches: something else may have
/// held up the others.
const TIMED: u8 = 4;

thread_local! {
    static HABIT: Cell<Habit> = const { Cell::new(Habit { streams: false, turn: 0, is_slow: true }) };
}

/// What copies of medium length do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Habit {
    streams: bool,
    /// Copies of this round.
    turn: u8,
    /// All that were timed in this round were slow.
    is_slow: bool,
}

/// Calls `copy` with parts of so many bytes, one behind the other, each but the last a number of chunks: in the ordinary
/// way as long as it is fast enough, then around the caches (`true`), if it may.
pub(super) fn faster(bytes: usize, may_stream: bool, mut copy: impl FnMut(Range<usize>, bool)) {
    if !may_stream || bytes < MEDIUM_BYTES_MIN {
        return copy(0..bytes, false);
    }
    if bytes < LONG_BYTES_MIN {
        let habit = HABIT.get();
        return HABIT.set(habit.follow(bytes, |streams| copy(0..bytes, streams)));
    }
    copy(0..LEAD_BYTES, false);
    let (mut done, mut look) = (LEAD_BYTES, LOOK_BYTES);
    // How fast the last part goes is of no use to anybody.
    while bytes - done > look {
        let is_slow = is_slow(look, || copy(done..done + look, false));
        done += look;
        if is_slow {
            return copy(done..bytes, true);
        }
        look = LOOK_AGAIN_BYTES;
    }
    copy(done..bytes, false);
}

/// Whether a copy of so many bytes takes longer than in the caches.
fn is_slow(bytes: usize, copy: impl FnOnce()) -> bool {
    let begun = Instant::now();
    copy();
    begun.elapsed() > Duration::from_nanos((bytes / CACHED_BYTES_PER_NS_MIN) as u64)
}

impl Habit {
    /// Copies, and answers what the next ones shall do.
    fn follow(self, bytes: usize, copy: impl FnOnce(bool)) -> Self {
        const TIMED_FROM: u8 = TRIALS - TIMED;
        let turn = (self.turn + 1) % ROUND;
        match self.turn {
            0..TIMED_FROM => {
                copy(false);
                Habit { turn, is_slow: true, ..self }
            }
            TIMED_FROM..TRIALS => {
                let is_slow = is_slow(bytes, || copy(false)) && self.is_slow;
                Habit { turn, is_slow, streams: is_slow }
            }
            _ => {
                copy(self.streams);
                Habit { turn, ..self }
            }
        }
    }
}

#[cfg(all(test, not(snowskin_loom)))]
#[path = "way_tests.rs"]
mod tests;
