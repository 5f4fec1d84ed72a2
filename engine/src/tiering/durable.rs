//! Copies on the SSD of what stays in memory: of puts that are acknowledged when they are durable, and of all puts in write-through.
//!
//! ```text
//!   published in memory ──► a place in the log, at once ──► written ──► flushed with others ──► acknowledged
//!                              └── no room, or too much under way: waits
//! ```
//!
//! A value that is replaced or removed meanwhile means nothing any more: its put was done, and what ended it is durable before anybody hears of
//! that ([`PerCore::settle`]). Who waits for the SSD keeps no memory from others: only while it is being written does a value stay.

use super::{ROOM_PAUSE, Tier};
use crate::percore::PerCore;
use crate::shard::CopyStart;
use futures_channel::oneshot;
use snowskin_io::{Moment, Platform, seeded_bug, with_deadline};
use snowskin_protocol::wire::control::Heritage;
use snowskin_protocol::wire::data::ItemStatus;
use snowskin_protocol::{ObjectName, Version};
use snowskin_ssd_tier::TierError;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How long a put waits for the SSD, at most. Its caller may wait shorter.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Writes of one value that the disk may refuse, until it is given up.
const REFUSALS_MAX: u32 = 3;

/// Why a value that is held is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undurable {
    /// There is no SSD, or it does not take it now nor later.
    NotHere,
    /// It was not there in time.
    NotYet,
}

impl Undurable {
    /// What the put is told.
    pub(crate) fn status(self) -> ItemStatus {
        match self {
            Undurable::NotHere => ItemStatus::NotDurable,
            Undurable::NotYet => ItemStatus::NotDurableYet,
        }
    }
}

/// What came of a try to have a copy written.
enum Try {
    /// It is written, or means nothing any more.
    Done,
    /// It was being written, and is not any more.
    Landed,
    Later,
    No(Undurable),
}

impl<P: Platform> Tier<P> {
    /// Begins to copy the next object that was put, in write-through; whether there may be more.
    pub(super) fn copy_fresh(&self, core: &Rc<PerCore<P>>) -> bool {
        if self.volume.is_ended() {
            return false;
        }
        self.pass_news(core);
        let has_budget = self.has_budget(core);
        let Some(fresh) = core.shard.borrow_mut().next_fresh(has_budget) else { return false };
        match self.begin_record(&fresh) {
            Ok(writing) => {
                core.shard.borrow_mut().copy_begun(fresh.position(), self.id_of(writing.address()));
                self.finish_later(core, writing, fresh, &self.copied);
                true
            }
            Err(_) => {
                core.shard.borrow_mut().is_fresh_still(&fresh);
                false
            }
        }
    }

    /// Has a copy written, if that is to be done and can be now; waits for it.
    async fn try_to_copy(&self, core: &Rc<PerCore<P>>, name: &ObjectName, version: Version) -> Try {
        if self.volume.is_ended() || self.is_given_up.get() {
            return Try::No(Undurable::NotHere);
        }
        // What the value has replaced is buried before it.
        self.pass_news(core);
        let start = core.shard.borrow_mut().begin_copy(name.as_ref().hashed(), version);
        let copy = match start {
            CopyStart::Replaced => return Try::Done,
            // It is about to be forgotten: then what is in memory can be written once more.
            CopyStart::Written(record) if !self.volume.lasts(self.address_of(record)) => return Try::Later,
            CopyStart::Written(_) => return Try::Done,
            CopyStart::NotHere => return Try::No(Undurable::NotYet),
            CopyStart::UnderWay => return Try::Later,
            CopyStart::Write(_) if !self.durable.has_room(core) => return Try::Later,
            CopyStart::Write(copy) => copy,
        };
        match self.begin_record(&copy) {
            Ok(writing) => {
                let record = self.id_of(writing.address());
                core.shard.borrow_mut().copy_begun(copy.position(), record);
                self.finish_later(core, writing, copy, &self.durable);
                let is_over = || !core.shard.borrow().is_writing(name.as_ref().hashed(), record);
                self.written.until(is_over).await;
                Try::Landed
            }
            Err(TierError::Full | TierError::Busy) => Try::Later,
            Err(TierError::Ended | TierError::TooLarge(_)) => Try::No(Undurable::NotHere),
            Err(error) => {
                log::warn!("core {}: {name:?} is not durable: {error}", core.identity.id);
                Try::No(Undurable::NotHere)
            }
        }
    }

    /// Waits until a version of an object is written, or has ended.
    async fn write_copy(
        &self,
        core: &Rc<PerCore<P>>,
        name: &ObjectName,
        version: Version,
        deadline: Moment,
    ) -> Result<(), Undurable> {
        let mut refusals = 0;
        loop {
            match self.try_to_copy(core, name, version).await {
                Try::Done => return Ok(()),
                Try::No(why) => return Err(why),
                // The next try finds out what has become of it.
                Try::Landed if refusals == REFUSALS_MAX => return Err(Undurable::NotHere),
                Try::Landed => refusals += 1,
                Try::Later if core.platform.now() >= deadline => return Err(Undurable::NotYet),
                Try::Later => {
                    // Something lands, or reclaim has made room.
                    let until = core.platform.now() + ROOM_PAUSE;
                    let has_told = Cell::new(false);
                    let landed = self.written.until(|| has_told.replace(true));
                    with_deadline(&core.platform, until, landed).await;
                }
            }
        }
    }

    /// Waits until all that was written before is durable.
    async fn flush_copies(&self, core: &PerCore<P>, deadline: Moment) -> Result<(), Undurable> {
        if seeded_bug!("durable before its flush") {
            return Ok(());
        }
        match self.commit_news(core, deadline).await {
            Ok(()) => Ok(()),
            // There is no room for tombstones.
            Err(TierError::Full | TierError::Busy) => Err(Undurable::NotYet),
            Err(error) => {
                log::warn!("core {}: puts cannot be made durable: {error}", core.identity.id);
                Err(Undurable::NotHere)
            }
        }
    }
}

/// A put that is to be durable, on its way to the SSD.
pub(crate) struct Copying(oneshot::Receiver<Result<(), Undurable>>);

impl<P: Platform> PerCore<P> {
    /// What is held under this name is to be durable: begins to write it.
    pub(crate) fn begin_durable(self: &Rc<Self>, name: &ObjectName) -> Copying {
        let (sender, receiver) = oneshot::channel();
        let version = self.shard.borrow().version_of(name.as_ref().hashed());
        let (core, name) = (self.clone(), name.clone());
        self.platform.spawn(async move {
            let deadline = core.platform.now() + WAIT_MAX;
            let written = match (core.tier.get(), version) {
                (Some(tier), Some(version)) => tier.write_copy(&core, &name, version, deadline).await,
                // What existed when its value began to arrive has gone since.
                (Some(_), None) => Err(Undurable::NotYet),
                (None, _) => Err(Undurable::NotHere),
            };
            // If nobody waits any more, that is all the same.
            let _ = sender.send(written);
        });
        Copying(receiver)
    }

    /// Waits until all that was written is durable, and a next life would be its heir.
    async fn make_durable(&self, tier: &Tier<P>, deadline: Moment) -> Result<(), Undurable> {
        tier.flush_copies(self, deadline).await?;
        loop {
            match self.heritage.get() {
                (_, Heritage::Forgotten) => return Err(Undurable::NotHere),
                (epoch, Heritage::Remembered) if epoch == self.epoch() => return Ok(()),
                _ if self.platform.now() >= deadline => return Err(Undurable::NotYet),
                _ => self.platform.sleep(ROOM_PAUSE).await,
            }
        }
    }

    /// Waits until those are durable that can be; says of each whether it is. They share a flush, also with others.
    pub(crate) async fn end_durable(&self, copying: Vec<Copying>) -> Vec<Result<(), Undurable>> {
        let deadline = self.platform.now() + WAIT_MAX;
        let mut written = Vec::with_capacity(copying.len());
        for copy in copying {
            written.push(copy.0.await.unwrap_or(Err(Undurable::NotYet)));
        }
        if let Some(tier) = self.tier.get()
            && written.contains(&Ok(()))
            && let Err(why) = self.make_durable(tier, deadline).await
        {
            written.iter_mut().for_each(|written| *written = written.and(Err(why)));
        }
        let mut shard = self.shard.borrow_mut();
        written.iter().for_each(|written| shard.note_durable(written.is_ok()));
        written
    }
}
