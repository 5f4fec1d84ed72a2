//! What is told of a run that broke a promise.

use std::fmt;

/// A run that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Which promise, and what shows it.
    pub what: String,
    /// What happened before.
    pub trail: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trail.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "seed {} broke a promise: {}", self.seed, self.what)
    }
}
