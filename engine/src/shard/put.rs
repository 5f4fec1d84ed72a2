//! Storing a value: reserve, fill (elsewhere, at the network's pace), publish.
//!
//! ```text
//!   begin_put ──► Reserved(ticket) ──► the value arrives ──► finish_put ──► Ok: visible, whole
//!       │                                   │                    └──► Exists, WrongHome: somebody was faster
//!       └──► Exists, NoSpace, …             └──► connection lost: the ticket is dropped, the memory is free
//! ```
//!
//! Nothing is visible before `finish_put`, and everything is decided again there, because the world may have
//! changed while the value arrived.

use super::index::{Why, pin_of};
use super::row::{Facts, Place, Position};
use super::{Dropped, Shard};
use crate::eviction::Pin;
use crate::segment::{ExtentId, Reservation};
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::wire::data::{ItemStatus, PutHints, PutItem};
use snowskin_protocol::{Checksum, Growing, HashedName, MissReason, Version};
use std::time::Duration;

/// Whether a put may begin.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once; a box would be an allocation a put")]
pub enum PutStart {
    /// Fill the ticket's memory, then finish.
    Reserved(PutTicket),
    /// It may not; the value on the wire is to be thrown away.
    Answered(ItemStatus),
}

/// Memory for a value on its way.
#[derive(Debug)]
pub struct PutTicket {
    reservation: Reservation,
    filled_bytes: usize,
    growing: Growing,
    expected: Checksum,
    /// Somebody else has filled it in place, and made the checksum from what was put.
    is_filled_elsewhere: bool,
    hints: PutHints,
}

impl PutTicket {
    /// Where the rest of the value goes.
    pub fn unfilled(&mut self) -> &mut [u8] {
        &mut self.reservation.value_mut()[self.filled_bytes..]
    }

    /// The next `count` bytes have been filled. They are hashed now, while they are still in the cache.
    pub fn advance(&mut self, count: usize) {
        self.filled_bytes += count;
        self.growing.advance(&self.reservation.value()[..self.filled_bytes]);
    }

    /// Where the value goes: the number of its segment, and bytes from the beginning of that.
    pub fn location(&self) -> (u16, u64) {
        self.reservation.location()
    }

    /// Bytes of the value.
    pub fn bytes(&self) -> u64 {
        self.reservation.value().len() as u64
    }

    /// A client of this machine has written the whole value where it lies. Its checksum is that of the bytes that it put;
    /// they are not read here once more.
    pub fn fill_elsewhere(&mut self, checksum: Checksum) {
        self.filled_bytes = self.reservation.value().len();
        (self.expected, self.is_filled_elsewhere) = (checksum, true);
    }

    pub(super) fn has_arrived(&self) -> bool {
        self.is_filled_elsewhere || self.growing.finish(self.reservation.value()) == self.expected
    }

    /// The value is an object's from now on.
    pub(super) fn publish(self) -> ExtentId {
        self.reservation.publish()
    }

    /// Whether the value is complete.
    pub fn is_full(&self) -> bool {
        self.filled_bytes == self.reservation.value().len()
    }
}

impl Shard {
    /// Decides whether a value is wanted and makes room for it.
    pub fn begin_put(
        &mut self,
        name: HashedName<'_>,
        item: &PutItem,
        replace: bool,
        now: Moment,
    ) -> PutStart {
        if let Some(status) = self.refuse_put(name, replace) {
            return PutStart::Answered(status);
        }
        if item.value_bytes > self.segments.value_bytes_max() {
            return PutStart::Answered(ItemStatus::TooLarge);
        }
        match self.room_for_value(name, item.value_bytes, item.checksum, now) {
            Some(ticket) => PutStart::Reserved(PutTicket { hints: item.hints, ..ticket }),
            None => {
                self.counters.puts_no_space += 1;
                PutStart::Answered(ItemStatus::NoSpace)
            }
        }
    }

    /// Publishes a value that has arrived whole. Answers what became of it, and which replica elsewhere it replaced.
    pub fn finish_put(
        &mut self,
        name: HashedName<'_>,
        ticket: PutTicket,
        replace: bool,
        now: Moment,
    ) -> (ItemStatus, Option<Dropped>) {
        assert!(ticket.is_full(), "only a whole value is published");
        let value_bytes = ticket.filled_bytes as u64;
        if !ticket.has_arrived() && !seeded_bug!("put unverified") {
            self.counters.puts_corrupt += 1;
            return (ItemStatus::ChecksumMismatch, None);
        }
        if let Some(status) = self.refuse_put(name, replace) {
            return (status, None);
        }
        if seeded_bug!("upsert lost") && replace && self.find_entry(name).is_some() {
            return (ItemStatus::Ok, None);
        }
        let old = self.find_entry(name);
        let hints = self.hints_after(old, &ticket.hints);
        let replaced = old.map(|position| self.take_out(position, Why::Dropped));
        if replaced.is_none() && !self.index.has_room(name.name) {
            self.counters.puts_no_space += 1;
            return (ItemStatus::NoSpace, None);
        }
        let facts = Facts {
            version: self.next_version(),
            value_bytes,
            checksum: ticket.expected,
            generation: self.slots.generation(name.slot()),
        };
        let place = Place::Here(ticket.publish());
        let position = self.index.insert(name, facts, place, &hints);
        self.protect(position, &hints, now);
        let has_returned = self.ghosts.reason(name.hash) == Some(MissReason::Evicted);
        self.note_fresh(position, has_returned);
        self.ghosts.forget(name.hash);
        self.counters.puts_stored += 1;
        self.counters.value_bytes_in += value_bytes;
        self.evict_slice(now);
        (ItemStatus::Ok, replaced.and_then(|gone| Dropped::of(name.name, &gone)))
    }

    /// What is said of a value that takes the place of this row: it may inherit a soft pin.
    fn hints_after(&self, old: Option<Position>, hints: &PutHints) -> PutHints {
        match old {
            Some(position) if hints.has(PutHints::KEEP_SOFT_PIN) && pin_of(hints) == Pin::None => {
                let time = self.soft_pins.time_of(position).as_millis();
                PutHints { soft_pin_ms: u32::try_from(time).unwrap_or(u32::MAX), ..*hints }
            }
            _ => *hints,
        }
    }

    /// Memory for a value, evicting what may be evicted.
    pub(super) fn room_for_value(
        &mut self,
        name: HashedName<'_>,
        value_bytes: u64,
        expected: Checksum,
        now: Moment,
    ) -> Option<PutTicket> {
        if value_bytes > self.segments.value_bytes_max() || !self.make_room_for_name(name.name, now) {
            return None;
        }
        let reserve = |shard: &mut Shard| shard.segments.reserve(value_bytes as usize);
        let reservation = self.evict_until(now, value_bytes, reserve)?;
        Some(PutTicket {
            reservation,
            filled_bytes: 0,
            growing: Growing::default(),
            expected,
            is_filled_elsewhere: false,
            hints: PutHints::default(),
        })
    }

    fn protect(&mut self, position: Position, hints: &PutHints, now: Moment) {
        if pin_of(hints) == Pin::Soft {
            self.soft_pins.pin(position, Duration::from_millis(u64::from(hints.soft_pin_ms)), now);
        }
        if hints.group != 0 {
            self.groups.join(position, hints.group);
        }
    }

    /// A value whose connection broke on the way.
    pub fn abandon_put(&mut self, ticket: PutTicket) {
        self.counters.puts_broken += 1;
        if seeded_bug!("reservation leaked") {
            return std::mem::forget(ticket);
        }
        drop(ticket);
    }

    fn refuse_put(&mut self, name: HashedName<'_>, replace: bool) -> Option<ItemStatus> {
        if let Err(status) = self.answers_for(name.slot()) {
            return Some(status);
        }
        let position = self.find_entry(name)?;
        if replace {
            return self.refuse_if_bound(position);
        }
        if seeded_bug!("last writer wins") {
            return None;
        }
        self.counters.puts_exist += 1;
        Some(ItemStatus::Exists)
    }

    fn next_version(&mut self) -> Version {
        self.version = Version(self.version.0 + 1);
        self.version
    }
}
