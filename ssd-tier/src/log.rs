//! Which region is what, and where the next record goes. Plain code: no disk, no time.
//!
//! ```text
//!            open_next               full                closed              reclaimed, floor durable, nobody reads
//!   free ───────────────► open ───────────────► closing ─────────► complete ──────────────────────────────────────► free
//! ```
//!
//! Regions are opened with sequences that only grow, and reclaimed in that order. So what was written later goes later: a tombstone outlives
//! every record that it is for.
//!
//! The last [`RESERVED_REGIONS`] free regions are for reclaim alone, which writes before it frees.

use crate::format::{Entry, FooterWriter, Geometry, SECTOR_BYTES, Sequence, record_bytes};
use snowskin_protocol::limits::NAME_BYTES_MAX;
use std::collections::VecDeque;

/// Free regions that only reclaim may open.
pub(crate) const RESERVED_REGIONS: usize = 1;

/// The sequences of a mount begin at its number times two to the power of this.
const MOUNT_BITS: u32 = 32;

/// The state of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Free,
    Open,
    Closing,
    Complete,
}

/// A region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) phase: Phase,
    pub(crate) sequence: Sequence,
    /// Bytes of records that somebody wants.
    pub(crate) live_bytes: u64,
    /// Reads and writes under way.
    pub(crate) readers: u32,
    pub(crate) writers: u32,
    /// A write may still be under way that nobody waits for: it is not used again.
    pub(crate) is_lost: bool,
}

/// The region that is being filled.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) region: u32,
    /// Where its records end.
    pub(crate) end: u32,
    pub(crate) footer: FooterWriter,
}

/// Whether there is room for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is.
    Yes,
    /// In the next region.
    Next,
    /// In none.
    Never,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Log {
    geometry: Geometry,
    regions: Vec<Region>,
    free: VecDeque<u32>,
    /// Those that are closing or complete, the first one first.
    in_order: VecDeque<u32>,
    pub(crate) open: Option<Open>,
    next: Sequence,
}

impl Log {
    /// All regions are free.
    pub(crate) fn new(geometry: Geometry, next: Sequence) -> Self {
        let free = Region {
            phase: Phase::Free,
            sequence: Sequence(0),
            live_bytes: 0,
            readers: 0,
            writers: 0,
            is_lost: false,
        };
        Log {
            geometry,
            regions: vec![free; geometry.regions as usize],
            free: (0..geometry.regions).collect(),
            in_order: VecDeque::new(),
            open: None,
            next,
        }
    }

    /// What a mount has found: the regions that hold something, with their sequences.
    ///
    /// The sequences of this mount are its own: what was written in a region whose header the last one lost must not be taken for what is
    /// written there next.
    pub(crate) fn recovered(
        geometry: Geometry,
        floor: Sequence,
        mount: u64,
        mut used: Vec<(Sequence, u32)>,
    ) -> Self {
        used.sort_unstable();
        let behind = used.last().map_or(floor, |(sequence, _)| floor.max(sequence.next()));
        let mut log = Log::new(geometry, behind.max(Sequence(mount << MOUNT_BITS)));
        for (sequence, region) in used {
            let state = log.region_mut(region);
            (state.phase, state.sequence) = (Phase::Complete, sequence);
            log.in_order.push_back(region);
        }
        let Log { regions, free, .. } = &mut log;
        free.retain(|region| regions[*region as usize].phase == Phase::Free);
        log
    }

    pub(crate) fn region(&self, region: u32) -> &Region {
        &self.regions[region as usize]
    }

    pub(crate) fn region_mut(&mut self, region: u32) -> &mut Region {
        &mut self.regions[region as usize]
    }

    pub(crate) fn regions(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter()
    }

    /// The sequence of the region that is opened next.
    pub(crate) fn next_sequence(&self) -> Sequence {
        self.next
    }

    pub(crate) fn free_regions(&self) -> usize {
        self.free.len()
    }

    /// Bytes of a region beside its records, if it has one whose entries' names have so many bytes.
    fn beside_bytes(entries: usize, names_bytes: usize) -> u64 {
        SECTOR_BYTES as u64 + FooterWriter::default().sectors_bytes_with(entries, names_bytes)
    }

    /// Whether a record of so many bytes fits, with its entries in the footer.
    pub(crate) fn room(&self, record_bytes: u64, entries: usize, names_bytes: usize) -> Room {
        if record_bytes + Log::beside_bytes(entries, names_bytes) > self.geometry.region_bytes {
            return Room::Never;
        }
        match &self.open {
            Some(open) => {
                let end = u64::from(open.end) + record_bytes;
                let fits =
                    end + open.footer.sectors_bytes_with(entries, names_bytes) <= self.geometry.region_bytes;
                if fits { Room::Yes } else { Room::Next }
            }
            None => Room::Next,
        }
    }

    /// Bytes of the largest value that a region takes, whatever its name; 0 if there are names for which there is no room.
    pub(crate) fn value_bytes_max(geometry: Geometry) -> u64 {
        // The end of a value is in the head: of a shorter one, which has a sector less behind it.
        let (head, _) = record_bytes(NAME_BYTES_MAX, 0);
        let beside = head + Log::beside_bytes(1, NAME_BYTES_MAX);
        geometry.region_bytes.saturating_sub(beside) / SECTOR_BYTES as u64 * SECTOR_BYTES as u64
    }

    /// Takes the room that there is. Answers where it is.
    pub(crate) fn take<'e>(
        &mut self,
        record_bytes: u64,
        entries: impl Iterator<Item = Entry<'e>>,
    ) -> (u32, u32) {
        let open = self.open.as_mut().expect("asked for room");
        let at = (open.region, open.end);
        entries.for_each(|entry| open.footer.push(&Entry { offset: at.1, ..entry }));
        open.end += record_bytes as u32;
        let region = self.region_mut(at.0);
        region.writers += 1;
        at
    }

    /// Opens the next region. Answers the one that was open, which is to be closed, and the one that is now. `None`: none is free.
    pub(crate) fn open_next(&mut self, for_reclaim: bool) -> Option<(Option<Open>, u32, Sequence)> {
        let reserved = if for_reclaim { 0 } else { RESERVED_REGIONS };
        if self.free.len() <= reserved {
            return None;
        }
        let region = self.free.pop_front()?;
        let sequence = self.next;
        self.next = sequence.next();
        let state = self.region_mut(region);
        (state.phase, state.sequence, state.live_bytes) = (Phase::Open, sequence, 0);
        let footer = FooterWriter::default();
        let full = self.open.replace(Open { region, end: SECTOR_BYTES as u32, footer });
        if let Some(full) = &full {
            self.close(full.region);
        }
        Some((full, region, sequence))
    }

    fn close(&mut self, region: u32) {
        self.region_mut(region).phase = Phase::Closing;
        self.in_order.push_back(region);
    }

    /// A region that was closing has its footer, or none will come.
    pub(crate) fn complete(&mut self, region: u32) {
        let state = self.region_mut(region);
        assert_eq!(state.phase, Phase::Closing, "region {region}");
        state.phase = Phase::Complete;
    }

    /// The region that goes next, if it is complete.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.in_order.front().copied().filter(|oldest| self.region(*oldest).phase == Phase::Complete)
    }

    /// Nothing can be reclaimed and nothing be written, because all but one region are for reclaim alone, or are lost.
    pub(crate) fn is_stuck(&self) -> bool {
        self.in_order.is_empty() && self.open.is_some() && self.free.len() <= RESERVED_REGIONS
    }

    /// The sequence below which there is nothing, once `oldest` has gone.
    pub(crate) fn floor_after(&self, oldest: u32) -> Sequence {
        self.region(oldest).sequence.next()
    }

    /// The oldest region is of no more use, and its space is free.
    pub(crate) fn free(&mut self, oldest: u32) {
        assert_eq!(self.in_order.pop_front(), Some(oldest), "in order");
        let state = self.region_mut(oldest);
        (state.phase, state.live_bytes) = (Phase::Free, 0);
        if !state.is_lost {
            self.free.push_back(oldest);
        }
    }
}
