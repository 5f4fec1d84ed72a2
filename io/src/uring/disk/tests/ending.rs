//! How operations end whose futures, disks and cores end before them.

use super::*;
use crate::disk::conformance::Witnessed;
use crate::disk::{DiskSource, DiskTarget};
use futures_util::FutureExt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A buffer that counts when it is dropped, for who looks from outside of the core.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: a vector's bytes stay where they are, and are its alone.
unsafe impl DiskSource for Counted {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

// SAFETY: as above.
unsafe impl DiskTarget for Counted {
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[test]
fn the_lock_is_held_until_the_last_operation_has_ended() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, &path);
        for sector in 0..50 {
            let write = disk.write(sector * SECTOR_BYTES, bytes_of(1, sector, 1));
            assert!(write.now_or_never().is_none());
        }
        drop(disk);
        let busy = error_of(platform.open_disk(&DiskPlace::existing(&path)));
        assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
        let disk = loop {
            match platform.open_disk(&DiskPlace::existing(&path)) {
                Ok(disk) => break disk,
                Err(error) => assert_eq!(error.kind(), ErrorKind::ResourceBusy),
            }
            platform.sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(get(&disk, 0, 50).await.expect("no faults"), [1; 50]);
    });
}

#[test]
fn a_core_that_ends_waits_for_its_operations() {
    let folder = folder();
    let dropped = Arc::new(AtomicUsize::new(0));
    let (path, counter) = (folder.path().join("disk"), dropped.clone());
    on_core(async move |platform| {
        let disk = open(&platform, &path);
        for sector in 0..700 {
            let buffer = Counted(bytes_of(1, sector, 1), counter.clone());
            assert!(disk.write(sector * SECTOR_BYTES, buffer).now_or_never().is_none());
        }
        // A task that still waits, and is dropped with the core.
        platform.spawn(async move {
            let buffer = Counted(bytes_of(2, 800, 200), counter);
            disk.write(800 * SECTOR_BYTES, buffer).await.0.expect("no faults");
            // The executor forgets such a task, with all it has.
            std::future::pending::<()>().await;
            drop(disk);
        });
        // So that it begins.
        platform.sleep(Duration::from_micros(1)).await;
    });
    assert_eq!(dropped.load(Ordering::Relaxed), 701);
    on_core(async move |platform| {
        let disk = open(&platform, folder.path().join("disk"));
        assert_eq!(get(&disk, 0, 700).await.expect("no faults"), [1; 700]);
        assert_eq!(get(&disk, 800, 200).await.expect("no faults"), [2; 200]);
    });
}

#[test]
fn a_disk_of_a_core_that_has_ended_is_of_no_use() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, &path);
        put(&disk, 1, 0, 4).await.expect("no faults");
        platform.inner.disks.finish();
        let nodev = Some(rustix::io::Errno::NODEV.raw_os_error());
        assert_eq!(put(&disk, 2, 0, 4).await.expect_err("no use").raw_os_error(), nodev);
        assert_eq!(disk.flush().await.expect_err("no use").raw_os_error(), nodev);
        assert_eq!(error_of(platform.open_disk(&DiskPlace::existing(&path))).raw_os_error(), nodev);
    });
}

#[test]
fn what_does_not_end_in_time_is_left_and_keeps_its_buffer() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, &path);
        if !disk.is_direct() {
            return println!("skipped: the disk answers at once");
        }
        let (ring, witness) = (disk.opened.ring.clone(), Rc::new(()));
        for _ in 0..100 {
            let buffer = Witnessed(bytes_of(1, 0, SECTORS), witness.clone());
            assert!(disk.write(0, buffer).now_or_never().is_none());
        }
        let left = ring.finish(Duration::ZERO);
        assert!(left > 0, "400 MiB are not written at once");
        assert!(Rc::strong_count(&witness) > left, "none that is in flight is freed");
        assert_eq!(ring.finish(Duration::from_secs(60)), 0);
        assert_eq!(Rc::strong_count(&witness), 1);
    });
}

#[test]
fn a_future_may_be_dropped_in_each_state() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let disk = open(&platform, &path);
        let (ring, witness) = (disk.opened.ring.clone(), Rc::new(()));
        let begin = || {
            let buffer = Witnessed(bytes_of(1, 0, SECTORS), witness.clone());
            let mut write = Box::pin(disk.write(0, buffer));
            assert!(write.as_mut().now_or_never().is_none());
            write
        };
        // Queued: nobody else has run since.
        drop(begin());
        assert_eq!((ring.in_kernel().0, ring.in_flight(), Rc::strong_count(&witness)), (0, 1, 2));
        // In the kernel.
        let second = begin();
        ring.turn();
        if disk.is_direct() {
            assert!(ring.in_kernel().0 > 0, "that much is not written at once");
        }
        drop(second);
        assert_eq!(Rc::strong_count(&witness) - 1, ring.in_flight());
        // Done, and not taken.
        let third = begin();
        while ring.in_flight() > 0 {
            platform.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(Rc::strong_count(&witness), 2, "only the one whose result may still be taken");
        drop(third);
        assert_eq!(Rc::strong_count(&witness), 1);
        // It may have been short, if the memory had to be copied.
        assert_eq!(get(&disk, 0, 100).await.expect("no faults"), [1; 100]);
    });
}

#[test]
fn a_ring_ends_with_its_last_handle() {
    let folder = folder();
    let path = folder.path().join("disk");
    on_core(async move |platform| {
        let ring = {
            let rings = CoreRing::default();
            let shared = &platform.inner.shared;
            let disk = rings.open_disk(&DiskPlace::sized(&path, BYTES), shared).expect("nobody has it");
            put(&disk, 1, 0, 4).await.expect("no faults");
            Rc::downgrade(&disk.opened.ring)
        };
        assert!(ring.upgrade().is_none(), "the driver does not keep it");
        platform.sleep(Duration::from_millis(5)).await;
        assert_eq!(get(&open(&platform, &path), 0, 4).await.expect("no faults"), [1; 4]);
    });
}
