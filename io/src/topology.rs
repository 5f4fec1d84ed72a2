//! What the machine looks like to this process: the processing units it may run on, and the memory beside them.
//!
//! Promises: every unit listed exists and may be used by this process (cgroup cpuset and affinity mask are
//! respected); units are ordered by their number; nothing is changed on the machine.
//!
//! Two readers know units and their cores: hwloc, with the cargo feature of that name, which is on by default; and sysfs
//! ([`Topology::read_sysfs`]), for builds that must not need a library that is not on every machine. On one machine both find the
//! same units, the same that share a physical core, and the same nodes. How much memory a node has is read from sysfs in any case.
//!
//! With `HWLOC_SYNTHETIC` or `HWLOC_XMLFILE` in the environment the topology is a [simulated](Topology::simulated)
//! one: good for looking at plans, not for pinning threads, because the affinity mask says nothing about it. Without the feature
//! `hwloc` these variables have no meaning, and nothing is ever simulated.
//!
//! The plan that is made from it: `engine/src/placement.rs`.

#[cfg(feature = "hwloc")]
mod hwloc;
mod sysfs;

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::{fmt, fs, io};

/// Numbers of processing units are below this, so that no list of them can be made absurdly long.
const CPU_NUMBER_LIMIT: usize = 1 << 16;
/// Where the kernel says which processing units this process may use.
const STATUS_PATH: &str = "/proc/self/status";
/// Where the kernel has each processing unit.
const CPUS_PATH: &str = "/sys/devices/system/cpu";
/// Where the kernel says how much memory a NUMA node has.
const NODES_PATH: &str = "/sys/devices/system/node";
/// Where the kernel has each block device, by its number.
const DEVICES_PATH: &str = "/sys/dev/block";

/// A hardware thread that this process may run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessingUnit {
    /// The operating system's number, as `taskset` and `/proc/cpuinfo` use it.
    pub cpu: usize,
    /// The physical core it belongs to; units with the same one are hyper-threads of each other. What number it is depends on who read it.
    pub physical_core: u32,
    /// The NUMA node whose memory is nearest, if the machine says so.
    pub node: Option<u32>,
}

/// The memory of one NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeMemory {
    /// Which node.
    pub node: u32,
    /// All its memory in bytes, used or not; `None` if the kernel does not say.
    pub total_bytes: Option<u64>,
}

/// The processing units and nodes that this process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// At least one, by ascending `cpu`.
    pub units: Vec<ProcessingUnit>,
    /// The nodes of these units, by ascending number.
    pub nodes: Vec<NodeMemory>,
    /// The environment told hwloc to describe another machine: threads cannot be pinned by it.
    pub simulated: bool,
}

/// Why there is no [`Topology`].
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// hwloc could not look at the machine.
    #[error(
        "hwloc cannot read the machine's topology; if HWLOC_SYNTHETIC or HWLOC_XMLFILE is set, is it right?"
    )]
    Unreadable,
    /// The affinity mask could not be read.
    #[error("cannot read which processors this process may use from {STATUS_PATH}: {0}")]
    Affinity(#[source] io::Error),
    /// The affinity mask was not understood.
    #[error("{STATUS_PATH} has no readable Cpus_allowed_list")]
    AffinityFormat,
    /// No unit is left for this process.
    #[error("no processor of this machine is in the affinity mask; check the container's cpuset")]
    NoUnits,
}

impl Topology {
    /// Looks at the machine. Takes some milliseconds.
    pub fn read() -> Result<Self, TopologyError> {
        #[cfg(feature = "hwloc")]
        let read = Topology::read_hwloc();
        #[cfg(not(feature = "hwloc"))]
        let read = Topology::read_sysfs();
        read
    }

    #[cfg(feature = "hwloc")]
    fn read_hwloc() -> Result<Self, TopologyError> {
        let units = hwloc::units()?;
        if hwloc::is_simulated() { Topology::usable(units, |_| None, true) } else { Topology::allowed(units) }
    }

    /// Looks at the machine without hwloc, whatever this was built with.
    pub fn read_sysfs() -> Result<Self, TopologyError> {
        Topology::allowed(sysfs::units(Path::new(CPUS_PATH), &allowed_cpus()?))
    }

    /// Those of this machine's units that this process may use.
    fn allowed(mut units: Vec<ProcessingUnit>) -> Result<Self, TopologyError> {
        let allowed = allowed_cpus()?;
        units.retain(|unit| allowed.contains(&unit.cpu));
        Topology::usable(units, |node| node_bytes(Path::new(NODES_PATH), node), false)
    }

    fn usable(
        units: Vec<ProcessingUnit>,
        memory_of: impl Fn(u32) -> Option<u64>,
        simulated: bool,
    ) -> Result<Self, TopologyError> {
        if units.is_empty() {
            return Err(TopologyError::NoUnits);
        }
        Ok(Topology::new(units, memory_of, simulated))
    }

    /// A topology of given units; `memory_of` tells the bytes of a node.
    pub fn new(
        mut units: Vec<ProcessingUnit>,
        memory_of: impl Fn(u32) -> Option<u64>,
        simulated: bool,
    ) -> Self {
        units.sort_by_key(|unit| unit.cpu);
        units.dedup_by_key(|unit| unit.cpu);
        let mut numbers: Vec<u32> = units.iter().filter_map(|unit| unit.node).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let nodes =
            numbers.into_iter().map(|node| NodeMemory { node, total_bytes: memory_of(node) }).collect();
        Topology { units, nodes, simulated }
    }
}

fn allowed_cpus() -> Result<Vec<usize>, TopologyError> {
    let status = fs::read_to_string(STATUS_PATH).map_err(TopologyError::Affinity)?;
    allowed_in_status(&status).ok_or(TopologyError::AffinityFormat)
}

fn allowed_in_status(status: &str) -> Option<Vec<usize>> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    cpu_list(list).ok()
}

/// `Node 0 MemTotal:       24684084 kB`; `None` if the kernel does not say.
fn node_bytes(nodes: &Path, node: u32) -> Option<u64> {
    let text = fs::read_to_string(nodes.join(format!("node{node}/meminfo"))).ok()?;
    let line = text.lines().find(|line| line.contains("MemTotal:"))?;
    let kib: u64 = line.split("MemTotal:").nth(1)?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Why a text is not a list of processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuListError(String);

impl fmt::Display for CpuListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a list of processors: write numbers and ranges, such as 0,2,4-7", self.0)
    }
}

impl std::error::Error for CpuListError {}

/// The numbers in a list such as `0,2,4-7`, in the order written, as `taskset -c` takes it. Not empty.
pub fn cpu_list(text: &str) -> Result<Vec<usize>, CpuListError> {
    let refuse = || CpuListError(text.trim().to_owned());
    let number = |digits: &str| {
        digits.trim().parse::<usize>().ok().filter(|&cpu| cpu < CPU_NUMBER_LIMIT).ok_or_else(refuse)
    };
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last || cpus.len() > CPU_NUMBER_LIMIT {
            return Err(refuse());
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

/// The NUMA node beside which a disk is: a block device, or the one that a file or folder is on. `None`: the machine has one node, or does not
/// say.
pub fn node_of_disk(path: &Path) -> Option<u32> {
    let metadata = fs::metadata(path).ok()?;
    let number = if metadata.file_type().is_block_device() { metadata.rdev() } else { metadata.dev() };
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    node_above(&fs::canonicalize(format!("{DEVICES_PATH}/{major}:{minor}")).ok()?)
}

/// What the device says, or the nearest one that it is attached to.
fn node_above(device: &Path) -> Option<u32> {
    let said = device.ancestors().find_map(|folder| fs::read_to_string(folder.join("numa_node")).ok())?;
    // -1: it is none of a node.
    said.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Set for the child process that [`synthetic`] starts.
    const CHILD_VARIABLE: &str = "SNOWSKIN_TOPOLOGY_CHILD";

    #[test]
    fn lists_as_people_and_the_kernel_write_them() {
        assert_eq!(cpu_list("0,2,4-7"), Ok(vec![0, 2, 4, 5, 6, 7]));
        assert_eq!(cpu_list("\t0-1\n"), Ok(vec![0, 1]));
        assert_eq!(cpu_list("3, 1"), Ok(vec![3, 1]));
        for text in ["", ",", "a", "1-", "-1", "3-2", "0-99999999999", "1,,2", "0-65536"] {
            let error = cpu_list(text).expect_err(text).to_string();
            assert!(error.contains("such as 0,2,4-7"), "{error}");
        }
    }

    #[test]
    fn affinity_is_found_in_the_status_file() {
        assert_eq!(allowed_in_status("Name:\tx\nCpus_allowed_list:\t0,4-5\n"), Some(vec![0, 4, 5]));
        assert_eq!(allowed_in_status("Name:\tx\n"), None);
        assert_eq!(allowed_in_status("Cpus_allowed_list:\tall\n"), None);
    }

    #[test]
    fn this_machine_has_units_and_each_is_allowed() {
        let topology = Topology::read().expect("a machine");
        let allowed = allowed_cpus().expect("a mask");
        assert!(!topology.units.is_empty());
        assert!(topology.simulated || topology.units.iter().all(|unit| allowed.contains(&unit.cpu)));
        assert!(topology.units.is_sorted_by(|a, b| a.cpu < b.cpu));
    }

    #[test]
    fn memory_of_a_node_from_sysfs() {
        let nodes = std::env::temp_dir().join(format!("snowskin-topology-{}", std::process::id()));
        fs::create_dir_all(nodes.join("node1")).expect("a directory");
        let text = "\nNode 1 MemTotal:       2048 kB\nNode 1 MemFree: 1 kB\n";
        fs::write(nodes.join("node1/meminfo"), text).expect("a file");
        assert_eq!(node_bytes(&nodes, 1), Some(2048 * 1024));
        assert_eq!(node_bytes(&nodes, 2), None);
        fs::remove_dir_all(nodes).expect("removal");
    }

    /// The topology that a child process with `HWLOC_SYNTHETIC` reads, as its debug text. The environment is not
    /// changed in this process, where other tests run beside.
    pub(super) fn synthetic(description: &str) -> String {
        let child = Command::new(std::env::current_exe().expect("our path"))
            .args(["topology::tests::child_prints_its_topology", "--nocapture"])
            .env("HWLOC_SYNTHETIC", description)
            .env(CHILD_VARIABLE, "1")
            .output()
            .expect("a child");
        String::from_utf8_lossy(&child.stdout).into_owned()
    }

    #[test]
    fn child_prints_its_topology() {
        if std::env::var_os(CHILD_VARIABLE).is_some() {
            match Topology::read() {
                Ok(topology) => println!("topology: {topology:?}"),
                Err(error) => println!("error: {error}"),
            }
        }
    }

    #[test]
    fn no_unit_is_no_topology() {
        assert!(matches!(Topology::allowed(Vec::new()), Err(TopologyError::NoUnits)));
        let elsewhere = ProcessingUnit { cpu: CPU_NUMBER_LIMIT, physical_core: 0, node: None };
        let error = Topology::allowed(vec![elsewhere]).expect_err("none is allowed").to_string();
        assert!(error.contains("check the container's cpuset"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "hwloc"))]
    fn without_hwloc_its_variables_have_no_meaning() {
        let printed = synthetic("package:2 numa:1 core:2 pu:2");
        assert!(printed.contains("simulated: false"), "{printed}");
    }

    #[test]
    fn a_disk_is_beside_the_node_of_what_it_is_attached_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = folder.path().join("pci/nvme0/nvme0n1");
        fs::create_dir_all(&disk).expect("a folder");
        assert_eq!(node_above(&disk), None);
        fs::write(folder.path().join("pci/numa_node"), "1\n").expect("room");
        assert_eq!(node_above(&disk), Some(1));
        fs::write(folder.path().join("pci/nvme0/numa_node"), "-1\n").expect("room");
        assert_eq!(node_above(&disk), None);
        assert_eq!(node_of_disk(&folder.path().join("no such file")), None);
    }
}
