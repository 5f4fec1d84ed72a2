//! A few words that processes share: to wait for each other, and to measure how fast that can be.

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU32;

/// From word to word: two cache lines, because processors fetch them in pairs.
const STRIDE_BYTES: usize = 128;
/// The memory may not become smaller or larger, and nobody may allow that again.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Words in a memfd, each on cache lines of its own. Fresh ones are 0. Whoever has the file has the words.
///
/// Invariant: the region has [`STRIDE_BYTES`] for each of the words, begins at a page, and is mapped for reading and
/// writing as long as `self`; the file's size is sealed, so none of it can go away.
#[derive(Debug)]
pub struct SharedWords {
    region: MmapRaw,
    file: File,
    count: usize,
}

impl SharedWords {
    /// So many words, at least one.
    pub fn create(count: usize) -> io::Result<Self> {
        let bytes = count.checked_mul(STRIDE_BYTES).ok_or(io::ErrorKind::InvalidInput)?;
        let file = memfd_create("snowskin-words", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, bytes as u64)?;
        fcntl_add_seals(&file, SEALS)?;
        Self::open(file)
    }

    /// The words in a file of [`SharedWords::file`], perhaps of another process.
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let is_sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SEALS));
        if bytes == 0 || !bytes.is_multiple_of(STRIDE_BYTES) || !is_sealed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "these are no shared words"));
        }
        let region = MmapOptions::new().len(bytes).map_raw(&file)?;
        Ok(SharedWords { region, file, count: bytes / STRIDE_BYTES })
    }

    /// To be handed to another process.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// One of them. Panics if there are not so many.
    pub fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < self.count, "word {index} of {}", self.count);
        let start = self.region.as_mut_ptr().wrapping_add(index * STRIDE_BYTES);
        // SAFETY: by the invariant the word is there and aligned as long as `self`, which the reference borrows; any bytes
        // are a number, and a word that another process changes at any time is what atomics are for.
        unsafe { AtomicU32::from_ptr(start.cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn who_opens_the_file_sees_the_same_words() {
        let ours = SharedWords::create(3).unwrap();
        let theirs = SharedWords::open(ours.file().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((ours.count(), theirs.count(), theirs.word(2).load(Ordering::SeqCst)), (3, 3, 0));
        ours.word(2).store(7, Ordering::SeqCst);
        theirs.word(0).store(8, Ordering::SeqCst);
        assert_eq!([0, 1, 2].map(|index| theirs.word(index).load(Ordering::SeqCst)), [8, 0, 7]);
        assert_eq!(ours.word(0).load(Ordering::SeqCst), 8);
    }

    #[test]
    fn what_could_go_away_or_has_another_size_is_refused() {
        assert!(SharedWords::create(0).is_err());
        let open = |bytes: u64, seals| {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = memfd_create("test", flags).unwrap();
            ftruncate(&file, bytes).unwrap();
            fcntl_add_seals(&file, seals).unwrap();
            SharedWords::open(file)
        };
        assert!(open(STRIDE_BYTES as u64, SealFlags::GROW).is_err());
        assert!(open(STRIDE_BYTES as u64 + 1, SEALS).is_err());
        assert!(open(STRIDE_BYTES as u64, SEALS).is_ok());
    }

    #[test]
    #[should_panic(expected = "word 1 of 1")]
    fn a_word_beyond_the_end_is_nobodys() {
        SharedWords::create(1).unwrap().word(1);
    }
}
