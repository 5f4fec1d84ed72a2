//! The platform of an engine's cores: glommio, one executor per pinned thread.
//!
//! This module is the only one that knows glommio. It also holds the remedies for what we found in release 0.9:
//!
//! * **A stalled executor.** A preemption seen before the first task queue has run makes the executor believe that it
//!   is idle and park although tasks are runnable. A repeating timer (`HEARTBEAT`) bounds the stall; nothing here
//!   ever spins by yielding. The regression test is `a_yielding_task_does_not_stall_the_others`.
//! * **Shared ports.** Its `bind` sets SO_REUSEPORT, so that two engines on one port would silently share clients.
//!   We bind with the standard library and hand the socket over.
//! * **Wake-up latency.** Parking in the ring and being woken costs tens of µs on virtual machines. A read first
//!   tries for a bounded time ([`Spin`]) while its stream is busy and no other stream is.
//! * **Forgotten tasks.** An executor that ends leaks all tasks that still wait, with what they have. A core ends them itself (`tasks`).
//! * **A forgotten descriptor.** It never closes an executor's eventfd. Who starts a core does (`forgotten`).

mod disk;
mod forgotten;
mod local;
mod spin;
mod stream;
mod tasks;
mod turn;

pub use disk::{HeldDisk, RingCounts, UringDisk};
pub use local::{UringBell, UringLocal, UringLocalListener, UringLocalReader, UringLocalWriter};
pub use spin::Spin;
pub use stream::{
    UringListener, UringReader, UringStream, UringTcp, UringTcpReader, UringTcpWriter, UringWriter,
};

use crate::SplitMix;
use crate::disk::DiskPlace;
use crate::either::Either;
use crate::platform::{LocalUsers, Moment, Patience, Platform};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use disk::CoreRing;
use forgotten::Eventfd;
use spin::SpinScore;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tasks::Tasks;
use turn::{Turn, Turns};

/// How often an executor is woken whatever happens: 0.8 % of a core for a bound on the stall named above.
const HEARTBEAT: Duration = Duration::from_millis(5);
/// The same when nothing has happened for a while: nobody is there to be stalled.
const HEARTBEAT_IDLE: Duration = Duration::from_millis(25);
/// An executor that has run no more tasks than this from one beat to the next is idle; when it has been so for so many beats,
/// they become rarer. A stall is far shorter.
const TASKS_WHEN_IDLE: u64 = 10;
const BEATS_UNTIL_IDLE: u32 = 400;
/// How long a core that expects a request soon looks for it before it parks.
const LINGER_MAX: Duration = Duration::from_micros(700);
/// Memory that glommio pins for its own file buffers. We use none of them.
const GLOMMIO_BUFFER_BYTES: usize = 64 * 1024;

/// The platform of one core. Must be used only inside [`spawn_core`]'s task.
#[derive(Clone)]
pub struct UringPlatform {
    inner: Rc<Inner>,
}

struct Inner {
    origin: Instant,
    entropy: SplitMix,
    shared: Rc<Shared>,
    disks: CoreRing,
}

/// What the streams of a core share.
struct Shared {
    spin: Spin,
    turns: Turns,
    tasks: Rc<Tasks>,
}

/// How a task of a core looks into memory: as long as it has luck and nobody else is active, and a millisecond at most
/// before others have their turn.
pub struct UringPatience {
    score: SpinScore,
    turn: Turn,
}

impl Patience for UringPatience {
    #[inline]
    fn poll_attempt<T>(
        &mut self,
        _context: &mut Context<'_>,
        attempt: impl FnMut() -> Option<T>,
    ) -> Poll<Option<T>> {
        Poll::Ready(self.score.attempt(attempt))
    }

    #[inline]
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.turn.poll_mine(context)
    }

    fn rest(&mut self) {
        let _: Poll<()> = self.turn.pass(Poll::Pending);
    }

    fn linger_max(&self) -> Duration {
        if self.score.may_ever_wait() { LINGER_MAX } else { Duration::ZERO }
    }

    fn end_turn(&mut self) {
        self.turn.end();
    }

    fn expect(&mut self) {
        self.score.encourage();
    }
}

/// Starts a pinned thread with an executor and runs `main` on it. `spin_max` bounds how long a read may busy-wait.
pub fn spawn_core<F>(
    name: &str,
    cpu: usize,
    spin_max: Duration,
    main: impl FnOnce(UringPlatform) -> F + Send + 'static,
) -> io::Result<CoreThread>
where
    F: Future<Output = ()> + 'static,
{
    let (sender, begin) = channel();
    let run = async move || {
        let tasks = Rc::new(Tasks::default());
        tasks.spawn(beat());
        match Turns::open().await {
            Ok(turns) => {
                let platform = UringPlatform::new(spin_max, turns, tasks.clone());
                main(platform.clone()).await;
                platform.inner.disks.finish();
                tasks.end().await;
            }
            Err(error) => panic!("a core needs /dev/zero: {error}"),
        }
        tasks::settle().await;
    };
    let start = || {
        let executor =
            LocalExecutorBuilder::new(Placement::Fixed(cpu)).name(name).io_memory(GLOMMIO_BUFFER_BYTES);
        executor.spawn(move || {
            // Whoever starts us is gone only if it has panicked.
            let _ = begin.recv();
            run()
        })
    };
    let (started, eventfd) = forgotten::watch(start);
    let handle = started.map_err(io::Error::from)?;
    // It is gone only if it could not begin.
    let _ = sender.send(());
    Ok(CoreThread { handle, eventfd })
}

/// Wakes the executor again and again, for ever.
async fn beat() {
    let mut quiet = 0;
    loop {
        let before = glommio::executor().executor_stats().tasks_executed();
        let is_idle = quiet >= BEATS_UNTIL_IDLE;
        glommio::timer::sleep(if is_idle { HEARTBEAT_IDLE } else { HEARTBEAT }).await;
        let run = glommio::executor().executor_stats().tasks_executed() - before;
        quiet = if run > TASKS_WHEN_IDLE { 0 } else { quiet + 1 };
    }
}

/// A core's thread.
pub struct CoreThread {
    handle: ExecutorJoinHandle<()>,
    /// Its executor's, if it is known.
    eventfd: Option<Eventfd>,
}

impl CoreThread {
    /// Waits until the core's main task has ended; tasks it has spawned are dropped then, and what they had is given back.
    pub fn join(self) -> io::Result<()> {
        let ended = self.handle.join();
        // If it has never run, or has panicked, it may be closed already.
        if let (Ok(()), Some(eventfd)) = (&ended, self.eventfd) {
            eventfd.close();
        }
        ended.map_err(io::Error::from)
    }
}

impl UringPlatform {
    fn new(spin_max: Duration, turns: Turns, tasks: Rc<Tasks>) -> Self {
        let inner = Inner {
            origin: Instant::now(),
            entropy: SplitMix::new(RandomState::new().hash_one(std::thread::current().id())),
            shared: Rc::new(Shared { spin: Spin::new(spin_max), turns, tasks }),
            disks: CoreRing::default(),
        };
        UringPlatform { inner: Rc::new(inner) }
    }
}

impl Platform for UringPlatform {
    type Stream = UringStream;
    type Listener = UringListener;
    type LocalListener = UringLocalListener;
    type Patience = UringPatience;
    type Disk = UringDisk;

    fn now(&self) -> Moment {
        Moment(self.inner.origin.elapsed().as_nanos() as u64)
    }

    fn entropy(&self) -> u64 {
        self.inner.entropy.draw()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        glommio::timer::sleep(duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.inner.shared.tasks.spawn(task);
    }

    fn listen(&self, address: SocketAddr) -> impl Future<Output = io::Result<UringListener>> + 'static {
        let shared = self.inner.shared.clone();
        async move { UringListener::bind(address, shared) }
    }

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<UringStream>> + 'static {
        let shared = self.inner.shared.clone();
        async move {
            let stream = glommio::net::TcpStream::connect(address).await.map_err(io::Error::from)?;
            Ok(Either::Tcp(UringTcp::new(stream, shared)?))
        }
    }

    fn listen_local(&self, path: &Path, users: LocalUsers) -> io::Result<UringLocalListener> {
        UringLocalListener::bind(path, users, self.inner.shared.clone())
    }

    fn cpu(&self) -> Option<u32> {
        Some(rustix::thread::sched_getcpu() as u32)
    }

    fn patience(&self) -> UringPatience {
        let Shared { spin, turns, .. } = &*self.inner.shared;
        UringPatience { score: spin.stream(), turn: turns.turn() }
    }

    /// Cores do not share memory with each other: they are asked by TCP.
    fn connect_local(&self, _path: &Path) -> impl Future<Output = io::Result<UringStream>> + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// A regular file or a block device, on the core's own ring for disks, which the first one makes.
    fn open_disk(&self, place: &DiskPlace) -> io::Result<UringDisk> {
        self.inner.disks.open_disk(place, &self.inner.shared)
    }
}

#[cfg(test)]
mod tests;
