//! What a core knows about one object, in one cache line.

use super::names::NameId;
use crate::eviction::Seat;
use crate::segment::{ExtentId, RangeId, SEGMENTS_MAX, allocated_bytes};
use snowskin_io::Moment;
use snowskin_protocol::limits::EXTENT_ALIGNMENT;
use snowskin_protocol::{Checksum, CoreId, Slot, Version};

/// Where a row stands.
pub(crate) type Position = u32;
pub(crate) const NOWHERE: Position = u32::MAX;

/// Where the bytes of an object are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this core's memory.
    Here(ExtentId),
    /// In a record of this core's SSD tier.
    OnSsd(RecordId),
    /// At another core.
    At(CoreId),
}

/// Where a record is, as the owner of the tier numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordId(pub u32);

/// Stands for a segment in rows whose bytes are at another core ...
const ELSEWHERE: u16 = u16::MAX;
/// ... and in those whose bytes are on the SSD. No segment has such numbers.
const ON_SSD: u16 = u16::MAX - 1;

const _: () = assert!(SEGMENTS_MAX <= ON_SSD as usize);

/// An entry if the core is the home, a replica if it has the bytes, usually both.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Row {
    version: Version,
    checksum: Checksum,
    pub(super) name: NameId,
    /// The value's length in units of [`EXTENT_ALIGNMENT`], rounded up; 0: no row stands here.
    units: u32,
    /// The range in the segment, the record, or the number of the holder.
    place: u32,
    segment: u16,
    /// Bytes of the last unit that are not the value's.
    slack: u16,
    generation: u32,
    /// Microseconds, 48 bits: nine years.
    lease_low: u32,
    lease_high: u16,
    slot: u16,
    pub(super) seat: Seat,
}

const _: () = assert!(size_of::<Row>() == 64);

/// What stands in the place of a generation in rows that are replicas by order of another home ([`super::replicas`]). No slot has so
/// many generations.
pub(crate) mod standing {
    /// Bytes that the home may name to readers.
    pub(crate) const LOOSE: u32 = u32::MAX;
    /// The same, and the next home is told of them, should this one be lost.
    pub(crate) const KEPT: u32 = u32::MAX - 1;
    /// They were kept, and are not any more, nor ever again.
    pub(crate) const RELEASED: u32 = u32::MAX - 2;
}

/// What is known of an object beside its name and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) version: Version,
    pub(crate) value_bytes: u64,
    pub(crate) checksum: Checksum,
    /// The slot's generation in which this core, as the home, vouched for the row. In any other generation the row
    /// is no entry, only bytes that another home may refer to.
    pub(crate) generation: u32,
}

/// A place as rows have it: holders are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowPlace {
    Here(ExtentId),
    OnSsd(RecordId),
    At(u32),
}

impl Row {
    pub(super) fn new(name: NameId, hash: u64, facts: Facts, place: RowPlace) -> Self {
        let Facts { version, value_bytes, checksum, generation } = facts;
        let allocated = allocated_bytes(value_bytes);
        let (segment, place) = match place {
            RowPlace::Here(extent) => (extent.segment, extent.range.number()),
            RowPlace::OnSsd(record) => (ON_SSD, record.0),
            RowPlace::At(holder) => (ELSEWHERE, holder),
        };
        Row {
            version,
            checksum,
            name,
            units: u32::try_from(allocated / EXTENT_ALIGNMENT as u64).expect("a value has less than 2 TiB"),
            place,
            segment,
            slack: (allocated - value_bytes) as u16,
            generation,
            lease_low: 0,
            lease_high: 0,
            slot: Slot::of_hash(hash).0,
            seat: Seat::default(),
        }
    }

    /// A place where no row stands, and the next one like it.
    pub(super) fn vacate(&mut self, next: Position) {
        (self.units, self.place) = (0, next);
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.units == 0
    }

    pub(super) fn next_vacant(&self) -> Position {
        self.place
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn checksum(&self) -> Checksum {
        self.checksum
    }

    pub(crate) fn slot(&self) -> Slot {
        Slot(self.slot)
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    /// Bytes of the value.
    pub(crate) fn value_bytes(&self) -> u64 {
        self.allocated() - u64::from(self.slack)
    }

    fn allocated(&self) -> u64 {
        u64::from(self.units) * EXTENT_ALIGNMENT as u64
    }

    /// Bytes of the value's extent in memory; 0 if it is not there.
    pub(super) fn allocated_bytes(&self) -> u64 {
        if self.is_here() { self.allocated() } else { 0 }
    }

    /// Whether its bytes are in memory here.
    pub(crate) fn is_here(&self) -> bool {
        self.segment < ON_SSD
    }

    /// Whether its bytes are at another core.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.segment == ELSEWHERE
    }

    /// The extent, if its bytes are here.
    pub(super) fn extent(&self) -> Option<ExtentId> {
        match self.place() {
            RowPlace::Here(extent) => Some(extent),
            RowPlace::OnSsd(_) | RowPlace::At(_) => None,
        }
    }

    pub(super) fn place(&self) -> RowPlace {
        match self.segment {
            ELSEWHERE => RowPlace::At(self.place),
            ON_SSD => RowPlace::OnSsd(RecordId(self.place)),
            segment => RowPlace::Here(ExtentId { segment, range: RangeId::from_number(self.place) }),
        }
    }

    /// The bytes of the row are in a record from now on, and in no memory.
    pub(super) fn move_to_ssd(&mut self, record: RecordId) {
        (self.segment, self.place) = (ON_SSD, record.0);
    }

    /// The bytes of the row are in another extent from now on.
    pub(super) fn move_to(&mut self, extent: ExtentId) {
        (self.segment, self.place) = (extent.segment, extent.range.number());
    }

    /// Until when the row is protected: less than a microsecond longer than was asked for.
    pub(crate) fn lease_until(&self) -> Moment {
        let microseconds = u64::from(self.lease_high) << 32 | u64::from(self.lease_low);
        Moment(microseconds.saturating_mul(1_000))
    }

    /// Protects the row until `until` at least.
    pub(super) fn extend_lease(&mut self, until: Moment) {
        if until > self.lease_until() {
            let microseconds = until.0.div_ceil(1_000).min((1 << 48) - 1);
            (self.lease_low, self.lease_high) = (microseconds as u32, (microseconds >> 32) as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn lengths_and_leases_survive_their_packing(value_bytes: u64, until: u64, again: u64) -> bool {
            let value_bytes = value_bytes % (1 << 40) + 1;
            let facts =
                Facts { version: Version(1), value_bytes, checksum: Checksum(2), generation: 3 };
            let extent = ExtentId { segment: 4, range: RangeId::from_number(5) };
            let mut row = Row::new(Names::new().insert(b"n"), 6 << 48, facts, RowPlace::Here(extent));
            row.extend_lease(Moment(until));
            row.extend_lease(Moment(again));
            let asked = until.max(again).min(((1 << 48) - 1) * 1_000);
            assert!((asked..asked + 1_000).contains(&row.lease_until().0));
            assert_eq!((row.slot(), row.place(), row.is_here()), (Slot(6), RowPlace::Here(extent), true));
            row.value_bytes() == value_bytes && row.allocated_bytes() == allocated_bytes(value_bytes)
        }
    }
}
