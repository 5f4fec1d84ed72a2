//! Copies beside the standard library's, of any length at any alignment, whichever way they go.

use super::*;
use quickcheck::quickcheck;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Long enough for each of the ways, and for more than one look.
const BYTES_MAX: usize = 700 * 1024;
/// Around what is written, and untouched.
const MARGIN_BYTES: usize = 128;
const MARGIN: u8 = 0xa5;

/// A copy, as the inner functions make it.
///
/// # Safety
///
/// That of [`copy_raw`].
type Way = unsafe fn(*mut u8, *const u8, usize) -> Option<Checksum>;

/// Every way, also those that this processor or these lengths would not choose.
const WAYS: [(&str, Way); 5] = [
    ("chosen", |to, from, bytes| {
        // SAFETY: each way is called with what the test owns.
        unsafe { copy_raw(to, from, bytes) };
        None
    }),
    ("streaming", |to, from, bytes| {
        if stream::is_available() {
            // SAFETY: as above, and asked.
            unsafe { copy_streaming(to, from, bytes) };
        } else {
            // SAFETY: as above.
            unsafe { copy_raw(to, from, bytes) };
        }
        None
    }),
    ("chosen, checked", |to, from, bytes| {
        // SAFETY: as above.
        Some(unsafe { copy_raw_checked(to, from, bytes, 0) })
    }),
    ("streaming, checked", |to, from, bytes| {
        let course = if to.addr().is_multiple_of(hash::ALIGNMENT) { hash::AROUND } else { hash::FAR };
        // SAFETY: as above, and asked.
        let sum = chunks_of(bytes, |at, bytes, number| unsafe {
            copy_chunk(to.add(at), from.add(at), bytes, number, course)
        });
        stream::fence();
        Some(sum)
    }),
    ("bounced", |to, from, bytes| {
        // SAFETY: as above.
        Some(chunks_of(bytes, |at, bytes, number| unsafe {
            copy_chunk_bounced(to.add(at), from.add(at), bytes, number)
        }))
    }),
];

fn chunks_of(bytes: usize, mut copy: impl FnMut(usize, usize, u64) -> Checksum) -> Checksum {
    let starts = (0..bytes.max(1)).step_by(CHUNK_BYTES);
    starts.fold(Checksum(0), |sum, at| {
        sum.plus(copy(at, CHUNK_BYTES.min(bytes - at), (at / CHUNK_BYTES) as u64))
    })
}

fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let random = crate::SplitMix::new(seed);
    let mut noise: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| random.draw().to_le_bytes()).collect();
    noise.truncate(bytes);
    noise
}

/// All ways, from one alignment to another.
fn is_right(bytes: usize, from_at: usize, to_at: usize) {
    let source = noise(from_at + bytes, bytes as u64);
    let from = &source[from_at..];
    for (name, way) in WAYS {
        let mut target = vec![MARGIN; to_at + bytes + 2 * MARGIN_BYTES];
        let start = to_at + MARGIN_BYTES;
        // SAFETY: `bytes` bytes of either vector, which nobody else has.
        let checksum = unsafe { way(target[start..].as_mut_ptr(), from.as_ptr(), bytes) };
        let place = format!("{name}, {bytes} bytes, from {from_at} to {to_at}");
        assert!(&target[start..start + bytes] == from, "{place}: copied");
        assert!(target[..start].iter().all(|byte| *byte == MARGIN), "{place}: written before");
        assert!(target[start + bytes..].iter().all(|byte| *byte == MARGIN), "{place}: written behind");
        assert!(checksum.is_none_or(|checksum| checksum == Checksum::of(from)), "{place}: checksum");
    }
}

quickcheck! {
    fn any_length_at_any_alignment(bytes: u32, from_at: u8, to_at: u8) -> bool {
        is_right(bytes as usize % BYTES_MAX, from_at.into(), to_at.into());
        true
    }

    fn short_ones_too(bytes: u16, from_at: u8, to_at: u8) -> bool {
        is_right(usize::from(bytes) % (4 * hash::BYTES_MIN), from_at.into(), to_at.into());
        true
    }
}

#[test]
fn lengths_around_every_limit() {
    let limits = [
        0,
        LINE_BYTES,
        hash::BYTES_MIN,
        // XXH3's blocks.
        1024,
        1024 + hash::STRIPE_BYTES,
        CHUNK_BYTES,
        CHUNK_BYTES + hash::STRIPE_BYTES,
        way::MEDIUM_BYTES_MIN,
        way::LONG_BYTES_MIN,
        way::LEAD_BYTES + way::LOOK_BYTES + way::LOOK_AGAIN_BYTES,
    ];
    for limit in limits {
        for bytes in [limit.saturating_sub(1), limit, limit + 1] {
            for (from_at, to_at) in [(0, 0), (0, 1), (63, 0), (7, 63), (0, 16)] {
                is_right(bytes, from_at, to_at);
            }
        }
    }
}

#[test]
fn slices_are_copied() {
    let from = noise(BYTES_MAX, 1);
    let mut to = vec![0; BYTES_MAX];
    copy(&mut to, &from);
    assert!(to == from);
    to.fill(0);
    assert_eq!(copy_checked(&mut to, &from), Checksum::of(&from));
    assert!(to == from);
}

#[test]
#[should_panic(expected = "as many bytes")]
fn lengths_differ() {
    copy(&mut [0; 4], &[0; 5]);
}

#[test]
#[should_panic(expected = "as many bytes")]
fn lengths_differ_with_a_checksum() {
    copy_checked(&mut [0; 4], &[0; 5]);
}

#[test]
fn what_is_hashed_is_what_was_copied_also_if_somebody_writes_meanwhile() {
    const WORDS: usize = 512;
    let from: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
    let mut to = [0_u64; WORDS];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                value += 1;
                from.iter().for_each(|word| word.store(value, Ordering::Relaxed));
            }
        });
        for _ in 0..5_000 {
            for (name, way) in
                WAYS.into_iter().filter(|(name, _)| name.ends_with("checked") || *name == "bounced")
            {
                // SAFETY: both have as many bytes; whoever writes to `from` stands for another process.
                let sum = unsafe { way(to.as_mut_ptr().cast(), from.as_ptr().cast(), size_of_val(&to)) };
                let is_of_copy = sum == Some(Checksum::of(bytemuck::cast_slice(&to)));
                is_over.store(!is_of_copy, Ordering::Relaxed);
                assert!(is_of_copy, "{name}");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
