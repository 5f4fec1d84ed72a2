//! A whole cluster in the simulator: the same master, engine and client code that real processes run.
//!
//! Every core is a node of its own (its own tasks, its own address), as every core of a real engine is a thread of its
//! own. Time is virtual, so a test that waits ten seconds for a dead core takes milliseconds.

use snowskin_client::{ClientConfig, Session};
use snowskin_engine::control::{self, CoreConfig, LocalSockets, Supervisor};
use snowskin_engine::eviction::PolicyKind;
use snowskin_engine::percore::PerCore;
use snowskin_engine::segment::MappingRequest;
use snowskin_engine::shard::TierPolicy;
use snowskin_engine::tiering::{ScrubRate, SsdConfig, TierSettings, Trim};
use snowskin_io::disk::{DiskBuffer, DiskBuffers};
use snowskin_io::sim::{Options, SimDisk, SimPlatform, Simulation};
use snowskin_io::{Disk, DiskPlace, LocalUsers, Moment};
use snowskin_master::{Master, MasterConfig, MasterHandle, Timing};
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::{CoreId, EngineId, Incarnation, Settings};
use std::cell::{Cell, Ref, RefCell};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;
use tempfile::TempDir;

const MASTER_PORT: u16 = 7300;
const CORE_PORT: u16 = 7400;
/// Where sockets for sharing memory are; there is no file system.
const LOCAL_FOLDER: &str = "/simulated";

/// How large the engines of a simulated cluster are, and what holds in it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Cores of each engine.
    pub cores: u16,
    /// Bytes of each core's segment.
    pub core_bytes: usize,
    /// Watermarks and lease.
    pub settings: Settings,
    /// Which object goes when room is needed.
    pub policy: PolicyKind,
    /// Lanes that each core lets clients of its host have; 0: none, and no shared memory.
    pub lanes_max: usize,
    /// Bytes of each core's SSD tier; 0: none.
    pub ssd_bytes: u64,
    /// What goes there, and when.
    pub tier_policy: TierPolicy,
}

/// Bytes of a region there.
const SSD_REGION_BYTES: u64 = 64 << 10;
/// All of a volume is scrubbed in seconds.
const SSD_SCRUB: ScrubRate = ScrubRate::Bytes(256 << 10);

impl Default for Shape {
    fn default() -> Self {
        let settings = Settings { lease_ms: 50, ..Settings::default() };
        Shape {
            cores: 2,
            core_bytes: 1 << 20,
            settings,
            policy: PolicyKind::default(),
            lanes_max: 64,
            ssd_bytes: 0,
            tier_policy: TierPolicy::default(),
        }
    }
}

/// One core: where it runs, and a look inside.
pub struct SimCore {
    /// Its node.
    pub platform: SimPlatform,
    /// Its state, as soon as it is open.
    pub core: Rc<RefCell<Option<Rc<PerCore<SimPlatform>>>>>,
    stop: Rc<Cell<bool>>,
    ended: Rc<Cell<bool>>,
}

impl SimCore {
    /// Whether it runs: neither killed, nor ended by itself.
    pub fn is_alive(&self) -> bool {
        self.platform.is_alive() && !self.ended.get()
    }

    /// Whether it has been told to leave.
    pub fn is_leaving(&self) -> bool {
        self.stop.get()
    }

    /// Its inside, if it is alive and open.
    pub fn inside(&self) -> Option<Rc<PerCore<SimPlatform>>> {
        self.core.borrow().clone().filter(|_| self.is_alive())
    }
}

/// One engine.
pub struct SimEngine {
    /// Its cores, in order.
    pub cores: Vec<SimCore>,
    /// Which life of it this is.
    pub incarnation: Incarnation,
}

impl SimEngine {
    /// Whether any of its cores runs.
    pub fn is_alive(&self) -> bool {
        self.cores.iter().any(SimCore::is_alive)
    }
}

/// A master, engines, and a simulation that they live in.
pub struct SimCluster {
    /// The world.
    pub sim: Simulation,
    /// The master's node.
    pub master_platform: SimPlatform,
    /// The latest master; `None` while a new one is being started.
    master: Option<MasterHandle>,
    /// What masters remember from life to life, if they do.
    ledger: Option<TempDir>,
    /// The engines, in the order of their start.
    pub engines: Vec<SimEngine>,
    shape: Shape,
}

struct Watch {
    joined: Rc<Cell<bool>>,
    stop: Rc<Cell<bool>>,
    /// Cores of the same life of the engine that listen, and all.
    listening: Rc<Cell<u16>>,
    cores: u16,
}

impl Supervisor for Watch {
    fn listening(&self, _address: SocketAddr) {
        self.listening.set(self.listening.get() + 1);
    }

    fn do_all_listen(&self) -> bool {
        self.listening.get() == self.cores
    }

    fn joined(&self) {
        self.joined.set(true);
    }

    fn should_stop(&self) -> bool {
        self.stop.get()
    }
}

impl SimCluster {
    /// A master and `engines` engines, joined and serving.
    pub fn start(seed: u64, engines: usize, shape: Shape) -> Self {
        SimCluster::start_with(seed, Options::default(), engines, shape, None)
    }

    /// As [`SimCluster::start`], with a master that has a ledger.
    pub fn start_remembering(seed: u64, engines: usize, shape: Shape) -> Self {
        let ledger = tempfile::tempdir().expect("room for a ledger");
        SimCluster::start_with(seed, Options::default(), engines, shape, Some(ledger))
    }

    /// As [`SimCluster::start`], with a network and clocks of one's own choice, and a directory for a ledger.
    pub fn start_with(
        seed: u64,
        options: Options,
        engines: usize,
        shape: Shape,
        ledger: Option<TempDir>,
    ) -> Self {
        let sim = Simulation::with_options(seed, options);
        let master_platform = sim.node("master");
        let mut cluster =
            SimCluster { sim, master_platform, master: None, ledger, engines: Vec::new(), shape };
        cluster.start_master(MasterConfig::embedded().timing);
        for _ in 0..engines {
            cluster.add_engine();
        }
        cluster.settle();
        cluster
    }

    /// Starts another engine; it joins in the time that follows.
    pub fn add_engine(&mut self) {
        let number = self.engines.len();
        let listening = Rc::default();
        let start = |core| {
            let platform = self.sim.node(&format!("engine-{number}/{core}"));
            self.start_core(platform, number, core, (Incarnation(1), &listening))
        };
        let cores = (0..self.shape.cores).map(start).collect();
        self.engines.push(SimEngine { cores, incarnation: Incarnation(1) });
    }

    /// Starts another life of an engine: with empty memory, at the same addresses. What is left of the last life is
    /// killed.
    pub fn restart_engine(&mut self, engine: usize) {
        let faults = self.sim.faults();
        let incarnation = Incarnation(self.engines[engine].incarnation.0 + 1);
        let platforms: Vec<_> =
            self.engines[engine].cores.iter().map(|core| faults.restart(&core.platform)).collect();
        let listening = Rc::default();
        let start = |(core, platform)| self.start_core(platform, engine, core, (incarnation, &listening));
        let cores = (0..).zip(platforms).map(start).collect();
        self.engines[engine] = SimEngine { cores, incarnation };
    }

    /// All bytes of a dead engine's SSD tier, core by core.
    pub fn disk_images(&mut self, engine: usize) -> Vec<Vec<u8>> {
        let bytes = self.shape.ssd_bytes;
        let read = move |disk: SimDisk| async move {
            let buffer = buffer_of(bytes as usize);
            let (read, image) = disk.read_exact_at(0, buffer).await;
            read.expect("the disk can be read");
            image.to_vec()
        };
        (0..self.engines[engine].cores.len()).map(|core| self.at_disk(engine, core, read)).collect()
    }

    /// Other bytes on a dead engine's SSD tier, core by core.
    pub fn replace_disks(&mut self, engine: usize, images: &[Vec<u8>]) {
        for (core, image) in images.iter().enumerate() {
            let mut buffer = buffer_of(image.len());
            buffer.copy_from_slice(image);
            self.at_disk(engine, core, async move |disk: SimDisk| {
                disk.write_all_at(0, buffer).await.0.expect("the disk can be written");
                disk.flush().await.expect("flushed");
            });
        }
    }

    /// A task on the machine of a dead core, with its disk.
    fn at_disk<T: 'static, F: Future<Output = T> + 'static>(
        &mut self,
        engine: usize,
        core: usize,
        task: impl FnOnce(SimDisk) -> F,
    ) -> T {
        let faults = self.sim.faults();
        assert!(!self.engines[engine].cores[core].platform.is_alive(), "it has its disk");
        let node = faults.restart(&self.engines[engine].cores[core].platform);
        let disk = node.disk("ssd", self.shape.ssd_bytes).expect("nobody else has it");
        let done = self.sim.block_on(&node, task(disk)).expect("the task ends in time");
        faults.kill(&node);
        self.engines[engine].cores[core].platform = node;
        done
    }

    /// Tells an engine to leave; it does so in the time that follows.
    pub fn begin_leave(&mut self, engine: usize) {
        self.engines[engine].cores.iter().for_each(|core| core.stop.set(true));
    }

    /// Lets time pass until every engine's cores serve all slots of the table and none is on its way.
    pub fn settle(&mut self) {
        let before = self.sim.now();
        while !self.is_settled() {
            self.pass(Duration::from_millis(20));
            assert!(self.sim.now() - before < Duration::from_secs(60), "the cluster does not settle");
        }
    }

    /// Lets virtual time pass.
    pub fn pass(&mut self, duration: Duration) {
        self.sim.run_for(duration).expect("a bounded number of steps");
    }

    /// Tells an engine to leave, and waits until it has.
    pub fn leave(&mut self, engine: usize) {
        self.begin_leave(engine);
        let before = self.sim.now();
        while !self.engines[engine].cores.iter().all(|core| core.ended.get()) {
            self.pass(Duration::from_millis(20));
            assert!(self.sim.now() - before < Duration::from_secs(60), "the engine does not leave");
        }
    }

    /// Kills a master and starts another one at the same address. It knows what is in the ledger, if there is one,
    /// and else nothing.
    pub fn restart_master(&mut self) {
        self.master_platform = self.sim.faults().restart(&self.master_platform);
        self.start_master(Timing::default());
    }

    /// Starts an engine and the only master anew, as one process that has both: the master knows what is in the ledger.
    pub fn restart_with_master(&mut self, engine: usize) {
        assert!(self.ledger.is_some(), "without one nothing is found again");
        self.master_platform = self.sim.faults().restart(&self.master_platform);
        self.start_master(MasterConfig::embedded().timing);
        self.restart_engine(engine);
    }

    /// The latest master.
    pub fn master(&self) -> Ref<'_, Master> {
        self.master.as_ref().expect("started with the cluster").master.borrow()
    }

    fn start_master(&mut self, timing: Timing) {
        // A ledger has one master: the last one has to let go of it.
        self.master = None;
        let config = MasterConfig {
            listen: self.master_platform.address(MASTER_PORT),
            settings: self.shape.settings.into(),
            ledger: self.ledger.as_ref().map(|directory| directory.path().join("ledger")),
            timing,
            is_embedded: false,
            ..MasterConfig::embedded()
        };
        let node = self.master_platform.clone();
        let start = async move { snowskin_master::start(&node, config).await };
        let started = self.sim.block_on(&self.master_platform, start).expect("the master starts in time");
        self.master = Some(started.expect("its address is free"));
    }

    /// A client on a node of its own.
    pub fn client(&self, name: &str) -> (SimPlatform, Rc<Session<SimPlatform>>) {
        let platform = self.sim.node(name);
        let session = Session::open(platform.clone(), self.client_config());
        (platform, session)
    }

    /// A client on the host of a core: it shares that core's memory.
    pub fn client_beside(
        &self,
        name: &str,
        engine: usize,
        core: usize,
    ) -> (SimPlatform, Rc<Session<SimPlatform>>) {
        let platform = self.sim.node_at(name, self.engines[engine].cores[core].platform.ip());
        let session = Session::open(platform.clone(), self.client_config());
        (platform, session)
    }

    /// The usual settings of a client of this cluster.
    pub fn client_config(&self) -> ClientConfig {
        let local_sockets = LOCAL_FOLDER.into();
        ClientConfig { local_sockets, ..ClientConfig::new([self.master_platform.address(MASTER_PORT)]) }
    }

    /// Runs one task of a client to its end.
    pub fn run<T: 'static>(&mut self, node: &SimPlatform, task: impl Future<Output = T> + 'static) -> T {
        self.sim.block_on(node, task).expect("the task ends in time")
    }

    /// The cores that are alive.
    pub fn cores(&self) -> impl Iterator<Item = Rc<PerCore<SimPlatform>>> + '_ {
        self.engines.iter().flat_map(|engine| &engine.cores).filter_map(SimCore::inside)
    }

    /// The counters of all living cores together. Panics if any core's bytes do not add up.
    pub fn stats(&self) -> CoreStats {
        let mut sum = CoreStats::default();
        for core in self.cores() {
            let stats = core.stats();
            let bytes = stats.free_bytes + stats.live_bytes + stats.pinned_bytes + stats.reserved_bytes;
            assert_eq!(bytes, stats.capacity_bytes, "the bytes of core {} do not add up", core.identity.id);
            sum.add(&stats);
        }
        sum
    }

    /// Whether every core that should be there is a member, all with one table, and no slot is on its way.
    pub fn is_settled(&self) -> bool {
        let cores: Vec<_> = self.cores().collect();
        let stays = |core: &&SimCore| core.platform.is_alive() && !core.stop.get();
        let expected = self.engines.iter().flat_map(|engine| &engine.cores).filter(stays).count();
        let served: u64 = cores.iter().map(|core| core.stats().slots_served).sum();
        let moving: u64 =
            cores.iter().map(|core| core.stats().slots_awaited + core.stats().slots_frozen).sum();
        cores.len() == expected
            && cores.iter().all(|core| core.is_member() && core.epoch() == cores[0].epoch())
            && served == snowskin_protocol::SLOT_COUNT as u64
            && moving == 0
    }

    /// What every core is waiting for, a line each, for people.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for core in self.engines.iter().flat_map(|engine| &engine.cores) {
            let line = match core.inside() {
                None => format!("{}: ended or not open yet", core.platform.name()),
                Some(inside) => {
                    let stats = inside.stats();
                    let member = if inside.is_member() { "a member" } else { "no member" };
                    format!(
                        "{} is {}, {member}, has epoch {}, serves {} slots, awaits {}, has frozen {}",
                        core.platform.name(),
                        inside.identity.id,
                        inside.epoch(),
                        stats.slots_served,
                        stats.slots_awaited,
                        stats.slots_frozen
                    )
                }
            };
            text += &format!("\n  {line}");
        }
        text
    }

    fn start_core(
        &self,
        platform: SimPlatform,
        engine: usize,
        core: u16,
        (incarnation, listening): (Incarnation, &Rc<Cell<u16>>),
    ) -> SimCore {
        let config = CoreConfig {
            id: CoreId { engine: EngineId::of_name(&format!("engine-{engine}")), core },
            incarnation,
            engine_cores: self.shape.cores,
            listen: platform.address(CORE_PORT),
            local: (self.shape.lanes_max > 0).then(|| LocalSockets {
                folder: LOCAL_FOLDER.into(),
                is_asked: true,
                users: LocalUsers::Owner,
                lanes_max: self.shape.lanes_max,
            }),
            advertise: None,
            master: self.master_platform.address(MASTER_PORT),
            memory: MappingRequest::plain(self.shape.core_bytes),
            ssd: (self.shape.ssd_bytes > 0).then(|| SsdConfig {
                place: DiskPlace::sized("ssd", self.shape.ssd_bytes),
                settings: TierSettings {
                    region_bytes: SSD_REGION_BYTES,
                    policy: self.shape.tier_policy,
                    write_bytes_per_day: None,
                    scrub: SSD_SCRUB,
                    trim: Trim::Auto,
                    unix_ms: || 0,
                },
            }),
            policy: self.shape.policy,
            connections_max: 64,
            settings: self.shape.settings,
        };
        let (stop, joined, ended) = (Rc::new(Cell::new(false)), Rc::default(), Rc::new(Cell::new(false)));
        let inside = Rc::new(RefCell::new(None));
        let listening = listening.clone();
        let watch = Watch { joined, stop: stop.clone(), listening, cores: self.shape.cores };
        let (opened, over, node) = (inside.clone(), ended.clone(), platform.clone());
        let faults = self.sim.faults();
        use snowskin_io::Platform;
        platform.spawn(async move {
            let (core, listener) = control::open(&node, &config, &mut |_, _| ControlFlow::Continue(()))
                .await
                .expect("memory and an address");
            *opened.borrow_mut() = Some(core.clone());
            control::run(core, listener, config.master, watch).await;
            over.set(true);
            // The thread ends here, and everything that runs on it.
            faults.kill(&node);
        });
        SimCore { platform, core: inside, stop, ended }
    }
}

fn buffer_of(bytes: usize) -> DiskBuffer {
    DiskBuffers::new(bytes).take(bytes).expect("a pool of its own")
}

/// A deadline so far in the future that only a bug meets it.
pub fn patiently(platform: &SimPlatform) -> Moment {
    use snowskin_io::Platform;
    platform.now() + Duration::from_secs(30)
}
