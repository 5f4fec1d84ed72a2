//! What breaks: each fault on demand, what the owner sees of it, and that the truth is told.

use std::io::{self, ErrorKind};

use super::super::super::{
    Damage, DiskFault, DiskFaultRates, DiskFaults, DiskOptions, SECTOR_BYTES, SimDisk, SimPlatform,
    Simulation,
};
use super::{
    DISK_BYTES, SECTOR, STEP, calm_disk, get, get_bytes, is_eio, open, put, run, sectors_of, simulation,
    values,
};
use crate::disk::Disk;

const EVERYWHERE: std::ops::Range<u64> = 0..u64::MAX;

/// The sectors that suffer from a fault.
fn damaged(faults: &DiskFaults, fault: DiskFault) -> Vec<u64> {
    let damages = faults.damages(EVERYWHERE).into_iter().filter(|damage| damage.fault == fault);
    damages
        .flat_map(|damage| damage.offset / SECTOR_BYTES..(damage.offset + damage.bytes) / SECTOR_BYTES)
        .collect()
}

fn put_now(sim: &Simulation, node: &SimPlatform, disk: &SimDisk, place: (u64, usize), value: u64) {
    run(sim, node, put(disk.clone(), place.0, place.1, value)).expect("the write says that it succeeds");
}

fn flush_now(sim: &Simulation, node: &SimPlatform, disk: &SimDisk) -> io::Result<()> {
    let disk = disk.clone();
    run(sim, node, async move { disk.flush().await })
}

#[test]
fn unreadable_sectors_stay_so_until_they_are_written() {
    let (sim, node, disk, faults) = calm_disk(1);
    put_now(&sim, &node, &disk, (0, 10), 1);
    faults.make_unreadable(4 * SECTOR_BYTES..6 * SECTOR_BYTES);
    for _ in 0..2 {
        assert!(is_eio(&run(&sim, &node, get(disk.clone(), 0, 10))));
        assert!(is_eio(&run(&sim, &node, get(disk.clone(), 5, 1))));
        assert_eq!(run(&sim, &node, get(disk.clone(), 0, 4)).expect("beside it"), [1; 4]);
    }
    let damage = Damage { offset: 4 * SECTOR_BYTES, bytes: 2 * SECTOR_BYTES, fault: DiskFault::ReadError };
    assert_eq!(faults.damages(0..5 * SECTOR_BYTES)[0].bytes, SECTOR_BYTES, "as far as was asked");
    assert_eq!(faults.damages(EVERYWHERE), [damage]);
    assert!(faults.damages(6 * SECTOR_BYTES..DISK_BYTES).is_empty());
    put_now(&sim, &node, &disk, (3, 3), 2);
    assert_eq!(run(&sim, &node, get(disk, 3, 4)).expect("healed"), [2, 2, 2, 1]);
    assert!(faults.damages(EVERYWHERE).is_empty());
    assert_eq!((faults.counts().failed, faults.counts().faults(DiskFault::ReadError)), (4, 1));
}

#[test]
fn what_is_unreadable_stays_so_when_a_power_loss_takes_what_was_above_it() {
    for seed in 0..20 {
        let (sim, node, disk, faults) = calm_disk(seed);
        put_now(&sim, &node, &disk, (0, 8), 1);
        flush_now(&sim, &node, &disk).expect("no fault");
        put_now(&sim, &node, &disk, (0, 8), 2);
        put_now(&sim, &node, &disk, (0, 8), 3);
        faults.make_unreadable(2 * SECTOR_BYTES..3 * SECTOR_BYTES);
        sim.faults().power_off(&node);
        let node = sim.faults().restart(&node);
        let disk = open(&node, "ssd", DISK_BYTES);
        assert!(is_eio(&run(&sim, &node, get(disk.clone(), 2, 1))));
        assert_eq!(damaged(&faults, DiskFault::ReadError), [2]);
        put_now(&sim, &node, &disk, (2, 1), 4);
        assert_eq!(run(&sim, &node, get(disk, 2, 1)).expect("healed"), [4]);
    }
}

#[test]
fn an_armed_read_error_is_within_the_read() {
    let (sim, node, disk, faults) = calm_disk(2);
    faults.arm(DiskFault::ReadError);
    assert!(is_eio(&run(&sim, &node, get(disk.clone(), 20, 8))));
    let sectors = damaged(&faults, DiskFault::ReadError);
    assert!(!sectors.is_empty() && sectors.iter().all(|sector| (20..28).contains(sector)));
    assert!(is_eio(&run(&sim, &node, get(disk.clone(), 20, 8))), "it is latent, not passing");
    assert!(run(&sim, &node, get(disk, 0, 20)).is_ok());
}

#[test]
fn rot_flips_one_bit_and_tells_nobody() {
    let (sim, node, disk, faults) = calm_disk(3);
    put_now(&sim, &node, &disk, (0, 8), 1);
    flush_now(&sim, &node, &disk).expect("no fault");
    faults.arm(DiskFault::Rot);
    let bytes = run(&sim, &node, get_bytes(disk.clone(), 2, 4)).expect("nobody knows");
    let flipped = |bytes: &[u8]| -> u32 {
        bytes.iter().zip(sectors_of(1, 4)).map(|(now, before)| (now ^ before).count_ones()).sum()
    };
    assert_eq!(flipped(&bytes), 1);
    let place = bytes.iter().zip(sectors_of(1, 4)).position(|(now, before)| *now != before);
    let sector = 2 + (place.expect("a byte differs") / SECTOR) as u64;
    assert_eq!(damaged(&faults, DiskFault::Rot), [sector]);
    assert_eq!(flipped(&run(&sim, &node, get_bytes(disk.clone(), 2, 4)).expect("still")), 1, "it stays");
    faults.rot(0..8 * SECTOR_BYTES);
    assert_eq!(damaged(&faults, DiskFault::Rot), (0..8).collect::<Vec<u64>>());
    put_now(&sim, &node, &disk, (0, 8), 1);
    assert!(faults.damages(EVERYWHERE).is_empty());
    assert_eq!(run(&sim, &node, get(disk, 0, 8)).expect("healed"), [1; 8]);
}

#[test]
fn a_misdirected_read_brings_the_bytes_of_another_place_once() {
    let (sim, node, disk, faults) = calm_disk(4);
    for sector in 0..64 {
        put_now(&sim, &node, &disk, (sector, 1), sector);
    }
    faults.arm(DiskFault::MisdirectedRead);
    let seen = run(&sim, &node, get(disk.clone(), 30, 4)).expect("nobody knows");
    assert!(seen[0] != 30 && seen == (seen[0]..seen[0] + 4).collect::<Vec<u64>>(), "{seen:?}");
    assert_eq!(run(&sim, &node, get(disk, 30, 4)).expect("again"), [30, 31, 32, 33]);
    assert!(faults.damages(EVERYWHERE).is_empty());
    let incident = faults.incidents()[0];
    assert_eq!((incident.fault, incident.offset), (DiskFault::MisdirectedRead, 30 * SECTOR_BYTES));
    assert_eq!(incident.bytes, 4 * SECTOR_BYTES);
}

#[test]
fn a_misdirected_write_damages_two_places() {
    for seed in 0..20 {
        let (sim, node, disk, faults) = calm_disk(seed);
        put_now(&sim, &node, &disk, (0, 64), 1);
        flush_now(&sim, &node, &disk).expect("no fault");
        faults.arm(DiskFault::MisdirectedWrite);
        put_now(&sim, &node, &disk, (30, 4), 2);
        assert_eq!(faults.counts().faults(DiskFault::MisdirectedWrite), 1);
        let check = |disk: &SimDisk, node: &SimPlatform| {
            let seen = run(&sim, node, get(disk.clone(), 0, 64)).expect("nobody knows");
            let astray = faults.incidents()[1].offset / SECTOR_BYTES;
            assert_ne!(astray, 30);
            let expected = (0..64).map(|sector| if (astray..astray + 4).contains(&sector) { 2 } else { 1 });
            // Also where the places overlap: what is passed over keeps what has gone astray to it.
            assert_eq!(seen, expected.collect::<Vec<u64>>());
            let mut both: Vec<u64> = (30..34).chain(astray..astray + 4).collect();
            both.sort_unstable();
            both.dedup();
            assert_eq!(damaged(&faults, DiskFault::MisdirectedWrite), both);
        };
        check(&disk, &node);
        flush_now(&sim, &node, &disk).expect("no fault");
        sim.faults().power_off(&node);
        let node = sim.faults().restart(&node);
        let disk = open(&node, "ssd", DISK_BYTES);
        check(&disk, &node);
        put_now(&sim, &node, &disk, (0, 64), 3);
        assert!(faults.damages(EVERYWHERE).is_empty());
    }
}

#[test]
fn a_lost_write_leaves_what_was_there() {
    let (sim, node, disk, faults) = calm_disk(5);
    put_now(&sim, &node, &disk, (0, 8), 1);
    faults.arm(DiskFault::LostWrite);
    put_now(&sim, &node, &disk, (2, 4), 2);
    flush_now(&sim, &node, &disk).expect("no fault");
    sim.faults().power_off(&node);
    let node = sim.faults().restart(&node);
    let disk = open(&node, "ssd", DISK_BYTES);
    assert_eq!(run(&sim, &node, get(disk.clone(), 0, 8)).expect("nobody knows"), [1; 8]);
    assert_eq!(damaged(&faults, DiskFault::LostWrite), [2, 3, 4, 5]);
    put_now(&sim, &node, &disk, (2, 2), 3);
    assert_eq!(damaged(&faults, DiskFault::LostWrite), [4, 5]);
}

#[test]
fn a_lost_write_does_not_heal_what_it_did_not_reach() {
    let (sim, node, disk, faults) = calm_disk(6);
    faults.make_unreadable(0..SECTOR_BYTES);
    faults.arm(DiskFault::LostWrite);
    put_now(&sim, &node, &disk, (0, 1), 2);
    assert!(is_eio(&run(&sim, &node, get(disk, 0, 1))));
    let both: Vec<DiskFault> = faults.damages(EVERYWHERE).iter().map(|damage| damage.fault).collect();
    assert_eq!(both, [DiskFault::ReadError, DiskFault::LostWrite]);
}

#[test]
fn a_failed_write_happens_in_part_and_says_so() {
    let mut mixed = 0;
    for seed in 0..20 {
        let (sim, node, disk, faults) = calm_disk(seed);
        put_now(&sim, &node, &disk, (0, 8), 1);
        faults.arm(DiskFault::FailedWrite);
        assert!(is_eio(&run(&sim, &node, put(disk.clone(), 0, 8, 2))));
        let seen = run(&sim, &node, get(disk, 0, 8)).expect("readable");
        mixed += usize::from(seen.contains(&1) && seen.contains(&2));
        assert!(faults.damages(EVERYWHERE).is_empty(), "its owner knows");
        assert_eq!((faults.counts().failed, faults.counts().faults(DiskFault::FailedWrite)), (1, 1));
    }
    assert!(mixed > 10, "{mixed} of 20");
}

#[test]
fn after_a_failed_flush_the_next_one_succeeds_and_does_not_help() {
    let (mut kept, mut gone_at_once, mut gone_with_power) = (0, 0, 0);
    for seed in 0..20 {
        let (sim, node, disk, faults) = calm_disk(seed);
        put_now(&sim, &node, &disk, (0, 8), 1);
        flush_now(&sim, &node, &disk).expect("no fault");
        put_now(&sim, &node, &disk, (0, 8), 2);
        faults.arm(DiskFault::FailedFlush);
        assert!(is_eio(&flush_now(&sim, &node, &disk)));
        let before = run(&sim, &node, get(disk.clone(), 0, 8)).expect("readable");
        flush_now(&sim, &node, &disk).expect("an error is told once");
        let told = damaged(&faults, DiskFault::FailedFlush);
        sim.faults().power_off(&node);
        let node = sim.faults().restart(&node);
        let disk = open(&node, "ssd", DISK_BYTES);
        let after = run(&sim, &node, get(disk.clone(), 0, 8)).expect("readable");
        for sector in 0..8 {
            match (before[sector], after[sector]) {
                (2, 2) => kept += 1,
                (1, 1) => gone_at_once += 1,
                (2, 1) => gone_with_power += 1,
                other => panic!("{other:?}"),
            }
            assert_eq!(told.contains(&(sector as u64)), after[sector] == 1);
        }
        assert_eq!(damaged(&faults, DiskFault::FailedFlush), told);
        put_now(&sim, &node, &disk, (0, 8), 3);
        flush_now(&sim, &node, &disk).expect("no fault");
        sim.faults().power_off(&node);
        let node = sim.faults().restart(&node);
        let disk = open(&node, "ssd", DISK_BYTES);
        assert_eq!(run(&sim, &node, get(disk, 0, 8)).expect("written again"), [3; 8]);
        assert!(faults.damages(EVERYWHERE).is_empty());
    }
    assert!(kept > 20 && gone_at_once > 10 && gone_with_power > 10);
}

#[test]
fn what_does_not_come_over_dropped_bytes_does_not_save_them() {
    let (mut kept, mut gone) = (0, 0);
    for (seed, fault) in (0..40).zip([DiskFault::LostWrite, DiskFault::MisdirectedWrite].into_iter().cycle())
    {
        let (sim, node, disk, faults) = calm_disk(seed);
        put_now(&sim, &node, &disk, (0, 8), 1);
        flush_now(&sim, &node, &disk).expect("no fault");
        put_now(&sim, &node, &disk, (0, 8), 2);
        faults.arm(DiskFault::FailedFlush);
        assert!(is_eio(&flush_now(&sim, &node, &disk)));
        let told = damaged(&faults, DiskFault::FailedFlush);
        faults.arm(fault);
        put_now(&sim, &node, &disk, (0, 8), 3);
        flush_now(&sim, &node, &disk).expect("an error is told once");
        sim.faults().power_off(&node);
        let node = sim.faults().restart(&node);
        let after = run(&sim, &node, get(open(&node, "ssd", DISK_BYTES), 0, 8)).expect("readable");
        for sector in (0..8).filter(|sector| after[*sector as usize] != 3) {
            let is_gone = told.contains(&sector);
            assert_eq!(after[sector as usize], if is_gone { 1 } else { 2 }, "sector {sector}, seed {seed}");
            kept += usize::from(!is_gone);
            gone += usize::from(is_gone);
        }
        assert!(fault == DiskFault::MisdirectedWrite || !after.contains(&3));
    }
    assert!(kept > 50 && gone > 50, "{kept} kept, {gone} gone");
}

#[test]
fn what_cannot_suffer_leaves_faults_armed() {
    let (sim, node, disk, faults) = calm_disk(13);
    let all = DiskFault::ALL.into_iter().filter(|fault| fault.is_of_operations());
    all.for_each(|fault| faults.arm(fault));
    let idle = disk.clone();
    let nothing =
        run(
            &sim,
            &node,
            async move { (idle.write(0, Vec::new()).await.0, idle.read(0, Vec::new()).await.0) },
        );
    assert_eq!((nothing.0.expect("no bytes"), nothing.1.expect("no bytes")), (0, 0));
    assert!(faults.incidents().is_empty());

    // There is no other place for the whole disk.
    faults.mend();
    faults.arm(DiskFault::MisdirectedWrite);
    put_now(&sim, &node, &disk, (0, 64), 1);
    assert!(faults.incidents().is_empty());
    put_now(&sim, &node, &disk, (0, 1), 1);
    assert_eq!(faults.counts().faults(DiskFault::MisdirectedWrite), 1);
}

#[test]
fn a_slow_operation_and_a_slow_disk_take_longer() {
    let (sim, node, disk, faults) = calm_disk(7);
    let time = |work: &dyn Fn()| {
        let begin = sim.now();
        work();
        sim.now() - begin
    };
    let one = || put_now(&sim, &node, &disk, (0, 1), 1);
    assert_eq!(time(&one), STEP);
    faults.arm(DiskFault::Slow);
    assert_eq!(time(&one), STEP * DiskOptions::calm().slow_factor);
    faults.slow_down(7);
    assert_eq!(time(&one), STEP * 7);
    faults.slow_down(1);
    assert_eq!(time(&one), STEP);
    assert_eq!(faults.counts().faults(DiskFault::Slow), 2);
}

#[test]
fn a_full_disk_takes_what_fits_and_what_was_there() {
    let (sim, node, disk, faults) = calm_disk(9);
    faults.set_quota(10 * SECTOR_BYTES + 1);
    put_now(&sim, &node, &disk, (0, 8), 1);
    let (first, second) = (disk.clone(), disk.clone());
    let short = run(&sim, &node, async move { first.write(8 * SECTOR_BYTES, sectors_of(2, 4)).await.0 });
    assert_eq!(short.expect("two fit"), 2 * SECTOR);
    let full = run(&sim, &node, async move { second.write(10 * SECTOR_BYTES, sectors_of(2, 2)).await.0 });
    assert_eq!(full.map_err(|error| error.kind()), Err(ErrorKind::StorageFull));
    faults.set_quota(0);
    put_now(&sim, &node, &disk, (0, 10), 3);
    assert_eq!((faults.used_bytes(), faults.counts().faults(DiskFault::Full)), (10 * SECTOR_BYTES, 2));
    let place = |number: usize| (faults.incidents()[number].offset, faults.incidents()[number].bytes);
    assert_eq!([place(0), place(1)], [(10 * SECTOR_BYTES, 2 * SECTOR_BYTES); 2]);
    faults.set_quota(u64::MAX);
    put_now(&sim, &node, &disk, (10, 54), 4);
    assert_eq!(run(&sim, &node, get(disk, 8, 4)).expect("no fault"), [3, 3, 4, 4]);
}

#[test]
fn rates_decide_how_often() {
    let rates =
        DiskFaultRates::default().with(DiskFault::Rot, 500_000).with(DiskFault::FailedFlush, 1_000_000);
    let sim = simulation(11, DiskOptions { faults: rates, ..DiskOptions::calm() });
    let node = sim.node("node");
    let disk = open(&node, "ssd", DISK_BYTES);
    let faults = sim.faults().disks().remove(0);
    for _ in 0..100 {
        run(&sim, &node, get_bytes(disk.clone(), 0, 4)).expect("nobody knows");
        assert!(is_eio(&flush_now(&sim, &node, &disk)));
    }
    assert!((30..70).contains(&faults.counts().faults(DiskFault::Rot)));
    faults.set_rates(DiskFaultRates::default());
    let seen = run(&sim, &node, get_bytes(disk.clone(), 0, 4)).expect("readable");
    assert_eq!(seen, run(&sim, &node, get_bytes(disk.clone(), 0, 4)).expect("readable"));
    flush_now(&sim, &node, &disk).expect("no fault");
    put_now(&sim, &node, &disk, (0, 4), 1);
    assert_eq!(values(&run(&sim, &node, get_bytes(disk, 0, 4)).expect("readable")), [1; 4]);
}

#[test]
#[should_panic(expected = "does not come over an operation")]
fn a_power_loss_cannot_be_armed() {
    calm_disk(12).3.arm(DiskFault::PowerLoss);
}
