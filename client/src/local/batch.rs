//! A call: its keys go into the lanes of their cores, request after request, and replies are settled as they come.
//!
//! While a core answers one request the next one is written, and while the caller copies values the core answers what it has.
//! A batch of any size needs no more than the slots of a lane.

use super::lane::{Flight, LaneEnded, LocalLane};
use super::{Directory, Local};
use crate::error::Error;
use arc_swap::Guard;
use snowskin_protocol::wire::data::NamedItem;
use snowskin_protocol::wire::lane::LaneOpcode;
use snowskin_protocol::{Epoch, NameRef};
use std::sync::Arc;
use std::time::Duration;

/// The answers of a call, by the place of the key; `None`: it has no final one here.
pub(crate) type Answers<T> = Vec<Option<Result<T, Error>>>;

/// What is asked for the keys of a call.
pub(super) trait Verb {
    /// The item that is asked for a key.
    type Item: NamedItem;

    /// How it is asked.
    const OPCODE: LaneOpcode;

    /// The item for the key at a place; `None`: it is none for a lane, or needs no asking any more.
    fn item(&self, place: u32, name: NameRef<'_>) -> Option<Self::Item>;

    /// Settles a reply, which is in `lane.answer`. May leave values in the lane that are to be published.
    fn settle(&mut self, local: &Local, lane: &mut LocalLane, flight: &Flight) -> Result<(), LaneEnded>;

    /// A key is none.
    fn refuse(&mut self, place: u32, error: Error);
}

/// How calls are made.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'a> {
    pub(crate) tenant: &'a str,
    /// How long a lane may be silent.
    pub(crate) patience: Duration,
    /// How long the call may take, with what the session does of it.
    pub(crate) deadline: Duration,
}

impl Manner<'_> {
    /// How long it may wait for a value that is loading, having waited for so long: there has to be time left for the session.
    pub(super) fn patience_for_arrival(&self, waited: Duration) -> Duration {
        self.deadline.saturating_sub(self.patience).saturating_sub(waited).min(self.patience)
    }
}

/// A call, and the lanes that it has taken.
pub(super) struct Call<'a> {
    local: &'a Local,
    manner: Manner<'a>,
    directory: Guard<Arc<Directory>>,
    /// With the place of the core among the members.
    lanes: Vec<(u16, Box<LocalLane>)>,
}

impl<'a> Call<'a> {
    pub(super) fn new(local: &'a Local, manner: Manner<'a>) -> Self {
        Call { local, manner, directory: local.directory.load(), lanes: Vec::new() }
    }

    /// Asks for the keys at places from 0 to `count` and settles all replies; what is on the SSD is waited for. Answers how long it has
    /// slept meanwhile.
    pub(super) fn run<'k, V: Verb>(
        mut self,
        verb: &mut V,
        count: usize,
        key: impl Fn(usize) -> &'k [u8],
    ) -> Duration {
        self.ask_all(verb, 0..count as u32, &key);
        while let Some(at) = self.lanes.iter().position(|(_, lane)| lane.is_loading()) {
            let waited = self.lanes.iter().map(|(_, lane)| lane.waited()).sum();
            let patience = self.manner.patience_for_arrival(waited);
            let lane = &mut *self.lanes[at].1;
            let has_come = lane.await_arrival(patience);
            let places = lane.take_loading();
            if has_come {
                self.ask_all(verb, places.into_iter(), &key);
            }
        }
        self.finish()
    }

    /// Asks for keys and settles all replies.
    fn ask_all<'k, V: Verb>(
        &mut self,
        verb: &mut V,
        places: impl Iterator<Item = u32>,
        key: &impl Fn(usize) -> &'k [u8],
    ) {
        let mut room = Vec::with_capacity(128);
        for place in places {
            let name = match NameRef::compose(self.manner.tenant, key(place as usize), &mut room) {
                Ok(name) => name,
                Err(error) => {
                    verb.refuse(place, error.into());
                    continue;
                }
            };
            let Some(home) = self.directory.home(name.hash()) else { continue };
            let Some(item) = verb.item(place, name) else { continue };
            let Some(at) = self.lane_to(home) else { continue };
            let lane = &mut *self.lanes[at].1;
            if V::OPCODE == LaneOpcode::Get && lane.find_for(place, name) {
                continue;
            }
            if !lane.push(item, name, place) {
                self.send::<V>(at, verb);
                self.lanes[at].1.push(item, name, place);
            }
        }
        for at in 0..self.lanes.len() {
            if !self.lanes[at].1.is_clear() {
                self.send::<V>(at, verb);
            }
        }
        // While the cores answer the rest.
        for (_, lane) in &mut self.lanes {
            settle_found(self.local, lane, verb);
        }
        while self.lanes.iter().any(|(_, lane)| lane.is_waiting() && !lane.is_broken()) {
            for at in 0..self.lanes.len() {
                self.settle_next(at, verb);
            }
        }
    }

    /// The place of the lane to a member. `None`: there is none, or it is of no use any more.
    fn lane_to(&mut self, home: u16) -> Option<usize> {
        let at = match self.lanes.iter().position(|(member, _)| *member == home) {
            Some(at) => at,
            None => {
                let lane = self.local.lane_to(&self.directory.cores[usize::from(home)])?;
                self.lanes.push((home, lane));
                self.lanes.len() - 1
            }
        };
        (!self.lanes[at].1.is_broken()).then_some(at)
    }

    /// How long this call may still wait for silent lanes, all together.
    fn patience(&self) -> Duration {
        let slept: Duration = self.lanes.iter().map(|(_, lane)| lane.slept()).sum();
        self.manner.patience.saturating_sub(slept)
    }

    fn epoch(&self) -> Epoch {
        self.directory.table.epoch
    }

    /// Sends what has been written, as soon as there is room.
    fn send<V: Verb>(&mut self, at: usize, verb: &mut V) {
        while !self.lanes[at].1.is_broken() && !self.lanes[at].1.has_room() {
            self.settle_next(at, verb);
        }
        let epoch = self.epoch();
        let lane = &mut *self.lanes[at].1;
        match lane.is_broken() {
            true => lane.forget(),
            false => lane.send(V::OPCODE, epoch),
        }
    }

    fn settle_next<V: Verb>(&mut self, at: usize, verb: &mut V) {
        let (epoch, patience) = (self.epoch(), self.patience());
        let lane = &mut *self.lanes[at].1;
        if lane.is_waiting() && !lane.is_broken() {
            settle(self.local, lane, verb, patience, epoch);
        }
    }

    fn finish(self) -> Duration {
        let mut slept = Duration::ZERO;
        for (member, mut lane) in self.lanes {
            slept += lane.take_slept();
            self.directory.cores[usize::from(member)].put_back(lane, &self.local.counters);
        }
        slept
    }
}

/// Settles what was found without asking.
fn settle_found<V: Verb>(local: &Local, lane: &mut LocalLane, verb: &mut V) {
    let Some(flight) = lane.take_found() else { return };
    // If what was found makes no sense, the lane is broken now.
    let _ = verb.settle(local, lane, &flight);
    lane.land(flight);
}

/// Waits for the next reply and settles it. Whatever goes wrong breaks the lane.
fn settle<V: Verb>(local: &Local, lane: &mut LocalLane, verb: &mut V, patience: Duration, epoch: Epoch) {
    let Ok(flight) = lane.next_reply(patience) else { return };
    if V::OPCODE == LaneOpcode::Get {
        lane.note_loading(&flight);
    }
    if verb.settle(local, lane, &flight).is_ok() {
        lane.publish(epoch);
    }
    lane.land(flight);
}
