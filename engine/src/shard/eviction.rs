//! Making room: by bytes, in bounded steps, never what a lease protects.
//!
//! Two ways lead here. A put that finds no memory evicts until its value fits. And when the core is fuller than
//! the high watermark, each put evicts a few objects more until the low one is reached, so that most puts find room
//! ready. Which object goes is the policy's choice ([`crate::eviction`]); nothing is scanned.

use super::Shard;
use super::index::{Gone, Why};
use super::row::{Place, Position, Row};
use crate::eviction::Pin;
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::MissReason;

/// Objects that one put may evict to make room for its value.
const VICTIMS_PER_PUT_MAX: usize = 65_536;
/// Objects that one step of an operator's eviction takes.
const VICTIMS_PER_STEP: usize = 64;
/// Objects that one put evicts besides, while the core is above its watermark.
const VICTIMS_PER_SLICE: usize = 4;

/// What a step towards a level came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictStep {
    /// There is more to evict.
    More,
    /// No more than that is in use.
    Reached,
    /// What is left is protected, or is not ours to evict: being written, or read.
    Stuck,
}

impl Shard {
    /// A bounded step of evicting until no more than these thousandths are in use.
    pub fn evict_towards(&mut self, permille: u64, now: Moment) -> EvictStep {
        for _ in 0..VICTIMS_PER_STEP {
            if self.used_permille() <= permille {
                return EvictStep::Reached;
            }
            match self.victim(now) {
                Some(victim) => self.evict(victim),
                None => return EvictStep::Stuck,
            }
        }
        EvictStep::More
    }

    /// Evicts until `attempt` yields something, or nothing more may be evicted.
    pub(super) fn evict_until<T>(
        &mut self,
        now: Moment,
        mut attempt: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<T> {
        for _ in 0..VICTIMS_PER_PUT_MAX {
            if let Some(done) = attempt(self) {
                return Some(done);
            }
            let victim = self.victim(now)?;
            self.evict(victim);
        }
        None
    }

    /// A bounded step towards the low watermark, if the high one was passed.
    pub(super) fn evict_slice(&mut self, now: Moment) {
        for _ in 0..VICTIMS_PER_SLICE {
            let limit = match self.evicting {
                true => self.settings.low_watermark_permille,
                false => self.settings.high_watermark_permille,
            };
            self.evicting = self.used_permille() > u64::from(limit);
            if !self.evicting {
                return;
            }
            match self.victim(now) {
                // What has just been put stays, also when it alone is above the watermark.
                Some(victim) if !self.index.is_newest(victim) => self.evict(victim),
                _ => return,
            }
        }
    }

    /// Thousandths of the memory that are in use.
    fn used_permille(&self) -> u64 {
        let usage = self.segments.usage_of_taking();
        (usage.capacity_bytes - usage.free_bytes) * 1000 / usage.capacity_bytes.max(1)
    }

    fn victim(&mut self, now: Moment) -> Option<Position> {
        self.note_uses();
        for _ in 0..VICTIMS_PER_SLICE {
            match self.soft_pins.run_out(now) {
                Some(Some(position)) => self.index.set_pin(position, Pin::None),
                Some(None) => {}
                None => break,
            }
        }
        let may_go = |row: &Row| row.lease_until() <= now || seeded_bug!("evict under lease");
        if let Some(condemned) = self.groups.next_condemned() {
            if may_go(self.index.row(condemned)) {
                return Some(condemned);
            }
            self.groups.spare(condemned);
        }
        self.index.victim(may_go)
    }

    fn evict(&mut self, victim: Position) {
        let gone = self.take_out(victim, Why::Evicted);
        self.counters.evicted += 1;
        self.counters.evicted_bytes += gone.value_bytes;
        let told =
            if seeded_bug!("evicted called removed") { MissReason::Removed } else { MissReason::Evicted };
        self.note_departure(&gone, told);
    }

    /// Takes a row out, and lets go of its memory.
    pub(super) fn take_out(&mut self, position: Position, why: Why) -> Gone {
        // Uses of rows that are gone mean nothing; others may stand there next.
        self.note_uses();
        let gone = self.index.remove(position, why);
        if let Place::Here(extent) = gone.place {
            self.segments.let_go(extent);
            self.soft_pins.forget(position);
            self.groups.leave(position, why == Why::Evicted);
        }
        gone
    }
}
