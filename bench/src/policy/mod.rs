//! The policies beside each other: what caches of several sizes make of traces, without memory, engines or I/O.
//!
//! The eviction code is the engine's own. A block's bytes are in proportion to its tokens (a request's last block is
//! rarely full), and a cache has a share of the bytes of all different blocks. The rate is that of prefix hits: of a
//! request's blocks, those held with all blocks before them.
//!
//! The bar that each cell is put beside: never below LRU with the same bytes, and a twentieth above it wherever LRU
//! has less than four fifths of what a cache without end has.

mod blocks;
mod chart;
mod simulate;
mod streams;

use crate::cli::{Failed, PolicyArguments};
use crate::interrupt;
use crate::progress::Progress;
use crate::report::table::{Table, number, percent};
use crate::report::write_figures;
use crate::trace::{Request, Shape, generate, read_trace};
use blocks::Blocks;
use serde::Serialize;
use simulate::{Cache, Hits, infinite, optimum};
use snowskin_engine::eviction::PolicyKind;
use std::str::FromStr;

/// What ours must have of LRU where LRU is far from a cache without end, and elsewhere.
const BAR_FAR: f64 = 1.05;
const BAR_NEAR: f64 = 1.0;
/// LRU is far from a cache without end below this part of its rate.
const FAR_BELOW: f64 = 0.8;

/// Parts of a trace's unique bytes, in percent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SharesOfUnique(Vec<f64>);

impl FromStr for SharesOfUnique {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shares: Result<Vec<f64>, _> = text.split(',').map(|share| share.trim().parse::<f64>()).collect();
        match shares {
            Ok(shares) if shares.iter().all(|share| *share > 0.0 && *share <= 100.0) => {
                Ok(SharesOfUnique(shares))
            }
            _ => Err(format!("\"{text}\" are no shares: write percents, such as 5,10,20,40")),
        }
    }
}

/// Policies, by name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policies(Vec<PolicyKind>);

impl FromStr for Policies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let policies = text.split(',').map(|name| name.trim().parse().map_err(|error| format!("{error}")));
        policies.collect::<Result<_, _>>().map(Policies)
    }
}

/// What is measured in one row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Policy { kind: PolicyKind, gives_hints: bool },
    Optimum,
    Infinite,
}

impl Contender {
    fn name(self) -> String {
        match self {
            Contender::Policy { kind, gives_hints: true } => format!("{kind}, hints"),
            Contender::Policy { kind, .. } => kind.to_string(),
            Contender::Optimum => "optimum by next use".to_owned(),
            Contender::Infinite => "cache without end".to_owned(),
        }
    }

    fn replay(self, blocks: &Blocks, capacity: u64) -> Hits {
        match self {
            Contender::Policy { kind, gives_hints } => {
                Cache::new(blocks, kind, capacity, gives_hints).replay()
            }
            Contender::Optimum => optimum(blocks, capacity),
            Contender::Infinite => infinite(blocks),
        }
    }
}

/// What came out for one contender, trace and share.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Outcome {
    trace: String,
    contender: String,
    share_percent: f64,
    capacity_tokens: u64,
    prefix_hit_rate: f64,
    #[serde(flatten)]
    hits: Hits,
    /// By the rate of LRU; null where LRU has none.
    of_lru: Option<f64>,
    /// Only of hit density: what it must have of LRU, and whether it has.
    bar: Option<f64>,
    is_bar_met: Option<bool>,
}

/// `snowskin-bench policy`.
pub(crate) fn policy(arguments: &PolicyArguments) -> Result<(), Failed> {
    let traces = traces(arguments)?;
    let contenders = contenders(arguments);
    let shares = &arguments.shares.0;
    let mut progress = Progress::new("replay", (traces.len() * contenders.len() * shares.len()) as u64);
    let mut outcomes = Vec::new();
    for (name, trace) in &traces {
        let blocks = Blocks::of(trace);
        println!(
            "{name}: {} requests, {} different blocks, {} tokens in them",
            number(trace.len() as u64),
            number(blocks.unique() as u64),
            number(blocks.unique_tokens())
        );
        for &share in shares {
            if interrupt::stop_requested() {
                break;
            }
            progress.at(outcomes.len() as u64, format!("{name}, {share} %"));
            outcomes.extend(column(name, &blocks, share, &contenders));
        }
    }
    progress.finish();
    for (name, _) in &traces {
        table(name, shares, &contenders, &outcomes).lines().iter().for_each(|line| println!("{line}"));
    }
    println!(
        "  In brackets: by LRU with the same bytes. The optimum knows each block's next use; with prefixes it is a reference, \
         not a proof."
    );
    let plot = chart::rates(&outcomes);
    write_figures(&arguments.report, "policy", &outcomes, Some(plot)).map_err(Failed::Run)
}

/// The traces that are named, or a generated one and streams that are no traces.
fn traces(arguments: &PolicyArguments) -> Result<Vec<(String, Vec<Request>)>, Failed> {
    let limit = arguments.limit.unwrap_or(usize::MAX);
    if arguments.trace.is_empty() {
        let requests = arguments.requests.min(limit);
        let seed = arguments.seed;
        let mut traces = vec![(format!("generated, seed {seed}"), generate(Shape { requests, seed }))];
        traces.extend(streams::all(requests.saturating_mul(streams::BLOCKS_PER_REQUEST), seed));
        return Ok(traces);
    }
    let name = |path: &std::path::Path| {
        path.file_name()
            .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    };
    let read = |path: &std::path::PathBuf| match read_trace(path, limit) {
        Ok(trace) => Ok((name(path), trace)),
        Err(error) => Err(Failed::Run(error.to_string())),
    };
    arguments.trace.iter().map(read).collect()
}

/// LRU always, as the measure; hit density with the hints that callers may give, and without.
fn contenders(arguments: &PolicyArguments) -> Vec<Contender> {
    let is_wanted = |kind: PolicyKind| {
        kind == PolicyKind::Lru
            || arguments.policies.as_ref().is_none_or(|policies| policies.0.contains(&kind))
    };
    let without = |kind| Contender::Policy { kind, gives_hints: false };
    let mut contenders = vec![without(PolicyKind::Lru)];
    if is_wanted(PolicyKind::S3Fifo) {
        contenders.push(without(PolicyKind::S3Fifo));
    }
    if is_wanted(PolicyKind::HitDensity) {
        contenders.push(without(PolicyKind::HitDensity));
        if !arguments.no_hints {
            contenders.push(Contender::Policy { kind: PolicyKind::HitDensity, gives_hints: true });
        }
    }
    contenders.extend([Contender::Optimum, Contender::Infinite]);
    contenders
}

/// All contenders with one share of a trace's bytes.
fn column(trace: &str, blocks: &Blocks, share_percent: f64, contenders: &[Contender]) -> Vec<Outcome> {
    let capacity = (blocks.unique_tokens() as f64 * share_percent / 100.0).ceil() as u64;
    let all: Vec<(Contender, Hits)> =
        contenders.iter().map(|&contender| (contender, contender.replay(blocks, capacity))).collect();
    let lru = all[0].1.rate();
    let endless = all[all.len() - 1].1.rate();
    let outcome = |(contender, hits): (Contender, Hits)| {
        let is_ours = matches!(contender, Contender::Policy { kind: PolicyKind::HitDensity, .. });
        let bar = is_ours.then(|| bar(lru, endless));
        Outcome {
            trace: trace.to_owned(),
            contender: contender.name(),
            share_percent,
            capacity_tokens: capacity,
            prefix_hit_rate: hits.rate(),
            hits,
            of_lru: (lru > 0.0).then(|| hits.rate() / lru),
            bar,
            is_bar_met: bar.map(|bar| hits.rate() >= bar * lru),
        }
    };
    all.into_iter().map(outcome).collect()
}

fn bar(lru: f64, endless: f64) -> f64 {
    if lru < FAR_BELOW * endless { BAR_FAR } else { BAR_NEAR }
}

fn table(trace: &str, shares: &[f64], contenders: &[Contender], outcomes: &[Outcome]) -> Table {
    let heads: Vec<String> =
        std::iter::once(trace.to_owned()).chain(shares.iter().map(|share| format!("{share} %"))).collect();
    let mut table = Table::new(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    for contender in contenders {
        let name = contender.name();
        let of_row = outcomes.iter().filter(|outcome| outcome.trace == trace && outcome.contender == name);
        table.row(std::iter::once(name.clone()).chain(of_row.map(cell)));
    }
    table
}

fn cell(outcome: &Outcome) -> String {
    let rate = percent(outcome.prefix_hit_rate);
    match (outcome.is_bar_met, outcome.of_lru) {
        (Some(is_met), Some(of_lru)) => {
            let bar = outcome.bar.unwrap_or(BAR_NEAR);
            format!("{rate} ({of_lru:.3}, bar {bar:.2} {})", if is_met { "met" } else { "missed" })
        }
        (None, Some(of_lru)) => format!("{rate} ({of_lru:.3})"),
        _ => rate,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
