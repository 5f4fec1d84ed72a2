//! What a call answers when nothing went wrong.

use snowskin_protocol::wire::Opcode;
use snowskin_protocol::{CoreId, Epoch, MissReason};

/// What became of a value to put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is stored.
    Stored,
    /// The key was held already; nothing changed. The first writer wins. (After a broken connection the client asks
    /// again, and the first writer may have been its own first request.)
    Existed,
}

/// What was found under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// The store holds it.
    Hit(T),
    /// The store does not hold it.
    Miss(MissReason),
}

impl<T> Found<T> {
    /// What was found, if anything.
    pub fn hit(self) -> Option<T> {
        match self {
            Found::Hit(value) => Some(value),
            Found::Miss(_) => None,
        }
    }
}

/// What became of a key to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveOutcome {
    /// It is gone.
    Removed,
    /// It was not there.
    Missing(MissReason),
    /// A lease protects it; nothing changed. Wait, or force.
    Leased,
}

/// Who has an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// Bytes of the value.
    pub value_bytes: u64,
    /// The cores that have it, as far as its home knows; first the one that readers are sent to.
    pub cores: Vec<CoreId>,
}

/// A task of the cluster: who carries it out, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId {
    /// The core.
    pub core: CoreId,
    /// The number.
    pub number: u64,
}

/// Whether an object is being copied or moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskStart {
    /// It is: ask how far that is.
    Begun(TaskId),
    /// It is not held.
    NotHeld,
    /// Too many tasks are under way: try again later.
    TooMany,
    /// It cannot be; a sentence says why.
    Refused(String),
}

/// What a removal by pattern did. After a broken connection a step may be asked twice; then `removed` counts what the
/// second one still found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovedCount {
    /// Keys removed.
    pub removed: u64,
    /// Keys that matched and that a lease protects.
    pub leased: u64,
}

/// A key that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// The key.
    pub key: Vec<u8>,
    /// Bytes of its value.
    pub value_bytes: u64,
}

/// Some of the keys that are held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// In no order that means anything.
    pub keys: Vec<ListedKey>,
    /// Where the next page begins; `None`: this was the last one.
    pub next: Option<KeysCursor>,
}

/// Where a page of keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysCursor {
    /// Of the table by which cores are asked one after the other.
    pub(crate) epoch: Epoch,
    /// The place of the core among the members.
    pub(crate) member: usize,
    /// Where the core's next step begins.
    pub(crate) position: u32,
}

/// Frames of each kind, and requests in lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounters {
    /// Put.
    pub put: u64,
    /// Upsert.
    pub upsert: u64,
    /// Get.
    pub get: u64,
    /// Lookup.
    pub lookup: u64,
    /// Match prefix.
    pub match_prefix: u64,
    /// Remove, by key or by pattern.
    pub remove: u64,
    /// Keys that are held.
    pub list_keys: u64,
    /// Forget: news for a home that a holder has lost a replica.
    pub forget: u64,
    /// Routing tables.
    pub table: u64,
    /// Counters of cores.
    pub stats: u64,
    /// What an operator asks.
    pub admin: u64,
}

impl FrameCounters {
    /// All frames.
    pub fn total(&self) -> u64 {
        let data = self.put + self.upsert + self.get + self.lookup + self.match_prefix + self.remove;
        data + self.list_keys + self.forget + self.table + self.stats + self.admin
    }

    pub(crate) fn count(&mut self, opcode: Opcode) {
        self.count_many(opcode, 1);
    }

    pub(crate) fn count_many(&mut self, opcode: Opcode, frames: u64) {
        let counter = match opcode {
            Opcode::Put => &mut self.put,
            Opcode::Upsert => &mut self.upsert,
            Opcode::Get => &mut self.get,
            Opcode::Lookup => &mut self.lookup,
            Opcode::MatchPrefix => &mut self.match_prefix,
            Opcode::Remove | Opcode::RemoveMatching => &mut self.remove,
            Opcode::ListKeys => &mut self.list_keys,
            Opcode::Forget => &mut self.forget,
            Opcode::Table => &mut self.table,
            Opcode::Stats => &mut self.stats,
            Opcode::Admin => &mut self.admin,
            _ => unreachable!("clients do not ask {opcode:?}"),
        };
        *counter += frames;
    }
}

/// What a client has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCounters {
    /// Requests.
    pub frames_sent: FrameCounters,
    /// Replies.
    pub frames_received: FrameCounters,
    /// Values that were read on this machine without a request: an engine has them on its shelf.
    pub found: u64,
    /// Bytes of values sent in requests; counted when the frame is queued.
    pub value_bytes_sent: u64,
    /// Bytes of values that arrived.
    pub value_bytes_received: u64,
    /// Items asked again: another home, a slot on its way, a full reply, a broken connection.
    pub retries: u64,
    /// Items whose bytes were at another core than their home.
    pub elsewhere: u64,
    /// Routing tables fetched.
    pub refreshes: u64,
    /// Values that did not match their checksum when they arrived.
    pub checksum_mismatches: u64,
    /// Connections opened.
    pub connects: u64,
    /// Of these, through shared memory.
    pub connects_local: u64,
    /// Lanes opened: connections through shared memory without frames, each of one thread at a time.
    pub lanes_opened: u64,
    /// Connections that could not be opened.
    pub connects_failed: u64,
    /// Connections and lanes that broke, or were closed because they were of no more use.
    pub connections_broken: u64,
    /// Calls that ended at their deadline.
    pub deadlines: u64,
}
