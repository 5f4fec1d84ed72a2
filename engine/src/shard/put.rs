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

use super::index::{Bytes, Row};
use super::{Dropped, Shard};
use crate::segment::Reservation;
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::wire::data::{ItemStatus, PutItem};
use snowskin_protocol::{Checksum, Digest, NameRef, Slot, Version};

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
    digest: Digest,
    expected: Checksum,
}

impl PutTicket {
    /// Where the rest of the value goes.
    pub fn unfilled(&mut self) -> &mut [u8] {
        &mut self.reservation.value_mut()[self.filled_bytes..]
    }

    /// The next `count` bytes have been filled. They are digested now, while they are still in the cache.
    pub fn advance(&mut self, count: usize) {
        let filled = &self.reservation.value()[self.filled_bytes..][..count];
        self.digest.update(filled);
        self.filled_bytes += count;
    }

    /// Whether the value is complete.
    pub fn is_full(&self) -> bool {
        self.filled_bytes == self.reservation.value().len()
    }
}

impl Shard {
    /// Decides whether a value is wanted and makes room for it.
    pub fn begin_put(&mut self, name: NameRef<'_>, item: &PutItem, replace: bool, now: Moment) -> PutStart {
        let hash = name.hash();
        if let Some(status) = self.refuse_put(name, hash, replace) {
            return PutStart::Answered(status);
        }
        let capacity = self.segment.usage().capacity_bytes;
        if item.value_bytes > capacity {
            return PutStart::Answered(ItemStatus::TooLarge);
        }
        let reserve = |shard: &Shard| shard.segment.reserve(item.value_bytes as usize);
        match self.evict_until(now, reserve) {
            Some(reservation) => PutStart::Reserved(PutTicket {
                reservation,
                filled_bytes: 0,
                digest: Digest::new(),
                expected: item.checksum,
            }),
            None => {
                self.counters.puts_no_space += 1;
                PutStart::Answered(ItemStatus::NoSpace)
            }
        }
    }

    /// Publishes a value that has arrived whole. Answers what became of it, and which replica elsewhere it replaced.
    pub fn finish_put(
        &mut self,
        name: NameRef<'_>,
        ticket: PutTicket,
        replace: bool,
        now: Moment,
    ) -> (ItemStatus, Option<Dropped>) {
        assert!(ticket.is_full(), "only a whole value is published");
        let value_bytes = ticket.filled_bytes as u64;
        if ticket.digest.checksum() != ticket.expected && !seeded_bug!("put unverified") {
            self.counters.puts_corrupt += 1;
            return (ItemStatus::ChecksumMismatch, None);
        }
        let hash = name.hash();
        if let Some(status) = self.refuse_put(name, hash, replace) {
            return (status, None);
        }
        if seeded_bug!("upsert lost") && replace && self.find_entry(name, hash).is_some() {
            return (ItemStatus::Ok, None);
        }
        let replaced = self.find_entry(name, hash).map(|position| self.index.remove(position));
        let version = self.next_version();
        let generation = self.slots.generation(Slot::of_hash(hash));
        let bytes = Bytes::Here(ticket.reservation.publish());
        self.index.insert(Row::new(
            name.to_owned(),
            version,
            value_bytes,
            ticket.expected,
            bytes,
            generation,
        ));
        self.ghosts.forget(hash);
        self.counters.puts_stored += 1;
        self.counters.value_bytes_in += value_bytes;
        self.evict_slice(now);
        (ItemStatus::Ok, replaced.and_then(Dropped::of_row))
    }

    /// A value whose connection broke on the way.
    pub fn abandon_put(&mut self, ticket: PutTicket) {
        self.counters.puts_broken += 1;
        if seeded_bug!("reservation leaked") {
            return std::mem::forget(ticket);
        }
        drop(ticket);
    }

    fn refuse_put(&mut self, name: NameRef<'_>, hash: u64, replace: bool) -> Option<ItemStatus> {
        if let Err(status) = self.answers_for(Slot::of_hash(hash)) {
            return Some(status);
        }
        if !replace && self.find_entry(name, hash).is_some() && !seeded_bug!("last writer wins") {
            self.counters.puts_exist += 1;
            return Some(ItemStatus::Exists);
        }
        None
    }

    fn next_version(&mut self) -> Version {
        self.version = Version(self.version.0 + 1);
        self.version
    }
}
