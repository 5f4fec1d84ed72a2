//! What concerns the whole disk: stalls and breakdowns.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::super::super::{DiskFault, DiskOptions, SimDisk, SimPlatform, Simulation};
use super::{DISK_BYTES, STEP, calm_disk, get, is_eio, open, put, run, sectors_of};
use crate::disk::Disk;
use crate::platform::{Moment, Platform};

/// Results of reads of one sector: when each came, and what it was.
type Results = Rc<RefCell<Vec<(Moment, u64)>>>;

/// Begins a read of one sector.
fn read_later(sim: &Simulation, node: &SimPlatform, disk: &SimDisk, sector: u64, results: &Results) {
    let (platform, disk, results) = (node.clone(), disk.clone(), Rc::clone(results));
    node.spawn(async move {
        let seen = get(disk, sector, 1).await.expect("late, and no error");
        results.borrow_mut().push((platform.now(), seen[0]));
    });
    sim.run_for(Duration::ZERO).expect("within the limit");
}

#[test]
fn a_stalled_disk_completes_nothing_until_it_is_over() {
    let (sim, node, disk, faults) = calm_disk(8);
    let begin = sim.now();
    faults.stall(Duration::from_secs(1));
    run(&sim, &node, put(disk.clone(), 0, 1, 1)).expect("late");
    assert_eq!(sim.now() - begin, Duration::from_secs(1));

    faults.stall(Duration::MAX);
    node.spawn(async move { put(disk, 0, 1, 2).await.expect("in the end") });
    sim.run_for(Duration::from_secs(100)).expect("within the limit");
    assert_eq!((faults.in_flight(), faults.counts().writes), (1, 1));
    faults.mend();
    sim.run_for(STEP).expect("within the limit");
    assert_eq!((faults.in_flight(), faults.counts().writes), (0, 2));
    assert_eq!(faults.counts().faults(DiskFault::Stall), 2);
}

#[test]
fn an_armed_stall_delays_within_its_limit() {
    let mut delayed = 0;
    for seed in 0..10 {
        let (sim, node, disk, faults) = calm_disk(seed);
        faults.arm(DiskFault::Stall);
        let begin = sim.now();
        run(&sim, &node, put(disk, 0, 1, 3)).expect("late");
        let took = sim.now() - begin;
        assert!(took <= DiskOptions::calm().stall_max, "{took:?}");
        delayed += usize::from(took > STEP);
        assert_eq!(faults.counts().faults(DiskFault::Stall), 1);
    }
    assert!(delayed > 5, "{delayed} of 10");
}

#[test]
fn what_waits_for_a_stall_that_is_extended_and_mended_completes_once() {
    let (sim, node, disk, faults) = calm_disk(1);
    run(&sim, &node, put(disk.clone(), 0, 2, 5)).expect("no fault");
    let (results, begin) = (Results::default(), sim.now());
    faults.stall(STEP * 10);
    read_later(&sim, &node, &disk, 1, &results);
    sim.run_until(begin + STEP * 5).expect("within the limit");
    faults.stall(STEP * 20);
    sim.run_until(begin + STEP * 15).expect("within the limit");
    assert_eq!((faults.in_flight(), faults.counts().reads), (1, 0), "the first stall's end is passed");
    faults.mend();
    sim.run_until(begin + STEP * 50).expect("within the limit");
    assert_eq!(results.take(), [(begin + STEP * 15, 5)]);
    assert_eq!((faults.in_flight(), faults.counts().reads, faults.counts().failed), (0, 1, 0));
}

#[test]
fn what_a_killed_life_had_in_a_stall_does_not_concern_the_next() {
    let (sim, node, disk, faults) = calm_disk(2);
    run(&sim, &node, put(disk.clone(), 0, 2, 5)).expect("no fault");
    let (results, begin) = (Results::default(), sim.now());
    faults.stall(STEP * 1_000);
    // One is due in the stall before the death, one long after it.
    read_later(&sim, &node, &disk, 0, &results);
    faults.arm(DiskFault::Slow);
    read_later(&sim, &node, &disk, 0, &results);
    sim.run_until(begin + STEP * 2).expect("within the limit");
    let node = sim.faults().restart(&node);
    let disk = open(&node, "ssd", DISK_BYTES);
    read_later(&sim, &node, &disk, 1, &results);
    sim.run_until(begin + STEP * 200).expect("within the limit");
    assert_eq!((faults.in_flight(), faults.counts().abandoned), (1, 2));
    faults.mend();
    sim.run_until(begin + STEP * 2_000).expect("within the limit");
    assert_eq!(results.take(), [(begin + STEP * 200, 5)]);
    assert_eq!((faults.in_flight(), faults.counts().reads, faults.counts().failed), (0, 1, 0));
}

#[test]
fn a_broken_disk_fails_everything_and_keeps_what_it_has() {
    let (sim, node, disk, faults) = calm_disk(10);
    run(&sim, &node, put(disk.clone(), 0, 8, 1)).expect("no fault");
    run(&sim, &node, disk.flush()).expect("no fault");
    let (breaker, writer, platform) = (faults.clone(), disk.clone(), node.clone());
    let during = run(&sim, &node, async move {
        let break_down = async {
            platform.sleep(STEP / 2).await;
            breaker.break_down();
        };
        futures_util::future::join(writer.write(0, sectors_of(2, 4)), break_down).await.0.0
    });
    assert!(is_eio(&during));
    assert!(is_eio(&run(&sim, &node, put(disk.clone(), 4, 4, 3))));
    assert!(is_eio(&run(&sim, &node, get(disk.clone(), 0, 8))));
    assert!(is_eio(&run(&sim, &node, disk.flush())));
    faults.mend();
    let seen = run(&sim, &node, get(disk, 0, 8)).expect("mended");
    assert!(seen[..4].iter().all(|value| [1, 2].contains(value)));
    assert_eq!(seen[4..], [1; 4], "what came later did not happen");
}

#[test]
fn what_was_in_flight_at_a_breakdown_fails_although_it_is_mended_before() {
    let (sim, node, disk, faults) = calm_disk(11);
    run(&sim, &node, put(disk.clone(), 0, 8, 1)).expect("no fault");
    run(&sim, &node, disk.flush()).expect("no fault");
    let (breaker, platform, other) = (faults.clone(), node.clone(), disk.clone());
    let (write, read, flush) = (put(disk.clone(), 0, 4, 2), get(disk.clone(), 4, 4), disk.flush());
    let (during, after) = run(&sim, &node, async move {
        let interlude = async {
            platform.sleep(STEP / 2).await;
            breaker.break_down();
            breaker.mend();
            put(other, 6, 2, 3).await
        };
        futures_util::future::join(futures_util::future::join3(write, read, flush), interlude).await
    });
    assert!(is_eio(&during.0) && is_eio(&during.1) && is_eio(&during.2));
    after.expect("begun after it was mended");
    let seen = run(&sim, &node, get(disk, 0, 8)).expect("mended");
    assert!(seen[..4].iter().all(|value| [1, 2].contains(value)));
    assert_eq!(seen[6..], [3; 2]);
    assert_eq!((faults.in_flight(), faults.counts().failed), (0, 3));
}
