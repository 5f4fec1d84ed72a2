//! The verbs of a shard against a model, and the cases worth naming.

use super::row::Facts;
use super::*;
use crate::segment::{Extent, Mapping};
use quickcheck::quickcheck;
use snowskin_protocol::table::NOBODY;
use snowskin_protocol::wire::control::{Entry, LAST_PAGE, Page, PageWriter, SlotSet};
use snowskin_protocol::wire::data::{ItemReply, ItemStatus, KeyItem, PutHints, PutItem, RemovedStep};
use snowskin_protocol::{Checksum, EngineId, Epoch, Incarnation, Member, ObjectName, Slot};
use std::collections::{BTreeSet, HashMap};

pub(super) const NOW: Moment = Moment(1_000_000_000);

pub(super) fn core(number: u16) -> CoreId {
    CoreId { engine: EngineId(1), core: number }
}

pub(super) fn table(epoch: u64, home: u16, origin: u16) -> RoutingTable {
    let mut table = RoutingTable::empty();
    table.epoch = Epoch(epoch);
    table.members = (0..2)
        .map(|number| Member {
            id: core(number),
            incarnation: Incarnation(1),
            address: "127.0.0.1:1".parse().unwrap(),
            weight: 1,
        })
        .collect();
    table.homes.fill(home);
    table.origins.fill(origin);
    table
}

/// A shard that is the home of everything.
pub(super) fn shard(memory_bytes: usize) -> Shard {
    let mut shard = empty_shard(0, memory_bytes);
    shard.apply_table(&table(1, 0, NOBODY));
    shard
}

fn segments(memory_bytes: usize) -> Segments {
    Segments::of(Mapping::plain(memory_bytes).unwrap(), 1)
}

pub(super) fn empty_shard(number: u16, memory_bytes: usize) -> Shard {
    let settings = Settings {
        high_watermark_permille: 1000,
        low_watermark_permille: 1000,
        lease_ms: 100,
        ..Settings::default()
    };
    let options = Options { settings, ..Options::default() };
    Shard::new((core(number), Incarnation(1)), segments(memory_bytes), options)
}

pub(super) fn name(key: &str) -> ObjectName {
    ObjectName::new("t", key.as_bytes()).unwrap()
}

fn put_with(shard: &mut Shard, key: &str, value: &[u8], replace: bool, now: Moment) -> ItemStatus {
    put_item(shard, key, value, PutHints::default(), replace, now)
}

pub(super) fn put_hinted(
    shard: &mut Shard,
    key: &str,
    value: &[u8],
    hints: PutHints,
    now: Moment,
) -> ItemStatus {
    put_item(shard, key, value, hints, false, now)
}

fn put_item(
    shard: &mut Shard,
    key: &str,
    value: &[u8],
    hints: PutHints,
    replace: bool,
    now: Moment,
) -> ItemStatus {
    put_named(shard, &name(key), value, hints, replace, now)
}

pub(super) fn put_named(
    shard: &mut Shard,
    name: &ObjectName,
    value: &[u8],
    hints: PutHints,
    replace: bool,
    now: Moment,
) -> ItemStatus {
    let item = PutItem { hints, ..PutItem::new(name.as_ref(), value.len() as u64, Checksum::of(value)) };
    match shard.begin_put(name.as_ref().hashed(), &item, replace, now) {
        PutStart::Answered(status) => status,
        PutStart::Reserved(mut ticket) => {
            fill(&mut ticket, value);
            shard.finish_put(name.as_ref().hashed(), ticket, replace, now).0
        }
    }
}

fn fill(ticket: &mut PutTicket, value: &[u8]) {
    ticket.unfilled().copy_from_slice(value);
    ticket.advance(value.len());
}

pub(super) fn put(shard: &mut Shard, key: &str, value: &[u8]) -> ItemStatus {
    put_with(shard, key, value, false, NOW)
}

pub(super) fn get(shard: &mut Shard, key: &str, now: Moment) -> Result<Extent, ItemReply> {
    let name = name(key);
    match shard.get(name.as_ref().hashed(), &KeyItem::at_home(name.as_ref()), now) {
        Answer::Held(held) => Ok(held.extent),
        Answer::OnSsd(demoted, _) => panic!("nothing went to {demoted:?}"),
        Answer::Not(reply) => Err(reply),
    }
}

pub(super) fn remove(shard: &mut Shard, key: &str, force: bool, now: Moment) -> ItemReply {
    let name = name(key);
    let flags = if force { KeyItem::FORCE } else { 0 };
    shard.remove(name.as_ref().hashed(), &KeyItem { flags, ..KeyItem::at_home(name.as_ref()) }, now).0
}

pub(super) fn accounts_are_square(shard: &Shard) {
    let stats = shard.stats();
    let sum = stats.free_bytes + stats.live_bytes + stats.pinned_bytes + stats.reserved_bytes;
    assert_eq!(sum, stats.capacity_bytes, "{stats:?}");
}

#[test]
fn the_first_writer_wins_and_upsert_replaces() {
    let mut shard = shard(1 << 16);
    assert_eq!(put(&mut shard, "k", b"one"), ItemStatus::Ok);
    assert_eq!(put(&mut shard, "k", b"two"), ItemStatus::Exists);
    assert_eq!(get(&mut shard, "k", NOW).unwrap().value(), b"one");
    let pinned = get(&mut shard, "k", NOW).unwrap();
    assert_eq!(put_with(&mut shard, "k", b"three", true, NOW), ItemStatus::Ok);
    assert_eq!(get(&mut shard, "k", NOW).unwrap().value(), b"three");
    assert_eq!(pinned.value(), b"one", "a reader keeps the old bytes");
    assert_eq!(shard.stats().pinned_bytes, 512);
    accounts_are_square(&shard);
    drop(pinned);
    assert_eq!(shard.stats().pinned_bytes, 0);
}

#[test]
fn the_second_of_two_racing_writers_is_told_so() {
    let mut shard = shard(1 << 16);
    let name = name("k");
    let item = PutItem::new(name.as_ref(), 3, Checksum::of(b"two"));
    let PutStart::Reserved(mut slow) = shard.begin_put(name.as_ref().hashed(), &item, false, NOW) else {
        panic!()
    };
    assert_eq!(put(&mut shard, "k", b"one"), ItemStatus::Ok);
    fill(&mut slow, b"two");
    assert_eq!(shard.finish_put(name.as_ref().hashed(), slow, false, NOW).0, ItemStatus::Exists);
    assert_eq!(get(&mut shard, "k", NOW).unwrap().value(), b"one");
    assert_eq!(shard.stats().reserved_bytes, 0);
}

#[test]
fn a_value_with_another_checksum_is_not_stored() {
    let mut shard = shard(1 << 16);
    let name = name("k");
    let item = PutItem::new(name.as_ref(), 3, Checksum::of(b"abc"));
    let PutStart::Reserved(mut ticket) = shard.begin_put(name.as_ref().hashed(), &item, false, NOW) else {
        panic!()
    };
    fill(&mut ticket, b"abd");
    assert_eq!(shard.finish_put(name.as_ref().hashed(), ticket, false, NOW).0, ItemStatus::ChecksumMismatch);
    assert_eq!(get(&mut shard, "k", NOW).unwrap_err().miss, Some(MissReason::NotHeld));
    assert_eq!(shard.stats().puts_corrupt, 1);
    accounts_are_square(&shard);
}

#[test]
fn an_abandoned_put_leaves_nothing() {
    let mut shard = shard(1 << 16);
    let name = name("k");
    let item = PutItem::new(name.as_ref(), 3000, Checksum(0));
    let PutStart::Reserved(ticket) = shard.begin_put(name.as_ref().hashed(), &item, false, NOW) else {
        panic!()
    };
    assert_eq!(shard.stats().reserved_bytes, 3072);
    shard.abandon_put(ticket);
    let stats = shard.stats();
    assert_eq!((stats.reserved_bytes, stats.free_bytes, stats.puts_broken), (0, 1 << 16, 1));
}

#[test]
fn full_memory_evicts_the_oldest_but_not_the_leased() {
    let mut shard = shard(8 * 512);
    for key in 0..8 {
        assert_eq!(put(&mut shard, &format!("k{key}"), &[key; 500]), ItemStatus::Ok);
    }
    // A read protects k0 and makes it young.
    get(&mut shard, "k0", NOW).unwrap();
    assert_eq!(put(&mut shard, "new", &[9; 1000]), ItemStatus::Ok);
    assert_eq!(get(&mut shard, "k1", NOW).unwrap_err().miss, Some(MissReason::Evicted));
    assert_eq!(get(&mut shard, "k2", NOW).unwrap_err().miss, Some(MissReason::Evicted));
    assert!(get(&mut shard, "k0", NOW).is_ok());
    for key in 3..8 {
        get(&mut shard, &format!("k{key}"), NOW).unwrap();
    }
    get(&mut shard, "new", NOW).unwrap();
    assert_eq!(put(&mut shard, "more", &[9; 1000]), ItemStatus::NoSpace, "everything is leased");
    let later = NOW + std::time::Duration::from_millis(101);
    assert_eq!(put_with(&mut shard, "more", &[9; 1000], false, later), ItemStatus::Ok);
    accounts_are_square(&shard);
}

#[test]
fn a_value_larger_than_the_segment_is_refused_and_evicts_nothing() {
    let mut shard = shard(4096);
    assert_eq!(put(&mut shard, "k", &[1; 4096]), ItemStatus::Ok);
    assert_eq!(put(&mut shard, "big", &[1; 4097]), ItemStatus::TooLarge);
    assert!(get(&mut shard, "k", NOW).is_ok());
}

#[test]
fn remove_respects_leases_unless_forced() {
    let mut shard = shard(1 << 16);
    put(&mut shard, "k", b"v");
    get(&mut shard, "k", NOW).unwrap();
    assert_eq!(remove(&mut shard, "k", false, NOW).status, ItemStatus::Leased);
    assert_eq!(remove(&mut shard, "k", true, NOW).status, ItemStatus::Ok);
    assert_eq!(remove(&mut shard, "k", true, NOW).miss, Some(MissReason::Removed));
    assert_eq!(get(&mut shard, "k", NOW).unwrap_err().miss, Some(MissReason::Removed));
    assert_eq!(put(&mut shard, "k", b"again"), ItemStatus::Ok);
}

#[test]
fn a_pattern_removes_what_it_matches_within_the_tenant() {
    let mut shard = shard(1 << 20);
    for key in 0..100 {
        put(&mut shard, &format!("llama/{key}"), b"v");
        put(&mut shard, &format!("qwen/{key}"), b"v");
    }
    get(&mut shard, "llama/7", NOW).unwrap();
    let pattern = regex::bytes::Regex::new("^llama/").unwrap();
    let (step, dropped) = shard.remove_matching(0, b"t", Some(&pattern), false, NOW).unwrap();
    assert_eq!((step.removed, step.leased, step.cursor), (99, 1, RemovedStep::DONE));
    assert!(dropped.is_empty());
    assert_eq!(shard.remove_matching(0, b"other", None, true, NOW).unwrap().0.removed, 0);
    assert_eq!(shard.remove_matching(0, b"t", None, true, NOW).unwrap().0.removed, 101);
    assert_eq!(shard.stats().objects, 0);
}

/// Hands everything from one shard to the other, as the tasks do it.
pub(super) fn hand_over(from: &mut Shard, to: &mut Shard) {
    let slots = to.awaited().into_values().next().expect("slots are awaited");
    let body = from.give_page(&slots, 0, false, NOW);
    let page = Page::decode(&body).unwrap();
    to.take_page(&page, true, NOW);
    to.finish_taking(&page.given);
    to.finish_taking(&page.declined);
    from.confirm_given(&page.given);
}

#[test]
fn entries_move_and_bytes_stay() {
    let (mut old, mut new) = (shard(1 << 16), empty_shard(1, 1 << 16));
    put(&mut old, "k", b"bytes");
    get(&mut old, "k", NOW).unwrap();
    for shard in [&mut old, &mut new] {
        shard.apply_table(&table(2, 1, 0));
    }
    assert_eq!(get(&mut old, "k", NOW).unwrap_err().status, ItemStatus::WrongHome);
    assert_eq!(get(&mut new, "k", NOW).unwrap_err().status, ItemStatus::Moving);
    hand_over(&mut old, &mut new);
    let elsewhere = get(&mut new, "k", NOW).unwrap_err();
    assert_eq!((elsewhere.status, elsewhere.holder), (ItemStatus::Elsewhere, core(0)));
    assert_eq!(put(&mut new, "k", b"other"), ItemStatus::Exists);
    assert_eq!(remove(&mut new, "k", false, NOW).status, ItemStatus::Leased, "the lease moves too");
    let name = name("k");
    let at_holder = KeyItem::at_holder(name.as_ref(), elsewhere.version);
    let Answer::Held(held) = old.get(name.as_ref().hashed(), &at_holder, NOW) else {
        panic!("the holder has it")
    };
    assert_eq!(held.extent.value(), b"bytes");
}

#[test]
fn a_holder_gives_the_version_that_it_is_asked_for_and_no_other() {
    let (mut old, mut new) = (shard(1 << 16), empty_shard(1, 1 << 16));
    put(&mut old, "k", b"bytes");
    for shard in [&mut old, &mut new] {
        shard.apply_table(&table(2, 1, 0));
    }
    hand_over(&mut old, &mut new);
    let (k, version) = (name("k"), get(&mut new, "k", NOW).unwrap_err().version);
    for other in [Version(version.0 - 1), Version(version.0 + 1)] {
        let item = KeyItem::at_holder(k.as_ref(), other);
        assert!(
            matches!(old.get(k.as_ref().hashed(), &item, NOW), Answer::Not(reply) if reply.status == ItemStatus::Miss)
        );
        assert_eq!(old.lookup(k.as_ref().hashed(), &item, NOW).status, ItemStatus::Miss);
    }
    assert_eq!(
        old.lookup(k.as_ref().hashed(), &KeyItem::at_holder(k.as_ref(), version), NOW).status,
        ItemStatus::Ok
    );
}

#[test]
fn a_new_home_vouches_for_the_very_bytes_that_the_entry_names_and_no_others() {
    let same = |entry: &Entry<'_>| (entry.version, entry.checksum);
    let other_version = |entry: &Entry<'_>| (Version(entry.version.0 + 1), entry.checksum);
    let other_bytes = |entry: &Entry<'_>| (entry.version, Checksum::of(b"other"));
    type Change = fn(&Entry<'_>) -> (Version, Checksum);
    for (change, is_held) in [(same as Change, true), (other_version, false), (other_bytes, false)] {
        let (mut first, mut second) = (shard(1 << 16), empty_shard(1, 1 << 16));
        put(&mut first, "k", b"bytes");
        for shard in [&mut first, &mut second] {
            shard.apply_table(&table(2, 1, 0));
        }
        hand_over(&mut first, &mut second);
        for shard in [&mut first, &mut second] {
            shard.apply_table(&table(3, 0, 1));
        }
        let slots = first.awaited().into_values().next().expect("slots are awaited");
        let body = second.give_page(&slots, 0, false, NOW);
        let mut page = Page::decode(&body).unwrap();
        (page.entries[0].version, page.entries[0].checksum) = change(&page.entries[0]);
        first.take_page(&page, true, NOW);
        first.finish_taking(&page.given);
        let got = get(&mut first, "k", NOW);
        assert_eq!(got.as_ref().map(Extent::value).ok(), is_held.then_some(&b"bytes"[..]));
        // It had the bytes, and has not any more.
        assert!(is_held || got.unwrap_err().miss == Some(MissReason::Evicted));
        accounts_are_square(&first);
    }
}

#[test]
fn lives_of_a_core_do_not_share_versions() {
    let version_in = |incarnation| {
        let life = (core(0), Incarnation(incarnation));
        let mut shard = Shard::new(life, segments(1 << 16), Options::default());
        let mut table = table(1, 0, NOBODY);
        table.members[0].incarnation = Incarnation(incarnation);
        shard.apply_table(&table);
        put(&mut shard, "k", b"bytes");
        shard.lookup(name("k").as_ref().hashed(), &KeyItem::at_home(name("k").as_ref()), NOW).version
    };
    let versions: BTreeSet<Version> = (1..=100).map(version_in).collect();
    assert_eq!(versions.len(), 100);
    // So far apart that no life counts up to another's.
    let apart = versions.iter().zip(versions.iter().skip(1)).map(|(one, next)| next.0 - one.0).min();
    assert!(apart > Some(1 << 32), "{apart:?}");
}

#[test]
fn a_replaced_or_removed_replica_is_dropped_at_its_holder() {
    let (mut old, mut new) = (shard(1 << 16), empty_shard(1, 1 << 16));
    put(&mut old, "k", b"bytes");
    for shard in [&mut old, &mut new] {
        shard.apply_table(&table(2, 1, 0));
    }
    hand_over(&mut old, &mut new);
    let name = name("k");
    let item = PutItem::new(name.as_ref(), 3, Checksum::of(b"new"));
    let PutStart::Reserved(mut ticket) = new.begin_put(name.as_ref().hashed(), &item, true, NOW) else {
        panic!()
    };
    fill(&mut ticket, b"new");
    let (status, dropped) = new.finish_put(name.as_ref().hashed(), ticket, true, NOW);
    let dropped = dropped.expect("the holder is to be told");
    assert_eq!((status, dropped.holder), (ItemStatus::Ok, core(0)));
    old.drop_replica(name.as_ref().hashed(), Version(dropped.version.0 + 1));
    assert_eq!(old.stats().objects, 1, "another version stays");
    old.drop_replica(dropped.name.as_ref().hashed(), dropped.version);
    assert_eq!(old.stats().objects, 0);
    assert_eq!(get(&mut new, "k", NOW).unwrap().value(), b"new");
}

#[test]
fn a_holder_that_does_not_know_why_has_lost_it() {
    for (told, remembered) in [
        (Some(MissReason::Corrupt), MissReason::Corrupt),
        (Some(MissReason::OwnerLost), MissReason::OwnerLost),
        (Some(MissReason::NotHeld), MissReason::OwnerLost),
        (Some(MissReason::Removed), MissReason::OwnerLost),
        (None, MissReason::OwnerLost),
    ] {
        let (mut old, mut new) = (shard(1 << 16), empty_shard(1, 1 << 16));
        put(&mut old, "k", b"bytes");
        for shard in [&mut old, &mut new] {
            shard.apply_table(&table(2, 1, 0));
        }
        hand_over(&mut old, &mut new);
        let k = name("k");
        let gone = KeyItem::at_holder(k.as_ref(), get(&mut new, "k", NOW).unwrap_err().version);
        new.forget(k.as_ref().hashed(), &told.map_or(gone, |reason| gone.because(reason)));
        assert_eq!(get(&mut new, "k", NOW).unwrap_err().miss, Some(remembered));
    }
}

#[test]
fn a_stale_descriptor_is_forgotten_once_the_holder_says_so() {
    let (mut old, mut new) = (shard(1 << 16), empty_shard(1, 1 << 16));
    put(&mut old, "k", b"bytes");
    for shard in [&mut old, &mut new] {
        shard.apply_table(&table(2, 1, 0));
    }
    hand_over(&mut old, &mut new);
    let version = get(&mut new, "k", NOW).unwrap_err().version;
    let k = name("k");
    new.forget(k.as_ref().hashed(), &KeyItem::at_holder(k.as_ref(), Version(version.0 + 1)));
    assert_eq!(get(&mut new, "k", NOW).unwrap_err().status, ItemStatus::Elsewhere);
    let gone = KeyItem::at_holder(k.as_ref(), version);
    new.forget(k.as_ref().hashed(), &gone.because(MissReason::Evicted));
    assert_eq!(get(&mut new, "k", NOW).unwrap_err().miss, Some(MissReason::Evicted));
}

#[test]
fn what_was_removed_at_another_home_does_not_come_back_with_the_slot() {
    let (mut old, mut new) = (shard(1 << 16), empty_shard(1, 1 << 16));
    put(&mut old, "k", b"bytes");
    for shard in [&mut old, &mut new] {
        shard.apply_table(&table(2, 1, 0));
    }
    hand_over(&mut old, &mut new);
    // The message to the holder is lost.
    assert_eq!(remove(&mut new, "k", true, NOW).status, ItemStatus::Ok);
    for shard in [&mut old, &mut new] {
        shard.apply_table(&table(3, 0, 1));
    }
    hand_over(&mut new, &mut old);
    assert_eq!(get(&mut old, "k", NOW).unwrap_err().status, ItemStatus::Miss);
    assert_eq!(old.stats().objects, 0, "the orphan was freed when it was met");
    accounts_are_square(&old);
}

#[test]
fn entries_whose_holder_is_gone_are_dropped_as_lost() {
    let (mut old, mut new) = (shard(1 << 16), empty_shard(1, 1 << 16));
    put(&mut old, "k", b"bytes");
    for shard in [&mut old, &mut new] {
        shard.apply_table(&table(2, 1, 0));
    }
    hand_over(&mut old, &mut new);
    new.drop_lost(&[core(1)].into());
    assert_eq!(get(&mut new, "k", NOW).unwrap_err().status, ItemStatus::Elsewhere);
    new.drop_lost(&[core(0)].into());
    assert_eq!(get(&mut new, "k", NOW).unwrap_err().miss, Some(MissReason::OwnerLost));
}

/// Random puts, upserts, gets and removes in little memory, beside a map of what was last stored.
fn agrees_with_a_map(steps: Vec<(u8, u8, u16)>) -> bool {
    let mut shard = shard(16 * 512);
    let mut model: HashMap<u8, Vec<u8>> = HashMap::new();
    let mut pins = Vec::new();
    for (at, (action, key, size)) in steps.into_iter().enumerate() {
        let now = NOW + std::time::Duration::from_millis(at as u64 * 10);
        let key = key % 24;
        let text = format!("k{key}");
        match action % 8 {
            0..4 => {
                let value = vec![at as u8; usize::from(size) % 3000 + 1];
                let replace = action % 8 == 0;
                match put_with(&mut shard, &text, &value, replace, now) {
                    ItemStatus::Ok => drop(model.insert(key, value)),
                    // Held, so what is read must be what the model says; read below by somebody.
                    ItemStatus::Exists if !replace && model.contains_key(&key) => {}
                    ItemStatus::NoSpace => {}
                    _ => return false,
                }
            }
            4..6 => match get(&mut shard, &text, now) {
                Ok(extent) if model.get(&key).is_some_and(|value| value == extent.value()) => {
                    pins.push((extent.clone(), extent.value().to_vec()));
                }
                Ok(_) => return false,
                Err(reply) if reply.miss == Some(MissReason::NotHeld) => {
                    if model.contains_key(&key) {
                        return false;
                    }
                }
                Err(_) => drop(model.remove(&key)),
            },
            6 => match remove(&mut shard, &text, size % 2 == 0, now).status {
                ItemStatus::Ok | ItemStatus::Miss => drop(model.remove(&key)),
                ItemStatus::Leased => {}
                _ => return false,
            },
            _ if !pins.is_empty() => drop(pins.swap_remove(usize::from(size) % pins.len())),
            _ => {}
        }
        if pins.iter().any(|(extent, value)| extent.value() != value) {
            return false;
        }
        accounts_are_square(&shard);
    }
    true
}

quickcheck! {
    fn every_history_agrees_with_a_map(steps: Vec<(u8, u8, u16)>) -> bool {
        agrees_with_a_map(steps)
    }
}

#[test]
fn a_replica_of_another_history_is_not_taken_for_the_entry() {
    // Both cores count versions from 1: the same number means nothing.
    let (mut old, mut new) = (shard(1 << 16), empty_shard(1, 1 << 16));
    put(&mut old, "k", b"old bytes");
    for shard in [&mut old, &mut new] {
        shard.apply_table(&table(2, 1, 0));
    }
    hand_over(&mut old, &mut new);
    assert_eq!(remove(&mut new, "k", true, NOW).status, ItemStatus::Ok);
    let name = name("k");
    let mut page = PageWriter::new(&all_slots(), &Default::default());
    page.push(&Entry {
        name: name.as_ref(),
        version: Version(1),
        value_bytes: 9,
        checksum: Checksum::of(b"new bytes"),
        holder: core(1),
        lease_ms: 0,
        is_kept: false,
    });
    for shard in [&mut old, &mut new] {
        shard.apply_table(&table(3, 0, 1));
    }
    let body = page.finish(LAST_PAGE);
    let page = Page::decode(&body).unwrap();
    old.take_page(&page, true, NOW);
    old.finish_taking(&page.given);
    assert_eq!(get(&mut old, "k", NOW).unwrap_err().status, ItemStatus::Elsewhere);
}

fn all_slots() -> SlotSet {
    let mut all = SlotSet::new();
    Slot::all().for_each(|slot| all.insert(slot));
    all
}

#[test]
fn bytes_that_have_changed_in_memory_are_dropped_and_named() {
    let mut shard = shard(1 << 16);
    put(&mut shard, "k", b"bytes");
    let k = name("k");
    let position = shard.index.find(k.as_ref().hashed()).unwrap();
    let version = shard.index.row(position).version();
    let report = KeyItem { flags: KeyItem::CORRUPT, ..KeyItem::at_holder(k.as_ref(), version) };
    shard.forget(k.as_ref().hashed(), &report);
    assert_eq!(
        get(&mut shard, "k", NOW).unwrap().value(),
        b"bytes",
        "the bytes are right, the reader was not"
    );
    // As if a bit had flipped: the same bytes with another checksum.
    let generation = shard.index.row(position).generation();
    let place = shard.index.remove(position, Why::Dropped).place;
    let facts = Facts { version, value_bytes: 5, checksum: Checksum(1), generation };
    shard.index.insert(k.as_ref().hashed(), facts, place, &PutHints::default());
    shard.forget(k.as_ref().hashed(), &report);
    assert_eq!(get(&mut shard, "k", NOW).unwrap_err().miss, Some(MissReason::Corrupt));
    assert_eq!(shard.stats().live_bytes, 0);
}
