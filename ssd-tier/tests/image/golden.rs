//! The golden images: one volume, whole and damaged in five ways.

use super::image::{Image, Place, name, value};
use snowskin_protocol::Checksum;
use snowskin_ssd_tier::format::{FORMAT_VERSION, SECTOR_BYTES, SUPERBLOCKS_AT, Sequence};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a region.
pub(crate) const REGION_BYTES: u64 = 64 << 10;
/// All of them, by their names.
pub(crate) const NAMES: [&str; 6] =
    ["whole", "torn-tail", "damaged-footer", "damaged-record", "torn-superblock", "other-version"];

/// Where they lie.
pub(crate) fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ssd-tier/tests/golden").join(file)
}

/// The image as it is committed.
pub(crate) fn committed(image: &str) -> Vec<u8> {
    let path = path(&format!("{image}.gz"));
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("a compressed image");
    bytes
}

/// The image as the code makes it today.
pub(crate) fn made(image: &str) -> Vec<u8> {
    let (mut whole, damaged, last) = whole();
    let at = |whole: &Image, place: &Place, offset: u64| whole.at(place.region, place.offset as u64 + offset);
    match image {
        "whole" => {}
        "torn-tail" => {
            // Power failed before the last sector of the last record was written.
            let end = at(&whole, &last, last.bytes);
            whole.bytes[end - SECTOR_BYTES..end].fill(0);
        }
        "damaged-footer" => {
            let footer = whole.at(3, REGION_BYTES - SECTOR_BYTES as u64);
            whole.bytes[footer + 40] ^= 1;
        }
        "damaged-record" => {
            let body = at(&whole, &damaged, SECTOR_BYTES as u64 + 100);
            whole.bytes[body] ^= 0x10;
        }
        "torn-superblock" => {
            let newer = whole.superblock.offset() as usize;
            whole.bytes[newer + 64..newer + 128].fill(0);
        }
        "other-version" => {
            for at in SUPERBLOCKS_AT {
                let block = &mut whole.bytes[at as usize..][..128];
                block[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
                let checksum = Checksum::of(&block[..120]);
                block[120..].copy_from_slice(&checksum.0.to_le_bytes());
            }
        }
        other => panic!("there is no image {other}"),
    }
    whole.bytes
}

/// Eight regions: 1 is free again, 2 and 3 are complete, 0 is used for the second time and unfinished, the others were never used. Answers
/// the record that gets damaged, and the last one.
fn whole() -> (Image, Place, Place) {
    let mut image = Image::new(8, REGION_BYTES);
    image.open(0);
    image.put(&name("default", "first"), &value(b'a', 3_000));
    image.put(&name("default", "stale"), &value(b'b', 20_000));
    image.put(&name("default", "of no more use"), &value(b'c', 24_000));
    image.complete();
    image.open(1);
    image.put(&name("default", "stale"), &value(b'd', 4_096));
    image.complete();
    image.open(2);
    image.put(&name("default", "greeting"), b"hello");
    image.put(&name("default", "replaced"), &value(b'e', 5_000));
    let damaged = image.put(&name("llama", "prefix/1"), &value(b'f', 12_288));
    image.put(&name("llama", "removed"), &value(b'g', 100));
    image.complete();
    image.open(3);
    image.put(&name("default", "replaced"), &value(b'h', 9_000));
    image.remove(&[name("llama", "removed"), name("llama", "never was")]);
    image.put(&name("llama", &"a long key ".repeat(370)), &value(b'i', 4_000));
    image.complete();
    image.raise_floor(Sequence(3));
    image.open(0);
    image.put(&name("llama", "removed"), &value(b'j', 8_192));
    image.remove(&[name("default", "first")]);
    let last = image.put(&name("default", "last \\ ü"), &value(b'k', 10_000));
    (image, damaged, last)
}
