//! Inputs that nearly make sense: members of a corpus, damaged a little, in an order that a seed decides.

use std::fs;
use std::path::Path;

/// Edits that one input gets at most.
const EDITS_MAX: u64 = 4;
/// Numbers that code likes to compare with.
const BOUNDARIES: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    0xff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// The files of a target's corpus, in the order of their names.
pub fn corpus(root: &Path, target: &str) -> Vec<Vec<u8>> {
    let directory = root.join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    paths.iter().map(|path| fs::read(path).expect("a file of the corpus")).collect()
}

/// Makes inputs of a corpus, for ever.
pub struct Mutator {
    corpus: Vec<Vec<u8>>,
    state: u64,
}

impl Mutator {
    /// From a corpus that has an input at least.
    pub fn new(corpus: Vec<Vec<u8>>, seed: u64) -> Self {
        Mutator { corpus, state: seed }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.pick();
        for _ in 0..=self.below(EDITS_MAX) {
            self.edit(&mut input);
        }
        input
    }

    fn edit(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() as u64 + 1) as usize;
        match self.below(8) {
            0 | 1 if at < input.len() => input[at] ^= 1 << self.below(8),
            2 if at < input.len() => input[at] = self.below(256) as u8,
            3 => input.truncate(at),
            4 => input.insert(at, self.below(256) as u8),
            5 => {
                // The beginning of one message and the end of another.
                let other = self.pick();
                let from = self.below(other.len() as u64 + 1) as usize;
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 if at < input.len() => {
                let count = 1 + self.below(16.min((input.len() - at) as u64)) as usize;
                let end = (at + count).min(input.len());
                let repeated = input[at..end].to_vec();
                input.splice(at..at, repeated);
            }
            _ => {
                let number = BOUNDARIES[self.below(BOUNDARIES.len() as u64) as usize].to_le_bytes();
                let width = 1 << self.below(4);
                let end = (at + width).min(input.len());
                input[at..end].copy_from_slice(&number[..end - at]);
            }
        }
    }

    fn pick(&mut self) -> Vec<u8> {
        let index = self.below(self.corpus.len() as u64) as usize;
        self.corpus[index].clone()
    }

    /// SplitMix64, and the high half of a product.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        ((u128::from(word) * u128::from(bound)) >> 64) as u64
    }
}
