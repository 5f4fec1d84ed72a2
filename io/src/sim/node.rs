//! [`SimPlatform`]: one node's view of the simulation.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::disk::SimDisk;
use super::local::{self, SimLocalListener};
use super::stream::{Connect, SimListener, SimStream};
use super::world::{Appointment, Due, NodeId, Shared, nanoseconds};
use crate::disk::DiskPlace;
use crate::platform::{LocalUsers, Moment, NoPatience, Platform};

/// The platform of one life of one node, i.e. of one core of a process.
///
/// After the node's death it stays usable as an object, because destructors may hold it: `spawn` drops the task,
/// `listen` and `connect` fail with `NetworkDown`, operations of its disks with ENODEV, `sleep` does not end; clock and
/// entropy go on.
#[derive(Clone)]
pub struct SimPlatform {
    pub(super) shared: Shared,
    pub(super) node: NodeId,
}

impl SimPlatform {
    /// Which life of which node this is.
    pub fn id(&self) -> NodeId {
        self.node
    }

    /// The node's name.
    pub fn name(&self) -> String {
        self.shared.with(|world| world.node(self.node).name.clone())
    }

    /// The node's IP address.
    pub fn ip(&self) -> IpAddr {
        self.shared.with(|world| world.node(self.node).ip)
    }

    /// A port of the node.
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(), port)
    }

    /// Whether the node is running or paused, i.e. has not been killed.
    pub fn is_alive(&self) -> bool {
        self.shared.with(|world| world.node(self.node).is_alive())
    }
}

impl Platform for SimPlatform {
    type Stream = SimStream;
    type Listener = SimListener;
    type LocalListener = SimLocalListener;
    type Patience = NoPatience;
    type Disk = SimDisk;

    fn now(&self) -> Moment {
        self.shared.with(|world| Moment(world.now_ns.saturating_add(world.node(self.node).clock_ahead_ns)))
    }

    /// The same for all nodes, however fast their clocks are.
    fn host_ms(&self) -> u64 {
        self.shared.with(|world| world.now_ns / 1_000_000)
    }

    fn entropy(&self) -> u64 {
        self.shared.with(|world| world.draw_entropy(self.node))
    }

    fn secret(&self) -> io::Result<[u8; 16]> {
        let [first, second] = [(); 2].map(|()| self.entropy().to_le_bytes());
        Ok([first, second].concat().try_into().expect("two halves"))
    }

    /// Always gives other tasks a turn, even with a duration of zero.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        let until_ns = self.now().0.saturating_add(nanoseconds(duration));
        Sleep { platform: self.clone(), until_ns, timer: None }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.shared.spawn(self.node, Box::pin(task));
    }

    /// Fails with `AddrInUse` or, for an IP that is not the node's, `AddrNotAvailable`. Loopback and the unspecified
    /// address mean the node's own.
    fn listen(&self, address: SocketAddr) -> impl Future<Output = io::Result<SimListener>> + 'static {
        let platform = self.clone();
        async move {
            let (number, address) = platform.shared.with(|world| world.listen(platform.node, address))?;
            Ok(SimListener { shared: platform.shared, number, address })
        }
    }

    /// Fails with `ConnectionRefused`, or with `ConnectionReset` if it is cut on the way.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<SimStream>> + 'static {
        Connect::new(&self.shared, self.node, address)
    }

    /// The path's last part must be the address of a core, as `local_socket` makes it.
    fn listen_local(&self, path: &Path, _users: LocalUsers) -> io::Result<SimLocalListener> {
        SimLocalListener::open(self, path)
    }

    fn patience(&self) -> NoPatience {
        NoPatience
    }

    /// Fails with `NotFound` if no core of this host listens there.
    fn connect_local(&self, path: &Path) -> impl Future<Output = io::Result<SimStream>> + 'static {
        let (platform, path) = (self.clone(), path.to_owned());
        async move { local::connect(platform, &path).await }
    }

    /// [`SimPlatform::disk`], but a size that the disk does not have is an error.
    fn open_disk(&self, place: &DiskPlace) -> io::Result<SimDisk> {
        self.open_place(place)
    }
}

/// A timer on the node's clock. Entered when it is first polled, forgotten when dropped, and entered anew when the
/// clock has jumped.
struct Sleep {
    platform: SimPlatform,
    /// On the node's clock.
    until_ns: u64,
    timer: Option<Appointment>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let SimPlatform { shared, node } = self.platform.clone();
        let (until_ns, timer) = (self.until_ns, self.timer);
        shared.with(|world| match timer {
            // `Moment::NEVER`, or nobody to wake: no timer at all, so that a simulation can become idle.
            _ if until_ns == u64::MAX || !world.node(node).is_alive() => Poll::Pending,
            Some(timer) if world.rearm(timer, context.waker()) => Poll::Pending,
            _ => {
                let ahead_ns = world.node(node).clock_ahead_ns;
                let was_entered = self.timer.is_some();
                if was_entered && world.now_ns.saturating_add(ahead_ns) >= until_ns {
                    return Poll::Ready(());
                }
                let waker = context.waker().clone();
                self.timer = Some(world.enter(until_ns.saturating_sub(ahead_ns), Due::Timer { node, waker }));
                Poll::Pending
            }
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.platform.shared.with(|world| world.cancel(timer));
        }
    }
}
