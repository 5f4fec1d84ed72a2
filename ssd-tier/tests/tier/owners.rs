//! Whose records count: whoever owned the volume, until another one does; never anybody else, and nothing is lost by it.

use super::keeper::Core;
use super::paper::{Image, PaperDisk, Plan};
use super::{Lives, disk_bytes, on_paper, options};
use snowskin_protocol::{CoreId, EngineId, Incarnation};
use snowskin_ssd_tier::format::Owner;
use std::time::Duration;

const SECTORS: u64 = 4;
const REGIONS: u64 = 6;

fn owner(life: u64) -> Owner {
    let core = CoreId { engine: EngineId(9), core: 2 };
    Owner { core, incarnation: Incarnation(life), since_unix_ms: life }
}

/// Who owns what is in the image, and how much of it there is; opening it must not change that.
fn found(image: Image, lives: &Lives) -> (Owner, u64) {
    let disk = PaperDisk::new(disk_bytes(SECTORS, REGIONS), image, Plan::Calm);
    let (model, options) = (lives.model.clone(), options(SECTORS));
    let look = |platform, disk| async move {
        let (core, _) = Core::open(platform, disk, options, model).await.expect("it opens");
        (core.volume.owner(), core.read_all().await.expect("no faults"))
    };
    let first = on_paper(&disk, look).expect("nothing stops it");
    let (model, options) = (lives.model.clone(), super::options(SECTORS));
    let again = on_paper(
        &PaperDisk::new(disk_bytes(SECTORS, REGIONS), disk.image(), Plan::Calm),
        |platform, disk| async move {
            Core::open(platform, disk, options, model).await.expect("it opens").0.volume.owner()
        },
    );
    assert_eq!(again, Some(first.0));
    first
}

#[test]
fn a_volume_has_its_old_owner_or_its_new_one_wherever_the_disk_stops() {
    let mut lives = Lives::new(SECTORS, REGIONS);
    lives.live_calmly(|core| async move {
        core.volume.own(owner(1)).await.expect("no faults");
        core.put(1, 10).await.expect("room");
        core.put(2, 10).await.expect("room");
        core.commit().await.expect("no faults");
    });
    assert_eq!(found(lives.image.clone(), &lives), (owner(1), 2));
    let mut owners = Vec::new();
    for stop in 0.. {
        let (disk, done) = lives.live(Plan::Before(stop), |core| async move {
            core.volume.own(owner(2)).await.expect("no faults");
            assert_eq!(core.volume.owner(), owner(2));
        });
        // What was flushed is there; what was not may be.
        let (flushed, unflushed) = disk.remains();
        for image in [flushed, disk.image()] {
            let (by, objects) = found(image, &lives);
            assert!(objects == 2 && [owner(1), owner(2)].contains(&by), "stopped before {stop}: {by:?}");
            assert!(done.is_none() || (by == owner(2) && unflushed.is_empty()));
            owners.push(by);
        }
        if done.is_some() {
            break;
        }
    }
    assert!(owners.contains(&owner(1)) && owners.contains(&owner(2)));
}

/// Both write superblocks: neither a floor nor an owner may be lost.
#[test]
fn an_owner_and_a_floor_do_not_overwrite_each_other() {
    let mut lives = Lives::new(SECTORS, REGIONS);
    lives.live_calmly(|core| async move {
        for key in 0..5 {
            core.put(key, 10).await.expect("room");
        }
        core.commit().await.expect("no faults");
        // Full regions are complete.
        core.platform_sleep(Duration::from_millis(1)).await;
        let (before, volume) = (core.volume.usage().free_regions, core.volume.clone());
        let (reclaimed, owned) = futures_util::join!(core.reclaim(), volume.own(owner(3)));
        owned.expect("no faults");
        assert!(reclaimed.expect("no faults").is_some());
        assert!(core.volume.usage().free_regions > before);
        // The other way round it is put off.
        let (owned, reclaimed) = futures_util::join!(volume.own(owner(4)), core.reclaim());
        owned.expect("no faults");
        assert_eq!(reclaimed.expect("no faults"), None);
        core.platform_sleep(Duration::from_millis(1)).await;
    });
    let (by, _) = found(lives.image.clone(), &lives);
    assert_eq!(by, owner(4));
}
