//! Runs seeds of the simulated cluster: `cargo run --release -p snowskin-tests --bin sim -- --seeds 0..1000`.

use argh::FromArgs;
use snowskin_tests::Failure;
use snowskin_tests::sim::{Coverage, Passed, SEEDED_BUGS, detect_all, known_seeds, run};
use std::ops::Range;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);

/// A simulated cluster under fire: every seed is another cluster, another load and other faults. Without arguments:
/// the seeds that have failed once, then a minute of fresh ones.
#[derive(FromArgs)]
struct Arguments {
    /// run this seed only, and say what happened in it (twice, to show that it is the same run)
    #[argh(option)]
    seed: Option<u64>,
    /// run these seeds: A..B
    #[argh(option, from_str_fn(parse_range))]
    seeds: Option<Range<u64>>,
    /// run seeds for so long, from one that the clock chooses
    #[argh(option)]
    minutes: Option<f64>,
    /// threads; default: as many as there are processors
    #[argh(option)]
    jobs: Option<usize>,
    /// go on after a failure, up to so many; default 1
    #[argh(option, default = "1")]
    failures: usize,
    /// switch a seeded bug on, by name; only in a build with --cfg snowskin_seeded_bugs (see make watch)
    #[argh(option)]
    bug: Option<String>,
    /// look for every seeded bug and print the table of docs/SEEDED-BUGS.md; only in such a build (see make watch)
    #[argh(switch)]
    detect: bool,
    /// print the matrix of situations, and fail if one that can be reached was not
    #[argh(switch)]
    coverage: bool,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let parse = |part: &str| part.parse().map_err(|_| format!("{part:?} is no number"));
    let (first, end) = text.split_once("..").ok_or("give two numbers: A..B")?;
    let range = parse(first)?..parse(end)?;
    if range.is_empty() { Err("the range is empty: give A..B with A below B".into()) } else { Ok(range) }
}

/// What the runs of one invocation came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    calls: u64,
    coverage: Coverage,
    failures: Vec<Failure>,
}

fn main() -> ExitCode {
    let arguments: Arguments = argh::from_env();
    env_logger::init();
    if arguments.detect {
        return detect();
    }
    if let Some(bug) = &arguments.bug {
        let is_known = SEEDED_BUGS.iter().any(|seeded| seeded.name == bug);
        if !is_known || !snowskin_io::seeded::choose(bug) {
            eprintln!("there is no bug {bug:?} in this build: see docs/SEEDED-BUGS.md and make watch");
            return ExitCode::FAILURE;
        }
    }
    if let Some(seed) = arguments.seed {
        return run_one(seed);
    }
    let known = known_seeds();
    let known_range = known.iter().copied();
    let (range, limit) = match (&arguments.seeds, arguments.minutes) {
        (Some(range), minutes) => (range.clone(), minutes),
        (None, minutes) => {
            let first = fresh_seed();
            (first..u64::MAX, Some(minutes.unwrap_or(1.0)))
        }
    };
    println!("seeds: {} known ones, then {} to {}", known.len(), range.start, range.end - 1);
    let until = limit.map(|minutes| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
    let started = Instant::now();
    let sum = run_many(known_range.chain(range.clone()), until, &arguments);
    let hours = started.elapsed().as_secs_f64() / 3600.0;
    println!(
        "seeds: {} run from {} on, {} calls checked, {} failed, {:.0} seeds an hour",
        sum.seeds,
        range.start,
        sum.calls,
        sum.failures.len(),
        sum.seeds as f64 / hours
    );
    let mut is_good = sum.failures.is_empty();
    if arguments.coverage {
        println!("{}", sum.coverage);
        for missing in sum.coverage.missing() {
            println!("not reached: {missing}");
            is_good = false;
        }
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The table of detections. Fails if a bug is not found.
fn detect() -> ExitCode {
    println!("| bug | what it does | what finds it | seconds | what it says |\n|---|---|---|---|---|");
    match detect_all(|detection| println!("{detection}")) {
        Ok(detections) if detections.iter().all(|detection| detection.found.is_some()) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot start the runs: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one seed twice and compares.
fn run_one(seed: u64) -> ExitCode {
    println!("seed {seed}");
    match (run_caught(seed), run_caught(seed)) {
        (Ok(first), Ok(second)) => {
            println!("{}", first.coverage);
            println!("seed {seed}: {} calls, event hash {:016x}", first.calls, first.event_hash);
            if first.event_hash == second.event_hash {
                return ExitCode::SUCCESS;
            }
            println!("seed {seed} is not the same run twice: something outside of it has leaked in");
        }
        (Err(failure), _) | (_, Err(failure)) => tell_failure(&failure),
    }
    ExitCode::FAILURE
}

fn tell_failure(failure: &Failure) {
    println!("{failure}");
    println!("run it again: cargo run --release -p snowskin-tests --bin sim -- --seed {}", failure.seed);
}

fn run_caught(seed: u64) -> Result<Passed, Box<Failure>> {
    catch_unwind(|| run(seed)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = format!("it panicked: {}", text.unwrap_or_default());
        Err(Box::new(Failure { seed, what, trail: Vec::new() }))
    })
}

/// Runs seeds on all processors, one at a time on each.
fn run_many(
    seeds: impl Iterator<Item = u64> + Clone + Send,
    until: Option<Instant>,
    arguments: &Arguments,
) -> Sum {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (taken, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let (sender, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.unwrap_or(processors) {
            let (seeds, sender, taken, failed) = (seeds.clone(), sender.clone(), &taken, &failed);
            scope.spawn(move || work(seeds, until, taken, failed, arguments.failures as u64, &sender));
        }
        drop(sender);
        let (mut sum, mut told) = (Sum::default(), Instant::now());
        for result in results {
            sum.seeds += 1;
            match result {
                Ok(passed) => {
                    sum.calls += passed.calls as u64;
                    sum.coverage.add(&passed.coverage);
                }
                Err(failure) => {
                    tell_failure(&failure);
                    sum.failures.push(*failure);
                }
            }
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                println!("{} seeds, {} failed", sum.seeds, sum.failures.len());
            }
        }
        sum
    })
}

fn work(
    mut seeds: impl Iterator<Item = u64>,
    until: Option<Instant>,
    taken: &AtomicU64,
    failed: &AtomicU64,
    failures_max: u64,
    results: &Sender<Result<Passed, Box<Failure>>>,
) {
    let mut at = 0;
    loop {
        let next = taken.fetch_add(1, Ordering::Relaxed);
        let skipped = next - at;
        let Some(seed) = seeds.nth(skipped as usize) else { return };
        at = next + 1;
        if until.is_some_and(|until| Instant::now() >= until)
            || failed.load(Ordering::Relaxed) >= failures_max
        {
            return;
        }
        let result = run_caught(seed);
        failed.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
        if results.send(result).is_err() {
            return;
        }
    }
}

/// A seed that was hardly ever run before.
fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_secs() << 20
}
