//! Heads of records that a client has put into a value: a region without a footer is tried sector by sector, and whole sectors of values lie there as
//! they came. Nobody but the volume knows its id, and a head is bound to all of it.

use snowskin_protocol::{Checksum, NameRef, Version};
use snowskin_ssd_tier::format::{Head, Kind, Record, Sequence, Tombstone, VolumeId};

use crate::keeper::{key_of, name_of, value_of};
use crate::model::Key;
use crate::paper::{Image, SECTOR};
use crate::{BEFORE_REGIONS, Lives};

const REGION_SECTORS: u64 = 40;
const VICTIM: Key = 1;
const CARRIER: Key = 2;
/// Sectors of the carrier's value.
const SECTORS: usize = 12;

/// A head for a sector, as somebody would write it who knows everything but maybe the volume.
fn head(kind: Kind, at: Head) -> Vec<u8> {
    let victim = name_of(VICTIM);
    let mut list = Vec::new();
    Tombstone { version: Version(1), name: victim.as_ref() }.push_to(&mut list);
    let (name, value): (&[u8], &[u8]) = match kind {
        Kind::Value => (victim.as_ref().bytes(), b"planted"),
        Kind::Tombstones => (&[], &list),
    };
    let (version, value_bytes) = (Version(1), value.len() as u64);
    let record = Record { kind, version, value_bytes, checksum: Checksum::of(value), written_unix_ms: 0 };
    let mut sector = vec![0; SECTOR];
    record.encode(at, name, value, &mut sector);
    sector
}

/// A volume whose last region has no footer, and in it a value that has such heads in all its sectors. Answers what the next mount finds: the
/// victim's bytes, if it is there.
fn found_with(id: impl Fn(VolumeId) -> VolumeId, kind: Kind) -> Option<u64> {
    let mut lives = Lives::new(REGION_SECTORS, 4);
    let (sequence, address, volume) = lives.live_calmly(|core| async move {
        core.put(VICTIM, 100).await.expect("room");
        core.put(CARRIER, SECTORS * SECTOR).await.expect("room");
        core.commit().await.expect("no faults");
        let address = core.rows.borrow()[&CARRIER].address.expect("written");
        // The second mount, and its first region.
        (Sequence(2 << 32), address, core.volume.id())
    });
    let id = id(volume);
    // What the carrier's value says instead, as if it had been put like that.
    let body_at = u64::from(address.offset) + SECTOR as u64;
    let first = BEFORE_REGIONS / SECTOR as u64 + u64::from(address.region) * REGION_SECTORS;
    let header = &lives.image[&first];
    assert_eq!(header[32..40], sequence.0.to_le_bytes(), "the attacker guesses well");
    let mut value = Vec::new();
    for number in 0..SECTORS {
        let offset = (body_at + (number * SECTOR) as u64) as u32;
        value.extend(head(kind, Head { volume: id, region: address.region, sequence, offset }));
    }
    put_instead(&mut lives.image, first + body_at / SECTOR as u64, &value);
    // Its own head does not match any more, so each sector is tried: the worst case.
    let rows = lives.live_calmly_any(|core| async move {
        core.rows.borrow().iter().map(|(key, row)| (*key, row.facts.value_bytes)).collect::<Vec<_>>()
    });
    rows.into_iter().find(|(key, _)| *key == VICTIM).map(|(_, bytes)| bytes)
}

fn put_instead(image: &mut Image, first: u64, value: &[u8]) {
    for (sector, bytes) in (first..).zip(value.chunks(SECTOR)) {
        image.insert(sector, bytes.into());
    }
}

#[test]
fn a_head_that_was_planted_in_a_value_is_none_of_this_volume() {
    assert_eq!(key_of(NameRef::known(name_of(VICTIM).as_ref().bytes())), VICTIM);
    assert_eq!(value_of(VICTIM, 1, 100).len(), 100);
    // Who has seen the log knows four bytes of the id.
    let nearly = |VolumeId(id): VolumeId| VolumeId(std::array::from_fn(|at| id[at] ^ u8::from(at == 4)));
    for kind in [Kind::Value, Kind::Tombstones] {
        assert_eq!(found_with(nearly, kind), Some(100), "{kind:?}");
        assert_eq!(
            found_with(|_| VolumeId(*b"some other volume"[..16].first_chunk().expect("16")), kind),
            Some(100)
        );
    }
    // It is the id that keeps them out: who knew it could plant both.
    assert_eq!(found_with(|id| id, Kind::Value), Some(7));
    assert_eq!(found_with(|id| id, Kind::Tombstones), None);
}

#[test]
fn ids_are_not_alike_and_a_log_has_their_beginning_only() {
    let id = VolumeId(*b"0123456789abcdef");
    assert_eq!(id.mark().to_string(), "volume 30313233");
    assert_eq!(id.to_string().len(), 32);
}
