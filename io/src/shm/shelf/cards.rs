//! The cards of a shelf: written by one core, read by anybody.

use super::super::atomic::{AtomicU64, Ordering, fence};
use super::Words;

/// Cards among which a name may be found.
pub const CARDS_PER_SET: usize = 4;
/// Words of a card, and of these the ones before its name.
const CARD_WORDS: usize = 32;
const FACT_WORDS: usize = 6;
const WORD_BYTES: usize = size_of::<u64>();
/// Longer names are on no card.
pub const NAME_BYTES_MAX: usize = (CARD_WORDS - FACT_WORDS) * WORD_BYTES;
/// Words before the tags.
pub(super) const HEADER_WORDS: usize = 512;
/// Bits of the place of a card in [`CardId`].
const PLACE_BITS: u32 = 20;
/// Cards that a shelf can have.
pub(super) const CARDS_MAX: usize = 1 << PLACE_BITS;

const NUMBER: usize = 0;
const NAME_AND_SEGMENT: usize = 1;
const OFFSET: usize = 2;
const VALUE_BYTES: usize = 3;
const CHECKSUM: usize = 4;
const VERSION: usize = 5;

/// A card in one of its lives: its number and its place. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CardId(u64);

impl CardId {
    fn new(number: u64, place: usize) -> Self {
        CardId(number << PLACE_BITS | place as u64)
    }

    /// What stands in a word that somebody else has written: maybe none.
    pub(super) fn of_word(word: u64) -> Self {
        CardId(word)
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    /// The place of the card, if the shelf has so many.
    pub fn place(self) -> usize {
        self.0 as usize & (CARDS_MAX - 1)
    }
}

/// What a card says about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    /// The segment in which it lies, as clients know it.
    pub segment: u32,
    /// Where it begins there.
    pub offset: u64,
    /// Its bytes.
    pub value_bytes: u64,
    /// Of the value.
    pub checksum: u64,
    /// Of the object.
    pub version: u64,
}

/// Words of a shelf with so many cards, a multiple of [`CARDS_PER_SET`].
pub(super) fn words_of(cards: usize) -> usize {
    HEADER_WORDS + cards + cards * CARD_WORDS
}

fn tag_at(place: usize) -> usize {
    HEADER_WORDS + place
}

fn card_at(place: usize, cards: usize) -> usize {
    HEADER_WORDS + cards + place * CARD_WORDS
}

/// The first card of the set of names with this hash. Its bits are others than those that say which core a name belongs to.
#[inline]
fn set_of(hash: u64, cards: usize) -> usize {
    (hash.rotate_right(24) as usize & (cards / CARDS_PER_SET - 1)) * CARDS_PER_SET
}

/// Whether a card with this number says something.
#[inline]
fn stands(number: u64) -> bool {
    number % 2 == 1
}

fn check(cards: usize) -> usize {
    assert!(cards.is_power_of_two() && (CARDS_PER_SET..=CARDS_MAX).contains(&cards), "{cards} cards");
    cards
}

// -- the core's end --

/// The end that writes.
#[derive(Debug)]
pub(super) struct Cards<W> {
    words: W,
    count: usize,
    /// The number of each card, as it stands there: even ones say nothing.
    numbers: Vec<u64>,
}

/// A card that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// The hash of the name. Who has 0 may not be found: that is the tag of nobody.
    pub hash: u64,
    /// At most [`NAME_BYTES_MAX`].
    pub name: &'a [u8],
    /// The rest.
    pub card: Card,
}

impl<W: Words> Cards<W> {
    /// Of fresh memory, for so many cards: a power of two.
    pub(super) fn new(words: W, count: usize) -> Self {
        Cards { words, count, numbers: vec![0; check(count)] }
    }

    /// The memory.
    pub(super) fn words(&self) -> &W {
        &self.words
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The places where a name with this hash may stand.
    pub(super) fn places(&self, hash: u64) -> std::ops::Range<usize> {
        let first = set_of(hash, self.count);
        first..first + CARDS_PER_SET
    }

    /// The card that stands at a place now, if one does.
    pub(super) fn standing(&self, place: usize) -> Option<CardId> {
        let number = *self.numbers.get(place)?;
        stands(number).then(|| CardId::new(number, place))
    }

    /// Writes a card where none stands.
    pub(super) fn put(&mut self, place: usize, placed: &Placed<'_>) -> CardId {
        let Placed { hash, name, card } = placed;
        let number = self.numbers[place] + 1;
        assert!(stands(number), "a card stands there");
        assert!(name.len() <= NAME_BYTES_MAX, "a name of {} bytes", name.len());
        let at = card_at(place, self.count);
        let store = |word: usize, value: u64| self.words.word(at + word).store(value, Ordering::Relaxed);
        // Behind the number that says that nothing stands here, for all who see any of what follows.
        fence(Ordering::Release);
        store(NAME_AND_SEGMENT, u64::from(card.segment) << 32 | name.len() as u64);
        store(OFFSET, card.offset);
        store(VALUE_BYTES, card.value_bytes);
        store(CHECKSUM, card.checksum);
        store(VERSION, card.version);
        for (word, bytes) in (FACT_WORDS..).zip(name.chunks(WORD_BYTES)) {
            store(word, word_of(bytes));
        }
        self.words.word(at + NUMBER).store(number, Ordering::Release);
        self.words.word(tag_at(place)).store(*hash, Ordering::Relaxed);
        self.numbers[place] = number;
        CardId::new(number, place)
    }

    /// Takes the card at a place back: nobody finds it from now on. Whoever has found it before has said so in its lane by now, for all that
    /// look there with [`super::Watch`].
    pub(super) fn take_back(&mut self, place: usize) -> Option<CardId> {
        let taken = self.standing(place)?;
        self.words.word(tag_at(place)).store(0, Ordering::Relaxed);
        self.numbers[place] += 1;
        let number = self.words.word(card_at(place, self.count) + NUMBER);
        put_in_order(number, self.numbers[place]);
        Some(taken)
    }
}

// -- the clients' end --

/// The end that reads: what is written on the cards.
#[derive(Debug)]
pub(super) struct Labels<W> {
    words: W,
    count: usize,
}

impl<W: Words> Labels<W> {
    /// Of the memory of a shelf with so many cards.
    pub(super) fn new(words: W, count: usize) -> Self {
        Labels { words, count: check(count) }
    }

    /// The memory.
    pub(super) fn words(&self) -> &W {
        &self.words
    }

    /// The card of a name, held. `hold` says in the lane that it is held, by [`super::Holder::hold`]; if there is no card after all, what was
    /// held last is to be released.
    #[inline]
    pub(super) fn find(&self, hash: u64, name: &[u8], hold: impl FnOnce(CardId)) -> Option<(CardId, Card)> {
        let first = set_of(hash, self.count);
        let is_tagged = |place: &usize| self.words.word(tag_at(*place)).load(Ordering::Relaxed) == hash;
        let place = (first..first + CARDS_PER_SET).find(is_tagged)?;
        let at = card_at(place, self.count);
        let number = self.words.word(at + NUMBER).load(Ordering::Acquire);
        if !stands(number) {
            return None;
        }
        let load = |word: usize| self.words.word(at + word).load(Ordering::Relaxed);
        let lengths = load(NAME_AND_SEGMENT);
        if lengths as u32 as usize != name.len() || name.len() > NAME_BYTES_MAX {
            return None;
        }
        let card = Card {
            segment: (lengths >> 32) as u32,
            offset: load(OFFSET),
            value_bytes: load(VALUE_BYTES),
            checksum: load(CHECKSUM),
            version: load(VERSION),
        };
        let is_same =
            (FACT_WORDS..).zip(name.chunks(WORD_BYTES)).all(|(word, bytes)| load(word) == word_of(bytes));
        if !is_same {
            return None;
        }
        let id = CardId::new(number, place);
        hold(id);
        // What was read above was read before this.
        fence(Ordering::Acquire);
        let is_there = look_in_order(self.words.word(at + NUMBER)) == number;
        is_there.then_some((id, card))
    }
}

/// Up to eight bytes of a name as a word.
#[inline]
fn word_of(bytes: &[u8]) -> u64 {
    match <[u8; WORD_BYTES]>::try_from(bytes) {
        Ok(whole) => u64::from_le_bytes(whole),
        Err(_) => {
            let mut padded = [0; WORD_BYTES];
            padded[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(padded)
        }
    }
}

// Numbers of cards and words of lanes are in one order for all, see the module. On x86 that is an exchange for each write and
// nothing for each read. loom does not know such orders, but it does fences.

/// Writes a word in the order of all.
#[inline]
pub(super) fn put_in_order(word: &AtomicU64, value: u64) {
    if cfg!(snowskin_loom) {
        word.store(value, Ordering::Release);
        fence(Ordering::SeqCst);
    } else {
        word.swap(value, Ordering::SeqCst);
    }
}

/// Reads a word in the order of all.
#[inline]
pub(super) fn look_in_order(word: &AtomicU64) -> u64 {
    word.load(if cfg!(snowskin_loom) { Ordering::Acquire } else { Ordering::SeqCst })
}

#[cfg(all(test, not(snowskin_loom)))]
#[path = "cards_tests.rs"]
pub(super) mod tests;
