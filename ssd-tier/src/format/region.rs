//! The first sector of a region: since when it is written to.

use super::{FORMAT_VERSION, FormatError, Sequence, VolumeId, seal, unseal};
use bytemuck::{Pod, Zeroable};

const WHAT: &str = "region header";
const MAGIC: [u8; 8] = *b"SNOWREGN";

/// The header of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionHeader {
    /// Of which volume.
    pub volume: VolumeId,
    /// Which region.
    pub region: u32,
    /// When it was opened.
    pub sequence: Sequence,
    /// The same in milliseconds of Unix time.
    pub opened_unix_ms: u64,
}

/// ```text
///   0     8        12       16       32         40             48         56
///   ├magic┼ format ┼ region ┼ volume ┼ sequence ┼ opened, ms ──┼ reserved ┼ checksum
/// ```
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Fields {
    magic: [u8; 8],
    format: u32,
    region: u32,
    volume: VolumeId,
    sequence: Sequence,
    opened_unix_ms: u64,
    reserved: u64,
    checksum: u64,
}

const _: () = assert!(size_of::<Fields>() == 64);

impl RegionHeader {
    /// Writes it to a sector.
    pub fn encode(&self, sector: &mut [u8]) {
        let RegionHeader { volume, region, sequence, opened_unix_ms } = *self;
        let (magic, format) = (MAGIC, FORMAT_VERSION);
        let fields =
            Fields { magic, format, region, volume, sequence, opened_unix_ms, reserved: 0, checksum: 0 };
        sector.fill(0);
        let bytes = &mut sector[..size_of::<Fields>()];
        bytes.copy_from_slice(bytemuck::bytes_of(&fields));
        seal(bytes);
    }

    /// Reads the header of a region of a volume.
    pub fn decode(sector: &[u8], volume: VolumeId, region: u32) -> Result<Self, FormatError> {
        let fields: Fields = unseal(WHAT, MAGIC, sector)?;
        if (fields.volume, fields.region) != (volume, region) {
            return Err(FormatError::Elsewhere(WHAT));
        }
        if fields.reserved != 0 || fields.sequence == Sequence(0) {
            return Err(FormatError::Nonsense(WHAT));
        }
        Ok(RegionHeader { volume, region, sequence: fields.sequence, opened_unix_ms: fields.opened_unix_ms })
    }

    /// Whether a sector that is no header of a region of this volume was one before it was damaged, or is one that went astray. What a disk held
    /// before it had this volume says nothing, nor do zeros.
    pub fn was_there(sector: &[u8], volume: VolumeId, region: u32) -> bool {
        match RegionHeader::decode(sector, volume, region) {
            Ok(_) => false,
            Err(FormatError::Checksum(_) | FormatError::Nonsense(_)) => true,
            Err(_) => sector.windows(volume.0.len()).any(|bytes| bytes == volume.0),
        }
    }
}
