//! Lookups of one core, without sockets, beside a bare probe of the same table.
//!
//! Both answer the same batches of names, prefetched together. The *probe* hashes names and says whether there is
//! a row. The *lookup* is what a core does with a frame: checks its body, hashes the names, asks whether
//! it is their home, finds the rows, grants leases, tells the eviction policy, and writes the reply.
//!
//! Cores share nothing, so what two of them do at once beside one is measured with a table for each thread.

mod filled;

use crate::cli::{Failed, LookupsArguments};
use crate::cpu;
use crate::interrupt;
use crate::progress::Progress;
use crate::report::table::{Table, number};
use crate::report::write_json;
use filled::{Filled, Frames};
use serde::Serialize;
use snowskin_protocol::limits::BATCH_ITEMS_MAX;
use std::sync::{Arc, Barrier};
use std::time::Instant;

/// What one thread does, and how fast.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    objects: u64,
    /// Whether the names are held.
    held: bool,
    threads: usize,
    /// Millions a second, of all threads together: of each round, in order.
    probes: Vec<f64>,
    lookups: Vec<f64>,
    /// Of the rounds' ratios, lookups to probes.
    ratio_median: f64,
    ratio_least: f64,
    ratio_most: f64,
}

/// `snowskin-bench lookups`.
pub(crate) fn lookups(arguments: &LookupsArguments) -> Result<(), Failed> {
    let cpus = cpu::allowed();
    let LookupsArguments { objects, threads, batch, rounds, .. } = arguments;
    if !(1..=BATCH_ITEMS_MAX).contains(batch) || *rounds == 0 || objects.contains(&0) {
        return Err(Failed::Usage(format!(
            "a batch has 1 to {BATCH_ITEMS_MAX} names; give a round and an object at least"
        )));
    }
    let [objects, threads] = [or(objects, &[1_000_000, 10_000_000]), or(&as_u64(threads), &[1, 2])];
    if threads.iter().any(|&threads| threads == 0 || threads > cpus.len() as u64) {
        return Err(Failed::Usage(format!("{} threads can be measured here at most", cpus.len())));
    }
    let mut all = Vec::new();
    for objects in objects {
        for &threads in &threads {
            if interrupt::stop_requested() {
                break;
            }
            all.extend(measure(objects, threads as usize, &cpus, arguments)?);
        }
    }
    table(&all).lines().into_iter().for_each(|line| println!("{line}"));
    scaling(&all).into_iter().for_each(|line| println!("{line}"));
    let numbers = arguments.report.join("lookups.json");
    let place = |error: std::io::Error| Failed::Run(format!("cannot write {}: {error}", numbers.display()));
    std::fs::create_dir_all(&arguments.report).map_err(place)?;
    write_json(&numbers, &all).map_err(Failed::Run)?;
    println!("figures: {}", numbers.display());
    Ok(())
}

fn as_u64(numbers: &[usize]) -> Vec<u64> {
    numbers.iter().map(|&number| number as u64).collect()
}

/// What was given, or what is usual.
fn or(given: &[u64], usual: &[u64]) -> Vec<u64> {
    if given.is_empty() { usual } else { given }.to_vec()
}

/// Rates of one thread in one round: probes, lookups, of held names and of others.
type Round = [[f64; 2]; 2];

fn measure(
    objects: u64,
    threads: usize,
    cpus: &[usize],
    arguments: &LookupsArguments,
) -> Result<Vec<Measured>, Failed> {
    let mut progress = Progress::new("measure", arguments.rounds as u64);
    progress.at(0, format!("{} objects, {threads} threads: filling", number(objects)));
    let barrier = Arc::new(Barrier::new(threads));
    let work = |thread: usize| {
        let (barrier, cpu) = (barrier.clone(), cpus.get(thread).copied());
        let (batch, rounds) = (arguments.batch, arguments.rounds);
        move || -> Result<Vec<Round>, String> {
            cpu.map_or(Ok(()), cpu::pin_to).map_err(|error| format!("cannot pin a thread: {error}"))?;
            let filled = Filled::new(objects);
            // Whoever fails must not leave the others waiting.
            barrier.wait();
            let mut filled = filled?;
            let frames = [filled.frames(true, batch), filled.frames(false, batch)];
            Ok((0..rounds).map(|_| round(&mut filled, &frames, &barrier)).collect())
        }
    };
    let running: Vec<_> = (0..threads).map(|thread| std::thread::spawn(work(thread))).collect();
    let mut rounds = Vec::new();
    for thread in running {
        let ended = thread.join().map_err(|_| Failed::Run("a measuring thread panicked".into()))?;
        rounds.push(ended.map_err(Failed::Run)?);
    }
    progress.finish();
    Ok([true, false].map(|held| summed(objects, threads, held, &rounds)).to_vec())
}

fn round(filled: &mut Filled, frames: &[Frames; 2], barrier: &Barrier) -> Round {
    let mut timed = |work: &mut dyn FnMut(&mut Filled) -> usize| {
        barrier.wait();
        let began = Instant::now();
        let count = work(filled);
        count as f64 / began.elapsed().as_secs_f64() / 1e6
    };
    [0, 1].map(|which| {
        let frames = &frames[which];
        [timed(&mut |filled| filled.probe(frames)), timed(&mut |filled| filled.look_up(frames))]
    })
}

fn summed(objects: u64, threads: usize, held: bool, rounds: &[Vec<Round>]) -> Measured {
    let which = usize::from(!held);
    let sum = |what: usize| -> Vec<f64> {
        let count = rounds.iter().map(Vec::len).min().unwrap_or(0);
        (0..count).map(|round| rounds.iter().map(|thread| thread[round][which][what]).sum()).collect()
    };
    let (probes, lookups) = (sum(0), sum(1));
    let mut ratios: Vec<f64> = lookups.iter().zip(&probes).map(|(lookup, probe)| lookup / probe).collect();
    ratios.sort_by(f64::total_cmp);
    let (ratio_median, ratio_least, ratio_most) =
        (median(&ratios), ratios[0], ratios[ratios.len().saturating_sub(1)]);
    Measured { objects, held, threads, probes, lookups, ratio_median, ratio_least, ratio_most }
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median(&sorted)
}

fn table(all: &[Measured]) -> Table {
    let mut table =
        Table::new(&["objects", "threads", "names", "probes M/s", "lookups M/s", "ratio", "least", "most"]);
    for measured in all {
        table.row([
            number(measured.objects),
            measured.threads.to_string(),
            if measured.held { "held" } else { "not held" }.to_owned(),
            format!("{:.2}", middle(&measured.probes)),
            format!("{:.2}", middle(&measured.lookups)),
            format!("{:.2}", measured.ratio_median),
            format!("{:.2}", measured.ratio_least),
            format!("{:.2}", measured.ratio_most),
        ]);
    }
    table
}

/// What more threads do beside one.
fn scaling(all: &[Measured]) -> Vec<String> {
    let one = |of: &Measured| {
        all.iter().find(|it| it.threads == 1 && it.objects == of.objects && it.held == of.held)
    };
    let line = |many: &Measured| {
        let one = one(many)?;
        let times = middle(&many.lookups) / middle(&one.lookups);
        let names = if many.held { "held" } else { "not held" };
        Some(format!(
            "{} objects, {names}: {} threads do {times:.2} times the lookups of one",
            number(many.objects),
            many.threads
        ))
    };
    all.iter().filter(|it| it.threads > 1).filter_map(line).collect()
}
