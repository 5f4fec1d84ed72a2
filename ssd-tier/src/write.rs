//! Records, tombstones, and the beginning and end of regions.
//!
//! The place of a record in the log is decided when it is begun, at once. From then on others see it in that order, whatever lands first.

use crate::error::TierError;
use crate::format::{
    Entry, FooterWriter, Head, Kind, Record, RegionHeader, SECTOR_BYTES, Sequence, record_bytes,
};
use crate::log::{Open, Room};
use crate::volume::Volume;
use crate::{Facts, RecordAddress};
use futures_util::future::join;
use snowskin_io::disk::{DiskBuffer, DiskBuffers, ExtentPart};
use snowskin_io::memory::Extent;
use snowskin_io::{Disk, Platform};
use snowskin_protocol::NameRef;
use std::io::ErrorKind;

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
    pub(crate) landing: Landing<P>,
    pub(crate) head: DiskBuffer,
    pub(crate) body: Body,
}

pub(crate) enum Body {
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
pub(crate) struct Landing<P: Platform> {
    volume: Volume<P>,
    pub(crate) address: RecordAddress,
    pub(crate) record_bytes: u64,
    /// `None`: commits do not wait for it.
    flight: Option<u64>,
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
            region.live_bytes = region.live_bytes.saturating_sub(self.record_bytes);
            inner.failed.borrow_mut().push(self.address);
        }
        drop(log);
        match self.flight {
            Some(flight) => inner.flights.end(flight),
            None => inner.flights.end_record(),
        }
    }
}

impl<P: Platform> Writing<P> {
    /// Where the record will be.
    pub fn address(&self) -> RecordAddress {
        self.landing.address
    }

    /// Writes it. It can be read from then on; it is durable after [`Volume::commit`]. To be driven to its end: a region with a write that
    /// nobody waits for is not used again, and the record may be there after a restart unless its name is buried.
    pub async fn finish(self) -> Result<RecordAddress, TierError> {
        let Writing { mut landing, head, body } = self;
        let volume = landing.volume.clone();
        if volume.is_ended() {
            return Err(TierError::Ended);
        }
        let at = volume.disk_offset(landing.address);
        let body_at = at + head.len() as u64;
        landing.has_begun = true;
        let disk = &volume.inner.disk;
        let (head, body) = join(disk.write_all_at(at, head), body.write(disk, body_at)).await;
        if let Err(error) = head.0.and(body) {
            volume.count(|counters| &counters.writes_failed);
            volume.erase(at, head.1).await;
            landing.has_begun = false;
            return Err(error.into());
        }
        landing.has_begun = false;
        landing.is_written = true;
        volume.count(|counters| &counters.records_written);
        volume.add(|counters| &counters.bytes_written, landing.record_bytes);
        Ok(landing.address)
    }
}

impl<P: Platform> Volume<P> {
    /// A place for an object at the end of the log. [`TierError::Full`]: a region is to be reclaimed first; [`TierError::Busy`]: too much is
    /// under way. Whoever waits for room lets go on what it has begun: a region with records that are not finished cannot be reclaimed.
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
        // An index has no entries without a value, and who has none asks for none.
        assert!(facts.value_bytes > 0, "an object has bytes");
        self.bury_first(name)?;
        let record = self.record(Kind::Value, facts);
        let (head_bytes, _) = record_bytes(name.bytes().len(), facts.value_bytes);
        let end_bytes = (facts.value_bytes % SECTOR_BYTES as u64) as usize;
        let body_bytes = facts.value_bytes as usize - end_bytes;
        let entry = Entry { record, offset: 0, name };
        if self.tombstone_room(name.bytes().len()) == Room::Never {
            return Err(TierError::TooLarge(record.bytes(name.bytes().len())));
        }
        let take = |end: &[u8]| {
            let head = self.inner.buffers.take_used(head_bytes as usize).ok_or(TierError::Busy)?;
            self.place(&record, name.bytes(), end, &[entry], head, (for_reclaim, 0))
        };
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

    pub(crate) fn record(&self, kind: Kind, facts: Facts) -> Record {
        let Facts { version, value_bytes, checksum } = facts;
        Record { kind, version, value_bytes, checksum, written_unix_ms: (self.inner.unix_ms)() }
    }

    /// Takes a place, if so many bytes have room behind it, and makes the head that will stand there.
    pub(crate) fn place(
        &self,
        record: &Record,
        name: &[u8],
        end: &[u8],
        entries: &[Entry<'_>],
        mut head: DiskBuffer,
        (for_reclaim, behind_bytes): (bool, u64),
    ) -> Result<(Landing<P>, DiskBuffer), TierError> {
        if self.is_ended() {
            return Err(TierError::Ended);
        }
        let record_bytes = record.bytes(name.len());
        let names_bytes = entries.iter().map(|entry| entry.name.bytes().len()).sum();
        let room = self.inner.log.borrow().room(record_bytes + behind_bytes, entries.len(), names_bytes);
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
        let flight = match record.kind {
            Kind::Tombstones => Some(self.inner.flights.begin()),
            Kind::Value => None,
        };
        if flight.is_none() {
            self.inner.flights.begin_record();
        }
        let landing = Landing {
            volume: self.clone(),
            address: RecordAddress { region, offset },
            record_bytes,
            flight,
            has_begun: false,
            is_written: false,
        };
        Ok((landing, head))
    }

    /// What of a record was written although its write has failed must not be found when a region is read record by record: its owner
    /// knows nothing of it, and will not bury it.
    async fn erase(&self, at: u64, mut head: DiskBuffer) {
        if self.is_ended() {
            return;
        }
        head.fill(0);
        match self.inner.disk.write_all_at(at, head).await.0 {
            Ok(()) => {}
            // Where there is no room for zeros there was none for a head.
            Err(error) if error.kind() == ErrorKind::StorageFull => {}
            Err(error) => self.end_writing(&error),
        }
    }

    // -- regions --

    /// Opens the next region, and closes the one that was open, both in their own time.
    pub(crate) fn open_next(&self, for_reclaim: bool) -> Result<(), TierError> {
        let opened = self.inner.log.borrow_mut().open_next(for_reclaim);
        let (full, region, sequence) = opened.ok_or(TierError::Full)?;
        self.inner.turns.borrow_mut().forget(region);
        self.write_header(region, sequence);
        if let Some(full) = full {
            let volume = self.clone();
            self.inner.platform.spawn(async move { volume.close(full).await });
        }
        Ok(())
    }

    /// Without its header a region is lost with all that is in it, so nothing is durable before that is.
    fn write_header(&self, region: u32, sequence: Sequence) {
        let mut sector = fresh_buffer(SECTOR_BYTES);
        let (volume, opened_unix_ms) = (self.inner.id, (self.inner.unix_ms)());
        RegionHeader { volume, region, sequence, opened_unix_ms }.encode(&mut sector);
        let flight = self.inner.flights.begin();
        // As long as it is under way the region cannot be used again.
        self.inner.log.borrow_mut().region_mut(region).writers += 1;
        let volume = self.clone();
        self.inner.platform.spawn(async move {
            let at = volume.disk_offset(RecordAddress { region, offset: 0 });
            if !volume.is_ended() {
                match volume.inner.disk.write_all_at(at, sector).await.0 {
                    Ok(()) => volume.add(|counters| &counters.bytes_written, SECTOR_BYTES as u64),
                    Err(error) => volume.end_writing(&error),
                }
            }
            volume.inner.log.borrow_mut().region_mut(region).writers -= 1;
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
        let sequence = inner.log.borrow().region(region).sequence;
        let written = match self.flush().await {
            Ok(()) => self.write_footer((region, sequence), &footer, end).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {}
            Err(error) => {
                self.count(|counters| &counters.footers_failed);
                log::warn!("{}: region {region} has no footer: {error}", inner.id.mark());
            }
        }
        inner.log.borrow_mut().complete(region);
        inner.flights.tell();
    }

    /// Writes the footer of a region whose records are durable.
    pub(crate) async fn write_footer(
        &self,
        (region, sequence): (u32, Sequence),
        footer: &FooterWriter,
        end: u32,
    ) -> Result<(), TierError> {
        let inner = &self.inner;
        let bytes = footer.sectors_bytes_with(0, 0);
        let mut sectors = fresh_buffer(bytes as usize);
        footer.encode((inner.id, region, sequence), end, &mut sectors);
        let at =
            self.disk_offset(RecordAddress { region, offset: (inner.geometry.region_bytes - bytes) as u32 });
        inner.disk.write_all_at(at, sectors).await.0?;
        self.add(|counters| &counters.bytes_written, bytes);
        Ok(())
    }
}

/// A buffer for what is rare and must not wait for others: headers, footers, superblocks, tombstones.
pub(crate) fn fresh_buffer(bytes: usize) -> DiskBuffer {
    DiskBuffers::new(bytes).take(bytes).expect("a pool of its own")
}
