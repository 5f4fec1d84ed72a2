//! Clients: each asks for random operations on random keys, and writes down what came back.

use super::book::{Running, SharedBook};
use super::plan::{Fault, Operation, Plan};
use crate::keys::Keys;
use crate::model::{ClientId, KeyId, Outcome, Verb};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use snowskin_client::{ClientConfig, Error, PutValue, Session};
use snowskin_io::sim::SimPlatform;
use snowskin_io::{Moment, Platform};
use snowskin_protocol::ObjectName;
use snowskin_protocol::wire::data::PutHints;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Tenants that use the same keys.
pub(super) const TENANTS: [&str; 2] = ["default", "other"];

/// Keys of both tenants, in turn. The first two are as long as a key may be; the longest values need most of a core.
pub(super) fn keys_of(plan: &Plan) -> Keys {
    let name = |number: usize| {
        let key = match number / TENANTS.len() {
            0 => "k".repeat(4_000),
            number => format!("key-{number}"),
        };
        ObjectName::new(TENANTS[number % TENANTS.len()], key.as_bytes()).expect("a good name")
    };
    Keys::new((0..plan.keys).map(name), plan.shape.core_bytes as u64 * 3 / 4)
}

/// The keys of a tenant.
pub(super) fn keys_of_tenant(keys: &Keys, tenant: usize) -> impl Iterator<Item = KeyId> + use<> {
    (0..keys.count()).skip(tenant).step_by(TENANTS.len())
}

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
    /// How long a call may take.
    time_max: Duration,
}

impl Asker {
    /// An asker with a session of its own, or shared.
    pub(super) fn new(
        client: ClientId,
        session: Rc<Session<SimPlatform>>,
        book: SharedBook,
        time_max: Duration,
    ) -> Asker {
        let keys = book.borrow().keys.clone();
        Asker { client, session, book, keys, time_max }
    }

    /// Carries one operation out on these keys, and records it.
    pub(super) async fn ask(&self, operation: Operation, keys: Vec<KeyId>) {
        let breaks = self.session.counters().connections_broken;
        let (running, outcomes) = match operation {
            Operation::Put | Operation::Upsert => self.write(operation, &keys).await,
            Operation::Get | Operation::GetInto => self.read(operation, &keys).await,
            Operation::Sweep | Operation::SweepForced => self.sweep(operation).await,
            Operation::Lookup => {
                let running = self.begin_all(operation, &keys, Verb::Lookup);
                let results = self.session.lookup(self.names(&keys), self.deadline()).await;
                let outcome = |_, found| Outcome::of_found(found, Outcome::HitBytes);
                (running, self.outcomes(results, outcome))
            }
            Operation::Match => {
                let running = self.begin_all(operation, &keys, Verb::Match);
                let result = self.session.match_prefix(self.names(&keys), self.deadline()).await;
                let unknown = || vec![Outcome::Unknown; keys.len()];
                let outcomes = result.map(|held| Outcome::of_match(keys.len(), held));
                (running, outcomes.inspect_err(|error| self.failed(error)).unwrap_or_else(|_| unknown()))
            }
            Operation::Remove | Operation::RemoveForced => {
                let force = operation == Operation::RemoveForced;
                let running = self.begin_all(operation, &keys, Verb::Remove { force });
                let results = self.session.remove(self.names(&keys), force, self.deadline()).await;
                (running, self.outcomes(results, |_, outcome| outcome.into()))
            }
        };
        let asked_again = self.session.counters().connections_broken > breaks;
        self.book.borrow_mut().end(running, outcomes, asked_again);
    }

    async fn write(&self, operation: Operation, keys: &[KeyId]) -> (Running, Vec<Outcome>) {
        let generations: Vec<_> = keys.iter().map(|&key| self.book.borrow_mut().generation(key)).collect();
        let verb = |&generation: &_| match operation {
            Operation::Put => Verb::Put(generation),
            _ => Verb::Upsert(generation),
        };
        let verbs: Vec<Verb> = generations.iter().map(verb).collect();
        let value = |(&key, &generation): (&KeyId, &u64)| self.keys.value(key, generation);
        let values = keys.iter().zip(&generations).map(value);
        let hints = keys.iter().zip(&generations).map(|(&key, &generation)| self.hints(key, generation));
        let values =
            values.zip(hints).map(|(value, hints)| PutValue::owned(value).with_hints(hints)).collect();
        let running = self.begin(operation, keys, verbs);
        let (replace, names) = (operation != Operation::Put, self.names(keys));
        let results = self.session.put_values(replace, names, values, self.deadline()).await;
        (running, self.outcomes(results, |_, stored| stored.into()))
    }

    /// What a put says about its place among others: always the same for the same put.
    fn hints(&self, key: KeyId, generation: u64) -> PutHints {
        let drawn = (key as u64 * 0x9E37_79B9 + generation).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let is_durable = self.book.borrow().has_ssds && drawn % 4 == 1;
        let parent = key.checked_sub(TENANTS.len()).filter(|_| drawn.is_multiple_of(3));
        PutHints {
            parent: parent.map_or(0, |parent| self.keys.name(parent).hash()),
            group: if drawn.is_multiple_of(7) { 1 + drawn % 3 } else { 0 },
            soft_pin_ms: if drawn.is_multiple_of(5) { 20 + (drawn % 1_000) as u32 } else { 0 },
            flags: (drawn as u32 >> 8) & (PutHints::CONTINUES | PutHints::LEAF)
                | if is_durable { PutHints::DURABLE } else { 0 },
        }
        .with_more_replicas(if drawn.is_multiple_of(4) { 1 + drawn as usize % 2 } else { 0 })
    }

    async fn read(&self, operation: Operation, keys: &[KeyId]) -> (Running, Vec<Outcome>) {
        let running = self.begin_all(operation, keys, Verb::Get);
        let names = self.names(keys);
        if operation == Operation::Get {
            let results = self.session.get(names, self.deadline()).await;
            let outcome = |at: usize, found| {
                Outcome::of_found(found, |value: Vec<u8>| self.keys.read(keys[at], &value))
            };
            return (running, self.outcomes(results, outcome));
        }
        let room = self.keys.bytes_max() as usize;
        let buffers = |name: ObjectName| match name.hash() % 2 {
            0 => (name, vec![vec![0xee; room]]),
            _ => (name, in_pieces(room)),
        };
        let reads = names.into_iter().map(buffers).collect();
        let answers = self.session.get_parts_into(reads, self.deadline()).await;
        let (buffers, results): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        let told = |at: usize, bytes: usize| self.keys.read(keys[at], &buffers[at].concat()[..bytes]);
        (running, self.outcomes(results, |at, found| Outcome::of_found(found, |bytes| told(at, bytes))))
    }

    async fn sweep(&self, operation: Operation) -> (Running, Vec<Outcome>) {
        let force = operation == Operation::SweepForced;
        let keys: Vec<KeyId> = keys_of_tenant(&self.keys, self.client % TENANTS.len()).collect();
        let running = self.begin_all(operation, &keys, Verb::Sweep { force });
        let result = self.session.remove_matching("", force, self.deadline()).await;
        let results = keys.iter().map(|_| result.clone()).collect();
        (running, self.outcomes(results, |_, _| Outcome::Swept))
    }

    fn names(&self, keys: &[KeyId]) -> Vec<ObjectName> {
        keys.iter().map(|&key| self.keys.name(key).clone()).collect()
    }

    /// That of a call which begins now.
    fn deadline(&self) -> Moment {
        self.session.platform().now() + self.time_max
    }

    fn begin_all(&self, operation: Operation, keys: &[KeyId], verb: Verb) -> Running {
        self.begin(operation, keys, vec![verb; keys.len()])
    }

    fn begin(&self, operation: Operation, keys: &[KeyId], verbs: Vec<Verb>) -> Running {
        let verbs: Vec<_> = keys.iter().copied().zip(verbs).collect();
        self.book.borrow_mut().begin(operation, self.client, &verbs, self.time_max)
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
            // A value may be larger than a region, or its bytes at another core.
            Error::NotDurable | Error::NotDurableYet => book.has_ssds,
            Error::NoSpace => true,
            _ => false,
        };
        if !may_be {
            let client = self.client;
            book.break_promise(format!("client {client} got an error that nothing explains: {error}"));
        }
    }
}

/// Buffers with so much room together: from nothing to some that take more than one read.
fn in_pieces(room: usize) -> Vec<Vec<u8>> {
    let lengths = [0, 3, 700, 16 * 1024, 5_001];
    let (mut pieces, mut left) = (Vec::new(), room);
    for length in lengths.iter().cycle() {
        if left == 0 {
            return pieces;
        }
        let length = left.min(*length);
        pieces.push(vec![0xee; length]);
        left -= length;
    }
    pieces
}
