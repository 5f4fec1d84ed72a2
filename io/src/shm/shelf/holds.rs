//! What a client has of a shelf, in the memory of its lane: the cards that it holds, and those that it has used.

use super::super::atomic::Ordering;
use super::Words;
use super::cards::{CardId, look_in_order, put_in_order};
use std::ops::Range;

/// Cards that a lane's client can hold.
pub const HOLDS: usize = 64;
/// Uses that the core has not taken in, at most.
const USES: u64 = 2048;
/// When there are more, nothing is held any more: each hold may become a use.
const USES_MAX: u64 = USES - HOLDS as u64;
/// When there are so many, a core that sleeps is woken.
const USES_MANY: u64 = USES / 2;
/// Uses that are taken in together.
const USES_TOGETHER: usize = 256;

const HOLDS_AT: usize = 0;
/// Words that different sides write are not in the same line, nor in neighbours that are fetched together.
const NOTED_AT: usize = HOLDS_AT + HOLDS;
const TAKEN_AT: usize = NOTED_AT + 16;
const USES_AT: usize = TAKEN_AT + 16;
/// Words of a lane for this.
pub(super) const HOLD_WORDS: usize = USES_AT + USES as usize;

fn use_at(count: u64) -> usize {
    USES_AT + (count & (USES - 1)) as usize
}

/// The client's end. Holds are given up by anybody, see [`release`]; everything else is one caller's.
#[derive(Debug)]
pub struct Holder<W> {
    words: W,
    /// Where the next free place is looked for.
    next: usize,
    noted: u64,
    /// Uses that the core had taken in when it was last looked.
    taken: u64,
}

impl<W: Words> Holder<W> {
    /// Of a fresh memory, of which this is the only one.
    pub fn new(words: W) -> Self {
        Holder { words, next: 0, noted: 0, taken: 0 }
    }

    /// A place to hold a card; `None`: all are taken, or the core has not taken in what was used: then it is to be asked.
    #[inline]
    pub fn free_place(&mut self) -> Option<usize> {
        if self.noted - self.taken > USES_MAX {
            self.look_what_is_taken();
            if self.noted - self.taken > USES_MAX {
                return None;
            }
        }
        // Given back by whoever had it, with all that it has read there.
        let is_free = |place: &usize| self.words.word(HOLDS_AT + place).load(Ordering::Acquire) == 0;
        let place = (0..HOLDS).map(|step| (self.next + step) % HOLDS).find(is_free)?;
        self.next = place;
        Some(place)
    }

    /// Says that a card is held.
    #[inline]
    pub fn hold(&self, place: usize, card: CardId) {
        put_in_order(self.words.word(HOLDS_AT + place), card.word());
    }

    /// Notes the use of the card that is held at a place, once, for the core. There is room for as many as can be held, see
    /// [`Holder::free_place`]. Answers whether there are many by now, so that the core should look; not each time.
    #[inline]
    pub fn note_use(&mut self, place: usize) -> bool {
        let card = self.words.word(HOLDS_AT + place).load(Ordering::Relaxed);
        self.words.word(use_at(self.noted)).store(card, Ordering::Relaxed);
        self.noted += 1;
        self.words.word(NOTED_AT).store(self.noted, Ordering::Release);
        if self.noted - self.taken != USES_MANY {
            return false;
        }
        self.look_what_is_taken();
        self.noted - self.taken == USES_MANY
    }

    /// Whatever stands there: no more than was noted.
    fn look_what_is_taken(&mut self) {
        let taken = self.words.word(TAKEN_AT).load(Ordering::Relaxed);
        if taken <= self.noted {
            self.taken = self.taken.max(taken);
        }
    }
}

/// Gives up what is held at a place.
#[inline]
pub fn release(words: &impl Words, place: usize) {
    assert!(place < HOLDS, "place {place} of {HOLDS}");
    words.word(HOLDS_AT + place).store(0, Ordering::Release);
}

/// The core's end.
#[derive(Debug)]
pub struct Watch<W> {
    words: W,
    taken: u64,
}

impl<W: Words> Watch<W> {
    /// Of a fresh memory, of which this is the only one.
    pub fn new(words: W) -> Self {
        Watch { words, taken: 0 }
    }

    /// Calls `show` with all that is held: any words.
    #[inline]
    pub fn held(&self, show: impl FnMut(CardId)) {
        self.held_at(0..HOLDS, show);
    }

    #[inline]
    pub(super) fn held_at(&self, places: Range<usize>, mut show: impl FnMut(CardId)) {
        for place in places {
            match look_in_order(self.words.word(HOLDS_AT + place)) {
                0 => {}
                word => show(CardId::of_word(word)),
            }
        }
    }

    /// Calls `take` with what was used since the last time: any words.
    #[inline]
    pub fn uses(&mut self, mut take: impl FnMut(CardId)) {
        let noted = self.words.word(NOTED_AT).load(Ordering::Acquire);
        if noted == self.taken {
            return;
        }
        // Who says what cannot be has used nothing.
        if noted.wrapping_sub(self.taken) > USES {
            self.taken = noted;
        }
        while self.taken != noted {
            // The client may note more as soon as these are copied.
            let mut used = [0; USES_TOGETHER];
            let count = noted.wrapping_sub(self.taken).min(USES_TOGETHER as u64) as usize;
            for word in &mut used[..count] {
                *word = self.words.word(use_at(self.taken)).load(Ordering::Relaxed);
                self.taken = self.taken.wrapping_add(1);
            }
            self.words.word(TAKEN_AT).store(self.taken, Ordering::Release);
            used[..count].iter().for_each(|&word| take(CardId::of_word(word)));
        }
    }
}

#[cfg(all(test, not(snowskin_loom)))]
#[path = "holds_tests.rs"]
mod tests;
