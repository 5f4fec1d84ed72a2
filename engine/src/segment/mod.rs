//! A core's memory: one run of mapped bytes, cut into extents.
//!
//! ```text
//!             reserve                    publish                  last clone dropped
//!   free ───────────────► Reservation ───────────────► Extent ───────────────────────► free
//!     ▲                       │ dropped before it was published (client died, checksum wrong)
//!     └───────────────────────┘
//! ```
//!
//! A [`Reservation`] is written by one task and seen by nobody. An [`Extent`] is read by many and written by nobody:
//! cloning it is the pin, dropping the clone lets go. So no extent can be reused while someone reads it, and none
//! can leak: there is no other way to hold memory.
//!
//! Every byte is always in one of four states, and [`Segment::usage`] knows them by counting, not by scanning:
//! free, reserved, live (in the index, counted there) or pinned (no longer in the index, still read).

mod allocator;
mod lengths;
mod ranges;
mod strategy;

pub use allocator::{Allocator, Grant};
pub use ranges::{Cut, Merged, RangeId, Ranges};
pub use strategy::{Figures, LOOKED_AT_MAX, Places, Request, SAMPLE_MAX, Strategy, UnknownStrategy};

use snowskin_io::memory::{Span, SpanError};
use snowskin_io::seeded_bug;
use std::cell::RefCell;
use std::rc::Rc;

/// A core's memory.
#[derive(Clone, Debug)]
pub struct Segment(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    allocator: Allocator,
    reserved_bytes: u64,
}

/// Where the bytes of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// All of them.
    pub capacity_bytes: u64,
    /// Not allocated.
    pub free_bytes: u64,
    /// Being written.
    pub reserved_bytes: u64,
    /// The longest run that is not allocated.
    pub free_range_bytes_max: u64,
}

impl Usage {
    /// Bytes of extents: live or pinned.
    pub fn published_bytes(&self) -> u64 {
        self.capacity_bytes - self.free_bytes - self.reserved_bytes
    }
}

impl Segment {
    /// Maps a segment of `bytes` (whole units of `EXTENT_ALIGNMENT`), with every page touched by the calling thread if `prefault`.
    pub fn map(bytes: usize, prefault: bool) -> Result<Self, SpanError> {
        let allocator = Allocator::new(Span::map(bytes, prefault)?);
        Ok(Segment(Rc::new(RefCell::new(Inner { allocator, reserved_bytes: 0 }))))
    }

    /// Memory for a value of `value_bytes`, or `None` when no free run is long enough.
    pub fn reserve(&self, value_bytes: usize) -> Option<Reservation> {
        let mut inner = self.0.borrow_mut();
        let grant = inner.allocator.allocate(value_bytes)?;
        inner.reserved_bytes += grant.span.len() as u64;
        Some(Reservation { grant: Some(grant), value_bytes, segment: self.clone() })
    }

    /// Where the bytes are.
    pub fn usage(&self) -> Usage {
        let inner = self.0.borrow();
        Usage {
            capacity_bytes: inner.allocator.capacity_bytes() as u64,
            free_bytes: inner.allocator.free_bytes() as u64,
            reserved_bytes: inner.reserved_bytes,
            free_range_bytes_max: inner.allocator.free_range_bytes_max() as u64,
        }
    }

    fn give_back(&self, grant: Grant, was_reserved: bool) {
        let mut inner = self.0.borrow_mut();
        if was_reserved {
            inner.reserved_bytes -= grant.span.len() as u64;
        }
        inner.allocator.free(grant);
    }
}

/// Memory that one task is filling.
#[derive(Debug)]
pub struct Reservation {
    /// There until published or dropped.
    grant: Option<Grant>,
    value_bytes: usize,
    segment: Segment,
}

impl Reservation {
    /// The bytes of the value, to fill.
    pub fn value_mut(&mut self) -> &mut [u8] {
        let grant = self.grant.as_mut().expect("present until published");
        &mut grant.span.bytes_mut()[..self.value_bytes]
    }

    /// The bytes of the value so far.
    pub fn value(&self) -> &[u8] {
        &self.grant.as_ref().expect("present until published").span.bytes()[..self.value_bytes]
    }

    /// Ends the writing: from now on the bytes never change.
    pub fn publish(mut self) -> Extent {
        let grant = self.grant.take().expect("present until published");
        if !seeded_bug!("reserved for ever") {
            self.segment.0.borrow_mut().reserved_bytes -= grant.span.len() as u64;
        }
        Extent(Rc::new(Published {
            grant: Some(grant),
            value_bytes: self.value_bytes,
            segment: self.segment.clone(),
            #[cfg(snowskin_seeded_bugs)]
            is_reused: std::cell::Cell::new(false),
        }))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            self.segment.give_back(grant, true);
        }
    }
}

/// The published bytes of a value. A clone is a pin.
#[derive(Clone, Debug)]
pub struct Extent(Rc<Published>);

#[derive(Debug)]
struct Published {
    /// There until dropped.
    grant: Option<Grant>,
    value_bytes: usize,
    segment: Segment,
    #[cfg(snowskin_seeded_bugs)]
    is_reused: std::cell::Cell<bool>,
}

impl Extent {
    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.0.grant.as_ref().expect("present until dropped").span.bytes()[..self.0.value_bytes]
    }

    /// Bytes that are free again when the last pin goes.
    pub fn allocated_bytes(&self) -> u64 {
        self.0.grant.as_ref().expect("present until dropped").span.len() as u64
    }
}

#[cfg(snowskin_seeded_bugs)]
impl Extent {
    /// Gives the bytes back although somebody may read them.
    pub(crate) fn reuse_before_unpin(&self) {
        if let Some(grant) = &self.0.grant
            && Rc::strong_count(&self.0) > 1
            && !self.0.is_reused.replace(true)
        {
            self.0.segment.give_back(grant.alias(), false);
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        #[cfg(snowskin_seeded_bugs)]
        if self.is_reused.get() {
            return;
        }
        if let Some(grant) = self.grant.take() {
            self.segment.give_back(grant, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_keeps_the_bytes_and_letting_go_frees_them() {
        let segment = Segment::map(1 << 16, false).unwrap();
        let mut reservation = segment.reserve(1000).unwrap();
        reservation.value_mut().fill(7);
        assert_eq!(segment.usage().reserved_bytes, 1024);
        let extent = reservation.publish();
        assert_eq!(segment.usage().published_bytes(), 1024);
        let pin = extent.clone();
        drop(extent);
        assert_eq!(pin.value(), [7; 1000]);
        assert_eq!(segment.usage().published_bytes(), 1024);
        drop(pin);
        assert_eq!(segment.usage().free_bytes, 1 << 16);
    }

    #[test]
    fn an_unpublished_reservation_is_given_back() {
        let segment = Segment::map(1 << 16, false).unwrap();
        let reservation = segment.reserve(1 << 16).unwrap();
        assert!(segment.reserve(1).is_none());
        drop(reservation);
        assert_eq!(segment.usage().reserved_bytes, 0);
        assert!(segment.reserve(1).is_some());
    }
}
