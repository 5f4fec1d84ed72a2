//! Files and devices that this process has, each once, whoever of its cores has a part of it.
//!
//! The lock is `flock`'s: of an open file, held until no part of it is anybody's, or until the process has ended. A block device is opened with
//! `O_EXCL` besides, so that one with a mounted file system is busy. Cores that share a device share the open file, and with it the lock: to
//! others it is one owner.
//!
//! One list for the process says what is open. It is looked at when disks are opened and given back, never while they are used.

use crate::disk::{
    DiskBuffer, DiskBuffers, DiskError, DiskPart, DiskPlace, SECTOR_BYTES, check_part, check_sectors,
    check_size,
};
use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, OFlags, StatxFlags, fallocate, fcntl_getfl, fcntl_setfl, flock,
    statx,
};
use rustix::io::Errno;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is open, and which parts of it are taken.
static OPEN: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    id: Id,
    file: Arc<HeldFile>,
    parts: Vec<DiskPart>,
}

/// The same for whoever opens the same file or device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    File { device: u64, inode: u64 },
    Device(u64),
}

impl Id {
    fn of(metadata: &Metadata) -> Id {
        match metadata.file_type().is_block_device() {
            true => Id::Device(metadata.rdev()),
            false => Id::File { device: metadata.dev(), inode: metadata.ino() },
        }
    }
}

/// A file or device that this process has locked.
pub(super) struct HeldFile {
    pub(super) file: File,
    /// Of all of it.
    pub(super) bytes: u64,
    pub(super) is_direct: bool,
    /// What addresses of buffers are multiples of.
    pub(super) memory_alignment: usize,
}

/// A part that is taken, until it is dropped or given back.
pub(super) struct Claim {
    pub(super) held: Arc<HeldFile>,
    pub(super) part: DiskPart,
}

fn all_open() -> MutexGuard<'static, Vec<Entry>> {
    // Nothing in there is left half done.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Claim {
    /// Opens a file or device, unless the process has it already, and takes a part of it.
    pub(super) fn take(place: &DiskPlace) -> io::Result<Claim> {
        let DiskPlace { path, bytes: wanted, part } = place;
        if let Some(bytes) = wanted {
            check_size(path, *bytes)?;
        }
        let mut open = all_open();
        let there = std::fs::metadata(path).ok().map(|metadata| Id::of(&metadata));
        let index = match open.iter().position(|entry| Some(entry.id) == there) {
            Some(index) => index,
            None => {
                let file = HeldFile::open(path, *wanted)?;
                let id = Id::of(&file.file.metadata()?);
                open.push(Entry { id, file: Arc::new(file), parts: Vec::new() });
                open.len() - 1
            }
        };
        let taken = open[index].take(path, *wanted, *part);
        if open[index].parts.is_empty() {
            open.swap_remove(index);
        }
        taken
    }

    /// Others may have it. Nothing of it is used any more.
    pub(super) fn give_back(&self) {
        let mut open = all_open();
        let is_ours = |entry: &Entry| Arc::ptr_eq(&entry.file, &self.held);
        let Some(index) = open.iter().position(is_ours) else { return };
        let parts = &mut open[index].parts;
        parts.retain(|part| *part != self.part);
        if !parts.is_empty() {
            return;
        }
        open.swap_remove(index);
        // The kernel may keep the file a moment longer than we do.
        if let Err(error) = flock(&self.held.file, FlockOperation::Unlock) {
            log::warn!("the lock of a disk stays until the engine ends: {error}");
        }
    }
}

impl Entry {
    fn take(&mut self, path: &Path, wanted: Option<u64>, part: Option<DiskPart>) -> io::Result<Claim> {
        let bytes = self.file.bytes;
        if let Some(wanted_bytes) = wanted.filter(|wanted| *wanted != bytes) {
            let path = path.to_owned();
            return Err(DiskError::OtherSize { path, there_bytes: bytes, wanted_bytes }.into());
        }
        let part = part.unwrap_or(DiskPart { at: 0, bytes });
        check_part(path, part, bytes)?;
        if self.parts.iter().any(|other| other.overlaps(part)) {
            return Err(DiskError::Busy { path: path.to_owned() }.into());
        }
        self.parts.push(part);
        Ok(Claim { held: self.file.clone(), part })
    }
}

impl HeldFile {
    fn open(path: &Path, wanted: Option<u64>) -> io::Result<HeldFile> {
        let (file, is_made) = open_file(path, wanted.is_some())?;
        let sized = lock(path, &file).and_then(|()| measure(path, &file, wanted));
        let bytes = match sized {
            Ok(bytes) => bytes,
            Err(error) => {
                if is_made && error.kind() != io::ErrorKind::ResourceBusy {
                    // It was not there before, and is of no use.
                    let _ = std::fs::remove_file(path);
                }
                return Err(error);
            }
        };
        let (is_direct, memory_alignment) = find_alignment(path, &file)?;
        Ok(HeldFile { file, bytes, is_direct, memory_alignment })
    }
}

/// A part of a file or device that is held, and read and written, outside of cores: for who prepares one before they start. Each call waits for
/// the disk.
pub struct HeldDisk(Claim);

impl HeldDisk {
    /// Takes it, as [`crate::Platform::open_disk`] does.
    pub fn open(place: &DiskPlace) -> io::Result<HeldDisk> {
        Claim::take(place).map(HeldDisk)
    }

    /// Bytes of the whole file or device.
    pub fn whole_bytes(&self) -> u64 {
        self.0.held.bytes
    }

    /// Reads whole sectors of the part.
    pub fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = self.buffer(offset, bytes)?;
        self.0.held.file.read_exact_at(&mut buffer, self.0.part.at + offset)?;
        Ok(buffer.to_vec())
    }

    /// Writes whole sectors of the part. They are volatile until flushed.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = self.buffer(offset, bytes.len())?;
        buffer.copy_from_slice(bytes);
        self.0.held.file.write_all_at(&buffer, self.0.part.at + offset)
    }

    /// Makes durable what was written.
    pub fn flush(&self) -> io::Result<()> {
        self.0.held.file.sync_data()
    }

    /// Memory for so many bytes there, that any disk can use.
    fn buffer(&self, offset: u64, bytes: usize) -> io::Result<DiskBuffer> {
        check_sectors(offset, bytes as u64)?;
        let end = offset.saturating_add(bytes as u64);
        if end > self.0.part.bytes || bytes == 0 {
            return Err(DiskError::BehindTheEnd { offset: end, bytes: self.0.part.bytes }.into());
        }
        Ok(DiskBuffers::new(bytes).take(bytes).expect("as large as the pool"))
    }
}

impl Drop for HeldDisk {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// Opens a file or device, and says whether it was made. With `O_DIRECT` unless that is refused.
fn open_file(path: &Path, may_make: bool) -> io::Result<(File, bool)> {
    let kind = match std::fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => None,
        Err(error) => return Err(error),
    };
    let is_disk = |kind: &FileType| kind.is_file() || kind.is_block_device();
    if kind.as_ref().is_some_and(|kind| !is_disk(kind)) {
        return Err(DiskError::NoDisk { path: path.to_owned() }.into());
    }
    let is_device = kind.is_some_and(|kind| kind.is_block_device());
    let exclusive = if is_device { OFlags::EXCL } else { OFlags::empty() };
    let open = |flags: OFlags| {
        let flags = (flags | exclusive).bits() as i32;
        OpenOptions::new().read(true).write(true).create(kind.is_none()).custom_flags(flags).open(path)
    };
    let opened = match open(OFlags::DIRECT) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => open(OFlags::empty()),
        opened => opened,
    };
    match opened {
        Ok(file) => Ok((file, kind.is_none())),
        Err(error) if is_device && error.kind() == io::ErrorKind::ResourceBusy => {
            Err(DiskError::Busy { path: path.to_owned() }.into())
        }
        Err(error) => Err(error),
    }
}

fn lock(path: &Path, file: &File) -> io::Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(DiskError::Busy { path: path.to_owned() }.into()),
        locked => Ok(locked?),
    }
}

/// The size, which an empty file is given.
fn measure(path: &Path, mut file: &File, wanted: Option<u64>) -> io::Result<u64> {
    let is_file = file.metadata()?.is_file();
    let there_bytes = file.seek(SeekFrom::End(0))?;
    match wanted {
        Some(bytes) if is_file && there_bytes == 0 => {
            reserve(file, bytes)?;
            Ok(bytes)
        }
        Some(wanted_bytes) if wanted_bytes != there_bytes => {
            Err(DiskError::OtherSize { path: path.to_owned(), there_bytes, wanted_bytes }.into())
        }
        _ => {
            check_size(path, there_bytes)?;
            Ok(there_bytes)
        }
    }
}

/// Makes room for a file, on its disk too. What was not written is zeros.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    loop {
        return match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP) => {
                log::info!("the file system cannot set space aside: a disk in it may be found full later");
                file.set_len(bytes)
            }
            Err(errno) => {
                // Whatever it has set aside before it was full.
                file.set_len(0)?;
                Err(errno.into())
            }
            Ok(()) => Ok(()),
        };
    }
}

/// Whether the file is direct in fact, and what buffers' addresses are multiples of then.
fn find_alignment(path: &Path, file: &File) -> io::Result<(bool, usize)> {
    let flags = fcntl_getfl(file)?;
    if flags.contains(OFlags::DIRECT) {
        let asked = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
        let is_known = StatxFlags::from_bits_retain(asked.stx_mask).contains(StatxFlags::DIOALIGN);
        match alignment_of(is_known, asked.stx_dio_mem_align, asked.stx_dio_offset_align) {
            Some(alignment) => return Ok((true, alignment)),
            None => fcntl_setfl(file, flags & !OFlags::DIRECT)?,
        }
    }
    log::warn!(
        "{} goes through the page cache: its file system does not offer O_DIRECT, or not for {SECTOR_BYTES} bytes",
        path.display()
    );
    Ok((false, 1))
}

/// What addresses are multiples of; `None`: sectors of ours are too small for the device.
fn alignment_of(is_known: bool, memory: u32, offset: u32) -> Option<usize> {
    match (is_known, memory as usize, u64::from(offset)) {
        // That is always enough.
        (false, ..) => Some(SECTOR_BYTES as usize),
        (true, 0, _) | (true, _, 0) => None,
        (true, memory, offset) => {
            let fits = SECTOR_BYTES.is_multiple_of(offset) && (SECTOR_BYTES as usize).is_multiple_of(memory);
            fits.then_some(memory)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_says_what_it_can_use() {
        assert_eq!(alignment_of(true, 512, 512), Some(512));
        assert_eq!(alignment_of(true, 4, 4096), Some(4));
        assert_eq!(alignment_of(false, 0, 0), Some(4096));
        assert_eq!(alignment_of(true, 0, 0), None, "no direct transfers");
        assert_eq!(alignment_of(true, 512, 16_384), None, "larger sectors than ours");
        assert_eq!(alignment_of(true, 16_384, 512), None);
    }
}
