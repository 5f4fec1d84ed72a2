//! Gets of objects in memory while others go to the SSD nearly as fast as it takes them, beside the same without that.
//!
//! Whoever puts so much takes processor time and memory bandwidth besides, most of all where client and engine share two
//! processors. So the gets are put beside those of an engine without an SSD tier, which is given as many bytes in the same
//! round, and evicts. Those of an engine that nobody else uses are told as well.

use super::feeder::{Feeder, Pace, VALUE_BYTES as FED_VALUE_BYTES, while_feeding, wrap_around};
use super::rig::{Rig, stats};
use crate::latency::{Op, Recorder, quantile_us};
use crate::limits::filled::Set;
use crate::limits::memcpy::Buffer;
use crate::limits::{LimitsPlan, at_most, go_on};
use crate::progress::Progress;
use crate::report::table::{Table, microseconds};
use crate::spread::Spread;
use crate::store::Store;
use serde::Serialize;
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 64 << 10;
/// Few enough that each is read often, and stays in memory.
const VALUES: usize = 256;
const MEMORY_BYTES: u64 = 1 << 30;
const SSD_BYTES: u64 = 2 << 30;
const RAMP: Duration = Duration::from_millis(300);
/// Of what the SSD takes at most.
const FED_SHARE: f64 = 0.95;
const BAR: f64 = 1.5;

#[derive(Debug, Serialize)]
pub(super) struct LatencyReport {
    value_bytes: usize,
    alone: Quantiles,
    /// While as much is put into an engine that evicts.
    evicting: Quantiles,
    demoting: Quantiles,
    demoted_gb_per_s: Spread,
    /// Demoting by evicting, each of the gets of all rounds together: what holds up one get in a hundred is a matter of luck within a round.
    p99_ratio: f64,
    bar: f64,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50_us: Spread,
    p99_us: Spread,
    /// Of the gets of all rounds.
    p99_us_of_all: f64,
}

/// An engine, clients of it, and what is put.
struct Side {
    // Clients go before their engine.
    reading: Box<dyn Store>,
    feeding: Box<dyn Store>,
    feeder: Feeder,
    set: Set,
    _rig: Rig,
}

impl Side {
    fn new(plan: &LimitsPlan, ssd_bytes: u64) -> Result<Side, String> {
        let rig = Rig::start(plan, MEMORY_BYTES, ssd_bytes)?;
        let (reading, feeding) = (rig.join()?, rig.join()?);
        let set = Set::new("hot", VALUE_BYTES, VALUES);
        Ok(Side { reading, feeding, feeder: Feeder::new(), set, _rig: rig })
    }

    fn gets(&self, time: Duration) -> Result<Recorder, String> {
        gets(self.reading.as_ref(), &self.set, time)
    }

    /// Answers also how many bytes a second went to the SSD.
    fn gets_while_fed(&mut self, pace: Pace, time: Duration) -> Result<(Recorder, f64), String> {
        let Side { reading, feeding, feeder, set, .. } = self;
        while_feeding((feeding.as_ref(), feeder, pace), || {
            std::thread::sleep(RAMP);
            let (begun, before) = (Instant::now(), stats(reading.as_ref())?.demoted_bytes);
            let round = gets(reading.as_ref(), set, time)?;
            let demoted = stats(reading.as_ref())?.demoted_bytes - before;
            Ok((round, demoted as f64 / begun.elapsed().as_secs_f64()))
        })
    }
}

/// Gets of one value after the other; the last is checked.
fn gets(store: &dyn Store, set: &Set, time: Duration) -> Result<Recorder, String> {
    let mut to = Buffer::new(set.value_bytes());
    let mut latencies = Recorder::default();
    let begun = Instant::now();
    let mut number = 0;
    while number == 0 || begun.elapsed() < time {
        let before = Instant::now();
        set.get(store, number, &mut to)?;
        latencies.latency(Op::Get, before.elapsed());
        number += 1;
    }
    set.check(number - 1, &to)?;
    Ok(latencies)
}

pub(super) fn measure(plan: &LimitsPlan) -> Result<LatencyReport, String> {
    let (mut with, mut without) = (Side::new(plan, SSD_BYTES)?, Side::new(plan, 0)?);
    wrap_around(with.feeding.as_ref(), &mut with.feeder)?;
    // Full, so that each put evicts.
    let over = MEMORY_BYTES + MEMORY_BYTES / 8;
    while without.feeder.fed_bytes() < over {
        without.feeder.put(without.feeding.as_ref())?;
    }
    for side in [&with, &without] {
        side.set.put(side.reading.as_ref())?;
    }
    let (mut alone, mut evicting, mut demoting) = (Vec::new(), Vec::new(), Vec::new());
    let mut rates = Vec::new();
    // Both are given as much, in the same way: to ask all the time whether the SSD has taken it is a load of its own.
    let (_, most) = with.gets_while_fed(Pace::Demotion, plan.slice)?;
    let pace = Pace::BytesPerS((most * FED_SHARE).max(FED_VALUE_BYTES as f64));
    let mut progress = Progress::new("latency", plan.rounds as u64);
    for round in 0..plan.rounds {
        go_on()?;
        progress.at(round as u64, "latency".to_owned());
        alone.push(without.gets(plan.slice)?);
        let (figures, rate) = with.gets_while_fed(pace, plan.slice)?;
        demoting.push(figures);
        rates.push(rate);
        evicting.push(without.gets_while_fed(pace, plan.slice)?.0);
    }
    progress.finish();
    Ok(LatencyReport::new([&alone, &evicting, &demoting], &rates))
}

impl Quantiles {
    /// Of rounds, in each of which something was got.
    fn of(rounds: &[Recorder]) -> Self {
        let quantile = |round: &Recorder, quantile| {
            let (_, histogram) = round.latencies().next().expect("something was got");
            quantile_us(histogram, quantile)
        };
        let mut all = Recorder::default();
        rounds.iter().for_each(|round| all.merge(round));
        Quantiles {
            p50_us: Spread::of(rounds.iter().map(|round| quantile(round, 0.5))),
            p99_us: Spread::of(rounds.iter().map(|round| quantile(round, 0.99))),
            p99_us_of_all: quantile(&all, 0.99),
        }
    }
}

impl LatencyReport {
    fn new(rounds: [&[Recorder]; 3], rates: &[f64]) -> Self {
        let [alone, evicting, demoting] = rounds.map(Quantiles::of);
        LatencyReport {
            value_bytes: VALUE_BYTES,
            p99_ratio: demoting.p99_us_of_all / evicting.p99_us_of_all,
            alone,
            evicting,
            demoting,
            demoted_gb_per_s: Spread::of(rates.iter().map(|rate| rate / 1e9)),
            bar: BAR,
        }
    }
}

/// For people.
pub(super) fn table(report: &LatencyReport) -> Table {
    let mut table = Table::new(&["get 64 KiB while", "p50", "p99", "of a round (lowest … highest)", "bar"]);
    let mut row = |what: String, quantiles: &Quantiles, bar: String| {
        let Spread { min, max, .. } = quantiles.p99_us;
        table.row([
            what,
            microseconds(quantiles.p50_us.median),
            microseconds(quantiles.p99_us_of_all),
            format!("{} … {}", microseconds(min), microseconds(max)),
            bar,
        ]);
    };
    row("nothing else happens".to_owned(), &report.alone, String::new());
    row("as much is put, and evicted".to_owned(), &report.evicting, String::new());
    let bar = at_most(report.p99_ratio, report.bar, "1.50 ×");
    let what = format!("{:.2} GB/s go to the SSD", report.demoted_gb_per_s.median);
    row(what, &report.demoting, format!("{:.2} {bar}", report.p99_ratio));
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;

    #[test]
    fn gets_are_timed_and_checked() {
        let (store, set) = (FakeStore::default(), Set::new("hot", 1_000, 3));
        set.put(&store).unwrap();
        let round = gets(&store, &set, Duration::from_millis(5)).unwrap();
        let of_round = Quantiles::of(&[round]);
        assert!(of_round.p50_us.median > 0.0 && of_round.p99_us_of_all >= of_round.p50_us.median);
        let corrupt = FakeStore { corrupts: true, ..FakeStore::default() };
        set.put(&corrupt).unwrap();
        assert!(gets(&corrupt, &set, Duration::ZERO).expect_err("corrupt").contains("WRONG VALUE"));
    }

    #[test]
    fn demotion_is_put_beside_eviction() {
        let round = |us: &[u64]| {
            let mut round = Recorder::default();
            us.iter().for_each(|us| round.latency(Op::Get, Duration::from_micros(*us)));
            round
        };
        // One slow round of two makes both slow, and is the same for both.
        let slow = |us: u64| [round(&[us; 9]), round(&[1; 9])];
        let report = LatencyReport::new([&slow(2), &slow(400), &slow(800)], &[1e9]);
        assert_eq!(report.evicting.p99_us.min, 1.0);
        assert!((1.99..2.01).contains(&report.p99_ratio), "{}", report.p99_ratio);
        let lines = table(&report).lines();
        assert!(lines[4].contains("1.00 GB/s") && lines[4].contains("2.00 ≤ 1.50 × ABOVE"), "{lines:?}");
    }
}
