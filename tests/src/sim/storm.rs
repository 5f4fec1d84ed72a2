//! The weather of a run: faults begin at random, last for a random time, and end.

use super::book::SharedBook;
use super::clients::Client;
use super::plan::{ENGINES_MAX, Fault, Plan};
use crate::model::Fact;
use crate::simulated::SimCluster;
use rand::RngExt;
use rand::rngs::StdRng;
use snowskin_engine::segment::Reservation;
use snowskin_io::Moment;
use snowskin_io::sim::{NetworkOptions, SimPlatform};
use std::time::Duration;

/// Clocks jump by this at most: longer than any lease and any silence.
const JUMP_MAX: Duration = Duration::from_secs(20);

/// What ends a fault.
enum Cure {
    Nothing,
    Network,
    Heal(Vec<(SimPlatform, SimPlatform)>),
    Resume(Vec<SimPlatform>),
    RestartEngine(usize),
    RestartMaster,
    RestartClient(usize),
    GiveBack(Vec<Reservation>),
}

struct Active {
    fault: Fault,
    until: Moment,
    cure: Cure,
}

/// Everything a fault may hit.
pub(super) struct Scene<'a> {
    /// Engines and master.
    pub(super) cluster: &'a mut SimCluster,
    /// Clients.
    pub(super) clients: &'a mut Vec<Client>,
    /// Starts a client in the place of one that was killed.
    pub(super) start_client: &'a mut dyn FnMut(&SimCluster) -> Client,
}

/// The faults of a run.
pub(super) struct Storm {
    random: StdRng,
    book: SharedBook,
    faults: Vec<Fault>,
    pause_max: Duration,
    time_max: Duration,
    network: NetworkOptions,
    active: Vec<Active>,
    next: Moment,
}

impl Storm {
    /// The faults of a plan.
    pub(super) fn new(plan: &Plan, random: StdRng, book: SharedBook) -> Storm {
        let next = book.borrow().now();
        Storm {
            random,
            book,
            faults: plan.faults.clone(),
            pause_max: plan.fault_pause_max,
            time_max: plan.fault_time_max,
            network: plan.options.network,
            active: Vec::new(),
            next,
        }
    }

    /// Lets end what is due to end, and begin what is due to begin. Answers whether anything happened.
    pub(super) fn blow(&mut self, scene: &mut Scene<'_>) -> bool {
        let now = self.book.borrow().now();
        let due: Vec<Active> = self.active.extract_if(.., |active| active.until <= now).collect();
        let mut happened = !due.is_empty();
        due.into_iter().for_each(|active| self.cure(active, scene));
        if now >= self.next && !self.faults.is_empty() {
            self.next = now + self.up_to(self.pause_max);
            let fault = self.faults[self.random.random_range(0..self.faults.len())];
            happened |= self.begin(fault, scene);
        }
        happened
    }

    /// Ends everything: no more faults.
    pub(super) fn clear(&mut self, scene: &mut Scene<'_>) {
        for active in std::mem::take(&mut self.active) {
            self.cure(active, scene);
        }
        scene.cluster.sim.faults().heal_all();
        for engine in 0..scene.cluster.engines.len() {
            if !scene.cluster.engines[engine].is_alive() {
                scene.cluster.restart_engine(engine);
            }
        }
        self.book.borrow_mut().tell("no more faults");
    }

    fn up_to(&mut self, max: Duration) -> Duration {
        Duration::from_micros(self.random.random_range(1_000..=max.as_micros() as u64))
    }

    fn one_of<T>(&mut self, mut from: Vec<T>) -> Option<T> {
        if from.is_empty() { None } else { Some(from.swap_remove(self.random.random_range(0..from.len()))) }
    }

    /// Begins a fault, if there is anything that it can hit.
    fn begin(&mut self, fault: Fault, scene: &mut Scene<'_>) -> bool {
        let Some((what, cure)) = self.hit(fault, scene) else { return false };
        let lasts = self.up_to(self.time_max);
        let mut book = self.book.borrow_mut();
        book.fault_begins(fault, &what);
        let until = book.now() + lasts;
        drop(book);
        self.active.push(Active { fault, until, cure });
        true
    }

    /// Does it, if there is anything that it can hit; answers what it hit, and what ends it.
    fn hit(&mut self, fault: Fault, scene: &mut Scene<'_>) -> Option<(String, Cure)> {
        match fault {
            Fault::SlowNetwork | Fault::FlippedBits => Some(self.spoil_network(fault, scene)),
            Fault::Cut | Fault::OneWay | Fault::Partition => self.separate(fault, scene),
            Fault::KillEngine | Fault::PowerOff | Fault::KillMaster | Fault::KillClient => {
                self.end(fault, scene)
            }
            Fault::PauseCore | Fault::PauseEngine | Fault::PauseMaster | Fault::PauseClient => {
                let nodes = self.nodes_to_pause(fault, scene)?;
                nodes.iter().for_each(|node| scene.cluster.sim.faults().pause(node));
                Some((nodes[0].name(), Cure::Resume(nodes)))
            }
            Fault::ClockJump => {
                let node = self.any_node(scene)?;
                let by = self.up_to(JUMP_MAX);
                scene.cluster.sim.faults().advance_clock(&node, by);
                self.book.borrow_mut().note(Fact::ClockJumped);
                Some((format!("{} by {by:?}", node.name()), Cure::Nothing))
            }
            Fault::NoMemory => self.take_memory(scene.cluster),
            Fault::Join => {
                let number = scene.cluster.engines.len();
                (number < ENGINES_MAX).then(|| scene.cluster.add_engine())?;
                Some((format!("engine {number}"), Cure::Nothing))
            }
            Fault::Leave => {
                let engine = self.living_engine(scene.cluster)?;
                scene.cluster.begin_leave(engine);
                Some((format!("engine {engine}"), Cure::RestartEngine(engine)))
            }
        }
    }

    fn spoil_network(&mut self, fault: Fault, scene: &Scene<'_>) -> (String, Cure) {
        let faults = scene.cluster.sim.faults();
        if fault == Fault::SlowNetwork {
            let delay_max = self.up_to(Duration::from_millis(100));
            faults.set_network(NetworkOptions { delay_max, ..self.network });
            return (format!("up to {delay_max:?} a packet"), Cure::Network);
        }
        let flipped_ppm = self.random.random_range(100..30_000);
        faults.set_network(NetworkOptions { flipped_ppm, ..self.network });
        (format!("{flipped_ppm} of a million segments"), Cure::Network)
    }

    fn separate(&mut self, fault: Fault, scene: &Scene<'_>) -> Option<(String, Cure)> {
        let faults = scene.cluster.sim.faults();
        if fault == Fault::Cut {
            let chosen = self.one_of(faults.connections())?;
            faults.cut(chosen.id);
            return Some((format!("{} and {}", chosen.opener, chosen.acceptor), Cure::Nothing));
        }
        let (from, to) = (self.any_node(scene)?, self.any_node(scene)?);
        faults.partition_one_way(&from, &to);
        if fault == Fault::Partition {
            faults.partition_one_way(&to, &from);
        }
        Some((format!("from {} to {}", from.name(), to.name()), Cure::Heal(vec![(from, to)])))
    }

    fn end(&mut self, fault: Fault, scene: &Scene<'_>) -> Option<(String, Cure)> {
        let faults = scene.cluster.sim.faults();
        match fault {
            Fault::KillMaster => {
                let master = &scene.cluster.master_platform;
                master.is_alive().then(|| faults.kill(master))?;
                Some((String::new(), Cure::RestartMaster))
            }
            Fault::KillClient => {
                let client = self.random.random_range(0..scene.clients.len());
                let platform = &scene.clients[client].platform;
                platform.is_alive().then(|| faults.kill(platform))?;
                Some((platform.name(), Cure::RestartClient(client)))
            }
            _ => {
                let engine = self.living_engine(scene.cluster)?;
                for core in &scene.cluster.engines[engine].cores {
                    match fault {
                        Fault::KillEngine => faults.kill(&core.platform),
                        _ => faults.power_off(&core.platform),
                    }
                }
                Some((format!("engine {engine}"), Cure::RestartEngine(engine)))
            }
        }
    }

    /// Any node but dead ones.
    fn any_node(&mut self, scene: &Scene<'_>) -> Option<SimPlatform> {
        let cores = scene.cluster.engines.iter().flat_map(|engine| &engine.cores);
        let mut nodes: Vec<SimPlatform> = cores.map(|core| core.platform.clone()).collect();
        nodes.push(scene.cluster.master_platform.clone());
        nodes.extend(scene.clients.iter().map(|client| client.platform.clone()));
        nodes.retain(SimPlatform::is_alive);
        self.one_of(nodes)
    }

    fn nodes_to_pause(&mut self, fault: Fault, scene: &Scene<'_>) -> Option<Vec<SimPlatform>> {
        let of_core = |core: &crate::simulated::SimCore| core.platform.clone();
        let nodes = match fault {
            Fault::PauseMaster => vec![scene.cluster.master_platform.clone()],
            Fault::PauseClient => {
                let client = &scene.clients[self.random.random_range(0..scene.clients.len())];
                self.book.borrow_mut().client_paused(client.id);
                vec![client.platform.clone()]
            }
            _ => {
                let engine = self.living_engine(scene.cluster)?;
                let cores: Vec<_> = scene.cluster.engines[engine].cores.iter().map(of_core).collect();
                match fault {
                    Fault::PauseEngine => cores,
                    _ => vec![self.one_of(cores)?],
                }
            }
        };
        nodes.iter().all(SimPlatform::is_alive).then_some(nodes)
    }

    /// An engine that runs and is not leaving.
    fn living_engine(&mut self, cluster: &SimCluster) -> Option<usize> {
        let engines = cluster.engines.iter().enumerate();
        let stays = |engine: &crate::simulated::SimEngine| {
            engine.is_alive() && engine.cores.iter().all(|core| !core.is_leaving())
        };
        self.one_of(engines.filter(|(_, engine)| stays(engine)).map(|(number, _)| number).collect())
    }

    /// Reserves most of what a core has free, as other puts would that take long.
    fn take_memory(&mut self, cluster: &SimCluster) -> Option<(String, Cure)> {
        let core = self.one_of(cluster.cores().collect())?;
        let mut shard = core.shard.borrow_mut();
        let segments = shard.segments_mut();
        let mut taken = Vec::new();
        let mut bytes = segments.usage().free_range_bytes_max as usize;
        while bytes > 0 && self.random.random_range(0..16) > 0 {
            taken.extend(segments.reserve(bytes));
            bytes = segments.usage().free_range_bytes_max as usize;
        }
        Some((format!("{} runs of core {}", taken.len(), core.identity.id), Cure::GiveBack(taken)))
    }

    fn cure(&mut self, active: Active, scene: &mut Scene<'_>) {
        let faults = scene.cluster.sim.faults();
        match active.cure {
            Cure::Nothing => {}
            Cure::Network => faults.set_network(self.network),
            Cure::Heal(pairs) => pairs.iter().for_each(|(a, b)| faults.heal(a, b)),
            Cure::Resume(nodes) => nodes.iter().for_each(|node| faults.resume(node)),
            Cure::RestartEngine(engine) => {
                // One that was told to leave has left, or is killed now.
                scene.cluster.restart_engine(engine);
            }
            Cure::RestartMaster => scene.cluster.restart_master(),
            Cure::RestartClient(client) => scene.clients[client] = (scene.start_client)(scene.cluster),
            Cure::GiveBack(taken) => drop(taken),
        }
        self.book.borrow_mut().fault_ends(active.fault);
    }
}
