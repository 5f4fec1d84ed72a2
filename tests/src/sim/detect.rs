//! Watching the watcher: each seeded bug in a process of its own, until a seed finds it.

use super::bugs::SEEDED_BUGS;
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
    /// Its name.
    pub bug: &'static str,
    /// What it does.
    pub effect: &'static str,
    /// The seed that found it, and the promise that it broke there.
    pub found: Option<(u64, String)>,
    /// How long that took, on all processors.
    pub took: Duration,
}

/// A row of the table in `docs/SEEDED-BUGS.md`.
impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs();
        let Detection { bug, effect, .. } = self;
        match &self.found {
            Some((seed, rule)) => write!(f, "| {bug} | {effect} | {seed} | {seconds} | {rule} |"),
            None => write!(f, "| {bug} | {effect} | not found | {seconds} | |"),
        }
    }
}

/// Looks for all seeded bugs, one after the other; `tell` gets each result. Needs a build that has them.
pub fn detect_all(mut tell: impl FnMut(&Detection)) -> io::Result<Vec<Detection>> {
    let mut detections = Vec::new();
    for (bug, effect) in SEEDED_BUGS {
        let started = Instant::now();
        let output = Command::new(std::env::current_exe()?)
            .args([
                "--bug",
                bug,
                "--seeds",
                &format!("0..{SEEDS_MAX}"),
                "--minutes",
                &MINUTES_MAX.to_string(),
            ])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = text.lines().find_map(parse);
        let detection = Detection { bug, effect, found, took: started.elapsed() };
        tell(&detection);
        detections.push(detection);
    }
    Ok(detections)
}

/// "seed 7 broke a promise: 12.5 s what and how …"
fn parse(line: &str) -> Option<(u64, String)> {
    let (seed, rule) = line.strip_prefix("seed ")?.split_once(" broke a promise: ")?;
    let rule = match rule.split_once(" s ") {
        Some((time, rest)) if time.parse::<f64>().is_ok() => rest,
        _ => rule,
    };
    let short = rule.split([':', ';', '{']).next().unwrap_or(rule).trim();
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
