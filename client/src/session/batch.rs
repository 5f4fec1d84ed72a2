//! A batch on its way: which core is asked for which items, in frames that are not too large, until each has its
//! answer.
//!
//! Items of different cores do not wait for each other: each core's frames are a chain of jobs of their own, so a
//! core that hangs costs only the keys that it alone can answer.

use super::connection::{Answered, Reply};
use super::frame::{Frame, LoanEnded, PutValue};
use super::lane::LaneWork;
use super::sink::{Sink, Target};
use super::{LinkError, Session};
use crate::config::Transport;
use crate::error::Error;
use futures_util::stream::{FuturesUnordered, StreamExt};
use snowskin_io::seeded_bug;
use snowskin_io::{Moment, Platform};
use snowskin_protocol::limits::{BATCH_ITEMS_MAX, BODY_BYTES_MAX, GET_PAYLOAD_BYTES_TARGET};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::data::{KeyItem, PutItem};
use snowskin_protocol::{CoreId, Epoch, Member, MissReason, ObjectName, RoutingTable, Version};
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

/// Bytes of values in one put frame; one value always fits.
const PUT_PAYLOAD_BYTES_TARGET: u64 = GET_PAYLOAD_BYTES_TARGET;

/// A core that has not answered for so long may be dead: others are asked for the newest table.
const DOUBT_AFTER: Duration = Duration::from_secs(1);

/// What is asked for all items of a batch.
pub(super) struct Work<'a> {
    pub(super) opcode: Opcode,
    pub(super) names: &'a [ObjectName],
    /// Of a put: a value for each name.
    pub(super) values: &'a [PutValue],
    /// Of a get.
    pub(super) targets: Targets,
    /// Of a remove.
    pub(super) force: bool,
}

/// Where the values of a get go.
pub(super) enum Targets {
    /// Into fresh vectors.
    Owned,
    /// Nowhere, where they can be used in place.
    Views,
    /// Into a caller's buffers.
    Into(Target, Shape),
}

/// What goes where in a caller's buffers.
pub(crate) struct Shape {
    /// The buffers of each item.
    pub(crate) places: Vec<Range<usize>>,
    /// If ranges are wanted: where each begins, by the number of its buffer.
    pub(crate) offsets: Option<Rc<[u64]>>,
}

impl Shape {
    /// One buffer for each item.
    pub(super) fn one_each(items: usize) -> Self {
        Shape { places: (0..items).map(|item| item..item + 1).collect(), offsets: None }
    }
}

impl Targets {
    fn sink(&self, index: usize) -> Sink {
        match self {
            Targets::Owned => Sink::Owned,
            Targets::Views => Sink::View,
            Targets::Into(target, shape) => {
                let (target, places) = (target.clone(), shape.places[index].clone());
                match &shape.offsets {
                    None => Sink::Into(target, places),
                    Some(offsets) => Sink::Ranges(target, places, offsets.clone()),
                }
            }
        }
    }
}

/// Where an item is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Home,
    Holder(CoreId, Version),
}

/// An item without an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) index: usize,
    pub(super) place: Place,
    /// Requests for it that failed with their connection under the table of `broken_epoch`.
    pub(super) breaks: u8,
    pub(super) broken_epoch: Epoch,
    /// How often it was told to come again later.
    pub(super) pauses: u8,
    /// The epoch in which its home named the holder.
    pub(super) named_epoch: Epoch,
    /// It is asked for by frames, though there may be a lane.
    pub(super) by_frame: bool,
    /// How often a holder that its home had named had not got it; the home was told and asked again.
    pub(super) misses_at_holder: u8,
}

impl Open {
    fn new(index: usize) -> Self {
        Open {
            index,
            place: Place::Home,
            breaks: 0,
            broken_epoch: Epoch(0),
            pauses: 0,
            named_epoch: Epoch(0),
            by_frame: false,
            misses_at_holder: 0,
        }
    }
}

/// Items that one core is asked for.
pub(super) struct Group {
    pub(super) member: Member,
    pub(super) opcode: Opcode,
    pub(super) items: Vec<Open>,
}

/// A step of a batch.
pub(super) enum Job {
    Ask(Group),
    Wait { items: Vec<Open>, refresh: bool, hint: Option<SocketAddr>, pause: Duration },
}

/// What a step came to.
pub(super) enum Done {
    /// The group that was asked, what it answered, and the items that did not fit into the frame.
    Asked {
        group: Group,
        result: Result<Reply, LinkError>,
        rest: Vec<Open>,
    },
    Waited(Vec<Open>),
}

/// The answers so far, by index.
pub(super) type Answers = Vec<Option<Result<Answered, Error>>>;

impl<P: Platform> Session<P> {
    /// Carries the work out: an answer for each item, at the deadline at the latest.
    pub(super) async fn carry_out(
        self: &Rc<Self>,
        work: &Work<'_>,
        deadline: Moment,
    ) -> Vec<Result<Answered, Error>> {
        let mut answers: Answers = work.names.iter().map(|_| None).collect();
        if answers.is_empty() {
            return Vec::new();
        }
        let rest = {
            let run = pin!(self.run(work, deadline, &mut answers));
            match self.alarm.until(deadline, run).await {
                Some(Ok(())) => Error::Closed,
                Some(Err(error)) => error,
                None => self.expired(),
            }
        };
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(rest.clone()))).collect()
    }

    async fn run(
        self: &Rc<Self>,
        work: &Work<'_>,
        deadline: Moment,
        answers: &mut Answers,
    ) -> Result<(), Error> {
        let table = self.some_table().await?;
        let mut jobs = Vec::new();
        self.route(work, &table, (0..work.names.len()).map(Open::new), &mut jobs);
        let mut running = FuturesUnordered::new();
        loop {
            // One job at a time is the usual case, and needs no set.
            let done = match jobs.pop() {
                Some(job) if jobs.is_empty() && running.is_empty() => {
                    pin!(self.step(work, job, deadline)).await
                }
                job => {
                    running.extend(
                        job.into_iter().chain(jobs.drain(..)).map(|job| self.step(work, job, deadline)),
                    );
                    match running.next().await {
                        Some(done) => done,
                        None => return Ok(()),
                    }
                }
            };
            match done {
                Done::Waited(items) => {
                    self.route(work, &self.table_now(), items.into_iter(), &mut jobs);
                }
                Done::Asked { group, result, rest } => {
                    if !rest.is_empty() {
                        jobs.push(Job::Ask(Group { items: rest, ..group_of(&group) }));
                    }
                    self.settle(work, group, result, answers, &mut jobs);
                }
            }
        }
    }

    async fn step(self: &Rc<Self>, work: &Work<'_>, job: Job, deadline: Moment) -> Done {
        match job {
            Job::Wait { items, refresh, hint, pause } => {
                if refresh {
                    // Without a newer table we ask again by the old one, and learn whether that still fails.
                    let _ = self.refresh(hint).await;
                }
                if !pause.is_zero() {
                    self.shared.platform.sleep(pause).await;
                }
                Done::Waited(items)
            }
            Job::Ask(mut group) => {
                let rest = group.items.split_off(frame_items(work, &group));
                let result = self.ask_group(work, &group, deadline).await;
                Done::Asked { group, result, rest }
            }
        }
    }

    async fn ask_group(
        self: &Rc<Self>,
        work: &Work<'_>,
        group: &Group,
        deadline: Moment,
    ) -> Result<Reply, LinkError> {
        let link = self.link(group.member.address);
        let connection = match link.open_connection() {
            Some(connection) => connection,
            None => link.connection().await?,
        };
        if connection.welcome().core_id() != group.member.id {
            let reason = format!("core {} listens there", connection.welcome().core_id());
            return Err(LinkError::Unreachable { reason, is_old: false });
        }
        if self.shared.transport == Transport::SharedMemory && !connection.is_local() {
            let folder = self.shared.local_sockets.display();
            let reason = format!("it shares no memory at {folder}: see snowskin-engine --local-sockets");
            return Err(LinkError::Unreachable { reason, is_old: false });
        }
        if let Some(lane) = connection.lane().filter(|_| takes_lane(group)) {
            return self.wait_for(group, pin!(lane.carry_out(lane_work(work, group)))).await;
        }
        let frame = match build_frame(work, group) {
            Ok(frame) => frame,
            // The caller has its buffers back, so it has its answer too; nobody will read this.
            Err(LoanEnded) => return Err(LinkError::Overloaded),
        };
        let sinks = match group.opcode {
            Opcode::Get => group.items.iter().map(|item| work.targets.sink(item.index)).collect(),
            _ => Vec::new(),
        };
        self.wait_for(group, pin!(connection.ask(frame, sinks, self.shared.epoch.get(), deadline)?)).await
    }

    /// Waits for a reply, and has doubts when it takes long.
    async fn wait_for(
        self: &Rc<Self>,
        group: &Group,
        mut reply: Pin<&mut impl Future<Output = Result<Reply, LinkError>>>,
    ) -> Result<Reply, LinkError> {
        loop {
            let doubt = self.shared.platform.now() + DOUBT_AFTER;
            match self.alarm.until(doubt, reply.as_mut()).await {
                Some(reply) => return reply,
                // If it is dead, the table that says so ends the wait. If only the connection is, the question for the
                // table shows it.
                None => self.start_refresh(Some(group.member.address)),
            }
        }
    }

    /// Makes jobs that ask for `items`; those that no core can answer now wait.
    pub(super) fn route(
        &self,
        work: &Work<'_>,
        table: &RoutingTable,
        items: impl Iterator<Item = Open>,
        jobs: &mut Vec<Job>,
    ) {
        let first = jobs.len();
        // Which job asks a member: one for homes, one for holders.
        let mut job_of = Vec::new();
        let mut homeless = Vec::new();
        for item in items {
            let (found, is_holder) = match item.place {
                Place::Home => {
                    (table.homes.get(work.names[item.index].as_ref().slot().index()).copied(), false)
                }
                Place::Holder(core, version) => {
                    let found = table.index_of(core);
                    let is_news = table.epoch < item.named_epoch && !seeded_bug!("older table believed");
                    if found.is_none() && is_news {
                        // It joined after our table was made.
                        homeless.push(item);
                        continue;
                    }
                    if found.is_none() {
                        // There may be another one.
                        self.forget(work, item.index, (core, version), MissReason::OwnerLost);
                        homeless.push(Open { place: Place::Home, ..item });
                        continue;
                    }
                    (found, true)
                }
            };
            let member = found.map(usize::from).and_then(|index| Some((index, *table.members.get(index)?)));
            let Some((index, member)) = member else {
                homeless.push(item);
                continue;
            };
            if job_of.is_empty() {
                job_of.resize(table.members.len() * 2, usize::MAX);
            }
            let job = &mut job_of[index * 2 + usize::from(is_holder)];
            if *job == usize::MAX {
                *job = jobs.len();
                let opcode = if is_holder { holder_opcode(work.opcode) } else { work.opcode };
                jobs.push(Job::Ask(Group { member, opcode, items: Vec::new() }));
            }
            match &mut jobs[*job] {
                Job::Ask(group) => group.items.push(item),
                Job::Wait { .. } => unreachable!("jobs from {first} on are made here"),
            }
        }
        if !homeless.is_empty() {
            jobs.push(Job::Wait {
                items: homeless,
                refresh: true,
                hint: None,
                pause: Duration::from_millis(20),
            });
        }
    }
}

fn group_of(group: &Group) -> Group {
    Group { member: group.member, opcode: group.opcode, items: Vec::new() }
}

/// A holder knows no order of keys: it is asked one by one for what `match_prefix` found.
fn holder_opcode(opcode: Opcode) -> Opcode {
    if opcode == Opcode::MatchPrefix { Opcode::Lookup } else { opcode }
}

/// How many of the group's items go into one frame.
fn frame_items(work: &Work<'_>, group: &Group) -> usize {
    let is_put = work.opcode.request_has_payload();
    let (mut body_bytes, mut payload_bytes, mut count) = (0, 0_u64, 0);
    for item in group.items.iter().take(BATCH_ITEMS_MAX) {
        body_bytes += item_bytes(is_put) + work.names[item.index].bytes().len();
        if is_put {
            payload_bytes = payload_bytes.saturating_add(work.values[item.index].bytes());
        }
        let is_over = body_bytes > BODY_BYTES_MAX || payload_bytes > PUT_PAYLOAD_BYTES_TARGET;
        if count > 0 && is_over {
            break;
        }
        count += 1;
    }
    count
}

fn item_bytes(is_put: bool) -> usize {
    if is_put { size_of::<PutItem>() } else { size_of::<KeyItem>() }
}

fn build_frame(work: &Work<'_>, group: &Group) -> Result<Frame, LoanEnded> {
    let is_put = work.opcode.request_has_payload();
    let names = || group.items.iter().map(|item| (item, work.names[item.index].as_ref()));
    let body_bytes = names().map(|(_, name)| item_bytes(is_put) + name.bytes().len()).sum();
    if !is_put {
        let items = names().map(|(item, name)| (key_item(work, item, name), name));
        return Ok(Frame::batch(group.opcode, body_bytes, items));
    }
    let value = |item: &Open| &work.values[item.index];
    let put_item = |(item, name)| (value(item).item(name), name);
    let mut frame = Frame::batch(group.opcode, body_bytes, names().map(put_item));
    for item in &group.items {
        frame.push_value(value(item))?;
    }
    Ok(frame)
}

/// Whether a group can be asked for in a lane.
fn takes_lane(group: &Group) -> bool {
    use Opcode::{Get, Lookup, MatchPrefix, Put, Upsert};
    matches!(group.opcode, Get | Lookup | MatchPrefix | Put | Upsert)
        && !group.items.iter().any(|item| item.by_frame)
}

fn lane_work<'a>(work: &'a Work<'_>, group: &Group) -> LaneWork<'a> {
    let is_put = work.opcode.request_has_payload();
    let names: Vec<_> = group.items.iter().map(|item| work.names[item.index].as_ref()).collect();
    let named = || group.items.iter().zip(&names);
    LaneWork {
        opcode: group.opcode,
        items: if is_put {
            Vec::new()
        } else {
            named().map(|(item, name)| key_item(work, item, *name)).collect()
        },
        sinks: match group.opcode {
            Opcode::Get => group.items.iter().map(|item| work.targets.sink(item.index)).collect(),
            _ => Vec::new(),
        },
        values: if is_put {
            group.items.iter().map(|item| &work.values[item.index]).collect()
        } else {
            Vec::new()
        },
        names,
    }
}

fn key_item(work: &Work<'_>, item: &Open, name: snowskin_protocol::NameRef<'_>) -> KeyItem {
    let key = match item.place {
        Place::Home => KeyItem::at_home(name),
        Place::Holder(_, version) => KeyItem::at_holder(name, version),
    };
    KeyItem { flags: if work.force { KeyItem::FORCE } else { 0 }, ..key }
}
