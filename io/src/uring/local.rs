//! Shared memory on a core: a look into memory first, the ring only to wait at a bell.

use super::Shared;
use super::spin::SpinScore;
use super::stream::UringStream;
use super::turn::Turn;
use crate::either::Either;
use crate::lane::{Heard, SegmentNews};
use crate::platform::{Accept, ByteReader, ByteWriter, Lane, LocalUsers, Peer, Stream};
use crate::shm::{self, End, Half, Link, LinkReader, LinkWriter, news};
use futures_util::io::AsyncRead;
use glommio::net::{TcpListener, TcpStream};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Rings that are taken in together.
const RINGS: usize = 64;

/// A listening Unix socket of a core. glommio knows it as one of TCP: to accept and to receive is the same for both.
pub struct UringLocalListener {
    listener: TcpListener,
    users: LocalUsers,
    shared: Rc<Shared>,
}

impl UringLocalListener {
    pub(super) fn bind(path: &Path, users: LocalUsers, shared: Rc<Shared>) -> io::Result<Self> {
        let listener = shm::bind(path, users)?;
        // SAFETY: the descriptor is an open listening socket and is ours alone: `into_raw_fd` has just given it up.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        Ok(UringLocalListener { listener, users, shared })
    }
}

impl Accept for UringLocalListener {
    type Stream = UringStream;

    async fn accept(&mut self) -> io::Result<(UringStream, Peer)> {
        loop {
            let socket = self.listener.accept().await.map_err(io::Error::from)?;
            // SAFETY: `socket` owns the open descriptor and is borrowed for as long as the result.
            let socket = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }.try_clone_to_owned()?;
            match shm::meet_client(socket, self.users) {
                Ok((link, pid)) => {
                    let stream = UringLocal { link, shared: self.shared.clone() };
                    return Ok((Either::Local(stream), Peer::Process(pid)));
                }
                // One who is not let in keeps nobody else waiting.
                Err(error) => log::info!("no shared memory for somebody who asked: {error}"),
            }
        }
    }
}

/// A connection of a core by shared memory.
pub struct UringLocal {
    link: Link,
    shared: Rc<Shared>,
}

impl Stream for UringLocal {
    type Reader = UringLocalReader;
    type Writer = UringLocalWriter;
    type Bell = UringBell;

    fn take_lane(&mut self) -> Option<Lane<UringBell>> {
        let (memory, socket) = self.link.take_lane()?;
        let bell = UringBell { socket, bell: Bell::default(), turn: self.shared.turns.turn() };
        Some(Lane { memory, bell, life: None })
    }

    fn split(self) -> (UringLocalReader, UringLocalWriter) {
        let UringLocal { link, shared } = self;
        let (reader, writer) = link.split();
        let reader = UringLocalReader {
            bell: Bell::default(),
            link: reader,
            score: shared.spin.stream(),
            turn: shared.turns.turn(),
        };
        (reader, UringLocalWriter { bell: Bell::default(), link: writer, turn: shared.turns.turn() })
    }
}

/// Where a half waits; its own descriptor, made when it has to wait for the first time.
#[derive(Default)]
struct Bell(Option<TcpStream>);

impl Bell {
    /// Whether it has rung, or (`false`) hung up.
    fn poll(&mut self, context: &mut Context<'_>, bell: BorrowedFd<'_>) -> Poll<io::Result<bool>> {
        let socket = match &mut self.0 {
            Some(socket) => socket,
            None => {
                let bell = bell.try_clone_to_owned()?;
                // SAFETY: the descriptor is an open socket and is ours alone: `into_raw_fd` has just given it up.
                self.0.insert(unsafe { TcpStream::from_raw_fd(bell.into_raw_fd()) })
            }
        };
        let rung = ready!(Pin::new(socket).poll_read(context, &mut [0; RINGS]));
        Poll::Ready(Ok(rung.is_ok_and(|count| count > 0)))
    }
}

/// The bell of a core's end of a lane.
pub struct UringBell {
    socket: OwnedFd,
    bell: Bell,
    turn: Turn,
}

impl crate::platform::Bell for UringBell {
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

    /// Clients have no news: whatever they send is a ring.
    fn poll_hear(&mut self, context: &mut Context<'_>) -> Poll<Heard> {
        ready!(self.turn.poll_mine(context));
        let rung = self.bell.poll(context, self.socket.as_fd());
        let is_ring = ready!(self.turn.pass(rung)).unwrap_or(false);
        Poll::Ready(if is_ring { Heard::Ring } else { Heard::End })
    }
}

/// Does something with a half as soon as there is something to do.
fn poll_half<E: End, T>(
    (half, bell, turn): (&mut Half<E>, &mut Bell, &mut Turn),
    context: &mut Context<'_>,
    mut attempt: impl FnMut(&mut Half<E>) -> Option<io::Result<T>>,
) -> Poll<io::Result<T>> {
    loop {
        // Whoever rings all the time has its turn, too.
        ready!(turn.poll_mine(context));
        if let Some(done) = attempt(half) {
            return Poll::Ready(done);
        }
        if half.may_sleep()? {
            let rung = bell.poll(context, half.bell());
            if !ready!(turn.pass(rung))? {
                half.end();
            }
        }
    }
}

/// The reading half.
pub struct UringLocalReader {
    link: LinkReader,
    bell: Bell,
    score: SpinScore,
    turn: Turn,
}

impl ByteReader for UringLocalReader {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { link, bell, score, turn } = self;
        poll_half((link, bell, turn), context, |link| score.attempt(|| link.try_read(buffer)))
    }
}

/// The writing half.
pub struct UringLocalWriter {
    link: LinkWriter,
    bell: Bell,
    turn: Turn,
}

impl ByteWriter for UringLocalWriter {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.link.try_write(slices).unwrap_or(Err(io::ErrorKind::WouldBlock.into()))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Self { link, bell, turn } = self;
        poll_half((link, bell, turn), context, |link| link.try_write(slices))
    }

    fn shutdown(&mut self) {
        self.link.shutdown();
    }
}
