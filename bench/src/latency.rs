//! What was measured: operations, bytes, outcomes and latencies, counted per thread and summed.
//!
//! A worker records into a [`Recorder`] of its own behind a mutex that nobody else wants but once a second, when
//! the meter swaps the recorder for an empty one. So a second's row and the total come from the same numbers.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// Decimal digits that a recorded latency keeps.
const SIGNIFICANT_DIGITS: u8 = 3;
/// What took longer is recorded as this.
const LATENCY_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The kinds of calls, each with a histogram of its own. One call is one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Reads of a batch of keys.
    Get,
    /// Reads of a batch of keys in place; checking them is no part of the latency, letting go of them is.
    View,
    /// Puts of a batch: the first writer of a key wins.
    Put,
    /// Puts of a batch that replace.
    Upsert,
    /// Lookups of a batch of keys.
    Lookup,
    /// One match_prefix over a chain of keys.
    MatchPrefix,
    /// A whole request of a trace: match, read, put; in open loop from the time it was meant to start.
    Request,
}

impl Op {
    /// All kinds, in the order of reports.
    pub const ALL: [Op; 7] =
        [Op::Get, Op::View, Op::Put, Op::Upsert, Op::Lookup, Op::MatchPrefix, Op::Request];

    /// Its name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Op::Get => "get",
            Op::View => "view",
            Op::Put => "put",
            Op::Upsert => "upsert",
            Op::Lookup => "lookup",
            Op::MatchPrefix => "match_prefix",
            Op::Request => "request",
        }
    }
}

/// Sums over keys and bytes. Every field only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys that were asked for, put, looked up or matched.
    pub operations: u64,
    /// Keys of reads, lookups and matches that were held; in a replay, blocks that could be used.
    pub hits: u64,
    /// Keys of reads, lookups and matches that were not.
    pub misses: u64,
    /// Bytes of values that were read.
    pub bytes_read: u64,
    /// Bytes of values that were stored.
    pub bytes_written: u64,
    /// Values that were stored.
    pub stored: u64,
    /// Puts of keys that were held already.
    pub existed: u64,
    /// Puts that found no memory. Not an error: the store is allowed to be full of leased values.
    pub no_space: u64,
    /// Values read that were not what had been put.
    pub wrong_values: u64,
    /// Keys that a match or lookup had promised a moment before and the read did not find.
    pub misses_after_hit: u64,
    /// Blocks of requests that were replayed.
    pub blocks: u64,
    /// Of these: matched by match_prefix, and read, and every block before them too.
    pub prefix_hits: u64,
    /// Failed keys and calls, by the name of their code.
    pub errors: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds another thread's or second's sums.
    pub fn add(&mut self, other: &Counts) {
        self.operations += other.operations;
        self.hits += other.hits;
        self.misses += other.misses;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        self.stored += other.stored;
        self.existed += other.existed;
        self.no_space += other.no_space;
        self.wrong_values += other.wrong_values;
        self.misses_after_hit += other.misses_after_hit;
        self.blocks += other.blocks;
        self.prefix_hits += other.prefix_hits;
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }

    /// Bytes read and written.
    pub fn bytes(&self) -> u64 {
        self.bytes_read + self.bytes_written
    }

    /// Failures of all codes.
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Hits by keys asked for; 0 when none was.
    pub fn hit_rate(&self) -> f64 {
        ratio(self.hits, self.hits + self.misses)
    }

    /// Blocks that a prefix cache could use by all blocks; 0 when there were none.
    pub fn prefix_hit_rate(&self) -> f64 {
        ratio(self.prefix_hits, self.blocks)
    }
}

/// `part / whole`, and 0 for 0 of 0.
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Counts and latencies of one thread, one second, or a whole run.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// The sums.
    pub counts: Counts,
    latencies_ns: BTreeMap<Op, Histogram<u64>>,
}

impl Recorder {
    /// One call of this kind took so long.
    pub fn latency(&mut self, op: Op, took: Duration) {
        let nanoseconds = took.clamp(Duration::from_nanos(1), LATENCY_MAX).as_nanos() as u64;
        self.histogram(op).record(nanoseconds).expect("the histogram grows up to LATENCY_MAX");
    }

    /// One key, or one call, failed with this code.
    pub fn error(&mut self, code: &str) {
        *self.counts.errors.entry(code.to_owned()).or_default() += 1;
    }

    /// Adds another recorder's counts and latencies.
    pub fn merge(&mut self, other: &Recorder) {
        self.counts.add(&other.counts);
        for (&op, histogram) in &other.latencies_ns {
            self.histogram(op).add(histogram).expect("an automatically resized histogram takes any value");
        }
    }

    /// The kinds of calls that were made, with their latencies in nanoseconds.
    pub fn latencies(&self) -> impl Iterator<Item = (Op, &Histogram<u64>)> {
        self.latencies_ns.iter().map(|(&op, histogram)| (op, histogram))
    }

    /// Calls of this kind.
    pub fn calls(&self, op: Op) -> u64 {
        self.latencies_ns.get(&op).map_or(0, |histogram| histogram.len())
    }

    fn histogram(&mut self, op: Op) -> &mut Histogram<u64> {
        self.latencies_ns
            .entry(op)
            .or_insert_with(|| Histogram::new(SIGNIFICANT_DIGITS).expect("3 digits are allowed"))
    }
}

/// The value below which `quantile` (0 to 1) of a histogram of nanoseconds lies, in microseconds.
pub fn quantile_us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorders_add_up() {
        let mut total = Recorder::default();
        for thread in 1..=3u64 {
            let mut one = Recorder::default();
            one.counts.operations = thread;
            one.counts.hits = thread;
            one.error("RpcTimeout");
            one.latency(Op::Get, Duration::from_micros(100 * thread));
            total.merge(&one);
        }
        assert_eq!((total.counts.operations, total.counts.errors_total(), total.calls(Op::Get)), (6, 3, 3));
        assert_eq!(total.counts.hit_rate(), 1.0);
        let (_, histogram) = total.latencies().next().unwrap();
        assert!((quantile_us(histogram, 0.5) - 200.0).abs() < 0.5);
        assert!((quantile_us(histogram, 1.0) - 300.0).abs() < 0.5);
    }

    #[test]
    fn rates_of_nothing_are_zero() {
        assert_eq!(Counts::default().hit_rate(), 0.0);
        assert_eq!(Counts::default().prefix_hit_rate(), 0.0);
    }

    #[test]
    fn any_latency_can_be_recorded() {
        let mut recorder = Recorder::default();
        recorder.latency(Op::Put, Duration::ZERO);
        recorder.latency(Op::Put, Duration::MAX);
        assert_eq!(recorder.calls(Op::Put), 2);
    }
}
