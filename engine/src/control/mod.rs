//! A core's life beside its requests: membership, taking slots over, telling holders what to drop.
//!
//! ```text
//!   start ──► listen ──► register ──► table ──► serve … heartbeat each second … ──► stop: leave ──► slots given ──► end
//! ```
//!
//! Everything here is slow and may fail at any time; requests go on meanwhile with the table that is known.

pub(crate) mod admin;
mod claim;
mod drops;
mod membership;
pub(crate) mod peers;
pub(crate) mod replicas;
mod takeover;
pub(crate) mod tasks;

pub use membership::MasterLink;

use crate::eviction::PolicyKind;
use crate::percore::{Identity, PerCore};
use crate::segment::{Mapping, MappingError, MappingRequest, Segments};
use crate::shard::{Options, Shard, cards_for};
use crate::tiering::{SsdConfig, SsdError};
use crate::transport;
use snowskin_io::lane::ShelfRegion;
use snowskin_io::memory::Progress;
use snowskin_io::{Listener, LocalUsers, Platform, local_socket};
use snowskin_protocol::{CoreId, Incarnation, Member, Settings};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// How often a core looks whether its siblings are open.
const SIBLINGS_CHECK: Duration = Duration::from_millis(5);
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
    /// Where clients of this machine come to share memory; `None`: nowhere.
    pub local: Option<LocalSockets>,
    /// The address that others should use, if not the one it listens on; port 0: the one it listens on.
    pub advertise: Option<SocketAddr>,
    /// Where the master listens.
    pub master: SocketAddr,
    /// The memory of its first segment, and how further ones are got.
    pub memory: MappingRequest,
    /// Where its SSD tier is, if it has one.
    pub ssd: Option<SsdConfig>,
    /// Which object goes when room is needed.
    pub policy: PolicyKind,
    /// Connections it accepts at most.
    pub connections_max: u64,
    /// What holds until the master says otherwise.
    pub settings: Settings,
}

/// The folder of a core's Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSockets {
    /// Where.
    pub folder: PathBuf,
    /// Somebody asked for it: if it cannot be had, that is an error. Else it is a line in the log.
    pub is_asked: bool,
    /// Whose clients may connect.
    pub users: LocalUsers,
    /// Lanes that clients may have at the core, at most.
    pub lanes_max: usize,
}

/// Where clients come in.
pub struct Doors<P: Platform> {
    anywhere: P::Listener,
    /// With its path.
    local: Option<(P::LocalListener, PathBuf)>,
}

/// Why a core could not start.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// No memory.
    #[error(transparent)]
    Memory(#[from] MappingError),
    /// No SSD tier.
    #[error(transparent)]
    Ssd(#[from] SsdError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another engine running there? Choose another --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// There can be no socket for clients of this machine.
    #[error("cannot let clients share memory at {}: {source}; choose another --local-sockets, or off", path.display())]
    Local {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What a core is told and asked from outside, for example by the threads that started it.
pub trait Supervisor: 'static {
    /// The core listens and its memory is there.
    fn listening(&self, address: SocketAddr);
    /// Whether all cores of the engine listen. They register together: a first one alone would get the slots of all others.
    fn do_all_listen(&self) -> bool;
    /// The core is in the table.
    fn joined(&self);
    /// Whether the core should leave and end.
    fn should_stop(&self) -> bool;
}

/// Sets a core up: memory, listener, state. It serves nothing yet.
pub async fn open<P: Platform>(
    platform: &P,
    config: &CoreConfig,
    progress: Progress<'_>,
) -> Result<(Rc<PerCore<P>>, Doors<P>), CoreError> {
    let mapping = Mapping::create(&config.memory, progress)?;
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
    let local = listen_local(platform, config, address)?;
    let identity = Identity {
        id: config.id,
        incarnation: config.incarnation,
        engine_cores: config.engine_cores,
        address,
        weight: u32::try_from(mapping.bytes() >> 20).unwrap_or(u32::MAX).max(1),
    };
    let segments = Segments::of(mapping, config.id.engine.0 ^ u64::from(config.id.core));
    let options = Options { settings: config.settings, policy: config.policy };
    let mut shard = Shard::new((config.id, config.incarnation), segments, options);
    if local.is_some() {
        enable_shelf(&mut shard, config.id);
    }
    let mounting = beside_requests(&config.memory);
    let lanes_max = config.local.as_ref().map_or(0, |local| local.lanes_max);
    let core = PerCore::new(platform.clone(), identity, (config.connections_max, lanes_max), mounting, shard);
    if let Some(ssd) = &config.ssd
        && let Err(error) = core.open_tier(ssd).await
    {
        local.into_iter().for_each(|(_, path)| remove_local(path));
        return Err(error.into());
    }
    Ok((core, Doors { anywhere: listener, local }))
}

/// What clients of this machine read often they need not ask for.
fn enable_shelf(shard: &mut Shard, id: CoreId) {
    match ShelfRegion::create(cards_for(shard.segments().capacity_bytes())) {
        Ok(region) => shard.enable_shelf(region),
        Err(error) => log::warn!("core {id}: there is no shelf: {error}; clients ask for all they read"),
    }
}

/// The socket for clients of this machine, named by the address that they know us by.
fn listen_local<P: Platform>(
    platform: &P,
    config: &CoreConfig,
    address: SocketAddr,
) -> Result<Option<(P::LocalListener, PathBuf)>, CoreError> {
    let Some(LocalSockets { folder, is_asked, users, .. }) = &config.local else { return Ok(None) };
    let path = local_socket(folder, address);
    match platform.listen_local(&path, *users) {
        Ok(listener) => Ok(Some((listener, path))),
        Err(source) if *is_asked => Err(CoreError::Local { path, source }),
        Err(error) => {
            let path = path.display();
            log::warn!("core {}: no client can share memory: {path}: {error}; all use TCP", config.id);
            Ok(None)
        }
    }
}

/// Nobody is to come there any more.
fn remove_local(path: PathBuf) {
    // It may be gone with its folder.
    let _ = fs::remove_file(path);
}

/// How further segments are got: as the first one, but that this core's own processor, which is the first of those that
/// fill memory, has requests to serve meanwhile. If there is no other, it does both.
fn beside_requests(first: &MappingRequest) -> MappingRequest {
    let mut mounting = first.clone();
    if let Some(prefault) = &mut mounting.prefault
        && prefault.processors.len() > 1
    {
        prefault.processors.remove(0);
    }
    mounting
}

/// Runs a core until its supervisor says stop.
pub async fn run<P: Platform>(
    core: Rc<PerCore<P>>,
    doors: Doors<P>,
    master: SocketAddr,
    supervisor: impl Supervisor,
) {
    let platform = core.platform.clone();
    supervisor.listening(core.identity.address);
    platform.spawn(transport::accept(core.clone(), doors.anywhere));
    let local_path = doors.local.map(|(local, path)| {
        platform.spawn(transport::accept(core.clone(), local));
        path
    });
    platform.spawn(transport::lanes::serve(core.clone()));
    platform.spawn(transport::lanes::say_hours(core.clone()));
    core.start_tier();
    platform.spawn(takeover::run(core.clone()));
    platform.spawn(claim::run(core.clone()));
    platform.spawn(drops::run(core.clone()));
    platform.spawn(replicas::run(core.clone()));
    platform.spawn(sweep(core.clone()));
    while !supervisor.should_stop() && !supervisor.do_all_listen() {
        platform.sleep(SIBLINGS_CHECK).await;
    }
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
    local_path.into_iter().for_each(remove_local);
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

/// Frees, step by step, what hand-overs leave behind, and what clients have given back.
async fn sweep<P: Platform>(core: Rc<PerCore<P>>) {
    let mut swept = 0;
    loop {
        core.platform.sleep(SWEEP_PAUSE).await;
        core.take_back();
        core.peers.close_idle(core.platform.now());
        swept = core.shard.borrow_mut().sweep(swept);
    }
}

impl<P: Platform> PerCore<P> {
    /// Whether the table has this life of this core, and it is to stay.
    pub fn is_member(&self) -> bool {
        self.in_table().is_some_and(|member| member.weight > 0)
    }

    /// Whether the table has this life of this core, be it one that leaves.
    pub fn is_listed(&self) -> bool {
        self.in_table().is_some()
    }

    fn in_table(&self) -> Option<Member> {
        let routing = self.routing.borrow();
        let me = self.identity.member().life();
        routing.table.members.iter().find(|member| member.life() == me).copied()
    }
}
