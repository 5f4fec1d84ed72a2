//! The oldest region makes room.
//!
//! ```text
//!   what it holds ──► still wanted? ──no──► to be forgotten
//!                         │ yes
//!                         ▼
//!            read, written once more at the end of the log, flushed ──► floor raised, flushed ──► forgotten ──► nobody reads there ──► free
//! ```
//!
//! While it lasts its records can be read, though from the new floor on they are not found by who opens the volume next ([`Volume::lasts`]). Nothing is lost if it ends in the middle: a record that stands in two places counts where it was written
//! last. The floor is durable before the space is used again: a record of that region cannot come back when the tombstone that ended it
//! is reclaimed later.

use crate::error::TierError;
use crate::format::{Owner, record_bytes};
use crate::read::Reading;
use crate::scan::Item;
use crate::volume::Volume;
use crate::write::Value;
use crate::{Facts, RecordAddress};
use snowskin_io::{Platform, seeded_bug};
use snowskin_protocol::{Checksum, NameRef, ObjectName, Version};
use std::time::Duration;

/// How long until who owns the volume anew looks again whether a reclaim is over.
const TURN_PAUSE: Duration = Duration::from_millis(10);

/// What is to become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody wants it.
    Forget,
    /// It is written once more, if there is room.
    Keep,
    /// It must not go now: if there is no room for it, its region stays.
    Must,
}

/// Who keeps the addresses of records.
pub trait Keeper {
    /// What is to become of a record. May be asked more than once, and changes nothing.
    fn fate(&self, name: NameRef<'_>, version: Version, address: RecordAddress) -> Fate;

    /// The record is about to go. Whoever has its address forgets it now.
    fn forget(&self, name: NameRef<'_>, version: Version, address: RecordAddress);

    /// The record is damaged. Whoever has its address forgets it now, and its name means nothing any more.
    fn lost(&self, name: NameRef<'_>, version: Version, address: RecordAddress);

    /// The record stands elsewhere now; whether anybody still wants it.
    fn moved(&self, name: NameRef<'_>, version: Version, from: RecordAddress, to: RecordAddress) -> bool;
}

/// What became of a record that reclaim has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// It stands elsewhere as well now.
    Elsewhere,
    /// Nobody wants it, or there is no room for it.
    No,
    /// There is no room for it, and it must not go.
    Stuck,
    /// It is damaged, and nobody has it any more.
    Lost,
}

/// What a reclaim came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Records that nobody wanted any more, or that went.
    pub forgotten: u64,
    /// Records that were written once more.
    pub reinserted: u64,
}

/// One reclaim at a time, or one who owns the volume anew.
struct Turn<'v, P: Platform>(&'v Volume<P>);

impl<P: Platform> Drop for Turn<'_, P> {
    fn drop(&mut self) {
        self.0.inner.is_reclaiming.set(false);
    }
}

impl<P: Platform> Volume<P> {
    /// What counts on the volume is this owner's from now on. Durable when it returns, in both copies of the superblock.
    pub async fn own(&self, owner: Owner) -> Result<(), TierError> {
        // Reclaim writes the superblock, too: they take turns.
        while self.inner.is_reclaiming.replace(true) {
            self.inner.platform.sleep(TURN_PAUSE).await;
        }
        let _turn = Turn(self);
        for _ in 0..2 {
            let owned = self.inner.superblock.get().next(|block| block.owner = owner);
            self.write_superblock(owned).await?;
            self.flush().await?;
        }
        Ok(())
    }

    /// Frees the oldest region. `None`: there is none that could be freed now, or another reclaim is under way.
    pub async fn reclaim(&self, keeper: &impl Keeper) -> Result<Option<Reclaimed>, TierError> {
        if self.is_ended() {
            return Err(TierError::Ended);
        }
        let Some(region) = self.oldest_region()? else { return Ok(None) };
        if self.inner.is_reclaiming.replace(true) {
            return Ok(None);
        }
        let _turn = Turn(self);
        let sequence = self.inner.log.borrow().region(region).sequence;
        let contents = self.contents(region, sequence).await?;
        let (mut reclaimed, mut gone) = (Reclaimed::default(), Vec::new());
        for item in contents.items {
            let Item::Value { name, facts, address } = item else { continue };
            match self.keep(keeper, &name, facts, address).await? {
                Kept::Elsewhere => reclaimed.reinserted += 1,
                Kept::Lost => reclaimed.forgotten += 1,
                Kept::Stuck => return Ok(None),
                Kept::No => gone.push((name, facts, address)),
            }
        }
        // Also what a try that failed has moved before.
        self.settle().await?;
        let floor = match seeded_bug!("floor not raised") {
            true => self.inner.superblock.get().floor,
            false => self.inner.log.borrow().floor_after(region),
        };
        let raised = self.inner.superblock.get().next(|block| block.floor = floor);
        self.write_superblock(raised).await?;
        self.flush().await?;
        // In both copies: if one is damaged, the other does not bring back what is forgotten now. It is durable before the next one is written.
        self.write_superblock(raised.next(|_| {})).await?;
        // Not before: until here all of this would be there after a crash, and who had forgotten it would not bury it.
        let mut is_stuck = false;
        for (name, facts, address) in gone {
            // Somebody may have asked for it meanwhile; it can still be read.
            match self.keep(keeper, &name, facts, address).await? {
                Kept::Elsewhere => reclaimed.reinserted += 1,
                Kept::Lost => reclaimed.forgotten += 1,
                Kept::Stuck => is_stuck = true,
                Kept::No => {
                    keeper.forget(name.as_ref(), facts.version, address);
                    reclaimed.forgotten += 1;
                }
            }
        }
        // What was kept so late has to be durable, too, before it is gone here.
        self.settle().await?;
        if is_stuck {
            // The region is still the oldest one, and what is left of it can be read.
            return Ok(None);
        }
        self.free_region(region).await;
        self.count(|counters| &counters.regions_reclaimed);
        Ok(Some(reclaimed))
    }

    /// The region that goes next, if it can.
    fn oldest_region(&self) -> Result<Option<u32>, TierError> {
        let is_stuck = self.inner.log.borrow().is_stuck();
        if is_stuck {
            // It is closed in its own time.
            self.open_next(true)?;
        }
        Ok(self.inner.log.borrow().oldest())
    }

    /// A region that holds nothing any more is used again.
    async fn free_region(&self, region: u32) {
        let inner = &self.inner;
        inner.flights.until(|| inner.log.borrow().region(region).readers == 0).await;
        self.trim_region(region).await;
        inner.log.borrow_mut().free(region);
    }

    /// Writes a record once more if it is wanted.
    async fn keep(
        &self,
        keeper: &impl Keeper,
        name: &ObjectName,
        facts: Facts,
        address: RecordAddress,
    ) -> Result<Kept, TierError> {
        let fate = || keeper.fate(name.as_ref(), facts.version, address);
        let without_room = || if fate() == Fate::Must { Kept::Stuck } else { Kept::No };
        if fate() == Fate::Forget {
            return Ok(Kept::No);
        }
        let value = match self.whole_value(name, facts, address).await {
            Ok(Some(value)) => value,
            Ok(None) => {
                self.count(|counters| &counters.records_damaged);
                keeper.lost(name.as_ref(), facts.version, address);
                return Ok(Kept::Lost);
            }
            Err(TierError::Busy) => return Ok(without_room()),
            Err(error) => return Err(error),
        };
        // Removed while it was read: its tombstone would stand before what is written now.
        if fate() == Fate::Forget {
            return Ok(Kept::No);
        }
        let writing = match self.begin_record(name.as_ref(), facts, value, true) {
            Ok(writing) => writing,
            Err(TierError::Full | TierError::Busy | TierError::TooLarge(_)) => return Ok(without_room()),
            Err(error) => return Err(error),
        };
        let Ok(to) = writing.finish().await else { return Ok(without_room()) };
        let (name, name_bytes) = (name.as_ref(), name.as_ref().bytes().len());
        let (head, body) = record_bytes(name_bytes, facts.value_bytes);
        self.count(|counters| &counters.records_reinserted);
        self.add(|counters| &counters.bytes_reinserted, head + body);
        if !keeper.moved(name, facts.version, address, to) {
            self.release(to, name_bytes, facts.value_bytes);
        }
        Ok(Kept::Elsewhere)
    }

    /// The value of a record, if it is whole. [`TierError::Busy`]: there is no memory for it now.
    async fn whole_value(
        &self,
        name: &ObjectName,
        facts: Facts,
        address: RecordAddress,
    ) -> Result<Option<Value>, TierError> {
        let _reading = Reading::begin(self, address.region);
        let (head_bytes, body_bytes) = record_bytes(name.as_ref().bytes().len(), facts.value_bytes);
        let Some(head) =
            self.read_sectors(address.region, address.offset.into(), head_bytes as usize).await?
        else {
            return Ok(None);
        };
        let Some(end) = self.end_in(address, name.as_ref(), facts, &head) else { return Ok(None) };
        let body_at = u64::from(address.offset) + head_bytes;
        let body = match body_bytes {
            0 => None,
            _ => match self.read_sectors(address.region, body_at, body_bytes as usize).await {
                Ok(Some(body)) => Some(body),
                Ok(None) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        if Checksum::of_parts([body.as_deref().unwrap_or_default(), end]) != facts.checksum {
            return Ok(None);
        }
        Ok(Some(Value::Buffer(body, end.to_vec())))
    }
}
