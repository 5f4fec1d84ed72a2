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
    let count = usize::from(TIMED_ONE_IN);
    // Unless this thread is put to sleep, or waits for a page of its code, in the one that is timed.
    assert!((0..100).any(|_| !(0..count).any(fast)), "nothing is known of slow ones");
    // The first is timed and goes the ordinary way.
    assert_eq!((0..2 * count).map(slow).collect::<Vec<_>>(), [&[false][..], &[true; 7]].concat().repeat(2));
    assert!(!parts(MEDIUM_BYTES_MIN - 1, true, 1_000)[0].1, "short ones never stream");
}
