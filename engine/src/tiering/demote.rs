//! From memory to the SSD, before memory is needed.
//!
//! Above the high watermark objects go to the SSD in the order in which they would be evicted, until the low one is reached. So many bytes are
//! under way at a time that the device is busy and no more: a put that finds no memory meanwhile drops what would go next.
//!
//! In write-through what was put is copied as well, in the order in which it was put, and has nothing left to write when its turn comes. What
//! the device cannot take in time waits for that turn.

use super::{BytesUnderWay, Tier};
use crate::percore::PerCore;
use crate::shard::Demotion;
use snowskin_io::Platform;
use snowskin_ssd_tier::{Facts, TierError, Value, Writing};
use std::rc::Rc;
use std::time::Duration;

/// How often a core looks whether something is to go, when nobody tells it.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Buries what is to be buried, also what nobody asks for, for as long as the core runs.
pub(super) async fn settle_all<P: Platform>(core: Rc<PerCore<P>>) {
    loop {
        core.platform.sleep(LOOK_PAUSE).await;
        core.settle().await;
    }
}

/// Demotes for as long as the core runs.
pub(super) async fn run<P: Platform>(core: Rc<PerCore<P>>) {
    loop {
        core.platform.sleep(LOOK_PAUSE).await;
        let Some(tier) = core.tier.get() else { return };
        while tier.copied.has_room(&core) && tier.copy_fresh(&core) {}
        while wants_more(&core, tier) && tier.demote_one(&core) {}
    }
}

fn wants_more<P: Platform>(core: &PerCore<P>, tier: &Tier<P>) -> bool {
    tier.demoted.has_room(core) && (core.shard.borrow_mut().wants_demotion() || tier.starving.get() > 0)
}

impl<P: Platform> Tier<P> {
    /// Sends one object on its way; whether there may be more.
    fn demote_one(&self, core: &Rc<PerCore<P>>) -> bool {
        if self.volume.is_ended() {
            return false;
        }
        let (now, has_budget) = (core.platform.now(), self.has_budget(core));
        let demotion = core.shard.borrow_mut().begin_demotion(now, has_budget);
        let Some(demotion) = demotion else { return false };
        match self.begin_record(&demotion) {
            Ok(writing) => {
                let record = self.id_of(writing.address());
                core.shard.borrow_mut().demotion_begun(demotion.position(), record);
                self.finish_later(core, writing, demotion, &self.demoted);
                true
            }
            // The SSD is full, and reclaim is on its way: until then memory goes on as without one.
            Err(TierError::Full | TierError::Busy | TierError::Ended) => false,
            Err(error) => {
                log::warn!("core {}: {error}", core.identity.id);
                false
            }
        }
    }

    /// A place in the log for an object.
    pub(super) fn begin_record(&self, demotion: &Demotion) -> Result<Writing<P>, TierError> {
        let Demotion { name, version, checksum, extent, .. } = demotion;
        let facts = Facts { version: *version, value_bytes: extent.bytes(), checksum: *checksum };
        if facts.value_bytes > self.value_bytes_max {
            return Err(TierError::TooLarge(facts.value_bytes));
        }
        self.volume.begin(name.as_ref(), facts, Value::Extent(extent.clone()))
    }

    /// Has a record written whose place the shard knows.
    pub(super) fn finish_later(
        &self,
        core: &Rc<PerCore<P>>,
        writing: Writing<P>,
        demotion: Demotion,
        under_way: &BytesUnderWay,
    ) {
        let record = self.id_of(writing.address());
        let value_bytes = demotion.extent.bytes();
        under_way.add(value_bytes);
        let (core, under_way) = (core.clone(), under_way.clone());
        core.clone().platform.spawn(async move {
            let written = writing.finish().await;
            if let Err(error) = &written {
                log::warn!(
                    "core {}: {:?} was not written to the SSD: {error}",
                    core.identity.id,
                    demotion.name
                );
            }
            let (position, name) = (demotion.position(), demotion.name);
            drop(demotion.extent);
            core.shard.borrow_mut().end_demotion(
                position,
                record,
                name.as_ref(),
                value_bytes,
                written.is_ok(),
            );
            under_way.end(value_bytes);
            core.tier.get().iter().for_each(|tier| tier.written.tell());
        });
    }
}
