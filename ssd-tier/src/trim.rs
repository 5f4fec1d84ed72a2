//! Telling a device what is of no use any more, so that it has less to move around.
//!
//! A region is discarded when it is reclaimed: after the floor above it is durable and nobody reads there, and before it may be written again, since a
//! discard and a write of one place have no order. Whatever its sectors are afterwards, zeros or old, a mount looks at none below the floor.

use crate::format::REGIONS_AT;
use crate::volume::Volume;
use snowskin_io::{Disk, Platform};
use std::io::ErrorKind;

/// Bytes that are discarded at a time: requests meanwhile wait for no more than that.
const DISCARD_BYTES: u64 = 64 << 20;

impl<P: Platform> Volume<P> {
    /// A region holds nothing, and nobody reads or writes there.
    pub(crate) async fn trim_region(&self, region: u32) {
        let geometry = self.inner.geometry;
        let begin = geometry.region_at(region);
        self.trim(begin, begin + geometry.region_bytes).await;
    }

    /// No region holds anything, and nothing is under way.
    pub(crate) async fn trim_all(&self) {
        self.trim(REGIONS_AT, self.inner.disk.bytes()).await;
    }

    /// If that cannot be done nothing is lost, and it is not tried again.
    async fn trim(&self, begin: u64, end: u64) {
        let mut at = begin;
        while at < end && self.inner.is_trimming.get() && !self.is_ended() {
            let bytes = (end - at).min(DISCARD_BYTES);
            match self.inner.disk.discard(at, bytes).await {
                Ok(()) => self.add(|counters| &counters.bytes_discarded, bytes),
                Err(error) => {
                    self.inner.is_trimming.set(false);
                    match error.kind() {
                        ErrorKind::Unsupported => {
                            log::info!(
                                "{}: the device takes no discards; it gets none",
                                self.inner.id.mark()
                            );
                        }
                        _ => log::warn!("{}: no more discards: {error}", self.inner.id.mark()),
                    }
                }
            }
            at += bytes;
        }
    }
}
