//! Calls of a thread to cores of its own machine, without a runtime in between: the thread writes its requests into the
//! memory of a lane, looks for the replies, and copies values itself.
//!
//! ```text
//!   call ──► keys ──┬── home on this machine ──► lane of that core, this call's alone ──► answers
//!                   └── the rest ────────────────────────────────────────────────┐
//!            keys without a final answer (moved, elsewhere, too much held …) ────┴──► session ──► answers
//! ```
//!
//! A lane belongs to one call at a time; the next call takes it over. The session sees to everything that is not usual: it
//! gets the routing table, opens lanes, asks other machines, asks again. So a call here never repeats anything: what has no
//! final answer at once is the session's; but what a core is loading from its SSD is asked for again when it has come. Nor does it wait for ever: after a while of silence the lane is given up.

mod batch;
mod lane;
mod one;
mod reads;
mod seat;
mod writes;

use crate::config::{ClientConfig, Transport};
use crate::lane::Atlas;
use crate::outcome::ClientCounters;
use arc_swap::ArcSwap;
use lane::LocalLane;
use seat::Seats;
use snowskin_io::memory::Copiers;
use snowskin_io::{Birth, Latch};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::lane::LaneOpcode;
use snowskin_protocol::{Member, ObjectName, RoutingTable, Slot};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use batch::{Answers, Manner};
pub(crate) use lane::OpenedLane;

/// Lanes to one core, at most: a thread that finds all of them in use asks by the session.
const LANES_MAX: usize = 48;
/// How long a core is not tried again to which no lane could be opened.
const CLOSED_FOR: Duration = Duration::from_secs(5);

/// What calls need to reach cores of this machine.
pub(crate) struct Local {
    verify: bool,
    spin: Duration,
    copiers: Copiers,
    directory: ArcSwap<Directory>,
    /// Of the directory: counts up behind each change.
    version: AtomicU64,
    seats: Seats,
    counters: Counters,
    birth: Birth,
}

/// The routing table, and the ways to its members.
struct Directory {
    table: Arc<RoutingTable>,
    /// One for each member.
    cores: Vec<Arc<Core>>,
}

/// The way to one core.
pub(crate) struct Core {
    pub(crate) member: Member,
    lanes: Latch<Lanes>,
    /// Its segments, as far as they have been shown.
    atlas: Arc<Atlas>,
}

/// The lanes to one core.
#[derive(Default)]
struct Lanes {
    /// Those that no call uses.
    #[allow(
        clippy::vec_box,
        reason = "a lane goes to a call and comes back with every request: only its address moves"
    )]
    idle: Vec<Box<LocalLane>>,
    /// All of them.
    open: usize,
    /// Until when no other one is opened.
    closed_until: Option<Instant>,
}

/// What has been done in lanes. Counted in each lane while a call has it, so nobody shares a line of memory for it.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: [u64; 5],
    /// Values that were found without a request.
    found: u64,
    value_bytes_sent: u64,
    value_bytes_received: u64,
    checksum_mismatches: u64,
}

impl Counts {
    fn request(&mut self, opcode: LaneOpcode) {
        let place = match opcode {
            LaneOpcode::Get => 0,
            LaneOpcode::Lookup => 1,
            LaneOpcode::MatchPrefix => 2,
            LaneOpcode::Reserve => 3,
            LaneOpcode::ReserveUpsert => 4,
            LaneOpcode::Publish => return,
        };
        self.requests[place] += 1;
    }

    fn add(&mut self, other: &Counts) {
        self.requests.iter_mut().zip(other.requests).for_each(|(sum, requests)| *sum += requests);
        self.found += other.found;
        self.value_bytes_sent += other.value_bytes_sent;
        self.value_bytes_received += other.value_bytes_received;
        self.checksum_mismatches += other.checksum_mismatches;
    }
}

/// What has become of lanes, and what was counted in those that are gone.
#[derive(Debug, Default)]
struct Counters {
    lanes_opened: AtomicU64,
    lanes_broken: AtomicU64,
    gone: Mutex<Counts>,
}

/// The operations whose requests are counted.
const COUNTED: [Opcode; 5] = [Opcode::Get, Opcode::Lookup, Opcode::MatchPrefix, Opcode::Put, Opcode::Upsert];

impl Local {
    /// For a client with these settings; `None`: it is to use TCP, or its tenant is none, as the session says.
    pub(crate) fn new(config: &ClientConfig) -> Option<Arc<Self>> {
        let is_tenant = ObjectName::new(&config.tenant, b"key").is_ok();
        if config.transport == Transport::Tcp || !is_tenant {
            return None;
        }
        let directory = Directory { table: Arc::new(RoutingTable::empty()), cores: Vec::new() };
        Some(Arc::new(Local {
            verify: config.verify,
            spin: config.spin,
            copiers: Copiers::new(config.copy_helpers),
            directory: ArcSwap::from_pointee(directory),
            version: AtomicU64::new(1),
            seats: Seats::default(),
            counters: Counters::default(),
            birth: Birth::new(),
        }))
    }

    /// Takes a routing table over. Ways to cores that live on stay.
    pub(crate) fn adopt(&self, table: &Arc<RoutingTable>) {
        let before = self.directory.load();
        let known: HashMap<_, &Arc<Core>> =
            before.cores.iter().map(|core| (key_of(&core.member), core)).collect();
        let core = |member: &Member| match known.get(&key_of(member)) {
            Some(&core) => core.clone(),
            None => Arc::new(Core { member: *member, lanes: Latch::default(), atlas: Arc::default() }),
        };
        let cores: Vec<Arc<Core>> = table.members.iter().map(core).collect();
        let directory = Arc::new(Directory { table: table.clone(), cores });
        self.directory.store(directory.clone());
        self.version.fetch_add(1, Ordering::Release);
        self.clear_seats();
        let cores = &directory.cores;
        for gone in before.cores.iter().filter(|old| !cores.iter().any(|core| Arc::ptr_eq(core, old))) {
            let mut counts = self.counters.gone.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = gone.lanes.with(|lanes| std::mem::take(&mut lanes.idle));
            idle.iter().for_each(|lane| counts.add(&lane.counts));
        }
    }

    /// What has been done here, added to what else was; but for what calls are doing now.
    pub(crate) fn add_to(&self, sum: &mut ClientCounters) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut counts = *self.counters.gone.lock().unwrap_or_else(PoisonError::into_inner);
        for core in &self.directory.load().cores {
            core.lanes.with(|lanes| lanes.idle.iter().for_each(|lane| counts.add(&lane.counts)));
        }
        self.each_lane_in_seats(|lane| counts.add(&lane.counts));
        for (opcode, requests) in COUNTED.into_iter().zip(counts.requests) {
            sum.frames_sent.count_many(opcode, requests);
            sum.frames_received.count_many(opcode, requests);
        }
        sum.found += counts.found;
        sum.value_bytes_sent += counts.value_bytes_sent;
        sum.value_bytes_received += counts.value_bytes_received;
        sum.checksum_mismatches += counts.checksum_mismatches;
        sum.lanes_opened += read(&self.counters.lanes_opened);
        sum.connections_broken += read(&self.counters.lanes_broken);
    }

    /// The homes of names with these hashes to which a lane is wanted.
    pub(crate) fn missing(&self, hashes: impl Iterator<Item = u64>) -> Vec<Arc<Core>> {
        let directory = self.directory.load();
        let mut looked_at: Vec<u16> = Vec::new();
        let mut missing = Vec::new();
        for home in hashes.filter_map(|hash| directory.home(hash)) {
            if looked_at.contains(&home) {
                continue;
            }
            looked_at.push(home);
            let core = &directory.cores[usize::from(home)];
            if core.is_missing() && !self.has_seat_with_lane(core) {
                missing.push(core.clone());
            }
        }
        missing
    }

    /// A lane for a call, if one is idle; never one that a forked process has from its parent, who uses it.
    #[inline]
    fn lane_to(&self, core: &Core) -> Option<Box<LocalLane>> {
        if self.birth.is_here() { core.take().or_else(|| self.lane_from_seat(core)) } else { None }
    }

    /// A lane was opened, or cannot be had.
    pub(crate) fn opened(&self, core: &Core, lane: Option<OpenedLane>) {
        match lane {
            Some(opened) => {
                let lane = Box::new(LocalLane::new(opened, &core.atlas, self.spin));
                core.lanes.with(|lanes| {
                    lanes.idle.push(lane);
                    lanes.open += 1;
                    lanes.closed_until = None;
                });
                self.counters.lanes_opened.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                let until = Instant::now() + CLOSED_FOR;
                core.lanes.with(|lanes| lanes.closed_until = Some(until));
            }
        }
    }
}

fn key_of(member: &Member) -> (snowskin_protocol::CoreId, u64, std::net::SocketAddr) {
    (member.id, member.incarnation.0, member.address)
}

impl Directory {
    /// The place of the home of a name with this hash among the members.
    #[inline]
    fn home(&self, hash: u64) -> Option<u16> {
        let home = *self.table.homes.get(Slot::of_hash(hash).index())?;
        (usize::from(home) < self.cores.len()).then_some(home)
    }
}

impl Core {
    #[inline]
    fn take(&self) -> Option<Box<LocalLane>> {
        self.lanes.with(|lanes| lanes.idle.pop())
    }

    /// Whether a lane is wanted, and might be opened.
    fn is_missing(&self) -> bool {
        let now = Instant::now();
        self.lanes.with(|lanes| {
            lanes.idle.is_empty()
                && lanes.open < LANES_MAX
                && lanes.closed_until.is_none_or(|until| now >= until)
        })
    }

    /// Gives a lane back, for the next call; one that is broken is gone.
    #[inline]
    fn put_back(&self, lane: Box<LocalLane>, counters: &Counters) {
        match lane.is_broken() {
            false => self.lanes.with(|lanes| lanes.idle.push(lane)),
            true => self.bury(&lane, counters),
        }
    }

    /// A lane is broken, and will be dropped.
    #[cold]
    fn bury(&self, lane: &LocalLane, counters: &Counters) {
        // Whoever closed it may close the next one, too.
        let until = Instant::now() + CLOSED_FOR / 50;
        self.lanes.with(|lanes| {
            lanes.open -= 1;
            lanes.closed_until = Some(until);
        });
        counters.lanes_broken.fetch_add(1, Ordering::Relaxed);
        counters.gone.lock().unwrap_or_else(PoisonError::into_inner).add(&lane.counts);
    }
}
