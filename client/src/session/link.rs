//! The way to one address: a connection, opened when first needed and again when it broke.
//!
//! ```text
//!            asked              hello answered
//!   Closed ─────────► Opening ────────────────► Open ──┐ broken, and asked again
//!     ▲                  ▲ │                      ▲    │
//!     │ asked later, or  │ │ refused, no hello    └────┘ (by way of Opening)
//!     │ table changed    │ ▼
//!     └───────────────── Failed: further askers are told at once
//! ```

use super::alarm::Event;
use super::connection::{Connection, open};
use super::{LinkError, Shared};
use snowskin_io::{Moment, Platform, with_deadline};
use snowskin_protocol::Epoch;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long an unreachable peer is not tried again.
const FAILED_FOR: Duration = Duration::from_millis(100);
/// How long opening may take, whatever the deadlines of those who wait for it.
const OPENING_MAX: Duration = Duration::from_secs(5);

/// The way to one address.
pub(super) struct Link<P: Platform> {
    shared: Rc<Shared<P>>,
    pub(super) address: SocketAddr,
    state: RefCell<State<P>>,
    opened: Event,
    /// Nobody will ask by this link any more: a connection that opens late is closed.
    given_up: Cell<bool>,
}

enum State<P: Platform> {
    Closed,
    Opening,
    Open(Rc<Connection<P>>),
    Failed { until: Moment, epoch: Epoch, reason: String },
}

impl<P: Platform> Link<P> {
    pub(super) fn new(shared: &Rc<Shared<P>>, address: SocketAddr) -> Rc<Self> {
        Rc::new(Link {
            shared: shared.clone(),
            address,
            state: RefCell::new(State::Closed),
            opened: Event::default(),
            given_up: Cell::new(false),
        })
    }

    /// The connection, if there is one.
    pub(super) fn open_connection(&self) -> Option<Rc<Connection<P>>> {
        match &*self.state.borrow() {
            State::Open(connection) if !connection.is_broken() => Some(connection.clone()),
            _ => None,
        }
    }

    /// The connection, opened if need be.
    pub(super) async fn connection(self: &Rc<Self>) -> Result<Rc<Connection<P>>, LinkError> {
        loop {
            if let Some(connection) = self.open_connection() {
                return Ok(connection);
            }
            let opened = self.opened.next();
            if let Some(reason) = self.failed_recently() {
                return Err(LinkError::Unreachable { reason, is_old: true });
            }
            let is_first = !matches!(&*self.state.borrow(), State::Opening);
            if is_first {
                *self.state.borrow_mut() = State::Opening;
                self.shared.platform.spawn(self.clone().open());
            }
            opened.await;
            if let State::Failed { reason, .. } = &*self.state.borrow() {
                return Err(LinkError::Unreachable { reason: reason.clone(), is_old: false });
            }
        }
    }

    /// Gives the connection up; what is pending on it fails.
    pub(super) fn give_up(&self, reason: &str) {
        self.given_up.set(true);
        if let Some(connection) = self.open_connection() {
            connection.break_down(reason);
        }
    }

    fn failed_recently(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Failed { until, epoch, reason }
                if *epoch == self.shared.epoch.get() && self.shared.platform.now() < *until =>
            {
                Some(reason.clone())
            }
            _ => None,
        }
    }

    async fn open(self: Rc<Self>) {
        let platform = &self.shared.platform;
        let limit = platform.now() + OPENING_MAX;
        let result = match with_deadline(platform, limit, open(&self.shared, self.address)).await {
            Some(Ok(connection)) => Ok(connection),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("it does not say hello".to_owned()),
        };
        let mut counters = self.shared.counters.borrow_mut();
        let state = match result {
            Ok(connection) => {
                counters.connects += 1;
                State::Open(connection)
            }
            Err(reason) => {
                counters.connects_failed += 1;
                State::Failed { until: platform.now() + FAILED_FOR, epoch: self.shared.epoch.get(), reason }
            }
        };
        drop(counters);
        if let State::Open(connection) = &state
            && self.given_up.get()
        {
            connection.break_down("it opened too late");
        }
        *self.state.borrow_mut() = state;
        self.opened.happen();
    }
}
