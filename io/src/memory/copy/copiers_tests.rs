//! Many threads beside one: the same bytes, the same checksums.

use super::*;
use crate::memory::copy_checked;
use quickcheck::quickcheck;
use std::sync::atomic::AtomicUsize;
use std::thread;

/// So small that a few bytes are many pieces.
const PIECE_BYTES: usize = CHUNK_BYTES;

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let random = crate::SplitMix::new(seed);
    (0..bytes).map(|_| random.draw() as u8).collect()
}

/// Copies values of these lengths with and without checksums, and compares with what one thread does.
fn agree(copiers: &Copiers, lengths: &[usize], seed: u64) {
    let values: Vec<Vec<u8>> =
        lengths.iter().enumerate().map(|(index, bytes)| noise(*bytes, seed + index as u64)).collect();
    let mut checksums = Vec::new();
    for value in &values {
        checksums.push(copy_checked(&mut vec![0; value.len()], value));
    }
    for checked in [false, true] {
        let mut buffers: Vec<Vec<u8>> = lengths.iter().map(|bytes| vec![0; *bytes]).collect();
        let pairs = buffers.iter_mut().zip(&values);
        let mut jobs: Vec<CopyJob<'_>> = pairs.map(|(to, from)| CopyJob::new(to, from)).collect();
        if checked {
            assert_eq!(copiers.copy_checked(&mut jobs), checksums);
        } else {
            copiers.copy(&mut jobs);
        }
        drop(jobs);
        assert!(buffers == values, "{lengths:?}");
    }
}

fn lengths_of(lengths: &[u16]) -> Vec<usize> {
    lengths.iter().map(|length| usize::from(*length) * 2).collect()
}

quickcheck! {
    fn parallel_equals_serial(lengths: Vec<u16>, helpers: u8, seed: u32) -> bool {
        let copiers = Copiers::with_pieces(usize::from(helpers % 4), PIECE_BYTES, 0);
        agree(&copiers, &lengths_of(&lengths), seed.into());
        true
    }

    fn parts_are_the_jobs(lengths: Vec<u16>) -> bool {
        let mut buffers: Vec<Vec<u8>> = lengths_of(&lengths).iter().map(|bytes| vec![0; *bytes]).collect();
        let values = buffers.clone();
        let pairs = buffers.iter_mut().zip(&values);
        let jobs: Vec<CopyJob<'_>> = pairs.map(|(to, from)| CopyJob::new(to, from)).collect();
        let parts = parts(&jobs, PIECE_BYTES);
        let mut ends = vec![0; jobs.len()];
        for Part { job, bytes } in &parts {
            assert!(bytes.start == ends[*job] && bytes.len() <= PIECE_BYTES, "none is left out");
            assert_eq!(bytes.start % PIECE_BYTES, 0, "each begins a piece");
            ends[*job] = bytes.end;
        }
        assert!(ends.iter().zip(&jobs).all(|(end, job)| *end == job.bytes()));
        let mut next = 0;
        for piece in pieces(&parts, PIECE_BYTES) {
            assert!(piece.start == next && piece.end > next);
            let bytes: usize = parts[piece.clone()].iter().map(|part| part.bytes.len()).sum();
            assert!(bytes < 2 * PIECE_BYTES && (bytes >= PIECE_BYTES || piece.end == parts.len()));
            next = piece.end;
        }
        next == parts.len()
    }
}

#[test]
fn large_ones_go_to_the_helpers_as_they_are() {
    let copiers = Copiers::new(2);
    agree(&copiers, &[3 * super::PIECE_BYTES + 17, 5, 0, super::SHARED_BYTES_MIN], 1);
    agree(&copiers, &[100], 2);
}

#[test]
fn many_threads_use_one_pool() {
    let copiers = Copiers::with_pieces(2, PIECE_BYTES, 0);
    thread::scope(|scope| {
        for caller in 0..6_usize {
            let copiers = &copiers;
            scope.spawn(move || {
                for round in 0..50 {
                    agree(
                        copiers,
                        &[1000 + caller, 0, 3, 10_000 + round, 64],
                        (caller * 1000 + round) as u64,
                    );
                }
            });
        }
    });
}

#[test]
fn a_panic_is_the_callers_and_the_helpers_go_on() {
    let copiers = Copiers::with_pieces(2, PIECE_BYTES, 0);
    let done = AtomicUsize::new(0);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        copiers.helpers.for_each(100, &|piece| {
            done.fetch_add(1, Ordering::Relaxed);
            if piece % 10 == 0 {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        });
    }));
    assert!(outcome.is_err());
    assert_eq!(done.into_inner(), 100, "all pieces before the caller went on");
    agree(&copiers, &[5000, 20], 3);
}
