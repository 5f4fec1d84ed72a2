//! One run: rounds of fire, convergence, calm, rest and audit; then the history is checked.

use super::cluster::{Cluster, LEASE};
use super::load::{Asker, FIRE_DEADLINE, Load, Operation, Orders, SLACK};
use super::record::{KEYS, Record, keys};
use super::storm::{CLIENTS, Storm};
use super::tampering::history_of;
use crate::Failure;
use crate::model::{ClientId, Fact, History, Stamp, check, check_leases};
use crate::values::value_of;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use snowskin_client::{BlockingClient, ClientConfig, CoreStats, Error, Found, ObjectName, PutOutcome};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Time between two looks of the driver.
const TICK: Duration = Duration::from_millis(20);
/// A driver that was not scheduled for so long stands for engines that were not either, and were declared dead.
const STALL_MIN: Duration = Duration::from_secs(5);
/// Fire of a round, if it is not one in which an engine is declared dead, and if it is.
const SHORT_FIRE: Duration = Duration::from_secs(8);
const LONG_FIRE: Duration = Duration::from_secs(16);
/// How long the cluster may take to come to rest when no more faults happen.
const CONVERGENCE_MAX: Duration = Duration::from_secs(30);
/// How long it has to look settled to be at rest.
const STAYS_SETTLED: Duration = Duration::from_secs(1);
/// How long calls go on that may not fail.
const CALM: Duration = Duration::from_millis(1_500);
/// How long cores may take to forget their clients, and to free what they held for them.
const QUIET_MAX: Duration = Duration::from_secs(10);
/// How long no core must have heard a request before nothing is on its way any more.
const STAYS_QUIET: Duration = Duration::from_millis(400);

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Chooses faults and load.
    pub seed: u64,
    /// Time under fire, of all rounds together; each round takes about five seconds more.
    pub fire: Duration,
}

/// A run that kept all promises.
#[derive(Clone, Debug)]
pub struct Passed {
    /// Everything that was asked and answered.
    pub history: History,
    /// How often what happened.
    pub counts: BTreeMap<String, u64>,
    /// Rounds.
    pub rounds: usize,
}

impl Passed {
    /// The length of a generation of a key, for checkers of the history.
    pub fn bytes_of(key: usize, generation: u64) -> u64 {
        keys().bytes_of(key, generation)
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} calls checked in {} rounds", self.history.calls().len(), self.rounds)?;
        self.counts.iter().try_for_each(|(what, count)| writeln!(f, "  {count:>8} {what}"))
    }
}

/// Runs a seed against processes of its own.
pub fn run(options: Options) -> Result<Passed, Box<Failure>> {
    let record = Arc::new(Record::new());
    let first = record.stamp();
    let mut run = Run {
        record: record.clone(),
        cluster: Cluster::start(record.clone()),
        random: StdRng::seed_from_u64(options.seed),
        clients_started: 0,
        last_tick: Instant::now(),
        stalled: None,
    };
    let failed = |what: String| Box::new(Failure { seed: options.seed, what, trail: record.trail() });
    let rounds = run.rounds(options.fire).map_err(failed)?;
    let history = run.checked_history(first).map_err(failed)?;
    Ok(Passed { history, counts: record.counts(), rounds })
}

struct Run {
    record: Arc<Record>,
    cluster: Cluster,
    random: StdRng,
    clients_started: ClientId,
    last_tick: Instant,
    /// Since when an engine may live on without knowing that it was declared dead.
    stalled: Option<Stamp>,
}

impl Run {
    fn rounds(&mut self, fire: Duration) -> Result<usize, String> {
        self.converge()?;
        let (mut left, mut rounds) = (fire, 0);
        while !left.is_zero() {
            let is_long = left >= LONG_FIRE && (rounds % 2 == 1 || left < SHORT_FIRE + LONG_FIRE);
            let fire = left.min(if is_long { LONG_FIRE } else { SHORT_FIRE });
            left -= fire;
            self.round(fire, is_long, left.is_zero())?;
            rounds += 1;
        }
        Ok(rounds)
    }

    fn round(&mut self, fire: Duration, is_long: bool, is_last: bool) -> Result<(), String> {
        self.record.tell(format!("fire, {fire:?}"));
        let (seed, random) = (self.cluster.master_address, StdRng::seed_from_u64(self.random.random()));
        let load = Load::start(&self.record, seed, self.clients_started, &mut self.random);
        let load = load.map_err(|error| format!("a cluster at rest does not take a client: {error}"))?;
        self.clients_started += Load::CLIENTS;
        self.cluster.start_clients(CLIENTS);
        let mut storm = Storm::new(random, self.record.clone());
        if is_long {
            storm.kill_for_good(&mut self.cluster);
        }
        let until = Instant::now() + fire;
        while Instant::now() < until {
            self.tick()?;
            storm.blow(&mut self.cluster);
        }
        storm.clear(&mut self.cluster);
        self.converge()?;
        // Calls that began before may still fail, and tell their clients what is new.
        self.pass(FIRE_DEADLINE + Duration::from_millis(500))?;
        load.orders.is_calm.store(true, Ordering::SeqCst);
        self.pass(CALM)?;
        load.stop()?;
        let killed = self.cluster.kill_clients();
        (0..killed).for_each(|_| self.record.count("fault KillClient"));
        self.come_to_rest()?;
        self.audit(is_last)
    }

    /// Lets a little time pass, and looks.
    fn tick(&mut self) -> Result<(), String> {
        std::thread::sleep(TICK);
        if self.last_tick.elapsed() > STALL_MIN && self.stalled.is_none() {
            self.record.count("stalls of this machine");
            self.stalled = Some(self.record.stamp());
        }
        self.last_tick = Instant::now();
        self.cluster.poll();
        self.record.broken().map_or(Ok(()), Err)
    }

    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.tick()?;
        }
        Ok(())
    }

    /// Waits until all engines are members and all slots are served, and stay so.
    fn converge(&mut self) -> Result<(), String> {
        let started = Instant::now();
        let mut settled_since = Instant::now();
        while settled_since.elapsed() < STAYS_SETTLED {
            self.tick()?;
            if let Some(unrest) = self.cluster.unrest() {
                settled_since = Instant::now();
                if started.elapsed() > CONVERGENCE_MAX {
                    return Err(format!("no rest {CONVERGENCE_MAX:?} after the last fault: {unrest}"));
                }
            }
        }
        self.record.tell(format!("at rest after {:?}", started.elapsed() - STAYS_SETTLED));
        Ok(())
    }

    /// The clients are gone: all that they held is given back, and nothing is on its way any more.
    fn come_to_rest(&mut self) -> Result<(), String> {
        let started = Instant::now();
        let (mut requests, mut since) = (u64::MAX, Instant::now());
        loop {
            self.tick()?;
            let all = self.cluster.stats()?;
            let sum = |of: fn(&CoreStats) -> u64| all.iter().map(|(_, stats)| of(stats)).sum::<u64>();
            let held = sum(|stats| stats.pinned_bytes + stats.reserved_bytes);
            let now = sum(|stats| stats.data_frames_in);
            if held > 0 || now != requests {
                (requests, since) = (now, Instant::now());
            }
            if since.elapsed() > STAYS_QUIET {
                break;
            }
            if started.elapsed() > QUIET_MAX {
                return Err(format!(
                    "{held} bytes are pinned or reserved for clients that are gone: {all:?}"
                ));
            }
        }
        let at = self.record.stamp();
        if let Some(from) = self.stalled.take() {
            self.record.note(Fact::Split { keys: (0..KEYS).collect(), from, to: at });
            self.record.note(Fact::CoreLost { after: from, until: at });
        }
        let at = self.record.stamp();
        self.record.note(Fact::Rest { at });
        Ok(())
    }

    // -- the audit --

    /// Every key is read. At the end of the last round everything is removed, and every byte of every core is used
    /// once more.
    fn audit(&mut self, is_last: bool) -> Result<(), String> {
        let orders = Arc::new(Orders::default());
        orders.is_calm.store(true, Ordering::SeqCst);
        let id = self.clients_started;
        self.clients_started += 1;
        let asker = Asker::connect(&self.record, self.cluster.master_address, id, &orders)
            .map_err(|error| format!("a cluster at rest does not take the auditor: {error}"))?;
        let all: Vec<_> = (0..KEYS).collect();
        asker.ask(Operation::Get, all.clone());
        asker.ask(Operation::GetInto, all.clone());
        asker.ask(Operation::Lookup, all.clone());
        for &key in &all {
            asker.ask(Operation::Match, vec![key]);
        }
        if is_last {
            asker.ask(Operation::SweepForced, all.clone());
            asker.ask(Operation::Get, all.clone());
            for &key in &all {
                asker.ask(Operation::Put, vec![key]);
            }
            asker.ask(Operation::Get, all);
        }
        drop(asker);
        if is_last {
            self.fill_every_core()?;
        }
        self.tick()
    }

    /// A value as large as its memory goes into every core, and comes back: no byte has leaked.
    fn fill_every_core(&mut self) -> Result<(), String> {
        let config = ClientConfig::new([self.cluster.master_address]);
        let client = BlockingClient::connect(config).map_err(|error| error.to_string())?;
        let table = client.table().map_err(|error| error.to_string())?;
        for (member, stats) in self.cluster.stats()? {
            let is_home = |key: &Vec<u8>| {
                let name = ObjectName::new("default", key).expect("a good name");
                table.home(name.as_ref().slot()).is_some_and(|home| home.id == member.id)
            };
            let mut keys = (0..1_u64 << 20).map(|number| format!("fill-{number}").into_bytes());
            let key = keys.find(is_home).ok_or_else(|| format!("core {} is no home", member.id))?;
            let bytes = stats.capacity_bytes as usize;
            let value = value_of(&key, 1, bytes);
            // What was read last is leased for a moment.
            let until = Instant::now() + LEASE + SLACK;
            let mut put = client.put(&[(&key, &value)]).remove(0);
            while put == Err(Error::NoSpace) && Instant::now() < until {
                self.tick()?;
                put = client.put(&[(&key, &value)]).remove(0);
            }
            let got = client.get(&[&key]).remove(0);
            let is_right = matches!(&got, Ok(Found::Hit(read)) if *read == value);
            if put != Ok(PutOutcome::Stored) || !is_right {
                let (id, got) = (member.id, got.map(|found| found.hit().map(|value| value.len())));
                return Err(format!("core {id} cannot hold {bytes} bytes any more: {put:?}, {got:?}"));
            }
        }
        Ok(())
    }

    /// The history, if it is legal.
    fn checked_history(&self, first: Stamp) -> Result<History, String> {
        let last = self.record.stamp();
        for key in 0..KEYS {
            self.record.note(Fact::Evicted { key, value_bytes: None, after: first, before: last });
        }
        let history = self.record.history();
        self.record.tell(format!("checking {} calls", history.calls().len()));
        check_keys(&history)?;
        self.record.tell("checking leases");
        check_leases(&history, LEASE, &Passed::bytes_of).map_err(|violation| violation.to_string())?;
        self.record.tell("checked");
        Ok(history)
    }
}

/// Checks each key's history, on all processors.
fn check_keys(history: &History) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let key = next.fetch_add(1, Ordering::SeqCst)
            && key < KEYS
        {
            check(&history_of(history, key), &Passed::bytes_of).map_err(|violation| violation.to_string())?;
        }
        Ok(())
    };
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a checker does not panic"))
    })
}
