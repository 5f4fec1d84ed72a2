//! The seam between what Snowskin decides and the world it lives in.
//!
//! All code above is generic over one parameter, [`Platform`]. It asks for as little as possible, so that the
//! simulated implementation can be complete: what is not here (files, threads, wall-clock time) cannot influence
//! engine, master or client logic. Disks are in [`crate::disk`].
//!
//! Reading and writing are poll functions over borrowed slices, not futures that own buffers: a slice is lent for
//! the length of one call, so a caller can take its buffer back between two calls (see [`crate::memory::Loan`]).

use crate::disk::{Disk, DiskPlace};
use crate::lane::{Heard, LaneRegion, SegmentNews};
use rustix::rand::{GetRandomFlags, getrandom};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::{Add, Sub};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A point on a platform's monotonic clock, in nanoseconds since an origin that only that platform knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// A moment that never comes.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// How long ago `earlier` was; zero if it is in the future.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}

/// Clock, entropy, tasks, network and disks of one thread.
///
/// Tasks are local: a future need not be `Send`, and runs on the thread (or the one-thread-at-a-time capsule) that
/// the platform belongs to. Dropping the platform's executor drops its tasks.
pub trait Platform: Clone + 'static {
    /// A connected byte stream.
    type Stream: Stream;
    /// A socket that accepts streams from anywhere.
    type Listener: Listener<Stream = Self::Stream>;
    /// A socket that accepts streams from this machine.
    type LocalListener: Accept<Stream = Self::Stream>;
    /// How tasks look into memory.
    type Patience: Patience;
    /// A disk.
    type Disk: Disk;

    /// Now, on the monotonic clock.
    fn now(&self) -> Moment;

    /// Milliseconds of a clock that all processes of this host share.
    fn host_ms(&self) -> u64 {
        crate::lane::host_ms()
    }

    /// 64 random bits. Not for secrets.
    fn entropy(&self) -> u64;

    /// 128 bits of the system's random numbers, which nobody can guess. In the simulator the seed says what they are.
    fn secret(&self) -> io::Result<[u8; 16]> {
        let mut secret = [0; 16];
        match getrandom(&mut secret, GetRandomFlags::empty())? {
            16 => Ok(secret),
            count => Err(io::Error::other(format!("the system gave {count} random bytes of 16"))),
        }
    }

    /// Ends after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;

    /// Runs a task beside the caller, to its end or the platform's.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Opens a listening socket. Port 0 asks for a free one.
    fn listen(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + 'static;

    /// Connects to a listening socket. Has no deadline of its own: see [`with_deadline`].
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + 'static;

    /// Listens at a path, for processes of this machine that share memory with us. The folder is made if need be;
    /// the socket is the caller's to remove when it is no longer used.
    fn listen_local(&self, path: &Path, users: LocalUsers) -> io::Result<Self::LocalListener>;

    /// The processor that this thread is bound to, if it is.
    fn cpu(&self) -> Option<u32> {
        None
    }

    /// For one task that looks into memory again and again.
    fn patience(&self) -> Self::Patience;

    /// Connects to a process of this machine by shared memory.
    fn connect_local(&self, path: &Path) -> impl Future<Output = io::Result<Self::Stream>> + 'static;

    /// Opens a disk for this owner alone; makes a file that is not there, if its size is given. May take long: for when
    /// an engine starts. [`Disk::is_direct`] says whether the kernel's page cache is in between.
    ///
    /// Fails with `ResourceBusy` while somebody else has it, `InvalidInput` if it has another size or is none of sectors,
    /// `Unsupported` on a platform without disks.
    fn open_disk(&self, place: &DiskPlace) -> io::Result<Self::Disk>;
}

/// Whose processes may connect by shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalUsers {
    /// Ours, and root's: they could read and write our memory anyway.
    #[default]
    Owner,
    /// Everybody's who finds the socket. Others than our own get no lane, so they see no memory but their own connection's:
    /// values are copied through it.
    Any,
}

impl fmt::Display for LocalUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LocalUsers::Owner => "owner",
            LocalUsers::Any => "any",
        })
    }
}

impl FromStr for LocalUsers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "owner" => Ok(LocalUsers::Owner),
            "any" => Ok(LocalUsers::Any),
            _ => Err(format!("\"{text}\" is not usable here: write owner or any")),
        }
    }
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Somebody at an address.
    At(SocketAddr),
    /// A process of this machine; 0: one that we cannot see, in another container.
    Process(u32),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::At(address) => write!(f, "{address}"),
            Peer::Process(pid) => write!(f, "process {pid}"),
        }
    }
}

/// Accepts connections.
pub trait Accept: 'static {
    /// What it accepts.
    type Stream: Stream;

    /// The next connection, and who opened it.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>>;
}

/// Accepts connections at an address.
pub trait Listener: Accept {
    /// The address it listens on, with the real port.
    fn local_address(&self) -> SocketAddr;
}

/// A connected, reliable, ordered stream of bytes in both directions. No delay is added to small writes.
pub trait Stream: 'static {
    /// The half that reads.
    type Reader: ByteReader;
    /// The half that writes.
    type Writer: ByteWriter;
    /// What wakes the other side of its lane.
    type Bell: Bell;

    /// Whether it goes through shared memory.
    fn is_local(&self) -> bool {
        false
    }

    /// The lane beside the stream, if it goes through shared memory; the first time.
    fn take_lane(&mut self) -> Option<Lane<Self::Bell>> {
        None
    }

    /// Separates the directions. The connection is closed when both halves are dropped.
    fn split(self) -> (Self::Reader, Self::Writer);
}

/// The direct way beside a stream, where two processes share memory. See [`crate::lane`].
#[derive(Debug)]
pub struct Lane<B> {
    /// What is shared.
    pub memory: LaneRegion,
    /// What wakes the other side.
    pub bell: B,
    /// As long as somebody has it, the other side takes us for alive; `None`: it is the bell alone that counts.
    pub life: Option<Arc<OwnedFd>>,
}

/// How the two ends of a lane wake each other, and hear what cannot be said in memory. It ends with either process.
pub trait Bell: 'static {
    /// Wakes the other side. Never waits.
    fn ring(&self);

    /// Tells the other side about a segment. Does not wait: [`io::ErrorKind::WouldBlock`] if there is no room.
    fn show(&self, news: &SegmentNews, memory: Option<BorrowedFd<'_>>) -> io::Result<()>;

    /// Ends the lane for both sides.
    fn close(&self);

    /// The next that was said, if anything was.
    fn hear(&mut self) -> Heard;

    /// The next that is said, as soon as there is something.
    fn poll_hear(&mut self, context: &mut Context<'_>) -> Poll<Heard>;
}

/// A stream that has no lane has no bell.
#[derive(Debug)]
pub enum NoBell {}

impl Bell for NoBell {
    fn ring(&self) {
        match *self {}
    }

    fn show(&self, _news: &SegmentNews, _memory: Option<BorrowedFd<'_>>) -> io::Result<()> {
        match *self {}
    }

    fn close(&self) {
        match *self {}
    }

    fn hear(&mut self) -> Heard {
        match *self {}
    }

    fn poll_hear(&mut self, _context: &mut Context<'_>) -> Poll<Heard> {
        match *self {}
    }
}

/// How a task that looks into memory shares its thread with others.
pub trait Patience: 'static {
    /// Calls `attempt` until it yields something or (`None`) more attempts are not worth while; at least once. Pending: others
    /// are let in between, and the task goes on soon.
    fn poll_attempt<T>(
        &mut self,
        context: &mut Context<'_>,
        attempt: impl FnMut() -> Option<T>,
    ) -> Poll<Option<T>>;

    /// Ready while the task's turn lasts; else pending until others have had theirs.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// The task waits for something: others have their turn.
    fn rest(&mut self);

    /// How long a task may go on looking now and then, with others in between, for what it expects soon; zero: not at all.
    fn linger_max(&self) -> Duration {
        Duration::ZERO
    }

    /// Ends the task's turn: the next [`Patience::poll_turn`] lets others in.
    fn end_turn(&mut self) {}

    /// What the task looks for is likely to come soon: the next attempts are worth while, whatever luck it had.
    fn expect(&mut self) {}
}

/// Others are always let in, and there is one attempt: for tasks that wait for somebody else at every step.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPatience;

impl Patience for NoPatience {
    fn poll_attempt<T>(
        &mut self,
        _context: &mut Context<'_>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Poll<Option<T>> {
        Poll::Ready(attempt())
    }

    fn poll_turn(&mut self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn rest(&mut self) {}
}

/// The reading half of a stream.
pub trait ByteReader: 'static {
    /// Reads what is there into the beginning of `buffer`, or registers the task for when something is.
    /// 0 bytes: the peer has closed its writing half (or `buffer` is empty).
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// [`ByteReader::poll_read`] as a future.
    fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        std::future::poll_fn(move |context| self.poll_read(context, buffer))
    }
}

/// The writing half of a stream.
pub trait ByteWriter: 'static {
    /// Writes what fits now, possibly nothing ([`io::ErrorKind::WouldBlock`]), without waiting or registering.
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes what fits, at least a byte, or registers the task for when something fits.
    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Closes the stream in both directions: the peer reads the end, and so does our own reading half.
    fn shutdown(&mut self);

    /// [`ByteWriter::poll_write`] as a future.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> impl Future<Output = io::Result<usize>> {
        std::future::poll_fn(move |context| self.poll_write(context, slices))
    }
}

/// The output of `future`, or `None` if `deadline` comes first; then the future is dropped.
pub async fn with_deadline<P: Platform, T>(
    platform: &P,
    deadline: Moment,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    let mut expired = pin!(platform.sleep(deadline - platform.now()));
    std::future::poll_fn(move |context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        expired.as_mut().poll(context).map(|()| None)
    })
    .await
}
