//! One run: fire, calm, convergence, audit.

use super::book::{Book, SharedBook};
use super::clients::{Asker, Client, TENANTS, keys_of, keys_of_tenant};
use super::coverage::{Coverage, Phase};
use super::operator;
use super::plan::{Operation, Plan};
use super::storm::{Scene, Storm};
use super::watch::Watch;
use crate::Failure;
use crate::lives::{self, Lived};
use crate::model::{ClientId, Fact, check, check_leases};
use crate::simulated::SimCluster;
use crate::values::value_of;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use snowskin_client::{ClientConfig, Found, PutOutcome, Session};
use snowskin_io::Platform;
use snowskin_io::sim::SimPlatform;
use snowskin_protocol::{CoreId, ObjectName};
use std::cell::Cell;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tempfile::TempDir;

/// The longest time between two looks.
const TICK_MAX: Duration = Duration::from_millis(20);
/// How long the cluster may take to come to rest when no more faults happen: a core must be silent for 10 s to be
/// declared dead, and then slots move.
const CONVERGENCE_MAX: Duration = Duration::from_secs(60);
/// How long it has to look settled to be at rest: a master that was just started listens for two seconds before it
/// changes anything.
const STAYS_SETTLED: Duration = Duration::from_secs(4);
/// After the last client has ended: for messages that nobody waits for.
const SILENCE: Duration = Duration::from_secs(3);
/// How long a call of the auditor may take: nothing is in its way.
const AUDIT_DEADLINE: Duration = Duration::from_secs(10);

/// One of so many seeds is another story: [`lives`].
const LIVES_EVERY: u64 = 8;

/// A run that kept all promises.
#[derive(Clone, Debug)]
pub struct Passed {
    /// Everything that happened, as one number.
    pub event_hash: u64,
    /// What was reached.
    pub coverage: Coverage,
    /// Calls that were checked.
    pub calls: usize,
}

impl Passed {
    fn of(lived: Lived) -> Passed {
        let mut coverage = Coverage::default();
        coverage.count("durable puts", lived.durable_puts);
        coverage.count("durable objects found by the next life", lived.durable_found);
        Passed { event_hash: lived.event_hash, coverage, calls: lived.calls }
    }
}

/// Runs a seed.
pub fn run(seed: u64) -> Result<Passed, Box<Failure>> {
    if seed % LIVES_EVERY == LIVES_EVERY - 1 {
        return lives::run(seed).map(Passed::of);
    }
    let plan = Rc::new(Plan::of(seed));
    let mut run = Run::start(seed, plan);
    let book = run.book.clone();
    let failed = |what: String| {
        let trail = book.borrow().trail.clone();
        Box::new(Failure { seed, what, trail })
    };
    run.fire_and_calm().map_err(failed)?;
    run.audit().map_err(failed)?;
    run.check_history().map_err(failed)?;
    let book = run.book.borrow();
    let (coverage, calls) = (book.coverage.clone(), book.history.calls().len());
    Ok(Passed { event_hash: run.cluster.sim.event_hash(), coverage, calls })
}

/// Where ledgers are written often and need not last.
fn ledger_directory() -> TempDir {
    let shared_memory = Path::new("/dev/shm");
    let place = if shared_memory.is_dir() { shared_memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(place).expect("room for a ledger")
}

struct Run {
    seed: u64,
    plan: Rc<Plan>,
    cluster: SimCluster,
    book: SharedBook,
    watch: Watch,
    random: StdRng,
    clients_started: Rc<Cell<ClientId>>,
    is_over: Rc<Cell<bool>>,
}

impl Run {
    fn start(seed: u64, plan: Rc<Plan>) -> Run {
        let cluster =
            SimCluster::start_with(seed, plan.options, plan.engines, plan.shape, Some(ledger_directory()));
        let observer = cluster.sim.node("observer");
        let keys = Rc::new(keys_of(&plan));
        let book = Book::new(observer, keys);
        book.borrow_mut().has_ssds = plan.shape.ssd_bytes > 0;
        let mut watch = Watch::new(book.clone());
        watch.look(&cluster);
        let random = StdRng::seed_from_u64(seed.rotate_left(17) ^ 0x5eed);
        let (clients_started, is_over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        Run { seed, plan, cluster, book, watch, random, clients_started, is_over }
    }

    /// A function that starts one client after the other.
    fn client_starter(&self) -> impl FnMut(&SimCluster) -> Client + use<> {
        let (seed, plan, book) = (self.seed, self.plan.clone(), self.book.clone());
        let (is_over, started) = (self.is_over.clone(), self.clients_started.clone());
        move |cluster| {
            let id = started.get();
            started.set(id + 1);
            let name = format!("client {id}");
            // Spread over the cores by a number that has nothing in common with the choice of who shares memory.
            let cores: Vec<_> = cluster.engines.iter().flat_map(|engine| &engine.cores).collect();
            let is_local = id as u32 * 37 % 100 < plan.local_percent;
            let platform = match is_local {
                true => cluster.sim.node_at(&name, cores[id % cores.len()].platform.ip()),
                false => cluster.sim.node(&name),
            };
            Client::start(seed, id, platform, cluster.client_config(), &plan, &book, &is_over)
        }
    }

    /// Lets a little time pass, and looks.
    fn tick(&mut self) -> Result<(), String> {
        let tick = Duration::from_micros(self.random.random_range(200..=TICK_MAX.as_micros() as u64));
        self.cluster.pass(tick);
        self.look()
    }

    fn look(&mut self) -> Result<(), String> {
        self.watch.look(&self.cluster);
        self.book.borrow().broken.clone().map_or(Ok(()), Err)
    }

    fn fire_and_calm(&mut self) -> Result<(), String> {
        let mut start_client = self.client_starter();
        let mut clients: Vec<Client> = (0..self.plan.clients).map(|_| start_client(&self.cluster)).collect();
        if operator::is_there(self.seed) {
            let node = self.cluster.sim.node("operator");
            operator::start(self.seed, &node, self.cluster.client_config(), &self.book, &self.is_over);
        }
        let storm_random = StdRng::seed_from_u64(self.seed.rotate_left(31) ^ 0x5707_0a11);
        let mut storm = Storm::new(&self.plan, storm_random, self.book.clone());
        let fire_ends = self.cluster.sim.now() + self.plan.fire;
        while self.cluster.sim.now() < fire_ends {
            self.tick()?;
            let scene = &mut Scene {
                cluster: &mut self.cluster,
                clients: &mut clients,
                start_client: &mut start_client,
            };
            if storm.blow(scene) {
                self.look()?;
            }
        }
        storm.clear(&mut Scene {
            cluster: &mut self.cluster,
            clients: &mut clients,
            start_client: &mut start_client,
        });
        self.look()?;
        self.book.borrow_mut().phase = Phase::Calm;
        self.converge()?;
        let calm_ends = self.cluster.sim.now() + self.plan.calm;
        while self.cluster.sim.now() < calm_ends {
            self.tick()?;
        }
        self.stop_clients(clients)
    }

    /// Waits until the cluster is at rest; from then on no call may fail.
    fn converge(&mut self) -> Result<(), String> {
        let limit = self.cluster.sim.now() + CONVERGENCE_MAX;
        let mut settled_since = self.cluster.sim.now();
        while self.cluster.sim.now() - settled_since < STAYS_SETTLED {
            self.tick()?;
            if !self.cluster.is_settled() {
                settled_since = self.cluster.sim.now();
            }
            if self.cluster.sim.now() > limit {
                let state = self.cluster.describe();
                return Err(format!(
                    "the cluster is not at rest {CONVERGENCE_MAX:?} after the last fault:{state}"
                ));
            }
        }
        self.book.borrow_mut().tell("the cluster is at rest");
        // Calls that began before may still fail.
        let lenient_until = self.cluster.sim.now() + self.plan.deadline;
        while self.cluster.sim.now() < lenient_until {
            self.tick()?;
        }
        self.book.borrow_mut().is_lenient = false;
        Ok(())
    }

    fn stop_clients(&mut self, clients: Vec<Client>) -> Result<(), String> {
        self.is_over.set(true);
        let limit = self.cluster.sim.now() + self.plan.deadline + SILENCE;
        while !clients.iter().all(Client::has_ended) {
            self.tick()?;
            if self.cluster.sim.now() > limit {
                return Err("a client does not end".into());
            }
        }
        self.pass(SILENCE)?;
        let at = self.book.borrow_mut().stamp();
        self.book.borrow_mut().note(Fact::Rest { at });
        Ok(())
    }

    fn pass(&mut self, duration: Duration) -> Result<(), String> {
        let until = self.cluster.sim.now() + duration;
        while self.cluster.sim.now() < until {
            self.tick()?;
        }
        Ok(())
    }

    // -- the audit --

    /// Everything is read, looked up, removed; then every core's memory must be good for one value of its size.
    fn audit(&mut self) -> Result<(), String> {
        self.book.borrow_mut().phase = Phase::Audit;
        let platform = self.cluster.sim.node("auditor");
        for (tenant, tenant_name) in TENANTS.iter().enumerate() {
            let config = ClientConfig { tenant: (*tenant_name).to_owned(), ..self.cluster.client_config() };
            let session = Session::open(platform.clone(), config);
            // An id of the tenant, as the asker derives the tenant from it.
            let id = (self.clients_started.get() / TENANTS.len() + 1) * TENANTS.len() + tenant;
            let asker = Asker::new(id, session, self.book.clone(), AUDIT_DEADLINE);
            let keys: Vec<_> = keys_of_tenant(&self.book.borrow().keys, tenant).collect();
            self.run(&platform, async move {
                asker.ask(Operation::Get, keys.clone()).await;
                asker.ask(Operation::Lookup, keys.clone()).await;
                asker.ask(Operation::Match, keys.clone()).await;
                asker.ask(Operation::SweepForced, keys.clone()).await;
                asker.ask(Operation::Get, keys.clone()).await;
                asker.ask(Operation::Put, keys.into_iter().take(1).collect()).await;
            })?;
        }
        self.fill_every_core(&platform)?;
        self.cluster.sim.faults().keep_alive();
        self.pass(SILENCE)?;
        self.check_nothing_is_left()
    }

    fn run(
        &mut self,
        platform: &SimPlatform,
        work: impl Future<Output = ()> + 'static,
    ) -> Result<(), String> {
        let done = Rc::new(Cell::new(false));
        let is_done = done.clone();
        platform.spawn(async move {
            work.await;
            is_done.set(true);
        });
        let limit = self.cluster.sim.now() + AUDIT_DEADLINE * 8;
        while !done.get() {
            self.tick()?;
            if self.cluster.sim.now() > limit {
                return Err("the auditor waits for ever".into());
            }
        }
        Ok(())
    }

    /// A value as large as its memory goes into every core, and comes back: no byte has leaked.
    fn fill_every_core(&mut self, platform: &SimPlatform) -> Result<(), String> {
        let lease = Duration::from_millis(u64::from(self.plan.shape.settings.lease_ms) + 100);
        self.pass(lease)?;
        let names = self.name_for_every_core();
        let session = Session::open(platform.clone(), self.cluster.client_config());
        let bytes = self.plan.shape.core_bytes;
        let (book, node) = (self.book.clone(), platform.clone());
        self.run(platform, async move {
            for (core, name) in names {
                let value = Bytes::from(value_of(name.as_ref().bytes(), 1, bytes));
                let deadline = node.now() + AUDIT_DEADLINE;
                let put = session.put(vec![(name.clone(), value.clone())], deadline).await.remove(0);
                let got = session.get(vec![name], deadline).await.remove(0);
                let is_right = matches!(&got, Ok(Found::Hit(read)) if *read == value);
                if put != Ok(PutOutcome::Stored) || !is_right {
                    let got = got.map(|found| found.hit().map(|value| value.len()));
                    let what = format!("core {core} cannot hold {bytes} bytes any more: {put:?}, {got:?}");
                    book.borrow_mut().break_promise(what);
                }
            }
        })
    }

    fn name_for_every_core(&self) -> Vec<(CoreId, ObjectName)> {
        let Some(any) = self.cluster.cores().next() else { return Vec::new() };
        let routing = any.routing.borrow().clone();
        let name =
            |number: u64| ObjectName::new("default", format!("fill-{number}").as_bytes()).expect("a name");
        let name_for = |core: CoreId| {
            (0..1 << 20)
                .map(name)
                .find(|name| routing.table.home(name.as_ref().slot()).is_some_and(|home| home.id == core))
        };
        self.cluster
            .cores()
            .map(|core| core.identity.id)
            .filter_map(|id| name_for(id).map(|name| (id, name)))
            .collect()
    }

    fn check_nothing_is_left(&self) -> Result<(), String> {
        for core in self.cluster.cores() {
            let stats = core.stats();
            // The value is as large as the first segment; the operator may have left others, which are empty.
            let core_bytes = self.plan.shape.core_bytes as u64;
            let left = [
                ("pinned bytes", stats.pinned_bytes),
                ("reserved bytes", stats.reserved_bytes),
                ("connections", stats.connections),
                ("free bytes", core_bytes.saturating_sub(stats.live_bytes)),
            ];
            if let Some((name, count)) = left.iter().find(|(_, count)| *count > 0) {
                return Err(format!(
                    "core {} has {count} {name} left at the end: {stats:?}",
                    core.identity.id
                ));
            }
        }
        Ok(())
    }

    fn check_history(&mut self) -> Result<(), String> {
        self.watch.close();
        let mut book = self.book.borrow_mut();
        book.coverage.count("epochs", self.watch.epochs());
        let keys = book.keys.clone();
        let bytes_of = move |key, generation| keys.bytes_of(key, generation);
        check(&book.history, &bytes_of).map_err(|violation| violation.to_string())?;
        let lease = Duration::from_millis(u64::from(self.plan.shape.settings.lease_ms));
        check_leases(&book.history, lease, &bytes_of).map_err(|violation| violation.to_string())
    }
}
