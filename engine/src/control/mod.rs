//! A core's life beside its requests: membership, taking slots over, telling holders what to drop.
//!
//! ```text
//!   start ──► listen ──► register ──► table ──► serve … heartbeat each second … ──► stop: leave ──► slots given ──► end
//! ```
//!
//! Everything here is slow and may fail at any time; requests go on meanwhile with the table that is known.

mod drops;
mod membership;
mod takeover;

pub use membership::MasterLink;

use crate::percore::{Identity, PerCore};
use crate::segment::Segment;
use crate::shard::Shard;
use crate::transport;
use snowskin_io::memory::SpanError;
use snowskin_io::{Listener, Platform};
use snowskin_protocol::{CoreId, Incarnation, Settings};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How often a core looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// How long a leaving core waits for its slots to be taken.
const LEAVE_TIME: Duration = Duration::from_secs(5);
/// How long it tries to tell the master that it is gone.
const FAREWELL_TIME: Duration = Duration::from_millis(500);
/// How often leftovers are swept: a bounded step each time.
const SWEEP_PAUSE: Duration = Duration::from_millis(200);

/// What a core is started with.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Who it is.
    pub id: CoreId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Cores of its engine.
    pub engine_cores: u16,
    /// Where it listens; port 0: any.
    pub listen: SocketAddr,
    /// The address that others should use, if not the one it listens on; port 0: the one it listens on.
    pub advertise: Option<SocketAddr>,
    /// Where the master listens.
    pub master: SocketAddr,
    /// Bytes of its segment.
    pub memory_bytes: usize,
    /// Whether to touch all memory before serving.
    pub prefault: bool,
    /// Connections it accepts at most.
    pub connections_max: u64,
    /// What holds until the master says otherwise.
    pub settings: Settings,
}

/// Why a core could not start.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// No memory.
    #[error(transparent)]
    Memory(#[from] SpanError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another engine running there? Choose another --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What a core is told and asked from outside, for example by the threads that started it.
pub trait Supervisor: 'static {
    /// The core listens and its memory is there.
    fn listening(&self, address: SocketAddr);
    /// The core is in the table.
    fn joined(&self);
    /// Whether the core should leave and end.
    fn should_stop(&self) -> bool;
}

/// Sets a core up: memory, listener, state. It serves nothing yet.
pub async fn open<P: Platform>(
    platform: &P,
    config: &CoreConfig,
) -> Result<(Rc<PerCore<P>>, P::Listener), CoreError> {
    let segment = Segment::map(config.memory_bytes, config.prefault)?;
    let listen = config.listen;
    let failed = |source| CoreError::Listen { address: listen, source };
    let listener = platform.listen(listen).await.map_err(failed)?;
    let mut address = listener.local_address();
    if let Some(advertise) = config.advertise {
        address.set_ip(advertise.ip());
        if advertise.port() != 0 {
            address.set_port(advertise.port());
        }
    }
    let identity = Identity {
        id: config.id,
        incarnation: config.incarnation,
        engine_cores: config.engine_cores,
        address,
        weight: u32::try_from(config.memory_bytes >> 20).unwrap_or(u32::MAX).max(1),
    };
    let shard = Shard::new((config.id, config.incarnation), segment, config.settings);
    Ok((PerCore::new(platform.clone(), identity, config.connections_max, shard), listener))
}

/// Runs a core until its supervisor says stop.
pub async fn run<P: Platform>(
    core: Rc<PerCore<P>>,
    listener: P::Listener,
    master: SocketAddr,
    supervisor: impl Supervisor,
) {
    let platform = core.platform.clone();
    supervisor.listening(core.identity.address);
    platform.spawn(transport::accept(core.clone(), listener));
    platform.spawn(takeover::run(core.clone()));
    platform.spawn(drops::run(core.clone()));
    platform.spawn(sweep(core.clone()));
    let link = MasterLink::new(master);
    platform.spawn(membership::run(core.clone(), link.clone()));
    while !supervisor.should_stop() && !core.is_member() {
        platform.sleep(STOP_CHECK).await;
    }
    if core.is_member() {
        supervisor.joined();
    }
    while !supervisor.should_stop() {
        platform.sleep(STOP_CHECK).await;
    }
    leave(&core, &link).await;
}

/// Gives the slots away, as far as somebody takes them in time, and tells the master when that is over.
async fn leave<P: Platform>(core: &Rc<PerCore<P>>, link: &MasterLink) {
    core.leaving.set(true);
    link.leave();
    core.table_wanted.raise();
    let deadline = core.platform.now() + LEAVE_TIME;
    // Only a table that has us leaving says which slots others await from us.
    let is_done = || !core.is_member() && core.shard.borrow().has_given_all();
    while core.platform.now() < deadline && !link.is_alone(core) && !is_done() {
        core.platform.sleep(STOP_CHECK).await;
    }
    // Whoever hears the farewell may make others the homes of what we still have.
    core.shard.borrow_mut().retire();
    link.say_farewell();
    core.table_wanted.raise();
    let deadline = core.platform.now() + FAREWELL_TIME;
    while core.platform.now() < deadline && !link.has_left() {
        core.platform.sleep(STOP_CHECK).await;
    }
}

/// Frees, step by step, what hand-overs leave behind.
async fn sweep<P: Platform>(core: Rc<PerCore<P>>) {
    let mut swept = 0;
    loop {
        core.platform.sleep(SWEEP_PAUSE).await;
        swept = core.shard.borrow_mut().sweep(swept);
    }
}

impl<P: Platform> PerCore<P> {
    /// Whether the table has this life of this core.
    pub fn is_member(&self) -> bool {
        let routing = self.routing.borrow();
        let me = &self.identity;
        routing
            .table
            .members
            .iter()
            .any(|member| member.id == me.id && member.incarnation == me.incarnation && member.weight > 0)
    }
}
