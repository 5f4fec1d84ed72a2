//! Which ranges of a segment are free: numbers only, no memory.
//!
//! ```text
//!   by place    ├ held ┼─ free ─┼── held ──┼ held ┼──── free ────┤   each knows its neighbours; free ones never touch
//!   by length   3 ─► ▢ ─► ▢      17 ─► ▢       4,096 ─► ▢            a list for each length that occurs
//!   lengths     the lengths that occur, as a set that knows its next and its last member
//! ```
//!
//! A request gets a range of the least length that is long enough (best fit), cut to exactly what was asked. So no
//! length is rounded to a class, and the longest free range is known at any time. Every step is a handful of words,
//! whatever the number of ranges: O(1).
//!
//! What it costs: 24 bytes a range, held or free (there is at most one free range more than held ones); a bit for each
//! length there can be, and 4 bytes for each length below [`SHORT`].

use super::lengths::Lengths;
use super::paged::Paged;
use std::collections::HashMap;

/// Names a range from when it is given out until it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RangeId(u32);

impl RangeId {
    /// The name as a number, below the greatest number of ranges that there ever were.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The name with this number.
    pub fn from_number(number: u32) -> Self {
        RangeId(number)
    }
}

/// Nobody: a neighbour that is never free. What is written to it is never read, so nobody asks whether there is a
/// neighbour before writing.
const NONE: RangeId = RangeId(0);

/// Lengths below this have their list in an array, the others (of which there are few ranges) in a map.
const SHORT: u32 = 1 << 16;

#[derive(Clone, Copy, Debug)]
struct Range {
    start: u32,
    length: u32,
    /// Neighbours by place.
    before: RangeId,
    behind: RangeId,
    /// Neighbours in the list of its length. A held range is its own next, and `previous` is its holder's word.
    previous: RangeId,
    next: RangeId,
}

/// A range that was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Its name.
    pub range: RangeId,
    /// Where it begins.
    pub start: u32,
}

/// The ranges of a segment. Lengths and places are in units of its owner's choice.
#[derive(Debug)]
pub struct Ranges {
    ranges: Paged<Range>,
    /// Names that mean nothing at present: a list through `next`.
    spare: RangeId,
    short: Vec<RangeId>,
    long: HashMap<u32, RangeId>,
    lengths: Lengths,
    units: u32,
    free_units: u32,
}

impl Ranges {
    /// One free range of so many units.
    pub fn new(units: u32) -> Self {
        let nobody = Range { start: 0, length: 0, before: NONE, behind: NONE, previous: NONE, next: NONE };
        let mut paged = Paged::new();
        paged.push(nobody);
        let mut ranges = Ranges {
            ranges: paged,
            spare: NONE,
            short: vec![NONE; units.min(SHORT - 1) as usize + 1],
            long: HashMap::new(),
            lengths: Lengths::up_to(units),
            units,
            free_units: 0,
        };
        if units > 0 {
            let name = ranges.name(Range { length: units, ..nobody });
            ranges.put_in(name);
        }
        ranges
    }

    /// A range of this length, at least one unit; `None` when no free range is long enough.
    pub fn allocate(&mut self, length: u32) -> Option<Cut> {
        let length = length.max(1);
        let found = self.lengths.first_from(length)?;
        let range = self.head(found);
        self.take_out(range);
        let start = self.at(range).start;
        if found > length {
            self.cut(range, length);
        }
        self.set_word(range, 0);
        Some(Cut { range, start })
    }

    /// Gives a range back. It becomes one with its free neighbours.
    pub fn free(&mut self, range: RangeId) {
        assert!(range != NONE && !self.is_free(range), "{range:?} is given back twice");
        let Range { before, behind, .. } = *self.at(range);
        if self.is_free(before) {
            let Range { start, length, before: beyond, .. } = *self.take_out(before);
            let own = self.at_mut(range);
            (own.start, own.length, own.before) = (start, own.length + length, beyond);
            self.link(beyond, range);
            self.forget(before);
        }
        if self.is_free(behind) {
            let Range { length, behind: beyond, .. } = *self.take_out(behind);
            self.at_mut(range).length += length;
            self.link(range, beyond);
            self.forget(behind);
        }
        self.put_in(range);
    }

    /// Gives back the beginning of a range, of this length: less than all of it.
    pub fn free_front(&mut self, range: RangeId, length: u32) {
        let Range { start, length: all, before, .. } = *self.at(range);
        assert!(!self.is_free(range) && length < all, "{length} of the {all} units of {range:?}");
        if length == 0 {
            return;
        }
        let own = self.at_mut(range);
        (own.start, own.length) = (start + length, all - length);
        let front = self.name(Range { start, length, before, behind: range, previous: NONE, next: NONE });
        // Held until it is given back.
        self.at_mut(front).next = front;
        self.link(before, front);
        self.link(front, range);
        self.free(front);
    }

    /// A word that belongs to whoever holds the range; 0 at first.
    #[inline]
    pub fn word(&self, range: RangeId) -> u32 {
        assert!(!self.is_free(range), "{range:?} is not held");
        self.at(range).previous.0
    }

    /// Changes that word.
    #[inline]
    pub fn set_word(&mut self, range: RangeId, word: u32) {
        assert!(!self.is_free(range), "{range:?} is not held");
        self.at_mut(range).previous = RangeId(word);
    }

    /// Where a range begins, and its length.
    #[inline]
    pub fn place(&self, range: RangeId) -> (u32, u32) {
        let Range { start, length, .. } = *self.at(range);
        (start, length)
    }

    /// All units.
    pub fn units(&self) -> u32 {
        self.units
    }

    /// Units that are not held.
    pub fn free_units(&self) -> u32 {
        self.free_units
    }

    /// Asks the processor for what is known of a range.
    pub fn prefetch(&self, range: RangeId) {
        super::prefetch(self.at(range));
    }

    /// Bytes of the process's own memory that these numbers take.
    pub fn heap_bytes(&self) -> usize {
        let lists = self.short.len() * size_of::<RangeId>() + self.long.capacity() * 9;
        self.ranges.heap_bytes() + lists + self.lengths.heap_bytes()
    }

    /// The length of the longest free range.
    pub fn longest(&self) -> u32 {
        self.lengths.last().unwrap_or(0)
    }

    fn at(&self, range: RangeId) -> &Range {
        &self.ranges[range.0 as usize]
    }

    fn at_mut(&mut self, range: RangeId) -> &mut Range {
        &mut self.ranges[range.0 as usize]
    }

    fn name(&mut self, range: Range) -> RangeId {
        match self.spare {
            NONE => RangeId(self.ranges.push(range) as u32),
            name => {
                self.spare = self.at(name).next;
                *self.at_mut(name) = range;
                name
            }
        }
    }

    fn forget(&mut self, name: RangeId) {
        let next = std::mem::replace(&mut self.spare, name);
        self.at_mut(name).next = next;
    }

    /// Two ranges lie behind each other.
    fn link(&mut self, before: RangeId, behind: RangeId) {
        self.at_mut(before).behind = behind;
        self.at_mut(behind).before = before;
    }

    /// Shortens a range that is in no list; what is left of it is free.
    fn cut(&mut self, range: RangeId, length: u32) {
        let Range { start, length: all, behind, .. } = *self.at(range);
        self.at_mut(range).length = length;
        let (start, length) = (start + length, all - length);
        let rest = self.name(Range { start, length, before: range, behind, previous: NONE, next: NONE });
        self.at_mut(range).behind = rest;
        self.link(rest, behind);
        self.put_in(rest);
    }

    // -- lists of free ranges of one length --

    fn is_free(&self, range: RangeId) -> bool {
        self.at(range).next != range
    }

    fn head(&self, length: u32) -> RangeId {
        if length < SHORT { self.short[length as usize] } else { self.long[&length] }
    }

    fn set_head(&mut self, length: u32, range: RangeId) {
        if length < SHORT {
            self.short[length as usize] = range;
        } else if range == NONE {
            self.long.remove(&length);
        } else {
            self.long.insert(length, range);
        }
    }

    fn put_in(&mut self, range: RangeId) {
        let length = self.at(range).length;
        self.free_units += length;
        let next = if length < SHORT {
            self.short[length as usize]
        } else {
            self.long.get(&length).copied().unwrap_or(NONE)
        };
        self.lengths.insert(length);
        self.at_mut(next).previous = range;
        let own = self.at_mut(range);
        (own.previous, own.next) = (NONE, next);
        self.set_head(length, range);
    }

    fn take_out(&mut self, range: RangeId) -> &Range {
        let Range { length, previous, next, .. } = *self.at(range);
        self.free_units -= length;
        self.at_mut(next).previous = previous;
        if previous != NONE {
            self.at_mut(previous).next = next;
        } else {
            self.set_head(length, next);
            if next == NONE {
                self.lengths.remove(length);
            }
        }
        let own = self.at_mut(range);
        (own.previous, own.next) = (range, range);
        own
    }
}

#[cfg(test)]
#[path = "ranges_tests.rs"]
mod tests;
