//! What a home tells a holder about one replica, and the answer.
//!
//! ```text
//!   home ── Take  ──► holder ── get ──► whoever has the bytes        a replica that means nothing yet
//!   home ── Keep  ──► holder                                         counts for the next home, should this one die
//!   home ── Release ► holder                                         counts no more: the object may change now
//! ```
//!
//! A replica is kept once, and released once; it is never kept again. So a message that comes late changes nothing, and what a
//! holder says that it keeps is what the home knows it may keep.

use super::{Cursor, WireError};
use crate::checksum::Checksum;
use crate::ids::{CoreId, EngineId, Incarnation, Life, Version};
use crate::key::NameRef;
use crate::limits::VALUE_BYTES_MAX;
use bytemuck::{Pod, Zeroable};

/// What is to be done with a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReplicaVerb {
    /// Fetch the bytes from the source.
    Take = 1,
    /// Tell the next home of them, should this one be lost.
    Keep = 2,
    /// Do not, from now on.
    Release = 3,
}

/// An order of a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaOrder<'a> {
    /// What to do.
    pub verb: ReplicaVerb,
    /// Who says so: the home of the object's slot.
    pub home: Life,
    /// Who has the bytes.
    pub source: CoreId,
    /// Which object.
    pub name: NameRef<'a>,
    /// In which version; not [`Version::ANY`].
    pub version: Version,
    /// Bytes of the value; at least 1.
    pub value_bytes: u64,
    /// Of the value.
    pub checksum: Checksum,
    /// Keep: milliseconds for which it is not evicted.
    pub lease_ms: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireOrder {
    version: Version,
    value_bytes: u64,
    checksum: Checksum,
    home_engine: EngineId,
    home_incarnation: Incarnation,
    source_engine: EngineId,
    lease_ms: u32,
    home_core: u16,
    source_core: u16,
    verb: u8,
    reserved: [u8; 7],
}

impl<'a> ReplicaOrder<'a> {
    /// The body.
    pub fn encode(&self) -> Vec<u8> {
        let (home, home_incarnation) = self.home;
        let head = WireOrder {
            version: self.version,
            value_bytes: self.value_bytes,
            checksum: self.checksum,
            home_engine: home.engine,
            home_incarnation,
            source_engine: self.source.engine,
            lease_ms: self.lease_ms,
            home_core: home.core,
            source_core: self.source.core,
            verb: self.verb as u8,
            reserved: [0; 7],
        };
        [bytemuck::bytes_of(&head), self.name.bytes()].concat()
    }

    /// Reads the body.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let head: WireOrder = rest.pod()?;
        let verbs = [ReplicaVerb::Take, ReplicaVerb::Keep, ReplicaVerb::Release];
        let verb = verbs.into_iter().find(|verb| *verb as u8 == head.verb);
        if head.reserved != [0; 7] {
            return Err(WireError::Value("reserved part of an order"));
        }
        if head.version == Version::ANY {
            return Err(WireError::Value("version"));
        }
        if head.value_bytes == 0 || head.value_bytes > VALUE_BYTES_MAX {
            return Err(WireError::Value("value length"));
        }
        Ok(ReplicaOrder {
            verb: verb.ok_or(WireError::Value("verb of an order"))?,
            home: (CoreId { engine: head.home_engine, core: head.home_core }, head.home_incarnation),
            source: CoreId { engine: head.source_engine, core: head.source_core },
            name: NameRef::parse(rest.rest())?,
            version: head.version,
            value_bytes: head.value_bytes,
            checksum: head.checksum,
            lease_ms: head.lease_ms,
        })
    }
}

/// What a holder has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReplicaStatus {
    /// It has the bytes; it keeps them; it has let go of them, or does not have them.
    Done = 0,
    /// It does not have the bytes, and will not: no memory, or the source did not have them.
    Absent = 1,
    /// Not now: its table is another one, in which somebody else is the home. Ask again, if you still are.
    NotYet = 2,
}

/// A holder's answer, with how full it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaReply {
    /// What it has done.
    pub status: ReplicaStatus,
    /// All bytes of its memory.
    pub capacity_bytes: u64,
    /// Bytes not allocated.
    pub free_bytes: u64,
    /// The longest run of them.
    pub free_range_bytes_max: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireReply {
    capacity_bytes: u64,
    free_bytes: u64,
    free_range_bytes_max: u64,
    status: u8,
    reserved: [u8; 7],
}

impl ReplicaReply {
    /// Adds the body to `to`.
    pub fn encode(&self, to: &mut Vec<u8>) {
        let reply = WireReply {
            capacity_bytes: self.capacity_bytes,
            free_bytes: self.free_bytes,
            free_range_bytes_max: self.free_range_bytes_max,
            status: self.status as u8,
            reserved: [0; 7],
        };
        to.extend_from_slice(bytemuck::bytes_of(&reply));
    }

    /// Reads the body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let reply: WireReply = rest.pod()?;
        rest.end()?;
        let statuses = [ReplicaStatus::Done, ReplicaStatus::Absent, ReplicaStatus::NotYet];
        let status = statuses.into_iter().find(|status| *status as u8 == reply.status);
        if reply.reserved != [0; 7] {
            return Err(WireError::Value("reserved part of a holder's answer"));
        }
        Ok(ReplicaReply {
            status: status.ok_or(WireError::Value("status of a holder's answer"))?,
            capacity_bytes: reply.capacity_bytes,
            free_bytes: reply.free_bytes,
            free_range_bytes_max: reply.free_range_bytes_max,
        })
    }
}

const _: () = assert!(size_of::<WireOrder>() == 64);
const _: () = assert!(size_of::<WireReply>() == 32);

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
