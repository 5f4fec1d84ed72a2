//! Verbs that read: get, view, lookup, match_prefix.

use super::Local;
use super::batch::{Answers, Call, Manner, Verb};
use super::lane::{Flight, LaneEnded, LocalLane};
use crate::error::Error;
use crate::lane::{View, place_of};
use crate::outcome::Found;
use crate::room::Room;
use snowskin_io::memory::{copied, copied_checked};
use snowskin_protocol::wire::data::{ItemStatus, KeyItem};
use snowskin_protocol::wire::lane::{LaneOpcode, LaneRecord};
use snowskin_protocol::{MissReason, NameRef};
use std::time::Duration;

impl Local {
    /// Reads values into buffers, or ranges of them. Answers what has an answer here, and how long it has slept.
    pub(crate) fn get_into<R: Room + ?Sized>(
        &self,
        manner: Manner<'_>,
        reads: &mut [(&[u8], &mut R)],
    ) -> (Answers<Found<usize>>, Duration) {
        let (keys, rooms): (Vec<&[u8]>, Vec<Option<&mut R>>) =
            reads.iter_mut().map(|(key, room)| (*key, Some(&mut **room))).unzip();
        let mut verb = GetInto { answers: unanswered(keys.len()), rooms };
        let slept = Call::new(self, manner).run(&mut verb, keys.len(), |place| keys[place]);
        (verb.answers, slept)
    }

    /// Reads values into fresh vectors.
    pub(crate) fn get(&self, manner: Manner<'_>, keys: &[&[u8]]) -> (Answers<Found<Vec<u8>>>, Duration) {
        let mut verb = Each { answers: unanswered(keys.len()), take: take_copy };
        let slept = Call::new(self, manner).run(&mut verb, keys.len(), |place| keys[place]);
        (verb.answers, slept)
    }

    /// Reads values where they lie.
    pub(crate) fn view(&self, manner: Manner<'_>, keys: &[&[u8]]) -> (Answers<Found<View>>, Duration) {
        let mut verb = Each { answers: unanswered(keys.len()), take: take_view };
        let slept = Call::new(self, manner).run(&mut verb, keys.len(), |place| keys[place]);
        (verb.answers, slept)
    }

    /// Are these keys held, and how many bytes have their values?
    pub(crate) fn lookup(&self, manner: Manner<'_>, keys: &[&[u8]]) -> (Answers<Found<u64>>, Duration) {
        let mut verb = Lookup { answers: unanswered(keys.len()) };
        let slept = Call::new(self, manner).run(&mut verb, keys.len(), |place| keys[place]);
        (verb.answers, slept)
    }

    /// How many leading keys are held? `None`: that cannot be said here.
    pub(crate) fn match_prefix(
        &self,
        manner: Manner<'_>,
        keys: &[&[u8]],
    ) -> (Option<Result<usize, Error>>, Duration) {
        let mut verb = MatchPrefix { answers: unanswered(keys.len()), first_miss: u32::MAX };
        let slept = Call::new(self, manner).run(&mut verb, keys.len(), |place| keys[place]);
        let refused =
            verb.answers.iter_mut().find_map(|answer| answer.take_if(|answer| answer.is_err())?.err());
        if let Some(error) = refused {
            return (Some(Err(error)), slept);
        }
        let first = verb.answers.iter().position(|answer| !matches!(answer, Some(Ok(Found::Hit(_)))));
        let count = match first {
            None => Some(Ok(keys.len())),
            Some(place) => verb.answers[place].is_some().then_some(Ok(place)),
        };
        (count, slept)
    }
}

pub(super) fn unanswered<T>(count: usize) -> Answers<T> {
    (0..count).map(|_| None).collect()
}

/// The answer that a status is without any bytes; `None`: it is no final one.
pub(super) fn miss_of<T>(record: &LaneRecord) -> Option<Result<Found<T>, Error>> {
    match record.reply.status {
        ItemStatus::Miss => Some(Ok(Found::Miss(record.reply.miss.unwrap_or(MissReason::NotHeld)))),
        _ => None,
    }
}

/// The bytes that a record names.
pub(super) fn pinned_bytes<'l>(lane: &'l LocalLane, record: &LaneRecord) -> Option<&'l [u8]> {
    let place = place_of(record)?;
    lane.end.segment(place.segment)?.pinned(place.offset, record.reply.value_bytes)
}

pub(super) const STRANGE_PLACE: &str = "the engine names bytes that its segment has not got";

/// Into the caller's buffers, by several threads where that pays.
struct GetInto<'b, R: ?Sized> {
    answers: Answers<Found<usize>>,
    /// Taken when they are filled.
    rooms: Vec<Option<&'b mut R>>,
}

impl<R: Room + ?Sized> Verb for GetInto<'_, R> {
    type Item = KeyItem;
    const OPCODE: LaneOpcode = LaneOpcode::Get;

    fn item(&self, _place: u32, name: NameRef<'_>) -> Option<KeyItem> {
        Some(KeyItem::at_home(name))
    }

    fn settle(&mut self, local: &Local, lane: &mut LocalLane, flight: &Flight) -> Result<(), LaneEnded> {
        let mut jobs = Vec::with_capacity(flight.places.len());
        let mut copied = Vec::with_capacity(flight.places.len());
        for (&place, record) in flight.places.iter().zip(&lane.answer.records) {
            let place = place as usize;
            if place_of(record).is_none() {
                self.answers[place] = miss_of(record);
                continue;
            }
            let Some(value) = pinned_bytes(lane, record) else { return Err(lane.break_down(STRANGE_PLACE)) };
            let room = self.rooms[place].take().expect("each is filled once");
            match room.job(value) {
                Err(error) => self.answers[place] = Some(Err(error)),
                Ok(job) => {
                    jobs.push(job);
                    copied.push((place, record.reply.checksum, value.len()));
                }
            }
        }
        let received: u64 = copied.iter().map(|(.., bytes)| *bytes as u64).sum();
        let mut lane_mismatches = 0;
        if local.verify {
            let found = local.copiers.copy_checked(&mut jobs);
            for ((place, checksum, bytes), found) in copied.into_iter().zip(found) {
                lane_mismatches += u64::from(found != checksum);
                // Wrong bytes are the session's business: it asks again, and tells.
                self.answers[place] = (found == checksum).then_some(Ok(Found::Hit(bytes)));
            }
        } else {
            local.copiers.copy(&mut jobs);
            copied
                .into_iter()
                .for_each(|(place, _, bytes)| self.answers[place] = Some(Ok(Found::Hit(bytes))));
        }
        drop(jobs);
        lane.counts.value_bytes_received += received;
        lane.counts.checksum_mismatches += lane_mismatches;
        lane.give_back_rest(0);
        Ok(())
    }

    fn refuse(&mut self, place: u32, error: Error) {
        self.answers[place as usize] = Some(Err(error));
    }
}

/// What is made of each value by itself; `None`: it has wrong bytes. Whether its pin was taken over.
type Take<T> = fn(&Local, &LocalLane, &LaneRecord) -> Result<(Option<T>, bool), ()>;

struct Each<T> {
    answers: Answers<Found<T>>,
    take: Take<T>,
}

pub(super) fn take_copy(
    local: &Local,
    lane: &LocalLane,
    record: &LaneRecord,
) -> Result<(Option<Vec<u8>>, bool), ()> {
    let value = pinned_bytes(lane, record).ok_or(())?;
    if !local.verify {
        return Ok((Some(copied(value)), false));
    }
    let (copy, found) = copied_checked(value);
    Ok(((found == record.reply.checksum).then_some(copy), false))
}

fn take_view(_local: &Local, lane: &LocalLane, record: &LaneRecord) -> Result<(Option<View>, bool), ()> {
    let pinned = lane.end.pinned(record).ok_or(())?;
    Ok((Some(View::pinned(pinned, record.reply.checksum)), true))
}

impl<T> Verb for Each<T> {
    type Item = KeyItem;
    const OPCODE: LaneOpcode = LaneOpcode::Get;

    fn item(&self, _place: u32, name: NameRef<'_>) -> Option<KeyItem> {
        Some(KeyItem::at_home(name))
    }

    fn settle(&mut self, local: &Local, lane: &mut LocalLane, flight: &Flight) -> Result<(), LaneEnded> {
        for (at, &place) in flight.places.iter().enumerate() {
            let record = &lane.answer.records[at].clone();
            let Some(where_it_is) = place_of(record) else {
                self.answers[place as usize] = miss_of(record);
                continue;
            };
            match (self.take)(local, lane, record) {
                Ok((taken, keeps_pin)) => {
                    if !keeps_pin {
                        lane.end.give_back(where_it_is.handle);
                    }
                    lane.counts.value_bytes_received += record.reply.value_bytes;
                    self.answers[place as usize] = taken.map(|taken| Ok(Found::Hit(taken)));
                }
                Err(()) => return Err(lane.break_down(STRANGE_PLACE)),
            }
        }
        Ok(())
    }

    fn refuse(&mut self, place: u32, error: Error) {
        self.answers[place as usize] = Some(Err(error));
    }
}

struct Lookup {
    answers: Answers<Found<u64>>,
}

impl Verb for Lookup {
    type Item = KeyItem;
    const OPCODE: LaneOpcode = LaneOpcode::Lookup;

    fn item(&self, _place: u32, name: NameRef<'_>) -> Option<KeyItem> {
        Some(KeyItem::at_home(name))
    }

    fn settle(&mut self, _local: &Local, lane: &mut LocalLane, flight: &Flight) -> Result<(), LaneEnded> {
        for (&place, record) in flight.places.iter().zip(&lane.answer.records) {
            self.answers[place as usize] = found_of(record);
        }
        Ok(())
    }

    fn refuse(&mut self, place: u32, error: Error) {
        self.answers[place as usize] = Some(Err(error));
    }
}

pub(super) fn found_of(record: &LaneRecord) -> Option<Result<Found<u64>, Error>> {
    match record.reply.status {
        ItemStatus::Ok => Some(Ok(Found::Hit(record.reply.value_bytes))),
        _ => miss_of(record),
    }
}

/// A reply has no answers behind the first key of its request that is not held. What comes behind the first one in the
/// whole call does not matter.
struct MatchPrefix {
    answers: Answers<Found<u64>>,
    first_miss: u32,
}

impl Verb for MatchPrefix {
    type Item = KeyItem;
    const OPCODE: LaneOpcode = LaneOpcode::MatchPrefix;

    fn item(&self, place: u32, name: NameRef<'_>) -> Option<KeyItem> {
        (place < self.first_miss).then(|| KeyItem::at_home(name))
    }

    fn settle(&mut self, _local: &Local, lane: &mut LocalLane, flight: &Flight) -> Result<(), LaneEnded> {
        for (&place, record) in flight.places.iter().zip(&lane.answer.records) {
            let found = found_of(record);
            if matches!(found, Some(Ok(Found::Miss(_)))) {
                self.first_miss = self.first_miss.min(place);
            }
            self.answers[place as usize] = found;
        }
        Ok(())
    }

    fn refuse(&mut self, place: u32, error: Error) {
        self.answers[place as usize] = Some(Err(error));
    }
}
