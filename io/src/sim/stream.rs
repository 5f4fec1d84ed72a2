//! Handles on sockets: listener, stream and its halves, and the future that connects.
//!
//! A handle whose node has died still works as an object: its calls fail with an error, none panics or hangs the
//! caller's destructor.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::local::{Meeting, SimBell};
use super::network::ConnectionId;
use super::socket::{Half, Socket};
use super::world::{NodeId, Shared};
use crate::platform::{Accept, ByteReader, ByteWriter, Lane, Listener, Peer, Stream};

/// A listening socket of a node.
pub struct SimListener {
    pub(super) shared: Shared,
    pub(super) number: u64,
    pub(super) address: SocketAddr,
}

impl Accept for SimListener {
    type Stream = SimStream;

    /// Fails with `ConnectionAborted` if the node has died.
    async fn accept(&mut self) -> io::Result<(SimStream, Peer)> {
        std::future::poll_fn(|context| self.poll_accept(context)).await
    }
}

impl SimListener {
    pub(super) fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(SimStream, Peer)>> {
        let accepted = self.shared.with(|world| world.poll_accept(self.number, self.address, context));
        let (socket, opener) = ready!(accepted)?;
        Poll::Ready(Ok((SimStream::new(&self.shared, socket), Peer::At(opener))))
    }
}

impl Listener for SimListener {
    fn local_address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.shared.with(|world| world.close_listener(self.number, self.address));
    }
}

/// A connected stream. Both halves in one.
pub struct SimStream {
    reader: SimReader,
    writer: SimWriter,
    pub(super) is_local: bool,
    pub(super) lane: Option<Lane<SimBell>>,
}

impl SimStream {
    fn new(shared: &Shared, socket: Socket) -> SimStream {
        SimStream {
            reader: SimReader { shared: shared.clone(), socket },
            writer: SimWriter { shared: shared.clone(), socket },
            is_local: false,
            lane: None,
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.reader.shared
    }

    /// The node at the other end.
    pub(super) fn peer(&self) -> Option<NodeId> {
        self.shared().with(|world| world.peer(self.reader.socket))
    }

    /// Which connection this is an end of.
    pub fn connection(&self) -> ConnectionId {
        self.reader.socket.connection
    }

    /// The addresses of this end and of the peer; `None` once the connection is forgotten.
    pub fn addresses(&self) -> Option<[SocketAddr; 2]> {
        self.reader.shared.with(|world| world.addresses(self.reader.socket))
    }
}

impl Stream for SimStream {
    type Reader = SimReader;
    type Writer = SimWriter;
    type Bell = SimBell;

    fn is_local(&self) -> bool {
        self.is_local
    }

    fn take_lane(&mut self) -> Option<Lane<SimBell>> {
        self.lane.take()
    }

    fn split(self) -> (SimReader, SimWriter) {
        (self.reader, self.writer)
    }
}

/// The reading half of a [`SimStream`].
pub struct SimReader {
    shared: Shared,
    socket: Socket,
}

impl ByteReader for SimReader {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.shared.with(|world| world.poll_read(self.socket, context, buffer))
    }
}

impl Drop for SimReader {
    fn drop(&mut self) {
        self.shared.with(|world| world.drop_half(self.socket, Half::Reading));
    }
}

/// The writing half of a [`SimStream`].
pub struct SimWriter {
    shared: Shared,
    socket: Socket,
}

impl ByteWriter for SimWriter {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.shared.with(|world| world.try_write(self.socket, slices))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.shared.with(|world| world.poll_write(self.socket, context, slices))
    }

    fn shutdown(&mut self) {
        self.shared.with(|world| world.shutdown(self.socket));
    }
}

impl Drop for SimWriter {
    fn drop(&mut self) {
        self.shared.with(|world| world.drop_half(self.socket, Half::Writing));
    }
}

/// A connect under way. Begins when it is first polled; dropping it gives up.
pub(super) struct Connect {
    shared: Shared,
    node: NodeId,
    address: SocketAddr,
    stream: Option<SimStream>,
}

impl Connect {
    pub(super) fn new(shared: &Shared, node: NodeId, address: SocketAddr) -> Connect {
        Connect { shared: shared.clone(), node, address, stream: None }
    }

    /// Begins now, and has the accepting side find something.
    pub(super) fn meet(&mut self, meeting: Meeting) -> io::Result<()> {
        let socket = self.shared.with(|world| {
            let socket = world.connect(self.node, self.address)?;
            world.network.meetings.insert(socket.connection, meeting);
            Ok::<_, io::Error>(socket)
        })?;
        self.stream = Some(SimStream::new(&self.shared, socket));
        Ok(())
    }
}

impl Future for Connect {
    type Output = io::Result<SimStream>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<SimStream>> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let socket = self.shared.with(|world| world.connect(self.node, self.address))?;
                SimStream::new(&self.shared, socket)
            }
        };
        match self.shared.with(|world| world.poll_connected(stream.reader.socket, context)) {
            Poll::Ready(result) => Poll::Ready(result.map(|()| stream)),
            Poll::Pending => {
                self.stream = Some(stream);
                Poll::Pending
            }
        }
    }
}
