//! A record: an object with its name, or names that are of no more use.
//!
//! ```text
//!   0     8        12       16       32               40        48            56          64            72       76           78     79         80
//!   ├magic┼ format ┼ region ┼ volume ┼ the region's ──┼ version ┼ bytes of ───┼ checksum ─┼ written, ms ┼ offset ┼ bytes of ──┼ kind ┼ reserved ┼ checksum of
//!                                      sequence                   the value     of it                     in the   the name                       all this and
//!                                                                                                         region                                  the name
//!   88: name │ the last (bytes of the value mod 4096) bytes of the value │ zeros to the end of the sector │ the rest of the value
//! ```
//!
//! Values begin and end wherever they like, sectors do not: so the end of a value that fills no sector stands in the sectors of the head. What follows is
//! whole sectors, which go between medium and memory as they are. A value that is short is all head.
//!
//! A record of *tombstones* has as its value a list of names that mean nothing any more, in all earlier records: each is its length
//! (16 bits), the version of what is gone (64 bits), and the name.

use super::{FORMAT_VERSION, FormatError, SECTOR_BYTES, Sequence, VolumeId, whole_sectors};
use bytemuck::{Pod, Zeroable};
use snowskin_protocol::limits::NAME_BYTES_MAX;
use snowskin_protocol::{Checksum, NameRef, Version};

const WHAT: &str = "record";
const MAGIC: [u8; 8] = *b"SNOWRCRD";
const FIELDS_BYTES: usize = size_of::<Fields>();

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An object.
    Value,
    /// Names that are of no more use.
    Tombstones,
}

/// What is known of a record from its head. The name is apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub kind: Kind,
    /// Of the object; of tombstones: how many there are.
    pub version: Version,
    /// Bytes of the value.
    pub value_bytes: u64,
    /// Of the value.
    pub checksum: Checksum,
    /// When it was written, in milliseconds of Unix time.
    pub written_unix_ms: u64,
}

/// The place that a record is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Of which volume.
    pub volume: VolumeId,
    /// In which region.
    pub region: u32,
    /// Since which time.
    pub sequence: Sequence,
    /// Where in the region, in bytes.
    pub offset: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Fields {
    magic: [u8; 8],
    format: u32,
    region: u32,
    volume: VolumeId,
    sequence: Sequence,
    version: Version,
    value_bytes: u64,
    value_checksum: Checksum,
    written_unix_ms: u64,
    offset: u32,
    name_bytes: u16,
    kind: u8,
    reserved: u8,
    checksum: Checksum,
}

const _: () = assert!(FIELDS_BYTES == 88);

/// Bytes of a record: of its head, which has the end of the value; and of the body, the beginning of the value.
pub fn record_bytes(name_bytes: usize, value_bytes: u64) -> (u64, u64) {
    let end = value_bytes % SECTOR_BYTES as u64;
    (whole_sectors((FIELDS_BYTES + name_bytes) as u64 + end), value_bytes - end)
}

impl Record {
    /// Bytes of the whole record.
    pub fn bytes(&self, name_bytes: usize) -> u64 {
        let (head, body) = record_bytes(name_bytes, self.value_bytes);
        head + body
    }

    /// Writes the head into `head`, which has as many bytes: with `end`, what of the value is no whole sector. `name` is empty in tombstones.
    pub fn encode(&self, at: Head, name: &[u8], end: &[u8], head: &mut [u8]) {
        assert_eq!(end.len() as u64, self.value_bytes % SECTOR_BYTES as u64, "the end of the value");
        let fields = Fields {
            magic: MAGIC,
            format: FORMAT_VERSION,
            region: at.region,
            volume: at.volume,
            sequence: at.sequence,
            version: self.version,
            value_bytes: self.value_bytes,
            value_checksum: self.checksum,
            written_unix_ms: self.written_unix_ms,
            offset: at.offset,
            name_bytes: u16::try_from(name.len()).expect("a name is short"),
            kind: match self.kind {
                Kind::Value => 1,
                Kind::Tombstones => 2,
            },
            reserved: 0,
            checksum: Checksum(0),
        };
        let checksum = checksum_of(bytemuck::bytes_of(&fields), name);
        let fields = Fields { checksum, ..fields };
        let (name_at, end_at) = (FIELDS_BYTES, FIELDS_BYTES + name.len());
        head[..name_at].copy_from_slice(bytemuck::bytes_of(&fields));
        head[name_at..end_at].copy_from_slice(name);
        head[end_at..][..end.len()].copy_from_slice(end);
        head[end_at + end.len()..].fill(0);
    }

    /// Bytes of the head that begins with this sector, so that all of it can be read; a guess at most, nothing is checked but what bounds it.
    pub fn head_bytes(sector: &[u8]) -> Result<usize, FormatError> {
        let fields = fields_of(sector)?;
        Ok(record_bytes(usize::from(fields.name_bytes), fields.value_bytes).0 as usize)
    }

    /// The sequence that the head which begins with this sector has; a guess, of which [`Record::decode`] says whether it is right.
    pub fn sequence(sector: &[u8]) -> Result<Sequence, FormatError> {
        Ok(fields_of(sector)?.sequence)
    }

    /// Whether what is no head of a record of this place was one, and is not whole.
    pub fn was_there(error: FormatError) -> bool {
        !matches!(error, FormatError::Magic(_) | FormatError::Elsewhere(_))
    }

    /// Reads a head that was written at this place. Answers the name, and the end of the value.
    pub fn decode(head: &[u8], at: Head) -> Result<(Self, &[u8], &[u8]), FormatError> {
        let fields = fields_of(head)?;
        let name_bytes = usize::from(fields.name_bytes);
        let (head_bytes, _) = record_bytes(name_bytes, fields.value_bytes);
        let head = head.get(..head_bytes as usize).ok_or(FormatError::Nonsense(WHAT))?;
        let (name, rest) = head[FIELDS_BYTES..].split_at(name_bytes);
        if checksum_of(&head[..FIELDS_BYTES], name) != fields.checksum {
            return Err(FormatError::Checksum(WHAT));
        }
        let place = Head {
            volume: fields.volume,
            region: fields.region,
            sequence: fields.sequence,
            offset: fields.offset,
        };
        if place != at {
            return Err(FormatError::Elsewhere(WHAT));
        }
        let kind = match fields.kind {
            1 if NameRef::parse(name).is_ok() && fields.value_bytes > 0 => Kind::Value,
            2 if name.is_empty() => Kind::Tombstones,
            _ => return Err(FormatError::Nonsense(WHAT)),
        };
        let end = &rest[..(fields.value_bytes % SECTOR_BYTES as u64) as usize];
        let record = Record {
            kind,
            version: fields.version,
            value_bytes: fields.value_bytes,
            checksum: fields.value_checksum,
            written_unix_ms: fields.written_unix_ms,
        };
        Ok((record, name, end))
    }
}

/// The fields at the beginning of a head, with what must hold before anything else of it is believed.
fn fields_of(head: &[u8]) -> Result<Fields, FormatError> {
    let bytes = head.get(..FIELDS_BYTES).ok_or(FormatError::Nonsense(WHAT))?;
    let fields: Fields = bytemuck::pod_read_unaligned(bytes);
    if fields.magic != MAGIC {
        return Err(FormatError::Magic(WHAT));
    }
    if fields.format != FORMAT_VERSION {
        return Err(FormatError::Version(fields.format));
    }
    let is_too_long =
        usize::from(fields.name_bytes) > NAME_BYTES_MAX || fields.value_bytes > super::REGION_BYTES_MAX;
    if is_too_long || fields.reserved != 0 {
        return Err(FormatError::Nonsense(WHAT));
    }
    Ok(fields)
}

fn checksum_of(fields: &[u8], name: &[u8]) -> Checksum {
    Checksum::of_parts([&fields[..FIELDS_BYTES - size_of::<Checksum>()], name])
}

/// A name that is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone<'a> {
    /// Of what is gone.
    pub version: Version,
    /// The name.
    pub name: NameRef<'a>,
}

impl Tombstone<'_> {
    /// Adds it to the value of a record.
    pub fn push_to(&self, list: &mut Vec<u8>) {
        let name = self.name.bytes();
        list.extend_from_slice(&(name.len() as u16).to_le_bytes());
        list.extend_from_slice(&self.version.0.to_le_bytes());
        list.extend_from_slice(name);
    }
}

/// The tombstones in a record's value; an error where it makes no sense, after which nothing comes.
pub fn tombstones_of(list: &[u8]) -> impl Iterator<Item = Result<Tombstone<'_>, FormatError>> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest.take().filter(|list| !list.is_empty())?;
        Some(match tombstone_of(list) {
            Some((tombstone, behind)) => {
                rest = Some(behind);
                Ok(tombstone)
            }
            None => Err(FormatError::Nonsense("list of tombstones")),
        })
    })
}

fn tombstone_of(list: &[u8]) -> Option<(Tombstone<'_>, &[u8])> {
    let (bytes, list) = list.split_first_chunk::<2>()?;
    let (version, list) = list.split_first_chunk::<8>()?;
    let (name, rest) = list.split_at_checked(usize::from(u16::from_le_bytes(*bytes)))?;
    let name = NameRef::parse(name).ok()?;
    Some((Tombstone { version: Version(u64::from_le_bytes(*version)), name }, rest))
}
