//! Copies out of several places and into several: the same bytes as one place would have, and the checksum of the whole.

use super::*;
use crate::memory::Copiers;
use quickcheck::quickcheck;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const MARGIN: u8 = 0xa5;

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let random = crate::SplitMix::new(seed);
    let mut noise: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| random.draw().to_le_bytes()).collect();
    noise.truncate(bytes);
    noise
}

/// From nothing to some chunks; many begin or end with one.
fn length_of((kind, length): (u8, u16)) -> usize {
    match kind % 4 {
        0 => usize::from(length % 70),
        1 => usize::from(length % 8) * CHUNK_BYTES / 4,
        2 => usize::from(length),
        _ => usize::from(length % 3) * CHUNK_BYTES,
    }
}

/// How a job is made: by itself, or by several threads.
#[derive(Clone, Copy, Debug)]
enum Maker {
    Alone,
    Helped(u8),
}

/// Makes a job; answers its checksum, if it is to have one.
fn make(maker: Maker, is_checked: bool, job: CopyJob<'_>) -> Option<Checksum> {
    let copiers = |helpers: u8| Copiers::with_pieces(usize::from(helpers % 3), CHUNK_BYTES, 0);
    match (maker, is_checked) {
        (Maker::Alone, true) => Some(job.make_checked()),
        (Maker::Helped(helpers), true) => Some(copiers(helpers).copy_checked(&mut [job])[0]),
        (Maker::Alone, false) => {
            job.make();
            None
        }
        (Maker::Helped(helpers), false) => {
            copiers(helpers).copy(&mut [job]);
            None
        }
    }
}

/// All ways to make a job.
fn ways(helpers: u8) -> [(Maker, bool); 4] {
    let helped = Maker::Helped(helpers);
    [(Maker::Alone, false), (Maker::Alone, true), (helped, false), (helped, true)]
}

quickcheck! {
    fn what_lies_in_many_places_is_copied_as_if_in_one(lengths: Vec<(u8, u16)>, helpers: u8, seed: u64) -> bool {
        let piece = |(number, length): (usize, &(u8, u16))| noise(length_of(*length), seed ^ number as u64);
        let pieces: Vec<Vec<u8>> = lengths.iter().enumerate().map(piece).collect();
        let (whole, pieces) = (pieces.concat(), pieces.iter().map(|piece| &piece[..]).collect::<Vec<_>>());
        for (maker, is_checked) in ways(helpers) {
            let mut copy = vec![MARGIN; whole.len()];
            let sum = make(maker, is_checked, CopyJob::gathered(&mut copy, &pieces));
            assert!(sum.is_none_or(|sum| sum == Checksum::of(&whole)) && copy == whole, "{maker:?}");
        }
        true
    }

    fn what_goes_into_many_places_arrives_there(lengths: Vec<(u8, u16)>, rest: u16, helpers: u8, seed: u64) -> bool {
        let lengths: Vec<usize> = lengths.into_iter().map(length_of).collect();
        let room: usize = lengths.iter().sum();
        let value = noise(room.saturating_sub(rest.into()), seed);
        for (maker, is_checked) in ways(helpers) {
            let mut pieces: Vec<Vec<u8>> = lengths.iter().map(|bytes| vec![MARGIN; *bytes]).collect();
            let job = CopyJob::scattered(pieces.iter_mut().map(Vec::as_mut_slice), &value);
            let sum = make(maker, is_checked, job);
            let all = pieces.concat();
            let (copied, left) = all.split_at(value.len());
            assert!(sum.is_none_or(|sum| sum == Checksum::of(&value)) && copied == value, "{maker:?}, {lengths:?}");
            assert!(left.iter().all(|byte| *byte == MARGIN), "{maker:?}, {lengths:?}: written behind");
        }
        true
    }

    /// Some overlap, some are the same, between some there is nothing.
    fn ranges_go_where_they_are_wanted(bytes: u32, wanted: Vec<(u32, u8, u16)>, helpers: u8, seed: u64) -> bool {
        let value = noise(bytes as usize % (6 * CHUNK_BYTES), seed);
        let range = |&(start, kind, length): &(u32, u8, u16)| {
            let unit = if start.is_multiple_of(2) { CHUNK_BYTES } else { 1 };
            let start = start as usize % (value.len() + 1) / unit * unit;
            start..start + length_of((kind, length)).min(value.len() - start)
        };
        let wanted: Vec<Range<usize>> = wanted.iter().map(range).collect();
        for (maker, is_checked) in ways(helpers) {
            let mut copies: Vec<Vec<u8>> = wanted.iter().map(|range| vec![MARGIN; range.len()]).collect();
            let parts = wanted.iter().map(|range| range.start).zip(copies.iter_mut().map(Vec::as_mut_slice));
            let sum = make(maker, is_checked, CopyJob::ranges(parts, &value));
            assert!(sum.is_none_or(|sum| sum == Checksum::of(&value)), "{maker:?}, {wanted:?}");
            for (range, copy) in wanted.iter().zip(&copies) {
                assert!(value[range.clone()] == copy[..], "{maker:?}: {range:?} of {wanted:?}");
            }
        }
        true
    }
}

#[test]
#[should_panic(expected = "as many bytes")]
fn pieces_are_together_as_long() {
    CopyJob::gathered(&mut [0; 4], &[&[1, 2], &[3]]);
}

#[test]
#[should_panic(expected = "room for as many bytes")]
fn there_is_room_for_all_of_it() {
    CopyJob::scattered([&mut [0; 2][..], &mut [0; 1]], &[1; 4]);
}

#[test]
#[should_panic(expected = "2 bytes from 3 of 4")]
fn ranges_are_of_what_is_there() {
    CopyJob::ranges([(3, &mut [0; 2][..])], &[1; 4]);
}

#[test]
fn what_is_hashed_is_what_was_scattered_also_if_somebody_writes_meanwhile() {
    const WORDS: usize = 5_000;
    let from: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
    let bytes = WORDS * 8;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                value += 1;
                from.iter().for_each(|word| word.store(value, Ordering::Relaxed));
            }
        });
        let mut to = vec![0_u8; bytes];
        for round in 0..3_000 {
            // SAFETY: they are there, and whoever writes to them stands for another process.
            let value = unsafe { std::slice::from_raw_parts(from.as_ptr().cast::<u8>(), bytes) };
            let sum = CopyJob::scattered(to.chunks_mut(1_000 + round), value).make_checked();
            let is_of_copy = sum == Checksum::of(&to);
            is_over.store(!is_of_copy, Ordering::Relaxed);
            assert!(is_of_copy, "in pieces of {} bytes", 1_000 + round);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
