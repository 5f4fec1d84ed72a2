//! What a core owns. Nothing in here is touched by another thread.
//!
//! One [`PerCore`] lives on each core's thread, shared by the tasks of that thread: connections, the control loop,
//! hand-overs. Cells are borrowed for the length of one verb and never across an await.

use crate::control::peers::Peers;
use crate::control::tasks::Tasks;
use crate::segment::{Figures, MappingRequest, Reservation};
use crate::shard::{Dropped, PutStart, Shard};
use crate::tiering::Tier;
use crate::transport::lanes::Lanes;
use hdrhistogram::Histogram;
use snowskin_io::sync::{Mailbox, Signal};
use snowskin_io::{Moment, Platform, Stream};
use snowskin_protocol::wire::control::{Heritage, Load, Report, SlotSet};
use snowskin_protocol::wire::data::{ItemStatus, PutItem};
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::{
    CoreId, Epoch, HashedName, Incarnation, Life, Member, Origin, RoutingTable, Settings, Slot,
};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;

/// Replicas waiting to be dropped at their holders. More are forgotten: their bytes go by age.
const DROPS_MAX: usize = 65_536;
/// Service times are kept from 1 µs to this, with two digits.
const SERVICE_NS_MAX: u64 = 60_000_000_000;

/// Who a core is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Its engine and number.
    pub id: CoreId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Cores of its engine.
    pub engine_cores: u16,
    /// Where others reach it.
    pub address: SocketAddr,
    /// Its share of the slots: MiB of memory, at least 1.
    pub weight: u32,
}

impl Identity {
    /// The member that this core is.
    pub fn member(&self) -> Member {
        Member { id: self.id, incarnation: self.incarnation, address: self.address, weight: self.weight }
    }
}

/// Frames and connections, counted.
#[derive(Debug, Default)]
pub struct Traffic {
    pub(crate) connections: Cell<u64>,
    pub(crate) frames_in: Cell<u64>,
    pub(crate) frames_out: Cell<u64>,
    pub(crate) data_frames_in: Cell<u64>,
    pub(crate) frames_refused: Cell<u64>,
    /// Connections that are being told that there are too many.
    pub(crate) turned_away: Cell<u64>,
}

/// Adds one to a counter.
pub(crate) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// The routing table, and its bytes as others ask for them.
#[derive(Debug)]
pub struct Routing {
    /// The table.
    pub table: RoutingTable,
    /// [`RoutingTable::encode`]d.
    pub encoded: Vec<u8>,
}

impl Routing {
    fn new(table: RoutingTable) -> Self {
        let mut encoded = Vec::new();
        table.encode(&mut encoded);
        Routing { table, encoded }
    }
}

/// Everything a core owns.
pub struct PerCore<P: Platform> {
    /// Clock, entropy, tasks, network.
    pub platform: P,
    /// Who it is.
    pub identity: Identity,
    /// Connections it accepts at most.
    pub connections_max: u64,
    /// The direct ways of clients of this machine.
    pub lanes: Lanes<<P::Stream as Stream>::Bell>,
    /// How memory is got for further segments.
    pub mounting: MappingRequest,
    /// Whether memory for one is being got: one after the other, so that each is compared with what is left.
    pub is_mounting: Cell<bool>,
    /// Directory and memory.
    pub shard: RefCell<Shard>,
    /// The newest table it knows.
    pub routing: RefCell<Rc<Routing>>,
    /// What came and went.
    pub traffic: Traffic,
    /// Time from a request's header to its reply, since the last report.
    pub service_ns: RefCell<Histogram<u64>>,
    /// The SSD tier, if there is one.
    pub tier: OnceCell<Tier<P>>,
    /// Requests that wait for the SSD.
    pub cold_requests: Cell<u64>,
    /// Requests that wait until what they have put is durable.
    pub durable_requests: Cell<u64>,
    /// Raised when a peer knows a newer table.
    pub table_wanted: Signal,
    /// The newest epoch that any peer has mentioned.
    pub epoch_heard: Cell<Epoch>,
    /// Raised when slots may have to be taken over.
    pub takeover_wanted: Signal,
    /// Raised when slots of lost homes may have to be claimed.
    pub claim_wanted: Signal,
    /// What other cores have said of their memory last.
    pub peer_figures: RefCell<HashMap<CoreId, Figures>>,
    /// What operators have asked for.
    pub tasks: RefCell<Tasks>,
    /// Connections to other cores, kept for the next question.
    pub peers: Peers<P>,
    /// Raised when slots may have come, or were taken over: what is on the SSD may have to follow.
    pub keep_wanted: Signal,
    /// The table by which the SSD has what is answered from: see [`crate::tiering`].
    pub kept_epoch: Cell<Epoch>,
    /// Whether the master remembers that this life keeps the slots that the table of this epoch gives it.
    pub heritage: Cell<(Epoch, Heritage)>,
    /// Replicas elsewhere that lost their entry.
    pub drops: Mailbox<Dropped>,
    /// Whether the core is on its way out.
    pub leaving: Cell<bool>,
}

impl<P: Platform> PerCore<P> {
    /// A core with this shard that knows no table yet, for so many connections and lanes.
    pub fn new(
        platform: P,
        identity: Identity,
        (connections_max, lanes_max): (u64, usize),
        mounting: MappingRequest,
        shard: Shard,
    ) -> Rc<Self> {
        let histogram = Histogram::new_with_bounds(1, SERVICE_NS_MAX, 2).expect("bounds are in order");
        Rc::new(PerCore {
            platform,
            identity,
            connections_max,
            lanes: Lanes::new(lanes_max),
            mounting,
            is_mounting: Cell::new(false),
            shard: RefCell::new(shard),
            routing: RefCell::new(Rc::new(Routing::new(RoutingTable::empty()))),
            traffic: Traffic::default(),
            tier: OnceCell::new(),
            cold_requests: Cell::new(0),
            durable_requests: Cell::new(0),
            service_ns: RefCell::new(histogram),
            table_wanted: Signal::new(),
            epoch_heard: Cell::new(Epoch(0)),
            takeover_wanted: Signal::new(),
            claim_wanted: Signal::new(),
            peer_figures: RefCell::default(),
            tasks: RefCell::default(),
            peers: Peers::default(),
            keep_wanted: Signal::new(),
            kept_epoch: Cell::new(Epoch(0)),
            heritage: Cell::new((Epoch(0), Heritage::default())),
            drops: Mailbox::new(DROPS_MAX),
            leaving: Cell::new(false),
        })
    }

    /// The epoch of the table it knows.
    #[inline]
    pub fn epoch(&self) -> Epoch {
        self.routing.borrow().table.epoch
    }

    /// Takes note of a peer's epoch, and wants the table if it is newer.
    #[inline]
    pub fn hear_epoch(&self, epoch: Epoch) {
        if epoch > self.epoch_heard.get() {
            self.epoch_heard.set(epoch);
        }
        if epoch > self.epoch() {
            self.table_wanted.raise();
        }
    }

    /// Takes over a table if it is newer than the one known.
    pub fn apply_table(&self, table: RoutingTable) {
        if table.epoch <= self.epoch() {
            return;
        }
        log::debug!("core {}: epoch {}, {} members", self.identity.id, table.epoch, table.members.len());
        let lost = self.lives_lost(&table);
        let mut shard = self.shard.borrow_mut();
        shard.take_in_uses(self.platform.now());
        if shard.keeps_replicas() {
            self.look_after_kept(&mut shard, &table);
        }
        shard.apply_table(&table);
        if !lost.is_empty() {
            shard.drop_lost(&lost);
        }
        drop(shard);
        self.peers.keep_only(&table.members);
        self.peer_figures.borrow_mut().retain(|id, _| table.members.iter().any(|member| member.id == *id));
        // Heard before it is known: the next heartbeat follows at once, and the master waits for it.
        self.hear_epoch(table.epoch);
        *self.routing.borrow_mut() = Rc::new(Routing::new(table));
        self.takeover_wanted.raise();
        self.claim_wanted.raise();
        self.keep_wanted.raise();
    }

    /// What a new table means for what is kept for other homes. A member that lives sees all tables: who has missed one, or is not in
    /// one, has been given up meanwhile.
    fn look_after_kept(&self, shard: &mut Shard, newer: &RoutingTable) {
        let routing = self.routing.borrow();
        let me = self.identity.member().life();
        let lives = |life: Life| newer.members.iter().any(|member| member.life() == life);
        if newer.epoch != routing.table.epoch.next() || !lives(me) {
            return shard.let_all_go();
        }
        let is_gone: Vec<bool> = routing.table.members.iter().map(|member| !lives(member.life())).collect();
        let mut lost = SlotSet::new();
        for slot in Slot::all() {
            let home = routing.table.homes[slot.index()];
            let is_home_gone = is_gone.get(usize::from(home)).copied().unwrap_or(false);
            // Or whoever was to give the entries to the home, before it had.
            let is_origin_gone = matches!(routing.table.origin(slot), Origin::Member(index) if is_gone[usize::from(index)])
                && matches!(newer.origin(slot), Origin::Lost | Origin::Former(_));
            if is_home_gone || is_origin_gone {
                lost.insert(slot);
            }
        }
        shard.note_lost_homes(&lost);
    }

    /// Members of the table we know that a newer one does not have any more, or in another life.
    fn lives_lost(&self, newer: &RoutingTable) -> BTreeSet<CoreId> {
        let routing = self.routing.borrow();
        let lives_on = |member: &&Member| {
            newer.members.iter().any(|other| (other.id, other.incarnation) == (member.id, member.incarnation))
        };
        routing.table.members.iter().filter(|member| !lives_on(member)).map(|member| member.id).collect()
    }

    /// Takes over settings.
    pub fn apply_settings(&self, settings: Settings) {
        self.shard.borrow_mut().apply_settings(settings);
    }

    /// Where a value may be written. If there seems to be no room, clients may have given pins back that we have not seen.
    pub(crate) fn begin_put(
        &self,
        name: HashedName<'_>,
        item: &PutItem,
        replace: bool,
        now: Moment,
    ) -> PutStart {
        let begin = || self.shard.borrow_mut().begin_put(name, item, replace, now);
        match begin() {
            PutStart::Answered(ItemStatus::NoSpace) if self.take_back() => begin(),
            start => start,
        }
    }

    /// Memory to read an object on the SSD into, in the same way.
    pub(crate) fn room_for_demoted(&self, bytes: u64) -> Option<Reservation> {
        let reserve = || self.shard.borrow_mut().room_for_demoted(bytes, self.platform.now());
        reserve().or_else(|| if self.take_back() { reserve() } else { None })
    }

    /// Takes back what clients of this machine have given back; whether that was something.
    pub(crate) fn take_back(&self) -> bool {
        let pins = self.lanes.take_back();
        self.shard.borrow_mut().look_at_holds() || pins > 0
    }

    /// A replica elsewhere has lost its entry: its holder will be told. When too many wait, this one is not: it costs
    /// the holder memory until its age comes, nothing else.
    pub(crate) fn drop_later(&self, dropped: Dropped) {
        if self.drops.send(dropped).is_err() {
            log::debug!("core {}: too many replicas wait to be dropped", self.identity.id);
        }
    }

    /// Remembers how long a request took.
    pub(crate) fn note_service(&self, since: Moment) {
        let elapsed = (self.platform.now() - since).as_nanos() as u64;
        self.service_ns.borrow_mut().saturating_record(elapsed.max(1));
    }

    /// What the master is told. Begins a new period of service times.
    pub fn report(&self) -> Report {
        let (usage, stats) = (self.shard.borrow().segments().usage(), self.shard.borrow().stats());
        let mut service_ns = self.service_ns.borrow_mut();
        let load = Load {
            capacity_bytes: usage.capacity_bytes,
            free_bytes: usage.free_bytes,
            free_range_bytes_max: usage.free_range_bytes_max,
            objects: stats.objects,
            service_ns_p50: service_ns.value_at_quantile(0.5),
            service_ns_p99: service_ns.value_at_quantile(0.99),
        };
        service_ns.reset();
        let member = self.identity.member();
        let slots_moving = (stats.slots_awaited + stats.slots_frozen) as u32;
        let (epoch, engine_cores) = (self.epoch(), self.identity.engine_cores);
        let keeps = epoch > Epoch(0) && self.kept_epoch.get() == epoch;
        Report { member, engine_cores, epoch, slots_moving, keeps, load }
    }

    /// All counters.
    pub fn stats(&self) -> CoreStats {
        let (lane_pins, lane_puts) = self.lanes.held();
        self.shard.borrow_mut().take_in_uses(self.platform.now());
        let of_shard = self.shard.borrow().stats();
        let of_tier = self.tier.get().map_or(of_shard, |tier| tier.add_stats(of_shard));
        CoreStats {
            lanes: self.lanes.count() as u64,
            lane_pins,
            lane_puts,
            connections: self.traffic.connections.get(),
            frames_in: self.traffic.frames_in.get(),
            frames_out: self.traffic.frames_out.get(),
            data_frames_in: self.traffic.data_frames_in.get(),
            frames_refused: self.traffic.frames_refused.get(),
            ..of_tier
        }
    }
}
