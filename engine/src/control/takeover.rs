//! Pulling the entries of new slots from their origins.
//!
//! The new home asks; the origin freezes (by having the same table) and answers page by page; the new home serves
//! once it has the last page, and confirms until the origin has heard it. Every step can be repeated, so a broken
//! connection just starts over.

use crate::percore::PerCore;
use snowskin_io::framing::{Channel, FrameError};
use snowskin_io::{Platform, with_deadline};
use snowskin_protocol::wire::control::{LAST_PAGE, Page, SlotSet, TakeSlots};
use snowskin_protocol::wire::{Opcode, Refusal};
use snowskin_protocol::{Epoch, Life};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// Pause before an origin that was not ready, or not there, is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Time for one answer of an origin.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Takes slots over for as long as the core runs: a task for each origin, so that one that hangs holds up only what
/// it has.
pub(super) async fn run<P: Platform>(core: Rc<PerCore<P>>) {
    let asking: Rc<RefCell<BTreeSet<Life>>> = Rc::default();
    loop {
        let awaited = core.shard.borrow().awaited();
        for origin in awaited.into_keys() {
            if asking.borrow_mut().insert(origin) {
                core.platform.spawn(take_all(core.clone(), origin, asking.clone()));
            }
        }
        core.takeover_wanted.wait().await;
    }
}

/// Asks one origin again and again until nothing is awaited from it, and it knows what was taken.
async fn take_all<P: Platform>(core: Rc<PerCore<P>>, origin: Life, asking: Rc<RefCell<BTreeSet<Life>>>) {
    loop {
        let awaited = core.shard.borrow().awaited().remove(&origin);
        let unconfirmed = core.shard.borrow().unconfirmed().remove(&origin);
        if awaited.is_none() && unconfirmed.is_none() {
            asking.borrow_mut().remove(&origin);
            return;
        }
        match ask(&core, origin, awaited, unconfirmed).await {
            Ok(()) | Err(FrameError::Refused(Refusal::NotYet, _)) => {}
            Err(FrameError::Refused(Refusal::Stale, _)) => core.table_wanted.raise(),
            Err(error) => log::debug!("core {}: taking slots from {}: {error}", core.identity.id, origin.0),
        }
        core.platform.sleep(RETRY_PAUSE).await;
    }
}

/// One conversation with an origin: pages of what is awaited, then the confirmation of what was taken, now or before.
async fn ask<P: Platform>(
    core: &Rc<PerCore<P>>,
    origin: Life,
    awaited: Option<SlotSet>,
    unconfirmed: Option<SlotSet>,
) -> Result<(), FrameError> {
    let routing = core.routing.borrow().clone();
    let (table, (id, incarnation)) = (&routing.table, origin);
    let member = table.members.iter().find(|member| (member.id, member.incarnation) == (id, incarnation));
    let Some(member) = member else {
        // The table that says so has settled what was awaited.
        unconfirmed.inspect(|slots| core.shard.borrow_mut().forget_unconfirmed(origin, slots));
        return Ok(());
    };
    let mut channel = in_time(core, Channel::open(&core.platform, member.address)).await?;
    if channel.welcome().core_id() != id || channel.welcome().incarnation != incarnation {
        // Somebody else listens there now. The master will notice and say that the entries are lost.
        return Ok(());
    }
    if let Some(slots) = awaited {
        pull(core, &mut channel, table.epoch, slots).await?;
    }
    let Some(slots) = core.shard.borrow().unconfirmed().remove(&origin) else { return Ok(()) };
    let confirm = request(core, slots);
    let mut reply = Vec::new();
    in_time(core, channel.call(Opcode::SlotsTaken, table.epoch, &confirm.encode(), &mut reply)).await?;
    core.shard.borrow_mut().forget_unconfirmed(origin, &confirm.slots);
    Ok(())
}

/// Asks for all pages of what the origin is ready to give. Stops when the table changes: what was agreed on under the
/// old one may not hold under the new one.
async fn pull<P: Platform>(
    core: &Rc<PerCore<P>>,
    channel: &mut Channel<P>,
    epoch: Epoch,
    slots: SlotSet,
) -> Result<(), FrameError> {
    let mut ask = request(core, slots);
    let mut reply = Vec::new();
    let mut declined = SlotSet::new();
    let mut is_first = true;
    while is_first || ask.cursor != LAST_PAGE {
        in_time(core, channel.call(Opcode::TakeSlots, epoch, &ask.encode(), &mut reply)).await?;
        if core.epoch() != epoch {
            return Ok(());
        }
        let page = Page::decode(&reply)?;
        core.shard.borrow_mut().take_page(&page, is_first, core.platform.now());
        ask.cursor = page.cursor;
        if is_first {
            (ask.slots, declined) = (page.given, page.declined);
            is_first = false;
        }
    }
    let mut shard = core.shard.borrow_mut();
    shard.finish_taking(&ask.slots);
    shard.finish_taking(&declined);
    core.keep_wanted.raise();
    Ok(())
}

fn request<P: Platform>(core: &PerCore<P>, slots: SlotSet) -> TakeSlots {
    TakeSlots { taker: core.identity.id, incarnation: core.identity.incarnation, cursor: 0, slots }
}

async fn in_time<P: Platform, T>(
    core: &PerCore<P>,
    answer: impl Future<Output = Result<T, FrameError>>,
) -> Result<T, FrameError> {
    let deadline = core.platform.now() + ANSWER_TIME;
    let late = || FrameError::Io(std::io::ErrorKind::TimedOut.into());
    with_deadline(&core.platform, deadline, answer).await.unwrap_or_else(|| Err(late()))
}
