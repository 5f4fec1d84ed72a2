//! A lane of a session: many requests under way, answered in their order.
//!
//! ```text
//!   asker ── ask ──► slot (waits for a free one) ───────────────────► core
//!   asker ◄── ticket ◄── first of those that wait ◄── pump task ◄──── reply, or news of segments
//! ```
//!
//! What is on the SSD of the core is asked for again when it has come; nobody else waits meanwhile.
//!
//! Values are copied by the asker, out of the core's memory and into it. What was pinned or reserved for an asker that has
//! given up is given back by the pump. When the lane breaks, all that waits fails; the connection beside it goes on, and is
//! asked by frames.

mod loading;

use super::alarm::Event;
use super::connection::{Answered, Reply};
use super::frame::PutValue;
use super::sink::{Delivery, Sink, deliver};
use super::{LinkError, Shared};
use crate::lane::{BodyWriter, LaneAnswer, LaneEnd, View, place_of};
use snowskin_io::lane::Heard;
use snowskin_io::sync::{Changes, Signal};
use snowskin_io::{Bell, Lane, Moment, Patience, Platform, Stream, seeded_bug};
use snowskin_protocol::wire::data::{ItemReply, ItemStatus, KeyItem};
use snowskin_protocol::wire::lane::{LaneOpcode, LaneRecord, PublishItem};
use snowskin_protocol::wire::{Header, Opcode};
use snowskin_protocol::{Checksum, NameRef, Version};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A core that says nothing for this long while an asker gives up is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(1);

type BellOf<P> = <<P as Platform>::Stream as Stream>::Bell;

/// A lane.
pub(super) struct SessionLane<P: Platform> {
    shared: Rc<Shared<P>>,
    end: RefCell<LaneEnd>,
    bell: RefCell<BellOf<P>>,
    /// In the order of their requests.
    waiting: RefCell<VecDeque<Rc<Waiting>>>,
    /// Reservations to be given up as soon as there is room for the request.
    unwanted: RefCell<Vec<u32>>,
    is_over: Cell<bool>,
    /// The pump has something to wait for, or is to end.
    work: Signal,
    /// Askers whose values are loading.
    loading: Cell<usize>,
    /// Arrivals that they have heard of.
    arrivals: Cell<u32>,
    arrived: Changes,
    /// A slot has become free.
    room: Event,
}

/// A request that waits for its reply.
struct Waiting {
    opcode: LaneOpcode,
    sent: Moment,
    is_abandoned: Cell<bool>,
    outcome: RefCell<Outcome>,
}

#[derive(Default)]
struct Outcome {
    result: Option<Result<LaneAnswer, LinkError>>,
    waker: Option<Waker>,
}

impl Waiting {
    fn finish(&self, result: Result<LaneAnswer, LinkError>) {
        let waker = {
            let mut outcome = self.outcome.borrow_mut();
            outcome.result = Some(result);
            outcome.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<P: Platform> SessionLane<P> {
    /// Takes a lane over, and starts its pump.
    pub(super) fn start(shared: &Rc<Shared<P>>, lane: Lane<BellOf<P>>) -> Rc<Self> {
        let started = Rc::new(SessionLane {
            shared: shared.clone(),
            end: RefCell::new(LaneEnd::new(lane.memory, lane.life, Arc::default())),
            bell: RefCell::new(lane.bell),
            waiting: RefCell::default(),
            unwanted: RefCell::default(),
            is_over: Cell::new(false),
            work: Signal::new(),
            loading: Cell::new(0),
            arrivals: Cell::new(0),
            arrived: Changes::default(),
            room: Event::default(),
        });
        shared.platform.spawn(started.clone().pump());
        started
    }

    /// Whether it is of no more use.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Ends it, and fails all that waits.
    pub(super) fn break_down(&self, reason: &str) {
        if self.is_over.replace(true) {
            return;
        }
        log::debug!("a lane ends: {reason}");
        let end = self.end.borrow();
        end.retire();
        // Views go on, and so does the socket, until the last one is dropped.
        if !end.has_views() {
            self.bell.borrow().close();
        }
        drop(end);
        for waiting in std::mem::take(&mut *self.waiting.borrow_mut()) {
            waiting.finish(Err(LinkError::Broken(reason.to_owned())));
        }
        self.work.raise();
        self.room.happen();
        self.arrived.tell();
    }

    // -- asking --

    /// Sends a request as soon as there is room.
    async fn ask(
        self: &Rc<Self>,
        opcode: LaneOpcode,
        body: &mut BodyWriter,
    ) -> Result<LaneTicket<P>, LinkError> {
        while !self.is_over() && !self.end.borrow().has_room() {
            self.room.next().await;
        }
        self.ask_now(opcode, body)
    }

    /// Sends a request, for which there is room.
    fn ask_now(
        self: &Rc<Self>,
        opcode: LaneOpcode,
        body: &mut BodyWriter,
    ) -> Result<LaneTicket<P>, LinkError> {
        if self.is_over() {
            return Err(LinkError::Broken("the lane has ended".into()));
        }
        let (items, epoch) = (body.count(), self.shared.epoch.get());
        let must_ring = self.end.borrow_mut().submit(opcode, items, epoch, body.finish());
        body.clear();
        if must_ring {
            self.bell.borrow().ring();
        }
        let sent = self.shared.platform.now();
        let waiting =
            Rc::new(Waiting { opcode, sent, is_abandoned: Cell::new(false), outcome: RefCell::default() });
        self.waiting.borrow_mut().push_back(waiting.clone());
        self.work.raise();
        Ok(LaneTicket { lane: self.clone(), waiting, is_done: false })
    }

    // -- the pump --

    async fn pump(self: Rc<Self>) {
        let mut patience = self.shared.platform.patience();
        while !self.is_over() {
            if self.waiting.borrow().is_empty() && self.loading.get() == 0 {
                self.work.wait().await;
                continue;
            }
            let come = poll_fn(|context| patience.poll_attempt(context, || self.has_come().then_some(())));
            let result = match come.await {
                Some(()) => {
                    self.hear_arrivals();
                    self.take_replies()
                }
                None if self.end.borrow().doze_until_arrival(self.arrivals.get()) => {
                    let heard = poll_fn(|context| self.poll_hear(context)).await;
                    self.note(heard)
                }
                None => Ok(()),
            };
            if let Err(reason) = result {
                self.break_down(&reason);
            }
        }
    }

    fn poll_hear(&self, context: &mut Context<'_>) -> Poll<Heard> {
        if self.work.poll_wait(context).is_ready() && self.is_over() {
            return Poll::Ready(Heard::End);
        }
        self.bell.borrow_mut().poll_hear(context)
    }

    fn note(&self, heard: Heard) -> Result<(), String> {
        match self.end.borrow_mut().note(heard) {
            true => Ok(()),
            false => Err("the engine has closed the lane".into()),
        }
    }

    /// Takes all replies that have come.
    fn take_replies(self: &Rc<Self>) -> Result<(), String> {
        loop {
            let mut answer = LaneAnswer::default();
            let has_come = self.end.borrow_mut().take(&mut answer).map_err(|error| error.to_string())?;
            if !has_come {
                return Ok(());
            }
            // News was sent before the reply that needs it.
            while answer.has_news || !self.end.borrow().knows_all(&answer.records) {
                answer.has_news = false;
                match self.bell.borrow_mut().hear() {
                    Heard::Silence if self.end.borrow().knows_all(&answer.records) => break,
                    Heard::Silence => return Err("the engine names a segment that it has not shown".into()),
                    heard => {
                        answer.has_news = true;
                        self.note(heard)?;
                    }
                }
            }
            let waiting = self.waiting.borrow_mut().pop_front().ok_or("a reply that nobody waits for")?;
            self.give_up_unwanted();
            self.room.happen();
            if waiting.is_abandoned.get() {
                self.disown(waiting.opcode, &answer.records);
            } else {
                waiting.finish(Ok(answer));
            }
        }
    }

    /// Gives back what was pinned or reserved for nobody.
    fn disown(self: &Rc<Self>, opcode: LaneOpcode, records: &[LaneRecord]) {
        let handles = records.iter().filter_map(place_of).map(|place| place.handle);
        match opcode {
            LaneOpcode::Get => handles.for_each(|handle| self.end.borrow().give_back(handle)),
            LaneOpcode::Reserve | LaneOpcode::ReserveUpsert => {
                self.unwanted.borrow_mut().extend(handles);
                self.give_up_unwanted();
            }
            LaneOpcode::Lookup | LaneOpcode::MatchPrefix | LaneOpcode::Publish => {}
        }
    }

    /// Gives up reservations that nobody wants, as far as there is room; the pump goes on with it.
    fn give_up_unwanted(self: &Rc<Self>) {
        while !self.unwanted.borrow().is_empty() && !self.is_over() && self.end.borrow().has_room() {
            let mut body = BodyWriter::default();
            self.unwanted.borrow_mut().retain(|&handle| {
                !body.push_publish(PublishItem { handle, is_given_up: 1, checksum: Checksum(0) })
            });
            if let Ok(ticket) = self.ask_now(LaneOpcode::Publish, &mut body) {
                ticket.ignore();
            }
        }
    }

    /// The asker of a request has given up.
    fn abandon(&self, waiting: &Waiting) {
        waiting.is_abandoned.set(true);
        let oldest = self.waiting.borrow().front().map(|waiting| waiting.sent);
        let is_silent = oldest.is_some_and(|sent| self.shared.platform.now() - sent >= SILENCE_MAX);
        if is_silent && !seeded_bug!("silence endured") {
            self.break_down("the engine is silent");
        }
    }
}

/// The asker's end of a request. Dropping it gives the request up.
struct LaneTicket<P: Platform> {
    lane: Rc<SessionLane<P>>,
    waiting: Rc<Waiting>,
    is_done: bool,
}

impl<P: Platform> LaneTicket<P> {
    /// Lets the request go its way, and its reply be thrown away.
    fn ignore(mut self) {
        self.is_done = true;
    }
}

impl<P: Platform> Future for LaneTicket<P> {
    type Output = Result<LaneAnswer, LinkError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = {
            let mut outcome = self.waiting.outcome.borrow_mut();
            if outcome.result.is_none() {
                outcome.waker = Some(context.waker().clone());
            }
            outcome.result.take()
        };
        match result {
            // What it names may be somebody else's by now.
            Some(Ok(_)) if self.lane.is_over() => {
                self.is_done = true;
                Poll::Ready(Err(LinkError::Broken("the lane has ended".into())))
            }
            Some(result) => {
                self.is_done = true;
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }
}

impl<P: Platform> Drop for LaneTicket<P> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        // It may have come, and not been looked at.
        let result = self.waiting.outcome.borrow_mut().result.take();
        match result {
            None => self.lane.abandon(&self.waiting),
            Some(Ok(answer)) => self.lane.disown(self.waiting.opcode, &answer.records),
            Some(Err(_)) => {}
        }
    }
}

/// Reservations of an answer, until they are published. Dropped before, they are given back.
struct Reserved<P: Platform> {
    lane: Rc<SessionLane<P>>,
    records: Vec<LaneRecord>,
}

impl<P: Platform> Drop for Reserved<P> {
    fn drop(&mut self) {
        if !self.records.is_empty() && !self.lane.is_over() {
            self.lane.disown(LaneOpcode::Reserve, &self.records);
        }
    }
}

// -- batches --

/// What is asked in a lane.
pub(super) struct LaneWork<'a> {
    pub(super) opcode: Opcode,
    pub(super) names: Vec<NameRef<'a>>,
    /// Of a read: an item for each name.
    pub(super) items: Vec<KeyItem>,
    /// Of a get: where each value goes.
    pub(super) sinks: Vec<Sink>,
    /// Of a put: a value for each name.
    pub(super) values: Vec<&'a PutValue>,
}

impl<P: Platform> SessionLane<P> {
    /// Carries a batch out; answers for each item, fewer after `match_prefix`.
    pub(super) async fn carry_out(self: &Rc<Self>, work: LaneWork<'_>) -> Result<Reply, LinkError> {
        self.shared.counters.borrow_mut().frames_sent.count(work.opcode);
        let opcode = work.opcode;
        let reply = match opcode {
            Opcode::Put | Opcode::Upsert => self.put(work).await,
            _ => self.read(work).await,
        }?;
        self.shared.counters.borrow_mut().frames_received.count(opcode);
        Ok(reply)
    }

    /// Reads what is found without asking, if that is all of it.
    fn read_found(self: &Rc<Self>, work: &mut LaneWork<'_>) -> Result<Option<Reply>, LinkError> {
        let is_usual =
            work.opcode == Opcode::Get && work.items.iter().all(|item| item.version == Version::ANY);
        if !is_usual || self.is_over() {
            return Ok(None);
        }
        let now_ms = self.shared.platform.host_ms();
        let find = |name: &NameRef<'_>| self.end.borrow_mut().find(name.hash(), name.bytes(), now_ms);
        let found: Vec<LaneRecord> = work.names.iter().map_while(find).collect();
        if found.len() < work.names.len() {
            self.disown(LaneOpcode::Get, &found);
            return Ok(None);
        }
        for record in &found {
            if self.end.borrow_mut().note_use(record) {
                self.bell.borrow().ring();
            }
        }
        self.shared.counters.borrow_mut().found += found.len() as u64;
        let mut sinks = work.sinks.drain(..);
        let mut answered = Vec::with_capacity(found.len());
        for record in found {
            let delivery = self.deliver(&record, sinks.next().unwrap_or(Sink::Owned))?;
            answered.push(Answered { reply: record.reply, delivery });
        }
        Ok(Some(reply_of(work.opcode, self.shared.epoch.get(), answered)))
    }

    async fn read(self: &Rc<Self>, mut work: LaneWork<'_>) -> Result<Reply, LinkError> {
        let opcode = match work.opcode {
            Opcode::Get => LaneOpcode::Get,
            Opcode::MatchPrefix => LaneOpcode::MatchPrefix,
            _ => LaneOpcode::Lookup,
        };
        if let Some(reply) = self.read_found(&mut work)? {
            return Ok(reply);
        }
        let arrivals = self.end.borrow().arrivals();
        let mut tickets = VecDeque::new();
        let mut body = BodyWriter::default();
        for (item, name) in work.items.iter().zip(&work.names) {
            if !body.push(*item, *name) {
                tickets.push_back((body.count(), self.ask(opcode, &mut body).await?));
                body.push(*item, *name);
            }
        }
        tickets.push_back((body.count(), self.ask(opcode, &mut body).await?));
        let mut sinks = work.sinks.drain(..);
        let mut loading = Vec::new();
        let mut answered = Vec::with_capacity(work.names.len());
        let mut epoch = self.shared.epoch.get();
        for (items, ticket) in tickets {
            let answer = ticket.await?;
            epoch = answer.epoch;
            self.check_count(opcode, items, &answer)?;
            let is_short = answer.records.len() < items;
            for record in answer.records {
                let delivery = match place_of(&record) {
                    Some(_) => self.deliver(&record, sinks.next().unwrap_or(Sink::Owned))?,
                    None => {
                        let sink = sinks.next();
                        if record.reply.status == ItemStatus::Loading {
                            loading.push((answered.len(), sink.unwrap_or(Sink::Owned)));
                        }
                        Delivery::None
                    }
                };
                answered.push(Answered { reply: record.reply, delivery });
            }
            if is_short || (opcode == LaneOpcode::MatchPrefix && !is_held(answered.last())) {
                break;
            }
        }
        drop(sinks);
        self.fetch(&work, loading, arrivals, &mut answered).await?;
        Ok(reply_of(work.opcode, epoch, answered))
    }

    /// Takes a value out of the core's memory, and gives its pin back; a view keeps it.
    fn deliver(&self, record: &LaneRecord, sink: Sink) -> Result<Delivery, LinkError> {
        let pinned = self.end.borrow().pinned(record);
        let Some(pinned) = pinned else {
            self.break_down("the engine names bytes that its segment has not got");
            return Err(LinkError::Broken("the engine names bytes that its segment has not got".into()));
        };
        let delivery = match sink {
            Sink::View => Delivery::View(View::pinned(pinned, record.reply.checksum)),
            sink => deliver(sink, pinned.bytes(), record.reply.checksum, self.shared.verify),
        };
        let mut counters = self.shared.counters.borrow_mut();
        match delivery {
            Delivery::Corrupt => counters.checksum_mismatches += 1,
            Delivery::Abandoned | Delivery::None => {}
            _ => counters.value_bytes_received += record.reply.value_bytes,
        }
        Ok(delivery)
    }

    async fn put(self: &Rc<Self>, work: LaneWork<'_>) -> Result<Reply, LinkError> {
        let opcode =
            if work.opcode == Opcode::Upsert { LaneOpcode::ReserveUpsert } else { LaneOpcode::Reserve };
        let mut tickets = VecDeque::new();
        let mut body = BodyWriter::default();
        for (value, name) in work.values.iter().zip(&work.names) {
            let item = value.item(*name);
            if !body.push(item, *name) {
                tickets.push_back((body.count(), self.ask(opcode, &mut body).await?));
                body.push(item, *name);
            }
        }
        tickets.push_back((body.count(), self.ask(opcode, &mut body).await?));
        let (mut values, mut is_cut_short) = (work.values.iter(), false);
        let mut answered = Vec::with_capacity(work.values.len());
        let mut epoch = self.shared.epoch.get();
        for (items, ticket) in tickets {
            let answer = ticket.await?;
            self.check_count(opcode, items, &answer)?;
            epoch = answer.epoch;
            let mut reserved = Reserved { lane: self.clone(), records: answer.records };
            let first = answered.len();
            for record in &reserved.records {
                let value = values.next().expect("a value for each item");
                if let Some(place) = place_of(record) {
                    let item = self.write(record, place.handle, value)?;
                    is_cut_short |= item.is_given_up == 1;
                    body.push_publish(item);
                }
                answered.push(Answered { reply: record.reply, delivery: Delivery::None });
            }
            if body.count() > 0 {
                let publishing = self.ask(LaneOpcode::Publish, &mut body).await?;
                reserved.records.clear();
                settle_published(&mut answered[first..], &publishing.await?.records)?;
            }
        }
        // The caller has its buffers back, so it has its answer too; nobody will read this one.
        if is_cut_short {
            return Err(LinkError::Overloaded);
        }
        Ok(reply_of(work.opcode, epoch, answered))
    }

    /// Writes a value where it was told to.
    fn write(&self, record: &LaneRecord, handle: u32, value: &PutValue) -> Result<PublishItem, LinkError> {
        let end = self.end.borrow();
        let segment = end.segment(record.place.segment);
        let room = segment.and_then(|segment| segment.reserved(record.place.offset, value.bytes()));
        let Some(room) = room else {
            drop(end);
            self.break_down("the engine names room that its segment has not got");
            return Err(LinkError::Broken("the engine names room that its segment has not got".into()));
        };
        let is_written = value.write_to(room).is_ok();
        self.shared.counters.borrow_mut().value_bytes_sent += value.bytes();
        Ok(PublishItem { handle, is_given_up: u32::from(!is_written), checksum: value.checksum() })
    }

    /// That the core has answered as many items as it was asked for.
    fn check_count(&self, opcode: LaneOpcode, items: usize, answer: &LaneAnswer) -> Result<(), LinkError> {
        let count = answer.records.len();
        let is_right = match opcode {
            LaneOpcode::MatchPrefix => (1..=items).contains(&count),
            _ => count == items,
        };
        if is_right {
            return Ok(());
        }
        self.break_down("a reply has the wrong number of answers");
        Err(LinkError::Broken("a reply has the wrong number of answers".into()))
    }
}

fn is_held(last: Option<&Answered>) -> bool {
    last.is_some_and(|last| matches!(last.reply.status, ItemStatus::Ok | ItemStatus::Elsewhere))
}

/// What became of the values that were published, in their order among those that were reserved.
fn settle_published(answered: &mut [Answered], published: &[LaneRecord]) -> Result<(), LinkError> {
    let mut published = published.iter();
    for answer in answered.iter_mut().filter(|answer| answer.reply.status == ItemStatus::Ok) {
        let record = published.next().ok_or_else(|| LinkError::Broken("a value has no answer".into()))?;
        answer.reply = ItemReply::status(record.reply.status);
    }
    Ok(())
}

fn reply_of(opcode: Opcode, epoch: snowskin_protocol::Epoch, items: Vec<Answered>) -> Reply {
    Reply { header: Header { is_reply: true, ..Header::request(opcode, 0, epoch) }, items, body: Vec::new() }
}
