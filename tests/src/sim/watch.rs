//! Looks into every core between two ticks: what was evicted, who was lost, and whether the invariants hold.
//!
//! What the checker may excuse comes from here and nowhere else, so that no core can excuse itself: an eviction is a
//! row that has left with its bytes; a loss is a core that ended, left, or was declared dead by a table.

use super::book::SharedBook;
use crate::model::{Fact, KeyId, Stamp};
use crate::simulated::SimCluster;
use snowskin_engine::percore::{PerCore, Routing};
use snowskin_io::sim::SimPlatform;
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::{CoreId, Epoch, Incarnation, Member, MissReason, RoutingTable};
use std::collections::BTreeMap;
use std::rc::Rc;

type Life = (CoreId, Incarnation);
type Core = Rc<PerCore<SimPlatform>>;

/// What is known of a core since the last look.
struct Watched {
    core: Core,
    /// The table it had.
    routing: Rc<Routing>,
    /// The last departure that was seen.
    departures: u64,
    /// Since when it leaves.
    leaves_since: Option<Stamp>,
    split: Option<Split>,
    stats: CoreStats,
}

/// A core that was declared dead serves on by an old table.
struct Split {
    keys: Vec<KeyId>,
    from: Stamp,
    epoch: Epoch,
}

/// The eyes of a run.
pub(super) struct Watch {
    book: SharedBook,
    last: Stamp,
    lives: BTreeMap<Life, Watched>,
    /// Lives that have ended, and since when, of which somebody has not heard: what is on its way to them is still being
    /// lost.
    ending: Vec<(Life, Stamp)>,
    /// The table of each epoch, by whoever was seen to have it first.
    tables: BTreeMap<Epoch, (Rc<Routing>, CoreId)>,
}

impl Watch {
    /// Eyes that have seen nothing.
    pub(super) fn new(book: SharedBook) -> Watch {
        let last = book.borrow_mut().stamp();
        Watch { book, last, lives: BTreeMap::new(), ending: Vec::new(), tables: BTreeMap::new() }
    }

    /// Looks at everything. To be called before and after every fault, and every few milliseconds.
    pub(super) fn look(&mut self, cluster: &SimCluster) {
        let now = self.book.borrow_mut().stamp();
        let cores: Vec<Core> = cluster.cores().collect();
        for core in &cores {
            let life = (core.identity.id, core.identity.incarnation);
            self.lives.entry(life).or_insert_with(|| Watched {
                core: core.clone(),
                routing: core.routing.borrow().clone(),
                departures: 0,
                leaves_since: None,
                split: None,
                stats: CoreStats::default(),
            });
        }
        self.note_departures(now);
        self.note_ends(&cores, now);
        self.note_losses(cluster, &cores, now);
        self.look_at_tables(now);
        self.note_splits(now);
        self.check_homes();
        self.look_at_counters();
        self.last = now;
    }

    fn note_departures(&mut self, now: Stamp) {
        let mut book = self.book.borrow_mut();
        let cores: Vec<Core> = self.lives.values().map(|watched| watched.core.clone()).collect();
        for watched in self.lives.values_mut() {
            for departure in watched.core.shard.borrow().departures_after(watched.departures) {
                watched.departures = departure.number;
                let key = book.keys.with_hash(departure.hash);
                log::trace!("{} core {}: {departure:?} is key {key:?}", now.at, watched.core.identity.id);
                if let (MissReason::Evicted, Some(_), Some(key)) =
                    (departure.reason, departure.value_bytes, key)
                {
                    // What others have as well may go here: what leases protect is all of it together.
                    let name = book.keys.name(key).as_ref().hashed();
                    let is_elsewhere = cores.iter().any(|core| core.shard.borrow().has_bytes(name));
                    let value_bytes = departure.value_bytes.filter(|_| !is_elsewhere);
                    book.note(Fact::Evicted { key, value_bytes, after: self.last, before: now });
                }
            }
        }
    }

    /// Cores that were there at the last look and are not any more, and those that are leaving.
    fn note_ends(&mut self, cores: &[Core], now: Stamp) {
        let (book, last, ending) = (&self.book, self.last, &mut self.ending);
        self.lives.retain(|life, watched| {
            let lives = cores.iter().any(|core| Rc::ptr_eq(core, &watched.core));
            if watched.core.leaving.get() {
                watched.leaves_since.get_or_insert(last);
            }
            if !lives {
                ending.push((*life, watched.leaves_since.unwrap_or(last)));
                end_split(book, watched, last, now);
            }
            lives
        });
    }

    /// A life is lost for good when neither the master nor any core that lives has it in its table.
    fn note_losses(&mut self, cluster: &SimCluster, cores: &[Core], now: Stamp) {
        let known = self.tables.last_key_value().map(|(_, (routing, _))| routing.clone());
        let is_known = |life: Life| {
            let master = cluster.master();
            let (id, incarnation) = life;
            let is_it = |member: &Member| (member.id, member.incarnation) == (id, incarnation);
            let cores_know = cores.iter().any(|core| has_life(&core.routing.borrow().table, life));
            cores_know
                || !cluster.master_platform.is_alive()
                || has_life(master.state.table(), life)
                || master.state.membership().wanted().iter().any(is_it)
                || known.as_ref().is_some_and(|routing| has_life(&routing.table, life))
        };
        for (_, after) in self.ending.extract_if(.., |(life, _)| !is_known(*life)) {
            self.book.borrow_mut().note(Fact::CoreLost { after, until: now });
        }
    }

    /// There is one table an epoch. A core may learn from its new table that it was declared dead.
    fn look_at_tables(&mut self, now: Stamp) {
        for (life, watched) in &mut self.lives {
            let routing = watched.core.routing.borrow().clone();
            let epoch = routing.table.epoch;
            if Rc::ptr_eq(&routing, &watched.routing) || epoch == Epoch(0) {
                continue;
            }
            if watched.split.is_none()
                && has_life(&watched.routing.table, *life)
                && !has_life(&routing.table, *life)
            {
                self.book.borrow_mut().note(Fact::CoreLost { after: self.last, until: now });
            }
            watched.routing = routing.clone();
            let id = watched.core.identity.id;
            if log::log_enabled!(log::Level::Trace) {
                let keys = self.book.borrow().keys.clone();
                let home = |key| routing.table.home(keys.slot(key)).map(|home| home.id.to_string());
                let homes: Vec<_> = (0..keys.count()).map(|key| home(key).unwrap_or_default()).collect();
                log::trace!("core {id} has epoch {epoch}: homes {homes:?}");
            }
            let (first, by) = self.tables.entry(epoch).or_insert_with(|| (routing.clone(), id));
            if first.table != routing.table {
                let what = format!("there are two tables of epoch {epoch}: {by} has another one than {id}");
                self.book.borrow_mut().break_promise(what);
            }
        }
    }

    fn note_splits(&mut self, now: Stamp) {
        for (life, watched) in &mut self.lives {
            let table = &watched.routing.table;
            if watched.split.as_ref().is_some_and(|split| table.epoch > split.epoch) {
                end_split(&self.book, watched, self.last, now);
            }
            let table = &watched.routing.table;
            let was_declared_dead = || {
                self.tables.range(table.epoch.next()..).any(|(_, (newer, _))| !has_life(&newer.table, *life))
            };
            if watched.split.is_none() && has_life(table, *life) && was_declared_dead() {
                let keys = served_keys(&self.book, watched);
                let mut book = self.book.borrow_mut();
                book.coverage.count("split", 1);
                book.tell(format!("core {} was declared dead and does not know it", life.0));
                book.note(Fact::CoreLost { after: self.last, until: now });
                watched.split = Some(Split { keys, from: self.last, epoch: table.epoch });
            }
        }
    }

    /// A slot is served by one core, but for those that were declared dead and do not know it.
    fn check_homes(&self) {
        let mut book = self.book.borrow_mut();
        for key in 0..book.keys.count() {
            let slot = book.keys.slot(key);
            let is_split =
                |watched: &Watched| watched.split.as_ref().is_some_and(|split| split.keys.contains(&key));
            let homes: Vec<CoreId> = self
                .lives
                .values()
                .filter(|watched| watched.core.shard.borrow().serves(slot) && !is_split(watched))
                .map(|watched| watched.core.identity.id)
                .collect();
            if homes.len() > 1 {
                book.break_promise(format!("key {key} has more than one home: cores {homes:?}"));
            }
        }
    }

    fn look_at_counters(&mut self) {
        let mut book = self.book.borrow_mut();
        for watched in self.lives.values_mut() {
            let (stats, before) = (watched.core.stats(), watched.stats);
            let sum = stats.free_bytes + stats.live_bytes + stats.pinned_bytes + stats.reserved_bytes;
            if sum != stats.capacity_bytes {
                let id = watched.core.identity.id;
                book.break_promise(format!("the bytes of core {id} do not add up: {stats:?}"));
            }
            for (name, now, was) in [
                ("core evicted", stats.evicted, before.evicted),
                ("core wrong_homes", stats.wrong_homes, before.wrong_homes),
                ("core entries_taken", stats.entries_taken, before.entries_taken),
                ("core entries_given", stats.entries_given, before.entries_given),
                ("core puts_broken", stats.puts_broken, before.puts_broken),
                ("core puts_no_space", stats.puts_no_space, before.puts_no_space),
                ("core objects_elsewhere", stats.objects_elsewhere, 0),
                ("core pinned_bytes", stats.pinned_bytes.min(1), 0),
                ("core reserved_bytes", stats.reserved_bytes.min(1), 0),
                ("core lanes", stats.lanes.min(1), 0),
                ("core lane_pins", stats.lane_pins.min(1), 0),
                ("core lane_puts", stats.lane_puts.min(1), 0),
                ("core slots_awaited", stats.slots_awaited.min(1), 0),
                ("core slots_frozen", stats.slots_frozen.min(1), 0),
                ("core replicas_made", stats.replicas_made, before.replicas_made),
                ("core replicas_not_made", stats.replicas_not_made, before.replicas_not_made),
                ("core replicas_kept", stats.replicas_kept.min(1), 0),
                ("core replicas_found", stats.replicas_found, before.replicas_found),
                ("core demoted", stats.demoted, before.demoted),
                ("core ssd_recovered", stats.ssd_recovered, before.ssd_recovered),
                ("core shelf_hits", stats.shelf_hits, before.shelf_hits),
            ] {
                if now > was {
                    book.coverage.count(name, now - was);
                }
            }
            watched.stats = stats;
        }
    }

    /// Epochs that cores were seen to have.
    pub(super) fn epochs(&self) -> u64 {
        self.tables.len() as u64
    }

    /// Ends what is still open at the end of a run.
    pub(super) fn close(&mut self) {
        let now = self.book.borrow_mut().stamp();
        for (_, after) in std::mem::take(&mut self.ending) {
            self.book.borrow_mut().note(Fact::CoreLost { after, until: now });
        }
        for watched in self.lives.values_mut() {
            if let Some(after) = watched.leaves_since {
                self.book.borrow_mut().note(Fact::CoreLost { after, until: now });
            }
            end_split(&self.book, watched, self.last, now);
        }
    }
}

fn has_life(table: &RoutingTable, (id, incarnation): Life) -> bool {
    table.members.iter().any(|member| (member.id, member.incarnation) == (id, incarnation))
}

/// The keys that a core serves, or will by the table it has.
fn served_keys(book: &SharedBook, watched: &Watched) -> Vec<KeyId> {
    let keys = book.borrow().keys.clone();
    let (table, me) = (&watched.routing.table, watched.core.identity.id);
    let is_home = |key: &KeyId| table.home(keys.slot(*key)).is_some_and(|home| home.id == me);
    let serves = |key: &KeyId| watched.core.shard.borrow().serves(keys.slot(*key));
    (0..keys.count()).filter(|key| is_home(key) || serves(key)).collect()
}

/// What was written to the core meanwhile is lost with the end of the split.
fn end_split(book: &SharedBook, watched: &mut Watched, last: Stamp, now: Stamp) {
    if let Some(Split { keys, from, .. }) = watched.split.take() {
        let mut book = book.borrow_mut();
        book.note(Fact::Split { keys, from, to: now });
        book.note(Fact::CoreLost { after: last, until: now });
    }
}
