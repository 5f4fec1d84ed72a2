//! The machine as hwloc sees it, or another one that it is told to describe.
//!
//! It is asked for processing units and cores only. Listing NUMA nodes through hwloc2 panics and its `Display`
//! overflows the heap, so a unit's node is read from the unit's node set.

use super::{ProcessingUnit, TopologyError};
use hwloc2::{Bitmap, ObjectType};

/// Variables that make it describe another machine than this one.
const SIMULATION_VARIABLES: [&str; 2] = ["HWLOC_SYNTHETIC", "HWLOC_XMLFILE"];

/// The environment tells it to describe another machine.
pub(super) fn is_simulated() -> bool {
    SIMULATION_VARIABLES.iter().any(|name| std::env::var_os(name).is_some())
}

/// All units that are online, and in this process's cpuset.
pub(super) fn units() -> Result<Vec<ProcessingUnit>, TopologyError> {
    let hardware = hwloc2::Topology::new().ok_or(TopologyError::Unreadable)?;
    let units = hardware.objects_with_type(&ObjectType::PU).map_err(|_| TopologyError::Unreadable)?;
    // Some virtual machines tell of no cores. Then every unit counts as a core of its own.
    let cores = hardware.objects_with_type(&ObjectType::Core).unwrap_or_default();
    let cores: Vec<(u32, Bitmap)> =
        cores.iter().filter_map(|core| Some((core.logical_index(), core.cpuset()?))).collect();
    let unit_of = |unit: &&hwloc2::TopologyObject| {
        let cpu = unit.os_index();
        let physical_core = cores.iter().find(|(_, cpus)| cpus.is_set(cpu)).map_or(cpu, |&(index, _)| index);
        // A negative number: no node, or a set without an end, which is how hwloc says that it does not know.
        let node = unit.nodeset().filter(|nodes| nodes.weight() > 0).map(|nodes| nodes.first());
        let node = node.and_then(|first| u32::try_from(first).ok());
        ProcessingUnit { cpu: cpu as usize, physical_core, node }
    };
    Ok(units.iter().map(unit_of).collect())
}

#[cfg(test)]
mod tests {
    use super::super::Topology;
    use super::super::tests::synthetic;
    use super::*;
    use std::collections::BTreeSet;

    /// Which units share a physical core: each group by its numbers.
    fn cores(units: &[ProcessingUnit]) -> BTreeSet<Vec<usize>> {
        let same = |unit: &ProcessingUnit| {
            let mates = units.iter().filter(|other| other.physical_core == unit.physical_core);
            mates.map(|other| other.cpu).collect()
        };
        units.iter().map(same).collect()
    }

    #[test]
    fn sysfs_says_of_this_machine_what_hwloc_says() {
        if is_simulated() {
            return;
        }
        let (hwloc, sysfs) = (Topology::read().expect("hwloc"), Topology::read_sysfs().expect("sysfs"));
        let places = |topology: &Topology| -> Vec<(usize, Option<u32>)> {
            topology.units.iter().map(|unit| (unit.cpu, unit.node)).collect()
        };
        assert_eq!(places(&hwloc), places(&sysfs));
        assert_eq!(cores(&hwloc.units), cores(&sysfs.units));
        assert_eq!((hwloc.nodes, hwloc.simulated), (sysfs.nodes, sysfs.simulated));
    }

    #[test]
    fn two_nodes_with_hyper_threads() {
        let printed = synthetic("package:2 numa:1 core:2 pu:2");
        let unit = |cpu: usize, physical_core: u32, node: u32| {
            format!("{:?}", ProcessingUnit { cpu, physical_core, node: Some(node) })
        };
        for expected in [unit(0, 0, 0), unit(1, 0, 0), unit(3, 1, 0), unit(4, 2, 1), unit(7, 3, 1)] {
            assert!(printed.contains(&expected), "{expected} is not in {printed}");
        }
        assert!(printed.contains("simulated: true"), "{printed}");
    }

    #[test]
    fn units_without_cores_are_their_own() {
        let printed = synthetic("numa:1 pu:3");
        for cpu in 0..3 {
            let unit = format!("cpu: {cpu}, physical_core: {cpu}");
            assert!(printed.contains(&unit), "{unit} is not in {printed}");
        }
    }
}
