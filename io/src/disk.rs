//! The seam to disks: [`Disk`], what is read and written in sectors, and the buffers that its operations own.
//!
//! | disk | for | what it is |
//! |---|---|---|
//! | [`uring::UringDisk`](crate::uring) | engines | a file or block device behind a ring of its own, with `O_DIRECT` where it can be had |
//! | [`sim::SimDisk`](crate::sim::SimDisk) | tests | a virtual disk with the fault model at the head of `sim/disk.rs` |
//! | [`NoDisk`] | clients and the master | nothing |
//!
//! **What every disk promises.**
//!
//! * Offsets and lengths are multiples of [`SECTOR_BYTES`]; others get `InvalidInput` ([`DiskError::NotSectors`]) and
//!   nothing happens.
//! * An operation begins when its future is first polled. From then on it owns its buffer until the kernel has given
//!   that back, whatever becomes of the future: dropped, it does not stop the operation, and the buffer is dropped when
//!   the operation has ended.
//! * Any number of operations are in flight at once and complete in any order. Who writes a place twice, or reads what
//!   is being written, waits in between.
//! * Transfers may be short: the result says how many bytes were, in whole sectors. At the end of the disk a read gets
//!   0 and a write `StorageFull`; what reaches over the end is short. [`Disk::read_exact_at`] and [`Disk::write_all_at`]
//!   go on until all is done.
//! * An error of the kernel keeps its number ([`io::Error::raw_os_error`]).
//!
//! **What none promises:** that a sector is written whole when the power fails, that bytes are on the medium before a
//! flush has ended, that what was read is what was written. Whoever needs that has checksums.

mod buffer;
mod parts;

pub(crate) use buffer::Memory;
pub use buffer::{DiskBuffer, DiskBuffers};
pub use parts::{ExtentPart, ReservationPart};

use crate::memory::Mapping;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Bytes of a sector: what offsets and lengths are multiples of.
pub const SECTOR_BYTES: u64 = 4_096;

/// Memory that is written to a disk. The operation owns it until the kernel gives it back.
///
/// # Safety
///
/// `bytes` is the same address and length, however the value is moved, until it is dropped; and nobody writes those
/// bytes meanwhile.
pub unsafe trait DiskSource: 'static {
    /// What is written.
    fn bytes(&self) -> &[u8];
}

/// Memory that is read into from a disk. The operation owns it until the kernel gives it back.
///
/// # Safety
///
/// `bytes_mut` is the same address and length, however the value is moved, until it is dropped; and nobody else reads
/// or writes those bytes meanwhile.
pub unsafe trait DiskTarget: 'static {
    /// What is read into.
    fn bytes_mut(&mut self) -> &mut [u8];
}

// SAFETY: the bytes are on the heap, where a move of the vector leaves them, and the vector owns them alone.
unsafe impl DiskSource for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

// SAFETY: as above.
unsafe impl DiskTarget for Vec<u8> {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// A disk, opened by one owner. Clones are the same one. See the module's head for what holds.
pub trait Disk: Clone + 'static {
    /// The size, a multiple of [`SECTOR_BYTES`].
    fn bytes(&self) -> u64;

    /// Whether bytes go between device and buffer without the kernel's page cache in between.
    fn is_direct(&self) -> bool;

    /// Reads into the beginning of `buffer`, at most all of it; gives it back with the number of bytes read, a multiple
    /// of [`SECTOR_BYTES`]. 0: `offset` is at or behind the end, or `buffer` is empty. After an error what is in the
    /// buffer is undefined.
    fn read<B: DiskTarget>(
        &self,
        offset: u64,
        buffer: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static;

    /// Writes the beginning of `buffer`, at most all of it; gives it back with the number of bytes written, a multiple
    /// of [`SECTOR_BYTES`]. They are volatile until flushed. `StorageFull`: nothing is written; after other errors any
    /// of the sectors may be.
    fn write<B: DiskSource>(
        &self,
        offset: u64,
        buffer: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static;

    /// Makes durable what was acknowledged before this began, as `fdatasync` does: after an error some of it is not, and
    /// a later flush that succeeds does not say that it is.
    fn flush(&self) -> impl Future<Output = io::Result<()>> + 'static;

    /// Whether it is worth telling it what is of no use any more: it is a device that then has less to move. A file would give its blocks
    /// back, and have to get them again.
    fn wants_discards(&self) -> bool;

    /// Says that the content of a range is of no use any more; what lies behind the disk's end is nobody's. Afterwards,
    /// until it is written again, each of its sectors has zeros or any old content, and that is volatile as a write is.
    /// A file gives its blocks back: writing there again may find the file system full. `Unsupported`: the device or
    /// file system cannot do it, and nothing has happened.
    fn discard(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static;

    /// Makes operations cheaper whose buffers lie in this memory, as long as the result is kept. That it cannot be done
    /// is no error: then they cost what they cost. Memory that is unmapped meanwhile goes back to the system when the
    /// result is dropped.
    fn register(&self, _memory: &Mapping) -> DiskMemory {
        DiskMemory::default()
    }

    /// [`Disk::read`], again and again until `buffer` is full. `UnexpectedEof` ([`DiskError::End`]) if a read gets
    /// nothing.
    fn read_exact_at<B: DiskTarget>(
        &self,
        offset: u64,
        buffer: B,
    ) -> impl Future<Output = (io::Result<()>, B)> + 'static {
        let disk = self.clone();
        async move {
            let mut rest = Rest { buffer, done: 0 };
            while !rest.bytes_mut().is_empty() {
                let read;
                (read, rest) = disk.read(offset + rest.done as u64, rest).await;
                match read {
                    Ok(0) => {
                        return (
                            Err(DiskError::End { offset: offset + rest.done as u64 }.into()),
                            rest.buffer,
                        );
                    }
                    Ok(bytes) => rest.done += bytes,
                    Err(error) => return (Err(error), rest.buffer),
                }
            }
            (Ok(()), rest.buffer)
        }
    }

    /// [`Disk::write`], again and again until all of `buffer` is written. `WriteZero` ([`DiskError::NothingWritten`]) if
    /// a write takes nothing.
    fn write_all_at<B: DiskSource>(
        &self,
        offset: u64,
        buffer: B,
    ) -> impl Future<Output = (io::Result<()>, B)> + 'static {
        let disk = self.clone();
        async move {
            let mut rest = Rest { buffer, done: 0 };
            while !rest.bytes().is_empty() {
                let written;
                (written, rest) = disk.write(offset + rest.done as u64, rest).await;
                match written {
                    Ok(0) => {
                        let error = DiskError::NothingWritten { offset: offset + rest.done as u64 };
                        return (Err(error.into()), rest.buffer);
                    }
                    Ok(bytes) => rest.done += bytes,
                    Err(error) => return (Err(error), rest.buffer),
                }
            }
            (Ok(()), rest.buffer)
        }
    }
}

/// What is left of a buffer after short transfers.
struct Rest<B> {
    buffer: B,
    done: usize,
}

// SAFETY: the end of bytes that stay where they are; `done` changes only while no operation owns them.
unsafe impl<B: DiskSource> DiskSource for Rest<B> {
    fn bytes(&self) -> &[u8] {
        &self.buffer.bytes()[self.done..]
    }
}

// SAFETY: as above.
unsafe impl<B: DiskTarget> DiskTarget for Rest<B> {
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer.bytes_mut()[self.done..]
    }
}

/// Keeps memory registered with a disk ([`Disk::register`]) until it is dropped.
#[derive(Clone, Default)]
pub struct DiskMemory(Option<Rc<dyn Any>>);

impl DiskMemory {
    /// Kept until the last clone is dropped; then `guard` is.
    pub fn new(guard: impl Any) -> DiskMemory {
        DiskMemory(Some(Rc::new(guard)))
    }

    /// Whether operations are in fact cheaper.
    pub fn is_registered(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for DiskMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskMemory").field("is_registered", &self.is_registered()).finish()
    }
}

/// Which disk, and how large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlace {
    /// A regular file or a block device. In the simulator: its name.
    pub path: PathBuf,
    /// The size, a multiple of [`SECTOR_BYTES`]. A file that is not there is made with it; what is there must have it.
    /// `None`: the size of what is there.
    pub bytes: Option<u64>,
    /// `None`: all of it.
    pub part: Option<DiskPart>,
}

/// Part of a file or device, that is a disk of its own: offsets begin at its beginning, and its end is an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPart {
    /// Where it begins, a multiple of [`SECTOR_BYTES`].
    pub at: u64,
    /// How long it is, a multiple of it, too.
    pub bytes: u64,
}

impl DiskPart {
    /// Whether both have a sector.
    pub(crate) fn overlaps(self, other: DiskPart) -> bool {
        self.at < other.at + other.bytes && other.at < self.at + self.bytes
    }
}

impl DiskPlace {
    /// What is at `path`, whatever its size.
    pub fn existing(path: impl AsRef<Path>) -> DiskPlace {
        DiskPlace { path: path.as_ref().to_owned(), bytes: None, part: None }
    }

    /// A disk of `bytes`, made if there is none.
    pub fn sized(path: impl AsRef<Path>, bytes: u64) -> DiskPlace {
        DiskPlace { path: path.as_ref().to_owned(), bytes: Some(bytes), part: None }
    }

    /// A part of it.
    #[must_use]
    pub fn part(self, at: u64, bytes: u64) -> DiskPlace {
        DiskPlace { part: Some(DiskPart { at, bytes }), ..self }
    }
}

/// What a disk says itself; what the kernel says comes as its own error. Found in an [`io::Error`] by [`DiskError::of`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// `InvalidInput`.
    #[error("{bytes} bytes at {offset} are not whole sectors of {SECTOR_BYTES} bytes")]
    NotSectors {
        /// Where.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// `UnexpectedEof`.
    #[error("the disk has nothing to read at {offset}")]
    End {
        /// Where.
        offset: u64,
    },
    /// `WriteZero`.
    #[error("the disk takes no bytes at {offset}")]
    NothingWritten {
        /// Where.
        offset: u64,
    },
    /// `StorageFull`.
    #[error("the disk ends at {bytes}, before {offset}")]
    BehindTheEnd {
        /// Where.
        offset: u64,
        /// The disk's size.
        bytes: u64,
    },
    /// `ResourceBusy`.
    #[error(
        "{path} is used by another engine or another core of this one: stop that, or give each a path of its own"
    )]
    Busy {
        /// Which disk.
        path: PathBuf,
    },
    /// `InvalidInput`.
    #[error(
        "{path} has {there_bytes} bytes and not {wanted_bytes}: say the size that it has, or move it away to begin \
         anew"
    )]
    OtherSize {
        /// Which disk.
        path: PathBuf,
        /// What it has.
        there_bytes: u64,
        /// What was asked for.
        wanted_bytes: u64,
    },
    /// `InvalidInput`.
    #[error(
        "a disk has one sector at least and is whole sectors of {SECTOR_BYTES} bytes; {path} would have {bytes} bytes"
    )]
    OddSize {
        /// Which disk.
        path: PathBuf,
        /// The size.
        bytes: u64,
    },
    /// `InvalidInput`.
    #[error(
        "{path} has {there_bytes} bytes: {bytes} at {at} are no part of it, of whole sectors of {SECTOR_BYTES} bytes"
    )]
    NoPart {
        /// Which disk.
        path: PathBuf,
        /// Where the part would begin.
        at: u64,
        /// How long it would be.
        bytes: u64,
        /// What the disk has.
        there_bytes: u64,
    },
    /// `InvalidInput`.
    #[error(
        "{path} is neither a regular file nor a block device: name one of those, or a file that can be made"
    )]
    NoDisk {
        /// What it is.
        path: PathBuf,
    },
}

impl DiskError {
    /// What a disk said, if it was the disk that said it.
    pub fn of(error: &io::Error) -> Option<&DiskError> {
        error.get_ref()?.downcast_ref()
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            DiskError::NotSectors { .. }
            | DiskError::OtherSize { .. }
            | DiskError::OddSize { .. }
            | DiskError::NoPart { .. }
            | DiskError::NoDisk { .. } => io::ErrorKind::InvalidInput,
            DiskError::End { .. } => io::ErrorKind::UnexpectedEof,
            DiskError::NothingWritten { .. } => io::ErrorKind::WriteZero,
            DiskError::BehindTheEnd { .. } => io::ErrorKind::StorageFull,
            DiskError::Busy { .. } => io::ErrorKind::ResourceBusy,
        }
    }
}

impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

/// Refuses what is not whole sectors, or ends where no number reaches.
pub(crate) fn check_sectors(offset: u64, bytes: u64) -> Result<(), DiskError> {
    let is_whole = offset.is_multiple_of(SECTOR_BYTES) && bytes.is_multiple_of(SECTOR_BYTES);
    match is_whole && offset.checked_add(bytes).is_some() {
        true => Ok(()),
        false => Err(DiskError::NotSectors { offset, bytes }),
    }
}

/// Refuses a size that no disk has.
pub(crate) fn check_size(path: &Path, bytes: u64) -> Result<(), DiskError> {
    match bytes > 0 && bytes.is_multiple_of(SECTOR_BYTES) {
        true => Ok(()),
        false => Err(DiskError::OddSize { path: path.to_owned(), bytes }),
    }
}

/// Refuses a part that no disk of so many bytes has.
pub(crate) fn check_part(path: &Path, part: DiskPart, there_bytes: u64) -> Result<(), DiskError> {
    let DiskPart { at, bytes } = part;
    let is_whole = at.is_multiple_of(SECTOR_BYTES) && bytes.is_multiple_of(SECTOR_BYTES) && bytes > 0;
    match is_whole && at.checked_add(bytes).is_some_and(|end| end <= there_bytes) {
        true => Ok(()),
        false => Err(DiskError::NoPart { path: path.to_owned(), at, bytes, there_bytes }),
    }
}

/// A platform without disks has none of them.
#[derive(Clone, Debug)]
pub enum NoDisk {}

/// What none of them does.
fn nothing<T>(disk: &NoDisk) -> std::future::Ready<T> {
    match *disk {}
}

impl Disk for NoDisk {
    fn bytes(&self) -> u64 {
        match *self {}
    }

    fn is_direct(&self) -> bool {
        match *self {}
    }

    fn wants_discards(&self) -> bool {
        match *self {}
    }

    fn read<B: DiskTarget>(
        &self,
        _offset: u64,
        _buffer: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static {
        nothing(self)
    }

    fn write<B: DiskSource>(
        &self,
        _offset: u64,
        _buffer: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static {
        nothing(self)
    }

    fn flush(&self) -> impl Future<Output = io::Result<()>> + 'static {
        nothing(self)
    }

    fn discard(&self, _offset: u64, _bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        nothing(self)
    }
}

#[cfg(test)]
pub(crate) mod conformance;
