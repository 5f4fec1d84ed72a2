//! A long history in which one operation of the disk fails, for each operation and each way of failing.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use snowskin_ssd_tier::TierError;

use crate::keeper::Core;
use crate::model::Model;
use crate::paper::{Image, PaperDisk, PaperPlatform, Part, Plan, SECTOR};
use crate::{Lives, PaperCore, disk_bytes, on_paper, options};

const REGION_SECTORS: u64 = 10;
const REGIONS: u64 = 5;
const ROUNDS: usize = 7;

/// What may be said of something that fails. `Err`: the volume has ended.
fn known<T>(done: Result<T, TierError>) -> Result<(), ()> {
    match done {
        Ok(_) | Err(TierError::Disk(_) | TierError::Full) => Ok(()),
        Err(TierError::Ended) => Err(()),
        Err(error) => panic!("{error}"),
    }
}

async fn open(platform: &PaperPlatform, disk: &PaperDisk, model: &Rc<RefCell<Model>>) -> PaperCore {
    for _ in 0..3 {
        match Core::open(platform.clone(), disk.clone(), options(REGION_SECTORS), model.clone()).await {
            Ok((core, _)) => return core,
            Err(TierError::Disk(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("one operation fails, no more");
}

/// Puts, replacements, burials, commits, reclaims and reads.
async fn history(core: &PaperCore) -> Result<(), ()> {
    core.keep_percent.set(60);
    for round in 0..ROUNDS {
        for key in 0..4 {
            let bytes = [100, SECTOR + 50, 2 * SECTOR, 3 * SECTOR + 4_000][(usize::from(key) + round) % 4];
            known(core.put_by_force(key + 4 * (round as u16 % 2), bytes).await)?;
        }
        core.bury(round as u16 % 8);
        known(core.commit_by_force().await)?;
        known(core.read_all().await)?;
        known(core.make_room().await)?;
    }
    Ok(())
}

/// After the end nothing is written, and all that there is can be read.
async fn check_end(core: &PaperCore, disk: &PaperDisk) {
    assert!(core.volume.is_ended());
    // What was under way goes on.
    core.platform_sleep(Duration::from_millis(1)).await;
    let writes = disk.writes();
    core.bury(0);
    assert!(matches!(core.put(1, 10).await, Err(TierError::Ended)));
    assert!(matches!(core.commit().await, Err(TierError::Ended)));
    assert!(matches!(core.reclaim().await, Err(TierError::Ended)));
    core.read_all().await.expect("reads go on");
    core.platform_sleep(Duration::from_millis(1)).await;
    assert_eq!(disk.writes(), writes, "nothing is written");
}

/// The history under a plan. Answers the disk, and whether the volume has ended.
fn run(volume: &Lives, plan: Plan) -> (PaperDisk, Model, bool) {
    let model = Rc::new(RefCell::new(volume.model.borrow().clone()));
    let (disk, work_model) = (volume.disk(plan), model.clone());
    let is_ended = on_paper(&disk, move |platform, disk| async move {
        let core = open(&platform, &disk, &work_model).await;
        let first = history(&core).await;
        if first.is_err() {
            check_end(&core, &disk).await;
            return true;
        }
        let core = open(&platform, &disk, &work_model).await;
        let second = history(&core).await;
        if second.is_err() {
            check_end(&core, &disk).await;
        }
        second.is_err()
    });
    let model = model.borrow().clone();
    (disk, model, is_ended.expect("nothing stops it"))
}

fn check(image: Image, model: &Model) {
    let disk = PaperDisk::new(disk_bytes(REGION_SECTORS, REGIONS), image, Plan::Calm);
    let model = Rc::new(RefCell::new(model.clone()));
    on_paper(&disk, |platform, disk| async move {
        let core = open(&platform, &disk, &model).await;
        core.read_all().await.expect("whole");
        history(&core).await.expect("no faults");
    });
}

#[test]
fn one_failure_of_any_kind_anywhere_loses_nothing() {
    let mut volume = Lives::new(REGION_SECTORS, REGIONS);
    volume.live_calmly(|core| async move { history(&core).await.expect("no faults") });
    let (disk, ..) = run(&volume, Plan::Calm);
    let operations = disk.operations();
    assert!(operations > 200, "{operations} operations");
    let mut ends = 0;
    for at in 0..operations {
        let failures = [Part::Nothing, Part::Half, Part::All].map(|part| Plan::Fails(at, part));
        for plan in failures.into_iter().chain([Plan::Full(at), Plan::Short(at)]) {
            let (disk, model, is_ended) = run(&volume, plan);
            ends += u32::from(is_ended);
            check(disk.image(), &model);
            // And if the power fails then.
            check(disk.remains().0, &model);
        }
    }
    assert!(ends > 20, "{ends} volumes have ended");
    println!("{operations} operations, {ends} ends");
}
