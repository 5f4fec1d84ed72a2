//! The simulated disk does what every disk must.

use futures_util::FutureExt;
use quickcheck::quickcheck;

use super::super::super::{DiskOptions, SimDisk, SimPlatform, Simulation};
use super::{run, simulation};
use crate::disk::{Disk, DiskError, DiskPlace, conformance};
use crate::platform::Platform;
use std::io::ErrorKind;

/// Half of all transfers are short.
fn rough() -> DiskOptions {
    DiskOptions { short_percent: 50, ..DiskOptions::default() }
}

fn disk(seed: u64, options: DiskOptions) -> (Simulation, SimPlatform, SimDisk) {
    let sim = simulation(seed, options);
    let node = sim.node("node");
    let disk = node.open_disk(&DiskPlace::sized("ssd", conformance::BYTES)).expect("it is new");
    (sim, node, disk)
}

#[test]
fn it_does_what_every_disk_must() {
    for (seed, options) in [(1, DiskOptions::calm()), (2, rough()), (3, rough())] {
        let (sim, node, disk) = disk(seed, options);
        run(&sim, &node, conformance::all(disk));
        assert_eq!(sim.faults().disks()[0].in_flight(), 0);
    }
}

#[test]
fn a_part_of_a_disk_is_a_disk() {
    for (seed, options) in [(5, DiskOptions::calm()), (6, rough())] {
        let sim = simulation(seed, options);
        let node = sim.node("node");
        let whole = DiskPlace::sized("ssd", 3 * conformance::BYTES);
        let open = |at: u64, bytes: u64| node.open_disk(&whole.clone().part(at, bytes));
        let part = open(conformance::BYTES, conformance::BYTES).expect("a third of it");
        let all = node.open_disk(&whole).expect("the same owner");
        run(&sim, &node, async move {
            conformance::put(&all, 9, 0, 3 * conformance::SECTORS).await.expect("no faults");
            conformance::put(&part, 0, 0, conformance::SECTORS).await.expect("no faults");
            conformance::all(part).await;
            let first = conformance::get(&all, 0, conformance::SECTORS).await.expect("no faults");
            let last = conformance::get(&all, 2 * conformance::SECTORS, conformance::SECTORS);
            assert!(first.iter().chain(&last.await.expect("no faults")).all(|writing| *writing == 9));
        });
        for (at, bytes) in [(1, 4_096), (0, 4_095), (0, 0), (3 * conformance::BYTES, 4_096)] {
            let none = open(at, bytes).err().expect("no part of it");
            assert!(matches!(DiskError::of(&none), Some(DiskError::NoPart { .. })), "{none}");
        }
    }
}

#[test]
fn a_place_has_a_size_and_keeps_it() {
    let (sim, node, disk) = disk(4, DiskOptions::calm());
    let open = |place: DiskPlace| node.open_disk(&place);
    assert_eq!(open(DiskPlace::existing("ssd")).map(|disk| disk.bytes()).ok(), Some(disk.bytes()));
    let missing = open(DiskPlace::existing("hdd")).err().expect("never made");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let other = open(DiskPlace::sized("ssd", 4_096)).err().expect("another size");
    assert!(matches!(DiskError::of(&other), Some(DiskError::OtherSize { wanted_bytes: 4_096, .. })));
    for bytes in [0, 4_095] {
        let odd = open(DiskPlace::sized("hdd", bytes)).err().expect("an odd size");
        assert!(
            matches!(DiskError::of(&odd), Some(DiskError::OddSize { .. }))
                && odd.kind() == ErrorKind::InvalidInput
        );
    }
    assert_eq!(sim.faults().disks().len(), 1);
    assert!(disk.flush().now_or_never().is_none());
}

quickcheck! {
    fn it_follows_the_model(seed: u64, script: Vec<(u8, u8, u8)>) -> bool {
        let (sim, node, disk) = disk(seed, rough());
        run(&sim, &node, conformance::follows_the_model(disk, script))
    }
}
