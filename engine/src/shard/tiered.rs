//! Rows with records on the SSD. Plain code: which record is where in the log is the tier's business, and what is read and written is
//! [`crate::tiering`]'s.
//!
//! ```text
//!             begin_demotion               end_demotion                   loaded, the second time
//!   memory ─────────────────► being written ───────────► on the SSD ─────────────────────────────► memory, with a copy
//!   ▲ ▲  │                          │ failed                  ▲                                          │ evicted  ▲
//!   │ └──┼──────────────────────────┘                         └──────────────────────────────────────────┘          │
//!   │    └─ begin_copy (`copies.rs`) ──► being copied ── end_demotion ──────────────────────────────────────────────┘
//!   └───────────────────────────────────────┘ failed
//! ```
//!
//! While a row is being written or copied it is read from memory as ever, and is nobody's victim. When a row with a record goes for
//! any other reason than to make room, its name is *buried*: the record must not come back with a restart. So it is if the record is
//! being written just then, for whatever reason the row goes: nobody will know of that record.
//!
//! Nor must that of a row which is no entry, if the slot is served here: such *strangers* are taken out whenever slots have changed hands
//! (`docs/notes/2026-11-28-lineage.md`).

use super::copies::Entrance;
use super::eviction::Goal;
use super::index::Why;
use super::row::{Facts, Place, Position, RecordId};
use super::{Shard, TierPolicy, row::Row};
use crate::eviction::{Pin, PolicyKind};
use crate::segment::{Extent, Reservation};
use snowskin_io::{Moment, seeded_bug};
use snowskin_protocol::limits::SCAN_ROWS_PER_STEP;
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::{
    Checksum, HashedName, Life, MissReason, NameRef, ObjectName, Origin, RoutingTable, Version,
};
use std::collections::{HashMap, HashSet, VecDeque};

/// Demotion begins and ends so far below the watermarks, in thousandths of the memory.
const DEMOTION_LEAD_PERMILLE: u16 = 60;

/// What is kept of rows with records.
#[derive(Debug, Default)]
pub(super) struct Tiered {
    /// Records of rows whose bytes are in memory as well.
    pub(super) copies: HashMap<Position, RecordId>,
    /// Rows that are being written, and where.
    pub(super) writing: HashMap<Position, UnderWay>,
    /// What is let onto the SSD, and when.
    pub(super) policy: TierPolicy,
    /// Bytes of a value that has a record, at most: no region takes a larger one.
    pub(super) value_bytes_max: u64,
    /// Of eviction, which knows what was used.
    pub(super) kind: PolicyKind,
    /// Rows that came back soon after they went: they are let in at their first turn.
    pub(super) returned: HashSet<Position>,
    /// Rows that were put, and are to be copied.
    pub(super) fresh: VecDeque<(Position, Version)>,
    /// Rows on the SSD that were read once since they went there.
    read_once: HashSet<Position>,
    /// Rows that were found on the SSD when the core started, until the first table that has the core.
    recovered: Vec<Position>,
    /// Whose they are, until then.
    heir_of: Option<Life>,
    /// Where looking for strangers goes on, if there may be any.
    strangers: Option<Position>,
    /// Names that mean nothing any more, until the tier is told.
    buried: Vec<(ObjectName, Version)>,
    /// Records of no more use, until the tier is told: with the bytes of their names and values.
    released: Vec<(RecordId, usize, u64)>,
}

/// A record that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnderWay {
    pub(super) record: RecordId,
    /// The row keeps its bytes in memory, too.
    pub(super) stays: bool,
}

/// An object on the SSD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demoted {
    /// Its record.
    pub record: RecordId,
    /// Tells its bytes from all others of the name.
    pub version: Version,
    /// Bytes of the value.
    pub value_bytes: u64,
    /// Of the value.
    pub checksum: Checksum,
}

/// An object that is to be written to the SSD.
#[derive(Debug)]
pub struct Demotion {
    pub(super) position: Position,
    /// Its name.
    pub name: ObjectName,
    /// Tells its bytes from all others of the name.
    pub version: Version,
    /// Of the value.
    pub checksum: Checksum,
    /// Its bytes, pinned.
    pub extent: Extent,
}

impl Tiered {
    pub(super) fn has_copy(&self, position: Position) -> bool {
        self.copies.contains_key(&position)
    }

    pub(super) fn is_writing(&self, position: Position) -> bool {
        !self.writing.is_empty() && self.writing.contains_key(&position)
    }
}

impl Shard {
    /// There is an SSD tier from now on, for values of so many bytes at most. `heir_of`: the life whose objects it holds, if it holds any.
    pub fn enable_tier(&mut self, policy: TierPolicy, value_bytes_max: u64, heir_of: Option<Life>) {
        let kind = self.index.policy();
        self.tiered = Some(Tiered { policy, value_bytes_max, kind, heir_of, ..Tiered::default() });
    }

    pub(super) fn has_tier(&self) -> bool {
        self.tiered.is_some()
    }

    /// Whether an object of that name has a record, or is getting one.
    pub fn has_record(&self, name: HashedName<'_>) -> bool {
        let Some(tiered) = &self.tiered else { return false };
        self.index.find(name).is_some_and(|position| {
            matches!(self.index.place(position), Place::OnSsd(_))
                || tiered.copies.contains_key(&position)
                || tiered.writing.contains_key(&position)
        })
    }

    /// What the tier is to be told: names to bury, and records of no more use.
    #[allow(clippy::type_complexity, reason = "two lists, taken apart at once")]
    pub fn take_tier_news(&mut self) -> (Vec<(ObjectName, Version)>, Vec<(RecordId, usize, u64)>) {
        let Some(tiered) = &mut self.tiered else { return Default::default() };
        (std::mem::take(&mut tiered.buried), std::mem::take(&mut tiered.released))
    }

    // -- memory to SSD --

    /// Whether so much memory is in use that objects should go to the SSD: from below the high watermark down to below the low one,
    /// so that room is there before puts have to make it.
    pub fn wants_demotion(&mut self) -> bool {
        let limit = match self.evicting {
            true => self.settings.low_watermark_permille,
            false => self.settings.high_watermark_permille,
        };
        self.evicting = self.used_permille() > u64::from(limit.saturating_sub(DEMOTION_LEAD_PERMILLE));
        self.evicting
    }

    /// The object that goes next. What has a record already goes there at once, and what is not let onto the SSD is evicted. `None`:
    /// nothing may go now.
    pub fn begin_demotion(&mut self, now: Moment, has_budget: bool) -> Option<Demotion> {
        const WITHOUT_A_WRITE_PER_STEP: usize = 64;
        for _ in 0..WITHOUT_A_WRITE_PER_STEP {
            let victim = self.victim_for(Goal::Ssd { has_budget }, now, 0, false);
            let position = victim.filter(|victim| !self.index.is_newest(*victim))?;
            if self.leave_to_copy(position) {
                continue;
            }
            let tiered = self.tiered.as_ref()?;
            match tiered.entrance(position, self.index.row(position), has_budget) {
                Entrance::Open => return self.demotion(position),
                Entrance::OverBudget => self.counters.ssd_over_budget += 1,
                Entrance::Closed => self.counters.ssd_not_admitted += 1,
            }
            self.evict(position);
        }
        None
    }

    /// What is to be written of the row at a position, if its bytes are here.
    pub(super) fn demotion(&mut self, position: Position) -> Option<Demotion> {
        let row = self.index.row(position);
        let (version, checksum) = (row.version(), row.checksum());
        let extent = self.segments.pin(row.extent()?, row.value_bytes());
        let name = self.index.name(position).to_owned();
        Some(Demotion { position, name, version, checksum, extent })
    }

    /// It is being written there from now on.
    pub fn demotion_begun(&mut self, position: Position, record: RecordId) {
        self.index.unseat(position);
        let tiered = self.tiered.as_mut().expect("there is a tier");
        tiered.writing.insert(position, UnderWay { record, stays: false });
    }

    /// It was written, or could not be.
    pub fn end_demotion(
        &mut self,
        position: Position,
        record: RecordId,
        name: NameRef<'_>,
        value_bytes: u64,
        is_written: bool,
    ) {
        let tiered = self.tiered.as_mut().expect("there is a tier");
        let Some(UnderWay { stays, .. }) = tiered.writing.get(&position).filter(|it| it.record == record)
        else {
            // The row has gone meanwhile, and its name is buried.
            if is_written {
                tiered.released.push((record, name.bytes().len(), value_bytes));
            }
            return;
        };
        let stays = *stays;
        tiered.writing.remove(&position);
        match (is_written, stays) {
            (true, true) => {
                tiered.copies.insert(position, record);
                self.counters.ssd_copied += 1;
                self.counters.ssd_copied_bytes += value_bytes;
            }
            (true, false) => {
                self.counters.demoted += 1;
                self.counters.demoted_bytes += value_bytes;
                self.go_to_ssd(position, record);
            }
            (false, true) => {}
            (false, false) => self.index.seat_again(position, self.pin_of_row(position)),
        }
    }

    /// What protects a row that is given a seat once more: who is pinned hard has never lost its own.
    fn pin_of_row(&self, position: Position) -> Pin {
        if self.soft_pins.is_pinned(position) { Pin::Soft } else { Pin::None }
    }

    fn go_to_ssd(&mut self, position: Position, record: RecordId) {
        self.take_off_shelf(position);
        let extent = self.index.move_to_ssd(position, record);
        self.segments.let_go(extent);
        self.groups.leave(position, true);
        if let Some(tiered) = &mut self.tiered {
            tiered.returned.remove(&position);
        }
    }

    /// A row that has a copy leaves memory to it, if it has one.
    pub(super) fn leave_to_copy(&mut self, position: Position) -> bool {
        let copy = self.tiered.as_mut().and_then(|tiered| tiered.copies.remove(&position));
        if let Some(record) = copy {
            self.note_uses();
            self.go_to_ssd(position, record);
        }
        copy.is_some()
    }

    /// A row is about to go.
    pub(super) fn leave_record(&mut self, position: Position, why: Why) {
        let place = self.index.place(position);
        let Some(tiered) = &mut self.tiered else { return };
        tiered.read_once.remove(&position);
        tiered.returned.remove(&position);
        let is_writing =
            tiered.writing.remove(&position).is_some() && !seeded_bug!("not buried while it is written");
        let record = match place {
            Place::OnSsd(record) => Some(record),
            _ => tiered.copies.remove(&position),
        };
        // What is being written will be there, whatever becomes of its row.
        if !is_writing && (why == Why::Evicted || record.is_none()) {
            return;
        }
        let (name, row) = (self.index.name(position), self.index.row(position));
        tiered.released.extend(record.map(|record| (record, name.bytes().len(), row.value_bytes())));
        tiered.buried.push((name.to_owned(), row.version()));
    }

    // -- SSD to memory --

    pub(super) fn demoted(&self, position: Position, record: RecordId) -> Demoted {
        let row = self.index.row(position);
        Demoted { record, version: row.version(), value_bytes: row.value_bytes(), checksum: row.checksum() }
    }

    /// Memory to read an object on the SSD into. What has a copy there makes room before anything is dropped, and a lease does not
    /// keep it from that.
    pub fn room_for_demoted(&mut self, bytes: u64, now: Moment) -> Option<Reservation> {
        let reserve = |shard: &mut Self| shard.segments.reserve(bytes as usize);
        loop {
            if let Some(room) = reserve(self) {
                return Some(room);
            }
            let has_copies = self.tiered.as_ref().is_some_and(|tiered| !tiered.copies.is_empty());
            let victim = has_copies.then(|| self.victim_for(Goal::Copy, now, bytes, true)).flatten();
            match victim {
                Some(victim) => self.leave_to_copy(victim),
                None => return self.evict_until(now, bytes, reserve),
            };
        }
    }

    /// The bytes of an object on the SSD have been read. The second time they stay in memory, the first time as long as they are pinned.
    pub fn loaded(&mut self, name: HashedName<'_>, demoted: &Demoted, bytes: Reservation) -> Extent {
        let extent = bytes.publish();
        let pinned = self.segments.pin(extent, demoted.value_bytes);
        self.counters.ssd_reads += 1;
        self.counters.ssd_read_bytes += demoted.value_bytes;
        // As long as nothing would be demoted for it.
        let demoted_above = self.settings.low_watermark_permille.saturating_sub(DEMOTION_LEAD_PERMILLE);
        let has_room = self.used_permille() < u64::from(demoted_above);
        let promoted = self.row_of(name, demoted).filter(|position| {
            let tiered = self.tiered.as_mut().expect("there is a tier");
            !tiered.read_once.insert(*position) || has_room
        });
        match promoted {
            None => self.segments.let_go(extent),
            Some(position) => {
                let tiered = self.tiered.as_mut().expect("there is a tier");
                tiered.read_once.remove(&position);
                tiered.copies.insert(position, demoted.record);
                self.index.move_to_memory(position, extent, self.pin_of_row(position));
                self.counters.promoted += 1;
            }
        }
        pinned
    }

    /// An object on the SSD takes more memory, with what stands beside it there, than any segment has: nobody can read it any more.
    pub fn give_up_on_ssd(&mut self, name: HashedName<'_>, demoted: &Demoted) {
        let Some(position) = self.row_of(name, demoted) else { return };
        log::warn!("core {}: no segment is large enough for {:?} on the SSD; evicted", self.me, name.name);
        self.counters.evicted += 1;
        self.counters.evicted_bytes += demoted.value_bytes;
        self.depart(position, Why::Dropped, MissReason::Evicted);
    }

    /// The bytes of an object on the SSD are gone.
    pub fn lost_on_ssd(&mut self, name: HashedName<'_>, demoted: &Demoted) {
        let Some(position) = self.row_of(name, demoted) else { return };
        log::warn!("core {}: the record of {:?} is damaged or cannot be read; dropped", self.me, name.name);
        self.depart(position, Why::Dropped, MissReason::Corrupt);
        self.counters.ssd_lost += 1;
    }

    /// A record is damaged, or cannot be read, whoever has found that out. An object that was nowhere else goes with it; one that is in memory
    /// as well stays. Either way its name is buried, so that no restart finds the record. Whether anybody had it.
    pub fn lose_record(&mut self, name: NameRef<'_>, version: Version, record: RecordId) -> bool {
        let Some(position) = self.row_with(name, version, record) else { return false };
        let tiered = self.tiered.as_mut().expect("it has records");
        if tiered.copies.remove(&position).is_some() {
            let value_bytes = self.index.row(position).value_bytes();
            tiered.released.push((record, name.bytes().len(), value_bytes));
            tiered.buried.push((name.to_owned(), version));
        } else {
            self.depart(position, Why::Dropped, MissReason::Corrupt);
            self.counters.ssd_lost += 1;
        }
        true
    }

    /// The row that is on the SSD in this record.
    fn row_of(&self, name: HashedName<'_>, demoted: &Demoted) -> Option<Position> {
        let position = self.index.find(name)?;
        let is_same = self.index.place(position) == Place::OnSsd(demoted.record)
            && self.index.row(position).version() == demoted.version;
        is_same.then_some(position)
    }

    // -- records that move and go --

    /// The row that has this record, in memory or not.
    fn row_with(&self, name: NameRef<'_>, version: Version, record: RecordId) -> Option<Position> {
        let position = self.index.find(name.hashed())?;
        let copy = self.tiered.as_ref().and_then(|tiered| tiered.copies.get(&position));
        let has_it = self.index.place(position) == Place::OnSsd(record) || copy == Some(&record);
        (has_it && self.index.row(position).version() == version).then_some(position)
    }

    /// Whether a lease protects the object with this record, whose bytes are nowhere else.
    pub fn is_record_leased(
        &self,
        name: NameRef<'_>,
        version: Version,
        record: RecordId,
        now: Moment,
    ) -> bool {
        let is_leased = |position: Position| {
            self.index.place(position) == Place::OnSsd(record) && self.index.row(position).lease_until() > now
        };
        self.row_with(name, version, record).is_some_and(is_leased)
    }

    /// Whether an object with this record was used since it went there: then the record is worth its space.
    pub fn is_record_used(&self, name: NameRef<'_>, version: Version, record: RecordId) -> bool {
        let Some(tiered) = &self.tiered else { return false };
        self.row_with(name, version, record).is_some_and(|position| {
            tiered.read_once.contains(&position) || tiered.copies.contains_key(&position)
        })
    }

    /// Bytes of the value of the object with this record; 0 if there is none.
    pub fn value_bytes_of_record(&self, name: NameRef<'_>, version: Version, record: RecordId) -> u64 {
        self.row_with(name, version, record).map_or(0, |position| self.index.row(position).value_bytes())
    }

    /// The record goes: an object that was nowhere else goes with it.
    pub fn forget_record(&mut self, name: NameRef<'_>, version: Version, record: RecordId) {
        let Some(position) = self.row_with(name, version, record) else { return };
        let tiered = self.tiered.as_mut().expect("it has records");
        if tiered.copies.remove(&position).is_some() {
            self.counters.ssd_copies_reclaimed += 1;
        } else {
            self.counters.evicted += 1;
            self.counters.evicted_bytes += self.index.row(position).value_bytes();
            self.depart(position, Why::Evicted, MissReason::Evicted);
        }
    }

    /// The record is another one from now on; whether anybody has it.
    pub fn record_moved(
        &mut self,
        name: NameRef<'_>,
        version: Version,
        from: RecordId,
        to: RecordId,
    ) -> bool {
        let Some(position) = self.row_with(name, version, from) else { return false };
        let tiered = self.tiered.as_mut().expect("it has records");
        // It has to earn its next move.
        tiered.read_once.remove(&position);
        match tiered.copies.get_mut(&position) {
            Some(copy) => *copy = to,
            None => self.index.set_record(position, to),
        }
        true
    }

    // -- what an earlier life has left --

    /// An object was found on the SSD when the core started. It is an entry here if nobody else has been its home since; whether there is
    /// room for its name.
    pub fn recover(&mut self, name: NameRef<'_>, demoted: &Demoted) -> bool {
        if !self.index.has_room(name) || self.index.find(name.hashed()).is_some() {
            return false;
        }
        let Demoted { record, version, value_bytes, checksum } = *demoted;
        let facts = Facts { version, value_bytes, checksum, generation: 0 };
        let position = self.index.insert(name.hashed(), facts, Place::OnSsd(record), &PutHints::default());
        self.tiered.as_mut().expect("there is a tier").recovered.push(position);
        true
    }

    /// Of whom the core is the heir: asked once, with the first table that has the core.
    pub(super) fn take_heritage(&mut self) -> Option<Life> {
        self.tiered.as_mut().and_then(|tiered| tiered.heir_of.take())
    }

    /// The core is a member: what was found on the SSD is its own in slots that the table has from whom it inherits. All else means
    /// nothing: other homes may have had other values, or none.
    pub(super) fn settle_recovered(&mut self, table: &RoutingTable, heir_of: Option<Life>) {
        let Some(tiered) = &mut self.tiered else { return };
        let (found, counted_before) = (tiered.recovered.len(), self.counters.ssd_recovered);
        for position in std::mem::take(&mut tiered.recovered) {
            // Its region may have been reclaimed since.
            let Some(row) = self.index.get(position) else { continue };
            let is_inherited = heir_of.is_some_and(|life| table.origin(row.slot()) == Origin::Former(life))
                || seeded_bug!("everybody is an heir");
            let is_home = self.serves(row.slot()) || self.claiming().contains(row.slot());
            if is_inherited && is_home && self.is_entry(row) {
                self.counters.ssd_recovered += 1;
            } else {
                self.take_out(position, Why::Dropped);
            }
        }
        if found > 0 {
            let counted = self.counters.ssd_recovered - counted_before;
            log::info!("core {}: {counted} of {found} objects on the SSD count", self.me);
        }
    }

    /// Slots have come here: rows of theirs that were here may be no entries.
    pub(super) fn look_for_strangers(&mut self) {
        if let Some(tiered) = &mut self.tiered
            && !seeded_bug!("strangers stay")
        {
            tiered.strangers = Some(0);
        }
    }

    /// Whether there may be rows in slots that are served which are no entries.
    pub fn may_have_strangers(&self) -> bool {
        self.tiered.as_ref().is_some_and(|tiered| tiered.strangers.is_some())
    }

    /// A bounded step of taking out rows that are no entries, in slots that are served: nobody refers to them, and their records
    /// would count with the next life. Whether that is done.
    pub fn take_strangers_out(&mut self) -> bool {
        let Some(cursor) = self.tiered.as_ref().and_then(|tiered| tiered.strangers) else { return true };
        let end = self.index.end().min(cursor.saturating_add(SCAN_ROWS_PER_STEP as u32));
        for position in cursor..end {
            let is_stranger = |row: &Row| self.serves(row.slot()) && !self.is_entry(row);
            if self.index.get(position).is_some_and(is_stranger) {
                self.take_out(position, Why::Dropped);
            }
        }
        let is_done = end == self.index.end();
        self.tiered.as_mut().expect("it has strangers").strangers = (!is_done).then_some(end);
        is_done
    }
}

impl Demotion {
    /// Where its row stands.
    pub fn position(&self) -> Position {
        self.position
    }
}

// A row has its record in the place of its extent, and no room for both.
const _: () = assert!(size_of::<Row>() == 64);
