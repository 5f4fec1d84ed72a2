//! Memory that is given out in ranges, each owned as a buffer is.
//!
//! ```text
//!             reserve                    publish                 let go of, and the last pin dropped
//!   free ───────────────► Reservation ───────────────► published ─────────────────────────────────► free
//!     ▲                       │ dropped unpublished         │ pin ▲
//!     └───────────────────────┘                             ▼     │ dropped
//!                                                           Extent
//! ```
//!
//! A [`Reservation`] is written by one task and seen by nobody. What is published is read by many and written by nobody,
//! until it is free again: when its keeper (the index, which knows it by its [`ExtentId`]) has let it go and no
//! [`Extent`], which is a pin, is left.
//!
//! Every byte is always in one of four states, and [`Segment::usage`] knows them by counting, not by scanning:
//! free, reserved, kept (live, if the keeper counts as well) or pinned (let go, and still read).
//!
//! Invariant, on which all `unsafe` here rests: ranges that [`Ranges`] has given out and not got back never overlap.
//! The word of a held range is [`RESERVED`] while there is a `Reservation` of it, and only then; otherwise it counts its
//! pins, and has the bit [`KEPT`] until it is let go. It is given back when it is no longer reserved, kept or pinned.
//! An `ExtentId` may be any number, old or invented: it can lead to the wrong bytes, but never to bytes that somebody may
//! write, because pinning asks the word, and letting go leaves pins as they are.

use super::mapping::Mapping;
use super::ranges::{Cut, RangeId, Ranges};
use crate::seeded_bug;
use snowskin_protocol::limits::EXTENT_ALIGNMENT;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const RESERVED: u32 = u32::MAX;
const KEPT: u32 = 1 << 31;
/// Far from where a count of pins would look like something else.
const PINS_MAX: u32 = 1 << 30;

/// A run of memory. Clones are the same one; it is unmapped when the last of them, its reservations and its pins is gone.
#[derive(Clone, Debug)]
pub struct Segment(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    number: u16,
    mapping: Mapping,
    ranges: RefCell<Ranges>,
    reserved_units: Cell<u32>,
    kept_units: Cell<u32>,
    /// How often each range was given back under its readers.
    #[cfg(snowskin_seeded_bugs)]
    reused: RefCell<std::collections::HashMap<RangeId, u32>>,
}

/// Where the bytes of a segment are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of them.
    pub capacity_bytes: u64,
    /// Not given out.
    pub free_bytes: u64,
    /// Being written.
    pub reserved_bytes: u64,
    /// Let go of, and still read.
    pub pinned_bytes: u64,
    /// The longest run that is not given out.
    pub free_range_bytes_max: u64,
}

/// The name of published memory, for its keeper: the number of its segment, and the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentId {
    /// [`Segment::number`].
    pub segment: u16,
    /// The range in it.
    pub range: RangeId,
}

impl Segment {
    /// A segment of the whole units of `mapping`, under a number that is its own among those of its owner.
    pub fn new(number: u16, mapping: Mapping) -> Self {
        let units = u32::try_from(mapping.bytes() / EXTENT_ALIGNMENT).expect("a segment has less than 2 TiB");
        Segment(Rc::new(Inner {
            number,
            mapping,
            ranges: RefCell::new(Ranges::new(units)),
            reserved_units: Cell::new(0),
            kept_units: Cell::new(0),
            #[cfg(snowskin_seeded_bugs)]
            reused: RefCell::default(),
        }))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.0.number
    }

    /// All its bytes.
    pub fn capacity_bytes(&self) -> u64 {
        (self.0.mapping.bytes() / EXTENT_ALIGNMENT * EXTENT_ALIGNMENT) as u64
    }

    /// The memory it is made of.
    pub fn mapping(&self) -> &Mapping {
        &self.0.mapping
    }

    /// The memory it was made of, if nothing of it is given out any more and this is the only clone.
    pub fn into_mapping(self) -> Result<Mapping, Segment> {
        // Whatever holds memory of a segment is a clone of it, but for keepers, who only know names.
        match self.usage() {
            usage if usage.free_bytes == usage.capacity_bytes => {
                Rc::try_unwrap(self.0).map(|inner| inner.mapping).map_err(Segment)
            }
            _ => Err(self),
        }
    }

    /// Memory for a value of `value_bytes`, or `None` when no free run is long enough.
    pub fn reserve(&self, value_bytes: usize) -> Option<Reservation> {
        let units = u32::try_from(value_bytes.max(1).div_ceil(EXTENT_ALIGNMENT)).ok()?;
        let mut ranges = self.0.ranges.borrow_mut();
        let Cut { range, start } = ranges.allocate(units)?;
        ranges.set_word(range, RESERVED);
        self.0.reserved_units.set(self.0.reserved_units.get() + units);
        Some(Reservation { place: Some(Place { segment: self.clone(), range, start }), value_bytes })
    }

    /// Pins what is kept under that name. Panics if nothing of that length is published there.
    #[inline]
    pub fn pin(&self, extent: ExtentId, value_bytes: usize) -> Extent {
        let mut ranges = self.0.ranges.borrow_mut();
        let word = ranges.word(extent.range);
        let (start, units) = ranges.place(extent.range);
        assert!(extent.segment == self.0.number && word != RESERVED, "{extent:?} is not published here");
        assert!(value_bytes <= units as usize * EXTENT_ALIGNMENT, "{extent:?} is shorter than {value_bytes}");
        ranges.set_word(extent.range, with_a_pin(word));
        drop(ranges);
        Extent {
            #[cfg(snowskin_seeded_bugs)]
            reused: self.0.times_reused(extent.range),
            place: Place { segment: self.clone(), range: extent.range, start },
            value_bytes,
        }
    }

    /// The keeper lets go: the memory is free as soon as nobody reads it.
    pub fn let_go(&self, extent: ExtentId) {
        let mut ranges = self.0.ranges.borrow_mut();
        let word = ranges.word(extent.range);
        let is_kept = word != RESERVED && word & KEPT != 0;
        assert!(extent.segment == self.0.number && is_kept, "{extent:?} is not kept here");
        ranges.set_word(extent.range, word & !KEPT);
        let (_, units) = ranges.place(extent.range);
        self.0.kept_units.set(self.0.kept_units.get() - units);
        if word == KEPT {
            ranges.free(extent.range);
        } else if seeded_bug!("reuse before unpin") {
            ranges.free(extent.range);
            #[cfg(snowskin_seeded_bugs)]
            self.0.reused.borrow_mut().entry(extent.range).and_modify(|times| *times += 1).or_insert(1);
        }
    }

    /// Asks the processor for what pinning will read.
    pub fn prefetch(&self, extent: ExtentId) {
        self.0.ranges.borrow().prefetch(extent.range);
    }

    /// Where the bytes are.
    pub fn usage(&self) -> Usage {
        let ranges = self.0.ranges.borrow();
        let bytes = |units: u32| u64::from(units) * EXTENT_ALIGNMENT as u64;
        let counted = self.0.reserved_units.get() + self.0.kept_units.get();
        Usage {
            capacity_bytes: bytes(ranges.units()),
            free_bytes: bytes(ranges.free_units()),
            reserved_bytes: bytes(self.0.reserved_units.get()),
            pinned_bytes: bytes(ranges.units() - ranges.free_units() - counted),
            free_range_bytes_max: bytes(ranges.longest()),
        }
    }

    /// Bytes of the process's own memory that keep account of this segment.
    pub fn heap_bytes(&self) -> usize {
        self.0.ranges.borrow().heap_bytes()
    }
}

#[cfg(snowskin_seeded_bugs)]
impl Inner {
    fn times_reused(&self, range: RangeId) -> u32 {
        self.reused.borrow().get(&range).copied().unwrap_or(0)
    }
}

/// The word of a range with one pin more. Panics when no more can be counted.
#[inline]
fn with_a_pin(word: u32) -> u32 {
    assert!(word & !KEPT < PINS_MAX, "more pins than can be counted");
    word + 1
}

/// Bytes that a value of this length takes in a segment.
pub fn allocated_bytes(value_bytes: u64) -> u64 {
    value_bytes.max(1).next_multiple_of(EXTENT_ALIGNMENT as u64)
}

/// A held range.
#[derive(Clone, Debug)]
struct Place {
    segment: Segment,
    range: RangeId,
    /// In units.
    start: u32,
}

impl Place {
    fn start(&self) -> *mut u8 {
        let offset = self.start as usize * EXTENT_ALIGNMENT;
        self.segment.0.mapping.start().wrapping_add(offset)
    }

    fn location(&self) -> (u16, u64) {
        (self.segment.number(), u64::from(self.start) * EXTENT_ALIGNMENT as u64)
    }

    fn finish_writing(&self, word: u32) {
        let inner = &*self.segment.0;
        let mut ranges = inner.ranges.borrow_mut();
        let (_, units) = ranges.place(self.range);
        if !(word == KEPT && seeded_bug!("reserved for ever")) {
            inner.reserved_units.set(inner.reserved_units.get() - units);
        }
        ranges.set_word(self.range, word);
        match word {
            0 => ranges.free(self.range),
            _ => inner.kept_units.set(inner.kept_units.get() + units),
        }
    }
}

/// Memory that one task is filling.
#[derive(Debug)]
pub struct Reservation {
    /// There until published or dropped.
    place: Option<Place>,
    value_bytes: usize,
}

impl Reservation {
    fn place(&self) -> &Place {
        self.place.as_ref().expect("present until published")
    }

    /// The bytes of the value, to fill.
    pub fn value_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range is held and at least this long, so it lies within the mapping, which lives as long as
        // `self.place`; it is reserved, so it has no other reservation and no pin, and `&mut self` is the only way here.
        unsafe { std::slice::from_raw_parts_mut(self.place().start(), self.value_bytes) }
    }

    /// Where it is: the number of its segment, and bytes from the beginning of that.
    pub fn location(&self) -> (u16, u64) {
        self.place().location()
    }

    /// The bytes of the value so far.
    pub fn value(&self) -> &[u8] {
        // SAFETY: as in `value_mut`, and whoever writes needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.place().start(), self.value_bytes) }
    }

    /// Gives back so many bytes at the beginning, a multiple of [`EXTENT_ALIGNMENT`]: the value is what stands behind them. Panics if that is
    /// nothing.
    pub fn drop_front(&mut self, bytes: usize) {
        assert!(bytes.is_multiple_of(EXTENT_ALIGNMENT), "{bytes} bytes are not whole units");
        assert!(bytes < self.value_bytes, "{bytes} of {} bytes", self.value_bytes);
        let units = (bytes / EXTENT_ALIGNMENT) as u32;
        let place = self.place.as_mut().expect("present until published");
        let inner = &*place.segment.0;
        inner.ranges.borrow_mut().free_front(place.range, units);
        inner.reserved_units.set(inner.reserved_units.get() - units);
        place.start += units;
        self.value_bytes -= bytes;
    }

    /// Ends the writing: from now on the bytes never change. Whoever takes the name keeps them, until
    /// [`Segment::let_go`].
    #[must_use = "what nobody keeps is lost memory"]
    pub fn publish(mut self) -> ExtentId {
        let place = self.place.take().expect("present until published");
        place.finish_writing(KEPT);
        ExtentId { segment: place.segment.number(), range: place.range }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.finish_writing(0);
        }
    }
}

/// A published value, pinned.
#[derive(Debug)]
pub struct Extent {
    place: Place,
    value_bytes: usize,
    #[cfg(snowskin_seeded_bugs)]
    reused: u32,
}

impl Extent {
    /// Where it is: the number of its segment, and bytes from the beginning of that.
    pub fn location(&self) -> (u16, u64) {
        self.place.location()
    }

    /// The bytes of the value.
    pub fn bytes(&self) -> u64 {
        self.value_bytes as u64
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        // SAFETY: the range is held by this pin and at least this long (asked when it was made), so it lies within the
        // mapping, which lives as long as `self.place`; it is published, so nobody writes.
        unsafe { std::slice::from_raw_parts(self.place.start(), self.value_bytes) }
    }
}

impl Clone for Extent {
    fn clone(&self) -> Self {
        let mut ranges = self.place.segment.0.ranges.borrow_mut();
        let word = ranges.word(self.place.range);
        ranges.set_word(self.place.range, with_a_pin(word));
        Extent { place: self.place.clone(), ..*self }
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        let Place { segment, range, .. } = &self.place;
        #[cfg(snowskin_seeded_bugs)]
        if segment.0.times_reused(*range) != self.reused {
            return;
        }
        let mut ranges = segment.0.ranges.borrow_mut();
        let word = ranges.word(*range) - 1;
        ranges.set_word(*range, word);
        if word == 0 {
            ranges.free(*range);
        }
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
