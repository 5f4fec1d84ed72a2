//! What can go wrong, on demand. What each fault does to bytes under way is in the head of `network.rs`, what it does
//! to bytes on a disk in the head of `disk.rs`; [`Faults::disk`] is the handle for those.
//!
//! Every fault is recorded in the event hash. Faults are orthogonal: a partition concerns addresses and outlives the
//! processes on them, a pause or a death concerns one node, a cut one connection.

use std::net::SocketAddr;
use std::time::Duration;

use super::network::{ACCEPTOR, ConnectionId, NetworkOptions, OPENER};
use super::node::SimPlatform;
use super::trace::Event;
use super::world::{Life, NodeId, Shared, World, nanoseconds};

/// Faults, as numbers of the event hash.
#[derive(Clone, Copy)]
enum Fault {
    Cut = 1,
    Partition,
    Heal,
    Kill,
    PowerOff,
    Restart,
    Pause,
    Resume,
    AdvanceClock,
    Network,
}

/// A connection as a driver of faults sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its name.
    pub id: ConnectionId,
    /// The address that has connected.
    pub opener: SocketAddr,
    /// The address that was connected to.
    pub acceptor: SocketAddr,
}

/// The handle that breaks things. Usable beside the simulation and from its tasks.
///
/// Its methods panic when they get a platform of another simulation.
#[derive(Clone)]
pub struct Faults {
    pub(super) shared: Shared,
}

impl Faults {
    /// All connections that someone still holds, in the order in which they were opened.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.shared.with(|world| {
            let connections = world.network.connections.iter();
            connections
                .map(|(id, state)| ConnectionInfo {
                    id: *id,
                    opener: state.ends[OPENER].address,
                    acceptor: state.ends[ACCEPTOR].address,
                })
                .collect()
        })
    }

    /// Cuts one connection: both ends see `ConnectionReset`. False: it is over already.
    pub fn cut(&self, connection: ConnectionId) -> bool {
        self.shared.with(|world| {
            record(world, Fault::Cut, connection.0, 0);
            world.cut(connection)
        })
    }

    /// Cuts all connections of a node; returns how many.
    pub fn cut_all(&self, node: &SimPlatform) -> usize {
        let node = self.own(node);
        self.cut_where(|_, nodes| nodes.contains(&Some(node)))
    }

    /// Cuts all connections between two nodes; returns how many.
    pub fn cut_between(&self, a: &SimPlatform, b: &SimPlatform) -> usize {
        let (a, b) = (Some(self.own(a)), Some(self.own(b)));
        self.cut_where(|_, nodes| nodes == [a, b] || nodes == [b, a])
    }

    /// What keep-alives do in the end: connections to processes that are gone are reset, also those that nobody has written
    /// to since. Returns how many there were.
    pub fn keep_alive(&self) -> usize {
        let is_gone = |world: &World, node| matches!(world.node(node).life, Life::Dead | Life::Dark);
        self.cut_where(|world, nodes| nodes.into_iter().flatten().any(|node| is_gone(world, node)))
    }

    fn cut_where(&self, choose: impl Fn(&World, [Option<NodeId>; 2]) -> bool) -> usize {
        self.shared.with(|world| {
            let connections = world.network.connections.iter();
            let chosen: Vec<ConnectionId> = connections
                .filter(|(_, state)| choose(world, [state.ends[OPENER].node, state.ends[ACCEPTOR].node]))
                .map(|(id, _)| *id)
                .collect();
            for connection in &chosen {
                record(world, Fault::Cut, connection.0, 0);
                world.cut(*connection);
            }
            chosen.len()
        })
    }

    /// Holds everything between the addresses of two nodes, in both directions. Nodes that share an address share
    /// its partitions.
    pub fn partition(&self, a: &SimPlatform, b: &SimPlatform) {
        self.partition_one_way(a, b);
        self.partition_one_way(b, a);
    }

    /// Holds everything that is sent from one node's address to another's.
    pub fn partition_one_way(&self, from: &SimPlatform, to: &SimPlatform) {
        let (from, to) = (self.own(from), self.own(to));
        self.shared.with(|world| {
            record(world, Fault::Partition, u64::from(from.0), u64::from(to.0));
            let way = (world.node(from).ip, world.node(to).ip);
            world.network.blocked.insert(way);
        });
    }

    /// Ends the partitions between the addresses of two nodes. What was held arrives after another delay.
    pub fn heal(&self, a: &SimPlatform, b: &SimPlatform) {
        let (a, b) = (self.own(a), self.own(b));
        self.shared.with(|world| {
            record(world, Fault::Heal, u64::from(a.0), u64::from(b.0));
            let (a, b) = (world.node(a).ip, world.node(b).ip);
            world.network.blocked.remove(&(a, b));
            world.network.blocked.remove(&(b, a));
            world.release_held();
        });
    }

    /// Ends all partitions.
    pub fn heal_all(&self) {
        self.shared.with(|world| {
            record(world, Fault::Heal, u64::MAX, u64::MAX);
            world.network.blocked.clear();
            world.release_held();
        });
    }

    /// Kills a node's process: its listeners vanish, its peers see resets, then its tasks are dropped (a task that
    /// kills its own node is dropped at its next await). Nothing if it is dead.
    pub fn kill(&self, node: &SimPlatform) {
        self.end(node, Fault::Kill, Life::Dead);
    }

    /// Takes the power from a node: as [`Faults::kill`], but nobody is told, and its disks lose some of what was not
    /// flushed (also if the process was dead already). Processes that share its address live on; while none does,
    /// connects to the address hang.
    pub fn power_off(&self, node: &SimPlatform) {
        self.end(node, Fault::PowerOff, Life::Dark);
        self.shared.with(|world| world.cut_disk_power(node.node));
    }

    fn end(&self, node: &SimPlatform, fault: Fault, life: Life) {
        let node = self.own(node);
        self.shared.with(|world| record(world, fault, u64::from(node.0), 0));
        self.shared.end_node(node, life);
    }

    /// Kills a node, if it lives, and begins a new life of it (`node` is its latest one): same name, same address, no tasks, a new clock
    /// offset. After a power loss the machine answers again, so that old connections are reset when they
    /// are used.
    pub fn restart(&self, node: &SimPlatform) -> SimPlatform {
        let old = self.own(node);
        self.shared.end_node(old, Life::Dead);
        let node = self.shared.with(|world| {
            record(world, Fault::Restart, u64::from(old.0), 0);
            let (name, ip) = (world.node(old).name.clone(), world.node(old).ip);
            world.node_mut(old).life = Life::Dead;
            let node = world.add_node(&name, ip);
            world.release_held();
            world.answer_probes(old);
            node
        });
        SimPlatform { shared: self.shared.clone(), node }
    }

    /// Stops a node: its tasks do not run, and timers that come due wait. Its sockets go on receiving.
    pub fn pause(&self, node: &SimPlatform) {
        self.change_life(node, Fault::Pause, Life::Running, Life::Paused);
    }

    /// Lets a paused node go on. Its clock has gone on all the time.
    pub fn resume(&self, node: &SimPlatform) {
        self.change_life(node, Fault::Resume, Life::Paused, Life::Running);
    }

    fn change_life(&self, node: &SimPlatform, fault: Fault, from: Life, to: Life) {
        let node = self.own(node);
        self.shared.with(|world| {
            record(world, fault, u64::from(node.0), 0);
            if world.node(node).life != from {
                return;
            }
            world.node_mut(node).life = to;
            let parked = std::mem::take(&mut world.node_mut(node).parked);
            world.tasks.unpark(parked);
        });
    }

    /// From now on the network behaves like this. What is under way arrives as it would have.
    pub fn set_network(&self, network: NetworkOptions) {
        network.check();
        self.shared.with(|world| {
            record(world, Fault::Network, nanoseconds(network.delay_max), nanoseconds(network.delay_min));
            record(world, Fault::Network, u64::from(network.flipped_ppm), network.window_bytes as u64);
            world.options.network = network;
        });
    }

    /// Lets a node's clock jump ahead, as that of a machine that was asleep. Timers that it overtakes end at once.
    pub fn advance_clock(&self, node: &SimPlatform, by: Duration) {
        let node = self.own(node);
        self.shared.with(|world| {
            record(world, Fault::AdvanceClock, u64::from(node.0), nanoseconds(by));
            let state = world.node_mut(node);
            state.clock_ahead_ns = state.clock_ahead_ns.saturating_add(nanoseconds(by));
            world.ring_timers(node);
        });
    }

    fn own(&self, node: &SimPlatform) -> NodeId {
        assert!(self.shared.is_same(&node.shared), "a platform of another simulation");
        node.node
    }
}

fn record(world: &mut World, fault: Fault, first: u64, second: u64) {
    world.record(Event::Fault, [fault as u64, first, second]);
}
