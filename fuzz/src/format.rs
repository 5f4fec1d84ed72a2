//! The decoders of the SSD tier's format: none panics, and what one accepts, its encoder would have written.
//!
//! Each function takes the fuzzer's bytes as they are, and then with magic, version and checksums put right, so that the fuzzer gets behind
//! them. What binds a structure to its place is taken from the bytes themselves.

use snowskin_protocol::{Checksum, NameRef};
use snowskin_ssd_tier::format::{
    FORMAT_VERSION, Footer, FooterWriter, FormatError, Head, Kind, PARTS_AT, PartTable, REGION_BYTES_DEFAULT,
    Record, RegionHeader, SECTOR_BYTES, Sequence, Superblock, VolumeId, entries_of, record_bytes,
    tombstones_of,
};

/// Bytes of structures, with their checksums at the end.
const TABLE_BYTES: usize = 2104;
const SUPERBLOCK_BYTES: usize = 128;
const HEADER_BYTES: usize = 64;
const FOOTER_BYTES: usize = 128;
/// Bytes of a record's fields, and where in them the checksum is.
const RECORD_BYTES: usize = 88;
const RECORD_CHECKSUM_AT: usize = 80;
/// Bytes of the longest head.
const HEAD_BYTES_MAX: usize = 3 * SECTOR_BYTES;
const DISK_BYTES: u64 = 1 << 40;

/// Panics when something does not hold for an input.
pub type Oracle = fn(&[u8]);

/// What is to be tried: the name of its corpus, and its function.
pub const TARGETS: [(&str, Oracle); 6] = [
    ("part_table", part_table),
    ("superblock", superblock),
    ("region_header", region_header),
    ("record", record),
    ("footer", footer),
    ("tombstones", tombstones),
];

/// One copy of a table of parts.
pub fn part_table(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), sealed(bytes, TABLE_BYTES, *b"SNOWPART")] {
        let decoded = PartTable::decode(&bytes, DISK_BYTES);
        assert_eq!(PartTable::choose([&bytes, &bytes], DISK_BYTES), decoded);
        let Ok(table) = decoded else { continue };
        let mut end = PARTS_AT;
        for (core, at) in table.parts() {
            assert!(at == end && core < table.engine_cores, "parts lie one behind the other");
            assert_eq!(table.part_of(core), Some(at), "each core has one");
            end += table.part_bytes;
        }
        assert!(end > PARTS_AT && end <= DISK_BYTES);
        written_again(&bytes[..TABLE_BYTES], |sector| table.encode(sector));
    }
}

/// One copy of a superblock.
pub fn superblock(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), sealed(bytes, SUPERBLOCK_BYTES, *b"SNOWTIER")] {
        let decoded = Superblock::decode(&bytes, DISK_BYTES);
        let chosen = Superblock::choose([&bytes, &bytes], DISK_BYTES);
        match decoded {
            Ok(block) => {
                assert_eq!(chosen, Ok(block), "one of two equal copies stands in its place");
                assert_eq!(block.geometry.checked(DISK_BYTES), Ok(block.geometry));
                let last = block.geometry.region_at(block.geometry.regions - 1);
                assert!(last + block.geometry.region_bytes <= DISK_BYTES);
                written_again(&bytes[..SUPERBLOCK_BYTES], |sector| block.encode(sector));
            }
            Err(error) => assert_eq!(chosen, Err(error)),
        }
    }
}

/// The header of a region.
pub fn region_header(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), sealed(bytes, HEADER_BYTES, *b"SNOWREGN")] {
        let (volume, region) = place_in(&bytes);
        if let Ok(header) = RegionHeader::decode(&bytes, volume, region) {
            written_again(&bytes[..HEADER_BYTES], |sector| header.encode(sector));
            let other = RegionHeader::decode(&bytes, volume, region ^ 1);
            assert_eq!(other, Err(FormatError::Elsewhere("region header")));
        }
    }
}

/// The head of a record; zeros follow.
pub fn record(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), sealed_record(bytes)] {
        let mut head = bytes.clone();
        head.resize(bytes.len().max(HEAD_BYTES_MAX), 0);
        let _ = Record::head_bytes(&bytes);
        let (volume, region) = place_in(&head);
        let sequence = Sequence(u64::from_le_bytes(part(&head, 32)));
        let offset = u32::from_le_bytes(part(&head, 72));
        let at = Head { volume, region, sequence, offset };
        let _ = Record::decode(&bytes, at);
        let Ok((record, name, end)) = Record::decode(&head, at) else { continue };
        let (head_bytes, _) = record_bytes(name.len(), record.value_bytes);
        assert_eq!(Record::head_bytes(&head), Ok(head_bytes as usize));
        assert!(record.kind == Kind::Tombstones || NameRef::parse(name).is_ok());
        let used = RECORD_BYTES + name.len() + end.len();
        let mut again = vec![0xee; head_bytes as usize];
        record.encode(at, name, end, &mut again);
        assert!(again[..used] == head[..used], "{record:?} is written otherwise than it was read");
        assert!(again[used..].iter().all(|&byte| byte == 0), "{record:?} has no zeros behind it");
        let elsewhere = Record::decode(&head, Head { offset: offset ^ 4096, ..at });
        assert_eq!(elsewhere, Err(FormatError::Elsewhere("record")));
    }
}

/// A footer (128 bytes), then its index.
pub fn footer(bytes: &[u8]) {
    let Some((foot, index)) = bytes.split_at_checked(FOOTER_BYTES) else {
        let _ = Footer::decode(bytes, VolumeId::default(), 0, REGION_BYTES_DEFAULT);
        return;
    };
    let mut right = foot.to_vec();
    right[44..48].copy_from_slice(&(index.len() as u32).to_le_bytes());
    right[48..56].copy_from_slice(&Checksum::of(index).0.to_le_bytes());
    for foot in [foot.to_vec(), sealed(&right, FOOTER_BYTES, *b"SNOWFOOT")] {
        let (volume, region) = place_in(&foot);
        let Ok(footer) = Footer::decode(&foot, volume, region, REGION_BYTES_DEFAULT) else { continue };
        written_again(&foot, |sector| footer.encode(sector));
        assert!(footer.entries_offset(REGION_BYTES_DEFAULT) >= u64::from(footer.records_end));
        let Ok(entries) = entries_of(&footer, index) else { continue };
        let mut writer = FooterWriter::default();
        entries.iter().for_each(|entry| writer.push(entry));
        assert_eq!(writer.entries(), footer.entries);
        let mut sectors = vec![0xee; writer.sectors_bytes_with(0, 0) as usize];
        writer.encode((volume, region, footer.sequence), footer.records_end, &mut sectors);
        let (again, foot_again) = sectors.split_at(sectors.len() - SECTOR_BYTES);
        let (used, rest) = again.split_at(footer.entries_bytes as usize);
        assert!(used == &index[..used.len()], "an index is written otherwise than it was read");
        assert!(rest.iter().all(|&byte| byte == 0) && foot_again[..FOOTER_BYTES] == foot);
    }
}

/// A list of tombstones.
pub fn tombstones(bytes: &[u8]) {
    let mut again = Vec::new();
    let mut is_over = false;
    for tombstone in tombstones_of(bytes) {
        assert!(!is_over, "nothing comes after an error");
        match tombstone {
            Ok(tombstone) => tombstone.push_to(&mut again),
            Err(_) => is_over = true,
        }
    }
    assert!(bytes.starts_with(&again), "tombstones are written otherwise than they were read");
    assert_eq!(is_over, again.len() < bytes.len());
}

/// Volume and region, as a structure says itself.
fn place_in(bytes: &[u8]) -> (VolumeId, u32) {
    (VolumeId(part(bytes, 16)), u32::from_le_bytes(part(bytes, 12)))
}

/// Bytes at a place, or zeros if there are not so many.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

/// The same with the right magic and version, so many bytes, and a checksum in the last eight of them.
fn sealed(bytes: &[u8], count: usize, magic: [u8; 8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    sealed.resize(count, 0);
    sealed[..8].copy_from_slice(&magic);
    sealed[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let checksum = Checksum::of(&sealed[..count - 8]);
    sealed[count - 8..].copy_from_slice(&checksum.0.to_le_bytes());
    sealed
}

fn sealed_record(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    sealed.resize(bytes.len().max(RECORD_BYTES), 0);
    sealed[..8].copy_from_slice(b"SNOWRCRD");
    sealed[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let name_bytes = usize::from(u16::from_le_bytes(part(&sealed, 76)));
    sealed.resize(sealed.len().max(RECORD_BYTES + name_bytes), 0);
    let parts = [&sealed[..RECORD_CHECKSUM_AT], &sealed[RECORD_BYTES..][..name_bytes]];
    let checksum = Checksum::of_parts(parts);
    sealed[RECORD_CHECKSUM_AT..RECORD_BYTES].copy_from_slice(&checksum.0.to_le_bytes());
    sealed
}

fn written_again(bytes: &[u8], encode: impl FnOnce(&mut [u8])) {
    let mut again = vec![0xee; bytes.len()];
    encode(&mut again);
    assert!(again == bytes, "{again:02x?} is written where {bytes:02x?} was read");
}
