//! Reading what nobody asks for, so that damage is found while nothing depends on it.
//!
//! ```text
//!   the region that was not looked at for longest ──► its index ──► record after record, each in small pieces ──► the next region
//!                                                        │ damaged            │ damaged
//!                                                        ▼                    ▼
//!                                        each sector is tried,          told to whoever
//!                                        and it is written anew         keeps the address
//! ```
//!
//! A step is one small read, but for the index of a region; when to make the next one is the caller's business. Regions that are being filled are
//! passed over: their turn comes. Who is opened anew begins somewhere else than the last time, so that regions are not left out by one who is
//! opened often.
//!
//! Of the records of tombstones the index says all, so these are not read.

use crate::error::TierError;
use crate::format::{Sequence, record_bytes};
use crate::log::{Log, Phase};
use crate::read::Reading;
use crate::recovery::Found;
use crate::scan::{Contents, Item};
use crate::volume::Volume;
use snowskin_io::Platform;
use snowskin_protocol::{CHUNK_BYTES, Checksum};

/// Bytes of a value that are read at a time: whole chunks of a checksum.
const PIECE_BYTES: u64 = 8 * CHUNK_BYTES as u64;

/// A scrub of a volume, wherever it stands.
pub struct Scrub<P: Platform> {
    volume: Volume<P>,
    region: Option<Region>,
}

/// The region that is looked at.
struct Region {
    number: u32,
    sequence: Sequence,
    /// Records that are still to be looked at, the last one first.
    rest: Vec<Found>,
    /// The one that is.
    record: Option<Progress>,
}

/// A record, and how far it was read.
struct Progress {
    found: Found,
    /// Bytes of its body that were.
    done: u64,
    sum: Checksum,
    /// What of the value stands in the head.
    end: Vec<u8>,
}

/// What a step came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes read.
    pub bytes: u64,
    /// The region that was begun.
    pub begun: Option<u32>,
    /// The record that is damaged, or cannot be read: it is of no more use to whoever has its address.
    pub damaged: Option<Found>,
}

/// When regions were looked at last, in turns: what was never is 0.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    of_regions: Vec<u64>,
    last: u64,
}

impl Turns {
    /// The beginning of a mount: regions before some place count as looked at, by the mount before.
    pub(crate) fn begin(log: &Log, mount: u64) -> Self {
        let mut used: Vec<(Sequence, usize)> = log
            .regions()
            .enumerate()
            .filter(|(_, region)| region.phase == Phase::Complete)
            .map(|(number, region)| (region.sequence, number))
            .collect();
        used.sort_unstable();
        let mut of_regions = vec![0; log.regions().count()];
        // Multiples of the golden ratio are spread evenly, however many there are.
        let place = (u128::from(mount.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * used.len() as u128) >> 64;
        for (_, number) in &used[..place as usize] {
            of_regions[*number] = 1;
        }
        Turns { of_regions, last: 1 }
    }

    /// The region whose turn it is: of those that were not looked at for longest the oldest.
    fn next(&self, log: &Log) -> Option<(u32, Sequence)> {
        let complete = log
            .regions()
            .zip(&self.of_regions)
            .zip(0..)
            .filter(|((region, _), _)| region.phase == Phase::Complete);
        let next = complete.min_by_key(|((region, turn), _)| (**turn, region.sequence));
        next.map(|((region, _), number)| (number, region.sequence))
    }

    fn looked_at(&mut self, region: u32) {
        self.last += 1;
        self.of_regions[region as usize] = self.last;
    }

    /// What stands there is new.
    pub(crate) fn forget(&mut self, region: u32) {
        self.of_regions[region as usize] = 0;
    }
}

impl<P: Platform> Volume<P> {
    /// A scrub of this volume, which goes on where the last one of this mount has begun a region.
    pub fn scrub(&self) -> Scrub<P> {
        Scrub { volume: self.clone(), region: None }
    }

    /// Nobody reads or writes there: who has time may use the disk.
    pub fn is_idle(&self) -> bool {
        self.writes_under_way() == 0 && self.inner.readers.get() == 0
    }
}

impl<P: Platform> Scrub<P> {
    /// One read. `None`: there is nothing to look at now.
    ///
    /// [`TierError::Busy`]: all buffers are in use. After an error the same step can be made again.
    pub async fn step(&mut self) -> Result<Option<Scrubbed>, TierError> {
        let is_there = |region: &Region| {
            let log = self.volume.inner.log.borrow();
            let now = log.region(region.number);
            now.phase == Phase::Complete && now.sequence == region.sequence
        };
        let next = self.region.take().filter(is_there).and_then(Region::next);
        let Some((mut region, progress)) = next else { return self.enter().await };
        let _reading = Reading::begin(&self.volume, region.number);
        let found = progress.found.clone();
        let step = progress.step(&self.volume).await;
        let scrubbed = match step {
            Ok((bytes, next)) => {
                let is_damaged = next.is_err();
                region.record = next.ok().flatten();
                Scrubbed { bytes, begun: None, damaged: is_damaged.then_some(found) }
            }
            Err(error) => {
                // From its beginning.
                region.record = Some(Progress::new(found));
                self.region = Some(region);
                return Err(error);
            }
        };
        self.region = Some(region);
        self.volume.add(|counters| &counters.bytes_scrubbed, scrubbed.bytes);
        if scrubbed.damaged.is_some() {
            self.volume.count(|counters| &counters.records_damaged);
        }
        Ok(Some(scrubbed))
    }

    /// The next region: its index.
    async fn enter(&mut self) -> Result<Option<Scrubbed>, TierError> {
        let volume = &self.volume;
        let inner = &volume.inner;
        let next = inner.turns.borrow().next(&inner.log.borrow());
        let Some((number, sequence)) = next else { return Ok(None) };
        let reading = Reading::begin(volume, number);
        let Contents { items, scan, bytes, damage } = volume.contents(number, sequence).await?;
        volume.add(|counters| &counters.structures_damaged, damage.structures);
        volume.add(|counters| &counters.records_damaged, damage.records);
        if let Some(scan) = scan
            && !volume.is_ended()
        {
            volume.complete_found((number, sequence), scan).await?;
        }
        drop(reading);
        inner.turns.borrow_mut().looked_at(number);
        let values = items.into_iter().rev().filter_map(|item| match item {
            Item::Value { name, facts, address } => Some(Found { name, facts, address }),
            Item::Tombstone { .. } => None,
        });
        self.region = Some(Region { number, sequence, rest: values.collect(), record: None });
        volume.add(|counters| &counters.bytes_scrubbed, bytes);
        Ok(Some(Scrubbed { bytes, begun: Some(number), damaged: None }))
    }
}

impl Region {
    /// The record that is looked at, or the next one.
    fn next(mut self) -> Option<(Region, Progress)> {
        let progress = self.record.take().or_else(|| self.rest.pop().map(Progress::new))?;
        Some((self, progress))
    }
}

/// A record that is damaged.
struct Damaged;

impl Progress {
    fn new(found: Found) -> Self {
        Progress { found, done: 0, sum: Checksum(0), end: Vec::new() }
    }

    /// One piece. Answers the bytes read, and what is left, if it is whole so far.
    async fn step<P: Platform>(
        mut self,
        volume: &Volume<P>,
    ) -> Result<(u64, Result<Option<Progress>, Damaged>), TierError> {
        let Found { name, facts, address } = &self.found;
        let (head_bytes, body_bytes) = record_bytes(name.as_ref().bytes().len(), facts.value_bytes);
        // The head comes with the first piece.
        let (before_bytes, head_bytes) = if self.done == 0 { (0, head_bytes) } else { (head_bytes, 0) };
        let at = u64::from(address.offset) + before_bytes + self.done;
        let piece_bytes = (body_bytes - self.done).min(PIECE_BYTES);
        let bytes = head_bytes + piece_bytes;
        let Some(sectors) = volume.read_sectors(address.region, at, bytes as usize).await? else {
            return Ok((bytes, Err(Damaged)));
        };
        let (head, piece) = sectors.split_at(head_bytes as usize);
        if !head.is_empty() {
            match volume.end_in(*address, name.as_ref(), *facts, head) {
                Some(end) => self.end = end.to_vec(),
                None => return Ok((bytes, Err(Damaged))),
            }
        }
        let number = self.done / CHUNK_BYTES as u64;
        self.done += piece_bytes;
        if self.done < body_bytes {
            self.sum = self.sum.plus(Checksum::of_chunks(number, piece));
            return Ok((bytes, Ok(Some(self))));
        }
        // The last chunk goes on in the head.
        let mut last = piece.to_vec();
        last.extend_from_slice(&self.end);
        let sum = self.sum.plus(Checksum::of_chunks(number, &last));
        Ok((bytes, if sum == self.found.facts.checksum { Ok(None) } else { Err(Damaged) }))
    }
}

// A piece ends where a chunk does, unless the value ends.
const _: () = assert!(PIECE_BYTES.is_multiple_of(CHUNK_BYTES as u64));
