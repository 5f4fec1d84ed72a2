//! The ring on real files: what every disk must do, then what is its own. How disks are opened is in `tests/opening.rs`,
//! how they end in `tests/ending.rs`, registered memory in `tests/memory.rs`.

mod ending;
mod memory;
mod opening;

use super::kernel::{Flavour, Kernel};
use super::slots::{Completed, Slots};
use super::*;
use crate::disk::SECTOR_BYTES;
use crate::disk::conformance::{self, BYTES, SECTOR, SECTORS, bytes_of, get, put};
use crate::platform::Platform;
use crate::uring::{UringPlatform, spawn_core};
use futures_util::future::join_all;
use quickcheck::Gen;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::task::Waker;
use std::time::Instant;
use tempfile::TempDir;

/// Runs on a core of its own, which looks for completions.
fn on_core<F: Future<Output = ()> + 'static>(main: impl FnOnce(UringPlatform) -> F + Send + 'static) {
    spawn_core("test", 0, Duration::from_micros(50), main).expect("a core").join().expect("the core ends");
}

/// Folders on all kinds of file systems that this machine offers anybody.
fn folders() -> Vec<TempDir> {
    let mut folders = vec![tempfile::tempdir().expect("a folder")];
    match tempfile::tempdir_in("/dev/shm") {
        Ok(folder) => folders.push(folder),
        Err(error) => println!("skipped on tmpfs: /dev/shm: {error}"),
    }
    folders
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(platform: &UringPlatform, path: impl AsRef<Path>) -> UringDisk {
    platform.open_disk(&DiskPlace::sized(path, BYTES)).expect("nobody else has it")
}

fn error_of(opened: io::Result<UringDisk>) -> io::Error {
    opened.err().expect("it cannot be opened")
}

#[test]
fn it_does_what_every_disk_must() {
    for folder in folders() {
        let path = folder.path().join("disk");
        on_core(async move |platform| {
            let disk = open(&platform, &path);
            println!(
                "{}: direct: {}, aligned to {}",
                path.display(),
                disk.is_direct(),
                disk.memory_alignment()
            );
            assert!(!disk.wants_discards(), "a file keeps its blocks");
            conformance::all(disk).await;
            assert_eq!(std::fs::metadata(&path).expect("it is there").len(), BYTES, "it does not grow");
        });
    }
}

#[test]
fn it_follows_the_model() {
    for folder in folders() {
        let path = folder.path().join("disk");
        on_core(async move |platform| {
            let disk = open(&platform, &path);
            let mut entropy = Gen::new(30);
            for _ in 0..30 {
                let script = quickcheck::Arbitrary::arbitrary(&mut entropy);
                let words = format!("{script:?}");
                assert!(conformance::follows_the_model(disk.clone(), script).await, "{words}");
            }
        });
    }
}

#[test]
fn a_core_without_spinning_completes_too() {
    let folder = folder();
    let path = folder.path().join("disk");
    let main = async move |platform: UringPlatform| conformance::all(open(&platform, path)).await;
    spawn_core("test", 0, Duration::ZERO, main).expect("a core").join().expect("the core ends");
}

#[test]
fn all_flavours_of_rings_do_it_and_few_slots_are_enough() {
    for flavour in Flavour::ALL {
        let folder = folder();
        let path = folder.path().join("disk");
        on_core(async move |platform| {
            let ring = Ring::of(Kernel::open_as(flavour, 4).expect("this kernel has them all"), 4);
            driver::start(&ring, &platform.inner.shared).expect("a driver");
            let opened = Opened::open(ring, &DiskPlace::sized(&path, BYTES)).expect("nobody else has it");
            conformance::all(UringDisk { opened }).await;
        });
    }
}

#[test]
fn what_the_kernel_has_not_begun_is_tried_again_and_then_told() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, &path);
        let (mut slots, context) = (Slots::default(), Context::from_waker(Waker::noop()));
        let again = -Errno::AGAIN.raw_os_error();
        for (tries, last, expected) in
            [(3, 4_096, Ok(4_096)), (16, again, Err(Some(-again))), (0, 5_000, Ok(4_096))]
        {
            let operation = Operation {
                disk: disk.opened.clone(),
                kind: Kind::Write,
                offset: 0,
                bytes: 8_192,
                start: ptr::null_mut(),
                bounce: None,
                parcel: Parcel::new(7_u8),
            };
            let index = slots.insert(operation, Waker::noop());
            for _ in 0..tries {
                slots.hand_over(index);
                assert!(matches!(slots.complete(index, again), Completed::Again));
                assert!(slots.poll(index, &context).is_pending());
            }
            slots.hand_over(index);
            assert!(matches!(slots.complete(index, last), Completed::Wake(Some(_))));
            let Poll::Ready(slot) = slots.poll(index, &context) else { panic!("it is done") };
            let (result, parcel) = slot.into_result();
            assert_eq!(result.map_err(|error| error.raw_os_error()), expected);
            assert_eq!(parcel.take::<u8>(), 7);
        }
    });
}

#[test]
fn a_table_of_files_that_is_refused_is_done_without() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let first = open(&platform, &path);
        // The kernel takes no ring in a ring's table.
        let stranger = io_uring::IoUring::new(1).expect("a ring");
        // SAFETY: it is open until `stranger` is dropped.
        let borrowed =
            unsafe { std::os::fd::BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(&stranger)) };
        assert_eq!(first.opened.ring.add_file(borrowed), None);
        let second = open(&platform, path.with_extension("2"));
        assert_eq!((first.opened.fixed, second.opened.fixed), (Some(0), None));
        drop(first);
        conformance::all(second).await;
    });
}

#[test]
fn several_disks_share_a_ring() {
    let folder = folder();
    let path = folder.path().to_owned();
    on_core(async move |platform| {
        // More than the kernel's table of files has room for.
        let disks: Vec<UringDisk> =
            (0..70).map(|number| open(&platform, path.join(number.to_string()))).collect();
        assert_eq!(disks.iter().filter(|disk| disk.opened.fixed.is_none()).count(), 6);
        let writes = disks.iter().zip(1..).map(|(disk, writing)| put(disk, writing, 3, 4));
        assert!(join_all(writes).await.into_iter().all(|written| written.is_ok()));
        for (disk, writing) in disks.iter().zip(1..) {
            assert_eq!(get(disk, 2, 6).await.expect("no faults"), [0, writing, writing, writing, writing, 0]);
        }
        drop(disks);
        // Their places are free again.
        assert!(open(&platform, path.join("another")).opened.fixed.is_some());
    });
}

#[test]
fn a_disk_that_answers_at_once_leaves_others_their_turn() {
    for folder in folders() {
        let path = folder.path().join("disk");
        on_core(async move |platform| {
            let disk = open(&platform, path);
            let reads = Rc::new(Cell::new(0_u64));
            let (reader, counter) = (disk.clone(), reads.clone());
            platform.spawn(async move {
                // Until the core ends.
                while get(&reader, counter.get() % SECTORS, 1).await.is_ok() {
                    counter.set(counter.get() + 1);
                }
            });
            let begun = Instant::now();
            for _ in 0..20 {
                platform.sleep(Duration::from_millis(5)).await;
            }
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(1), "20 sleeps of 5 ms took {took:?}");
            assert!(reads.get() > 100, "{} reads", reads.get());
        });
    }
}

#[test]
fn nothing_happens_while_nothing_is_in_flight() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, path);
        put(&disk, 1, 0, 100).await.expect("no faults");
        platform.sleep(Duration::from_millis(50)).await;
        let before = disk.ring_counts();
        platform.sleep(Duration::from_millis(200)).await;
        assert_eq!(disk.ring_counts(), before);
    });
}

#[test]
fn what_begins_together_is_handed_over_together() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, path);
        let before = disk.ring_counts();
        let reads =
            join_all((0..SECTORS).map(|sector| disk.read(sector * SECTOR_BYTES, vec![0; SECTOR]))).await;
        assert!(reads.into_iter().all(|(read, _)| read.is_ok_and(|bytes| bytes == SECTOR)));
        let after = disk.ring_counts();
        assert!(after.handed_over - before.handed_over >= SECTORS, "{after:?}");
        assert!(after.turns - before.turns < SECTORS / 2, "{after:?} after {before:?}");
    });
}
