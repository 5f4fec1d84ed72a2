//! A whole volume, read by the format: superblock, regions, their records, and which of them are live.
//!
//! A record is live if it is the last of its name in the order of the log (the sequence of its region, then its offset), over all regions
//! whose sequence is not below the floor, and no tombstone is behind it. Versions do not matter: they name bytes, they order nothing.
//!
//! What cannot be read is left out and said ([`Trouble`]); only without a superblock nothing is read at all. What is held in memory is an
//! index of all records, as an engine would have it, never a value. A volume in use changes while it is read: what is shown of each region
//! is what stood there at some moment, regions that are reclaimed meanwhile may look damaged, and asking again helps.

use super::device::{Device, Window};
use super::failure::{Failure, Verdict};
use super::region::{Fate, Found, Region, Trouble};
use super::value::{Unread, read_head, read_value};
use snowskin_protocol::NameRef;
use snowskin_ssd_tier::format::{FormatError, Kind, SECTOR_BYTES, SUPERBLOCKS_AT, Sequence, Superblock};
use std::collections::HashMap;
use std::io;

/// What was read of a volume.
pub(crate) struct Volume {
    pub(crate) superblock: Superblock,
    /// By their numbers.
    pub(crate) regions: Vec<Region>,
}

/// Both copies of the superblock, in the order of their places, each as it was read.
pub(crate) struct Copies {
    sectors: [Vec<u8>; 2],
    disk_bytes: u64,
}

impl Copies {
    /// Reads them. What cannot be read has no bytes.
    pub(crate) fn read(device: &Device) -> Self {
        let read = |at| device.read(at, SECTOR_BYTES).unwrap_or_default();
        Copies { sectors: SUPERBLOCKS_AT.map(read), disk_bytes: device.bytes() }
    }

    /// One of them, decoded.
    pub(crate) fn decode(&self, place: usize) -> Result<Superblock, FormatError> {
        Superblock::decode(&self.sectors[place], self.disk_bytes)
    }

    /// The same, if it were on a disk that is large enough.
    pub(crate) fn decode_anyhow(&self, place: usize) -> Result<Superblock, FormatError> {
        Superblock::decode(&self.sectors[place], u64::MAX)
    }

    /// What is wrong with them. A copy that was never written is none.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        for (place, at) in SUPERBLOCKS_AT.iter().enumerate() {
            let sector = &self.sectors[place];
            let is_unreadable = sector.is_empty();
            if is_unreadable || Superblock::is_damaged(sector, place, self.disk_bytes) {
                let trouble = Superblock::decode_at(sector, place, self.disk_bytes).err();
                let trouble = trouble.filter(|_| !is_unreadable).map(|error| error.to_string());
                let words = trouble.unwrap_or_else(|| "it cannot be read".to_owned());
                troubles.push(format!("superblock at {at}: {words}"));
            }
        }
        troubles
    }

    /// The one that counts.
    pub(crate) fn choose(&self, device: &Device) -> Result<Superblock, Failure> {
        let sectors = [&self.sectors[0][..], &self.sectors[1]];
        Superblock::choose(sectors, self.disk_bytes).map_err(|error| {
            let of = |place| self.decode(place).err().unwrap_or(error);
            Failure::of_copies(device.path().to_owned(), self.disk_bytes, [of(0), of(1)])
        })
    }
}

impl Volume {
    /// Reads everything but values. `progress` is told how many regions of how many have been read.
    pub(crate) fn read(device: &Device, progress: &mut dyn FnMut(u64, u64)) -> Result<Self, Failure> {
        let superblock = Copies::read(device).choose(device)?;
        let count = superblock.geometry.regions;
        let read = |number: u32| {
            progress(number.into(), count.into());
            Region::read(device, &superblock, number)
        };
        let mut volume = Volume { superblock, regions: (0..count).map(read).collect() };
        volume.decide();
        volume.compare_sequences();
        Ok(volume)
    }

    /// Regions whose records count, in the order of the log.
    fn in_log_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.regions.len()).filter(|&at| counts(&self.regions[at])).collect();
        order.sort_by_key(|&at| (self.regions[at].sequence, at));
        order
    }

    /// Finds out which records are live.
    fn decide(&mut self) {
        let mut fates: Vec<(usize, usize, Fate)> = Vec::new();
        let mut last: HashMap<NameRef<'_>, (usize, usize)> = HashMap::new();
        for region in self.in_log_order() {
            for (place, found) in self.regions[region].found.iter().enumerate() {
                let name = self.regions[region].name(found);
                let (before, fate) = match found.fate {
                    Fate::Tombstone => (last.remove(&name), Fate::Removed),
                    Fate::Live => (last.insert(name, (region, place)), Fate::Replaced),
                    _ => continue,
                };
                fates.extend(before.map(|(region, place)| (region, place, fate)));
            }
        }
        for (region, place, fate) in fates {
            self.regions[region].found[place].fate = fate;
        }
    }

    /// Two regions of one sequence: one of them is not what it says.
    fn compare_sequences(&mut self) {
        let mut seen: HashMap<Sequence, u32> = HashMap::new();
        for at in self.in_log_order() {
            let region = &mut self.regions[at];
            let Some(sequence) = region.sequence else { continue };
            if let Some(other) = seen.insert(sequence, region.number) {
                let words =
                    format!("region {other} has the same sequence, {}: their order is not known", sequence.0);
                region.troubles.push(Trouble { is_damage: true, region: region.number, offset: 0, words });
            }
        }
    }

    /// All records and tombstones, in the order of the log; those of regions that do not count come last.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&Region, &Found)> {
        let mut regions: Vec<&Region> = self.regions.iter().collect();
        regions.sort_by_key(|region| (!counts(region), region.sequence, region.number));
        regions.into_iter().flat_map(|region| region.found.iter().map(move |found| (region, found)))
    }

    /// All records that are live.
    pub(crate) fn live(&self) -> impl Iterator<Item = (&Region, &Found)> {
        self.records().filter(|(_, found)| found.fate == Fate::Live)
    }

    /// The live record of a name.
    pub(crate) fn find(&self, name: NameRef<'_>) -> Option<(&Region, &Found)> {
        self.live().find(|(region, found)| region.name(found) == name)
    }

    /// Reads the value of a record, checks all of it, and gives it to `take` piece by piece. Whether it is the right one is known at the end.
    pub(crate) fn read_value(
        &self,
        window: &mut Window<'_>,
        (region, found): (&Region, &Found),
        take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Unread> {
        let sequence = region.sequence.expect("a region with records has a sequence");
        let head = read_head(window, &self.superblock, (region.number, sequence, found.offset.into()))?;
        if head.record != found.record || head.name != region.name(found).bytes() {
            return Err(Unread::Index);
        }
        read_value(window, &self.superblock, (region.number, found.offset.into()), &head, take)
    }

    /// Whether anything of it is damaged, as far as is known without reading values.
    pub(crate) fn verdict(&self) -> Verdict {
        let is_damaged = self.regions.iter().any(Region::is_damaged);
        if is_damaged { Verdict::Damaged } else { Verdict::Whole }
    }

    /// All that could not be decoded.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = &Trouble> {
        self.regions.iter().flat_map(|region| &region.troubles)
    }
}

fn counts(region: &Region) -> bool {
    region.sequence.is_some()
}

/// Whether something is a value rather than a tombstone.
pub(crate) fn is_value(found: &Found) -> bool {
    found.record.kind == Kind::Value
}
