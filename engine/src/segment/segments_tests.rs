use super::*;
use std::str::FromStr;

const KIB: usize = 1024;

fn mapping(bytes: usize) -> Mapping {
    Mapping::plain(bytes).unwrap()
}

#[test]
fn a_leaving_segment_is_readable_and_goes_when_it_is_empty() {
    let mut segments = Segments::of(mapping(64 * KIB), 1);
    let mut reservation = segments.reserve(1000).unwrap();
    reservation.value_mut().fill(5);
    let kept = reservation.publish();
    segments.begin_unmount(0).unwrap();
    assert_eq!(segments.begin_unmount(0), Err(SegmentError::Leaving(0)));
    assert_eq!(segments.begin_unmount(1), Err(SegmentError::Unknown(1)));
    assert!(segments.reserve(1).is_none() && segments.value_bytes_max() == 0);
    assert!(!segments.would_take(kept.segment, 1) && segments.finish_unmount(0).is_none());
    let pin = segments.pin(kept, 1000);
    segments.let_go(kept);
    assert!(segments.finish_unmount(0).is_none(), "somebody reads there");
    assert_eq!(pin.value(), [5; 1000]);
    drop(pin);
    assert!(segments.finish_unmount(0).is_some() && segments.finish_unmount(0).is_none());
    assert_eq!((segments.iter().count(), segments.usage()), (0, Usage::default()));
    assert_eq!(segments.mount(mapping(64 * KIB)), Ok(0), "the number is free again");
    assert!(segments.reserve(64 * KIB).is_some());
}

/// Two segments: one with more free bytes, in pieces of 4 KiB; one with fewer, in one piece of 64 KiB.
fn pieces_and_a_piece(strategy: Strategy) -> Segments {
    let mut segments = Segments::of(mapping(512 * KIB), 1);
    let blocks: Vec<_> = (0..128).map(|_| segments.reserve(4 * KIB).unwrap().publish()).collect();
    segments.mount(mapping(128 * KIB)).unwrap();
    let filler = segments.reserve(64 * KIB).unwrap().publish();
    assert_eq!(filler.segment, 1);
    blocks.iter().step_by(4).for_each(|&block| segments.let_go(block));
    let [pieces, piece] = [segments.figures(0), segments.figures(1)];
    assert_eq!((pieces.free_bytes, pieces.free_range_bytes_max), (128 << 10, 4 << 10));
    assert_eq!((piece.free_bytes, piece.free_range_bytes_max), (64 << 10, 64 << 10));
    segments.set_strategy(strategy);
    segments
}

#[test]
fn free_ratio_first_breaks_the_long_range_and_fragmentation_aware_does_not() {
    let takes_both = |strategy| {
        let segments = pieces_and_a_piece(strategy);
        let _small = segments.reserve(4 * KIB).unwrap();
        segments.reserve(64 * KIB).is_some()
    };
    assert!(!takes_both(Strategy::FreeRatioFirst));
    assert!(takes_both(Strategy::FragmentationAware));
}

#[test]
fn values_spread_and_all_of_every_segment_is_used() {
    for strategy in Strategy::ALL {
        let mut segments = Segments::new(9);
        segments.set_strategy(strategy);
        (0..5).for_each(|number| assert_eq!(segments.mount(mapping(16 * KIB)), Ok(number)));
        let kept: Vec<_> = std::iter::from_fn(|| segments.reserve(KIB)).map(Reservation::publish).collect();
        assert_eq!(kept.len(), 80, "{strategy}");
        kept.into_iter().for_each(|extent| segments.let_go(extent));
        assert_eq!(segments.usage().free_bytes, 80 * KIB as u64);
    }
    assert_eq!(Strategy::from_str("random"), Ok(Strategy::Random));
}
