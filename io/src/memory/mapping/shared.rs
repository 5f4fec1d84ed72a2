//! A segment of another process, mapped here: what a client reads values from and writes them to in place.

use super::address::Range;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// The memory of another process's segment.
///
/// Its owner promises: what it says is pinned does not change until the pin is given back, and what it says is reserved is
/// nobody else's until it is published. We keep to the addresses that it names, and whether it keeps its promises shows in
/// the checksums of values.
#[derive(Debug)]
pub struct SharedSegment {
    addresses: Addresses,
    bytes: usize,
}

#[derive(Debug)]
enum Addresses {
    ReadWrite(Range),
    Read(MmapRaw),
}

impl SharedSegment {
    /// Maps `bytes` of `memory`, from its beginning. An error if it is shorter: its end would be ours.
    pub fn map(memory: OwnedFd, bytes: u64, is_writable: bool) -> io::Result<Self> {
        let file = File::from(memory);
        let metadata = file.metadata()?;
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        if bytes == 0 || (metadata.is_file() && metadata.len() < bytes as u64) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a segment is shorter than it is said to be",
            ));
        }
        let addresses = match is_writable {
            true => Addresses::ReadWrite(Range::of_small_pages(&file, bytes).map_err(io::Error::other)?),
            false => Addresses::Read(MmapOptions::new().len(bytes).map_raw_read_only(&file)?),
        };
        Ok(SharedSegment { addresses, bytes })
    }

    /// All its bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        matches!(self.addresses, Addresses::ReadWrite(_))
    }

    /// The `bytes` from `offset` on, which are pinned; `None` if the segment has not got them.
    pub fn pinned(&self, offset: u64, bytes: u64) -> Option<&[u8]> {
        let at = self.place(offset, bytes)?;
        // SAFETY: `place` has looked that so many bytes are mapped, and they are as long as `self`. The owner promises that
        // they do not change while they are pinned; if it breaks that, bytes are wrong, which is what checksums are for.
        Some(unsafe { std::slice::from_raw_parts(self.start().wrapping_add(at), bytes as usize) })
    }

    /// The `bytes` from `offset` on, which are reserved for us, to be filled; `None` if the segment has not got them or
    /// may not be written. For one caller at a time for each reservation.
    #[allow(
        clippy::mut_from_ref,
        reason = "a reservation is nobody else's; the segment is only where it lies"
    )]
    pub fn reserved(&self, offset: u64, bytes: u64) -> Option<&mut [u8]> {
        let at = self.place(offset, bytes).filter(|_| self.is_writable())?;
        // SAFETY: `place` has looked that so many bytes are mapped for writing, and they are as long as `self`. They are
        // reserved for one writer, which is the caller, and nobody reads them before it publishes them.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start().wrapping_add(at), bytes as usize) })
    }

    fn place(&self, offset: u64, bytes: u64) -> Option<usize> {
        let end = offset.checked_add(bytes)?;
        (end <= self.bytes as u64).then_some(offset as usize)
    }

    fn start(&self) -> *mut u8 {
        match &self.addresses {
            Addresses::ReadWrite(range) => range.start(),
            Addresses::Read(region) => region.as_mut_ptr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Mapping;

    #[test]
    fn what_one_side_writes_the_other_one_reads() {
        let mapping = Mapping::plain(3 << 20).unwrap();
        let file = || mapping.file().try_clone_to_owned().unwrap();
        let (writer, reader) = (
            SharedSegment::map(file(), 3 << 20, true).unwrap(),
            SharedSegment::map(file(), 1 << 20, false).unwrap(),
        );
        writer.reserved(512, 5).unwrap().copy_from_slice(b"value");
        assert_eq!(reader.pinned(512, 5), Some(&b"value"[..]));
        assert_eq!((reader.bytes(), reader.is_writable()), (1 << 20, false));
        assert!(reader.reserved(512, 5).is_none(), "it may only be read");
        for (offset, bytes) in [(1 << 20, 1), (0, (1 << 20) + 1), (u64::MAX, 2), (2, u64::MAX)] {
            assert!(reader.pinned(offset, bytes).is_none(), "{bytes} from {offset}");
        }
    }

    #[test]
    fn a_segment_that_is_shorter_than_it_is_said_to_be_is_not_mapped() {
        let mapping = Mapping::plain(1 << 20).unwrap();
        let map = |bytes| SharedSegment::map(mapping.file().try_clone_to_owned().unwrap(), bytes, true);
        assert_eq!(map((1 << 20) + 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(map(0).is_err() && map(1 << 20).is_ok());
    }
}
