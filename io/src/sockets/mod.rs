//! The platform of clients and of the master: ordinary sockets on a tokio runtime of one thread at a time.
//!
//! Clients run inside inference containers that forbid io_uring, on threads that they do not give away. So any
//! number of threads may call [`SocketsRuntime::block_on`] on one runtime: one of them drives all tasks and sockets,
//! the others wait, and take over when it leaves. A call of a single thread does all its socket work itself, without
//! a switch to another thread.
//!
//! ```text
//!   thread A ── block_on(answer a) ──┐ drives: tasks of a, tasks of b, readers, timers
//!   thread B ── block_on(answer b) ──┘ waits ·················· a is done ──► drives
//! ```
//!
//! Promises: never io_uring; a read busy-waits for a bounded time, and lets other tasks run meanwhile; nothing runs
//! while no thread is in `block_on`.
//!
//! The `unsafe` is in `capsule`: why tasks may hold what is not `Send`.

mod bell;
mod capsule;
mod local;
mod spin;
mod stream;

pub use bell::BlockingBell;
pub use capsule::Resident;
pub use local::{SocketsBell, SocketsLocal, SocketsLocalListener, SocketsLocalReader, SocketsLocalWriter};
pub use stream::{
    SocketsListener, SocketsReader, SocketsStream, SocketsTcp, SocketsTcpReader, SocketsTcpWriter,
    SocketsWriter,
};

use crate::SplitMix;
use crate::disk::{DiskPlace, NoDisk};
use crate::either::Either;
use crate::platform::{LocalUsers, Moment, Patience, Platform};
use capsule::Capsule;
use spin::{Burst, Spin, SpinScore};

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle, Runtime};

/// Polls of tasks between two looks at timers and sockets. A poll moves up to 256 KiB (some 80 µs), so that a timer
/// is late by a few milliseconds at most under load.
const POLLS_BETWEEN_EVENTS: u32 = 61;
/// Polls of tasks between two looks at what other threads ask for.
const POLLS_BETWEEN_REMOTE: u32 = 2;

fn is_single_cpu_machine() -> bool {
    std::fs::read_to_string("/sys/devices/system/cpu/online").is_ok_and(|list| !list.contains([',', '-']))
}

/// The root: owns the runtime and so all its tasks. May be shared between threads.
pub struct SocketsRuntime {
    /// Taken only by drop.
    runtime: Option<Runtime>,
    origin: Instant,
    spin_max: Duration,
}

impl SocketsRuntime {
    /// A runtime whose reads busy-wait for at most `spin_max` when an answer is likely soon; zero: never. On a
    /// machine with a single CPU they never do: the peer needs it. (An affinity to one CPU says nothing about where
    /// the peer is; if it shares that CPU, waiting brings no luck and soon ends.)
    pub fn new(spin_max: Duration) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .event_interval(POLLS_BETWEEN_EVENTS)
            .global_queue_interval(POLLS_BETWEEN_REMOTE)
            .build()?;
        let spin_max = if is_single_cpu_machine() { Duration::ZERO } else { spin_max };
        Ok(SocketsRuntime { runtime: Some(runtime), origin: Instant::now(), spin_max })
    }

    /// Drives the runtime on this thread until `root` is ready, or waits for the thread that drives it now.
    /// `root` is polled on this thread, in or beside the runtime: typically it receives what a task sends.
    ///
    /// Panics inside another tokio runtime, as every blocking call would have to.
    pub fn block_on<F: Future + Send>(&self, root: F) -> F::Output {
        self.runtime().block_on(root)
    }

    /// Starts a task. `make` runs inside the runtime, and so does the future that it makes; the future may hold what
    /// is not `Send`. Nothing runs before somebody calls [`SocketsRuntime::block_on`].
    pub fn enter_with<F, T>(&self, make: F)
    where
        F: FnOnce(SocketsPlatform) -> T + Send + 'static,
        T: Future<Output = ()> + 'static,
    {
        let (handle, origin, spin_max) = (self.runtime().handle().clone(), self.origin, self.spin_max);
        let task = async move { make(SocketsPlatform::new(handle, origin, spin_max)).await };
        self.runtime().spawn(Capsule::new(task));
    }

    /// Runs what `make` makes to its end on this thread: [`SocketsRuntime::enter_with`] and
    /// [`SocketsRuntime::block_on`] in one. `None` if the task panicked.
    pub fn run<F, T>(&self, make: F) -> Option<T::Output>
    where
        F: FnOnce(SocketsPlatform) -> T + Send + 'static,
        T: Future + 'static,
        T::Output: Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.enter_with(move |platform| async move {
            // The receiver is gone only when the caller's thread unwinds.
            let _ = sender.send(make(platform).await);
        });
        self.block_on(receiver).ok()
    }

    /// The platform, for what is built before the runtime is shared ([`Resident::new`]).
    fn platform(&self) -> SocketsPlatform {
        SocketsPlatform::new(self.runtime().handle().clone(), self.origin, self.spin_max)
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("taken only by drop")
    }
}

impl Drop for SocketsRuntime {
    /// Drops all tasks, on this thread. In the background as tokio calls it: there are no blocking threads to wait
    /// for, and a plain drop would panic when the last handle dies inside another runtime.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The platform inside a [`SocketsRuntime`]. Not `Send`: it cannot leave the tasks it was given to.
#[derive(Clone)]
pub struct SocketsPlatform {
    handle: Handle,
    shared: Rc<Shared>,
}

struct Shared {
    origin: Instant,
    entropy: SplitMix,
    spin: Spin,
}

impl SocketsPlatform {
    fn new(handle: Handle, origin: Instant, spin_max: Duration) -> Self {
        let entropy = SplitMix::new(RandomState::new().build_hasher().finish());
        SocketsPlatform { handle, shared: Rc::new(Shared { origin, entropy, spin: Spin::new(spin_max) }) }
    }

    /// An instant of the operating system's clock on the platform's; the origin, if it is earlier.
    pub fn moment_of(&self, instant: Instant) -> Moment {
        Moment(instant.saturating_duration_since(self.shared.origin).as_nanos() as u64)
    }
}

/// How a task of a client looks into memory: in bursts, as long as it has luck; others have their turn in between.
#[derive(Debug)]
pub struct SocketsPatience {
    score: SpinScore,
}

impl Patience for SocketsPatience {
    fn poll_attempt<T>(
        &mut self,
        context: &mut Context<'_>,
        attempt: impl FnMut() -> Option<T>,
    ) -> Poll<Option<T>> {
        match self.score.burst(attempt) {
            Burst::Found(found) => Poll::Ready(Some(found)),
            Burst::Park => Poll::Ready(None),
            Burst::Again => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_turn(&mut self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn rest(&mut self) {}
}

impl Platform for SocketsPlatform {
    type Stream = SocketsStream;
    type Listener = SocketsListener;
    type LocalListener = SocketsLocalListener;
    type Patience = SocketsPatience;
    type Disk = NoDisk;

    fn now(&self) -> Moment {
        self.moment_of(Instant::now())
    }

    fn entropy(&self) -> u64 {
        self.shared.entropy.draw()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        let ends = Instant::now().checked_add(duration);
        async move {
            match ends {
                Some(ends) => tokio::time::sleep_until(ends.into()).await,
                None => std::future::pending().await,
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.handle.spawn(Capsule::new(task));
    }

    fn listen(&self, address: SocketAddr) -> impl Future<Output = io::Result<SocketsListener>> + 'static {
        let spin = self.shared.spin.clone();
        async move { SocketsListener::bind(address, spin) }
    }

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<SocketsStream>> + 'static {
        let spin = self.shared.spin.clone();
        async move { Ok(Either::Tcp(SocketsTcp::new(tokio::net::TcpStream::connect(address).await?, spin)?)) }
    }

    fn listen_local(&self, path: &Path, users: LocalUsers) -> io::Result<SocketsLocalListener> {
        SocketsLocalListener::bind(path, users, self.shared.spin.clone())
    }

    fn patience(&self) -> SocketsPatience {
        SocketsPatience { score: self.shared.spin.stream() }
    }

    fn connect_local(&self, path: &Path) -> impl Future<Output = io::Result<SocketsStream>> + 'static {
        let (path, spin) = (path.to_owned(), self.shared.spin.clone());
        async move { Ok(Either::Local(SocketsLocal::connect(&path, spin).await?)) }
    }

    /// Clients and the master have none.
    fn open_disk(&self, _place: &DiskPlace) -> io::Result<NoDisk> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests;
