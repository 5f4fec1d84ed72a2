//! Removing objects: by name, by pattern, and dropping what nobody refers to.

use super::Shard;
use super::index::{Gone, Why};
use super::list::MATCHED_ROWS_PER_STEP;
use super::row::{Place, Position};
use regex::bytes::Regex;
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::limits::SCAN_ROWS_PER_STEP;
use snowskin_protocol::wire::data::{ItemReply, ItemStatus, KeyItem, RemovedStep};
use snowskin_protocol::{Checksum, CoreId, HashedName, MissReason, NameRef, ObjectName, Version};

/// A replica at another core that no entry refers to any more: tell its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Who has the bytes.
    pub holder: CoreId,
    /// Of which object.
    pub name: ObjectName,
    /// In which version.
    pub version: Version,
}

impl Dropped {
    pub(super) fn of(name: NameRef<'_>, gone: &Gone) -> Option<Self> {
        match gone.place {
            Place::Here(_) | Place::OnSsd(_) => None,
            Place::At(holder) => Some(Dropped { holder, name: name.to_owned(), version: gone.version }),
        }
    }
}

impl Shard {
    /// Removes one object, unless a lease protects it and `item` does not force.
    pub fn remove(
        &mut self,
        name: HashedName<'_>,
        item: &KeyItem,
        now: Moment,
    ) -> (ItemReply, Option<Dropped>) {
        let service = match self.answers_for(name.slot()) {
            Ok(service) => service,
            Err(status) => return (ItemReply::status(status), None),
        };
        let Some(position) = self.find_entry(name) else {
            return (ItemReply::miss(self.miss_reason(name.hash, service)), None);
        };
        self.take_in_uses(now);
        let force = item.flags & KeyItem::FORCE != 0;
        if !force && self.index.row(position).lease_until() > now && !seeded_bug!("remove under lease") {
            return (ItemReply::status(ItemStatus::Leased), None);
        }
        if let Some(status) = self.refuse_if_bound(position) {
            return (ItemReply::status(status), None);
        }
        if seeded_bug!("remove forgotten") && position.is_multiple_of(4) {
            return (ItemReply::status(ItemStatus::Ok), None);
        }
        (ItemReply::status(ItemStatus::Ok), self.remove_entry(position))
    }

    /// A step of removing all objects of a tenant whose key matches (all of them, without a pattern). Also answers
    /// the replicas at other cores that lost their entry. Ends before an object that other holders have to let go of first; `None`:
    /// that is the first one.
    pub fn remove_matching(
        &mut self,
        cursor: u32,
        tenant: &[u8],
        pattern: Option<&Regex>,
        force: bool,
        now: Moment,
    ) -> Option<(RemovedStep, Vec<Dropped>)> {
        self.take_in_uses(now);
        let rows_max = if pattern.is_some() { MATCHED_ROWS_PER_STEP } else { SCAN_ROWS_PER_STEP as u32 };
        let end = self.index.end().min(cursor.saturating_add(rows_max));
        let mut step = RemovedStep { cursor: end, leased: 0, removed: 0 };
        let mut dropped = Vec::new();
        for position in cursor..end {
            let Some(row) = self.index.get(position) else { continue };
            let name = self.index.name(position);
            let is_mine = self.serves(row.slot()) && self.is_entry(row);
            let is_mine = is_mine && !(seeded_bug!("sweep skips rows") && position % 8 == 7);
            // The pattern last: it is the dear part.
            let matches = || pattern.is_none_or(|pattern| pattern.is_match(name.key()));
            let is_theirs = name.tenant() == tenant || seeded_bug!("sweep of all tenants");
            if !is_mine || !is_theirs || !matches() {
                continue;
            }
            if !force && row.lease_until() > now {
                step.leased += 1;
                continue;
            }
            if self.refuse_if_bound(position).is_some() {
                step.cursor = position;
                return (position > cursor).then_some((step, dropped));
            }
            step.removed += 1;
            dropped.extend(self.remove_entry(position));
        }
        if end == self.index.end() {
            step.cursor = RemovedStep::DONE;
        }
        Some((step, dropped))
    }

    /// As a home: a reader was told by the holder that this version is gone, and why. Drops the entry if it still
    /// says so. As a holder: a reader got wrong bytes of this version. Drops them if they are wrong here.
    pub fn forget(&mut self, name: HashedName<'_>, item: &KeyItem) {
        let version = item.version;
        if item.flags & KeyItem::CORRUPT != 0 {
            return self.drop_corrupt(name, version);
        }
        let serves = self.serves(name.slot());
        let Some(position) = self.index.find(name) else { return };
        let row = self.index.row(position);
        let is_same = row.version() == version || seeded_bug!("forget another version");
        if serves
            && is_same
            && let Place::At(holder) = self.index.place(position)
            && item.is_of_holder(holder)
        {
            // A holder that does not know why has lost what it knew.
            let known = |reason: &MissReason| matches!(reason, MissReason::Evicted | MissReason::Corrupt);
            let reason = item.reason().filter(known).unwrap_or(MissReason::OwnerLost);
            let told = if seeded_bug!("lost called evicted") { MissReason::Evicted } else { reason };
            self.go_on_without(position, holder, told);
        }
    }

    fn drop_corrupt(&mut self, name: HashedName<'_>, version: Version) {
        let Some(position) = self.index.find(name) else { return };
        let row = self.index.row(position);
        if let Place::Here(extent) = self.index.place(position)
            && row.version() == version
            && Checksum::of(self.segments.pin(extent, row.value_bytes()).value()) != row.checksum()
        {
            log::error!("core {}: the bytes of {:?} have changed in memory; dropped", self.me, name.name);
            self.depart(position, Why::Dropped, MissReason::Corrupt);
        }
    }

    /// As a holder: the home no longer refers to this version. Frees it, unless we vouch for it ourselves.
    pub fn drop_replica(&mut self, name: HashedName<'_>, version: Version) {
        let Some(position) = self.index.find(name) else { return };
        let row = self.index.row(position);
        let is_same = row.version() == version || seeded_bug!("drop another version");
        if !row.is_elsewhere() && is_same && (!self.is_entry(row) || seeded_bug!("drop another version")) {
            // Nothing to remember: it may have been removed or replaced, and its home knows which.
            self.take_out(position, Why::Dropped);
        }
    }

    fn remove_entry(&mut self, position: Position) -> Option<Dropped> {
        let is_elsewhere = self.index.row(position).is_elsewhere();
        let name = is_elsewhere.then(|| self.index.name(position).to_owned());
        let gone = self.take_out(position, Why::Dropped);
        self.note_departure(&gone, MissReason::Removed);
        self.counters.removed += 1;
        name.and_then(|name| Dropped::of(name.as_ref(), &gone))
    }
}
