use super::*;
use quickcheck::{Arbitrary, Gen, quickcheck};
use std::collections::HashMap;

/// Nodes × physical cores a node × hyper-threads; threads numbered last, as Linux does.
fn machine(nodes: u32, cores: u32, threads: u32) -> Topology {
    let mut units = Vec::new();
    for thread in 0..threads {
        for physical_core in 0..nodes * cores {
            let cpu = (thread * nodes * cores + physical_core) as usize;
            units.push(ProcessingUnit { cpu, physical_core, node: Some(physical_core / cores) });
        }
    }
    Topology::new(units, |_| None, false)
}

fn cores(count: u16) -> PlacementWish {
    PlacementWish { cores: Some(count), ..PlacementWish::default() }
}

fn cpus_of(plan: &CpuPlan) -> Vec<usize> {
    plan.cores.iter().map(|core| core.cpu).collect()
}

#[test]
fn one_node_with_enough_physical_cores_is_preferred() {
    let made = plan(&machine(2, 4, 2), &cores(3)).expect("a plan");
    assert_eq!(cpus_of(&made), [0, 1, 2]);
    assert_eq!(made.nodes(), [0]);
    assert!(made.spin && !made.oversubscribed);
}

#[test]
fn a_node_with_hyper_threads_beats_two_nodes() {
    let made = plan(&machine(2, 2, 2), &cores(4)).expect("a plan");
    assert_eq!(cpus_of(&made), [0, 1, 4, 5]);
    assert_eq!(made.cores[2].sharing, Some(Sharing::PhysicalCore(0)));
}

#[test]
fn the_node_with_more_physical_cores_beats_the_lower_number() {
    let mut units = machine(1, 1, 2).units;
    units.extend([2, 3].map(|cpu| ProcessingUnit { cpu, physical_core: cpu as u32, node: Some(1) }));
    let made = plan(&Topology::new(units, |_| None, false), &cores(2)).expect("a plan");
    assert_eq!(cpus_of(&made), [2, 3]);
}

#[test]
fn what_no_node_can_hold_is_spread_evenly() {
    let made = plan(&machine(2, 4, 1), &cores(6)).expect("a plan");
    assert_eq!(cpus_of(&made), [0, 1, 2, 4, 5, 6]);
    assert_eq!(made.nodes(), [0, 1]);
}

#[test]
fn more_cores_than_units_share_and_do_not_spin() {
    let made = plan(&machine(1, 2, 1), &cores(4)).expect("a plan");
    assert_eq!(cpus_of(&made), [0, 0, 1, 1]);
    assert!(made.oversubscribed && !made.spin);
    assert_eq!(made.cores[3].sharing, Some(Sharing::Unit(2)));
}

#[test]
fn a_single_processor_is_never_spun_on() {
    let made = plan(&machine(1, 1, 1), &PlacementWish::default()).expect("a plan");
    assert!(!made.spin && !made.oversubscribed);
    assert!(made.to_string().contains("single processor"));
}

#[test]
fn listed_cpus_are_taken_in_their_order() {
    let wish = PlacementWish { cpus: Some(vec![5, 0]), ..PlacementWish::default() };
    assert_eq!(cpus_of(&plan(&machine(2, 4, 1), &wish).expect("a plan")), [5, 0]);
    let three = PlacementWish { cores: Some(3), ..wish };
    let made = plan(&machine(2, 4, 1), &three).expect("a plan");
    assert_eq!(cpus_of(&made), [5, 0, 5]);
    assert!(made.oversubscribed);
}

#[test]
fn every_refusal_says_what_there_is() {
    let topology = machine(2, 2, 1);
    let refusal = |cores, node, cpus| {
        plan(&topology, &PlacementWish { cores, node, cpus }).expect_err("a refusal").to_string()
    };
    assert!(refusal(Some(0), None, None).contains("1 to 1024"));
    assert!(refusal(Some(1025), None, None).contains("1 to 1024"));
    assert!(refusal(None, Some(7), None).contains("usable: nodes 0 to 1"));
    assert!(refusal(None, None, Some(vec![9])).contains("usable: cpus 0 to 3"));
    assert!(refusal(None, None, Some(vec![1, 1])).contains("listed twice"));
    assert!(refusal(None, Some(0), Some(vec![3])).contains("cpu 3 is not on NUMA node 0"));
    assert_eq!(refusal(None, None, Some(vec![])), PlacementError::NoUnits.to_string());
    let none = plan(&Topology::default(), &PlacementWish::default());
    assert_eq!(none, Err(PlacementError::NoUnits));
}

#[test]
fn the_plan_explains_itself() {
    let text = plan(&machine(1, 1, 2), &PlacementWish::default()).expect("a plan").to_string();
    let expected = "2 cores on NUMA node 0, of 2 usable processors: each core has a processor of its own, some are \
                    hyper-threads of one physical core.\n\
                    A core that waits may spin for a moment before it parks.\n\
                    core 0  cpu 0  node 0\n\
                    core 1  cpu 1  node 0  hyper-thread beside core 0";
    assert_eq!(text, expected);
    let unknown = vec![ProcessingUnit { cpu: 3, physical_core: 0, node: None }];
    let text = plan(&Topology::new(unknown, |_| None, true), &cores(2)).expect("a plan").to_string();
    for part in ["NUMA nodes unknown", "simulated machine", "node ?", "takes turns with core 0"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

/// A machine with holes, and a number of cores.
#[derive(Clone, Debug)]
struct Case {
    topology: Topology,
    count: u16,
}

impl Arbitrary for Case {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut up_to = |limit: u32| u32::arbitrary(g) % limit + 1;
        let whole = machine(up_to(4), up_to(6), up_to(2));
        let count = up_to(40) as u16;
        let mut units: Vec<ProcessingUnit> =
            whole.units.iter().copied().filter(|_| u8::arbitrary(g) % 4 > 0).collect();
        if units.is_empty() {
            units = whole.units;
        }
        Case { topology: Topology::new(units, |_| None, false), count }
    }
}

quickcheck! {
    fn a_plan_is_complete_allowed_and_even(case: Case) -> bool {
        let made = plan(&case.topology, &cores(case.count)).expect("a plan");
        let mut uses: HashMap<usize, usize> = HashMap::new();
        for (index, core) in made.cores.iter().enumerate() {
            let known = case.topology.units.iter().any(|unit| unit.cpu == core.cpu && unit.node == core.node);
            if usize::from(core.core) != index || !known {
                return false;
            }
            *uses.entry(core.cpu).or_default() += 1;
        }
        let (count, units) = (usize::from(case.count), case.topology.units.len());
        let most = uses.values().max().copied().unwrap_or(0);
        made.cores.len() == count && most == count.div_ceil(units) && made.oversubscribed == (count > units)
    }

    fn a_plan_never_spins_on_shared_units(case: Case) -> bool {
        let made = plan(&case.topology, &cores(case.count)).expect("a plan");
        let shared = made.cores.iter().any(|core| matches!(core.sharing, Some(Sharing::Unit(_))));
        made.spin == (!shared && case.topology.units.len() > 1)
    }

    fn one_node_is_used_where_one_is_enough(case: Case) -> bool {
        let made = plan(&case.topology, &cores(case.count)).expect("a plan");
        let units_on = |node| case.topology.units.iter().filter(|unit| unit.node == Some(node)).count();
        let enough = case.topology.nodes.iter().any(|memory| units_on(memory.node) >= usize::from(case.count));
        !enough || made.nodes().len() == 1
    }

    fn no_physical_core_is_shared_while_one_is_idle(case: Case) -> bool {
        let made = plan(&case.topology, &cores(case.count)).expect("a plan");
        let used = |unit: &&ProcessingUnit| made.cores.iter().any(|core| core.cpu == unit.cpu);
        let shares = made.cores.iter().any(|core| matches!(core.sharing, Some(Sharing::PhysicalCore(_))));
        let in_nodes = |unit: &&ProcessingUnit| unit.node.is_some_and(|node| made.nodes().contains(&node));
        let physical = |units: Vec<&ProcessingUnit>| sorted(units.iter().map(|unit| unit.physical_core)).len();
        let used_count = physical(case.topology.units.iter().filter(used).collect());
        !shares || used_count == physical(case.topology.units.iter().filter(in_nodes).collect())
    }

    fn a_plan_is_the_same_every_time(case: Case) -> bool {
        plan(&case.topology, &cores(case.count)) == plan(&case.topology, &cores(case.count))
    }
}
