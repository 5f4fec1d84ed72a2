//! What the core answers from is what a next life would find: made sure of when slots have changed hands, then written down and told.
//!
//! ```text
//!   slots have come ──► strangers taken out ──► their names buried, durably ──► the volume has this life as its owner ──► the master is told
//! ```
//!
//! Why in this order, and what the master makes of it: `docs/notes/2026-11-28-lineage.md`.

use crate::percore::PerCore;
use snowskin_io::Platform;
use std::rc::Rc;
use std::time::Duration;

/// Between two steps of looking for strangers, requests have their turn.
const TURN: Duration = Duration::from_micros(20);

/// Does so for as long as the core runs.
pub(super) async fn run<P: Platform>(core: Rc<PerCore<P>>) {
    loop {
        core.keep_wanted.wait().await;
        keep(&core).await;
    }
}

/// Once, if the core has all its slots. What stands in the way now will want it again when it ends.
async fn keep<P: Platform>(core: &Rc<PerCore<P>>) {
    let Some(tier) = core.tier.get() else { return };
    let epoch = core.epoch();
    if !core.is_member() || core.shard.borrow().is_taking() {
        return;
    }
    while !core.shard.borrow_mut().take_strangers_out() {
        core.platform.sleep(TURN).await;
    }
    core.settle().await;
    if tier.is_given_up.get() {
        return;
    }
    if tier.volume.owner() != tier.owner
        && let Err(error) = tier.volume.own(tier.owner).await
    {
        log::warn!("core {}: a restart will find nothing on the SSD: {error}", core.identity.id);
        return;
    }
    let shard = core.shard.borrow();
    if core.epoch() == epoch && !shard.is_taking() && !shard.may_have_strangers() && !tier.is_given_up.get() {
        core.kept_epoch.set(epoch);
        // The master is told at once: until it knows, a restart is a cold one.
        core.table_wanted.raise();
    }
}
