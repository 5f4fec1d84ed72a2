//! Values that say whose they are, so that every byte a store hands back can be judged.
//!
//! ```text
//!   ┌────────┬──────────┬────────┬──────┬───────────────┬──────────────────────────────────────┐
//!   │ magic  │ key bytes│ length │ seed │ key, padded   │ word i = mixed(start + i × STEP) …    │
//!   │ u32    │ u32      │ u64    │ u64  │ to 8 bytes    │ to the end, the last word cut off     │
//!   └────────┴──────────┴────────┴──────┴───────────────┴──────────────────────────────────────┘
//! ```
//!
//! The bytes are a function of (key, length, seed) and nothing else: whoever knows the three can write them and
//! check them, at memory speed, because a word is an addition, a shift and an exclusive or of its position, which
//! compilers turn into vector code. `start` depends on all three, so two values agree in no word but by accident;
//! words differ along a value, so bytes that have moved are found as well as bytes that have changed. A value that
//! is shorter than its header is the beginning of the header.
//!
//! This is no checksum: it trusts the program that checks, and finds what a store may do wrong. It does not hide
//! what it contains and does not withstand an adversary.

use std::fmt;

/// "SnV1", so that a header is recognised in foreign bytes.
const MAGIC: u32 = 0x3156_6e53;
/// Bytes of magic, key length, value length and seed.
const FIXED_BYTES: usize = 24;
/// The most bytes of a key that a header repeats; of longer ones it has the beginning.
const KEY_BYTES_NAMED_MAX: usize = 64;
/// The golden ratio in 64 bits: consecutive multiples are far apart in all bits.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Words that are compared before the first difference is looked for: enough to run as vector code, few enough
/// that the search for the byte is short.
const WORDS_PER_STRIDE: usize = 256;

/// Writes and checks the values of one run.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    seed: u64,
}

/// A value is not what was put under its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "wrong value of key \"{key}\" ({length} bytes): at offset {offset} expected {}, found {}; {suspicion}",
    Hex(.expected), Hex(.found)
)]
pub struct WrongValue {
    /// The key that was asked for.
    pub key: String,
    /// Bytes of the value as it was received.
    pub length: usize,
    /// The first byte that differs.
    pub offset: usize,
    /// What should have been there: up to 8 bytes.
    pub expected: Vec<u8>,
    /// What was there.
    pub found: Vec<u8>,
    /// What probably happened.
    pub suspicion: Suspicion,
}

/// What probably happened to a value, judged by its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// The bytes are those of another key (of this or another length or seed).
    ValueOf(String),
    /// The header is this key's, and was written for another length or by another run.
    OtherLengthOrSeed,
    /// One bit differs, and no more.
    FlippedBit,
    /// The value begins as it should: this many bytes differ, somewhere after.
    Torn(usize),
    /// The bytes begin with no header at all.
    Unknown,
}

impl Values {
    /// Values of the run with this seed.
    pub fn new(seed: u64) -> Self {
        Values { seed }
    }

    /// Writes the value of `key` with `value.len()` bytes.
    pub fn fill(&self, key: &[u8], value: &mut [u8]) {
        let header = self.header(key, value.len());
        let cut = header.len().min(value.len());
        value[..cut].copy_from_slice(&header[..cut]);
        let start = self.start(key, value.len());
        fill_words(&mut value[cut..], start);
    }

    /// The value of `key` with `length` bytes, freshly allocated.
    pub fn make(&self, key: &[u8], length: usize) -> Vec<u8> {
        let mut value = vec![0; length];
        self.fill(key, &mut value);
        value
    }

    /// Compares every byte of `value` with what [`Values::fill`] writes for `key` and this length.
    pub fn check(&self, key: &[u8], value: &[u8]) -> Result<(), Box<WrongValue>> {
        let header = self.header(key, value.len());
        let cut = header.len().min(value.len());
        let start = self.start(key, value.len());
        let first = match value[..cut].iter().zip(&header).position(|(found, expected)| found != expected) {
            Some(offset) => offset,
            None => match first_difference(&value[cut..], start) {
                None => return Ok(()),
                Some(offset) => cut + offset,
            },
        };
        Err(Box::new(self.describe(key, value, first)))
    }

    fn describe(&self, key: &[u8], value: &[u8], offset: usize) -> WrongValue {
        let right = self.make(key, value.len());
        let end = value.len().min(offset + 8);
        WrongValue {
            key: key.escape_ascii().to_string(),
            length: value.len(),
            offset,
            expected: right[offset..end].to_vec(),
            found: value[offset..end].to_vec(),
            suspicion: suspect(key, value, &right),
        }
    }

    fn header(&self, key: &[u8], length: usize) -> Vec<u8> {
        let named = &key[..key.len().min(KEY_BYTES_NAMED_MAX)];
        let mut header = Vec::with_capacity(FIXED_BYTES + KEY_BYTES_NAMED_MAX);
        header.extend_from_slice(&MAGIC.to_le_bytes());
        header.extend_from_slice(&(key.len() as u32).to_le_bytes());
        header.extend_from_slice(&(length as u64).to_le_bytes());
        header.extend_from_slice(&self.seed.to_le_bytes());
        header.extend_from_slice(named);
        header.resize(header.len().next_multiple_of(8), 0);
        header
    }

    /// The first word's counter: FNV-1a of the key, spread together with length and seed.
    fn start(&self, key: &[u8], length: usize) -> u64 {
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        spread(hash ^ spread(self.seed ^ spread(length as u64)))
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit changes half of the output bits.
fn spread(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Word number `index`. The shift makes the low bits depend on the high ones; it is one-to-one, so words of
/// different counters differ.
#[inline(always)]
fn word(start: u64, index: usize) -> u64 {
    let counter = start.wrapping_add(STEP.wrapping_mul(index as u64));
    counter ^ (counter >> 29)
}

fn fill_words(bytes: &mut [u8], start: u64) {
    let mut words = bytes.chunks_exact_mut(8);
    let mut index = 0;
    for chunk in &mut words {
        chunk.copy_from_slice(&word(start, index).to_le_bytes());
        index += 1;
    }
    let rest = words.into_remainder();
    let last = word(start, index).to_le_bytes();
    rest.copy_from_slice(&last[..rest.len()]);
}

fn first_difference(bytes: &[u8], start: u64) -> Option<usize> {
    let stride_bytes = WORDS_PER_STRIDE * 8;
    for (stride, chunk) in bytes.chunks(stride_bytes).enumerate() {
        let first_index = stride * WORDS_PER_STRIDE;
        if !stride_matches(chunk, start, first_index) {
            let mut right = [0; WORDS_PER_STRIDE * 8];
            fill_words(&mut right[..chunk.len()], word_counter(start, first_index));
            let at = chunk.iter().zip(&right).position(|(found, expected)| found != expected);
            return Some(stride * stride_bytes + at.expect("the stride differs"));
        }
    }
    None
}

fn word_counter(start: u64, index: usize) -> u64 {
    start.wrapping_add(STEP.wrapping_mul(index as u64))
}

/// Ors all differences of a stride together: no branch in the loop, so it runs as vector code.
fn stride_matches(chunk: &[u8], start: u64, first_index: usize) -> bool {
    let mut difference = 0u64;
    let words = chunk.chunks_exact(8);
    let rest = words.remainder();
    let first = word_counter(start, first_index);
    let count = chunk.len() / 8;
    for (index, bytes) in words.enumerate() {
        let found = u64::from_le_bytes(bytes.try_into().expect("chunks of 8 bytes"));
        difference |= found ^ word(first, index);
    }
    let last = word(first, count).to_le_bytes();
    difference == 0 && rest == &last[..rest.len()]
}

fn suspect(key: &[u8], found: &[u8], right: &[u8]) -> Suspicion {
    let differing = found.iter().zip(right).filter(|(one, other)| one != other).count();
    let bits: u32 = found.iter().zip(right).map(|(one, other)| (one ^ other).count_ones()).sum();
    if bits == 1 {
        return Suspicion::FlippedBit;
    }
    match named_key(found) {
        Some(named) if named == &key[..key.len().min(KEY_BYTES_NAMED_MAX)] => {
            let header = (FIXED_BYTES + named.len()).min(right.len());
            if found[..header] == right[..header] {
                Suspicion::Torn(differing)
            } else {
                Suspicion::OtherLengthOrSeed
            }
        }
        Some(named) => Suspicion::ValueOf(named.escape_ascii().to_string()),
        None => Suspicion::Unknown,
    }
}

/// The key that the header of these bytes names, if they begin with a header.
fn named_key(value: &[u8]) -> Option<&[u8]> {
    let fixed = value.get(..FIXED_BYTES)?;
    let magic = u32::from_le_bytes(fixed[..4].try_into().expect("4 bytes"));
    let key_bytes = u32::from_le_bytes(fixed[4..8].try_into().expect("4 bytes")) as usize;
    if magic != MAGIC {
        return None;
    }
    value.get(FIXED_BYTES..FIXED_BYTES + key_bytes.min(KEY_BYTES_NAMED_MAX))
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Suspicion::ValueOf(other) => write!(f, "this is the value of key \"{other}\""),
            Suspicion::OtherLengthOrSeed => write!(f, "this key's value of another length or another run"),
            Suspicion::FlippedBit => write!(f, "one bit is flipped"),
            Suspicion::Torn(bytes) => {
                write!(f, "the value begins right and {bytes} bytes differ: torn or overwritten")
            }
            Suspicion::Unknown => write!(f, "the bytes do not begin with the header of any value"),
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 12] = [1, 7, 8, 23, 24, 25, 31, 40, 64, 2_049, 4_096, 70_001];

    #[test]
    fn what_was_filled_is_right_at_every_length() {
        let values = Values::new(7);
        for length in LENGTHS {
            assert_eq!(values.check(b"a key", &values.make(b"a key", length)), Ok(()), "{length}");
        }
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let values = Values::new(7);
        for length in [1, 25, 64, 4_096, 70_001] {
            let mut value = values.make(b"key", length);
            for offset in (0..length).step_by(1 + length / 701).chain([length - 1]) {
                value[offset] ^= 1 << (offset % 8);
                let wrong = values.check(b"key", &value).expect_err("a bit is flipped");
                assert_eq!((wrong.offset, &wrong.suspicion), (offset, &Suspicion::FlippedBit));
                value[offset] ^= 1 << (offset % 8);
            }
        }
    }

    #[test]
    fn another_keys_value_is_named() {
        let values = Values::new(7);
        let wrong = values.check(b"mine", &values.make(b"theirs", 4_096)).expect_err("another key's");
        assert_eq!(wrong.suspicion, Suspicion::ValueOf("theirs".to_owned()));
        assert!(wrong.to_string().contains("value of key \"theirs\""), "{wrong}");
        let other_run =
            values.check(b"mine", &Values::new(8).make(b"mine", 4_096)).expect_err("another seed");
        assert_eq!(other_run.suspicion, Suspicion::OtherLengthOrSeed);
        assert_eq!(values.check(b"mine", &[0; 99]).expect_err("zeroes").suspicion, Suspicion::Unknown);
    }

    #[test]
    fn moved_cut_and_torn_values_are_found() {
        let values = Values::new(7);
        let value = values.make(b"key", 8_192);
        assert!(values.check(b"key", &value[..8_191]).is_err(), "cut");
        let mut moved = value.clone();
        for distance in [1, 8, 512, 4_096] {
            moved[64..].copy_from_slice(&value[64..]);
            moved[64..].rotate_left(distance);
            assert!(values.check(b"key", &moved).is_err(), "moved by {distance}");
        }
        let mut torn = value.clone();
        torn[4_096..].copy_from_slice(&values.make(b"other", 8_192)[4_096..]);
        let wrong = values.check(b"key", &torn).expect_err("torn");
        assert_eq!(wrong.offset, 4_096);
        assert!(matches!(wrong.suspicion, Suspicion::Torn(_)));
    }

    #[test]
    fn words_of_two_values_do_not_agree() {
        let values = Values::new(7);
        let (one, other) = (values.make(b"one", 65_536), values.make(b"two", 65_536));
        let agreeing =
            one[32..].chunks(8).zip(other[32..].chunks(8)).filter(|(one, other)| one == other).count();
        assert_eq!(agreeing, 0);
    }
}
