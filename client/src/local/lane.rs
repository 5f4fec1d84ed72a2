//! A lane, as one call uses it: requests under way, each with the items it is about.

use super::Counts;
use crate::lane::{Atlas, BodyWriter, LaneAnswer, LaneEnd, place_of};
use snowskin_io::Lane;
use snowskin_io::lane::{Heard, host_ms};
use snowskin_io::sockets::{BlockingBell, SocketsBell};
use snowskin_protocol::wire::data::{ItemStatus, NamedItem};
use snowskin_protocol::wire::lane::{LaneOpcode, LaneRecord, PublishItem};
use snowskin_protocol::{Epoch, NameRef};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A lane as a session has opened it.
pub(crate) type OpenedLane = Lane<SocketsBell>;

/// A lane. Never shared: one call has it, or it is idle.
pub(crate) struct LocalLane {
    pub(super) end: LaneEnd,
    bell: BlockingBell,
    /// The request that is being written.
    asking: Draft,
    /// The request to publish what has been written.
    publishing: Draft,
    /// What is under way, in order.
    flights: VecDeque<Flight>,
    /// What was found without asking, and the places of these in the call.
    found: (Vec<LaneRecord>, Vec<u32>),
    spare: Vec<Vec<u32>>,
    pub(super) answer: LaneAnswer,
    /// Places of the call whose values are loading.
    loading: Vec<u32>,
    /// Arrivals when it was last asked for such values.
    arrivals: u32,
    is_broken: bool,
    pub(super) counts: Counts,
    /// How long calls have waited in the kernel for replies.
    slept: Duration,
    /// How long this call has waited for values that were loading.
    waited: Duration,
}

/// A request that is being written.
#[derive(Default)]
struct Draft {
    body: BodyWriter,
    /// The places of its items in the call.
    places: Vec<u32>,
}

/// A request under way.
pub(super) struct Flight {
    pub(super) opcode: LaneOpcode,
    /// The places of its items in the call.
    pub(super) places: Vec<u32>,
}

/// The lane is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneEnded;

impl LocalLane {
    pub(super) fn new(lane: OpenedLane, atlas: &Arc<Atlas>, spin: Duration) -> Self {
        LocalLane {
            end: LaneEnd::new(lane.memory, lane.life, atlas.clone()),
            bell: BlockingBell::new(lane.bell, spin),
            asking: Draft::default(),
            publishing: Draft::default(),
            slept: Duration::ZERO,
            waited: Duration::ZERO,
            flights: VecDeque::new(),
            found: Default::default(),
            spare: Vec::new(),
            answer: LaneAnswer::default(),
            loading: Vec::new(),
            arrivals: 0,
            is_broken: false,
            counts: Counts::default(),
        }
    }

    /// Whether it is of no more use.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// It is of no more use: what is under way in it can no longer be told from what comes after.
    pub(super) fn break_down(&mut self, reason: &str) -> LaneEnded {
        log::debug!("a lane ends: {reason}");
        self.end.retire();
        self.is_broken = true;
        LaneEnded
    }

    // -- asking --

    /// Adds an item to the request that is being written, if it fits.
    pub(super) fn push<T: NamedItem>(&mut self, item: T, name: NameRef<'_>, place: u32) -> bool {
        let fits = self.asking.body.push(item, name);
        if fits {
            self.asking.places.push(place);
        }
        fits
    }

    /// Adds a value to publish; a request has room for as many as were reserved by one.
    pub(super) fn push_publish(&mut self, item: PublishItem, place: u32) {
        assert!(self.publishing.body.push_publish(item), "as many as were reserved together");
        self.publishing.places.push(place);
    }

    /// Whether nothing is to be asked yet.
    pub(super) fn is_clear(&self) -> bool {
        self.asking.body.count() == 0
    }

    /// Whether another request can be sent without taking a reply first.
    pub(super) fn has_room(&self) -> bool {
        self.end.has_room()
    }

    /// Sends the request that has been written.
    pub(super) fn send(&mut self, opcode: LaneOpcode, epoch: Epoch) {
        self.counts.request(opcode);
        let spare = self.spare.pop().unwrap_or_default();
        let draft = if opcode == LaneOpcode::Publish { &mut self.publishing } else { &mut self.asking };
        let places = std::mem::replace(&mut draft.places, spare);
        if self.end.submit(opcode, places.len(), epoch, draft.body.finish()) {
            self.bell.ring();
        }
        draft.body.clear();
        self.flights.push_back(Flight { opcode, places });
    }

    /// Sends what has been written to publish, if there is anything. There is room: a reply has just been taken.
    pub(super) fn publish(&mut self, epoch: Epoch) {
        if self.publishing.body.count() > 0 {
            self.send(LaneOpcode::Publish, epoch);
        }
    }

    /// A value that is found without asking: see [`LaneEnd::find`].
    #[inline]
    pub(super) fn find(&mut self, hash: u64, name: &[u8]) -> Option<LaneRecord> {
        let found = self.end.find(hash, name, host_ms())?;
        self.counts.found += 1;
        if self.end.note_use(&found) {
            self.bell.ring();
        }
        Some(found)
    }

    /// The same for one of the names of a call, which is kept for [`LocalLane::take_found`]; whether it was found.
    pub(super) fn find_for(&mut self, place: u32, name: NameRef<'_>) -> bool {
        let found = self.find(name.hash(), name.bytes());
        if let Some(record) = found {
            self.found.0.push(record);
            self.found.1.push(place);
        }
        found.is_some()
    }

    /// What was found, into `self.answer`, as if it had been asked for.
    pub(super) fn take_found(&mut self) -> Option<Flight> {
        if self.found.1.is_empty() || self.is_broken {
            return None;
        }
        std::mem::swap(&mut self.answer.records, &mut self.found.0);
        self.found.0.clear();
        let spare = self.spare.pop().unwrap_or_default();
        let places = std::mem::replace(&mut self.found.1, spare);
        Some(Flight { opcode: LaneOpcode::Get, places })
    }

    /// Sends a request of one item, which is not written down before.
    #[inline]
    pub(super) fn send_one(&mut self, opcode: LaneOpcode, epoch: Epoch, body: &[u8]) {
        self.counts.request(opcode);
        if self.end.submit(opcode, 1, epoch, body) {
            self.bell.ring();
        }
    }

    /// Forgets what has been written and not sent.
    pub(super) fn forget(&mut self) {
        self.asking.body.clear();
        self.asking.places.clear();
    }

    /// How long this call has waited in the kernel for it to answer.
    pub(super) fn slept(&self) -> Duration {
        self.slept
    }

    /// How long this call has waited for values that were loading.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// How long the call has waited in the kernel, since the last time.
    pub(super) fn take_slept(&mut self) -> Duration {
        std::mem::take(&mut self.slept) + std::mem::take(&mut self.waited)
    }

    // -- replies --

    /// Whether requests are under way.
    pub(super) fn is_waiting(&self) -> bool {
        !self.flights.is_empty()
    }

    /// The next reply, into `self.answer`, and what it is about. Waits for it, for so long.
    pub(super) fn next_reply(&mut self, patience: Duration) -> Result<Flight, LaneEnded> {
        self.wait(patience)?;
        let Some(flight) = self.flights.pop_front() else {
            return Err(self.break_down("a reply that nobody waits for"));
        };
        let is_short = flight.opcode == LaneOpcode::MatchPrefix && !self.answer.records.is_empty();
        if self.answer.records.len() == flight.places.len()
            || (is_short && self.answer.records.len() < flight.places.len())
        {
            return Ok(flight);
        }
        Err(self.break_down("a reply has the wrong number of answers"))
    }

    /// The room of a flight that is over, for another one.
    pub(super) fn land(&mut self, flight: Flight) {
        let mut places = flight.places;
        places.clear();
        self.spare.push(places);
    }

    /// Waits for the next reply and takes it, with the segments that it needs.
    #[inline]
    pub(super) fn wait(&mut self, patience: Duration) -> Result<(), LaneEnded> {
        let LocalLane { bell, end, .. } = self;
        if !bell.look(|| end.server_cpu(), || end.has_reply()) {
            self.sleep(patience)?;
        }
        let taken = self.end.take(&mut self.answer);
        match taken {
            Ok(true) => {}
            Ok(false) => return Err(self.break_down("a reply has gone again")),
            Err(error) => return Err(self.break_down(&error.to_string())),
        }
        if self.answer.has_news || !self.end.knows_all(&self.answer.records) {
            self.learn()?;
        }
        Ok(())
    }

    /// Waits at the bell until the next reply is there.
    #[cold]
    fn sleep(&mut self, patience: Duration) -> Result<(), LaneEnded> {
        let begun = Instant::now();
        let until = begun + patience;
        let mut result = Ok(());
        while result.is_ok() && self.end.doze() {
            let left = until.saturating_duration_since(Instant::now());
            result = match self.bell.wait(left) {
                Ok(_) if !left.is_zero() => self.listen(),
                Ok(_) => Err(self.break_down("the engine is silent")),
                Err(error) => Err(self.break_down(&error.to_string())),
            };
        }
        self.end.rise();
        self.slept += begun.elapsed();
        result
    }

    /// Takes in all that can be heard.
    fn listen(&mut self) -> Result<(), LaneEnded> {
        loop {
            match self.bell.hear() {
                Heard::Silence => return Ok(()),
                heard => {
                    if !self.end.note(heard) {
                        return Err(self.break_down("the engine has closed the lane"));
                    }
                }
            }
        }
    }

    // -- what is on the SSD --

    /// Keeps in mind which values of a reply are loading.
    pub(super) fn note_loading(&mut self, flight: &Flight) {
        let loading = flight.places.iter().zip(&self.answer.records).filter(|(_, record)| is_loading(record));
        self.loading.extend(loading.map(|(place, _)| *place));
    }

    /// Whether values of this call are loading.
    pub(super) fn is_loading(&self) -> bool {
        !self.loading.is_empty()
    }

    /// Whether the only answer of a reply is that it is loading.
    #[inline]
    pub(super) fn is_one_loading(&self) -> bool {
        matches!(&self.answer.records[..], [record] if is_loading(record))
    }

    /// The places whose values are loading; they are to be asked for again.
    pub(super) fn take_loading(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.loading)
    }

    /// Waits until it is worth while to ask again for values that are loading, for so long; `false`: it is not. No request is under
    /// way meanwhile.
    #[cold]
    pub(super) fn await_arrival(&mut self, patience: Duration) -> bool {
        let begun = Instant::now();
        let until = begun + patience;
        while !self.is_broken && self.end.doze_until_arrival(self.arrivals) {
            let left = until.saturating_duration_since(Instant::now());
            // Whatever goes wrong breaks the lane.
            let _ = match self.bell.wait(left) {
                _ if left.is_zero() => break,
                Ok(_) => self.listen(),
                Err(error) => Err(self.break_down(&error.to_string())),
            };
        }
        self.end.rise();
        self.waited += begun.elapsed();
        let arrivals = self.end.arrivals();
        !self.is_broken && std::mem::replace(&mut self.arrivals, arrivals) != arrivals
    }

    /// Learns of segments: news was sent before the reply that needs it.
    #[cold]
    fn learn(&mut self) -> Result<(), LaneEnded> {
        self.listen()?;
        if self.end.knows_all(&self.answer.records) {
            return Ok(());
        }
        Err(self.break_down("the engine names a segment that it has not shown"))
    }

    /// Gives back what a call holds that ends before its time: pins of replies that nobody looked at.
    pub(super) fn give_back_rest(&self, from: usize) {
        for record in &self.answer.records[from..] {
            if let Some(place) = place_of(record) {
                self.end.give_back(place.handle);
            }
        }
    }
}

fn is_loading(record: &LaneRecord) -> bool {
    record.reply.status == ItemStatus::Loading
}
