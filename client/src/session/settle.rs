//! What an item's status means for the item: its answer, or where and when it is asked for again.

use super::batch::{Answers, Group, Job, Open, Place, Work};
use super::connection::{Answered, Reply};
use super::frame::Frame;
use super::sink::Delivery;
use super::{LinkError, Session};
use crate::error::Error;
use snowskin_io::Platform;
use snowskin_io::seeded_bug;
use snowskin_protocol::wire::data::{ItemReply, ItemStatus, KeyItem};
use snowskin_protocol::wire::{Opcode, Refusal};
use snowskin_protocol::{CoreId, Epoch, Member, MissReason, NameRef, Version};
use std::rc::Rc;
use std::time::Duration;

/// The first pause before an item is asked for again; they double up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
/// The longest pause.
const PAUSE_LONGEST: Duration = Duration::from_millis(50);
/// Requests that may fail with their connection under one routing table.
const BREAKS_MAX: u8 = 2;

/// What is to be asked again, and how.
#[derive(Default)]
struct Again {
    now: Vec<Open>,
    later: Vec<Open>,
    refresh: bool,
    pause: Duration,
}

impl Again {
    fn pause(&mut self, mut item: Open) {
        self.pause = self.pause.max(PAUSE_FIRST * (1 << item.pauses.min(6))).min(PAUSE_LONGEST);
        item.pauses = item.pauses.saturating_add(1);
        self.later.push(item);
    }
}

impl<P: Platform> Session<P> {
    /// Puts what a group was answered into `answers`, and what has to be asked again into `jobs`.
    pub(super) fn settle(
        self: &Rc<Self>,
        work: &Work<'_>,
        group: Group,
        result: Result<Reply, LinkError>,
        answers: &mut Answers,
        jobs: &mut Vec<Job>,
    ) {
        let address = group.member.address;
        let mut again = Again::default();
        match result {
            Ok(reply) => {
                let epoch = reply.header.epoch;
                self.settle_reply(work, &group, reply, answers, &mut again);
                if !again.refresh {
                    self.note_epoch(epoch, address);
                }
            }
            Err(error) => self.settle_failure(&group, &error, answers, &mut again),
        }
        let Again { now, later, refresh, pause } = again;
        if now.is_empty() && later.is_empty() {
            return;
        }
        self.shared.counters.borrow_mut().retries += (now.len() + later.len()) as u64;
        self.route(work, &self.table_now(), now.into_iter(), jobs);
        if !later.is_empty() {
            jobs.push(Job::Wait { items: later, refresh, hint: refresh.then_some(address), pause });
        }
    }

    fn settle_reply(
        self: &Rc<Self>,
        work: &Work<'_>,
        group: &Group,
        reply: Reply,
        answers: &mut Answers,
        again: &mut Again,
    ) {
        let (epoch, answered) = (reply.header.epoch, reply.items.len());
        let mut last = ItemStatus::Ok;
        for (item, answer) in group.items.iter().zip(reply.items) {
            last = answer.reply.status;
            self.settle_item(work, *item, answer, epoch, answers, again);
        }
        // Only match_prefix answers fewer items than asked: behind the first that is not held, or not known to be.
        // What comes after an item that has to wait, waits with it.
        let waits = !again.later.is_empty();
        for item in &group.items[answered..] {
            match last {
                ItemStatus::Miss => answers[item.index] = Some(Ok(missed(MissReason::NotHeld))),
                _ if waits => again.later.push(*item),
                _ => again.now.push(*item),
            }
        }
    }

    fn settle_item(
        self: &Rc<Self>,
        work: &Work<'_>,
        item: Open,
        answer: Answered,
        epoch: Epoch,
        answers: &mut Answers,
        again: &mut Again,
    ) {
        let reply = &answer.reply;
        if matches!(answer.delivery, Delivery::Corrupt) {
            self.report_corrupt(work, item, reply.version);
        }
        match (reply.status, item.place) {
            (ItemStatus::Elsewhere, Place::Home) => {
                self.shared.counters.borrow_mut().elsewhere += 1;
                let place = Place::Holder(reply.holder, reply.version);
                let item = Open { place, named_epoch: epoch, ..item };
                if epoch > self.shared.epoch.get() {
                    // The holder may have joined after our table was made.
                    again.refresh = true;
                    again.later.push(item);
                } else {
                    again.now.push(item);
                }
            }
            (ItemStatus::Miss, Place::Holder(holder, version)) => {
                self.forget(work, item.index, (holder, version), reply.miss.unwrap_or(MissReason::NotHeld));
                // It may have been replaced in between: then the home has a newer version. If not, it says why.
                let misses_at_holder = item.misses_at_holder.saturating_add(1);
                let item = Open { place: Place::Home, misses_at_holder, ..item };
                if misses_at_holder == 1 { again.now.push(item) } else { again.pause(item) }
            }
            // In a lane it means: this client holds as much as it may.
            (ItemStatus::Deferred, _) => again.now.push(Open { by_frame: true, ..item }),
            (ItemStatus::Moving, _) => again.pause(Open { place: Place::Home, ..item }),
            (ItemStatus::WrongHome, _) | (ItemStatus::Elsewhere, Place::Holder(..)) => {
                again.refresh = true;
                let item = Open { place: Place::Home, ..item };
                if epoch > self.shared.epoch.get() && item.pauses == 0 {
                    again.later.push(Open { pauses: 1, ..item });
                } else {
                    // It knows no more than we do, or the refresh has not helped: give the news time to spread.
                    again.pause(item);
                }
            }
            _ => answers[item.index] = Some(Ok(answer)),
        }
    }

    fn settle_failure(
        self: &Rc<Self>,
        group: &Group,
        error: &LinkError,
        answers: &mut Answers,
        again: &mut Again,
    ) {
        let epoch = self.shared.epoch.get();
        let final_error = || error.clone().into_error(Some(group.member.id), group.member.address);
        for &item in &group.items {
            match error {
                LinkError::Refused(Refusal::NotYet, _) => again.pause(item),
                LinkError::Refused(Refusal::Stale, _) => {
                    again.refresh = true;
                    again.pause(item);
                }
                LinkError::Refused(..) | LinkError::Overloaded => {
                    answers[item.index] = Some(Err(final_error()))
                }
                LinkError::Unreachable { .. } | LinkError::Broken(_) => {
                    let breaks = if item.broken_epoch == epoch { item.breaks + 1 } else { 1 };
                    let was_tried = matches!(error, LinkError::Unreachable { is_old: true, .. });
                    if breaks < BREAKS_MAX && !was_tried {
                        again.refresh = true;
                        again.later.push(Open { place: Place::Home, breaks, broken_epoch: epoch, ..item });
                    } else if matches!(item.place, Place::Holder(..))
                        && seeded_bug!("unreachable called lost")
                    {
                        answers[item.index] = Some(Ok(missed(MissReason::OwnerLost)));
                    } else {
                        answers[item.index] = Some(Err(final_error()));
                    }
                }
            }
        }
    }

    /// Tells the home of an item that its holder has not got it, and why; nobody waits for the answer.
    pub(super) fn forget(
        &self,
        work: &Work<'_>,
        index: usize,
        (holder, version): (CoreId, Version),
        reason: MissReason,
    ) {
        let name = work.names[index].as_ref();
        let table = self.table_now();
        let Some(home) = table.home(name.slot()) else { return };
        self.send_forget(home, name, KeyItem::at_holder(name, version).because(reason).of_holder(holder));
    }

    /// Tells whoever gave wrong bytes, so that it looks at them; nobody waits for the answer.
    fn report_corrupt(&self, work: &Work<'_>, item: Open, version: Version) {
        let name = work.names[item.index].as_ref();
        let table = self.table_now();
        let giver = match item.place {
            Place::Home => table.home(name.slot()),
            Place::Holder(core, _) => table.members.iter().find(|member| member.id == core),
        };
        if let Some(giver) = giver {
            let report = KeyItem { flags: KeyItem::CORRUPT, ..KeyItem::at_holder(name, version) };
            self.send_forget(giver, name, report);
        }
    }

    fn send_forget(&self, member: &Member, name: NameRef<'_>, item: KeyItem) {
        // It has just answered, so there is a connection; if not, somebody else will find out again.
        let Some(connection) = self.link(member.address).open_connection() else { return };
        let body_bytes = size_of::<KeyItem>() + name.bytes().len();
        let frame = Frame::batch(Opcode::Forget, body_bytes, std::iter::once((item, name)));
        let deadline = self.shared.platform.now() + self.config.deadline;
        if let Ok(ticket) = connection.ask(frame, Vec::new(), self.shared.epoch.get(), deadline) {
            ticket.ignore();
        }
    }
}

fn missed(reason: MissReason) -> Answered {
    Answered { reply: ItemReply::miss(reason), delivery: Delivery::None }
}

/// What a status means that ends an item and is not among those that its verb expects.
pub(super) fn error_of(status: ItemStatus) -> Error {
    match status {
        ItemStatus::NoSpace => Error::NoSpace,
        ItemStatus::TooLarge => Error::TooLarge,
        ItemStatus::ChecksumMismatch => Error::Checksum,
        ItemStatus::NotDurable => Error::NotDurable,
        ItemStatus::NotDurableYet => Error::NotDurableYet,
        status => Error::Unexpected(status),
    }
}
