//! At a holder: replicas of objects whose home is another core.
//!
//! They are rows like all others whose bytes are here, with a standing in the place of the generation ([`standing`]), and go by age like
//! them. What is *kept* is told to the next home if this one is lost. That is right only as long as the home knows it, so all of it is
//! let go of when this core may have been given up meanwhile, and when two homes of a slot are lost, one after the other, of which the
//! second did not hear what was kept for the first.

use super::Shard;
use super::handover::PAGE_BYTES_MAX;
use super::index::Why;
use super::row::{Facts, Place, Position, standing};
use crate::shard::PutTicket;
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::limits::SCAN_ROWS_PER_STEP;
use snowskin_protocol::wire::control::{LAST_PAGE, PageWriter, SlotSet};
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::wire::replica::{ReplicaOrder, ReplicaStatus};
use snowskin_protocol::{HashedName, Version};
use std::time::Duration;

/// Whether the bytes of a replica are to be fetched.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub enum TakeStart {
    /// Fill the ticket's memory, then [`Shard::finish_take`].
    Reserved(PutTicket),
    /// They are here already.
    Here,
    /// There is no room for them.
    NoRoom,
}

impl Shard {
    /// Makes room for a replica. Whoever asks is the home, by our table.
    pub fn begin_take(&mut self, order: &ReplicaOrder<'_>, now: Moment) -> TakeStart {
        let name = order.name.hashed();
        if let Some(position) = self.index.find(name) {
            let row = self.index.row(position);
            let is_same = row.version() == order.version && row.checksum() == order.checksum;
            if is_same && !row.is_elsewhere() {
                if !matches!(row.generation(), standing::KEPT | standing::RELEASED) {
                    self.index.vouch(position, standing::LOOSE);
                }
                return TakeStart::Here;
            }
            if self.is_entry(row) {
                // It was ours, and somebody is about to take it over.
                return TakeStart::NoRoom;
            }
            // Another version, to which no home refers any more.
            self.take_out(position, Why::Dropped);
        }
        match self.room_for_value(name, order.value_bytes, order.checksum, now) {
            Some(ticket) => TakeStart::Reserved(ticket),
            None => TakeStart::NoRoom,
        }
    }

    /// The bytes have come. Whether they are what was announced, and stay.
    pub fn finish_take(&mut self, order: &ReplicaOrder<'_>, ticket: PutTicket) -> bool {
        let name = order.name.hashed();
        if !ticket.has_arrived() || self.serves(name.slot()) {
            return false;
        }
        if let Some(position) = self.index.find(name) {
            let row = self.index.row(position);
            if row.version() == order.version && !row.is_elsewhere() {
                return true;
            }
            self.take_out(position, Why::Dropped);
        }
        if !self.index.has_room(name.name) {
            return false;
        }
        let facts = Facts {
            version: order.version,
            value_bytes: order.value_bytes,
            checksum: order.checksum,
            generation: standing::LOOSE,
        };
        // It is not copied to the SSD in write-through: its home sees to that.
        let place = Place::Here(ticket.publish());
        self.index.insert(name, facts, place, &PutHints::default());
        self.counters.value_bytes_in += order.value_bytes;
        true
    }

    /// The next home is to be told of this replica, should this one be lost. It is leased as long as the home says.
    pub fn keep(&mut self, order: &ReplicaOrder<'_>, now: Moment) -> ReplicaStatus {
        let found = self.replica_of(order.name.hashed(), order.version);
        let Some(position) = found else { return ReplicaStatus::Absent };
        self.index.extend_lease(position, now + Duration::from_millis(u64::from(order.lease_ms)));
        match self.index.row(position).generation() {
            standing::KEPT => ReplicaStatus::Done,
            standing::LOOSE => {
                self.index.vouch(position, standing::KEPT);
                ReplicaStatus::Done
            }
            _ if seeded_bug!("kept after its release") => {
                self.index.vouch(position, standing::KEPT);
                ReplicaStatus::Done
            }
            _ => ReplicaStatus::Absent,
        }
    }

    /// It is not, from now on.
    pub fn release(&mut self, name: HashedName<'_>, version: Version) {
        let Some(position) = self.replica_of(name, version) else { return };
        if matches!(self.index.row(position).generation(), standing::KEPT | standing::LOOSE) {
            self.index.vouch(position, standing::RELEASED);
        }
    }

    fn replica_of(&self, name: HashedName<'_>, version: Version) -> Option<Position> {
        let position = self.index.find(name)?;
        let row = self.index.row(position);
        (row.version() == version && !row.is_elsewhere()).then_some(position)
    }

    /// A page of what is kept here of those slots, for their new home.
    pub fn offer_page(&mut self, slots: &SlotSet, cursor: Position, now: Moment) -> Vec<u8> {
        let mut page = PageWriter::new(slots, &SlotSet::new());
        let end = match self.index.kept_count() {
            0 => self.index.end(),
            _ => self.index.end().min(cursor.saturating_add(SCAN_ROWS_PER_STEP as u32)),
        };
        let mut position = if self.index.kept_count() == 0 { end } else { cursor };
        while position < end && page.body_bytes() < PAGE_BYTES_MAX {
            if let Some(row) = self.index.get(position)
                && row.generation() == standing::KEPT
                && slots.contains(row.slot())
            {
                page.push(&self.entry_of(position, row, now, self.me, true));
                self.counters.entries_given += 1;
            }
            position += 1;
        }
        page.finish(if position >= self.index.end() { LAST_PAGE } else { position })
    }

    /// The new home of these slots knows what is kept here.
    pub fn claimed(&mut self, slots: &SlotSet) {
        slots.iter().for_each(|slot| {
            self.unclaimed.remove(slot);
        });
    }

    /// Whether replicas are kept here.
    pub fn keeps_replicas(&self) -> bool {
        self.index.kept_count() > 0
    }

    /// The home of these slots is gone. What is kept for it is the next home's to claim; what a home before it has not claimed
    /// is not what it knew.
    pub fn note_lost_homes(&mut self, slots: &SlotSet) {
        let mut stale = SlotSet::new();
        for slot in slots.iter() {
            if self.unclaimed.contains(slot) {
                stale.insert(slot);
            }
            self.unclaimed.insert(slot);
        }
        if !stale.is_empty() && !seeded_bug!("unclaimed replicas count") {
            self.let_go(|slot| stale.contains(slot));
        }
    }

    /// Homes may have gone on without this core: nothing that is kept here is what they know.
    pub fn let_all_go(&mut self) {
        self.let_go(|_| true);
    }

    /// A walk over all rows: the loss of a core is rare.
    fn let_go(&mut self, of: impl Fn(snowskin_protocol::Slot) -> bool) {
        for position in 0..self.index.end() {
            if self.index.kept_count() == 0 {
                return;
            }
            let is_kept = self
                .index
                .get(position)
                .is_some_and(|row| row.generation() == standing::KEPT && of(row.slot()));
            if is_kept {
                self.index.vouch(position, standing::RELEASED);
            }
        }
    }
}
