//! When what was written is durable.
//!
//! ```text
//!   commit ──► (one at a time; who comes meanwhile shares the next)
//!                tombstones that wait ──► one record ──► it and all headers of regions have landed ──► flush
//! ```
//!
//! A flush that fails says that some of what was written is lost, and the next one succeeds all the same. So nothing is written after it: the
//! volume goes on with what it has, for reading.

use crate::error::TierError;
use crate::volume::Volume;
use snowskin_io::sync::Changes;
use snowskin_io::{Disk, Platform};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Display;

/// Writes under way: those that commits wait for, in the order in which they were begun, and the number of others. A commit does not wait for records
/// that are not finished: whoever has begun them may be waiting for it.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    begun: Cell<u64>,
    under_way: RefCell<BTreeSet<u64>>,
    records: Cell<usize>,
    landed: Changes,
}

impl Flights {
    /// A write begins.
    pub(crate) fn begin(&self) -> u64 {
        let flight = self.begun.get();
        self.begun.set(flight + 1);
        self.under_way.borrow_mut().insert(flight);
        flight
    }

    /// It has ended, in whatever way.
    pub(crate) fn end(&self, flight: u64) {
        self.under_way.borrow_mut().remove(&flight);
        self.landed.tell();
    }

    /// A record begins.
    pub(crate) fn begin_record(&self) {
        self.records.set(self.records.get() + 1);
    }

    /// It has ended, in whatever way.
    pub(crate) fn end_record(&self) {
        self.records.set(self.records.get() - 1);
        self.landed.tell();
    }

    /// Waits until all have landed that have begun so far, but for records.
    pub(crate) async fn all_landed(&self) {
        let begun = self.begun.get();
        self.landed.until(|| self.under_way.borrow().first().is_none_or(|first| *first >= begun)).await;
    }

    /// Something else has changed that those may wait for who wait for landings.
    pub(crate) fn tell(&self) {
        self.landed.tell();
    }

    /// Waits for a change that a landing brings.
    pub(crate) async fn until(&self, is_so: impl FnMut() -> bool) {
        self.landed.until(is_so).await;
    }

    /// Writes under way.
    pub(crate) fn count(&self) -> usize {
        self.under_way.borrow().len() + self.records.get()
    }
}

/// Work that many wait for, done by one task at a time: who comes while it is under way shares the next round.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    begun: Cell<u64>,
    ended: Cell<u64>,
    /// The last one that was a success.
    succeeded: Cell<u64>,
    changes: Changes,
}

impl Rounds {
    /// Waits for a round that begins after this call, or a later one; whether it was a success. `begin` has a task do the work, which ends with
    /// [`Rounds::end`] whatever becomes of those who wait.
    async fn next(&self, begin: impl Fn()) -> bool {
        // One that is under way has begun without us.
        let ours = self.begun.get() + 1;
        loop {
            let is_over = || self.ended.get() >= ours;
            self.changes.until(|| is_over() || self.begun.get() == self.ended.get()).await;
            if is_over() {
                return self.succeeded.get() >= ours;
            }
            self.begun.set(self.begun.get() + 1);
            begin();
        }
    }

    fn end(&self, is_success: bool) {
        self.ended.set(self.ended.get() + 1);
        if is_success {
            self.succeeded.set(self.ended.get());
        }
        self.changes.tell();
    }
}

impl<P: Platform> Volume<P> {
    /// Ends when all records that were finished and all names that were buried before this call are durable. Others share the work.
    ///
    /// [`TierError::Full`]: there is no room for tombstones, which go on waiting; reclaim a region and ask again.
    pub async fn commit(&self) -> Result<(), TierError> {
        let begin = || {
            let volume = self.clone();
            self.inner.platform.spawn(async move {
                let committed = volume.commit_once().await;
                volume.inner.commits.end(committed.is_ok());
            });
        };
        match self.inner.commits.next(begin).await {
            true => Ok(()),
            false if self.is_ended() => Err(TierError::Ended),
            false => Err(TierError::Full),
        }
    }

    async fn commit_once(&self) -> Result<(), TierError> {
        while let Some(burying) = self.place_burials()? {
            self.write_burials(burying).await?;
        }
        self.settle().await
    }

    /// Makes durable what is written so far, with all that it needs to be found.
    pub(crate) async fn settle(&self) -> Result<(), TierError> {
        self.inner.flights.all_landed().await;
        self.flush().await?;
        // A header that could not be written.
        if self.is_ended() { Err(TierError::Ended) } else { Ok(()) }
    }

    /// Makes durable what has landed. One flush at a time: of two, one would succeed and hide from its caller what the other lost.
    pub(crate) async fn flush(&self) -> Result<(), TierError> {
        let begin = || {
            let volume = self.clone();
            self.inner.platform.spawn(async move {
                let is_ended = volume.is_ended();
                let flushed = if is_ended { Ok(()) } else { volume.inner.disk.flush().await };
                if let Err(error) = &flushed {
                    volume.end_writing(error);
                }
                volume.inner.flushes.end(flushed.is_ok() && !is_ended);
            });
        };
        match self.inner.flushes.next(begin).await {
            true => Ok(()),
            false => Err(TierError::Ended),
        }
    }

    /// Nothing is written any more.
    pub(crate) fn end_writing(&self, why: &dyn Display) {
        if !self.inner.is_ended.replace(true) {
            log::error!("{}: nothing is written to it any more: {why}", self.inner.id.mark());
        }
    }

    /// Nothing can be written any more, and names should have been buried: makes whoever opens the volume next find nothing, if the disk lets us.
    pub async fn abandon(&self) -> Result<(), TierError> {
        let floor = self.inner.log.borrow().next_sequence();
        // Both copies: if one is damaged, the other does not bring anything back.
        for _ in 0..2 {
            let emptied = self.inner.superblock.get().next(|block| block.floor = floor);
            self.write_superblock_anyway(emptied).await?;
            self.inner.disk.flush().await?;
        }
        Ok(())
    }

    /// Whether nothing is written any more.
    pub fn is_ended(&self) -> bool {
        self.inner.is_ended.get()
    }
}
