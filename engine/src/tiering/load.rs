//! From the SSD into memory.
//!
//! A request by frames whose answers are partly on the SSD is put aside with what it asked, its records are read, all at once, and then it is
//! answered as a whole; in lanes the client asks again (`transport/lanes/loads.rs`). A record that several ask for is read once.

use super::{ROOM_PAUSE, Tier};
use crate::percore::PerCore;
use crate::segment::Extent;
use crate::shard::Demoted;
use futures_channel::oneshot;
use futures_util::future::join_all;
use snowskin_io::Platform;
use snowskin_protocol::{ObjectName, Version};
use snowskin_ssd_tier::{Facts, TierError, room_bytes};
use std::collections::HashMap;

/// An object on the SSD that a request asks for.
#[derive(Debug)]
pub(crate) struct Cold {
    pub(crate) name: ObjectName,
    pub(crate) demoted: Demoted,
}

/// Values that were read for a request, pinned.
#[derive(Debug, Default)]
pub(crate) struct Loaded(HashMap<(u64, Version), Extent>);

impl Loaded {
    /// The bytes of an object.
    pub(crate) fn get(&self, hash: u64, version: Version) -> Option<&Extent> {
        self.0.get(&(hash, version))
    }

    /// What was loaded before and now.
    pub(crate) fn add(&mut self, more: Loaded) {
        self.0.extend(more.0);
    }

    /// Whether nothing was loaded.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<P: Platform> Tier<P> {
    /// Reads objects into memory. What could not be read is not among what comes back.
    pub(crate) async fn load(&self, core: &PerCore<P>, cold: &[Cold]) -> Loaded {
        let reads = cold.iter().map(|cold| async move {
            let hash = cold.name.as_ref().hash();
            Some(((hash, cold.demoted.version), self.load_one(core, cold).await?))
        });
        Loaded(join_all(reads).await.into_iter().flatten().collect())
    }

    /// Waits a moment for memory to load into, which others are to make.
    pub(crate) async fn starve(&self, core: &PerCore<P>) {
        self.starving.set(self.starving.get() + 1);
        core.platform.sleep(ROOM_PAUSE).await;
        self.starving.set(self.starving.get() - 1);
    }

    /// Reads an object into memory, pinned. `None`: it cannot be read, or there is no memory, or somebody else who was about to could not.
    pub(crate) async fn load_one(&self, core: &PerCore<P>, cold: &Cold) -> Option<Extent> {
        let record = cold.demoted.record;
        let other = {
            let mut waiting = self.waiting.borrow_mut();
            match waiting.get_mut(&record) {
                Some(others) => {
                    let (sender, extent) = oneshot::channel();
                    others.push(sender);
                    Some(extent)
                }
                None => {
                    waiting.insert(record, Vec::new());
                    None
                }
            }
        };
        if let Some(other) = other {
            return other.await.ok();
        }
        // Whatever becomes of us, nobody waits for ever.
        let reading = Reading { tier: self, cold };
        let extent = self.read_one(core, cold).await;
        let others = reading.others();
        if let Some(extent) = &extent {
            others.into_iter().for_each(|other| drop(other.send(extent.clone())));
        }
        extent
    }

    async fn read_one(&self, core: &PerCore<P>, Cold { name, demoted }: &Cold) -> Option<Extent> {
        let bytes = room_bytes(name.as_ref(), demoted.value_bytes);
        let Some(room) = core.room_for_demoted(bytes) else {
            let mut shard = core.shard.borrow_mut();
            if bytes > shard.segments().value_bytes_max() {
                shard.give_up_on_ssd(name.as_ref().hashed(), demoted);
            }
            return None;
        };
        let Demoted { record, version, value_bytes, checksum } = *demoted;
        let facts = Facts { version, value_bytes, checksum };
        let read = self.volume.read(self.address_of(record), name.as_ref(), facts, room).await;
        let mut shard = core.shard.borrow_mut();
        match read {
            Ok(room) => Some(shard.loaded(name.as_ref().hashed(), demoted, room)),
            Err(TierError::Busy) => None,
            Err(error) => {
                log::debug!("core {}: {name:?} on the SSD: {error}", core.identity.id);
                shard.lost_on_ssd(name.as_ref().hashed(), demoted);
                None
            }
        }
    }
}

/// Keeps those who wait for a record from waiting for ever.
struct Reading<'a, P: Platform> {
    tier: &'a Tier<P>,
    cold: &'a Cold,
}

impl<P: Platform> Reading<'_, P> {
    /// They wait no more; for whoever asks next it is read once more.
    fn others(&self) -> Vec<oneshot::Sender<Extent>> {
        self.tier.waiting.borrow_mut().remove(&self.cold.demoted.record).unwrap_or_default()
    }
}

impl<P: Platform> Drop for Reading<'_, P> {
    fn drop(&mut self) {
        drop(self.others());
    }
}
