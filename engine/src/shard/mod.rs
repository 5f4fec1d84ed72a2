//! A core's part of the store: its directory, its memory, and the verbs that change them.
//!
//! Plain synchronous code. Time is an argument; nothing here waits, and every verb does a bounded amount of work.
//! This is the only place where the meaning of the operations lives (`docs/PROMISES.md`):
//!
//! * [`put`]: first writer wins, all or nothing, eviction makes room;
//! * [`read`]: get and lookup, at the home and at a holder, leases;
//! * [`remove`]: by name and by pattern;
//! * [`list`]: which keys are held;
//! * [`replicas`], [`kept`]: who else has the bytes of an entry; replicas of other homes' objects;
//! * [`handover`]: giving entries to a new home and taking them from an old one.
//!
//! A row is an *entry* when this core is the home of its slot and vouches for it (see [`slots`]), and a *replica*
//! when its bytes are here. Usually it is both. Homes answer about entries; holders answer for one exact version.

mod copies;
mod eviction;
mod ghosts;
mod groups;
mod handover;
mod index;
mod kept;
mod list;
mod names;
mod pins;
mod put;
mod read;
mod read_before;
mod remove;
mod replicas;
mod row;
mod shelf;
mod slots;
mod table;
mod tiered;
mod together;
mod unmount;

#[cfg(test)]
mod copies_tests;
#[cfg(test)]
mod lineage_tests;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod replicas_cluster_tests;
#[cfg(test)]
mod replicas_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tiered_tests;

pub use copies::{Admission, CopyStart, TierPolicy, UnknownAdmission, WriteMode};
pub use eviction::EvictStep;
pub use ghosts::Departure;
pub use kept::TakeStart;
pub use put::{PutStart, PutTicket};
pub use read::{Answer, Held};
pub use remove::Dropped;
pub use replicas::{Holders, ReplicaEnd, ReplicaNews};
pub use row::RecordId;
pub use shelf::{ReaderId, cards_for};
pub use tiered::{Demoted, Demotion};
pub use together::{TOGETHER, some_at_a_time};
pub use unmount::UnmountStep;

use crate::eviction::PolicyKind;
use crate::segment::Segments;
use ghosts::Ghosts;
use groups::Groups;
use index::{Gone, Index, Why};
use pins::SoftPins;
use replicas::Replicas;
use row::{Place, Position, Row};
use shelf::Shelf;
use slots::{Service, Slots};
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::wire::control::SlotSet;
use snowskin_protocol::wire::data::ItemStatus;
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::{
    CoreId, HashedName, Incarnation, Life, MissReason, RoutingTable, Settings, Slot, Strategy, Version,
};
use std::collections::VecDeque;
use std::time::Duration;
use tiered::Tiered;
use unmount::Unmount;

/// What a shard is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What holds until the master says otherwise.
    pub settings: Settings,
    /// Which object goes when room is needed.
    pub policy: PolicyKind,
}

/// What a core owns of the store.
#[derive(Debug)]
pub struct Shard {
    me: CoreId,
    incarnation: Incarnation,
    index: Index,
    slots: Slots,
    ghosts: Ghosts,
    segments: Segments,
    soft_pins: SoftPins,
    groups: Groups,
    replicas: Replicas,
    /// Slots whose last home is gone, of which replicas are kept here that no home has claimed since.
    unclaimed: SlotSet,
    /// Segments on their way out; the first is the next to have a turn.
    unmounts: VecDeque<Unmount>,
    /// What is kept of rows with records on the SSD, if there is one.
    tiered: Option<Tiered>,
    /// What clients of this machine find without asking, if there is a shelf.
    shelf: Option<Shelf>,
    /// Rows that the reads of the present batch have used, and the hashes of their names.
    touched: Vec<(Position, u64)>,
    settings: Settings,
    /// The last version given to a put.
    version: Version,
    evicting: bool,
    counters: CoreStats,
}

impl Shard {
    /// An empty shard that serves no slot yet.
    pub fn new((me, incarnation): Life, mut segments: Segments, options: Options) -> Self {
        segments.set_strategy(options.settings.strategy());
        Shard {
            me,
            incarnation,
            index: Index::new(options.policy),
            slots: Slots::new(),
            ghosts: Ghosts::default(),
            segments,
            soft_pins: SoftPins::default(),
            groups: Groups::default(),
            replicas: Replicas::default(),
            unclaimed: SlotSet::new(),
            unmounts: VecDeque::new(),
            tiered: None,
            shelf: None,
            touched: Vec::new(),
            settings: options.settings,
            version: if seeded_bug!("lives share versions") {
                Version(0)
            } else {
                Version::first_of(me, incarnation)
            },
            evicting: false,
            counters: CoreStats::default(),
        }
    }

    /// Takes over a newer table.
    pub fn apply_table(&mut self, table: &RoutingTable) {
        let me = (self.me, self.incarnation);
        let is_member = table.members.iter().any(|member| member.life() == me);
        let heir_of = if is_member { self.take_heritage() } else { None };
        self.slots.apply(table, me, heir_of);
        if table.members.iter().all(|member| member.id == self.me) && !self.keeps_replicas() {
            // Nobody is there who could keep anything.
            let all = self.slots.claiming().clone();
            self.slots.finish_claiming(&all);
        }
        self.follow_slots();
        if is_member {
            self.settle_recovered(table, heir_of);
        }
        if self.slots.take_raised() {
            self.look_for_strangers();
        }
    }

    /// Takes over new settings.
    pub fn apply_settings(&mut self, settings: Settings) {
        self.settings = settings;
        self.segments.set_strategy(settings.strategy());
    }

    /// How a place is chosen among several.
    pub fn strategy(&self) -> Strategy {
        self.settings.strategy()
    }

    /// The memory.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// The memory, to reserve some of it.
    pub fn segments_mut(&mut self) -> &mut Segments {
        &mut self.segments
    }

    /// Bytes of the process's own memory that keep account of objects: of their rows without the bytes of their names,
    /// and of the ranges of segments.
    pub fn account_bytes(&self) -> (usize, usize) {
        (self.index.heap_bytes_beside_names(), self.segments.heap_bytes())
    }

    /// Whether there is a row of that name, whatever it means: what a lookup does least.
    pub fn knows(&self, name: HashedName<'_>) -> bool {
        self.index.find(name).is_some()
    }

    /// Whether there are bytes of that name here, whatever they mean.
    pub fn has_bytes(&self, name: HashedName<'_>) -> bool {
        self.index.find(name).is_some_and(|position| !self.index.row(position).is_elsewhere())
    }

    /// Asks the processor for what [`Shard::knows`] will read.
    pub fn prefetch_rows(&self, hashes: impl Iterator<Item = u64> + Clone) {
        self.index.prefetch(hashes);
    }

    /// Asks the processor for what verbs on these names will read.
    pub fn prefetch(&self, hashes: impl Iterator<Item = u64> + Clone) {
        hashes.clone().for_each(|hash| self.slots.prefetch(Slot::of_hash(hash)));
        self.index.prefetch(hashes);
    }

    /// The counters of the store; those of frames and connections are counted elsewhere.
    pub fn stats(&self) -> CoreStats {
        let usage = self.segments.usage();
        let slots = self.slots.counts();
        let live_bytes = self.index.live_bytes();
        let (shelf_bytes, shelf_held_bytes) = self.shelf_bytes();
        CoreStats {
            capacity_bytes: usage.capacity_bytes,
            free_bytes: usage.free_bytes,
            reserved_bytes: usage.reserved_bytes,
            live_bytes,
            pinned_bytes: usage.pinned_bytes,
            shelf_bytes,
            shelf_held_bytes,
            objects: self.index.here_count(),
            objects_on_ssd: self.index.on_ssd_count(),
            objects_elsewhere: self.index.elsewhere_count(),
            replicas_kept: self.index.kept_count(),
            slots_served: slots.served,
            slots_awaited: slots.awaited,
            slots_frozen: slots.frozen,
            ..self.counters
        }
    }

    /// Whether this core answers for a slot.
    pub fn serves(&self, slot: Slot) -> bool {
        matches!(self.slots.service(slot), Service::Home { .. })
    }

    /// What went from here after departure `number`, as far as it is remembered, in order.
    pub fn departures_after(&self, number: u64) -> impl Iterator<Item = Departure> + '_ {
        self.ghosts.departures_after(number)
    }

    fn note_departure(&mut self, gone: &Gone, reason: MissReason) {
        let is_here = !matches!(gone.place, Place::At(_));
        self.ghosts.remember(gone.hash, reason, is_here.then_some(gone.value_bytes));
    }

    #[inline]
    fn lease_end(&self, now: Moment) -> Moment {
        now + Duration::from_millis(u64::from(self.settings.lease_ms))
    }

    /// Whether this core answers for the slot now; else what to say instead.
    #[inline]
    fn answers_for(&mut self, slot: Slot) -> Result<Service, ItemStatus> {
        match self.slots.service(slot) {
            Service::WrongHome => {
                self.counters.wrong_homes += 1;
                Err(ItemStatus::WrongHome)
            }
            Service::Moving => Err(ItemStatus::Moving),
            home @ Service::Home { .. } => Ok(home),
        }
    }

    #[inline]
    fn is_entry(&self, row: &Row) -> bool {
        row.generation() == self.slots.generation(row.slot())
    }

    /// The entry of a name whose home we are. A row that is no entry is an orphan here: nobody refers to it (any
    /// more), so it goes.
    #[inline]
    fn find_entry(&mut self, name: HashedName<'_>) -> Option<Position> {
        let position = self.index.find(name)?;
        if self.is_entry(self.index.row(position)) {
            return Some(position);
        }
        self.take_out(position, Why::Dropped);
        None
    }

    fn miss_reason(&self, hash: u64, service: Service) -> MissReason {
        let after_loss = service == Service::Home { after_loss: true };
        let unknown = if after_loss { MissReason::OwnerLost } else { MissReason::NotHeld };
        self.ghosts.reason(hash).unwrap_or(unknown)
    }
}
