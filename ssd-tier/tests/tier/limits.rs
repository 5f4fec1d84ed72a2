//! What is small, large, many or given up.

use std::cell::RefCell;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use snowskin_io::SplitMix;
use snowskin_io::disk::DiskBuffers;
use snowskin_protocol::limits::KEY_BYTES_MAX;
use snowskin_protocol::{NameRef, ObjectName, Version};
use snowskin_ssd_tier::{Fate, Keeper, RecordAddress, TierError, Trim, Value, Volume, VolumeOptions};

use crate::keeper::{Core, facts_of, name_of};
use crate::paper::{Image, PaperDisk, PaperPlatform, Plan, SECTOR};
use crate::{Lives, PaperCore, disk_bytes, on_paper, options};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Polls once.
fn begins<T>(future: &mut (impl Future<Output = T> + Unpin)) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(pin!(future).poll(&mut context), Poll::Pending));
}

#[test]
fn a_volume_of_two_regions_goes_round() {
    let mut lives = Lives::new(6, 2);
    lives.live_calmly(|core| async move {
        for key in 0..40 {
            core.put_by_force(key, 100).await.expect("there is room in the end");
            core.commit_by_force().await.expect("and for a commit");
        }
    });
    let found = lives.live_calmly(|core| async move { core.read_all().await.expect("whole") });
    assert!((1..=8).contains(&found), "{found}");
}

#[test]
fn more_tombstones_than_a_region_takes_are_written_in_several() {
    for region_sectors in [4, 6, 20] {
        let mut lives = Lives::new(region_sectors, 40);
        lives.live_calmly(move |core| async move {
            for key in 0..4 {
                core.put_by_force(key, 10).await.expect("room");
            }
            core.commit().await.expect("room");
            for key in 0..4 {
                core.bury(key);
            }
            // Names that were never here are buried as well as others.
            for key in 100..400 {
                core.volume.bury(name_of(key).as_ref(), snowskin_protocol::Version(1));
            }
            core.commit_by_force().await.expect("in several records");
            assert_eq!(core.volume.counters().tombstones_written.get(), 304);
        });
        assert_eq!(lives.live_calmly(|core| async move { core.read_all().await.expect("whole") }), 0);
    }
}

#[test]
fn a_commit_without_room_for_tombstones_says_so_and_keeps_them() {
    let mut lives = Lives::new(4, 4);
    lives.live_calmly(|core| async move {
        // One record fills a region, and the last one is for reclaim.
        for key in 0..3 {
            core.put(key, 10).await.expect("room");
        }
        assert!(matches!(core.put(3, 10).await, Err(TierError::Full)));
        core.bury(0);
        core.commit().await.expect("the last one is for tombstones, too");
        core.bury(1);
        assert!(matches!(core.commit().await, Err(TierError::Full)));
        assert!(!core.volume.is_ended());
        core.platform_sleep(MILLISECOND).await;
        assert!(core.reclaim().await.expect("no faults").is_some());
        core.commit().await.expect("now there is");
        assert_eq!(core.volume.counters().tombstones_written.get(), 2);
    });
    assert_eq!(lives.live_calmly(|core| async move { core.read_all().await.expect("whole") }), 1);
}

#[test]
fn a_large_index_and_a_large_value_are_read_with_little_memory() {
    let (region_sectors, regions) = (4_096, 3);
    let small = VolumeOptions { buffers_bytes: 0, ..options(region_sectors) };
    let mut lives = Lives::new(region_sectors, regions);
    lives.live_calmly(|core| async move {
        // A region of many small records, closed, and one that is not, with a value larger than all memory.
        for key in 0..3_000 {
            core.put(key, 1).await.expect("room");
        }
        core.put(5_000, 5 << 20).await.expect("room");
        core.put(5_001, 3 << 20).await.expect("room");
        core.put(5_002, (2 << 20) + 77).await.expect("room");
        core.put(5_003, 100).await.expect("room");
        core.commit().await.expect("no faults");
    });
    let (disk, model) = (lives.disk(Plan::Calm), lives.model.clone());
    let found = on_paper(&disk, |platform, disk| async move {
        let opened = Core::open(platform, disk, small, model).await;
        let (core, recovered) = opened.expect("memory enough");
        assert_eq!((recovered.regions, recovered.regions_scanned), (2, 1));
        core.read_all().await.expect("whole")
    });
    assert_eq!(found, Some(3_004));
}

#[test]
fn a_region_without_a_footer_is_read_in_large_pieces() {
    let mut lives = Lives::new(2_048, 3);
    lives.live_calmly(|core| async move {
        for key in 0..1_000 {
            core.put(key, 5_000).await.expect("room");
        }
        core.commit().await.expect("no faults");
    });
    let (disk, _) = lives.live(Plan::Calm, |core| async move { drop(core) });
    let (reads, bytes) = disk.reads();
    let region_bytes = 2_048 * SECTOR as u64;
    assert!(reads < 150 && bytes < 2 * region_bytes, "{reads} reads, {bytes} bytes");
}

#[test]
fn a_read_keeps_its_region_from_being_used_again() {
    let mut lives = Lives::new(4, 4);
    lives.live_calmly(|core: PaperCore| async move {
        for key in 0..3 {
            core.put(key, 10).await.expect("room");
        }
        core.platform_sleep(MILLISECOND).await;
        let free = core.volume.usage().free_regions;
        let mut read = Box::pin(core.read(0));
        begins(&mut read);
        let mut reclaim = Box::pin(core.reclaim());
        for _ in 0..100 {
            begins(&mut reclaim);
            core.platform_sleep(MILLISECOND).await;
        }
        assert_eq!(core.volume.usage().free_regions, free);
        assert!(read.await.expect("it is still there"));
        assert!(reclaim.await.expect("no faults").is_some());
        assert_eq!(core.volume.usage().free_regions, free + 1);
    });
}

#[test]
fn a_write_that_is_given_up_takes_its_region_with_it() {
    let mut lives = Lives::new(4, 5);
    lives.live_calmly(|core: PaperCore| async move {
        let pending = core.begin(0, 10).expect("room");
        let mut finish = Box::pin(core.finish(pending));
        begins(&mut finish);
        drop(finish);
        // Never begun: nothing is lost but the place.
        drop(core.begin(1, 10).expect("room"));
        for key in 2..4 {
            core.put(key, 10).await.expect("room");
        }
        core.platform_sleep(MILLISECOND).await;
        let free = core.volume.usage().free_regions;
        for freed in [0, 1] {
            assert!(core.reclaim().await.expect("no faults").is_some());
            assert_eq!(core.volume.usage().free_regions, free + freed);
        }
        assert_eq!(core.volume.writes_under_way(), 0);
    });
}

#[test]
fn who_gives_up_waiting_for_a_commit_does_not_stop_it() {
    let mut lives = Lives::new(8, 4);
    lives.live_calmly(|core: PaperCore| async move {
        core.put(0, 10).await.expect("room");
        core.bury(0);
        let mut commit = Box::pin(core.volume.commit());
        begins(&mut commit);
        drop(commit);
        let mut flights = Vec::new();
        for _ in 0..10 {
            flights.push(Box::pin(core.commit()));
            begins(flights.last_mut().expect("pushed"));
        }
        for commit in flights {
            commit.await.expect("no faults");
        }
        assert_eq!(core.volume.counters().tombstones_written.get(), 1);
    });
}

#[test]
fn live_bytes_do_not_go_below_nothing() {
    let mut lives = Lives::new(8, 4);
    lives.live_calmly(|core: PaperCore| async move {
        let pending = core.begin(0, 10).expect("room");
        core.volume.release(pending.address(), 100, 5_000);
        drop(pending);
        core.put(1, 10).await.expect("room");
        assert_eq!(core.volume.usage().live_bytes, SECTOR as u64);
    });
}

#[test]
fn bytes_of_no_meaning_are_opened_or_refused() {
    let lives = Lives::new(8, 4);
    let random = SplitMix::new(3);
    for _ in 0..200 {
        let mut image = lives.image.clone();
        for sector in 256..256 + 32 {
            let mut bytes: Vec<u8> =
                std::iter::repeat_with(|| random.draw().to_le_bytes()).take(SECTOR / 8).flatten().collect();
            let magic = [&b"SNOWRCRD"[..], b"SNOWFOOT", b"SNOWREGN", b""][random.draw() as usize % 4];
            bytes[..magic.len()].copy_from_slice(magic);
            bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
            image.insert(sector, bytes.into());
        }
        let disk = PaperDisk::new(disk_bytes(8, 4), image, Plan::Calm);
        let model = lives.model.clone();
        on_paper(&disk, |platform, disk| async move {
            let (core, recovered) = Core::open(platform, disk, options(8), model).await.expect("it opens");
            assert_eq!(recovered.objects, []);
            core.put(1, 100).await.expect("room");
        });
    }
}

#[test]
fn a_record_that_is_wanted_moves_and_one_that_is_not_is_forgotten() {
    let mut lives = Lives::new(8, 4);
    lives.live_calmly(|core: PaperCore| async move {
        for key in 0..12 {
            core.put_by_force(key, 10).await.expect("room");
        }
        core.keep_percent.set(100);
        core.commit().await.expect("no faults");
        core.platform_sleep(MILLISECOND).await;
        let before = core.rows.borrow().clone();
        let reclaimed = core.reclaim().await.expect("no faults").expect("a region");
        assert!(reclaimed.reinserted > 0 && reclaimed.forgotten == 0, "{reclaimed:?} {:?}", Fate::Keep);
        assert_eq!(core.rows.borrow().len(), before.len());
        core.read_all().await.expect("whole");
    });
    lives.live_calmly(|core| async move { core.read_all().await.expect("whole") });
}

#[test]
fn a_volume_with_one_damaged_superblock_and_one_that_is_gone_is_still_seen() {
    let lives = Lives::new(8, 4);
    let is_on = |image| {
        let disk = PaperDisk::new(disk_bytes(8, 4), image, Plan::Calm);
        let seen = on_paper(&disk, |_, disk| async move { Volume::<PaperPlatform>::is_on(&disk).await });
        seen.expect("it ends").expect("no faults")
    };
    let mut image = lives.image.clone();
    assert!(is_on(image.clone()));
    image.remove(&0);
    let mut damaged = image[&1].to_vec();
    damaged[50] ^= 1;
    image.insert(1, damaged.into());
    assert!(is_on(image.clone()));
    image.remove(&1);
    assert!(!is_on(image));
}

#[test]
fn a_disk_that_takes_no_discards_is_asked_once_and_a_file_never() {
    for (trim, asked) in [(Trim::On, 1), (Trim::Auto, 0), (Trim::Off, 0)] {
        let lives = Lives::new(8, 4);
        let (disk, model) = (lives.disk(Plan::Calm), lives.model.clone());
        let reclaimed = on_paper(&disk, move |platform, disk| async move {
            let options = VolumeOptions { trim, ..options(8) };
            let (core, _) = Core::open(platform, disk, options, model).await.expect("it opens");
            for key in 0..60 {
                core.put_by_force(key, 100).await.expect("room");
            }
            assert_eq!(core.volume.counters().bytes_discarded.get(), 0);
            core.volume.counters().regions_reclaimed.get()
        });
        assert!(reclaimed.expect("it ends") > 5);
        assert_eq!(disk.discards(), asked, "{trim}");
        assert_eq!(trim.to_string().parse(), Ok(trim));
    }
    assert!("maybe".parse::<Trim>().expect_err("no choice").contains("write auto, on or off"));
}

#[test]
fn a_read_that_the_system_has_no_memory_for_says_nothing_of_the_record() {
    let lives = Lives::new(10, 4);
    let disk = lives.disk(Plan::Calm);
    let model = lives.model.clone();
    let read = on_paper(&disk, move |platform, disk| async move {
        let core = Core::format(platform, disk.clone(), options(10), model).await.expect("a volume");
        core.put(1, 2 * SECTOR + 5).await.expect("room");
        for passing in
            [ErrorKind::OutOfMemory, ErrorKind::WouldBlock, ErrorKind::Interrupted, ErrorKind::ResourceBusy]
        {
            disk.refuse_a_read(passing);
            assert!(matches!(core.read(1).await, Err(TierError::Busy)), "{passing}");
            assert!(core.read(1).await.expect("it is there"));
        }
        // What the device says it will say again.
        disk.refuse_a_read(ErrorKind::NotFound);
        assert!(matches!(core.read(1).await, Err(TierError::Disk(_))));
        core.volume.counters().reads_failed.get()
    });
    assert_eq!(read, Some(5));
}

/// Keeps nothing, and takes down what is durable when a record is about to go.
struct Leaving<'d> {
    core: &'d PaperCore,
    disk: &'d PaperDisk,
    then: RefCell<Option<Image>>,
    /// Whether records would last, each time that their fate was asked.
    lasting: RefCell<Vec<bool>>,
}

impl Keeper for Leaving<'_> {
    fn fate(&self, _: NameRef<'_>, _: Version, address: RecordAddress) -> Fate {
        self.lasting.borrow_mut().push(self.core.volume.lasts(address));
        Fate::Forget
    }

    fn forget(&self, _: NameRef<'_>, _: Version, _: RecordAddress) {
        self.then.borrow_mut().get_or_insert_with(|| self.disk.remains().0);
    }

    fn lost(&self, _: NameRef<'_>, _: Version, _: RecordAddress) {
        panic!("nothing is damaged");
    }

    fn moved(&self, _: NameRef<'_>, _: Version, _: RecordAddress, _: RecordAddress) -> bool {
        panic!("nothing is kept");
    }
}

/// Who is asked for such a record must not say that it is durable: it is in no next life.
#[test]
fn a_record_of_a_region_that_is_being_reclaimed_can_be_read_and_does_not_last() {
    let disk = PaperDisk::new(disk_bytes(4, 4), Image::default(), Plan::Calm);
    let image = on_paper(&disk, move |platform, disk| async move {
        let core =
            Core::format(platform, disk.clone(), options(4), Default::default()).await.expect("a volume");
        for key in 0..2 {
            core.put(key, 10).await.expect("one record fills a region");
        }
        core.commit().await.expect("no faults");
        core.platform_sleep(MILLISECOND).await;
        let addresses: Vec<RecordAddress> =
            core.rows.borrow().values().filter_map(|row| row.address).collect();
        assert!(addresses.iter().all(|address| core.volume.lasts(*address)));
        let (then, lasting) = Default::default();
        let leaving = Leaving { core: &core, disk: &disk, then, lasting };
        let reclaimed = core.volume.reclaim(&leaving).await.expect("no faults").expect("the first");
        assert_eq!(reclaimed.forgotten, 1);
        assert_eq!(leaving.lasting.take(), [true, false], "before there is a new floor, and then");
        assert!(core.volume.lasts(addresses[1]));
        leaving.then.take().expect("it has gone")
    });
    // The power fails at that moment.
    let disk = PaperDisk::new(disk_bytes(4, 4), image.expect("nothing stops it"), Plan::Calm);
    let found = on_paper(&disk, |platform, disk| async move {
        let (_, recovered) = Volume::open(platform, disk, &options(4)).await.expect("it is whole");
        recovered.objects.into_iter().map(|found| found.name).collect::<Vec<_>>()
    });
    assert_eq!(found, Some(vec![name_of(1)]));
}

#[test]
fn the_largest_value_has_room_under_any_name() {
    for region_sectors in [10, 11, 20] {
        let disk = PaperDisk::new(disk_bytes(region_sectors, 12), Image::default(), Plan::Calm);
        let wrote = on_paper(&disk, move |platform, disk| async move {
            let volume = Volume::format(platform, disk, &options(region_sectors)).await.expect("a volume");
            let longest = ObjectName::new("t", &[b'k'; KEY_BYTES_MAX]).expect("a name");
            let short = ObjectName::new("t", b"k").expect("a name");
            let largest = volume.value_bytes_max() as usize;
            let write = |name: &ObjectName, bytes: usize| {
                let facts = facts_of(1, 1, bytes);
                let (buffer, end) = (DiskBuffers::new(1 << 20).take(bytes / SECTOR * SECTOR), bytes % SECTOR);
                volume.begin(name.as_ref(), facts, Value::Buffer(buffer, vec![0; end])).map(drop)
            };
            for name in [&longest, &short] {
                for less in [0, 1, SECTOR - 1, SECTOR] {
                    write(name, largest - less).unwrap_or_else(|error| panic!("{less} less: {error}"));
                }
            }
            assert!(matches!(write(&longest, largest + SECTOR), Err(TierError::TooLarge(_))));
        });
        wrote.expect("nothing stops it");
    }
}
