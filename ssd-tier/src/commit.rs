//! When what was written is durable.
//!
//! ```text
//!   commit ──► (one at a time; who comes meanwhile shares the next)
//!                tombstones that wait ──► one record ──► all writes that were begun have landed ──► flush
//! ```
//!
//! A flush that fails says that some of what was written is lost, and the next one succeeds all the same. So nothing is written after it: the
//! volume goes on with what it has, for reading.

use crate::error::TierError;
use crate::volume::Volume;
use crate::write::Burial;
use snowskin_io::sync::Changes;
use snowskin_io::{Disk, Platform};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

/// Writes under way, in the order in which they were begun.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    begun: Cell<u64>,
    under_way: RefCell<BTreeSet<u64>>,
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

    /// Waits until all have landed that have begun so far.
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
        self.under_way.borrow().len()
    }
}

/// Commits, counted.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    /// Begun and ended.
    begun: Cell<u64>,
    ended: Cell<u64>,
    changes: Changes,
}

impl<P: Platform> Volume<P> {
    /// Ends when all records that were finished and all names that were buried before this call are durable. Others share the work.
    pub async fn commit(&self) -> Result<(), TierError> {
        let commits = &self.inner.commits;
        // One that is under way has begun without us.
        let ours = commits.begun.get() + 1;
        loop {
            commits
                .changes
                .until(|| commits.ended.get() >= ours || commits.begun.get() == commits.ended.get())
                .await;
            if commits.ended.get() >= ours {
                break;
            }
            commits.begun.set(commits.begun.get() + 1);
            // In a task of its own: whoever asked may give up.
            let volume = self.clone();
            self.inner.platform.spawn(async move {
                if let Err(error) = volume.commit_once().await {
                    volume.end_writing(&error);
                }
                let commits = &volume.inner.commits;
                commits.ended.set(commits.ended.get() + 1);
                commits.changes.tell();
            });
        }
        if self.is_ended() { Err(TierError::Ended) } else { Ok(()) }
    }

    async fn commit_once(&self) -> Result<(), TierError> {
        if self.is_ended() {
            return Err(TierError::Ended);
        }
        loop {
            match self.write_burials().await? {
                Burial::Done => break,
                Burial::More => {}
            }
        }
        self.inner.flights.all_landed().await;
        self.flush().await
    }

    /// Makes durable what has landed.
    pub(crate) async fn flush(&self) -> Result<(), TierError> {
        let flushed = self.inner.disk.flush().await;
        flushed.map_err(|error| {
            let error = TierError::from(error);
            self.end_writing(&error);
            error
        })
    }

    /// Nothing is written any more.
    pub(crate) fn end_writing(&self, error: &TierError) {
        if !self.inner.is_ended.replace(true) {
            log::error!("{}: nothing is written to it any more: {error}", self.inner.id);
        }
        self.inner.commits.changes.tell();
    }

    /// Nothing can be written any more, and names should have been buried: makes whoever opens the volume next find nothing, if the disk lets us.
    pub async fn abandon(&self) -> Result<(), TierError> {
        let floor = self.inner.log.borrow().next_sequence();
        let emptied = self.inner.superblock.get().next(|block| block.floor = floor);
        self.write_superblock(emptied).await?;
        Ok(self.inner.disk.flush().await?)
    }

    /// Whether nothing is written any more.
    pub fn is_ended(&self) -> bool {
        self.inner.is_ended.get()
    }
}
