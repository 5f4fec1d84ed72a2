//! All short histories, stopped before each operation of the disk, with every choice of what survives.
//!
//! `SNOWSKIN_CRASH_FULL=1` tries all histories of four operations, too.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use snowskin_io::SplitMix;
use snowskin_ssd_tier::TierError;

use crate::inspect::Compared;
use crate::keeper::Core;
use crate::model::{Key, Model};
use crate::paper::{Image, PaperDisk, PaperPlatform, Plan, SECTOR, Write};
use crate::{Lives, PaperCore, disk_bytes, on_paper, options};

const REGION_SECTORS: u64 = 6;
const REGIONS: u64 = 4;
/// With more unflushed sectors than this it is prefixes and random choices instead of all.
const UNFLUSHED_MAX: usize = 8;
const RANDOM_CHOICES: u64 = 48;
const KEPT: Key = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Put,
    PutBody,
    Replace,
    Bury,
    Commit,
    Reclaim,
    Reopen,
}

const STEPS: [Step; 7] =
    [Step::Put, Step::PutBody, Step::Replace, Step::Bury, Step::Commit, Step::Reclaim, Step::Reopen];

/// A history under way: a core, and how to get another one.
struct History {
    platform: PaperPlatform,
    disk: PaperDisk,
    model: Rc<RefCell<Model>>,
    core: PaperCore,
}

impl History {
    async fn begin(platform: PaperPlatform, disk: PaperDisk, model: Rc<RefCell<Model>>) -> Self {
        let core = History::open(&platform, &disk, &model).await;
        History { platform, disk, model, core }
    }

    async fn open(platform: &PaperPlatform, disk: &PaperDisk, model: &Rc<RefCell<Model>>) -> PaperCore {
        let opened = Core::open(platform.clone(), disk.clone(), options(REGION_SECTORS), model.clone()).await;
        let (core, _) = opened.expect("it opens");
        // Half of what reclaim looks at stays.
        core.keep_percent.set(50);
        core
    }

    async fn step(&mut self, step: Step) {
        let core = &self.core;
        let done = match step {
            Step::Put => core.put(1, 100).await,
            Step::PutBody => core.put(2, SECTOR + 900).await,
            Step::Replace => core.put(KEPT, 300).await,
            Step::Bury => {
                core.bury(KEPT);
                Ok(())
            }
            Step::Commit => core.commit().await,
            Step::Reclaim => core.reclaim().await.map(drop),
            Step::Reopen => {
                self.core = History::open(&self.platform, &self.disk, &self.model).await;
                Ok(())
            }
        };
        match done {
            Ok(()) | Err(TierError::Full) => {}
            Err(error) => panic!("{step:?}: {error}"),
        }
    }
}

/// Where histories begin.
fn beginnings() -> Vec<Lives> {
    let mut lives = Vec::new();
    for rounds in [0, 1, 3] {
        let mut volume = Lives::new(REGION_SECTORS, REGIONS);
        volume.live_calmly(move |core| async move {
            for round in 0..rounds {
                for key in [KEPT, 4, 5] {
                    core.put_by_force(key, 200 + 100 * round).await.expect("no faults");
                }
                core.bury(4);
                core.commit_by_force().await.expect("no faults");
            }
        });
        lives.push(volume);
    }
    lives
}

/// A history up to where it is stopped: its disk, its model then, and how many operations there were before and after the last step.
fn run(volume: &Lives, steps: &[Step], plan: Plan) -> (PaperDisk, Model, u64, u64) {
    let model = Rc::new(RefCell::new(volume.model.borrow().clone()));
    let disk = volume.disk(plan);
    let (work_model, work_steps) = (model.clone(), steps.to_vec());
    let operations = on_paper(&disk, move |platform, disk| async move {
        let mut history = History::begin(platform, disk.clone(), work_model).await;
        let (last, others) = work_steps.split_last().expect("a step");
        for step in others {
            history.step(*step).await;
        }
        let from = disk.operations();
        history.step(*last).await;
        // Headers and footers that are on their way.
        for _ in 0..8 {
            snowskin_io::Platform::sleep(&history.platform, std::time::Duration::from_millis(1)).await;
        }
        (from, disk.operations())
    });
    let model = model.borrow().clone();
    let (from, to) = operations.unwrap_or_default();
    (disk, model, from, to)
}

/// Opens what is left, uses it, opens it again.
fn check(image: Image, model: &Model, compared: &mut Compared) {
    compared.compare(&image, REGION_SECTORS, REGIONS);
    let disk = PaperDisk::new(disk_bytes(REGION_SECTORS, REGIONS), image, Plan::Calm);
    let model = Rc::new(RefCell::new(model.clone()));
    on_paper(&disk, |platform, disk| async move {
        let mut history = History::begin(platform, disk, model).await;
        history.core.read_all().await.expect("whole");
        history.core.put_by_force(7, 150).await.expect("no faults");
        history.core.bury(5);
        history.core.commit_by_force().await.expect("no faults");
        history.step(Step::Reopen).await;
        history.core.read_all().await.expect("whole");
    });
}

/// What survives: which of the unflushed sectors.
fn survivors(unflushed: &[Write], random: &SplitMix) -> Vec<Vec<bool>> {
    let count = unflushed.len();
    if count <= UNFLUSHED_MAX {
        return (0..1_u64 << count).map(|bits| (0..count).map(|at| bits >> at & 1 == 1).collect()).collect();
    }
    let prefixes = (0..=count).map(|end| (0..count).map(|at| at < end).collect());
    let choices = (0..RANDOM_CHOICES).map(|_| (0..count).map(|_| random.draw() & 1 == 1).collect());
    prefixes.chain(choices).collect()
}

/// The sector after a torn write: some blocks of 512 bytes are new.
pub(crate) fn torn(old: Option<&Rc<[u8]>>, new: &[u8], blocks: u64) -> Rc<[u8]> {
    let mut sector = old.map_or(vec![0; SECTOR], |old| old.to_vec());
    for block in (0..SECTOR / 512).filter(|block| blocks >> block & 1 == 1) {
        let range = block * 512..(block + 1) * 512;
        sector[range.clone()].copy_from_slice(&new[range]);
    }
    sector.into()
}

/// Tries all that a stop can leave. Answers how many, and whether they were all.
fn try_remains(disk: &PaperDisk, model: &Model, random: &SplitMix, compared: &mut Compared) -> (u64, bool) {
    let (flushed, unflushed) = disk.remains();
    let choices = survivors(&unflushed, random);
    for choice in &choices {
        let mut image = flushed.clone();
        let is_torn = random.draw().is_multiple_of(4);
        for ((sector, bytes), survives) in unflushed.iter().zip(choice) {
            let is_last = is_torn && random.draw().is_multiple_of(3);
            if *survives {
                image.insert(*sector, bytes.clone());
            } else if is_last {
                let bytes = torn(image.get(sector), bytes, random.draw());
                image.insert(*sector, bytes);
            }
        }
        check(image, model, compared);
    }
    (choices.len() as u64, unflushed.len() <= UNFLUSHED_MAX)
}

fn histories(length: u32) -> impl Iterator<Item = Vec<Step>> {
    (0..STEPS.len().pow(length)).map(move |number| {
        (0..length).map(|place| STEPS[number / STEPS.len().pow(place) % STEPS.len()]).collect()
    })
}

#[test]
fn a_stop_anywhere_leaves_what_was_committed() {
    let is_full = std::env::var_os("SNOWSKIN_CRASH_FULL").is_some();
    let begin = Instant::now();
    let random = SplitMix::new(7);
    let (mut stops, mut remains, mut sampled) = (0_u64, 0, 0_u64);
    let mut compared = Compared::new();
    for volume in beginnings() {
        for length in 1..=if is_full { 4 } else { 3 } {
            for steps in histories(length) {
                let (_, _, from, to) = run(&volume, &steps, Plan::Calm);
                // After one is before the next, unless several are under way.
                let after = (from..to).filter(|stop| is_full || stop % 4 == 0).map(Plan::After);
                for plan in (from..=to).map(Plan::Before).chain(after) {
                    let (disk, model, ..) = run(&volume, &steps, plan);
                    let (tried, is_all) = try_remains(&disk, &model, &random, &mut compared);
                    (stops, remains) = (stops + 1, remains + tried);
                    sampled += u64::from(!is_all);
                }
            }
        }
    }
    println!(
        "{stops} stops, {remains} remains; of {sampled} stops with more than {UNFLUSHED_MAX} unflushed sectors prefixes and \
         {RANDOM_CHOICES} choices only; the tool agrees on {} images, {} of them with damage; {:?}",
        compared.images,
        compared.damaged,
        begin.elapsed()
    );
}
