//! Random histories on the simulator's disk, over several lives: each ends somewhere in the middle, and the next one finds what was committed.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use snowskin_io::Platform;
use snowskin_io::sim::{DiskOptions, Limit, Options, SimDisk, SimPlatform, Simulation};

use crate::keeper::Core;
use crate::model::Model;
use crate::steps::Steps;
use crate::{disk_bytes, options};

/// Geometries: sectors of a region, and regions.
const GEOMETRIES: [(u64, u64); 6] = [(4, 8), (6, 5), (8, 3), (8, 2), (12, 4), (16, 6)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All that was begun ends.
    Quiet,
    /// The process dies.
    Kill,
    /// The power fails.
    Power,
}

struct Volume {
    sim: Simulation,
    seed: u64,
    geometry: (u64, u64),
    model: Rc<RefCell<Model>>,
}

impl Volume {
    fn new(seed: u64, disk: DiskOptions) -> Self {
        let sim = Simulation::with_options(seed, Options { disk, ..Options::default() });
        let geometry = GEOMETRIES[seed as usize % GEOMETRIES.len()];
        Volume { sim, seed, geometry, model: Rc::default() }
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
        let seed = self.seed << 8 | life;
        let work = async move {
            let region_bytes = options.region_bytes;
            let opened = Core::open(platform.clone(), disk, options, model).await;
            let (core, recovered) = opened.expect("no faults");
            let found = recovered.objects.len() as u64;
            assert_eq!(core.read_all().await.expect("whole"), found);
            let mut steps = Steps::new(core.clone(), platform, seed, region_bytes, true);
            steps.run(if end == End::Quiet { 120 } else { u64::MAX }).await.expect("no faults");
            steps.rest().await;
            core.commit_by_force().await.expect("no faults");
            core.read_all().await.expect("whole");
        };
        match end {
            End::Quiet => self.sim.run(node, Volume::limit(), work).expect("it ends"),
            End::Kill | End::Power => {
                node.spawn(work);
                let micros = 1_000 * (seed % 97) + seed % 1_000;
                self.sim.run_for(Duration::from_micros(micros)).expect("within the limit");
            }
        }
    }

    fn next(&self, node: &SimPlatform, end: End) -> SimPlatform {
        match end {
            End::Power => self.sim.faults().power_off(node),
            End::Quiet | End::Kill => self.sim.faults().kill(node),
        }
        self.sim.faults().restart(node)
    }
}

fn lives(seed: u64, ends: &[End]) {
    let volume = Volume::new(seed, DiskOptions::default());
    let mut node = volume.format();
    for (life, end) in (0..).zip(ends) {
        volume.live(&node, life, *end);
        node = volume.next(&node, *end);
    }
    volume.live(&node, ends.len() as u64, End::Quiet);
}

#[test]
fn what_was_written_is_read_and_found_again() {
    for seed in 0..150 {
        lives(seed, &[End::Quiet, End::Quiet]);
    }
}

#[test]
fn what_was_committed_outlives_deaths() {
    for seed in 1_000..1_200 {
        lives(seed, &[End::Kill, End::Power, End::Kill, End::Power, End::Power]);
    }
}
