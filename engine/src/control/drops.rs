//! Telling holders which replicas nobody refers to any more.
//!
//! Best effort: a message that is lost costs the holder memory until the replica's age comes, nothing else.

use crate::percore::PerCore;
use crate::shard::Dropped;
use snowskin_io::framing::{Channel, FrameError};
use snowskin_io::{Platform, with_deadline};
use snowskin_protocol::CoreId;
use snowskin_protocol::limits::{BATCH_ITEMS_MAX, BODY_BYTES_MAX, NAME_BYTES_MAX};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::data::{BatchWriter, KeyItem};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Time for a holder to take one message.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Sends what the mailbox brings, for as long as the core runs.
pub(super) async fn run<P: Platform>(core: Rc<PerCore<P>>) {
    loop {
        let mut by_holder: BTreeMap<CoreId, BatchWriter> = BTreeMap::new();
        let mut next = Some(core.drops.receive().await);
        while let Some(Dropped { holder, name, version }) = next.take() {
            let batch = by_holder.entry(holder).or_default();
            batch.push(KeyItem::at_holder(name.as_ref(), version), name.as_ref());
            let full = batch.count() as usize == BATCH_ITEMS_MAX
                || batch.body_bytes() + NAME_BYTES_MAX + size_of::<KeyItem>() > BODY_BYTES_MAX;
            if !full {
                next = core.drops.try_receive();
            }
        }
        for (holder, batch) in by_holder {
            let deadline = core.platform.now() + ANSWER_TIME;
            match with_deadline(&core.platform, deadline, tell(&core, holder, batch)).await {
                Some(Ok(())) => {}
                Some(Err(error)) => log::debug!("core {}: telling {holder}: {error}", core.identity.id),
                None => log::debug!("core {}: {holder} does not answer", core.identity.id),
            }
        }
    }
}

async fn tell<P: Platform>(
    core: &Rc<PerCore<P>>,
    holder: CoreId,
    batch: BatchWriter,
) -> Result<(), FrameError> {
    let address = {
        let routing = core.routing.borrow();
        let Some(index) = routing.table.index_of(holder) else { return Ok(()) };
        routing.table.members[usize::from(index)].address
    };
    let count = batch.count();
    let mut channel = Channel::open(&core.platform, address).await?;
    let mut reply = Vec::new();
    channel.call_items(Opcode::DropReplicas, core.epoch(), count, &batch.finish(), &mut reply).await?;
    Ok(())
}
