//! Where the SSD tier of each core is, decided before the cores start: a file of its own in a folder, or a part of a device that they share.
//!
//! ```text
//!   --ssd A,B ──► which cores have a part on A, which on B ──► folders: a file for each core
//!                 (those of the same NUMA node, evenly)     └► devices: what their tables of parts say; a table is made
//!                                                              if there is none and the device is empty
//! ```
//!
//! A device is divided once, for a number of cores, and says so in its table. An engine with another number of cores is refused: what was written
//! for other cores may have been replaced since. The table's place is held as long as the engine runs, and with it the lock of the device.
//! Several devices are divided one after the other, before any core begins: if that was interrupted, they are divided anew, since no part
//! of them has been used.
//!
//! Nothing here is a core's: each call waits for the disk.

use super::{SsdConfig, TierSettings};
use crate::patience::patiently_blocking;
use snowskin_io::topology::node_of_disk;
use snowskin_io::uring::HeldDisk;
use snowskin_io::{DiskPlace, SECTOR_BYTES};
use snowskin_protocol::ByteSize;
use snowskin_ssd_tier::format::{
    FormatError, PARTS_AT, PartTable, REGIONS_AT, SUPERBLOCKS_AT, SetId, Superblock, TABLES_AT,
};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Regions of a core's part, at least: fewer would be reclaimed as soon as they are filled.
pub(crate) const REGIONS_MIN: u64 = 8;
const SECTOR: usize = SECTOR_BYTES as usize;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct SsdPlan {
    /// Folders, or else block devices or files.
    pub places: Vec<PathBuf>,
    /// Bytes of all of them together. `None`: all that the devices have.
    pub bytes: Option<u64>,
    /// How each core keeps its own.
    pub settings: TierSettings,
    /// The NUMA node of each core.
    pub nodes: Vec<Option<u32>>,
}

/// Where the cores' parts are.
#[derive(Default)]
pub struct SsdPlaces {
    /// By core; empty if there is no SSD tier.
    pub configs: Vec<SsdConfig>,
    /// The devices, locked.
    held: Vec<HeldDisk>,
}

impl SsdPlaces {
    /// How many devices are locked.
    pub fn devices(&self) -> usize {
        self.held.len()
    }
}

/// Why the places cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The system says no.
    #[error("the SSD tier at {}: {source}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The table of parts says no.
    #[error("the SSD tier at {}: {source}", path.display())]
    Format {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: FormatError,
    },
    /// Folders and devices.
    #[error("{} is a folder and {} is none: name folders only, or devices only", folder.display(), device.display())]
    Mixed {
        /// One.
        folder: PathBuf,
        /// The other.
        device: PathBuf,
    },
    /// More places than cores.
    #[error("{places} places for the SSD tier of {cores} cores: name fewer, or use more cores")]
    TooMany {
        /// Places.
        places: usize,
        /// Cores.
        cores: usize,
    },
    /// A device that is empty, and not.
    #[error(
        "there is something on {0} that is not Snowskin's: if nobody needs it, clear its beginning (dd if=/dev/zero of={0} bs=1M count=1) and \
         start again"
    )]
    Foreign(PathBuf),
    /// A device of a single core without a table, or of a later program.
    #[error(
        "{0} is a volume by itself, not divided among cores: to begin anew, clear its beginning (dd if=/dev/zero of={0} bs=1M count=1)"
    )]
    Undivided(PathBuf),
    /// Divided for others.
    #[error(
        "{path} is divided for an engine of {there} cores, and this one has {wanted}: start with --cores {there}, or clear its beginning to lose \
         what it holds (dd if=/dev/zero of={path} bs=1M count=1)"
    )]
    OtherCores {
        /// Which.
        path: PathBuf,
        /// Cores that it is for.
        there: u16,
        /// Cores that there are.
        wanted: usize,
    },
    /// Not all of the disks that were divided together.
    #[error(
        "{0} does not belong to the others of --ssd, or one is missing or new: name all disks that were first used together, or clear the beginning \
         of each to lose what they hold (dd if=/dev/zero of={0} bs=1M count=1)"
    )]
    OtherSet(PathBuf),
    /// It was divided for another size.
    #[error(
        "{path} is divided into parts of {there}, and --ssd-size gives parts of {wanted}: leave --ssd-size out to use it as it is"
    )]
    OtherSize {
        /// Which.
        path: PathBuf,
        /// Bytes of a part.
        there: ByteSize,
        /// Bytes of a part that were asked for.
        wanted: ByteSize,
    },
    /// Too small.
    #[error(
        "{path} has {there}, which is less than {wanted} for {cores} cores there: use a smaller --ssd-size or --ssd-region, or fewer cores"
    )]
    Small {
        /// Which.
        path: PathBuf,
        /// What it has.
        there: ByteSize,
        /// What is needed.
        wanted: ByteSize,
        /// Cores with a part there.
        cores: usize,
    },
    /// It is large enough, and its share of what was asked for is not.
    #[error(
        "--ssd-size gives {given} of {path}, which is less than {wanted} for {cores} cores there: use a larger --ssd-size, a smaller \
         --ssd-region, or fewer cores"
    )]
    SmallShare {
        /// Which.
        path: PathBuf,
        /// Bytes of it that are asked for.
        given: ByteSize,
        /// What is needed.
        wanted: ByteSize,
        /// Cores with a part there.
        cores: usize,
    },
    /// There is nothing.
    #[error(
        "--ssd: {0} is not there: make that folder, if the disk is mounted that is to be used, or name a device"
    )]
    NotThere(PathBuf),
    /// A file of a core that there is not.
    #[error(
        "{} is of an engine with more cores than {cores}: start with as many, or delete the files of all cores to begin anew",
        .path.display()
    )]
    MoreCores {
        /// The file.
        path: PathBuf,
        /// Cores that there are.
        cores: usize,
    },
}

/// Bytes that will do for so many cores, in files of their own.
pub(crate) fn bytes_min(cores: u64, region_bytes: u64) -> u64 {
    REGIONS_AT.saturating_add(region_bytes.saturating_mul(REGIONS_MIN)).saturating_mul(cores)
}

/// Bytes of a device that will do for the parts of so many cores: these come behind the table, and are rounded to [`PARTS_AT`].
fn device_bytes_min(cores: usize, region_bytes: u64) -> u64 {
    let part = bytes_min(1, region_bytes).div_ceil(PARTS_AT).saturating_mul(PARTS_AT);
    part.saturating_mul(cores as u64).saturating_add(PARTS_AT)
}

/// Whether it is a block device, whose size need not be given.
pub(crate) fn is_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// A device or file to be divided; everything else is a folder.
fn is_divided(path: &Path) -> bool {
    !path.is_dir()
}

/// Which of the places each core has its part on: each has as many as the others or one more, of its own NUMA node as far as that goes.
fn spread(cores: &[Option<u32>], places: &[Option<u32>]) -> Vec<usize> {
    let (least, more) = (cores.len() / places.len(), cores.len() % places.len());
    let mut left: Vec<usize> = (0..places.len()).map(|place| least + usize::from(place < more)).collect();
    let mut used = vec![0; places.len()];
    let mut chosen: Vec<Option<usize>> = vec![None; cores.len()];
    for only_near in [true, false] {
        for (chosen, node) in chosen.iter_mut().zip(cores).filter(|(chosen, _)| chosen.is_none()) {
            let is_near = |place: usize| node.is_some() && places[place] == *node;
            let fits = |place: &usize| left[*place] > 0 && (!only_near || is_near(*place));
            if let Some(place) = (0..places.len()).filter(fits).min_by_key(|place| used[*place]) {
                left[place] -= 1;
                used[place] += 1;
                *chosen = Some(place);
            }
        }
    }
    chosen.into_iter().map(|place| place.expect("there is room for all")).collect()
}

impl SsdPlan {
    /// Finds the parts, or makes them.
    pub fn prepare(&self) -> Result<SsdPlaces, PlaceError> {
        let (cores, places) = (self.nodes.len(), self.places.len());
        if places > cores {
            return Err(PlaceError::TooMany { places, cores });
        }
        // It is not made: a mount that is missing would fill another disk.
        if let Some(missing) = self.places.iter().find(|path| !path.exists()) {
            return Err(PlaceError::NotThere(missing.clone()));
        }
        let divided = self.places.iter().find(|path| is_divided(path));
        let folder = self.places.iter().find(|path| !is_divided(path));
        match (divided, folder) {
            (None, _) => self.files(),
            (Some(_), None) => self.devices(),
            (Some(device), Some(folder)) => {
                Err(PlaceError::Mixed { folder: folder.clone(), device: device.clone() })
            }
        }
    }

    fn places_of_cores(&self) -> Vec<usize> {
        let nodes: Vec<Option<u32>> = self.places.iter().map(|path| node_of_disk(path)).collect();
        spread(&self.nodes, &nodes)
    }

    fn config(&self, place: DiskPlace) -> SsdConfig {
        SsdConfig { place, settings: self.settings }
    }

    // -- folders --

    /// A file for each core, where it is or where it belongs.
    fn files(&self) -> Result<SsdPlaces, PlaceError> {
        let cores = self.nodes.len();
        let share = self.bytes.unwrap_or(0) / cores as u64 / SECTOR_BYTES * SECTOR_BYTES;
        if let Some(path) = self.places.iter().find_map(|folder| file_beyond(folder, cores)) {
            return Err(PlaceError::MoreCores { path, cores });
        }
        let belongs = self.places_of_cores();
        let place = |core: usize| {
            let files = || self.places.iter().map(|folder| folder.join(file_name(core)));
            let there = files().find(|file| file.exists());
            DiskPlace::sized(there.unwrap_or_else(|| self.places[belongs[core]].join(file_name(core))), share)
        };
        let configs = (0..cores).map(|core| self.config(place(core))).collect();
        Ok(SsdPlaces { configs, held: Vec::new() })
    }

    // -- devices --

    /// A part of a device for each core.
    fn devices(&self) -> Result<SsdPlaces, PlaceError> {
        let belongs = self.places_of_cores();
        let whole: Vec<DiskPlace> = self.places.iter().map(|path| self.whole(path)).collect();
        let mut held = Vec::new();
        for place in &whole {
            held.push(hold(place).map_err(|source| PlaceError::Disk { path: place.path.clone(), source })?);
        }
        let there = self.places.iter().zip(&held).map(|(path, held)| self.read_table(path, held));
        let there = there.collect::<Result<Vec<_>, _>>()?;
        let tables = match self.are_undivided(&whole, &there)? {
            true => self.make_tables(&whole, &held, &belongs)?,
            false => self.join(there)?,
        };
        let place_of = |core: u16| {
            let parts = whole.iter().zip(&tables).map(|(place, table)| (place, table, table.part_of(core)));
            let mut parts =
                parts.filter_map(|(place, table, at)| Some((place.clone(), table.part_bytes, at?)));
            parts.next().map(|(place, bytes, at)| place.part(at, bytes)).expect("each core has a part")
        };
        let configs = (0..self.nodes.len() as u16).map(|core| self.config(place_of(core))).collect();
        Ok(SsdPlaces { configs, held })
    }

    /// A device has its size; a file may have to be made as large as it is to be.
    fn whole(&self, path: &Path) -> DiskPlace {
        match self.share() {
            Some(share) if !is_device(path) => DiskPlace::sized(path, share),
            _ => DiskPlace::existing(path),
        }
    }

    /// Bytes asked for of each place: whole sectors.
    fn share(&self) -> Option<u64> {
        self.bytes.map(|bytes| bytes / self.places.len() as u64 / SECTOR_BYTES * SECTOR_BYTES)
    }

    /// `None`: the device is empty.
    fn read_table(&self, path: &Path, held: &HeldDisk) -> Result<Option<PartTable>, PlaceError> {
        let beginning = held
            .read(0, PARTS_AT as usize)
            .map_err(|source| PlaceError::Disk { path: path.to_owned(), source })?;
        let copies = TABLES_AT.map(|at| &beginning[at as usize..][..SECTOR]);
        let path = path.to_owned();
        match PartTable::choose(copies, held.whole_bytes()) {
            Ok(table) => Ok(Some(table)),
            Err(FormatError::Magic(_)) if beginning.iter().all(|byte| *byte == 0) => Ok(None),
            Err(FormatError::Magic(_)) if is_volume(&beginning, held.whole_bytes()) => {
                Err(PlaceError::Undivided(path))
            }
            Err(FormatError::Magic(_)) => Err(PlaceError::Foreign(path)),
            Err(source) => Err(PlaceError::Format { path, source }),
        }
    }

    /// Whether they are new, or their division was interrupted: their tables do not belong together, and nobody has used any part that these name.
    fn are_undivided(&self, whole: &[DiskPlace], there: &[Option<PartTable>]) -> Result<bool, PlaceError> {
        let set = there.iter().flatten().next().map(|table| table.set);
        if there.iter().all(|table| table.as_ref().is_some_and(|table| Some(table.set) == set)) {
            return Ok(false);
        }
        for (place, table) in
            whole.iter().zip(there).filter_map(|(place, table)| Some((place, table.as_ref()?)))
        {
            let is_used = is_used(place, table);
            if is_used.map_err(|source| PlaceError::Disk { path: place.path.clone(), source })? {
                return Ok(false);
            }
        }
        if set.is_some() {
            log::warn!(
                "the devices of --ssd were not divided to the end, and nothing is on them: they are divided anew"
            );
        }
        Ok(true)
    }

    /// All devices are new, or as good as that.
    fn make_tables(
        &self,
        whole: &[DiskPlace],
        held: &[HeldDisk],
        belongs: &[usize],
    ) -> Result<Vec<PartTable>, PlaceError> {
        let set = SetId(random_id());
        let mut tables = Vec::new();
        for (index, (place, held)) in whole.iter().zip(held).enumerate() {
            let cores: Vec<u16> =
                (0_u16..).zip(belongs).filter(|(_, at)| **at == index).map(|(core, _)| core).collect();
            let bytes = self.bytes_used(&place.path, held.whole_bytes(), cores.len())?;
            let table = PartTable::of_disk(set, bytes, self.nodes.len() as u16, cores);
            tables.push(table.map_err(|source| PlaceError::Format { path: place.path.clone(), source })?);
        }
        for ((place, held), table) in whole.iter().zip(held).zip(&tables) {
            write_table(place, held, table)
                .map_err(|source| PlaceError::Disk { path: place.path.clone(), source })?;
            log::info!(
                "{}: divided among cores {:?}, {} each",
                place.path.display(),
                table.cores,
                ByteSize(table.part_bytes)
            );
        }
        Ok(tables)
    }

    /// Bytes of a device with so many that are divided among so many cores, if they will do.
    fn bytes_used(&self, path: &Path, there: u64, cores: usize) -> Result<u64, PlaceError> {
        let least = device_bytes_min(cores, self.settings.region_bytes);
        let wanted = self.share().unwrap_or(least);
        let path = path.to_owned();
        if wanted < least {
            let (given, wanted) = (ByteSize(wanted), ByteSize(least));
            return Err(PlaceError::SmallShare { path, given, wanted, cores });
        }
        if there < wanted {
            let (there, wanted) = (ByteSize(there), ByteSize(wanted));
            return Err(PlaceError::Small { path, there, wanted, cores });
        }
        Ok(self.share().unwrap_or(there))
    }

    /// The tables that are there, if they are for this engine and all of one set.
    fn join(&self, there: Vec<Option<PartTable>>) -> Result<Vec<PartTable>, PlaceError> {
        let set = there.iter().flatten().next().map(|table| table.set);
        let mut tables = Vec::new();
        let mut cores: Vec<u16> = Vec::new();
        for (path, table) in self.places.iter().zip(there) {
            let path = path.clone();
            let Some(table) = table.filter(|table| Some(table.set) == set) else {
                return Err(PlaceError::OtherSet(path));
            };
            if usize::from(table.engine_cores) != self.nodes.len() {
                let (there, wanted) = (table.engine_cores, self.nodes.len());
                return Err(PlaceError::OtherCores { path, there, wanted });
            }
            let asked = self.share().map(|share| PartTable::share_of(share, table.cores.len()));
            if let Some(wanted) = asked.filter(|wanted| *wanted != table.part_bytes) {
                let (there, wanted) = (ByteSize(table.part_bytes), ByteSize(wanted));
                return Err(PlaceError::OtherSize { path, there, wanted });
            }
            cores.extend(&table.cores);
            tables.push(table);
        }
        cores.sort_unstable();
        match cores.iter().copied().eq(0..self.nodes.len() as u16) {
            true => Ok(tables),
            false => Err(PlaceError::OtherSet(self.places[0].clone())),
        }
    }
}

/// Takes the place of the table, and with it the lock of the device, which may still be in use for a moment.
fn hold(place: &DiskPlace) -> io::Result<HeldDisk> {
    let table = place.clone().part(0, PARTS_AT);
    patiently_blocking(|| HeldDisk::open(&table), |error| error.kind() == io::ErrorKind::ResourceBusy)
}

/// Divides a device. What stood in its parts before, should it have been divided like that already, is no volume any more.
fn write_table(place: &DiskPlace, held: &HeldDisk, table: &PartTable) -> io::Result<()> {
    for (_, at) in table.parts() {
        let part = HeldDisk::open(&place.clone().part(at, table.part_bytes))?;
        SUPERBLOCKS_AT.iter().try_for_each(|at| part.write(*at, &[0; SECTOR]))?;
        part.flush()?;
    }
    let mut sector = [0; SECTOR];
    table.encode(&mut sector);
    for at in TABLES_AT {
        held.write(at, &sector)?;
        held.flush()?;
    }
    Ok(())
}

/// Whether a core has begun to use its part: the first that it writes are superblocks, where there were zeros.
fn is_used(place: &DiskPlace, table: &PartTable) -> io::Result<bool> {
    for (_, at) in table.parts() {
        let part = HeldDisk::open(&place.clone().part(at, table.part_bytes))?;
        for at in SUPERBLOCKS_AT {
            if part.read(at, SECTOR)?.iter().any(|byte| *byte != 0) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_volume(beginning: &[u8], disk_bytes: u64) -> bool {
    let copies = SUPERBLOCKS_AT.map(|at| &beginning[at as usize..][..SECTOR]);
    !matches!(Superblock::choose(copies, disk_bytes), Err(FormatError::Magic(_)))
}

fn file_name(core: usize) -> String {
    format!("core-{core}.snowskin")
}

/// A file in a folder that a core beyond so many has written.
fn file_beyond(folder: &Path, cores: usize) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.filter_map(Result::ok).map(|entry| entry.path()).find(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix("core-")?.strip_suffix(".snowskin"));
        number.and_then(|number| number.parse::<usize>().ok()).is_some_and(|core| core >= cores)
    })
}

fn random_id() -> [u8; 16] {
    let state = RandomState::new();
    let mut id = [0; 16];
    for (half, number) in id.chunks_exact_mut(8).zip(0_u64..) {
        half.copy_from_slice(&state.hash_one(number).to_le_bytes());
    }
    id
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
