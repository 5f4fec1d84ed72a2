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
use snowskin_protocol::{MissReason, NameRef};

/// Objects that one put may evict to make room for its value.
const VICTIMS_PER_PUT_MAX: usize = 65_536;
/// How often the policy is asked again for a victim of a put. It looks at a few objects each time, always at others; when
/// leases protect all of those, the put is told that there is no room.
const LOOKS_PER_PUT: usize = 8;
/// From which of these looks on soft-pinned objects may go, too.
const LOOKS_AT_SOFT_FROM: usize = 4;
/// Objects that one step of an operator's eviction takes.
const VICTIMS_PER_STEP: usize = 64;
/// Objects that one put evicts besides, while the core is above its watermark.
const VICTIMS_PER_SLICE: usize = 4;

/// With an SSD tier, objects are dropped only when more than this is in use, in thousandths: below it they are demoted.
const DROPPED_PERMILLE_MIN: u64 = 985;

/// Where a victim goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Nowhere, if it has no copy.
    Anywhere,
    /// To the SSD, if it is let onto it; else nowhere.
    Ssd {
        /// Whether more may be written there now.
        has_budget: bool,
    },
    /// To the copy that it has there.
    Copy,
}

/// What a step towards a level came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictStep {
    /// There is more to evict.
    More,
    /// No more than that is in use.
    Reached,
    /// Those that were looked at are protected. Others may not be.
    Stuck,
}

impl Shard {
    /// A bounded step of evicting until no more than these thousandths are in use.
    pub fn evict_towards(&mut self, permille: u64, now: Moment) -> EvictStep {
        for _ in 0..VICTIMS_PER_STEP {
            if self.used_permille() <= permille {
                return EvictStep::Reached;
            }
            match self.victim(now, 0, false).or_else(|| self.victim(now, 0, true)) {
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
        value_bytes: u64,
        mut attempt: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<T> {
        for _ in 0..VICTIMS_PER_PUT_MAX {
            if let Some(done) = attempt(self) {
                return Some(done);
            }
            let mut looks = 0..LOOKS_PER_PUT;
            let victim = looks.find_map(|look| self.victim(now, value_bytes, look >= LOOKS_AT_SOFT_FROM))?;
            self.evict(victim);
        }
        None
    }

    /// Names have a limit of their own: evicts a few objects if it is reached. Their names may be of other lengths, so
    /// this does not insist. Answers whether there is room.
    pub(super) fn make_room_for_name(&mut self, name: NameRef<'_>, now: Moment) -> bool {
        for _ in 0..VICTIMS_PER_SLICE {
            if self.index.has_room(name) {
                return true;
            }
            match self.victim(now, 0, true) {
                Some(victim) => self.evict(victim),
                None => return false,
            }
        }
        self.index.has_room(name)
    }

    /// A bounded step towards the low watermark, if the high one was passed.
    pub(super) fn evict_slice(&mut self, now: Moment) {
        if self.has_tier() && self.used_permille() <= DROPPED_PERMILLE_MIN {
            // What is demoted in its own time need not be dropped.
            return;
        }
        for _ in 0..VICTIMS_PER_SLICE {
            let limit = match self.evicting {
                true => self.settings.low_watermark_permille,
                false => self.settings.high_watermark_permille,
            };
            self.evicting = self.used_permille() > u64::from(limit);
            if !self.evicting {
                return;
            }
            match self.victim(now, 0, false) {
                // What has just been put stays, also when it alone is above the watermark.
                Some(victim) if !self.index.is_newest(victim) => self.evict(victim),
                _ => return,
            }
        }
    }

    /// Thousandths of the memory that are in use.
    pub(super) fn used_permille(&self) -> u64 {
        let usage = self.segments.usage_of_taking();
        (usage.capacity_bytes - usage.free_bytes) * 1000 / usage.capacity_bytes.max(1)
    }

    /// Who goes next, to make room for a value of that length: nobody from a segment that would not take it.
    pub(super) fn victim(&mut self, now: Moment, value_bytes: u64, soft_too: bool) -> Option<Position> {
        self.victim_for(Goal::Anywhere, now, value_bytes, soft_too)
    }

    /// The same, of those that may go there. A lease protects an object from going, not from going to the SSD.
    pub(super) fn victim_for(
        &mut self,
        goal: Goal,
        now: Moment,
        value_bytes: u64,
        soft_too: bool,
    ) -> Option<Position> {
        self.take_in_uses(now);
        self.note_uses();
        for _ in 0..VICTIMS_PER_SLICE {
            match self.soft_pins.run_out(now) {
                Some(Some(position)) => self.index.set_pin(position, Pin::None),
                Some(None) => {}
                None => break,
            }
        }
        let (segments, tiered) = (&self.segments, &self.tiered);
        let may_go = |at: Position, row: &Row| {
            let is_over = row.lease_until() <= now;
            let is_free = match (goal, tiered) {
                (Goal::Anywhere, _) => is_over || seeded_bug!("evict under lease"),
                (Goal::Ssd { has_budget }, Some(tiered)) => is_over || tiered.lets_in(at, row, has_budget),
                (Goal::Copy, Some(tiered)) => tiered.has_copy(at),
                (Goal::Ssd { .. } | Goal::Copy, None) => false,
            };
            let is_writing = tiered.as_ref().is_some_and(|tiered| tiered.is_writing(at));
            is_free
                && !is_writing
                && row.extent().is_some_and(|extent| segments.would_take(extent.segment, value_bytes))
        };
        if let Some(condemned) = self.groups.next_condemned() {
            let row = self.index.row(condemned);
            if may_go(condemned, row) && !row.seat.is_hard() && !self.index.is_newest(condemned) {
                return Some(condemned);
            }
            self.groups.spare(condemned);
        }
        self.index.victim(soft_too, may_go)
    }

    pub(super) fn evict(&mut self, victim: Position) {
        if self.is_read_meanwhile(victim) || self.leave_to_copy(victim) {
            return;
        }
        let told =
            if seeded_bug!("evicted called removed") { MissReason::Removed } else { MissReason::Evicted };
        let value_bytes = self.index.row(victim).value_bytes();
        self.depart(victim, Why::Evicted, told);
        self.counters.evicted += 1;
        self.counters.evicted_bytes += value_bytes;
    }

    /// Takes a row out, and lets go of its memory.
    pub(super) fn take_out(&mut self, position: Position, why: Why) -> Gone {
        // Uses of rows that are gone mean nothing; others may stand there next.
        self.note_uses();
        self.take_off_shelf(position);
        self.leave_record(position, why);
        self.leave_replicas(position);
        let gone = self.index.remove(position, why);
        self.soft_pins.forget(position);
        if let Place::Here(extent) = gone.place {
            self.segments.let_go(extent);
            self.groups.leave(position, why == Why::Evicted);
        }
        gone
    }
}
