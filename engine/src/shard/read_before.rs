//! Which names were read before, as far as is remembered: a part of the hash of each, in sets of a few.
//!
//! Who comes into a full set takes a place at random. In order of age, or with one place each, names that are read in turn would push each
//! other out for ever, and none would be known when it comes again.

/// Places of a set.
const WAYS: usize = 4;

/// See the module's head.
#[derive(Debug)]
pub(super) struct ReadBefore {
    sets: Vec<[u32; WAYS]>,
    /// Of chance.
    state: u32,
}

impl ReadBefore {
    /// Remembers so many names at most, a power of two.
    pub(super) fn new(names: usize) -> Self {
        ReadBefore { sets: vec![[0; WAYS]; (names / WAYS).next_power_of_two()], state: 1 }
    }

    /// A name with this hash is read: whether one was before.
    pub(super) fn is_known(&mut self, hash: u64) -> bool {
        let (part, number) = ((hash >> 32) as u32 | 1, hash as usize & (self.sets.len() - 1));
        let set = &mut self.sets[number];
        if set.contains(&part) {
            return true;
        }
        let free = set.iter().position(|part| *part == 0);
        // The upper bits of a congruential generator.
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        set[free.unwrap_or((self.state >> 16) as usize % WAYS)] = part;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(name: u64) -> u64 {
        (name + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn the_second_time_a_name_is_known() {
        let mut before = ReadBefore::new(64);
        assert!(!before.is_known(hash(1)) && !before.is_known(hash(2)));
        assert!(before.is_known(hash(1)) && before.is_known(hash(2)) && !before.is_known(hash(3)));
    }

    #[test]
    fn names_that_are_read_in_turn_are_all_known_before_long() {
        // Half as many again as a set has room for, all in the same one; who is known is asked for no more, as it is on the shelf.
        let mut before = ReadBefore::new(1);
        let mut names: Vec<u64> = (0..WAYS as u64 * 3 / 2).collect();
        let rounds = (0..100).take_while(|_| {
            names.retain(|name| !before.is_known(hash(*name)));
            !names.is_empty()
        });
        assert!(rounds.count() < 20, "{names:?}");
    }
}
