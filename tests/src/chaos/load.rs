//! Client threads: random operations on random keys, written down.

use super::record::{KEYS, PREFIX, Record};
use crate::keys::Keys;
use crate::model::{ClientId, KeyId, Outcome, Verb};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use snowskin_client::{BlockingClient, ClientConfig, Error};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a call may take while faults are about.
pub const FIRE_DEADLINE: Duration = Duration::from_secs(1);
/// How long it may take when nothing is in its way but other work of the machine.
pub(super) const CALM_DEADLINE: Duration = Duration::from_secs(10);
/// How much later than its deadline a call may return on a busy machine.
pub const SLACK: Duration = Duration::from_secs(4);
/// Threads; the first two share a client.
const WORKERS: usize = 3;
/// Keys of a batch.
const BATCH_MAX: usize = 4;
/// Pause between two operations of a thread, at most.
const THINK_MAX_US: u64 = 4_000;

/// Pause after a call that failed. What has no answer may happen at any time until the next rest, and a checker that has
/// to think of thousands of such calls takes for ever and excuses much.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// What a thread may ask for, as often as it stands here.
const OPERATIONS: [Operation; 26] = [
    Operation::Put,
    Operation::Put,
    Operation::Put,
    Operation::Put,
    Operation::Put,
    Operation::Put,
    Operation::Upsert,
    Operation::Upsert,
    Operation::Upsert,
    Operation::Upsert,
    Operation::Get,
    Operation::Get,
    Operation::Get,
    Operation::Get,
    Operation::Get,
    Operation::Get,
    Operation::GetInto,
    Operation::GetInto,
    Operation::GetInto,
    Operation::Lookup,
    Operation::Lookup,
    Operation::Match,
    Operation::Remove,
    Operation::Remove,
    Operation::RemoveForced,
    Operation::Rare,
];
/// Of the rare operations: how many open a new client, for one that sweeps.
const RECONNECTS_FOR_A_SWEEP: u32 = 3;

/// What clients can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Put,
    Upsert,
    Get,
    GetInto,
    Lookup,
    Match,
    Remove,
    RemoveForced,
    SweepForced,
    Sweep,
    /// A new client, or a sweep.
    Rare,
}

/// Whether a fault can be the reason of an error. Everything else is wrong at any time.
pub fn is_explained(error: &Error, is_calm: bool) -> bool {
    match error {
        Error::NoSpace => true,
        Error::Deadline | Error::Unreachable { .. } | Error::Broken { .. } => !is_calm,
        Error::NoEngines | Error::Refused { .. } | Error::Overloaded => !is_calm,
        _ => false,
    }
}

/// What all threads of a round obey.
#[derive(Default)]
pub(super) struct Orders {
    /// No call may fail that begins from now on.
    pub(super) is_calm: AtomicBool,
    /// Come to an end.
    pub(super) is_over: AtomicBool,
}

/// The threads of a round.
pub(super) struct Load {
    /// What they obey.
    pub(super) orders: Arc<Orders>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts the threads against a cluster that answers.
    pub(super) fn start(
        record: &Arc<Record>,
        seed: SocketAddr,
        first_id: ClientId,
        random: &mut StdRng,
    ) -> Result<Load, Error> {
        let orders = Arc::new(Orders::default());
        let mut askers = Vec::new();
        for number in 0..WORKERS {
            let mut asker = Asker::connect(record, seed, first_id + number, &orders)?;
            if number == 1 {
                let first: &Asker = &askers[0];
                asker.client = first.client.clone();
            }
            askers.push(asker);
        }
        let spawn = |mut asker: Asker| {
            let mut random = StdRng::seed_from_u64(random.random());
            std::thread::spawn(move || asker.work(&mut random))
        };
        Ok(Load { orders, threads: askers.into_iter().map(spawn).collect() })
    }

    /// Clients that [`Load::start`] gives ids to.
    pub(super) const CLIENTS: usize = WORKERS;

    /// Lets the threads end and their clients go. Each call in progress has a deadline.
    pub(super) fn stop(self) -> Result<(), String> {
        self.orders.is_over.store(true, Ordering::SeqCst);
        let ends: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        if ends.iter().any(Result::is_err) { Err("a client's thread panicked".into()) } else { Ok(()) }
    }
}

/// A client that writes down what it asks and hears.
pub(super) struct Asker {
    id: ClientId,
    client: BlockingClient,
    record: Arc<Record>,
    orders: Arc<Orders>,
    seed: SocketAddr,
}

impl Asker {
    /// A client of its own.
    pub(super) fn connect(
        record: &Arc<Record>,
        seed: SocketAddr,
        id: ClientId,
        orders: &Arc<Orders>,
    ) -> Result<Asker, Error> {
        let config = ClientConfig { deadline: FIRE_DEADLINE, ..ClientConfig::new([seed]) };
        let client = BlockingClient::connect(config)?;
        Ok(Asker { id, client, record: record.clone(), orders: orders.clone(), seed })
    }

    fn work(&mut self, random: &mut StdRng) {
        while !self.orders.is_over.load(Ordering::SeqCst) {
            // The load's pace; nothing waits for it.
            std::thread::sleep(Duration::from_micros(random.random_range(0..THINK_MAX_US)));
            let mut operation = OPERATIONS[random.random_range(0..OPERATIONS.len())];
            if operation == Operation::Rare {
                let drawn = random.random_range(0..2 * (RECONNECTS_FOR_A_SWEEP + 1));
                operation = match drawn {
                    0 => Operation::Sweep,
                    1 => Operation::SweepForced,
                    _ => operation,
                };
            }
            let is_answered = match operation {
                Operation::Rare => self.reconnect(),
                Operation::Sweep | Operation::SweepForced => self.ask(operation, (0..KEYS).collect()),
                operation => self.ask(operation, choose_keys(random)),
            };
            if !is_answered {
                std::thread::sleep(FAILURE_PAUSE);
            }
        }
    }

    /// Another client takes the place of this one, if the cluster answers it.
    fn reconnect(&mut self) -> bool {
        let is_calm = self.orders.is_calm.load(Ordering::SeqCst);
        let started = self.record.now();
        let fresh = Asker::connect(&self.record, self.seed, self.id, &self.orders);
        let is_answered = fresh.is_ok();
        match fresh {
            Ok(fresh) => self.client = fresh.client,
            Err(error) => self.failed(&error, is_calm),
        }
        self.check_time("connect", self.record.now().since(started), FIRE_DEADLINE);
        is_answered
    }

    /// Carries one operation out on these keys, and records it. Answers whether all of them were answered.
    pub(super) fn ask(&self, operation: Operation, keys: Vec<KeyId>) -> bool {
        let is_calm = self.orders.is_calm.load(Ordering::SeqCst);
        let deadline = if is_calm { CALM_DEADLINE } else { FIRE_DEADLINE };
        let client = self.client.with_deadline(deadline);
        let all = &self.record.keys;
        let names: Vec<&[u8]> = keys.iter().map(|&key| all.name(key).as_ref().key()).collect();
        let generations = match operation {
            Operation::Put | Operation::Upsert => self.record.generations(&keys),
            _ => vec![0; keys.len()],
        };
        let values: Vec<Bytes> = match operation {
            Operation::Put | Operation::Upsert => {
                keys.iter().zip(&generations).map(|(&key, &one)| all.value(key, one)).collect()
            }
            _ => Vec::new(),
        };
        let breaks = client.counters().connections_broken;
        let verbs: Vec<(KeyId, Verb)> =
            keys.iter().zip(generations).map(|(&key, one)| (key, verb(operation, one))).collect();
        let running = self.record.begin(self.id, &verbs);
        let answers = match operation {
            Operation::Put | Operation::Upsert => put(&client, operation, &names, &values),
            Operation::Get => get(&client, all, &keys, &names),
            Operation::GetInto => get_into(&client, all, &keys, &names),
            Operation::Lookup => {
                each(client.lookup(&names), |_, found| Outcome::of_found(found, Outcome::HitBytes))
            }
            Operation::Match => match client.match_prefix(&names) {
                Ok(held) => Outcome::of_match(keys.len(), held).into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error); keys.len()],
            },
            Operation::Remove | Operation::RemoveForced => {
                let results = client.remove(&names, operation == Operation::RemoveForced);
                each(results, |_, outcome| outcome.into())
            }
            Operation::Sweep | Operation::SweepForced | Operation::Rare => {
                let force = operation == Operation::SweepForced;
                let result = client.remove_by_regex(&format!("^{PREFIX}"), force);
                keys.iter().map(|_| result.clone().map(|_| Outcome::Swept)).collect()
            }
        };
        let asked_again = client.counters().connections_broken > breaks;
        let outcome = |answer: &Result<Outcome, Error>| answer.clone().unwrap_or(Outcome::Unknown);
        let name = format!("{operation:?}").to_lowercase();
        let took = self.record.end(&name, running, answers.iter().map(outcome).collect(), asked_again);
        answers
            .iter()
            .filter_map(|answer| answer.as_ref().err())
            .for_each(|error| self.failed(error, is_calm));
        self.check_time(&name, took, deadline);
        answers.iter().all(Result::is_ok)
    }

    fn failed(&self, error: &Error, is_calm: bool) {
        let text = format!("{error:?}");
        let name = text.split([' ', '(', '{']).next().unwrap_or_default();
        self.record.count(format!("error {name}"));
        if !is_explained(error, is_calm) {
            let when = if is_calm { "while the cluster was at rest" } else { "that no fault explains" };
            self.record.break_promise(format!("client {} got an error {when}: {error}", self.id));
        }
    }

    fn check_time(&self, name: &str, took: Duration, deadline: Duration) {
        if took > deadline + SLACK {
            let id = self.id;
            self.record.break_promise(format!(
                "a {name} of client {id} took {took:?}, its deadline was {deadline:?}"
            ));
        }
    }
}

/// Different keys; low ones are chosen more often.
fn choose_keys(random: &mut StdRng) -> Vec<KeyId> {
    let mut keys: Vec<KeyId> = Vec::with_capacity(BATCH_MAX);
    for _ in 0..random.random_range(1..=BATCH_MAX) {
        let drawn = random.random_range(0.0..1.0_f64);
        let key = (drawn * drawn * KEYS as f64) as KeyId;
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn verb(operation: Operation, generation: u64) -> Verb {
    match operation {
        Operation::Put => Verb::Put(generation),
        Operation::Upsert => Verb::Upsert(generation),
        Operation::Get | Operation::GetInto => Verb::Get,
        Operation::Lookup => Verb::Lookup,
        Operation::Match => Verb::Match,
        Operation::Remove => Verb::Remove { force: false },
        Operation::RemoveForced => Verb::Remove { force: true },
        Operation::SweepForced => Verb::Sweep { force: true },
        Operation::Sweep | Operation::Rare => Verb::Sweep { force: false },
    }
}

type Answers = Vec<Result<Outcome, Error>>;

fn each<T>(results: Vec<Result<T, Error>>, outcome: impl Fn(usize, T) -> Outcome) -> Answers {
    results.into_iter().enumerate().map(|(at, result)| result.map(|answer| outcome(at, answer))).collect()
}

fn put(client: &BlockingClient, operation: Operation, names: &[&[u8]], values: &[Bytes]) -> Answers {
    let items: Vec<(&[u8], &[u8])> =
        names.iter().copied().zip(values).map(|(name, value)| (name, &value[..])).collect();
    let results = if operation == Operation::Put { client.put(&items) } else { client.upsert(&items) };
    each(results, |_, outcome| outcome.into())
}

fn get(client: &BlockingClient, all: &Keys, keys: &[KeyId], names: &[&[u8]]) -> Answers {
    each(client.get(names), |at, found| Outcome::of_found(found, |value| all.read(keys[at], &value)))
}

fn get_into(client: &BlockingClient, all: &Keys, keys: &[KeyId], names: &[&[u8]]) -> Answers {
    let mut buffers = vec![vec![0xee; all.bytes_max() as usize]; keys.len()];
    let mut reads: Vec<(&[u8], &mut [u8])> =
        names.iter().copied().zip(&mut buffers).map(|(name, buffer)| (name, &mut buffer[..])).collect();
    let results = client.get_into(&mut reads);
    let told = |at: usize, bytes: usize| all.read(keys[at], &buffers[at][..bytes]);
    each(results, |at, found| Outcome::of_found(found, |bytes| told(at, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_fail_when() {
        assert!(is_explained(&Error::Deadline, false) && !is_explained(&Error::Deadline, true));
        assert!(is_explained(&Error::NoSpace, true));
        assert!(!is_explained(&Error::Checksum, false) && !is_explained(&Error::Closed, false));
    }
}
