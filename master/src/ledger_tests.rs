//! Every way a ledger can be wrong is told, and none is taken for an empty one.

use super::*;
use crate::planner::plan;
use crate::testing::member;
use quickcheck::quickcheck;
use snowskin_protocol::Epoch;

fn record() -> Record {
    let table = plan(&RoutingTable::empty(), &[member(1, 0, 64), member(1, 1, 64)], &BTreeSet::new());
    let kept = BTreeSet::from([member(1, 1, 64).life()]);
    Record { settings: Settings { lease_ms: 77, ..Settings::default() }, table, kept }
}

#[test]
fn what_was_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let (ledger, none) = Ledger::open(&path).unwrap();
    assert_eq!(none, None);
    ledger.write(&record()).unwrap();
    let mut newer = record();
    newer.table.epoch = Epoch(9);
    ledger.write(&newer).unwrap();
    drop(ledger);
    assert_eq!(Ledger::open(&path).unwrap().1, Some(newer));
}

#[test]
fn only_one_master_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let first = Ledger::open(&path).unwrap();
    let error = Ledger::open(&path).unwrap_err();
    assert!(matches!(error, LedgerError::InUse(_)), "{error}");
    drop(first);
    Ledger::open(&path).unwrap();
}

#[test]
fn a_directory_that_is_not_there_is_told() {
    let error = Ledger::open(Path::new("/nonexistent/ledger")).unwrap_err();
    assert!(matches!(error, LedgerError::Io { .. }) && error.to_string().contains("/nonexistent/ledger"));
}

#[test]
fn a_damaged_file_stops_the_start_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let good = encode(&record());
    let mut flipped = good.clone();
    flipped[40_000] ^= 1;
    let longer = [&good[..], b"x"].concat();
    for bad in [b"".to_vec(), b"hello".to_vec(), good[..100].to_vec(), flipped, longer, vec![0; 5 << 20]] {
        fs::write(&path, bad).unwrap();
        let error = Ledger::open(&path).unwrap_err();
        assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("move it away"));
    }
}

#[test]
fn another_version_is_told_apart_from_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let mut newer = encode(&record());
    newer[8] = 5;
    fs::write(&path, newer).unwrap();
    assert!(matches!(Ledger::open(&path), Err(LedgerError::Version { version: 5, .. })));
}

#[test]
fn what_a_crash_left_beside_it_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    Ledger::open(&path).unwrap().0.write(&record()).unwrap();
    fs::write(beside(&path, "new"), b"half of a led").unwrap();
    let (ledger, found) = Ledger::open(&path).unwrap();
    assert_eq!(found, Some(record()));
    ledger.write(&record()).unwrap();
}

quickcheck! {
    fn no_cut_and_no_flip_passes(cut: usize, bit: usize) -> bool {
        let good = encode(&record());
        let mut flipped = good.clone();
        let bit = bit % (good.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        let path = Path::new("ledger");
        decode(path, &good[..cut % good.len()]).is_err() && decode(path, &flipped).is_err()
    }
}
