//! The client itself, for any platform: routing, connections, retries. No threads, no blocking; [`crate::Client`] and
//! [`crate::BlockingClient`] put those around it, the simulator uses it as it is.
//!
//! ```text
//!   verb (put, get, lookup …) ──► batch: items ──► home or holder of each ──► one frame per core ──► Link ──► Connection
//!        ▲                          │  ▲                                                                        │
//!        └── an answer per key ◄────┘  └── again: another home, a holder, later ◄────── status of each item ◄───┘
//! ```
//!
//! Promises:
//! * Every verb ends at its deadline at the latest, with an answer for each key; what was answered before counts.
//! * All verbs are idempotent, so a request whose connection broke is asked again, once per routing table.
//! * A peer that cannot be reached is an error at once, not at the deadline.
//! * No bytes of a value are handed out that do not match their checksum (unless told not to look).
//!
//! Invariant: no borrow of a cell lasts across an await.

mod alarm;
mod batch;
mod connection;
mod frame;
mod lane;
mod link;
mod refresh;
mod replicas;
mod scan;
mod settle;
mod sink;
mod verbs;

pub(crate) use batch::Shape;
pub use frame::PutValue;
pub(crate) use sink::Target;

use crate::config::{ClientConfig, Transport};
use crate::error::Error;
use crate::outcome::ClientCounters;
use alarm::{Alarm, Event};
use frame::Frame;
use link::Link;
use snowskin_io::{Lane, Moment, Platform, Stream};
use snowskin_protocol::wire::{Opcode, Refusal};
use snowskin_protocol::{CoreId, Epoch, Member, ObjectName, RoutingTable};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A client of one cluster, on one platform.
pub struct Session<P: Platform> {
    shared: Rc<Shared<P>>,
    config: ClientConfig,
    table: RefCell<Arc<RoutingTable>>,
    /// Who wants to know of each table.
    observer: RefCell<Option<Observer>>,
    /// In an order that does not depend on chance: the simulator replays it.
    links: RefCell<BTreeMap<SocketAddr, Rc<Link<P>>>>,
    alarm: Rc<Alarm<P>>,
    is_refreshing: Cell<bool>,
    /// A peer has answered a table without members.
    found_no_engine: Cell<bool>,
    refreshed: Event,
    /// Why the last refresh got no table.
    refresh_error: RefCell<Option<Error>>,
}

/// Hears of each routing table that is taken over.
type Observer = Box<dyn Fn(&Arc<RoutingTable>)>;

/// What links and connections need of their session.
struct Shared<P> {
    platform: P,
    /// Of the table in use.
    epoch: Cell<Epoch>,
    verify: bool,
    transport: Transport,
    local_sockets: PathBuf,
    counters: RefCell<ClientCounters>,
}

/// Why a request got no reply.
#[derive(Clone, Debug)]
enum LinkError {
    /// No connection can be opened. `is_old`: it was tried a moment ago, for somebody else.
    Unreachable { reason: String, is_old: bool },
    /// The connection broke.
    Broken(String),
    /// The peer refused.
    Refused(Refusal, String),
    /// Too much is under way on the connection.
    Overloaded,
}

impl LinkError {
    /// The error that a caller gets, if nothing better comes of it.
    fn into_error(self, core: Option<CoreId>, address: SocketAddr) -> Error {
        match self {
            LinkError::Unreachable { reason, .. } => Error::Unreachable { core, address, reason },
            LinkError::Broken(reason) => Error::Broken { core, address, reason },
            LinkError::Refused(Refusal::BadPattern, sentence) => Error::BadPattern(sentence),
            LinkError::Refused(Refusal::Overloaded, _) | LinkError::Overloaded => Error::Overloaded,
            LinkError::Refused(refusal, sentence) => Error::Refused { address, refusal, sentence },
        }
    }
}

impl<P: Platform> Session<P> {
    /// A session that knows nobody yet; the first verb asks the seeds.
    pub fn open(platform: P, config: ClientConfig) -> Rc<Session<P>> {
        let alarm = Alarm::start(&platform);
        let shared = Rc::new(Shared {
            platform,
            epoch: Cell::new(Epoch(0)),
            verify: config.verify,
            transport: config.transport,
            local_sockets: config.local_sockets.clone(),
            counters: RefCell::default(),
        });
        Rc::new(Session {
            shared,
            config,
            table: RefCell::new(Arc::new(RoutingTable::empty())),
            observer: RefCell::new(None),
            links: RefCell::default(),
            alarm,
            is_refreshing: Cell::new(false),
            found_no_engine: Cell::new(false),
            refreshed: Event::default(),
            refresh_error: RefCell::new(None),
        })
    }

    /// Tells somebody of each routing table that is taken over from now on.
    pub fn observe(&self, observer: impl Fn(&Arc<RoutingTable>) + 'static) {
        *self.observer.borrow_mut() = Some(Box::new(observer));
    }

    /// The platform it runs on.
    pub fn platform(&self) -> &P {
        &self.shared.platform
    }

    /// Its settings.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// The moment at which a call that starts now has to end.
    pub fn deadline(&self) -> Moment {
        self.shared.platform.now() + self.config.deadline
    }

    /// The name of a key of this session's tenant.
    pub fn name(&self, key: &[u8]) -> Result<ObjectName, Error> {
        Ok(ObjectName::new(&self.config.tenant, key)?)
    }

    /// What it has done so far.
    pub fn counters(&self) -> ClientCounters {
        *self.shared.counters.borrow()
    }

    /// The table in use; fetched if there is none.
    pub async fn table(self: &Rc<Self>, deadline: Moment) -> Result<Arc<RoutingTable>, Error> {
        match self.alarm.until(deadline, pin!(self.some_table())).await {
            Some(result) => result,
            None => Err(self.expired()),
        }
    }

    /// The table that somebody has now; that there is no engine in it is an error at once.
    pub async fn first_table(self: &Rc<Self>, deadline: Moment) -> Result<Arc<RoutingTable>, Error> {
        match self.alarm.until(deadline, pin!(self.refresh(None))).await {
            Some(Ok(())) if self.table_now().members.is_empty() => Err(Error::NoEngines),
            Some(refreshed) => refreshed.map(|()| self.table_now()),
            None => Err(self.expired()),
        }
    }

    /// The table that the first seed (or whoever answers in its place) has now; if nobody answers, the one in use.
    pub async fn fresh_table(self: &Rc<Self>, deadline: Moment) -> Result<Arc<RoutingTable>, Error> {
        let fetch = async {
            let fetched = self.refresh(self.config.seeds.first().copied()).await;
            // Requests go on with the last table that had somebody in it.
            if fetched.is_ok() && self.found_no_engine.get() {
                return Ok(Arc::new(RoutingTable::empty()));
            }
            self.some_table().await
        };
        match self.alarm.until(deadline, pin!(fetch)).await {
            Some(result) => result,
            None => Err(self.expired()),
        }
    }

    /// A lane of its own to a core of this machine; `None`: it cannot be had.
    pub(crate) async fn open_lane(
        self: &Rc<Self>,
        member: &Member,
        within: Duration,
    ) -> Option<Lane<<P::Stream as Stream>::Bell>> {
        let deadline = self.shared.platform.now() + within;
        self.alarm.until(deadline, pin!(connection::open_lane(&self.shared, member))).await.flatten()
    }

    fn table_now(&self) -> Arc<RoutingTable> {
        self.table.borrow().clone()
    }

    /// What a call says that has reached its deadline.
    fn expired(&self) -> Error {
        self.shared.counters.borrow_mut().deadlines += 1;
        let has_table = !self.table.borrow().members.is_empty();
        if !has_table && self.found_no_engine.get() { Error::NoEngines } else { Error::Deadline }
    }

    fn link(&self, address: SocketAddr) -> Rc<Link<P>> {
        self.links.borrow_mut().entry(address).or_insert_with(|| Link::new(&self.shared, address)).clone()
    }

    /// Asks something that is no batch; the body of the reply.
    async fn ask_plain(
        self: &Rc<Self>,
        address: SocketAddr,
        opcode: Opcode,
        body: &[u8],
        deadline: Moment,
    ) -> Result<Vec<u8>, LinkError> {
        let connection = self.link(address).connection().await?;
        let frame = Frame::plain(opcode, body);
        let reply = connection.ask(frame, Vec::new(), self.shared.epoch.get(), deadline)?.await?;
        self.note_epoch(reply.header.epoch, address);
        Ok(reply.body)
    }

    /// A peer's reply said which table it has: if it is newer, we want it too, but nobody has to wait for it.
    fn note_epoch(self: &Rc<Self>, epoch: Epoch, address: SocketAddr) {
        if epoch > self.shared.epoch.get() && self.shared.epoch.get() != Epoch(0) {
            self.start_refresh(Some(address));
        }
    }
}

impl<P: Platform> Drop for Session<P> {
    fn drop(&mut self) {
        self.alarm.close();
        for link in self.links.borrow().values() {
            link.give_up("the client is closed");
        }
    }
}
