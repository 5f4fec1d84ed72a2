//! The end of a region that is complete: an index of what it holds, so that a mount reads this alone.
//!
//! ```text
//!   │ … records │ nothing │ entries, to the end of a sector │ footer: one sector, the last of the region │
//!
//!   entry    0         8             16                    24             32       36      38     39        40
//!            ├ version ┼ value bytes ┼ checksum of value ──┼ written, ms ─┼ offset ┼ name ─┼ kind ┼ reserved┼ name
//!   footer   0     8        12       16       32         40        44              48                   56         60        …  120
//!            ├magic┼ format ┼ region ┼ volume ┼ sequence ┼ entries ┼ entries' bytes┼ their checksum ─────┼ end of ──┼ zeros ┼ checksum
//!                                                                                                          records
//! ```
//!
//! Entries stand in the order of the records. A tombstone has an entry of its own, without a value: it need not be read.

use super::{FORMAT_VERSION, FormatError, Kind, Record, Sequence, VolumeId, seal, unseal, whole_sectors};
use bytemuck::{Pod, Zeroable};
use snowskin_protocol::{Checksum, NameRef, Version};

const WHAT: &str = "footer";
const MAGIC: [u8; 8] = *b"SNOWFOOT";
const FIXED_BYTES: usize = size_of::<EntryFields>();

/// What a footer says of one record, or of one tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The record; of a tombstone: without a value.
    pub record: Record,
    /// Where it begins in its region, in bytes.
    pub offset: u32,
    /// The name.
    pub name: NameRef<'a>,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct EntryFields {
    version: Version,
    value_bytes: u64,
    value_checksum: Checksum,
    written_unix_ms: u64,
    offset: u32,
    name_bytes: u16,
    kind: u8,
    reserved: u8,
}

/// The footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Of which volume.
    pub volume: VolumeId,
    /// Of which region.
    pub region: u32,
    /// As the region's header has it.
    pub sequence: Sequence,
    /// How many entries there are.
    pub entries: u32,
    /// Their bytes.
    pub entries_bytes: u32,
    /// Of their bytes.
    pub entries_checksum: Checksum,
    /// Where records end in the region, in bytes.
    pub records_end: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Fields {
    magic: [u8; 8],
    format: u32,
    region: u32,
    volume: VolumeId,
    sequence: Sequence,
    entries: u32,
    entries_bytes: u32,
    entries_checksum: Checksum,
    records_end: u32,
    reserved: u32,
    padding: [u64; 7],
    checksum: u64,
}

const _: () = assert!(FIXED_BYTES == 40 && size_of::<Fields>() == 128);

impl Footer {
    /// Writes it to a sector.
    pub fn encode(&self, sector: &mut [u8]) {
        let fields = Fields {
            magic: MAGIC,
            format: FORMAT_VERSION,
            region: self.region,
            volume: self.volume,
            sequence: self.sequence,
            entries: self.entries,
            entries_bytes: self.entries_bytes,
            entries_checksum: self.entries_checksum,
            records_end: self.records_end,
            reserved: 0,
            padding: [0; _],
            checksum: 0,
        };
        sector.fill(0);
        let bytes = &mut sector[..size_of::<Fields>()];
        bytes.copy_from_slice(bytemuck::bytes_of(&fields));
        seal(bytes);
    }

    /// Reads the footer of a region of a volume, whose regions have so many bytes.
    pub fn decode(
        sector: &[u8],
        volume: VolumeId,
        region: u32,
        region_bytes: u64,
    ) -> Result<Self, FormatError> {
        let fields: Fields = unseal(WHAT, MAGIC, sector)?;
        if (fields.volume, fields.region) != (volume, region) {
            return Err(FormatError::Elsewhere(WHAT));
        }
        let footer = Footer {
            volume,
            region,
            sequence: fields.sequence,
            entries: fields.entries,
            entries_bytes: fields.entries_bytes,
            entries_checksum: fields.entries_checksum,
            records_end: fields.records_end,
        };
        let end = u64::from(fields.records_end) + whole_sectors(fields.entries_bytes.into());
        let makes_sense = fields.reserved == 0
            && fields.padding == [0; 7]
            && end + super::SECTOR_BYTES as u64 <= region_bytes;
        makes_sense.then_some(footer).ok_or(FormatError::Nonsense(WHAT))
    }

    /// Whether a sector that is no footer of this region was one before it was damaged.
    pub fn was_there(error: FormatError) -> bool {
        !matches!(error, FormatError::Magic(_) | FormatError::Elsewhere(_))
    }

    /// Where the entries begin in a region of so many bytes.
    pub fn entries_offset(&self, region_bytes: u64) -> u64 {
        region_bytes - super::SECTOR_BYTES as u64 - whole_sectors(self.entries_bytes.into())
    }
}

/// The entries of a footer, from the bytes that begin at [`Footer::entries_offset`].
pub fn entries_of<'e>(footer: &Footer, bytes: &'e [u8]) -> Result<Vec<Entry<'e>>, FormatError> {
    let bytes = bytes.get(..footer.entries_bytes as usize).ok_or(FormatError::Nonsense(WHAT))?;
    if Checksum::of(bytes) != footer.entries_checksum {
        return Err(FormatError::Checksum("index of the region"));
    }
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (entry, behind) = entry_of(rest).ok_or(FormatError::Nonsense("index of the region"))?;
        let end = u64::from(entry.offset) + entry.record.bytes(entry.name.bytes().len());
        if entry.record.kind == Kind::Value && end > footer.records_end.into() {
            return Err(FormatError::Nonsense("index of the region"));
        }
        entries.push(entry);
        rest = behind;
    }
    match entries.len() == footer.entries as usize {
        true => Ok(entries),
        false => Err(FormatError::Nonsense("index of the region")),
    }
}

fn entry_of(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (fixed, rest) = bytes.split_at_checked(FIXED_BYTES)?;
    let fields: EntryFields = bytemuck::pod_read_unaligned(fixed);
    let (name, rest) = rest.split_at_checked(fields.name_bytes.into())?;
    let kind = match (fields.kind, fields.value_bytes) {
        (1, 1..) => Kind::Value,
        (2, 0) => Kind::Tombstones,
        _ => return None,
    };
    let is_aligned = u64::from(fields.offset).is_multiple_of(super::SECTOR_BYTES as u64);
    if fields.reserved != 0 || !is_aligned || fields.value_bytes > super::REGION_BYTES_MAX {
        return None;
    }
    let record = Record {
        kind,
        version: fields.version,
        value_bytes: fields.value_bytes,
        checksum: fields.value_checksum,
        written_unix_ms: fields.written_unix_ms,
    };
    Some((Entry { record, offset: fields.offset, name: NameRef::parse(name).ok()? }, rest))
}

/// The index of a region that is being filled.
#[derive(Clone, Debug, Default)]
pub struct FooterWriter {
    bytes: Vec<u8>,
    entries: u32,
}

impl FooterWriter {
    /// Bytes that the end of the region takes with so many entries more, whose names have so many bytes together.
    pub fn sectors_bytes_with(&self, entries: usize, names_bytes: usize) -> u64 {
        let entries_bytes = self.bytes.len() + entries * FIXED_BYTES + names_bytes;
        whole_sectors(entries_bytes as u64) + super::SECTOR_BYTES as u64
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: &Entry<'_>) {
        let Entry { record, offset, name } = entry;
        let fields = EntryFields {
            version: record.version,
            value_bytes: record.value_bytes,
            value_checksum: record.checksum,
            written_unix_ms: record.written_unix_ms,
            offset: *offset,
            name_bytes: name.bytes().len() as u16,
            kind: match record.kind {
                Kind::Value => 1,
                Kind::Tombstones => 2,
            },
            reserved: 0,
        };
        self.bytes.extend_from_slice(bytemuck::bytes_of(&fields));
        self.bytes.extend_from_slice(name.bytes());
        self.entries += 1;
    }

    /// The same without records that are not there after all, by where they begin in the region.
    #[must_use]
    pub fn without(self, is_missing: impl Fn(u32) -> bool) -> FooterWriter {
        let mut others = FooterWriter { bytes: Vec::with_capacity(self.bytes.len()), entries: 0 };
        let mut rest = &self.bytes[..];
        while let Some((entry, behind)) = entry_of(rest) {
            if !is_missing(entry.offset) {
                others.push(&entry);
            }
            rest = behind;
        }
        assert!(rest.is_empty(), "what was pushed can be read");
        others
    }

    /// Entries so far.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Writes entries and footer as they stand at the end of a region; `sectors` has [`FooterWriter::sectors_bytes_with`] no more.
    pub fn encode(
        &self,
        (volume, region, sequence): (VolumeId, u32, Sequence),
        records_end: u32,
        sectors: &mut [u8],
    ) {
        let (entries, footer) = sectors.split_at_mut(sectors.len() - super::SECTOR_BYTES);
        entries[..self.bytes.len()].copy_from_slice(&self.bytes);
        entries[self.bytes.len()..].fill(0);
        let entries_checksum = Checksum::of(&self.bytes);
        let (entries, entries_bytes) = (self.entries, self.bytes.len() as u32);
        Footer { volume, region, sequence, entries, entries_bytes, entries_checksum, records_end }
            .encode(footer);
    }
}
