//! The shelf: what clients of this machine read often they find themselves, see `snowskin_io::lane::ShelfRegion`.
//!
//! ```text
//!                  read in a lane, the second time              leaves its place, or is no entry any more
//!   entry, in memory ─────────────────────────────► on the shelf ──────────────────────────────────────► off it
//!                                                                                                          │ a client holds it
//!                                                                                                          ▼
//!                                                                                 its bytes are kept until it does not
//! ```
//!
//! A card stands for exactly what [`Shard::get`] would answer: it is taken back before the row goes, its bytes move, or the core stops
//! answering for its slot. Uses of cards are taken in before anything is decided by them: what to evict, what a lease protects.

use super::Shard;
use super::read_before::ReadBefore;
use super::row::{Place, Position};
use crate::segment::{Extent, ExtentId};
use snowskin_io::Moment;
use snowskin_io::lane::{
    CARD_NAME_BYTES_MAX, Card, CardId, HoldRegion, LaneRegion, Placed, ShelfRegion, Watch,
};
use snowskin_io::seeded_bug;
use snowskin_protocol::HashedName;
use snowskin_protocol::wire::lane::SharedPlace;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What is on the shelf, and what clients hold that was, is no more than this part of the memory: nobody can take it away from them.
const BYTES_SHARE: u64 = 2;

/// A card for so many bytes of memory, ...
const BYTES_A_CARD: u64 = 128 << 10;
/// ... of little memory for fewer, up to so many cards, ...
const BYTES_A_CARD_OF_FEW: u64 = 16 << 10;
const FEW_CARDS: u64 = 4096;
/// ... and no more than these: 16 MiB of cards are enough.
const CARDS_MAX: u64 = 65_536;
const CARDS_MIN: u64 = 16;

/// The eviction policy hears of the uses of a card so often at most: it looks at what happens in seconds, and each use costs it as much as
/// two reads cost a client.
const TOLD_EVERY: Duration = Duration::from_millis(50);
/// How long a card that nobody uses is left alone: not long enough to be in the way, and so that cards that are used do not take turns.
const IDLE_TIME: Duration = Duration::from_millis(100);

/// How many cards a core has with so much memory.
pub fn cards_for(capacity_bytes: u64) -> usize {
    let few = (capacity_bytes / BYTES_A_CARD_OF_FEW).min(FEW_CARDS);
    let cards = (capacity_bytes / BYTES_A_CARD).max(few);
    cards.clamp(CARDS_MIN, CARDS_MAX).next_power_of_two() as usize
}

/// The cards of a core, and who reads them.
#[derive(Debug)]
pub(super) struct Shelf {
    region: ShelfRegion,
    /// What each card stands for.
    cards: Vec<Option<Shelved>>,
    read_before: ReadBefore,
    /// Bytes of values on cards.
    bytes: u64,
    /// What was taken off while clients held it.
    held: Vec<(CardId, Extent)>,
    held_bytes: u64,
    readers: Vec<(ReaderId, Watch<HoldRegion>)>,
    readers_so_far: u64,
    /// Changes of slots that have been followed.
    changes: u64,
    /// Room for what is held now.
    room: Vec<CardId>,
    /// The latest moment that it was told.
    latest: Moment,
}

/// A lane whose client reads the shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderId(u64);

#[derive(Debug)]
struct Shelved {
    id: CardId,
    position: Position,
    hash: u64,
    extent: ExtentId,
    value_bytes: u64,
    /// When it was used last, as far as is known.
    used: Moment,
    /// When the eviction policy heard of a use last.
    told: Moment,
}

impl Shelf {
    fn new(region: ShelfRegion) -> Self {
        let count = region.cards();
        Shelf {
            region,
            cards: (0..count).map(|_| None).collect(),
            read_before: ReadBefore::new(count),
            bytes: 0,
            held: Vec::new(),
            held_bytes: 0,
            readers: Vec::new(),
            readers_so_far: 0,
            changes: 0,
            room: Vec::new(),
            latest: Moment::default(),
        }
    }

    /// The place of the card of a name with this hash.
    fn place_of(&self, hash: u64) -> Option<usize> {
        let has_it = |place: &usize| self.cards[*place].as_ref().is_some_and(|card| card.hash == hash);
        self.region.places(hash).find(has_it)
    }

    /// An empty place for the card of a name with this hash.
    fn empty_for(&self, hash: u64) -> Option<usize> {
        self.region.places(hash).find(|place| self.cards[*place].is_none())
    }

    /// The place of a card that could make room for such a one: nobody has used it for a while.
    fn idle_for(&self, hash: u64) -> Option<usize> {
        let is_idle = |place: &usize| {
            self.cards[*place].as_ref().is_some_and(|card| self.latest - card.used >= IDLE_TIME)
        };
        self.region.places(hash).find(is_idle)
    }

    /// Looks what is held.
    fn look(&mut self) {
        let Shelf { readers, room, .. } = self;
        room.clear();
        readers.iter().for_each(|(_, watch)| watch.held(|id| room.push(id)));
    }

    /// Lets go of bytes that were held when it was last looked before, and were not this time.
    fn let_go(&mut self) {
        let Shelf { held, held_bytes, room, .. } = self;
        held.retain(|(id, extent)| {
            let is_held = room.contains(id);
            *held_bytes -= if is_held { 0 } else { extent.bytes() };
            is_held
        });
    }
}

impl Shard {
    /// There is a shelf from now on.
    pub fn enable_shelf(&mut self, region: ShelfRegion) {
        self.shelf = Some(Shelf::new(region));
    }

    /// There is none any more: clients find nothing, and ask.
    pub fn end_shelf(&mut self) {
        self.shelf = None;
    }

    /// The memory of the shelf, for clients, and how many cards it has.
    pub fn shelf(&self) -> Option<(BorrowedFd<'_>, u64)> {
        let shelf = self.shelf.as_ref()?;
        Some((shelf.region.file(), shelf.region.cards() as u64))
    }

    /// The core lives: so late is it, by `snowskin_io::lane::host_ms`.
    pub fn say_hour(&self, now_ms: u64) {
        self.shelf.iter().for_each(|shelf| shelf.region.say_hour(now_ms));
    }

    /// A client reads the shelf from now on, and says in this lane what it holds.
    pub fn add_reader(&mut self, lane: &LaneRegion) -> Option<ReaderId> {
        let shelf = self.shelf.as_mut()?;
        shelf.readers_so_far += 1;
        let reader = ReaderId(shelf.readers_so_far);
        shelf.readers.push((reader, Watch::new(HoldRegion::of(lane))));
        Some(reader)
    }

    /// Its client is gone, and what it held is nobody's.
    pub fn remove_reader(&mut self, reader: ReaderId, now: Moment) {
        self.take_in_uses(now);
        let Some(shelf) = &mut self.shelf else { return };
        shelf.readers.retain(|(other, _)| *other != reader);
        shelf.look();
        shelf.let_go();
    }

    /// Lets go of what clients no longer hold; whether that was something.
    pub fn look_at_holds(&mut self) -> bool {
        let Some(shelf) = self.shelf.as_mut().filter(|shelf| !shelf.held.is_empty()) else { return false };
        let before = shelf.held.len();
        shelf.look();
        shelf.let_go();
        shelf.held.len() < before
    }

    /// Takes in what clients have read.
    #[inline]
    pub fn take_in_uses(&mut self, now: Moment) {
        self.take_in_at(None, now);
    }

    /// The same of one client.
    #[inline]
    pub fn take_in_uses_of(&mut self, reader: ReaderId, now: Moment) {
        self.take_in_at(Some(reader), now);
    }

    #[inline]
    fn take_in_at(&mut self, only: Option<ReaderId>, now: Moment) {
        if let Some(shelf) = &mut self.shelf {
            shelf.latest = shelf.latest.max(now);
            self.take_in(only);
        }
    }

    #[inline]
    fn take_in(&mut self, only: Option<ReaderId>) {
        let Some(shelf) = &self.shelf else { return };
        let (now, lease_end) = (shelf.latest, self.lease_end(shelf.latest));
        let Some(Shelf { readers, cards, .. }) = &mut self.shelf else { return };
        for (_, watch) in readers.iter_mut().filter(|(reader, _)| only.is_none_or(|only| only == *reader)) {
            watch.uses(|id| {
                let card = cards.get_mut(id.place()).and_then(Option::as_mut);
                let Some(card) = card.filter(|card| card.id == id) else { return };
                card.used = now;
                self.counters.get_hits += 1;
                self.counters.shelf_hits += 1;
                self.counters.value_bytes_out += card.value_bytes;
                self.index.extend_lease(card.position, lease_end);
                self.soft_pins.renew(card.position, now);
                if now - card.told >= TOLD_EVERY {
                    card.told = now;
                    self.touched.push((card.position, card.hash));
                }
            });
        }
    }

    /// The entry of this name was read in a lane: its bytes are at this place of a segment, as clients know it. The second time it goes
    /// on the shelf.
    pub fn shelve(&mut self, name: HashedName<'_>, place: SharedPlace, now: Moment) {
        let capacity_bytes = self.segments.capacity_bytes();
        let Some(shelf) = &mut self.shelf else { return };
        shelf.latest = shelf.latest.max(now);
        let fits = name.hash != 0 && name.name.bytes().len() <= CARD_NAME_BYTES_MAX;
        let is_new = fits && !shelf.readers.is_empty() && shelf.place_of(name.hash).is_none();
        if !is_new || !shelf.read_before.is_known(name.hash) {
            return;
        }
        let Some(position) = self.index.find(name) else { return };
        let row = self.index.row(position);
        let Place::Here(extent) = self.index.place(position) else { return };
        let value_bytes = row.value_bytes();
        if shelf.bytes + shelf.held_bytes + value_bytes > capacity_bytes / BYTES_SHARE {
            return;
        }
        let card = Card {
            segment: place.segment,
            offset: place.offset,
            value_bytes,
            checksum: row.checksum().0,
            version: row.version().0,
        };
        let Some(at) = self.free_place_for(name.hash) else { return };
        let Some(shelf) = &mut self.shelf else { return };
        let id = shelf.region.put(at, &Placed { hash: name.hash, name: name.name.bytes(), card });
        shelf.cards[at] = Some(Shelved {
            id,
            position,
            hash: name.hash,
            extent,
            value_bytes,
            used: now,
            told: Moment::default(),
        });
        shelf.bytes += value_bytes;
    }

    /// A place for a card, which is empty now.
    fn free_place_for(&mut self, hash: u64) -> Option<usize> {
        if let Some(empty) = self.shelf.as_ref()?.empty_for(hash) {
            return Some(empty);
        }
        // Who seems idle may have been used just now.
        self.shelf.as_ref()?.idle_for(hash)?;
        self.take_in(None);
        let idle = self.shelf.as_ref()?.idle_for(hash)?;
        self.take_off(idle..idle + 1);
        Some(idle)
    }

    /// The row at a position is to be evicted: takes it off the shelf. Whether a client has read it since that was decided: then it stays.
    pub(super) fn is_read_meanwhile(&mut self, position: Position) -> bool {
        let Some(latest) = self.shelf.as_ref().map(|shelf| shelf.latest) else { return false };
        let lease = self.index.row(position).lease_until();
        self.take_off_shelf(position);
        let read = self.index.row(position).lease_until();
        read > lease && read > latest
    }

    /// The row at a position goes, or its bytes move.
    pub(super) fn take_off_shelf(&mut self, position: Position) {
        let Some(shelf) = self.shelf.as_mut().filter(|shelf| shelf.bytes > 0) else { return };
        let hash = self.index.name(position).hash();
        let place = shelf.place_of(hash);
        let is_its =
            |place: &usize| shelf.cards[*place].as_ref().is_some_and(|card| card.position == position);
        if let Some(place) = place.filter(is_its)
            && !seeded_bug!("card outlives its row")
        {
            self.take_off(place..place + 1);
        }
    }

    /// Takes the cards at these places back. What has used them until now is taken in first, and who holds one is using it: leases go with the
    /// rows. The bytes of those that are held are kept.
    fn take_off(&mut self, places: Range<usize>) {
        let Some(shelf) = &mut self.shelf else { return };
        places.clone().for_each(|place| shelf.region.take_back(place));
        // In this order: who has noted a use and let go by now is not held, and was heard of; everybody else is held.
        shelf.look();
        let latest = shelf.latest;
        self.take_in(None);
        let lease_end = self.lease_end(latest);
        let Some(shelf) = &mut self.shelf else { return };
        for place in places {
            let Some(card) = shelf.cards[place].take() else { continue };
            shelf.bytes -= card.value_bytes;
            if shelf.room.contains(&card.id) && !seeded_bug!("shelf forgets who holds") {
                self.index.extend_lease(card.position, lease_end);
                shelf.held_bytes += card.value_bytes;
                shelf.held.push((card.id, self.segments.pin(card.extent, card.value_bytes)));
            }
        }
        shelf.let_go();
    }

    /// Slots may have changed hands: if this core answers for one less, nothing is found without asking.
    pub(super) fn follow_slots(&mut self) {
        let changes = self.slots.losses();
        if let Some(shelf) = self.shelf.as_mut().filter(|shelf| shelf.changes != changes) {
            shelf.changes = changes;
            if !seeded_bug!("shelf outlives its slots") {
                let all = 0..shelf.cards.len();
                self.take_off(all);
            }
        }
    }

    /// Bytes on the shelf, and bytes that clients hold that were.
    pub fn shelf_bytes(&self) -> (u64, u64) {
        self.shelf.as_ref().map_or((0, 0), |shelf| (shelf.bytes, shelf.held_bytes))
    }
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
