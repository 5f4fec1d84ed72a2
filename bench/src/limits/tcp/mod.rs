//! Get, put and lookup beside request and response over plain TCP, in calls per second at one call at a time.

mod ours;
mod raw;

pub(crate) use raw::{RAW_SERVER, serve_forever};

use super::memcpy::Arena;
use super::slices::Slice;
use super::{LimitsPlan, Pinned, Wake, at_least, go_on, pinned_line, placement, spread_in_words};
use crate::cpu;
use crate::progress::Progress;
use crate::report::table::{Table, microseconds, number};
use crate::spread::Spread;
use ours::{LOOKUP_BATCH, Ours};
use raw::{Raw, STREAM_BYTES};
use serde::Serialize;
use snowskin_client::Transport;
use snowskin_protocol::ByteSize;
use std::time::Duration;

/// Sizes of values.
const SIZES: [usize; 5] = [64, 4 << 10, 64 << 10, 1 << 20, 16 << 20];
/// The least ratio of get, by size (docs: the design's § 13).
const GET_BARS: [(usize, f64); 2] = [(64, 0.70), (1 << 20, 0.90)];
/// How many times more keys a batch of lookups must answer than single lookups do.
const LOOKUP_BAR: f64 = 12.0;

/// All figures. `--json` writes this.
#[derive(Debug, Serialize)]
pub(crate) struct TcpReport {
    pub(crate) command: &'static str,
    pub(crate) rounds: usize,
    pub(crate) slice_seconds: f64,
    pub(crate) pinned: Option<Pinned>,
    /// How ours reaches its engine; raw is TCP always, and so are the bars.
    pub(crate) transport: String,
    /// GB/s of copying memory, for each size.
    pub(crate) memcpy: Vec<Bandwidth>,
    /// GB/s of one TCP connection without requests.
    pub(crate) raw_stream_gb_per_s: Spread,
    pub(crate) rows: Vec<Row>,
    pub(crate) lookups: Vec<Lookups>,
}

/// Copying values of one size.
#[derive(Debug, Serialize)]
pub(crate) struct Bandwidth {
    pub(crate) value_bytes: usize,
    pub(crate) gb_per_s: Spread,
}

/// One path at one size in one wake mode.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) path: &'static str,
    pub(crate) value_bytes: usize,
    pub(crate) wake: Wake,
    pub(crate) raw_calls_per_s: Spread,
    pub(crate) ours_calls_per_s: Spread,
    pub(crate) raw_p50_us: Spread,
    pub(crate) ours_p50_us: Spread,
    /// Ours by raw, within each round.
    pub(crate) ratio: Spread,
    pub(crate) bar: Option<f64>,
}

/// Lookups one at a time beside lookups in batches.
#[derive(Debug, Serialize)]
pub(crate) struct Lookups {
    pub(crate) wake: Wake,
    pub(crate) batch: usize,
    pub(crate) single_keys_per_s: Spread,
    pub(crate) batch_keys_per_s: Spread,
    pub(crate) ratio: Spread,
    pub(crate) bar: Option<f64>,
}

/// The slices of one row, a pair for each round.
#[derive(Default)]
struct Pairs(Vec<(Slice, Slice)>);

/// A raw server and a cluster with the same wake mode, measured in turn.
struct Contest {
    wake: Wake,
    raw: Raw,
    ours: Ours,
    gets: [Pairs; SIZES.len()],
    puts: [Pairs; SIZES.len()],
    lookups: Pairs,
}

/// Measures everything.
pub(crate) fn measure(plan: &LimitsPlan) -> Result<TcpReport, String> {
    let (mut contests, pinned) = start(plan)?;
    let mut arena = Arena::new();
    let mut copies: [Vec<f64>; SIZES.len()] = Default::default();
    let mut streams = Vec::new();
    let mut progress = Progress::new("limits", (plan.rounds * SIZES.len()) as u64);
    for round in 0..plan.rounds {
        for (place, size) in SIZES.into_iter().enumerate() {
            go_on()?;
            progress.at((round * SIZES.len() + place) as u64, format!("values of {}", ByteSize(size as u64)));
            copies[place].push(arena.measure(size, plan.slice).calls_per_s * size as f64 / 1e9);
            for contest in &mut contests {
                contest.round(place, size, plan.slice)?;
            }
        }
        for contest in &mut contests {
            contest.lookup_round(plan.slice)?;
        }
        streams.push(contests[0].raw.stream(plan.slice)?.calls_per_s * STREAM_BYTES as f64 / 1e9);
    }
    progress.finish();
    let memcpy = SIZES.into_iter().zip(copies);
    // The bars are those of TCP beside TCP.
    let has_bar = |_: &f64| plan.transport == Transport::Tcp;
    Ok(TcpReport {
        command: "limits",
        rounds: plan.rounds,
        slice_seconds: plan.slice.as_secs_f64(),
        pinned,
        transport: plan.transport.to_string(),
        memcpy: memcpy
            .map(|(value_bytes, rates)| Bandwidth { value_bytes, gb_per_s: Spread::of(rates) })
            .collect(),
        raw_stream_gb_per_s: Spread::of(streams),
        rows: contests
            .iter()
            .flat_map(Contest::rows)
            .map(|row| Row { bar: row.bar.filter(has_bar), ..row })
            .collect(),
        lookups: contests
            .iter()
            .map(Contest::lookups)
            .map(|row| Lookups { bar: row.bar.filter(has_bar), ..row })
            .collect(),
    })
}

/// Starts clusters and servers; pins this thread last, because threads and children inherit it.
fn start(plan: &LimitsPlan) -> Result<(Vec<Contest>, Option<Pinned>), String> {
    let mut clusters = Vec::new();
    for &wake in &plan.wakes {
        clusters.push((wake, Ours::start_cluster(wake.spin())?));
    }
    let pinned = match clusters.first() {
        Some((_, cluster)) => placement(plan.pin, cluster)?,
        None => None,
    };
    let servers: Result<Vec<Raw>, String> =
        clusters.iter().map(|_| Raw::start(pinned.map(|pinned| pinned.engine_cpu))).collect();
    if let Some(Pinned { client_cpu, .. }) = pinned {
        cpu::pin_to(client_cpu)
            .map_err(|error| format!("cannot pin the client to CPU {client_cpu}: {error}"))?;
    }
    let mut contests = Vec::new();
    for ((wake, cluster), raw) in clusters.into_iter().zip(servers?) {
        let ours = Ours::connect(cluster, wake.spin(), plan.checksums, plan.transport, &SIZES)?;
        contests.push(Contest::new(wake, raw, ours));
    }
    Ok((contests, pinned))
}

impl Contest {
    fn new(wake: Wake, raw: Raw, ours: Ours) -> Self {
        Contest {
            wake,
            raw,
            ours,
            gets: Default::default(),
            puts: Default::default(),
            lookups: Pairs::default(),
        }
    }

    fn round(&mut self, place: usize, size: usize, time: Duration) -> Result<(), String> {
        let spin = self.wake == Wake::Spin;
        let raw = self.raw.get(size, spin, time)?;
        self.gets[place].0.push((raw, self.ours.get(size, time)?));
        let raw = self.raw.put(size, spin, time)?;
        self.puts[place].0.push((raw, self.ours.put(size, time)?));
        Ok(())
    }

    fn lookup_round(&mut self, time: Duration) -> Result<(), String> {
        let single = self.ours.lookup(1, time)?;
        self.lookups.0.push((single, self.ours.lookup(LOOKUP_BATCH, time)?));
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        let paths = [("get", &self.gets), ("put", &self.puts)];
        let sized = paths
            .into_iter()
            .flat_map(|(path, pairs)| SIZES.into_iter().zip(pairs).map(move |at| (path, at)));
        sized.map(|(path, (size, pairs))| pairs.row(path, size, self.wake)).collect()
    }

    fn lookups(&self) -> Lookups {
        let batch = LOOKUP_BATCH as f64;
        let pairs = &self.lookups.0;
        Lookups {
            wake: self.wake,
            batch: LOOKUP_BATCH,
            single_keys_per_s: Spread::of(pairs.iter().map(|(single, _)| single.calls_per_s)),
            batch_keys_per_s: Spread::of(pairs.iter().map(|(_, many)| many.calls_per_s * batch)),
            ratio: Spread::of(
                pairs.iter().map(|(single, many)| many.calls_per_s * batch / single.calls_per_s),
            ),
            bar: Some(LOOKUP_BAR),
        }
    }
}

impl Pairs {
    fn row(&self, path: &'static str, value_bytes: usize, wake: Wake) -> Row {
        let spread = |figure: fn(&(Slice, Slice)) -> f64| Spread::of(self.0.iter().map(figure));
        let bar = GET_BARS.into_iter().find(|&(size, _)| size == value_bytes).map(|(_, bar)| bar);
        Row {
            path,
            value_bytes,
            wake,
            raw_calls_per_s: spread(|(raw, _)| raw.calls_per_s),
            ours_calls_per_s: spread(|(_, ours)| ours.calls_per_s),
            raw_p50_us: spread(|(raw, _)| raw.p50_us),
            ours_p50_us: spread(|(_, ours)| ours.p50_us),
            ratio: spread(|(raw, ours)| ours.calls_per_s / raw.calls_per_s),
            bar: bar.filter(|_| path == "get"),
        }
    }
}

impl TcpReport {
    /// For people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![pinned_line(self.pinned)];
        lines.push(format!(
            "  {} rounds; ours by {}, raw by tcp; ratio = ours / raw in calls a second, median (lowest … highest); one \
             call at a time\n",
            self.rounds, self.transport
        ));
        let mut table = Table::new(&[
            "path",
            "value",
            "wake",
            "raw p50",
            "ours p50",
            "raw GB/s",
            "ours GB/s",
            "ratio",
            "bar",
        ]);
        for row in &self.rows {
            table.row(row.cells());
        }
        for row in &self.lookups {
            table.row(row.cells());
        }
        lines.extend(table.lines());
        let copies: Vec<String> = self
            .memcpy
            .iter()
            .map(|row| format!("{} {:.1}", ByteSize(row.value_bytes as u64), row.gb_per_s.median))
            .collect();
        lines.push(format!("\n  memcpy, GB/s: {}", copies.join(", ")));
        lines.push(format!("  raw TCP stream, one connection: {:.2} GB/s", self.raw_stream_gb_per_s.median));
        lines
    }
}

impl Row {
    fn cells(&self) -> [String; 9] {
        let gigabytes = |rate: Spread| format!("{:.2}", rate.median * self.value_bytes as f64 / 1e9);
        [
            self.path.to_owned(),
            ByteSize(self.value_bytes as u64).to_string(),
            self.wake.name(),
            microseconds(self.raw_p50_us.median),
            microseconds(self.ours_p50_us.median),
            gigabytes(self.raw_calls_per_s),
            gigabytes(self.ours_calls_per_s),
            spread_in_words(self.ratio),
            self.bar.map_or_else(String::new, |bar| at_least(self.ratio.median, bar)),
        ]
    }
}

impl Lookups {
    fn cells(&self) -> [String; 9] {
        let keys = |rate: Spread| format!("{} keys/s", number(rate.median as u64));
        [
            "lookup".to_owned(),
            format!("{} / 1", self.batch),
            self.wake.name(),
            keys(self.single_keys_per_s),
            keys(self.batch_keys_per_s),
            String::new(),
            String::new(),
            spread_in_words(self.ratio),
            self.bar.map_or_else(String::new, |bar| at_least(self.ratio.median, bar)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::write_json;

    fn slice(calls_per_s: f64) -> Slice {
        Slice { calls_per_s, p50_us: 1e6 / calls_per_s }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was half as fast in the second round; the ratio is the same.
        let pairs = Pairs(vec![(slice(1_000.0), slice(800.0)), (slice(500.0), slice(400.0))]);
        let row = pairs.row("get", 64, Wake::Spin);
        assert_eq!((row.ratio, row.bar), (Spread { median: 0.8, min: 0.8, max: 0.8 }, Some(0.70)));
        assert_eq!(pairs.row("put", 64, Wake::Spin).bar, None);
        assert_eq!(row.cells()[8], "≥ 0.70 met");
        assert_eq!(at_least(0.5, 0.9), "≥ 0.90 BELOW");
    }

    #[test]
    fn a_report_is_a_table_and_json() {
        let pairs = Pairs(vec![(slice(1_000.0), slice(800.0))]);
        let spread = Spread::of([1.0]);
        let report = TcpReport {
            command: "limits",
            rounds: 1,
            slice_seconds: 0.1,
            transport: "tcp".to_owned(),
            pinned: Some(Pinned { engine_cpu: 0, client_cpu: 1 }),
            memcpy: vec![Bandwidth { value_bytes: 64, gb_per_s: spread }],
            raw_stream_gb_per_s: spread,
            rows: vec![pairs.row("get", 1 << 20, Wake::Block)],
            lookups: vec![Lookups {
                wake: Wake::Spin,
                batch: 32,
                single_keys_per_s: spread,
                batch_keys_per_s: spread,
                ratio: Spread::of([13.0]),
                bar: Some(LOOKUP_BAR),
            }],
        };
        let text = report.lines().join("\n");
        assert!(
            text.contains("0.80 (0.80 … 0.80)") && text.contains("BELOW") && text.contains("≥ 12.00 met"),
            "{text}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits.json");
        write_json(&path, &report).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(json["rows"][0]["wake"], "block");
        assert_eq!(json["rows"][0]["ratio"]["median"], 0.8);
    }
}
