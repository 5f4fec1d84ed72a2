//! The machine as the kernel shows it under `/sys/devices/system/cpu`: for builds without hwloc.
//!
//! ```text
//!   online                            0-3,6      who is there
//!   cpu0/topology/thread_siblings_list  0,2      the units of its physical core
//!   cpu0/topology/physical_package_id     0 ┐    the same, where that is missing:
//!   cpu0/topology/core_id                 0 ┘    units with the same two
//!   cpu0/node1                                   a link: its NUMA node
//! ```
//!
//! What is missing costs knowledge and is no error, as with hwloc: a unit of which no core is told is one by itself; if no unit has a node, the
//! machine has a single one, number 0; if nothing says which units are online, those are that the process may use.

use super::{ProcessingUnit, cpu_list};
use std::fs;
use std::path::Path;

/// The node of all units where the kernel knows of none.
const ONLY_NODE: u32 = 0;

/// What the kernel says of one unit.
struct Told {
    cpu: usize,
    /// The lowest unit of its physical core.
    first_sibling: Option<usize>,
    /// The package, and the core's number in it.
    core: Option<(u32, u32)>,
    node: Option<u32>,
}

/// All units that are online. Their physical cores are called by the lowest unit of each. `cpus` is the folder of all of them, `allowed` those
/// that the process may use.
pub(super) fn units(cpus: &Path, allowed: &[usize]) -> Vec<ProcessingUnit> {
    let online = fs::read_to_string(cpus.join("online")).ok().and_then(|list| cpu_list(&list).ok());
    let online = online.unwrap_or_else(|| allowed.to_vec());
    let told: Vec<Told> = online.into_iter().map(|cpu| Told::read(cpus, cpu)).collect();
    let has_nodes = told.iter().any(|unit| unit.node.is_some());
    let unit_of = |unit: &Told| ProcessingUnit {
        cpu: unit.cpu,
        physical_core: unit.first_of_core(&told) as u32,
        node: if has_nodes { unit.node } else { Some(ONLY_NODE) },
    };
    told.iter().map(unit_of).collect()
}

impl Told {
    fn read(cpus: &Path, cpu: usize) -> Told {
        let folder = cpus.join(format!("cpu{cpu}"));
        let text = |name: &str| fs::read_to_string(folder.join("topology").join(name)).ok();
        // -1: the kernel does not know.
        let number = |name: &str| text(name)?.trim().parse().ok();
        let siblings = text("thread_siblings_list").and_then(|list| cpu_list(&list).ok());
        Told {
            cpu,
            first_sibling: siblings
                .filter(|siblings| siblings.contains(&cpu))
                .and_then(|siblings| siblings.into_iter().min()),
            core: number("physical_package_id").zip(number("core_id")),
            node: node_of(&folder),
        }
    }

    fn first_of_core(&self, all: &[Told]) -> usize {
        let same = || all.iter().filter(|other| other.core == self.core).map(|other| other.cpu).min();
        self.first_sibling.or_else(|| self.core.and_then(|_| same())).unwrap_or(self.cpu)
    }
}

fn node_of(folder: &Path) -> Option<u32> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A made-up machine: of each unit its package, core, siblings and node; an empty text is a missing file.
    fn machine(online: &str, units: &[(usize, [&str; 4])]) -> TempDir {
        let cpus = tempfile::tempdir().expect("a folder");
        if !online.is_empty() {
            fs::write(cpus.path().join("online"), format!("{online}\n")).expect("room");
        }
        for &(cpu, [package, core, siblings, node]) in units {
            let topology = cpus.path().join(format!("cpu{cpu}/topology"));
            fs::create_dir_all(&topology).expect("a folder");
            for (name, text) in
                [("physical_package_id", package), ("core_id", core), ("thread_siblings_list", siblings)]
            {
                if !text.is_empty() {
                    fs::write(topology.join(name), format!("{text}\n")).expect("room");
                }
            }
            if !node.is_empty() {
                fs::create_dir(cpus.path().join(format!("cpu{cpu}/node{node}"))).expect("a folder");
            }
        }
        cpus
    }

    /// Of each unit its number, its core's and its node's.
    fn read(cpus: &TempDir, allowed: &[usize]) -> Vec<(usize, u32, Option<u32>)> {
        let units = units(cpus.path(), allowed);
        units.into_iter().map(|unit| (unit.cpu, unit.physical_core, unit.node)).collect()
    }

    #[test]
    fn hyper_threads_share_a_core_and_nodes_have_units() {
        // Two packages of two cores: the kernel numbers the first threads of all cores first. Cores have the same numbers in both.
        let cpus = machine(
            "0-7",
            &[
                (0, ["0", "0", "0,4", "0"]),
                (1, ["0", "1", "1,5", "0"]),
                (2, ["1", "0", "2,6", "1"]),
                (3, ["1", "1", "3,7", "1"]),
                (4, ["0", "0", "0,4", "0"]),
                (5, ["0", "1", "1,5", "0"]),
                (6, ["1", "0", "2,6", "1"]),
                (7, ["1", "1", "3,7", "1"]),
            ],
        );
        let expected = [
            (0, 0, Some(0)),
            (1, 1, Some(0)),
            (2, 2, Some(1)),
            (3, 3, Some(1)),
            (4, 0, Some(0)),
            (5, 1, Some(0)),
            (6, 2, Some(1)),
            (7, 3, Some(1)),
        ];
        assert_eq!(read(&cpus, &[0]), expected, "whatever the process may use");
        // The same without lists of siblings.
        for cpu in 0..8 {
            let list = cpus.path().join(format!("cpu{cpu}/topology/thread_siblings_list"));
            fs::remove_file(list).expect("it is there");
        }
        assert_eq!(read(&cpus, &[0]), expected);
    }

    #[test]
    fn an_offline_unit_is_not_there() {
        // Its folder stays, without a topology.
        let cpus = machine("0,2-3", &[(0, ["0", "0", "0", "0"]), (2, ["0", "1", "2-3", "0"])]);
        fs::create_dir_all(cpus.path().join("cpu1")).expect("a folder");
        fs::create_dir_all(cpus.path().join("cpu3/topology")).expect("a folder");
        fs::write(cpus.path().join("cpu3/topology/thread_siblings_list"), "2-3\n").expect("room");
        assert_eq!(read(&cpus, &[0, 1, 2, 3]), [(0, 0, Some(0)), (2, 2, Some(0)), (3, 2, None)]);
    }

    #[test]
    fn what_is_not_told_makes_a_unit_its_own_core() {
        let bare = [(0, ["", "", "", ""]), (1, ["", "", "", ""])];
        assert_eq!(read(&machine("0-1", &bare), &[0, 1]), [(0, 0, Some(0)), (1, 1, Some(0))]);
        // Half of it, what the kernel does not know, and what cannot be right.
        let odd = [
            (0, ["0", "", "", ""]),
            (1, ["-1", "-1", "", ""]),
            (2, ["-1", "-1", "x", ""]),
            (3, ["0", "7", "0-1", ""]),
        ];
        let expected: Vec<_> = (0..4).map(|cpu| (cpu, cpu as u32, Some(0))).collect();
        assert_eq!(read(&machine("0-3", &odd), &[]), expected);
    }

    #[test]
    fn without_sysfs_what_may_be_used_is_there() {
        let nothing = tempfile::tempdir().expect("a folder");
        assert_eq!(read(&nothing, &[3, 5]), [(3, 3, Some(0)), (5, 5, Some(0))]);
        assert_eq!(read(&machine("all of them", &[]), &[1]), [(1, 1, Some(0))]);
    }
}
