//! What breaks a disk: how it is done, and [`DiskFaults`], which does it on demand and knows what is broken.

use std::ops::Range;
use std::time::Duration;

use super::operations::Operation;
use super::truth::{Damage, DiskCounts, DiskFault, DiskFaultRates, Incident};
use super::{Disk, DiskId, SECTOR_BYTES};
use crate::platform::Moment;
use crate::sim::faults::Faults;
use crate::sim::node::SimPlatform;
use crate::sim::trace::Event;
use crate::sim::world::{Due, NodeId, Shared, World, nanoseconds};

/// How far away "another place" is, half of the time, so that it hits what is in use on a large disk.
const NEAR_SECTORS: u64 = 256;

/// What was done to a disk, as numbers of the event hash.
#[derive(Clone, Copy)]
enum Deed {
    SetRates = 1,
    Arm,
    SetQuota,
    SlowDown,
    Mend,
}

/// The handle on one disk that breaks it and tells the truth about it. Usable beside the simulation and from its
/// tasks, whether or not the machine is running.
#[derive(Clone)]
pub struct DiskFaults {
    shared: Shared,
    id: DiskId,
}

impl Faults {
    /// The handle on a disk of a node's machine; `None` if nobody has opened it yet.
    pub fn disk(&self, node: &SimPlatform, name: &str) -> Option<DiskFaults> {
        assert!(self.shared.is_same(&node.shared), "a platform of another simulation");
        let id = self.shared.with(|world| world.find_disk(&world.node(node.node).name, name))?;
        Some(DiskFaults { shared: self.shared.clone(), id })
    }

    /// The handles on all disks, in the order in which they were first opened.
    pub fn disks(&self) -> Vec<DiskFaults> {
        let count = self.shared.with(|world| world.disks.list.len());
        (0..count)
            .map(|number| DiskFaults { shared: self.shared.clone(), id: DiskId(number as u32) })
            .collect()
    }
}

impl DiskFaults {
    /// The names of its node and itself.
    pub fn names(&self) -> (String, String) {
        self.look(|disk| (disk.machine.clone(), disk.name.clone()))
    }

    // -- at random --

    /// Changes what breaks by itself.
    pub fn set_rates(&self, rates: DiskFaultRates) {
        self.change(Deed::SetRates, 0, |disk| disk.options.faults = rates);
    }

    // -- one operation --

    /// Has the next operation that can suffer `fault` suffer it; several times: so many of the next ones. Panics for
    /// faults that are none of operations.
    pub fn arm(&self, fault: DiskFault) {
        assert!(fault.is_of_operations(), "{fault:?} does not come over an operation");
        self.change(Deed::Arm, fault as u64, |disk| disk.armed[fault as usize] += 1);
    }

    // -- a place --

    /// Makes a range unreadable until it is written again. Whole sectors.
    pub fn make_unreadable(&self, range: Range<u64>) {
        self.shared.with(|world| {
            let sectors = world.whole_sectors(self.id, range);
            world.make_unreadable(self.id, sectors);
        });
    }

    /// Flips a bit in each sector of a range. Whole sectors.
    pub fn rot(&self, range: Range<u64>) {
        self.shared.with(|world| {
            let sectors = world.whole_sectors(self.id, range);
            world.rot(self.id, sectors);
        });
    }

    // -- the whole disk --

    /// Lets nothing complete for a time.
    pub fn stall(&self, duration: Duration) {
        self.shared.with(|world| world.stall(self.id, duration));
    }

    /// Makes all operations that begin from now on take `factor` times as long; 1 ends it.
    pub fn slow_down(&self, factor: u32) {
        assert!(factor > 0, "slow is not instant");
        self.change(Deed::SlowDown, u64::from(factor), |disk| disk.slowed = factor);
        if factor > 1 {
            self.shared.with(|world| world.note(self.id, DiskFault::Slow, 0..0));
        }
    }

    /// Lets at most so many bytes of the disk be in use, for new sectors: what is there stays and can be overwritten.
    pub fn set_quota(&self, bytes: u64) {
        self.change(Deed::SetQuota, bytes, |disk| disk.options.quota_bytes = bytes);
    }

    /// Makes everything fail, also what is in flight, even if it is mended before that is due.
    pub fn break_down(&self) {
        self.shared.with(|world| {
            let disk = world.disk_mut(self.id);
            disk.broken = true;
            disk.operations.values_mut().for_each(Operation::break_down);
            world.note(self.id, DiskFault::Breakdown, 0..0);
        });
    }

    /// Ends what concerns the whole disk: a breakdown, a stall, slowness, random faults and armed ones. Damage stays.
    pub fn mend(&self) {
        self.change(Deed::Mend, 0, |disk| {
            disk.broken = false;
            disk.slowed = 1;
            disk.armed = Default::default();
            disk.options.faults = DiskFaultRates::default();
        });
        self.shared.with(|world| world.end_stall(self.id));
    }

    // -- the truth --

    /// What has happened, in numbers.
    pub fn counts(&self) -> DiskCounts {
        self.look(|disk| disk.counts)
    }

    /// All faults so far, in their order. Those of an operation are listed when it begins.
    pub fn incidents(&self) -> Vec<Incident> {
        self.look(|disk| disk.incidents.clone())
    }

    /// What is wrong with the present content of a range of bytes: in whole sectors, by fault, then by place.
    pub fn damages(&self, range: Range<u64>) -> Vec<Damage> {
        let sectors = range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES);
        self.look(|disk| if sectors.is_empty() { Vec::new() } else { disk.medium.damages(sectors) })
    }

    /// The ranges of bytes with content that the next power loss may take.
    pub fn unflushed(&self) -> Vec<Range<u64>> {
        let runs = self.look(|disk| disk.medium.unflushed());
        runs.into_iter().map(|run| run.start * SECTOR_BYTES..run.end * SECTOR_BYTES).collect()
    }

    /// How many bytes count towards the quota: of all sectors that were ever written.
    pub fn used_bytes(&self) -> u64 {
        self.look(|disk| disk.medium.allocated() * SECTOR_BYTES)
    }

    /// How many operations are in flight.
    pub fn in_flight(&self) -> u64 {
        self.look(|disk| disk.in_flight)
    }

    fn look<T>(&self, action: impl FnOnce(&Disk) -> T) -> T {
        self.shared.with(|world| action(world.disk(self.id)))
    }

    fn change(&self, deed: Deed, number: u64, action: impl FnOnce(&mut Disk)) {
        self.shared.with(|world| {
            world.record(Event::DiskChanged, [u64::from(self.id.0), deed as u64, number]);
            action(world.disk_mut(self.id));
        });
    }
}

impl Disk {
    /// Whether the next operation suffers `fault`.
    pub(super) fn suffers(&mut self, fault: DiskFault) -> bool {
        let armed = &mut self.armed[fault as usize];
        if *armed > 0 {
            *armed -= 1;
            return true;
        }
        let rate_ppm = u64::from(self.options.faults.of(fault));
        rate_ppm > 0 && self.chance.below(1_000_000) < rate_ppm
    }

    /// Where the next operation goes astray to, if it suffers `fault`: the beginning of another range of the same
    /// length. What takes the whole disk cannot.
    pub(super) fn goes_astray(&mut self, fault: DiskFault, sectors: &Range<u64>) -> Option<u64> {
        let last = self.sectors - (sectors.end - sectors.start);
        if last == 0 || !self.suffers(fault) {
            return None;
        }
        let (low, high) = if self.chance.percent(50) {
            (sectors.start.saturating_sub(NEAR_SECTORS), last.min(sectors.start + NEAR_SECTORS))
        } else {
            (0, last)
        };
        Some(match self.chance.between(low, high) {
            other if other != sectors.start => other,
            other if other < high => other + 1,
            other => other - 1,
        })
    }
}

impl World {
    /// The sectors of a range of bytes that someone wants to damage.
    fn whole_sectors(&self, id: DiskId, range: Range<u64>) -> Range<u64> {
        let is_whole = range.start.is_multiple_of(SECTOR_BYTES) && range.end.is_multiple_of(SECTOR_BYTES);
        let sectors = range.start / SECTOR_BYTES..range.end / SECTOR_BYTES;
        assert!(is_whole && !sectors.is_empty(), "faults hit whole sectors, at least one");
        assert!(sectors.end <= self.disk(id).sectors, "faults hit the disk");
        sectors
    }

    /// Counts and remembers a fault of one place.
    pub(super) fn note(&mut self, id: DiskId, fault: DiskFault, sectors: Range<u64>) {
        self.disk_mut(id).counts.faults[fault as usize] += 1;
        self.remember(id, fault, sectors);
    }

    /// Records and remembers one place of a fault that is counted elsewhere.
    pub(super) fn remember(&mut self, id: DiskId, fault: DiskFault, sectors: Range<u64>) {
        let (offset, bytes) = (sectors.start * SECTOR_BYTES, (sectors.end - sectors.start) * SECTOR_BYTES);
        let at = Moment(self.now_ns);
        self.disk_mut(id).incidents.push(Incident { at, fault, offset, bytes });
        self.record(Event::DiskFault, [u64::from(id.0) << 8 | fault as u64, offset, bytes]);
    }

    /// Makes sectors unreadable.
    pub(super) fn make_unreadable(&mut self, id: DiskId, sectors: Range<u64>) {
        self.disk_mut(id).medium.make_unreadable(sectors.clone());
        self.note(id, DiskFault::ReadError, sectors);
    }

    /// Flips a bit of each sector.
    pub(super) fn rot(&mut self, id: DiskId, sectors: Range<u64>) {
        let disk = self.disk_mut(id);
        sectors.clone().for_each(|sector| disk.medium.rot(sector, &mut disk.chance));
        self.note(id, DiskFault::Rot, sectors);
    }

    /// The machine of a node has no power any more, if nobody else lives on it.
    pub(in crate::sim) fn cut_disk_power(&mut self, node: NodeId) {
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
            let losses = disk.medium.cut_power(disk.options.torn_sector_percent, &mut disk.landing);
            disk.counts.power_losses += 1;
            disk.counts.faults[DiskFault::PowerLoss as usize] += u64::from(!losses.is_empty());
            self.record(Event::DiskPowerCut, [u64::from(id.0), losses.len() as u64, 0]);
            losses.into_iter().for_each(|sectors| self.remember(id, DiskFault::PowerLoss, sectors));
        }
    }

    // -- stalls --

    /// Nothing completes for `duration`, or longer if it already does not.
    pub(super) fn stall(&mut self, id: DiskId, duration: Duration) {
        let until_ns = self.now_ns.saturating_add(nanoseconds(duration));
        let disk = self.disk_mut(id);
        disk.stalled_until_ns = disk.stalled_until_ns.max(until_ns);
        self.note(id, DiskFault::Stall, 0..0);
    }

    /// Whether an operation that is due has to wait for the end of a stall. If so, it is due again then.
    pub(super) fn waits_for_stall(&mut self, id: DiskId, operation: u64) -> bool {
        let until_ns = self.disk(id).stalled_until_ns;
        if until_ns <= self.now_ns {
            self.disk_mut(id).stalled.remove(&operation);
            return false;
        }
        let appointment = self.enter(until_ns, Due::Disk { disk: id, operation });
        self.disk_mut(id).stalled.insert(operation, appointment);
        true
    }

    /// An operation that may be waiting for the end of a stall is no more.
    pub(super) fn leave_stall(&mut self, id: DiskId, operation: u64) {
        if let Some(appointment) = self.disk_mut(id).stalled.remove(&operation) {
            self.cancel(appointment);
        }
    }

    /// A stall is over before its time: what was due in it is due now.
    fn end_stall(&mut self, id: DiskId) {
        let disk = self.disk_mut(id);
        disk.stalled_until_ns = 0;
        for (operation, appointment) in std::mem::take(&mut disk.stalled) {
            self.cancel(appointment);
            self.enter(self.now_ns, Due::Disk { disk: id, operation });
        }
    }
}
