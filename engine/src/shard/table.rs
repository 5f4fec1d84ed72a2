//! From the hash of a name to the positions of the rows that may have it.
//!
//! ```text
//!   hash      ├─ slot, 16 bits ─┼─ free, 5 ─┼─ part, 11 ─┼───── tag, 32 ─────┤
//!
//!   parts     ▢  ▢  ▢  …  ▢           2,048, chosen by bits that a core's subset of slots leaves even
//!                ▼
//!   buckets   [ ][ ][ ][ ][ ]         home: tag × buckets / 2³²
//!                ▼
//!   bucket    │ tag 0 … tag 6 │ held │ position 0 … position 6 │ passed │      64 bytes, one cache line
//! ```
//!
//! An entry that finds its home full goes to the next bucket that has room, and every bucket that it went by counts it
//! in `passed`. A search ends where nothing passed: for most names that are not there, at the first line.
//!
//! Invariants, of each part:
//! * `passed` of a bucket is the number of entries whose home is here or before, and which lie further on.
//! * Only full buckets were passed. So age leaves no traces: who leaves a full bucket is replaced by one that passed.
//! * At most three quarters of the places are taken, so there is always a bucket that nothing passed.
//!
//! A part grows alone, by a quarter, from its tags: rows are not looked at. With ten million entries a part has five
//! thousand, so the core that serves requests stops for some twenty microseconds at a time. Parts do not shrink: what
//! a core needed once it will need again.
//!
//! What it costs: 64 bytes for 7 places, so 12.2 bytes an entry just before a part grows and 15.3 just after; 24 bytes
//! for each part. Equal hashes are allowed, in any number; whoever asks says which position is the one.

use snowskin_io::memory::prefetch;
use std::fmt;

/// Entries of a bucket.
const WAYS: usize = 7;
/// Parts are 2 to this power.
const PART_BITS: u32 = 11;
/// The part is chosen by the bits from this one on; below are the tag's.
const PART_SHIFT: u32 = 32;
/// Places taken, of so many, at most.
const LOAD_MAX: (usize, usize) = (3, 4);
/// A part grows by one over this.
const GROWTH: usize = 4;

// The slot's bits are the same for many entries of a core, and must not choose the part.
const _: () = assert!(PART_SHIFT + PART_BITS <= 48);
const _: () = assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 64);

/// The table.
pub(crate) struct Table {
    parts: Box<[Part]>,
    len: usize,
}

#[derive(Clone, Default)]
struct Part {
    buckets: Box<[Bucket]>,
    len: usize,
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Bucket {
    tags: [u32; WAYS],
    /// The first so many ways have an entry.
    held: u32,
    positions: [u32; WAYS],
    passed: u32,
}

impl Table {
    /// An empty table; its parts have no memory yet.
    pub(crate) fn new() -> Self {
        Table { parts: vec![Part::default(); 1 << PART_BITS].into_boxed_slice(), len: 0 }
    }

    /// The position for which `is_it` is true, of those that were inserted with this hash. It may be asked about a
    /// position of another hash, very rarely.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let (buckets, tag) = (&self.part(hash).buckets, tag_of(hash));
        let mut at = home(tag, buckets.len());
        // A part without memory has no bucket at all.
        let mut bucket = buckets.get(at)?;
        loop {
            for way in bucket.ways_of(tag) {
                let position = bucket.positions[way];
                if is_it(position) {
                    return Some(position);
                }
            }
            if bucket.passed == 0 {
                return None;
            }
            at = next(at, buckets.len());
            bucket = &buckets[at];
        }
    }

    /// Asks the processor for the line with which a search for `hash` begins.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.home_bucket(hash) {
            prefetch(bucket);
        }
    }

    /// The position that a search for `hash` will most likely find, without asking: to prefetch its row.
    #[inline]
    pub(crate) fn first_position(&self, hash: u64) -> Option<u32> {
        let bucket = self.home_bucket(hash)?;
        bucket.ways_of(tag_of(hash)).next().map(|way| bucket.positions[way])
    }

    /// Adds an entry that is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, position: u32) {
        let part = self.part_mut(hash);
        if part.is_full() {
            part.grow();
        }
        put(&mut part.buckets, tag_of(hash), position);
        part.len += 1;
        self.len += 1;
    }

    /// Takes an entry out. Returns whether it was there.
    pub(crate) fn remove(&mut self, hash: u64, position: u32) -> bool {
        let part = self.part_mut(hash);
        let was_there = take(&mut part.buckets, tag_of(hash), position);
        part.len -= usize::from(was_there);
        self.len -= usize::from(was_there);
        was_there
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Memory taken from the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let buckets: usize = self.parts.iter().map(|part| part.buckets.len()).sum();
        buckets * size_of::<Bucket>() + self.parts.len() * size_of::<Part>()
    }

    fn part(&self, hash: u64) -> &Part {
        &self.parts[part_of(hash)]
    }

    fn part_mut(&mut self, hash: u64) -> &mut Part {
        &mut self.parts[part_of(hash)]
    }

    fn home_bucket(&self, hash: u64) -> Option<&Bucket> {
        let buckets = &self.part(hash).buckets;
        buckets.get(home(tag_of(hash), buckets.len()))
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Table").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Part {
    fn is_full(&self) -> bool {
        (self.len + 1) * LOAD_MAX.1 > self.buckets.len() * WAYS * LOAD_MAX.0
    }

    /// Moves everything into more buckets: both are walked from end to end, because tags are in order of their homes.
    #[cold]
    fn grow(&mut self) {
        let count = self.buckets.len() + (self.buckets.len() / GROWTH).max(1);
        let mut larger = vec![Bucket::EMPTY; count].into_boxed_slice();
        for bucket in &self.buckets {
            for (&tag, &position) in bucket.tags().iter().zip(&bucket.positions) {
                put(&mut larger, tag, position);
            }
        }
        self.buckets = larger;
    }
}

impl Bucket {
    const EMPTY: Bucket = Bucket { tags: [0; WAYS], held: 0, positions: [0; WAYS], passed: 0 };

    fn is_full(&self) -> bool {
        self.held as usize == WAYS
    }

    fn tags(&self) -> &[u32] {
        &self.tags[..self.held as usize]
    }

    /// The ways that have this tag.
    #[inline]
    fn ways_of(&self, tag: u32) -> Ways {
        // All ways are compared, without branches: the compiler takes four at once with a vector.
        let mut equal = 0;
        for way in 0..WAYS {
            equal |= u32::from(self.tags[way] == tag) << way;
        }
        Ways(equal & ((1 << self.held) - 1))
    }

    fn push(&mut self, tag: u32, position: u32) {
        let way = self.held as usize;
        (self.tags[way], self.positions[way]) = (tag, position);
        self.held += 1;
    }

    fn swap_remove(&mut self, way: usize) -> (u32, u32) {
        self.held -= 1;
        let last = self.held as usize;
        self.tags.swap(way, last);
        self.positions.swap(way, last);
        (self.tags[last], self.positions[last])
    }
}

/// Ways of a bucket, a bit for each.
struct Ways(u32);

impl Iterator for Ways {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let way = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (way < WAYS).then_some(way)
    }
}

// -- where things are --

fn part_of(hash: u64) -> usize {
    (hash >> PART_SHIFT) as usize & ((1 << PART_BITS) - 1)
}

fn tag_of(hash: u64) -> u32 {
    hash as u32
}

/// The bucket, of `count`, in which an entry with this tag is looked for first.
fn home(tag: u32, count: usize) -> usize {
    ((u64::from(tag) * count as u64) >> u32::BITS) as usize
}

fn next(at: usize, count: usize) -> usize {
    if at + 1 == count { 0 } else { at + 1 }
}

/// How many steps behind `from` the bucket `to` lies.
fn distance(from: usize, to: usize, count: usize) -> usize {
    if from <= to { to - from } else { to + count - from }
}

// -- changes of a part --

fn put(buckets: &mut [Bucket], tag: u32, position: u32) {
    let mut at = home(tag, buckets.len());
    while buckets[at].is_full() {
        buckets[at].passed += 1;
        at = next(at, buckets.len());
    }
    buckets[at].push(tag, position);
}

fn take(buckets: &mut [Bucket], tag: u32, position: u32) -> bool {
    let home = home(tag, buckets.len());
    let mut at = home;
    while let Some(bucket) = buckets.get(at) {
        if let Some(way) = bucket.ways_of(tag).find(|&way| bucket.positions[way] == position) {
            buckets[at].swap_remove(way);
            arrive(buckets, home, at);
            fill(buckets, at);
            return true;
        }
        if bucket.passed == 0 {
            return false;
        }
        at = next(at, buckets.len());
    }
    false
}

/// One entry less has passed the buckets from `from` up to the one before `to`.
fn arrive(buckets: &mut [Bucket], mut from: usize, to: usize) {
    while from != to {
        buckets[from].passed -= 1;
        from = next(from, buckets.len());
    }
}

/// A bucket has got room. What has passed it may come back, and leaves room for what passed that place.
fn fill(buckets: &mut [Bucket], mut gap: usize) {
    let count = buckets.len();
    while buckets[gap].passed > 0 {
        let mut at = gap;
        let way = loop {
            at = next(at, count);
            let bucket = &buckets[at];
            let has_passed = |&tag: &u32| distance(home(tag, count), at, count) >= distance(gap, at, count);
            if let Some(way) = bucket.tags().iter().position(has_passed) {
                break way;
            }
        };
        let (tag, position) = buckets[at].swap_remove(way);
        arrive(buckets, gap, at);
        buckets[gap].push(tag, position);
        gap = at;
    }
}

#[cfg(test)]
impl Table {
    /// Lines that a search looks at when no position will do.
    fn lines_for(&self, hash: u64) -> usize {
        let buckets = &self.part(hash).buckets;
        let mut at = home(tag_of(hash), buckets.len());
        let mut lines = usize::from(!buckets.is_empty());
        while buckets.get(at).is_some_and(|bucket| bucket.passed > 0) {
            at = next(at, buckets.len());
            lines += 1;
        }
        lines
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
