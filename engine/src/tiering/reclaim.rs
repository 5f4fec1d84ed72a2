//! The oldest region makes room, before room is needed.

use super::Tier;
use crate::percore::PerCore;
use snowskin_io::Platform;
use snowskin_protocol::{NameRef, Version};
use snowskin_ssd_tier::{Fate, Keeper, RecordAddress};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How often a core looks whether regions are to be reclaimed.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Regions that are kept free: one is being filled, one is for what reclaim moves, and one is ready.
const FREE_REGIONS_MIN: u32 = 3;
/// Of the bytes of a region so many in a thousand are written once more at most: what is written twice wears the device.
const REINSERTED_PERMILLE_MAX: u64 = 100;

/// Reclaims for as long as the core runs.
pub(super) async fn run<P: Platform>(core: Rc<PerCore<P>>) {
    loop {
        core.platform.sleep(LOOK_PAUSE).await;
        let Some(tier) = core.tier.get() else { return };
        tier.register_segments(&core);
        let usage = tier.volume.usage();
        // Of few regions not all can be kept free.
        let kept = FREE_REGIONS_MIN.min(usage.regions / 2);
        while tier.volume.usage().free_regions < kept && !tier.volume.is_ended() {
            let budget = Cell::new(tier.volume.geometry().region_bytes / 1000 * REINSERTED_PERMILLE_MAX);
            let keeper = Rows { tier, core: &core, budget };
            match tier.volume.reclaim(&keeper).await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    log::warn!("core {}: a region could not be reclaimed: {error}", core.identity.id);
                    break;
                }
            }
        }
    }
}

/// The core's rows keep the addresses of records.
struct Rows<'a, P: Platform> {
    tier: &'a Tier<P>,
    core: &'a PerCore<P>,
    /// Bytes that may still be written once more.
    budget: Cell<u64>,
}

impl<P: Platform> Keeper for Rows<'_, P> {
    fn fate(&self, name: NameRef<'_>, version: Version, address: RecordAddress) -> Fate {
        let record = self.tier.id_of(address);
        let shard = self.core.shard.borrow();
        let is_leased = shard.is_record_leased(name, version, record, self.core.platform.now());
        let is_used = self.budget.get() > 0 && shard.is_record_used(name, version, record);
        match (is_leased, is_used) {
            (true, _) => Fate::Must,
            (false, true) => Fate::Keep,
            (false, false) => Fate::Forget,
        }
    }

    fn forget(&self, name: NameRef<'_>, version: Version, address: RecordAddress) {
        self.core.shard.borrow_mut().forget_record(name, version, self.tier.id_of(address));
    }

    fn lost(&self, name: NameRef<'_>, version: Version, address: RecordAddress) {
        let record = self.tier.id_of(address);
        if self.core.shard.borrow_mut().lose_record(name, version, record) {
            log::warn!("core {}: the record of {name:?} is damaged; dropped", self.core.identity.id);
        }
    }

    fn moved(&self, name: NameRef<'_>, version: Version, from: RecordAddress, to: RecordAddress) -> bool {
        let (from, to) = (self.tier.id_of(from), self.tier.id_of(to));
        let mut shard = self.core.shard.borrow_mut();
        let value_bytes = shard.value_bytes_of_record(name, version, from);
        self.budget.set(self.budget.get().saturating_sub(value_bytes));
        shard.record_moved(name, version, from, to)
    }
}
