//! One lane, as the core sees it: what was asked, and what its client holds.

use super::LaneError;
use super::client::Client;
use super::loads::{Fetched, KEPT_FOR, LOADS_MAX, LoadKey, Loads};
use crate::percore::PerCore;
use crate::segment::{Extent, Segments, allocated_bytes};
use crate::shard::{PutTicket, ReaderId, Shard};
use crate::tiering::Cold;
use snowskin_io::lane::{Access, LANE_PINS_MAX, LaneRegion, SegmentNews, Server};
use snowskin_io::{Bell, Lane, Moment, Platform, seeded_bug};
use snowskin_protocol::NameRef;
use snowskin_protocol::wire::lane::SharedPlace;
use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::rc::Rc;

/// Pins are taken back at the latest when so many, or pins of so much, have been given since the last time.
const PINS_AT_LARGE: u32 = 32;
const PINNED_BYTES_AT_LARGE: u64 = 4 << 20;
/// Values that a lane's client may have reserved at a time.
const PUTS_MAX: usize = 1024;

/// A lane.
pub(super) struct Served<B> {
    pub(super) server: RefCell<Server<LaneRegion>>,
    pub(super) bell: RefCell<B>,
    /// It is looked at.
    pub(super) is_awake: Cell<bool>,
    /// It is of no more use.
    pub(super) is_over: Cell<bool>,
    /// Looks in which nothing had come.
    pub(super) quiet_looks: Cell<u32>,
    /// Requests so far.
    pub(super) requests: Cell<u32>,
    client: Rc<Client>,
    /// Its client finds values on the shelf.
    reader: Cell<Option<ReaderId>>,
    /// Pins given since pins were taken back, and the bytes of their values.
    given: Cell<(u32, u64)>,
    pins: RefCell<Slab<Extent>>,
    puts: RefCell<Slab<Put>>,
    loads: RefCell<Loads<Extent>>,
    /// Somebody sees to it that loads do not stay for ever.
    is_swept: Cell<bool>,
    /// Segments that the client knows, the last one first.
    shown: RefCell<Vec<u32>>,
    /// Segments that the client knows and that are gone, which it has not been told.
    untold: RefCell<Vec<u32>>,
    /// It has been told something since the last reply.
    pub(super) has_news: Cell<bool>,
}

/// A value that the client is writing.
pub(super) struct Put {
    pub(super) ticket: PutTicket,
    /// Of the object, as [`NameRef::bytes`].
    pub(super) name: Vec<u8>,
    pub(super) replace: bool,
}

/// What a reservation costs: its memory, and the name that is kept with it.
fn reserved_bytes(ticket: &PutTicket, name: &[u8]) -> u64 {
    allocated_bytes(ticket.bytes()) + name.len() as u64
}

/// Shows a client the shelf, if there is one and it can be told now.
fn show_shelf<B: Bell>(lane: &Lane<B>, shard: &mut Shard) -> Option<ReaderId> {
    let (memory, cards) = shard.shelf()?;
    let news = SegmentNews { segment: 0, access: Access::Shelf, bytes: cards };
    lane.bell.show(&news, Some(memory)).ok()?;
    shard.add_reader(&lane.memory)
}

/// A load of a lane that is under way, counted.
struct Loading<P: Platform>(Rc<PerCore<P>>);

impl<P: Platform> Loading<P> {
    fn new(core: &Rc<PerCore<P>>) -> Self {
        core.lanes.loading.set(core.lanes.loading.get() + 1);
        Loading(core.clone())
    }
}

impl<P: Platform> Drop for Loading<P> {
    fn drop(&mut self) {
        let loading = &self.0.lanes.loading;
        loading.set(loading.get() - 1);
    }
}

/// Things by number: the numbers of things that are gone are used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    #[inline]
    fn insert(&mut self, thing: T) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.places[number as usize] = Some(thing);
                number
            }
            None => {
                self.places.push(Some(thing));
                self.places.len() as u32 - 1
            }
        }
    }

    fn remove(&mut self, number: u32) -> Option<T> {
        let thing = self.places.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(thing)
    }

    fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(self).places.into_iter().flatten()
    }
}

impl<B: Bell> Served<B> {
    pub(super) fn new(lane: Lane<B>, client: Rc<Client>, cpu: Option<u32>, shard: &mut Shard) -> Self {
        let reader = show_shelf(&lane, shard);
        let server = Server::new(lane.memory);
        if let Some(cpu) = cpu {
            server.show_cpu(cpu);
        }
        Served {
            server: RefCell::new(server),
            bell: RefCell::new(lane.bell),
            is_awake: Cell::new(false),
            is_over: Cell::new(false),
            quiet_looks: Cell::new(0),
            requests: Cell::new(0),
            client,
            reader: Cell::new(reader),
            given: Cell::default(),
            pins: RefCell::default(),
            puts: RefCell::default(),
            loads: RefCell::default(),
            is_swept: Cell::new(false),
            shown: RefCell::default(),
            untold: RefCell::default(),
            has_news: Cell::new(reader.is_some()),
        }
    }

    /// Its client, if that finds values on the shelf.
    #[inline]
    pub(super) fn reader(&self) -> Option<ReaderId> {
        self.reader.get()
    }

    /// Pins that its client holds, as far as we know.
    pub(super) fn pins(&self) -> usize {
        self.pins.borrow().len()
    }

    /// Values that its client is writing.
    pub(super) fn puts(&self) -> usize {
        self.puts.borrow().len()
    }

    // -- what the client holds --

    /// Whether the client may pin another value.
    #[inline]
    pub(super) fn may_pin(&self, bytes: u64, capacity_bytes: u64) -> bool {
        let may_pin =
            self.client.may_pin(allocated_bytes(bytes), capacity_bytes) || seeded_bug!("lane pins unlimited");
        self.pins() < LANE_PINS_MAX && may_pin
    }

    /// Whether the client may reserve room for another value.
    pub(super) fn may_reserve(&self, bytes: u64, capacity_bytes: u64) -> bool {
        self.puts() < PUTS_MAX && self.client.may_reserve(allocated_bytes(bytes), capacity_bytes)
    }

    /// Whether the client may soon pin nothing more: then what it has given back is worth a look.
    #[inline]
    pub(super) fn is_near_its_share(&self, capacity_bytes: u64) -> bool {
        self.pins() >= LANE_PINS_MAX / 2 || !self.client.may_pin(capacity_bytes / 8, capacity_bytes)
    }

    /// Keeps a pin for the client. `None`: the client cannot be shown where it is.
    #[inline]
    pub(super) fn pin(&self, extent: Extent, segments: &Segments) -> Option<SharedPlace> {
        let (number, offset) = extent.location();
        let (segment, _) = self.show(segments, number)?;
        self.client.pin(allocated_bytes(extent.bytes()));
        let (count, bytes) = self.given.get();
        self.given.set((count + 1, bytes + extent.bytes()));
        let handle = self.pins.borrow_mut().insert(extent);
        Some(SharedPlace { segment, handle, offset })
    }

    /// Keeps a reservation for the client. `None`: the client cannot write there, and the memory is free again.
    pub(super) fn reserve(
        &self,
        ticket: PutTicket,
        name: NameRef<'_>,
        replace: bool,
        segments: &Segments,
    ) -> Option<SharedPlace> {
        let (number, offset) = ticket.location();
        let Some((segment, Access::ReadWrite)) = self.show(segments, number) else { return None };
        self.client.reserve(reserved_bytes(&ticket, name.bytes()));
        let put = Put { ticket, name: name.bytes().to_vec(), replace };
        let handle = self.puts.borrow_mut().insert(put);
        Some(SharedPlace { segment, handle, offset })
    }

    /// The reservation that the client has filled, or given up.
    pub(super) fn take_put(&self, handle: u32) -> Result<Put, LaneError> {
        let put = self.puts.borrow_mut().remove(handle).ok_or(LaneError::Put(handle))?;
        self.client.unreserve(reserved_bytes(&put.ticket, &put.name));
        Ok(put)
    }

    /// The client asks nothing any more: what it had reserved is nobody's, nor is what was loaded for it. Its views go on.
    pub(super) fn retire(&self, shard: &mut Shard) {
        for put in self.puts.borrow_mut().drain() {
            self.give_up(put, shard);
        }
        self.let_go(self.loads.borrow_mut().clear());
    }

    fn give_up(&self, put: Put, shard: &mut Shard) {
        self.client.unreserve(reserved_bytes(&put.ticket, &put.name));
        match seeded_bug!("reservations outlive their lane") {
            true => std::mem::forget(put.ticket),
            false => shard.abandon_put(put.ticket),
        }
    }

    /// Takes back the pins that the client has given back, and says how many; unless it is being served just now.
    pub(super) fn take_back(&self) -> Result<usize, LaneError> {
        match self.server.try_borrow_mut() {
            Ok(mut server) => self.take_back_from(&mut server),
            Err(_) => Ok(0),
        }
    }

    /// The same while it is being served, if it pays: to look costs both sides a line of memory. What is not taken back now is
    /// when the lane sleeps, or memory is short.
    pub(super) fn take_back_some(&self, server: &mut Server<LaneRegion>) -> Result<(), LaneError> {
        let (count, bytes) = self.given.get();
        if count >= PINS_AT_LARGE || bytes >= PINNED_BYTES_AT_LARGE {
            self.take_back_from(server)?;
        }
        Ok(())
    }

    /// The same while it is being served.
    pub(super) fn take_back_from(&self, server: &mut Server<LaneRegion>) -> Result<usize, LaneError> {
        self.given.set((0, 0));
        let (mut wrong, mut count) = (None, 0);
        let mut pins = self.pins.borrow_mut();
        server.given_back(|pin| match pins.remove(pin) {
            Some(extent) => {
                self.client.unpin(allocated_bytes(extent.bytes()));
                count += 1;
            }
            None => wrong = Some(pin),
        })?;
        wrong.map_or(Ok(count), |pin| Err(LaneError::Pin(pin)))
    }

    /// The client is gone, and all that it held is nobody's.
    pub(super) fn end(&self, shard: &mut Shard, now: Moment) {
        self.is_over.set(true);
        self.client.leave();
        if let Some(reader) = self.reader.take() {
            shard.remove_reader(reader, now);
        }
        for extent in self.pins.borrow_mut().drain() {
            self.client.unpin(allocated_bytes(extent.bytes()));
            if seeded_bug!("pins outlive their lane") {
                std::mem::forget(extent);
            }
        }
        self.retire(shard);
    }

    /// Ends the lane, because of what its client has done.
    pub(super) fn close(&self, why: &LaneError) {
        log::warn!("closing a lane: {why}");
        self.is_over.set(true);
        self.bell.borrow().close();
    }

    // -- loads --

    /// What there is of an object on the SSD; what has come is the caller's to pin.
    pub(super) fn fetch(&self, key: LoadKey, value_bytes: u64) -> Fetched<Extent> {
        let fetched = self.loads.borrow_mut().fetch(key);
        if matches!(fetched, Fetched::Here(_) | Fetched::Failed) {
            self.let_go([value_bytes]);
        }
        fetched
    }

    /// An object was read from memory: what was loaded of it is of no use.
    #[inline]
    pub(super) fn forget_load(&self, key: LoadKey) {
        if self.loads.borrow().len() > 0 {
            let forgotten = self.loads.borrow_mut().forget(key);
            self.let_go(forgotten);
        }
    }

    /// Whether another value of so many bytes may be loaded for the client.
    pub(super) fn may_load(&self, value_bytes: u64, capacity_bytes: u64) -> bool {
        self.loads.borrow().len() < LOADS_MAX && self.may_pin(value_bytes, capacity_bytes)
    }

    /// A value is being loaded for the client, and counts as if it were pinned.
    pub(super) fn begin_load(&self, key: LoadKey, value_bytes: u64) {
        self.client.pin(allocated_bytes(value_bytes));
        self.loads.borrow_mut().begin(key, value_bytes);
    }

    /// It has come, or cannot.
    fn end_load(&self, key: LoadKey, value: Option<Extent>, now: Moment) {
        if self.loads.borrow_mut().end(key, value, now) {
            self.tell_arrivals();
        }
    }

    /// There is something to ask for again.
    fn tell_arrivals(&self) {
        let mut server = self.server.borrow_mut();
        server.arrive();
        if server.wakes_caller() {
            self.bell.borrow().ring();
        }
    }

    /// Tells of what has come beside something that takes long, and lets go what nobody has fetched in time.
    fn sweep(&self, now: Moment) {
        let is_untold = self.loads.borrow_mut().take_untold();
        if is_untold {
            self.tell_arrivals();
        }
        let expired =
            self.loads.borrow_mut().expire(Moment(now.0.saturating_sub(KEPT_FOR.as_nanos() as u64)));
        self.let_go(expired);
    }

    fn let_go(&self, value_bytes: impl IntoIterator<Item = u64>) {
        value_bytes.into_iter().for_each(|bytes| self.client.unpin(allocated_bytes(bytes)));
    }

    /// Loads an object, which was begun, for the client.
    pub(super) fn load<P: Platform>(self: &Rc<Self>, core: &Rc<PerCore<P>>, cold: Cold) {
        let under_way = Loading::new(core);
        let (core_of_load, lane) = (core.clone(), self.clone());
        core.platform.spawn(async move {
            let core = core_of_load;
            let tier = core.tier.get().expect("something is on it");
            let value = tier.load_one(&core, &cold).await;
            drop(under_way);
            lane.end_load((cold.name.as_ref().hash(), cold.demoted.version), value, core.platform.now());
        });
        if !self.is_swept.replace(true) {
            let (core_of_sweep, lane) = (core.clone(), self.clone());
            core.platform.spawn(async move {
                while lane.loads.borrow().len() > 0 {
                    core_of_sweep.platform.sleep(KEPT_FOR / 2).await;
                    lane.sweep(core_of_sweep.platform.now());
                }
                lane.is_swept.set(false);
            });
        }
    }

    // -- segments --

    /// Sees to it that the client knows a segment, and says which it is and what the client may do. `None`: it cannot be told
    /// now.
    #[inline]
    fn show(&self, segments: &Segments, number: u16) -> Option<(u32, Access)> {
        let (serial, mapping) = (segments.serial(number), segments.mapping(number));
        let access = if mapping.is_writable_by_others() { Access::ReadWrite } else { Access::Read };
        let mut shown = self.shown.borrow_mut();
        match shown.iter().position(|&known| known == serial) {
            Some(0) => return Some((serial, access)),
            Some(place) => shown.swap(0, place),
            None => {
                let memory = mapping.share().ok()?;
                let news = SegmentNews { segment: serial, access, bytes: mapping.bytes() as u64 };
                self.bell.borrow().show(&news, Some(memory.as_fd())).ok()?;
                self.has_news.set(true);
                shown.insert(0, serial);
            }
        }
        Some((serial, access))
    }

    /// A segment is gone.
    pub(super) fn tell_gone(&self, serial: u32) {
        let mut shown = self.shown.borrow_mut();
        if let Some(place) = shown.iter().position(|&known| known == serial) {
            shown.remove(place);
            self.untold.borrow_mut().push(serial);
            self.tell();
        }
    }

    /// Tells the client what it does not know yet, as far as its socket takes it.
    #[inline]
    pub(super) fn tell(&self) {
        let mut untold = self.untold.borrow_mut();
        while let Some(&segment) = untold.last() {
            let news = SegmentNews { segment, access: Access::Gone, bytes: 0 };
            if self.bell.borrow().show(&news, None).is_err() {
                return;
            }
            self.has_news.set(true);
            untold.pop();
        }
    }

    // -- asleep and awake --

    /// Notes whether something had come; whether the lane has been quiet for long, or is over.
    pub(super) fn note_look(&self, has_come: bool) -> bool {
        self.quiet_looks.set(if has_come { 0 } else { self.quiet_looks.get() + 1 });
        self.is_quiet() || self.is_over.get()
    }

    /// Whether nothing has come for long.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet_looks.get() >= super::QUIET_LOOKS
    }

    /// Lets the lane sleep, unless something has come after all: from now on its client rings.
    pub(super) fn doze(&self) -> bool {
        let mut server = self.server.borrow_mut();
        if let Err(error) = self.take_back_from(&mut server) {
            self.close(&error);
        }
        let sleeps = self.is_over.get() || server.is_retired() || server.doze();
        if !sleeps {
            server.rise();
        }
        self.is_awake.set(!sleeps);
        self.quiet_looks.set(0);
        sleeps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::collections::BTreeMap;

    quickcheck! {
        fn a_slab_is_a_map_with_numbers_of_its_own(steps: Vec<(bool, u8)>) -> bool {
            let mut slab = Slab::default();
            let mut model = BTreeMap::<u32, u8>::new();
            let mut most = 0;
            for (is_insert, number) in steps {
                if is_insert {
                    let at = slab.insert(number);
                    assert!(model.insert(at, number).is_none(), "a number of something else");
                    most = most.max(model.len());
                    assert!((at as usize) < most, "numbers are used again");
                } else {
                    assert_eq!(slab.remove(number.into()), model.remove(&number.into()));
                }
                assert_eq!(slab.len(), model.len());
            }
            slab.drain().eq(model.into_values()) && slab.len() == 0
        }
    }
}
