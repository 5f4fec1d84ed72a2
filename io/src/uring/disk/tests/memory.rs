//! Memory that is registered, and memory that is not.

use super::*;
use crate::disk::{DiskMemory, ReservationPart};
use crate::memory::Segment;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// Reads into a segment; returns how many of the operations used registered memory.
async fn read_into(disk: &UringDisk, segment: &Segment) -> u64 {
    let before = disk.ring_counts().of_registered_memory;
    let part = ReservationPart::new(segment.reserve(16 * SECTOR).expect("room"), 0..16 * SECTOR);
    let (read, part) = disk.read_exact_at(5 * SECTOR_BYTES, part).await;
    read.expect("no faults");
    assert!(part.into_reservation().value() == bytes_of(1, 5, 16));
    disk.ring_counts().of_registered_memory - before
}

fn segment(bytes: usize) -> Segment {
    Segment::new(0, crate::memory::Mapping::plain(bytes).expect("memory"))
}

#[test]
fn registered_memory_is_used_as_long_as_it_is_registered() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, &path);
        put(&disk, 1, 0, SECTORS).await.expect("no faults");
        let (one, other) = (segment(8 << 20), segment(8 << 20));
        assert_eq!(read_into(&disk, &one).await, 0);
        let registered = [disk.register(one.mapping()), disk.register(other.mapping())];
        assert!(registered.iter().all(DiskMemory::is_registered));
        assert_eq!((read_into(&disk, &one).await, read_into(&disk, &other).await), (1, 1));
        assert!(get(&disk, 0, 9).await.is_ok_and(|seen| seen == [1; 9]), "other memory beside it");
        let [first, second] = registered;
        let clone = second.clone();
        drop((first, second));
        assert_eq!((read_into(&disk, &one).await, read_into(&disk, &other).await), (0, 1));
        // Its pages go: those that are registered are no longer those at its addresses.
        other.mapping().empty().expect("a memfd");
        assert_eq!(read_into(&disk, &other).await, 0);
        drop(clone);
        let again = disk.register(other.mapping());
        assert_eq!(read_into(&disk, &other).await, 1);
        drop(other);
        // Whatever is mapped there next is read properly.
        for _ in 0..4 {
            assert_eq!(read_into(&disk, &segment(8 << 20)).await, 0);
        }
        drop(again);
    });
}

#[test]
fn more_than_a_gib_is_registered_in_pieces() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, &path);
        put(&disk, 1, 0, SECTORS).await.expect("no faults");
        // The kernel fills what it is given: a little more than one piece.
        let large = segment((1 << 30) + (2 << 20));
        let registered = disk.register(large.mapping());
        assert!(registered.is_registered());
        assert_eq!(read_into(&disk, &large).await, 1);
        let most = large.reserve((1 << 30) - (1 << 20)).expect("room");
        let around = ReservationPart::new(large.reserve(2 << 20).expect("room"), 0..2 << 20);
        let before = disk.ring_counts().of_registered_memory;
        let (read, around) = disk.read_exact_at(0, around).await;
        read.expect("no faults");
        assert_eq!(around.into_reservation().value(), bytes_of(1, 0, 512));
        let _ = (disk.ring_counts().of_registered_memory - before, most);
    });
}

#[test]
fn a_table_that_is_full_refuses_and_nothing_else_happens() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, &path);
        put(&disk, 1, 0, SECTORS).await.expect("no faults");
        let segment = segment(1 << 20);
        let all: Vec<DiskMemory> = (0..1_030).map(|_| disk.register(segment.mapping())).collect();
        assert_eq!(all.iter().filter(|memory| memory.is_registered()).count(), 1_024);
        assert_eq!(read_into(&disk, &segment).await, 1);
        drop(all);
        assert!(disk.register(segment.mapping()).is_registered(), "there is room again");
        assert_eq!(read_into(&disk, &segment).await, 0);
    });
}

#[test]
fn a_limit_of_locked_memory_is_no_failure() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        // The limit concerns who may not lock memory at will.
        let none = CapabilitySet::empty();
        let given_up =
            set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none });
        if given_up.is_err() {
            return println!("skipped: capabilities cannot be given up");
        }
        let before = getrlimit(Resource::Memlock);
        // Of the whole process, hence not below what other tests need.
        setrlimit(Resource::Memlock, Rlimit { current: Some(2 << 20), ..before }).expect("it is lowered");
        let disk = open(&platform, &path);
        put(&disk, 1, 0, SECTORS).await.expect("no faults");
        let (large, small) = (segment(16 << 20), segment(1 << 20));
        let (refused, registered) = (disk.register(large.mapping()), disk.register(small.mapping()));
        setrlimit(Resource::Memlock, before).expect("as it was");
        assert!(!refused.is_registered() && registered.is_registered());
        assert_eq!((read_into(&disk, &large).await, read_into(&disk, &small).await), (0, 1));
    });
}
