//! What is on a disk: for each sector the content that is safe, and those above it that a power loss may take.
//!
//! ```text
//!   sector 7    durable ◄── write 3 ◄── write 9        reads see the last one; a flush makes one of them the durable
//!   sector 8    durable                                one and drops what is below; a power loss leaves any of them
//!   sector 9    durable ◄── write 9
//! ```
//!
//! Writes in flight reach their sectors *lazily*: as long as nobody looks, nothing tells when a sector has landed. So
//! before a read or another write touches a sector, a coin decides for each write in flight whether it has landed
//! there already ([`Medium::settle`]); its completion lands the rest. A read in flight in its turn may have seen a
//! sector before another content covers it: another coin ([`Medium::cover`]).
//!
//! Plain code: entropy is an argument, time is not known. Sectors are numbers here, operations too, in the order in
//! which they began.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use super::truth::{Damage, DiskFault};
use super::{Entropy, SECTOR_BYTES};

/// The most contents of a sector that no flush has reached. When there are more, the oldest becomes durable: a cache
/// may write back whenever it likes. (To drop it instead would not do: a flush may be under way for it, or those above
/// it be of writes that no flush is for yet.)
const VERSIONS_MAX: usize = 8;

/// What no power loss tears, and how many of them a sector has.
const BLOCK_BYTES: usize = 512;
const BLOCKS: usize = SECTOR_BYTES as usize / BLOCK_BYTES;

/// The bytes of a sector, and what is wrong with them.
#[derive(Clone, Debug, Default)]
struct Content {
    /// `None`: zeros.
    bytes: Option<Rc<[u8]>>,
    /// A set of [`DiskFault::bit`].
    faults: u16,
}

/// A content that no flush has reached.
#[derive(Debug)]
struct Version {
    content: Content,
    /// Whose it is.
    write: u64,
    /// A failed flush has forgotten it: no later one makes it durable.
    dropped: bool,
    /// Zeros of a discard: nobody misses them.
    is_discard: bool,
}

#[derive(Debug, Default)]
struct Sector {
    durable: Content,
    /// The oldest first.
    versions: Vec<Version>,
    /// It counts towards the quota.
    allocated: bool,
}

/// What becomes of a write's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They land where they should.
    Proper,
    /// They land nowhere.
    Lost,
    /// They land at another sector and those behind it.
    Misdirected(u64),
    /// There are none: each sector becomes zeros, or stays as it is.
    Discard,
}

/// A write in flight.
struct Writing {
    first: u64,
    data: Vec<u8>,
    /// For each sector, whether it has reached the disk.
    landed: Vec<bool>,
    fate: Fate,
}

/// A read in flight.
struct Reading {
    sectors: Range<u64>,
    /// What it has seen, where something else has covered it since.
    seen: BTreeMap<u64, Content>,
}

/// What a power loss does to one write.
#[derive(Clone, Copy)]
enum Survival {
    Kept,
    Lost,
    Torn,
}

/// What is on a disk, and what is in flight over it.
#[derive(Default)]
pub(super) struct Medium {
    sectors: BTreeMap<u64, Sector>,
    /// Those with versions.
    unflushed: BTreeSet<u64>,
    allocated: u64,
    writes: BTreeMap<u64, Writing>,
    reads: BTreeMap<u64, Reading>,
    /// Of each flush in flight, the writes that were in flight when it began.
    flushes: BTreeMap<u64, Vec<u64>>,
}

impl Content {
    fn with(mut self, fault: DiskFault) -> Content {
        self.faults |= fault.bit();
        self
    }

    fn has(&self, fault: DiskFault) -> bool {
        self.faults & fault.bit() != 0
    }

    fn to_vec(&self) -> Vec<u8> {
        self.bytes.as_ref().map_or_else(|| vec![0; SECTOR_BYTES as usize], |bytes| bytes.to_vec())
    }

    /// Replaces some of its blocks, and not all, by those of a newer content.
    fn splice(&mut self, newer: &Content, entropy: &mut Entropy) {
        let (mut bytes, newer_bytes) = (self.to_vec(), newer.to_vec());
        let replaced = entropy.between(1, (1 << BLOCKS) - 2);
        for block in (0..BLOCKS).filter(|block| replaced >> block & 1 == 1) {
            let place = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
            bytes[place.clone()].copy_from_slice(&newer_bytes[place]);
        }
        self.bytes = Some(Rc::from(bytes));
        self.faults |= newer.faults;
    }
}

impl Version {
    fn new(content: Content, write: u64) -> Version {
        Version { content, write, dropped: false, is_discard: false }
    }
}

impl Sector {
    fn visible(&self) -> &Content {
        self.versions.last().map_or(&self.durable, |version| &version.content)
    }

    fn visible_mut(&mut self) -> &mut Content {
        self.versions.last_mut().map_or(&mut self.durable, |version| &mut version.content)
    }

    /// Puts a content over the others.
    fn push(&mut self, version: Version) {
        self.versions.push(version);
        if self.versions.len() > VERSIONS_MAX {
            let oldest = self.versions.remove(0);
            if oldest.dropped {
                self.durable.faults |= DiskFault::FailedFlush.bit();
            } else {
                self.durable = oldest.content;
            }
        }
    }

    /// A flush has failed: the versions it was for stay, or are forgotten, but seen until the power goes or not even
    /// that.
    fn drop_versions(&mut self, is_for: impl Fn(&Version) -> bool, entropy: &mut Entropy) {
        match entropy.below(4) {
            0 | 1 => {}
            2 => {
                for version in self.versions.iter_mut().filter(|version| is_for(version)) {
                    version.dropped = true;
                    version.content.faults |= DiskFault::FailedFlush.bit();
                }
            }
            _ => {
                let is_seen = self.versions.last().is_some_and(&is_for);
                let before = self.versions.len();
                self.versions.retain(|version| !is_for(version));
                if self.versions.len() < before {
                    self.durable.faults |= DiskFault::FailedFlush.bit();
                }
                if is_seen {
                    self.visible_mut().faults |= DiskFault::FailedFlush.bit();
                }
            }
        }
    }

    /// The power is lost. Each version is kept or not, or torn: it leaves some of its blocks. Returns whether the last
    /// one is not kept.
    fn lose_power(
        &mut self,
        survivals: &mut BTreeMap<u64, Survival>,
        torn_sector_percent: u32,
        entropy: &mut Entropy,
    ) -> bool {
        let mut has_lost = false;
        for version in std::mem::take(&mut self.versions) {
            let survival = *survivals.entry(version.write).or_insert_with(|| match entropy.below(3) {
                0 => Survival::Kept,
                1 => Survival::Lost,
                _ => Survival::Torn,
            });
            let fault = match survival {
                _ if version.dropped => Some(DiskFault::FailedFlush),
                Survival::Kept => None,
                Survival::Lost => Some(DiskFault::PowerLoss),
                Survival::Torn if !version.is_discard && entropy.percent(torn_sector_percent) => {
                    self.durable.splice(&version.content, entropy);
                    Some(DiskFault::PowerLoss)
                }
                Survival::Torn => entropy.percent(50).then_some(DiskFault::PowerLoss),
            };
            if version.is_discard && fault.is_some() {
                // Old content instead of zeros is what was promised.
                continue;
            }
            has_lost = fault.is_some();
            match fault {
                Some(fault) => self.durable.faults |= fault.bit(),
                None => self.durable = version.content,
            }
        }
        has_lost
    }
}

impl Writing {
    fn sectors(&self) -> Range<u64> {
        self.first..self.first + self.landed.len() as u64
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Medium {
    // -- reading --

    /// A read begins, of where it really reads.
    pub(super) fn begin_read(&mut self, read: u64, sectors: Range<u64>) {
        self.reads.insert(read, Reading { sectors, seen: BTreeMap::new() });
    }

    /// A read ends. `None`: a sector of it cannot be read.
    pub(super) fn end_read(&mut self, read: u64, entropy: &mut Entropy) -> Option<Vec<u8>> {
        let sectors = self.reads.get(&read)?.sectors.clone();
        self.settle(&sectors, entropy);
        let Reading { seen, .. } = self.reads.remove(&read)?;
        let mut data = vec![0; ((sectors.end - sectors.start) * SECTOR_BYTES) as usize];
        let visible = self.sectors.range(sectors.clone()).map(|(sector, state)| (*sector, state.visible()));
        let covered = seen.iter().map(|(sector, content)| (*sector, content));
        // What was seen before comes last, over what is there now.
        for (sector, content) in visible.filter(|(sector, _)| !seen.contains_key(sector)).chain(covered) {
            if content.has(DiskFault::ReadError) {
                return None;
            }
            if let Some(bytes) = &content.bytes {
                let start = ((sector - sectors.start) * SECTOR_BYTES) as usize;
                data[start..start + bytes.len()].copy_from_slice(bytes);
            }
        }
        Some(data)
    }

    // -- writing --

    /// How many sectors at the beginning of a range may be written without more than `quota` being in use. They are
    /// in use from now on.
    pub(super) fn allocate(&mut self, sectors: Range<u64>, quota: u64) -> u64 {
        for sector in sectors.clone() {
            let is_new = self.sectors.get(&sector).is_none_or(|state| !state.allocated);
            if is_new && self.allocated >= quota {
                return sector - sectors.start;
            }
            if is_new {
                self.sectors.entry(sector).or_default().allocated = true;
                self.allocated += 1;
            }
        }
        sectors.end - sectors.start
    }

    /// A write begins. Its data are whole sectors.
    pub(super) fn begin_write(&mut self, write: u64, first: u64, data: Vec<u8>, fate: Fate) {
        let landed = vec![false; data.len() / SECTOR_BYTES as usize];
        self.writes.insert(write, Writing { first, data, landed, fate });
    }

    /// A discard begins: a write of zeros, of which each sector happens or not.
    pub(super) fn begin_discard(&mut self, discard: u64, sectors: Range<u64>) {
        let landed = vec![false; (sectors.end - sectors.start) as usize];
        let discard_of = Writing { first: sectors.start, data: Vec::new(), landed, fate: Fate::Discard };
        self.writes.insert(discard, discard_of);
    }

    /// A write ends: all of it is there or, if it fails, parts of it.
    pub(super) fn end_write(&mut self, write: u64, fails: bool, entropy: &mut Entropy) {
        let Some(writing) = self.writes.get(&write) else { return };
        let sectors = writing.sectors();
        if fails {
            self.land(write, &sectors, 50, entropy);
            self.writes.remove(&write);
            return;
        }
        // Of others in flight, some have landed before this one.
        self.settle(&sectors, entropy);
        self.land(write, &sectors, 100, entropy);
        self.writes.remove(&write);
    }

    /// Before something touches `sectors`: some sectors of the writes in flight have landed by now, in any order.
    fn settle(&mut self, sectors: &Range<u64>, entropy: &mut Entropy) {
        let overlapping = self.writes.iter().filter(|(_, writing)| overlap(&writing.sectors(), sectors));
        let mut writes: Vec<u64> = overlapping.map(|(write, _)| *write).collect();
        while !writes.is_empty() {
            let write = writes.swap_remove(entropy.below(writes.len() as u64) as usize);
            self.land(write, sectors, 50, entropy);
        }
    }

    /// Lands `percent` of 100 sectors of a write that are within a range and have not landed.
    fn land(&mut self, write: u64, within: &Range<u64>, percent: u32, entropy: &mut Entropy) {
        let Some(mut writing) = self.writes.remove(&write) else { return };
        let own = writing.sectors();
        for sector in own.start.max(within.start)..own.end.min(within.end) {
            let index = (sector - own.start) as usize;
            if writing.landed[index] || (percent < 100 && !entropy.percent(percent)) {
                continue;
            }
            writing.landed[index] = true;
            if writing.fate == Fate::Discard {
                self.discard(sector, write, entropy);
                continue;
            }
            let start = index * SECTOR_BYTES as usize;
            let bytes = Rc::from(&writing.data[start..start + SECTOR_BYTES as usize]);
            let content = Content { bytes: Some(bytes), faults: 0 };
            match writing.fate {
                Fate::Proper => self.cover(sector, Version::new(content, write), entropy),
                Fate::Lost => self.pass_over(sector, write, DiskFault::LostWrite, entropy),
                Fate::Misdirected(first) => {
                    let (astray, fault) = (first + index as u64, DiskFault::MisdirectedWrite);
                    self.cover(astray, Version::new(content.with(fault), write), entropy);
                    self.pass_over(sector, write, fault, entropy);
                }
                Fate::Discard => unreachable!("has no bytes"),
            }
        }
        self.writes.insert(write, writing);
    }

    /// A discard comes to a sector: it becomes zeros, or stays as it is.
    fn discard(&mut self, sector: u64, discard: u64, entropy: &mut Entropy) {
        // One that was never written is zeros, and costs nothing.
        if self.sectors.contains_key(&sector) && entropy.percent(50) {
            let zeros = Version::new(Content::default(), discard);
            self.cover(sector, Version { is_discard: true, ..zeros }, entropy);
        }
    }

    /// Puts a new content over a sector. Reads in flight may have been there before.
    fn cover(&mut self, sector: u64, version: Version, entropy: &mut Entropy) {
        let Medium { sectors, reads, unflushed, .. } = self;
        let state = sectors.entry(sector).or_default();
        for reading in reads.values_mut() {
            if reading.sectors.contains(&sector) && !reading.seen.contains_key(&sector) && entropy.percent(50)
            {
                reading.seen.insert(sector, state.visible().clone());
            }
        }
        state.push(version);
        unflushed.insert(sector);
    }

    /// A write does not come to a sector where it should: what is there stays, as durable as it was.
    fn pass_over(&mut self, sector: u64, write: u64, fault: DiskFault, entropy: &mut Entropy) {
        let state = self.sectors.entry(sector).or_default();
        let stale = state.visible().clone().with(fault);
        let dropped = state.versions.last().is_some_and(|version| version.dropped);
        self.cover(sector, Version { dropped, ..Version::new(stale, write) }, entropy);
    }

    // -- flushing --

    /// A flush begins: it is for the writes that are complete now.
    pub(super) fn begin_flush(&mut self, flush: u64) {
        self.flushes.insert(flush, self.writes.keys().copied().collect());
    }

    /// A flush ends.
    pub(super) fn end_flush(&mut self, flush: u64, fails: bool, entropy: &mut Entropy) {
        let Some(in_flight) = self.flushes.remove(&flush) else { return };
        let is_for =
            |version: &Version| version.write < flush && in_flight.binary_search(&version.write).is_err();
        let Medium { sectors, unflushed, .. } = self;
        unflushed.retain(|sector| {
            let Some(state) = sectors.get_mut(sector) else { return false };
            if fails {
                state.drop_versions(is_for, entropy);
            } else if let Some(last) =
                state.versions.iter().rposition(|version| is_for(version) && !version.dropped)
            {
                let flushed = state.versions.drain(..=last).next_back();
                state.durable = flushed.expect("the last one is there").content;
            }
            !state.versions.is_empty()
        });
    }

    // -- what ends a process or a machine --

    /// The process of an operation has died. A write has landed where it has, and nowhere else later.
    pub(super) fn abandon(&mut self, operation: u64, entropy: &mut Entropy) {
        self.end_write(operation, true, entropy);
        self.reads.remove(&operation);
        self.flushes.remove(&operation);
    }

    /// The power is lost, and with it some of what was not flushed. Nothing is in flight any more. Returns the runs
    /// of sectors that have lost something.
    pub(super) fn cut_power(&mut self, torn_sector_percent: u32, entropy: &mut Entropy) -> Vec<Range<u64>> {
        assert!(self.writes.is_empty() && self.reads.is_empty() && self.flushes.is_empty(), "all have died");
        let mut survivals = BTreeMap::new();
        let Medium { sectors, unflushed, .. } = self;
        let has_lost = |sector: &u64| {
            let state = sectors.get_mut(sector);
            state.is_some_and(|state| state.lose_power(&mut survivals, torn_sector_percent, entropy))
        };
        runs(std::mem::take(unflushed).into_iter().filter(has_lost))
    }

    // -- what breaks --

    /// Makes sectors unreadable until they are written again, whatever of them a power loss leaves.
    pub(super) fn make_unreadable(&mut self, sectors: Range<u64>) {
        for sector in sectors {
            let Sector { durable, versions, .. } = self.sectors.entry(sector).or_default();
            let contents = versions.iter_mut().map(|version| &mut version.content).chain([durable]);
            contents.for_each(|content| content.faults |= DiskFault::ReadError.bit());
        }
    }

    /// Flips a bit of a sector.
    pub(super) fn rot(&mut self, sector: u64, entropy: &mut Entropy) {
        let content = self.sectors.entry(sector).or_default().visible_mut();
        let mut bytes = content.to_vec();
        let bit = entropy.below(SECTOR_BYTES * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        content.bytes = Some(Rc::from(bytes));
        content.faults |= DiskFault::Rot.bit();
    }

    // -- the truth --

    /// What is wrong with the present content of a range of sectors, in whole sectors; ordered by fault, then place.
    pub(super) fn damages(&self, sectors: Range<u64>) -> Vec<Damage> {
        let mut places: BTreeMap<DiskFault, Vec<u64>> = BTreeMap::new();
        for (sector, state) in self.sectors.range(sectors) {
            let content = state.visible();
            if content.faults != 0 {
                for fault in DiskFault::ALL.into_iter().filter(|fault| content.has(*fault)) {
                    places.entry(fault).or_default().push(*sector);
                }
            }
        }
        let damages = places.into_iter().flat_map(|(fault, sectors)| {
            runs(sectors).into_iter().map(move |run| Damage {
                offset: run.start * SECTOR_BYTES,
                bytes: (run.end - run.start) * SECTOR_BYTES,
                fault,
            })
        });
        damages.collect()
    }

    /// The runs of sectors whose present content no flush has reached.
    pub(super) fn unflushed(&self) -> Vec<Range<u64>> {
        runs(self.unflushed.iter().copied())
    }

    /// How many sectors count towards the quota.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }
}

/// Merges ascending sectors into runs.
fn runs(sectors: impl IntoIterator<Item = u64>) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for sector in sectors {
        match runs.last_mut() {
            Some(run) if run.end == sector => run.end += 1,
            _ => runs.push(sector..sector + 1),
        }
    }
    runs
}
