//! Records, tombstones, and the beginning and end of regions.
//!
//! The place of a record in the log is decided when it is begun, at once. From then on others see it in that order, whatever lands first.

use crate::error::TierError;
use crate::format::{
    Entry, Head, Kind, Record, RegionHeader, SECTOR_BYTES, Sequence, Tombstone, record_bytes,
};
use crate::log::{Open, Room};
use crate::volume::Volume;
use crate::{Facts, RecordAddress};
use futures_util::future::join;
use snowskin_io::disk::{DiskBuffer, ExtentPart};
use snowskin_io::memory::Extent;
use snowskin_io::{Disk, Platform};
use snowskin_protocol::{Checksum, NameRef, ObjectName, Version};

/// Bytes of one record of tombstones, at most: what does not fit into it is written in the next.
const BURIAL_BYTES_MAX: usize = 64 * 1024;

/// The bytes of a record's value.
#[derive(Debug)]
pub enum Value {
    /// Published in a segment; pinned until it is written.
    Extent(Extent),
    /// In a buffer that is as long as the whole sectors of the value, if it has any; and what is left of it.
    Buffer(Option<DiskBuffer>, Vec<u8>),
}

/// A record that has a place in the log and is to be written there: [`Writing::finish`].
#[must_use = "a place in the log that is not written to is lost"]
pub struct Writing<P: Platform> {
    landing: Landing<P>,
    head: DiskBuffer,
    body: Body,
}

enum Body {
    None,
    Extent(ExtentPart),
    Buffer(DiskBuffer),
}

impl Body {
    async fn write<D: Disk>(self, disk: &D, at: u64) -> std::io::Result<()> {
        match self {
            Body::None => Ok(()),
            Body::Extent(part) => disk.write_all_at(at, part).await.0,
            Body::Buffer(buffer) => disk.write_all_at(at, buffer).await.0,
        }
    }
}

/// Ends a write, in whatever way.
struct Landing<P: Platform> {
    volume: Volume<P>,
    address: RecordAddress,
    record_bytes: u64,
    flight: u64,
    has_begun: bool,
    is_written: bool,
}

impl<P: Platform> Drop for Landing<P> {
    fn drop(&mut self) {
        let inner = &self.volume.inner;
        let mut log = inner.log.borrow_mut();
        let region = log.region_mut(self.address.region);
        region.writers -= 1;
        if !self.is_written {
            // What was dropped in the middle may still be under way.
            region.is_lost |= self.has_begun;
            region.live_bytes -= self.record_bytes;
            inner.failed.borrow_mut().push(self.address);
        }
        drop(log);
        inner.flights.end(self.flight);
    }
}

impl<P: Platform> Writing<P> {
    /// Where the record will be.
    pub fn address(&self) -> RecordAddress {
        self.landing.address
    }

    /// Writes it. It can be read from then on; it is durable after [`Volume::commit`]. To be driven to its end: a region with a write that
    /// nobody waits for is not used again.
    pub async fn finish(self) -> Result<RecordAddress, TierError> {
        let Writing { mut landing, head, body } = self;
        let volume = landing.volume.clone();
        let at = volume.disk_offset(landing.address);
        let body_at = at + head.len() as u64;
        landing.has_begun = true;
        let disk = &volume.inner.disk;
        let (head, body) = join(disk.write_all_at(at, head), body.write(disk, body_at)).await;
        landing.has_begun = false;
        if let Err(error) = head.0.and(body) {
            volume.count(|counters| &counters.writes_failed);
            return Err(error.into());
        }
        landing.is_written = true;
        volume.count(|counters| &counters.records_written);
        volume.add(|counters| &counters.bytes_written, landing.record_bytes);
        Ok(landing.address)
    }
}

/// Whether tombstones are left to write.
pub(crate) enum Burial {
    Done,
    More,
}

impl<P: Platform> Volume<P> {
    /// A place for an object at the end of the log. [`TierError::Full`]: a region is to be reclaimed first; [`TierError::Busy`]: too much is
    /// under way.
    pub fn begin(&self, name: NameRef<'_>, facts: Facts, value: Value) -> Result<Writing<P>, TierError> {
        self.begin_record(name, facts, value, false)
    }

    pub(crate) fn begin_record(
        &self,
        name: NameRef<'_>,
        facts: Facts,
        value: Value,
        for_reclaim: bool,
    ) -> Result<Writing<P>, TierError> {
        let record = self.record(Kind::Value, facts);
        let end_bytes = (facts.value_bytes % SECTOR_BYTES as u64) as usize;
        let body_bytes = facts.value_bytes as usize - end_bytes;
        let entry = Entry { record, offset: 0, name };
        let take = |end: &[u8]| self.place(&record, name.bytes(), end, &[entry], for_reclaim);
        let (landing, head, body) = match value {
            Value::Extent(extent) => {
                assert_eq!(extent.value().len() as u64, facts.value_bytes, "the bytes of the value");
                let (landing, head) = take(&extent.value()[body_bytes..])?;
                let body = match body_bytes {
                    0 => Body::None,
                    _ => Body::Extent(ExtentPart::new(extent, 0..body_bytes)),
                };
                (landing, head, body)
            }
            Value::Buffer(buffer, end) => {
                let buffer_bytes = buffer.as_ref().map_or(0, |buffer| buffer.len());
                assert_eq!((buffer_bytes, end.len()), (body_bytes, end_bytes), "the bytes of the value");
                let (landing, head) = take(&end)?;
                (landing, head, buffer.map_or(Body::None, Body::Buffer))
            }
        };
        Ok(Writing { landing, head, body })
    }

    fn record(&self, kind: Kind, facts: Facts) -> Record {
        let Facts { version, value_bytes, checksum } = facts;
        Record { kind, version, value_bytes, checksum, written_unix_ms: (self.inner.unix_ms)() }
    }

    /// Takes a place and makes the head that will stand there.
    fn place(
        &self,
        record: &Record,
        name: &[u8],
        end: &[u8],
        entries: &[Entry<'_>],
        for_reclaim: bool,
    ) -> Result<(Landing<P>, DiskBuffer), TierError> {
        if self.is_ended() {
            return Err(TierError::Ended);
        }
        let (head_bytes, body_bytes) = record_bytes(name.len(), record.value_bytes);
        let record_bytes = head_bytes + body_bytes;
        let names_bytes = entries.iter().map(|entry| entry.name.bytes().len()).sum();
        let mut head = self.inner.buffers.take_used(head_bytes as usize).ok_or(TierError::Busy)?;
        let room = self.inner.log.borrow().room(record_bytes, entries.len(), names_bytes);
        match room {
            Room::Never => return Err(TierError::TooLarge(record_bytes)),
            Room::Next => self.open_next(for_reclaim)?,
            Room::Yes => {}
        }
        let mut log = self.inner.log.borrow_mut();
        let (region, offset) = log.take(record_bytes, entries.iter().copied());
        log.region_mut(region).live_bytes += record_bytes;
        let sequence = log.region(region).sequence;
        drop(log);
        record.encode(Head { volume: self.inner.id, region, sequence, offset }, name, end, &mut head);
        let landing = Landing {
            volume: self.clone(),
            address: RecordAddress { region, offset },
            record_bytes,
            flight: self.inner.flights.begin(),
            has_begun: false,
            is_written: false,
        };
        Ok((landing, head))
    }

    // -- regions --

    /// Opens the next region, and closes the one that was open, both in their own time.
    fn open_next(&self, for_reclaim: bool) -> Result<(), TierError> {
        let header = self.inner.buffers.take_used(SECTOR_BYTES).ok_or(TierError::Busy)?;
        let opened = self.inner.log.borrow_mut().open_next(for_reclaim);
        let (full, region, sequence) = opened.ok_or(TierError::Full)?;
        self.write_header(region, sequence, header);
        if let Some(full) = full {
            let volume = self.clone();
            self.inner.platform.spawn(async move { volume.close(full).await });
        }
        Ok(())
    }

    /// Without its header a region is lost with all that is in it, so nothing is durable before that is.
    fn write_header(&self, region: u32, sequence: Sequence, mut sector: DiskBuffer) {
        let (volume, opened_unix_ms) = (self.inner.id, (self.inner.unix_ms)());
        RegionHeader { volume, region, sequence, opened_unix_ms }.encode(&mut sector);
        let flight = self.inner.flights.begin();
        let volume = self.clone();
        self.inner.platform.spawn(async move {
            let at = volume.disk_offset(RecordAddress { region, offset: 0 });
            if let (Err(error), _) = volume.inner.disk.write_all_at(at, sector).await {
                volume.end_writing(&error.into());
            }
            volume.inner.flights.end(flight);
        });
    }

    /// Writes a footer, once all that it lists is durable. A region without one is read record by record.
    async fn close(&self, full: Open) {
        let Open { region, end, footer } = full;
        let inner = &self.inner;
        inner.flights.until(|| inner.log.borrow().region(region).writers == 0).await;
        let footer = {
            let mut failed = inner.failed.borrow_mut();
            let footer = footer.without(|offset| failed.contains(&RecordAddress { region, offset }));
            failed.retain(|address| address.region != region);
            footer
        };
        let bytes = footer.sectors_bytes_with(0, 0);
        let sequence = inner.log.borrow().region(region).sequence;
        let written = match (self.is_ended(), inner.buffers.take_used(bytes as usize)) {
            (false, Some(mut sectors)) => {
                footer.encode((inner.id, region, sequence), end, &mut sectors);
                let offset = (inner.geometry.region_bytes - bytes) as u32;
                let at = self.disk_offset(RecordAddress { region, offset });
                match self.flush().await {
                    Ok(()) => inner.disk.write_all_at(at, sectors).await.0.map_err(TierError::from),
                    Err(error) => Err(error),
                }
            }
            (true, _) => Err(TierError::Ended),
            (_, None) => Err(TierError::Busy),
        };
        if let Err(error) = written {
            self.count(|counters| &counters.footers_failed);
            log::warn!("{}: region {region} has no footer: {error}", inner.id);
        }
        inner.log.borrow_mut().complete(region);
        inner.flights.tell();
    }

    // -- tombstones --

    /// What is written under this name so far, of which this version is the last, means nothing any more: after the next
    /// [`Volume::commit`] not after a restart either.
    pub fn bury(&self, name: NameRef<'_>, version: Version) {
        self.inner.burials.borrow_mut().push((name.to_owned(), version));
    }

    /// Writes tombstones that wait, as many as go into one record.
    pub(crate) async fn write_burials(&self) -> Result<Burial, TierError> {
        let (mut list, mut count) = (Vec::new(), 0);
        let buried: Vec<(ObjectName, Version)> = {
            let mut burials = self.inner.burials.borrow_mut();
            for (name, version) in burials.iter() {
                if list.len() >= BURIAL_BYTES_MAX {
                    break;
                }
                Tombstone { version: *version, name: name.as_ref() }.push_to(&mut list);
                count += 1;
            }
            burials.drain(..count).collect()
        };
        if buried.is_empty() {
            return Ok(Burial::Done);
        }
        let facts = Facts {
            version: Version(count as u64),
            value_bytes: list.len() as u64,
            checksum: Checksum::of(&list),
        };
        let record = self.record(Kind::Tombstones, facts);
        let entries: Vec<Entry<'_>> = buried
            .iter()
            .map(|(name, version)| {
                let record = Record { version: *version, value_bytes: 0, checksum: Checksum(0), ..record };
                Entry { record, offset: 0, name: name.as_ref() }
            })
            .collect();
        let end = list.split_off(list.len() / SECTOR_BYTES * SECTOR_BYTES);
        // These may not wait for room: reclaim's own is theirs, too.
        let (landing, head) = self.place(&record, &[], &end, &entries, true)?;
        let body = match list.len() {
            0 => Body::None,
            bytes => {
                let mut body = self.inner.buffers.take_used(bytes).ok_or(TierError::Busy)?;
                body.copy_from_slice(&list);
                Body::Buffer(body)
            }
        };
        // Nobody wants a tombstone.
        let (address, bytes) = (landing.address, landing.record_bytes);
        Writing { landing, head, body }.finish().await?;
        self.release_bytes(address.region, bytes);
        self.add(|counters| &counters.tombstones_written, count as u64);
        Ok(if self.inner.burials.borrow().is_empty() { Burial::Done } else { Burial::More })
    }
}
