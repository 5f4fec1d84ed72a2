//! Shared memory: a look into memory first, the runtime's reactor only to wait at a bell.

use super::spin::{Burst, Spin, SpinScore};
use super::stream::{SocketsStream, turn_is_over};
use crate::either::Either;
use crate::lane::{Heard, SegmentNews};
use crate::platform::{Accept, ByteReader, ByteWriter, Lane, LocalUsers, Peer, Stream};
use crate::shm::{self, End, Half, Link, LinkReader, LinkWriter, news};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};

/// A listening Unix socket.
pub struct SocketsLocalListener {
    listener: UnixListener,
    users: LocalUsers,
    spin: Spin,
}

impl SocketsLocalListener {
    pub(super) fn bind(path: &Path, users: LocalUsers, spin: Spin) -> io::Result<Self> {
        let listener = shm::bind(path, users)?;
        listener.set_nonblocking(true)?;
        Ok(SocketsLocalListener { listener: UnixListener::from_std(listener)?, users, spin })
    }
}

impl Accept for SocketsLocalListener {
    type Stream = SocketsStream;

    async fn accept(&mut self) -> io::Result<(SocketsStream, Peer)> {
        loop {
            let (socket, _) = self.listener.accept().await?;
            match shm::meet_client(socket.into_std()?.into(), self.users) {
                Ok((link, pid)) => {
                    let stream = SocketsLocal { link, spin: self.spin.clone() };
                    return Ok((Either::Local(stream), Peer::Process(pid)));
                }
                // One who is not let in keeps nobody else waiting.
                Err(error) => log::info!("no shared memory for somebody who asked: {error}"),
            }
        }
    }
}

/// A connection by shared memory.
pub struct SocketsLocal {
    link: Link,
    spin: Spin,
}

impl SocketsLocal {
    pub(super) async fn connect(path: &Path, spin: Spin) -> io::Result<Self> {
        shm::check_before_connecting(path)?;
        let socket = UnixStream::connect(path).await?;
        shm::check_server(path, socket.as_fd())?;
        loop {
            socket.readable().await?;
            let met = socket.try_io(Interest::READABLE, || {
                shm::meet_engine(socket.as_fd()).unwrap_or(Err(io::ErrorKind::WouldBlock.into()))
            });
            match met {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                met => return Ok(SocketsLocal { link: met?, spin }),
            }
        }
    }
}

impl Stream for SocketsLocal {
    type Reader = SocketsLocalReader;
    type Writer = SocketsLocalWriter;
    type Bell = SocketsBell;

    fn take_lane(&mut self) -> Option<Lane<SocketsBell>> {
        let (memory, socket) = self.link.take_lane()?;
        // Without it views do not outlive the lane; then there is none.
        let life = Some(Arc::new(socket.try_clone().ok()?));
        Some(Lane { memory, bell: SocketsBell { registered: None, socket }, life })
    }

    fn split(self) -> (SocketsLocalReader, SocketsLocalWriter) {
        let (reader, writer) = self.link.split();
        let score = self.spin.stream();
        let reader = SocketsLocalReader { link: reader, bell: Bell::default(), score, turn_bytes: 0 };
        (reader, SocketsLocalWriter { link: writer, bell: Bell::default(), turn_bytes: 0 })
    }
}

/// The bell of a client's end of a lane.
#[derive(Debug)]
pub struct SocketsBell {
    /// First, so that it is dropped first.
    registered: Option<AsyncFd<OwnedFd>>,
    socket: OwnedFd,
}

impl SocketsBell {
    /// The socket, for a thread that waits at it by itself.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }
}

impl crate::platform::Bell for SocketsBell {
    fn ring(&self) {
        news::ring(self.socket.as_fd());
    }

    fn show(&self, news: &SegmentNews, memory: Option<BorrowedFd<'_>>) -> io::Result<()> {
        news::show(self.socket.as_fd(), news, memory)
    }

    fn close(&self) {
        news::close(self.socket.as_fd());
    }

    fn hear(&mut self) -> Heard {
        news::hear(self.socket.as_fd())
    }

    fn poll_hear(&mut self, context: &mut Context<'_>) -> Poll<Heard> {
        let registered = match &mut self.registered {
            Some(registered) => registered,
            None => {
                let Ok(socket) = self.socket.try_clone() else { return Poll::Ready(Heard::End) };
                // SAFETY: the descriptor is that of an open socket, stays the same and stays open for as long as the
                // registration: it owns it, and nothing takes it out.
                match unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) } {
                    Ok(registered) => self.registered.insert(registered),
                    Err(_) => return Poll::Ready(Heard::End),
                }
            }
        };
        loop {
            let Ok(mut guard) = ready!(registered.poll_read_ready(context)) else {
                return Poll::Ready(Heard::End);
            };
            match news::hear(self.socket.as_fd()) {
                Heard::Silence => guard.clear_ready(),
                heard => return Poll::Ready(heard),
            }
        }
    }
}

/// Where a half waits; known to the reactor only when it has waited.
#[derive(Default)]
struct Bell(Option<AsyncFd<OwnedFd>>);

impl Bell {
    /// Whether it has rung, or (`false`) hung up.
    fn poll(&mut self, context: &mut Context<'_>, bell: BorrowedFd<'_>) -> Poll<io::Result<bool>> {
        let registered = match &mut self.0 {
            Some(registered) => registered,
            None => {
                let bell = bell.try_clone_to_owned()?;
                // SAFETY: the descriptor is that of an open socket, stays the same and stays open for as long as the
                // registration: it owns it, and nothing takes it out.
                self.0.insert(unsafe { AsyncFd::register_with_interest(bell, Interest::READABLE) }?)
            }
        };
        loop {
            let mut guard = ready!(registered.poll_read_ready(context))?;
            match shm::listen(bell) {
                Some(rung) => return Poll::Ready(Ok(rung.is_ok_and(|count| count > 0))),
                None => guard.clear_ready(),
            }
        }
    }
}

/// Does something with a half as soon as there is something to do.
fn poll_half<E: End>(
    (half, bell, turn_bytes): (&mut Half<E>, &mut Bell, &mut usize),
    context: &mut Context<'_>,
    mut attempt: impl FnMut(&mut Half<E>) -> Burst<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    if turn_is_over(turn_bytes, context) {
        return Poll::Pending;
    }
    loop {
        match attempt(half) {
            Burst::Found(result) => {
                *turn_bytes += *result.as_ref().unwrap_or(&0);
                return Poll::Ready(result);
            }
            Burst::Again => {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Burst::Park => {}
        }
        if half.may_sleep()? {
            *turn_bytes = 0;
            if !ready!(bell.poll(context, half.bell()))? {
                half.end();
            }
        }
    }
}

/// The reading half.
pub struct SocketsLocalReader {
    link: LinkReader,
    bell: Bell,
    score: SpinScore,
    turn_bytes: usize,
}

impl ByteReader for SocketsLocalReader {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { link, bell, score, turn_bytes } = self;
        poll_half((link, bell, turn_bytes), context, |link| score.burst(|| link.try_read(buffer)))
    }
}

/// The writing half.
pub struct SocketsLocalWriter {
    link: LinkWriter,
    bell: Bell,
    turn_bytes: usize,
}

impl ByteWriter for SocketsLocalWriter {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.link.try_write(slices).unwrap_or(Err(io::ErrorKind::WouldBlock.into()))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Self { link, bell, turn_bytes } = self;
        let attempt = |link: &mut LinkWriter| link.try_write(slices).map_or(Burst::Park, Burst::Found);
        poll_half((link, bell, turn_bytes), context, attempt)
    }

    fn shutdown(&mut self) {
        self.link.shutdown();
    }
}
