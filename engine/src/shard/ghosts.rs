//! What a core remembers of objects it no longer has, so that a miss can say why.
//!
//! Bounded: the oldest memories go first. A key without a memory is "not held", which is true of any key that is
//! not held; the other reasons are said only while they are remembered. What is remembered can be read in order, by
//! whoever wants to know why something is gone.

use hashbrown::HashMap;
use snowskin_protocol::MissReason;
use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};

/// Memories kept: about 5 MiB a core.
const MEMORIES_MAX: usize = 65_536;

/// An object that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// How many went before it from this core, plus 1.
    pub number: u64,
    /// The hash of its name.
    pub hash: u64,
    /// Why it went.
    pub reason: MissReason,
    /// The length of its value, if its bytes were here.
    pub value_bytes: Option<u64>,
}

/// Name hashes and why they are gone.
#[derive(Debug, Default)]
pub(crate) struct Ghosts {
    /// The newest memory of each hash, and its number.
    reasons: HashMap<u64, (MissReason, u64), BuildHasherDefault<AsItIs>>,
    departures: VecDeque<Departure>,
    count: u64,
}

/// Hashes a hash: what comes in is as evenly spread as it can be.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Ghosts {
    /// Remembers why the object is gone.
    pub(crate) fn remember(&mut self, hash: u64, reason: MissReason, value_bytes: Option<u64>) {
        self.count += 1;
        self.reasons.insert(hash, (reason, self.count));
        self.departures.push_back(Departure { number: self.count, hash, reason, value_bytes });
        if self.departures.len() > MEMORIES_MAX
            && let Some(Departure { number, hash, .. }) = self.departures.pop_front()
            && self.reasons.get(&hash).is_some_and(|(_, newest)| *newest == number)
        {
            self.reasons.remove(&hash);
        }
    }

    /// What went after departure `number`, as far as remembered, in order.
    pub(crate) fn departures_after(&self, number: u64) -> impl Iterator<Item = Departure> + '_ {
        let first = self.departures.partition_point(|departure| departure.number <= number);
        self.departures.range(first..).copied()
    }

    /// The object is back.
    pub(crate) fn forget(&mut self, hash: u64) {
        self.reasons.remove(&hash);
    }

    /// Why the object is gone, as far as remembered.
    pub(crate) fn reason(&self, hash: u64) -> Option<MissReason> {
        self.reasons.get(&hash).map(|(reason, _)| *reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_reason_counts_and_old_ones_fade() {
        let mut ghosts = Ghosts::default();
        ghosts.remember(1, MissReason::Evicted, Some(7));
        ghosts.remember(1, MissReason::Removed, None);
        assert_eq!(ghosts.reason(1), Some(MissReason::Removed));
        let second = Departure { number: 2, hash: 1, reason: MissReason::Removed, value_bytes: None };
        assert_eq!(ghosts.departures_after(1).collect::<Vec<_>>(), [second]);
        for hash in 2..MEMORIES_MAX as u64 + 1 {
            ghosts.remember(hash, MissReason::Evicted, None);
        }
        // The first memory of 1 has gone, the second has not.
        assert_eq!(ghosts.reason(1), Some(MissReason::Removed));
        ghosts.remember(0, MissReason::Evicted, None);
        assert_eq!(ghosts.reason(1), None);
        ghosts.forget(0);
        assert_eq!(ghosts.reason(0), None);
        assert!(ghosts.departures.len() <= MEMORIES_MAX && ghosts.reasons.len() <= MEMORIES_MAX);
    }
}
