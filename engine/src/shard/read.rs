//! Get and lookup, at the home and at a holder.

use super::row::{Place, Position};
use super::{Demoted, Service, Shard, TOGETHER};
use crate::segment::Extent;
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::wire::data::{ItemReply, ItemStatus, KeyItem};
use snowskin_protocol::{HashedName, Version};

/// An object that is held here, pinned for as long as this lives.
#[derive(Debug)]
pub struct Held {
    /// The bytes.
    pub extent: Extent,
    /// What to say about them.
    pub reply: ItemReply,
}

/// The answer to a read.
#[derive(Debug)]
pub enum Answer {
    /// Here it is.
    Held(Held),
    /// It is on the SSD: with its bytes in memory the reply is this one.
    OnSsd(Demoted, ItemReply),
    /// Not here; the reply says why, or where.
    Not(ItemReply),
}

/// Where a row was found, and its bytes.
struct Found {
    position: Position,
    place: Place,
}

impl Shard {
    /// Reads one object: pins its bytes and grants a lease.
    #[inline]
    pub fn get(&mut self, name: HashedName<'_>, item: &KeyItem, now: Moment) -> Answer {
        let (reply, found) = self.read(name, item, now);
        match found {
            Some(Found { position, place: Place::Here(extent) }) => {
                if item.flags & KeyItem::FOR_REPLICA == 0 {
                    self.touched.push((position, name.hash));
                }
                self.counters.get_hits += 1;
                self.counters.value_bytes_out += reply.value_bytes;
                let extent = self.segments.pin(extent, reply.value_bytes);
                return Answer::Held(Held { extent, reply });
            }
            Some(Found { position, place: Place::OnSsd(record) }) => {
                return Answer::OnSsd(self.demoted(position, record), reply);
            }
            None if reply.status == ItemStatus::Miss => self.counters.get_misses += 1,
            _ => {}
        }
        Answer::Not(reply)
    }

    /// Says whether an object is held and grants a lease on it. That is no use of it: whoever wants the bytes will read
    /// them while the lease lasts.
    #[inline]
    pub fn lookup(&mut self, name: HashedName<'_>, item: &KeyItem, now: Moment) -> ItemReply {
        let (reply, found) = self.read(name, item, now);
        match found {
            Some(Found { place: Place::Here(_) | Place::OnSsd(_), .. }) => self.counters.lookup_hits += 1,
            _ => self.counters.lookup_misses += u64::from(reply.status == ItemStatus::Miss),
        }
        reply
    }

    /// Some reads are over. Their uses are noted when there are many: together they cost less, and nobody waits for them.
    #[inline]
    pub fn note_many_uses(&mut self) {
        if self.touched.len() >= TOGETHER {
            self.note_uses();
        }
    }

    /// The reads of a batch are over: tells the eviction policy which rows were used, the last one first. Of a chain in
    /// order the end is the oldest then, and goes first.
    pub fn note_uses(&mut self) {
        while !self.touched.is_empty() {
            let some = self.touched.len().saturating_sub(TOGETHER)..;
            self.touched[some.clone()].iter().for_each(|&(at, _)| self.index.prefetch_neighbours(at));
            self.touched.drain(some).rev().for_each(|(at, hash)| self.index.touch(at, hash));
        }
    }

    #[inline]
    fn read(&mut self, name: HashedName<'_>, item: &KeyItem, now: Moment) -> (ItemReply, Option<Found>) {
        if item.version != Version::ANY {
            return self.read_replica(name, item, now);
        }
        let service = match self.answers_for(name.slot()) {
            Ok(service) => service,
            Err(status) => return (ItemReply::status(status), None),
        };
        match self.find_entry(name) {
            Some(position) => self.read_row(position, item, now),
            None => (ItemReply::miss(self.miss_reason(name.hash, service)), None),
        }
    }

    /// As a holder: just this version, whoever the home is.
    fn read_replica(
        &mut self,
        name: HashedName<'_>,
        item: &KeyItem,
        now: Moment,
    ) -> (ItemReply, Option<Found>) {
        let version = item.version;
        let found = self.index.find(name).filter(|&position| {
            let row = self.index.row(position);
            (row.version() == version || seeded_bug!("version unchecked")) && !row.is_elsewhere()
        });
        match found {
            Some(position) => self.read_row(position, item, now),
            None => (ItemReply::miss(self.miss_reason(name.hash, Service::WrongHome)), None),
        }
    }

    #[inline]
    fn read_row(&mut self, position: Position, item: &KeyItem, now: Moment) -> (ItemReply, Option<Found>) {
        if item.flags & KeyItem::FOR_REPLICA == 0 {
            if !seeded_bug!("read without lease") {
                self.index.extend_lease(position, self.lease_end(now));
            }
            self.soft_pins.renew(position, now);
        }
        let (row, place) = (self.index.row(position), self.index.place(position));
        let (status, holder) = match place {
            Place::Here(_) | Place::OnSsd(_) => (ItemStatus::Ok, self.me),
            Place::At(holder) => (ItemStatus::Elsewhere, holder),
        };
        let reply = ItemReply {
            lease_ms: self.settings.lease_ms,
            value_bytes: row.value_bytes(),
            checksum: row.checksum(),
            version: row.version(),
            holder,
            ..ItemReply::status(status)
        };
        (reply, Some(Found { position, place }))
    }
}
