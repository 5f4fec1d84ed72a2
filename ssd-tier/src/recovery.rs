//! What a volume held when it was opened.
//!
//! Regions are read in the order in which they were opened; of a name, what was written last counts: an object, or nothing. A region is part of the
//! volume if its sequence is not below the superblock's floor. Its sequence is in its header; if that is damaged or is an old one, in
//! its footer or in the head of its first record. A region without a footer gets one, of what was found in it.

use crate::error::TierError;
use crate::format::{Sequence, record_bytes};
use crate::log::Log;
use crate::scan::{Contents, Damage, Item, Scan};
use crate::scrub::Turns;
use crate::volume::Volume;
use crate::{Facts, RecordAddress};
use futures_util::stream::{self, StreamExt};
use snowskin_io::Platform;
use snowskin_protocol::ObjectName;
use std::collections::HashMap;
use std::io::ErrorKind;

/// Headers that are read at once.
const HEADERS_AT_ONCE: usize = 32;
/// Footers that are read at once, with their indexes.
pub(crate) const FOOTERS_AT_ONCE: usize = 8;

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: ObjectName,
    /// What it is.
    pub facts: Facts,
    /// Where its record is.
    pub address: RecordAddress,
}

/// What was found on a volume.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Objects, in the order in which they were written.
    pub objects: Vec<Found>,
    /// Regions that hold something.
    pub regions: u32,
    /// Of these, regions that had no footer and were read record by record.
    pub regions_scanned: u32,
    /// What is damaged, as far as that is known without reading the values of complete regions.
    pub damage: Damage,
    /// Names that were buried.
    pub tombstones: u64,
}

impl<P: Platform> Volume<P> {
    /// Finds out what is there.
    pub(crate) async fn recover(&self) -> Result<Recovered, TierError> {
        let superblock = self.inner.superblock.get();
        let (mut used, headers_damaged) = self.used_regions(superblock.floor).await?;
        used.sort_unstable();
        let mut recovered = Recovered { regions: used.len() as u32, ..Recovered::default() };
        // Two regions of one sequence: one of them is not what it says.
        let alike = used.windows(2).filter(|pair| pair[0].0 == pair[1].0).count() as u64;
        recovered.damage.structures = headers_damaged + alike;
        let mut names: HashMap<ObjectName, (u64, Facts, RecordAddress)> = HashMap::new();
        let mut count = 0;
        let reads = used.iter().map(|&(sequence, region)| async move {
            ((region, sequence), self.contents(region, sequence).await)
        });
        let mut contents = stream::iter(reads).buffered(FOOTERS_AT_ONCE);
        while let Some((place, contents)) = contents.next().await {
            let Contents { items, scan, damage, .. } = contents?;
            recovered.regions_scanned += u32::from(scan.is_some());
            if let Some(scan) = scan {
                self.complete_found(place, scan).await?;
            }
            recovered.damage.add(damage);
            for item in items {
                count += 1;
                match item {
                    Item::Value { name, facts, address } => drop(names.insert(name, (count, facts, address))),
                    Item::Tombstone { name } => {
                        recovered.tombstones += 1;
                        names.remove(&name);
                    }
                }
            }
        }
        drop(contents);
        let mut objects: Vec<_> = names.into_iter().collect();
        objects.sort_unstable_by_key(|(_, (order, ..))| *order);
        let mut log = Log::recovered(self.inner.geometry, superblock.floor, superblock.mounts + 1, used);
        for (name, (_, facts, address)) in objects {
            let (head, body) = record_bytes(name.as_ref().bytes().len(), facts.value_bytes);
            log.region_mut(address.region).live_bytes += head + body;
            recovered.objects.push(Found { name, facts, address });
        }
        *self.inner.turns.borrow_mut() = Turns::begin(&log, superblock.mounts);
        *self.inner.log.borrow_mut() = log;
        Ok(recovered)
    }

    /// Gives a region that was read record by record the footer that it lacks, before anybody hears of what was found.
    ///
    /// The last life may have ended with a flush that failed: then what was found can be read now, and may be gone when the power fails. What
    /// is listed here is written once more, names that are buried among it: so nothing that this life tells of a name is undone by that. A value
    /// that goes all the same is a miss, and no earlier one takes its place.
    pub(crate) async fn complete_found(&self, place: (u32, Sequence), scan: Scan) -> Result<(), TierError> {
        let Scan { footer, end, .. } = scan;
        let (region, tail_bytes) = (place.0, footer.sectors_bytes_with(0, 0));
        if u64::from(end) + tail_bytes > self.inner.geometry.region_bytes {
            log::warn!("{}: region {region} has no room for its index", self.inner.id.mark());
            return Ok(());
        }
        match self.write_footer(place, &footer, end).await {
            Err(TierError::Disk(error)) if error.kind() == ErrorKind::StorageFull => {
                log::warn!("{}: region {region} stays without a footer: {error}", self.inner.id.mark());
                Ok(())
            }
            written => written,
        }
    }

    /// Regions that hold something, with their sequences; and how many headers are damaged.
    async fn used_regions(&self, floor: Sequence) -> Result<(Vec<(Sequence, u32)>, u64), TierError> {
        let headers = (0..self.inner.geometry.regions)
            .map(|region| async move { (region, self.sequence_from(region, floor).await) });
        let mut headers = stream::iter(headers).buffered(HEADERS_AT_ONCE);
        let (mut used, mut headers_damaged) = (Vec::new(), 0);
        while let Some((region, found)) = headers.next().await {
            let (sequence, is_damaged) = found?;
            used.extend(sequence.map(|sequence| (sequence, region)));
            headers_damaged += u64::from(is_damaged);
        }
        Ok((used, headers_damaged))
    }
}
