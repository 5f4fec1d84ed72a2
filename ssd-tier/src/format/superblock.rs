//! What a volume is: written twice, in turn, so that a torn write leaves the other one.

use super::{
    FORMAT_VERSION, FormatError, Geometry, SECTOR_BYTES, SUPERBLOCKS_AT, Sequence, VolumeId, choose, seal,
    unseal,
};
use bytemuck::{Pod, Zeroable};
use snowskin_protocol::{CoreId, EngineId, Incarnation};

const WHAT: &str = "superblock";
const MAGIC: [u8; 8] = *b"SNOWTIER";

/// Whose records count: the last core that has taken the volume over. Opening it changes nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Which core.
    pub core: CoreId,
    /// In which life of its engine.
    pub incarnation: Incarnation,
    /// When, in milliseconds of Unix time.
    pub since_unix_ms: u64,
}

/// The superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Which volume this is.
    pub volume: VolumeId,
    /// How often it was written: of the two copies the higher one counts.
    pub generation: u64,
    /// How the volume is divided.
    pub geometry: Geometry,
    /// Regions with a lower sequence are free, whatever stands in them.
    pub floor: Sequence,
    /// How often the volume was opened.
    pub mounts: u64,
    /// Whose records count.
    pub owner: Owner,
}

/// ```text
///   0     8        12         16       32           40             48      56        60              64       72
///   ├magic┼ format ┼ reserved ┼ volume ┼ generation ┼ region bytes ┼ floor ┼ regions ┼ sector bytes ─┼ mounts ┼
///
///   72               80                  88                  96           98         104        120
///   ┼ owner's engine ┼ its incarnation ──┼ since when, ms ───┼ its core ──┼ reserved ┼ reserved ┼ checksum
/// ```
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Fields {
    magic: [u8; 8],
    format: u32,
    reserved: u32,
    volume: VolumeId,
    generation: u64,
    region_bytes: u64,
    floor: Sequence,
    regions: u32,
    sector_bytes: u32,
    mounts: u64,
    owner_engine: u64,
    owner_incarnation: u64,
    owner_since_unix_ms: u64,
    owner_core: u16,
    padding: [u8; 6],
    reserved_too: [u64; 2],
    checksum: u64,
}

const _: () = assert!(size_of::<Fields>() == 128);

impl Superblock {
    /// Where this copy belongs: they take turns.
    pub fn offset(&self) -> u64 {
        SUPERBLOCKS_AT[(self.generation % 2) as usize]
    }

    /// The next copy, with what `change` makes of it.
    #[must_use]
    pub fn next(&self, change: impl FnOnce(&mut Superblock)) -> Superblock {
        let mut next = Superblock { generation: self.generation + 1, ..*self };
        change(&mut next);
        next
    }

    /// Writes it to a sector.
    pub fn encode(&self, sector: &mut [u8]) {
        let fields = Fields {
            magic: MAGIC,
            format: FORMAT_VERSION,
            reserved: 0,
            volume: self.volume,
            generation: self.generation,
            region_bytes: self.geometry.region_bytes,
            floor: self.floor,
            regions: self.geometry.regions,
            sector_bytes: SECTOR_BYTES as u32,
            mounts: self.mounts,
            owner_engine: self.owner.core.engine.0,
            owner_incarnation: self.owner.incarnation.0,
            owner_since_unix_ms: self.owner.since_unix_ms,
            owner_core: self.owner.core.core,
            padding: [0; _],
            reserved_too: [0; _],
            checksum: 0,
        };
        sector.fill(0);
        let bytes = &mut sector[..size_of::<Fields>()];
        bytes.copy_from_slice(bytemuck::bytes_of(&fields));
        seal(bytes);
    }

    /// Reads one copy, of a disk of so many bytes.
    pub fn decode(sector: &[u8], disk_bytes: u64) -> Result<Self, FormatError> {
        let fields: Fields = unseal(WHAT, MAGIC, sector)?;
        if fields.sector_bytes != SECTOR_BYTES as u32
            || fields.reserved != 0
            || fields.padding != [0; 6]
            || fields.reserved_too != [0; 2]
        {
            return Err(FormatError::Nonsense(WHAT));
        }
        let geometry = Geometry { region_bytes: fields.region_bytes, regions: fields.regions };
        Ok(Superblock {
            volume: fields.volume,
            generation: fields.generation,
            geometry: geometry.checked(disk_bytes)?,
            floor: fields.floor,
            mounts: fields.mounts,
            owner: Owner {
                core: CoreId { engine: EngineId(fields.owner_engine), core: fields.owner_core },
                incarnation: Incarnation(fields.owner_incarnation),
                since_unix_ms: fields.owner_since_unix_ms,
            },
        })
    }

    /// Reads the copy of a place, 0 or 1, which must belong there.
    pub fn decode_at(sector: &[u8], place: usize, disk_bytes: u64) -> Result<Self, FormatError> {
        let block = Superblock::decode(sector, disk_bytes)?;
        let is_here = block.generation % 2 == place as u64;
        is_here.then_some(block).ok_or(FormatError::Elsewhere(WHAT))
    }

    /// Whether the copy of a place is damaged. One that was never written is none.
    pub fn is_damaged(sector: &[u8], place: usize, disk_bytes: u64) -> bool {
        let is_whole = Superblock::decode_at(sector, place, disk_bytes).is_ok();
        !is_whole && sector.iter().any(|byte| *byte != 0)
    }

    /// Of the two copies, in the order of their places, the one that counts: the whole one with the higher generation, each in its own place.
    ///
    /// If none is whole: why not, of the first; that of another version before all else, and that there is none at all after all else.
    pub fn choose(copies: [&[u8]; 2], disk_bytes: u64) -> Result<Self, FormatError> {
        let read = |place: usize| Superblock::decode_at(copies[place], place, disk_bytes);
        choose([read(0), read(1)], |one, other| one.generation > other.generation)
    }
}
