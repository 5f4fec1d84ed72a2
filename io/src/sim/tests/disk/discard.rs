//! What a discard does, and what it does not.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use futures_util::FutureExt;

use super::super::super::DiskFault;
use super::{DISK_BYTES, SECTOR_BYTES, calm_disk, get, is_eio, open, put, run, sectors_of};
use crate::disk::Disk;

#[test]
fn each_sector_becomes_zeros_or_stays_and_others_are_left_alone() {
    let mut seen_before = BTreeSet::new();
    for seed in 0..10 {
        let (sim, node, disk, faults) = calm_disk(seed);
        let (first, again) = (disk.clone(), disk.clone());
        let work = async move {
            put(first.clone(), 0, 20, 7).await.expect("no faults");
            first.discard(4 * SECTOR_BYTES, 12 * SECTOR_BYTES).await.expect("no faults");
            get(first, 0, 20).await.expect("no faults")
        };
        let seen = run(&sim, &node, work);
        assert!(seen[..4].iter().chain(&seen[16..]).all(|value| *value == 7));
        assert!(seen[4..16].iter().all(|value| [0, 7].contains(value)));
        assert_eq!(run(&sim, &node, get(again, 0, 20)).expect("no faults"), seen, "it is decided once");
        assert_eq!((faults.counts().discards, faults.damages(0..DISK_BYTES).len()), (1, 0));
        seen_before.insert(seen);
    }
    assert!(seen_before.len() > 5, "seeds differ");
}

#[test]
fn a_discard_costs_nothing_where_nothing_is_and_is_cut_at_the_end() {
    let (sim, node, _, faults) = calm_disk(1);
    let large = open(&node, "large", 1 << 40);
    let work = async move {
        large.discard((1 << 40) - 64 * SECTOR_BYTES, 1 << 30).await.expect("no faults");
        large.discard(1 << 41, SECTOR_BYTES).await.expect("nobody's");
        large.discard(0, 0).await.expect("nothing");
        let odd = large.discard(1, SECTOR_BYTES).await.expect_err("not of sectors");
        assert_eq!(odd.kind(), ErrorKind::InvalidInput);
    };
    run(&sim, &node, work);
    assert!(sim.faults().disks().iter().all(|disk| disk.used_bytes() == 0 && disk.unflushed().is_empty()));
    assert_eq!(faults.counts().failed, 0);
}

#[test]
fn a_power_loss_brings_old_content_back_and_that_is_no_damage() {
    let (mut zeros, mut old, mut back) = (0, 0, 0);
    for seed in 0..40 {
        let (sim, mut node, disk, faults) = calm_disk(seed);
        let work = async move {
            put(disk.clone(), 0, 8, 7).await.expect("no faults");
            disk.flush().await.expect("no faults");
            disk.discard(0, 8 * SECTOR_BYTES).await.expect("no faults");
            get(disk, 0, 8).await.expect("no faults")
        };
        let before = run(&sim, &node, work);
        sim.faults().power_off(&node);
        node = sim.faults().restart(&node);
        let after = run(&sim, &node, get(open(&node, "ssd", DISK_BYTES), 0, 8)).expect("no faults");
        assert!(after.iter().all(|value| [0, 7].contains(value)));
        zeros += after.iter().filter(|value| **value == 0).count();
        old += after.iter().filter(|value| **value == 7).count();
        back += before.iter().zip(&after).filter(|(before, after)| before < after).count();
        assert!(before.iter().zip(&after).all(|(before, after)| before <= after), "zeros from nowhere");
        assert_eq!(faults.damages(0..DISK_BYTES), [], "that is what was promised");
    }
    assert!(zeros > 20 && old > 20 && back > 20, "{zeros}, {old}, {back}");
}

#[test]
fn a_flushed_discard_stays() {
    for seed in 0..10 {
        let (sim, mut node, disk, _) = calm_disk(seed);
        let work = async move {
            put(disk.clone(), 0, 8, 7).await.expect("no faults");
            disk.discard(0, 8 * SECTOR_BYTES).await.expect("no faults");
            disk.flush().await.expect("no faults");
            get(disk, 0, 8).await.expect("no faults")
        };
        let before = run(&sim, &node, work);
        sim.faults().power_off(&node);
        node = sim.faults().restart(&node);
        assert_eq!(run(&sim, &node, get(open(&node, "ssd", DISK_BYTES), 0, 8)).expect("no faults"), before);
    }
}

#[test]
fn a_discard_can_fail_heal_and_be_abandoned() {
    let mut healed = 0;
    for seed in 0..10 {
        let (sim, node, disk, faults) = calm_disk(seed);
        run(&sim, &node, put(disk.clone(), 0, 8, 7)).expect("no faults");
        faults.arm(DiskFault::FailedWrite);
        let failing = disk.clone();
        assert!(is_eio(&run(&sim, &node, async move { failing.discard(0, 4 * SECTOR_BYTES).await })));
        faults.make_unreadable(4 * SECTOR_BYTES..5 * SECTOR_BYTES);
        let work = async move {
            disk.discard(4 * SECTOR_BYTES, SECTOR_BYTES).await.expect("no faults");
            let read = get(disk.clone(), 4, 1).await;
            // One that is dropped goes on.
            assert!(disk.discard(5 * SECTOR_BYTES, 3 * SECTOR_BYTES).now_or_never().is_none());
            disk.write(0, sectors_of(9, 1)).await.0.expect("no faults");
            read
        };
        let read = run(&sim, &node, work);
        healed += usize::from(read.as_ref().is_ok_and(|values| values == &[0]));
        assert!(read.is_ok() || is_eio(&read));
        sim.faults().kill(&node);
        let counts = faults.counts();
        assert_eq!((counts.faults(DiskFault::FailedWrite), counts.failed), (1, 1 + u64::from(read.is_err())));
        assert_eq!(faults.in_flight(), 0);
    }
    assert!((1..10).contains(&healed), "{healed}");
}
