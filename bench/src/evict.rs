//! Puts into a full engine beside puts into an empty one.
//!
//! A round empties the engine, fills nine tenths of its memory, goes on until it evicts with every put, and then measures
//! as many puts again. Both halves put the same bytes under new keys, so that all that differs is whether room has to be
//! made.

use crate::cli::{EvictArguments, Failed};
use crate::cluster::{Cluster, ClusterPlan};
use crate::interrupt;
use crate::progress::Progress;
use crate::report::table::{Table, number};
use crate::report::write_json;
use hdrhistogram::Histogram;
use serde::Serialize;
use snowskin_client::{BlockingClient, ClientConfig, PutOutcome};
use snowskin_protocol::ByteSize;
use std::time::{Duration, Instant};

/// Latencies are kept up to this, with three digits.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Part of the memory that the first half of a round fills.
const FILLED: f64 = 0.9;

/// One size of values.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    value_bytes: u64,
    puts_per_half: u64,
    evicted: u64,
    /// GB/s of each round, in order.
    empty: Vec<f64>,
    evicting: Vec<f64>,
    /// Of the rounds' ratios.
    ratio_median: f64,
    ratio_least: f64,
    empty_p99_us: f64,
    evicting_p99_us: f64,
    empty_max_us: f64,
    evicting_max_us: f64,
}

/// `snowskin-bench evict`.
pub(crate) fn evict(arguments: &EvictArguments) -> Result<(), Failed> {
    if arguments.rounds == 0 {
        return Err(Failed::Usage("give a round at least".into()));
    }
    let plan = ClusterPlan {
        engines: 1,
        cores_per_engine: 1,
        memory_bytes_per_engine: arguments.memory.0,
        lease_ms: 1,
        spin_us: None,
    };
    let cluster = Cluster::start(&plan).map_err(|error| Failed::Run(error.to_string()))?;
    let config = ClientConfig { deadline: Duration::from_secs(30), ..ClientConfig::new(cluster.seeds()) };
    let client = BlockingClient::connect(config).map_err(|error| Failed::Run(error.to_string()))?;
    let mut outcomes = Vec::new();
    let sizes = match arguments.value_size.is_empty() {
        true => vec![ByteSize(1 << 20), ByteSize(64 << 10)],
        false => arguments.value_size.clone(),
    };
    for ByteSize(bytes) in sizes {
        if !interrupt::stop_requested() {
            outcomes.push(measure(&client, bytes, arguments)?);
        }
    }
    table(&outcomes).lines().into_iter().for_each(|line| println!("{line}"));
    let numbers = arguments.report.join("evict.json");
    let place = |error: std::io::Error| Failed::Run(format!("cannot write {}: {error}", numbers.display()));
    std::fs::create_dir_all(&arguments.report).map_err(place)?;
    write_json(&numbers, &outcomes).map_err(Failed::Run)?;
    println!("figures: {}", numbers.display());
    Ok(())
}

/// Puts of one kind.
struct Half {
    latency_ns: Histogram<u64>,
    gb_per_s: Vec<f64>,
}

impl Half {
    fn new() -> Self {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("bounds are in order");
        Half { latency_ns, gb_per_s: Vec::new() }
    }

    fn us_at(&self, quantile: f64) -> f64 {
        self.latency_ns.value_at_quantile(quantile) as f64 / 1000.0
    }
}

fn measure(client: &BlockingClient, bytes: u64, arguments: &EvictArguments) -> Result<Outcome, Failed> {
    let value = vec![0xA5; usize::try_from(bytes).unwrap_or(usize::MAX)];
    let puts = (arguments.memory.0 as f64 * FILLED / bytes as f64) as u64;
    if puts < 100 {
        let sentence = format!("only {puts} values of {} fit: give more --memory", ByteSize(bytes));
        return Err(Failed::Usage(sentence));
    }
    let (mut empty, mut evicting) = (Half::new(), Half::new());
    let (mut next_key, before) = (0, evicted(client)?);
    let mut progress = Progress::new("measure", arguments.rounds as u64);
    for round in 0..arguments.rounds {
        progress.at(round as u64, format!("values of {}", ByteSize(bytes)));
        client.remove_all(true).map_err(|error| Failed::Run(error.to_string()))?;
        put(client, &mut next_key, &value, puts, Some(&mut empty))?;
        // The rest of the memory, and a little more.
        put(client, &mut next_key, &value, puts / 6, None)?;
        put(client, &mut next_key, &value, puts, Some(&mut evicting))?;
    }
    progress.finish();
    let mut ratios: Vec<f64> = evicting.gb_per_s.iter().zip(&empty.gb_per_s).map(|(a, b)| a / b).collect();
    ratios.sort_by(f64::total_cmp);
    Ok(Outcome {
        value_bytes: bytes,
        puts_per_half: puts,
        evicted: evicted(client)? - before,
        ratio_median: ratios[ratios.len() / 2],
        ratio_least: ratios[0],
        empty_p99_us: empty.us_at(0.99),
        evicting_p99_us: evicting.us_at(0.99),
        empty_max_us: empty.us_at(1.0),
        evicting_max_us: evicting.us_at(1.0),
        empty: empty.gb_per_s,
        evicting: evicting.gb_per_s,
    })
}

fn put(
    client: &BlockingClient,
    next_key: &mut u64,
    value: &[u8],
    puts: u64,
    mut half: Option<&mut Half>,
) -> Result<(), Failed> {
    let began = Instant::now();
    for _ in 0..puts {
        *next_key += 1;
        let key = format!("evict-{next_key}");
        let before = Instant::now();
        match client.put(&[(key.as_bytes(), value)]).remove(0) {
            Ok(PutOutcome::Stored) => {}
            other => return Err(Failed::Run(format!("{key}: {other:?}"))),
        }
        if let Some(half) = &mut half {
            half.latency_ns.saturating_record(before.elapsed().as_nanos() as u64);
        }
    }
    if let Some(half) = half {
        half.gb_per_s.push(puts as f64 * value.len() as f64 / began.elapsed().as_secs_f64() / 1e9);
    }
    Ok(())
}

fn evicted(client: &BlockingClient) -> Result<u64, Failed> {
    let failed = |error: snowskin_client::Error| Failed::Run(error.to_string());
    let cores = client.stats().map_err(failed)?;
    cores.into_iter().map(|(_, stats)| stats.map(|stats| stats.evicted).map_err(failed)).sum()
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(&[
        "value",
        "puts a half",
        "empty GB/s",
        "evicting GB/s",
        "ratio",
        "least",
        "p99 empty µs",
        "p99 evicting µs",
        "times",
        "max empty µs",
        "max evicting µs",
    ]);
    let middle = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        format!("{:.2}", sorted[sorted.len() / 2])
    };
    for outcome in outcomes {
        table.row([
            ByteSize(outcome.value_bytes).to_string(),
            number(outcome.puts_per_half),
            middle(&outcome.empty),
            middle(&outcome.evicting),
            format!("{:.2}", outcome.ratio_median),
            format!("{:.2}", outcome.ratio_least),
            format!("{:.0}", outcome.empty_p99_us),
            format!("{:.0}", outcome.evicting_p99_us),
            format!("{:.2}", outcome.evicting_p99_us / outcome.empty_p99_us),
            format!("{:.0}", outcome.empty_max_us),
            format!("{:.0}", outcome.evicting_max_us),
        ]);
    }
    table
}
