//! SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014): a Weyl sequence of 64
//! bits, finished by a bijective mixer. It is not for secrets.

use std::cell::Cell;

/// The odd constant of the Weyl sequence: 2^64 / golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct SplitMix(Cell<u64>);

impl SplitMix {
    /// The stream that a seed begins.
    pub fn new(seed: u64) -> Self {
        SplitMix(Cell::new(seed))
    }

    /// 64 random bits.
    pub fn draw(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(GAMMA));
        mix(self.0.get())
    }

    /// A seed for a stream of its own, made of a seed and a number.
    pub fn split(seed: u64, number: u64) -> u64 {
        mix(mix(seed.wrapping_add(GAMMA)) ^ mix(number))
    }
}

fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_the_published_numbers() {
        // Seed 1234567, from the reference implementation by Sebastiano Vigna.
        let random = SplitMix::new(1_234_567);
        assert_eq!(random.draw(), 6_457_827_717_110_365_317);
        assert_eq!(random.draw(), 3_203_168_211_198_807_973);
    }
}
