//! What tasks of one thread need to wait for each other. No atomics: everything stays on its thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A flag that tasks wait for. Raising it wakes all who wait; one of them (or a later one) lowers it by waiting.
#[derive(Clone, Debug, Default)]
pub struct Signal(Rc<RefCell<SignalState>>);

#[derive(Debug, Default)]
struct SignalState {
    raised: bool,
    waiting: Vec<Waker>,
}

impl Signal {
    /// A lowered signal.
    pub fn new() -> Self {
        Signal::default()
    }

    /// Raises the signal. Raising it twice is raising it once.
    pub fn raise(&self) {
        let waiting = {
            let mut state = self.0.borrow_mut();
            state.raised = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Lowers the signal if it is raised, else registers the task.
    pub fn poll_wait(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.borrow_mut();
        if std::mem::take(&mut state.raised) {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until the signal is raised, and lowers it.
    pub async fn wait(&self) {
        poll_fn(|context| self.poll_wait(context)).await;
    }
}

/// Something that changes, for any number of tasks that wait until it is as they want it.
#[derive(Debug, Default)]
pub struct Changes(RefCell<Vec<Waker>>);

impl Changes {
    /// It has changed: all who wait look again.
    pub fn tell(&self) {
        self.0.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until `is_so`, which is asked at once and after each change.
    pub async fn until(&self, mut is_so: impl FnMut() -> bool) {
        poll_fn(|context| {
            if is_so() {
                return Poll::Ready(());
            }
            let mut waiting = self.0.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// A bounded queue between tasks of one thread.
#[derive(Debug)]
pub struct Mailbox<T>(Rc<MailboxState<T>>);

#[derive(Debug)]
struct MailboxState<T> {
    letters: RefCell<VecDeque<T>>,
    letters_max: usize,
    arrived: Signal,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox(self.0.clone())
    }
}

impl<T> Mailbox<T> {
    /// An empty mailbox with room for `letters_max` letters.
    pub fn new(letters_max: usize) -> Self {
        let state =
            MailboxState { letters: RefCell::new(VecDeque::new()), letters_max, arrived: Signal::new() };
        Mailbox(Rc::new(state))
    }

    /// Adds a letter, or gives it back when the mailbox is full.
    pub fn send(&self, letter: T) -> Result<(), T> {
        let mut letters = self.0.letters.borrow_mut();
        if letters.len() == self.0.letters_max {
            return Err(letter);
        }
        letters.push_back(letter);
        drop(letters);
        self.0.arrived.raise();
        Ok(())
    }

    /// The oldest letter, if there is one.
    pub fn try_receive(&self) -> Option<T> {
        self.0.letters.borrow_mut().pop_front()
    }

    /// The oldest letter, as soon as there is one. For one receiving task.
    pub async fn receive(&self) -> T {
        loop {
            if let Some(letter) = self.try_receive() {
                return letter;
            }
            self.0.arrived.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn a_signal_wakes_and_is_lowered_by_waiting() {
        let signal = Signal::new();
        let mut context = Context::from_waker(Waker::noop());
        assert!(signal.poll_wait(&mut context).is_pending());
        signal.raise();
        signal.raise();
        assert!(signal.poll_wait(&mut context).is_ready());
        assert!(signal.poll_wait(&mut context).is_pending());
    }

    #[test]
    fn all_who_wait_for_a_change_see_it() {
        let (changes, value) = (Changes::default(), std::cell::Cell::new(0));
        let mut context = Context::from_waker(Waker::noop());
        let (mut one, mut two) =
            (pin!(changes.until(|| value.get() >= 1)), pin!(changes.until(|| value.get() >= 2)));
        assert!(one.as_mut().poll(&mut context).is_pending() && two.as_mut().poll(&mut context).is_pending());
        value.set(1);
        changes.tell();
        assert!(one.as_mut().poll(&mut context).is_ready() && two.as_mut().poll(&mut context).is_pending());
        value.set(2);
        assert!(two.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn a_mailbox_keeps_order_and_its_bound() {
        let mailbox = Mailbox::new(2);
        assert_eq!(mailbox.send(1), Ok(()));
        assert_eq!(mailbox.send(2), Ok(()));
        assert_eq!(mailbox.send(3), Err(3));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(pin!(mailbox.receive()).poll(&mut context), Poll::Ready(1));
        assert_eq!(mailbox.try_receive(), Some(2));
        assert!(pin!(mailbox.receive()).poll(&mut context).is_pending());
    }
}
