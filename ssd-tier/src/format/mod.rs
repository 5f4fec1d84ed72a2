//! What stands on the medium, byte by byte: `docs/FORMAT.md` has the same with its reasons.
//!
//! ```text
//!   disk     │ table of parts, twice │ nothing, to 1 MiB │ volume of a core │ volume of a core │ …      if cores share it
//!   volume   │ superblock │ superblock │ nothing, to 1 MiB │ region 0 │ region 1 │ …
//!   region   │ header │ record │ record │ …        │ nothing │ index │ footer │       64 MiB unless told otherwise
//!   record   │ fields │ name │ end of the value │ 0 │ the rest of the value, in whole sectors │
//! ```
//!
//! Everything begins at a sector of [`SECTOR_BYTES`]. All numbers are little-endian. Each structure has a magic, the version of the format, the volume it
//! belongs to, its own place, and a checksum over all of that: bytes that come from another place, another volume or another time are not
//! taken for what was asked.
//!
//! Plain code over slices: no I/O. Tools use nothing but this module.

mod footer;
mod parts;
mod record;
mod region;
mod superblock;

pub use footer::{Entry, Footer, FooterWriter, entries_of};
pub use parts::{PARTS_AT, PARTS_MAX, PartTable, SetId, TABLES_AT};
pub use record::{Head, Kind, Record, Tombstone, record_bytes, tombstones_of};
pub use region::RegionHeader;
pub use superblock::{Owner, Superblock};

use bytemuck::{Pod, Zeroable};
use snowskin_protocol::Checksum;

/// Bytes of a sector: every structure begins at one, and devices write them whole.
pub const SECTOR_BYTES: usize = 4096;
/// The version of the format that is written, and the only one that is read.
pub const FORMAT_VERSION: u32 = 1;
/// Where the two superblocks are.
pub const SUPERBLOCKS_AT: [u64; 2] = [0, SECTOR_BYTES as u64];
/// Where the first region begins: a multiple of all sizes in which devices erase or allocate.
pub const REGIONS_AT: u64 = 1 << 20;
/// Bytes of a region unless told otherwise: the unit of writing in order and of reclaim.
pub const REGION_BYTES_DEFAULT: u64 = 64 << 20;
/// The smallest region: a header, a record of one sector, its index, a footer.
pub const REGION_BYTES_MIN: u64 = 4 * SECTOR_BYTES as u64;
/// The largest: offsets within a region are 32 bits.
pub const REGION_BYTES_MAX: u64 = 1 << 31;

/// Which volume something belongs to: drawn at random when the volume is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(transparent)]
pub struct VolumeId(pub [u8; 16]);

impl VolumeId {
    /// Its beginning, for logs. All of it is for who may read the disk: whoever knows it could make up records.
    pub fn mark(self) -> impl std::fmt::Display {
        let [a, b, c, d, ..] = self.0;
        format!("volume {a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

impl std::fmt::Display for VolumeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// When a region was opened, in the order of the whole volume, from 1. The later of two records of a name is the one that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The one behind it.
    #[must_use]
    pub fn next(self) -> Self {
        Sequence(self.0 + 1)
    }
}

/// How a volume is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of each region, a multiple of a sector.
    pub region_bytes: u64,
    /// How many there are.
    pub regions: u32,
}

impl Geometry {
    /// As many regions as fit onto a disk.
    pub fn of_disk(disk_bytes: u64, region_bytes: u64) -> Result<Self, FormatError> {
        let regions = disk_bytes.saturating_sub(REGIONS_AT) / region_bytes.max(1);
        let geometry = Geometry { region_bytes, regions: u32::try_from(regions).unwrap_or(u32::MAX) };
        geometry.checked(disk_bytes)
    }

    /// Whether it makes sense, on a disk of so many bytes.
    pub fn checked(self, disk_bytes: u64) -> Result<Self, FormatError> {
        let Geometry { region_bytes, regions } = self;
        let is_possible = (REGION_BYTES_MIN..=REGION_BYTES_MAX).contains(&region_bytes)
            && region_bytes.is_multiple_of(SECTOR_BYTES as u64)
            && regions >= 2
            && self.end_of_regions() <= disk_bytes;
        is_possible.then_some(self).ok_or(FormatError::Geometry { region_bytes, regions, disk_bytes })
    }

    /// Where a region begins on the disk.
    pub fn region_at(self, region: u32) -> u64 {
        REGIONS_AT + u64::from(region) * self.region_bytes
    }

    fn end_of_regions(self) -> u64 {
        REGIONS_AT.saturating_add(u64::from(self.regions).saturating_mul(self.region_bytes))
    }

    /// Where a region's footer begins, counted from the region's beginning.
    pub fn footer_offset(self) -> u64 {
        self.region_bytes - SECTOR_BYTES as u64
    }
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The magic is another one: nothing of this kind was ever written there, or it is damaged.
    #[error("there is no {0} here")]
    Magic(&'static str),
    /// A later version of Snowskin has written it, or an earlier one.
    #[error(
        "this is format version {0}, and this program knows version {FORMAT_VERSION} only: use the program that has written it"
    )]
    Version(u32),
    /// The checksum does not match.
    #[error("the checksum of the {0} does not match: it is damaged")]
    Checksum(&'static str),
    /// It is whole, and belongs to another place, region, time or volume.
    #[error("the {0} belongs to another place, time or volume")]
    Elsewhere(&'static str),
    /// Its fields contradict each other.
    #[error("the {0} makes no sense")]
    Nonsense(&'static str),
    /// A disk cannot be divided among cores like that.
    #[error(
        "{parts} parts of {part_bytes} bytes on a disk of {disk_bytes}: parts are whole MiB, one at least, and begin behind the first MiB"
    )]
    Parts {
        /// How many.
        parts: u32,
        /// Of each.
        part_bytes: u64,
        /// Of the disk.
        disk_bytes: u64,
    },
    /// A disk cannot be divided like that.
    #[error(
        "{regions} regions of {region_bytes} bytes on a disk of {disk_bytes}: regions have 16 KiB to 2 GiB, in multiples of 4 KiB, \
         there are two at least, and they begin behind the first MiB"
    )]
    Geometry {
        /// Of each region.
        region_bytes: u64,
        /// How many.
        regions: u32,
        /// Of the disk.
        disk_bytes: u64,
    },
}

/// Bytes rounded up to whole sectors.
pub fn whole_sectors(bytes: u64) -> u64 {
    bytes.next_multiple_of(SECTOR_BYTES as u64)
}

/// Writes the checksum of all bytes before the last eight into these.
fn seal(bytes: &mut [u8]) {
    let (checked, checksum) = bytes.split_at_mut(bytes.len() - size_of::<Checksum>());
    checksum.copy_from_slice(bytemuck::bytes_of(&Checksum::of(checked)));
}

/// Reads a structure at the beginning of `sector`, after magic, version and checksum have been checked. Each begins with a magic and
/// a version, and ends with a checksum of all before it.
fn unseal<T: Pod>(what: &'static str, magic: [u8; 8], sector: &[u8]) -> Result<T, FormatError> {
    let bytes = sector.get(..size_of::<T>()).ok_or(FormatError::Nonsense(what))?;
    if bytes[..8] != magic {
        return Err(FormatError::Magic(what));
    }
    let version = u32::from_le_bytes(*bytes[8..].first_chunk().expect("longer than that"));
    let (checked, checksum) = bytes.split_at(bytes.len() - size_of::<Checksum>());
    // With our version in its place: a version that is damaged is no other version.
    let ours = Checksum::of_parts([&checked[..8], &FORMAT_VERSION.to_le_bytes(), &checked[12..]]);
    let is_whole = checksum == bytemuck::bytes_of(&ours);
    if version != FORMAT_VERSION {
        return Err(if is_whole { FormatError::Checksum(what) } else { FormatError::Version(version) });
    }
    if !is_whole {
        return Err(FormatError::Checksum(what));
    }
    Ok(bytemuck::pod_read_unaligned(bytes))
}

/// Of what two copies say the one that counts: the whole one, or of two whole ones the second if it `is_newer`.
///
/// A whole copy of another version counts before all else: its program knows what this one does not. If none is whole: why not, of the first; that
/// nothing was ever written only if that is so in both places.
fn choose<T>(
    copies: [Result<T, FormatError>; 2],
    is_newer: impl FnOnce(&T, &T) -> bool,
) -> Result<T, FormatError> {
    match copies {
        [Err(error @ FormatError::Version(_)), _] | [_, Err(error @ FormatError::Version(_))] => Err(error),
        [Ok(first), Ok(second)] => Ok(if is_newer(&second, &first) { second } else { first }),
        [Ok(whole), Err(_)] | [Err(_), Ok(whole)] => Ok(whole),
        [Err(FormatError::Magic(_)), Err(error)] | [Err(error), Err(_)] => Err(error),
    }
}

// Numbers are written as they are in memory.
const _: () = assert!(cfg!(target_endian = "little"));

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
