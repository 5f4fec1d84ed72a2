//! The rows of a core: what it knows about objects, found by name, ordered by age.
//!
//! A row stands at a position that never changes, so that slow walks (hand-over, removal by pattern) can stop and
//! go on by position while requests are served in between. Rows whose bytes are here are linked from the most
//! recently used to the least.
//!
//! ```text
//!   table: hash ──► position ──► rows[position]: name, version, bytes, lease, younger ◄─► older
//! ```

use crate::segment::Extent;
use hashbrown::HashTable;
use snowskin_io::Moment;
use snowskin_protocol::{Checksum, CoreId, NameRef, ObjectName, Slot, Version};

/// Where a row stands.
pub(crate) type Position = u32;
const NOWHERE: Position = u32::MAX;

/// Where the bytes of an object are.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    /// In this core's memory.
    Here(Extent),
    /// At another core.
    At(CoreId),
}

/// What a core knows about one object: an entry if it is the home, a replica if it has the bytes, usually both.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: ObjectName,
    pub(crate) hash: u64,
    pub(crate) version: Version,
    pub(crate) value_bytes: u64,
    pub(crate) checksum: Checksum,
    pub(crate) bytes: Bytes,
    pub(crate) lease_until: Moment,
    /// The slot's generation in which this core, as the home, vouched for the row. In any other generation the row
    /// is no entry, only bytes that another home may refer to.
    pub(crate) generation: u32,
    younger: Position,
    older: Position,
}

impl Row {
    pub(crate) fn new(
        name: ObjectName,
        version: Version,
        value_bytes: u64,
        checksum: Checksum,
        bytes: Bytes,
        generation: u32,
    ) -> Self {
        let hash = name.hash();
        Row {
            name,
            hash,
            version,
            value_bytes,
            checksum,
            bytes,
            lease_until: Moment::default(),
            generation,
            younger: NOWHERE,
            older: NOWHERE,
        }
    }

    pub(crate) fn slot(&self) -> Slot {
        Slot::of_hash(self.hash)
    }

    pub(crate) fn is_here(&self) -> bool {
        matches!(self.bytes, Bytes::Here(_))
    }

    fn allocated_bytes(&self) -> u64 {
        match &self.bytes {
            Bytes::Here(extent) => extent.allocated_bytes(),
            Bytes::At(_) => 0,
        }
    }
}

/// All rows of a core.
#[derive(Debug)]
pub(crate) struct Index {
    table: HashTable<Position>,
    rows: Vec<Option<Row>>,
    vacant: Vec<Position>,
    youngest: Position,
    oldest: Position,
    here_count: u64,
    live_bytes: u64,
}

impl Index {
    pub(crate) fn new() -> Self {
        Index {
            table: HashTable::new(),
            rows: Vec::new(),
            vacant: Vec::new(),
            youngest: NOWHERE,
            oldest: NOWHERE,
            here_count: 0,
            live_bytes: 0,
        }
    }

    /// Where the row of `name` stands, if there is one.
    pub(crate) fn find(&self, name: NameRef<'_>, hash: u64) -> Option<Position> {
        self.table.find(hash, |&position| self.row(position).name.bytes() == name.bytes()).copied()
    }

    /// The row at a position that is known to have one.
    pub(crate) fn row(&self, position: Position) -> &Row {
        self.rows[position as usize].as_ref().expect("the position of a row")
    }

    /// Protects the row at a position until `until` at least.
    pub(crate) fn extend_lease(&mut self, position: Position, until: Moment) {
        let lease = &mut self.row_mut(position).lease_until;
        *lease = until.max(*lease);
    }

    /// Vouches for the row at a position in this generation of its slot.
    pub(crate) fn vouch(&mut self, position: Position, generation: u32) {
        self.row_mut(position).generation = generation;
    }

    /// The row at a position, if one stands there.
    pub(crate) fn get(&self, position: Position) -> Option<&Row> {
        self.rows.get(position as usize)?.as_ref()
    }

    /// One past the last position that may have a row.
    pub(crate) fn end(&self) -> Position {
        self.rows.len() as Position
    }

    /// Adds a row whose name has none.
    pub(crate) fn insert(&mut self, row: Row) -> Position {
        debug_assert!(self.find(row.name.as_ref(), row.hash).is_none());
        let (hash, is_here) = (row.hash, row.is_here());
        self.live_bytes += row.allocated_bytes();
        let position = match self.vacant.pop() {
            Some(position) => {
                self.rows[position as usize] = Some(row);
                position
            }
            None => {
                assert!(self.rows.len() < NOWHERE as usize, "more rows than positions");
                self.rows.push(Some(row));
                self.rows.len() as Position - 1
            }
        };
        let rows = &self.rows;
        let hash_at = |&at: &Position| rows[at as usize].as_ref().expect("the position of a row").hash;
        self.table.insert_unique(hash, position, hash_at);
        if is_here {
            self.here_count += 1;
            self.link_youngest(position);
        }
        position
    }

    /// Takes the row at a position out.
    pub(crate) fn remove(&mut self, position: Position) -> Row {
        let hash = self.row(position).hash;
        let found = self.table.find_entry(hash, |&at| at == position);
        found.unwrap_or_else(|_| unreachable!("a row is in the table")).remove();
        if self.row(position).is_here() {
            self.here_count -= 1;
            self.unlink(position);
        }
        self.vacant.push(position);
        let row = self.rows[position as usize].take().expect("the position of a row");
        self.live_bytes -= row.allocated_bytes();
        row
    }

    /// Makes the row the most recently used one, if its bytes are here.
    pub(crate) fn touch(&mut self, position: Position) {
        if self.youngest != position && self.row(position).is_here() {
            self.unlink(position);
            self.link_youngest(position);
        }
    }

    /// The rows whose bytes are here, the least recently used first.
    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = Position> + '_ {
        let next = |&position: &Position| self.get(position).map(|row| row.younger);
        let first = (self.oldest != NOWHERE).then_some(self.oldest);
        std::iter::successors(first, next).take_while(|&position| position != NOWHERE)
    }

    /// Whether this is the most recently used row.
    pub(crate) fn is_youngest(&self, position: Position) -> bool {
        self.youngest == position
    }

    /// Rows whose bytes are here.
    pub(crate) fn here_count(&self) -> u64 {
        self.here_count
    }

    /// Rows whose bytes are at another core.
    pub(crate) fn elsewhere_count(&self) -> u64 {
        self.table.len() as u64 - self.here_count
    }

    /// Memory of all rows whose bytes are here.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    fn link_youngest(&mut self, position: Position) {
        let older = self.youngest;
        let row = self.row_mut(position);
        (row.younger, row.older) = (NOWHERE, older);
        match older {
            NOWHERE => self.oldest = position,
            _ => self.row_mut(older).younger = position,
        }
        self.youngest = position;
    }

    fn unlink(&mut self, position: Position) {
        let (younger, older) = (self.row(position).younger, self.row(position).older);
        match younger {
            NOWHERE => self.youngest = older,
            _ => self.row_mut(younger).older = older,
        }
        match older {
            NOWHERE => self.oldest = younger,
            _ => self.row_mut(older).younger = younger,
        }
    }

    fn row_mut(&mut self, position: Position) -> &mut Row {
        self.rows[position as usize].as_mut().expect("the position of a row")
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
