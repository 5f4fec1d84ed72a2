//! Parts of a segment as buffers of disks: bytes go between disk and segment without a copy.

use super::{DiskSource, DiskTarget};
use crate::memory::{Extent, Reservation};
use std::ops::Range;

/// Part of a published value, to write it to a disk. The pin is held until the kernel has read it.
#[derive(Debug)]
pub struct ExtentPart {
    extent: Extent,
    range: Range<usize>,
}

impl ExtentPart {
    /// Panics if the value is shorter.
    pub fn new(extent: Extent, range: Range<usize>) -> ExtentPart {
        let bytes = extent.value().len();
        assert!(range.start <= range.end && range.end <= bytes, "{range:?} of a value of {bytes} bytes");
        ExtentPart { extent, range }
    }

    /// The pin again.
    pub fn into_extent(self) -> Extent {
        self.extent
    }
}

// SAFETY: the bytes of an extent are in its segment, wherever the pin is moved to, and nobody writes what is published.
unsafe impl DiskSource for ExtentPart {
    fn bytes(&self) -> &[u8] {
        &self.extent.value()[self.range.clone()]
    }
}

/// Part of memory that a value is put together in, to read it from a disk. The reservation is held until the kernel has
/// written it.
#[derive(Debug)]
pub struct ReservationPart {
    reservation: Reservation,
    range: Range<usize>,
}

impl ReservationPart {
    /// Panics if the reservation is shorter.
    pub fn new(reservation: Reservation, range: Range<usize>) -> ReservationPart {
        let bytes = reservation.value().len();
        assert!(range.start <= range.end && range.end <= bytes, "{range:?} of a value of {bytes} bytes");
        ReservationPart { reservation, range }
    }

    /// The reservation again.
    pub fn into_reservation(self) -> Reservation {
        self.reservation
    }
}

// SAFETY: the bytes of a reservation are in its segment, wherever it is moved to, and nobody else reads or writes them.
unsafe impl DiskTarget for ReservationPart {
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.reservation.value_mut()[self.range.clone()]
    }
}

// SAFETY: as above; whoever reads and writes at once has two buffers.
unsafe impl DiskSource for ReservationPart {
    fn bytes(&self) -> &[u8] {
        &self.reservation.value()[self.range.clone()]
    }
}
