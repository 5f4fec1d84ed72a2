//! How a disk is opened: found or made, with `O_DIRECT` if it can be had, locked, measured.
//!
//! The lock is `flock`'s: of an open file, held until [`Opened`] is dropped, which is after the last operation has
//! ended, or until the process has. A block device is opened with `O_EXCL` besides, so that one with a mounted file
//! system is busy.

use super::ring::Ring;
use crate::disk::{DiskError, DiskPlace, SECTOR_BYTES, check_size};
use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, OFlags, StatxFlags, fallocate, fcntl_getfl, fcntl_setfl, flock,
    statx,
};
use rustix::io::Errno;
use std::cell::Cell;
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

/// A disk that is open, and ours.
pub(super) struct Opened {
    pub(super) ring: Rc<Ring>,
    pub(super) file: File,
    /// Its number in the ring's table of files.
    pub(super) fixed: Option<u32>,
    pub(super) bytes: u64,
    pub(super) is_direct: bool,
    /// What addresses of buffers are multiples of.
    pub(super) memory_alignment: usize,
    is_released: Cell<bool>,
}

impl Opened {
    pub(super) fn open(ring: Rc<Ring>, place: &DiskPlace) -> io::Result<Rc<Opened>> {
        let DiskPlace { path, bytes: wanted } = place;
        if let Some(bytes) = wanted {
            check_size(path, *bytes)?;
        }
        let (file, is_made) = open_file(path, wanted.is_some())?;
        let sized = lock(path, &file).and_then(|()| measure(path, &file, *wanted));
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
        let fixed = ring.add_file(file.as_fd());
        Ok(Rc::new(Opened {
            ring,
            file,
            fixed,
            bytes,
            is_direct,
            memory_alignment,
            is_released: Cell::new(false),
        }))
    }
}

impl Opened {
    /// Lets others have it. Nothing is in flight, and nothing begins any more.
    pub(super) fn release(&self) {
        if self.is_released.replace(true) {
            return;
        }
        if let Some(fixed) = self.fixed {
            self.ring.remove_file(fixed);
        }
        // The kernel may keep the file a moment longer than we do.
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            log::warn!("the lock of a disk stays until the engine ends: {error}");
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.release();
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
