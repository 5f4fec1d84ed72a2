//! Volumes as version 1 has written them, committed: what is decoded of them is what is listed beside them, and what is decoded and written
//! again is what stands there. So nobody changes the format without noticing.
//!
//! `cargo test -p snowskin-ssd-tier --test golden -- --ignored` writes them anew, after a change that is meant.

#[path = "image/golden.rs"]
#[allow(dead_code, reason = "shared with the tests of tools")]
mod golden;
#[allow(dead_code, reason = "shared with the tests of tools")]
mod image;

use snowskin_protocol::Checksum;
use snowskin_ssd_tier::format::{
    Footer, FooterWriter, FormatError, Head, Kind, Record, RegionHeader, SECTOR_BYTES, SUPERBLOCKS_AT,
    Superblock, entries_of, record_bytes, tombstones_of,
};
use std::fmt::Write;

/// Letters of a name that are listed.
const NAME_LETTERS_MAX: usize = 40;

/// What is decoded of an image, a line each; each structure is written again and compared.
fn listing(image: &[u8]) -> String {
    let mut text = String::new();
    let copies = SUPERBLOCKS_AT.map(|at| &image[at as usize..][..SECTOR_BYTES]);
    for (at, copy) in SUPERBLOCKS_AT.iter().zip(copies) {
        match Superblock::decode(copy, image.len() as u64) {
            Ok(block) => {
                written_again(copy, |sector| block.encode(sector));
                writeln!(text, "superblock at {at}: {block:?}").unwrap();
            }
            Err(error) => writeln!(text, "superblock at {at}: {error}").unwrap(),
        }
    }
    match Superblock::choose(copies, image.len() as u64) {
        Ok(block) => {
            writeln!(text, "generation {} counts", block.generation).unwrap();
            (0..block.geometry.regions).for_each(|region| list_region(&block, region, image, &mut text));
        }
        Err(error) => writeln!(text, "none counts: {error}").unwrap(),
    }
    text
}

fn list_region(block: &Superblock, region: u32, image: &[u8], text: &mut String) {
    let (geometry, volume) = (block.geometry, block.volume);
    let bytes = &image[geometry.region_at(region) as usize..][..geometry.region_bytes as usize];
    let header = match RegionHeader::decode(bytes, volume, region) {
        Ok(header) => header,
        Err(error) => return writeln!(text, "region {region}: {error}").unwrap(),
    };
    written_again(&bytes[..SECTOR_BYTES], |sector| header.encode(sector));
    writeln!(text, "region {region}: {:?}, opened {}", header.sequence, header.opened_unix_ms).unwrap();
    let foot = &bytes[geometry.footer_offset() as usize..];
    match Footer::decode(foot, volume, region, geometry.region_bytes) {
        Ok(footer) => {
            written_again(foot, |sector| footer.encode(sector));
            let sequence = footer.sequence;
            writeln!(text, "  footer: {sequence:?}, records to {}", footer.records_end).unwrap();
            list_entries(&footer, &bytes[footer.entries_offset(geometry.region_bytes) as usize..], text);
        }
        Err(error) => writeln!(text, "  footer: {error}").unwrap(),
    }
    let mut offset = SECTOR_BYTES;
    while offset < bytes.len() {
        let at = Head { volume, region, sequence: header.sequence, offset: offset as u32 };
        offset += list_record(&bytes[offset..], at, text).unwrap_or(SECTOR_BYTES);
    }
}

fn list_entries(footer: &Footer, index: &[u8], text: &mut String) {
    let entries = entries_of(footer, index).expect("the index is whole where the footer is");
    let mut writer = FooterWriter::default();
    for entry in &entries {
        writer.push(entry);
        let (record, name) = (entry.record, shown(entry.name.bytes()));
        let Record { kind, version, value_bytes, checksum, written_unix_ms } = record;
        write!(text, "  entry {}: {kind:?} {name} {version:?}, ", entry.offset).unwrap();
        writeln!(text, "{value_bytes} bytes, {checksum}, written {written_unix_ms}").unwrap();
    }
    let sectors = index.len();
    let place = (footer.volume, footer.region, footer.sequence);
    written_again(index, |again| writer.encode(place, footer.records_end, &mut again[..sectors]));
}

/// Answers the bytes of the record, if one begins here and is whole.
fn list_record(bytes: &[u8], at: Head, text: &mut String) -> Option<usize> {
    let (record, name, end) = match Record::decode(bytes, at) {
        Ok(decoded) => decoded,
        // What stood there before.
        Err(FormatError::Magic(_) | FormatError::Elsewhere(_)) => return None,
        Err(error) => {
            writeln!(text, "  at {}: {error}", at.offset).unwrap();
            return None;
        }
    };
    let (head_bytes, body_bytes) = record_bytes(name.len(), record.value_bytes);
    written_again(&bytes[..head_bytes as usize], |head| record.encode(at, name, end, head));
    let value = [&bytes[head_bytes as usize..][..body_bytes as usize], end].concat();
    let is_whole = Checksum::of(&value) == record.checksum;
    let name = shown(name);
    let Record { kind, version, value_bytes, checksum, written_unix_ms } = record;
    write!(text, "  record {}: {kind:?} {name} {version:?}, {value_bytes} bytes, ", at.offset).unwrap();
    let state = if is_whole { "" } else { ", not whole" };
    writeln!(text, "{checksum}, written {written_unix_ms}{state}").unwrap();
    if kind == Kind::Tombstones {
        let mut again = Vec::new();
        for tombstone in tombstones_of(&value) {
            let tombstone = tombstone.expect("the list is whole where its checksum is");
            tombstone.push_to(&mut again);
            writeln!(text, "    tombstone {} {:?}", shown(tombstone.name.bytes()), tombstone.version)
                .unwrap();
        }
        assert_eq!(again, value, "tombstones are written otherwise than they were read");
    }
    is_whole.then_some((head_bytes + body_bytes) as usize)
}

/// The beginning of a name, and how many bytes it has.
fn shown(name: &[u8]) -> String {
    let text: String =
        String::from_utf8_lossy(name).replace('\0', ":").chars().take(NAME_LETTERS_MAX).collect();
    format!("\"{text}\" ({} bytes)", name.len())
}

fn written_again(bytes: &[u8], encode: impl FnOnce(&mut [u8])) {
    let mut again = vec![0xee; bytes.len()];
    encode(&mut again);
    assert!(again == bytes, "written otherwise than it was read: {:02x?}", &again[..128]);
}

#[test]
fn what_is_decoded_is_what_is_listed() {
    for image in golden::NAMES {
        let listed = std::fs::read_to_string(golden::path(&format!("{image}.txt"))).expect("a listing");
        assert_eq!(listing(&golden::committed(image)), listed, "{image}");
    }
}

#[test]
fn what_is_written_today_is_what_was_written() {
    for image in golden::NAMES {
        assert!(golden::made(image) == golden::committed(image), "{image}: the format has changed");
    }
}

#[test]
#[ignore = "writes the golden images anew: only after a change of the format that is meant"]
fn write_them() {
    use std::io::Write as _;
    for image in golden::NAMES {
        let bytes = golden::made(image);
        let file = std::fs::File::create(golden::path(&format!("{image}.gz"))).expect("a file");
        let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::best());
        file.write_all(&bytes).and_then(|()| file.try_finish()).expect("written");
        std::fs::write(golden::path(&format!("{image}.txt")), listing(&bytes)).expect("written");
    }
}
