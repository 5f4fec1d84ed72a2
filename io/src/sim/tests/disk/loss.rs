//! What a death leaves: of a future, a process, a machine.

use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;

use super::super::super::{DiskFault, DiskOptions, SECTOR_BYTES};
use super::{DISK_BYTES, SECTOR, STEP, calm_disk, get, get_bytes, open, put, run, simulation};
use crate::disk::Disk;
use crate::platform::Platform;

#[test]
fn a_killed_process_leaves_what_the_kernel_took_and_any_sectors_of_what_it_had() {
    let (mut none, mut all, mut mixed) = (0, 0, 0);
    for seed in 0..60 {
        let (sim, node, disk, faults) = calm_disk(seed);
        run(&sim, &node, put(disk.clone(), 0, 10, 1)).expect("no fault");
        node.spawn(async move {
            let _ = put(disk, 0, 3, 2).await;
            panic!("it is dead");
        });
        sim.run_for(STEP / 2).expect("within the limit");
        sim.faults().kill(&node);
        assert_eq!((faults.counts().abandoned, faults.in_flight()), (1, 0));
        let node = sim.faults().restart(&node);
        let disk = open(&node, "ssd", DISK_BYTES);
        let seen = run(&sim, &node, get(disk.clone(), 0, 10)).expect("no fault");
        assert_eq!(seen[3..], [1; 7]);
        none += usize::from(seen[..3] == [1; 3]);
        all += usize::from(seen[..3] == [2; 3]);
        mixed += usize::from(seen[..3].contains(&1) && seen[..3].contains(&2));
        sim.run_for(10 * STEP).expect("within the limit");
        assert_eq!(run(&sim, &node, get(disk, 0, 10)).expect("no fault"), seen, "nothing lands later");
        assert!(faults.damages(0..DISK_BYTES).is_empty());
    }
    assert!(none > 0 && all > 0 && mixed > 10, "{none}, {all}, {mixed}");
}

#[test]
fn a_power_loss_keeps_loses_or_tears_what_was_not_flushed() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..60 {
        let (sim, node, disk, faults) = calm_disk(seed);
        let work = async move {
            put(disk.clone(), 0, 16, 1).await?;
            disk.flush().await?;
            put(disk.clone(), 4, 8, 2).await
        };
        run(&sim, &node, work).expect("no fault");
        assert_eq!(faults.unflushed(), vec![4 * SECTOR_BYTES..12 * SECTOR_BYTES]);
        // The process may be dead for long when the power goes.
        if seed % 2 == 0 {
            sim.faults().kill(&node);
        }
        sim.faults().power_off(&node);
        assert!(faults.unflushed().is_empty());
        let node = sim.faults().restart(&node);
        let seen = run(&sim, &node, get(open(&node, "ssd", DISK_BYTES), 0, 16)).expect("no fault");
        assert!(seen[..4] == [1; 4] && seen[12..] == [1; 4], "flushed bytes stay");
        kept += usize::from(seen[4..12] == [2; 8]);
        lost += usize::from(seen[4..12] == [1; 8]);
        torn += usize::from(seen[4..12].contains(&1) && seen[4..12].contains(&2));
        for sector in 0..16 {
            let damages = faults.damages(sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES);
            let is_lost = (4..12).contains(&sector) && seen[sector as usize] == 1;
            assert_eq!(damages.iter().any(|damage| damage.fault == DiskFault::PowerLoss), is_lost);
        }
        let is_lost = u64::from(seen[4..12].contains(&1));
        assert_eq!(
            (faults.counts().power_losses, faults.counts().faults(DiskFault::PowerLoss)),
            (1, is_lost)
        );
    }
    assert!(kept > 5 && lost > 5 && torn > 5, "{kept}, {lost}, {torn}");
}

#[test]
fn a_torn_sector_has_old_and_new_blocks_and_is_damaged() {
    let (mut torn, mut shapes) = (0, BTreeSet::new());
    for seed in 0..60 {
        let sim = simulation(seed, DiskOptions { torn_sector_percent: 50, ..DiskOptions::calm() });
        let node = sim.node("node");
        let disk = open(&node, "ssd", DISK_BYTES);
        let work = async move {
            put(disk.clone(), 0, 8, 1).await?;
            disk.flush().await?;
            put(disk, 2, 4, 2).await
        };
        run(&sim, &node, work).expect("no fault");
        sim.faults().power_off(&node);
        let faults = sim.faults().disks().remove(0);
        let node = sim.faults().restart(&node);
        let bytes = run(&sim, &node, get_bytes(open(&node, "ssd", DISK_BYTES), 0, 8)).expect("readable");
        for (number, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let words: Vec<&[u8]> = sector.chunks_exact(8).collect();
            let blocks: Vec<u8> = sector.chunks_exact(512).map(|block| block[0]).collect();
            let is_whole =
                |(place, word): (usize, &&[u8])| **word == u64::from(blocks[place / 64]).to_le_bytes();
            assert!(words.iter().enumerate().all(is_whole), "blocks are whole");
            let (has_old, has_new) = (blocks.contains(&1), blocks.contains(&2));
            assert!((2..6).contains(&number) || !has_new, "flushed bytes stay");
            let place = number as u64 * SECTOR_BYTES..(number as u64 + 1) * SECTOR_BYTES;
            assert_eq!(!faults.damages(place).is_empty(), (2..6).contains(&number) && has_old);
            if has_old && has_new {
                torn += 1;
                shapes.insert(blocks);
            }
        }
    }
    assert!(torn > 15 && shapes.len() > 10, "{torn} torn sectors, {shapes:?}");
}

#[test]
fn many_versions_do_not_take_away_what_is_being_flushed() {
    let mut left = BTreeSet::new();
    for seed in 0..60 {
        let (sim, node, disk, faults) = calm_disk(seed);
        let (platform, armer) = (node.clone(), faults.clone());
        let work = async move {
            put(disk.clone(), 0, 1, 100).await?;
            // Under way while all that comes is written, and dropped by another flush.
            armer.arm(DiskFault::Slow);
            let slow_flush = disk.flush();
            let writes = async {
                platform.sleep(STEP).await;
                for value in 101..=130 {
                    put(disk.clone(), 0, 1, value).await?;
                }
                armer.arm(DiskFault::FailedFlush);
                assert!(disk.flush().await.is_err());
                io::Result::Ok(())
            };
            let (flushed, written) = futures_util::future::join(slow_flush, writes).await;
            flushed.and(written)
        };
        run(&sim, &node, work).expect("no other fault");
        sim.faults().power_off(&node);
        let node = sim.faults().restart(&node);
        left.extend(run(&sim, &node, get(open(&node, "ssd", DISK_BYTES), 0, 1)).expect("no fault"));
    }
    assert!(left.first() >= Some(&100) && left.last() == Some(&130) && left.len() > 2, "{left:?}");
}

#[test]
fn of_several_unflushed_versions_a_power_loss_leaves_any() {
    let mut left = [0; 4];
    for seed in 0..60 {
        let (sim, node, disk, _) = calm_disk(seed);
        let work = async move {
            put(disk.clone(), 0, 1, 1).await?;
            disk.flush().await?;
            put(disk.clone(), 0, 1, 2).await?;
            put(disk, 0, 1, 3).await
        };
        run(&sim, &node, work).expect("no fault");
        sim.faults().power_off(&node);
        let node = sim.faults().restart(&node);
        let seen = run(&sim, &node, get(open(&node, "ssd", DISK_BYTES), 0, 1)).expect("no fault");
        left[seen[0] as usize] += 1;
    }
    assert!(left[0] == 0 && left[1..].iter().all(|count| *count > 5), "{left:?}");
}

#[test]
fn a_flush_is_for_what_was_complete_when_it_began() {
    let (mut first_lost, mut second_lost) = (0, 0);
    for seed in 0..30 {
        let (sim, node, disk, _) = calm_disk(seed);
        let platform = node.clone();
        let work = async move {
            put(disk.clone(), 0, 1, 1).await?;
            // In flight when the flush begins, and complete before it is.
            let second = put(disk.clone(), 1, 1, 1);
            let flush = async {
                platform.sleep(STEP / 2).await;
                disk.flush().await
            };
            let (written, flushed) = futures_util::future::join(second, flush).await;
            written.and(flushed)
        };
        run(&sim, &node, work).expect("no fault");
        sim.faults().power_off(&node);
        let node = sim.faults().restart(&node);
        let seen = run(&sim, &node, get(open(&node, "ssd", DISK_BYTES), 0, 2)).expect("no fault");
        first_lost += usize::from(seen[0] != 1);
        second_lost += usize::from(seen[1] != 1);
    }
    assert_eq!(first_lost, 0);
    assert!(second_lost > 5, "{second_lost} of 30");
}

#[test]
fn the_disks_of_a_name_lose_power_when_nobody_lives_there() {
    let (sim, node, _, faults) = calm_disk(1);
    let again = sim.faults().restart(&node);
    sim.faults().power_off(&node);
    assert_eq!(faults.counts().power_losses, 0, "it was an earlier life");
    sim.faults().power_off(&again);
    assert_eq!(faults.counts().power_losses, 1);
}

#[test]
fn deaths_midway_leak_nothing() {
    let witness = Rc::new(());
    for seed in 0..20 {
        let (sim, node, _, faults) = calm_disk(seed);
        let mut node = node;
        for round in 0..6 {
            let disk = open(&node, "ssd", DISK_BYTES);
            for number in 0..8 {
                let buffer = || super::Witnessed(super::sectors_of(round, 4), Rc::clone(&witness));
                let operations = [number * 4, number * 3].map(|sector| {
                    let (write, read) = (
                        disk.write(sector * SECTOR_BYTES, buffer()),
                        disk.read(sector * SECTOR_BYTES, buffer()),
                    );
                    futures_util::future::join(write, read)
                });
                let (platform, flush) = (node.clone(), disk.flush());
                node.spawn(async move {
                    let give_up = platform.sleep(STEP * (number as u32) / 4);
                    let all = futures_util::future::join(join_all(operations), flush);
                    futures_util::future::select(Box::pin(give_up), Box::pin(all)).await;
                });
            }
            sim.run_for(Duration::from_micros(30 * (seed + round) % 170)).expect("within the limit");
            match round % 3 {
                0 => sim.faults().kill(&node),
                1 => sim.faults().power_off(&node),
                _ => {}
            }
            node = sim.faults().restart(&node);
            assert_eq!((Rc::strong_count(&witness), faults.in_flight()), (1, 0));
        }
        // A future outside of the node learns that it is dead; what is left in flight goes with the simulation.
        let disk = open(&node, "ssd", DISK_BYTES);
        let observer = sim.node("observer");
        let left = disk.write(0, super::Witnessed(super::sectors_of(9, 1), Rc::clone(&witness)));
        let (killer, victim) = (sim.faults(), node.clone());
        let outside = async move {
            let kill = async { killer.kill(&victim) };
            futures_util::future::join(left, kill).await.0.0.is_err()
        };
        assert!(run(&sim, &observer, outside));
        let node = sim.faults().restart(&node);
        let disk = open(&node, "ssd", DISK_BYTES);
        let held = super::Witnessed(super::sectors_of(9, 1), Rc::clone(&witness));
        node.spawn(async move { drop(disk.write(0, held).await) });
        sim.run_for(STEP / 2).expect("within the limit");
        assert_eq!(Rc::strong_count(&witness), 2);
        drop(sim);
        assert_eq!(Rc::strong_count(&witness), 1);
        drop((node, faults));
    }
}
