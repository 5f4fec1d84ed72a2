//! From memory to the SSD, before memory is needed.
//!
//! Above the high watermark objects go to the SSD in the order in which they would be evicted, until the low one is reached. So many bytes are
//! under way at a time that the device is busy and no more: a put that finds no memory meanwhile drops what would go next.

use super::Tier;
use crate::percore::PerCore;
use crate::shard::Demotion;
use snowskin_io::Platform;
use snowskin_ssd_tier::{Facts, TierError, Value, Writing};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How often a core looks whether something is to go, when nobody tells it.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// Bytes under way to the SSD at a time, at most, and ...
const UNDER_WAY_BYTES_MAX: u64 = 32 << 20;
/// ... no more than this part of the memory.
const UNDER_WAY_SHARE: u64 = 8;

/// Demotes for as long as the core runs.
pub(super) async fn run<P: Platform>(core: Rc<PerCore<P>>) {
    let under_way = Rc::new(Cell::new(0));
    loop {
        core.platform.sleep(LOOK_PAUSE).await;
        let Some(tier) = core.tier.get() else { return };
        if !core.is_settled() {
            // Also what nobody asks for.
            let core = core.clone();
            core.clone().platform.spawn(async move { core.settle().await });
        }
        while may_go_on(&core, under_way.get()) && tier.demote_one(&core, &under_way) {}
    }
}

fn may_go_on<P: Platform>(core: &PerCore<P>, under_way: u64) -> bool {
    let is_starving = core.tier.get().is_some_and(|tier| tier.starving.get() > 0);
    let mut shard = core.shard.borrow_mut();
    let share = shard.segments().capacity_bytes() / UNDER_WAY_SHARE;
    under_way < UNDER_WAY_BYTES_MAX.min(share) && (shard.wants_demotion() || is_starving)
}

impl<P: Platform> Tier<P> {
    /// Sends one object on its way; whether there may be more.
    fn demote_one(&self, core: &Rc<PerCore<P>>, under_way: &Rc<Cell<u64>>) -> bool {
        if self.volume.is_ended() {
            return false;
        }
        let demotion = core.shard.borrow_mut().begin_demotion(core.platform.now());
        let Some(demotion) = demotion else { return false };
        let value_bytes = demotion.extent.bytes();
        let facts = Facts { version: demotion.version, value_bytes, checksum: demotion.checksum };
        match self.volume.begin(demotion.name.as_ref(), facts, Value::Extent(demotion.extent.clone())) {
            Ok(writing) => {
                let record = self.id_of(writing.address());
                core.shard.borrow_mut().demotion_begun(demotion.position(), record);
                under_way.set(under_way.get() + value_bytes);
                let (core, under_way) = (core.clone(), under_way.clone());
                self.finish_later(core, writing, demotion, under_way);
                true
            }
            // The SSD is full, and reclaim is on its way: until then memory goes on as without one.
            Err(TierError::Full | TierError::Busy | TierError::Ended) => false,
            Err(TierError::TooLarge(_)) => {
                let now = core.platform.now();
                core.shard.borrow_mut().demotion_refused(demotion, now)
            }
            Err(error) => {
                log::warn!("core {}: {error}", core.identity.id);
                false
            }
        }
    }

    fn finish_later(
        &self,
        core: Rc<PerCore<P>>,
        writing: Writing<P>,
        demotion: Demotion,
        under_way: Rc<Cell<u64>>,
    ) {
        let record = self.id_of(writing.address());
        core.clone().platform.spawn(async move {
            let value_bytes = demotion.extent.bytes();
            let written = writing.finish().await;
            if let Err(error) = &written {
                log::warn!("core {}: {:?} was not demoted: {error}", core.identity.id, demotion.name);
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
            under_way.set(under_way.get() - value_bytes);
        });
    }
}
