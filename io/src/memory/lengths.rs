//! A set of numbers below a bound that finds its next and its last member in a handful of steps.
//!
//! ```text
//!   level 2                      1                       one bit for each word of level 1 that is not 0
//!   level 1          1 0 0 … 0       0 0 1 … 0           one bit for each word of level 0 that is not 0
//!   level 0      0110…0  0…0  …        1000…0  …         one bit for each number
//! ```
//!
//! A level is a sixty-fourth of the one below: five levels for 2³⁰ numbers, and each step looks at one word of each
//! level at most. Words that were never touched are pages that the kernel has never given.

/// The set.
#[derive(Debug)]
pub(super) struct Lengths {
    levels: Vec<Vec<u64>>,
}

const WORD_BITS: u32 = u64::BITS;

impl Lengths {
    /// An empty set of numbers up to `last`.
    pub(super) fn up_to(last: u32) -> Self {
        let mut levels = Vec::new();
        let mut numbers = last as usize + 1;
        loop {
            let words = numbers.div_ceil(WORD_BITS as usize);
            levels.push(vec![0; words]);
            if words == 1 {
                return Lengths { levels };
            }
            numbers = words;
        }
    }

    /// Adds a number. No branch depends on what is there: a wrong guess of one would cost more than all of this.
    pub(super) fn insert(&mut self, mut number: u32) {
        for level in &mut self.levels {
            level[(number / WORD_BITS) as usize] |= 1 << (number % WORD_BITS);
            number /= WORD_BITS;
        }
    }

    /// Takes a number out, as branchless.
    pub(super) fn remove(&mut self, mut number: u32) {
        let mut is_empty = true;
        for level in &mut self.levels {
            let word = &mut level[(number / WORD_BITS) as usize];
            *word &= !(u64::from(is_empty) << (number % WORD_BITS));
            is_empty &= *word == 0;
            number /= WORD_BITS;
        }
    }

    /// The least member that is not below `number`.
    pub(super) fn first_from(&self, mut number: u32) -> Option<u32> {
        for (height, level) in self.levels.iter().enumerate() {
            let word = level.get((number / WORD_BITS) as usize)? >> (number % WORD_BITS);
            if word != 0 {
                return Some(self.descend(height, number + word.trailing_zeros(), u64::trailing_zeros));
            }
            number = number / WORD_BITS + 1;
        }
        None
    }

    /// The greatest member.
    pub(super) fn last(&self) -> Option<u32> {
        let top = self.levels.len() - 1;
        let word = self.levels[top][0];
        (word != 0).then(|| self.descend(top, highest(word), highest))
    }

    /// Bytes of all levels.
    pub(super) fn heap_bytes(&self) -> usize {
        self.levels.iter().map(|level| size_of_val(level.as_slice())).sum()
    }

    /// From a bit of a level down to a number, by the bit that `choose` finds in each word.
    fn descend(&self, height: usize, bit: u32, choose: fn(u64) -> u32) -> u32 {
        let below = self.levels[..height].iter().rev();
        below.fold(bit, |bit, level| bit * WORD_BITS + choose(level[bit as usize]))
    }
}

fn highest(word: u64) -> u32 {
    word.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::collections::BTreeSet;

    quickcheck! {
        fn it_is_a_set(steps: Vec<(bool, u32)>, last: u32, asked: Vec<u32>) -> bool {
            let last = last % (1 << 19);
            let (mut lengths, mut model) = (Lengths::up_to(last), BTreeSet::new());
            for (is_new, number) in steps {
                let number = number % (last + 1);
                if is_new {
                    lengths.insert(number);
                    model.insert(number);
                } else {
                    lengths.remove(number);
                    model.remove(&number);
                }
                assert_eq!(lengths.last(), model.last().copied());
            }
            asked.into_iter().chain([0, last, last + 1, u32::MAX]).all(|number| {
                lengths.first_from(number) == model.range(number..).next().copied()
            })
        }
    }

    #[test]
    fn bounds() {
        for last in [0, 62, 63, 64, 4095, 4096, 262_143, 262_144] {
            let mut lengths = Lengths::up_to(last);
            assert_eq!((lengths.first_from(0), lengths.last()), (None, None));
            lengths.insert(last);
            assert_eq!((lengths.first_from(0), lengths.last()), (Some(last), Some(last)));
            assert_eq!(lengths.first_from(last + 1), None);
            lengths.remove(last);
            assert_eq!((lengths.first_from(0), lengths.last()), (None, None));
        }
    }
}
