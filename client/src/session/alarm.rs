//! Deadlines and events among the tasks of a session.
//!
//! Every call has a deadline, and almost none is reached. A timer a call would cost the data path a lock and often a
//! wake-up of the reactor; so one task sleeps for all: it is set to the earliest deadline, and calls come and go
//! without touching it as long as theirs is later.

use snowskin_io::seeded_bug;
use snowskin_io::sync::Signal;
use snowskin_io::{Moment, Platform};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Wakes calls at their deadlines.
pub(super) struct Alarm<P> {
    platform: P,
    waiting: RefCell<BTreeMap<(Moment, u64), Waker>>,
    next_id: Cell<u64>,
    /// When the task wakes up next by itself.
    target: Cell<Moment>,
    earlier: Signal,
    closed: Cell<bool>,
}

impl<P: Platform> Alarm<P> {
    /// An alarm, and its task started.
    pub(super) fn start(platform: &P) -> Rc<Self> {
        let alarm = Rc::new(Alarm {
            platform: platform.clone(),
            waiting: RefCell::default(),
            next_id: Cell::new(0),
            target: Cell::new(Moment::NEVER),
            earlier: Signal::new(),
            closed: Cell::new(false),
        });
        platform.spawn(ring(alarm.clone()));
        alarm
    }

    /// Ends the task.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.earlier.raise();
    }

    /// The output of `future`, or `None` at `deadline`; then the future is to be dropped. (Pinned by the caller: an
    /// `async fn` that takes a future by value has room for it twice.)
    pub(super) async fn until<F: Future>(
        &self,
        deadline: Moment,
        mut future: Pin<&mut F>,
    ) -> Option<F::Output> {
        let late = Duration::from_millis(40) * u32::from(seeded_bug!("late answers"));
        let mut entry = Entry { alarm: self, key: (deadline + late, 0), is_waiting: false };
        poll_fn(move |context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            entry.poll_expired(context).map(|()| None)
        })
        .await
    }

    fn wake_expired(&self, now: Moment) {
        loop {
            let Some(first) = self
                .waiting
                .borrow_mut()
                .first_entry()
                .filter(|entry| entry.key().0 <= now)
                .map(|entry| entry.remove())
            else {
                return;
            };
            first.wake();
        }
    }

    fn first(&self) -> Moment {
        self.waiting.borrow().first_key_value().map_or(Moment::NEVER, |((deadline, _), _)| *deadline)
    }
}

/// A call's place in the alarm, given back when the call ends.
struct Entry<'a, P: Platform> {
    alarm: &'a Alarm<P>,
    key: (Moment, u64),
    is_waiting: bool,
}

impl<P: Platform> Entry<'_, P> {
    fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (deadline, alarm) = (self.key.0, self.alarm);
        let mut waiting = alarm.waiting.borrow_mut();
        if self.is_waiting {
            // The alarm takes the entries out that have expired: no need to read the clock.
            return match waiting.get_mut(&self.key) {
                None => Poll::Ready(()),
                Some(waker) => {
                    waker.clone_from(context.waker());
                    Poll::Pending
                }
            };
        }
        self.key.1 = alarm.next_id.get();
        self.is_waiting = true;
        alarm.next_id.set(self.key.1 + 1);
        waiting.insert(self.key, context.waker().clone());
        drop(waiting);
        if deadline < alarm.target.get() {
            alarm.target.set(deadline);
            alarm.earlier.raise();
        }
        Poll::Pending
    }
}

impl<P: Platform> Drop for Entry<'_, P> {
    fn drop(&mut self) {
        if self.is_waiting {
            self.alarm.waiting.borrow_mut().remove(&self.key);
        }
    }
}

async fn ring<P: Platform>(alarm: Rc<Alarm<P>>) {
    while !alarm.closed.get() {
        let now = alarm.platform.now();
        alarm.wake_expired(now);
        let target = alarm.first();
        alarm.target.set(target);
        if target == Moment::NEVER {
            alarm.earlier.wait().await;
            continue;
        }
        let mut sleep = pin!(alarm.platform.sleep(target - now));
        poll_fn(|context| {
            if alarm.earlier.poll_wait(context).is_ready() {
                return Poll::Ready(());
            }
            sleep.as_mut().poll(context)
        })
        .await;
    }
}

/// Something that happens again and again, for any number of tasks that wait for the next time.
#[derive(Debug, Default)]
pub(super) struct Event {
    count: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Event {
    /// It happens.
    pub(super) fn happen(&self) {
        self.count.set(self.count.get() + 1);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until it has happened once more since this call.
    pub(super) fn next(&self) -> impl Future<Output = ()> {
        let seen = self.count.get();
        poll_fn(move |context| {
            if self.count.get() != seen {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
    }
}
