//! Everything the simulation knows, behind one cell that is never borrowed while foreign code runs.
//!
//! Foreign code is a task's `poll`, a task's `drop`, a waker's `wake` or `drop` and a buffer's `drop`: all of them may
//! call back into the platform. So whatever holds the borrow only *collects* such work ([`World::wake`],
//! [`World::retire`], [`World::release`], futures returned by value), and [`Shared::with`] does it after the borrow has
//! ended.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Waker;

use super::Options;
use super::disk::{DiskId, Disks};
use super::entropy::{Consumer, Entropy};
use super::executor::{TaskFuture, Tasks};
use super::network::{Network, Packet};
use super::trace::{Event, Trace};

/// When the simulation's clock starts. Not zero, so that a subtraction of a few seconds from "now" makes sense.
const BEGINNING_NS: u64 = 1_000_000_000;

/// Which life of which node. A node that is killed and restarted gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

/// The place of something in the agenda: when it is due in nanoseconds, then in which order it was entered.
pub(super) type Appointment = (u64, u64);

/// What can come due.
pub(super) enum Due {
    Timer { node: NodeId, waker: Waker },
    Packet(Packet),
    Disk { disk: DiskId, operation: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    /// Tasks and timers wait; the kernel's side of its sockets goes on.
    Paused,
    /// The process has died: its machine answers for it.
    Dead,
    /// The machine has died with it: nobody answers.
    Dark,
}

pub(super) struct Node {
    pub(super) name: String,
    pub(super) ip: IpAddr,
    pub(super) life: Life,
    /// How far its clock is ahead of the simulation's.
    pub(super) clock_ahead_ns: u64,
    pub(super) entropy: Entropy,
    /// Tasks that were woken while it was paused.
    pub(super) parked: Vec<u64>,
}

impl Node {
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.life, Life::Running | Life::Paused)
    }
}

/// The state of a simulation.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) options: Options,
    pub(super) now_ns: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) tasks: Tasks,
    pub(super) network: Network,
    pub(super) disks: Disks,
    pub(super) trace: Trace,
    agenda: BTreeMap<Appointment, Due>,
    appointments: u64,
    to_wake: Vec<Waker>,
    to_drop: Vec<Waker>,
    to_release: Vec<Box<dyn Any>>,
}

impl World {
    pub(super) fn new(seed: u64, options: Options) -> World {
        World {
            seed,
            now_ns: BEGINNING_NS,
            nodes: Vec::new(),
            tasks: Tasks::new(Entropy::new(seed, Consumer::Scheduler, 0), options.order),
            network: Network::default(),
            disks: Disks::default(),
            trace: Trace::default(),
            agenda: BTreeMap::new(),
            appointments: 0,
            to_wake: Vec::new(),
            to_drop: Vec::new(),
            to_release: Vec::new(),
            options,
        }
    }

    pub(super) fn record(&mut self, event: Event, numbers: [u64; 3]) {
        self.trace.record(self.now_ns, event, numbers);
    }

    // -- nodes --

    pub(super) fn add_node(&mut self, name: &str, ip: IpAddr) -> NodeId {
        let number = u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes");
        let mut entropy = Entropy::new(self.seed, Consumer::Node, u64::from(number));
        let clock_ahead_ns = entropy.between(0, nanoseconds(self.options.clock_ahead_max));
        let name = name.to_owned();
        self.nodes.push(Node { name, ip, life: Life::Running, clock_ahead_ns, entropy, parked: Vec::new() });
        NodeId(number)
    }

    pub(super) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }

    pub(super) fn node_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node.0 as usize]
    }

    pub(super) fn draw_entropy(&mut self, node: NodeId) -> u64 {
        let drawn = self.node_mut(node).entropy.next();
        self.record(Event::EntropyDrawn, [u64::from(node.0), drawn, 0]);
        drawn
    }

    // -- the agenda --

    /// Enters something that comes due at `at_ns`, or now if that has passed.
    pub(super) fn enter(&mut self, at_ns: u64, due: Due) -> Appointment {
        self.appointments += 1;
        let appointment = (at_ns.max(self.now_ns), self.appointments);
        self.agenda.insert(appointment, due);
        appointment
    }

    /// Forgets an appointment. It may have come due already.
    pub(super) fn cancel(&mut self, appointment: Appointment) {
        if let Some(Due::Timer { waker, .. }) = self.agenda.remove(&appointment) {
            self.retire(Some(waker));
        }
    }

    /// Makes a timer wake someone else. False: it has fired.
    pub(super) fn rearm(&mut self, appointment: Appointment, waker: &Waker) -> bool {
        let Some(Due::Timer { waker: old, .. }) = self.agenda.get_mut(&appointment) else { return false };
        let old = (!old.will_wake(waker)).then(|| mem::replace(old, waker.clone()));
        self.retire(old);
        true
    }

    /// Wakes all timers of a node: its clock has jumped, and they look at it.
    pub(super) fn ring_timers(&mut self, of: NodeId) {
        let is_its = |due: &Due| matches!(due, Due::Timer { node, .. } if *node == of);
        let rung: Vec<Due> = self.agenda.extract_if(.., |_, due| is_its(due)).map(|(_, due)| due).collect();
        for due in rung {
            if let Due::Timer { waker, .. } = due {
                self.wake(Some(waker));
            }
        }
    }

    /// When the next thing is due.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|((at_ns, _), _)| *at_ns)
    }

    /// Lets the first thing on the agenda happen, moving the clock to it.
    pub(super) fn fire_next(&mut self) {
        let Some(((at_ns, number), due)) = self.agenda.pop_first() else { return };
        self.now_ns = self.now_ns.max(at_ns);
        match due {
            Due::Timer { node, waker } => {
                self.trace.counts.timers += 1;
                self.record(Event::TimerFired, [u64::from(node.0), number, 0]);
                self.wake(Some(waker));
            }
            Due::Packet(packet) => self.deliver(packet),
            Due::Disk { disk, operation } => self.complete_disk_operation(disk, operation),
        }
    }

    // -- foreign code, for later --

    /// Has a waker woken as soon as the borrow ends.
    pub(super) fn wake(&mut self, waker: Option<Waker>) {
        self.to_wake.extend(waker);
    }

    /// Has a waker dropped, unused, as soon as the borrow ends.
    pub(super) fn retire(&mut self, waker: Option<Waker>) {
        self.to_drop.extend(waker);
    }

    /// Has the buffer of a disk operation dropped as soon as the borrow ends.
    pub(super) fn release(&mut self, buffer: Option<Box<dyn Any>>) {
        self.to_release.extend(buffer);
    }
}

/// The handle on the state that everything public holds.
#[derive(Clone)]
pub(super) struct Shared(Rc<RefCell<World>>);

impl Shared {
    pub(super) fn new(world: World) -> Shared {
        Shared(Rc::new(RefCell::new(world)))
    }

    /// Runs `action` on the state, then the wakers that it has collected.
    pub(super) fn with<T>(&self, action: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.0.borrow_mut();
        let result = action(&mut world);
        let (to_wake, to_drop) = (mem::take(&mut world.to_wake), mem::take(&mut world.to_drop));
        let to_release = mem::take(&mut world.to_release);
        drop(world);
        to_wake.into_iter().for_each(Waker::wake);
        drop((to_drop, to_release));
        result
    }

    /// Ends a node: first for everybody else, then its tasks, whose destructors may still call the platform.
    pub(super) fn end_node(&self, node: NodeId, life: Life) {
        let orphans: Vec<TaskFuture> = self.with(|world| {
            if !world.node(node).is_alive() {
                return Vec::new();
            }
            world.node_mut(node).life = life;
            world.node_mut(node).parked.clear();
            world.sever_lanes(node);
            world.abandon_sockets(node, life == Life::Dead);
            world.abandon_disk_operations(node);
            world.tasks.take_all_of(node)
        });
        drop(orphans);
    }

    /// Ends all nodes: the simulation is over. Without this, tasks that hold a platform would keep the state alive.
    pub(super) fn end_all(&self) {
        let nodes = self.with(|world| world.nodes.len());
        for number in 0..nodes {
            self.end_node(NodeId(number as u32), Life::Dark);
        }
    }

    pub(super) fn is_same(&self, other: &Shared) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// A duration as the agenda counts it.
pub(super) fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
