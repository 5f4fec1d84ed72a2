//! Verbs that write: put and upsert. A value is written where it will lie, its checksum is made of what is written, and it is
//! seen by nobody before it is published.

use super::Local;
use super::batch::{Answers, Call, Manner, Verb};
use super::lane::{Flight, LaneEnded, LocalLane};
use super::reads::unanswered;
use crate::error::Error;
use crate::lane::place_of;
use crate::outcome::PutOutcome;
use snowskin_io::memory::CopyJob;
use snowskin_protocol::limits::VALUE_BYTES_MAX;
use snowskin_protocol::wire::data::{ItemStatus, PutHints, PutItem};
use snowskin_protocol::wire::lane::{LaneOpcode, LaneRecord, PublishItem};
use snowskin_protocol::{Checksum, NameRef};
use std::time::Duration;

impl Local {
    /// Stores values, each in pieces. Answers what has an answer here, and how long it has slept.
    pub(crate) fn put<'v>(
        &self,
        manner: Manner<'_>,
        replace: bool,
        count: usize,
        item: impl Fn(usize) -> (&'v [u8], &'v [&'v [u8]]),
        hints: &[PutHints],
    ) -> (Answers<PutOutcome>, Duration) {
        let key = |place: usize| item(place).0;
        let value = |place: u32| {
            let hints = hints.get(place as usize).copied().unwrap_or_default();
            (item(place as usize).1, hints)
        };
        let call = Call::new(self, manner);
        if replace {
            let mut verb = Put::<_, true> { answers: unanswered(count), value };
            let slept = call.run(&mut verb, count, key);
            return (verb.answers, slept);
        }
        let mut verb = Put::<_, false> { answers: unanswered(count), value };
        let slept = call.run(&mut verb, count, key);
        (verb.answers, slept)
    }
}

/// Puts, or (`REPLACE`) upserts.
struct Put<F, const REPLACE: bool> {
    answers: Answers<PutOutcome>,
    /// The pieces of the value at a place, and its hints.
    value: F,
}

impl<'v, F: Fn(u32) -> (&'v [&'v [u8]], PutHints), const REPLACE: bool> Verb for Put<F, REPLACE> {
    type Item = PutItem;
    const OPCODE: LaneOpcode = if REPLACE { LaneOpcode::ReserveUpsert } else { LaneOpcode::Reserve };

    fn item(&self, place: u32, name: NameRef<'_>) -> Option<PutItem> {
        let (pieces, hints) = (self.value)(place);
        let bytes = bytes_of(pieces);
        // What no value is, the session says. What is to be durable waits for the SSD, and replicas for other cores, which nobody does in
        // a lane.
        let is_slow = hints.has(PutHints::DURABLE) || hints.more_replicas() > 0;
        let is_fit = (1..=VALUE_BYTES_MAX).contains(&bytes) && !is_slow;
        is_fit.then(|| PutItem { hints, ..PutItem::new(name, bytes, Checksum(0)) })
    }

    fn settle(&mut self, local: &Local, lane: &mut LocalLane, flight: &Flight) -> Result<(), LaneEnded> {
        if flight.opcode == LaneOpcode::Publish {
            for (&place, record) in flight.places.iter().zip(&lane.answer.records) {
                self.answers[place as usize] = outcome_of(record);
            }
            return Ok(());
        }
        self.write(local, lane, flight)
    }

    fn refuse(&mut self, place: u32, error: Error) {
        self.answers[place as usize] = Some(Err(error));
    }
}

impl<'v, F: Fn(u32) -> (&'v [&'v [u8]], PutHints), const REPLACE: bool> Put<F, REPLACE> {
    /// Writes values where they were told to, and the request to publish them.
    fn write(&mut self, local: &Local, lane: &mut LocalLane, flight: &Flight) -> Result<(), LaneEnded> {
        let mut jobs = Vec::with_capacity(flight.places.len());
        let mut written = Vec::with_capacity(flight.places.len());
        for (&place, record) in flight.places.iter().zip(&lane.answer.records) {
            let Some(room_at) = place_of(record) else {
                self.answers[place as usize] = outcome_of(record);
                continue;
            };
            let (pieces, _) = (self.value)(place);
            let segment = lane.end.segment(room_at.segment);
            let room = segment.and_then(|segment| segment.reserved(room_at.offset, bytes_of(pieces)));
            let Some(room) = room else {
                return Err(lane.break_down("the engine names room that its segment has not got"));
            };
            jobs.push(CopyJob::gathered(room, pieces));
            written.push((place, room_at.handle));
        }
        let checksums = local.copiers.copy_checked(&mut jobs);
        drop(jobs);
        let mut bytes_sent = 0;
        for ((place, handle), checksum) in written.into_iter().zip(checksums) {
            bytes_sent += bytes_of((self.value)(place).0);
            lane.push_publish(PublishItem { handle, is_given_up: 0, checksum }, place);
        }
        lane.counts.value_bytes_sent += bytes_sent;
        Ok(())
    }
}

fn bytes_of(pieces: &[&[u8]]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

/// The answer that a status is; `None`: it is no final one.
fn outcome_of(record: &LaneRecord) -> Option<Result<PutOutcome, Error>> {
    match record.reply.status {
        ItemStatus::Ok => Some(Ok(PutOutcome::Stored)),
        ItemStatus::Exists => Some(Ok(PutOutcome::Existed)),
        ItemStatus::NoSpace => Some(Err(Error::NoSpace)),
        ItemStatus::TooLarge => Some(Err(Error::TooLarge)),
        _ => None,
    }
}
