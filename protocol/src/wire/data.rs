//! Bodies of data operations: a batch of fixed-size items, then the names they refer to, end to end.
//!
//! ```text
//!   request body:  [ item 0 ][ item 1 ] … [ item n-1 ][ name 0 ][ name 1 ] … [ name n-1 ]
//!   reply body:    [ reply 0 ][ reply 1 ] … [ reply m-1 ]          m = n, or fewer after match_prefix
//!   payload:       values of the items that have one, in item order
//! ```

use super::{Cursor, WireError};
use crate::checksum::Checksum;
use crate::code::MissReason;
use crate::ids::{CoreId, EngineId, Version};
use crate::key::NameRef;
use crate::limits::{MORE_REPLICAS_MAX, PATTERN_BYTES_MAX, PUT_PAYLOAD_BYTES_MAX, TENANT_BYTES_MAX};
use bytemuck::{Pod, Zeroable};
use std::marker::PhantomData;

/// An item that refers to a name further back in the body.
pub trait NamedItem: Pod {
    /// Bytes of its name.
    fn name_bytes(&self) -> usize;

    /// Bytes of the value that it announces.
    fn value_bytes(&self) -> u64 {
        0
    }

    /// That its flags are known and its reserved parts are 0.
    fn is_plain(&self) -> bool;
}

/// A value to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PutItem {
    /// Bytes of the value in the payload; at least 1.
    pub value_bytes: u64,
    /// Of the value.
    pub checksum: Checksum,
    /// Of the object's place among others.
    pub hints: PutHints,
    /// Bytes of the name.
    pub name_bytes: u16,
    /// 0.
    pub reserved: [u16; 3],
}

/// What a put says about the place of an object among others: which to evict first. All of it may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PutHints {
    /// The hash of the name of the block before this one in its chain; 0: not said.
    pub parent: u64,
    /// The hash of the name of a group whose objects are evicted together; 0: none.
    pub group: u64,
    /// Milliseconds for which the object goes last, from each use on; 0: it is not soft-pinned.
    pub soft_pin_ms: u32,
    /// [`PutHints::HARD_PIN`], [`PutHints::CONTINUES`], [`PutHints::LEAF`], [`PutHints::DURABLE`], [`PutHints::KEEP_SOFT_PIN`]; in bits 8 to 11, how many
    /// replicas to make besides the first.
    pub flags: u32,
}

impl PutHints {
    /// Never evict it.
    pub const HARD_PIN: u32 = 1;
    /// What is before it in its chain was held before this put.
    pub const CONTINUES: u32 = 2;
    /// Nothing behind it in its chain is put with it.
    pub const LEAF: u32 = 4;
    /// Acknowledge it when it is on the SSD, and flushed.
    pub const DURABLE: u32 = 8;
    /// What it replaces may be pinned softly: then it is, too, and for as long.
    pub const KEEP_SOFT_PIN: u32 = 16;

    /// Whether a flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// With this number of replicas besides the first, or as many as there may be.
    pub fn with_more_replicas(self, count: usize) -> Self {
        let count = count.min(MORE_REPLICAS_MAX) as u32;
        PutHints { flags: self.flags & !PutHints::MORE_REPLICAS | count << 8, ..self }
    }

    /// How many replicas to make besides the first.
    pub fn more_replicas(&self) -> usize {
        ((self.flags & PutHints::MORE_REPLICAS) >> 8) as usize
    }

    const MORE_REPLICAS: u32 = (MORE_REPLICAS_MAX as u32) << 8;
    const FLAGS: u32 = PutHints::HARD_PIN
        | PutHints::CONTINUES
        | PutHints::LEAF
        | PutHints::DURABLE
        | PutHints::KEEP_SOFT_PIN
        | PutHints::MORE_REPLICAS;
}

impl NamedItem for PutItem {
    fn name_bytes(&self) -> usize {
        usize::from(self.name_bytes)
    }

    fn value_bytes(&self) -> u64 {
        self.value_bytes
    }

    fn is_plain(&self) -> bool {
        self.reserved == [0; 3] && self.hints.flags & !PutHints::FLAGS == 0
    }
}

impl PutItem {
    /// The item for a value under `name`.
    pub fn new(name: NameRef<'_>, value_bytes: u64, checksum: Checksum) -> Self {
        let name_bytes = name.bytes().len() as u16;
        PutItem { value_bytes, checksum, hints: PutHints::default(), name_bytes, reserved: [0; 3] }
    }
}

/// A key to look up, read, remove, forget or drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct KeyItem {
    /// [`Version::ANY`]: ask the home. Otherwise: ask the holder, for just this version.
    pub version: Version,
    /// Bytes of the name.
    pub name_bytes: u16,
    /// [`KeyItem::FORCE`], [`KeyItem::CORRUPT`], [`KeyItem::FOR_REPLICA`] or 0.
    pub flags: u8,
    /// Forget: the number of the reason why the holder has not got it; 0 if that is not known.
    pub miss: u8,
    /// Forget: the [`CoreId::tag`] of that holder; 0 if it is not said.
    pub holder: u32,
}

impl NamedItem for KeyItem {
    fn name_bytes(&self) -> usize {
        usize::from(self.name_bytes)
    }

    fn is_plain(&self) -> bool {
        let is_reason = self.miss == 0 || self.reason().is_some();
        let known = KeyItem::FORCE | KeyItem::CORRUPT | KeyItem::FOR_REPLICA;
        self.flags & !known == 0 && is_reason
    }
}

impl KeyItem {
    /// Remove although a lease holds.
    pub const FORCE: u8 = 1;
    /// Forget: the bytes of this version did not match their checksum when they arrived. Asked of the holder.
    pub const CORRUPT: u8 = 2;
    /// Get: for a replica. Grants no lease, and is no use of the object.
    pub const FOR_REPLICA: u8 = 4;

    /// The same, with the reason why the holder has not got it.
    pub fn because(self, reason: MissReason) -> Self {
        KeyItem { miss: reason as u8, ..self }
    }

    /// The same, with the holder that has not got it.
    pub fn of_holder(self, holder: CoreId) -> Self {
        KeyItem { holder: holder.tag(), ..self }
    }

    /// Whether this is said of that holder, as far as it is said.
    pub fn is_of_holder(&self, holder: CoreId) -> bool {
        self.holder == 0 || self.holder == holder.tag()
    }

    /// Why the holder has not got it, if that is known.
    pub fn reason(&self) -> Option<MissReason> {
        MissReason::from_wire(self.miss)
    }

    /// The item for `name`, asked of its home.
    pub fn at_home(name: NameRef<'_>) -> Self {
        KeyItem { version: Version::ANY, name_bytes: name.bytes().len() as u16, flags: 0, miss: 0, holder: 0 }
    }

    /// The item for one version of `name`, asked of its holder.
    pub fn at_holder(name: NameRef<'_>, version: Version) -> Self {
        KeyItem { version, ..KeyItem::at_home(name) }
    }
}

/// Items of one kind with their names: checked when decoded, free to walk afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, T> {
    items: &'a [u8],
    names: &'a [u8],
    kind: PhantomData<T>,
}

impl<'a, T: NamedItem> Batch<'a, T> {
    /// Reads `count` items and their names; nothing may be left over, and every name must be valid.
    pub fn decode(count: u32, body: &'a [u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let items = rest.take(count as usize * size_of::<T>())?;
        let batch: Self = Batch { items, names: rest.rest(), kind: PhantomData };
        for item in batch.items() {
            if !item.is_plain() {
                return Err(WireError::Value("flag or reserved part of an item"));
            }
            NameRef::parse(rest.take(item.name_bytes())?)?;
        }
        rest.end()?;
        Ok(batch)
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len() / size_of::<T>()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items with their names, in order.
    pub fn iter(&self) -> impl Iterator<Item = (T, NameRef<'a>)> + use<'a, T> {
        let mut names = Cursor::new(self.names);
        self.items().map(move |item| {
            let name = names.take(item.name_bytes()).expect("checked by decode");
            (item, NameRef::known(name))
        })
    }

    fn items(&self) -> impl Iterator<Item = T> + use<'a, T> {
        self.items.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned)
    }
}

impl Batch<'_, PutItem> {
    /// That every value has a byte at least, and that together they are no more than a put may have.
    pub fn check_values(&self) -> Result<u64, WireError> {
        let mut sum = 0_u64;
        for item in self.items() {
            if item.value_bytes == 0 {
                return Err(WireError::Value("value length"));
            }
            sum = sum.saturating_add(item.value_bytes);
        }
        if sum > PUT_PAYLOAD_BYTES_MAX {
            let (count, limit) = (sum as usize, PUT_PAYLOAD_BYTES_MAX as usize);
            return Err(WireError::TooMany { what: "payload bytes", count, limit });
        }
        Ok(sum)
    }

    /// The same, and that together they are the payload.
    pub fn check_payload(&self, payload_bytes: u64) -> Result<(), WireError> {
        if self.check_values()? == payload_bytes { Ok(()) } else { Err(WireError::Value("payload length")) }
    }
}

/// Writes a batch: items first, names behind them.
#[derive(Debug, Default)]
pub struct BatchWriter {
    items: Vec<u8>,
    names: Vec<u8>,
    count: u32,
}

impl BatchWriter {
    /// Bytes of the body so far.
    pub fn body_bytes(&self) -> usize {
        self.items.len() + self.names.len()
    }

    /// Items so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Adds an item and its name.
    pub fn push<T: NamedItem>(&mut self, item: T, name: NameRef<'_>) {
        assert_eq!(item.name_bytes(), name.bytes().len());
        self.items.extend_from_slice(bytemuck::bytes_of(&item));
        self.names.extend_from_slice(name.bytes());
        self.count += 1;
    }

    /// The body.
    pub fn finish(mut self) -> Vec<u8> {
        self.items.extend_from_slice(&self.names);
        self.items
    }
}

/// What happened to one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ItemStatus {
    /// Put: stored. Get: its value is in the payload. Lookup: held here. Remove: removed.
    Ok = 0,
    /// Put: held already; nothing changed.
    Exists = 1,
    /// Not held; the reason says why.
    Miss = 2,
    /// Held; ask `holder` for `version`.
    Elsewhere = 3,
    /// The asked core is not the key's home: refresh the table.
    WrongHome = 4,
    /// The slot is being handed over to the asked core: ask again in a moment.
    Moving = 5,
    /// The reply is full: ask again for this item.
    Deferred = 6,
    /// No memory, even after eviction of what may be evicted.
    NoSpace = 7,
    /// Protected by a lease.
    Leased = 8,
    /// The value arrived with another checksum than announced; nothing was stored.
    ChecksumMismatch = 9,
    /// The value is larger than the core's largest segment.
    TooLarge = 10,
    /// Put that was to be durable: held in memory, and not on an SSD, now or later: there is none, or it takes nothing.
    NotDurable = 11,
    /// Put that was to be durable: stored, and not on the SSD in time. Asked again it may be.
    NotDurableYet = 12,
    /// In a lane: its value is being read from the SSD. The core says in the lane when there is something to ask for again.
    Loading = 13,
}

impl ItemStatus {
    /// All statuses, in the order of their numbers.
    pub const ALL: [ItemStatus; 14] = [
        ItemStatus::Ok,
        ItemStatus::Exists,
        ItemStatus::Miss,
        ItemStatus::Elsewhere,
        ItemStatus::WrongHome,
        ItemStatus::Moving,
        ItemStatus::Deferred,
        ItemStatus::NoSpace,
        ItemStatus::Leased,
        ItemStatus::ChecksumMismatch,
        ItemStatus::TooLarge,
        ItemStatus::NotDurable,
        ItemStatus::NotDurableYet,
        ItemStatus::Loading,
    ];
}

/// The answer for one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemReply {
    /// What happened.
    pub status: ItemStatus,
    /// Why not held, with [`ItemStatus::Miss`].
    pub miss: Option<MissReason>,
    /// Milliseconds of lease granted, with [`ItemStatus::Ok`] after a get or lookup.
    pub lease_ms: u32,
    /// Bytes of the value, where it is held.
    pub value_bytes: u64,
    /// Of the value, where it is held.
    pub checksum: Checksum,
    /// Of the object, where it is held.
    pub version: Version,
    /// Who has the bytes, with [`ItemStatus::Elsewhere`].
    pub holder: CoreId,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireItemReply {
    status: u8,
    miss: u8,
    holder_core: u16,
    lease_ms: u32,
    value_bytes: u64,
    checksum: Checksum,
    version: Version,
    holder_engine: EngineId,
}

/// Bytes of one reply on the wire.
pub const ITEM_REPLY_BYTES: usize = 40;
const _: () = assert!(size_of::<WireItemReply>() == ITEM_REPLY_BYTES);
const _: () = assert!(size_of::<PutItem>() == 48);
const _: () = assert!(size_of::<KeyItem>() == 16);

impl ItemReply {
    /// A reply that says no more than its status.
    pub fn status(status: ItemStatus) -> Self {
        ItemReply {
            status,
            miss: None,
            lease_ms: 0,
            value_bytes: 0,
            checksum: Checksum(0),
            version: Version(0),
            holder: CoreId::default(),
        }
    }

    /// A miss.
    pub fn miss(reason: MissReason) -> Self {
        ItemReply { miss: Some(reason), ..ItemReply::status(ItemStatus::Miss) }
    }

    /// Appends the reply's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(bytemuck::bytes_of(&WireItemReply {
            status: self.status as u8,
            miss: self.miss.map_or(0, |reason| reason as u8),
            holder_core: self.holder.core,
            lease_ms: self.lease_ms,
            value_bytes: self.value_bytes,
            checksum: self.checksum,
            version: self.version,
            holder_engine: self.holder.engine,
        }));
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let wire: WireItemReply = bytemuck::pod_read_unaligned(bytes);
        let status = ItemStatus::ALL
            .into_iter()
            .find(|status| *status as u8 == wire.status)
            .ok_or(WireError::Value("item status"))?;
        let miss = MissReason::from_wire(wire.miss);
        if (status == ItemStatus::Miss) != miss.is_some() || (miss.is_none() && wire.miss != 0) {
            return Err(WireError::Value("miss reason"));
        }
        Ok(ItemReply {
            status,
            miss,
            lease_ms: wire.lease_ms,
            value_bytes: wire.value_bytes,
            checksum: wire.checksum,
            version: wire.version,
            holder: CoreId { engine: wire.holder_engine, core: wire.holder_core },
        })
    }
}

/// Reads the body of a reply to a batch.
pub fn decode_replies(count: u32, body: &[u8]) -> Result<Vec<ItemReply>, WireError> {
    let mut rest = Cursor::new(body);
    let items = rest.take(count as usize * ITEM_REPLY_BYTES)?;
    rest.end()?;
    items.chunks_exact(ITEM_REPLY_BYTES).map(ItemReply::decode).collect()
}

/// A step of removing all keys of a tenant that match a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoveMatching<'a> {
    /// Where to go on; 0 at first, then what the last step answered.
    pub cursor: u32,
    /// Remove although leases hold.
    pub force: bool,
    /// The tenant.
    pub tenant: &'a [u8],
    /// A regular expression that is searched for in each key; empty: all keys.
    pub pattern: &'a str,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireRemoveMatching {
    cursor: u32,
    force: u8,
    tenant_bytes: u8,
    pattern_bytes: u16,
}

impl<'a> RemoveMatching<'a> {
    /// The body of the request.
    pub fn encode(&self) -> Vec<u8> {
        let head = WireRemoveMatching {
            cursor: self.cursor,
            force: u8::from(self.force),
            tenant_bytes: self.tenant.len() as u8,
            pattern_bytes: self.pattern.len() as u16,
        };
        [bytemuck::bytes_of(&head), self.tenant, self.pattern.as_bytes()].concat()
    }

    /// Reads the body of the request.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let head: WireRemoveMatching = rest.pod()?;
        let limit = PATTERN_BYTES_MAX;
        if usize::from(head.pattern_bytes) > limit {
            let count = usize::from(head.pattern_bytes);
            return Err(WireError::TooMany { what: "pattern bytes", count, limit });
        }
        let tenant = rest.take(usize::from(head.tenant_bytes))?;
        let pattern = std::str::from_utf8(rest.take(usize::from(head.pattern_bytes))?)
            .map_err(|_| WireError::Value("pattern"))?;
        rest.end()?;
        if head.force > 1 || tenant.is_empty() || tenant.len() > TENANT_BYTES_MAX || tenant.contains(&0) {
            return Err(WireError::Value("tenant or force flag"));
        }
        Ok(RemoveMatching { cursor: head.cursor, force: head.force == 1, tenant, pattern })
    }
}

/// The answer to a step of [`RemoveMatching`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RemovedStep {
    /// Where the next step begins; [`RemovedStep::DONE`] after the last one.
    pub cursor: u32,
    /// Keys that matched and are protected by a lease.
    pub leased: u32,
    /// Keys removed.
    pub removed: u64,
}

impl RemovedStep {
    /// The cursor after the last step.
    pub const DONE: u32 = u32::MAX;

    /// Reads the body of the reply.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let step = rest.pod()?;
        rest.end()?;
        Ok(step)
    }
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
