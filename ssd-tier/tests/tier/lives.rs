//! Random histories on the simulator's disk, over several lives: each ends somewhere in the middle, and the next one finds what was committed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use snowskin_io::sim::{
    DiskFault, DiskFaultRates, DiskOptions, Limit, Options, SimDisk, SimPlatform, Simulation,
};
use snowskin_io::{Platform, SplitMix};

use snowskin_ssd_tier::TierError;

use crate::keeper::Core;
use crate::model::Model;
use crate::steps::Steps;
use crate::{disk_bytes, options};

/// Geometries: sectors of a region, and regions.
const GEOMETRIES: [(u64, u64); 6] = [(4, 12), (6, 8), (8, 3), (8, 2), (12, 5), (16, 6)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All that was begun ends.
    Quiet,
    /// The process dies.
    Kill,
    /// The power fails.
    Power,
}

/// What happened in all lives.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    records: u64,
    reclaims: u64,
    reinserted: u64,
    tombstones: u64,
    found: u64,
    scanned: u64,
    ended: u64,
    damaged: u64,
    discarded_bytes: u64,
}

struct Volume {
    sim: Simulation,
    seed: u64,
    geometry: (u64, u64),
    is_calm: bool,
    model: Rc<RefCell<Model>>,
    /// Who is alive.
    core: Rc<RefCell<Option<Rc<Core<SimPlatform>>>>>,
    tally: Rc<Cell<Tally>>,
}

impl Volume {
    fn new(seed: u64, disk: DiskOptions, is_calm: bool) -> Self {
        let sim = Simulation::with_options(seed, Options { disk, ..Options::default() });
        let geometry = GEOMETRIES[seed as usize % GEOMETRIES.len()];
        let (model, core, tally) = Default::default();
        Volume { sim, seed, geometry, is_calm, model, core, tally }
    }

    fn disk(&self, node: &SimPlatform) -> SimDisk {
        node.disk("ssd", disk_bytes(self.geometry.0, self.geometry.1)).expect("nobody else has it")
    }

    fn limit() -> Limit {
        Limit { time: Duration::from_secs(600), ..Limit::default() }
    }

    fn format(&self) -> SimPlatform {
        let node = self.sim.node("core");
        let (platform, disk, model) = (node.clone(), self.disk(&node), self.model.clone());
        let options = options(self.geometry.0);
        let made = self.sim.run(&node, Volume::limit(), async move {
            Core::format(platform, disk, options, model).await.map(drop)
        });
        made.expect("it ends").expect("no faults");
        node
    }

    /// One life.
    fn live(&self, node: &SimPlatform, life: u64, end: End) {
        let (platform, disk, model) = (node.clone(), self.disk(node), self.model.clone());
        let options = options(self.geometry.0);
        let (seed, is_calm) = (self.seed << 8 | life, self.is_calm);
        let (alive, tally) = (self.core.clone(), self.tally.clone());
        let work = async move {
            let region_bytes = options.region_bytes;
            let opened = Core::open(platform.clone(), disk, options, model.clone()).await;
            let (core, recovered) = match opened {
                Ok(opened) => opened,
                Err(TierError::Disk(_)) if !is_calm => return model.borrow_mut().shake(),
                Err(error) => panic!("{error}"),
            };
            alive.replace(Some(core.clone()));
            let found = recovered.objects.len() as u64;
            tally.update(|tally| Tally {
                found: tally.found + found,
                scanned: tally.scanned + u64::from(recovered.regions_scanned),
                ..tally
            });
            let read = core.read_all().await;
            assert!(!is_calm || matches!(read, Ok(count) if count == found), "{read:?} of {found}");
            let mut steps = Steps::new(core.clone(), platform, seed, region_bytes, is_calm);
            let done = steps.run(if end == End::Quiet { 120 } else { u64::MAX }).await;
            steps.rest().await;
            let committed = core.commit_by_force().await;
            assert!(!is_calm || committed.is_ok() && done.is_ok(), "{committed:?}");
            while core.volume.writes_under_way() > 0 {
                core.platform_sleep(Duration::from_millis(1)).await;
            }
            let read = core.read_all().await;
            assert!(!is_calm || read.is_ok(), "{read:?}");
        };
        match end {
            End::Quiet => self.sim.run(node, Volume::limit(), work).expect("it ends"),
            End::Kill | End::Power => {
                node.spawn(work);
                let micros = SplitMix::split(seed, 1) % 250_000;
                self.sim.run_for(Duration::from_micros(micros)).expect("within the limit");
            }
        }
    }

    fn next(&self, node: &SimPlatform, end: End) -> SimPlatform {
        if let Some(core) = self.core.take() {
            let counters = core.volume.counters();
            self.tally.update(|tally| Tally {
                records: tally.records + counters.records_written.get(),
                reclaims: tally.reclaims + counters.regions_reclaimed.get(),
                reinserted: tally.reinserted + counters.records_reinserted.get(),
                tombstones: tally.tombstones + counters.tombstones_written.get(),
                damaged: tally.damaged + counters.records_damaged.get(),
                ended: tally.ended + u64::from(core.volume.is_ended()),
                discarded_bytes: tally.discarded_bytes + counters.bytes_discarded.get(),
                ..tally
            });
        }
        match end {
            End::Power => self.sim.faults().power_off(node),
            End::Quiet | End::Kill => self.sim.faults().kill(node),
        }
        self.sim.faults().restart(node)
    }
}

fn lives(seed: u64, ends: &[End]) -> Tally {
    let volume = Volume::new(seed, DiskOptions::default(), true);
    let mut node = volume.format();
    for (life, end) in (0..).zip(ends) {
        volume.live(&node, life, *end);
        node = volume.next(&node, *end);
    }
    volume.live(&node, ends.len() as u64, End::Quiet);
    volume.next(&node, End::Quiet);
    volume.tally.get()
}

fn sum(tallies: impl IntoIterator<Item = Tally>) -> Tally {
    tallies.into_iter().fold(Tally::default(), |a, b| Tally {
        records: a.records + b.records,
        reclaims: a.reclaims + b.reclaims,
        reinserted: a.reinserted + b.reinserted,
        tombstones: a.tombstones + b.tombstones,
        found: a.found + b.found,
        scanned: a.scanned + b.scanned,
        ended: a.ended + b.ended,
        damaged: a.damaged + b.damaged,
        discarded_bytes: a.discarded_bytes + b.discarded_bytes,
    })
}

#[test]
fn what_was_written_is_read_and_found_again() {
    let tally = sum((0..150).map(|seed| lives(seed, &[End::Quiet, End::Quiet])));
    println!("{tally:?}");
    assert!(tally.reclaims > 1_000 && tally.reinserted > 500 && tally.found > 1_000, "{tally:?}");
}

#[test]
fn what_was_committed_outlives_deaths() {
    let ends = [End::Kill, End::Power, End::Power, End::Kill, End::Power, End::Power, End::Power];
    let tally = sum((1_000..1_300).map(|seed| lives(seed, &ends)));
    println!("{tally:?}");
    assert!(tally.reclaims > 5_000 && tally.tombstones > 5_000 && tally.scanned > 2_000, "{tally:?}");
    assert!(tally.discarded_bytes > 100 << 20, "{tally:?}");
}

/// Faults that damage nothing that was flushed: what fails is said to have failed.
#[test]
fn what_was_committed_outlives_a_disk_that_refuses() {
    let ends = [End::Kill, End::Quiet, End::Power, End::Kill, End::Power, End::Quiet];
    let tally = sum((2_000..2_200).map(|seed| {
        let rates = DiskFaultRates::default()
            .with(DiskFault::FailedWrite, 10_000)
            .with(DiskFault::Slow, 5_000)
            .with(DiskFault::Stall, 500)
            .with(DiskFault::FailedFlush, if seed % 3 == 0 { 5_000 } else { 0 });
        let options = DiskOptions { faults: rates, ..DiskOptions::default() };
        let volume = Volume::new(seed, DiskOptions::default(), false);
        let mut node = volume.format();
        let faults = volume.sim.faults().disk(&node, "ssd").expect("it is open");
        faults.set_rates(options.faults);
        for (life, end) in (0..).zip(ends) {
            volume.live(&node, life, end);
            node = volume.next(&node, end);
        }
        volume.tally.get()
    }));
    println!("{tally:?}");
    assert!(tally.ended > 50 && tally.found > 1_000, "{tally:?}");
}
