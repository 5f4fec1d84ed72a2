//! Lookups of one core, without sockets, beside a bare probe of the same table.
//!
//! Both answer the same batches of names, prefetched together. The *probe* hashes names and says whether there is
//! a row. The *lookup* is what a core does with a frame: checks its body, hashes the names, asks whether
//! it is their home, finds the rows, grants leases, and writes the reply.
//!
//! Cores share nothing, so what several of them do at once is measured with a table for each thread, beside the first
//! one alone, turn by turn. The memory and the caches of the machine are theirs in common: what bare probes lose by that is
//! told, too.

mod filled;

use crate::cli::{Failed, LookupsArguments};
use crate::cpu;
use crate::interrupt;
use crate::progress::Progress;
use crate::report::table::{Table, number};
use crate::report::write_figures;
use crate::spread::Spread;
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
    /// Lookups to probes, by round.
    ratio: Spread,
    /// What all threads do beside the first one alone, by round.
    probes_scale: Spread,
    lookups_scale: Spread,
    /// Bytes of the process's own memory for each object: its row, without the bytes of its name, and its range.
    bytes_per_object: [f64; 2],
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
    write_figures(&arguments.report, "lookups", &all, None).map_err(Failed::Run)
}

fn as_u64(numbers: &[usize]) -> Vec<u64> {
    numbers.iter().map(|&number| number as u64).collect()
}

/// What was given, or what is usual.
fn or(given: &[u64], usual: &[u64]) -> Vec<u64> {
    if given.is_empty() { usual } else { given }.to_vec()
}

/// Rates of one thread in one round: probes and lookups, of held names and of others.
type Rates = [[f64; 2]; 2];

/// All threads at once, and the first one alone (the others have nothing to say of that).
struct Round {
    together: Rates,
    alone: Rates,
}

/// What one thread has measured.
struct OfThread {
    rounds: Vec<Round>,
    bytes_per_object: [f64; 2],
}

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
        move || -> Result<OfThread, String> {
            cpu.map_or(Ok(()), cpu::pin_to).map_err(|error| format!("cannot pin a thread: {error}"))?;
            let filled = Filled::new(objects);
            // Whoever fails must not leave the others waiting.
            barrier.wait();
            let mut filled = filled?;
            let frames = [filled.frames(true, batch), filled.frames(false, batch)];
            let is_alone = threads == 1;
            let rounds = (0..rounds).map(|_| {
                let together = rates(&mut filled, &frames, &barrier, true);
                let alone =
                    if is_alone { together } else { rates(&mut filled, &frames, &barrier, thread == 0) };
                Round { together, alone }
            });
            let rounds = rounds.collect();
            Ok(OfThread { rounds, bytes_per_object: filled.bytes_per_object() })
        }
    };
    let running: Vec<_> = (0..threads).map(|thread| std::thread::spawn(work(thread))).collect();
    let mut of_threads = Vec::new();
    for thread in running {
        let ended = thread.join().map_err(|_| Failed::Run("a measuring thread panicked".into()))?;
        of_threads.push(ended.map_err(Failed::Run)?);
    }
    progress.finish();
    Ok([true, false].map(|held| summed(objects, threads, held, &of_threads)).to_vec())
}

/// All threads take the same turns; whoever does not work waits for the others.
fn rates(filled: &mut Filled, frames: &[Frames; 2], barrier: &Barrier, works: bool) -> Rates {
    let mut timed = |work: &mut dyn FnMut(&mut Filled) -> usize| {
        barrier.wait();
        let began = Instant::now();
        let count = if works { work(filled) } else { 0 };
        count as f64 / began.elapsed().as_secs_f64() / 1e6
    };
    [0, 1].map(|which| {
        let frames = &frames[which];
        [timed(&mut |filled| filled.probe(frames)), timed(&mut |filled| filled.look_up(frames))]
    })
}

fn summed(objects: u64, threads: usize, held: bool, of_threads: &[OfThread]) -> Measured {
    let rounds: Vec<&Vec<Round>> = of_threads.iter().map(|thread| &thread.rounds).collect();
    let which = usize::from(!held);
    let count = rounds.iter().map(|rounds| rounds.len()).min().unwrap_or(0);
    let of_round = |rate: &dyn Fn(&Round) -> &Rates, what: usize| -> Vec<f64> {
        (0..count).map(|round| rounds.iter().map(|thread| rate(&thread[round])[which][what]).sum()).collect()
    };
    let [probes, lookups] = [0, 1].map(|what| of_round(&|round| &round.together, what));
    let [probes_alone, lookups_alone] = [0, 1].map(|what| of_round(&|round| &round.alone, what));
    let by_round =
        |some: &[f64], others: &[f64]| Spread::of(some.iter().zip(others).map(|(one, other)| one / other));
    Measured {
        objects,
        held,
        threads,
        ratio: by_round(&lookups, &probes),
        probes_scale: by_round(&probes, &probes_alone),
        lookups_scale: by_round(&lookups, &lookups_alone),
        probes,
        lookups,
        bytes_per_object: of_threads[0].bytes_per_object,
    }
}

fn middle(values: &[f64]) -> f64 {
    Spread::of(values.iter().copied()).median
}

fn table(all: &[Measured]) -> Table {
    let mut table = Table::new(&[
        "objects",
        "threads",
        "names",
        "probes M/s",
        "lookups M/s",
        "ratio",
        "least",
        "most",
        "lookups × one thread",
        "probes × one thread",
        "bytes an object",
    ]);
    for measured in all {
        table.row([
            number(measured.objects),
            measured.threads.to_string(),
            if measured.held { "held" } else { "not held" }.to_owned(),
            format!("{:.2}", middle(&measured.probes)),
            format!("{:.2}", middle(&measured.lookups)),
            format!("{:.2}", measured.ratio.median),
            format!("{:.2}", measured.ratio.min),
            format!("{:.2}", measured.ratio.max),
            format!("{:.2}", measured.lookups_scale.median),
            format!("{:.2}", measured.probes_scale.median),
            format!("{:.0} + {:.0}", measured.bytes_per_object[0], measured.bytes_per_object[1]),
        ]);
    }
    table
}
