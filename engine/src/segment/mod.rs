//! A core's memory: one or more segments, and which of them takes a value.
//!
//! ```text
//!   mount ──► taking values ── begin_unmount ──► leaving: readable, takes nothing ── empty ──► gone
//! ```
//!
//! What is in a segment, and how its ranges are given out, is [`snowskin_io::memory::Segment`]; here they are mounted, chosen
//! among and unmounted. [`strategy`] is the choice; the same rules choose among cores.

mod strategy;

use snowskin_io::SplitMix;
pub use snowskin_io::memory::{
    Backing, Extent, ExtentId, Mapping, MappingError, MappingRequest, RangeId, Ranges, Reservation, Segment,
    Usage, allocated_bytes,
};
use snowskin_protocol::ByteSize;
pub use snowskin_protocol::strategy::{Strategy, UnknownStrategy};
pub use strategy::{Figures, LOOKED_AT_MAX, Places, Request, SAMPLE_MAX};

/// Segments that a core can have mounted.
pub const SEGMENTS_MAX: usize = 1024;
/// Every segment is smaller: its units are counted in 32 bits.
pub const SEGMENT_BYTES_END: u64 = 1 << 41;

/// The segments of a core.
#[derive(Debug)]
pub struct Segments {
    /// By number.
    mounted: Vec<Option<Mounted>>,
    /// Numbers of those that take values.
    taking: Vec<u16>,
    strategy: Strategy,
    /// Draws samples.
    random: SplitMix,
    /// Segments mounted so far.
    mounts: u32,
    /// Of all that are mounted.
    capacity_bytes: u64,
}

#[derive(Debug)]
struct Mounted {
    segment: Segment,
    is_leaving: bool,
    serial: u32,
}

/// Why a segment could not be mounted or unmounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// There is no such segment.
    #[error("there is no segment {0} here; `segments` lists those that are")]
    Unknown(u16),
    /// It is being unmounted already.
    #[error("segment {0} is being unmounted already")]
    Leaving(u16),
    /// There are as many as there can be.
    #[error("{SEGMENTS_MAX} segments are mounted, which is as many as a core can have; unmount one first")]
    TooMany,
    /// It is too large.
    #[error("a segment has less than {}: mount several", ByteSize(SEGMENT_BYTES_END))]
    TooLarge,
}

impl Segments {
    /// No segment yet. `seed` is where the samples of the strategy come from.
    pub fn new(seed: u64) -> Self {
        Segments {
            mounted: Vec::new(),
            taking: Vec::new(),
            strategy: Strategy::default(),
            random: SplitMix::new(seed),
            mounts: 0,
            capacity_bytes: 0,
        }
    }

    /// One segment.
    pub fn of(mapping: Mapping, seed: u64) -> Self {
        let mut segments = Segments::new(seed);
        segments.mount(mapping).expect("the first of many");
        segments
    }

    /// How segments are chosen from now on.
    pub fn set_strategy(&mut self, strategy: Strategy) {
        self.strategy = strategy;
    }

    /// Adds a segment that is made of `mapping`, and answers its number.
    pub fn mount(&mut self, mapping: Mapping) -> Result<u16, SegmentError> {
        if mapping.bytes() as u64 >= SEGMENT_BYTES_END {
            return Err(SegmentError::TooLarge);
        }
        let free = self.mounted.iter().position(Option::is_none);
        let number = free.unwrap_or(self.mounted.len());
        if number == SEGMENTS_MAX {
            return Err(SegmentError::TooMany);
        }
        if number == self.mounted.len() {
            self.mounted.push(None);
        }
        let segment = Segment::new(number as u16, mapping);
        self.mounts += 1;
        self.capacity_bytes += segment.capacity_bytes();
        self.mounted[number] = Some(Mounted { segment, is_leaving: false, serial: self.mounts });
        self.taking.push(number as u16);
        Ok(number as u16)
    }

    /// From now on the segment takes no values; what it has stays readable.
    pub fn begin_unmount(&mut self, number: u16) -> Result<(), SegmentError> {
        let mounted = self.mounted.get_mut(usize::from(number)).and_then(Option::as_mut);
        let mounted = mounted.ok_or(SegmentError::Unknown(number))?;
        if std::mem::replace(&mut mounted.is_leaving, true) {
            return Err(SegmentError::Leaving(number));
        }
        self.taking.retain(|&taking| taking != number);
        Ok(())
    }

    /// Lets a leaving segment go if nothing is in it any more. Answers its memory.
    pub fn finish_unmount(&mut self, number: u16) -> Option<Mapping> {
        let place = self.mounted.get_mut(usize::from(number))?;
        let mounted = place.take_if(|mounted| mounted.is_leaving)?;
        let capacity_bytes = mounted.segment.capacity_bytes();
        match mounted.segment.into_mapping() {
            Ok(mapping) => {
                self.capacity_bytes -= capacity_bytes;
                Some(mapping)
            }
            Err(segment) => {
                *place = Some(Mounted { segment, ..mounted });
                None
            }
        }
    }

    /// Bytes of all segments.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// The number of a segment among all that were ever mounted here, by which other processes know it.
    #[inline]
    pub fn serial(&self, number: u16) -> u32 {
        self.mounted(number).serial
    }

    /// The memory of a segment.
    #[inline]
    pub fn mapping(&self, number: u16) -> &Mapping {
        self.segment(number).mapping()
    }

    /// Those that are mounted, each with a number that no other one has or had.
    pub fn serials(&self) -> impl Iterator<Item = (&Segment, u32)> + '_ {
        self.mounted.iter().flatten().map(|mounted| (&mounted.segment, mounted.serial))
    }

    /// Those that are mounted, in the order of their numbers, and whether each is leaving.
    pub fn iter(&self) -> impl Iterator<Item = (&Segment, bool)> + '_ {
        self.mounted.iter().flatten().map(|mounted| (&mounted.segment, mounted.is_leaving))
    }

    /// Memory for a value of `value_bytes`, or `None` when no free run is long enough.
    pub fn reserve(&self, value_bytes: usize) -> Option<Reservation> {
        if let [only] = *self.taking {
            return self.segment(only).reserve(value_bytes);
        }
        let mut reserved = None;
        let bytes = allocated_bytes(value_bytes as u64);
        let request = Request { strategy: self.strategy, bytes, preferred: &[] };
        let draw = || self.random.draw();
        request.place_one(self, draw, |place| {
            reserved = self.segment(self.taking[place]).reserve(value_bytes);
            reserved.is_some()
        });
        reserved
    }

    /// Pins what is kept under that name.
    #[inline]
    pub fn pin(&self, extent: ExtentId, value_bytes: u64) -> Extent {
        self.segment(extent.segment).pin(extent, value_bytes as usize)
    }

    /// Asks the processor for what pinning will read.
    pub fn prefetch(&self, extent: ExtentId) {
        self.segment(extent.segment).prefetch(extent);
    }

    /// The index lets go of what it kept under that name.
    pub fn let_go(&self, extent: ExtentId) {
        self.segment(extent.segment).let_go(extent);
    }

    /// Whether the segment would take a value of that length, if there were nothing else in it.
    pub fn would_take(&self, number: u16, value_bytes: u64) -> bool {
        let mounted = self.mounted(number);
        !mounted.is_leaving && allocated_bytes(value_bytes) <= mounted.segment.capacity_bytes()
    }

    /// Where the bytes of all segments are.
    pub fn usage(&self) -> Usage {
        self.iter().map(|(segment, _)| segment.usage()).fold(Usage::default(), sum)
    }

    /// Where the bytes are of those that take values.
    pub fn usage_of_taking(&self) -> Usage {
        self.taking.iter().map(|&number| self.segment(number).usage()).fold(Usage::default(), sum)
    }

    /// The largest value that could be taken if nothing else were there.
    pub fn value_bytes_max(&self) -> u64 {
        self.taking.iter().map(|&number| self.segment(number).capacity_bytes()).max().unwrap_or(0)
    }

    /// Bytes of the process's own memory that keep account of all segments.
    pub fn heap_bytes(&self) -> usize {
        self.iter().map(|(segment, _)| segment.heap_bytes()).sum()
    }

    #[inline]
    fn mounted(&self, number: u16) -> &Mounted {
        self.mounted[usize::from(number)].as_ref().expect("what is kept is in a mounted segment")
    }

    #[inline]
    fn segment(&self, number: u16) -> &Segment {
        &self.mounted(number).segment
    }
}

impl Places for Segments {
    fn count(&self) -> usize {
        self.taking.len()
    }

    fn figures(&self, place: usize) -> Figures {
        let Usage { capacity_bytes, free_bytes, free_range_bytes_max, .. } =
            self.segment(self.taking[place]).usage();
        Figures { capacity_bytes, free_bytes, free_range_bytes_max, host: 0, is_local: true }
    }
}

fn sum(one: Usage, other: Usage) -> Usage {
    Usage {
        capacity_bytes: one.capacity_bytes + other.capacity_bytes,
        free_bytes: one.free_bytes + other.free_bytes,
        reserved_bytes: one.reserved_bytes + other.reserved_bytes,
        pinned_bytes: one.pinned_bytes + other.pinned_bytes,
        free_range_bytes_max: one.free_range_bytes_max.max(other.free_range_bytes_max),
    }
}

#[cfg(test)]
#[path = "segments_tests.rs"]
mod tests;
