//! A record into memory.

use crate::error::TierError;
use crate::format::{Head, Kind, Record, SECTOR_BYTES, record_bytes};
use crate::volume::Volume;
use crate::{Facts, RecordAddress};
use snowskin_io::disk::{DiskBuffer, ReservationPart};
use snowskin_io::memory::Reservation;
use snowskin_io::{Disk, Platform, seeded_bug};
use snowskin_protocol::{Checksum, NameRef};
use std::io;

/// Keeps a region from being used again while somebody reads there.
pub(crate) struct Reading<P: Platform> {
    volume: Volume<P>,
    region: u32,
}

impl<P: Platform> Reading<P> {
    pub(crate) fn begin(volume: &Volume<P>, region: u32) -> Self {
        volume.inner.log.borrow_mut().region_mut(region).readers += 1;
        volume.inner.readers.set(volume.inner.readers.get() + 1);
        Reading { volume: volume.clone(), region }
    }
}

impl<P: Platform> Drop for Reading<P> {
    fn drop(&mut self) {
        let inner = &self.volume.inner;
        inner.log.borrow_mut().region_mut(self.region).readers -= 1;
        inner.readers.set(inner.readers.get() - 1);
        self.volume.inner.flights.tell();
    }
}

impl<P: Platform> Volume<P> {
    /// Reads the value of a record that was written under this name, with these facts, into `room`, which has [`room_bytes`]. What comes
    /// back is what was written, and no longer.
    ///
    /// [`TierError::Damaged`]: the bytes are gone. [`TierError::Disk`]: the device does not give them; who asks it again will hear the same. Either way the
    /// record is to be forgotten. [`TierError::Busy`]: there is no memory for the read now in the system; they can be read another time.
    pub async fn read(
        &self,
        address: RecordAddress,
        name: NameRef<'_>,
        facts: Facts,
        room: Reservation,
    ) -> Result<Reservation, TierError> {
        let front_bytes = front_bytes(name, facts.value_bytes) as usize;
        let (head_bytes, body_bytes) = record_bytes(name.bytes().len(), facts.value_bytes);
        assert_eq!(room.value().len() as u64, room_bytes(name, facts.value_bytes), "room for the value");
        let reading = Reading::begin(self, address.region);
        // One read for all of the record that is needed.
        let read_bytes = front_bytes + body_bytes as usize;
        let at = self.disk_offset(address) + head_bytes - front_bytes as u64;
        let part = ReservationPart::new(room, 0..read_bytes);
        let (read, part) = self.inner.disk.read_exact_at(at, part).await;
        if let Err(error) = read {
            self.count(|counters| &counters.reads_failed);
            return Err(if is_passing(&error) { TierError::Busy } else { error.into() });
        }
        let mut room = part.into_reservation();
        let (read, rest) = room.value_mut().split_at_mut(read_bytes);
        let end = match front_bytes {
            0 => Some(&[][..]),
            _ => self.end_in(address, name, facts, &read[..front_bytes]),
        };
        let is_it = end.map(|end| rest.copy_from_slice(end)).is_some();
        room.drop_front(front_bytes);
        let is_whole =
            is_it && (Checksum::of(room.value()) == facts.checksum || seeded_bug!("record unchecked"));
        drop(reading);
        if !is_whole {
            self.count(|counters| &counters.records_damaged);
            return Err(TierError::Damaged);
        }
        self.count(|counters| &counters.records_read);
        Ok(room)
    }

    /// The end of the value that stands in the head of a record, if it is the record that was asked for.
    pub(crate) fn end_in<'h>(
        &self,
        address: RecordAddress,
        name: NameRef<'_>,
        facts: Facts,
        head: &'h [u8],
    ) -> Option<&'h [u8]> {
        let (record, found, end) = Record::decode(head, self.head_at(address)).ok()?;
        let is_it = record.kind == Kind::Value
            && found == name.bytes()
            && (record.version, record.value_bytes, record.checksum)
                == (facts.version, facts.value_bytes, facts.checksum);
        is_it.then_some(end)
    }

    /// The place that a record is bound to.
    pub(crate) fn head_at(&self, address: RecordAddress) -> Head {
        let sequence = self.inner.log.borrow().region(address.region).sequence;
        Head { volume: self.inner.id, region: address.region, sequence, offset: address.offset }
    }

    /// Some sectors of a region into a buffer. `None`: they cannot be read.
    pub(crate) async fn read_sectors(
        &self,
        region: u32,
        offset: u64,
        bytes: usize,
    ) -> Result<Option<DiskBuffer>, TierError> {
        let buffer =
            self.inner.buffers.take_used(bytes.next_multiple_of(SECTOR_BYTES)).ok_or(TierError::Busy)?;
        let at = self.inner.geometry.region_at(region) + offset;
        match self.inner.disk.read_exact_at(at, buffer).await {
            (Ok(()), buffer) => Ok(Some(buffer)),
            // A sector that cannot be read is one that is damaged; a disk that is gone is another matter.
            (Err(error), _) if error.raw_os_error() == Some(EIO) => Ok(None),
            (Err(error), _) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            (Err(error), _) => Err(error.into()),
        }
    }
}

/// Bytes of memory to read the value of a record into: besides the value it is the head, if that has the end of the value.
pub fn room_bytes(name: NameRef<'_>, value_bytes: u64) -> u64 {
    front_bytes(name, value_bytes) + value_bytes
}

/// Bytes of the head of a record, if it has something of the value. Otherwise it is not read: the row that has the record's address vouches for
/// name and version, and the checksum there for the bytes, wherever they come from.
fn front_bytes(name: NameRef<'_>, value_bytes: u64) -> u64 {
    let (head_bytes, body_bytes) = record_bytes(name.bytes().len(), value_bytes);
    if body_bytes == value_bytes { 0 } else { head_bytes }
}

/// Whether an error says something of the system at this moment, and nothing of the bytes.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, ResourceBusy, WouldBlock};
    matches!(error.kind(), Interrupted | OutOfMemory | ResourceBusy | WouldBlock)
}

/// The kernel's number for "input or output error".
const EIO: i32 = 5;
