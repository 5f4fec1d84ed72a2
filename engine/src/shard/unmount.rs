//! Emptying a segment: what it holds moves to the core's other segments, as far as they have room, and is evicted when
//! the time is over, as soon as leases allow. Until then all of it stays readable.
//!
//! A step looks at a bounded number of rows and copies a bounded number of bytes, so a large value moves in several steps.
//! Nothing is evicted to make room: what finds none stays where it is, until the deadline.

use super::Shard;
use super::row::Position;
use crate::segment::{ExtentId, Mapping, Reservation, SegmentError};
use snowskin_io::Moment;
use snowskin_protocol::limits::SCAN_ROWS_PER_STEP;
use std::time::Duration;

/// Bytes that one step copies.
const COPIED_BYTES_PER_STEP: usize = 1 << 20;
/// Between two walks over all rows: what has found no room, or is leased, is not looked for all the time.
const PASS_PAUSE: Duration = Duration::from_secs(1);

/// A segment on its way out.
#[derive(Debug)]
pub(super) struct Unmount {
    segment: u16,
    /// From when on what has found no room is evicted.
    deadline: Moment,
    cursor: Position,
    /// When rows are looked at again after all of them have been.
    again_at: Moment,
    moving: Option<Moving>,
}

/// A value on its way to another segment.
#[derive(Debug)]
struct Moving {
    position: Position,
    from: ExtentId,
    to: Reservation,
    copied_bytes: usize,
}

/// What a step of an unmount came to.
#[derive(Debug)]
pub enum UnmountStep {
    /// There is more to do at once.
    More,
    /// All rows have been looked at; what is still there waits for room, for its readers, or for the deadline.
    Waits,
    /// A segment is gone.
    Gone {
        /// Its number.
        segment: u16,
        /// Its number among all that were ever mounted here.
        serial: u32,
        /// Its memory, to be unmapped, which may take a while.
        mapping: Mapping,
    },
}

impl Shard {
    /// Begins to empty a segment; what has found no room at the deadline is evicted.
    pub fn begin_unmount(&mut self, segment: u16, deadline: Moment) -> Result<(), SegmentError> {
        self.segments.begin_unmount(segment)?;
        self.unmounts.push_back(Unmount {
            segment,
            deadline,
            cursor: 0,
            again_at: Moment::default(),
            moving: None,
        });
        Ok(())
    }

    /// Whether segments are being emptied.
    pub fn is_unmounting(&self) -> bool {
        !self.unmounts.is_empty()
    }

    /// A bounded step of emptying the first segment that is to be emptied.
    pub fn unmount_step(&mut self, now: Moment) -> UnmountStep {
        let Some(mut unmount) = self.unmounts.pop_front() else { return UnmountStep::Waits };
        self.take_in_uses(now);
        if now >= unmount.again_at {
            self.empty_some(&mut unmount, now);
        }
        let is_through =
            unmount.moving.is_none() && (unmount.cursor >= self.index.end() || now < unmount.again_at);
        if is_through {
            self.look_at_holds();
            let serial = self.segments.serial(unmount.segment);
            if let Some(mapping) = self.segments.finish_unmount(unmount.segment) {
                return UnmountStep::Gone { segment: unmount.segment, serial, mapping };
            }
        }
        if is_through && now >= unmount.again_at {
            unmount.cursor = 0;
            let later = now + PASS_PAUSE;
            unmount.again_at = if now < unmount.deadline { later.min(unmount.deadline) } else { later };
        }
        // Others have their turn before this one has another.
        self.unmounts.push_back(unmount);
        if is_through { UnmountStep::Waits } else { UnmountStep::More }
    }

    /// Walks on and moves what it meets, so many rows and bytes.
    fn empty_some(&mut self, unmount: &mut Unmount, now: Moment) {
        let end = self.index.end().min(unmount.cursor.saturating_add(SCAN_ROWS_PER_STEP as u32));
        let mut bytes_left = COPIED_BYTES_PER_STEP;
        loop {
            if let Some(moving) = unmount.moving.take() {
                unmount.moving = self.go_on(moving, &mut bytes_left);
            }
            if unmount.moving.is_some() || bytes_left == 0 || unmount.cursor >= end {
                return;
            }
            unmount.moving = self.move_or_evict(unmount.cursor, unmount, now);
            unmount.cursor += 1;
        }
    }

    /// Begins to move the row at a position, if it is in the segment. What has found no room goes after the deadline, as
    /// soon as its lease is over.
    fn move_or_evict(&mut self, position: Position, unmount: &Unmount, now: Moment) -> Option<Moving> {
        let from = self.extent_in(position, unmount.segment)?;
        let row = self.index.row(position);
        let (value_bytes, is_leased) = (row.value_bytes() as usize, row.lease_until() > now);
        if let Some(to) = self.segments.reserve(value_bytes) {
            return Some(Moving { position, from, to, copied_bytes: 0 });
        }
        if now >= unmount.deadline && !is_leased {
            self.evict(position);
        }
        None
    }

    /// The extent of the row at this position, if it is in this segment.
    fn extent_in(&self, position: Position, segment: u16) -> Option<ExtentId> {
        self.index.get(position)?.extent().filter(|extent| extent.segment == segment)
    }

    /// Copies some more; `None` when it is done or the value is no longer there.
    fn go_on(&mut self, mut moving: Moving, bytes_left: &mut usize) -> Option<Moving> {
        if self.extent_in(moving.position, moving.from.segment) != Some(moving.from) {
            return None;
        }
        let value_bytes = self.index.row(moving.position).value_bytes();
        let from = self.segments.pin(moving.from, value_bytes);
        let end = from.value().len().min(moving.copied_bytes + *bytes_left);
        *bytes_left -= end - moving.copied_bytes;
        let bytes = moving.copied_bytes..end;
        moving.to.value_mut()[bytes.clone()].copy_from_slice(&from.value()[bytes]);
        moving.copied_bytes = end;
        if end < from.value().len() {
            return Some(moving);
        }
        self.take_off_shelf(moving.position);
        self.index.move_to(moving.position, moving.to.publish());
        self.segments.let_go(moving.from);
        None
    }
}
