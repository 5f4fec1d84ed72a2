//! The command `limits`: Snowskin beside what the machine can do, in one run.
//!
//! Speeds drift on shared machines, so nothing is compared with a figure of another minute: each round measures the raw
//! exchange and Snowskin one right after the other, and a ratio is taken within the round. Reported are the median of
//! the rounds' ratios and their extremes. Both wake modes are measured against the raw figure of the same mode
//! (a wake-up across virtual CPUs can cost more than all the rest).
//!
//! | file | what lives there |
//! |---|---|
//! | `tcp/` | get, put and lookup beside request and response over plain TCP |
//! | `shm/` | copies, reads in place, batches and cores through shared memory, beside what memory can do |
//! | `ssd/` | the SSD tier beside fio |
//! | `part.rs` | what can be measured alone |
//! | `memcpy.rs` | copies |
//! | `filled.rs` | a cluster, and values in it |
//! | `slices.rs` | how one thing is measured for a moment |

mod filled;
mod memcpy;
mod part;
mod shm;
mod slices;
mod ssd;
mod tcp;

pub(crate) use part::Part;
pub(crate) use shm::{PONG_SERVER, serve_pongs};
pub(crate) use tcp::{RAW_SERVER, serve_forever};

use crate::cluster::Cluster;
use crate::cpu;
use crate::interrupt::stop_requested;
use crate::spread::Spread;
use serde::Serialize;
use snowskin_client::Transport;
use std::path::PathBuf;
use std::time::Duration;

/// How long a side that spins polls before it blocks.
const SPIN: Duration = Duration::from_micros(50);

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct LimitsPlan {
    pub(crate) rounds: usize,
    /// Time of each measurement in each round.
    pub(crate) slice: Duration,
    /// At least one.
    pub(crate) wakes: Vec<Wake>,
    /// Raw server on the CPU of the engine's core, client on another.
    pub(crate) pin: bool,
    pub(crate) checksums: bool,
    /// How ours reaches its engine. By shared memory: it is put beside what memory can do, else beside TCP.
    pub(crate) transport: Transport,
    /// Of those by shared memory, or of the SSD tier; none: all.
    pub(crate) parts: Vec<Part>,
    /// A folder for the SSD tier, if that is to be measured.
    pub(crate) ssd: Option<PathBuf>,
}

/// What a side does that waits for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wake {
    /// Polls for up to 50 µs, then blocks.
    Spin,
    /// Blocks at once.
    Block,
}

impl Wake {
    fn spin(self) -> Duration {
        match self {
            Wake::Spin => SPIN,
            Wake::Block => Duration::ZERO,
        }
    }

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Which CPUs were used.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Pinned {
    pub(crate) engine_cpu: usize,
    pub(crate) client_cpu: usize,
}

/// All figures. `--json` writes this.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum LimitsReport {
    Tcp(tcp::TcpReport),
    Shm(shm::ShmReport),
    Ssd(Box<ssd::SsdReport>),
}

/// Measures everything.
pub(crate) fn measure(plan: &LimitsPlan) -> Result<LimitsReport, String> {
    if plan.ssd.is_some() {
        return ssd::measure(plan).map(|report| LimitsReport::Ssd(Box::new(report)));
    }
    match plan.transport {
        Transport::SharedMemory => shm::measure(plan).map(LimitsReport::Shm),
        Transport::Tcp | Transport::Auto => tcp::measure(plan).map(LimitsReport::Tcp),
    }
}

impl LimitsReport {
    /// For people.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            LimitsReport::Tcp(report) => report.lines(),
            LimitsReport::Shm(report) => report.lines(),
            LimitsReport::Ssd(report) => report.lines(),
        }
    }
}

/// Where things shall run if they shall be pinned: the raw server beside the engine's core, the client elsewhere.
fn placement(pin: bool, cluster: &Cluster) -> Result<Option<Pinned>, String> {
    if !pin {
        return Ok(None);
    }
    let engine_cpu = cpu::pinned_cpu_of(cluster.engine_pid(0));
    let engine_cpu = engine_cpu.ok_or("--pin: the engine's core is pinned to no single CPU")?;
    let other = cpu::allowed().into_iter().find(|&cpu| cpu != engine_cpu);
    let client_cpu = other.ok_or("--pin needs a second CPU for the client")?;
    Ok(Some(Pinned { engine_cpu, client_cpu }))
}

fn pinned_line(pinned: Option<Pinned>) -> String {
    match pinned {
        Some(Pinned { engine_cpu, client_cpu }) => {
            format!("  engine and raw server on CPU {engine_cpu}, client on CPU {client_cpu}")
        }
        None => "  not pinned: give --pin for figures that are the same tomorrow".to_owned(),
    }
}

/// To be asked between measurements.
fn go_on() -> Result<(), String> {
    if stop_requested() { Err("interrupted".to_owned()) } else { Ok(()) }
}

fn spread_in_words(spread: Spread) -> String {
    format!("{:.2} ({:.2} … {:.2})", spread.median, spread.min, spread.max)
}

/// Whether a ratio is as high as it must be.
fn at_least(median: f64, bar: f64) -> String {
    format!("≥ {bar:.2} {}", if median >= bar { "met" } else { "BELOW" })
}

/// Whether something is as low as it must be.
fn at_most(median: f64, bar: f64, bar_in_words: &str) -> String {
    format!("≤ {bar_in_words} {}", if median <= bar { "met" } else { "ABOVE" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_met_from_their_side() {
        assert_eq!(
            [0.5, 0.9, 1.0].map(|ratio| at_least(ratio, 0.9)),
            ["≥ 0.90 BELOW", "≥ 0.90 met", "≥ 0.90 met"]
        );
        assert_eq!(
            [1.0, 2.0, 2.1].map(|ratio| at_most(ratio, 2.0, "2.00")),
            ["≤ 2.00 met", "≤ 2.00 met", "≤ 2.00 ABOVE"]
        );
    }
}
