//! The volume of a core: opened, or made, when the core starts.

use super::budget::Budget;
use super::{BytesUnderWay, ScrubRate, Tier};
use crate::patience::patiently;
use crate::percore::PerCore;
use crate::shard::{Demoted, TierPolicy};
use snowskin_io::sync::Changes;
use snowskin_io::{Disk, DiskPlace, Moment, Platform};
use snowskin_protocol::{ByteSize, Life};
use snowskin_ssd_tier::format::{FormatError, Owner, SECTOR_BYTES};
use snowskin_ssd_tier::{Found, Recovered, TierError, Trim, Volume, VolumeOptions};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A core's SSD tier.
#[derive(Clone, Debug)]
pub struct SsdConfig {
    /// The file, or block device, or the part of one, of this core alone.
    pub place: DiskPlace,
    /// How it is kept.
    pub settings: TierSettings,
}

/// How a core keeps its SSD tier.
#[derive(Clone, Copy, Debug)]
pub struct TierSettings {
    /// Bytes of a region, if the volume is made.
    pub region_bytes: u64,
    /// How fast it is scrubbed.
    pub scrub: ScrubRate,
    /// Whether what is of no use there is discarded.
    pub trim: Trim,
    /// What goes there, and when.
    pub policy: TierPolicy,
    /// Bytes that may be written there in a day; puts that are to be durable need no leave.
    pub write_bytes_per_day: Option<u64>,
    /// Milliseconds of Unix time.
    pub unix_ms: fn() -> u64,
}

/// Why there can be no SSD tier.
#[derive(Debug, thiserror::Error)]
#[error("the SSD tier at {}: {source}", path.display())]
pub struct SsdError {
    /// Where.
    pub path: PathBuf,
    /// Why not.
    pub source: TierError,
}

/// Bytes of the longest head of a record, which is read with the value if it has the end of it.
const HEAD_BYTES_MAX: u64 = 3 * SECTOR_BYTES as u64;

impl<P: Platform> PerCore<P> {
    /// Opens the core's volume, or makes it if there is none, and takes over what it holds.
    pub(crate) async fn open_tier(&self, config: &SsdConfig) -> Result<(), SsdError> {
        let path = &config.place.path;
        let failed = |source| SsdError { path: path.clone(), source };
        let disk = self.open_disk(&config.place).await.map_err(|error| failed(error.into()))?;
        let owner = Owner {
            core: self.identity.id,
            incarnation: self.identity.incarnation,
            since_unix_ms: (config.settings.unix_ms)(),
        };
        let options = VolumeOptions {
            region_bytes: config.settings.region_bytes,
            owner,
            unix_ms: config.settings.unix_ms,
            trim: config.settings.trim,
            ..VolumeOptions::default()
        };
        let begun = self.platform.now();
        let (volume, objects, heir_of) = self.volume_on(&disk, path, &options).await.map_err(failed)?;
        let region_sectors = volume.geometry().region_bytes / SECTOR_BYTES as u64;
        let sectors = region_sectors * u64::from(volume.geometry().regions);
        if u32::try_from(sectors).is_err() {
            let geometry = volume.geometry();
            let (region_bytes, regions, disk_bytes) = (geometry.region_bytes, geometry.regions, disk.bytes());
            return Err(failed(FormatError::Geometry { region_bytes, regions, disk_bytes }.into()));
        }
        if !disk.is_direct() {
            log::warn!("core {}: {} goes through the page cache", self.identity.id, path.display());
        }
        let now = self.platform.now();
        // What is written is to be read into memory again, with what stands before it there.
        let in_memory = self.shard.borrow().segments().value_bytes_max().saturating_sub(HEAD_BYTES_MAX);
        let value_bytes_max = volume.value_bytes_max().min(in_memory);
        let tier = Tier::new(volume, disk, (now - begun, now), (owner, value_bytes_max), &config.settings);
        self.shard.borrow_mut().enable_tier(config.settings.policy, value_bytes_max, heir_of);
        tier.take_over(self, objects);
        tier.register_segments(self);
        assert!(self.tier.set(tier).is_ok(), "opened once");
        Ok(())
    }

    /// The volume on a disk, what it holds and who has left that; or a new one.
    async fn volume_on(
        &self,
        disk: &P::Disk,
        path: &Path,
        options: &VolumeOptions,
    ) -> Result<(Volume<P>, Vec<Found>, Option<Life>), TierError> {
        let (id, place) = (self.identity.id, path.display());
        if !Volume::<P>::is_on(disk).await? {
            let volume = Volume::format(self.platform.clone(), disk.clone(), options).await?;
            log::info!("core {id}: {place}: a new volume of {}", ByteSize(disk.bytes()));
            return Ok((volume, Vec::new(), None));
        }
        let (volume, recovered) = Volume::open(self.platform.clone(), disk.clone(), options).await?;
        log::info!("core {id}: {place}: {}", words_of(&recovered));
        let left_by = volume.owner();
        Ok((volume, recovered.objects, Some((left_by.core, left_by.incarnation))))
    }
}

impl<P: Platform> PerCore<P> {
    /// Opens a disk, which may still be in use for a moment.
    async fn open_disk(&self, place: &DiskPlace) -> io::Result<P::Disk> {
        let is_in_use = |error: &io::Error| error.kind() == io::ErrorKind::ResourceBusy;
        let pause = async |time| {
            log::debug!("core {}: {} is in use; once more", self.identity.id, place.path.display());
            self.platform.sleep(time).await;
        };
        patiently(|| self.platform.open_disk(place), is_in_use, pause).await
    }
}

impl<P: Platform> Tier<P> {
    /// Of an open volume whose sectors can be numbered.
    fn new(
        volume: Volume<P>,
        disk: P::Disk,
        (open_time, now): (Duration, Moment),
        (owner, value_bytes_max): (Owner, u64),
        settings: &TierSettings,
    ) -> Self {
        let budget = settings.write_bytes_per_day.map(|bytes| Budget::new(bytes, now));
        Tier {
            region_sectors: (volume.geometry().region_bytes / SECTOR_BYTES as u64) as u32,
            volume,
            disk,
            scrub_rate: settings.scrub,
            open_us: open_time.as_micros() as u64,
            waiting: RefCell::default(),
            told: Cell::new(0),
            buried: Cell::new(0),
            is_given_up: Cell::new(false),
            owner,
            value_bytes_max,
            starving: Cell::new(0),
            demoted: BytesUnderWay::default(),
            copied: BytesUnderWay::default(),
            durable: BytesUnderWay::default(),
            written: Changes::default(),
            budget: budget.map(Cell::new),
            registered: RefCell::new(HashMap::new()),
        }
    }

    fn take_over(&self, core: &PerCore<P>, objects: Vec<Found>) {
        let mut shard = core.shard.borrow_mut();
        for Found { name, facts, address } in objects {
            let name = name.as_ref();
            let demoted = Demoted {
                record: self.id_of(address),
                version: facts.version,
                value_bytes: facts.value_bytes,
                checksum: facts.checksum,
            };
            // What has no room in memory can never be read.
            let is_kept = facts.value_bytes <= self.value_bytes_max && shard.recover(name, &demoted);
            if !is_kept {
                // Somebody may put it again, and it must not come back then.
                self.volume.bury(name, facts.version);
                self.told.set(self.told.get() + 1);
                self.volume.release(address, name.bytes().len(), facts.value_bytes);
            }
        }
    }

    /// Nothing can be written any more, and something was to be. What the volume holds must not be found by whoever opens it next.
    pub(super) async fn give_up(&self, core: &PerCore<P>) {
        if self.is_given_up.replace(true) {
            return;
        }
        if let Err(error) = self.volume.abandon().await {
            log::error!(
                "core {}: the volume could not be emptied: {error}; delete it before the next start, or removed objects come back",
                core.identity.id
            );
        }
    }
}

/// What was found, for the log.
fn words_of(recovered: &Recovered) -> String {
    let Recovered { objects, regions, regions_scanned, damage, tombstones } = recovered;
    format!(
        "{} objects in {regions} regions ({regions_scanned} without footer), {} records and {} other structures damaged, \
         {} records torn, {tombstones} names buried",
        objects.len(),
        damage.records,
        damage.structures,
        damage.torn
    )
}
