//! The virtual network. This head is its fault model.
//!
//! **What always holds**, as with TCP: within one direction of a connection bytes arrive in the order in which they
//! were written, each once, unaltered, or the connection fails. A reader that reads 0 has read everything that the
//! peer wrote before it closed.
//!
//! **What is delayed.** A write is cut into segments; each segment, acknowledgement, connect and reset takes a random
//! time between [`NetworkOptions::delay_min`] and `delay_max`. Hence anything may be *reordered between connections*,
//! and between the two directions of one; nothing within a direction. Bandwidth is not modelled.
//!
//! **What is short.** Reads and writes often take fewer bytes than they could ([`NetworkOptions::short_percent`]). At
//! most [`NetworkOptions::window_bytes`] of a direction are written and not yet read *and* acknowledged; then writes
//! take nothing until the reader has read so much that a third is free again, as with a real socket (else every few
//! bytes read would call for a few bytes written). Dropping only one half of a stream shows nothing to the peer.
//!
//! **What is lost**, and how the two sides learn of it:
//!
//! | event | bytes under way | who learns |
//! |---|---|---|
//! | both halves dropped, or shutdown | arrive | peer reads the rest, then 0; its later writes bring it a reset |
//! | closed with unread bytes | to the closer: lost; from it: arrive | peer reads the rest, then sees a reset |
//! | connection cut | lost, with those that arrived and were not read | both ends see a reset, at once |
//! | process killed | a random tail of what it sent is lost | each peer sees a reset, one delay later |
//! | machine without power | what it has sent arrives; the rest waits | nobody; after a restart, a peer that writes, or has written what was never read |
//! | partition | wait, and so do connects and acknowledgements | nobody, until the window is full or a deadline ends |
//! | partition healed, machine restarted | arrive, one delay later | – |
//!
//! A connect to a port where nobody listens is refused after a round trip; to a machine without power it hangs until
//! the machine returns. While a listener's backlog is full, connects wait and try again. A paused process's sockets go
//! on receiving into their windows and its listeners into their backlogs, since a kernel does that.
//!
//! **What is altered:** nothing, as long as [`NetworkOptions::flipped_ppm`] is zero; else a random bit of that share of
//! the segments, as by a network card whose checksums lie.
//!
//! **What never happens:** bytes duplicated, or reordered within a direction; a connection that ends without
//! an event of this table; a partition or power loss that is noticed without traffic or a deadline (keep-alives
//! come when [`Faults::keep_alive`](super::Faults::keep_alive) is called).
//!
//! In this file: the packets between the ends. What the ends' owners call is in `socket.rs`.

use crate::lane::LaneRegion;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::entropy::Entropy;
use super::local::Meeting;
use super::trace::Event;
use super::world::{Due, Life, NodeId, World, nanoseconds};

/// How long a connect waits before it tries a full backlog again.
const BACKLOG_RETRY: Duration = Duration::from_millis(200);

/// The end that has connected.
pub(super) const OPENER: usize = 0;
/// The end that was accepted.
pub(super) const ACCEPTOR: usize = 1;

/// How the network behaves when nothing is broken.
#[derive(Clone, Copy, Debug)]
pub struct NetworkOptions {
    /// The least time anything takes from one end to the other.
    pub delay_min: Duration,
    /// The most.
    pub delay_max: Duration,
    /// How many bytes a direction of a connection holds that were written and not yet read and acknowledged.
    pub window_bytes: usize,
    /// The longest segment; a write is cut into segments of 1 to this many bytes.
    pub segment_bytes_max: usize,
    /// How many of 100 reads and writes take a random part of what they could.
    pub short_percent: u32,
    /// How many connections wait to be accepted at one listener.
    pub backlog: usize,
    /// How many of a million segments arrive with a bit flipped.
    pub flipped_ppm: u32,
}

impl Default for NetworkOptions {
    fn default() -> NetworkOptions {
        NetworkOptions {
            delay_min: Duration::from_micros(20),
            delay_max: Duration::from_micros(500),
            window_bytes: 256 << 10,
            segment_bytes_max: 64 << 10,
            short_percent: 25,
            backlog: 128,
            flipped_ppm: 0,
        }
    }
}

impl NetworkOptions {
    /// A network that is slow to nobody and never short: for tests that count or time something.
    pub fn calm() -> NetworkOptions {
        let delay = Duration::from_micros(100);
        NetworkOptions { delay_min: delay, delay_max: delay, short_percent: 0, ..NetworkOptions::default() }
    }

    pub(super) fn check(&self) {
        assert!(self.delay_min <= self.delay_max, "the least delay is above the greatest");
        assert!(
            self.window_bytes > 0 && self.segment_bytes_max > 0 && self.backlog > 0,
            "limits are above zero"
        );
        assert!(self.short_percent <= 100, "a percentage");
    }
}

/// Names one connection of a simulation, in the order in which they were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u64);

/// Something on its way. `end` is the end that has sent it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Packet {
    /// The opener asks for a connection.
    Open { connection: ConnectionId },
    /// Nobody listens there.
    Refused { connection: ConnectionId },
    /// The front of what `end` has sent arrives. Which item that is, is decided only then: that keeps the order.
    Next { connection: ConnectionId, end: usize },
    /// `end` has read `bytes`.
    Acknowledge { connection: ConnectionId, end: usize, bytes: usize },
    /// The process of `end` has died. Overtakes what it has sent.
    Reset { connection: ConnectionId, end: usize },
}

/// What one end has sent and the other has not got, in order.
pub(super) enum Item {
    Established,
    Data(Vec<u8>),
    /// No more bytes will come, and none are read any more.
    End,
    Reset,
}

/// One end of a connection, and the direction that it writes.
pub(super) struct End {
    /// Who owns it. The acceptor's is known when the connect has reached the listener.
    pub(super) node: Option<NodeId>,
    pub(super) address: SocketAddr,
    /// Whether the reading and the writing half are still held.
    pub(super) halves: [bool; 2],
    /// Nobody holds it any more: dropped, or its process has died.
    pub(super) gone: bool,
    /// It has sent `Item::End`.
    pub(super) closed: bool,
    /// The opener's connect has succeeded.
    pub(super) established: bool,
    pub(super) failed: Option<io::ErrorKind>,
    /// Written here, not yet arrived there.
    pub(super) sent: VecDeque<Item>,
    /// Bytes written here, not yet acknowledged from there.
    pub(super) unacknowledged: usize,
    /// The window was full, and not a third of it is free yet.
    pub(super) crowded: bool,
    /// Arrived here, not yet read.
    pub(super) arrived: VecDeque<u8>,
    /// The peer's `Item::End` has arrived.
    pub(super) ended: bool,
    pub(super) read_waker: Option<Waker>,
    pub(super) write_waker: Option<Waker>,
}

impl End {
    pub(super) fn new(node: Option<NodeId>, address: SocketAddr) -> End {
        End {
            node,
            address,
            halves: [true; 2],
            gone: false,
            closed: false,
            established: false,
            failed: None,
            sent: VecDeque::new(),
            unacknowledged: 0,
            crowded: false,
            arrived: VecDeque::new(),
            ended: false,
            read_waker: None,
            write_waker: None,
        }
    }
}

pub(super) struct Connection {
    pub(super) ends: [End; 2],
    pub(super) entropy: Entropy,
}

pub(super) struct ListenerState {
    pub(super) number: u64,
    pub(super) node: NodeId,
    pub(super) backlog: VecDeque<ConnectionId>,
    pub(super) waker: Option<Waker>,
}

/// All sockets, and what is broken between them.
#[derive(Default)]
pub(super) struct Network {
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) connections_opened: u64,
    pub(super) listeners: BTreeMap<SocketAddr, ListenerState>,
    pub(super) listeners_opened: u64,
    /// The last ephemeral port of each address.
    pub(super) ports: BTreeMap<IpAddr, u16>,
    /// Directions in which nothing passes.
    pub(super) blocked: BTreeSet<(IpAddr, IpAddr)>,
    held: Vec<Packet>,
    /// What is to be found with connections that nobody has accepted yet.
    pub(super) meetings: BTreeMap<ConnectionId, Meeting>,
    /// Lanes, with the process that has opened each.
    pub(super) lanes: Vec<(NodeId, LaneRegion)>,
}

impl Packet {
    fn connection(self) -> ConnectionId {
        match self {
            Packet::Open { connection }
            | Packet::Refused { connection }
            | Packet::Next { connection, .. }
            | Packet::Acknowledge { connection, .. }
            | Packet::Reset { connection, .. } => connection,
        }
    }

    fn sender(self) -> usize {
        match self {
            Packet::Open { .. } => OPENER,
            Packet::Refused { .. } => ACCEPTOR,
            Packet::Next { end, .. } | Packet::Acknowledge { end, .. } | Packet::Reset { end, .. } => end,
        }
    }
}

impl World {
    // -- sending --

    /// Puts a packet on the wire.
    pub(super) fn send(&mut self, packet: Packet) {
        let NetworkOptions { delay_min, delay_max, .. } = self.options.network;
        let Some(connection) = self.network.connections.get_mut(&packet.connection()) else { return };
        let delay_ns = connection.entropy.between(nanoseconds(delay_min), nanoseconds(delay_max));
        self.enter(self.now_ns.saturating_add(delay_ns), Due::Packet(packet));
    }

    /// Puts an item behind all that `end` has sent.
    pub(super) fn send_item(&mut self, connection: ConnectionId, end: usize, item: Item) {
        let event = match &item {
            Item::Established => Event::Accepted,
            Item::Data(bytes) => {
                self.trace.counts.segments += 1;
                let numbers = [connection.0 << 1 | end as u64, bytes.len() as u64, xxh3_64(bytes)];
                self.record(Event::Sent, numbers);
                Event::Sent
            }
            Item::End => Event::EndSent,
            Item::Reset => Event::ResetSent,
        };
        if event != Event::Sent {
            self.record(event, [connection.0 << 1 | end as u64, 0, 0]);
        }
        if let Some(state) = self.network.connections.get_mut(&connection) {
            state.ends[end].sent.push_back(item);
            self.send(Packet::Next { connection, end });
        }
    }

    // -- arriving --

    /// A packet has come to the end of its way.
    pub(super) fn deliver(&mut self, packet: Packet) {
        if !self.network.connections.contains_key(&packet.connection()) {
            return;
        }
        if self.is_held(packet) {
            self.trace.counts.held += 1;
            self.record(Event::Held, [packet.connection().0 << 1 | packet.sender() as u64, 0, 0]);
            self.network.held.push(packet);
            return;
        }
        match packet {
            Packet::Open { connection } => self.deliver_open(connection),
            Packet::Refused { connection } => {
                self.trace.counts.refused += 1;
                self.record(Event::Refused, [connection.0, 0, 0]);
                self.fail(connection, OPENER, io::ErrorKind::ConnectionRefused);
            }
            Packet::Next { connection, end } => self.deliver_next(connection, end),
            Packet::Acknowledge { connection, end, bytes } => {
                self.deliver_acknowledge(connection, end, bytes)
            }
            Packet::Reset { connection, end } => self.deliver_reset(connection, 1 - end),
        }
    }

    /// Whether a packet can neither arrive nor be answered for now.
    fn is_held(&self, packet: Packet) -> bool {
        let ends = &self.network.connections[&packet.connection()].ends;
        let (from, to) = (&ends[packet.sender()], &ends[1 - packet.sender()]);
        if self.network.blocked.contains(&(from.address.ip(), to.address.ip())) {
            return true;
        }
        match to.node {
            Some(node) => self.node(node).life == Life::Dark,
            None => self.is_dark(to.address.ip()),
        }
    }

    /// Whether a machine is without power: no process on it lives, and one did when the power went.
    fn is_dark(&self, ip: IpAddr) -> bool {
        let mut lives = self.nodes.iter().filter(|node| node.ip == ip).map(|node| node.life);
        lives.clone().any(|life| life == Life::Dark)
            && lives.all(|life| matches!(life, Life::Dark | Life::Dead))
    }

    /// Sends on what waited and can pass now.
    pub(super) fn release_held(&mut self) {
        for packet in std::mem::take(&mut self.network.held) {
            if !self.network.connections.contains_key(&packet.connection()) {
                continue;
            }
            if self.is_held(packet) {
                self.network.held.push(packet);
            } else {
                self.record(Event::Released, [packet.connection().0 << 1 | packet.sender() as u64, 0, 0]);
                self.send(packet);
            }
        }
    }

    fn deliver_open(&mut self, connection: ConnectionId) {
        let backlog_max = self.options.network.backlog;
        let Some(state) = self.network.connections.get_mut(&connection) else { return };
        if state.ends[OPENER].failed.is_some() {
            return;
        }
        let Some(listener) = self.network.listeners.get_mut(&state.ends[ACCEPTOR].address) else {
            return self.send(Packet::Refused { connection });
        };
        if listener.backlog.len() >= backlog_max {
            self.enter(self.now_ns + nanoseconds(BACKLOG_RETRY), Due::Packet(Packet::Open { connection }));
            return;
        }
        state.ends[ACCEPTOR].node = Some(listener.node);
        listener.backlog.push_back(connection);
        let waker = listener.waker.take();
        self.trace.counts.connections += 1;
        self.wake(waker);
        self.send_item(connection, ACCEPTOR, Item::Established);
    }

    /// The front of what `end` has sent arrives at the other end.
    fn deliver_next(&mut self, connection: ConnectionId, end: usize) {
        let Some(state) = self.network.connections.get_mut(&connection) else { return };
        // A connection that was cut has packets under way, and nothing in them.
        let Some(item) = state.ends[end].sent.pop_front() else { return };
        let flipped_ppm = self.options.network.flipped_ppm;
        let flip = (flipped_ppm > 0 && state.entropy.below(1_000_000) < u64::from(flipped_ppm))
            .then(|| state.entropy.next());
        let receiver = &mut state.ends[1 - end];
        if receiver.failed.is_some() {
            return;
        }
        let numbers = [connection.0 << 1 | end as u64, 0, 0];
        match item {
            Item::Data(_) if receiver.gone || receiver.closed => {
                self.send_item(connection, 1 - end, Item::Reset);
            }
            Item::Data(mut bytes) => {
                if let Some(flip) = flip {
                    let bit = flip % (bytes.len() as u64 * 8);
                    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
                    self.trace.counts.flipped_bits += 1;
                }
                receiver.arrived.extend(&bytes);
                let waker = receiver.read_waker.take();
                self.trace.counts.bytes_delivered += bytes.len() as u64;
                self.record(Event::Delivered, [numbers[0], bytes.len() as u64, 0]);
                self.wake(waker);
            }
            Item::End => {
                receiver.ended = true;
                let waker = receiver.read_waker.take();
                self.record(Event::EndDelivered, numbers);
                self.wake(waker);
            }
            Item::Established => {
                receiver.established = true;
                let waker = receiver.read_waker.take();
                self.record(Event::Established, numbers);
                self.wake(waker);
            }
            Item::Reset => self.deliver_reset(connection, 1 - end),
        }
    }

    fn deliver_acknowledge(&mut self, connection: ConnectionId, end: usize, bytes: usize) {
        let window_bytes = self.options.network.window_bytes;
        let Some(state) = self.network.connections.get_mut(&connection) else { return };
        let writer = &mut state.ends[1 - end];
        writer.unacknowledged -= bytes;
        writer.crowded &= writer.unacknowledged > window_bytes - window_bytes.div_ceil(3);
        let waker = if writer.crowded { None } else { writer.write_waker.take() };
        self.record(Event::Acknowledged, [connection.0 << 1 | end as u64, bytes as u64, 0]);
        self.wake(waker);
    }

    fn deliver_reset(&mut self, connection: ConnectionId, receiver: usize) {
        let Some(state) = self.network.connections.get(&connection) else { return };
        let end = &state.ends[receiver];
        if end.gone || end.failed.is_some() {
            return;
        }
        // After its end a connection is a pipe with nobody to read it, as Linux reports it.
        let kind = if end.ended { io::ErrorKind::BrokenPipe } else { io::ErrorKind::ConnectionReset };
        self.trace.counts.resets += 1;
        self.record(Event::ResetDelivered, [connection.0 << 1 | receiver as u64, 0, 0]);
        self.fail(connection, receiver, kind);
    }

    /// From now on calls on this end fail, once what has arrived is read.
    pub(super) fn fail(&mut self, connection: ConnectionId, end: usize, kind: io::ErrorKind) {
        let Some(state) = self.network.connections.get_mut(&connection) else { return };
        let end = &mut state.ends[end];
        end.failed = end.failed.or(Some(kind));
        let (read_waker, write_waker) = (end.read_waker.take(), end.write_waker.take());
        self.wake(read_waker);
        self.wake(write_waker);
    }

    // -- ending --

    /// Loses a connection with all that is under way in it; both ends see a reset. False: there is no such one.
    pub(super) fn cut(&mut self, connection: ConnectionId) -> bool {
        let Some(state) = self.network.connections.get_mut(&connection) else { return false };
        for end in &mut state.ends {
            end.sent.clear();
            // Who has not read everything must not take the end for a clean one.
            end.ended &= end.arrived.is_empty();
            end.arrived.clear();
        }
        for receiver in [OPENER, ACCEPTOR] {
            self.deliver_reset(connection, receiver);
        }
        true
    }

    /// Takes a dead process's sockets away. With `resets`, its machine says so to the peers.
    pub(super) fn abandon_sockets(&mut self, node: NodeId, resets: bool) {
        let closed: Vec<ListenerState> = self
            .network
            .listeners
            .extract_if(.., |_, listener| listener.node == node)
            .map(|(_, it)| it)
            .collect();
        closed.into_iter().for_each(|listener| self.retire(listener.waker));
        let connections: Vec<ConnectionId> = self.network.connections.keys().copied().collect();
        for connection in connections {
            for end in [OPENER, ACCEPTOR] {
                let Some(state) = self.network.connections.get(&connection) else { break };
                if state.ends[end].node == Some(node) && !state.ends[end].gone {
                    self.leave(connection, end);
                    if resets {
                        self.record(Event::ResetSent, [connection.0 << 1 | end as u64, 0, 0]);
                        self.send(Packet::Reset { connection, end });
                    }
                }
            }
        }
    }

    /// A machine is back. A peer that has written what the process there never read asks now and then for room, and learns
    /// that there is no such connection.
    pub(super) fn answer_probes(&mut self, old: NodeId) {
        let mut asked = Vec::new();
        for (&connection, state) in &self.network.connections {
            for end in [OPENER, ACCEPTOR] {
                let is_its = state.ends[end].node == Some(old) && state.ends[end].gone;
                if is_its && state.ends[1 - end].unacknowledged > 0 {
                    asked.push((connection, end));
                }
            }
        }
        for (connection, end) in asked {
            self.record(Event::ResetSent, [connection.0 << 1 | end as u64, 0, 0]);
            self.send(Packet::Reset { connection, end });
        }
    }

    /// Nobody holds this end any more. The connection is forgotten when that is true of both ends.
    pub(super) fn leave(&mut self, connection: ConnectionId, end: usize) {
        let Some(state) = self.network.connections.get_mut(&connection) else { return };
        let left = &mut state.ends[end];
        left.gone = true;
        left.arrived.clear();
        let wakers = [left.read_waker.take(), left.write_waker.take()];
        let peer = &state.ends[1 - end];
        if peer.gone || peer.node.is_none() {
            self.network.connections.remove(&connection);
            self.network.meetings.remove(&connection);
        }
        wakers.into_iter().for_each(|waker| self.retire(waker));
    }
}
