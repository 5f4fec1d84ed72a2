//! A connection: a pipe in each direction, the bells, and a lane. How a platform waits at a bell is its own business.

use super::lane::LaneRegion;
use super::pipe::{Broken, PipeReader, PipeWriter};
use super::region::{PipeMemory, map};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Which side of a connection a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Engine,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    reader: LinkReader,
    writer: LinkWriter,
    lane: Option<(LaneRegion, OwnedFd)>,
}

/// The sockets of a connection, as the two sides pass them.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Rung when there are bytes in a pipe.
    pub(super) bytes: OwnedFd,
    /// Rung when there is room in one.
    pub(super) room: OwnedFd,
    /// Of the lane, a socket of packets; `None`: there is no lane.
    pub(super) lane: Option<OwnedFd>,
}

/// A half of a connection: its end of a pipe, and what it knows of the other process.
#[derive(Debug)]
pub(crate) struct Half<E> {
    end: E,
    bells: Rc<Bells>,
    /// The other process has ended, or has closed its half.
    is_over: bool,
}

/// The reading half.
pub(crate) type LinkReader = Half<PipeReader<PipeMemory>>;
/// The writing half.
pub(crate) type LinkWriter = Half<PipeWriter<PipeMemory>>;

/// What the ends of a pipe have in common.
pub(crate) trait End {
    /// Says that it will sleep, and whether it may.
    fn doze(&mut self) -> Result<bool, Broken>;

    /// Which of the bells rings for it.
    fn bell(bells: &Bells) -> &OwnedFd;
}

impl End for PipeReader<PipeMemory> {
    fn doze(&mut self) -> Result<bool, Broken> {
        PipeReader::doze(self)
    }

    fn bell(bells: &Bells) -> &OwnedFd {
        &bells.bytes
    }
}

impl End for PipeWriter<PipeMemory> {
    fn doze(&mut self) -> Result<bool, Broken> {
        PipeWriter::doze(self)
    }

    fn bell(bells: &Bells) -> &OwnedFd {
        &bells.room
    }
}

/// The sockets of a connection.
#[derive(Debug)]
pub(crate) struct Bells {
    /// Rung when there are bytes.
    bytes: OwnedFd,
    /// Rung when there is room.
    room: OwnedFd,
}

impl Link {
    /// Of a memory of [`LINK_BYTES`](super::region::LINK_BYTES) that nobody can make smaller, and connected sockets.
    pub(super) fn map(side: Side, memory: &File, sockets: Sockets) -> io::Result<Self> {
        let Sockets { bytes, room, lane } = sockets;
        let (to_engine, to_client, memory) = map(memory)?;
        let (from, to) = match side {
            Side::Client => (to_client, to_engine),
            Side::Engine => (to_engine, to_client),
        };
        let bells = Rc::new(Bells { bytes, room });
        let reader = Half { end: PipeReader::new(from), bells: bells.clone(), is_over: false };
        let writer = Half { end: PipeWriter::new(to), bells, is_over: false };
        Ok(Link { reader, writer, lane: lane.map(|lane| (memory, lane)) })
    }

    /// The lane beside the pipes, and its socket; the first time.
    pub(crate) fn take_lane(&mut self) -> Option<(LaneRegion, OwnedFd)> {
        self.lane.take()
    }

    /// Separates the directions.
    pub(crate) fn split(self) -> (LinkReader, LinkWriter) {
        (self.reader, self.writer)
    }
}

impl<E: End> Half<E> {
    /// Whether to wait at the bell: not if there is something to do after all. To be asked before each wait.
    pub(crate) fn may_sleep(&mut self) -> io::Result<bool> {
        Ok(!self.is_over && self.end.doze().map_err(error_of)?)
    }

    /// The socket that rings when there is something to do, and ends with the other process.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        E::bell(&self.bells).as_fd()
    }

    /// The bell has hung up.
    pub(crate) fn end(&mut self) {
        self.is_over = true;
    }
}

impl LinkReader {
    /// What is there now; `None`: nothing yet. 0 bytes: there will be no more.
    pub(crate) fn try_read(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        match self.end.read(buffer) {
            // What was written before the end is read before it.
            Ok(0) => (self.is_over || buffer.is_empty()).then_some(Ok(0)),
            Ok(count) => {
                if self.end.wakes_writer() {
                    ring(&self.bells.room);
                }
                Some(Ok(count))
            }
            Err(broken) => Some(Err(error_of(broken))),
        }
    }
}

impl LinkWriter {
    /// Writes what there is room for now; `None`: nothing.
    pub(crate) fn try_write(&mut self, slices: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
        if self.is_over {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match self.end.write(slices) {
            Ok(0) if slices.iter().any(|slice| !slice.is_empty()) => None,
            Ok(count) => {
                if self.end.wakes_reader() {
                    ring(&self.bells.bytes);
                }
                Some(Ok(count))
            }
            Err(broken) => Some(Err(error_of(broken))),
        }
    }

    /// Ends the connection for both processes.
    pub(crate) fn shutdown(&mut self) {
        self.is_over = true;
        for bell in [&self.bells.bytes, &self.bells.room] {
            // An error says that the other one has done so already.
            let _ = rustix::net::shutdown(bell, Shutdown::Both);
        }
    }
}

/// Takes in what has rung; 0: the other one has hung up. `None`: it has not rung.
pub(crate) fn listen(bell: BorrowedFd<'_>) -> Option<io::Result<usize>> {
    match rustix::net::recv(bell, &mut [0_u8; 64], RecvFlags::DONTWAIT) {
        Ok((_, count)) => Some(Ok(count)),
        Err(Errno::AGAIN | Errno::INTR) => None,
        Err(error) => Some(Err(error.into())),
    }
}

/// Never waits: where there is no room for another ring, many have not been heard yet.
fn ring(bell: &OwnedFd) {
    // Other errors are those of a peer that is gone; whoever waits for it hears that.
    let _ = rustix::net::send(bell, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

fn error_of(broken: Broken) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, broken)
}
