//! Tasks: woken, picked in a seeded order, polled one at a time.
//!
//! A task is ready at most once however often it is woken. Among the ready ones the scheduler's stream of randomness
//! picks; what runs first in the real world is decided by the kernel, so a program must not rely on it.
//!
//! Wakers are `Send + Sync` as the standard demands (the queue they feed is behind a mutex), but a simulation that
//! is woken from another thread is no longer determined by its seed.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::Order;
use super::entropy::Entropy;
use super::trace::Event;
use super::world::{Life, NodeId, Shared, World};

/// A task as the executor keeps it.
pub(super) type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// All tasks of all nodes.
pub(super) struct Tasks {
    slots: BTreeMap<u64, Slot>,
    spawned: u64,
    woken: Arc<WokenQueue>,
    ready: VecDeque<u64>,
    order: Order,
    entropy: Entropy,
}

struct Slot {
    node: NodeId,
    /// `None` while it is being polled.
    future: Option<TaskFuture>,
    alarm: Arc<Alarm>,
}

#[derive(Default)]
struct WokenQueue(Mutex<Vec<u64>>);

/// What a task's waker points to.
struct Alarm {
    task: u64,
    /// Whether the task is in the queue already, from wake to poll.
    rung: AtomicBool,
    queue: Arc<WokenQueue>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.queue.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.task);
        }
    }
}

/// What one step of the executor did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A task was polled, or something came due.
    Done,
    /// Nothing is left to do at or before the limit; something is after it.
    Early,
    /// Nothing is left to do at all.
    Idle,
}

impl Tasks {
    pub(super) fn new(entropy: Entropy, order: Order) -> Tasks {
        Tasks {
            slots: BTreeMap::new(),
            spawned: 0,
            woken: Arc::default(),
            ready: VecDeque::new(),
            order,
            entropy,
        }
    }

    fn add(&mut self, node: NodeId, future: TaskFuture) -> u64 {
        self.spawned += 1;
        let task = self.spawned;
        let alarm = Arc::new(Alarm { task, rung: AtomicBool::new(false), queue: Arc::clone(&self.woken) });
        alarm.wake_by_ref();
        self.slots.insert(task, Slot { node, future: Some(future), alarm });
        task
    }

    pub(super) fn contains(&self, task: u64) -> bool {
        self.slots.contains_key(&task)
    }

    /// Removes a task. Its future comes back, to be dropped outside of any borrow; not if it is being polled.
    pub(super) fn take(&mut self, task: u64) -> Option<TaskFuture> {
        self.slots.remove(&task)?.future
    }

    /// Removes the tasks of a node.
    pub(super) fn take_all_of(&mut self, node: NodeId) -> Vec<TaskFuture> {
        self.slots.extract_if(.., |_, slot| slot.node == node).filter_map(|(_, slot)| slot.future).collect()
    }

    /// Makes tasks ready that were parked.
    pub(super) fn unpark(&mut self, tasks: Vec<u64>) {
        self.ready.extend(tasks);
    }

    fn pick(&mut self) -> Option<u64> {
        let mut woken = self.woken.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.ready.extend(mem::take(&mut *woken));
        drop(woken);
        match self.order {
            Order::Fifo => self.ready.pop_front(),
            Order::Random if self.ready.len() < 2 => self.ready.pop_front(),
            Order::Random => {
                let index = self.entropy.below(self.ready.len() as u64) as usize;
                self.ready.swap_remove_back(index)
            }
        }
    }
}

impl World {
    /// Takes a ready task of a running node out of its slot, to be polled.
    fn begin_poll(&mut self) -> Option<(u64, TaskFuture, Arc<Alarm>)> {
        while let Some(task) = self.tasks.pick() {
            // A task that has ended may have been woken before.
            let Some(slot) = self.tasks.slots.get_mut(&task) else { continue };
            let node = slot.node;
            if self.nodes[node.0 as usize].life == Life::Paused {
                self.nodes[node.0 as usize].parked.push(task);
                continue;
            }
            let future = slot.future.take().expect("only one task is polled at a time");
            let alarm = Arc::clone(&slot.alarm);
            self.trace.counts.polls += 1;
            self.record(Event::Polled, [task, u64::from(node.0), 0]);
            return Some((task, future, alarm));
        }
        None
    }

    /// Puts a task back that is not finished. If its node has died meanwhile the future is returned, to be dropped.
    fn end_poll(&mut self, task: u64, future: TaskFuture) -> Option<TaskFuture> {
        match self.tasks.slots.get_mut(&task) {
            Some(slot) => {
                slot.future = Some(future);
                None
            }
            None => Some(future),
        }
    }
}

impl Shared {
    /// Starts a task; on a node that has died the task is dropped at once, and `None` returned.
    pub(super) fn spawn(&self, node: NodeId, future: TaskFuture) -> Option<u64> {
        let mut future = Some(future);
        let task = self.with(|world| {
            if !world.node(node).is_alive() {
                return None;
            }
            let task = world.tasks.add(node, future.take()?);
            world.record(Event::Spawned, [task, u64::from(node.0), 0]);
            Some(task)
        });
        drop(future);
        task
    }

    /// Does the next thing: what is due now, else a ready task, else time moves on to what is due next.
    pub(super) fn step(&self, limit_ns: u64) -> Step {
        let is_due = self.with(|world| world.next_due_ns().is_some_and(|at_ns| at_ns <= world.now_ns));
        if is_due {
            self.with(World::fire_next);
            return Step::Done;
        }
        if let Some((task, future, alarm)) = self.with(World::begin_poll) {
            self.poll(task, future, alarm);
            return Step::Done;
        }
        match self.with(|world| world.next_due_ns()) {
            None => Step::Idle,
            Some(at_ns) if at_ns > limit_ns => Step::Early,
            Some(_) => {
                self.with(World::fire_next);
                Step::Done
            }
        }
    }

    fn poll(&self, task: u64, mut future: TaskFuture, alarm: Arc<Alarm>) {
        // From here on a wake counts again: the task may have looked at what woke it already.
        alarm.rung.store(false, Ordering::Release);
        let waker = Waker::from(alarm);
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => drop(self.with(|world| world.end_poll(task, future))),
            Poll::Ready(()) => {
                self.with(|world| {
                    world.tasks.take(task);
                    world.record(Event::Finished, [task, 0, 0]);
                });
                drop(future);
            }
        }
    }
}
