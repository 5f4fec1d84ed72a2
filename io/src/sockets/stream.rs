//! TCP: plain non-blocking system calls first, the runtime's reactor only to wait.

use super::spin::{Burst, Spin, SpinScore};
use crate::platform::{ByteReader, ByteWriter, Listener, Stream};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, sockopt};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Slices of one system call; the kernel takes at most 1,024.
const SLICES_MAX: usize = 1024;
/// A peer whose machine is gone is noticed after this long, even in the middle of a transfer.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Bytes that a task moves before it lets others run, timers among them, though it could go on.
const BYTES_PER_TURN: usize = 256 << 10;

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

impl Listener for SocketsListener {
    type Stream = SocketsStream;

    async fn accept(&mut self) -> io::Result<(SocketsStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((SocketsStream::new(stream, self.spin.clone())?, peer))
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }
}

/// A connection.
pub struct SocketsStream {
    stream: TcpStream,
    spin: Spin,
}

impl SocketsStream {
    pub(super) fn new(stream: TcpStream, spin: Spin) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_user_timeout(&stream, PEER_SILENCE_MAX.as_millis() as u32)?;
        Ok(SocketsStream { stream, spin })
    }
}

impl Stream for SocketsStream {
    type Reader = SocketsReader;
    type Writer = SocketsWriter;

    fn split(self) -> (SocketsReader, SocketsWriter) {
        // Not tokio's owned halves: dropping their writer would end the stream for a reader that still reads.
        let stream = Rc::new(self.stream);
        let reader = SocketsReader { stream: stream.clone(), score: self.spin.stream(), turn_bytes: 0 };
        (reader, SocketsWriter { stream, turn_bytes: 0 })
    }
}

/// The reading half.
pub struct SocketsReader {
    stream: Rc<TcpStream>,
    score: SpinScore,
    turn_bytes: usize,
}

impl SocketsReader {
    fn registered_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { stream, .. } = self;
        loop {
            // Readiness may be stale: a busy-waiting read drained the socket. Then `try_io` clears it.
            ready!(stream.poll_read_ready(context))?;
            let attempt = || receive(stream, buffer).unwrap_or(Err(io::ErrorKind::WouldBlock.into()));
            match stream.try_io(Interest::READABLE, attempt) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl ByteReader for SocketsReader {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if turn_is_over(&mut self.turn_bytes, context) {
            return Poll::Pending;
        }
        let Self { stream, score, .. } = self;
        let result = match score.burst(|| receive(stream, buffer)) {
            Burst::Found(result) => Poll::Ready(result),
            Burst::Again => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Burst::Park => self.registered_read(context, buffer),
        };
        self.turn_bytes = match &result {
            Poll::Ready(Ok(count)) => self.turn_bytes + count,
            _ => 0,
        };
        result
    }
}

/// The writing half.
pub struct SocketsWriter {
    stream: Rc<TcpStream>,
    turn_bytes: usize,
}

impl ByteWriter for SocketsWriter {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        send(&self.stream, slices)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if turn_is_over(&mut self.turn_bytes, context) {
            return Poll::Pending;
        }
        loop {
            match send(&self.stream, slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.turn_bytes += result.as_ref().map_or(0, |count| *count);
                    return Poll::Ready(result);
                }
            }
            self.turn_bytes = 0;
            ready!(self.stream.poll_write_ready(context))?;
            match self.stream.try_io(Interest::WRITABLE, || send(&self.stream, slices)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn shutdown(&mut self) {
        // An error says that the peer has done so already.
        let _ = rustix::net::shutdown(&*self.stream, Shutdown::Both);
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

/// Gives the socket what it takes now. An interrupted call has sent nothing, and is tried again like a full socket.
fn send(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = match slices {
        [slice] => rustix::net::send(stream, slice, flags),
        slices => {
            let slices = &slices[..slices.len().min(SLICES_MAX)];
            rustix::net::sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), flags)
        }
    };
    sent.map_err(|errno| if errno == Errno::INTR { Errno::AGAIN.into() } else { errno.into() })
}

/// Whether a half that could always go on has had its turn; then the task is called again behind all others.
fn turn_is_over(turn_bytes: &mut usize, context: &mut Context<'_>) -> bool {
    if *turn_bytes < BYTES_PER_TURN {
        return false;
    }
    *turn_bytes = 0;
    context.waker().wake_by_ref();
    true
}
