//! What the owners of sockets call: listen, connect, accept, read, write, close.
//!
//! All of it is synchronous code on the state; the futures and handles around it are in `stream.rs`.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, Waker};

use super::entropy::{Consumer, Entropy};
use super::network::{ACCEPTOR, Connection, ConnectionId, End, Item, ListenerState, OPENER, Packet};
use super::trace::Event;
use super::world::{NodeId, World};

/// The range of ports that are given out when none is asked for, as on Linux.
const EPHEMERAL_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// A half of an end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Half {
    Reading = 0,
    Writing = 1,
}

/// One end of one connection, by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Socket {
    pub(super) connection: ConnectionId,
    pub(super) end: usize,
}

/// Keeps a waker for later. Not woken, replaced: it is dropped outside of the borrow.
fn replace_waker(place: &mut Option<Waker>, context: &Context<'_>) -> Option<Waker> {
    if place.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
        return None;
    }
    place.replace(context.waker().clone())
}

impl World {
    // -- listening and connecting --

    /// The address on the wire: "any" and loopback mean the node's own.
    fn resolve(&self, node: NodeId, address: SocketAddr) -> SocketAddr {
        let is_own = address.ip().is_unspecified() || address.ip().is_loopback();
        if is_own { SocketAddr::new(self.node(node).ip, address.port()) } else { address }
    }

    /// The next port of an address on which nobody listens.
    fn ephemeral_port(&mut self, ip: IpAddr) -> io::Result<u16> {
        let last = *self.network.ports.get(&ip).unwrap_or(EPHEMERAL_PORTS.end());
        let port = EPHEMERAL_PORTS
            .chain(EPHEMERAL_PORTS)
            .skip_while(|port| *port <= last && last != *EPHEMERAL_PORTS.end())
            .find(|port| !self.network.listeners.contains_key(&SocketAddr::new(ip, *port)))
            .ok_or(io::ErrorKind::AddrInUse)?;
        self.network.ports.insert(ip, port);
        Ok(port)
    }

    /// Opens a listener; its number tells it from a later one on the same address.
    pub(super) fn listen(&mut self, node: NodeId, address: SocketAddr) -> io::Result<(u64, SocketAddr)> {
        let mut address = self.resolve(node, address);
        if !self.node(node).is_alive() {
            return Err(io::ErrorKind::NetworkDown.into());
        }
        if address.ip() != self.node(node).ip {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if address.port() == 0 {
            address.set_port(self.ephemeral_port(address.ip())?);
        }
        if self.network.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.network.listeners_opened += 1;
        let number = self.network.listeners_opened;
        let listener = ListenerState { number, node, backlog: VecDeque::new(), waker: None };
        self.network.listeners.insert(address, listener);
        self.record(Event::Listening, [u64::from(node.0), u64::from(address.port()), 0]);
        Ok((number, address))
    }

    /// Closes a listener. Connections that nobody has accepted are reset.
    pub(super) fn close_listener(&mut self, number: u64, address: SocketAddr) {
        if self.network.listeners.get(&address).is_none_or(|listener| listener.number != number) {
            return;
        }
        let Some(listener) = self.network.listeners.remove(&address) else { return };
        self.retire(listener.waker);
        for connection in listener.backlog {
            self.send_item(connection, ACCEPTOR, Item::Reset);
            self.leave(connection, ACCEPTOR);
        }
    }

    pub(super) fn poll_accept(
        &mut self,
        number: u64,
        address: SocketAddr,
        context: &Context<'_>,
    ) -> Poll<io::Result<(Socket, SocketAddr)>> {
        let listener = self.network.listeners.get_mut(&address).filter(|listener| listener.number == number);
        let Some(listener) = listener else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        let Some(connection) = listener.backlog.pop_front() else {
            let old = replace_waker(&mut listener.waker, context);
            self.retire(old);
            return Poll::Pending;
        };
        let opener = self.network.connections[&connection].ends[OPENER].address;
        Poll::Ready(Ok((Socket { connection, end: ACCEPTOR }, opener)))
    }

    /// Begins to connect.
    pub(super) fn connect(&mut self, node: NodeId, address: SocketAddr) -> io::Result<Socket> {
        if !self.node(node).is_alive() {
            return Err(io::ErrorKind::NetworkDown.into());
        }
        let ip = self.node(node).ip;
        let local = SocketAddr::new(ip, self.ephemeral_port(ip)?);
        let remote = self.resolve(node, address);
        self.network.connections_opened += 1;
        let connection = ConnectionId(self.network.connections_opened);
        let entropy = Entropy::new(self.seed, Consumer::Connection, connection.0);
        let ends = [End::new(Some(node), local), End::new(None, remote)];
        self.network.connections.insert(connection, Connection { ends, entropy });
        self.trace.counts.connects += 1;
        self.record(Event::Opened, [connection.0, u64::from(node.0), u64::from(remote.port())]);
        self.send(Packet::Open { connection });
        Ok(Socket { connection, end: OPENER })
    }

    pub(super) fn poll_connected(&mut self, socket: Socket, context: &Context<'_>) -> Poll<io::Result<()>> {
        let Some(end) = self.end_mut(socket) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if let Some(kind) = end.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if end.established {
            return Poll::Ready(Ok(()));
        }
        let old = replace_waker(&mut end.read_waker, context);
        self.retire(old);
        Poll::Pending
    }

    /// An end that someone holds.
    fn end_mut(&mut self, socket: Socket) -> Option<&mut End> {
        let connection = self.network.connections.get_mut(&socket.connection)?;
        Some(&mut connection.ends[socket.end]).filter(|end| !end.gone)
    }

    /// The addresses of this end and its peer.
    pub(super) fn addresses(&self, socket: Socket) -> Option<[SocketAddr; 2]> {
        let ends = &self.network.connections.get(&socket.connection)?.ends;
        Some([ends[socket.end].address, ends[1 - socket.end].address])
    }

    /// Who holds the other end.
    pub(super) fn peer(&self, socket: Socket) -> Option<NodeId> {
        self.network.connections.get(&socket.connection)?.ends[1 - socket.end].node
    }

    // -- reading and writing --

    /// A part of `bytes` now and then, else all of them.
    fn shorten(&mut self, socket: Socket, bytes: usize) -> usize {
        let percent = self.options.network.short_percent;
        let Some(connection) = self.network.connections.get_mut(&socket.connection) else { return bytes };
        if percent == 0 || !connection.entropy.percent(percent) {
            return bytes;
        }
        connection.entropy.between(1, bytes as u64) as usize
    }

    pub(super) fn poll_read(
        &mut self,
        socket: Socket,
        context: &Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(end) = self.end_mut(socket) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let possible = buffer.len().min(end.arrived.len());
        if possible > 0 {
            return Poll::Ready(Ok(self.read_arrived(socket, &mut buffer[..possible])));
        }
        if buffer.is_empty() || end.ended || end.closed {
            return Poll::Ready(Ok(0));
        }
        if let Some(kind) = end.failed {
            return Poll::Ready(Err(kind.into()));
        }
        let old = replace_waker(&mut end.read_waker, context);
        self.retire(old);
        Poll::Pending
    }

    /// Reads some of `buffer`, which is not longer than what has arrived, and tells the writer.
    fn read_arrived(&mut self, socket: Socket, buffer: &mut [u8]) -> usize {
        let bytes = self.shorten(socket, buffer.len());
        if let Some(end) = self.end_mut(socket) {
            end.arrived.read_exact(&mut buffer[..bytes]).expect("that much has arrived");
        }
        self.trace.counts.reads += 1;
        self.trace.counts.short_reads += u64::from(bytes < buffer.len());
        self.trace.counts.bytes_read += bytes as u64;
        self.record(Event::Read, [socket.connection.0 << 1 | socket.end as u64, bytes as u64, 0]);
        self.send(Packet::Acknowledge { connection: socket.connection, end: socket.end, bytes });
        bytes
    }

    /// Writes what fits into the window; `WouldBlock` if nothing does.
    pub(super) fn try_write(&mut self, socket: Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let window_bytes = self.options.network.window_bytes;
        let end = self.end_mut(socket).ok_or(io::ErrorKind::ConnectionReset)?;
        if end.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(kind) = end.failed {
            return Err(kind.into());
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let possible = wanted.min(window_bytes - end.unacknowledged);
        if wanted == 0 {
            return Ok(0);
        }
        if possible == 0 || end.crowded {
            end.crowded = true;
            self.trace.counts.blocked_writes += 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = self.shorten(socket, possible);
        self.trace.counts.writes += 1;
        self.trace.counts.short_writes += u64::from(bytes < wanted);
        self.send_segments(socket, slices, bytes);
        Ok(bytes)
    }

    /// Cuts the first `bytes` of `slices` into segments and sends them.
    fn send_segments(&mut self, socket: Socket, slices: &[IoSlice<'_>], bytes: usize) {
        let mut taken: Vec<u8> = Vec::with_capacity(bytes);
        for slice in slices {
            taken.extend_from_slice(&slice[..slice.len().min(bytes - taken.len())]);
        }
        if let Some(end) = self.end_mut(socket) {
            end.unacknowledged += bytes;
        }
        self.trace.counts.bytes_sent += bytes as u64;
        let mut rest = taken.as_slice();
        while !rest.is_empty() {
            let segment_bytes = self.shorten(socket, rest.len().min(self.options.network.segment_bytes_max));
            let (segment, after) = rest.split_at(segment_bytes);
            self.send_item(socket.connection, socket.end, Item::Data(segment.to_vec()));
            rest = after;
        }
    }

    pub(super) fn poll_write(
        &mut self,
        socket: Socket,
        context: &Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.try_write(socket, slices) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let old = self.end_mut(socket).and_then(|end| replace_waker(&mut end.write_waker, context));
                self.retire(old);
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }

    // -- closing --

    pub(super) fn shutdown(&mut self, socket: Socket) {
        let Some(end) = self.end_mut(socket) else { return };
        if end.closed || end.failed.is_some() {
            return;
        }
        end.closed = true;
        let waker = end.read_waker.take();
        self.wake(waker);
        self.send_item(socket.connection, socket.end, Item::End);
    }

    /// A half is held no more. With both, the end closes: in order, or with a reset if bytes are left unread.
    pub(super) fn drop_half(&mut self, socket: Socket, half: Half) {
        let Some(end) = self.end_mut(socket) else { return };
        end.halves[half as usize] = false;
        if end.halves.contains(&true) {
            return;
        }
        if end.failed.is_none() {
            if !end.arrived.is_empty() {
                self.send_item(socket.connection, socket.end, Item::Reset);
            } else if !end.closed {
                self.send_item(socket.connection, socket.end, Item::End);
            }
        }
        self.leave(socket.connection, socket.end);
    }
}
