//! Puts into a full engine beside puts into an empty one.
//!
//! Two engines of the same size: one is emptied whenever nine tenths of it are full, the other is full and evicts with every
//! put. They take turns, some puts each, so that what else goes on in the machine hits both. All values have the same
//! bytes, under new keys, so that all that differs is whether room has to be made.

use crate::cli::{EvictArguments, Failed};
use crate::cluster::{Cluster, ClusterPlan};
use crate::interrupt;
use crate::progress::Progress;
use crate::report::table::{Table, number};
use crate::report::write_figures;
use crate::spread::Spread;
use hdrhistogram::Histogram;
use serde::Serialize;
use snowskin_client::{BlockingClient, ClientConfig, PutOutcome};
use snowskin_protocol::ByteSize;
use std::time::{Duration, Instant};

/// Latencies are kept up to this, with three digits.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Part of the memory that is filled before it is emptied again.
const FILLED: f64 = 0.9;
/// Bytes that an engine is given in one turn.
const TURN_BYTES: u64 = 64 << 20;

/// One size of values.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    value_bytes: u64,
    puts_per_turn: u64,
    evicted: u64,
    /// GB/s of each turn, in order.
    empty: Vec<f64>,
    evicting: Vec<f64>,
    /// Of the turns' ratios.
    ratio_median: f64,
    ratio_quartiles: [f64; 2],
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
    let mut engines = [Engine::start(arguments.memory)?, Engine::start(arguments.memory)?];
    let mut outcomes = Vec::new();
    let sizes = match arguments.value_size.is_empty() {
        true => vec![ByteSize(1 << 20), ByteSize(64 << 10)],
        false => arguments.value_size.clone(),
    };
    for ByteSize(bytes) in sizes {
        if !interrupt::stop_requested() {
            outcomes.push(measure(&mut engines, bytes, arguments)?);
        }
    }
    table(&outcomes).lines().into_iter().for_each(|line| println!("{line}"));
    write_figures(&arguments.report, "evict", &outcomes, None).map_err(Failed::Run)
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

/// An engine of one core, a client of it, and the keys that it was given.
struct Engine {
    client: BlockingClient,
    next_key: u64,
    _cluster: Cluster,
}

impl Engine {
    fn start(memory: ByteSize) -> Result<Self, Failed> {
        let plan = ClusterPlan {
            engines: 1,
            cores_per_engine: 1,
            memory_bytes_per_engine: memory.0,
            lease_ms: 1,
            spin_us: None,
            ssd: None,
        };
        let cluster = Cluster::start(&plan).map_err(|error| Failed::Run(error.to_string()))?;
        let deadline = Duration::from_secs(30);
        let config = ClientConfig { deadline, ..ClientConfig::new(cluster.seeds()) };
        let client = BlockingClient::connect(config).map_err(|error| Failed::Run(error.to_string()))?;
        Ok(Engine { client, next_key: 0, _cluster: cluster })
    }

    fn empty(&self) -> Result<(), Failed> {
        self.client.remove_all(true).map(drop).map_err(|error| Failed::Run(error.to_string()))
    }

    fn put(&mut self, value: &[u8], puts: u64, mut half: Option<&mut Half>) -> Result<(), Failed> {
        let began = Instant::now();
        for _ in 0..puts {
            self.next_key += 1;
            let key = format!("evict-{}", self.next_key);
            let before = Instant::now();
            match self.client.put(&[(key.as_bytes(), value)]).remove(0) {
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
}

fn measure(engines: &mut [Engine; 2], bytes: u64, arguments: &EvictArguments) -> Result<Outcome, Failed> {
    let value = vec![0xA5; usize::try_from(bytes).unwrap_or(usize::MAX)];
    let fit = (arguments.memory.0 as f64 * FILLED / bytes as f64) as u64;
    let puts = (TURN_BYTES / bytes).max(8);
    if fit < 2 * puts {
        let sentence = format!("only {fit} values of {} fit: give more --memory", ByteSize(bytes));
        return Err(Failed::Usage(sentence));
    }
    let [emptied, full] = engines;
    let (mut empty, mut evicting) = (Half::new(), Half::new());
    let before = evicted(&full.client)?;
    let mut progress = Progress::new("measure", arguments.rounds as u64);
    progress.at(0, format!("values of {}: filling", ByteSize(bytes)));
    full.empty()?;
    full.put(&value, fit * 5 / 4, None)?;
    let mut held = u64::MAX;
    for round in 0..arguments.rounds {
        progress.at(round as u64, format!("values of {}", ByteSize(bytes)));
        if held.saturating_add(puts) > fit {
            emptied.empty()?;
            held = 0;
        }
        held += puts;
        emptied.put(&value, puts, Some(&mut empty))?;
        full.put(&value, puts, Some(&mut evicting))?;
    }
    progress.finish();
    let mut ratios: Vec<f64> = evicting.gb_per_s.iter().zip(&empty.gb_per_s).map(|(a, b)| a / b).collect();
    ratios.sort_by(f64::total_cmp);
    let [low, ratio_median, high] = [1, 2, 3].map(|quarter| ratios[(ratios.len() - 1) * quarter / 4]);
    Ok(Outcome {
        value_bytes: bytes,
        puts_per_turn: puts,
        evicted: evicted(&full.client)? - before,
        ratio_median,
        ratio_quartiles: [low, high],
        empty_p99_us: empty.us_at(0.99),
        evicting_p99_us: evicting.us_at(0.99),
        empty_max_us: empty.us_at(1.0),
        evicting_max_us: evicting.us_at(1.0),
        empty: empty.gb_per_s,
        evicting: evicting.gb_per_s,
    })
}

fn evicted(client: &BlockingClient) -> Result<u64, Failed> {
    let failed = |error: snowskin_client::Error| Failed::Run(error.to_string());
    let cores = client.stats().map_err(failed)?;
    cores.into_iter().map(|(_, stats)| stats.map(|stats| stats.evicted).map_err(failed)).sum()
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(&[
        "value",
        "puts a turn",
        "empty GB/s",
        "evicting GB/s",
        "ratio",
        "quartiles",
        "p99 empty µs",
        "p99 evicting µs",
        "times",
        "max empty µs",
        "max evicting µs",
    ]);
    let middle = |values: &[f64]| format!("{:.2}", Spread::of(values.iter().copied()).median);
    for outcome in outcomes {
        table.row([
            ByteSize(outcome.value_bytes).to_string(),
            number(outcome.puts_per_turn),
            middle(&outcome.empty),
            middle(&outcome.evicting),
            format!("{:.2}", outcome.ratio_median),
            format!("{:.2} … {:.2}", outcome.ratio_quartiles[0], outcome.ratio_quartiles[1]),
            format!("{:.0}", outcome.empty_p99_us),
            format!("{:.0}", outcome.evicting_p99_us),
            format!("{:.2}", outcome.evicting_p99_us / outcome.empty_p99_us),
            format!("{:.0}", outcome.empty_max_us),
            format!("{:.0}", outcome.evicting_max_us),
        ]);
    }
    table
}
