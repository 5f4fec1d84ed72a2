//! Watching the watcher: each seeded bug in a process of its own, until what has to find it does.

use super::bugs::{Finder, SEEDED_BUGS, SeededBug};
use std::fmt;
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

/// Seeds in which a bug has to be found.
const SEEDS_MAX: u64 = 2_000;
/// Minutes in which it has to be.
const MINUTES_MAX: u64 = 10;

/// What became of one bug.
#[derive(Clone, Debug)]
pub struct Detection {
    /// Which.
    pub bug: SeededBug,
    /// What found it, and what it said.
    pub found: Option<(String, String)>,
    /// How long that took, on all processors.
    pub took: Duration,
}

/// A row of the table in `docs/SEEDED-BUGS.md`.
impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs();
        let SeededBug { name, effect, .. } = self.bug;
        match &self.found {
            Some((finder, rule)) => write!(f, "| {name} | {effect} | {finder} | {seconds} | {rule} |"),
            None => write!(f, "| {name} | {effect} | not found | {seconds} | |"),
        }
    }
}

/// Looks for all seeded bugs, one after the other; `tell` gets each result. Needs a build that has them.
pub fn detect_all(mut tell: impl FnMut(&Detection)) -> io::Result<Vec<Detection>> {
    // Built before the clock runs.
    if !cargo_test(&["--workspace", "--no-run", "--quiet"]).status()?.success() {
        return Err(io::Error::other("the tests cannot be built: see above"));
    }
    let mut detections = Vec::new();
    for bug in SEEDED_BUGS {
        let started = Instant::now();
        let found = match bug.finder {
            Finder::Seeds => find_seed(bug.name)?,
            Finder::Test(package, test) => fail_test(bug.name, package, test)?,
        };
        let detection = Detection { bug, found, took: started.elapsed() };
        tell(&detection);
        detections.push(detection);
    }
    Ok(detections)
}

fn find_seed(bug: &str) -> io::Result<Option<(String, String)>> {
    let (seeds, minutes) = (format!("0..{SEEDS_MAX}"), MINUTES_MAX.to_string());
    let mut run = Command::new(std::env::current_exe()?);
    let output = run.args(["--bug", bug, "--seeds", &seeds, "--minutes", &minutes]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().find_map(parse).map(|(seed, rule)| (format!("seed {seed}"), rule)))
}

/// The test must fail with the bug. (That it passes without is the business of `make test`.)
fn fail_test(bug: &str, package: &str, test: &str) -> io::Result<Option<(String, String)>> {
    let mut run = cargo_test(&["-p", package, test]);
    let output = run.env("SNOWSKIN_SEEDED_BUG", bug).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = text.lines().any(|line| line.contains(test) && line.ends_with("... FAILED"));
    Ok(failed.then(|| (format!("`{test}`"), "the test fails".to_owned())))
}

fn cargo_test(arguments: &[&str]) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut run = Command::new(cargo);
    run.args(["test", "--target-dir", "target/seeded"]).args(arguments);
    run.env("RUSTFLAGS", "--cfg snowskin_seeded_bugs");
    run
}

/// "seed 7 broke a promise: 12.5 s what and how …"
fn parse(line: &str) -> Option<(u64, String)> {
    let (seed, rule) = line.strip_prefix("seed ")?.split_once(" broke a promise: ")?;
    let rule = match rule.split_once(" s ") {
        Some((time, rest)) if time.parse::<f64>().is_ok() => rest,
        _ => rule,
    };
    let short = rule.split([':', ';', '{', '[']).next().unwrap_or(rule).trim();
    Some((seed.parse().ok()?, short.chars().take(80).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_back() {
        let line = "seed 7 broke a promise: 12.5 s key 3 has more than one home: cores [1, 2]";
        assert_eq!(parse(line), Some((7, "key 3 has more than one home".to_owned())));
        let line = "seed 8 broke a promise: no legal order explains it: the key can only be {Absent}";
        assert_eq!(parse(line), Some((8, "no legal order explains it".to_owned())));
        assert_eq!(parse("seeds: 2 run"), None);
    }
}
