//! Which situations were reached: every operation under every fault in every phase, and what came of it.

use super::plan::{Fault, Operation};
use std::collections::BTreeMap;
use std::fmt;

/// Parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Faults happen.
    Fire,
    /// No more faults: the cluster gets back to rest under load.
    Calm,
    /// Nobody but the auditor.
    Audit,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 3] = [Phase::Fire, Phase::Calm, Phase::Audit];
}

/// What the auditor asks.
const AUDITED: [Operation; 5] =
    [Operation::Put, Operation::Get, Operation::Lookup, Operation::Match, Operation::SweepForced];

/// A cell of the matrix: the operation, the fault that was there while it was under way (in the fire) or before it
/// (afterwards), `None` for none; and the phase.
pub(super) type Cell = (Operation, Option<Fault>, Phase);

/// How often each situation was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    cells: BTreeMap<Cell, u64>,
    /// Outcomes, errors and counters, by name.
    situations: BTreeMap<String, u64>,
}

/// What must have happened somewhere, besides the cells.
const SITUATIONS: [&str; 34] = [
    "put stored",
    "put existed",
    "get hit",
    "get miss NotHeld",
    "get miss Evicted",
    "get miss Removed",
    "get miss OwnerLost",
    "remove removed",
    "remove leased",
    "remove missing",
    "error Deadline",
    "error Unreachable",
    "error Broken",
    "error NoSpace",
    "asked again",
    "core evicted",
    "core wrong_homes",
    "core entries_taken",
    "core entries_given",
    "core puts_broken",
    "core puts_no_space",
    "core objects_elsewhere",
    "core pinned_bytes",
    "core reserved_bytes",
    "core lanes",
    "core lane_pins",
    "core lane_puts",
    "core slots_awaited",
    "core slots_frozen",
    "core demoted",
    "core ssd_recovered",
    "core shelf_hits",
    "split",
    "epochs",
];

impl Coverage {
    /// An operation was reached under these faults.
    pub fn reach(&mut self, operation: Operation, faults: &[Fault], phase: Phase) {
        if faults.is_empty() {
            *self.cells.entry((operation, None, phase)).or_default() += 1;
        }
        for fault in faults {
            *self.cells.entry((operation, Some(*fault), phase)).or_default() += 1;
        }
    }

    /// A situation was reached.
    pub fn count(&mut self, situation: impl Into<String>, times: u64) {
        if times > 0 {
            *self.situations.entry(situation.into()).or_default() += times;
        }
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Coverage) {
        for (cell, count) in &other.cells {
            *self.cells.entry(*cell).or_default() += count;
        }
        for (situation, count) in &other.situations {
            *self.situations.entry(situation.clone()).or_default() += count;
        }
    }

    /// Everything that can be reached and was not.
    pub fn missing(&self) -> Vec<String> {
        let cells =
            reachable().filter(|cell| !self.cells.contains_key(cell)).map(|(operation, fault, phase)| {
                format!("{} under {} in phase {phase:?}", operation.name(), name_of(fault))
            });
        let situations = SITUATIONS.iter().filter(|name| !self.situations.contains_key(**name));
        cells.chain(situations.map(|name| (*name).to_owned())).collect()
    }
}

/// All cells that a run can reach. The auditor asks only some operations.
fn reachable() -> impl Iterator<Item = Cell> {
    let faults = || std::iter::once(None).chain(Fault::ALL.iter().copied().map(Some));
    Operation::ALL
        .iter()
        .flat_map(move |&operation| {
            faults().flat_map(move |fault| Phase::ALL.map(|phase| (operation, fault, phase)))
        })
        .filter(|(operation, _, phase)| *phase != Phase::Audit || AUDITED.contains(operation))
}

fn name_of(fault: Option<Fault>) -> &'static str {
    fault.map_or("no fault", Fault::name)
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for phase in Phase::ALL {
            writeln!(f, "\nphase {phase:?}: operations by fault")?;
            write!(f, "{:<24}", "")?;
            let faults: Vec<_> = std::iter::once(None).chain(Fault::ALL.iter().copied().map(Some)).collect();
            for fault in &faults {
                write!(f, "{:>18}", name_of(*fault))?;
            }
            writeln!(f)?;
            for operation in Operation::ALL {
                if phase == Phase::Audit && !AUDITED.contains(operation) {
                    continue;
                }
                write!(f, "{:<24}", operation.name())?;
                for fault in &faults {
                    write!(f, "{:>18}", self.cells.get(&(*operation, *fault, phase)).unwrap_or(&0))?;
                }
                writeln!(f)?;
            }
        }
        writeln!(f, "\nsituations")?;
        for (situation, count) in &self.situations {
            writeln!(f, "{situation:<40} {count:>12}")?;
        }
        Ok(())
    }
}
