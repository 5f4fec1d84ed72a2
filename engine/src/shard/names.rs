//! The names of a core's objects, packed without a word of the heap's own between them.
//!
//! ```text
//!   id        ├────── page, 20 bits ──────┼── slot, 12 bits ──┤
//!
//!   page      │ slot │ slot │ slot │ … │ rest │      64 KiB, slots of one length: its class
//!   slot      │ length, 2 │ name … │ unused │        vacant: │ 0 │ next vacant slot, 2 │ … │
//!
//!   classes   16  24  32 … 256 │ 272  288 … 512 │ 544 … 1,024 │ … 4,352 bytes
//!     each    less than ¼ full ─► ▢ ▢    ─► ▢    ─► ▢ ▢ ▢    at least ¾ full, with room ─► ▢      full ones: no list
//!   pool      ▢ ─► ▢ ─► ▢                            pages without names, for any class
//! ```
//!
//! Every verb is a handful of steps, and nothing that is held ever moves. A new name goes to one of the fullest pages
//! of its class that have room, so that the emptiest get the chance to become empty; with its last name, a page goes
//! back to the pool.
//!
//! What it costs, of a name: 2 bytes for the length; up to 7 unused in slots of up to 256 bytes (13 in the shortest),
//! up to 6 % in longer ones; of a page: 24 bytes, and a rest shorter than a slot.
//!
//! What may be stranded: a page is taken from the pool only when all pages of the class are full. So a class has at
//! most the pages that its names filled when they were most, and less those that became empty since. When keys come to
//! be of another length, the pages come back as the old names go, the last with the last of them. The pool's memory is
//! kept: all of it is what the names once filled, and one page for each class.
//!
//! There is room for 2²⁰ pages: 64 GiB, which is 2²⁸ names of 254 bytes. Whoever inserts asks first.

use snowskin_io::memory::{Paged, prefetch};
use snowskin_protocol::limits::NAME_BYTES_MAX;
use std::fmt;

/// Bytes of a page.
const PAGE_BYTES: usize = 64 << 10;
/// The slot is the lowest bits of an id.
const SLOT_BITS: u32 = 12;
/// Pages there can be.
const PAGES_MAX: usize = 1 << (u32::BITS - SLOT_BITS);

/// A name's length stands before its bytes. Names have at least one byte, so 0 says that the slot is vacant.
const LENGTH_BYTES: usize = 2;
/// Slots of the first classes are multiples of this, from twice as much.
const STEP: usize = 8;
const SLOT_BYTES_MIN: usize = 2 * STEP;
/// Above this, each doubling has [`CLASSES_A_DOUBLING`].
const FINE_BYTES_MAX: usize = 256;
const FINE_CLASSES: usize = FINE_BYTES_MAX / STEP - 1;
const CLASSES_A_DOUBLING: usize = 16;
const CLASSES: usize = class_of(LENGTH_BYTES + NAME_BYTES_MAX) + 1;

/// Lists of a class: by how many quarters of a page are taken.
const QUARTERS: usize = 4;

/// Ends a list of slots, or of pages.
const NO_SLOT: u16 = u16::MAX;
const NO_PAGE: u32 = u32::MAX;

const _: () = assert!(PAGE_BYTES / SLOT_BYTES_MIN <= 1 << SLOT_BITS);
// A vacant slot has room for the next one's number.
const _: () = assert!(SLOT_BYTES_MIN >= LENGTH_BYTES + size_of::<u16>());
// The steps of the long classes go on where the short ones' end.
const _: () = assert!(FINE_BYTES_MAX / CLASSES_A_DOUBLING == 2 * STEP && FINE_BYTES_MAX.is_power_of_two());
const _: () = assert!(size_of::<Page>() == 24);

/// Stands for a name from its insertion until its removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NameId(u32);

/// The names.
pub(crate) struct Names {
    pages: Paged<Page>,
    /// The first pages that have room, by class and quarter.
    lists: [[u32; QUARTERS]; CLASSES],
    /// The first page without names.
    pool: u32,
    pages_max: usize,
    len: usize,
}

struct Page {
    bytes: Box<[u8; PAGE_BYTES]>,
    /// Neighbours in its list.
    previous: u32,
    next: u32,
    /// Tells the class, too.
    slot_bytes: u16,
    held: u16,
    /// The first vacant slot, of those that had a name; those from `untouched` on never had one.
    vacant: u16,
    untouched: u16,
}

impl Names {
    /// No names, and no memory yet.
    pub(crate) fn new() -> Self {
        let lists = [[NO_PAGE; QUARTERS]; CLASSES];
        Names { pages: Paged::new(), lists, pool: NO_PAGE, pages_max: PAGES_MAX, len: 0 }
    }

    /// Whether there is room for a name of so many bytes.
    #[inline]
    pub(crate) fn has_room(&self, name_bytes: usize) -> bool {
        let has_page = || self.lists[class_of(LENGTH_BYTES + name_bytes)].iter().any(|&page| page != NO_PAGE);
        self.pages.len() < self.pages_max || self.pool != NO_PAGE || has_page()
    }

    /// Adds a name of 1 to [`NAME_BYTES_MAX`] bytes, whether it is there already or not. There must be room.
    pub(crate) fn insert(&mut self, name: &[u8]) -> NameId {
        assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "a name of {} bytes", name.len());
        let number = self.page_with_room(class_of(LENGTH_BYTES + name.len()));
        let page = self.page_mut(number);
        let quarter = page.quarter();
        let slot = page.take(name);
        self.relist(number, quarter);
        self.len += 1;
        NameId(number << SLOT_BITS | u32::from(slot))
    }

    /// The name.
    #[inline]
    pub(crate) fn get(&self, id: NameId) -> &[u8] {
        self.page(id.page()).name(id.slot())
    }

    /// Takes a name out. Its id may come to stand for another.
    pub(crate) fn remove(&mut self, id: NameId) {
        let number = id.page();
        let page = self.page_mut(number);
        let quarter = page.quarter();
        page.give(id.slot());
        self.relist(number, quarter);
        self.len -= 1;
    }

    /// Asks the processor for the lines of a name; of a long one, for the first and the last.
    #[inline]
    pub(crate) fn prefetch(&self, id: NameId) {
        const LINE_BYTES: usize = 64;
        const LINES_MAX: usize = 4;
        let slot = self.page(id.page()).slot(id.slot());
        slot.iter().step_by(LINE_BYTES).take(LINES_MAX).chain(slot.last()).for_each(prefetch);
    }

    /// No more pages than these.
    #[cfg(test)]
    pub(crate) fn limit(&mut self, pages: usize) {
        self.pages_max = pages;
    }

    /// How many names there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Memory taken from the heap, the pool's included.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.pages.len() * PAGE_BYTES + self.pages.heap_bytes()
    }

    #[inline]
    fn page(&self, number: u32) -> &Page {
        &self.pages[number as usize]
    }

    fn page_mut(&mut self, number: u32) -> &mut Page {
        &mut self.pages[number as usize]
    }

    // -- lists of pages --

    /// One of the fullest pages of the class that have room, or else one from the pool.
    fn page_with_room(&mut self, class: usize) -> u32 {
        let listed = self.lists[class].into_iter().rev().find(|&number| number != NO_PAGE);
        listed.unwrap_or_else(|| {
            let number = self.page_from_pool();
            self.page_mut(number).begin(slot_bytes(class));
            number
        })
    }

    fn page_from_pool(&mut self) -> u32 {
        if self.pool != NO_PAGE {
            let number = self.pool;
            self.pool = self.page(number).next;
            return number;
        }
        assert!(self.pages.len() < self.pages_max, "more names than ids");
        self.pages.push(Page::new()) as u32
    }

    /// A name came to the page, or left it, which was in the list of quarter `was`; `None` is no list.
    fn relist(&mut self, number: u32, was: Option<usize>) {
        let page = self.page(number);
        let (is, class) = (page.quarter(), class_of(page.slot_bytes.into()));
        if was != is {
            if let Some(quarter) = was {
                self.unlink(number, class, quarter);
            }
            if let Some(quarter) = is {
                self.link(number, class, quarter);
            }
        }
        if self.page(number).held == 0 {
            self.page_mut(number).next = self.pool;
            self.pool = number;
        }
    }

    fn link(&mut self, number: u32, class: usize, quarter: usize) {
        let next = std::mem::replace(&mut self.lists[class][quarter], number);
        let page = self.page_mut(number);
        (page.previous, page.next) = (NO_PAGE, next);
        if next != NO_PAGE {
            self.page_mut(next).previous = number;
        }
    }

    fn unlink(&mut self, number: u32, class: usize, quarter: usize) {
        let &Page { previous, next, .. } = self.page(number);
        match previous {
            NO_PAGE => self.lists[class][quarter] = next,
            _ => self.page_mut(previous).next = next,
        }
        if next != NO_PAGE {
            self.page_mut(next).previous = previous;
        }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Names { pages, len, .. } = self;
        formatter.debug_struct("Names").field("len", len).field("pages", &pages.len()).finish_non_exhaustive()
    }
}

impl NameId {
    fn page(self) -> u32 {
        self.0 >> SLOT_BITS
    }

    fn slot(self) -> u16 {
        (self.0 & ((1 << SLOT_BITS) - 1)) as u16
    }
}

impl Page {
    fn new() -> Self {
        let bytes = vec![0; PAGE_BYTES].into_boxed_slice();
        let bytes = bytes.try_into().expect("as long as a page");
        Page {
            bytes,
            previous: NO_PAGE,
            next: NO_PAGE,
            slot_bytes: 0,
            held: 0,
            vacant: NO_SLOT,
            untouched: 0,
        }
    }

    /// The page gets a class. What was in it before means nothing.
    fn begin(&mut self, slot_bytes: usize) {
        assert_eq!(self.held, 0, "a page of the pool has no names");
        (self.slot_bytes, self.vacant, self.untouched) = (slot_bytes as u16, NO_SLOT, 0);
    }

    /// The list to which it belongs: none when it is full, and none when it is empty.
    fn quarter(&self) -> Option<usize> {
        let slots = PAGE_BYTES / usize::from(self.slot_bytes);
        let held = usize::from(self.held);
        (0 < held && held < slots).then(|| held * QUARTERS / slots)
    }

    /// Puts a name into a vacant slot, of which there is one.
    fn take(&mut self, name: &[u8]) -> u16 {
        let slot = match self.vacant {
            NO_SLOT => {
                self.untouched += 1;
                self.untouched - 1
            }
            slot => {
                self.vacant = word(self.slot(slot), LENGTH_BYTES);
                slot
            }
        };
        self.held += 1;
        let bytes = self.slot_mut(slot);
        bytes[..LENGTH_BYTES].copy_from_slice(&(name.len() as u16).to_le_bytes());
        bytes[LENGTH_BYTES..][..name.len()].copy_from_slice(name);
        slot
    }

    /// Makes a slot vacant.
    fn give(&mut self, slot: u16) {
        // Panics when it is vacant already.
        self.name(slot);
        let next = std::mem::replace(&mut self.vacant, slot);
        let bytes = self.slot_mut(slot);
        bytes[..LENGTH_BYTES].fill(0);
        bytes[LENGTH_BYTES..][..size_of::<u16>()].copy_from_slice(&next.to_le_bytes());
        self.held -= 1;
        if self.held == 0 {
            self.untouched = 0;
        }
    }

    #[inline]
    fn name(&self, slot: u16) -> &[u8] {
        let bytes = self.slot(slot);
        let length = word(bytes, 0);
        assert!(slot < self.untouched && length > 0, "the name of an id that was removed");
        &bytes[LENGTH_BYTES..][..length.into()]
    }

    #[inline]
    fn slot(&self, slot: u16) -> &[u8] {
        let slot_bytes = usize::from(self.slot_bytes);
        &self.bytes[usize::from(slot) * slot_bytes..][..slot_bytes]
    }

    fn slot_mut(&mut self, slot: u16) -> &mut [u8] {
        let slot_bytes = usize::from(self.slot_bytes);
        &mut self.bytes[usize::from(slot) * slot_bytes..][..slot_bytes]
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

// -- classes --

/// The class with the shortest slots that have so many bytes.
const fn class_of(bytes: usize) -> usize {
    if bytes <= SLOT_BYTES_MIN {
        return 0;
    }
    if bytes <= FINE_BYTES_MAX {
        return bytes.div_ceil(STEP) - 2;
    }
    let doubling = (bytes - 1).ilog2();
    let step = (1 << doubling) / CLASSES_A_DOUBLING;
    let doublings = (doubling - FINE_BYTES_MAX.ilog2()) as usize;
    FINE_CLASSES + doublings * CLASSES_A_DOUBLING + (bytes - 1 - (1 << doubling)) / step
}

/// The length of the slots of a class.
const fn slot_bytes(class: usize) -> usize {
    if class < FINE_CLASSES {
        return (class + 2) * STEP;
    }
    let (doublings, steps) =
        ((class - FINE_CLASSES) / CLASSES_A_DOUBLING, (class - FINE_CLASSES) % CLASSES_A_DOUBLING);
    let from = FINE_BYTES_MAX << doublings;
    from + (steps + 1) * (from / CLASSES_A_DOUBLING)
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
