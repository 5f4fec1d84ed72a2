//! TCP on a core: plain non-blocking system calls first, the ring only to wait.

use super::Shared;
use super::local::{UringLocal, UringLocalReader, UringLocalWriter};
use super::spin::SpinScore;
use super::turn::Turn;
use crate::either::Either;
use crate::platform::{Accept, ByteReader, ByteWriter, Listener, NoBell, Peer, Stream};
use futures_util::io::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, sockopt};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Slices of one system call; the kernel takes at most 1,024.
const SLICES_MAX: usize = 1024;
/// A peer that does not take what we send is given up after this long.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(30);
/// A peer that sends nothing is asked after so long whether it lives, again after so long, and given up after so many
/// questions: a machine that is gone is noticed within half a minute also while we only receive.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_COUNT: u32 = 3;

/// A listening socket of a core.
pub struct UringListener {
    listener: TcpListener,
    address: SocketAddr,
    shared: Rc<Shared>,
}

impl UringListener {
    pub(super) fn bind(address: SocketAddr, shared: Rc<Shared>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        // SAFETY: the descriptor is an open listening socket and is ours alone: `into_raw_fd` has just given it up.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        Ok(UringListener { listener, address, shared })
    }
}

impl Accept for UringListener {
    type Stream = UringStream;

    async fn accept(&mut self) -> io::Result<(UringStream, Peer)> {
        let stream = self.listener.accept().await.map_err(io::Error::from)?;
        let peer = stream.peer_addr().map_err(io::Error::from)?;
        Ok((Either::Tcp(UringTcp::new(stream, self.shared.clone())?), Peer::At(peer)))
    }
}

impl Listener for UringListener {
    fn local_address(&self) -> SocketAddr {
        self.address
    }
}

/// A connection of a core.
pub type UringStream = Either<UringTcp, UringLocal>;
/// Its reading half.
pub type UringReader = Either<UringTcpReader, UringLocalReader>;
/// Its writing half.
pub type UringWriter = Either<UringTcpWriter, UringLocalWriter>;

/// A connection of a core by TCP: two descriptors of one socket, one for each half.
pub struct UringTcp {
    stream: TcpStream,
    second: TcpStream,
    shared: Rc<Shared>,
}

impl UringTcp {
    pub(super) fn new(stream: TcpStream, shared: Rc<Shared>) -> io::Result<Self> {
        stream.set_nodelay(true).map_err(io::Error::from)?;
        let socket = borrow(&stream);
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
        sockopt::set_tcp_user_timeout(socket, PEER_SILENCE_MAX.as_millis() as u32)?;
        let second: OwnedFd = socket.try_clone_to_owned()?;
        // SAFETY: the descriptor is an open socket and is ours alone: `into_raw_fd` has just given it up.
        let second = unsafe { TcpStream::from_raw_fd(second.into_raw_fd()) };
        Ok(UringTcp { stream, second, shared })
    }
}

impl Stream for UringTcp {
    type Reader = UringTcpReader;
    type Writer = UringTcpWriter;
    type Bell = NoBell;

    fn split(self) -> (UringTcpReader, UringTcpWriter) {
        let score = self.shared.spin.stream();
        let reader = UringTcpReader { stream: self.stream, score, turn: self.shared.turns.turn() };
        (reader, UringTcpWriter { stream: self.second, turn: self.shared.turns.turn() })
    }
}

/// The reading half: one descriptor of the socket.
pub struct UringTcpReader {
    stream: TcpStream,
    score: SpinScore,
    turn: Turn,
}

impl ByteReader for UringTcpReader {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.turn.poll_mine(context));
        let socket = borrow(&self.stream);
        let received =
            self.score.attempt(|| match rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, count)) => Some(Ok(count)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
                Err(error) => Some(Err(error.into())),
            });
        match received {
            Some(result) => Poll::Ready(result),
            None => {
                let waiting = Pin::new(&mut self.stream).poll_read(context, buffer);
                self.turn.pass(waiting)
            }
        }
    }
}

/// The writing half: another descriptor of the same socket.
pub struct UringTcpWriter {
    stream: TcpStream,
    turn: Turn,
}

impl ByteWriter for UringTcpWriter {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = borrow(&self.stream);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = match &slices[..slices.len().min(SLICES_MAX)] {
            // Most replies are one slice, and this call is the cheaper one.
            [slice] => rustix::net::send(socket, slice, flags),
            slices => rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags),
        };
        Ok(sent?)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.turn.poll_mine(context));
        match self.try_write(slices) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
        // The ring waits for room and sends the first slice; the next call sends from many again.
        match slices.iter().find(|slice| !slice.is_empty()) {
            Some(slice) => {
                let waiting = Pin::new(&mut self.stream).poll_write(context, slice);
                self.turn.pass(waiting)
            }
            None => Poll::Ready(Ok(0)),
        }
    }

    fn shutdown(&mut self) {
        // An error says that the peer has done so already.
        let _ = rustix::net::shutdown(borrow(&self.stream), Shutdown::Both);
    }
}

fn borrow<S: AsRawFd>(socket: &S) -> BorrowedFd<'_> {
    let raw = socket.as_raw_fd();
    // SAFETY: `socket` owns the open descriptor and is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(raw) }
}
