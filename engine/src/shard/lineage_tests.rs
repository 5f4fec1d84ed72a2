//! What an earlier life has left counts if the table says that it does, and what nobody vouches for is buried
//! (`docs/notes/2026-11-28-lineage.md`).

use super::tests::{NOW, core, empty_shard, get, name, put, remove, table};
use super::*;
use snowskin_protocol::table::{LOST, NOBODY};
use snowskin_protocol::wire::control::{LAST_PAGE, Page, PageWriter, SlotSet};
use snowskin_protocol::wire::data::KeyItem;
use snowskin_protocol::{Checksum, EngineId, Incarnation, ObjectName};

const FORMER: Life = (CoreId { engine: EngineId(1), core: 0 }, Incarnation(77));

fn demoted(record: u32) -> Demoted {
    let value_bytes = 1000;
    Demoted { record: RecordId(record), version: Version(5), value_bytes, checksum: Checksum(6) }
}

/// A core that has found objects of a life on its volume.
fn found(left_by: Life, keys: &[&str]) -> Shard {
    let mut shard = empty_shard(0, 1 << 16);
    shard.enable_tier(TierPolicy::default(), u64::MAX, Some(left_by));
    for (key, record) in keys.iter().zip(1..) {
        assert!(shard.recover(name(key).as_ref(), &demoted(record)));
    }
    shard
}

/// A table in which a former life is the origin of everything at core 0.
fn inherited(epoch: u64, former: Life) -> RoutingTable {
    let mut table = table(epoch, 0, 2);
    table.former.push(former);
    table
}

fn is_found(shard: &mut Shard, key: &str) -> bool {
    claim_all(shard);
    let name = name(key);
    matches!(
        shard.get(name.as_ref().hashed(), &KeyItem::at_home(name.as_ref()), NOW),
        Answer::OnSsd(demoted, _) if demoted.version == Version(5)
    )
}

fn buried(shard: &mut Shard) -> Vec<ObjectName> {
    shard.take_tier_news().0.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn what_was_found_counts_if_the_table_names_who_has_left_it() {
    let mut heir = found(FORMER, &["a", "b"]);
    heir.apply_table(&inherited(1, FORMER));
    assert!(is_found(&mut heir, "a") && is_found(&mut heir, "b"));
    assert_eq!((heir.stats().ssd_recovered, buried(&mut heir).len()), (2, 0));
    // What was only in memory is lost, and a miss says so.
    let lost = get(&mut heir, "c", NOW).unwrap_err();
    assert_eq!(lost.miss, Some(MissReason::OwnerLost));

    let another = (core(0), Incarnation(78));
    for other in [inherited(1, another), table(1, 0, LOST), table(1, 0, NOBODY), table(1, 1, NOBODY)] {
        let mut stranger = found(FORMER, &["a", "b"]);
        stranger.apply_table(&other);
        assert_eq!((stranger.stats().ssd_recovered, stranger.stats().objects_on_ssd), (0, 0));
        assert_eq!(buried(&mut stranger), [name("a"), name("b")], "it must not come back with a later life");
    }
}

#[test]
fn an_inheritance_is_taken_with_the_first_table_that_has_the_core_or_never() {
    let mut shard = found(FORMER, &["a"]);
    // It is not about us: an earlier life is in it.
    let mut earlier = inherited(1, FORMER);
    earlier.members[0].incarnation = Incarnation(0);
    shard.apply_table(&earlier);
    assert_eq!(shard.stats().objects_on_ssd, 1);
    shard.apply_table(&table(2, 1, NOBODY));
    assert_eq!(buried(&mut shard), [name("a")]);
    shard.apply_table(&inherited(3, FORMER));
    claim_all(&mut shard);
    assert!(shard.serves(name("a").as_ref().slot()) && !is_found(&mut shard, "a"));
}

#[test]
fn what_has_no_row_is_not_taken_for_an_inheritance_of_others() {
    // Its region was reclaimed before the first table.
    let mut shard = found(FORMER, &["a", "b"]);
    shard.forget_record(name("a").as_ref(), Version(5), RecordId(1));
    shard.apply_table(&inherited(1, FORMER));
    assert!(!is_found(&mut shard, "a") && is_found(&mut shard, "b"));
    assert_eq!(shard.stats().ssd_recovered, 1);
}

/// Nobody keeps anything of what was lost.
fn claim_all(shard: &mut Shard) {
    let slots = shard.claiming().clone();
    shard.finish_claiming(&slots);
}

/// A core whose objects are on the SSD, and which is the home of everything.
fn with_records(keys: &[&str]) -> Shard {
    let mut shard = empty_shard(0, 1 << 16);
    shard.enable_tier(TierPolicy::default(), u64::MAX, None);
    shard.apply_table(&table(1, 0, NOBODY));
    for (key, record) in keys.iter().zip(1..) {
        assert_eq!(put(&mut shard, key, &[7; 1000]), ItemStatus::Ok);
        // What was put last stays in memory.
        assert_eq!(put(&mut shard, "last", b"last"), ItemStatus::Ok);
        let demotion = shard.begin_demotion(NOW, true).expect("one may go");
        assert_eq!(demotion.name, name(key));
        shard.demotion_begun(demotion.position(), RecordId(record));
        let position = demotion.position();
        drop(demotion);
        shard.end_demotion(position, RecordId(record), name(key).as_ref(), 1000, true);
        assert_eq!(remove(&mut shard, "last", true, NOW).status, ItemStatus::Ok);
    }
    while !shard.take_strangers_out() {}
    shard.take_tier_news();
    shard
}

/// Everything comes back from core 1, which has these entries of ours.
fn take_all_back(shard: &mut Shard, vouched: &[&str]) {
    shard.apply_table(&table(3, 0, 1));
    let mut all = SlotSet::new();
    Slot::all().for_each(|slot| all.insert(slot));
    let mut writer = PageWriter::new(&all, &SlotSet::new());
    for key in vouched {
        let name = name(key);
        let position = shard.index.find(name.as_ref().hashed()).expect("its bytes are here");
        let row = shard.index.row(position);
        writer.push(&snowskin_protocol::wire::control::Entry {
            name: name.as_ref(),
            version: row.version(),
            value_bytes: row.value_bytes(),
            checksum: row.checksum(),
            holder: shard.me,
            lease_ms: 0,
            is_kept: false,
        });
    }
    let body = writer.finish(LAST_PAGE);
    let page = Page::decode(&body).expect("a page");
    shard.take_page(&page, true, NOW);
    assert!(shard.is_taking());
    shard.finish_taking(&page.given);
}

#[test]
fn what_was_removed_elsewhere_is_buried_when_its_slot_comes_back() {
    let mut shard = with_records(&["kept", "gone"]);
    assert!(!shard.may_have_strangers());
    shard.apply_table(&table(2, 1, 0));
    shard.confirm_given(&{
        let mut all = SlotSet::new();
        Slot::all().for_each(|slot| all.insert(slot));
        all
    });
    assert!(
        shard.take_strangers_out() && buried(&mut shard).is_empty(),
        "the new home may still refer to both"
    );
    take_all_back(&mut shard, &["kept"]);
    assert!(shard.may_have_strangers());
    while !shard.take_strangers_out() {}
    assert!(!shard.may_have_strangers());
    assert_eq!((buried(&mut shard), shard.stats().objects_on_ssd), (vec![name("gone")], 1));
}

#[test]
fn what_was_lost_elsewhere_is_buried_when_its_slot_comes_back() {
    let mut shard = with_records(&["a", "b"]);
    shard.apply_table(&table(2, 1, LOST));
    assert!(shard.take_strangers_out() && buried(&mut shard).is_empty());
    shard.apply_table(&table(3, 0, LOST));
    claim_all(&mut shard);
    while !shard.take_strangers_out() {}
    assert_eq!((buried(&mut shard).len(), shard.stats().objects_on_ssd), (2, 0));
}

#[test]
fn a_row_that_is_evicted_while_it_is_written_is_buried() {
    let mut shard = with_records(&[]);
    assert_eq!(put(&mut shard, "k", &[7; 1000]), ItemStatus::Ok);
    assert_eq!(put(&mut shard, "last", b"last"), ItemStatus::Ok);
    let demotion = shard.begin_demotion(NOW, true).expect("one may go");
    shard.demotion_begun(demotion.position(), RecordId(9));
    // As an operator's unmount does at its deadline.
    shard.evict(demotion.position());
    assert_eq!(buried(&mut shard), [name("k")], "its record will be there all the same");
}
