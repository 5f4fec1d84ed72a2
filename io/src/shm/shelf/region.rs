//! The memory of a shelf, and the part of a lane that belongs to it.

use super::super::atomic::{AtomicU64, Ordering};
use super::super::region::{LaneRegion, SEALS};
use super::Words;
use super::cards::{Card, CardId, Cards, HEADER_WORDS, Labels, Placed, words_of};
use super::holds::HOLD_WORDS;
use super::life::{LIFE_BYTES, Life, lives};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const WORD_BYTES: usize = size_of::<u64>();
/// The mutex that says whether the core lives, at the beginning; behind it the hour until which the shelf may be read.
const LIFE_WORD: usize = 0;
const HOUR_WORD: usize = LIFE_BYTES / WORD_BYTES;
/// How long a shelf may be read after the core has said the hour. Less by far than it takes until others take a core for dead.
const HOUR_MS: u64 = 1000;

const _: () = assert!(HOUR_WORD < HEADER_WORDS);

/// Words that are mapped.
///
/// Invariant: the region has `count` words, begins at a page, and is mapped as long as `self`, for reading at least; the size of what it is mapped
/// from is sealed. Only who made it writes, or has it mapped for writing.
#[derive(Debug)]
struct Mapped {
    region: MmapRaw,
    count: usize,
}

impl Words for Mapped {
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.count, "word {at} of {}", self.count);
        let start = self.region.as_mut_ptr().cast::<AtomicU64>().wrapping_add(at);
        // SAFETY: by the invariant the word is there and aligned as long as `self`, which the reference borrows; any bytes are a number, and a
        // word that another process changes at any time is what atomics are for. Where it is mapped for reading, nobody writes through it.
        unsafe { &*start }
    }
}

/// A shelf, as the core has it.
#[derive(Debug)]
pub struct ShelfRegion {
    /// Dropped before the mapping, in which it lies.
    _life: Life,
    cards: Cards<Mapped>,
    file: File,
}

impl ShelfRegion {
    /// A fresh one with so many cards, a power of two, for the thread that calls. It is not read before [`ShelfRegion::say_hour`].
    pub fn create(cards: usize) -> io::Result<Self> {
        let bytes = words_of(cards) * WORD_BYTES;
        let file = memfd_create("snowskin-shelf", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, bytes as u64)?;
        let file = File::from(file);
        let region = MmapOptions::new().len(bytes).map_raw(&file)?;
        // Nobody can map it for writing from now on.
        fcntl_add_seals(&file, SEALS.union(SealFlags::FUTURE_WRITE))?;
        // SAFETY: it begins at a page and is longer; it is dropped before the region, and clients can only read.
        let life = unsafe { Life::begin(region.as_mut_ptr()) }?;
        let mapped = Mapped { region, count: words_of(cards) };
        Ok(ShelfRegion { _life: life, cards: Cards::new(mapped, cards), file })
    }

    /// To be handed to clients: [`SharedShelf::map`].
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// How many cards there are.
    pub fn cards(&self) -> usize {
        self.cards.count()
    }

    /// The core lives, and it is so late ([`super::host_ms`]).
    pub fn say_hour(&self, now_ms: u64) {
        self.cards.words().word(HOUR_WORD).store(now_ms + HOUR_MS, Ordering::Relaxed);
    }

    /// See [`Cards::places`].
    pub fn places(&self, hash: u64) -> Range<usize> {
        self.cards.places(hash)
    }

    /// See [`Cards::put`].
    pub fn put(&mut self, place: usize, placed: &Placed<'_>) -> CardId {
        self.cards.put(place, placed)
    }

    /// See [`Cards::take_back`].
    pub fn take_back(&mut self, place: usize) {
        self.cards.take_back(place);
    }
}

/// A shelf, as a client has it: read only.
#[derive(Debug)]
pub struct SharedShelf {
    labels: Labels<Mapped>,
}

impl SharedShelf {
    /// Maps the shelf in a file of [`ShelfRegion::file`], which is said to have so many cards.
    pub fn map(file: OwnedFd, cards: u64) -> io::Result<Self> {
        let strange = || io::Error::new(io::ErrorKind::InvalidData, "this is no shelf");
        let file = File::from(file);
        let cards = usize::try_from(cards).map_err(|_| strange())?;
        let is_count =
            cards.is_power_of_two() && (super::CARDS_PER_SET..=super::cards::CARDS_MAX).contains(&cards);
        let is_sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SEALS));
        if !is_count || !is_sealed || file.metadata()?.len() != (words_of(cards) * WORD_BYTES) as u64 {
            return Err(strange());
        }
        let count = words_of(cards);
        let region = MmapOptions::new().len(count * WORD_BYTES).map_raw_read_only(&file)?;
        Ok(SharedShelf { labels: Labels::new(Mapped { region, count }, cards) })
    }

    /// The card of a name, held: see [`Labels::find`]. `None` also if the core does not live, or has not said the hour for long. It is so late:
    /// [`super::host_ms`].
    #[inline]
    pub fn find(
        &self,
        hash: u64,
        name: &[u8],
        now_ms: u64,
        hold: impl FnOnce(CardId),
    ) -> Option<(CardId, Card)> {
        let words = self.labels.words();
        let hour = words.word(HOUR_WORD).load(Ordering::Relaxed);
        // An hour that is further away than can be is one of another clock.
        let is_in_time = hour.wrapping_sub(now_ms) <= HOUR_MS;
        // Looked at last: what it says holds for all that was read.
        self.labels.find(hash, name, hold).filter(|_| is_in_time && lives(words.word(LIFE_WORD)))
    }
}

/// The part of a lane's memory in which its client says what it has of a shelf.
///
/// Invariant: [`LaneRegion::hold_words`] gives the address of [`HOLD_WORDS`], aligned, mapped for reading and writing as long as the region.
#[derive(Clone, Debug)]
pub struct HoldRegion {
    lane: LaneRegion,
}

impl HoldRegion {
    /// Of a lane.
    pub fn of(lane: &LaneRegion) -> Self {
        HoldRegion { lane: lane.clone() }
    }
}

impl Words for HoldRegion {
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < HOLD_WORDS, "word {at} of {HOLD_WORDS}");
        let start = self.lane.hold_words().cast::<AtomicU64>().wrapping_add(at);
        // SAFETY: by the invariant the word is there, aligned, as long as `self`; words that another process changes at any time are
        // what atomics are for.
        unsafe { &*start }
    }
}

/// Bytes of a lane for its holds.
pub(in crate::shm) const HOLD_BYTES: usize = HOLD_WORDS * WORD_BYTES;

#[cfg(test)]
#[path = "region_tests.rs"]
mod tests;
