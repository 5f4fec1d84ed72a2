//! Pulling the entries of new slots from their origins.
//!
//! The new home asks; the origin freezes (by having the same table) and answers page by page; the new home serves
//! once it has the last page, and confirms. Every step can be repeated, so a broken connection just starts over.

use crate::percore::PerCore;
use snowskin_io::framing::{Channel, FrameError};
use snowskin_io::{Platform, with_deadline};
use snowskin_protocol::wire::control::{LAST_PAGE, Page, SlotSet, TakeSlots};
use snowskin_protocol::wire::{Opcode, Refusal};
use snowskin_protocol::{CoreId, Incarnation};
use std::rc::Rc;
use std::time::Duration;

/// Pause before an origin that was not ready, or not there, is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Time for all pages of one origin; then it is asked from the beginning.
const PULL_TIME: Duration = Duration::from_secs(10);

/// Takes slots over for as long as the core runs.
pub(super) async fn run<P: Platform>(core: Rc<PerCore<P>>) {
    loop {
        let awaited = core.shard.borrow().awaited();
        if awaited.is_empty() {
            core.takeover_wanted.wait().await;
            continue;
        }
        let pulls = awaited.into_iter().map(|(origin, slots)| pull_in_time(&core, origin, slots));
        futures_util::future::join_all(pulls).await;
        if !core.shard.borrow().awaited().is_empty() {
            core.platform.sleep(RETRY_PAUSE).await;
        }
    }
}

async fn pull_in_time<P: Platform>(core: &Rc<PerCore<P>>, origin: (CoreId, Incarnation), slots: SlotSet) {
    let deadline = core.platform.now() + PULL_TIME;
    match with_deadline(&core.platform, deadline, pull(core, origin, slots)).await {
        Some(Ok(())) | Some(Err(FrameError::Refused(Refusal::NotYet, _))) => {}
        Some(Err(FrameError::Refused(Refusal::Stale, _))) => core.table_wanted.raise(),
        Some(Err(error)) => log::debug!("core {}: taking slots from {}: {error}", core.identity.id, origin.0),
        None => log::warn!("core {}: {} does not give its slots", core.identity.id, origin.0),
    }
}

/// Asks one origin for all pages of what it is ready to give.
async fn pull<P: Platform>(
    core: &Rc<PerCore<P>>,
    (origin, incarnation): (CoreId, Incarnation),
    slots: SlotSet,
) -> Result<(), FrameError> {
    let routing = core.routing.borrow().clone();
    let Some(index) = routing.table.index_of(origin) else {
        return Ok(());
    };
    let address = routing.table.members[usize::from(index)].address;
    let mut channel = Channel::open(&core.platform, address).await?;
    if channel.welcome().core_id() != origin || channel.welcome().incarnation != incarnation {
        // Somebody else listens there now. The master will notice and say that the entries are lost.
        return Ok(());
    }
    let me = core.identity;
    let mut ask = TakeSlots { taker: me.id, incarnation: me.incarnation, cursor: 0, slots };
    let mut reply = Vec::new();
    let mut declined = SlotSet::new();
    let mut is_first = true;
    while is_first || ask.cursor != LAST_PAGE {
        channel.call(Opcode::TakeSlots, routing.table.epoch, &ask.encode(), &mut reply).await?;
        let page = Page::decode(&reply)?;
        core.shard.borrow_mut().take_page(&page, is_first, core.platform.now());
        ask.cursor = page.cursor;
        if is_first {
            (ask.slots, declined) = (page.given, page.declined);
            is_first = false;
        }
    }
    {
        let mut shard = core.shard.borrow_mut();
        shard.finish_taking(&ask.slots);
        shard.finish_taking(&declined);
    }
    channel.call(Opcode::SlotsTaken, routing.table.epoch, &ask.encode(), &mut reply).await?;
    Ok(())
}
