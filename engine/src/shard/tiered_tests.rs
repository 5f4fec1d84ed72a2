//! Records that are damaged or not written, and what comes back: what becomes of their rows.

use super::tests::{NOW, get, name, put, put_hinted, remove, shard};
use super::tiered::Demotion;
use super::*;
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::wire::list::{KeyPage, ListKeys};
use snowskin_protocol::{Checksum, MissReason, ObjectName, Version};
use std::collections::BTreeSet;

const RECORD: RecordId = RecordId(7);
const VALUE: &[u8] = b"the bytes of a value";

/// A shard with an object on the SSD: its name, its version.
fn with_one_on_ssd() -> (Shard, ObjectName, Version) {
    let mut shard = shard(1 << 16);
    shard.enable_tier(TierPolicy::default(), u64::MAX, None);
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
fn what_is_on_the_ssd_is_listed_too() {
    let (shard, ..) = with_one_on_ssd();
    let request = ListKeys { cursor: 0, keys_max: 10, tenant: b"t", pattern: "" };
    let body = shard.list_keys(&request, None);
    let listed = KeyPage::decode(&body).expect("a page").keys.into_iter();
    let listed: BTreeSet<_> = listed.map(|listed| (listed.key, listed.value_bytes)).collect();
    assert_eq!(listed, BTreeSet::from([(&b"cold"[..], VALUE.len() as u64), (b"newest", 5)]));
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

/// How long "soft" is pinned.
const PIN_TIME: Duration = Duration::from_millis(700);

/// A shard in which "soft" goes to the SSD for its group's sake, and "ordinary" would be the next: the write of it, which has begun.
fn with_soft_one_on_its_way() -> (Shard, Demotion) {
    let mut shard = shard(1 << 16);
    shard.enable_tier(TierPolicy::default(), u64::MAX, None);
    let in_group = |soft_pin_ms| PutHints { group: 7, soft_pin_ms, ..PutHints::default() };
    let soft_pin_ms = PIN_TIME.as_millis() as u32;
    assert_eq!(put_hinted(&mut shard, "soft", VALUE, in_group(soft_pin_ms), NOW), ItemStatus::Ok);
    assert_eq!(put_hinted(&mut shard, "mate", VALUE, in_group(0), NOW), ItemStatus::Ok);
    assert_eq!(put(&mut shard, "ordinary", VALUE), ItemStatus::Ok);
    assert_eq!(put(&mut shard, "newest", VALUE), ItemStatus::Ok);
    let mate = begun(&mut shard, "mate", 1, NOW);
    end(&mut shard, mate, 1, true);
    let soft = begun(&mut shard, "soft", 2, NOW);
    (shard, soft)
}

/// What goes next, which is this, is being written from now on.
fn begun(shard: &mut Shard, key: &str, record: u32, now: Moment) -> Demotion {
    let demotion = shard.begin_demotion(now, true).expect("something goes");
    assert_eq!(demotion.name, name(key));
    shard.demotion_begun(demotion.position(), RecordId(record));
    demotion
}

fn end(shard: &mut Shard, demotion: Demotion, record: u32, is_written: bool) {
    let (position, name) = (demotion.position(), demotion.name.clone());
    drop(demotion);
    shard.end_demotion(position, RecordId(record), name.as_ref(), VALUE.len() as u64, is_written);
}

/// All that may go now is being written from now on.
fn all_gone(shard: &mut Shard, now: Moment) -> Vec<Demotion> {
    assert_eq!(put(shard, "last", VALUE), ItemStatus::Ok);
    let mut gone = Vec::new();
    while let Some(demotion) = shard.begin_demotion(now, true) {
        shard.demotion_begun(demotion.position(), RecordId(10 + gone.len() as u32));
        gone.push(demotion);
    }
    gone
}

fn names_of(gone: &[Demotion]) -> BTreeSet<ObjectName> {
    gone.iter().map(|gone| gone.name.clone()).collect()
}

#[test]
fn who_could_not_be_written_is_pinned_as_before() {
    let (mut shard, soft) = with_soft_one_on_its_way();
    end(&mut shard, soft, 2, false);
    let gone = all_gone(&mut shard, NOW);
    assert_eq!(names_of(&gone), BTreeSet::from(["ordinary", "newest"].map(name)), "it goes last");
    begun(&mut shard, "soft", 4, NOW + PIN_TIME);
}

#[test]
fn a_pin_that_runs_out_while_its_row_is_written_is_none_any_more() {
    let (mut shard, soft) = with_soft_one_on_its_way();
    begun(&mut shard, "ordinary", 3, NOW + PIN_TIME);
    end(&mut shard, soft, 2, false);
    let gone = all_gone(&mut shard, NOW + PIN_TIME);
    assert_eq!(names_of(&gone), BTreeSet::from(["soft", "newest"].map(name)));
}

#[test]
fn who_comes_back_from_the_ssd_is_pinned_as_before() {
    let (mut shard, soft) = with_soft_one_on_its_way();
    let (position, version, value_bytes) = (soft.position(), soft.version, VALUE.len() as u64);
    end(&mut shard, soft, 2, true);
    let demoted = Demoted { record: RecordId(2), version, value_bytes, checksum: Checksum::of(VALUE) };
    let mut room = shard.room_for_demoted(value_bytes, NOW).expect("memory");
    room.value_mut().copy_from_slice(VALUE);
    drop(shard.loaded(name("soft").as_ref().hashed(), &demoted, room));
    assert_eq!(shard.stats().promoted, 1);
    let gone = all_gone(&mut shard, NOW);
    assert_eq!(names_of(&gone), BTreeSet::from(["ordinary", "newest"].map(name)));
    assert!(get(&mut shard, "soft", NOW).is_ok(), "it is in memory");
    // Without a lease, and when the pin has run out, it leaves to its copy.
    let later = NOW + 3 * PIN_TIME;
    assert!(shard.begin_demotion(later, true).is_none());
    assert!(matches!(shard.index.place(position), Place::OnSsd(RecordId(2))));
    assert_eq!(remove(&mut shard, "soft", true, later).status, ItemStatus::Ok);
    assert_eq!(put(&mut shard, "another", VALUE), ItemStatus::Ok);
}
