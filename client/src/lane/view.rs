//! A value that is read where it lies.

use snowskin_io::lane::{HoldRegion, LaneRegion, PinReturns, release};
use snowskin_io::memory::{SharedSegment, copy, copy_checked};
use snowskin_io::{Birth, Latch};
use snowskin_protocol::Checksum;
use snowskin_protocol::wire::lane::SharedPlace;
use std::fmt;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Where pins are given back, by any thread. As long as a view has it, the core keeps what is pinned: also when the lane is of
/// no more use, and when the client is gone.
pub(crate) type Returns = Arc<PinDesk>;

/// In a handle: it is the place of a card that is held, and no pin of the core's. The core's own numbers are smaller by far.
pub(super) const ON_SHELF: u32 = 1 << 31;

/// See [`Returns`].
#[derive(Debug)]
pub(crate) struct PinDesk {
    returns: Latch<PinReturns<LaneRegion>>,
    /// Where cards of the shelf are held.
    holds: HoldRegion,
    _life: Option<Arc<OwnedFd>>,
    /// A process that was forked from ours has our views, and none of their pins.
    birth: Birth,
}

impl PinDesk {
    pub(super) fn new(memory: LaneRegion, life: Option<Arc<OwnedFd>>) -> Returns {
        let holds = HoldRegion::of(&memory);
        let returns = Latch::new(PinReturns::new(memory));
        Arc::new(PinDesk { returns, holds, _life: life, birth: Birth::new() })
    }
}

#[inline]
pub(crate) fn give_back(returns: &Returns, pin: u32) {
    if !returns.birth.is_here() {
        return;
    }
    match pin & ON_SHELF {
        0 => returns.returns.with(|returns| returns.give_back(pin)),
        _ => release(&returns.holds, (pin ^ ON_SHELF) as usize),
    }
}

/// A segment as one lane knows it: all that a view needs, so that it counts one reference and not two.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(super) segment: Arc<SharedSegment>,
    pub(super) returns: Returns,
}

/// The bytes of a value, in place where that can be: in the memory of an engine on this machine, which keeps them until the
/// view is dropped. Otherwise a copy.
///
/// An engine lets a process keep half of a core's memory in views, and 8,192 views a connection; what goes beyond is copied.
/// Bytes in place are not compared with their checksum when the view is made: see [`View::is_intact`].
pub struct View {
    bytes: Bytes,
    checksum: Checksum,
}

enum Bytes {
    Pinned(Pinned),
    Copied(Vec<u8>),
}

impl View {
    pub(crate) fn pinned(pinned: Pinned, checksum: Checksum) -> Self {
        View { bytes: Bytes::Pinned(pinned), checksum }
    }

    pub(crate) fn copied(value: Vec<u8>, checksum: Checksum) -> Self {
        View { bytes: Bytes::Copied(value), checksum }
    }

    /// Whether the bytes are where the engine has them, and not a copy.
    pub fn is_in_place(&self) -> bool {
        matches!(self.bytes, Bytes::Pinned(_))
    }

    /// Of the value, made when it was put.
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// Copies the bytes to a place of the same length; whether what was copied matches the checksum.
    pub fn copy_into(&self, to: &mut [u8]) -> bool {
        match &self.bytes {
            Bytes::Pinned(pinned) => copy_checked(to, pinned.bytes()) == self.checksum,
            // Looked at when it came.
            Bytes::Copied(value) => {
                copy(to, value);
                true
            }
        }
    }

    /// Whether the bytes match their checksum: reads all of them.
    pub fn is_intact(&self) -> bool {
        Checksum::of(self) == self.checksum
    }
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Pinned(pinned) => pinned.bytes(),
            Bytes::Copied(value) => value,
        }
    }
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.is_in_place() { "in place" } else { "copied" };
        write!(f, "View({} bytes, {place})", self.len())
    }
}

impl PartialEq<[u8]> for View {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

/// A pin, which is given back when this is dropped.
pub(crate) struct Pinned {
    shown: Arc<Shown>,
    place: SharedPlace,
    bytes: u64,
}

impl Pinned {
    /// `None`: the segment has no such bytes.
    pub(super) fn new(shown: &Arc<Shown>, place: SharedPlace, bytes: u64) -> Option<Self> {
        shown.segment.pinned(place.offset, bytes)?;
        Some(Pinned { shown: shown.clone(), place, bytes })
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.shown.segment.pinned(self.place.offset, self.bytes).expect("looked at when it was made")
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        give_back(&self.shown.returns, self.place.handle);
    }
}
