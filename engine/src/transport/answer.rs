//! Requests that are answered at once: everything but puts.

use super::outbox::Reply;
use crate::percore::{PerCore, count};
use crate::segment::Extent;
use crate::shard::{self, Answer, Demoted, Held};
use crate::tiering::{Cold, Loaded};
use regex::bytes::{Regex, RegexBuilder};
use snowskin_io::Platform;
use snowskin_io::framing::FrameError;
use snowskin_io::seeded_bug;
use snowskin_protocol::limits::{GET_PAYLOAD_BYTES_TARGET, HEADER_BYTES};
use snowskin_protocol::wire::control::{SlotSet, TakeSlots};
use snowskin_protocol::wire::data::{
    Batch, ITEM_REPLY_BYTES, ItemReply, ItemStatus, KeyItem, RemoveMatching,
};
use snowskin_protocol::wire::list::ListKeys;
use snowskin_protocol::wire::{Header, Opcode, Refusal};
use snowskin_protocol::{Epoch, HashedName, RoutingTable, Slot, Version};
use std::cmp::Ordering;
use std::ops::ControlFlow;

/// Memory that a peer's compiled pattern may take. It also bounds the time to match a key: at worst the product of
/// this (in states) and the key's length.
const PATTERN_MEMORY_BYTES_MAX: usize = 64 << 10;

/// Values that together are no larger than this are copied behind their reply: cheaper than to gather them.
const COPIED_PAYLOAD_BYTES_MAX: u64 = 4096;

/// Completes a reply: the body is what `reply.head` holds behind the room for the header.
pub(super) fn finish(request: &Header, epoch: Epoch, items: u32, payload_bytes: u64, reply: &mut Reply) {
    let header = Header { items, payload_bytes, version: request.version, ..request.reply(epoch) };
    let encoded = header.encode(&reply.head[HEADER_BYTES..]);
    reply.head[..HEADER_BYTES].copy_from_slice(&encoded);
}

/// Makes a refusal of a reply.
pub(super) fn refuse(request: &Header, epoch: Epoch, refusal: Refusal, sentence: &str, reply: &mut Reply) {
    reply.head.clear();
    reply.values.clear();
    let header = Header { refusal: Some(refusal), ..request.reply(epoch) };
    reply.head.extend_from_slice(&header.encode(sentence.as_bytes()));
    reply.head.extend_from_slice(sentence.as_bytes());
}

/// What a request found on the SSD, and what was read of it already.
#[derive(Debug, Default)]
pub(super) struct OnSsd {
    pub(super) cold: Vec<Cold>,
    pub(super) loaded: Loaded,
}

/// Answers a request whose whole content is its body. If `on_ssd.cold` is not empty then, these are to be loaded, and it is to be answered
/// once more.
pub(super) fn answer<P: Platform>(
    core: &PerCore<P>,
    header: &Header,
    body: &[u8],
    reply: &mut Reply,
    on_ssd: &mut OnSsd,
) -> Result<(), FrameError> {
    reply.head.resize(HEADER_BYTES, 0);
    match header.opcode {
        Opcode::Get | Opcode::Lookup | Opcode::MatchPrefix | Opcode::Remove | Opcode::Forget => {
            count(&core.traffic.data_frames_in);
            let batch = Batch::<KeyItem>::decode(header.items, body)?;
            answer_batch(core, header, &batch, reply, on_ssd);
        }
        Opcode::DropReplicas => {
            let batch = Batch::<KeyItem>::decode(header.items, body)?;
            let mut shard = core.shard.borrow_mut();
            batch.iter().for_each(|(item, name)| shard.drop_replica(name.hashed(), item.version));
            finish(header, core.epoch(), 0, 0, reply);
        }
        Opcode::RemoveMatching => {
            count(&core.traffic.data_frames_in);
            remove_matching(core, header, &RemoveMatching::decode(body)?, reply);
        }
        Opcode::ListKeys => {
            count(&core.traffic.data_frames_in);
            list_keys(core, header, &ListKeys::decode(body)?, reply);
        }
        Opcode::TakeSlots | Opcode::SlotsTaken | Opcode::OfferReplicas | Opcode::ReplicasClaimed => {
            hand_over(core, header, &TakeSlots::decode(body)?, reply)
        }
        Opcode::Table => {
            reply.head.extend_from_slice(&core.routing.borrow().encoded);
            finish(header, core.epoch(), 0, 0, reply);
        }
        Opcode::Stats => {
            reply.head.extend_from_slice(bytemuck::bytes_of(&core.stats()));
            finish(header, core.epoch(), 0, 0, reply);
        }
        Opcode::Hello | Opcode::Put | Opcode::Upsert | Opcode::Admin | Opcode::Replica => {
            return Err(FrameError::Unexpected);
        }
        Opcode::Register | Opcode::Heartbeat | Opcode::Leave | Opcode::OfferTable => {
            count(&core.traffic.frames_refused);
            let sentence = "this is an engine's core: membership is the master's business";
            refuse(header, core.epoch(), Refusal::WrongRole, sentence, reply);
        }
    }
    Ok(())
}

fn answer_batch<P: Platform>(
    core: &PerCore<P>,
    header: &Header,
    batch: &Batch<'_, KeyItem>,
    reply: &mut Reply,
    on_ssd: &mut OnSsd,
) {
    let (payload_bytes, cold_bytes) = (0, 0);
    let mut answers =
        Answers { core, opcode: header.opcode, payload_bytes, cold_bytes, reply: &mut *reply, on_ssd };
    shard::some_at_a_time(batch, |asked| answers.answer_some(asked));
    let payload_bytes = answers.payload_bytes;
    core.shard.borrow_mut().note_uses();
    let items = (reply.head.len() - HEADER_BYTES) / ITEM_REPLY_BYTES;
    finish(header, core.epoch(), items as u32, payload_bytes, reply);
    if payload_bytes <= COPIED_PAYLOAD_BYTES_MAX {
        reply.values.drain(..).for_each(|value| reply.head.extend_from_slice(value.value()));
    }
}

/// The answers to a batch.
struct Answers<'a, P: Platform> {
    core: &'a PerCore<P>,
    opcode: Opcode,
    /// Of the values so far.
    payload_bytes: u64,
    /// Of those that are to be loaded.
    cold_bytes: u64,
    reply: &'a mut Reply,
    on_ssd: &'a mut OnSsd,
}

impl<P: Platform> Answers<'_, P> {
    /// Answers the next items. Breaks if a prefix does.
    fn answer_some(&mut self, asked: &[(KeyItem, HashedName<'_>)]) -> ControlFlow<()> {
        let now = self.core.platform.now();
        let mut shard = self.core.shard.borrow_mut();
        shard.prefetch(asked.iter().map(|(_, name)| name.hash));
        for &(item, name) in asked {
            let answered = match self.opcode {
                Opcode::Get if self.payload_bytes + self.cold_bytes >= GET_PAYLOAD_BYTES_TARGET => {
                    ItemReply::status(ItemStatus::Deferred)
                }
                Opcode::Get => match shard.get(name, &item, now) {
                    Answer::Held(Held { extent, reply }) => self.push_value(extent, reply),
                    Answer::OnSsd(demoted, reply) => self.push_demoted(name, demoted, reply),
                    Answer::Not(answered) => answered,
                },
                Opcode::Remove => {
                    let (answered, dropped) = shard.remove(name, &item, now);
                    dropped.into_iter().for_each(|dropped| self.core.drop_later(dropped));
                    answered
                }
                Opcode::Forget => {
                    if item.version != Version::ANY {
                        shard.forget(name, &item);
                    }
                    ItemReply::status(ItemStatus::Ok)
                }
                _ => shard.lookup(name, &item, now),
            };
            answered.encode(&mut self.reply.head);
            let held = matches!(answered.status, ItemStatus::Ok | ItemStatus::Elsewhere);
            if self.opcode == Opcode::MatchPrefix && !held {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn push_value(&mut self, extent: Extent, reply: ItemReply) -> ItemReply {
        self.payload_bytes += reply.value_bytes;
        if seeded_bug!("pin leaked") {
            std::mem::forget(extent.clone());
        }
        self.reply.values.push(extent);
        reply
    }

    /// What has been loaded is answered, what has not is to be.
    fn push_demoted(&mut self, name: HashedName<'_>, demoted: Demoted, reply: ItemReply) -> ItemReply {
        if let Some(extent) = self.on_ssd.loaded.get(name.hash, demoted.version) {
            let extent = extent.clone();
            return self.push_value(extent, reply);
        }
        self.cold_bytes += reply.value_bytes;
        self.on_ssd.cold.push(Cold { name: name.name.to_owned(), demoted });
        ItemReply::status(ItemStatus::Deferred)
    }
}

/// Whether this core has all entries of its slots, by the asker's table.
fn knows_its_keys<P: Platform>(core: &PerCore<P>, header: &Header) -> bool {
    // A life that is not in the table yet may be the heir of one that is: then what it has found counts with the next one.
    // Who has said farewell knows nothing of its slots any more, and others may keep replicas of what was there.
    let shard = core.shard.borrow();
    header.epoch == core.epoch() && !shard.is_taking() && !shard.is_retired() && core.is_listed()
}

/// A pattern that is to be looked for, if one was given; or what is wrong with it.
fn compiled(pattern: &str) -> Result<Option<Regex>, String> {
    if pattern.is_empty() {
        return Ok(None);
    }
    let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_MEMORY_BYTES_MAX).build();
    compiled.map(Some).map_err(|error| format!("the pattern is no regular expression: {error}"))
}

fn list_keys<P: Platform>(core: &PerCore<P>, header: &Header, request: &ListKeys<'_>, reply: &mut Reply) {
    if !knows_its_keys(core, header) {
        return refuse_for_now(core, header, reply);
    }
    match compiled(request.pattern) {
        Ok(pattern) => {
            let page = core.shard.borrow().list_keys(request, pattern.as_ref());
            reply.head.extend_from_slice(&page);
            finish(header, core.epoch(), 0, 0, reply);
        }
        Err(sentence) => refuse(header, core.epoch(), Refusal::BadPattern, &sentence, reply),
    }
}

fn remove_matching<P: Platform>(
    core: &PerCore<P>,
    header: &Header,
    request: &RemoveMatching<'_>,
    reply: &mut Reply,
) {
    if !knows_its_keys(core, header) {
        return refuse_for_now(core, header, reply);
    }
    let pattern = match compiled(request.pattern) {
        Ok(pattern) => pattern,
        Err(sentence) => return refuse(header, core.epoch(), Refusal::BadPattern, &sentence, reply),
    };
    let now = core.platform.now();
    let removed = core.shard.borrow_mut().remove_matching(
        request.cursor,
        request.tenant,
        pattern.as_ref(),
        request.force,
        now,
    );
    let Some((step, dropped)) = removed else {
        let sentence = "other holders have to let go of an object first: ask again in a moment";
        return refuse(header, core.epoch(), Refusal::NotYet, sentence, reply);
    };
    dropped.into_iter().for_each(|dropped| core.drop_later(dropped));
    reply.head.extend_from_slice(bytemuck::bytes_of(&step));
    finish(header, core.epoch(), 0, 0, reply);
}

/// Of the slots that a taker asks for what is kept of, or says it has taken: those that are its own. Nobody else can speak for them.
fn meant_for(table: &RoutingTable, request: &TakeSlots) -> SlotSet {
    let taker = table.index_of(request.taker);
    let is_its = |slot: &Slot| taker == Some(table.homes[slot.index()]) || seeded_bug!("anybody confirms");
    let mut meant = SlotSet::new();
    request.slots.iter().filter(is_its).for_each(|slot| meant.insert(slot));
    meant
}

/// What is asked for makes sense only between peers with the same table, and when no slot is on its way.
fn refuse_for_now<P: Platform>(core: &PerCore<P>, header: &Header, reply: &mut Reply) {
    let epoch = core.epoch();
    let (refusal, sentence) = match header.epoch.cmp(&epoch) {
        Ordering::Less => (Refusal::Stale, "there is a newer table: take it over first"),
        Ordering::Equal => (Refusal::NotYet, "slots are on their way to this core: ask again in a moment"),
        Ordering::Greater => {
            (Refusal::NotYet, "that epoch is news to this core: it asks for the table, ask again")
        }
    };
    refuse(header, epoch, refusal, sentence, reply);
}

fn hand_over<P: Platform>(core: &PerCore<P>, header: &Header, request: &TakeSlots, reply: &mut Reply) {
    let epoch = core.epoch();
    if header.epoch != epoch && !seeded_bug!("old epoch accepted") {
        return refuse_for_now(core, header, reply);
    }
    let (leaving, now) = (core.leaving.get(), core.platform.now());
    let meant = || meant_for(&core.routing.borrow().table, request);
    let mut shard = core.shard.borrow_mut();
    match header.opcode {
        Opcode::TakeSlots => {
            reply.head.extend_from_slice(&shard.give_page(&request.slots, request.cursor, leaving, now));
        }
        Opcode::OfferReplicas => {
            reply.head.extend_from_slice(&shard.offer_page(&meant(), request.cursor, now))
        }
        Opcode::ReplicasClaimed => shard.claimed(&meant()),
        _ => shard.confirm_given(&meant()),
    }
    drop(shard);
    finish(header, epoch, 0, 0, reply);
}

#[cfg(test)]
mod tests {
    use super::*;
    use snowskin_protocol::{CoreId, EngineId, Incarnation, Member};

    #[test]
    fn a_confirmation_counts_if_it_is_that_of_the_taker() {
        let core = |core| CoreId { engine: EngineId(1), core };
        let (address, incarnation) = ("127.0.0.1:1".parse().unwrap(), Incarnation(1));
        let member = |number| Member { id: core(number), incarnation, address, weight: 1 };
        let mut table = RoutingTable::empty();
        table.members = (0..3).map(member).collect();
        table.homes.fill(1);
        table.homes[7] = 2;
        let mut slots = SlotSet::new();
        (6..=7).for_each(|slot| slots.insert(Slot(slot)));
        let counted = |taker| {
            let request = TakeSlots { taker, incarnation, cursor: 0, slots: slots.clone() };
            meant_for(&table, &request).iter().map(|slot| slot.0).collect::<Vec<_>>()
        };
        assert_eq!((counted(core(1)), counted(core(2))), (vec![6], vec![7]));
        assert!(counted(core(0)).is_empty() && counted(core(9)).is_empty());
    }
}
