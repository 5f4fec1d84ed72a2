//! The virtual disk. This head is its fault model.
//!
//! A disk is a device of fixed size that belongs to a machine, i.e. to the *name* of a node. It outlives processes:
//! [`SimPlatform::disk`] after a restart gives the same disk again. It is read and written in sectors of
//! [`SECTOR_BYTES`], as a file opened with `O_DIRECT` is: offsets and lengths that are not multiples of it get
//! `InvalidInput`. (The buffer's address is not looked at: no seed determines it.) Sectors never written are zeros and
//! cost nothing, so a disk of a terabyte is free.
//!
//! A disk has one owner at a time, a life of a node, which may open it as often as it likes. For others it is busy
//! while that one lives, also paused: the lock of a real device. Who is killed holds nothing any more.
//!
//! A part of a disk is a view of it, with an end of its own; faults and power are the disk's.
//!
//! **What always holds.** A sector is written and read whole: it has the content of one write, never of two, but for
//! what a power loss tears. What an operation has been acknowledged to have written is what every later read returns,
//! until it is overwritten, the power fails, or a fault below. What a flush has been acknowledged for stays, power or
//! not, but for these faults. An operation owns its buffer until it is complete; a dropped future does not stop it, and
//! its buffer is not freed before.
//!
//! **What is delayed.** Each operation takes a random time of [`DiskOptions`], whatever its length; any number of them
//! are in flight at once. Hence they *complete in any order*. A write reaches the disk sector by sector, at any time
//! between beginning and completion: who reads meanwhile gets old and new sectors in any mix (but once a read has
//! returned the new one, none that begins later returns the old one), and of two writes at once either may win, sector
//! by sector. Bandwidth and queue depth are not modelled.
//!
//! **What is short.** Reads and writes take fewer sectors than they could, at least one
//! ([`DiskOptions::short_percent`]); so do those that reach over the disk's end or quota. At the end a read returns 0
//! and a write `StorageFull`.
//!
//! **What is discarded** becomes zeros or stays as it was: for each sector a coin decides when the discard reaches it,
//! at any time between beginning and completion, as with a write. So it is volatile as a write is, and of a discard that
//! the power loss takes nothing is missed: older content is what was promised anyway, and no damage. It takes the time of a
//! write, is never short, is cut at the disk's end without an error, gives nothing back to the quota, and can suffer
//! what is in the row "failed write" and those of slowness below. Sectors that became zeros are readable again.
//!
//! **What is volatile.** A flush is for the writes that were complete before it began. All others, and all since the
//! last flush, are in the device's cache, and of that anything may survive a power loss:
//!
//! | event | in flight | complete, not flushed | flushed |
//! |---|---|---|---|
//! | future dropped | goes on | stays | stays |
//! | process paused | goes on | stays | stays |
//! | process killed, restarted | each sector happens or not, at once; none later | stays, and stays volatile | stays |
//! | machine without power | each sector happens or not | each write kept, lost, or torn: sector by sector | stays |
//!
//! "Lost" means any older content that was not flushed away: with several unflushed writes to a sector, any of them or
//! what was flushed. So who restarts after a kill must flush before relying on what it read.
//!
//! Devices promise no more than whole logical blocks, and those may have 512 bytes. So of the sectors of a torn write
//! some ([`DiskOptions::torn_sector_percent`]) are torn themselves: some of their blocks of 512 bytes are new, some
//! old. They count as damaged.
//!
//! **What breaks**, at random ([`DiskFaultRates`]) or on demand ([`DiskFaults`]); every fault is counted, recorded in
//! the event hash and kept in [`DiskFaults::incidents`]. A fault that damages content stays in
//! [`DiskFaults::damages`] until the content is overwritten:
//!
//! | fault | what happens | who learns | damage |
//! |---|---|---|---|
//! | read error | a few sectors cannot be read until they are written again | every read of them: EIO | there |
//! | rot | one bit of a sector flips before it is read | nobody | there |
//! | misdirected read | the bytes come from another place, half of the time a near one | nobody | none, it is over |
//! | misdirected write | the bytes land at another place, the right one keeps its old bytes | nobody | at both |
//! | lost write | acknowledged, and never happened | nobody | there |
//! | failed write | each sector happens or not | the writer: EIO | none |
//! | failed flush | each sector stays dirty, or is dropped: at once, or with the power | EIO, once | where dropped |
//! | slow operation | takes [`DiskOptions::slow_factor`] times as long | – | none |
//! | stall | nothing completes for a time up to [`DiskOptions::stall_max`] | – | none |
//! | full | sectors never written before are not written beyond the quota | writer: short, or `StorageFull` | none |
//! | breakdown | everything fails until it is mended, also what is in flight; the content stays | all: EIO | as above |
//! | power loss | see above | nobody | where unflushed bytes were lost, or torn |
//!
//! The row of the failed flush is Linux's: an error is reported once, and *the next flush succeeds* although dropped
//! sectors, still readable until then, do not survive a power loss. Only writing them again helps.
//!
//! What is in flight when a disk breaks down fails, also if it is mended before that is due. Of an unreadable sector
//! nothing older is readable either: a write over it heals it, unless that is lost itself.
//!
//! An operation of no bytes suffers nothing, nor does one that is refused. A write beyond the disk's end is its owner's
//! mistake: it gets `StorageFull`, and is no fault.
//!
//! **What never happens:** a sector torn by anything else than a power loss; a write of a dead process that lands after
//! its restart (a real process holds a lock on its file until its last operation ends); flushed bytes that change
//! without a row above; rot, errors or misdirection that [`DiskFaults`] does not know of; a quota that shrinks what is
//! there.
//!
//! In this file: a disk, its options, its owner. Its content and what lies in flight over it are in `disk/medium.rs`,
//! the life of an operation in `disk/operations.rs`, its owner's handle in `disk/handle.rs`, names of faults in
//! `disk/truth.rs`, how they are done and the handle for that in `disk/faults.rs`.
//!
//! [`SimPlatform::disk`]: super::SimPlatform::disk

mod faults;
mod handle;
mod medium;
mod operations;
mod truth;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_64;

use super::entropy::{Consumer, Entropy};
use super::trace::Event;
use super::world::{Appointment, NodeId, World};
use crate::disk::{DiskError, DiskPlace, SECTOR_BYTES, check_size};

pub use faults::DiskFaults;
pub use handle::SimDisk;
pub use truth::{Damage, DiskCounts, DiskFault, DiskFaultRates, Incident};

use medium::Medium;
use operations::Operation;

/// How long something takes: a random time between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The least.
    pub min: Duration,
    /// The most.
    pub max: Duration,
}

/// How disks behave when nothing is broken, and how often what breaks.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// Of a read.
    pub read: Latency,
    /// Of a write.
    pub write: Latency,
    /// Of a flush.
    pub flush: Latency,
    /// How many of 100 reads and writes take a random part of what they could.
    pub short_percent: u32,
    /// How many of 100 sectors of a write that a power loss tears are torn themselves, in blocks of 512 bytes.
    pub torn_sector_percent: u32,
    /// Whether disks want to hear what is of no use any more.
    pub wants_discards: bool,
    /// How many bytes of a disk can ever be written; [`DiskFaults::set_quota`] changes it.
    pub quota_bytes: u64,
    /// How many times as long a slow operation takes.
    pub slow_factor: u32,
    /// The longest stall.
    pub stall_max: Duration,
    /// What breaks by itself: nothing, unless told.
    pub faults: DiskFaultRates,
}

impl Default for DiskOptions {
    /// A fast SSD without faults, at times short.
    fn default() -> DiskOptions {
        let latency = |min, max| Latency { min: Duration::from_micros(min), max: Duration::from_micros(max) };
        DiskOptions {
            read: latency(50, 500),
            write: latency(20, 1_000),
            flush: latency(100, 5_000),
            short_percent: 10,
            torn_sector_percent: 5,
            wants_discards: true,
            quota_bytes: u64::MAX,
            slow_factor: 100,
            stall_max: Duration::from_millis(500),
            faults: DiskFaultRates::default(),
        }
    }
}

impl DiskOptions {
    /// A disk that takes 100 µs for everything, is never short, has no torn sectors and wants no discards: for tests that count or time
    /// something.
    pub fn calm() -> DiskOptions {
        let latency = Latency { min: Duration::from_micros(100), max: Duration::from_micros(100) };
        DiskOptions {
            read: latency,
            write: latency,
            flush: latency,
            short_percent: 0,
            torn_sector_percent: 0,
            wants_discards: false,
            ..DiskOptions::default()
        }
    }

    pub(super) fn check(&self) {
        for latency in [self.read, self.write, self.flush] {
            assert!(latency.min <= latency.max, "the least latency is above the greatest");
        }
        assert!(self.short_percent <= 100 && self.torn_sector_percent <= 100, "percentages");
        assert!(self.slow_factor > 0, "slow is not instant");
    }
}

/// The place of a disk in [`Disks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DiskId(u32);

/// All disks of all machines, in the order in which they were first opened.
#[derive(Default)]
pub(super) struct Disks {
    list: Vec<Disk>,
}

/// One disk.
struct Disk {
    /// The name of the node, whichever life of it.
    machine: String,
    name: String,
    /// Who has opened it last. While it lives, nobody else can.
    owner: NodeId,
    sectors: u64,
    medium: Medium,
    operations: BTreeMap<u64, Operation>,
    /// Operations ever begun: the last one's number.
    begun: u64,
    in_flight: u64,
    options: DiskOptions,
    /// All operations take so many times as long.
    slowed: u32,
    stalled_until_ns: u64,
    /// Operations that were due while it stalled, and when they are due instead.
    stalled: BTreeMap<u64, Appointment>,
    broken: bool,
    /// How many of the next operations suffer each fault.
    armed: [u32; DiskFault::ALL.len()],
    /// For how long operations take and how many sectors. Nothing else draws from it: no fault of one operation
    /// shifts the others.
    entropy: Entropy,
    /// For what reaches the disk when, and what survives.
    landing: Entropy,
    /// For what breaks.
    chance: Entropy,
    counts: DiskCounts,
    incidents: Vec<Incident>,
}

impl World {
    /// Opens a disk of a node's machine; makes it if it is new. From now on the node owns it.
    fn open_disk(&mut self, node: NodeId, name: &str, bytes: u64) -> io::Result<DiskId> {
        assert!(bytes > 0 && bytes.is_multiple_of(SECTOR_BYTES), "a disk is a number of sectors");
        if !self.node(node).is_alive() {
            return Err(Errno::NODEV.into());
        }
        let machine = self.node(node).name.clone();
        let id = self.find_disk(&machine, name).unwrap_or_else(|| self.add_disk(node, machine, name, bytes));
        let there_bytes = self.disk(id).sectors * SECTOR_BYTES;
        assert!(there_bytes == bytes, "the disk {name} has {there_bytes} bytes and cannot have {bytes}");
        let owner = self.disk(id).owner;
        if owner != node && self.node(owner).is_alive() {
            return Err(Errno::BUSY.into());
        }
        self.disk_mut(id).owner = node;
        self.record(Event::DiskOpened, [u64::from(id.0), u64::from(node.0), bytes]);
        Ok(id)
    }

    /// The size of a disk that was asked for by its place.
    fn place_bytes(&self, node: NodeId, place: &DiskPlace) -> io::Result<u64> {
        let there = self.find_disk(&self.node(node).name, &place.path.to_string_lossy());
        let there_bytes = there.map(|id| self.disk(id).sectors * SECTOR_BYTES);
        let bytes = place.bytes.or(there_bytes).ok_or(io::ErrorKind::NotFound)?;
        check_size(&place.path, bytes)?;
        match there_bytes {
            Some(there_bytes) if there_bytes != bytes => {
                Err(DiskError::OtherSize { path: place.path.clone(), there_bytes, wanted_bytes: bytes }
                    .into())
            }
            _ => Ok(bytes),
        }
    }

    fn find_disk(&self, machine: &str, name: &str) -> Option<DiskId> {
        let index = self.disks.list.iter().position(|disk| disk.machine == machine && disk.name == name)?;
        Some(DiskId(index as u32))
    }

    fn add_disk(&mut self, owner: NodeId, machine: String, name: &str, bytes: u64) -> DiskId {
        let id = DiskId(u32::try_from(self.disks.list.len()).expect("fewer than 2^32 disks"));
        // Named by what it is, not by when it was opened: a run with one disk more stays comparable.
        let number = xxh3_64(format!("{machine}\0{name}").as_bytes()) >> 8;
        let mut entropy = Entropy::new(self.seed, Consumer::Disk, number);
        self.disks.list.push(Disk {
            machine,
            name: name.to_owned(),
            owner,
            sectors: bytes / SECTOR_BYTES,
            medium: Medium::default(),
            operations: BTreeMap::new(),
            begun: 0,
            in_flight: 0,
            options: self.options.disk,
            slowed: 1,
            stalled_until_ns: 0,
            stalled: BTreeMap::new(),
            broken: false,
            armed: [0; DiskFault::ALL.len()],
            landing: Entropy::new(entropy.next(), Consumer::Disk, number),
            entropy,
            chance: Entropy::new(self.seed, Consumer::DiskFault, number),
            counts: DiskCounts::default(),
            incidents: Vec::new(),
        });
        id
    }

    fn disk(&self, id: DiskId) -> &Disk {
        &self.disks.list[id.0 as usize]
    }

    fn disk_mut(&mut self, id: DiskId) -> &mut Disk {
        &mut self.disks.list[id.0 as usize]
    }
}
