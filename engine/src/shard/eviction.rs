//! Making room: by age, by bytes, never what a lease protects.
//!
//! Two ways lead here. A put that finds no memory evicts until its value fits. And when the segment is fuller than
//! the high watermark, each put evicts a few objects more until the low one is reached, so that most puts find room
//! ready. Both take victims from the old end; neither scans.

use super::Shard;
use super::index::{Bytes, Position};
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::MissReason;

/// Rows at the old end that are looked at for one that no lease protects. Reading renews lease and age together, so
/// nearly always the first one decides.
const CANDIDATES_MAX: usize = 32;
/// Objects that one put may evict to make room for its value.
const VICTIMS_PER_PUT_MAX: usize = 65_536;
/// Objects that one put evicts besides, while the segment is above its watermark.
const VICTIMS_PER_SLICE: usize = 4;

impl Shard {
    /// Evicts until `attempt` yields something, or nothing more may be evicted.
    pub(super) fn evict_until<T>(
        &mut self,
        now: Moment,
        mut attempt: impl FnMut(&Self) -> Option<T>,
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
            let usage = self.segment.usage();
            let used_permille = (usage.capacity_bytes - usage.free_bytes) * 1000 / usage.capacity_bytes;
            let limit = match self.evicting {
                true => self.settings.low_watermark_permille,
                false => self.settings.high_watermark_permille,
            };
            self.evicting = used_permille > u64::from(limit);
            if !self.evicting {
                return;
            }
            match self.victim(now) {
                // What has just been put stays, also when it alone is above the watermark.
                Some(victim) if !self.index.is_youngest(victim) => self.evict(victim),
                _ => return,
            }
        }
    }

    fn victim(&self, now: Moment) -> Option<Position> {
        let candidates = self.index.oldest_first().take(CANDIDATES_MAX);
        candidates
            .into_iter()
            .find(|&position| self.index.row(position).lease_until <= now || seeded_bug!("evict under lease"))
    }

    fn evict(&mut self, victim: Position) {
        let row = self.index.remove(victim);
        if let Bytes::Here(extent) = &row.bytes {
            self.counters.evicted += 1;
            self.counters.evicted_bytes += extent.value().len() as u64;
        }
        let told =
            if seeded_bug!("evicted called removed") { MissReason::Removed } else { MissReason::Evicted };
        #[cfg(snowskin_seeded_bugs)]
        if seeded_bug!("reuse before unpin")
            && let Bytes::Here(extent) = &row.bytes
        {
            extent.reuse_before_unpin();
        }
        self.note_departure(&row, told);
    }
}
