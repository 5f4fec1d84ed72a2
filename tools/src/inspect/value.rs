//! One record read from its place: its head, then its value piece by piece, with its checksum at the end.
//!
//! A value is read in pieces of a window at most. Its last piece has the end that stands in the head.

use super::device::{WINDOW_BYTES, Window};
use snowskin_protocol::Checksum;
use snowskin_protocol::checksum::CHUNK_BYTES;
use snowskin_ssd_tier::format::{
    FormatError, Head, Record, SECTOR_BYTES, Sequence, Superblock, record_bytes,
};
use std::io;

/// Bytes of a piece: whole chunks of a checksum.
const PIECE_BYTES: usize = WINDOW_BYTES;
const _: () = assert!(PIECE_BYTES.is_multiple_of(CHUNK_BYTES));

/// A head that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeadRead {
    pub(crate) record: Record,
    /// Empty in tombstones.
    pub(crate) name: Vec<u8>,
    /// What of the value stands in the head.
    pub(crate) end: Vec<u8>,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error("{0}")]
    Format(FormatError),
    #[error("the value does not match its checksum: {there} instead of {should}")]
    Checksum { should: Checksum, there: Checksum },
    #[error("the record reaches beyond its region")]
    Beyond,
    #[error("cannot be read: {0}")]
    Disk(io::Error),
    #[error("the record says otherwise than the index of its region")]
    Index,
    /// From whoever takes the pieces.
    #[error("cannot be written: {0}")]
    Taker(io::Error),
}

/// Reads the head at an offset of a region of such a sequence.
pub(crate) fn read_head(
    window: &mut Window<'_>,
    block: &Superblock,
    (region, sequence, offset): (u32, Sequence, u64),
) -> Result<HeadRead, Unread> {
    let geometry = block.geometry;
    let (at, end) = (geometry.region_at(region) + offset, geometry.region_at(region) + geometry.region_bytes);
    let sector = window.get(at, SECTOR_BYTES, end).map_err(Unread::Disk)?;
    let bytes = Record::head_bytes(sector).map_err(Unread::Format)?;
    if at + bytes as u64 > end {
        return Err(Unread::Beyond);
    }
    let head = window.get(at, bytes, end).map_err(Unread::Disk)?;
    let place = Head { volume: block.volume, region, sequence, offset: offset as u32 };
    let (record, name, rest) = Record::decode(head, place).map_err(Unread::Format)?;
    if offset + record.bytes(name.len()) > geometry.region_bytes {
        return Err(Unread::Beyond);
    }
    Ok(HeadRead { record, name: name.to_owned(), end: rest.to_owned() })
}

/// Reads the value of a record whose head was read at this place, and gives it to `take` piece by piece; whether it is the right one is
/// known at the end.
pub(crate) fn read_value(
    window: &mut Window<'_>,
    block: &Superblock,
    (region, offset): (u32, u64),
    head: &HeadRead,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Unread> {
    let geometry = block.geometry;
    let (head_bytes, body_bytes) = record_bytes(head.name.len(), head.record.value_bytes);
    let (body_at, region_end) = (
        geometry.region_at(region) + offset + head_bytes,
        geometry.region_at(region) + geometry.region_bytes,
    );
    let (mut done, mut sum) = (0, Checksum(0));
    // The last piece has room for the end.
    while body_bytes - done > (PIECE_BYTES - SECTOR_BYTES) as u64 {
        let bytes = (body_bytes - done).min(PIECE_BYTES as u64) as usize / CHUNK_BYTES * CHUNK_BYTES;
        let piece = window.get(body_at + done, bytes, region_end).map_err(Unread::Disk)?;
        sum = sum.plus(Checksum::of_chunks(done / CHUNK_BYTES as u64, piece));
        take(piece).map_err(Unread::Taker)?;
        done += bytes as u64;
    }
    let mut piece =
        window.get(body_at + done, (body_bytes - done) as usize, region_end).map_err(Unread::Disk)?.to_vec();
    piece.extend_from_slice(&head.end);
    if done == 0 {
        sum = Checksum::of(&piece);
    } else {
        sum = sum.plus(Checksum::of_chunks(done / CHUNK_BYTES as u64, &piece));
    }
    take(&piece).map_err(Unread::Taker)?;
    match sum == head.record.checksum {
        true => Ok(()),
        false => Err(Unread::Checksum { should: head.record.checksum, there: sum }),
    }
}
