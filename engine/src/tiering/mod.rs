//! The SSD tier of a core: what goes there, what comes back, and when others may hear of it.
//!
//! | module | what lives there |
//! |---|---|
//! | [`devices`] | files, devices and their parts: whose is which, before the cores start |
//! | `open` | the volume of a core, and what it held |
//! | `demote` | from memory to the SSD, before memory is needed |
//! | `durable` | copies on the SSD of what stays in memory: durable puts, and write-through |
//! | `budget` | how much may be written in a day |
//! | `load` | from the SSD into memory, for one request or to stay |
//! | `reclaim` | the oldest region makes room |
//! | `keep` | what is answered from is what a next life would find |
//! | `scrub` | what nobody asks for is read in time, so that damage is found |
//!
//! The shard decides (`shard/tiered.rs`), the volume stores (`snowskin_ssd_tier`); here both are driven. Nothing of a put waits for the SSD, unless
//! it asks for that: what it cannot take in time is dropped from memory, as without one.
//!
//! **What is gone stays gone.** When an object with a record is removed or replaced, its name is buried, and nobody hears that it was done before
//! that is durable: see [`Tier::settle`].

mod budget;
mod demote;
pub mod devices;
mod durable;
mod keep;
mod load;
mod open;
mod reclaim;
mod scrub;

pub(crate) use durable::Copying;
pub(crate) use load::{Cold, Loaded};
pub use open::{SsdConfig, SsdError, TierSettings};
pub use scrub::ScrubRate;
pub use snowskin_ssd_tier::Trim;

use crate::percore::PerCore;
use crate::segment::Extent;
use crate::shard::RecordId;
use budget::Budget;
use futures_channel::oneshot::Sender;
use snowskin_io::disk::DiskMemory;
use snowskin_io::sync::Changes;
use snowskin_io::{Disk, Moment, Platform, seeded_bug};
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_ssd_tier::format::{Owner, SECTOR_BYTES};
use snowskin_ssd_tier::{RecordAddress, TierError, Volume};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// How long somebody waits who finds no room, on the SSD or in memory, until the next try.
const ROOM_PAUSE: Duration = Duration::from_millis(5);
/// Bytes under way to the SSD at a time, at most, for each of those who write there; and ...
const UNDER_WAY_BYTES_MAX: u64 = 32 << 20;
/// ... no more than this part of the memory.
const UNDER_WAY_SHARE: u64 = 8;

/// Bytes of values that are being written for one purpose.
#[derive(Clone, Debug, Default)]
struct BytesUnderWay(Rc<Cell<u64>>);

impl BytesUnderWay {
    /// Whether another value may be.
    fn has_room<P: Platform>(&self, core: &PerCore<P>) -> bool {
        let share = core.shard.borrow().segments().capacity_bytes() / UNDER_WAY_SHARE;
        self.0.get() < UNDER_WAY_BYTES_MAX.min(share)
    }

    fn add(&self, bytes: u64) {
        self.0.set(self.0.get() + bytes);
    }

    fn end(&self, bytes: u64) {
        self.0.set(self.0.get() - bytes);
    }
}

/// The SSD tier of a core.
pub struct Tier<P: Platform> {
    volume: Volume<P>,
    disk: P::Disk,
    region_sectors: u32,
    scrub_rate: ScrubRate,
    /// How long it took to open it.
    open_us: u64,
    /// Those who wait for a record that is being read.
    waiting: RefCell<HashMap<RecordId, Vec<Sender<Extent>>>>,
    /// Names that the volume was told to bury, and how many of these are known to be.
    told: Cell<u64>,
    buried: Cell<u64>,
    /// Nothing can be buried any more, and the volume is emptied.
    is_given_up: Cell<bool>,
    /// This life, as the volume has it.
    owner: Owner,
    /// Bytes of a value that is written, at most.
    value_bytes_max: u64,
    /// Requests that find no memory to load into.
    starving: Cell<u32>,
    /// What leaves memory, ...
    demoted: BytesUnderWay,
    /// ... what is copied without being asked, ...
    copied: BytesUnderWay,
    /// ... and what somebody waits for.
    durable: BytesUnderWay,
    /// A value was written, or could not be.
    written: Changes,
    /// What may be written in a day, if that is limited.
    budget: Option<Cell<Budget>>,
    /// Segments whose memory the disk knows, by serial.
    registered: RefCell<HashMap<u32, DiskMemory>>,
}

impl<P: Platform> Tier<P> {
    /// The volume.
    pub fn volume(&self) -> &Volume<P> {
        &self.volume
    }

    /// Counters, with those of the volume.
    pub(crate) fn add_stats(&self, stats: CoreStats) -> CoreStats {
        let (usage, counters) = (self.volume.usage(), self.volume.counters());
        CoreStats {
            ssd_capacity_bytes: usage.capacity_bytes,
            ssd_free_bytes: usage.free_bytes,
            ssd_written_bytes: counters.bytes_written.get(),
            ssd_reinserted_bytes: counters.bytes_reinserted.get(),
            ssd_open_us: self.open_us,
            ssd_scrubbed_bytes: counters.bytes_scrubbed.get(),
            ssd_damaged: counters.records_damaged.get() + counters.structures_damaged.get(),
            ..stats
        }
    }

    /// A record by one number: its sector, counted from the first region.
    fn id_of(&self, address: RecordAddress) -> RecordId {
        RecordId(address.region * self.region_sectors + address.offset / SECTOR_BYTES as u32)
    }

    fn address_of(&self, record: RecordId) -> RecordAddress {
        let region = record.0 / self.region_sectors;
        RecordAddress { region, offset: record.0 % self.region_sectors * SECTOR_BYTES as u32 }
    }

    /// Whether more may be written that need not be.
    fn has_budget(&self, core: &PerCore<P>) -> bool {
        let Some(budget) = &self.budget else { return true };
        let mut now = budget.get();
        let is_allowed = now.allows(core.platform.now(), self.volume.counters().bytes_written.get());
        budget.set(now);
        is_allowed
    }

    /// Tells the disk about the memory of segments, so that reads and writes there cost less.
    fn register_segments(&self, core: &PerCore<P>) {
        let shard = core.shard.borrow();
        let mut registered = self.registered.borrow_mut();
        let mut known: HashMap<u32, DiskMemory> = HashMap::new();
        for (segment, serial) in shard.segments().serials() {
            let memory = registered.remove(&serial).unwrap_or_else(|| self.disk.register(segment.mapping()));
            known.insert(serial, memory);
        }
        *registered = known;
    }

    /// Tells the volume what the shard has noted. Whoever does so may be another one than whose names these are.
    fn pass_news(&self, core: &PerCore<P>) {
        let (buried, released) = core.shard.borrow_mut().take_tier_news();
        for (record, name_bytes, value_bytes) in released {
            self.volume.release(self.address_of(record), name_bytes, value_bytes);
        }
        buried.iter().for_each(|(name, version)| self.volume.bury(name.as_ref(), *version));
        self.told.set(self.told.get() + buried.len() as u64);
    }

    /// Makes durable what was written until now, and that names are buried which the shard has noted until now. Waits for room until a moment:
    /// reclaim makes it, and the names are kept until then.
    async fn commit_news(&self, core: &PerCore<P>, deadline: Moment) -> Result<(), TierError> {
        self.pass_news(core);
        let told = self.told.get();
        loop {
            match self.volume.commit().await {
                Err(TierError::Full | TierError::Busy) if core.platform.now() < deadline => {
                    core.platform.sleep(ROOM_PAUSE).await;
                }
                Ok(()) => {
                    self.buried.set(self.buried.get().max(told));
                    return Ok(());
                }
                failed => return failed,
            }
        }
    }

    /// Whether all names that were to be buried are.
    fn is_settled(&self) -> bool {
        self.is_given_up.get() || self.buried.get() == self.told.get()
    }
}

impl<P: Platform> PerCore<P> {
    /// Whether what is here may be told: see [`PerCore::settle`].
    pub(crate) fn is_settled(&self) -> bool {
        self.tier.get().is_none_or(|tier| {
            tier.pass_news(self);
            tier.is_settled()
        })
    }

    /// Ends when what is here may be told, also what was not there: names of objects that had records and are gone are buried, durably.
    /// Otherwise a value that somebody has seen replaced could be seen again after a crash.
    pub(crate) async fn settle(&self) {
        let Some(tier) = self.tier.get() else { return };
        if self.is_settled() || seeded_bug!("told before it is buried") {
            return;
        }
        if let Err(error) = tier.commit_news(self, Moment::NEVER).await {
            log::error!("core {}: names cannot be buried on the SSD: {error}", self.identity.id);
            tier.give_up(self).await;
        }
    }

    /// Starts what the SSD tier does beside requests, if there is one.
    pub(crate) fn start_tier(self: &Rc<Self>) {
        if self.tier.get().is_some() {
            self.platform.spawn(demote::run(self.clone()));
            self.platform.spawn(demote::settle_all(self.clone()));
            self.platform.spawn(reclaim::run(self.clone()));
            self.platform.spawn(scrub::run(self.clone()));
            self.platform.spawn(keep::run(self.clone()));
        }
    }
}
