//! The life of an operation: begun, complete or abandoned, its result taken.
//!
//! ```text
//!   begin ──► in flight ──► complete ──► taken by its future
//!     │          │              └──────► nobody asks: forgotten at once
//!     │          └─ process dies ──────► gone; a future that is still held gets ENODEV
//!     └─ invalid, or the process is dead: never in flight
//! ```
//!
//! While it is in flight, the operation's future holds its buffer, or the operation does if the future was dropped.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_64;

use super::medium::Fate;
use super::truth::DiskFault;
use super::{Disk, DiskId, Latency, SECTOR_BYTES};
use crate::disk::{DiskPart, check_sectors};
use crate::sim::trace::Event;
use crate::sim::world::{Due, NodeId, World, nanoseconds};

/// The most sectors that become unreadable at once.
const UNREADABLE_SECTORS_MAX: u64 = 16;

/// What an owner asks for.
pub(super) enum Request {
    Read { offset: u64, bytes: u64 },
    Write { offset: u64, data: Vec<u8> },
    Flush,
    Discard { offset: u64, bytes: u64 },
}

/// As numbers of the event hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read = 1,
    Write,
    Flush,
    Discard,
}

/// How an operation will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Fine,
    /// With EIO, half done.
    Failing,
    /// With this error, and never begun.
    Refused(Errno),
}

/// What an operation has come to.
pub(super) struct Outcome {
    /// Bytes read or written.
    pub(super) bytes: Result<u64, Errno>,
    /// What was read.
    pub(super) data: Vec<u8>,
}

/// An operation whose result nobody has taken.
pub(super) struct Operation {
    node: NodeId,
    kind: Kind,
    /// Where, as asked for, and cut to what it will really take.
    sectors: Range<u64>,
    course: Course,
    waker: Option<Waker>,
    outcome: Option<Outcome>,
    /// Its future was dropped: nobody will take the result.
    is_forgotten: bool,
    /// The buffer, when the future is gone and the operation is not.
    buffer: Option<Box<dyn Any>>,
}

impl Request {
    fn kind(&self) -> Kind {
        match self {
            Request::Read { .. } => Kind::Read,
            Request::Write { .. } => Kind::Write,
            Request::Flush => Kind::Flush,
            Request::Discard { .. } => Kind::Discard,
        }
    }

    /// Offset and bytes.
    fn range(&self) -> (u64, u64) {
        match self {
            Request::Read { offset, bytes } | Request::Discard { offset, bytes } => (*offset, *bytes),
            Request::Write { offset, data } => (*offset, data.len() as u64),
            Request::Flush => (0, 0),
        }
    }

    /// The same of the disk, asked of a part of it: whose end is an end.
    pub(super) fn of_part(self, part: DiskPart) -> io::Result<Request> {
        let (offset, bytes) = self.range();
        let left = part.bytes.saturating_sub(offset);
        if check_sectors(offset, bytes).is_err() {
            // It is refused with the place that was asked for.
            return Ok(self);
        }
        let at = part.at + offset.min(part.bytes);
        Ok(match self {
            Request::Write { data, .. } if left == 0 && !data.is_empty() => {
                return Err(Errno::NOSPC.into());
            }
            Request::Write { mut data, .. } => {
                data.truncate(left as usize);
                Request::Write { offset: at, data }
            }
            Request::Read { .. } => Request::Read { offset: at, bytes: bytes.min(left) },
            Request::Discard { .. } => Request::Discard { offset: at, bytes: bytes.min(left) },
            Request::Flush => Request::Flush,
        })
    }

    /// What it asks for besides its place, as a number of the event hash: of a write, the content.
    fn substance(&self) -> u64 {
        match self {
            Request::Write { data, .. } => xxh3_64(data),
            _ => self.range().1,
        }
    }
}

impl Operation {
    /// The disk breaks down: what is in flight fails.
    pub(super) fn break_down(&mut self) {
        if self.course == Course::Fine {
            self.course = Course::Failing;
        }
    }
}

fn key(id: DiskId, number: u64, kind: Kind) -> u64 {
    u64::from(id.0) << 40 | number << 3 | kind as u64
}

impl Disk {
    /// Cuts what is asked for to what the disk's end, chance and quota leave of it. Also says what the quota has cut.
    fn cut(&mut self, kind: Kind, asked: &Range<u64>) -> (Range<u64>, Range<u64>) {
        let start = asked.start.min(self.sectors);
        let mut count = asked.end.min(self.sectors) - start;
        let short_percent = self.options.short_percent;
        if kind != Kind::Discard && short_percent > 0 && count > 1 && self.entropy.percent(short_percent) {
            count = self.entropy.between(1, count - 1);
        }
        let wanted = start..start + count;
        if kind == Kind::Write {
            let quota = self.options.quota_bytes / SECTOR_BYTES;
            count = self.medium.allocate(wanted.clone(), quota);
        }
        (start..start + count, start + count..wanted.end)
    }

    fn latency_ns(&mut self, kind: Kind, is_slow: bool) -> u64 {
        let Latency { min, max } = match kind {
            Kind::Read => self.options.read,
            Kind::Write | Kind::Discard => self.options.write,
            Kind::Flush => self.options.flush,
        };
        let factor = if is_slow { u64::from(self.options.slow_factor) } else { 1 };
        let latency_ns = self.entropy.between(nanoseconds(min), nanoseconds(max));
        latency_ns.saturating_mul(u64::from(self.slowed)).saturating_mul(factor)
    }

    /// Does what an operation was for, at its end. `None`: there is no such operation.
    fn perform(&mut self, number: u64) -> Option<Outcome> {
        let operation = self.operations.get(&number)?;
        let (kind, course) = (operation.kind, operation.course);
        let bytes = (operation.sectors.end - operation.sectors.start) * SECTOR_BYTES;
        if let Course::Refused(errno) = course {
            return Some(Outcome { bytes: Err(errno), data: Vec::new() });
        }
        let fails = course == Course::Failing;
        let mut data = Some(Vec::new());
        match kind {
            Kind::Read => data = self.medium.end_read(number, &mut self.landing),
            Kind::Write | Kind::Discard => self.medium.end_write(number, fails, &mut self.landing),
            Kind::Flush => self.medium.end_flush(number, fails, &mut self.landing),
        }
        Some(match data {
            Some(data) if !fails => Outcome { bytes: Ok(bytes), data },
            _ => Outcome { bytes: Err(Errno::IO), data: Vec::new() },
        })
    }

    fn count(&mut self, kind: Kind, bytes: Result<u64, Errno>) {
        let counts = &mut self.counts;
        match (kind, bytes) {
            (_, Err(_)) => counts.failed += 1,
            (Kind::Read, Ok(bytes)) => {
                counts.reads += 1;
                counts.bytes_read += bytes;
            }
            (Kind::Write, Ok(bytes)) => {
                counts.writes += 1;
                counts.bytes_written += bytes;
            }
            (Kind::Flush, Ok(_)) => counts.flushes += 1,
            (Kind::Discard, Ok(_)) => counts.discards += 1,
        }
    }
}

impl World {
    // -- beginning --

    /// Begins an operation; returns its number.
    pub(super) fn begin_disk_operation(
        &mut self,
        id: DiskId,
        node: NodeId,
        request: Request,
    ) -> io::Result<u64> {
        let (kind, (offset, bytes)) = (request.kind(), request.range());
        if !self.node(node).is_alive() {
            return Err(Errno::NODEV.into());
        }
        check_sectors(offset, bytes)?;
        let asked = offset / SECTOR_BYTES..(offset + bytes) / SECTOR_BYTES;
        let disk = self.disk_mut(id);
        disk.begun += 1;
        disk.in_flight += 1;
        disk.counts.in_flight_max = disk.counts.in_flight_max.max(disk.in_flight);
        let number = disk.begun;
        self.record(Event::DiskBegun, [key(id, number, kind), offset, request.substance()]);
        let (course, sectors) = self.start(id, number, request, asked);
        let is_slow = self.start_late(id, kind, course, &sectors);
        let disk = self.disk_mut(id);
        let latency_ns = disk.latency_ns(kind, is_slow);
        let operation = Operation {
            node,
            kind,
            sectors,
            course,
            waker: None,
            outcome: None,
            is_forgotten: false,
            buffer: None,
        };
        disk.operations.insert(number, operation);
        self.enter(self.now_ns.saturating_add(latency_ns), Due::Disk { disk: id, operation: number });
        Ok(number)
    }

    /// Hands an operation to the medium, with the faults that it will suffer.
    fn start(
        &mut self,
        id: DiskId,
        number: u64,
        request: Request,
        asked: Range<u64>,
    ) -> (Course, Range<u64>) {
        let disk = self.disk_mut(id);
        if disk.broken {
            return (Course::Refused(Errno::IO), asked.start..asked.start);
        }
        let kind = request.kind();
        let (sectors, beyond_quota) = disk.cut(kind, &asked);
        if !beyond_quota.is_empty() {
            self.note(id, DiskFault::Full, beyond_quota);
        }
        if kind == Kind::Write && sectors.is_empty() && !asked.is_empty() {
            return (Course::Refused(Errno::NOSPC), sectors);
        }
        let is_short = sectors.end - sectors.start < asked.end - asked.start;
        let disk = self.disk_mut(id);
        let course = match request {
            Request::Read { .. } => {
                disk.counts.short_reads += u64::from(is_short);
                self.start_read(id, number, sectors.clone());
                Course::Fine
            }
            Request::Write { mut data, .. } => {
                disk.counts.short_writes += u64::from(is_short);
                data.truncate(((sectors.end - sectors.start) * SECTOR_BYTES) as usize);
                self.start_write(id, number, sectors.clone(), data)
            }
            Request::Flush => {
                disk.medium.begin_flush(number);
                self.fails(id, DiskFault::FailedFlush, 0..0)
            }
            Request::Discard { .. } if sectors.is_empty() => Course::Fine,
            Request::Discard { .. } => {
                disk.medium.begin_discard(number, sectors.clone());
                self.fails(id, DiskFault::FailedWrite, sectors.clone())
            }
        };
        (course, sectors)
    }

    /// Whether an operation that begins will be slow. It may also stall the disk.
    fn start_late(&mut self, id: DiskId, kind: Kind, course: Course, sectors: &Range<u64>) -> bool {
        let is_of_nothing = kind != Kind::Flush && sectors.is_empty();
        if is_of_nothing || matches!(course, Course::Refused(_)) {
            return false;
        }
        let is_slow = self.disk_mut(id).suffers(DiskFault::Slow);
        if is_slow {
            self.note(id, DiskFault::Slow, sectors.clone());
        }
        if self.disk_mut(id).suffers(DiskFault::Stall) {
            let disk = self.disk_mut(id);
            let stall_ns = disk.chance.between(1, nanoseconds(disk.options.stall_max).max(1));
            self.stall(id, Duration::from_nanos(stall_ns));
        }
        is_slow
    }

    fn fails(&mut self, id: DiskId, fault: DiskFault, sectors: Range<u64>) -> Course {
        if !self.disk_mut(id).suffers(fault) {
            return Course::Fine;
        }
        self.note(id, fault, sectors);
        Course::Failing
    }

    fn start_read(&mut self, id: DiskId, number: u64, sectors: Range<u64>) {
        let count = sectors.end - sectors.start;
        let mut from = sectors.start;
        if count > 0 {
            if self.disk_mut(id).suffers(DiskFault::ReadError) {
                let chance = &mut self.disk_mut(id).chance;
                let start = chance.between(sectors.start, sectors.end - 1);
                let end = chance.between(start + 1, sectors.end.min(start + UNREADABLE_SECTORS_MAX));
                self.make_unreadable(id, start..end);
            }
            if self.disk_mut(id).suffers(DiskFault::Rot) {
                let sector = self.disk_mut(id).chance.between(sectors.start, sectors.end - 1);
                self.rot(id, sector..sector + 1);
            }
            if let Some(other) = self.disk_mut(id).goes_astray(DiskFault::MisdirectedRead, &sectors) {
                from = other;
                self.note(id, DiskFault::MisdirectedRead, sectors);
            }
        }
        self.disk_mut(id).medium.begin_read(number, from..from + count);
    }

    fn start_write(&mut self, id: DiskId, number: u64, sectors: Range<u64>, data: Vec<u8>) -> Course {
        if sectors.is_empty() {
            return Course::Fine;
        }
        let mut fate = Fate::Proper;
        if self.disk_mut(id).suffers(DiskFault::LostWrite) {
            fate = Fate::Lost;
            self.note(id, DiskFault::LostWrite, sectors.clone());
        } else if let Some(other) = self.disk_mut(id).goes_astray(DiskFault::MisdirectedWrite, &sectors) {
            fate = Fate::Misdirected(other);
            self.note(id, DiskFault::MisdirectedWrite, sectors.clone());
            self.remember(id, DiskFault::MisdirectedWrite, other..other + sectors.end - sectors.start);
        }
        self.disk_mut(id).medium.begin_write(number, sectors.start, data, fate);
        self.fails(id, DiskFault::FailedWrite, sectors)
    }

    // -- ending --

    /// An operation is due. On a disk that stalls it waits on.
    pub(in crate::sim) fn complete_disk_operation(&mut self, id: DiskId, number: u64) {
        // Its process may have died meanwhile.
        let is_in_flight = |operation: &Operation| operation.outcome.is_none();
        if !self.disk(id).operations.get(&number).is_some_and(is_in_flight)
            || self.waits_for_stall(id, number)
        {
            return;
        }
        let disk = self.disk_mut(id);
        let Some(outcome) = disk.perform(number) else { return };
        let Some(operation) = disk.operations.get_mut(&number) else { return };
        let (kind, bytes) = (operation.kind, outcome.bytes);
        let result = bytes.unwrap_or_else(|errno| u64::MAX - errno.raw_os_error() as u64);
        let numbers = [key(id, number, kind), result, xxh3_64(&outcome.data)];
        operation.outcome = Some(outcome);
        let (waker, is_forgotten) = (operation.waker.take(), operation.is_forgotten);
        disk.in_flight -= 1;
        disk.count(kind, bytes);
        let forgotten = if is_forgotten { disk.operations.remove(&number) } else { None };
        self.record(Event::DiskComplete, numbers);
        self.wake(waker);
        self.release(forgotten.and_then(|operation| operation.buffer));
    }

    /// The process of a node has died with all that it had in flight, on all disks.
    pub(in crate::sim) fn abandon_disk_operations(&mut self, node: NodeId) {
        for number in 0..self.disks.list.len() {
            let id = DiskId(number as u32);
            let all = &mut self.disk_mut(id).operations;
            let orphans: Vec<(u64, Operation)> =
                all.extract_if(.., |_, operation| operation.node == node).collect();
            for (number, operation) in orphans {
                if operation.outcome.is_none() {
                    let disk = self.disk_mut(id);
                    disk.in_flight -= 1;
                    disk.counts.abandoned += 1;
                    disk.medium.abandon(number, &mut disk.landing);
                    self.leave_stall(id, number);
                    self.record(Event::DiskAbandoned, [key(id, number, operation.kind), 0, 0]);
                }
                self.wake(operation.waker);
                self.release(operation.buffer);
            }
        }
    }

    // -- its future --

    /// Takes the result of an operation, or registers the task for when there is one.
    pub(super) fn poll_disk_operation(
        &mut self,
        id: DiskId,
        number: u64,
        context: &Context<'_>,
    ) -> Poll<Outcome> {
        let disk = self.disk_mut(id);
        let Some(operation) = disk.operations.get_mut(&number) else {
            return Poll::Ready(Outcome { bytes: Err(Errno::NODEV), data: Vec::new() });
        };
        if let Some(outcome) = operation.outcome.take() {
            disk.operations.remove(&number);
            return Poll::Ready(outcome);
        }
        let is_known = operation.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if !is_known {
            let old = operation.waker.replace(context.waker().clone());
            self.retire(old);
        }
        Poll::Pending
    }

    /// The future of an operation is dropped: the operation goes on, and keeps the buffer while it does.
    pub(super) fn forget_disk_operation(&mut self, id: DiskId, number: u64, buffer: Option<Box<dyn Any>>) {
        let operations = &mut self.disk_mut(id).operations;
        match operations.get_mut(&number) {
            Some(operation) if operation.outcome.is_none() => {
                operation.is_forgotten = true;
                operation.buffer = buffer;
                let waker = operation.waker.take();
                self.retire(waker);
            }
            _ => {
                operations.remove(&number);
                self.release(buffer);
            }
        }
    }
}
