//! Removing objects: by name, by pattern, and dropping what nobody refers to.

use super::Shard;
use super::index::{Bytes, Position, Row};
use regex::bytes::Regex;
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::limits::SCAN_ROWS_PER_STEP;
use snowskin_protocol::wire::data::{ItemReply, ItemStatus, KeyItem, RemovedStep};
use snowskin_protocol::{Checksum, CoreId, MissReason, NameRef, ObjectName, Slot, Version};

/// Rows that are matched with a pattern in one step: matching may be slow.
const MATCHED_ROWS_PER_STEP: u32 = 512;

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
    pub(super) fn of_row(row: Row) -> Option<Self> {
        match row.bytes {
            Bytes::Here(_) => None,
            Bytes::At(holder) => Some(Dropped { holder, name: row.name, version: row.version }),
        }
    }
}

impl Shard {
    /// Removes one object, unless a lease protects it and `item` does not force.
    pub fn remove(&mut self, name: NameRef<'_>, item: &KeyItem, now: Moment) -> (ItemReply, Option<Dropped>) {
        let hash = name.hash();
        let service = match self.answers_for(Slot::of_hash(hash)) {
            Ok(service) => service,
            Err(status) => return (ItemReply::status(status), None),
        };
        let Some(position) = self.find_entry(name, hash) else {
            return (ItemReply::miss(self.miss_reason(hash, service)), None);
        };
        let force = item.flags & KeyItem::FORCE != 0;
        if !force && self.index.row(position).lease_until > now && !seeded_bug!("remove under lease") {
            return (ItemReply::status(ItemStatus::Leased), None);
        }
        if seeded_bug!("remove forgotten") && position.is_multiple_of(4) {
            return (ItemReply::status(ItemStatus::Ok), None);
        }
        (ItemReply::status(ItemStatus::Ok), self.remove_entry(position))
    }

    /// A step of removing all objects of a tenant whose key matches (all of them, without a pattern). Also answers
    /// the replicas at other cores that lost their entry.
    pub fn remove_matching(
        &mut self,
        cursor: u32,
        tenant: &[u8],
        pattern: Option<&Regex>,
        force: bool,
        now: Moment,
    ) -> (RemovedStep, Vec<Dropped>) {
        let rows_max = if pattern.is_some() { MATCHED_ROWS_PER_STEP } else { SCAN_ROWS_PER_STEP as u32 };
        let end = self.index.end().min(cursor.saturating_add(rows_max));
        let mut step = RemovedStep { cursor: end, leased: 0, removed: 0 };
        let mut dropped = Vec::new();
        for position in cursor..end {
            let Some(row) = self.index.get(position) else { continue };
            let name = row.name.as_ref();
            let is_mine = self.serves(row.slot()) && self.is_entry(row);
            let is_mine = is_mine && !(seeded_bug!("sweep skips rows") && position % 8 == 7);
            // The pattern last: it is the dear part.
            let matches = || pattern.is_none_or(|pattern| pattern.is_match(name.key()));
            let is_theirs = name.tenant() == tenant || seeded_bug!("sweep of all tenants");
            if !is_mine || !is_theirs || !matches() {
                continue;
            }
            if !force && row.lease_until > now {
                step.leased += 1;
                continue;
            }
            step.removed += 1;
            dropped.extend(self.remove_entry(position));
        }
        if end == self.index.end() {
            step.cursor = RemovedStep::DONE;
        }
        (step, dropped)
    }

    /// As a home: a reader was told by the holder that this version is gone, and why. Drops the entry if it still
    /// says so. As a holder: a reader got wrong bytes of this version. Drops them if they are wrong here.
    pub fn forget(&mut self, name: NameRef<'_>, item: &KeyItem) {
        let (hash, version) = (name.hash(), item.version);
        if item.flags & KeyItem::CORRUPT != 0 {
            return self.drop_corrupt(name, hash, version);
        }
        let serves = self.serves(Slot::of_hash(hash));
        let Some(position) = self.index.find(name, hash) else { return };
        let row = self.index.row(position);
        let is_same = row.version == version || seeded_bug!("forget another version");
        if serves && !row.is_here() && is_same {
            let row = self.index.remove(position);
            // A holder that does not know why has lost what it knew.
            let known = |reason: &MissReason| matches!(reason, MissReason::Evicted | MissReason::Corrupt);
            let reason = item.reason().filter(known).unwrap_or(MissReason::OwnerLost);
            let told = if seeded_bug!("lost called evicted") { MissReason::Evicted } else { reason };
            self.note_departure(&row, told);
        }
    }

    fn drop_corrupt(&mut self, name: NameRef<'_>, hash: u64, version: Version) {
        let Some(position) = self.index.find(name, hash) else { return };
        let row = self.index.row(position);
        if let Bytes::Here(extent) = &row.bytes
            && row.version == version
            && Checksum::of(extent.value()) != row.checksum
        {
            log::error!("core {}: the bytes of {name:?} have changed in memory; dropped", self.me);
            let row = self.index.remove(position);
            self.note_departure(&row, MissReason::Corrupt);
        }
    }

    /// As a holder: the home no longer refers to this version. Frees it, unless we vouch for it ourselves.
    pub fn drop_replica(&mut self, name: NameRef<'_>, version: Version) {
        let hash = name.hash();
        let Some(position) = self.index.find(name, hash) else { return };
        let row = self.index.row(position);
        let is_same = row.version == version || seeded_bug!("drop another version");
        if row.is_here() && is_same && (!self.is_entry(row) || seeded_bug!("drop another version")) {
            // Nothing to remember: it may have been removed or replaced, and its home knows which.
            self.index.remove(position);
        }
    }

    fn remove_entry(&mut self, position: Position) -> Option<Dropped> {
        let row = self.index.remove(position);
        self.note_departure(&row, MissReason::Removed);
        self.counters.removed += 1;
        Dropped::of_row(row)
    }
}
