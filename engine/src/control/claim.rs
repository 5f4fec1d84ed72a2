//! Claiming slots whose last home is gone: all others are asked which replicas they keep of them, for a while; then they are served.
//!
//! Until then nobody is answered, so that nothing is put or removed beside a replica that is about to be found. Who does not answer in
//! time keeps what it has for nobody: it lets go of it when it hears of the next loss ([`crate::shard`], `kept.rs`).

use super::peers::ask;
use crate::percore::PerCore;
use futures_util::future::join_all;
use snowskin_io::framing::{Channel, FrameError};
use snowskin_io::{Moment, Platform};
use snowskin_protocol::wire::control::{LAST_PAGE, Page, SlotSet, TakeSlots};
use snowskin_protocol::wire::{Opcode, Refusal};
use snowskin_protocol::{Epoch, Member};
use std::rc::Rc;
use std::time::Duration;

/// How long others are waited for.
const CLAIM_TIME: Duration = Duration::from_secs(2);
/// Time for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Pause before somebody is asked again who was not ready.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How often somebody is told that what it keeps is known.
const TOLD_MAX: usize = 3;

/// Claims slots for as long as the core runs.
pub(super) async fn run<P: Platform>(core: Rc<PerCore<P>>) {
    loop {
        while !core.shard.borrow().claiming().is_empty() {
            claim(&core).await;
        }
        core.claim_wanted.wait().await;
    }
}

async fn claim<P: Platform>(core: &Rc<PerCore<P>>) {
    let slots = core.shard.borrow().claiming().clone();
    let routing = core.routing.borrow().clone();
    let (epoch, me) = (routing.table.epoch, core.identity.id);
    let deadline = core.platform.now() + CLAIM_TIME;
    take_own(core, &slots);
    let others: Vec<Member> =
        routing.table.members.iter().filter(|member| member.id != me).copied().collect();
    let asked = others.iter().map(|member| ask_for_all(core, member, epoch, &slots, deadline));
    let heard: Vec<bool> = join_all(asked).await;
    if core.epoch() != epoch {
        // Others may have come, or gone: what was found counts, and all are asked once more.
        return;
    }
    core.shard.borrow_mut().finish_claiming(&slots);
    core.keep_wanted.raise();
    for (member, _) in others.into_iter().zip(heard).filter(|(_, heard)| *heard) {
        let (core, slots) = (core.clone(), slots.clone());
        core.clone().platform.spawn(async move { say_claimed(&core, &member, epoch, slots).await });
    }
}

/// What this core itself keeps is its own from now on.
fn take_own<P: Platform>(core: &PerCore<P>, slots: &SlotSet) {
    let mut cursor = 0;
    while cursor != LAST_PAGE {
        let now = core.platform.now();
        let page = core.shard.borrow_mut().offer_page(slots, cursor, now);
        let page = Page::decode(&page).expect("we have written it");
        core.shard.borrow_mut().take_offered(&page, now);
        cursor = page.cursor;
    }
}

/// Asks one core for all that it keeps, again and again until the deadline; whether all of it has come.
async fn ask_for_all<P: Platform>(
    core: &Rc<PerCore<P>>,
    member: &Member,
    epoch: Epoch,
    slots: &SlotSet,
    deadline: Moment,
) -> bool {
    while core.platform.now() < deadline && core.epoch() == epoch {
        let mut request = request(core, slots.clone());
        let pages = ask(core, member, ANSWER_TIME, async |channel: &mut Channel<P>| {
            let mut reply = Vec::new();
            while request.cursor != LAST_PAGE && core.epoch() == epoch {
                channel.call(Opcode::OfferReplicas, epoch, &request.encode(), &mut reply).await?;
                let page = Page::decode(&reply)?;
                if core.epoch() == epoch {
                    let found = page.entries.len() as u64;
                    core.shard.borrow_mut().take_offered(&page, core.platform.now());
                    log::debug!("core {}: {found} replicas at {}", core.identity.id, member.id);
                }
                request.cursor = page.cursor;
            }
            Ok(())
        });
        match pages.await {
            Ok(()) => return core.epoch() == epoch,
            Err(FrameError::Refused(Refusal::Stale, _)) => {
                core.table_wanted.raise();
            }
            Err(error) => log::debug!("core {}: what {} keeps: {error}", core.identity.id, member.id),
        }
        core.platform.sleep(RETRY_PAUSE).await;
    }
    false
}

/// What somebody keeps is known here. If that is not heard, it will let go of it in time.
async fn say_claimed<P: Platform>(core: &Rc<PerCore<P>>, member: &Member, epoch: Epoch, slots: SlotSet) {
    let request = request(core, slots);
    for _ in 0..TOLD_MAX {
        let told = ask(core, member, ANSWER_TIME, async |channel: &mut Channel<P>| {
            let mut reply = Vec::new();
            channel.call(Opcode::ReplicasClaimed, epoch, &request.encode(), &mut reply).await
        });
        if told.await.is_ok() || core.epoch() != epoch {
            return;
        }
        core.platform.sleep(RETRY_PAUSE).await;
    }
}

fn request<P: Platform>(core: &PerCore<P>, slots: SlotSet) -> TakeSlots {
    TakeSlots { taker: core.identity.id, incarnation: core.identity.incarnation, cursor: 0, slots }
}
