//! Which processing unit each core of the engine gets. Data in, plan out: nothing is read from the machine here and
//! nothing is pinned.
//!
//! ```text
//!   units this process may use ──► those of --numa / --cpus ──► one node, if one has enough
//!        ──► one unit of each physical core first, nodes in turn ──► the first N ──► core 0, 1, … N-1
//! ```
//!
//! Promises, each a property in the tests: a plan has exactly the wanted number of cores; every unit in it may be
//! used; no unit is used twice unless there are more cores than units, and then all are used as evenly as can be; no
//! two cores are hyper-threads of one physical core while another physical core of the same choice is idle.
//!
//! A core may wait busily before it parks only if nobody needs its unit meanwhile: never where cores share a unit,
//! and never on a machine with one unit, where clients and kernel need it too.

use snowskin_io::topology::{ProcessingUnit, Topology};
use std::fmt;

/// Cores of one engine, at most.
pub const CORES_MAX: u16 = 1024;

/// What is asked for. The default asks for all units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementWish {
    /// Cores, 1 to [`CORES_MAX`]; `None`: one for each unit that may be used.
    pub cores: Option<u16>,
    /// Use this NUMA node only.
    pub node: Option<u32>,
    /// Use these units only, core 0 the first, and so on.
    pub cpus: Option<Vec<usize>>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Cores out of range.
    #[error("{0} cores: an engine has 1 to {CORES_MAX}")]
    CoreCount(u16),
    /// No processor at all.
    #[error("this process may use no processor")]
    NoUnits,
    /// No such node, or none of its units may be used.
    #[error("NUMA node {node} has no processor that this process may use; usable: {}", words(known, "node"))]
    UnknownNode {
        /// What was asked for.
        node: u32,
        /// The nodes that there are.
        known: Vec<usize>,
    },
    /// No such unit, or it may not be used.
    #[error("cpu {cpu} does not exist or this process may not use it; usable: {}", words(usable, "cpu"))]
    UnknownCpu {
        /// What was asked for.
        cpu: usize,
        /// The units that there are.
        usable: Vec<usize>,
    },
    /// A unit was named twice.
    #[error("cpu {0} is listed twice; to have more cores than cpus, list each once and set cores")]
    RepeatedCpu(usize),
    /// The two restrictions contradict each other.
    #[error(
        "cpu {cpu} is not on NUMA node {node}; leave out one of cpus and numa, or list cpus of that node"
    )]
    CpuOffNode {
        /// The unit.
        cpu: usize,
        /// The node.
        node: u32,
    },
}

/// What a core shares with a core of a lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Its processing unit: they take turns.
    Unit(u16),
    /// Its physical core: they are hyper-threads.
    PhysicalCore(u16),
}

/// Where one core runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorePlacement {
    /// The core's number in its engine.
    pub core: u16,
    /// The processing unit to pin it to.
    pub cpu: usize,
    /// Its NUMA node, if the machine says so.
    pub node: Option<u32>,
    /// The first core that it shares something with, if any.
    pub sharing: Option<Sharing>,
}

/// Where each core runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuPlan {
    /// By number: `cores[i].core == i`.
    pub cores: Vec<CorePlacement>,
    /// There are more cores than units, so some share.
    pub oversubscribed: bool,
    /// A core may wait busily before it parks.
    pub spin: bool,
    /// Units that could have been chosen.
    pub unit_count: usize,
    /// The plan was made for a simulated machine: do not pin by it.
    pub simulated: bool,
}

/// Chooses a unit for each core.
pub fn plan(topology: &Topology, wish: &PlacementWish) -> Result<CpuPlan, PlacementError> {
    if let Some(count) = wish.cores.filter(|&count| count == 0 || count > CORES_MAX) {
        return Err(PlacementError::CoreCount(count));
    }
    let usable = usable_units(topology, wish)?;
    let all = usable.len().min(usize::from(CORES_MAX));
    let wanted = wish.cores.map_or(all, usize::from);
    let ordered = match wish.cpus {
        Some(_) => usable.clone(),
        None => by_preference(one_node(&usable, wanted), wanted),
    };
    let oversubscribed = wanted > ordered.len();
    let mut chosen: Vec<ProcessingUnit> = ordered.iter().copied().cycle().take(wanted).collect();
    if wish.cpus.is_none() {
        chosen.sort_by_key(|unit| (unit.node, unit.cpu));
    }
    Ok(CpuPlan {
        cores: (0..chosen.len()).map(|index| placement(&chosen, index)).collect(),
        oversubscribed,
        spin: !oversubscribed && topology.units.len() > 1,
        unit_count: usable.len(),
        simulated: topology.simulated,
    })
}

fn usable_units(topology: &Topology, wish: &PlacementWish) -> Result<Vec<ProcessingUnit>, PlacementError> {
    if topology.units.is_empty() {
        return Err(PlacementError::NoUnits);
    }
    let on_node = |unit: &ProcessingUnit| wish.node.is_none() || unit.node == wish.node;
    if let Some(node) = wish.node.filter(|_| !topology.units.iter().any(on_node)) {
        let known = topology.nodes.iter().map(|memory| memory.node as usize).collect();
        return Err(PlacementError::UnknownNode { node, known });
    }
    let Some(cpus) = &wish.cpus else {
        return Ok(topology.units.iter().copied().filter(on_node).collect());
    };
    let mut units: Vec<ProcessingUnit> = Vec::with_capacity(cpus.len());
    for &cpu in cpus {
        let Some(unit) = topology.units.iter().find(|unit| unit.cpu == cpu) else {
            let usable = topology.units.iter().map(|unit| unit.cpu).collect();
            return Err(PlacementError::UnknownCpu { cpu, usable });
        };
        if units.contains(unit) {
            return Err(PlacementError::RepeatedCpu(cpu));
        }
        if let Some(node) = wish.node.filter(|_| !on_node(unit)) {
            return Err(PlacementError::CpuOffNode { cpu, node });
        }
        units.push(*unit);
    }
    if units.is_empty() { Err(PlacementError::NoUnits) } else { Ok(units) }
}

/// The units of the lowest node that has enough of them, rather one with enough physical cores; else all units.
fn one_node(units: &[ProcessingUnit], wanted: usize) -> Vec<ProcessingUnit> {
    let mut best: Option<(bool, Vec<ProcessingUnit>)> = None;
    for node in sorted(units.iter().map(|unit| unit.node)) {
        let there: Vec<ProcessingUnit> = units.iter().copied().filter(|unit| unit.node == node).collect();
        let shares = sorted(there.iter().map(|unit| unit.physical_core)).len() < wanted;
        if there.len() >= wanted && best.as_ref().is_none_or(|(best_shares, _)| *best_shares && !shares) {
            best = Some((shares, there));
        }
    }
    best.map_or_else(|| units.to_vec(), |(_, there)| there)
}

/// The `wanted` best units, or all: the first hyper-thread of each physical core before any second one, and among
/// equals the nodes in turn.
fn by_preference(units: Vec<ProcessingUnit>, wanted: usize) -> Vec<ProcessingUnit> {
    let earlier = |unit: &ProcessingUnit, same: &dyn Fn(&ProcessingUnit) -> bool| {
        units.iter().filter(|other| other.cpu < unit.cpu && same(other)).count()
    };
    let thread_of = |unit: &ProcessingUnit| {
        earlier(unit, &|other| (other.node, other.physical_core) == (unit.node, unit.physical_core))
    };
    let threads: Vec<(usize, ProcessingUnit)> = units.iter().map(|unit| (thread_of(unit), *unit)).collect();
    let turn_of = |thread: usize, unit: &ProcessingUnit| {
        let before = |&&(other_thread, other): &&(usize, ProcessingUnit)| {
            other_thread == thread && other.node == unit.node && other.cpu < unit.cpu
        };
        threads.iter().filter(before).count()
    };
    let mut ordered: Vec<_> = threads
        .iter()
        .map(|(thread, unit)| (*thread, turn_of(*thread, unit), unit.node, unit.cpu, *unit))
        .collect();
    ordered.sort_by_key(|&(thread, turn, node, cpu, _)| (thread, turn, node, cpu));
    ordered.into_iter().map(|(.., unit)| unit).take(wanted).collect()
}

fn placement(chosen: &[ProcessingUnit], index: usize) -> CorePlacement {
    let unit = chosen[index];
    let first =
        |same: &dyn Fn(&ProcessingUnit) -> bool| chosen[..index].iter().position(same).map(|at| at as u16);
    let sharing = first(&|other| other.cpu == unit.cpu).map(Sharing::Unit).or_else(|| {
        let siblings =
            |other: &ProcessingUnit| (other.node, other.physical_core) == (unit.node, unit.physical_core);
        first(&siblings).map(Sharing::PhysicalCore)
    });
    CorePlacement { core: index as u16, cpu: unit.cpu, node: unit.node, sharing }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    items.dedup();
    items
}

/// `cpus 0, 2 to 5` for people.
fn words(numbers: &[usize], noun: &str) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in sorted(numbers.iter().copied()) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |&(first, last): &(usize, usize)| match last - first {
        0 => first.to_string(),
        _ => format!("{first} to {last}"),
    };
    let list: Vec<String> = runs.iter().map(run).collect();
    match numbers.len() {
        0 => format!("no {noun}"),
        1 => format!("{noun} {}", list.join(", ")),
        _ => format!("{noun}s {}", list.join(", ")),
    }
}

impl CpuPlan {
    /// The NUMA nodes in use, ascending; empty if the machine does not say.
    pub fn nodes(&self) -> Vec<u32> {
        sorted(self.cores.iter().filter_map(|core| core.node))
    }

    fn sharing_words(&self) -> &'static str {
        let hyper_threads = |core: &CorePlacement| matches!(core.sharing, Some(Sharing::PhysicalCore(_)));
        if self.oversubscribed {
            "more cores than processors, so that some share one"
        } else if self.cores.iter().any(hyper_threads) {
            "each core has a processor of its own, some are hyper-threads of one physical core"
        } else {
            "each core has a physical core of its own"
        }
    }
}

/// A sentence or two, then a line for each core.
impl fmt::Display for CpuPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let nodes: Vec<usize> = self.nodes().into_iter().map(|node| node as usize).collect();
        write!(f, "{} on ", count(self.cores.len(), "core"))?;
        if nodes.is_empty() {
            write!(f, "{} (NUMA nodes unknown)", count(self.unit_count, "usable processor"))?;
        } else {
            write!(f, "NUMA {}, of {}", words(&nodes, "node"), count(self.unit_count, "usable processor"))?;
        }
        writeln!(f, ": {}.", self.sharing_words())?;
        let waiting = match (self.spin, self.oversubscribed) {
            (true, _) => "A core that waits may spin for a moment before it parks.",
            (false, true) => "No core spins while it waits, because another one needs its processor.",
            (false, false) => "No core spins while it waits, because this machine has a single processor.",
        };
        write!(f, "{waiting}")?;
        if self.simulated {
            write!(f, "\nThis is a simulated machine (HWLOC_SYNTHETIC or HWLOC_XMLFILE is set).")?;
        }
        let core_width = self.cores.len().saturating_sub(1).to_string().len();
        let cpu_width = self.cores.iter().map(|core| core.cpu).max().unwrap_or(0).to_string().len();
        for core in &self.cores {
            let node = core.node.map_or("?".to_owned(), |node| node.to_string());
            write!(f, "\ncore {:>core_width$}  cpu {:>cpu_width$}  node {node}", core.core, core.cpu)?;
            match core.sharing {
                Some(Sharing::Unit(other)) => write!(f, "  takes turns with core {other}")?,
                Some(Sharing::PhysicalCore(other)) => write!(f, "  hyper-thread beside core {other}")?,
                None => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
