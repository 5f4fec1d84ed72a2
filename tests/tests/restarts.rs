//! Engines with SSD tiers come back: what nobody else has answered for since is found again, and nothing else is
//! (`docs/notes/2026-11-28-lineage.md`).
//!
//! Each key has a history, as in `ssd.rs`: an answered upsert ends all generations before it, an answered remove ends all. A miss is always
//! allowed; no fault here lets two cores be home of a slot, so nothing older is.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use snowskin_client::{Found, RemoveOutcome, Session};
use snowskin_io::Platform;
use snowskin_io::sim::{Options, SimPlatform};
use snowskin_protocol::{ObjectName, Settings};
use snowskin_tests::simulated::{Shape, SimCluster};
use snowskin_tests::values::{generation_of, value_of};
use std::rc::Rc;
use std::time::Duration;

/// Histories in a run of the tests; `SNOWSKIN_RESTART_SEEDS` says otherwise.
const SEEDS: u64 = 12;
/// Several times as much as there is memory, together.
const KEYS: usize = 90;
const VALUE_BYTES: usize = 12_000;
/// How long a call may take.
const DEADLINE: Duration = Duration::from_millis(400);
/// Longer than it takes until a core is dead.
const UNTIL_DEAD: Duration = Duration::from_secs(12);

fn shape(cores: u16) -> Shape {
    Shape {
        cores,
        core_bytes: 256 << 10,
        settings: Settings { lease_ms: 5, ..Settings::default() },
        ssd_bytes: 2 << 20,
        ..Shape::default()
    }
}

fn name(key: usize) -> ObjectName {
    ObjectName::new("default", format!("key-{key}").as_bytes()).expect("a name")
}

fn value(key: usize, generation: u64) -> Bytes {
    Bytes::from(value_of(name(key).as_ref().bytes(), generation, VALUE_BYTES))
}

/// What may be seen of a key.
#[derive(Clone, Copy, Default)]
struct History {
    /// The least generation.
    least: u64,
    /// The last that was written, or may have been.
    last: u64,
}

/// A cluster, and what may be seen in it.
struct World {
    cluster: SimCluster,
    node: SimPlatform,
    session: Rc<Session<SimPlatform>>,
    histories: Vec<History>,
    /// Objects that earlier lives have left, and that counted.
    recovered: u64,
}

impl World {
    fn new(seed: u64, engines: usize, shape: Shape, has_ledger: bool) -> Self {
        let ledger = has_ledger.then(|| tempfile::tempdir().expect("room for a ledger"));
        let cluster = SimCluster::start_with(seed, Options::default(), engines, shape, ledger);
        let (node, session) = cluster.client("client");
        World { cluster, node, session, histories: vec![History::default(); KEYS], recovered: 0 }
    }

    fn call<T: 'static, F: Future<Output = T> + 'static>(
        &mut self,
        verb: impl FnOnce(Rc<Session<SimPlatform>>, snowskin_io::Moment) -> F,
    ) -> T {
        let deadline = self.node.now() + DEADLINE;
        let asked = verb(self.session.clone(), deadline);
        self.cluster.run(&self.node, asked)
    }

    fn upsert(&mut self, key: usize) -> bool {
        let generation = self.histories[key].last + 1;
        self.histories[key].last = generation;
        let items = vec![(name(key), value(key, generation))];
        let answered = self
            .call(|session, deadline| async move { session.upsert(items, deadline).await })
            .remove(0)
            .is_ok();
        if answered {
            self.histories[key].least = generation;
        }
        answered
    }

    fn remove(&mut self, key: usize) {
        let names = vec![name(key)];
        let removed = self
            .call(|session, deadline| async move { session.remove(names, true, deadline).await })
            .remove(0);
        match removed {
            Ok(RemoveOutcome::Removed | RemoveOutcome::Missing(_)) => {
                self.histories[key].least = self.histories[key].last + 1;
            }
            Ok(other) => panic!("{other:?} of a forced remove"),
            Err(_) => {}
        }
    }

    /// Whether it is held; if it is, with a value that may be seen.
    fn get(&mut self, key: usize) -> bool {
        let names = vec![name(key)];
        let got = self.call(|session, deadline| async move { session.get(names, deadline).await }).remove(0);
        let Ok(Found::Hit(value)) = got else { return false };
        let History { least, last } = self.histories[key];
        let generation = generation_of(name(key).as_ref().bytes(), &value);
        let is_allowed = generation.is_some_and(|found| (least..=last).contains(&found) && found > 0);
        let state = self.cluster.describe();
        assert!(is_allowed, "key {key}: generation {generation:?} of {least} to {last}{state}");
        true
    }

    fn fill(&mut self) {
        for key in 0..KEYS {
            assert!(self.upsert(key), "an answer");
            self.cluster.pass(Duration::from_millis(10));
        }
        assert!(self.cluster.stats().objects_on_ssd > 0, "there is more than memory holds");
        // The last tombstones, and a heartbeat that says so.
        self.cluster.pass(Duration::from_secs(2));
    }

    fn held(&mut self) -> usize {
        (0..KEYS).filter(|key| self.get(*key)).count()
    }

    fn kill(&mut self, engine: usize) {
        self.note_recovered();
        for core in &self.cluster.engines[engine].cores {
            self.cluster.sim.faults().kill(&core.platform);
        }
    }

    fn restart(&mut self, engine: usize) {
        self.cluster.restart_engine(engine);
        self.cluster.settle();
    }

    /// To be called before cores go.
    fn note_recovered(&mut self) {
        self.recovered = self.recovered.max(self.cluster.stats().ssd_recovered);
    }

    fn found_again(&self) -> u64 {
        self.cluster.stats().ssd_recovered
    }
}

#[test]
fn a_lone_engine_finds_everything_again_whoever_was_killed() {
    let mut world = World::new(1, 1, shape(2), true);
    world.fill();
    let on_ssd = world.cluster.stats().objects_on_ssd;
    for (round, kills_master) in [false, true, true].into_iter().enumerate() {
        world.kill(0);
        if kills_master {
            world.cluster.restart_master();
        }
        // Much longer than it takes to be dead, if there were anybody to take the slots.
        world.cluster.pass(UNTIL_DEAD * 2);
        if round == 2 {
            world.cluster.restart_master();
        }
        world.restart(0);
        assert!(world.found_again() >= on_ssd, "round {round}: {} of {on_ssd}", world.found_again());
        assert!(world.held() as u64 >= on_ssd, "round {round}");
        world.cluster.pass(Duration::from_secs(2));
    }
}

#[test]
fn the_last_engine_leaves_in_an_orderly_way_and_finds_everything_again() {
    let mut world = World::new(2, 1, shape(2), true);
    world.fill();
    let on_ssd = world.cluster.stats().objects_on_ssd;
    world.cluster.leave(0);
    world.cluster.pass(Duration::from_secs(2));
    world.cluster.restart_master();
    world.restart(0);
    assert!(world.found_again() >= on_ssd, "{} of {on_ssd}", world.found_again());
    assert!(world.held() as u64 >= on_ssd);
}

#[test]
fn beside_others_an_engine_finds_again_what_they_have_not_taken() {
    let mut world = World::new(3, 2, shape(2), true);
    world.fill();
    world.kill(0);
    world.cluster.pass(Duration::from_secs(3));
    world.restart(0);
    let found = world.found_again();
    assert!(found > 0, "it was back before it was dead");
    assert!(world.held() as u64 >= found);
    // Now it stays away, and the other one has other values.
    world.cluster.pass(Duration::from_secs(2));
    world.kill(0);
    world.cluster.pass(UNTIL_DEAD);
    for key in 0..KEYS {
        world.upsert(key);
    }
    (0..KEYS).step_by(3).for_each(|key| world.remove(key));
    world.restart(0);
    assert_eq!(world.found_again(), 0, "others have answered for its slots");
    world.held();
}

/// What was removed at another home is not on the volume any more when the slot has come back, though the removal was not told in time.
#[test]
fn a_slot_that_went_and_came_back_brings_nothing_back() {
    let mut world = World::new(4, 1, shape(1), true);
    world.fill();
    world.cluster.add_engine();
    world.cluster.settle();
    world.cluster.pass(Duration::from_secs(2));
    (0..KEYS).step_by(2).for_each(|key| world.remove(key));
    (1..KEYS).step_by(4).for_each(|key| assert!(world.upsert(key)));
    // It dies with what it had not told, and its slots come back.
    world.kill(1);
    world.cluster.pass(UNTIL_DEAD);
    world.cluster.pass(Duration::from_secs(2));
    world.kill(0);
    world.restart(0);
    assert!(world.found_again() > 0);
    world.held();
}

#[test]
fn volumes_of_others_and_older_ones_are_not_believed() {
    let mut world = World::new(5, 2, shape(1), true);
    world.fill();
    // A copy of the first life's volume.
    world.kill(0);
    let older = world.cluster.disk_images(0);
    world.restart(0);
    assert!(world.found_again() > 0);
    world.cluster.pass(Duration::from_secs(2));
    (0..KEYS).for_each(|key| assert!(world.upsert(key)));
    world.cluster.pass(Duration::from_secs(2));
    world.kill(0);
    world.cluster.replace_disks(0, &older);
    world.restart(0);
    assert_eq!(world.found_again(), 0, "it is of the life before the last");
    world.held();
    // Both swap their volumes: each finds another's, of slots that are not its own.
    (0..KEYS).for_each(|key| assert!(world.upsert(key)));
    world.cluster.pass(Duration::from_secs(2));
    world.kill(0);
    world.kill(1);
    let (first, second) = (world.cluster.disk_images(0), world.cluster.disk_images(1));
    world.cluster.replace_disks(0, &second);
    world.cluster.replace_disks(1, &first);
    world.cluster.restart_engine(0);
    world.restart(1);
    assert_eq!(world.found_again(), 0);
    world.held();
}

/// Everything that may happen, in any order.
struct Chaos {
    random: StdRng,
    world: World,
    /// Volumes of lives that have ended, of each engine, and in which life they were taken.
    images: Vec<(usize, u64, Vec<Vec<u8>>)>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let (engines, cores) = (random.random_range(1..=2), random.random_range(1..=2));
        let world = World::new(seed, engines, shape(cores), random.random_range(0..4) > 0);
        Chaos { random, world, images: Vec::new() }
    }

    fn one_of(&mut self, count: usize) -> usize {
        self.random.random_range(0..count)
    }

    fn load(&mut self) {
        for _ in 0..self.random.random_range(20..160) {
            let key = self.one_of(KEYS);
            match self.one_of(10) {
                0..5 => _ = self.world.upsert(key),
                5 => self.world.remove(key),
                _ => _ = self.world.get(key),
            }
            let pause = Duration::from_micros(self.random.random_range(0..12_000));
            self.world.cluster.pass(pause);
        }
    }

    fn end(&mut self, engine: usize) {
        self.world.note_recovered();
        let cluster = &mut self.world.cluster;
        let is_orderly = self.random.random_range(0..4) == 0;
        match self.random.random_range(0..3) {
            _ if is_orderly => cluster.leave(engine),
            0 => cluster.engines[engine]
                .cores
                .iter()
                .for_each(|core| cluster.sim.faults().power_off(&core.platform)),
            _ => cluster.engines[engine]
                .cores
                .iter()
                .for_each(|core| cluster.sim.faults().kill(&core.platform)),
        }
    }

    /// An engine that has ended comes back: perhaps with an older volume, or with another's.
    fn begin(&mut self, engine: usize) {
        let life = self.world.cluster.engines[engine].incarnation.0;
        if self.one_of(2) == 0 {
            let image = self.world.cluster.disk_images(engine);
            self.images.push((engine, life, image));
        }
        // A copy from within the last life of its own cannot be told from its volume: see the note.
        let older = |(of, taken, _): &&(usize, u64, Vec<Vec<u8>>)| *of != engine || *taken < life;
        let candidates: Vec<_> = self.images.iter().filter(older).cloned().collect();
        if self.random.random_range(0..4) == 0 && !candidates.is_empty() {
            let (.., image) = &candidates[self.one_of(candidates.len())];
            self.world.cluster.replace_disks(engine, image);
        }
        self.world.cluster.restart_engine(engine);
    }

    fn round(&mut self) {
        let engine = self.one_of(self.world.cluster.engines.len());
        match self.one_of(10) {
            0 => self.world.cluster.restart_master(),
            1 if self.world.cluster.engines.len() < 3 => self.world.cluster.add_engine(),
            _ => {
                self.end(engine);
                let absent = [200, 3_000, 14_000][self.one_of(3)];
                self.world.cluster.pass(Duration::from_millis(self.random.random_range(0..absent)));
                if self.one_of(3) == 0 {
                    self.load();
                }
                if self.one_of(5) == 0 {
                    self.world.cluster.restart_master();
                }
                self.begin(engine);
            }
        }
        // Sometimes the next blow comes before the cluster is at rest.
        match self.one_of(3) {
            0 => {
                let hurried = Duration::from_millis(self.random.random_range(0..800));
                self.world.cluster.pass(hurried);
            }
            _ => self.world.cluster.settle(),
        }
        self.load();
    }
}

#[test]
fn whatever_happens_nothing_stale_is_found() {
    let seeds = std::env::var("SNOWSKIN_RESTART_SEEDS")
        .map_or(SEEDS, |text| text.parse().expect("a number of seeds"));
    let (mut recovered, mut held) = (0, 0);
    for seed in 0..seeds {
        let mut chaos = Chaos::new(seed);
        chaos.load();
        for _ in 0..8 {
            chaos.round();
        }
        chaos.world.cluster.settle();
        held += chaos.world.held();
        chaos.world.note_recovered();
        recovered += chaos.world.recovered;
    }
    println!("{seeds} seeds, {recovered} objects of earlier lives, {held} held at the end");
    assert!(recovered > 0, "nothing was found again");
}
