//! The worked example of `docs/FORMAT.md` is what the code writes, byte for byte.

use snowskin_protocol::{Checksum, CoreId, EngineId, Incarnation, NameRef, ObjectName, Version};
use snowskin_ssd_tier::format::{
    Entry, Footer, FooterWriter, Geometry, Head, Kind, Owner, Record, RegionHeader, SECTOR_BYTES, Sequence,
    Superblock, Tombstone, VolumeId, entries_of, tombstones_of,
};

const PAGE: &str = include_str!("../../docs/FORMAT.md");
const VOLUME: VolumeId = VolumeId(*b"0123456789abcdef");
const REGION: u32 = 2;
const SEQUENCE: Sequence = Sequence(9);
const REGION_BYTES: u64 = 64 << 20;
const VALUE: &[u8] = b"hello";
const WRITTEN_UNIX_MS: u64 = 1_700_000_000_000;

/// The bytes of a block of the page: two digits each, up to the bar; all behind them is 0.
fn bytes_of_block(title: &str, bytes: usize) -> Vec<u8> {
    let block = PAGE.split(&format!("```hex {title}\n")).nth(1).expect("the block is there");
    let lines = block.split("```").next().expect("the block ends").lines();
    let digits = lines.flat_map(|line| line.split('|').next().unwrap_or("").split_whitespace());
    let mut block: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).expect("two digits")).collect();
    assert!(block.len() <= bytes, "{title} is longer than that");
    block.resize(bytes, 0);
    block
}

fn assert_written(title: &str, written: &[u8]) {
    let used = written.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let on_page = bytes_of_block(title, written.len());
    assert!(on_page == written, "{title} is written as {:02x?}", &written[..used]);
}

fn name() -> ObjectName {
    ObjectName::new("default", b"greeting").unwrap()
}

fn gone() -> ObjectName {
    ObjectName::new("default", b"old").unwrap()
}

fn superblock() -> Superblock {
    Superblock {
        volume: VOLUME,
        generation: 5,
        geometry: Geometry { region_bytes: REGION_BYTES, regions: 100 },
        floor: Sequence(7),
        mounts: 2,
        owner: Owner {
            core: CoreId { engine: EngineId(0x1b2c_3d4e), core: 1 },
            incarnation: Incarnation(3),
            since_unix_ms: WRITTEN_UNIX_MS,
        },
    }
}

fn header() -> RegionHeader {
    RegionHeader { volume: VOLUME, region: REGION, sequence: SEQUENCE, opened_unix_ms: WRITTEN_UNIX_MS }
}

fn at(offset: u32) -> Head {
    Head { volume: VOLUME, region: REGION, sequence: SEQUENCE, offset }
}

fn value_record() -> Record {
    Record {
        kind: Kind::Value,
        version: Version(3),
        value_bytes: VALUE.len() as u64,
        checksum: Checksum::of(VALUE),
        written_unix_ms: WRITTEN_UNIX_MS,
    }
}

fn tombstones() -> (Record, Vec<u8>) {
    let mut list = Vec::new();
    Tombstone { version: Version(2), name: gone().as_ref() }.push_to(&mut list);
    let record = Record {
        kind: Kind::Tombstones,
        version: Version(1),
        value_bytes: list.len() as u64,
        checksum: Checksum::of(&list),
        written_unix_ms: WRITTEN_UNIX_MS,
    };
    (record, list)
}

/// The index and the footer.
fn end_of_region() -> (Vec<u8>, Vec<u8>) {
    let mut writer = FooterWriter::default();
    writer.push(&Entry { record: value_record(), offset: 4096, name: name().as_ref() });
    let of_tombstone =
        Record { version: Version(2), value_bytes: 0, checksum: Checksum(0), ..tombstones().0 };
    writer.push(&Entry { record: of_tombstone, offset: 8192, name: gone().as_ref() });
    let mut sectors = vec![0xee; 2 * SECTOR_BYTES];
    writer.encode((VOLUME, REGION, SEQUENCE), 12288, &mut sectors);
    let footer = sectors.split_off(SECTOR_BYTES);
    (sectors, footer)
}

#[test]
fn the_page_has_what_is_written() {
    let mut sector = vec![0xee; SECTOR_BYTES];
    superblock().encode(&mut sector);
    assert_written("superblock", &sector);
    header().encode(&mut sector);
    assert_written("region header", &sector);
    value_record().encode(at(4096), name().bytes(), VALUE, &mut sector);
    assert_written("record", &sector);
    let (record, list) = tombstones();
    record.encode(at(8192), &[], &list, &mut sector);
    assert_written("tombstones", &sector);
    let (index, footer) = end_of_region();
    assert_written("index", &index);
    assert_written("footer", &footer);
}

#[test]
fn the_page_is_read_back() {
    let block = |title| bytes_of_block(title, SECTOR_BYTES);
    assert_eq!(Superblock::decode(&block("superblock"), 1 << 40), Ok(superblock()));
    assert_eq!(RegionHeader::decode(&block("region header"), VOLUME, REGION), Ok(header()));
    let head = block("record");
    assert_eq!(Record::decode(&head, at(4096)), Ok((value_record(), name().bytes(), VALUE)));
    let head = block("tombstones");
    let (record, _, list) = Record::decode(&head, at(8192)).unwrap();
    assert_eq!((record, Checksum::of(list)), (tombstones().0, record.checksum));
    let found: Vec<NameRef<'_>> = tombstones_of(list).map(|one| one.unwrap().name).collect();
    assert_eq!(found, [gone().as_ref()]);
    let footer = Footer::decode(&block("footer"), VOLUME, REGION, REGION_BYTES).unwrap();
    let index = block("index");
    let entries = entries_of(&footer, &index).unwrap();
    let named: Vec<(NameRef<'_>, u32)> = entries.iter().map(|entry| (entry.name, entry.offset)).collect();
    assert_eq!(named, [(name().as_ref(), 4096), (gone().as_ref(), 8192)]);
}
