//! What is remembered of those that were evicted: that they were here, and how often they were used.
//!
//! ```text
//!   a slot, 32 bits    ├ tag 28 ┼ uses 2 ┼ generation 2 ┤      0 uses: nothing is remembered
//!   a set              16 slots: a cache line
//! ```
//!
//! A hash names a set and a tag. Time goes in generations: a new one begins when a third of what is to be remembered
//! was written. Of the four that two bits can name, three are remembered, and the fourth is swept away, a few sets at
//! each write, before its number is used again. There are so many sets that one is rarely full (then its oldest slot
//! is given up): a chain of blocks must be remembered as a whole or not at all, since one block that is treated
//! otherwise than its neighbours makes a hole.
//!
//! What it costs: 6.4 to 12.8 bytes for each memory. The sets double when there is more to remember, each half with a
//! copy of what there was (one copy is found under its hash as before, the other one never): some bytes are copied
//! once in a long time, as when an array grows.

const WAYS: usize = 16;
/// Memories of a set in the mean, at most.
const FULL_AT: usize = 10;
const SETS_MIN: usize = 16;
/// Sets that a write sweeps at most. A generation that is not swept through yet goes on.
const SWEPT_MAX: usize = 16;
const GENERATIONS: u32 = 4;
/// The most uses that are remembered.
pub(super) const USES_MAX: u8 = 3;

#[derive(Debug)]
pub(super) struct Ghosts {
    sets: Vec<[u32; WAYS]>,
    generation: u32,
    written: usize,
    swept: usize,
}

impl Ghosts {
    pub(super) fn new() -> Self {
        Ghosts { sets: Vec::new(), generation: 0, written: 0, swept: 0 }
    }

    /// Remembers somebody with their uses (1 to [`USES_MAX`]), and about as many who went before as `memories` says.
    pub(super) fn remember(&mut self, hash: u64, uses: u8, memories: usize) {
        self.grow(memories);
        let (set, tag) = self.place(hash);
        let generation = self.generation;
        let age = |slot: u32| match slot {
            _ if uses_of(slot) == 0 => GENERATIONS + 1,
            _ if slot >> 4 == tag => GENERATIONS + 2,
            _ => (generation + GENERATIONS - slot % GENERATIONS) % GENERATIONS,
        };
        let slots = &mut self.sets[set];
        let oldest = (0..WAYS).rev().max_by_key(|&way| age(slots[way])).expect("a set has ways");
        slots[oldest] = tag << 4 | u32::from(uses.clamp(1, USES_MAX)) << 2 | generation;
        self.advance(memories);
    }

    /// How often somebody was used, 0 if that is not known; it is forgotten now.
    pub(super) fn recall(&mut self, hash: u64) -> u8 {
        if self.sets.is_empty() {
            return 0;
        }
        let (set, tag) = self.place(hash);
        let slot = self.sets[set].iter_mut().find(|slot| **slot >> 4 == tag && uses_of(**slot) > 0);
        slot.map_or(0, |slot| uses_of(std::mem::take(slot)))
    }

    /// Bytes of memory.
    pub(super) fn footprint_bytes(&self) -> usize {
        self.sets.len() * WAYS * size_of::<u32>()
    }

    fn place(&self, hash: u64) -> (usize, u32) {
        let mixed = super::mixed(hash);
        ((mixed >> 28) as usize & (self.sets.len() - 1), (mixed & 0xfff_ffff) as u32)
    }

    fn grow(&mut self, memories: usize) {
        if self.sets.is_empty() {
            self.sets = vec![[0; WAYS]; SETS_MIN];
        }
        if self.sets.len() * FULL_AT < memories {
            self.sets.extend_from_within(..);
        }
    }

    fn advance(&mut self, memories: usize) {
        self.written += 1;
        let length = (memories / (GENERATIONS as usize - 1)).max(1);
        let next = (self.generation + 1) % GENERATIONS;
        let until = (self.swept + self.sets.len().div_ceil(length).min(SWEPT_MAX)).min(self.sets.len());
        for slot in self.sets[self.swept..until].iter_mut().flatten() {
            if *slot % GENERATIONS == next {
                *slot = 0;
            }
        }
        self.swept = until;
        if self.written >= length && self.swept == self.sets.len() {
            (self.generation, self.written, self.swept) = (next, 0, 0);
        }
    }
}

fn uses_of(slot: u32) -> u8 {
    (slot >> 2 & 3) as u8
}

#[cfg(test)]
impl Ghosts {
    /// Forgets nothing as long as there is little.
    pub(super) fn keep_all(&mut self) {
        self.sets = vec![[0; WAYS]; 1 << 12];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_the_oldest_are_not() {
        let mut ghosts = Ghosts::new();
        assert_eq!(ghosts.recall(1), 0);
        for hash in 0..10_000u64 {
            ghosts.remember(hash, 1 + (hash % 3) as u8, 1_000);
        }
        let right = (9_400..10_000).filter(|&hash| ghosts.recall(hash) == 1 + (hash % 3) as u8).count();
        assert!(right >= 570, "{right} of 600");
        let old = (0..8_000).filter(|&hash| ghosts.recall(hash) > 0).count();
        assert!(old <= 80, "{old} of 8,000 strangers");
        let again = (9_400..10_000).filter(|&hash| ghosts.recall(hash) > 0).count();
        assert!(again <= 6, "what was recalled is forgotten: {again}");
    }

    #[test]
    fn growing_forgets_nothing_and_the_size_is_bounded() {
        let mut ghosts = Ghosts::new();
        for hash in 0..50_000u64 {
            ghosts.remember(hash, 2, hash as usize + 1);
        }
        let known = (25_000..50_000).filter(|&hash| ghosts.recall(hash) == 2).count();
        assert!(known >= 23_000, "{known} of 25,000");
        assert!(ghosts.footprint_bytes() <= 50_000 * 13, "{}", ghosts.footprint_bytes());
    }
}
