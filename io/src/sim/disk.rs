//! The virtual disk. This head is its fault model.
//!
//! A disk is a device of fixed size that belongs to a machine, i.e. to the *name* of a node. It outlives processes:
//! [`SimPlatform::disk`] after a restart gives the same disk again. It is read and written in sectors of
//! [`SECTOR_BYTES`], as a file opened with `O_DIRECT` is: offsets and lengths that are not multiples of it get
//! `InvalidInput`. (The buffer's address is not looked at: no seed determines it.) Sectors never written are zeros and
//! cost nothing, so a disk of a terabyte is free.
//!
//! **What always holds.** A sector is written and read whole: it has the content of one write, never of two. What an
//! operation has been acknowledged to have written is what every later read returns, until it is overwritten, the
//! power fails, or a fault below. What a flush has been acknowledged for stays, power or not, but for these faults.
//! An operation owns its buffer until it is complete; a dropped future does not stop it, and its buffer is not freed
//! before.
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
//! **What is volatile.** A flush is for the writes that were complete before it began. All others, and all since the
//! last flush, are in the device's cache, and of that anything may survive a power loss:
//!
//! | event | in flight | complete, not flushed | flushed |
//! |---|---|---|---|
//! | future dropped | goes on | stays | stays |
//! | process paused | goes on | stays | stays |
//! | process killed, restarted | each sector happens or not, at once; none later | stays, and stays volatile | stays |
//! | machine without power | each sector happens or not | each write kept, lost, or torn: each sector by itself | stays |
//!
//! "Lost" means any older content that was not flushed away: with several unflushed writes to a sector, any of them or
//! what was flushed. So who restarts after a kill must flush before relying on what it read.
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
//! | failed flush | each sector it was for stays dirty, or is dropped: at once, or at the next power loss | EIO, once | where dropped |
//! | slow operation | takes [`DiskOptions::slow_factor`] times as long | – | none |
//! | stall | nothing completes for a time up to [`DiskOptions::stall_max`] | – | none |
//! | full | sectors never written before are not written beyond the quota | the writer: short, or `StorageFull` | none |
//! | breakdown | everything fails until it is mended, the content stays; what is in flight fails as above | all: EIO | as above |
//! | power loss | see above | nobody | where unflushed bytes were lost |
//!
//! The row of the failed flush is Linux's: an error is reported once, and *the next flush succeeds* although dropped
//! sectors, still readable until then, do not survive a power loss. Only writing them again helps.
//!
//! **What never happens:** a sector of mixed bytes; a write of a dead process that lands after its restart (a real
//! process holds a lock on its file until its last operation ends); flushed bytes that change without a row above;
//! rot, errors or misdirection that [`DiskFaults`] does not know of; a quota that shrinks what is there.
//!
//! In this file: a disk and its options. Its content and what lies in flight over it are in `disk/medium.rs`, the life
//! of an operation in `disk/operations.rs`, its owner's handle in `disk/handle.rs`, names of faults in
//! `disk/truth.rs`, the handle that breaks it in `disk/faults.rs`.
//!
//! [`SimPlatform::disk`]: super::SimPlatform::disk

mod faults;
mod handle;
mod medium;
mod operations;
mod truth;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::entropy::{Consumer, Entropy};
use super::trace::Event;
use super::world::{Appointment, NodeId, World, nanoseconds};
use crate::platform::Moment;

pub use faults::DiskFaults;
pub use handle::SimDisk;
pub use truth::{Damage, DiskCounts, DiskFault, DiskFaultRates, Incident};

use medium::Medium;
use operations::Operation;

/// Bytes of a sector: what offsets and lengths are multiples of, and what is written whole or not at all.
pub const SECTOR_BYTES: u64 = 4_096;

/// How far away "another place" is, half of the time, so that it hits what is in use on a large disk.
const NEAR_SECTORS: u64 = 256;

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
            quota_bytes: u64::MAX,
            slow_factor: 100,
            stall_max: Duration::from_millis(500),
            faults: DiskFaultRates::default(),
        }
    }
}

impl DiskOptions {
    /// A disk that takes 100 µs for everything and is never short: for tests that count or time something.
    pub fn calm() -> DiskOptions {
        let latency = Latency { min: Duration::from_micros(100), max: Duration::from_micros(100) };
        DiskOptions {
            read: latency,
            write: latency,
            flush: latency,
            short_percent: 0,
            ..DiskOptions::default()
        }
    }

    pub(super) fn check(&self) {
        for latency in [self.read, self.write, self.flush] {
            assert!(latency.min <= latency.max, "the least latency is above the greatest");
        }
        assert!(self.short_percent <= 100, "a percentage");
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
    stalled: Vec<(Appointment, u64)>,
    broken: bool,
    /// How many of the next operations suffer each fault.
    armed: [u32; DiskFault::ALL.len()],
    /// For what is normal: latencies, lengths, order.
    entropy: Entropy,
    /// For what is broken: faults do not shift the rest.
    chance: Entropy,
    counts: DiskCounts,
    incidents: Vec<Incident>,
}

impl Disk {
    /// Whether the next operation suffers `fault`.
    fn suffers(&mut self, fault: DiskFault) -> bool {
        let armed = &mut self.armed[fault as usize];
        if *armed > 0 {
            *armed -= 1;
            return true;
        }
        let rate_ppm = u64::from(self.options.faults.of(fault));
        rate_ppm > 0 && self.chance.below(1_000_000) < rate_ppm
    }

    /// The beginning of another range of the same length; `None` if there is no other.
    fn elsewhere(&mut self, sectors: &Range<u64>) -> Option<u64> {
        let last = self.sectors - (sectors.end - sectors.start);
        let (low, high) = if self.chance.percent(50) {
            (sectors.start.saturating_sub(NEAR_SECTORS), last.min(sectors.start + NEAR_SECTORS))
        } else {
            (0, last)
        };
        match self.chance.between(low, high) {
            other if other != sectors.start => Some(other),
            other if other < high => Some(other + 1),
            other if other > low => Some(other - 1),
            _ => None,
        }
    }
}

impl World {
    /// Opens a disk of a node's machine; makes it if it is new.
    fn open_disk(&mut self, node: NodeId, name: &str, bytes: u64) -> DiskId {
        assert!(bytes > 0 && bytes.is_multiple_of(SECTOR_BYTES), "a disk is a number of sectors");
        let machine = self.node(node).name.clone();
        let id = self.find_disk(&machine, name).unwrap_or_else(|| self.add_disk(machine, name, bytes));
        let there_bytes = self.disk(id).sectors * SECTOR_BYTES;
        assert!(there_bytes == bytes, "the disk {name} has {there_bytes} bytes and cannot have {bytes}");
        self.record(Event::DiskOpened, [u64::from(id.0), u64::from(node.0), bytes]);
        id
    }

    fn find_disk(&self, machine: &str, name: &str) -> Option<DiskId> {
        let index = self.disks.list.iter().position(|disk| disk.machine == machine && disk.name == name)?;
        Some(DiskId(index as u32))
    }

    fn add_disk(&mut self, machine: String, name: &str, bytes: u64) -> DiskId {
        let id = DiskId(u32::try_from(self.disks.list.len()).expect("fewer than 2^32 disks"));
        // Named by what it is, not by when it was opened: a run with one disk more stays comparable.
        let number = xxh3_64(format!("{machine}\0{name}").as_bytes()) >> 8;
        self.disks.list.push(Disk {
            machine,
            name: name.to_owned(),
            sectors: bytes / SECTOR_BYTES,
            medium: Medium::default(),
            operations: BTreeMap::new(),
            begun: 0,
            in_flight: 0,
            options: self.options.disk,
            slowed: 1,
            stalled_until_ns: 0,
            stalled: Vec::new(),
            broken: false,
            armed: [0; DiskFault::ALL.len()],
            entropy: Entropy::new(self.seed, Consumer::Disk, number),
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

    // -- what breaks --

    /// Counts, records and remembers a fault.
    fn note(&mut self, id: DiskId, fault: DiskFault, sectors: Range<u64>) {
        let (offset, bytes) = (sectors.start * SECTOR_BYTES, (sectors.end - sectors.start) * SECTOR_BYTES);
        let at = Moment(self.now_ns);
        let disk = self.disk_mut(id);
        disk.counts.faults[fault as usize] += 1;
        disk.incidents.push(Incident { at, fault, offset, bytes });
        self.record(Event::DiskFault, [u64::from(id.0) << 8 | fault as u64, offset, bytes]);
    }

    /// Makes sectors unreadable.
    fn make_unreadable(&mut self, id: DiskId, sectors: Range<u64>) {
        self.disk_mut(id).medium.make_unreadable(sectors.clone());
        self.note(id, DiskFault::ReadError, sectors);
    }

    /// Flips a bit of each sector.
    fn rot(&mut self, id: DiskId, sectors: Range<u64>) {
        let disk = self.disk_mut(id);
        sectors.clone().for_each(|sector| disk.medium.rot(sector, &mut disk.chance));
        self.note(id, DiskFault::Rot, sectors);
    }

    /// Nothing completes for `duration`, or longer if it already does not.
    fn stall(&mut self, id: DiskId, duration: Duration) {
        let until_ns = self.now_ns.saturating_add(nanoseconds(duration));
        let disk = self.disk_mut(id);
        disk.stalled_until_ns = disk.stalled_until_ns.max(until_ns);
        self.note(id, DiskFault::Stall, 0..0);
    }

    /// The machine of a node has no power any more, if nobody else lives on it.
    pub(super) fn cut_disk_power(&mut self, node: NodeId) {
        let machine = self.node(node).name.clone();
        if self.nodes.iter().any(|other| other.name == machine && other.is_alive()) {
            return;
        }
        for number in 0..self.disks.list.len() {
            let id = DiskId(number as u32);
            let disk = self.disk_mut(id);
            if disk.machine != machine {
                continue;
            }
            disk.counts.power_losses += 1;
            let losses = disk.medium.cut_power(&mut disk.entropy);
            self.record(Event::DiskPowerCut, [u64::from(id.0), losses.len() as u64, 0]);
            losses.into_iter().for_each(|sectors| self.note(id, DiskFault::PowerLoss, sectors));
        }
    }
}
