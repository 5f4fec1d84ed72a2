//! What is asked in lanes, and the answers.

use super::loads::Fetched;
use super::served::Served;
use super::{LOADING_MAX, LaneError};
use crate::percore::{PerCore, count};
use crate::segment::Segments;
use crate::shard::{self, Answer, Demoted, Held, PutStart};
use crate::tiering::Cold;
use snowskin_io::{Bell, Moment, Platform, seeded_bug};
use snowskin_protocol::wire::data::{Batch, ItemReply, ItemStatus, KeyItem, PutHints, PutItem};
use snowskin_protocol::wire::lane::{LaneOpcode, LaneRecord, LaneReply, LaneRequest, PublishItem};
use snowskin_protocol::{HashedName, NameRef, Version};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

/// Of so many requests of a lane one is timed, at least.
const TIMED_EVERY: u32 = 16;
/// Items and looks after which the clock is read again: less than a lease's millisecond by far.
const CLOCK_EVERY: u32 = 64;
/// How long the items of one request are reserved, but for the one that is under way then.
const RESERVING_TIME_MAX: Duration = Duration::from_millis(1);

/// Where requests are read and replies are written.
#[derive(Debug, Default)]
pub(super) struct Desk {
    body: Vec<u8>,
    records: Vec<u8>,
    now: Moment,
    /// Where the next look around begins.
    pub(super) first: usize,
    /// Items answered, and looks without finding any, since the clock was read.
    since: u32,
}

impl Desk {
    /// Time has passed, or may have.
    pub(super) fn pass(&mut self, looks: u32) {
        self.since = self.since.saturating_add(looks);
    }

    fn now<P: Platform>(&mut self, core: &PerCore<P>) -> Moment {
        if self.since >= CLOCK_EVERY {
            (self.now, self.since) = (core.platform.now(), 0);
        }
        self.now
    }
}

impl<B: Bell> Served<B> {
    /// Answers the next request, if there is one: how many items it had.
    pub(super) fn serve_next<P: Platform>(
        self: &Rc<Self>,
        core: &Rc<PerCore<P>>,
        desk: &mut Desk,
    ) -> Result<usize, LaneError> {
        let mut server = self.server.borrow_mut();
        if server.is_retired() {
            self.retire(&mut core.shard.borrow_mut());
            return Ok(0);
        }
        let Some(submission) = server.next() else { return Ok(0) };
        let now = desk.now(core);
        let request = LaneRequest::decode(submission.head())?;
        let Desk { body, records, .. } = desk;
        let body = server.body(&submission, request.body_bytes as usize, body);
        records.clear();
        let mut asked = Asked { core, lane: self, now, records, cold: Vec::new() };
        match request.opcode {
            LaneOpcode::Get | LaneOpcode::Lookup | LaneOpcode::MatchPrefix => {
                if self.is_near_its_share(core.shard.borrow().segments().capacity_bytes()) {
                    self.take_back_from(&mut server)?;
                }
                asked.read(request.opcode, &Batch::decode(u32::from(request.items), body)?);
            }
            LaneOpcode::Reserve | LaneOpcode::ReserveUpsert => {
                let replace = request.opcode == LaneOpcode::ReserveUpsert;
                self.take_back_from(&mut server)?;
                asked.reserve(replace, &Batch::decode(u32::from(request.items), body)?)?;
            }
            LaneOpcode::Publish => asked.publish(PublishItem::decode(request.items, body)?)?,
        }
        asked.cold.into_iter().for_each(|cold| self.load(core, cold));
        self.tell();
        let items = (records.len() / snowskin_protocol::wire::lane::RECORD_BYTES) as u16;
        let reply = LaneReply { items, has_news: self.has_news.replace(false), epoch: core.epoch() };
        server.answer(&reply.encode(), records);
        if server.wakes_caller() {
            self.bell.borrow().ring();
        }
        // Behind the answer: nobody waits for it.
        count(&core.traffic.frames_in);
        count(&core.traffic.data_frames_in);
        count(&core.traffic.frames_out);
        core.hear_epoch(request.epoch);
        if let Some(reader) = self.reader() {
            core.shard.borrow_mut().take_in_uses_of(reader, now);
        }
        core.shard.borrow_mut().note_many_uses();
        self.take_back_some(&mut server)?;
        self.requests.set(self.requests.get().wrapping_add(1));
        let items = u32::from(request.items);
        if desk.since > 0 && self.requests.get().is_multiple_of(TIMED_EVERY) {
            desk.since = CLOCK_EVERY;
        } else if desk.since == 0 {
            core.note_service(now);
        }
        desk.since += items;
        Ok(items as usize)
    }
}

/// A request that is being answered.
struct Asked<'a, P: Platform, B> {
    core: &'a PerCore<P>,
    lane: &'a Served<B>,
    now: Moment,
    records: &'a mut Vec<u8>,
    /// What is to be loaded.
    cold: Vec<Cold>,
}

impl<P: Platform, B: Bell> Asked<'_, P, B> {
    fn read(&mut self, opcode: LaneOpcode, batch: &Batch<'_, KeyItem>) {
        shard::some_at_a_time(batch, |asked| self.read_some(opcode, asked));
    }

    /// Answers the next items of a batch. Breaks if a prefix does.
    fn read_some(&mut self, opcode: LaneOpcode, asked: &[(KeyItem, HashedName<'_>)]) -> ControlFlow<()> {
        // What may not be told yet is told by frames, which can wait.
        let is_settled = self.core.is_settled();
        let mut shard = self.core.shard.borrow_mut();
        if asked.len() > 1 {
            shard.prefetch(asked.iter().map(|(_, name)| name.hash));
        }
        for &(item, name) in asked {
            let record = match opcode {
                _ if !is_settled => LaneRecord::of(ItemReply::status(ItemStatus::Deferred)),
                LaneOpcode::Get => match shard.get(name, &item, self.now) {
                    Answer::Not(reply) => LaneRecord::of(reply),
                    Answer::OnSsd(demoted, reply) => self.fetch(name, demoted, reply, shard.segments()),
                    Answer::Held(held) => {
                        self.lane.forget_load((name.hash, held.reply.version));
                        let record = self.pin(held, shard.segments());
                        if self.lane.reader().is_some()
                            && item.version == Version::ANY
                            && record.reply.status == ItemStatus::Ok
                        {
                            shard.shelve(name, record.place, self.now);
                        }
                        record
                    }
                },
                _ => LaneRecord::of(shard.lookup(name, &item, self.now)),
            };
            self.records.extend_from_slice(&record.encode());
            let held = matches!(record.reply.status, ItemStatus::Ok | ItemStatus::Elsewhere);
            if opcode == LaneOpcode::MatchPrefix && !held {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn pin(&self, Held { extent, reply }: Held, segments: &Segments) -> LaneRecord {
        let may_pin = self.lane.may_pin(reply.value_bytes, segments.capacity_bytes());
        match may_pin.then(|| self.lane.pin(extent, segments)).flatten() {
            Some(place) => LaneRecord { reply, place },
            None => LaneRecord::of(ItemReply::status(ItemStatus::Deferred)),
        }
    }

    /// Nobody waits for the SSD in a lane: what has been loaded is answered, the rest is to be asked for again.
    fn fetch(
        &mut self,
        name: HashedName<'_>,
        demoted: Demoted,
        reply: ItemReply,
        segments: &Segments,
    ) -> LaneRecord {
        let only = |status| LaneRecord::of(ItemReply::status(status));
        let key = (name.hash, demoted.version);
        match self.lane.fetch(key, demoted.value_bytes) {
            Fetched::Here(extent) => self.pin(Held { extent, reply }, segments),
            Fetched::UnderWay => only(ItemStatus::Loading),
            Fetched::Failed => only(ItemStatus::Deferred),
            Fetched::Unknown => {
                let is_full = self.core.lanes.loading.get() + self.cold.len() >= LOADING_MAX;
                if is_full || !self.lane.may_load(demoted.value_bytes, segments.capacity_bytes()) {
                    return only(ItemStatus::Deferred);
                }
                self.lane.begin_load(key, demoted.value_bytes);
                self.cold.push(Cold { name: name.name.to_owned(), demoted });
                only(ItemStatus::Loading)
            }
        }
    }

    fn reserve(&mut self, replace: bool, batch: &Batch<'_, PutItem>) -> Result<(), LaneError> {
        batch.check_values()?;
        let mut is_late = false;
        for (item, name) in batch.iter() {
            // Room that is made by eviction takes its time, and others wait: the rest is asked for by frames.
            let record = match is_late {
                true => LaneRecord::of(ItemReply::status(ItemStatus::Deferred)),
                false => self.reserve_one(replace, &item, name),
            };
            self.records.extend_from_slice(&record.encode());
            is_late = is_late || self.core.platform.now() - self.now > RESERVING_TIME_MAX;
        }
        Ok(())
    }

    fn reserve_one(&mut self, replace: bool, item: &PutItem, name: NameRef<'_>) -> LaneRecord {
        let only = |status| LaneRecord::of(ItemReply::status(status));
        let capacity_bytes = self.core.shard.borrow().segments().capacity_bytes();
        // Nobody waits for others in a lane: neither for the SSD, to be durable or until what is replaced is buried, nor for replicas.
        let is_slow = item.hints.has(PutHints::DURABLE) || item.hints.more_replicas() > 0;
        let has_record = replace && self.core.shard.borrow().has_record(name.hashed());
        if is_slow || has_record || !self.lane.may_reserve(item.value_bytes, capacity_bytes) {
            return only(ItemStatus::Deferred);
        }
        match self.core.begin_put(name.hashed(), item, replace, self.now) {
            PutStart::Answered(status) => only(status),
            PutStart::Reserved(ticket) => {
                let shard = self.core.shard.borrow();
                match self.lane.reserve(ticket, name, replace, shard.segments()) {
                    Some(place) => LaneRecord { place, ..only(ItemStatus::Ok) },
                    None => only(ItemStatus::Deferred),
                }
            }
        }
    }

    fn publish(&mut self, items: impl Iterator<Item = PublishItem>) -> Result<(), LaneError> {
        for item in items {
            let mut put = self.lane.take_put(item.handle)?;
            let mut shard = self.core.shard.borrow_mut();
            let status = if item.is_given_up == 1 {
                shard.abandon_put(put.ticket);
                ItemStatus::Ok
            } else if seeded_bug!("lane published nothing") {
                ItemStatus::Ok
            } else {
                put.ticket.fill_elsewhere(item.checksum);
                let name = NameRef::known(&put.name).hashed();
                if put.replace && shard.has_record(name) {
                    // What it replaces is to be buried, and nobody waits for the SSD in a lane.
                    shard.abandon_put(put.ticket);
                    let deferred = LaneRecord::of(ItemReply::status(ItemStatus::Deferred));
                    self.records.extend_from_slice(&deferred.encode());
                    continue;
                }
                let (status, dropped) = shard.finish_put(name, put.ticket, put.replace, self.now);
                dropped.into_iter().for_each(|dropped| self.core.drop_later(dropped));
                status
            };
            self.records.extend_from_slice(&LaneRecord::of(ItemReply::status(status)).encode());
        }
        Ok(())
    }
}
