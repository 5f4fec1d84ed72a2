//! TCP: plain non-blocking system calls first, the runtime's reactor only to wait.

use super::local::{SocketsLocal, SocketsLocalReader, SocketsLocalWriter};
use super::spin::{Burst, Spin, SpinScore};
use crate::either::Either;
use crate::platform::{Accept, ByteReader, ByteWriter, Listener, NoBell, Peer, Stream};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, sockopt};
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpSocket};

/// Slices of one system call; the kernel takes at most 1,024.
const SLICES_MAX: usize = 1024;
/// A peer that does not take what we send is given up after this long.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(30);
/// A peer that sends nothing is asked after so long whether it lives, again after so long, and given up after so many
/// questions.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_COUNT: u32 = 3;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Bytes that a task moves before it lets others run, timers among them, though it could go on.
const BYTES_PER_TURN: usize = 2 << 20;

/// A listening socket.
pub struct SocketsListener {
    listener: TcpListener,
    address: SocketAddr,
    spin: Spin,
}

impl SocketsListener {
    pub(super) fn bind(address: SocketAddr, spin: Spin) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(SocketsListener { listener, address, spin })
    }
}

impl Accept for SocketsListener {
    type Stream = SocketsStream;

    async fn accept(&mut self) -> io::Result<(SocketsStream, Peer)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((Either::Tcp(SocketsTcp::new(stream, self.spin.clone())?), Peer::At(peer)))
    }
}

impl Listener for SocketsListener {
    fn local_address(&self) -> SocketAddr {
        self.address
    }
}

/// A connection.
pub type SocketsStream = Either<SocketsTcp, SocketsLocal>;
/// Its reading half.
pub type SocketsReader = Either<SocketsTcpReader, SocketsLocalReader>;
/// Its writing half.
pub type SocketsWriter = Either<SocketsTcpWriter, SocketsLocalWriter>;

/// A connection by TCP.
pub struct SocketsTcp {
    stream: TcpStream,
    spin: Spin,
}

impl SocketsTcp {
    pub(super) fn new(stream: tokio::net::TcpStream, spin: Spin) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_COUNT)?;
        sockopt::set_tcp_user_timeout(&stream, PEER_SILENCE_MAX.as_millis() as u32)?;
        Ok(SocketsTcp { stream: stream.into_std()?, spin })
    }
}

impl Stream for SocketsTcp {
    type Reader = SocketsTcpReader;
    type Writer = SocketsTcpWriter;
    type Bell = NoBell;

    fn split(self) -> (SocketsTcpReader, SocketsTcpWriter) {
        let socket = Rc::new(Socket {
            stream: Rc::new(self.stream),
            registration: RefCell::default(),
            writer_waits: Cell::new(false),
        });
        let reader = SocketsTcpReader { socket: socket.clone(), score: self.spin.stream(), turn_bytes: 0 };
        (reader, SocketsTcpWriter { socket, turn_bytes: 0 })
    }
}

/// What both halves share: the socket, known to the reactor only while waiting for it pays.
///
/// A socket in an epoll set costs its peer a callback for every segment that arrives, and us a look at events that
/// nobody waits for: a tenth of a small round trip. So a stream whose busy-waits are rewarded is taken out, and put in
/// again when a half has to wait.
struct Socket {
    stream: Rc<TcpStream>,
    registration: RefCell<Option<AsyncFd<Rc<TcpStream>>>>,
    /// The writing half's task is registered for room: the registration must stay.
    writer_waits: Cell<bool>,
}

impl Socket {
    /// Calls `attempt` when the socket is ready for `interest`, until it yields something.
    fn poll_ready<T>(
        &self,
        context: &mut Context<'_>,
        interest: Interest,
        mut attempt: impl FnMut(&TcpStream) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        let mut registration = self.registration.borrow_mut();
        let registered = match &*registration {
            Some(registered) => registered,
            None => {
                // SAFETY: the descriptor is that of an open socket, stays the same and stays open for as long as the
                // registration: it owns a clone of the `Rc`, which nothing takes the stream out of.
                let registered = unsafe { AsyncFd::register(self.stream.clone()) };
                registration.insert(registered?)
            }
        };
        loop {
            let mut guard = if interest.is_readable() {
                ready!(registered.poll_read_ready(context))?
            } else {
                ready!(registered.poll_write_ready(context))?
            };
            // Readiness may be stale: a busy-waiting read drained the socket.
            match attempt(&self.stream) {
                Some(done) => return Poll::Ready(Ok(done)),
                None => guard.clear_ready(),
            }
        }
    }

    /// The reading half has no need of the reactor.
    fn leave_reactor(&self) {
        if !self.writer_waits.get() && self.registration.borrow().is_some() {
            drop(self.registration.take());
        }
    }
}

/// The reading half.
pub struct SocketsTcpReader {
    socket: Rc<Socket>,
    score: SpinScore,
    turn_bytes: usize,
}

impl ByteReader for SocketsTcpReader {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if turn_is_over(&mut self.turn_bytes, context) {
            return Poll::Pending;
        }
        let Self { socket, score, .. } = self;
        let result = match score.burst(|| receive(&socket.stream, buffer)) {
            Burst::Found(result) => {
                if score.is_lucky() {
                    socket.leave_reactor();
                }
                Poll::Ready(result)
            }
            Burst::Again => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Burst::Park => socket
                .poll_ready(context, Interest::READABLE, |stream| receive(stream, buffer))
                .map(|result| result.flatten()),
        };
        self.turn_bytes = match &result {
            Poll::Ready(Ok(count)) => self.turn_bytes + count,
            _ => 0,
        };
        result
    }
}

/// The writing half.
pub struct SocketsTcpWriter {
    socket: Rc<Socket>,
    turn_bytes: usize,
}

impl ByteWriter for SocketsTcpWriter {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        send(&self.socket.stream, slices).unwrap_or(Err(io::ErrorKind::WouldBlock.into()))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if turn_is_over(&mut self.turn_bytes, context) {
            return Poll::Pending;
        }
        let result = match send(&self.socket.stream, slices) {
            Some(result) => Poll::Ready(result),
            None => self
                .socket
                .poll_ready(context, Interest::WRITABLE, |stream| send(stream, slices))
                .map(|result| result.flatten()),
        };
        self.socket.writer_waits.set(result.is_pending());
        self.turn_bytes = match &result {
            Poll::Ready(Ok(count)) => self.turn_bytes + count,
            _ => 0,
        };
        result
    }

    fn shutdown(&mut self) {
        // An error says that the peer has done so already.
        let _ = rustix::net::shutdown(&*self.socket.stream, Shutdown::Both);
    }
}

/// What the socket has now; `None`: nothing yet.
fn receive(stream: &TcpStream, buffer: &mut [u8]) -> Option<io::Result<usize>> {
    match rustix::net::recv(stream, buffer, RecvFlags::DONTWAIT) {
        Ok((_, count)) => Some(Ok(count)),
        Err(Errno::AGAIN | Errno::INTR) => None,
        Err(error) => Some(Err(error.into())),
    }
}

/// Gives the socket what it takes now; `None`: nothing. An interrupted call has sent nothing.
fn send(stream: &TcpStream, slices: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = match slices {
        [slice] => rustix::net::send(stream, slice, flags),
        slices => {
            let slices = &slices[..slices.len().min(SLICES_MAX)];
            rustix::net::sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), flags)
        }
    };
    match sent {
        Ok(count) => Some(Ok(count)),
        Err(Errno::AGAIN | Errno::INTR) => None,
        Err(error) => Some(Err(error.into())),
    }
}

/// Whether a half that could always go on has had its turn; then the task is called again behind all others.
pub(super) fn turn_is_over(turn_bytes: &mut usize, context: &mut Context<'_>) -> bool {
    if *turn_bytes < BYTES_PER_TURN {
        return false;
    }
    *turn_bytes = 0;
    context.waker().wake_by_ref();
    true
}
