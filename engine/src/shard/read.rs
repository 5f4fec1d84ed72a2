//! Get and lookup, at the home and at a holder.

use super::index::{Bytes, Position};
use super::{Service, Shard};
use crate::segment::Extent;
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::wire::data::{ItemReply, ItemStatus, KeyItem};
use snowskin_protocol::{NameRef, Slot, Version};

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
    /// Not here; the reply says why, or where.
    Not(ItemReply),
}

impl Shard {
    /// Reads one object: pins its bytes and grants a lease.
    pub fn get(&mut self, name: NameRef<'_>, item: &KeyItem, now: Moment) -> Answer {
        let answer = self.read(name, item, now);
        match &answer {
            Answer::Held(held) => {
                self.counters.get_hits += 1;
                self.counters.value_bytes_out += held.reply.value_bytes;
            }
            Answer::Not(reply) if reply.status == ItemStatus::Miss => self.counters.get_misses += 1,
            Answer::Not(_) => {}
        }
        answer
    }

    /// Says whether an object is held and grants a lease on it.
    pub fn lookup(&mut self, name: NameRef<'_>, item: &KeyItem, now: Moment) -> ItemReply {
        match self.read(name, item, now) {
            Answer::Held(held) => {
                self.counters.lookup_hits += 1;
                held.reply
            }
            Answer::Not(reply) => {
                self.counters.lookup_misses += u64::from(reply.status == ItemStatus::Miss);
                reply
            }
        }
    }

    fn read(&mut self, name: NameRef<'_>, item: &KeyItem, now: Moment) -> Answer {
        let hash = name.hash();
        if item.version != Version::ANY {
            return self.read_replica(name, hash, item.version, now);
        }
        let service = match self.answers_for(Slot::of_hash(hash)) {
            Ok(service) => service,
            Err(status) => return Answer::Not(ItemReply::status(status)),
        };
        match self.find_entry(name, hash) {
            Some(position) => self.read_row(position, now),
            None => Answer::Not(ItemReply::miss(self.miss_reason(hash, service))),
        }
    }

    /// As a holder: just this version, whoever the home is.
    fn read_replica(&mut self, name: NameRef<'_>, hash: u64, version: Version, now: Moment) -> Answer {
        let found = self.index.find(name, hash).filter(|&position| {
            let row = self.index.row(position);
            (row.version == version || seeded_bug!("version unchecked")) && row.is_here()
        });
        match found {
            Some(position) => self.read_row(position, now),
            None => Answer::Not(ItemReply::miss(self.miss_reason(hash, Service::WrongHome))),
        }
    }

    fn read_row(&mut self, position: Position, now: Moment) -> Answer {
        if !seeded_bug!("read without lease") {
            self.index.extend_lease(position, self.lease_end(now));
        }
        self.index.touch(position);
        let row = self.index.row(position);
        let reply = ItemReply {
            lease_ms: self.settings.lease_ms,
            value_bytes: row.value_bytes,
            checksum: row.checksum,
            version: row.version,
            holder: self.me,
            ..ItemReply::status(ItemStatus::Ok)
        };
        match &row.bytes {
            Bytes::Here(extent) => Answer::Held(Held { extent: extent.clone(), reply }),
            Bytes::At(holder) => {
                Answer::Not(ItemReply { status: ItemStatus::Elsewhere, holder: *holder, ..reply })
            }
        }
    }
}
