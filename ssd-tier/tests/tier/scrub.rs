//! Scrubbing: whatever is damaged is found, nothing else is, and it stays gone.

use std::collections::BTreeSet;
use std::rc::Rc;

use snowskin_ssd_tier::format::record_bytes;
use snowskin_ssd_tier::{TierError, VolumeOptions};

use crate::keeper::{Core, key_of, name_of};
use crate::model::Key;
use crate::paper::{Image, PaperDisk, Part, Plan, SECTOR};
use crate::{BEFORE_REGIONS, Lives, PaperCore, disk_bytes, on_paper, options};

const REGION_SECTORS: u64 = 16;
const REGIONS: u64 = 6;

/// Values of one sector and of many, and a name that is buried, in regions that all have their footers.
fn filled() -> Lives {
    let mut lives = Lives::new(REGION_SECTORS, REGIONS);
    lives.live_calmly(|core| async move {
        for key in 0..12 {
            let bytes = [100, 3 * SECTOR + 50, 5 * SECTOR, 4_000][usize::from(key) % 4];
            core.put_by_force(key, bytes).await.expect("no faults");
        }
        core.bury(3);
        core.commit_by_force().await.expect("no faults");
    });
    // The next life completes the last region.
    lives.live_calmly(|_core| async {});
    lives
}

/// Looks at everything once. Answers the names whose records are damaged, and the bytes read.
pub(crate) async fn round(core: &PaperCore) -> (BTreeSet<Key>, u64) {
    let (mut scrub, mut damaged, mut bytes) = (core.volume.scrub(), BTreeSet::new(), 0);
    let mut begun = BTreeSet::new();
    while let Some(step) = scrub.step().await.expect("no faults") {
        if step.begun.is_some_and(|region| !begun.insert(region)) {
            break;
        }
        bytes += step.bytes;
        damaged.extend(step.damaged.map(|found| key_of(found.name.as_ref())));
    }
    (damaged, bytes)
}

/// Sectors of records that are there, with their names.
fn sectors_of_records(lives: &Lives) -> Vec<(Key, u64)> {
    let (disk, rows) = lives.live(Plan::Calm, |core| async move { core.rows.borrow().clone() });
    drop(disk);
    let mut sectors = Vec::new();
    for (key, row) in rows.expect("it ends") {
        let address = row.address.expect("written");
        let (head, body) = record_bytes(name_of(key).bytes().len(), row.facts.value_bytes);
        let first = (BEFORE_REGIONS + u64::from(address.offset)) / SECTOR as u64
            + u64::from(address.region) * REGION_SECTORS;
        sectors.extend((first..first + (head + body) / SECTOR as u64).map(|sector| (key, sector)));
    }
    sectors
}

fn damage(image: &mut Image, sector: u64, at: usize) {
    let mut bytes = image[&sector].to_vec();
    bytes[at] ^= 0x10;
    image.insert(sector, bytes.into());
}

#[test]
fn a_whole_volume_is_read_and_nothing_is_damaged() {
    let mut lives = filled();
    lives.live_calmly(|core| async move {
        let (damaged, bytes) = round(&core).await;
        assert!(damaged.is_empty(), "{damaged:?}");
        assert!(core.volume.counters().bytes_scrubbed.get() >= bytes);
        assert!(bytes > core.volume.usage().live_bytes, "{bytes}");
        assert_eq!(core.volume.counters().records_damaged.get(), 0);
        assert!(core.volume.is_idle());
    });
}

#[test]
fn every_damaged_sector_of_a_value_is_found_and_its_name_stays_gone() {
    let lives = filled();
    let sectors = sectors_of_records(&lives);
    let names = sectors.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len();
    for (number, (key, sector)) in sectors.into_iter().enumerate() {
        let mut hurt = Lives { image: lives.image.clone(), model: lives.model.clone(), ..filled() };
        damage(&mut hurt.image, sector, [0, 40, 8, 60][number % 4]);
        let found = hurt.live_calmly_any(|core| async move {
            let (damaged, _) = round(&core).await;
            for key in &damaged {
                core.bury(*key);
            }
            core.commit_by_force().await.expect("no faults");
            damaged
        });
        assert_eq!(found, [key].into(), "sector {sector}");
        let rows = hurt.live_calmly_any(|core| async move { core.rows.borrow().len() });
        assert_eq!(rows, names - 1);
    }
}

#[test]
fn an_index_that_is_damaged_is_written_anew() {
    let lives = filled();
    let footers: Vec<u64> = lives
        .image
        .iter()
        .filter(|(_, bytes)| bytes.starts_with(b"SNOWFOOT"))
        .map(|(sector, _)| *sector)
        .collect();
    assert!(footers.len() >= 3, "{footers:?}");
    for footer in footers {
        let mut image = lives.image.clone();
        damage(&mut image, footer, 60);
        let disk = PaperDisk::new(disk_bytes(REGION_SECTORS, REGIONS), image, Plan::Calm);
        let (handle, good, model) = (disk.clone(), lives.image[&footer].clone(), Rc::default());
        on_paper(&disk, move |platform, disk| async move {
            // The mount mends it; so it is damaged once more while it is used.
            let opened = Core::open_any(platform, disk, options(REGION_SECTORS), model).await;
            let (core, recovered) = opened.expect("it opens");
            assert_eq!(recovered.regions_scanned, 1);
            assert!(handle.image()[&footer] == good, "the same index");
            handle.spoil(footer, 60);
            assert!(round(&core).await.0.is_empty());
            assert_eq!(core.volume.counters().structures_damaged.get(), 2);
            assert!(handle.image()[&footer] == good, "and again");
        });
    }
}

#[test]
fn a_sector_that_cannot_be_read_is_damage() {
    let lives = filled();
    let (opened, _) = lives.live(Plan::Calm, |_core| async {});
    let mut found = 0;
    for number in opened.operations()..opened.operations() + 40 {
        let (_, damaged) = lives.live(Plan::Fails(number, Part::Nothing), |core| async move {
            let (damaged, _) = round(&core).await;
            (damaged.len(), core.volume.counters().structures_damaged.get())
        });
        let (records, indexes) = damaged.expect("it ends");
        assert!(records as u64 + indexes <= 1, "operation {number}");
        found += records;
    }
    assert!(found > 10, "{found}");
}

#[test]
fn a_region_that_is_reclaimed_meanwhile_is_left() {
    let mut lives = filled();
    lives.live_calmly(|core| async move {
        let mut scrub = core.volume.scrub();
        for key in 0..200 {
            scrub.step().await.expect("no faults");
            core.put_by_force(key % 30 + 40, 2 * SECTOR + usize::from(key)).await.expect("room");
            let step = scrub.step().await.expect("no faults").expect("there are regions");
            assert_eq!(step.damaged, None);
        }
        assert!(core.volume.counters().regions_reclaimed.get() > 20);
    });
}

#[test]
fn what_was_not_looked_at_for_longest_is_next_and_lives_begin_in_different_places() {
    let mut lives = Lives::new(REGION_SECTORS, 40);
    lives.live_calmly(|core| async move {
        for key in 0..100 {
            core.put_by_force(key, 3 * SECTOR).await.expect("room");
        }
        core.commit().await.expect("no faults");
    });
    let mut firsts = BTreeSet::new();
    for _ in 0..12 {
        let regions = lives.live_calmly(|core| async move {
            let (mut scrub, mut order) = (core.volume.scrub(), Vec::new());
            while order.len() < 90 {
                order.extend(scrub.step().await.expect("no faults").and_then(|step| step.begun));
            }
            order
        });
        let period = regions[1..].iter().position(|region| *region == regions[0]).expect("again") + 1;
        let distinct: BTreeSet<u32> = regions[..period].iter().copied().collect();
        assert_eq!(distinct.len(), period, "all others first: {regions:?}");
        assert!(period >= 25, "{regions:?}");
        assert!(regions.iter().zip(&regions[period..]).all(|(a, b)| a == b), "{regions:?}");
        firsts.insert(regions[0]);
    }
    assert!(firsts.len() > 6, "{firsts:?}");
}

#[test]
fn without_buffers_it_waits() {
    let mut lives = Lives::new(64, 20);
    lives.live_calmly(|core| async move {
        for key in 0..40 {
            core.put_by_force(key, 5 * SECTOR).await.expect("room");
        }
    });
    let disk = lives.disk(Plan::Calm);
    let (model, few) = (lives.model.clone(), VolumeOptions { buffers_bytes: 0, ..options(64) });
    let waited = on_paper(&disk, move |platform, disk| async move {
        let (core, _) = Core::open(platform, disk, few, model).await.expect("it opens");
        let mut scrub = core.volume.scrub();
        let mut begun = Vec::new();
        // The heads of records take all there is.
        while begun.len() < 1_000 {
            match core.begin(begun.len() as Key + 100, 10) {
                Ok(pending) => begun.push(pending),
                Err(TierError::Busy) => break,
                Err(error) => panic!("{error} after {}", begun.len()),
            }
        }
        let step = scrub.step().await;
        assert!(matches!(step, Err(TierError::Busy)), "{step:?} after {}", begun.len());
        for pending in begun {
            core.finish(pending).await.expect("no faults");
        }
        assert!(round(&core).await.0.is_empty());
        true
    });
    assert_eq!(waited, Some(true));
}
