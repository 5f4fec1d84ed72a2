//! What a core remembers of objects it no longer has, so that a miss can say why.
//!
//! Bounded: the oldest memories go first. A key without a memory is "not held", which is true of any key that is
//! not held; the other reasons are said only while they are remembered.

use snowskin_protocol::MissReason;
use std::collections::{HashMap, VecDeque};

/// Memories kept: about 3 MiB a core.
const MEMORIES_MAX: usize = 65_536;

/// Name hashes and why they are gone.
#[derive(Debug, Default)]
pub(crate) struct Ghosts {
    reasons: HashMap<u64, (MissReason, u64)>,
    order: VecDeque<(u64, u64)>,
    count: u64,
}

impl Ghosts {
    /// Remembers why the object is gone.
    pub(crate) fn remember(&mut self, hash: u64, reason: MissReason) {
        self.count += 1;
        self.reasons.insert(hash, (reason, self.count));
        self.order.push_back((hash, self.count));
        if self.order.len() > MEMORIES_MAX
            && let Some((hash, age)) = self.order.pop_front()
            && self.reasons.get(&hash).is_some_and(|(_, newest)| *newest == age)
        {
            self.reasons.remove(&hash);
        }
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
        ghosts.remember(1, MissReason::Evicted);
        ghosts.remember(1, MissReason::Removed);
        assert_eq!(ghosts.reason(1), Some(MissReason::Removed));
        for hash in 2..MEMORIES_MAX as u64 + 1 {
            ghosts.remember(hash, MissReason::Evicted);
        }
        // The first memory of 1 has gone, the second has not.
        assert_eq!(ghosts.reason(1), Some(MissReason::Removed));
        ghosts.remember(0, MissReason::Evicted);
        assert_eq!(ghosts.reason(1), None);
        ghosts.forget(0);
        assert_eq!(ghosts.reason(0), None);
        assert!(ghosts.order.len() <= MEMORIES_MAX && ghosts.reasons.len() <= MEMORIES_MAX);
    }
}
