//! A whole cluster in the simulator: the same master, engine and client code that real processes run.
//!
//! Every core is a node of its own (its own tasks, its own address), as every core of a real engine is a thread of its
//! own. Time is virtual, so a test that waits ten seconds for a dead core takes milliseconds.

use snowskin_client::{ClientConfig, Session};
use snowskin_engine::control::{self, CoreConfig, Supervisor};
use snowskin_engine::percore::PerCore;
use snowskin_io::Moment;
use snowskin_io::sim::{SimPlatform, Simulation};
use snowskin_master::{MasterConfig, MasterHandle};
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::{CoreId, EngineId, Incarnation, Settings};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const MASTER_PORT: u16 = 7300;
const CORE_PORT: u16 = 7400;

/// How large the engines of a simulated cluster are, and what holds in it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Cores of each engine.
    pub cores: u16,
    /// Bytes of each core's segment.
    pub core_bytes: usize,
    /// Watermarks and lease.
    pub settings: Settings,
}

impl Default for Shape {
    fn default() -> Self {
        let settings = Settings { lease_ms: 50, ..Settings::default() };
        Shape { cores: 2, core_bytes: 1 << 20, settings }
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

/// One engine.
pub struct SimEngine {
    /// Its cores, in order.
    pub cores: Vec<SimCore>,
}

/// A master, engines, and a simulation that they live in.
pub struct SimCluster {
    /// The world.
    pub sim: Simulation,
    /// The master's node.
    pub master_platform: SimPlatform,
    /// The master.
    pub master: MasterHandle,
    /// The engines, in the order of their start.
    pub engines: Vec<SimEngine>,
    shape: Shape,
}

struct Watch {
    joined: Rc<Cell<bool>>,
    stop: Rc<Cell<bool>>,
}

impl Supervisor for Watch {
    fn listening(&self, _address: SocketAddr) {}

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
        let sim = Simulation::new(seed);
        let master_platform = sim.node("master");
        let master = start_master(&sim, &master_platform, shape.settings);
        let mut cluster = SimCluster { sim, master_platform, master, engines: Vec::new(), shape };
        for _ in 0..engines {
            cluster.add_engine();
        }
        cluster.settle();
        cluster
    }

    /// Starts another engine; it joins in the time that follows.
    pub fn add_engine(&mut self) {
        let number = self.engines.len();
        let cores = (0..self.shape.cores).map(|core| self.start_core(number, core)).collect();
        self.engines.push(SimEngine { cores });
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
        self.engines[engine].cores.iter().for_each(|core| core.stop.set(true));
        let before = self.sim.now();
        while !self.engines[engine].cores.iter().all(|core| core.ended.get()) {
            self.pass(Duration::from_millis(20));
            assert!(self.sim.now() - before < Duration::from_secs(60), "the engine does not leave");
        }
    }

    /// Kills a master and starts another one, which knows nothing, at the same address.
    pub fn restart_master(&mut self) {
        self.master_platform = self.sim.faults().restart(&self.master_platform);
        self.master = start_master(&self.sim, &self.master_platform, self.shape.settings);
    }

    /// A client on a node of its own.
    pub fn client(&self, name: &str) -> (SimPlatform, Rc<Session<SimPlatform>>) {
        let platform = self.sim.node(name);
        let config = ClientConfig::new([self.master_platform.address(MASTER_PORT)]);
        let session = Session::open(platform.clone(), config);
        (platform, session)
    }

    /// Runs one task of a client to its end.
    pub fn run<T: 'static>(&mut self, node: &SimPlatform, task: impl Future<Output = T> + 'static) -> T {
        self.sim.block_on(node, task).expect("the task ends in time")
    }

    /// The cores that are alive.
    pub fn cores(&self) -> impl Iterator<Item = Rc<PerCore<SimPlatform>>> + '_ {
        let alive = self.engines.iter().flat_map(|engine| &engine.cores);
        alive
            .filter(|core| core.platform.is_alive() && !core.ended.get())
            .filter_map(|core| core.core.borrow().clone())
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

    fn is_settled(&self) -> bool {
        let cores: Vec<_> = self.cores().collect();
        let expected: usize = self
            .engines
            .iter()
            .map(|engine| {
                engine.cores.iter().filter(|core| core.platform.is_alive() && !core.stop.get()).count()
            })
            .sum();
        let served: u64 = cores.iter().map(|core| core.stats().slots_served).sum();
        let moving: u64 =
            cores.iter().map(|core| core.stats().slots_awaited + core.stats().slots_frozen).sum();
        cores.len() == expected
            && cores.iter().all(|core| core.is_member() && core.epoch() == cores[0].epoch())
            && served == snowskin_protocol::SLOT_COUNT as u64
            && moving == 0
    }

    fn start_core(&self, engine: usize, core: u16) -> SimCore {
        let platform = self.sim.node(&format!("engine-{engine}/{core}"));
        let config = CoreConfig {
            id: CoreId { engine: EngineId::of_name(&format!("engine-{engine}")), core },
            incarnation: Incarnation(1),
            engine_cores: self.shape.cores,
            listen: platform.address(CORE_PORT),
            advertise: None,
            master: self.master_platform.address(MASTER_PORT),
            memory_bytes: self.shape.core_bytes,
            prefault: false,
            connections_max: 64,
            settings: self.shape.settings,
        };
        let (stop, joined, ended) = (Rc::new(Cell::new(false)), Rc::default(), Rc::new(Cell::new(false)));
        let inside = Rc::new(RefCell::new(None));
        let watch = Watch { joined, stop: stop.clone() };
        let (opened, over, node) = (inside.clone(), ended.clone(), platform.clone());
        use snowskin_io::Platform;
        platform.spawn(async move {
            let (core, listener) = control::open(&node, &config).await.expect("memory and an address");
            *opened.borrow_mut() = Some(core.clone());
            control::run(core, listener, config.master, watch).await;
            over.set(true);
        });
        SimCore { platform, core: inside, stop, ended }
    }
}

fn start_master(sim: &Simulation, platform: &SimPlatform, settings: Settings) -> MasterHandle {
    let config = MasterConfig {
        listen: platform.address(MASTER_PORT),
        settings: settings.into(),
        ..MasterConfig::embedded()
    };
    let node = platform.clone();
    sim.block_on(platform, async move { snowskin_master::start(&node, config).await })
        .expect("the master starts in time")
        .expect("its address is free")
}

/// A deadline so far in the future that only a bug meets it.
pub fn patiently(platform: &SimPlatform) -> Moment {
    use snowskin_io::Platform;
    platform.now() + Duration::from_secs(30)
}
