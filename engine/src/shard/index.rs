//! The rows of a core: what it knows about objects, found by name, and which of them goes first.
//!
//! A row stands at a position that never changes, so that slow walks (hand-over, removal by pattern) can stop and
//! go on by position while requests are served in between.
//!
//! ```text
//!   table: hash ──► position ──► rows[position]: one line of 64 bytes ──► names: the bytes of the name
//!                                      └ seat ◄──► eviction: queues of those whose bytes are here
//! ```
//!
//! What it costs, beside the bytes of the names: 64 for the row, 12 to 24 for the table, some 6 for the name's place.
//! No row is ever copied to make room for more, so no put waits for the index to grow.

use super::names::Names;
use super::row::{Facts, NOWHERE, Place, Position, RecordId, Row, RowPlace, standing};
use super::table::Table;
use crate::eviction::{Arrival, Eviction, Pin, PolicyKind, Seat, Seats};
use crate::segment::ExtentId;
use snowskin_io::Moment;
use snowskin_io::memory::{Paged, prefetch};
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::{CoreId, HashedName, NameRef, Slot, Version};
use std::collections::HashMap;

/// What a row was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    pub(crate) hash: u64,
    pub(crate) version: Version,
    pub(crate) value_bytes: u64,
    pub(crate) place: Place,
}

/// Why a row goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// To make room.
    Evicted,
    /// For any other reason.
    Dropped,
}

/// All rows of a core.
#[derive(Debug)]
pub(crate) struct Index {
    table: Table,
    rows: Rows,
    names: Names,
    eviction: Eviction,
    /// The cores that rows refer to, by number.
    holders: Vec<CoreId>,
    holder_numbers: HashMap<CoreId, u32>,
    /// A list through the places where no row stands.
    vacant: Position,
    here_count: u64,
    on_ssd_count: u64,
    kept_count: u64,
    live_bytes: u64,
    name_bytes: u64,
}

#[derive(Debug)]
struct Rows(Paged<Row>);

impl Seats for Rows {
    fn seat(&self, at: Position) -> &Seat {
        &self.0[at as usize].seat
    }

    fn seat_mut(&mut self, at: Position) -> &mut Seat {
        &mut self.0[at as usize].seat
    }

    fn bytes(&self, at: Position) -> u64 {
        self.0[at as usize].allocated_bytes()
    }
}

/// What hints say about eviction. A hard pin makes a soft one meaningless.
pub(crate) fn pin_of(hints: &PutHints) -> Pin {
    match hints.soft_pin_ms {
        _ if hints.has(PutHints::HARD_PIN) => Pin::Hard,
        0 => Pin::None,
        _ => Pin::Soft,
    }
}

impl Index {
    pub(crate) fn new(policy: PolicyKind) -> Self {
        Index {
            table: Table::new(),
            rows: Rows(Paged::new()),
            names: Names::new(),
            eviction: Eviction::new(policy),
            holders: Vec::new(),
            holder_numbers: HashMap::new(),
            vacant: NOWHERE,
            here_count: 0,
            on_ssd_count: 0,
            kept_count: 0,
            live_bytes: 0,
            name_bytes: 0,
        }
    }

    /// Where the row of a name stands, if there is one.
    #[inline]
    pub(crate) fn find(&self, sought: HashedName<'_>) -> Option<Position> {
        self.table.find(sought.hash, |at| self.names.get(self.row(at).name) == sought.name.bytes())
    }

    /// Asks the processor for what [`Index::find`] will read, for all of a batch, step by step.
    pub(crate) fn prefetch(&self, hashes: impl Iterator<Item = u64> + Clone) {
        hashes.clone().for_each(|hash| self.table.prefetch(hash));
        let rows = hashes.filter_map(|hash| self.table.first_position(hash)).map(|at| self.row(at));
        rows.clone().for_each(prefetch);
        rows.for_each(|row| self.names.prefetch(row.name));
    }

    /// The row at a position that is known to have one.
    #[inline]
    pub(crate) fn row(&self, position: Position) -> &Row {
        &self.rows.0[position as usize]
    }

    /// Its name.
    pub(crate) fn name(&self, position: Position) -> NameRef<'_> {
        NameRef::known(self.names.get(self.row(position).name))
    }

    /// Where its bytes are.
    #[inline]
    pub(crate) fn place(&self, position: Position) -> Place {
        match self.row(position).place() {
            RowPlace::Here(extent) => Place::Here(extent),
            RowPlace::OnSsd(record) => Place::OnSsd(record),
            RowPlace::At(holder) => Place::At(self.holders[holder as usize]),
        }
    }

    /// The row at a position, if one stands there.
    pub(crate) fn get(&self, position: Position) -> Option<&Row> {
        self.rows.0.get(position as usize).filter(|row| !row.is_vacant())
    }

    /// One past the last position that may have a row.
    pub(crate) fn end(&self) -> Position {
        self.rows.0.len() as Position
    }

    /// Protects the row at a position until `until` at least.
    #[inline]
    pub(crate) fn extend_lease(&mut self, position: Position, until: Moment) {
        self.row_mut(position).extend_lease(until);
    }

    /// Vouches for the row at a position in this generation of its slot.
    pub(crate) fn vouch(&mut self, position: Position, generation: u32) {
        self.kept_count -= u64::from(self.row(position).generation() == standing::KEPT);
        self.kept_count += u64::from(generation == standing::KEPT);
        self.row_mut(position).set_generation(generation);
    }

    /// The bytes of a row here are in another extent from now on.
    pub(crate) fn move_to(&mut self, position: Position, extent: ExtentId) {
        self.row_mut(position).move_to(extent);
    }

    /// Whether a row of this name could be added.
    pub(crate) fn has_room(&self, name: NameRef<'_>) -> bool {
        let has_position = self.vacant != NOWHERE || self.end() < NOWHERE;
        has_position && self.names.has_room(name.bytes().len())
    }

    /// Adds a row whose name has none. There must be room.
    pub(crate) fn insert(
        &mut self,
        name: HashedName<'_>,
        facts: Facts,
        place: Place,
        hints: &PutHints,
    ) -> Position {
        debug_assert!(self.find(name).is_none());
        let place = match place {
            Place::Here(extent) => RowPlace::Here(extent),
            Place::OnSsd(record) => RowPlace::OnSsd(record),
            Place::At(holder) => RowPlace::At(self.holder_number(holder)),
        };
        let row = Row::new(self.names.insert(name.name.bytes()), name.hash, facts, place);
        let (is_here, is_on_ssd) = (row.is_here(), matches!(row.place(), RowPlace::OnSsd(_)));
        self.on_ssd_count += u64::from(is_on_ssd);
        self.kept_count += u64::from(row.generation() == standing::KEPT);
        self.name_bytes += name.name.bytes().len() as u64;
        self.live_bytes += row.allocated_bytes();
        let position = match self.vacant {
            NOWHERE => self.rows.0.push(row) as Position,
            vacant => {
                self.vacant = self.row(vacant).next_vacant();
                *self.row_mut(vacant) = row;
                vacant
            }
        };
        assert!(position != NOWHERE, "more rows than positions");
        self.table.insert(name.hash, position);
        if is_here {
            self.here_count += 1;
            // By the hash of its name alone: a stranger costs a hint, and is less likely than one in a million.
            let is_parent = |hash: u64, at: Position| {
                let row = &self.rows.0[at as usize];
                at != position && row.is_here() && row.slot() == Slot::of_hash(hash)
            };
            let parent = Some(hints.parent).filter(|&hash| hash != 0);
            let parent = parent.and_then(|hash| self.table.find(hash, |at| is_parent(hash, at)));
            let (continues, is_leaf) = (hints.has(PutHints::CONTINUES), hints.has(PutHints::LEAF));
            let pin = pin_of(hints);
            let arrival = Arrival { hash: name.hash, parent, continues, is_leaf, pin };
            self.eviction.insert(&mut self.rows, position, &arrival);
        }
        position
    }

    fn holder_number(&mut self, holder: CoreId) -> u32 {
        let holders = &mut self.holders;
        *self.holder_numbers.entry(holder).or_insert_with(|| {
            holders.push(holder);
            holders.len() as u32 - 1
        })
    }

    /// Takes the row at a position out. What it kept in memory is the caller's to let go.
    pub(crate) fn remove(&mut self, position: Position, why: Why) -> Gone {
        let hash = self.name(position).hash();
        let row = self.row(position);
        let (version, value_bytes) = (row.version(), row.value_bytes());
        let gone = Gone { hash, version, value_bytes, place: self.place(position) };
        assert!(self.table.remove(hash, position), "a row is in the table");
        match gone.place {
            Place::Here(_) => self.leave_memory(position, hash, why == Why::Evicted),
            Place::OnSsd(_) => self.on_ssd_count -= 1,
            Place::At(_) => {}
        }
        self.kept_count -= u64::from(self.row(position).generation() == standing::KEPT);
        self.name_bytes -= self.name(position).bytes().len() as u64;
        self.names.remove(self.row(position).name);
        let next = std::mem::replace(&mut self.vacant, position);
        self.row_mut(position).vacate(next);
        gone
    }

    fn leave_memory(&mut self, position: Position, hash: u64, evicted: bool) {
        self.here_count -= 1;
        self.live_bytes -= self.row(position).allocated_bytes();
        if !self.row(position).seat.is_vacant() {
            self.eviction.remove(&mut self.rows, position, hash, evicted);
        }
    }

    /// A row whose bytes are here has no seat for a while: nobody chooses it as a victim.
    pub(crate) fn unseat(&mut self, position: Position) {
        let hash = self.name(position).hash();
        self.eviction.remove(&mut self.rows, position, hash, true);
    }

    /// It has one again, with what protects it now.
    pub(crate) fn seat_again(&mut self, position: Position, pin: Pin) {
        let hash = self.name(position).hash();
        let arrival = Arrival { hash, parent: None, continues: false, is_leaf: false, pin };
        self.eviction.insert(&mut self.rows, position, &arrival);
    }

    /// The bytes of a row here are in a record from now on. What it kept in memory is the caller's to let go.
    pub(crate) fn move_to_ssd(&mut self, position: Position, record: RecordId) -> ExtentId {
        let extent = self.row(position).extent().expect("its bytes are here");
        let hash = self.name(position).hash();
        self.leave_memory(position, hash, true);
        self.on_ssd_count += 1;
        self.row_mut(position).move_to_ssd(record);
        extent
    }

    /// The bytes of a row on the SSD are in memory again.
    pub(crate) fn move_to_memory(&mut self, position: Position, extent: ExtentId, pin: Pin) {
        self.on_ssd_count -= 1;
        self.here_count += 1;
        self.row_mut(position).move_to(extent);
        self.live_bytes += self.row(position).allocated_bytes();
        self.seat_again(position, pin);
    }

    /// The record of a row on the SSD is another one.
    pub(crate) fn set_record(&mut self, position: Position, record: RecordId) {
        self.row_mut(position).move_to_ssd(record);
    }

    /// Asks the processor for what [`Index::touch`] will change.
    pub(crate) fn prefetch_neighbours(&self, position: Position) {
        let neighbours = self.row(position).seat.neighbours();
        neighbours.into_iter().filter(|&at| at != NOWHERE).for_each(|at| prefetch(self.row(at)));
    }

    /// The row was used, if its bytes are here.
    pub(crate) fn touch(&mut self, position: Position, hash: u64) {
        // It may have gone meanwhile, and another one come.
        let is_same = |row: &Row| row.is_here() && !row.seat.is_vacant() && row.slot() == Slot::of_hash(hash);
        if self.get(position).is_some_and(is_same) {
            self.eviction.hit(&mut self.rows, position, hash);
        }
    }

    /// Of the rows whose bytes are here and that may go: which should go next; a soft-pinned one only if `soft_too`.
    pub(crate) fn victim(
        &mut self,
        soft_too: bool,
        mut may_go: impl FnMut(Position, &Row) -> bool,
    ) -> Option<Position> {
        self.eviction.victim(&mut self.rows, soft_too, |rows, at| may_go(at, &rows.0[at as usize]))
    }

    /// The order in which rows are evicted.
    pub(crate) fn policy(&self) -> PolicyKind {
        self.eviction.kind()
    }

    /// Whether this is what was put last.
    pub(crate) fn is_newest(&self, position: Position) -> bool {
        self.eviction.is_newest(position)
    }

    /// Changes what protects a row from eviction, if it is among those that may be chosen.
    pub(crate) fn set_pin(&mut self, position: Position, pin: Pin) {
        if !self.row(position).seat.is_vacant() {
            self.eviction.set_pin(&mut self.rows, position, pin);
        }
    }

    /// Rows.
    pub(crate) fn len(&self) -> u64 {
        self.table.len() as u64
    }

    /// Rows whose bytes are here.
    pub(crate) fn here_count(&self) -> u64 {
        self.here_count
    }

    /// Rows whose bytes are on the SSD, and in no memory.
    pub(crate) fn on_ssd_count(&self) -> u64 {
        self.on_ssd_count
    }

    /// Rows that are kept for their home ([`standing::KEPT`]).
    pub(crate) fn kept_count(&self) -> u64 {
        self.kept_count
    }

    /// Rows whose bytes are at another core.
    pub(crate) fn elsewhere_count(&self) -> u64 {
        self.len() - self.here_count - self.on_ssd_count
    }

    /// Memory of all rows whose bytes are here.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of the process's own memory, without the bytes of the names.
    pub(crate) fn heap_bytes_beside_names(&self) -> usize {
        let all = self.table.heap_bytes() + self.rows.0.heap_bytes() + self.names.heap_bytes();
        all + self.eviction.footprint_bytes() - self.name_bytes as usize
    }

    /// No more pages of names than these.
    #[cfg(test)]
    pub(crate) fn limit_names(&mut self, pages: usize) {
        self.names.limit(pages);
    }

    fn row_mut(&mut self, position: Position) -> &mut Row {
        &mut self.rows.0[position as usize]
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
