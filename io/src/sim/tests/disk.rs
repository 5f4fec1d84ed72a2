//! The rows of the disk's fault model, one by one. Their sum is in `disk/model.rs`.

mod conformance;
mod damage;
mod discard;
mod loss;
mod model;
mod stall;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::io::Errno;

use super::super::{
    DiskFault, DiskFaultRates, DiskFaults, DiskOptions, Options, SECTOR_BYTES, SimDisk, SimPlatform,
    Simulation,
};
use crate::disk::{Disk, DiskSource, DiskTarget};
use crate::platform::{Platform, with_deadline};

const SECTOR: usize = SECTOR_BYTES as usize;
const DISK_BYTES: u64 = 64 * SECTOR_BYTES;
/// What the calm disk takes for everything.
const STEP: Duration = Duration::from_micros(100);

fn simulation(seed: u64, disk: DiskOptions) -> Simulation {
    Simulation::with_options(seed, Options { disk, ..Options::default() })
}

/// Opens a disk that nobody else has.
fn open(node: &SimPlatform, name: &str, bytes: u64) -> SimDisk {
    node.disk(name, bytes).expect("nobody else has it")
}

/// A node with a disk that takes 100 µs for everything, and the handle that breaks it.
fn calm_disk(seed: u64) -> (Simulation, SimPlatform, SimDisk, DiskFaults) {
    let sim = simulation(seed, DiskOptions::calm());
    let node = sim.node("node");
    let disk = open(&node, "ssd", DISK_BYTES);
    let faults = sim.faults().disk(&node, "ssd").expect("it is open");
    (sim, node, disk, faults)
}

/// Runs to the end.
fn run<T: 'static>(sim: &Simulation, node: &SimPlatform, work: impl Future<Output = T> + 'static) -> T {
    sim.block_on(node, work).expect("ends")
}

/// Sectors that are full of one value.
fn sectors_of(value: u64, sectors: usize) -> Vec<u8> {
    value.to_le_bytes().repeat(sectors * SECTOR / 8)
}

/// The value that each sector is full of. Panics if one is mixed.
fn values(bytes: &[u8]) -> Vec<u64> {
    let word = |word: &[u8]| u64::from_le_bytes(word.try_into().expect("eight bytes"));
    let sectors = bytes.chunks_exact(SECTOR).map(|sector| {
        assert!(sector.chunks_exact(8).all(|other| other == &sector[..8]), "a sector of mixed bytes");
        word(&sector[..8])
    });
    sectors.collect()
}

/// Writes a value to sectors, as often as short writes demand.
async fn put(disk: SimDisk, first: u64, sectors: usize, value: u64) -> io::Result<()> {
    let mut done = 0;
    while done < sectors {
        let offset = (first + done as u64) * SECTOR_BYTES;
        let (written, _) = disk.write(offset, sectors_of(value, sectors - done)).await;
        let written = written?;
        assert!(written > 0 && written.is_multiple_of(SECTOR), "{written} bytes written");
        done += written / SECTOR;
    }
    Ok(())
}

/// Reads sectors, as often as short reads demand.
async fn get_bytes(disk: SimDisk, first: u64, sectors: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < sectors * SECTOR {
        let offset = first * SECTOR_BYTES + all.len() as u64;
        let (read, buffer) = disk.read(offset, vec![0xee; sectors * SECTOR - all.len()]).await;
        let read = read?;
        assert!(read > 0 && read.is_multiple_of(SECTOR), "{read} bytes read");
        all.extend_from_slice(&buffer[..read]);
    }
    Ok(all)
}

async fn get(disk: SimDisk, first: u64, sectors: usize) -> io::Result<Vec<u64>> {
    Ok(values(&get_bytes(disk, first, sectors).await?))
}

fn is_eio<T>(result: &io::Result<T>) -> bool {
    result.as_ref().err().and_then(io::Error::raw_os_error) == Some(Errno::IO.raw_os_error())
}

#[test]
fn what_is_written_is_read_and_the_rest_is_zero() {
    let sim = Simulation::new(1);
    let node = sim.node("node");
    let disk = open(&node, "ssd", DISK_BYTES);
    let other = open(&node, "hdd", DISK_BYTES);
    let work = async move {
        put(disk.clone(), 3, 20, 7).await?;
        put(disk.clone(), 5, 1, 8).await?;
        disk.flush().await?;
        io::Result::Ok((get(disk, 2, 22).await?, get(other, 0, 64).await?))
    };
    let (seen, untouched) = run(&sim, &node, work).expect("no faults");
    let mut expected = vec![7; 22];
    (expected[0], expected[3], expected[21]) = (0, 8, 0);
    assert_eq!((seen, untouched), (expected, vec![0; 64]));
}

#[test]
fn what_is_not_of_sectors_is_invalid_and_the_end_is_the_end() {
    let (sim, node, disk, faults) = calm_disk(2);
    let work = async move {
        let mut kinds = Vec::new();
        for (offset, bytes) in [(1, SECTOR), (0, SECTOR - 1), (u64::MAX - SECTOR_BYTES + 1, 2 * SECTOR)] {
            let (read, buffer) = disk.read(offset, vec![1; bytes]).await;
            let (written, _) = disk.write(offset, buffer).await;
            kinds.push((read.map_err(|error| error.kind()), written.map_err(|error| error.kind())));
        }
        let invalid = (Err(ErrorKind::InvalidInput), Err(ErrorKind::InvalidInput));
        assert_eq!(kinds, vec![invalid; 3]);
        assert_eq!(disk.read(0, Vec::new()).await.0?, 0);
        assert_eq!(disk.write(0, Vec::new()).await.0?, 0);
        assert_eq!(disk.read(DISK_BYTES, vec![0; SECTOR]).await.0?, 0);
        assert_eq!(disk.read(DISK_BYTES - SECTOR_BYTES, vec![0; 3 * SECTOR]).await.0?, SECTOR);
        let last = DISK_BYTES - 2 * SECTOR_BYTES;
        assert_eq!(disk.write(last, sectors_of(1, 3)).await.0?, 2 * SECTOR);
        let behind = disk.write(DISK_BYTES, sectors_of(1, 1)).await.0;
        assert_eq!(behind.map_err(|error| error.kind()), Err(ErrorKind::StorageFull));
        io::Result::Ok(())
    };
    run(&sim, &node, work).expect("no faults");
    assert_eq!(faults.counts().failed, 1, "what is invalid never begins");
    assert_eq!(faults.counts().faults(DiskFault::Full), 0, "the disk's end is no fault");
}

#[test]
fn a_large_disk_costs_what_is_written() {
    let sim = simulation(3, DiskOptions::calm());
    let node = sim.node("node");
    let disk = open(&node, "ssd", 1 << 50);
    let last = disk.sectors() - 1;
    let work = async move {
        put(disk.clone(), last, 1, 5).await?;
        get(disk, last - 1, 2).await
    };
    assert_eq!(run(&sim, &node, work).expect("no faults"), [0, 5]);
    assert_eq!(sim.faults().disks()[0].used_bytes(), SECTOR_BYTES);
}

#[test]
fn a_disk_belongs_to_a_machine_and_outlives_its_processes() {
    let (sim, node, disk, faults) = calm_disk(4);
    run(&sim, &node, put(disk.clone(), 0, 4, 9)).expect("no faults");
    let again = sim.faults().restart(&node);
    let same = open(&again, "ssd", DISK_BYTES);
    assert_eq!(run(&sim, &again, get(same, 0, 4)).expect("no faults"), [9; 4]);
    let stranger = sim.node("another");
    let others = open(&stranger, "ssd", DISK_BYTES);
    assert_eq!(run(&sim, &stranger, get(others, 0, 4)).expect("no faults"), [0; 4]);
    // The handle of the dead life is of no use.
    let dead =
        run(&sim, &stranger, async move { (disk.flush().await, disk.read(0, vec![0; SECTOR]).await.0) });
    let nodev = Some(Errno::NODEV.raw_os_error());
    assert_eq!(dead.0.expect_err("dead").raw_os_error(), nodev);
    assert_eq!(dead.1.expect_err("dead").raw_os_error(), nodev);
    assert_eq!(faults.names(), ("node".to_owned(), "ssd".to_owned()));
    assert_eq!(sim.faults().disks().len(), 2);
    assert!(sim.faults().disk(&node, "hdd").is_none());
}

#[test]
#[should_panic(expected = "cannot have")]
fn a_disk_does_not_change_its_size() {
    let (_sim, node, ..) = calm_disk(5);
    open(&node, "ssd", 2 * DISK_BYTES);
}

#[test]
fn a_disk_has_one_owner_while_that_lives() {
    let (sim, node, disk, faults) = calm_disk(4);
    let busy = |node: &SimPlatform| node.disk("ssd", DISK_BYTES).err().map(|error| error.kind());
    let twin = sim.node("node");
    assert_eq!(busy(&node), None, "it may open it again");
    assert_eq!(busy(&twin), Some(ErrorKind::ResourceBusy));
    sim.faults().pause(&node);
    assert_eq!(busy(&twin), Some(ErrorKind::ResourceBusy), "paused is not dead");
    sim.faults().resume(&node);
    run(&sim, &node, put(disk, 0, 1, 3)).expect("no fault");
    sim.faults().kill(&node);
    let dead = node.disk("ssd", DISK_BYTES).err().and_then(|error| error.raw_os_error());
    assert_eq!(dead, Some(Errno::NODEV.raw_os_error()));
    assert_eq!(run(&sim, &twin, get(open(&twin, "ssd", DISK_BYTES), 0, 1)).expect("no fault"), [3]);
    let again = sim.faults().restart(&node);
    assert_eq!(busy(&again), Some(ErrorKind::ResourceBusy), "now it is the other's");
    sim.faults().power_off(&twin);
    assert_eq!(busy(&again), None);
    assert_eq!(faults.counts().power_losses, 0, "somebody lives there");
}

#[test]
fn what_is_written_is_part_of_the_event_hash() {
    let hash = |value: u64| {
        let (sim, node, disk, _) = calm_disk(4);
        run(&sim, &node, put(disk, 0, 4, value)).expect("no fault");
        sim.event_hash()
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn many_operations_are_in_flight_and_complete_in_any_order() {
    let orders: BTreeSet<Vec<u64>> = (0..5)
        .map(|seed| {
            let sim = Simulation::new(seed);
            let node = sim.node("node");
            let disk = open(&node, "ssd", DISK_BYTES);
            let order = Rc::new(RefCell::new(Vec::new()));
            let writes = (0..32).map(|number| {
                let (disk, order) = (disk.clone(), Rc::clone(&order));
                async move {
                    disk.write(number * SECTOR_BYTES, sectors_of(number, 1)).await.0.expect("no faults");
                    order.borrow_mut().push(number);
                }
            });
            run(&sim, &node, join_all(writes.collect::<Vec<_>>()));
            assert_eq!(sim.faults().disks()[0].counts().in_flight_max, 32);
            let seen = run(&sim, &node, get(disk, 0, 32)).expect("no faults");
            assert_eq!(seen, (0..32).collect::<Vec<u64>>());
            order.take()
        })
        .collect();
    assert_eq!(orders.len(), 5);
    assert!(orders.iter().all(|order| !order.is_sorted()));
}

#[test]
fn reads_and_writes_are_short_at_times_unless_calm() {
    for (short_percent, is_short) in [(50, true), (0, false)] {
        let sim = simulation(6, DiskOptions { short_percent, ..DiskOptions::calm() });
        let node = sim.node("node");
        let disk = open(&node, "ssd", DISK_BYTES);
        for value in 1..=20 {
            run(&sim, &node, put(disk.clone(), value, 30, value)).expect("no faults");
            assert_eq!(run(&sim, &node, get(disk.clone(), value, 30)).expect("no faults"), vec![value; 30]);
        }
        let counts = sim.faults().disks()[0].counts();
        assert_eq!((counts.short_reads > 3, counts.short_writes > 3), (is_short, is_short));
        assert_eq!((counts.bytes_written, counts.bytes_read), (600 * SECTOR_BYTES, 600 * SECTOR_BYTES));
        assert_eq!(counts.reads > 20, is_short);
    }
}

#[test]
fn who_reads_during_a_write_sees_any_mix_and_nothing_twice_over() {
    let mut mixes = BTreeSet::new();
    for seed in 0..20 {
        let options = DiskOptions { short_percent: 0, ..DiskOptions::default() };
        let sim = simulation(seed, options);
        let node = sim.node("node");
        let disk = open(&node, "ssd", DISK_BYTES);
        run(&sim, &node, put(disk.clone(), 0, 8, 1)).expect("no faults");
        let (writer, reader) = (disk.clone(), disk.clone());
        let write = put(writer, 0, 8, 2);
        let reads = async move {
            let mut before = vec![1; 8];
            for _ in 0..4 {
                let seen = get(reader.clone(), 0, 8).await.expect("no faults");
                let is_forward = before.iter().zip(&seen).all(|(before, now)| before <= now);
                assert!(is_forward, "{before:?}, then {seen:?}");
                before = seen;
                mixes.insert(before.clone());
            }
            mixes
        };
        let (written, seen) = run(&sim, &node, async move { futures_util::future::join(write, reads).await });
        written.expect("no faults");
        mixes = seen;
        assert_eq!(run(&sim, &node, get(disk, 0, 8)).expect("no faults"), [2; 8]);
    }
    assert!(mixes.len() > 8, "{mixes:?}");
    assert!(mixes.iter().flatten().all(|value| [1, 2].contains(value)));
}

#[test]
fn a_read_around_a_write_and_a_read_within_one_see_both_contents() {
    for slow_read in [true, false] {
        let mut mixed = 0;
        for seed in 0..20 {
            let (sim, node, disk, faults) = calm_disk(seed);
            run(&sim, &node, put(disk.clone(), 0, 8, 1)).expect("no faults");
            let (platform, reader, writer) = (node.clone(), disk.clone(), disk.clone());
            let work = async move {
                let slow = async |is_slow: bool| match is_slow {
                    true => faults.arm(DiskFault::Slow),
                    false => platform.sleep(STEP).await,
                };
                let read = async {
                    slow(slow_read).await;
                    get(reader, 0, 8).await
                };
                let write = async {
                    slow(!slow_read).await;
                    put(writer, 0, 8, 2).await
                };
                futures_util::future::join(read, write).await
            };
            let (seen, written) = run(&sim, &node, work);
            let seen = seen.expect("no faults that matter");
            written.expect("no faults that matter");
            mixed += usize::from(seen.contains(&1) && seen.contains(&2));
            assert_eq!(run(&sim, &node, get(disk, 0, 8)).expect("no faults"), [2; 8]);
        }
        assert!(mixed > 10, "{mixed} of 20, slow read: {slow_read}");
    }
}

#[test]
fn of_two_writes_at_once_either_wins_sector_by_sector() {
    let (mut ones, mut twos, mut mixed) = (0, 0, 0);
    for seed in 0..50 {
        let sim = Simulation::new(seed);
        let node = sim.node("node");
        let disk = open(&node, "ssd", DISK_BYTES);
        let writes = [1, 2].map(|value| put(disk.clone(), 0, 4, value));
        let both = run(&sim, &node, join_all(writes));
        assert!(both.iter().all(Result::is_ok));
        let seen = run(&sim, &node, get(disk.clone(), 0, 4)).expect("no faults");
        assert_eq!(seen, run(&sim, &node, get(disk, 0, 4)).expect("no faults"), "it is decided");
        ones += usize::from(seen == [1; 4]);
        twos += usize::from(seen == [2; 4]);
        mixed += usize::from(seen.contains(&1) && seen.contains(&2));
    }
    assert!(ones > 0 && twos > 0 && mixed > 5, "{ones}, {twos}, {mixed}");
}

/// A buffer that tells when it is dropped.
struct Witnessed(Vec<u8>, #[expect(dead_code, reason = "is counted")] Rc<()>);

// SAFETY: a vector's bytes stay where they are, and are its alone.
unsafe impl DiskSource for Witnessed {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

// SAFETY: as above.
unsafe impl DiskTarget for Witnessed {
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[test]
fn a_dropped_future_goes_on_and_its_buffer_stays_until_it_is_complete() {
    let (sim, node, disk, faults) = calm_disk(7);
    let witness = Rc::new(());
    let buffer = || Witnessed(sectors_of(3, 4), Rc::clone(&witness));
    let never = disk.write(32 * SECTOR_BYTES, buffer());
    drop(never);
    assert_eq!(Rc::strong_count(&witness), 1, "what never began holds nothing");
    let (write, read) = (disk.write(0, buffer()), disk.read(SECTOR_BYTES, buffer()));
    let platform = node.clone();
    let given_up = async move {
        let deadline = platform.now() + STEP / 2;
        with_deadline(&platform, deadline, futures_util::future::join(write, read)).await.is_none()
    };
    assert!(run(&sim, &node, given_up));
    assert_eq!((Rc::strong_count(&witness), faults.in_flight()), (3, 2));
    sim.run_for(STEP).expect("within the limit");
    assert_eq!((Rc::strong_count(&witness), faults.in_flight()), (1, 0));
    assert_eq!(run(&sim, &node, get(disk, 0, 33)).expect("no faults")[..5], [3, 3, 3, 3, 0]);
    assert_eq!(faults.counts().writes, 1);
}

#[test]
fn a_paused_process_has_a_disk_that_goes_on() {
    let (sim, node, disk, faults) = calm_disk(8);
    let writer = disk.clone();
    node.spawn(async move { put(writer, 0, 1, 4).await.expect("no faults") });
    sim.run_for(STEP / 2).expect("within the limit");
    sim.faults().pause(&node);
    sim.run_for(STEP).expect("within the limit");
    assert_eq!((faults.counts().writes, faults.in_flight()), (1, 0));
}

#[test]
fn a_disk_draws_from_a_stream_of_its_own() {
    let times = |others: u64, rates: DiskFaultRates, armed: &[DiskFault]| {
        let sim = simulation(9, DiskOptions { faults: rates, ..DiskOptions::default() });
        let node = sim.node("node");
        for number in 0..others {
            let other = open(&node, &format!("other {number}"), DISK_BYTES);
            run(&sim, &node, put(other, 0, 1, 1)).expect("no faults that it sees");
        }
        let (disk, entropy) = (open(&node, "ssd", DISK_BYTES), node.entropy());
        armed.iter().for_each(|fault| sim.faults().disks()[others as usize].arm(*fault));
        let first = disk.clone();
        let _ =
            run(&sim, &node, async move { (first.write(0, sectors_of(2, 8)).await.0, first.flush().await) });
        let begin = sim.now();
        run(&sim, &node, put(disk, 0, 10, 1)).expect("no faults that it sees");
        (sim.now() - begin, entropy)
    };
    let none = DiskFaultRates::default();
    let lost = none.with(DiskFault::LostWrite, 1_000_000).with(DiskFault::Rot, 1_000_000);
    assert_eq!(times(0, none, &[]), times(3, none, &[]));
    let failing = [DiskFault::FailedWrite, DiskFault::FailedFlush];
    for (rates, armed) in [(lost, &[][..]), (none, &failing[..])] {
        assert_eq!(times(0, none, &[]), times(0, rates, armed), "faults do not shift what is normal");
    }
}
