//! Runs worker threads and watches them: one row a second, the progress bar, the total, and every reason to stop.

use crate::cluster::Cluster;
use crate::cpu;
use crate::interrupt::stop_requested;
use crate::latency::{Counts, Op, Recorder, quantile_us};
use crate::progress::Progress;
use crate::store::Failure;
use crate::values::WrongValue;
#[cfg(all(test, snowskin_loom))]
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
#[cfg(all(test, snowskin_loom))]
use loom::sync::{Mutex, MutexGuard};
use serde::Serialize;
use snowskin_protocol::Code;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
#[cfg(not(all(test, snowskin_loom)))]
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
#[cfg(not(all(test, snowskin_loom)))]
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Wrong values that are printed in full; all are counted.
const WRONG_VALUES_PRINTED: usize = 20;
/// How often the watcher looks whether the workers have finished.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);

/// One second of a run: a line of `--json-lines`, a point of the plots.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Second {
    /// Seconds from the start of the measurement to the end of this row.
    pub(crate) at_s: f64,
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
    pub(crate) gb_per_s: f64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) hit_rate: f64,
    pub(crate) prefix_hit_rate: f64,
    pub(crate) no_space: u64,
    pub(crate) wrong_values: u64,
    pub(crate) errors: u64,
    pub(crate) latency_us: BTreeMap<&'static str, SecondLatency>,
}

/// The latencies of one kind of call in one second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct SecondLatency {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// What a run measured.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) total: Recorder,
    pub(crate) seconds: Vec<Second>,
    pub(crate) elapsed: Duration,
    /// Of this process and the cluster's.
    pub(crate) cpu_seconds: f64,
    /// For each code of an error, the first sentence that came with it.
    pub(crate) error_examples: BTreeMap<String, String>,
    /// Why the run ended before its end, if it did.
    pub(crate) broken_off: Option<String>,
}

/// How to watch.
pub(crate) struct Watch<'a> {
    pub(crate) label: &'a str,
    pub(crate) workers: usize,
    /// Stop after this time; `None`: when the workers are done.
    pub(crate) limit: Option<Duration>,
    /// Where the bar ends, if not at the time limit, and where it stands for these counts.
    pub(crate) length: u64,
    pub(crate) position: fn(&Recorder) -> u64,
    pub(crate) cluster: Option<&'a mut Cluster>,
    pub(crate) json_lines: Option<&'a Path>,
}

/// What a worker thread has: its recorder and the word to stop.
pub(crate) struct Worker<'a> {
    pub(crate) index: usize,
    recorder: &'a Mutex<Recorder>,
    shared: &'a Shared,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    live: AtomicUsize,
    wrong_printed: AtomicUsize,
    error_examples: Mutex<BTreeMap<String, String>>,
}

impl Worker<'_> {
    /// Whether to stop before the next call.
    pub(crate) fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// The numbers to add to.
    pub(crate) fn record(&self) -> MutexGuard<'_, Recorder> {
        lock(self.recorder)
    }

    /// Counts and prints a value that is not what was put.
    pub(crate) fn wrong(&self, wrong: &WrongValue) {
        self.record().counts.wrong_values += 1;
        if self.shared.wrong_printed.fetch_add(1, Ordering::Relaxed) < WRONG_VALUES_PRINTED {
            eprintln!("WRONG VALUE: {wrong}");
        }
    }

    /// Counts a failure. No space is an outcome of its own.
    pub(crate) fn failed(&self, failure: &Failure) {
        if failure.code == Code::NoSpace {
            self.record().counts.no_space += 1;
            return;
        }
        let code = format!("{:?}", failure.code);
        self.record().error(&code);
        lock(&self.shared.error_examples).entry(code).or_insert_with(|| failure.sentence.clone());
    }
}

/// Says that a worker has ended, however it ended.
struct Live<'a>(&'a AtomicUsize);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Runs `work` on `watch.workers` threads until they return, the time is over, a child dies, or somebody says stop.
pub(crate) fn measure(mut watch: Watch<'_>, work: impl Fn(&Worker<'_>) + Sync) -> std::io::Result<Measured> {
    let pids = watch.cluster.as_ref().map_or_else(Vec::new, |cluster| cluster.pids());
    let mut lines = watch.json_lines.map(File::create).transpose()?.map(BufWriter::new);
    let recorders: Vec<Mutex<Recorder>> = (0..watch.workers).map(|_| Mutex::default()).collect();
    let shared = Shared { live: AtomicUsize::new(watch.workers), ..Shared::default() };
    let cpu_before = cpu::seconds_of_all(&pids);
    let begun = Instant::now();
    let mut measured = Measured::default();
    std::thread::scope(|scope| {
        for (index, recorder) in recorders.iter().enumerate() {
            let (shared, work) = (&shared, &work);
            scope.spawn(move || {
                let _live = Live(&shared.live);
                work(&Worker { index, recorder, shared });
            });
        }
        watch_over(&mut watch, &shared, &recorders, begun, &mut measured, &mut lines)
    })?;
    measured.elapsed = begun.elapsed();
    take_second(&recorders, measured.elapsed, SECOND, &mut measured, &mut lines)?;
    measured.cpu_seconds = (cpu::seconds_of_all(&pids) - cpu_before).max(0.0);
    measured.error_examples = std::mem::take(&mut lock(&shared.error_examples));
    if let Some(lines) = &mut lines {
        lines.flush()?;
    }
    Ok(measured)
}

fn watch_over(
    watch: &mut Watch<'_>,
    shared: &Shared,
    recorders: &[Mutex<Recorder>],
    begun: Instant,
    measured: &mut Measured,
    lines: &mut Option<BufWriter<File>>,
) -> std::io::Result<()> {
    let length = watch.limit.map_or(watch.length, |limit| limit.as_millis() as u64);
    let mut progress = Progress::new(watch.label, length);
    let mut next_second = begun + SECOND;
    let mut outcome = Ok(());
    while shared.live.load(Ordering::Acquire) > 0 {
        std::thread::sleep(LOOK_EVERY);
        let now = Instant::now();
        if measured.broken_off.is_none() {
            measured.broken_off = reason_to_break_off(watch, &outcome);
        }
        if measured.broken_off.is_some() || watch.limit.is_some_and(|limit| now - begun >= limit) {
            shared.stop.store(true, Ordering::Relaxed);
        }
        if now < next_second {
            continue;
        }
        next_second += SECOND;
        let taken = take_second(recorders, now - begun, SECOND, measured, lines);
        outcome = outcome.and(taken);
        let position = match watch.limit {
            Some(_) => (now - begun).as_millis() as u64,
            None => (watch.position)(&measured.total),
        };
        progress.at(position, in_words(measured.seconds.last()));
    }
    progress.finish();
    outcome
}

fn reason_to_break_off(watch: &mut Watch<'_>, outcome: &std::io::Result<()>) -> Option<String> {
    if stop_requested() {
        return Some("interrupted".to_owned());
    }
    if let Err(error) = outcome {
        return Some(format!("cannot write --json-lines: {error}"));
    }
    watch.cluster.as_mut()?.check_alive().err().map(|error| error.to_string())
}

/// Swaps every worker's recorder for an empty one, and makes a row and a part of the total of what was in them.
fn take_second(
    recorders: &[Mutex<Recorder>],
    at: Duration,
    span: Duration,
    measured: &mut Measured,
    lines: &mut Option<BufWriter<File>>,
) -> std::io::Result<()> {
    let mut sum = Recorder::default();
    for recorder in recorders {
        sum.merge(&std::mem::take(&mut *lock(recorder)));
    }
    measured.total.merge(&sum);
    let before = measured.seconds.last().map_or(0.0, |second| second.at_s);
    // The last row is shorter than a second, and its rates are per second all the same.
    let span_s = (at.as_secs_f64() - before).clamp(0.001, span.as_secs_f64() * 2.0);
    let second = row(&sum, at, span_s);
    if let Some(lines) = lines {
        serde_json::to_writer(&mut *lines, &second)?;
        lines.write_all(b"\n")?;
    }
    measured.seconds.push(second);
    Ok(())
}

fn row(sum: &Recorder, at: Duration, span_s: f64) -> Second {
    let counts: &Counts = &sum.counts;
    let latency_us = sum.latencies().map(|(op, histogram)| {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|quantile| quantile_us(histogram, quantile));
        (op.name(), SecondLatency { count: histogram.len(), p50, p99, max })
    });
    Second {
        at_s: at.as_secs_f64(),
        operations: counts.operations,
        bytes: counts.bytes(),
        gb_per_s: counts.bytes() as f64 / 1e9 / span_s,
        hits: counts.hits,
        misses: counts.misses,
        hit_rate: counts.hit_rate(),
        prefix_hit_rate: counts.prefix_hit_rate(),
        no_space: counts.no_space,
        wrong_values: counts.wrong_values,
        errors: counts.errors_total(),
        latency_us: latency_us.collect(),
    }
}

fn in_words(second: Option<&Second>) -> String {
    let Some(second) = second else { return String::new() };
    let slowest = second.latency_us.get(Op::Get.name()).map(|get| format!(", get p50 {:.0} µs", get.p50));
    format!(
        "{} ops/s, {:.2} GB/s, {:.0} % hits{}",
        second.operations,
        second.gb_per_s,
        100.0 * if second.prefix_hit_rate > 0.0 { second.prefix_hit_rate } else { second.hit_rate },
        slowest.unwrap_or_default()
    )
}

/// Numbers behind these locks are whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(all(test, snowskin_loom))]
#[path = "meter_loom.rs"]
mod loom_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(limit: Option<Duration>) -> Watch<'static> {
        Watch {
            label: "test",
            workers: 3,
            limit,
            length: 1,
            position: |_| 0,
            cluster: None,
            json_lines: None,
        }
    }

    #[test]
    fn nothing_that_was_recorded_is_lost() {
        let measured = measure(watch(None), |worker| {
            for _ in 0..1_000 {
                let mut recorder = worker.record();
                recorder.counts.operations += 1;
                recorder.latency(Op::Get, Duration::from_micros(5));
            }
            if worker.index == 0 {
                worker.failed(&Failure { code: Code::RpcTimeout, sentence: "too late".to_owned() });
                worker.failed(&Failure { code: Code::NoSpace, sentence: "full".to_owned() });
            }
        })
        .unwrap();
        assert_eq!((measured.total.counts.operations, measured.total.calls(Op::Get)), (3_000, 3_000));
        assert_eq!(measured.seconds.iter().map(|second| second.operations).sum::<u64>(), 3_000);
        assert_eq!(measured.total.counts.errors["RpcTimeout"], 1);
        assert_eq!(
            (measured.error_examples["RpcTimeout"].as_str(), measured.total.counts.no_space),
            ("too late", 1)
        );
    }

    #[test]
    fn a_time_limit_stops_the_workers_and_rows_come_each_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut watch = watch(Some(Duration::from_millis(1_300)));
        watch.json_lines = Some(&path);
        let measured = measure(watch, |worker| {
            while !worker.stopped() {
                worker.record().counts.operations += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        })
        .unwrap();
        assert!(
            measured.elapsed >= Duration::from_millis(1_300) && measured.elapsed < Duration::from_secs(10)
        );
        let lines = std::fs::read_to_string(&path).unwrap();
        assert_eq!(lines.lines().count(), measured.seconds.len());
        assert!(lines.lines().count() >= 2 && lines.starts_with("{\"at_s\":1."), "{lines}");
    }
}
