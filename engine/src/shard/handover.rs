//! Entries change their home: giving them in pages, taking them, forgetting what was given. Bytes stay.

use super::Shard;
use super::index::Why;
use super::row::{Facts, Place, Position, Row};
use super::slots::SlotCounts;
use crate::eviction::Pin;
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::limits::{BODY_BYTES_MAX, MORE_REPLICAS_MAX, NAME_BYTES_MAX, SCAN_ROWS_PER_STEP};
use snowskin_protocol::wire::control::{Entry, LAST_PAGE, Page, PageWriter, SlotSet};
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::{CoreId, Life, MissReason};
use std::collections::{BTreeMap, BTreeSet};

/// A page ends when the next object might not fit, which has an entry for each of its holders.
pub(super) const PAGE_BYTES_MAX: usize = BODY_BYTES_MAX - (MORE_REPLICAS_MAX + 1) * (NAME_BYTES_MAX + 64);

impl Shard {
    /// Which slots are to be asked for, of whom.
    pub fn awaited(&self) -> BTreeMap<Life, SlotSet> {
        self.slots.awaited()
    }

    /// A page of the entries of those slots, of the asked ones, that are ready to be given. `leaving`: our bytes go
    /// with us, so entries that point here are left out.
    pub fn give_page(&mut self, slots: &SlotSet, cursor: Position, leaving: bool, now: Moment) -> Vec<u8> {
        let (given, declined) = self.slots.asked(slots);
        let mut page = PageWriter::new(&given, &declined);
        let end = self.index.end().min(cursor.saturating_add(SCAN_ROWS_PER_STEP as u32));
        let mut position = cursor;
        while position < end && page.body_bytes() < PAGE_BYTES_MAX {
            if let Some(row) = self.index.get(position)
                && given.contains(row.slot())
                && self.is_entry(row)
                && !(seeded_bug!("entry dropped on hand-over") && position % 8 == 3)
            {
                let (others, is_named_kept) = self.other_holders(position);
                let named = match self.index.place(position) {
                    Place::Here(_) | Place::OnSsd(_) => (!leaving).then_some(self.me),
                    Place::At(holder) => Some(holder),
                };
                let named = named.map(|holder| (holder, is_named_kept));
                for (holder, is_kept) in named.into_iter().chain(others) {
                    page.push(&self.entry_of(position, row, now, holder, is_kept));
                    self.counters.entries_given += 1;
                }
            }
            position += 1;
        }
        page.finish(if position == self.index.end() { LAST_PAGE } else { position })
    }

    /// What another home is told of a row: that `holder` has its bytes, and may keep them.
    pub(super) fn entry_of(
        &self,
        position: Position,
        row: &Row,
        now: Moment,
        holder: CoreId,
        is_kept: bool,
    ) -> Entry<'_> {
        Entry {
            name: self.index.name(position),
            version: row.version(),
            value_bytes: row.value_bytes(),
            checksum: row.checksum(),
            holder,
            lease_ms: u32::try_from((row.lease_until() - now).as_millis()).unwrap_or(u32::MAX),
            is_kept,
        }
    }

    /// Takes the entries of a page over. `is_first`: what we knew of its slots no longer counts.
    pub fn take_page(&mut self, page: &Page<'_>, is_first: bool, now: Moment) {
        if is_first {
            self.slots.begin_taking(&page.given);
        }
        for entry in &page.entries {
            if self.slots.is_awaited(entry.name.slot()) {
                self.take_entry(entry, now);
                self.counters.entries_taken += 1;
            }
        }
    }

    /// Takes over what somebody keeps of the slots of a lost home.
    pub fn take_offered(&mut self, page: &Page<'_>, now: Moment) {
        let own = page.entries.iter().filter(|entry| entry.holder == self.me).count() as u64;
        let before = self.index.len();
        self.take_page(page, false, now);
        self.counters.replicas_found += self.index.len() - before + own;
    }

    fn take_entry(&mut self, entry: &Entry<'_>, now: Moment) {
        let name = entry.name.hashed();
        let generation = self.slots.generation(name.slot());
        let lease_until = now + std::time::Duration::from_millis(u64::from(entry.lease_ms));
        let known = self.index.find(name);
        let same = known.filter(|&position| {
            let row = self.index.row(position);
            // Versions are counted by each home for itself: only all of this together names the same bytes.
            (row.version() == entry.version || seeded_bug!("any version vouched for"))
                && (row.checksum() == entry.checksum || seeded_bug!("any version vouched for"))
        });
        let is_entry = |at: Position| self.is_entry(self.index.row(at));
        let position = match same {
            // One more holder of what was taken over just before.
            Some(position) if is_entry(position) => position,
            Some(position) if !self.index.row(position).is_elsewhere() => {
                self.forget_holders(position);
                self.index.vouch(position, generation);
                position
            }
            // Two lost homes have left replicas of different values. It cannot be; the first one counts.
            None if known.is_some_and(is_entry) => return,
            _ => {
                known.map(|position| self.take_out(position, Why::Dropped));
                if entry.holder == self.me || !self.index.has_room(name.name) {
                    self.ghosts.remember(name.hash, MissReason::Evicted, None);
                    return;
                }
                let Entry { version, value_bytes, checksum, .. } = *entry;
                let facts = Facts { version, value_bytes, checksum, generation };
                self.index.insert(name, facts, Place::At(entry.holder), &PutHints::default())
            }
        };
        self.add_holder(position, entry.holder, entry.is_kept);
        self.index.extend_lease(position, lease_until);
    }

    /// The slots of lost homes whose replicas all others are to be asked for.
    pub fn claiming(&self) -> &SlotSet {
        self.slots.claiming()
    }

    /// All others have said what they keep of these slots, or did not answer in time: they are served from now on.
    pub fn finish_claiming(&mut self, slots: &SlotSet) {
        self.slots.finish_claiming(slots);
        self.look_for_strangers();
    }

    /// All pages have come: these slots are served from now on.
    pub fn finish_taking(&mut self, slots: &SlotSet) {
        self.slots.finish_taking(slots);
        self.look_for_strangers();
    }

    /// Which slots were taken from whom that does not know it yet.
    pub fn unconfirmed(&self) -> BTreeMap<Life, SlotSet> {
        self.slots.unconfirmed()
    }

    /// The giver knows that these slots were taken, or is gone.
    pub fn forget_unconfirmed(&mut self, giver: Life, slots: &SlotSet) {
        self.slots.forget_unconfirmed(giver, slots);
    }

    /// A new home has all entries of these slots: ours no longer count.
    pub fn confirm_given(&mut self, slots: &SlotSet) {
        self.slots.confirm_given(slots);
    }

    /// Whether no slot is left that somebody might still need from here: served, given up and not taken yet, or on
    /// its way through.
    pub fn has_given_all(&self) -> bool {
        self.slots.counts() == SlotCounts::default()
    }

    /// The core goes, whatever it still has: it is no home from now on, and never will be again.
    pub fn retire(&mut self) {
        self.slots.retire();
        self.follow_slots();
    }

    /// Whether it has gone.
    pub fn is_retired(&self) -> bool {
        self.slots.is_retired()
    }

    /// Whether slots are on their way here.
    pub fn is_taking(&self) -> bool {
        self.slots.counts().awaited > 0
    }

    /// Looks after rows that are no entries here any more. Those whose bytes are at another core mean nothing: they go.
    /// Bytes that are here may be an entry's elsewhere, or nobody's: if they are pinned hard, they are pinned softly from
    /// now on, so that they can go. A bounded step; answers where the next one begins.
    pub fn sweep(&mut self, cursor: Position) -> Position {
        let end = self.index.end().min(cursor.saturating_add(SCAN_ROWS_PER_STEP as u32));
        for position in cursor..end {
            match self.index.get(position).filter(|row| !self.is_entry(row)) {
                Some(row) if row.is_elsewhere() => drop(self.take_out(position, Why::Dropped)),
                Some(row) if row.seat.is_hard() => self.index.set_pin(position, Pin::Soft),
                _ => {}
            }
        }
        if end == self.index.end() { 0 } else { end }
    }

    /// These cores have lost what they held: entries that point to them are dropped. Walks over all rows, as the loss
    /// of a core is rare and must be told at once: a put of such a key must not be told that it exists.
    pub fn drop_lost(&mut self, lost: &BTreeSet<CoreId>) {
        if seeded_bug!("lost holder kept") {
            return;
        }
        for (position, holder) in self.with_holder(|holder| lost.contains(&holder)) {
            self.go_on_without(position, holder, MissReason::OwnerLost);
        }
        for position in 0..self.index.end() {
            if self.index.get(position).is_some()
                && let Place::At(holder) = self.index.place(position)
                && lost.contains(&holder)
            {
                self.go_on_without(position, holder, MissReason::OwnerLost);
            }
        }
    }
}
