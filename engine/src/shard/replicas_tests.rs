//! Replicas: the cases worth naming.

use super::tests::{NOW, core, empty_shard, get, name, put, put_named, shard, table};
use super::*;
use snowskin_protocol::table::{LOST, NOBODY};
use snowskin_protocol::wire::control::{LAST_PAGE, Page};
use snowskin_protocol::wire::data::{ItemReply, KeyItem, PutHints};
use snowskin_protocol::wire::replica::{ReplicaOrder, ReplicaStatus, ReplicaVerb};
use snowskin_protocol::{Checksum, ObjectName};
use std::collections::BTreeSet;

const MEMORY: usize = 1 << 20;

/// Who has the object, by its home.
fn holders(shard: &mut Shard, key: &str) -> Holders {
    shard.holders(name(key).as_ref().hashed()).expect("it is held")
}

pub(super) fn order<'a>(
    verb: ReplicaVerb,
    name: &'a ObjectName,
    held: &Holders,
    home: Life,
) -> ReplicaOrder<'a> {
    let Holders { version, value_bytes, checksum, .. } = *held;
    let (source, name) = (held.cores[0], name.as_ref());
    ReplicaOrder { verb, home, source, name, version, value_bytes, checksum, lease_ms: 0 }
}

/// The holder has the bytes that `value` has; whether it takes them.
pub(super) fn take(holder: &mut Shard, order: &ReplicaOrder<'_>, value: &[u8]) -> bool {
    match holder.begin_take(order, NOW) {
        TakeStart::Here => true,
        TakeStart::NoRoom => false,
        TakeStart::Reserved(mut ticket) => {
            ticket.unfilled().copy_from_slice(value);
            ticket.advance(value.len());
            holder.finish_take(order, ticket)
        }
    }
}

fn replicate(home: &mut Shard, holder: &mut Shard, key: &str, value: &[u8]) {
    let (name, held) = (name(key), holders(home, key));
    let hashed = name.as_ref().hashed();
    assert!(home.begin_replica(hashed, held.version, holder.me));
    assert!(take(holder, &order(ReplicaVerb::Take, &name, &held, (home.me, home.incarnation)), value));
    assert!(home.may_keep(hashed, held.version, holder.me));
    let keep = order(ReplicaVerb::Keep, &name, &held, (home.me, home.incarnation));
    assert_eq!(holder.keep(&keep, NOW), ReplicaStatus::Done);
    home.end_replica(hashed, held.version, holder.me, ReplicaEnd::Kept);
}

fn remove(shard: &mut Shard, key: &str) -> ItemStatus {
    let name = name(key);
    shard.remove(name.as_ref().hashed(), &KeyItem::at_home(name.as_ref()), NOW).0.status
}

pub(super) fn evict_all(shard: &mut Shard, now: Moment) {
    while let Some(victim) = shard.victim(now, 0, true) {
        shard.evict(victim);
    }
    assert_eq!(shard.stats().objects, 0);
}

pub(super) fn news(shard: &Shard) -> Vec<ReplicaNews> {
    let news = shard.replica_news();
    std::iter::from_fn(|| news.try_receive()).collect()
}

/// The second core, which knows that the first one is the home of everything.
fn other(memory_bytes: usize) -> Shard {
    let mut other = empty_shard(1, memory_bytes);
    other.apply_table(&table(1, 0, NOBODY));
    other
}

#[test]
fn a_bound_object_changes_when_its_holders_have_let_go() {
    let (mut home, mut holder) = (shard(MEMORY), other(MEMORY));
    put(&mut home, "k", b"one");
    replicate(&mut home, &mut holder, "k", b"one");
    assert_eq!(holders(&mut home, "k").cores, [core(0), core(1)]);
    assert_eq!(holder.stats().replicas_kept, 1);
    let (name, version) = (name("k"), holders(&mut home, "k").version);
    assert_eq!(remove(&mut home, "k"), ItemStatus::Moving);
    assert_eq!(put_named(&mut home, &name, b"two", PutHints::default(), true, NOW), ItemStatus::Moving);
    assert_eq!(news(&home), [ReplicaNews::Release(name.clone(), version)], "said once");
    let hashed = name.as_ref().hashed();
    assert!(!home.may_keep(hashed, version, core(1)) && !home.begin_replica(hashed, version, core(2)));
    assert_eq!(home.binding(hashed, version), [core(1)]);
    holder.release(hashed, version);
    home.replica_released(hashed, version, core(1));
    assert_eq!(holder.stats().replicas_kept, 0);
    let (held, home_life) = (holders(&mut home, "k"), (core(0), Incarnation(1)));
    let keep = order(ReplicaVerb::Keep, &name, &held, home_life);
    assert_eq!(holder.keep(&keep, NOW), ReplicaStatus::Absent, "what comes late keeps nothing");
    assert_eq!(put_named(&mut home, &name, b"two", PutHints::default(), true, NOW), ItemStatus::Ok);
    let dropped = Dropped { holder: core(1), name: name.clone(), version };
    assert_eq!(news(&home), [ReplicaNews::Drop(dropped)]);
    holder.drop_replica(hashed, version);
    assert_eq!(holder.stats().objects, 0);
}

#[test]
fn an_entry_leaves_for_its_replica_when_its_bytes_go() {
    let (mut home, mut holder) = (shard(MEMORY), other(MEMORY));
    put(&mut home, "k", b"value");
    replicate(&mut home, &mut holder, "k", b"value");
    let later = NOW + Duration::from_secs(10);
    evict_all(&mut home, later);
    let told = get(&mut home, "k", later).unwrap_err();
    assert_eq!((told.status, told.holder), (ItemStatus::Elsewhere, core(1)));
    let name = name("k");
    let item = KeyItem::at_holder(name.as_ref(), told.version);
    assert!(matches!(holder.get(name.as_ref().hashed(), &item, later), Answer::Held(_)));
    // It comes home again, and the replica stays.
    let held = holders(&mut home, "k");
    let order = order(ReplicaVerb::Take, &name, &held, (core(0), Incarnation(1)));
    let mut ticket = home.room_at_home(&order, later).unwrap();
    ticket.unfilled().copy_from_slice(b"value");
    ticket.advance(5);
    assert!(home.come_home(name.as_ref().hashed(), held.version, ticket));
    assert_eq!(get(&mut home, "k", later).unwrap().value(), b"value");
    assert_eq!(holders(&mut home, "k").cores, [core(0), core(1)]);
    // Not with other bytes.
    assert!(home.leave_home(name.as_ref().hashed(), held.version, Moment::NEVER));
    let mut ticket = home.room_at_home(&order, later).unwrap();
    ticket.unfilled().copy_from_slice(b"wrong");
    ticket.advance(5);
    assert!(!home.come_home(name.as_ref().hashed(), held.version, ticket));
}

#[test]
fn who_has_lost_a_replica_is_taken_off_the_list_and_nobody_else() {
    let (mut home, mut one, mut two) = (shard(MEMORY), other(MEMORY), other(MEMORY));
    two.me = core(2);
    put(&mut home, "k", b"value");
    replicate(&mut home, &mut one, "k", b"value");
    replicate(&mut home, &mut two, "k", b"value");
    let name = name("k");
    let (hashed, version) = (name.as_ref().hashed(), holders(&mut home, "k").version);
    assert!(home.leave_home(hashed, version, Moment::NEVER));
    assert_eq!(holders(&mut home, "k").cores, [core(1), core(2)]);
    let gone = |holder| KeyItem::at_holder(name.as_ref(), version).of_holder(holder);
    // Two readers find the first one empty: the second one's word comes when another is named.
    home.forget(hashed, &gone(core(1)));
    home.forget(hashed, &gone(core(1)));
    assert_eq!(holders(&mut home, "k").cores, [core(2)]);
    home.drop_lost(&BTreeSet::from([core(2)]));
    assert_eq!(get(&mut home, "k", NOW).unwrap_err(), ItemReply::miss(MissReason::OwnerLost));
}

#[test]
fn the_only_holder_is_not_given_up_and_strangers_are_not_holders() {
    let (mut home, mut holder) = (shard(MEMORY), other(MEMORY));
    put(&mut home, "k", b"value");
    let (name, version) = (name("k"), holders(&mut home, "k").version);
    let hashed = name.as_ref().hashed();
    assert!(!home.leave_home(hashed, version, NOW) && !home.leave_holder(hashed, version, core(1)));
    replicate(&mut home, &mut holder, "k", b"value");
    assert!(!home.leave_holder(hashed, version, core(1)), "it has not let go");
    holder.release(hashed, version);
    home.replica_released(hashed, version, core(1));
    assert!(home.leave_holder(hashed, version, core(1)));
    assert_eq!(holders(&mut home, "k").cores, [core(0)]);
}

#[test]
fn a_leased_object_leaves_for_a_replica_that_is_leased_as_long() {
    let (mut home, mut holder) = (shard(MEMORY), other(MEMORY));
    put(&mut home, "k", b"value");
    replicate(&mut home, &mut holder, "k", b"value");
    get(&mut home, "k", NOW).unwrap();
    let (key, held) = (name("k"), holders(&mut home, "k"));
    let hashed = key.as_ref().hashed();
    assert!(!home.leave_home(hashed, held.version, NOW), "it is leased");
    assert_eq!(home.next_holder(hashed, held.version, NOW), Some((100, core(1))));
    let keep = order(ReplicaVerb::Keep, &key, &held, (core(0), Incarnation(1)));
    assert_eq!(holder.keep(&ReplicaOrder { lease_ms: 100, ..keep }, NOW), ReplicaStatus::Done);
    assert!(home.leave_home(hashed, held.version, NOW + Duration::from_millis(100)));
    assert_eq!(holder.victim(NOW + Duration::from_millis(99), 0, true), None);
    assert!(holder.victim(NOW + Duration::from_millis(101), 0, true).is_some());
}

#[test]
fn the_next_home_finds_what_was_kept_and_says_so() {
    let (mut home, mut holder) = (shard(MEMORY), other(MEMORY));
    put(&mut home, "kept", b"value");
    put(&mut home, "lost", b"other");
    replicate(&mut home, &mut holder, "kept", b"value");
    let mut next = table(2, 1, LOST);
    next.members[0].incarnation = Incarnation(2);
    let all = Slot::all().fold(SlotSet::new(), |mut all, slot| {
        all.insert(slot);
        all
    });
    holder.note_lost_homes(&all);
    holder.apply_table(&next);
    assert_eq!(get(&mut holder, "kept", NOW).unwrap_err().status, ItemStatus::Moving, "not yet");
    let slots = holder.claiming().clone();
    let page = holder.offer_page(&slots, 0, NOW);
    holder.take_offered(&Page::decode(&page).unwrap(), NOW);
    holder.finish_claiming(&slots);
    assert_eq!(get(&mut holder, "kept", NOW).unwrap().value(), b"value");
    assert_eq!(get(&mut holder, "lost", NOW).unwrap_err(), ItemReply::miss(MissReason::OwnerLost));
    assert_eq!((holder.stats().replicas_found, holder.stats().replicas_kept), (1, 0));
}

#[test]
fn who_is_left_alone_claims_what_it_keeps_itself() {
    let (mut home, mut holder) = (shard(MEMORY), other(MEMORY));
    put(&mut home, "k", b"value");
    replicate(&mut home, &mut holder, "k", b"value");
    let mut alone = table(2, 0, LOST);
    alone.members.remove(0);
    let mut empty = other(MEMORY);
    for shard in [&mut holder, &mut empty] {
        shard.apply_table(&alone);
    }
    assert_eq!(get(&mut empty, "k", NOW).unwrap_err(), ItemReply::miss(MissReason::OwnerLost), "at once");
    assert_eq!(get(&mut holder, "k", NOW).unwrap_err().status, ItemStatus::Moving);
    let slots = holder.claiming().clone();
    let page = holder.offer_page(&slots, 0, NOW);
    holder.take_offered(&Page::decode(&page).unwrap(), NOW);
    holder.finish_claiming(&slots);
    assert_eq!(get(&mut holder, "k", NOW).unwrap().value(), b"value");
}

#[test]
fn a_removal_of_all_waits_for_holders_and_then_goes_on() {
    let (mut home, mut holder) = (shard(MEMORY), other(MEMORY));
    for key in ["a", "b", "c"] {
        put(&mut home, key, b"value");
    }
    replicate(&mut home, &mut holder, "b", b"value");
    let later = NOW + Duration::from_secs(10);
    let (step, _) = home.remove_matching(0, b"t", None, false, later).unwrap();
    assert_eq!((step.removed, step.cursor), (1, 1));
    assert!(home.remove_matching(step.cursor, b"t", None, false, later).is_none());
    let version = holders(&mut home, "b").version;
    home.replica_released(name("b").as_ref().hashed(), version, core(1));
    let (step, _) = home.remove_matching(step.cursor, b"t", None, false, later).unwrap();
    assert_eq!((step.removed, step.cursor), (2, snowskin_protocol::wire::data::RemovedStep::DONE));
}

#[test]
fn holders_travel_with_their_slot() {
    let (mut home, mut one, mut two) = (shard(MEMORY), other(MEMORY), other(MEMORY));
    two.me = core(2);
    put(&mut home, "k", b"value");
    replicate(&mut home, &mut one, "k", b"value");
    replicate(&mut home, &mut two, "k", b"value");
    // Nobody knows whether this one has it.
    let version = holders(&mut home, "k").version;
    assert!(home.begin_replica(name("k").as_ref().hashed(), version, core(3)));
    let next = table(2, 1, 0);
    home.apply_table(&next);
    one.apply_table(&next);
    let slots = one.awaited().remove(&(core(0), Incarnation(1))).unwrap();
    let body = home.give_page(&slots, 0, false, NOW);
    let page = Page::decode(&body).unwrap();
    assert_eq!((page.entries.len(), page.cursor), (4, LAST_PAGE));
    one.take_page(&page, true, NOW);
    one.finish_taking(&page.given);
    // Its own bytes first; the old home's were never kept for anybody, the third one's are.
    let held = holders(&mut one, "k");
    assert_eq!(held.cores[0], core(1));
    assert!(held.cores.contains(&core(2)));
    assert_eq!(one.binding(name("k").as_ref().hashed(), held.version), [core(2), core(3)]);
}

#[test]
fn who_may_have_been_given_up_keeps_nothing() {
    let (mut home, mut holder) = (shard(MEMORY), other(MEMORY));
    put(&mut home, "k", b"value");
    replicate(&mut home, &mut holder, "k", b"value");
    assert!(holder.keeps_replicas());
    holder.let_all_go();
    let all = Slot::all().fold(SlotSet::new(), |mut all, slot| {
        all.insert(slot);
        all
    });
    let page = holder.offer_page(&all, 0, NOW);
    assert!(!holder.keeps_replicas() && Page::decode(&page).unwrap().entries.is_empty());
    // The bytes are there, and may be named to readers.
    let (name, version) = (name("k"), holders(&mut home, "k").version);
    let item = KeyItem::at_holder(name.as_ref(), version);
    assert!(matches!(holder.get(name.as_ref().hashed(), &item, NOW), Answer::Held(_)));
}

#[test]
fn a_miss_says_that_it_was_evicted_though_a_replica_was_never_there() {
    let mut home = shard(MEMORY);
    put(&mut home, "k", b"value");
    let (name, version) = (name("k"), holders(&mut home, "k").version);
    assert!(home.begin_replica(name.as_ref().hashed(), version, core(1)));
    let later = NOW + Duration::from_secs(10);
    evict_all(&mut home, later);
    assert_eq!(get(&mut home, "k", later).unwrap_err().status, ItemStatus::Elsewhere);
    let item = KeyItem::at_holder(name.as_ref(), version).of_holder(core(1)).because(MissReason::NotHeld);
    home.forget(name.as_ref().hashed(), &item);
    assert_eq!(get(&mut home, "k", later).unwrap_err(), ItemReply::miss(MissReason::Evicted));
}

#[test]
fn what_comes_wrong_is_no_replica() {
    let (mut home, mut holder) = (shard(MEMORY), other(1 << 16));
    put(&mut home, "k", b"value");
    put(&mut home, "large", &vec![7; 1 << 17]);
    let life = (core(0), Incarnation(1));
    let (key, held) = (name("k"), holders(&mut home, "k"));
    assert!(!take(&mut holder, &order(ReplicaVerb::Take, &key, &held, life), b"wrong"));
    let (large, held) = (name("large"), holders(&mut home, "large"));
    assert!(matches!(
        holder.begin_take(&order(ReplicaVerb::Take, &large, &held, life), NOW),
        TakeStart::NoRoom
    ));
    assert_eq!(holder.stats().objects, 0);
    assert_eq!(held.checksum, Checksum::of(&vec![7; 1 << 17]));
}
