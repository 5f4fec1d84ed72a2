//! Bodies of membership and hand-over.
//!
//! Cores are members one by one: each registers, and each sends a heartbeat a second. Nothing of an engine is
//! shared between its cores, so nothing has to be agreed between them before they speak to the master.

use super::{Cursor, WireError};
use crate::checksum::Checksum;
use crate::ids::{CoreId, EngineId, Epoch, Incarnation, Version};
use crate::key::{NameRef, SLOT_COUNT, Slot};
use crate::limits::VALUE_BYTES_MAX;
use crate::settings::Settings;
use crate::table::{Member, WireMember};
use bytemuck::{Pod, Zeroable};

/// A core introduces itself, or says that it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who, where, and with what weight.
    pub member: Member,
    /// Cores of its engine; the master waits a moment for all of them before it makes a table.
    pub engine_cores: u16,
    /// The newest table it has.
    pub epoch: Epoch,
    /// Slots that are on their way to it, or from it, by that table.
    pub slots_moving: u32,
    /// By that table it has all its slots, and what a next life would find on its volume is what it answers from.
    pub keeps: bool,
    /// How full it is.
    pub load: Load,
}

/// How full a core is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Load {
    /// Bytes of its segments.
    pub capacity_bytes: u64,
    /// Bytes not allocated.
    pub free_bytes: u64,
    /// The largest value it could take without evicting anything.
    pub free_range_bytes_max: u64,
    /// Objects it holds.
    pub objects: u64,
    /// Median of the time from a request's arrival to its answer's first byte, over the last second.
    pub service_ns_p50: u64,
    /// The same, 99 of 100.
    pub service_ns_p99: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireReport {
    member: WireMember,
    epoch: u64,
    load: Load,
    engine_cores: u16,
    keeps: u16,
    slots_moving: u32,
}

impl Report {
    /// The body of [`super::Opcode::Register`], [`super::Opcode::Heartbeat`] and [`super::Opcode::Leave`].
    pub fn encode(&self) -> Vec<u8> {
        bytemuck::bytes_of(&WireReport {
            member: WireMember::from(&self.member),
            epoch: self.epoch.0,
            load: self.load,
            engine_cores: self.engine_cores,
            keeps: self.keeps.into(),
            slots_moving: self.slots_moving,
        })
        .to_vec()
    }

    /// Reads that body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let wire: WireReport = rest.pod()?;
        rest.end()?;
        if wire.engine_cores == 0 {
            return Err(WireError::Value("number of cores"));
        }
        if wire.keeps > 1 {
            return Err(WireError::Value("flag of the report"));
        }
        Ok(Report {
            member: wire.member.try_into()?,
            engine_cores: wire.engine_cores,
            slots_moving: wire.slots_moving,
            keeps: wire.keeps == 1,
            epoch: Epoch(wire.epoch),
            load: wire.load,
        })
    }
}

/// What the master answers to a [`Report`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Orders {
    /// The newest table: ask for it if yours is older.
    pub epoch: Epoch,
    /// What holds from now on.
    pub settings: Settings,
    /// 1: the master has restarted and knows less than you: offer it your table.
    pub wants_table: u8,
    /// 1: the master does not know this core (any more): register.
    pub wants_register: u8,
    /// The number of a [`Heritage`].
    pub heritage: u8,
    /// 0.
    pub reserved: [u8; 5],
}

/// Whether the master will know, whatever becomes of it, that a core keeps its slots: only then does a next life find what is durable now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Heritage {
    /// Not yet.
    #[default]
    Unknown = 0,
    /// It is in the ledger.
    Remembered = 1,
    /// The master has no ledger.
    Forgotten = 2,
}

impl Orders {
    /// Reads the body of the answer.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let orders: Orders = rest.pod()?;
        rest.end()?;
        orders.settings.checked().map_err(|_| WireError::Value("settings"))?;
        let has_heritage = orders.heritage <= Heritage::Forgotten as u8;
        if orders.wants_table > 1 || orders.wants_register > 1 || !has_heritage || orders.reserved != [0; 5] {
            return Err(WireError::Value("flag or reserved part of the orders"));
        }
        Ok(orders)
    }

    /// What becomes of what the core keeps.
    pub fn heritage(&self) -> Heritage {
        match self.heritage {
            1 => Heritage::Remembered,
            2 => Heritage::Forgotten,
            _ => Heritage::Unknown,
        }
    }
}

/// A set of slots: one bit each.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet(Box<[u64; SLOT_COUNT / 64]>);

impl SlotSet {
    /// No slot.
    pub fn new() -> Self {
        SlotSet(Box::new([0; SLOT_COUNT / 64]))
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: Slot) {
        self.0[slot.index() / 64] |= 1 << (slot.index() % 64);
    }

    /// Takes a slot out; whether it was there.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let was_there = self.contains(slot);
        self.0[slot.index() / 64] &= !(1 << (slot.index() % 64));
        was_there
    }

    /// Whether it has the slot.
    pub fn contains(&self, slot: Slot) -> bool {
        self.0[slot.index() / 64] & (1 << (slot.index() % 64)) != 0
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    fn read(rest: &mut Cursor<'_>) -> Result<Self, WireError> {
        let mut slots = SlotSet::new();
        for word in slots.0.iter_mut() {
            *word = rest.pod()?;
        }
        Ok(slots)
    }

    /// Its slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        Slot::all().filter(|slot| self.contains(*slot))
    }
}

impl Default for SlotSet {
    fn default() -> Self {
        SlotSet::new()
    }
}

impl std::fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlotSet({} slots)", self.len())
    }
}

/// A new home asks the origin for a page of the entries of some slots, or says that it has them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeSlots {
    /// Who asks.
    pub taker: CoreId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Where to go on; 0 at first, then what the last page answered. Meaningless in [`super::Opcode::SlotsTaken`].
    pub cursor: u32,
    /// The slots.
    pub slots: SlotSet,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireTakeSlots {
    engine: EngineId,
    incarnation: Incarnation,
    core: u16,
    reserved: u16,
    cursor: u32,
}

impl TakeSlots {
    /// The body of [`super::Opcode::TakeSlots`], [`super::Opcode::SlotsTaken`], [`super::Opcode::OfferReplicas`] and
    /// [`super::Opcode::ReplicasClaimed`].
    pub fn encode(&self) -> Vec<u8> {
        let head = WireTakeSlots {
            engine: self.taker.engine,
            incarnation: self.incarnation,
            core: self.taker.core,
            reserved: 0,
            cursor: self.cursor,
        };
        [bytemuck::bytes_of(&head), bytemuck::cast_slice(&self.slots.0[..])].concat()
    }

    /// Reads that body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let head: WireTakeSlots = rest.pod()?;
        let slots = SlotSet::read(&mut rest)?;
        rest.end()?;
        if head.reserved != 0 {
            return Err(WireError::Value("reserved part of the taker"));
        }
        Ok(TakeSlots {
            taker: CoreId { engine: head.engine, core: head.core },
            incarnation: head.incarnation,
            cursor: head.cursor,
            slots,
        })
    }
}

/// One directory entry on its way to a new home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The object.
    pub name: NameRef<'a>,
    /// Its version.
    pub version: Version,
    /// Bytes of its value.
    pub value_bytes: u64,
    /// Of its value.
    pub checksum: Checksum,
    /// Who has the bytes.
    pub holder: CoreId,
    /// Milliseconds that its lease still runs.
    pub lease_ms: u32,
    /// Whether the holder may keep a replica ([`super::replica`]): it has to let go of it before the object changes.
    pub is_kept: bool,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireEntry {
    version: Version,
    value_bytes: u64,
    checksum: Checksum,
    holder_engine: EngineId,
    lease_ms: u32,
    holder_core: u16,
    name_bytes: u16,
    is_kept: u8,
    reserved: [u8; 7],
}

/// A page of entries on its way to a new home. An object that several cores hold has an entry for each of them, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// Where the next page begins; [`LAST_PAGE`]: nowhere.
    pub cursor: u32,
    /// Of the slots asked for: those whose entries these are. They are complete with the last page.
    pub given: SlotSet,
    /// Of the slots asked for: those that the origin never had. Slots in neither set: ask again later.
    pub declined: SlotSet,
    /// The entries.
    pub entries: Vec<Entry<'a>>,
}

/// Where a page goes on when it was the last one.
pub const LAST_PAGE: u32 = u32::MAX;

/// Writes a page of entries.
#[derive(Debug)]
pub struct PageWriter(Vec<u8>);

impl PageWriter {
    /// A page without entries.
    pub fn new(given: &SlotSet, declined: &SlotSet) -> Self {
        PageWriter(
            [&[0; 8][..], bytemuck::cast_slice(&given.0[..]), bytemuck::cast_slice(&declined.0[..])].concat(),
        )
    }

    /// Bytes so far.
    pub fn body_bytes(&self) -> usize {
        self.0.len()
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &Entry<'_>) {
        let head = WireEntry {
            version: entry.version,
            value_bytes: entry.value_bytes,
            checksum: entry.checksum,
            holder_engine: entry.holder.engine,
            lease_ms: entry.lease_ms,
            holder_core: entry.holder.core,
            name_bytes: entry.name.bytes().len() as u16,
            is_kept: u8::from(entry.is_kept),
            reserved: [0; 7],
        };
        self.0.extend_from_slice(bytemuck::bytes_of(&head));
        self.0.extend_from_slice(entry.name.bytes());
    }

    /// The body, which goes on at `cursor` or is the [`LAST_PAGE`].
    pub fn finish(mut self, cursor: u32) -> Vec<u8> {
        self.0[..4].copy_from_slice(&cursor.to_le_bytes());
        self.0
    }
}

impl<'a> Page<'a> {
    /// Reads a page.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let [cursor, reserved]: [u32; 2] = rest.pod()?;
        if reserved != 0 {
            return Err(WireError::Value("reserved part of the page"));
        }
        let (given, declined) = (SlotSet::read(&mut rest)?, SlotSet::read(&mut rest)?);
        let mut entries = Vec::new();
        while !rest.rest().is_empty() {
            let head: WireEntry = rest.pod()?;
            let name = NameRef::parse(rest.take(usize::from(head.name_bytes))?)?;
            if head.value_bytes == 0 || head.value_bytes > VALUE_BYTES_MAX {
                return Err(WireError::Value("value length"));
            }
            if head.version == Version::ANY {
                return Err(WireError::Value("version"));
            }
            if head.is_kept > 1 || head.reserved != [0; 7] {
                return Err(WireError::Value("flag or reserved part of an entry"));
            }
            entries.push(Entry {
                name,
                version: head.version,
                value_bytes: head.value_bytes,
                checksum: head.checksum,
                holder: CoreId { engine: head.holder_engine, core: head.holder_core },
                lease_ms: head.lease_ms,
                is_kept: head.is_kept == 1,
            });
        }
        Ok(Page { cursor, given, declined, entries })
    }
}

const _: () = assert!(size_of::<WireReport>() == 120);
const _: () = assert!(size_of::<Orders>() == 32);
const _: () = assert!(size_of::<WireTakeSlots>() == 24);
const _: () = assert!(size_of::<WireEntry>() == 48);

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
