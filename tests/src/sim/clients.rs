//! Clients: each asks for random operations on random keys, and writes down what came back.

use super::book::{Running, SharedBook};
use super::keys::{Keys, TENANTS};
use super::plan::{Fault, Operation, Plan};
use crate::model::{ClientId, KeyId, Outcome, Verb};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use snowskin_client::{ClientConfig, Error, Found, PutOutcome, RemoveOutcome, Session};
use snowskin_io::sim::SimPlatform;
use snowskin_io::{Moment, Platform};
use snowskin_protocol::ObjectName;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// A client of the simulated cluster, in one of its lives.
pub(super) struct Client {
    /// Its name in the history.
    pub(super) id: ClientId,
    /// Where it runs.
    pub(super) platform: SimPlatform,
    /// Workers that have not ended.
    running: Rc<Cell<usize>>,
}

impl Client {
    /// Starts a client's workers. They go on until `is_over`.
    pub(super) fn start(
        seed: u64,
        id: ClientId,
        platform: SimPlatform,
        config: ClientConfig,
        plan: &Rc<Plan>,
        book: &SharedBook,
        is_over: &Rc<Cell<bool>>,
    ) -> Client {
        let tenant = id % TENANTS.len();
        let config = ClientConfig { tenant: TENANTS[tenant].to_owned(), deadline: plan.deadline, ..config };
        let session = Session::open(platform.clone(), config);
        let running = Rc::new(Cell::new(plan.workers));
        for number in 0..plan.workers {
            let random = StdRng::seed_from_u64(seed ^ ((id * 64 + number + 1) as u64) << 32);
            let asker = Asker::new(id, session.clone(), book.clone(), plan.deadline);
            let mut worker = Worker { asker, random, plan: plan.clone(), is_over: is_over.clone() };
            let running = running.clone();
            platform.spawn(async move {
                worker.work().await;
                running.set(running.get() - 1);
            });
        }
        Client { id, platform, running }
    }

    /// Whether it has nothing under way any more.
    pub(super) fn has_ended(&self) -> bool {
        !self.platform.is_alive() || self.running.get() == 0
    }
}

struct Worker {
    asker: Asker,
    random: StdRng,
    plan: Rc<Plan>,
    is_over: Rc<Cell<bool>>,
}

impl Worker {
    async fn work(&mut self) {
        let platform = self.asker.session.platform().clone();
        let think_max_us = self.plan.think_max.as_micros() as u64;
        while !self.is_over.get() {
            platform.sleep(Duration::from_micros(self.random.random_range(0..=think_max_us))).await;
            let operation = self.plan.operations[self.random.random_range(0..self.plan.operations.len())];
            let keys = self.choose_keys();
            self.asker.ask(operation, keys).await;
        }
    }

    /// Different keys; low ones are chosen more often.
    fn choose_keys(&mut self) -> Vec<KeyId> {
        let count = self.random.random_range(1..=self.plan.batch_max.min(self.plan.keys));
        let mut keys: Vec<KeyId> = Vec::with_capacity(count);
        for _ in 0..count {
            let drawn = self.random.random_range(0.0..1.0_f64);
            let key = (drawn * drawn * self.plan.keys as f64) as KeyId;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}

/// Asks for operations and writes them down.
pub(super) struct Asker {
    client: ClientId,
    /// The client under test.
    pub(super) session: Rc<Session<SimPlatform>>,
    book: SharedBook,
    keys: Rc<Keys>,
    deadline: Duration,
}

impl Asker {
    /// An asker with a session of its own, or shared.
    pub(super) fn new(
        client: ClientId,
        session: Rc<Session<SimPlatform>>,
        book: SharedBook,
        deadline: Duration,
    ) -> Asker {
        let keys = book.borrow().keys.clone();
        Asker { client, session, book, keys, deadline }
    }

    /// Carries one operation out on these keys, and records it.
    pub(super) async fn ask(&self, operation: Operation, keys: Vec<KeyId>) {
        let breaks = self.session.counters().connections_broken;
        let names: Vec<ObjectName> = keys.iter().map(|&key| self.keys.name(key).clone()).collect();
        let deadline = self.session.platform().now() + self.deadline;
        let (running, outcomes) = match operation {
            Operation::Put | Operation::Upsert => self.write(operation, &keys, names, deadline).await,
            Operation::Get | Operation::GetInto => self.read(operation, &keys, names, deadline).await,
            Operation::Lookup => {
                let running = self.begin_all(operation, &keys, Verb::Lookup);
                let outcome = |_, found| match found {
                    Found::Hit(bytes) => Outcome::HitBytes(bytes),
                    Found::Miss(reason) => Outcome::Miss(reason),
                };
                (running, self.outcomes(self.session.lookup(names, deadline).await, outcome))
            }
            Operation::Match => {
                let running = self.begin_all(operation, &keys, Verb::Match);
                let result = self.session.match_prefix(names, deadline).await;
                (running, self.matched(keys.len(), result))
            }
            Operation::Remove | Operation::RemoveForced => {
                let force = operation == Operation::RemoveForced;
                let running = self.begin_all(operation, &keys, Verb::Remove { force });
                let outcome = |_, outcome| match outcome {
                    RemoveOutcome::Removed => Outcome::Removed,
                    RemoveOutcome::Missing(reason) => Outcome::Missing(reason),
                    RemoveOutcome::Leased => Outcome::Leased,
                };
                (running, self.outcomes(self.session.remove(names, force, deadline).await, outcome))
            }
            Operation::Sweep | Operation::SweepForced => {
                let force = operation == Operation::SweepForced;
                let keys: Vec<KeyId> = self.keys.of_tenant(self.client % TENANTS.len()).collect();
                let running = self.begin_all(operation, &keys, Verb::Sweep { force });
                let result = self.session.remove_matching("", force, deadline).await;
                let results = keys.iter().map(|_| result.clone()).collect();
                (running, self.outcomes(results, |_, _| Outcome::Swept))
            }
        };
        let asked_again = self.session.counters().connections_broken > breaks;
        self.book.borrow_mut().end(running, outcomes, asked_again);
    }

    async fn write(
        &self,
        operation: Operation,
        keys: &[KeyId],
        names: Vec<ObjectName>,
        deadline: Moment,
    ) -> (Running, Vec<Outcome>) {
        let generations: Vec<_> = keys.iter().map(|&key| self.book.borrow_mut().generation(key)).collect();
        let verb = |&generation: &_| match operation {
            Operation::Put => Verb::Put(generation),
            _ => Verb::Upsert(generation),
        };
        let verbs: Vec<Verb> = generations.iter().map(verb).collect();
        let value = |(&key, &generation): (&KeyId, &u64)| self.keys.value(key, generation);
        let items = names.into_iter().zip(keys.iter().zip(&generations).map(value)).collect();
        let running = self.begin(operation, keys, verbs);
        let results = match operation {
            Operation::Put => self.session.put(items, deadline).await,
            _ => self.session.upsert(items, deadline).await,
        };
        let outcome = |_, stored| match stored {
            PutOutcome::Stored => Outcome::Stored,
            PutOutcome::Existed => Outcome::Existed,
        };
        (running, self.outcomes(results, outcome))
    }

    async fn read(
        &self,
        operation: Operation,
        keys: &[KeyId],
        names: Vec<ObjectName>,
        deadline: Moment,
    ) -> (Running, Vec<Outcome>) {
        let running = self.begin_all(operation, keys, Verb::Get);
        if operation == Operation::Get {
            let outcome = |at: usize, found: Found<Vec<u8>>| match found {
                Found::Hit(value) => self.told(keys[at], &value),
                Found::Miss(reason) => Outcome::Miss(reason),
            };
            return (running, self.outcomes(self.session.get(names, deadline).await, outcome));
        }
        let buffer = vec![0xee; self.keys.bytes_max() as usize];
        let reads = names.into_iter().map(|name| (name, buffer.clone())).collect();
        let answers = self.session.get_into(reads, deadline).await;
        let (buffers, results): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        let outcome = |at: usize, found: Found<usize>| match found {
            Found::Hit(bytes) => self.told(keys[at], &buffers[at][..bytes]),
            Found::Miss(reason) => Outcome::Miss(reason),
        };
        (running, self.outcomes(results, outcome))
    }

    fn begin_all(&self, operation: Operation, keys: &[KeyId], verb: Verb) -> Running {
        self.begin(operation, keys, vec![verb; keys.len()])
    }

    fn begin(&self, operation: Operation, keys: &[KeyId], verbs: Vec<Verb>) -> Running {
        let verbs: Vec<_> = keys.iter().copied().zip(verbs).collect();
        self.book.borrow_mut().begin(operation, self.client, &verbs, self.deadline)
    }

    fn told(&self, key: KeyId, value: &[u8]) -> Outcome {
        match self.keys.generation(key, value) {
            Ok(generation) => Outcome::Hit(generation),
            Err(what) => Outcome::Garbage(what),
        }
    }

    fn matched(&self, count: usize, result: Result<usize, Error>) -> Vec<Outcome> {
        let held = match result {
            Ok(held) => held,
            Err(error) => {
                self.failed(&error);
                return vec![Outcome::Unknown; count];
            }
        };
        let outcome = |at: usize| match at.cmp(&held) {
            std::cmp::Ordering::Less => Outcome::HitBytes(0),
            std::cmp::Ordering::Equal => Outcome::MissUntold,
            // Nothing is said of those behind the first one that is not held.
            std::cmp::Ordering::Greater => Outcome::Unknown,
        };
        (0..count).map(outcome).collect()
    }

    fn outcomes<T>(
        &self,
        results: Vec<Result<T, Error>>,
        outcome: impl Fn(usize, T) -> Outcome,
    ) -> Vec<Outcome> {
        let of = |(at, result): (usize, Result<T, Error>)| match result {
            Ok(answer) => outcome(at, answer),
            Err(error) => {
                self.failed(&error);
                Outcome::Unknown
            }
        };
        results.into_iter().enumerate().map(of).collect()
    }

    /// Counts an error; some are never right, and at rest nearly none is.
    fn failed(&self, error: &Error) {
        let mut book = self.book.borrow_mut();
        let text = format!("{error:?}");
        let name = text.split([' ', '(', '{']).next().unwrap_or_default();
        book.coverage.count(format!("error {name}"), 1);
        let may_be = match error {
            Error::Deadline | Error::Unreachable { .. } | Error::Broken { .. } | Error::NoEngines => {
                book.is_lenient
            }
            Error::Refused { .. } | Error::Overloaded => book.is_lenient,
            Error::Checksum => book.is_lenient && book.has_begun(Fault::FlippedBits),
            Error::NoSpace => true,
            _ => false,
        };
        if !may_be {
            let client = self.client;
            book.break_promise(format!("client {client} got an error that nothing explains: {error}"));
        }
    }
}
