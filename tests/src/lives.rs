//! The lives of an engine with its own master, in the simulator: it is killed or loses its power again and again, and what was acknowledged as
//! durable is found by the next life.
//!
//! ```text
//!   life: workers put, upsert, remove and read, each its own keys ──► kill or power off, in the middle ──► all calls have ended ──►
//!   next life: takes over what its SSD holds ──► every key is read ──► …
//! ```
//!
//! **What must be there.** A put or upsert that was to be durable and was acknowledged, and has not been ended by an upsert or removal since, nor
//! may have been (a call without an answer may have happened), and behind which no more than a quarter of the SSD was written: the log is reclaimed
//! in order. **What must not be there:** what an acknowledged upsert or removal has ended, and bytes that nobody has written. The disks lose what
//! was not flushed, tear, and answer in any order (`io/src/sim/disk.rs`); they do not rot here.

use crate::Failure;
use crate::kept::Kept;
use crate::simulated::{Shape, SimCluster};
use crate::values::value_of;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use snowskin_client::{Error, Found, PutOutcome, PutValue, RemoveOutcome, Session};
use snowskin_engine::eviction::PolicyKind;
use snowskin_engine::shard::{Admission, TierPolicy, WriteMode};
use snowskin_io::sim::{DiskFaults, SimPlatform};
use snowskin_io::{Moment, Platform};
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::{ObjectName, Settings};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Lives of one seed.
const LIVES: u64 = 6;
/// How long a call may take, and how long the last ones are waited for.
const CALL_TIME: Duration = Duration::from_millis(800);
/// How long a life is, at most.
const LIFE_MS_MAX: u64 = 1_500;
const SSD_BYTES: u64 = 6 << 20;

/// What a seed has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lived {
    /// Durable puts that were acknowledged.
    pub durable_puts: u64,
    /// Objects that a life has found that were durable in the one before.
    pub durable_found: u64,
    /// Objects that a life has found, durable or not.
    pub found: u64,
    /// Calls that were checked.
    pub calls: usize,
    /// Everything that happened, as one number.
    pub event_hash: u64,
}

/// What a seed decides.
struct Plan {
    shape: Shape,
    workers: usize,
    keys_per_worker: usize,
    value_bytes_max: usize,
    has_local_clients: bool,
}

impl Plan {
    fn of(random: &mut StdRng) -> Plan {
        let settings = Settings { lease_ms: random.random_range(1..30), ..Settings::default() };
        let mode = [WriteMode::Back, WriteMode::Through][random.random_range(0..2)];
        let admission = [Admission::All, Admission::SecondTouch][random.random_range(0..2)];
        Plan {
            shape: Shape {
                cores: 1,
                core_bytes: [64, 128, 256][random.random_range(0..3)] << 10,
                settings,
                policy: PolicyKind::ALL[random.random_range(0..3)],
                ssd_bytes: SSD_BYTES,
                tier_policy: TierPolicy { mode, admission },
                ..Shape::default()
            },
            workers: random.random_range(1..6),
            keys_per_worker: random.random_range(1..12),
            value_bytes_max: [100, 5_000, 20_000][random.random_range(0..3)],
            has_local_clients: random.random(),
        }
    }
}

/// What all workers of a seed share.
struct Book {
    kept: Vec<Kept>,
    lived: Lived,
    broken: Option<String>,
    is_over: bool,
    running: usize,
}

type Shared = Rc<RefCell<Book>>;

/// Runs a seed.
pub fn run(seed: u64) -> Result<Lived, Box<Failure>> {
    let mut random = StdRng::seed_from_u64(seed ^ 0x11fe5);
    let plan = Plan::of(&mut random);
    let mut cluster = SimCluster::start_remembering(seed, 1, plan.shape);
    let keys = plan.workers * plan.keys_per_worker;
    let book = Rc::new(RefCell::new(Book {
        kept: vec![Kept::default(); keys],
        lived: Lived::default(),
        broken: None,
        is_over: false,
        running: 0,
    }));
    let mut trail = Vec::new();
    for life in 0..LIVES {
        live(&mut cluster, &plan, (seed, life), &book, &mut random);
        trail.push(die(&mut cluster, &book, &mut random));
        look_at_all(&mut cluster, life, &book);
        if let Some(what) = book.borrow_mut().broken.take() {
            let stats = cluster.stats();
            trail.push(format!("{:?}; {stats:?}", plan.shape));
            return Err(Box::new(Failure { seed, what, trail }));
        }
    }
    let lived = book.borrow().lived;
    Ok(Lived { event_hash: cluster.sim.event_hash(), ..lived })
}

/// The workers of a life begin, and some time passes.
fn live(cluster: &mut SimCluster, plan: &Plan, (seed, life): (u64, u64), book: &Shared, random: &mut StdRng) {
    book.borrow_mut().is_over = false;
    for number in 0..plan.workers {
        let name = format!("client {life}/{number}");
        let (node, session) = match plan.has_local_clients {
            true => cluster.client_beside(&name, 0, 0),
            false => cluster.client(&name),
        };
        let mut worker = Worker {
            session,
            random: StdRng::seed_from_u64(seed ^ ((life * 64 + number as u64 + 1) << 32)),
            keys: number * plan.keys_per_worker..(number + 1) * plan.keys_per_worker,
            value_bytes_max: plan.value_bytes_max,
            disk: cluster.sim.faults().disks().remove(0),
            book: book.clone(),
        };
        book.borrow_mut().running += 1;
        node.spawn(async move { worker.work().await });
    }
    cluster.pass(Duration::from_micros(random.random_range(1_000..LIFE_MS_MAX * 1_000)));
}

/// The engine and its master end in the middle of everything, and others begin. Answers how it ended.
fn die(cluster: &mut SimCluster, book: &Shared, random: &mut StdRng) -> String {
    let (faults, engine) = (cluster.sim.faults(), cluster.engines[0].cores[0].platform.clone());
    let has_power = random.random_range(0..3) == 0;
    match has_power {
        true => faults.kill(&engine),
        false => faults.power_off(&engine),
    }
    let what = format!("{} {}", cluster.sim.now(), if has_power { "killed" } else { "without power" });
    book.borrow_mut().is_over = true;
    cluster.pass(Duration::from_millis(random.random_range(0..50)));
    cluster.restart_with_master(0);
    cluster.settle();
    let limit = cluster.sim.now() + CALL_TIME * 4;
    while book.borrow().running > 0 && cluster.sim.now() < limit {
        cluster.pass(Duration::from_millis(5));
    }
    assert_eq!(book.borrow().running, 0, "a call does not end");
    what
}

/// A client that was not there before reads everything.
fn look_at_all(cluster: &mut SimCluster, life: u64, book: &Shared) {
    let (node, session) = cluster.client(&format!("auditor {life}"));
    let keys = book.borrow().kept.len();
    book.borrow_mut().kept.iter_mut().for_each(Kept::rest);
    let deadline = node.now() + CALL_TIME * 10;
    let names: Vec<_> = (0..keys).map(name).collect();
    let found = cluster.run(&node, async move { session.get(names, deadline).await });
    let disk = cluster.sim.faults().disks().remove(0);
    let mut book = book.borrow_mut();
    for (number, found) in found.into_iter().enumerate() {
        match found {
            Ok(found) if book.look_at(number, &found, &disk) => {
                book.lived.found += 1;
                book.lived.durable_found += u64::from(book.kept[number].is_durable());
            }
            Ok(_) => {}
            Err(error) => book.break_promise(format!("key {number} cannot be read: {error}")),
        }
    }
}

fn key(number: usize) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

fn name(number: usize) -> ObjectName {
    ObjectName::new("default", &key(number)).expect("a good name")
}

impl Book {
    /// Whether the key is held; notes what is wrong with that.
    fn look_at(&mut self, number: usize, found: &Found<Vec<u8>>, disk: &DiskFaults) -> bool {
        let written = disk.counts().bytes_written;
        // Regions are small: a third of one may stay empty, and each life begins a new one.
        let is_kept = |then| written - then < SSD_BYTES / 4;
        self.kept[number].look_at(&key(number), found, is_kept).unwrap_or_else(|wrong| {
            self.break_promise(wrong);
            false
        })
    }

    fn break_promise(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }
}

/// Changes and reads its own keys, one call after the other, until one is not answered when the life is over.
struct Worker {
    session: Rc<Session<SimPlatform>>,
    random: StdRng,
    keys: std::ops::Range<usize>,
    value_bytes_max: usize,
    disk: DiskFaults,
    book: Shared,
}

impl Worker {
    async fn work(&mut self) {
        while !self.book.borrow().is_over {
            let pause_us = self.random.random_range(0..20_000);
            self.session.platform().sleep(Duration::from_micros(pause_us)).await;
            self.book.borrow_mut().lived.calls += 1;
            match self.random.random_range(0..20) {
                0..7 => self.write(true, true).await,
                7..11 => self.write(false, true).await,
                11..14 => self.write(true, false).await,
                14 => self.write(false, false).await,
                15..17 => self.remove().await,
                _ => self.read().await,
            }
        }
        self.book.borrow_mut().running -= 1;
    }

    fn deadline(&self) -> Moment {
        self.session.platform().now() + CALL_TIME
    }

    fn some_keys(&mut self) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..self.random.random_range(1..4))
            .map(|_| self.random.random_range(self.keys.clone()))
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    async fn write(&mut self, replace: bool, is_durable: bool) {
        let numbers = self.some_keys();
        let hints = PutHints { flags: if is_durable { PutHints::DURABLE } else { 0 }, ..PutHints::default() };
        let mut values = Vec::new();
        for &number in &numbers {
            let generation = self.book.borrow_mut().kept[number].begin_write(replace);
            let bytes = self.random.random_range(16..=self.value_bytes_max);
            let value = Bytes::from(value_of(&key(number), generation, bytes));
            values.push(PutValue::owned(value).with_hints(hints));
        }
        let names = numbers.iter().map(|&number| name(number)).collect();
        let begun_at = self.disk.counts().bytes_written;
        let outcomes = self.session.put_values(replace, names, values, self.deadline()).await;
        let mut book = self.book.borrow_mut();
        for (&number, outcome) in numbers.iter().zip(outcomes) {
            let kept = &mut book.kept[number];
            match outcome {
                Ok(PutOutcome::Stored) => kept.stored(begun_at, is_durable),
                Ok(PutOutcome::Existed) => kept.existed(is_durable),
                Err(Error::NotDurableYet) => kept.held(),
                Err(Error::Unreachable { .. } | Error::Broken { .. } | Error::Deadline | Error::NoSpace) => {
                    continue;
                }
                Err(error) => {
                    book.break_promise(format!("a put of key {number}: {error}"));
                    continue;
                }
            }
            book.lived.durable_puts += u64::from(is_durable);
        }
    }

    async fn remove(&mut self) {
        let number = self.random.random_range(self.keys.clone());
        self.book.borrow_mut().kept[number].begin_removal();
        let outcome = self.session.remove(vec![name(number)], true, self.deadline()).await.remove(0);
        if let Ok(RemoveOutcome::Removed | RemoveOutcome::Missing(_)) = outcome {
            self.book.borrow_mut().kept[number].removed();
        }
    }

    async fn read(&mut self) {
        let number = self.random.random_range(self.keys.clone());
        if let Ok(found) = self.session.get(vec![name(number)], self.deadline()).await.remove(0) {
            self.book.borrow_mut().look_at(number, &found, &self.disk);
        }
    }
}
