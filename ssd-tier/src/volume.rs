//! A volume: its parts, and how one is made and opened.

use crate::bury::Burials;
use crate::commit::{Flights, Rounds};
use crate::error::TierError;
use crate::format::{
    FormatError, Geometry, Owner, REGION_BYTES_DEFAULT, SECTOR_BYTES, SUPERBLOCKS_AT, Sequence, Superblock,
    VolumeId,
};
use crate::log::{Log, Phase};
use crate::recovery::FOOTERS_AT_ONCE;
use crate::scrub::Turns;
use crate::write::fresh_buffer;
use crate::{RecordAddress, Recovered};
use snowskin_io::disk::{DiskBuffer, DiskBuffers};
use snowskin_io::{Disk, Platform};
use snowskin_protocol::CHUNK_BYTES;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::str::FromStr;

/// The least memory with which a volume can be opened.
const BUFFERS_BYTES_MIN: usize = 1 << 20;
/// Bytes that are read at a time, if there is memory for that.
const WINDOW_BYTES_MAX: usize = 1 << 20;

/// Whether the device is told of regions that are of no use any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trim {
    /// If it is a device. A file would give its blocks back, and get them again one write at a time.
    #[default]
    Auto,
    /// In any case.
    On,
    /// Never.
    Off,
}

impl FromStr for Trim {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Trim::Auto),
            "on" => Ok(Trim::On),
            "off" => Ok(Trim::Off),
            _ => Err(format!("\"{text}\" says not whether to trim: write auto, on or off")),
        }
    }
}

impl fmt::Display for Trim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trim::Auto => "auto",
            Trim::On => "on",
            Trim::Off => "off",
        })
    }
}

/// How a volume is opened.
#[derive(Clone, Copy, Debug)]
pub struct VolumeOptions {
    /// Bytes of each region, when the volume is made: a multiple of a sector.
    pub region_bytes: u64,
    /// Whose it is, when it is made.
    pub owner: Owner,
    /// Bytes of memory for heads, what is moved, and what is read when it is opened, at most; but 1 MiB at least.
    pub buffers_bytes: usize,
    /// Whether regions that hold nothing any more are discarded.
    pub trim: Trim,
    /// Milliseconds of Unix time, for whoever looks at the volume: nothing is decided by it.
    pub unix_ms: fn() -> u64,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        VolumeOptions {
            region_bytes: REGION_BYTES_DEFAULT,
            owner: Owner::default(),
            buffers_bytes: 64 << 20,
            trim: Trim::default(),
            unix_ms: || 0,
        }
    }
}

/// A volume that one core has opened. Clones are the same one.
pub struct Volume<P: Platform> {
    pub(crate) inner: Rc<Inner<P>>,
}

impl<P: Platform> Clone for Volume<P> {
    fn clone(&self) -> Self {
        Volume { inner: self.inner.clone() }
    }
}

pub(crate) struct Inner<P: Platform> {
    pub(crate) platform: P,
    pub(crate) disk: P::Disk,
    pub(crate) id: VolumeId,
    pub(crate) geometry: Geometry,
    pub(crate) superblock: Cell<Superblock>,
    /// The floor that was written last, or is being written.
    floor: Cell<Sequence>,
    pub(crate) log: RefCell<Log>,
    /// When regions were scrubbed.
    pub(crate) turns: RefCell<Turns>,
    /// Reads under way.
    pub(crate) readers: Cell<u32>,
    pub(crate) buffers: DiskBuffers,
    /// Bytes that are read at a time: whole chunks of a checksum.
    pub(crate) window_bytes: usize,
    pub(crate) flights: Flights,
    pub(crate) commits: Rounds,
    pub(crate) flushes: Rounds,
    /// Names that are to be buried with the next commit.
    pub(crate) burials: RefCell<Burials>,
    /// Records of regions without footer that were not written.
    pub(crate) failed: RefCell<Vec<RecordAddress>>,
    pub(crate) is_ended: Cell<bool>,
    pub(crate) is_reclaiming: Cell<bool>,
    /// Whether discards are to be tried.
    pub(crate) is_trimming: Cell<bool>,
    pub(crate) unix_ms: fn() -> u64,
    counters: TierCounters,
}

/// What a volume has done since it was opened.
#[derive(Clone, Debug, Default)]
pub struct TierCounters {
    /// Records written, of values.
    pub records_written: Cell<u64>,
    /// Their bytes, those of tombstones, and of all that stands beside records.
    pub bytes_written: Cell<u64>,
    /// Names buried.
    pub tombstones_written: Cell<u64>,
    /// Records that the disk did not take.
    pub writes_failed: Cell<u64>,
    /// Regions that got no footer.
    pub footers_failed: Cell<u64>,
    /// Records read whole.
    pub records_read: Cell<u64>,
    /// Records that were not what was written, whoever read them.
    pub records_damaged: Cell<u64>,
    /// Bytes read by scrubs.
    pub bytes_scrubbed: Cell<u64>,
    /// Superblocks, headers, footers and indexes that were damaged when the volume was opened or scrubbed.
    pub structures_damaged: Cell<u64>,
    /// Bytes that the device was told are of no use.
    pub bytes_discarded: Cell<u64>,
    /// Reads that the disk refused.
    pub reads_failed: Cell<u64>,
    /// Regions reclaimed.
    pub regions_reclaimed: Cell<u64>,
    /// Records written once more by reclaim, and their bytes.
    pub records_reinserted: Cell<u64>,
    /// Bytes of these.
    pub bytes_reinserted: Cell<u64>,
}

/// Where the bytes of a volume are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of all regions.
    pub capacity_bytes: u64,
    /// Of regions that hold nothing.
    pub free_bytes: u64,
    /// Of records that somebody wants.
    pub live_bytes: u64,
    /// All regions, and those that hold nothing.
    pub regions: u32,
    /// See above.
    pub free_regions: u32,
}

impl<P: Platform> Volume<P> {
    /// Makes a volume on a disk, whatever stands there.
    pub async fn format(platform: P, disk: P::Disk, options: &VolumeOptions) -> Result<Self, TierError> {
        let geometry = Geometry::of_disk(disk.bytes(), options.region_bytes)?;
        let id = VolumeId(platform.secret()?);
        let superblock = Superblock {
            volume: id,
            generation: 1,
            geometry,
            floor: Sequence(1),
            mounts: 1,
            owner: options.owner,
        };
        let log = Log::new(geometry, superblock.floor);
        let volume = Volume::assemble(platform, disk, superblock, log, options);
        volume.trim_all().await;
        // Both, so that nothing of what stood there before is taken for a copy.
        volume.write_superblock(superblock).await?;
        volume.write_superblock(superblock.next(|_| {})).await?;
        volume.inner.disk.flush().await?;
        Ok(volume)
    }

    /// Opens the volume on a disk, and says what it holds.
    pub async fn open(
        platform: P,
        disk: P::Disk,
        options: &VolumeOptions,
    ) -> Result<(Self, Recovered), TierError> {
        let (superblock, copies_damaged) = read_superblock(&disk).await?;
        // Whoever was here before may have been killed: what it has written counts only if it stays.
        disk.flush().await?;
        let log = Log::new(superblock.geometry, superblock.floor);
        let volume = Volume::assemble(platform, disk, superblock, log, options);
        let mut recovered = volume.recover().await?;
        recovered.damage.structures += copies_damaged;
        volume.add(|counters| &counters.structures_damaged, recovered.damage.structures);
        volume.add(|counters| &counters.records_damaged, recovered.damage.records);
        if recovered.regions == 0 {
            // One that was given up, maybe full of what nobody finds.
            volume.trim_all().await;
        }
        // Its owner stays: what was found is that one's.
        let mounted = superblock.next(|block| block.mounts += 1);
        volume.write_superblock(mounted).await?;
        volume.inner.disk.flush().await?;
        volume.write_superblock(mounted.next(|_| {})).await?;
        volume.inner.disk.flush().await?;
        Ok((volume, recovered))
    }

    /// Whether there is a volume on a disk, of whatever version and state: for who is about to make one.
    pub async fn is_on(disk: &P::Disk) -> Result<bool, TierError> {
        let copies = superblock_copies(disk).await;
        let is_none =
            |copy: &DiskBuffer| matches!(Superblock::decode(copy, disk.bytes()), Err(FormatError::Magic(_)));
        match copies.iter().all(|(read, copy)| read.is_ok() && is_none(copy)) {
            true => Ok(false),
            // What cannot be read may be one.
            false => copies
                .into_iter()
                .find_map(|(read, _)| read.err())
                .map_or(Ok(true), |error| Err(error.into())),
        }
    }

    fn assemble(
        platform: P,
        disk: P::Disk,
        superblock: Superblock,
        log: Log,
        options: &VolumeOptions,
    ) -> Self {
        let is_trimming = match options.trim {
            Trim::Auto => disk.wants_discards(),
            Trim::On => true,
            Trim::Off => false,
        };
        Volume {
            inner: Rc::new(Inner {
                platform,
                disk,
                is_trimming: Cell::new(is_trimming),
                id: superblock.volume,
                geometry: superblock.geometry,
                superblock: Cell::new(superblock),
                floor: Cell::new(superblock.floor),
                turns: RefCell::new(Turns::begin(&log, superblock.mounts)),
                readers: Cell::new(0),
                log: RefCell::new(log),
                buffers: DiskBuffers::new(options.buffers_bytes.max(BUFFERS_BYTES_MIN)),
                window_bytes: window_bytes(options.buffers_bytes),
                flights: Flights::default(),
                commits: Rounds::default(),
                flushes: Rounds::default(),
                burials: RefCell::default(),
                failed: RefCell::default(),
                is_ended: Cell::new(false),
                is_reclaiming: Cell::new(false),
                unix_ms: options.unix_ms,
                counters: TierCounters::default(),
            }),
        }
    }

    /// Writes the next copy of the superblock. It counts when it is flushed.
    pub(crate) async fn write_superblock(&self, block: Superblock) -> Result<(), TierError> {
        if self.is_ended() {
            return Err(TierError::Ended);
        }
        self.write_superblock_anyway(block).await
    }

    /// The same, also when nothing else is written any more.
    pub(crate) async fn write_superblock_anyway(&self, block: Superblock) -> Result<(), TierError> {
        // Already now: nobody knows when it stands there.
        self.inner.floor.set(block.floor);
        let mut sector = fresh_buffer(SECTOR_BYTES);
        block.encode(&mut sector);
        self.inner.disk.write_all_at(block.offset(), sector).await.0?;
        self.add(|counters| &counters.bytes_written, SECTOR_BYTES as u64);
        self.inner.superblock.set(block);
        Ok(())
    }

    // -- what others ask --

    /// Whether whoever opens the volume next would find a record that is there and durable. Of a region that is being reclaimed, or was to be, it can be
    /// read and is not found any more.
    pub fn lasts(&self, address: RecordAddress) -> bool {
        self.inner.log.borrow().region(address.region).sequence >= self.inner.floor.get()
    }

    /// Whose records count.
    pub fn owner(&self) -> Owner {
        self.inner.superblock.get().owner
    }

    /// Which volume it is.
    pub fn id(&self) -> VolumeId {
        self.inner.id
    }

    /// How it is divided.
    pub fn geometry(&self) -> Geometry {
        self.inner.geometry
    }

    /// Bytes of the largest value that it takes under any name: for larger ones [`Volume::begin`] may say [`TierError::TooLarge`].
    pub fn value_bytes_max(&self) -> u64 {
        Log::value_bytes_max(self.inner.geometry)
    }

    /// The record is of no more use; it has so many bytes ([`crate::format::record_bytes`]). Its space is free when its region is reclaimed.
    pub fn release(&self, address: RecordAddress, name_bytes: usize, value_bytes: u64) {
        let (head, body) = crate::format::record_bytes(name_bytes, value_bytes);
        self.release_bytes(address.region, head + body);
    }

    pub(crate) fn release_bytes(&self, region: u32, bytes: u64) {
        let mut log = self.inner.log.borrow_mut();
        let region = log.region_mut(region);
        region.live_bytes = region.live_bytes.saturating_sub(bytes);
    }

    /// Where its bytes are.
    pub fn usage(&self) -> Usage {
        let log = self.inner.log.borrow();
        let Geometry { region_bytes, regions } = self.inner.geometry;
        Usage {
            capacity_bytes: region_bytes * u64::from(regions),
            free_bytes: region_bytes * log.free_regions() as u64,
            live_bytes: log
                .regions()
                .filter(|region| region.phase != Phase::Free)
                .map(|region| region.live_bytes)
                .sum(),
            regions,
            free_regions: log.free_regions() as u32,
        }
    }

    /// Writes that have been begun and have not landed.
    pub fn writes_under_way(&self) -> usize {
        self.inner.flights.count()
    }

    /// What it has done.
    pub fn counters(&self) -> &TierCounters {
        &self.inner.counters
    }

    pub(crate) fn count(&self, which: impl Fn(&TierCounters) -> &Cell<u64>) {
        self.add(which, 1);
    }

    pub(crate) fn add(&self, which: impl Fn(&TierCounters) -> &Cell<u64>, more: u64) {
        let counter = which(&self.inner.counters);
        counter.set(counter.get() + more);
    }

    /// Where a record is on the disk.
    pub(crate) fn disk_offset(&self, address: RecordAddress) -> u64 {
        self.inner.geometry.region_at(address.region) + u64::from(address.offset)
    }
}

/// Bytes that are read at a time: so many that half of the memory is enough for all who do that when a volume is opened.
fn window_bytes(buffers_bytes: usize) -> usize {
    let share = buffers_bytes.max(BUFFERS_BYTES_MIN) / (2 * FOOTERS_AT_ONCE);
    share.min(WINDOW_BYTES_MAX) / CHUNK_BYTES * CHUNK_BYTES
}

const _: () = assert!(BUFFERS_BYTES_MIN / (2 * FOOTERS_AT_ONCE) >= CHUNK_BYTES);

/// The superblock that counts, and how many copies are damaged.
async fn read_superblock<D: Disk>(disk: &D) -> Result<(Superblock, u64), TierError> {
    let mut damaged = 0;
    let [first, second] = superblock_copies(disk).await.map(|(read, mut copy)| {
        // A copy that cannot be read is one that is damaged.
        if let Err(error) = read {
            log::warn!("a superblock cannot be read: {error}");
            copy.fill(0);
            damaged += 1;
        }
        copy
    });
    let copies = [&first[..], &second[..]];
    damaged +=
        (0..2).filter(|place| Superblock::is_damaged(copies[*place], *place, disk.bytes())).count() as u64;
    Ok((Superblock::choose(copies, disk.bytes())?, damaged))
}

async fn superblock_copies<D: Disk>(disk: &D) -> [(io::Result<()>, DiskBuffer); 2] {
    let read = |at| disk.read_exact_at(at, fresh_buffer(SECTOR_BYTES));
    let [first, second] = SUPERBLOCKS_AT.map(read);
    [first.await, second.await]
}
