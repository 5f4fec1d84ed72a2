//! The command `run`: a synthetic workload, preloaded, measured, and every byte of it checked.

use crate::cluster::Cluster;
use crate::latency::Op;
use crate::meter::{Measured, Watch, Worker, measure};
use crate::store::{Failure, Store, Stored};
use crate::values::{Suspicion, Values, WrongValue};
use crate::workload::{Mix, Pace, Popularity, Sizes};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The most bytes of values in one call of the preload.
const PRELOAD_BYTES_PER_CALL: usize = 8 << 20;

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct RunPlan {
    pub(crate) keys: u64,
    pub(crate) sizes: Sizes,
    pub(crate) batch: usize,
    pub(crate) threads: usize,
    pub(crate) mix: Mix,
    pub(crate) popularity: Popularity,
    /// End after this time, or after so many keys.
    pub(crate) duration: Option<Duration>,
    pub(crate) operations: u64,
    /// Keys a second of an open loop.
    pub(crate) rate: Option<f64>,
    pub(crate) verify: bool,
    pub(crate) refill: bool,
    pub(crate) seed: u64,
}

/// Puts every key once.
pub(crate) fn preload(
    plan: &RunPlan,
    stores: &[Box<dyn Store>],
    cluster: Option<&mut Cluster>,
) -> std::io::Result<Measured> {
    let batch = (PRELOAD_BYTES_PER_CALL / plan.sizes.max().max(1)).clamp(1, 256) as u64;
    let next = AtomicU64::new(0);
    let watch = Watch {
        label: "preload",
        workers: plan.threads,
        limit: None,
        length: plan.keys,
        position: |total| total.counts.operations,
        cluster,
        json_lines: None,
    };
    measure(watch, |worker| {
        let mut caller = Caller::new(plan, stores, worker);
        while !worker.stopped() {
            let first = next.fetch_add(batch, Ordering::Relaxed);
            if first >= plan.keys {
                break;
            }
            let keys: Vec<u64> = (first..plan.keys.min(first + batch)).collect();
            caller.put(&keys, false, Instant::now());
        }
    })
}

/// Runs the mix and measures it.
pub(crate) fn run(
    plan: &RunPlan,
    stores: &[Box<dyn Store>],
    cluster: Option<&mut Cluster>,
    json_lines: Option<&Path>,
) -> std::io::Result<Measured> {
    let pace = Pace::new(plan.rate.map(|rate| rate / plan.batch as f64));
    let taken = AtomicU64::new(0);
    let watch = Watch {
        label: "run",
        workers: plan.threads,
        limit: plan.duration,
        length: plan.operations,
        position: |total| total.counts.operations,
        cluster,
        json_lines,
    };
    measure(watch, |worker| {
        let mut caller = Caller::new(plan, stores, worker);
        let mut random = StdRng::seed_from_u64(plan.seed.wrapping_add(worker.index as u64));
        while let Some(intended) = pace.next(|| worker.stopped()) {
            let before = taken.fetch_add(plan.batch as u64, Ordering::Relaxed);
            if plan.duration.is_none() && before >= plan.operations {
                break;
            }
            let op = plan.mix.choose(random.random());
            caller.call(op, &mut random, intended);
        }
    })
}

/// One thread's hands: its store, its buffers, its counters.
struct Caller<'a> {
    plan: &'a RunPlan,
    store: &'a dyn Store,
    worker: &'a Worker<'a>,
    values: Values,
    buffers: Vec<Vec<u8>>,
}

impl<'a> Caller<'a> {
    fn new(plan: &'a RunPlan, stores: &'a [Box<dyn Store>], worker: &'a Worker<'a>) -> Self {
        let store = stores[worker.index % stores.len()].as_ref();
        Caller { plan, store, worker, values: Values::new(plan.seed), buffers: Vec::new() }
    }

    fn call(&mut self, op: Op, random: &mut StdRng, intended: Instant) {
        let mut keys: Vec<u64> = (0..self.plan.batch).map(|_| self.plan.popularity.draw(random)).collect();
        match op {
            Op::Get => self.get(&keys, intended),
            Op::View => self.view(&keys, intended),
            Op::Put => self.put(&keys, false, intended),
            Op::Upsert => self.put(&keys, true, intended),
            Op::Lookup => self.lookup(&keys, intended),
            Op::MatchPrefix | Op::Request => {
                // A chain: the keys that follow the drawn one.
                let first = keys[0];
                keys.iter_mut().zip(first..).for_each(|(key, next)| *key = next % self.plan.keys);
                self.match_prefix(&keys, intended);
            }
        }
    }

    fn get(&mut self, keys: &[u64], intended: Instant) {
        let names = self.names(keys);
        self.size_buffers(keys);
        let reads = names.iter().map(|name| name.as_slice());
        let mut reads: Vec<(&[u8], &mut [u8])> =
            reads.zip(self.buffers.iter_mut().map(|buffer| buffer.as_mut_slice())).collect();
        let outcomes = self.store.get_into(&mut reads);
        self.worker.record().latency(Op::Get, intended.elapsed());
        let mut missed = Vec::new();
        for (place, outcome) in outcomes.into_iter().enumerate() {
            let buffer = &self.buffers[place];
            let read = outcome.map(|length| length.map(|length| &buffer[..length]));
            if self.count_read(&names[place], buffer.len(), read) {
                missed.push(keys[place]);
            }
        }
        self.refill(&missed);
    }

    fn view(&mut self, keys: &[u64], intended: Instant) {
        let names = self.names(keys);
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let mut missed = Vec::new();
        // Values are checked where they lie, in the middle of the call: that time is no part of it.
        let mut checking = Duration::ZERO;
        self.store.views(&names, &mut |place, read| {
            let begun = Instant::now();
            if self.count_read(names[place], self.plan.sizes.of_key(keys[place]), read) {
                missed.push(keys[place]);
            }
            checking += begun.elapsed();
        });
        self.worker.record().latency(Op::View, intended.elapsed().saturating_sub(checking));
        self.refill(&missed);
    }

    /// Counts the read of a key whose value has so many bytes, and checks the value. True if it was not held.
    fn count_read(&self, name: &[u8], value_bytes: usize, read: Result<Option<&[u8]>, Failure>) -> bool {
        let mut recorder = self.worker.record();
        recorder.counts.operations += 1;
        match read {
            Ok(Some(value)) => {
                recorder.counts.hits += 1;
                recorder.counts.bytes_read += value.len() as u64;
                drop(recorder);
                if self.plan.verify {
                    judge(self.worker, &self.values, name, value, value_bytes);
                }
                false
            }
            Ok(None) => {
                recorder.counts.misses += 1;
                true
            }
            Err(failure) => {
                drop(recorder);
                self.worker.failed(&failure);
                false
            }
        }
    }

    /// Puts what reads have missed, if that is asked for.
    fn refill(&mut self, missed: &[u64]) {
        if self.plan.refill && !missed.is_empty() {
            self.put(missed, false, Instant::now());
        }
    }

    fn put(&mut self, keys: &[u64], replace: bool, intended: Instant) {
        let names = self.names(keys);
        self.size_buffers(keys);
        for (name, buffer) in names.iter().zip(&mut self.buffers) {
            self.values.fill(name, buffer);
        }
        let items: Vec<(&[u8], &[u8])> = names
            .iter()
            .zip(&self.buffers)
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect();
        // Making the values is no part of the call: what was late before it stays late.
        let outcomes = self.store.put(&items, replace);
        let op = if replace { Op::Upsert } else { Op::Put };
        self.worker.record().latency(op, intended.elapsed());
        count_puts(self.worker, &items, outcomes);
    }

    fn lookup(&self, keys: &[u64], intended: Instant) {
        let names = self.names(keys);
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let outcomes = self.store.lookup(&names);
        self.worker.record().latency(Op::Lookup, intended.elapsed());
        for outcome in outcomes {
            match outcome {
                Ok(held) => count_held(self.worker, 1, u64::from(held)),
                Err(failure) => self.worker.failed(&failure),
            }
        }
    }

    fn match_prefix(&self, keys: &[u64], intended: Instant) {
        let names = self.names(keys);
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let outcome = self.store.match_prefix(&names);
        self.worker.record().latency(Op::MatchPrefix, intended.elapsed());
        match outcome {
            Ok(held) => count_held(self.worker, keys.len() as u64, held as u64),
            Err(failure) => self.worker.failed(&failure),
        }
    }

    /// Names carry seed and size, so that runs on one cluster with other values do not meet.
    fn names(&self, keys: &[u64]) -> Vec<Vec<u8>> {
        let name = |key: &u64| format!("run-{}-{}/{key:010}", self.plan.seed, self.plan.sizes.of_key(*key));
        keys.iter().map(|key| name(key).into_bytes()).collect()
    }

    fn size_buffers(&mut self, keys: &[u64]) {
        self.buffers.resize_with(keys.len(), Vec::new);
        for (buffer, key) in self.buffers.iter_mut().zip(keys) {
            buffer.resize(self.plan.sizes.of_key(*key), 0);
        }
    }
}

fn count_held(worker: &Worker<'_>, asked: u64, held: u64) {
    let mut recorder = worker.record();
    recorder.counts.operations += asked;
    recorder.counts.hits += held;
    recorder.counts.misses += asked - held.min(asked);
}

/// Counts the outcomes of a batch of puts.
pub(crate) fn count_puts(
    worker: &Worker<'_>,
    items: &[(&[u8], &[u8])],
    outcomes: Vec<Result<Stored, Failure>>,
) {
    for (outcome, (_, value)) in outcomes.into_iter().zip(items) {
        let mut recorder = worker.record();
        recorder.counts.operations += 1;
        match outcome {
            Ok(Stored::New) => {
                recorder.counts.stored += 1;
                recorder.counts.bytes_written += value.len() as u64;
            }
            Ok(Stored::Existed) => recorder.counts.existed += 1,
            Err(failure) => {
                drop(recorder);
                worker.failed(&failure);
            }
        }
    }
}

/// Checks every byte of a value that was read and should have `expected` bytes. True if it is right.
pub(crate) fn judge(worker: &Worker<'_>, values: &Values, key: &[u8], value: &[u8], expected: usize) -> bool {
    let wrong = if value.len() == expected {
        values.check(key, value).err().map(|wrong| *wrong)
    } else {
        Some(WrongValue {
            key: key.escape_ascii().to_string(),
            length: value.len(),
            offset: value.len().min(expected),
            expected: Vec::new(),
            found: Vec::new(),
            suspicion: Suspicion::OtherLengthOrSeed,
        })
    };
    if let Some(wrong) = &wrong {
        worker.wrong(wrong);
    }
    wrong.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;
    use snowskin_protocol::Code;

    fn plan(mix: &str) -> RunPlan {
        RunPlan {
            keys: 50,
            sizes: "3000,100".parse().unwrap(),
            batch: 4,
            threads: 2,
            mix: mix.parse().unwrap(),
            popularity: Popularity::new("uniform", 50, 0.0).unwrap(),
            duration: None,
            operations: 400,
            rate: None,
            verify: true,
            refill: false,
            seed: 1,
        }
    }

    fn stores(fake: FakeStore) -> Vec<Box<dyn Store>> {
        vec![Box::new(fake)]
    }

    #[test]
    fn all_that_was_preloaded_is_read_and_right() {
        let stores = stores(FakeStore::default());
        let plan = plan("get=2,view=1,put=1,upsert=1,lookup=1,match_prefix=1");
        let loaded = preload(&plan, &stores, None).unwrap().total.counts;
        assert_eq!((loaded.stored, loaded.bytes_written), (50, plan.sizes.total(50)));
        let measured = run(&plan, &stores, None, None).unwrap();
        let counts = &measured.total.counts;
        assert_eq!(
            (counts.operations, counts.misses, counts.wrong_values, counts.errors_total()),
            (400, 0, 0, 0)
        );
        assert!(counts.hits > 0 && counts.existed > 0 && counts.stored > 0 && counts.bytes_read > 0);
        assert!(Op::ALL[..6].iter().all(|&op| measured.total.calls(op) > 0));
    }

    #[test]
    fn wrong_values_are_found() {
        let stores = stores(FakeStore { corrupts: true, ..FakeStore::default() });
        preload(&plan("get"), &stores, None).unwrap();
        for mix in ["get", "view"] {
            let counts = run(&plan(mix), &stores, None, None).unwrap().total.counts;
            assert_eq!((counts.wrong_values, counts.hits), (400, 400), "{mix}");
            let unchecked = RunPlan { verify: false, ..plan(mix) };
            let counts = run(&unchecked, &stores, None, None).unwrap().total.counts;
            assert_eq!((counts.wrong_values, counts.hits), (0, 400), "{mix}");
        }
    }

    #[test]
    fn values_that_lie_too_short_are_wrong() {
        let stores = stores(FakeStore { shortens: true, ..FakeStore::default() });
        preload(&plan("view"), &stores, None).unwrap();
        let counts = run(&plan("view"), &stores, None, None).unwrap().total.counts;
        assert_eq!((counts.wrong_values, counts.hits), (400, 400));
    }

    #[test]
    fn misses_are_refilled_when_asked() {
        for mix in ["get", "view"] {
            let refilling = RunPlan { refill: true, ..plan(mix) };
            let stores = stores(FakeStore::default());
            let counts = run(&refilling, &stores, None, None).unwrap().total.counts;
            assert!(counts.misses > 0 && counts.stored > 0 && counts.hits > counts.misses, "{counts:?}");
        }
    }

    #[test]
    fn errors_are_counted_by_code_and_no_space_is_none() {
        let failing = stores(FakeStore { fails: Some(Code::RpcTimeout), ..FakeStore::default() });
        let counts = run(&plan("get,view,lookup,match_prefix"), &failing, None, None).unwrap().total.counts;
        assert!(counts.errors["RpcTimeout"] > 0 && counts.hits == 0);
        let full = stores(FakeStore { values_max: 10, ..FakeStore::default() });
        let counts = preload(&plan("put"), &full, None).unwrap().total.counts;
        assert_eq!((counts.stored, counts.no_space, counts.errors_total()), (10, 40, 0));
    }

    #[test]
    fn an_open_loop_runs_at_its_rate() {
        let paced = RunPlan { rate: Some(400.0), operations: 80, ..plan("lookup") };
        let measured = run(&paced, &stores(FakeStore::default()), None, None).unwrap();
        assert!(measured.elapsed >= Duration::from_millis(180), "{:?}", measured.elapsed);
    }
}
