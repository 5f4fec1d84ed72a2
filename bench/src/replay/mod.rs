//! The command `replay`: a trace of an inference service, block by block, against a store.
//!
//! A request does what an inference engine does: ask how many leading blocks are held, read those, compute (here:
//! make) the rest and put them, in order. A block counts as a *prefix hit* when the match promised it and it was
//! really read and right, and so was every block of the request before it. The rate is put beside what an exact LRU
//! of as many blocks gives on the same requests ([`crate::trace::replay_lru`]).

mod facts;

pub(crate) use facts::{Ideal, Memory, TraceSummary, cluster_memory};

use crate::cluster::Cluster;
use crate::latency::Op;
use crate::meter::{Measured, Watch, Worker, measure};
use crate::run::{count_puts, judge};
use crate::store::Store;
use crate::trace::Request;
use crate::values::Values;
use crate::workload::wait_until;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How to replay.
#[derive(Clone, Debug)]
pub(crate) struct ReplayPlan {
    pub(crate) block_bytes: usize,
    /// Blocks in one call of get or put.
    pub(crate) batch: usize,
    pub(crate) threads: usize,
    /// How many times faster than the trace requests are sent; `None`: each thread as fast as it can.
    pub(crate) time_scale: Option<f64>,
    pub(crate) verify: bool,
    pub(crate) seed: u64,
}

/// Replays the requests, each by whichever thread is free, in the trace's order.
pub(crate) fn replay(
    plan: &ReplayPlan,
    requests: &[Request],
    stores: &[Box<dyn Store>],
    cluster: Option<&mut Cluster>,
    json_lines: Option<&Path>,
) -> std::io::Result<Measured> {
    let next = AtomicUsize::new(0);
    let first_ms = requests.first().map_or(0, |request| request.timestamp_ms);
    let begun = Instant::now();
    let watch = Watch {
        label: "replay",
        workers: plan.threads,
        limit: None,
        length: requests.len() as u64,
        position: |total| total.calls(Op::Request),
        cluster,
        json_lines,
    };
    measure(watch, |worker| {
        let mut replayer = Replayer::new(plan, stores, worker);
        while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let intended = match plan.time_scale {
                Some(scale) => begun + Duration::from_millis(request.timestamp_ms - first_ms).div_f64(scale),
                None => Instant::now(),
            };
            if !wait_until(intended, || worker.stopped()) {
                break;
            }
            replayer.request(request);
            worker.record().latency(Op::Request, intended.elapsed());
        }
    })
}

/// One thread's hands.
struct Replayer<'a> {
    plan: &'a ReplayPlan,
    store: &'a dyn Store,
    worker: &'a Worker<'a>,
    values: Values,
    /// One buffer for each block of a batch.
    buffers: Vec<Vec<u8>>,
}

impl<'a> Replayer<'a> {
    fn new(plan: &'a ReplayPlan, stores: &'a [Box<dyn Store>], worker: &'a Worker<'a>) -> Self {
        let store = stores[worker.index % stores.len()].as_ref();
        let buffers = (0..plan.batch).map(|_| vec![0; plan.block_bytes]).collect();
        Replayer { plan, store, worker, values: Values::new(plan.seed), buffers }
    }

    fn request(&mut self, request: &Request) {
        let names: Vec<Vec<u8>> = request.blocks.iter().map(|&id| self.name(id)).collect();
        let keys: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let matched = self.match_prefix(&keys);
        let used = self.read(&keys[..matched]);
        self.write(&keys[used..]);
        let mut recorder = self.worker.record();
        recorder.counts.blocks += keys.len() as u64;
        recorder.counts.prefix_hits += used as u64;
        recorder.counts.hits += used as u64;
        recorder.counts.misses += (keys.len() - used) as u64;
    }

    fn match_prefix(&self, keys: &[&[u8]]) -> usize {
        let begun = Instant::now();
        let outcome = self.store.match_prefix(keys);
        let mut recorder = self.worker.record();
        recorder.latency(Op::MatchPrefix, begun.elapsed());
        recorder.counts.operations += keys.len() as u64;
        drop(recorder);
        outcome.map(|matched| matched.min(keys.len())).unwrap_or_else(|failure| {
            self.worker.failed(&failure);
            0
        })
    }

    /// Reads what was promised, batch by batch, and returns how many leading blocks can be used.
    fn read(&mut self, keys: &[&[u8]]) -> usize {
        let mut used = 0;
        for batch in keys.chunks(self.plan.batch) {
            let in_batch = self.read_batch(batch);
            used += in_batch;
            if in_batch < batch.len() {
                break;
            }
        }
        used
    }

    fn read_batch(&mut self, batch: &[&[u8]]) -> usize {
        let buffers = self.buffers.iter_mut().map(|buffer| buffer.as_mut_slice());
        let mut reads: Vec<(&[u8], &mut [u8])> = batch.iter().copied().zip(buffers).collect();
        let begun = Instant::now();
        let outcomes = self.store.get_into(&mut reads);
        self.worker.record().latency(Op::Get, begun.elapsed());
        let mut unbroken = true;
        let mut used = 0;
        for ((outcome, key), buffer) in outcomes.into_iter().zip(batch).zip(&self.buffers) {
            let mut recorder = self.worker.record();
            recorder.counts.operations += 1;
            let right = match outcome {
                Ok(Some(length)) => {
                    recorder.counts.bytes_read += length as u64;
                    drop(recorder);
                    !self.plan.verify
                        || judge(self.worker, &self.values, key, &buffer[..length], buffer.len())
                }
                Ok(None) => {
                    recorder.counts.misses_after_hit += 1;
                    false
                }
                Err(failure) => {
                    drop(recorder);
                    self.worker.failed(&failure);
                    false
                }
            };
            unbroken &= right;
            used += usize::from(unbroken);
        }
        used
    }

    fn write(&mut self, keys: &[&[u8]]) {
        for batch in keys.chunks(self.plan.batch) {
            if self.worker.stopped() {
                return;
            }
            for (key, buffer) in batch.iter().zip(&mut self.buffers) {
                self.values.fill(key, buffer);
            }
            let values = self.buffers.iter().map(Vec::as_slice);
            let items: Vec<(&[u8], &[u8])> = batch.iter().copied().zip(values).collect();
            let begun = Instant::now();
            let outcomes = self.store.put(&items, false);
            self.worker.record().latency(Op::Put, begun.elapsed());
            count_puts(self.worker, &items, outcomes);
        }
    }

    /// The block's id is a hash of its chain already, so it alone names it; seed and size keep runs apart.
    fn name(&self, id: u64) -> Vec<u8> {
        format!("kv-{}-{}/{id:08x}", self.plan.seed, self.plan.block_bytes).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;
    use crate::trace::{Shape, generate, replay_lru};
    use snowskin_protocol::Code;

    fn plan(threads: usize) -> ReplayPlan {
        ReplayPlan { block_bytes: 600, batch: 8, threads, time_scale: None, verify: true, seed: 1 }
    }

    fn replay_on(fake: FakeStore, plan: &ReplayPlan, trace: &[Request]) -> Measured {
        let stores: Vec<Box<dyn Store>> = vec![Box::new(fake)];
        replay(plan, trace, &stores, None, None).unwrap()
    }

    #[test]
    fn a_store_without_end_has_the_rate_of_a_cache_without_end() {
        let trace = generate(Shape { requests: 400, seed: 5 });
        let measured = replay_on(FakeStore::default(), &plan(1), &trace);
        let counts = &measured.total.counts;
        let ideal = replay_lru(&trace, usize::MAX);
        assert_eq!((counts.blocks, counts.prefix_hits), (ideal.blocks, ideal.prefix_hits));
        assert_eq!((counts.wrong_values, counts.misses_after_hit, counts.errors_total()), (0, 0, 0));
        assert_eq!(measured.total.calls(Op::Request), 400);
        assert_eq!(counts.bytes_read, ideal.prefix_hits * 600);
    }

    #[test]
    fn threads_share_the_requests() {
        let trace = generate(Shape { requests: 400, seed: 5 });
        let measured = replay_on(FakeStore::default(), &plan(4), &trace);
        assert_eq!(measured.total.calls(Op::Request), 400);
        assert_eq!(measured.total.counts.wrong_values, 0);
    }

    #[test]
    fn wrong_values_are_no_hits() {
        let trace = generate(Shape { requests: 50, seed: 5 });
        let counts =
            replay_on(FakeStore { corrupts: true, ..FakeStore::default() }, &plan(1), &trace).total.counts;
        assert!(counts.wrong_values > 0);
        assert_eq!(counts.prefix_hits, 0);
    }

    #[test]
    fn promises_that_are_not_kept_are_counted_and_the_blocks_put() {
        let trace = generate(Shape { requests: 50, seed: 5 });
        let fake = FakeStore { overpromises: true, ..FakeStore::default() };
        let counts = replay_on(fake, &plan(1), &trace).total.counts;
        let ideal = replay_lru(&trace, usize::MAX);
        assert!(counts.misses_after_hit >= 49, "{counts:?}");
        assert_eq!(counts.prefix_hits, ideal.prefix_hits);
    }

    #[test]
    fn a_full_store_and_a_failing_one() {
        let trace = generate(Shape { requests: 50, seed: 5 });
        let full =
            replay_on(FakeStore { values_max: 20, ..FakeStore::default() }, &plan(2), &trace).total.counts;
        assert!(full.no_space > 0 && full.errors_total() == 0);
        let fails = FakeStore { fails: Some(Code::UnavailableNow), ..FakeStore::default() };
        let failing = replay_on(fails, &plan(2), &trace).total.counts;
        assert!(failing.errors["UnavailableNow"] >= 100 && failing.prefix_hits == 0);
    }

    #[test]
    fn an_open_loop_takes_the_traces_time() {
        let mut trace = generate(Shape { requests: 3, seed: 5 });
        trace.iter_mut().zip([0, 10_000, 20_000]).for_each(|(request, at)| request.timestamp_ms = 7 + at);
        let open = ReplayPlan { time_scale: Some(100.0), ..plan(1) };
        let measured = replay_on(FakeStore::default(), &open, &trace);
        assert!(measured.elapsed >= Duration::from_millis(200), "{:?}", measured.elapsed);
    }
}
