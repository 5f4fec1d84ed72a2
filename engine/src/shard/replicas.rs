//! At the home: who else has the bytes of an entry.
//!
//! ```text
//!            begin_replica            it keeps it                it has let go of it
//!   (none) ───────────────► Asked ───────────────► Kept ───────────────► Loose
//!                             └─── not there ──► (none)                    │ gone with the entry
//! ```
//!
//! A holder that is asked, or keeps a replica, may tell the next home of it, should this one be lost. So an entry with such holders is
//! *bound*: before it is removed or replaced all of them have to let go, and say so ([`ReplicaNews::Release`]); until then whoever wants
//! to change it is told to ask again. An entry stays as long as it is bound: if its own bytes go, it leaves for a replica.
//! `docs/notes/2026-11-28-replicas.md` has the argument.

use super::Shard;
use super::index::Why;
use super::remove::Dropped;
use super::row::{Facts, Place, Position};
use crate::shard::PutTicket;
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_io::sync::Mailbox;
use snowskin_protocol::limits::MORE_REPLICAS_MAX;
use snowskin_protocol::wire::data::{ItemStatus, PutHints};
use snowskin_protocol::wire::replica::ReplicaOrder;
use snowskin_protocol::{Checksum, CoreId, HashedName, MissReason, ObjectName, Version};
use std::collections::{HashMap, HashSet};

/// News that wait to be heard. More are not told: who waits for a release asks again, and what is not dropped goes by age.
const NEWS_MAX: usize = 65_536;

/// How far a replica is, as its home knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It was asked for. Whether it is there, and kept, is not known (yet).
    Asked,
    Kept,
    /// It is there, or was, and is not kept.
    Loose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Replica {
    holder: CoreId,
    standing: Standing,
}

/// What others are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaNews {
    /// The holders of this object are to let go of it: somebody wants to change it.
    Release(ObjectName, Version),
    /// The replica at this holder means nothing any more.
    Drop(Dropped),
}

/// Who has the bytes of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// Tells the bytes from all others of the name.
    pub version: Version,
    /// Bytes of the value.
    pub value_bytes: u64,
    /// Of the value.
    pub checksum: Checksum,
    /// Who has them, or may have them; first who is named to readers.
    pub cores: Vec<CoreId>,
}

/// What came of asking for a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaEnd {
    /// The holder keeps it.
    Kept,
    /// The holder does not have it.
    Absent,
}

/// The further holders of entries.
#[derive(Debug)]
pub(super) struct Replicas {
    of: HashMap<Position, Vec<Replica>>,
    /// Entries that are to be let go of.
    releasing: HashSet<Position>,
    news: Mailbox<ReplicaNews>,
}

impl Default for Replicas {
    fn default() -> Self {
        Replicas { of: HashMap::new(), releasing: HashSet::new(), news: Mailbox::new(NEWS_MAX) }
    }
}

impl Replicas {
    fn get(&self, position: Position) -> &[Replica] {
        // Nearly always there is none.
        if self.of.is_empty() { &[] } else { self.of.get(&position).map_or(&[], Vec::as_slice) }
    }

    fn find(&mut self, position: Position, holder: CoreId) -> Option<&mut Replica> {
        self.of.get_mut(&position)?.iter_mut().find(|replica| replica.holder == holder)
    }

    fn remove(&mut self, position: Position, holder: CoreId) {
        if let Some(replicas) = self.of.get_mut(&position) {
            replicas.retain(|replica| replica.holder != holder);
            if replicas.is_empty() {
                self.of.remove(&position);
            }
        }
        self.look_whether_released(position);
    }

    fn is_bound(&self, position: Position) -> bool {
        self.get(position).iter().any(|replica| replica.standing != Standing::Loose)
    }

    fn look_whether_released(&mut self, position: Position) {
        if !self.is_bound(position) {
            self.releasing.remove(&position);
        }
    }

    /// Which one to name to readers: best one that is known to be there.
    fn first(&self, position: Position) -> Option<CoreId> {
        let of = |standing| self.get(position).iter().find(move |replica| replica.standing == standing);
        let found = of(Standing::Kept).or_else(|| of(Standing::Loose)).or_else(|| of(Standing::Asked));
        found.map(|replica| replica.holder)
    }

    fn add(&mut self, position: Position, replica: Replica) {
        let replicas = self.of.entry(position).or_default();
        if !replicas.iter().any(|known| known.holder == replica.holder) {
            replicas.push(replica);
        }
    }
}

impl Shard {
    /// What others are to be told of replicas, as it comes.
    pub fn replica_news(&self) -> Mailbox<ReplicaNews> {
        self.replicas.news.clone()
    }

    /// Who has the bytes of an object whose home is here.
    pub fn holders(&mut self, name: HashedName<'_>) -> Option<Holders> {
        let position = self.entry_of_name(name)?;
        let row = self.index.row(position);
        let first = match self.index.place(position) {
            Place::Here(_) | Place::OnSsd(_) => self.me,
            Place::At(holder) => holder,
        };
        let others = self.replicas.get(position).iter().map(|replica| replica.holder);
        let cores = std::iter::once(first).chain(others.filter(|holder| *holder != first)).collect();
        Some(Holders {
            version: row.version(),
            value_bytes: row.value_bytes(),
            checksum: row.checksum(),
            cores,
        })
    }

    fn entry_of_name(&mut self, name: HashedName<'_>) -> Option<Position> {
        if self.serves(name.slot()) { self.find_entry(name) } else { None }
    }

    fn entry_of_version(&mut self, name: HashedName<'_>, version: Version) -> Option<Position> {
        self.entry_of_name(name).filter(|position| self.index.row(*position).version() == version)
    }

    /// A core is about to be asked for a replica; whether that makes sense. It is asked once for each version, whatever comes of it.
    pub fn begin_replica(&mut self, name: HashedName<'_>, version: Version, holder: CoreId) -> bool {
        let Some(position) = self.entry_of_version(name, version) else { return false };
        let is_known = holder == self.me
            || self.index.place(position) == Place::At(holder)
            || self.replicas.find(position, holder).is_some();
        let is_full = self.replicas.get(position).len() >= MORE_REPLICAS_MAX;
        if is_known || is_full || self.replicas.releasing.contains(&position) {
            return false;
        }
        self.replicas.add(position, Replica { holder, standing: Standing::Asked });
        true
    }

    /// Whether the replica that was asked for may be kept: nobody wants to change the object.
    pub fn may_keep(&mut self, name: HashedName<'_>, version: Version, holder: CoreId) -> bool {
        let Some(position) = self.entry_of_version(name, version) else { return false };
        let is_asked =
            matches!(self.replicas.find(position, holder), Some(Replica { standing: Standing::Asked, .. }));
        is_asked && !self.replicas.releasing.contains(&position)
    }

    /// A holder has said what became of the replica. Without an answer it stays as asked for.
    pub fn end_replica(&mut self, name: HashedName<'_>, version: Version, holder: CoreId, end: ReplicaEnd) {
        let position = self.entry_of_version(name, version);
        let listed = position.filter(|position| self.replicas.find(*position, holder).is_some());
        match (listed, end) {
            (Some(position), ReplicaEnd::Kept) => {
                self.counters.replicas_made += 1;
                if let Some(replica) = self.replicas.find(position, holder)
                    && replica.standing == Standing::Asked
                {
                    replica.standing = Standing::Kept;
                }
            }
            (Some(position), ReplicaEnd::Absent) => {
                self.counters.replicas_not_made += 1;
                self.replicas.remove(position, holder);
                self.go_on_without(position, holder, MissReason::OwnerLost);
            }
            // The object has gone or changed meanwhile, or is another home's.
            (None, ReplicaEnd::Kept) if position.is_some() || self.serves(name.slot()) => {
                self.tell(ReplicaNews::Drop(Dropped { holder, name: name.name.to_owned(), version }));
            }
            (None, _) => {}
        }
    }

    /// Whether an entry must not change yet; what to say to whoever wants that. Its holders are asked to let go.
    pub(super) fn refuse_if_bound(&mut self, position: Position) -> Option<ItemStatus> {
        if !self.replicas.is_bound(position) || seeded_bug!("bound objects change") {
            return None;
        }
        if self.replicas.releasing.insert(position) {
            let (name, version) = (self.index.name(position).to_owned(), self.index.row(position).version());
            if !self.tell(ReplicaNews::Release(name, version)) {
                self.replicas.releasing.remove(&position);
            }
        }
        Some(ItemStatus::Moving)
    }

    /// Who has to let go of an object before it changes.
    pub fn binding(&mut self, name: HashedName<'_>, version: Version) -> Vec<CoreId> {
        let Some(position) = self.entry_of_version(name, version) else { return Vec::new() };
        let binding = self.replicas.get(position).iter();
        binding.filter(|replica| replica.standing != Standing::Loose).map(|replica| replica.holder).collect()
    }

    /// A holder has let go of an object.
    pub fn replica_released(&mut self, name: HashedName<'_>, version: Version, holder: CoreId) {
        let Some(position) = self.entry_of_version(name, version) else { return };
        if let Some(replica) = self.replicas.find(position, holder) {
            replica.standing = Standing::Loose;
        }
        self.replicas.look_whether_released(position);
    }

    /// Nobody sees to it any more that holders let go of an object. Who wants to change it has them asked again.
    pub fn end_release(&mut self, name: HashedName<'_>, version: Version) {
        if let Some(position) = self.index.find(name)
            && self.index.row(position).version() == version
        {
            self.replicas.releasing.remove(&position);
        }
    }

    /// The bytes of an object that are here go, though it may be leased: the replica that takes their place is leased until then. Whether
    /// there is one.
    pub fn leave_home(&mut self, name: HashedName<'_>, version: Version, leased_until: Moment) -> bool {
        let position = self.entry_of_version(name, version);
        position.is_some_and(|position| {
            self.index.row(position).lease_until() <= leased_until && self.retreat(position, Why::Dropped)
        })
    }

    /// Milliseconds that the lease of an object runs, and which replica readers would be sent to if its bytes went.
    pub fn next_holder(
        &mut self,
        name: HashedName<'_>,
        version: Version,
        now: Moment,
    ) -> Option<(u32, CoreId)> {
        self.take_in_uses(now);
        let position = self.entry_of_version(name, version)?;
        let lease = self.index.row(position).lease_until() - now;
        let lease_ms = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
        Some((lease_ms, self.replicas.first(position)?))
    }

    /// A holder that has let go of an object is not to have it any more. Whether it was one, and is not the last one.
    pub fn leave_holder(&mut self, name: HashedName<'_>, version: Version, holder: CoreId) -> bool {
        let Some(position) = self.entry_of_version(name, version) else { return false };
        let is_named = self.index.place(position) == Place::At(holder);
        let others = self.replicas.get(position).iter().any(|replica| replica.holder != holder);
        let is_listed =
            self.replicas.find(position, holder).is_some_and(|replica| replica.standing == Standing::Loose);
        if !(is_listed || is_named) || is_named && !others {
            return false;
        }
        self.replicas.remove(position, holder);
        if is_named {
            self.stand_elsewhere(position, Why::Dropped);
        }
        self.tell(ReplicaNews::Drop(Dropped { holder, name: name.name.to_owned(), version }));
        true
    }

    /// Memory for the bytes of an entry that are elsewhere.
    pub fn room_at_home(&mut self, order: &ReplicaOrder<'_>, now: Moment) -> Option<PutTicket> {
        self.room_for_value(order.name.hashed(), order.value_bytes, order.checksum, now)
    }

    /// The bytes of an entry have come from another core, which has them still. Whether they are what they should be, and it is the same
    /// entry still.
    pub fn come_home(&mut self, name: HashedName<'_>, version: Version, ticket: PutTicket) -> bool {
        let Some(position) = self.entry_of_version(name, version) else { return false };
        let Place::At(holder) = self.index.place(position) else { return true };
        if !ticket.has_arrived() {
            return false;
        }
        let at = self.stand_at(position, Place::Here(ticket.publish()), Why::Dropped);
        self.replicas.add(at, Replica { holder, standing: Standing::Loose });
        self.ghosts.forget(name.hash);
        true
    }

    // -- when bytes go --

    /// The bytes of an entry that are here go, and others have them: it leaves for one of those. Whether there is one.
    pub(super) fn retreat(&mut self, position: Position, why: Why) -> bool {
        let row = self.index.row(position);
        if !self.is_entry(row) || row.is_elsewhere() {
            return false;
        }
        if self.replicas.first(position).is_none() || seeded_bug!("no retreat") {
            return false;
        }
        self.stand_elsewhere(position, why);
        true
    }

    /// Others have the bytes of an entry: it has the best of them in the place of its own, or of the one that it had.
    fn stand_elsewhere(&mut self, position: Position, why: Why) {
        let holder = self.replicas.first(position).expect("somebody else has its bytes");
        self.stand_at(position, Place::At(holder), why);
    }

    /// Takes an entry out and puts it back where it was, with its bytes in another place.
    fn stand_at(&mut self, position: Position, place: Place, why: Why) -> Position {
        let row = self.index.row(position);
        let facts = Facts {
            version: row.version(),
            value_bytes: row.value_bytes(),
            checksum: row.checksum(),
            generation: row.generation(),
        };
        let (lease_until, name) = (row.lease_until(), self.index.name(position).to_owned());
        let kept = self.replicas.of.remove(&position);
        let is_releasing = self.replicas.releasing.remove(&position);
        self.take_out(position, why);
        let name = name.as_ref().hashed();
        let at = self.index.insert(name, facts, place, &PutHints::default());
        // Walks over rows that have passed it would miss it elsewhere.
        assert_eq!(at, position, "the place that was left last is taken first");
        self.index.extend_lease(at, lease_until);
        kept.map(|kept| self.replicas.of.insert(at, kept));
        if is_releasing {
            self.replicas.releasing.insert(at);
        }
        at
    }

    /// A holder does not have the bytes of an entry (any more). If it was the one that readers are sent to, they are sent to the next
    /// one; without one the entry goes.
    pub(super) fn go_on_without(&mut self, position: Position, holder: CoreId, reason: MissReason) {
        self.replicas.remove(position, holder);
        if self.index.place(position) != Place::At(holder) {
            return;
        }
        if self.is_entry(self.index.row(position)) && self.replicas.first(position).is_some() {
            self.stand_elsewhere(position, Why::Dropped);
            return;
        }
        let gone = self.take_out(position, Why::Dropped);
        let own = self.ghosts.reason(gone.hash).filter(|_| reason == MissReason::OwnerLost);
        self.note_departure(&gone, own.unwrap_or(reason));
    }

    /// The bytes of a row go, for that reason: an entry with replicas goes on with those.
    pub(super) fn depart(&mut self, position: Position, why: Why, reason: MissReason) {
        if !self.replicas.of.is_empty() {
            let (hash, bytes) = (self.index.name(position).hash(), self.index.row(position).value_bytes());
            if self.retreat(position, why) {
                // Should the replicas go, too, that is why it is gone.
                return self.ghosts.remember(hash, reason, Some(bytes));
            }
        }
        let gone = self.take_out(position, why);
        self.note_departure(&gone, reason);
    }

    /// A row is taken out: its further holders are told, if they are ours to tell.
    pub(super) fn leave_replicas(&mut self, position: Position) {
        if self.replicas.of.is_empty() {
            return;
        }
        self.replicas.releasing.remove(&position);
        let Some(replicas) = self.replicas.of.remove(&position) else { return };
        let row = self.index.row(position);
        if !self.is_entry(row) || !self.serves(row.slot()) {
            return;
        }
        let (version, place) = (row.version(), self.index.place(position));
        let name = self.index.name(position).to_owned();
        for Replica { holder, .. } in replicas {
            if place != Place::At(holder) {
                self.tell(ReplicaNews::Drop(Dropped { holder, name: name.clone(), version }));
            }
        }
    }

    // -- with slots --

    /// The other holders of an entry, and whether each may keep it; and whether the core that readers are sent to may.
    pub(super) fn other_holders(&self, position: Position) -> (Vec<(CoreId, bool)>, bool) {
        let place = self.index.place(position);
        let (mut others, mut is_named_kept) = (Vec::new(), false);
        for replica in self.replicas.get(position) {
            let is_kept = replica.standing != Standing::Loose;
            if place == Place::At(replica.holder) {
                is_named_kept = is_kept;
            } else {
                others.push((replica.holder, is_kept));
            }
        }
        (others, is_named_kept)
    }

    /// What another home has known of an entry's holders.
    pub(super) fn add_holder(&mut self, position: Position, holder: CoreId, is_kept: bool) {
        let is_named = self.index.place(position) == Place::At(holder);
        if holder == self.me || is_named && !is_kept || self.replicas.get(position).len() > MORE_REPLICAS_MAX
        {
            return;
        }
        let standing = if is_kept { Standing::Kept } else { Standing::Loose };
        self.replicas.add(position, Replica { holder, standing });
    }

    /// A row is an entry of another generation from now on: what was known of its holders means nothing.
    pub(super) fn forget_holders(&mut self, position: Position) {
        self.replicas.of.remove(&position);
        self.replicas.releasing.remove(&position);
    }

    /// Entries with further holders: for walks over all of them.
    pub(super) fn with_holder(&self, lost: impl Fn(CoreId) -> bool) -> Vec<(Position, CoreId)> {
        let all =
            self.replicas.of.iter().flat_map(|(position, replicas)| {
                replicas.iter().map(move |replica| (*position, replica.holder))
            });
        let mut found: Vec<_> = all.filter(|(_, holder)| lost(*holder)).collect();
        found.sort_unstable();
        found
    }

    fn tell(&self, news: ReplicaNews) -> bool {
        self.replicas.news.send(news).is_ok()
    }
}
