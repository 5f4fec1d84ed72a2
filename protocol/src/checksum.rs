//! The checksum of a value: computed where the bytes enter and carried with every replica.
//!
//! ```text
//!   message   │    chunk 0     │    chunk 1     │    chunk 2     │ … │ rest │      16 KiB each, but for the last
//!                XXH3 seed 0   +   XXH3 seed 1  +   XXH3 seed 2  +             = the checksum, modulo 2^64
//! ```
//!
//! Each chunk is hashed by XXH3 (64 bits) with its number as the seed, and the hashes are added. So chunks may be hashed in
//! any order, by any number of threads; one that is lost, doubled or in another place makes another sum; and any
//! language that has XXH3 computes it in three lines. A message of 16 KiB or less is its XXH3. Bytes that differ in any way
//! have the same checksum by a chance of 2^-64. It is no protection from somebody who means to deceive.
//!
//! Why not a CRC: `docs/notes/2026-11-28-checksums.md`.

use bytemuck::{Pod, Zeroable};
use std::fmt;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Bytes of a chunk.
pub const CHUNK_BYTES: usize = 16 * 1024;

/// The checksum of a message, or what some of its chunks contribute to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Checksum(pub u64);

impl Checksum {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes.len() <= CHUNK_BYTES {
            true => Checksum::of_chunk(0, bytes),
            false => Checksum::of_chunks(0, bytes),
        }
    }

    /// What a chunk contributes to the checksum of the message in which it has this number, from 0.
    pub fn of_chunk(number: u64, chunk: &[u8]) -> Self {
        debug_assert!(chunk.len() <= CHUNK_BYTES, "{} bytes are no chunk", chunk.len());
        Checksum(xxh3_64_with_seed(chunk, number))
    }

    /// What the chunks in `bytes` contribute, the first of which has the number `first`.
    pub fn of_chunks(first: u64, bytes: &[u8]) -> Self {
        let chunks = (first..).zip(bytes.chunks(CHUNK_BYTES));
        chunks.fold(Checksum(0), |sum, (number, chunk)| sum.plus(Checksum::of_chunk(number, chunk)))
    }

    /// The checksum of what the slices hold when put behind each other.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut flowing = Flowing::default();
        parts.into_iter().for_each(|part| flowing.advance(part));
        flowing.finish()
    }

    /// What both contribute.
    #[must_use]
    pub fn plus(self, other: Checksum) -> Self {
        Checksum(self.0.wrapping_add(other.0))
    }
}

/// A checksum in the making, of bytes that arrive one behind the other in one place: each chunk is hashed as soon as it is
/// complete, while it is still in the cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growing {
    chunks: u64,
    sum: Checksum,
}

impl Growing {
    /// More has arrived: `so_far` is all of it, from the beginning of the message.
    pub fn advance(&mut self, so_far: &[u8]) {
        while let Some(chunk) = self.rest_of(so_far).get(..CHUNK_BYTES) {
            self.sum = self.sum.plus(Checksum::of_chunk(self.chunks, chunk));
            self.chunks += 1;
        }
    }

    /// All has arrived: the checksum of the whole.
    pub fn finish(mut self, whole: &[u8]) -> Checksum {
        self.advance(whole);
        match self.rest_of(whole) {
            [] if self.chunks > 0 => self.sum,
            rest => self.sum.plus(Checksum::of_chunk(self.chunks, rest)),
        }
    }

    fn rest_of<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        bytes.get(self.chunks as usize * CHUNK_BYTES..).unwrap_or_default()
    }
}

/// A checksum in the making, of bytes that pass one behind the other, wherever each of them goes.
#[derive(Clone)]
pub struct Flowing {
    /// Of the chunks that are complete.
    sum: Checksum,
    number: u64,
    /// Bytes that the chunk under way has not got yet.
    room: usize,
    chunk: Xxh3,
}

impl Default for Flowing {
    fn default() -> Self {
        Flowing { sum: Checksum(0), number: 0, room: CHUNK_BYTES, chunk: Xxh3::with_seed(0) }
    }
}

impl Flowing {
    /// More has passed.
    pub fn advance(&mut self, mut part: &[u8]) {
        while !part.is_empty() {
            if self.room == 0 {
                self.sum = self.sum.plus(Checksum(self.chunk.digest()));
                (self.number, self.room) = (self.number + 1, CHUNK_BYTES);
                self.chunk = Xxh3::with_seed(self.number);
            }
            let (now, later) = part.split_at(self.room.min(part.len()));
            self.chunk.update(now);
            self.room -= now.len();
            part = later;
        }
    }

    /// All has passed: the checksum of the whole.
    pub fn finish(&self) -> Checksum {
        self.sum.plus(Checksum(self.chunk.digest()))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    /// Bytes that differ from each other everywhere, so that chunks do, too.
    fn message(bytes: usize, seed: u64) -> Vec<u8> {
        let words =
            (0..).map(|word| (seed.wrapping_add(word).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24) as u32);
        let mut message: Vec<u8> = words.take(bytes.div_ceil(4)).flat_map(u32::to_le_bytes).collect();
        message.truncate(bytes);
        message
    }

    /// The definition, word for word.
    fn by_definition(message: &[u8]) -> Checksum {
        let first = xxh3_64_with_seed(&message[..message.len().min(CHUNK_BYTES)], 0);
        let others = message.chunks(CHUNK_BYTES).enumerate().skip(1);
        Checksum(
            others.fold(first, |sum, (number, chunk)| {
                sum.wrapping_add(xxh3_64_with_seed(chunk, number as u64))
            }),
        )
    }

    fn cut<'m>(mut message: &'m [u8], lengths: &[u16]) -> Vec<&'m [u8]> {
        let mut parts = Vec::new();
        for &length in lengths {
            let (part, rest) = message.split_at(usize::from(length).min(message.len()));
            parts.push(part);
            message = rest;
        }
        parts.push(message);
        parts
    }

    #[test]
    fn known_values() {
        // XXH3's own, of its specification's implementation; the last one is a sum.
        assert_eq!(Checksum::of(b""), Checksum(0x2d06_8005_38d3_94c2));
        assert_eq!(Checksum::of(b"hello"), Checksum(xxhash_rust::xxh3::xxh3_64(b"hello")));
        let two = [message(CHUNK_BYTES, 1), b"tail".to_vec()].concat();
        let parts = [xxh3_64_with_seed(&two[..CHUNK_BYTES], 0), xxh3_64_with_seed(b"tail", 1)];
        assert_eq!(Checksum::of(&two), Checksum(parts[0].wrapping_add(parts[1])));
    }

    #[test]
    fn around_the_end_of_a_chunk() {
        for bytes in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let message = message(bytes, 7);
            let expected = by_definition(&message);
            assert_eq!(Checksum::of(&message), expected, "{bytes} bytes");
            assert_eq!(Checksum::of_parts([&message[..]]), expected, "{bytes} bytes, as a part");
            assert_eq!(Growing::default().finish(&message), expected, "{bytes} bytes, growing");
        }
    }

    #[test]
    fn chunks_that_change_places_or_are_missing_are_noticed() {
        let (a, b) = (message(CHUNK_BYTES, 1), message(CHUNK_BYTES, 2));
        let sums = [[&a[..], &b], [&b, &a], [&a, &a], [&a, &[]]].map(|parts| Checksum::of(&parts.concat()));
        for (index, sum) in sums.iter().enumerate() {
            assert!(!sums[..index].contains(sum), "{sums:?}");
        }
        assert_ne!(Checksum::of(&[0; 3 * CHUNK_BYTES]), Checksum::of(&[0; 2 * CHUNK_BYTES]));
    }

    quickcheck! {
        fn parts_and_whole_agree(bytes: u32, seed: u64, lengths: Vec<u16>) -> bool {
            let message = message(bytes as usize % (4 * CHUNK_BYTES), seed);
            Checksum::of_parts(cut(&message, &lengths)) == by_definition(&message)
        }

        fn what_grows_has_the_checksum_of_the_whole(bytes: u32, seed: u64, lengths: Vec<u16>) -> bool {
            let message = message(bytes as usize % (4 * CHUNK_BYTES), seed);
            let (mut growing, mut end) = (Growing::default(), 0);
            for part in cut(&message, &lengths) {
                end += part.len();
                growing.advance(&message[..end]);
            }
            growing.finish(&message) == by_definition(&message)
        }

        fn runs_of_chunks_add_up(bytes: u32, seed: u64, at: u8) -> bool {
            let message = message(bytes as usize % (4 * CHUNK_BYTES) + 1, seed);
            let at = u64::from(at) % 5;
            let (head, tail) = message.split_at((at as usize * CHUNK_BYTES).min(message.len()));
            Checksum::of_chunks(0, head).plus(Checksum::of_chunks(at, tail)) == by_definition(&message)
        }

        fn one_bit_is_noticed(bytes: Vec<u8>, bit: usize) -> bool {
            let mut other = bytes.clone();
            match other.len() * 8 {
                0 => true,
                bits => {
                    other[bit % bits / 8] ^= 1 << (bit % 8);
                    Checksum::of(&other) != Checksum::of(&bytes)
                }
            }
        }
    }
}
