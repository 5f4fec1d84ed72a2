//! The processes of a run, and what is known of each. Every one is ours; each is killed when its handle goes.

use super::record::Record;
use crate::model::{Fact, Stamp};
use crate::processes::Process;
use rustix::process::Signal;
use snowskin_client::{BlockingClient, ClientConfig, CoreStats, Member};
use snowskin_protocol::SLOT_COUNT;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Memory of an engine, all of it one core's. Less than what the clients write, so that eviction never ends.
const ENGINE_MEMORY: &str = "2MiB";
/// How long a read protects what it read.
pub(super) const LEASE: Duration = Duration::from_millis(200);
/// Engines at the start, and the least that is restored after each fire.
pub(super) const ENGINES: usize = 3;
/// How long a call of the driver may take.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);
/// How long an engine may take from SIGTERM to its end: it gives up giving its slots away after five seconds.
const LEAVE_MAX: Duration = Duration::from_secs(20);

/// An engine, in one of its lives or between two.
pub(super) struct Engine {
    name: String,
    process: Option<Process>,
    is_ready: bool,
    /// SIGSTOP was sent.
    pub(super) is_stopped: bool,
    /// SIGTERM was sent.
    leaves_since: Option<(Stamp, Instant)>,
    /// When it went on after a stop, or began: a second stop right after the first one would be a longer stop.
    pub(super) fresh_since: Instant,
}

/// A client process, and its key range.
pub(super) struct ClientProcess {
    number: usize,
    process: Process,
}

/// Everything that runs.
pub(super) struct Cluster {
    record: Arc<Record>,
    ledger: TempDir,
    /// Where the master listens, in all its lives.
    pub(super) master_address: SocketAddr,
    master: Option<Process>,
    master_is_ready: bool,
    pub(super) master_is_stopped: bool,
    engines: Vec<Engine>,
    clients: Vec<ClientProcess>,
    clients_started: u64,
}

impl Cluster {
    /// Starts master and engines; waits for the master only.
    pub(super) fn start(record: Arc<Record>) -> Cluster {
        let ledger = tempfile::tempdir().expect("room for a ledger");
        let master = spawn_master(&ledger, "127.0.0.1:0", true);
        let master_address = master.address();
        let engines: Vec<Engine> = (0..ENGINES).map(|number| Engine::start(number, master_address)).collect();
        Cluster {
            record,
            ledger,
            master_address,
            master: Some(master),
            master_is_ready: true,
            master_is_stopped: false,
            engines,
            clients: Vec::new(),
            clients_started: 0,
        }
    }

    /// Looks at every process: who is ready, who has left, and that nobody has ended who was not told to.
    pub(super) fn poll(&mut self) {
        for number in 0..self.engines.len() {
            let engine = &mut self.engines[number];
            let Some(process) = &mut engine.process else { continue };
            engine.is_ready = process.is_ready();
            let ended = process.ended();
            match (ended, engine.leaves_since) {
                (None, Some((_, since))) if since.elapsed() > LEAVE_MAX => {
                    let name = &engine.name;
                    self.record.break_promise(format!("engine {name} was told to leave and goes on"));
                }
                (None, _) => {}
                (Some(status), Some((after, _))) => {
                    if !status.success() {
                        let name = &engine.name;
                        self.record.break_promise(format!("engine {name} left with {status}"));
                    }
                    self.record.tell(format!("engine {} has left", engine.name));
                    engine.forget();
                    let until = self.record.stamp();
                    self.record.note(Fact::CoreLost { after, until });
                }
                (Some(status), None) => {
                    self.record.break_promise(format!("engine {} ended by itself: {status}", engine.name));
                }
            }
        }
        self.master_is_ready = self.master.as_mut().is_some_and(Process::is_ready);
        if let Some(status) = self.master.as_mut().and_then(Process::ended) {
            self.record.break_promise(format!("the master ended by itself: {status}"));
        }
        for client in &mut self.clients {
            if let Some(status) = client.process.ended() {
                let number = client.number;
                self.record.break_promise(format!("client process {number} ended by itself: {status}"));
            }
        }
    }

    // -- faults, and what ends them --

    /// The engines that run, serve, and are not under any fault.
    pub(super) fn healthy(&self) -> Vec<usize> {
        let is_healthy = |engine: &Engine| {
            engine.process.is_some() && engine.is_ready && !engine.is_stopped && engine.leaves_since.is_none()
        };
        (0..self.engines.len()).filter(|&number| is_healthy(&self.engines[number])).collect()
    }

    /// The engines that are down.
    pub(super) fn down(&self) -> Vec<usize> {
        (0..self.engines.len()).filter(|&number| self.engines[number].process.is_none()).collect()
    }

    /// One of the engines.
    pub(super) fn engine(&self, number: usize) -> &Engine {
        &self.engines[number]
    }

    /// How many there are, dead or alive.
    pub(super) fn engine_count(&self) -> usize {
        self.engines.len()
    }

    /// SIGKILL to an engine.
    pub(super) fn kill_engine(&mut self, number: usize) {
        let after = self.record.stamp();
        let engine = &mut self.engines[number];
        if let Some(process) = engine.process.take() {
            process.kill();
        }
        engine.forget();
        let until = self.record.stamp();
        self.record.note(Fact::CoreLost { after, until });
    }

    /// Starts an engine that is down, or a further one.
    pub(super) fn start_engine(&mut self, number: usize) {
        let fresh = Engine::start(number, self.master_address);
        match self.engines.get_mut(number) {
            Some(engine) if engine.process.is_none() => *engine = fresh,
            Some(_) => {}
            None => self.engines.push(fresh),
        }
    }

    /// SIGSTOP or SIGCONT to an engine.
    pub(super) fn stop_engine(&mut self, number: usize, stop: bool) {
        let engine = &mut self.engines[number];
        if let Some(process) = &engine.process {
            process.signal(if stop { Signal::STOP } else { Signal::CONT });
            engine.is_stopped = stop;
            engine.fresh_since = Instant::now();
        }
    }

    /// SIGTERM to an engine.
    pub(super) fn let_engine_leave(&mut self, number: usize) {
        let since = self.record.stamp();
        let engine = &mut self.engines[number];
        if let Some(process) = &engine.process {
            process.signal(Signal::TERM);
            engine.leaves_since = Some((since, Instant::now()));
        }
    }

    /// Whether the master runs and nothing holds it.
    pub(super) fn master_is_healthy(&self) -> bool {
        self.master.is_some() && !self.master_is_stopped
    }

    /// SIGKILL to the master.
    pub(super) fn kill_master(&mut self) {
        if let Some(master) = self.master.take() {
            master.kill();
        }
    }

    /// Another life of the master, with the same ledger at the same address.
    pub(super) fn restart_master(&mut self) {
        if self.master.is_none() {
            self.master = Some(spawn_master(&self.ledger, &self.master_address.to_string(), false));
        }
    }

    /// SIGSTOP or SIGCONT to the master.
    pub(super) fn stop_master(&mut self, stop: bool) {
        if let Some(master) = &self.master {
            master.signal(if stop { Signal::STOP } else { Signal::CONT });
            self.master_is_stopped = stop;
        }
    }

    /// Starts client processes up to this many, each on a range of keys of its own.
    pub(super) fn start_clients(&mut self, count: usize) {
        for number in self.clients.len()..count {
            let process = self.spawn_client(number);
            self.clients.push(ClientProcess { number, process });
        }
    }

    /// SIGKILL to a client process; another one takes its place, and its keys.
    pub(super) fn replace_client(&mut self, at: usize) {
        let process = self.spawn_client(self.clients[at].number);
        std::mem::replace(&mut self.clients[at].process, process).kill();
    }

    /// SIGKILL to all client processes. Answers how many.
    pub(super) fn kill_clients(&mut self) -> usize {
        let clients = std::mem::take(&mut self.clients);
        let count = clients.len();
        clients.into_iter().for_each(|client| client.process.kill());
        count
    }

    fn spawn_client(&mut self, number: usize) -> Process {
        self.clients_started += 1;
        let (address, number) = (self.master_address.to_string(), number.to_string());
        let life = self.clients_started.to_string();
        let args = ["--at", &address, "--range", &number, "--seed", &life];
        Process::spawn("chaos_client", &args)
    }

    // -- looks --

    /// What every core of the table says of itself, if all of them answer. Their accounts are square at any time.
    pub(super) fn stats(&self) -> Result<Vec<(Member, CoreStats)>, String> {
        // A client that asks for nothing but counters keeps its table for ever: each look is a client's first.
        let config = ClientConfig { deadline: LOOK_DEADLINE, ..ClientConfig::new([self.master_address]) };
        let observer = BlockingClient::connect(config).map_err(|error| error.to_string())?;
        let answers = observer.stats().map_err(|error| error.to_string())?;
        let mut all = Vec::new();
        for (member, stats) in answers {
            let stats = stats.map_err(|error| format!("core {}: {error}", member.id))?;
            let sum = stats.free_bytes + stats.live_bytes + stats.pinned_bytes + stats.reserved_bytes;
            if sum != stats.capacity_bytes {
                let id = member.id;
                self.record.break_promise(format!("the bytes of core {id} do not add up: {stats:?}"));
            }
            all.push((member, stats));
        }
        Ok(all)
    }

    /// Why the cluster is not at rest, if it is not: every engine a member, nobody else, every slot served.
    pub(super) fn unrest(&self) -> Option<String> {
        if !self.master_is_healthy() || !self.master_is_ready {
            return Some("the master is not there yet".into());
        }
        let running = self.engines.iter().filter(|engine| engine.process.is_some());
        let (mut addresses, mut names) = (BTreeSet::new(), Vec::new());
        for engine in running {
            match &engine.process {
                Some(process) if engine.is_ready && engine.leaves_since.is_none() => {
                    addresses.insert(process.address());
                }
                _ => names.push(engine.name.as_str()),
            }
        }
        if !names.is_empty() {
            return Some(format!("engines {names:?} are joining or leaving"));
        }
        match self.members_of_master() {
            Err(error) => return Some(error),
            Ok(active) if active != addresses => {
                return Some(format!("the master has {active:?} active, and there are {addresses:?}"));
            }
            Ok(_) => {}
        }
        let stats = match self.stats() {
            Ok(stats) => stats,
            Err(error) => return Some(error),
        };
        let members: BTreeSet<SocketAddr> = stats.iter().map(|(member, _)| member.address).collect();
        let sum = |of: fn(&CoreStats) -> u64| stats.iter().map(|(_, stats)| of(stats)).sum::<u64>();
        let served = sum(|stats| stats.slots_served);
        let moving = sum(|stats| stats.slots_awaited + stats.slots_frozen);
        let is_settled = members == addresses && served == SLOT_COUNT as u64 && moving == 0;
        let slots: Vec<_> = stats
            .iter()
            .map(|(member, one)| {
                (member.id.to_string(), one.slots_served, one.slots_awaited, one.slots_frozen)
            })
            .collect();
        (!is_settled).then(|| format!("slots served, awaited, frozen: {slots:?}"))
    }

    /// The cores that the master calls active, when it knows of no living one in another state.
    fn members_of_master(&self) -> Result<BTreeSet<SocketAddr>, String> {
        let ready = self.master.as_ref().map_or("", |master| &master.ready);
        let address: Option<SocketAddr> =
            ready.split("http://").nth(1).and_then(|rest| rest.trim().parse().ok());
        let address = address.ok_or("the master does not say yet where its HTTP is")?;
        let body = http_get(address, "/members").map_err(|error| format!("{address}: {error}"))?;
        let members: serde_json::Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        let mut active = BTreeSet::new();
        for member in members.as_array().into_iter().flatten() {
            let address = member["address"].as_str().and_then(|text| text.parse().ok());
            match (member["state"].as_str(), address) {
                (Some("dead"), _) => {}
                (Some("active"), Some(address)) => {
                    active.insert(address);
                }
                _ => return Err(format!("the master has a member that is not active: {member}")),
            }
        }
        Ok(active)
    }
}

impl Engine {
    fn start(number: usize, master: SocketAddr) -> Engine {
        let (name, master) = (format!("chaos-{number}"), master.to_string());
        let args = ["--cores", "1", "--memory", ENGINE_MEMORY, "--listen", "127.0.0.1:0", "--spin-us", "0"];
        let named = ["--log", "error", "--name", &name, "--master", &master];
        let process = Some(Process::spawn("snowskin-engine", &[&args[..], &named].concat()));
        let fresh_since = Instant::now();
        Engine { name, process, is_ready: false, is_stopped: false, leaves_since: None, fresh_since }
    }

    /// Its process is gone.
    fn forget(&mut self) {
        (self.process, self.leaves_since) = (None, None);
        (self.is_ready, self.is_stopped) = (false, false);
    }
}

fn spawn_master(ledger: &TempDir, listen: &str, wait: bool) -> Process {
    let ledger = ledger.path().join("ledger");
    let lease = LEASE.as_millis().to_string();
    let ledger = ledger.to_str().expect("a readable path");
    let args = ["--listen", listen, "--http", "127.0.0.1:0", "--lease-ms", &lease, "--ledger", ledger];
    let args = [&args[..], &["--log", "error"]].concat();
    if wait { Process::start("snowskin-master", &args) } else { Process::spawn("snowskin-master", &args) }
}

fn http_get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LOOK_DEADLINE)?;
    stream.set_read_timeout(Some(LOOK_DEADLINE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::Error::other("this is no HTTP"))
}
