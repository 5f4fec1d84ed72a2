//! The tasks of a core, so that they end with it.
//!
//! glommio forgets whatever task still waits when an executor ends: futures are not dropped, and with them stay their memory and descriptors, and,
//! because a task that waits for the ring holds the executor's reactor, also the reactor's rings and its thread. Nobody sees that in a process that
//! ends with its cores. In one that starts and stops engines it would be a leak of all that they had. So a core knows its tasks, and
//! ends them itself while the executor still runs. Not by `Task::cancel`: that drops the future, and loses count of who refers to the task.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// How often, and for how long each time, the executor goes on when its tasks are gone: it tells its rings what nobody waits for any more, hears
/// that this has ended, and closes files.
const LAST_TURNS: u32 = 3;
const LAST_TURN: Duration = Duration::from_millis(1);

/// All tasks that have begun and not ended.
#[derive(Default)]
pub(super) struct Tasks {
    /// By number: what makes them look whether they are to end.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    begun: Cell<u64>,
    is_over: Cell<bool>,
}

impl Tasks {
    /// Starts a task, which runs until it waits for the first time.
    pub(super) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let number = self.begun.replace(self.begun.get() + 1);
        let tasks = self.clone();
        let run = async move {
            tasks.run(number, task).await;
            // Behind the end of the future and of all that it had.
            let waker = tasks.waiting.borrow_mut().remove(&number);
            drop(waker);
        };
        drop(glommio::spawn_local(run).detach());
    }

    async fn run(&self, number: u64, task: impl Future<Output = ()>) {
        let mut task = pin!(task);
        let mut is_known = false;
        let poll = poll_fn(|context| {
            if self.is_over.get() {
                return Poll::Ready(());
            }
            if !is_known {
                is_known = true;
                self.waiting.borrow_mut().insert(number, context.waker().clone());
            }
            task.as_mut().poll(context)
        });
        poll.await;
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Drops all of them, and those that their ends begin. None of them runs again.
    pub(super) async fn end(&self) {
        self.is_over.set(true);
        while !self.waiting.borrow().is_empty() {
            self.waiting.borrow().values().for_each(Waker::wake_by_ref);
            glommio::timer::sleep(LAST_TURN).await;
        }
    }
}

/// Lets the executor's rings come to rest, when nobody waits for them any more.
pub(super) async fn settle() {
    for _ in 0..LAST_TURNS {
        glommio::timer::sleep(LAST_TURN).await;
    }
}
