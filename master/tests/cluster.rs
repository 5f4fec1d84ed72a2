//! A master and scripted cores in the simulation: joins, deaths, restarts of either, partitions, on several seeds.

mod support;

use snowskin_io::sim::{SimPlatform, Simulation};
use snowskin_master::membership::MemberState;
use snowskin_master::{MasterConfig, MasterHandle};
use snowskin_protocol::table::{LOST, NOBODY};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::{Epoch, SLOT_COUNT, Slot};
use std::net::SocketAddr;
use std::time::Duration;
use support::ScriptedCore;

const SEEDS: u64 = 8;

struct Cluster {
    simulation: Simulation,
    master_node: SimPlatform,
    master: MasterHandle,
    nodes: Vec<SimPlatform>,
    cores: Vec<ScriptedCore>,
}

fn start_master(simulation: &Simulation, node: &SimPlatform) -> MasterHandle {
    let (platform, listen) = (node.clone(), node.address(7300));
    let config = MasterConfig { listen, ..MasterConfig::default() };
    let started = async move { snowskin_master::start(&platform, config).await };
    simulation.block_on(node, started).expect("it ends").expect("it starts")
}

impl Cluster {
    /// A master, and an engine of two cores beside an engine of one, after ten seconds.
    fn new(seed: u64) -> Self {
        let simulation = Simulation::new(seed);
        let master_node = simulation.node("master");
        let master = start_master(&simulation, &master_node);
        let mut cluster = Cluster { simulation, master_node, master, nodes: Vec::new(), cores: Vec::new() };
        for (engine, core, engine_cores) in [("a", 0, 2), ("a", 1, 2), ("b", 0, 1)] {
            cluster.add(engine, core, engine_cores);
        }
        cluster.run(10_000);
        cluster
    }

    fn address(&self) -> SocketAddr {
        self.master.address
    }

    fn add(&mut self, engine: &str, core: u16, engine_cores: u16) {
        let node = self.simulation.node(engine);
        let scripted = ScriptedCore::new(&node, engine, core, engine_cores, 1);
        scripted.live(&node, self.address());
        self.nodes.push(node);
        self.cores.push(scripted);
    }

    fn run(&self, ms: u64) {
        self.simulation.run_for(Duration::from_millis(ms)).expect("no task spins");
    }

    fn epoch(&self) -> Epoch {
        self.master.master.borrow().state.table().epoch
    }

    /// All these cores have the master's table.
    fn assert_agreed(&self, cores: &[usize]) {
        let master = self.master.master.borrow();
        for &core in cores {
            assert_eq!(&*self.cores[core].table.borrow(), master.state.table(), "core {core}");
        }
    }
}

#[test]
fn two_engines_join_in_one_epoch_and_share_the_slots() {
    for seed in 0..SEEDS {
        let cluster = Cluster::new(seed);
        cluster.assert_agreed(&[0, 1, 2]);
        assert_eq!(cluster.epoch(), Epoch(1));
        let slots: Vec<usize> = cluster.cores.iter().map(ScriptedCore::slots).collect();
        assert_eq!(slots.iter().sum::<usize>(), SLOT_COUNT);
        assert!(slots.iter().all(|count| count.abs_diff(SLOT_COUNT / 3) < 1000), "{slots:?}");
        let frames = cluster.master.master.borrow().frames.clone();
        assert!(frames.of(Opcode::Heartbeat) >= 3 * 8 && frames.of(Opcode::Register) >= 3);
        assert_eq!((frames.data_frames_refused, frames.bad_frames, frames.connections), (0, 0, 3));
    }
}

#[test]
fn a_third_engine_takes_only_its_share() {
    let mut cluster = Cluster::new(1);
    let before = cluster.cores[0].table.borrow().clone();
    cluster.add("c", 0, 1);
    cluster.run(3_000);
    cluster.assert_agreed(&[0, 1, 2, 3]);
    assert_eq!(cluster.epoch(), Epoch(2));
    let after = cluster.cores[0].table.borrow().clone();
    for slot in Slot::all().map(Slot::index) {
        let (home, origin) = (after.homes[slot], after.origins[slot]);
        let expected = if home == before.homes[slot] { (home, NOBODY) } else { (3, before.homes[slot]) };
        assert_eq!((home, origin), expected);
    }
}

#[test]
fn a_core_that_vanishes_is_dead_after_ten_seconds() {
    for seed in 0..SEEDS {
        let cluster = Cluster::new(seed);
        cluster.simulation.faults().power_off(&cluster.nodes[2]);
        let id = cluster.cores[2].report.borrow().member.id;
        let state = || cluster.master.master.borrow().state.membership().row(id).map(|row| row.state);
        cluster.run(1_900);
        assert_eq!(state(), Some(MemberState::Active));
        cluster.run(2_300);
        assert_eq!((state(), cluster.epoch()), (Some(MemberState::Suspect), Epoch(1)));
        cluster.run(4_000);
        assert_eq!((state(), cluster.epoch()), (Some(MemberState::Suspect), Epoch(1)));
        cluster.run(4_000);
        assert_eq!((state(), cluster.epoch()), (Some(MemberState::Dead), Epoch(2)));
        cluster.assert_agreed(&[0, 1]);
        assert!(cluster.cores[0].table.borrow().origins.contains(&LOST));
    }
}

#[test]
fn a_restarted_engine_is_a_new_life_in_the_same_place() {
    for seed in 0..SEEDS {
        let mut cluster = Cluster::new(seed);
        let before = cluster.cores[2].table.borrow().clone();
        let faults = cluster.simulation.faults();
        for (core, engine) in [(0, "a"), (1, "a")] {
            faults.kill(&cluster.nodes[core]);
            let node = faults.restart(&cluster.nodes[core]);
            let reborn = ScriptedCore::new(&node, engine, core as u16, 2, 2);
            reborn.live(&node, cluster.address());
            (cluster.nodes[core], cluster.cores[core]) = (node, reborn);
        }
        cluster.run(5_000);
        cluster.assert_agreed(&[0, 1, 2]);
        let after = cluster.cores[2].table.borrow().clone();
        assert_eq!((after.epoch, &after.homes), (Epoch(2), &before.homes));
        let b = after.index_of(cluster.cores[2].report.borrow().member.id).unwrap();
        for slot in Slot::all().map(Slot::index) {
            assert_eq!(after.origins[slot], if after.homes[slot] == b { NOBODY } else { LOST });
        }
    }
}

#[test]
fn a_leaver_hands_over_and_goes() {
    let cluster = Cluster::new(3);
    let leaver = &cluster.cores[2];
    leaver.opcode.set(Opcode::Leave);
    cluster.run(3_000);
    cluster.assert_agreed(&[0, 1, 2]);
    assert_eq!((cluster.epoch(), leaver.slots()), (Epoch(2), 0));
    assert_eq!(cluster.cores[0].table.borrow().members.len(), 3);
    // It is done when it says so with weight 0.
    leaver.report.borrow_mut().member.weight = 0;
    cluster.run(3_000);
    assert_eq!(cluster.epoch(), Epoch(3));
    assert_eq!(cluster.cores[0].table.borrow().members.len(), 2);
    cluster.assert_agreed(&[0, 1]);
}

#[test]
fn a_new_master_learns_the_table_from_the_cores() {
    for seed in 0..SEEDS {
        let mut cluster = Cluster::new(seed);
        let table = cluster.cores[0].table.borrow().clone();
        let faults = cluster.simulation.faults();
        faults.kill(&cluster.master_node);
        cluster.run(20_000);
        cluster.master_node = faults.restart(&cluster.master_node);
        cluster.master = start_master(&cluster.simulation, &cluster.master_node);
        // A newcomer that knows nothing may be the first to speak.
        cluster.add("newcomer", 0, 1);
        cluster.run(1_900);
        assert!(cluster.epoch() <= Epoch(1));
        cluster.run(5_000);
        cluster.assert_agreed(&[0, 1, 2, 3]);
        assert_eq!(cluster.epoch(), Epoch(2));
        let after = cluster.cores[3].table.borrow().clone();
        assert!(cluster.cores.iter().map(|core| core.offers.get()).sum::<u32>() >= 1);
        // Nothing moved but to the newcomer.
        assert_eq!(after.members[..3], table.members[..]);
        assert!(after.homes.iter().zip(&table.homes).all(|(new, old)| new == old || *new == 3));
    }
}

#[test]
fn a_master_that_is_cut_off_or_stands_still_changes_nothing() {
    for seed in 0..SEEDS {
        let cluster = Cluster::new(seed);
        let faults = cluster.simulation.faults();
        for node in &cluster.nodes {
            faults.partition(&cluster.master_node, node);
        }
        cluster.run(60_000);
        faults.heal_all();
        cluster.run(15_000);
        assert_eq!(cluster.epoch(), Epoch(1));
        faults.pause(&cluster.master_node);
        cluster.run(60_000);
        faults.resume(&cluster.master_node);
        cluster.run(15_000);
        assert_eq!(cluster.epoch(), Epoch(1));
        cluster.assert_agreed(&[0, 1, 2]);
    }
}

#[test]
fn a_second_engine_of_the_same_name_takes_over_once() {
    let mut cluster = Cluster::new(5);
    let node = cluster.simulation.node("b again");
    let twin = ScriptedCore::new(&node, "b", 0, 1, 77);
    twin.live(&node, cluster.address());
    cluster.nodes.push(node);
    cluster.cores.push(twin);
    cluster.run(20_000);
    // The first one is refused from then on, instead of taking turns with the second.
    assert_eq!(cluster.epoch(), Epoch(2));
    cluster.assert_agreed(&[0, 1, 3]);
    assert_eq!(cluster.cores[2].epoch(), 1);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let hashes: Vec<u64> = (0..2).map(|_| Cluster::new(9).simulation.event_hash()).collect();
    assert_eq!(hashes[0], hashes[1]);
}
