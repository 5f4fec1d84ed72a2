//! A disk as a core has it: a part of a file or device that the process holds, known to the core's ring.

use super::held::{Claim, HeldFile};
use super::ring::Ring;
use crate::disk::DiskPlace;
use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

/// A disk that is open, and ours.
pub(super) struct Opened {
    pub(super) ring: Rc<Ring>,
    claim: Claim,
    /// Its number in the ring's table of files.
    pub(super) fixed: Option<u32>,
    is_released: Cell<bool>,
}

impl Opened {
    pub(super) fn open(ring: Rc<Ring>, place: &DiskPlace) -> io::Result<Rc<Opened>> {
        let claim = Claim::take(place)?;
        let fixed = ring.add_file(claim.held.file.as_fd());
        Ok(Rc::new(Opened { ring, claim, fixed, is_released: Cell::new(false) }))
    }

    /// The file or device that it is a part of.
    pub(super) fn held(&self) -> &HeldFile {
        &self.claim.held
    }

    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        self.claim.part.bytes
    }

    /// Where in the file a place of the disk is.
    pub(super) fn in_file(&self, offset: u64) -> u64 {
        self.claim.part.at + offset
    }

    /// Lets others have it. Nothing is in flight, and nothing begins any more.
    pub(super) fn release(&self) {
        if self.is_released.replace(true) {
            return;
        }
        if let Some(fixed) = self.fixed {
            self.ring.remove_file(fixed);
        }
        self.claim.give_back();
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.release();
    }
}
