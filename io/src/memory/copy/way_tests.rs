//! Copies that take as long as a test says.

use super::*;

/// The parts of a copy that takes so long for each byte, and how they are copied.
fn parts(bytes: usize, may_stream: bool, ns_per_kib: u64) -> Vec<(Range<usize>, bool)> {
    let mut parts = Vec::new();
    faster(bytes, may_stream, |part, streams| {
        let (begun, takes) = (Instant::now(), Duration::from_nanos(part.len() as u64 / 1024 * ns_per_kib));
        while !streams && begun.elapsed() < takes {
            std::hint::spin_loop();
        }
        parts.push((part, streams));
    });
    let mut end = 0;
    for (part, _) in &parts {
        assert_eq!((part.start, part.start % CHUNK_BYTES), (end, 0), "{parts:?}");
        end = part.end;
    }
    assert_eq!(end, bytes);
    parts
}

#[test]
fn a_long_slow_copy_streams_after_the_first_look() {
    let slow = parts(1 << 20, true, 1_000);
    assert_eq!(slow[2..], [(LEAD_BYTES + LOOK_BYTES..1 << 20, true)]);
    assert!(parts(1 << 20, false, 1_000).iter().all(|(_, streams)| !streams), "it may not");
    // Nothing is as fast as nothing: unless this thread is put to sleep at the wrong moment.
    assert!((0..100).any(|_| parts(1 << 20, true, 0).iter().all(|(_, streams)| !streams)));
}

#[test]
fn those_of_medium_length_do_as_others_did() {
    let fast = |_| parts(MEDIUM_BYTES_MIN, true, 0)[0].1;
    let slow = |_| parts(LONG_BYTES_MIN - 1, true, 1_000)[0].1;
    // Unless this thread is put to sleep, or waits for a page of its code, in all that are timed.
    assert!((0..100).any(|_| !(0..ROUND).any(fast)), "nothing is known of slow ones");
    let mut round = [true; ROUND as usize];
    round[..TRIALS as usize].fill(false);
    assert_eq!((0..2 * ROUND).map(slow).collect::<Vec<_>>(), round.repeat(2));
    assert!(!parts(MEDIUM_BYTES_MIN - 1, true, 1_000)[0].1, "short ones never stream");
}

#[test]
fn one_fast_copy_of_those_that_are_timed_is_enough_to_stay_with_the_caches() {
    for slow_but in [None, Some(TRIALS - TIMED), Some(TRIALS - 1), Some(0)] {
        let mut habit = Habit { streams: true, turn: 0, is_slow: false };
        for turn in 0..TRIALS {
            let takes = Duration::from_millis(u64::from(slow_but != Some(turn)));
            habit = habit.follow(1 << 20, |streams| {
                assert!(!streams, "it is tried");
                std::thread::sleep(takes);
            });
        }
        assert_eq!(habit.streams, slow_but.is_none_or(|turn| turn < TRIALS - TIMED), "{slow_but:?}");
    }
}
