//! Emptying a segment: what it holds moves to the core's other segments, as far as they have room, and is dropped when
//! the time is over. Until then all of it stays readable.
//!
//! A step looks at a bounded number of rows and copies a bounded number of bytes, so a large value moves in several steps.
//! Nothing is evicted to make room: what finds none stays where it is, until the deadline.

use super::Shard;
use super::index::Why;
use super::row::{Place, Position};
use crate::segment::{ExtentId, Mapping, Reservation, SegmentError};
use snowskin_io::Moment;
use snowskin_protocol::MissReason;
use snowskin_protocol::limits::SCAN_ROWS_PER_STEP;

/// Bytes that one step copies.
const COPIED_BYTES_PER_STEP: usize = 1 << 20;

/// A segment on its way out.
#[derive(Debug)]
pub(super) struct Unmount {
    segment: u16,
    /// When what is still there is dropped.
    deadline: Moment,
    cursor: Position,
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
    /// The segment is gone; its memory is to be unmapped, which may take a while.
    Gone(u16, Mapping),
}

impl Shard {
    /// Begins to empty a segment; what is still there at the deadline is dropped.
    pub fn begin_unmount(&mut self, segment: u16, deadline: Moment) -> Result<(), SegmentError> {
        self.segments.begin_unmount(segment)?;
        self.unmounts.push(Unmount { segment, deadline, cursor: 0, moving: None });
        Ok(())
    }

    /// Whether segments are being emptied.
    pub fn is_unmounting(&self) -> bool {
        !self.unmounts.is_empty()
    }

    /// A bounded step of emptying the first segment that is to be emptied.
    pub fn unmount_step(&mut self, now: Moment) -> UnmountStep {
        let Some(mut unmount) = self.unmounts.pop() else { return UnmountStep::Waits };
        if let Some(moving) = unmount.moving.take() {
            unmount.moving = self.go_on(moving);
        }
        if unmount.moving.is_none() {
            self.empty_some(&mut unmount, now);
        }
        let is_through = unmount.cursor == self.index.end() && unmount.moving.is_none();
        if is_through && let Some(mapping) = self.segments.finish_unmount(unmount.segment) {
            return UnmountStep::Gone(unmount.segment, mapping);
        }
        if is_through {
            unmount.cursor = 0;
        }
        // Others have their turn before this one has another.
        self.unmounts.insert(0, unmount);
        if is_through { UnmountStep::Waits } else { UnmountStep::More }
    }

    /// Walks on, up to a value that is to be moved.
    fn empty_some(&mut self, unmount: &mut Unmount, now: Moment) {
        let end = self.index.end().min(unmount.cursor.saturating_add(SCAN_ROWS_PER_STEP as u32));
        let is_over = now >= unmount.deadline;
        while unmount.cursor < end && unmount.moving.is_none() {
            let position = unmount.cursor;
            unmount.cursor += 1;
            match self.extent_in(position, unmount.segment) {
                Some(_) if is_over => {
                    let gone = self.take_out(position, Why::Dropped);
                    self.counters.evicted += 1;
                    self.counters.evicted_bytes += gone.value_bytes;
                    self.note_departure(&gone, MissReason::Evicted);
                }
                Some(from) => {
                    let value_bytes = self.index.row(position).value_bytes() as usize;
                    let to = self.segments.reserve(value_bytes);
                    unmount.moving = to.map(|to| Moving { position, from, to, copied_bytes: 0 });
                }
                None => {}
            }
        }
    }

    /// The extent of the row at this position, if it is in this segment.
    fn extent_in(&self, position: Position, segment: u16) -> Option<ExtentId> {
        self.index.get(position)?;
        match self.index.place(position) {
            Place::Here(extent) if extent.segment == segment => Some(extent),
            _ => None,
        }
    }

    /// Copies some more; `None` when it is done or the value is no longer there.
    fn go_on(&mut self, mut moving: Moving) -> Option<Moving> {
        if self.extent_in(moving.position, moving.from.segment) != Some(moving.from) {
            return None;
        }
        let value_bytes = self.index.row(moving.position).value_bytes();
        let from = self.segments.pin(moving.from, value_bytes);
        let end = from.value().len().min(moving.copied_bytes + COPIED_BYTES_PER_STEP);
        let bytes = moving.copied_bytes..end;
        moving.to.value_mut()[bytes.clone()].copy_from_slice(&from.value()[bytes]);
        moving.copied_bytes = end;
        if end < from.value().len() {
            return Some(moving);
        }
        self.index.move_to(moving.position, moving.to.publish());
        self.segments.let_go(moving.from);
        None
    }
}
