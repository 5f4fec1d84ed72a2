//! The summary of a run, as `--json` and the report's `summary.json` have it. Names are stable; new ones may come.
//!
//! | field | meaning |
//! |---|---|
//! | `command` | `run`, `replay` or `demo` |
//! | `version` | of this program |
//! | `settings` | every setting that shaped the run, as text |
//! | `seconds` | of the measured part, without preload |
//! | `operations`, `operations_per_s` | keys read, put, looked up or matched (a batch of 32 counts 32) |
//! | `bytes`, `bytes_read`, `bytes_written` | of values that were read, and stored |
//! | `gb_per_s` | `bytes` / 10⁹ / `seconds` |
//! | `hits`, `misses`, `hit_rate` | keys of reads, lookups and matches; in a replay the blocks that could be used, and not: the prefix hit rate |
//! | `stored`, `existed`, `no_space` | outcomes of puts; no space is counted and is not an error |
//! | `wrong_values` | values read that were not byte for byte what was put; must be 0 |
//! | `errors` | failed keys and calls by the name of their code |
//! | `error_examples` | for each code, the first sentence that came with it |
//! | `broken_off` | why the run ended early, or null |
//! | `latency_us` | per kind of call (`get`, `view`, `put`, `upsert`, `lookup`, `match_prefix`, `request`): `count`, `mean`, `p50`, `p90`, `p99`, `p99_9`, `max`, in microseconds a *call* (a batch); of an open loop from the intended start |
//! | `cpu_seconds`, `cpu_seconds_per_gb` | user and system time of this process (which also makes and checks values) and of the cluster, if it is ours; per 10⁹ of `bytes` |
//! | `reached` | `lanes` and `connections_local` through shared memory, `connections_tcp` (to the master among them) that the clients have opened |
//! | `trace` | null, or the fields below |
//! | `ssd` | null, or of an SSD tier `capacity_bytes`, bytes of values read from it (`read_bytes`) and gone there (`demoted_bytes`, copies too), all that was written there (`written_bytes`; `reinserted_bytes` of it once more), their quotient `write_amplification`, objects `not_admitted` and `lost` |
//!
//! | field of `trace` | meaning |
//! |---|---|
//! | `requests`, `blocks`, `unique_blocks` | requests and blocks replayed; different blocks of the trace |
//! | `block_bytes`, `memory_bytes` | of a block; of all engines together (null: somebody else's cluster) |
//! | `time_scale`, `lease_ms` | how many times faster than the trace (null: closed loop); the lease that was set |
//! | `prefix_hit_rate` | blocks matched, read and right, with all blocks before them, by all blocks |
//! | `ideal_lru_prefix_hit_rate`, `ideal_lru_blocks` | the same for an exact LRU of as many blocks as fit `memory_bytes` and the SSD tier |
//! | `ideal_lru_memory_prefix_hit_rate` | the same for `memory_bytes` alone; null without an SSD tier |
//! | `infinite_prefix_hit_rate` | the same for a cache without end: nothing can hit more |
//! | `misses_after_hit` | blocks that a match promised and the read did not find |

use crate::latency::{Recorder, quantile_us};
use crate::meter::Measured;
use crate::replay::TraceSummary;
use crate::ssd::SsdSummary;
use crate::store::{Failure, Reached};
use hdrhistogram::Histogram;
use serde::Serialize;
use snowskin_protocol::wire::stats::CoreStats;
use std::collections::BTreeMap;

/// See the module's head.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) command: String,
    pub(crate) version: &'static str,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) seconds: f64,
    pub(crate) operations: u64,
    pub(crate) operations_per_s: f64,
    pub(crate) bytes: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) gb_per_s: f64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) hit_rate: f64,
    pub(crate) stored: u64,
    pub(crate) existed: u64,
    pub(crate) no_space: u64,
    pub(crate) wrong_values: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) error_examples: BTreeMap<String, String>,
    pub(crate) broken_off: Option<String>,
    pub(crate) latency_us: BTreeMap<&'static str, Latency>,
    pub(crate) cpu_seconds: f64,
    pub(crate) cpu_seconds_per_gb: f64,
    pub(crate) reached: Reached,
    pub(crate) trace: Option<TraceSummary>,
    pub(crate) ssd: Option<SsdSummary>,
}

/// Latencies of one kind of call, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Of what was measured.
    pub(crate) fn new(
        command: &str,
        settings: BTreeMap<String, String>,
        measured: &Measured,
        reached: Reached,
    ) -> Self {
        let counts = &measured.total.counts;
        let seconds = measured.elapsed.as_secs_f64();
        let per_second = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
        let gigabytes = counts.bytes() as f64 / 1e9;
        Summary {
            command: command.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            settings,
            seconds,
            operations: counts.operations,
            operations_per_s: per_second(counts.operations as f64),
            bytes: counts.bytes(),
            bytes_read: counts.bytes_read,
            bytes_written: counts.bytes_written,
            gb_per_s: per_second(gigabytes),
            hits: counts.hits,
            misses: counts.misses,
            hit_rate: counts.hit_rate(),
            stored: counts.stored,
            existed: counts.existed,
            no_space: counts.no_space,
            wrong_values: counts.wrong_values,
            errors: counts.errors.clone(),
            error_examples: measured.error_examples.clone(),
            broken_off: measured.broken_off.clone(),
            latency_us: latencies(&measured.total),
            cpu_seconds: measured.cpu_seconds,
            cpu_seconds_per_gb: if gigabytes > 0.0 { measured.cpu_seconds / gigabytes } else { 0.0 },
            reached,
            trace: None,
            ssd: None,
        }
    }

    /// What came of an SSD tier between two looks at the counters. One that failed is counted as any other call that did.
    pub(crate) fn take_ssd(&mut self, before: &CoreStats, after: Result<CoreStats, Failure>) {
        match after {
            Ok(after) => self.ssd = SsdSummary::between(before, &after),
            Err(Failure { code, sentence }) => {
                let code = format!("{code:?}");
                *self.errors.entry(code.clone()).or_default() += 1;
                self.error_examples.entry(code).or_insert(sentence);
            }
        }
    }

    /// Why the exit status is not 0, if it is not.
    pub(crate) fn complaint(&self) -> Option<String> {
        let mut complaints = Vec::new();
        if self.wrong_values > 0 {
            complaints.push(format!("{} values were wrong", self.wrong_values));
        }
        for (code, count) in &self.errors {
            let example = self.error_examples.get(code).map(String::as_str).unwrap_or_default();
            complaints.push(format!("{count} errors {code} (first: {example})"));
        }
        complaints.extend(self.broken_off.iter().map(|reason| format!("broken off: {reason}")));
        (!complaints.is_empty()).then(|| complaints.join("; "))
    }
}

fn latencies(total: &Recorder) -> BTreeMap<&'static str, Latency> {
    total.latencies().map(|(op, histogram)| (op.name(), latency(histogram))).collect()
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    Latency {
        count: histogram.len(),
        mean: histogram.mean() / 1_000.0,
        p50: quantile_us(histogram, 0.5),
        p90: quantile_us(histogram, 0.9),
        p99: quantile_us(histogram, 0.99),
        p99_9: quantile_us(histogram, 0.999),
        max: quantile_us(histogram, 1.0),
    }
}
