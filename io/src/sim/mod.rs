//! The simulated platform: several processes, their clocks and the network between them, in one thread, from a seed.
//!
//! ```text
//!   Simulation::new(seed)
//!     ├── node("engine a")  ─► SimPlatform ─┐   tasks, sleep, entropy, listen, connect, disk
//!     ├── node("master")    ─► SimPlatform ─┼─► executor ─► virtual time ─► virtual network and disks
//!     ├── node("client")    ─► SimPlatform ─┘   (seeded order) (jumps)      (delays, short reads, faults)
//!     ├── faults()          ─► cut, partition, kill, power_off, restart, pause …
//!     └── block_on / run / run_for, event_hash, counts
//! ```
//!
//! **Promises.** One seed, one program: one run, bit by bit, which [`Simulation::event_hash`] shows. Nothing in here
//! looks at a wall clock, a thread, an address of memory or the order of a hash map; the program must not either.
//! Virtual time moves only when no task is ready, straight to the next timer or packet. Every run is bounded, in
//! virtual time and in steps; only a task that never returns from one `poll` escapes the bound.
//!
//! **Owned here:** a node is one core, i.e. one thread of one process. It has an IP address, which it may share with
//! other nodes of its host, and lives once: a restart gives a new node with the same name and address.
//!
//! The fault model is the heads of `network.rs` and `disk.rs`. Not here: the driver that draws random faults of nodes
//! and network.

mod disk;
mod entropy;
mod executor;
mod faults;
mod local;
mod network;
mod node;
mod socket;
mod stream;
mod trace;
mod world;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use crate::platform::Moment;

pub use crate::disk::SECTOR_BYTES;
pub use disk::{
    Damage, DiskCounts, DiskFault, DiskFaultRates, DiskFaults, DiskOptions, Incident, Latency, SimDisk,
};
pub use faults::{ConnectionInfo, Faults};
pub use local::{SimBell, SimLocalListener};
pub use network::{ConnectionId, NetworkOptions};
pub use node::SimPlatform;
pub use stream::{SimListener, SimReader, SimStream, SimWriter};
pub use trace::Counts;
pub use world::NodeId;

use executor::Step;
use world::{Shared, World, nanoseconds};

/// Which ready task runs first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// A random one: finds what relies on an order that nobody promises.
    #[default]
    Random,
    /// The one that was woken first: for runs that a person follows.
    Fifo,
}

/// How a simulation behaves, besides its seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Which ready task runs first.
    pub order: Order,
    /// The network without faults.
    pub network: NetworkOptions,
    /// Disks, and how often they break by themselves.
    pub disk: DiskOptions,
    /// Each node's clock is ahead of the simulation's by a random time up to this.
    pub clock_ahead_max: Duration,
}

/// Where a run ends if its work does not.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// In virtual time, from the beginning of the run.
    pub time: Duration,
    /// In steps: polls of tasks, timers, packets, disk operations.
    pub steps: u64,
}

impl Default for Limit {
    /// An hour of virtual time, ten million steps (some seconds of real time).
    fn default() -> Limit {
        Limit { time: Duration::from_secs(3_600), steps: 10_000_000 }
    }
}

/// Why a run ended before its work did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    /// The limit of virtual time was reached.
    #[error("the limit of virtual time was reached")]
    Time,
    /// The limit of steps was reached.
    #[error("the limit of steps was reached")]
    Steps,
    /// No task is ready, no timer runs, no packet is under way and no disk operation in flight: what is waited for
    /// cannot happen.
    #[error("nothing is left that could happen")]
    Idle,
    /// The node on which the work ran was killed.
    #[error("the node was killed")]
    Killed,
}

/// A simulation. Owns all tasks: when it is dropped they are, and platforms that are still held belong to the dead.
pub struct Simulation {
    shared: Shared,
}

impl Simulation {
    /// A simulation with default options.
    pub fn new(seed: u64) -> Simulation {
        Simulation::with_options(seed, Options::default())
    }

    /// A simulation. Panics if the options contradict themselves.
    pub fn with_options(seed: u64, options: Options) -> Simulation {
        options.network.check();
        options.disk.check();
        Simulation { shared: Shared::new(World::new(seed, options)) }
    }

    // -- what it is made of --

    /// Adds a node with an address of its own: `10.0.0.1`, `10.0.0.2` and so on.
    pub fn node(&self, name: &str) -> SimPlatform {
        let ip = self.shared.with(|world| {
            let mut addresses = (1..=u16::MAX).map(|number| {
                let [high, low] = number.to_be_bytes();
                IpAddr::from(Ipv4Addr::new(10, 0, high, low))
            });
            addresses
                .find(|ip| world.nodes.iter().all(|node| node.ip != *ip))
                .expect("65,535 addresses suffice")
        });
        self.node_at(name, ip)
    }

    /// Adds a node with a given address. Nodes of one address are cores of one host: they share its ports and its
    /// partitions.
    pub fn node_at(&self, name: &str, ip: impl Into<IpAddr>) -> SimPlatform {
        let node = self.shared.with(|world| world.add_node(name, ip.into()));
        SimPlatform { shared: self.shared.clone(), node }
    }

    /// The handle that breaks things; may be given to tasks.
    pub fn faults(&self) -> Faults {
        Faults { shared: self.shared.clone() }
    }

    // -- running --

    /// Runs `future` on a node to its end, within [`Limit::default`]. `None` as for [`Simulation::run`]'s errors.
    pub fn block_on<T: 'static>(
        &self,
        node: &SimPlatform,
        future: impl Future<Output = T> + 'static,
    ) -> Option<T> {
        self.run(node, Limit::default(), future).ok()
    }

    /// Runs `future` on a node to its end, and everything else beside it. If it does not end, says why; then the
    /// future is dropped and all other tasks are where they were. Not to be called from a task.
    pub fn run<T: 'static>(
        &self,
        node: &SimPlatform,
        limit: Limit,
        future: impl Future<Output = T> + 'static,
    ) -> Result<T, Unfinished> {
        let output = Rc::new(RefCell::new(None));
        let place = Rc::clone(&output);
        let wrapped = async move {
            let result = future.await;
            *place.borrow_mut() = Some(result);
        };
        let task = self.shared.spawn(node.node, Box::pin(wrapped)).ok_or(Unfinished::Killed)?;
        let is_over = || !self.shared.with(|world| world.tasks.contains(task));
        let ended = self.drive(limit, is_over);
        let result = output.borrow_mut().take();
        match (result, ended) {
            (Some(result), _) => Ok(result),
            (None, Ok(())) => Err(Unfinished::Killed),
            (None, Err(unfinished)) => {
                drop(self.shared.with(|world| world.tasks.take(task)));
                Err(unfinished)
            }
        }
    }

    /// Runs everything for a time, to the nanosecond, whether or not something happens in it. Fails only with
    /// [`Unfinished::Steps`], after the steps of [`Limit::default`].
    pub fn run_for(&self, duration: Duration) -> Result<(), Unfinished> {
        self.run_until(self.now() + duration)
    }

    /// As [`Simulation::run_for`], to a moment on the simulation's clock.
    pub fn run_until(&self, moment: Moment) -> Result<(), Unfinished> {
        match self.drive(Limit { time: moment - self.now(), ..Limit::default() }, || false) {
            Err(Unfinished::Steps) => Err(Unfinished::Steps),
            _ => {
                self.shared.with(|world| world.now_ns = world.now_ns.max(moment.0));
                Ok(())
            }
        }
    }

    fn drive(&self, limit: Limit, is_over: impl Fn() -> bool) -> Result<(), Unfinished> {
        let limit_ns = self.shared.with(|world| world.now_ns.saturating_add(nanoseconds(limit.time)));
        for _ in 0..limit.steps {
            if is_over() {
                return Ok(());
            }
            match self.shared.step(limit_ns) {
                Step::Done => {}
                Step::Idle => return Err(Unfinished::Idle),
                Step::Early => {
                    self.shared.with(|world| world.now_ns = limit_ns);
                    return Err(Unfinished::Time);
                }
            }
        }
        if is_over() { Ok(()) } else { Err(Unfinished::Steps) }
    }

    // -- looking --

    /// Now, on the simulation's own clock. Nodes' clocks may be ahead of it.
    pub fn now(&self) -> Moment {
        self.shared.with(|world| Moment(world.now_ns))
    }

    /// A hash over everything that has happened, with its order and time.
    pub fn event_hash(&self) -> u64 {
        self.shared.with(|world| world.trace.hash())
    }

    /// How many events the hash covers.
    pub fn events(&self) -> u64 {
        self.shared.with(|world| world.trace.events())
    }

    /// What has happened, in numbers.
    pub fn counts(&self) -> Counts {
        self.shared.with(|world| world.trace.counts)
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.shared.end_all();
    }
}
