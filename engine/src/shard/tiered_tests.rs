//! Records that are damaged: what becomes of their rows.

use super::tests::{NOW, get, name, put, remove, shard};
use super::*;
use snowskin_protocol::{Checksum, MissReason, ObjectName, Version};

const RECORD: RecordId = RecordId(7);
const VALUE: &[u8] = b"the bytes of a value";

/// A shard with an object on the SSD: its name, its version.
fn with_one_on_ssd() -> (Shard, ObjectName, Version) {
    let mut shard = shard(1 << 16);
    shard.enable_tier(TierPolicy::default(), None);
    assert_eq!(put(&mut shard, "cold", VALUE), ItemStatus::Ok);
    assert_eq!(put(&mut shard, "newest", b"stays"), ItemStatus::Ok);
    let demotion = shard.begin_demotion(NOW, true).expect("the older one goes");
    assert_eq!(demotion.name, name("cold"));
    let (position, version) = (demotion.position(), demotion.version);
    shard.demotion_begun(position, RECORD);
    drop(demotion);
    shard.end_demotion(position, RECORD, name("cold").as_ref(), VALUE.len() as u64, true);
    assert_eq!(shard.stats().objects_on_ssd, 1);
    assert_eq!(shard.take_tier_news(), Default::default());
    (shard, name("cold"), version)
}

#[test]
fn an_object_goes_with_its_damaged_record_and_is_buried() {
    let (mut shard, name, version) = with_one_on_ssd();
    let lose = |shard: &mut Shard, version, record| shard.lose_record(name.as_ref(), version, record);
    assert!(!lose(&mut shard, version, RecordId(8)), "it is in another one");
    assert!(!lose(&mut shard, Version(version.0 + 1), RECORD), "it is another version");
    assert!(lose(&mut shard, version, RECORD));
    assert!(!lose(&mut shard, version, RECORD), "it is gone");
    let lost = get(&mut shard, "cold", NOW).expect_err("it is gone");
    assert_eq!(lost.miss, Some(MissReason::Corrupt));
    let (buried, released) = shard.take_tier_news();
    assert_eq!(buried, [(name.clone(), version)]);
    assert_eq!(released, [(RECORD, name.as_ref().bytes().len(), VALUE.len() as u64)]);
    assert_eq!((shard.stats().ssd_lost, shard.stats().objects_on_ssd), (1, 0));
}

#[test]
fn an_object_in_memory_stays_without_its_damaged_record() {
    let (mut shard, name, version) = with_one_on_ssd();
    let (value_bytes, checksum) = (VALUE.len() as u64, Checksum::of(VALUE));
    let demoted = Demoted { record: RECORD, version, value_bytes, checksum };
    let mut room = shard.room_for_demoted(value_bytes, NOW).expect("memory");
    room.value_mut().copy_from_slice(VALUE);
    drop(shard.loaded(name.as_ref().hashed(), &demoted, room));
    assert_eq!((shard.stats().promoted, shard.stats().objects_on_ssd), (1, 0));
    assert!(shard.lose_record(name.as_ref(), version, RECORD));
    assert_eq!(get(&mut shard, "cold", NOW).expect("it is in memory").value(), VALUE);
    let (buried, released) = shard.take_tier_news();
    assert_eq!((buried.len(), released.len(), shard.stats().ssd_lost), (1, 1, 0));
    // It has no record any more, so there is nothing to bury.
    assert_eq!(remove(&mut shard, "cold", true, NOW).status, ItemStatus::Ok);
    assert_eq!(shard.take_tier_news(), Default::default());
}
