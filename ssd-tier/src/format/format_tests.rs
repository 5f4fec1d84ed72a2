//! Structures beside what they were made of; any bytes at all; every bit flipped.

use super::*;
use quickcheck::{Arbitrary, Gen, quickcheck};
use snowskin_protocol::{CoreId, EngineId, Incarnation, NameRef, ObjectName, Version};

const VOLUME: VolumeId = VolumeId(*b"0123456789abcdef");
const DISK_BYTES: u64 = 1 << 40;

fn sector() -> Vec<u8> {
    vec![0xee; SECTOR_BYTES]
}

fn superblock(generation: u64) -> Superblock {
    Superblock {
        volume: VOLUME,
        generation,
        geometry: Geometry { region_bytes: REGION_BYTES_DEFAULT, regions: 100 },
        floor: Sequence(7),
        mounts: 3,
        owner: Owner {
            core: CoreId { engine: EngineId(0x1234), core: 5 },
            incarnation: Incarnation(9),
            since_unix_ms: 1_700_000_000_000,
        },
    }
}

fn name(key: &[u8]) -> ObjectName {
    ObjectName::new("default", key).expect("a name")
}

fn at(offset: u32) -> Head {
    Head { volume: VOLUME, region: 4, sequence: Sequence(11), offset }
}

fn value_record(value: &[u8]) -> Record {
    Record {
        kind: Kind::Value,
        version: Version(77),
        value_bytes: value.len() as u64,
        checksum: snowskin_protocol::Checksum::of(value),
        written_unix_ms: 1_700_000_000_123,
    }
}

/// The head of a record of this value.
fn head(name: NameRef<'_>, value: &[u8], at: Head) -> Vec<u8> {
    let (head_bytes, body_bytes) = record_bytes(name.bytes().len(), value.len() as u64);
    let mut head = vec![0xee; head_bytes as usize];
    value_record(value).encode(at, name.bytes(), &value[body_bytes as usize..], &mut head);
    head
}

#[test]
fn superblocks_are_read_back_and_the_later_one_counts() {
    let [mut old, mut new] = [sector(), sector()];
    superblock(8).encode(&mut old);
    let next = superblock(8).next(|block| block.floor = Sequence(8));
    next.encode(&mut new);
    assert_eq!((superblock(8).offset(), next.offset()), (0, 4096));
    assert_eq!(Superblock::decode(&old, DISK_BYTES), Ok(superblock(8)));
    assert_eq!(Superblock::choose([&old, &new], DISK_BYTES), Ok(next));
    // A torn one leaves the other.
    new[40] ^= 1;
    assert_eq!(Superblock::choose([&old, &new], DISK_BYTES), Ok(superblock(8)));
    // One that stands in the other's place is none.
    assert_eq!(Superblock::choose([&new, &old], DISK_BYTES), Err(FormatError::Checksum("superblock")));
    let mut third = sector();
    superblock(10).encode(&mut third);
    // Where one copy was never written the other one tells more.
    assert_eq!(
        Superblock::choose([&sector(), &third], DISK_BYTES),
        Err(FormatError::Elsewhere("superblock"))
    );
}

#[test]
fn another_version_is_refused_and_named() {
    let mut block = sector();
    superblock(8).encode(&mut block);
    let first = block.clone();
    block[8] = 2;
    // A version that is damaged is damage.
    assert_eq!(Superblock::choose([&block, &sector()], DISK_BYTES), Err(FormatError::Checksum("superblock")));
    let mut second = sector();
    superblock(9).encode(&mut second);
    assert_eq!(Superblock::choose([&block, &second], DISK_BYTES), Ok(superblock(9)));
    seal(&mut block[..128]);
    let error = Superblock::choose([&block, &second], DISK_BYTES).unwrap_err();
    assert!(error == FormatError::Version(2) && error.to_string().contains("version 2"), "{error}");
    assert!(Superblock::decode(&first, DISK_BYTES).is_ok());
}

#[test]
fn a_volume_that_is_larger_than_its_disk_is_refused() {
    let mut block = sector();
    superblock(8).encode(&mut block);
    let error = Superblock::decode(&block, 1 << 30).unwrap_err();
    assert!(matches!(error, FormatError::Geometry { regions: 100, .. }), "{error}");
    for (disk, region) in
        [(1 << 30, 0), (1 << 30, 4096), (1 << 30, 5000 * 4), (1 << 20, 64 << 20), (100 << 20, 64 << 20)]
    {
        assert!(Geometry::of_disk(disk, region).is_err(), "{region} on {disk}");
    }
    assert_eq!(Geometry::of_disk(1 << 30, 64 << 20).map(|geometry| geometry.regions), Ok(15));
}

#[test]
fn a_record_is_bound_to_its_place() {
    let object = name(b"key");
    let value = vec![5; 9_000];
    let head = head(object.as_ref(), &value, at(4096));
    let (record, found, end) = Record::decode(&head, at(4096)).unwrap();
    assert_eq!((record, found, end), (value_record(&value), object.as_ref().bytes(), &value[8192..]));
    let others = [
        Head { volume: VolumeId::default(), ..at(4096) },
        Head { region: 5, ..at(4096) },
        Head { sequence: Sequence(12), ..at(4096) },
        at(8192),
    ];
    for other in others {
        assert_eq!(Record::decode(&head, other), Err(FormatError::Elsewhere("record")), "{other:?}");
    }
}

#[test]
fn every_bit_of_a_head_counts() {
    let object = name(b"a key");
    let mut head = head(object.as_ref(), &[9; 100], at(0));
    for bit in 0..(88 + object.as_ref().bytes().len()) * 8 {
        head[bit / 8] ^= 1 << (bit % 8);
        assert!(Record::decode(&head, at(0)).is_err(), "bit {bit}");
        head[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(Record::decode(&head, at(0)).is_ok());
}

#[test]
fn every_bit_of_headers_superblocks_and_footers_counts() {
    let header = RegionHeader { volume: VOLUME, region: 4, sequence: Sequence(11), opened_unix_ms: 1 };
    let [mut block, mut region, mut foot] = [sector(), sector(), sector()];
    superblock(8).encode(&mut block);
    header.encode(&mut region);
    let footer = Footer {
        volume: VOLUME,
        region: 4,
        sequence: Sequence(11),
        entries: 0,
        entries_bytes: 0,
        entries_checksum: snowskin_protocol::Checksum::of(&[]),
        records_end: 8192,
    };
    footer.encode(&mut foot);
    assert_eq!(RegionHeader::decode(&region, VOLUME, 4), Ok(header));
    assert_eq!(Footer::decode(&foot, VOLUME, 4, REGION_BYTES_DEFAULT), Ok(footer));
    assert_eq!(entries_of(&footer, &[]), Ok(Vec::new()));
    for bit in 0..128 * 8 {
        let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
        flip(&mut block);
        flip(&mut foot);
        assert!(Superblock::decode(&block, DISK_BYTES).is_err(), "superblock, bit {bit}");
        assert!(Footer::decode(&foot, VOLUME, 4, REGION_BYTES_DEFAULT).is_err(), "footer, bit {bit}");
        flip(&mut block);
        flip(&mut foot);
        if bit < 64 * 8 {
            flip(&mut region);
            assert!(RegionHeader::decode(&region, VOLUME, 4).is_err(), "region header, bit {bit}");
            flip(&mut region);
        }
    }
    assert_eq!(RegionHeader::decode(&region, VOLUME, 5), Err(FormatError::Elsewhere("region header")));
    assert_eq!(Footer::decode(&foot, VOLUME, 5, 1 << 26), Err(FormatError::Elsewhere("footer")));
}

/// A record as a footer lists it.
#[derive(Clone, Debug)]
struct Listed {
    record: Record,
    offset: u32,
    name: ObjectName,
}

impl Arbitrary for Listed {
    fn arbitrary(g: &mut Gen) -> Self {
        let key: Vec<u8> = (0..1 + u8::arbitrary(g) % 40).map(|_| u8::arbitrary(g) | 1).collect();
        let kind = if bool::arbitrary(g) { Kind::Value } else { Kind::Tombstones };
        let value_bytes = if kind == Kind::Value { 1 + u64::arbitrary(g) % 100_000 } else { 0 };
        let record = Record {
            kind,
            version: Version(u64::arbitrary(g)),
            value_bytes,
            checksum: snowskin_protocol::Checksum(u64::arbitrary(g)),
            written_unix_ms: u64::arbitrary(g),
        };
        Listed { record, offset: (u32::arbitrary(g) % 1000) * 4096, name: name(&key) }
    }
}

quickcheck! {
    fn footers_list_what_was_written(listed: Vec<Listed>) -> bool {
        let mut writer = FooterWriter::default();
        let mut names_bytes = 0;
        let entries: Vec<Entry<'_>> = listed
            .iter()
            .map(|Listed { record, offset, name }| Entry { record: *record, offset: *offset, name: name.as_ref() })
            .collect();
        for entry in &entries {
            writer.push(entry);
            names_bytes += entry.name.bytes().len();
        }
        let bytes = FooterWriter::default().sectors_bytes_with(entries.len(), names_bytes);
        assert_eq!(writer.sectors_bytes_with(0, 0), bytes);
        let mut sectors = vec![0xee; bytes as usize];
        let region_bytes = REGION_BYTES_DEFAULT;
        writer.encode((VOLUME, 4, Sequence(11)), 32 << 20, &mut sectors);
        let (index, foot) = sectors.split_at(sectors.len() - SECTOR_BYTES);
        let footer = Footer::decode(foot, VOLUME, 4, region_bytes).unwrap();
        assert_eq!(footer.entries_offset(region_bytes) + bytes, region_bytes);
        entries_of(&footer, index) == Ok(entries)
    }

    fn an_index_that_is_damaged_is_refused(listed: Vec<Listed>, bit: usize) -> bool {
        let mut writer = FooterWriter::default();
        listed.iter().for_each(|Listed { record, offset, name }| {
            writer.push(&Entry { record: *record, offset: *offset, name: name.as_ref() });
        });
        let mut sectors = vec![0; writer.sectors_bytes_with(0, 0) as usize];
        writer.encode((VOLUME, 4, Sequence(11)), 32 << 20, &mut sectors);
        let (index, foot) = sectors.split_at_mut(writer.sectors_bytes_with(0, 0) as usize - SECTOR_BYTES);
        let footer = Footer::decode(foot, VOLUME, 4, REGION_BYTES_DEFAULT).unwrap();
        match footer.entries_bytes as usize * 8 {
            0 => true,
            bits => {
                index[bit % bits / 8] ^= 1 << (bit % 8);
                entries_of(&footer, index) == Err(FormatError::Checksum("index of the region"))
            }
        }
    }

    fn records_of_any_length_are_read_back(key: Vec<u8>, bytes: u16, offset: u16) -> bool {
        let key: Vec<u8> = key.into_iter().map(|byte| byte | 1).chain([1]).collect();
        let object = name(&key);
        let value: Vec<u8> = (0..=bytes).map(|byte| byte as u8).collect();
        let at = at(u32::from(offset) * 4096);
        let head = head(object.as_ref(), &value, at);
        assert_eq!(Record::head_bytes(&head[..SECTOR_BYTES]), Ok(head.len()));
        let (record, found, end) = Record::decode(&head, at).unwrap();
        let (head_bytes, body_bytes) = record_bytes(found.len(), record.value_bytes);
        assert_eq!(record.bytes(found.len()), head_bytes + body_bytes);
        assert!((head_bytes + body_bytes).is_multiple_of(SECTOR_BYTES as u64));
        found == object.as_ref().bytes() && end == &value[body_bytes as usize..] && record == value_record(&value)
    }

    fn tombstones_are_read_back(keys: Vec<Vec<u8>>) -> bool {
        let names: Vec<ObjectName> = keys
            .iter()
            .map(|key| name(&key.iter().map(|byte| byte | 1).chain([1]).collect::<Vec<u8>>()))
            .collect();
        let mut list = Vec::new();
        let tombstones: Vec<Tombstone<'_>> = (0..)
            .zip(&names)
            .map(|(version, name)| Tombstone { version: Version(version), name: name.as_ref() })
            .collect();
        tombstones.iter().for_each(|tombstone| tombstone.push_to(&mut list));
        let cut = tombstones_of(&list[..list.len().saturating_sub(1)]).filter(Result::is_err).count();
        let found: Result<Vec<_>, _> = tombstones_of(&list).collect();
        found == Ok(tombstones) && cut == usize::from(!names.is_empty())
    }

    fn any_bytes_are_decoded_without_a_panic(bytes: Vec<u8>, magic: u8) -> bool {
        let mut bytes = bytes;
        let magics = [&b"SNOWTIER"[..], b"SNOWREGN", b"SNOWRCRD", b"SNOWFOOT"];
        if bytes.len() >= 12 {
            bytes[..8].copy_from_slice(magics[usize::from(magic) % 4]);
            bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
        }
        bytes.resize(bytes.len().max(128), 0);
        assert!(Superblock::decode(&bytes, DISK_BYTES).is_err());
        assert!(RegionHeader::decode(&bytes, VOLUME, 0).is_err());
        assert!(Record::decode(&bytes, at(0)).is_err());
        assert!(Footer::decode(&bytes, VOLUME, 0, REGION_BYTES_DEFAULT).is_err());
        let _ = Record::head_bytes(&bytes);
        tombstones_of(&bytes).count() <= bytes.len()
    }
}
