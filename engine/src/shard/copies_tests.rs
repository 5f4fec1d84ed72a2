//! Copies on the SSD, admission, and what a crash would bring back: against a log that is a list.

use super::copies::{Admission, CopyStart, TierPolicy, WriteMode};
use super::tests::{NOW, accounts_are_square, get, name, put, put_hinted, remove, shard};
use super::tiered::Demotion;
use super::*;
use quickcheck::quickcheck;
use snowskin_protocol::wire::data::{PutHints, PutItem};
use snowskin_protocol::{Checksum, ObjectName};
use std::collections::{BTreeMap, VecDeque};

const VALUE: [u8; 4096] = [7; 4096];
/// Leases of reads before are over.
const LATER: Moment = Moment(NOW.0 + 1_000_000_000);

fn tiered(memory_bytes: usize, policy: TierPolicy) -> Shard {
    let mut shard = shard(memory_bytes);
    shard.enable_tier(policy, u64::MAX, None);
    shard
}

fn second_touch() -> TierPolicy {
    TierPolicy { admission: Admission::SecondTouch, ..TierPolicy::default() }
}

fn copy(shard: &mut Shard, key: &str, record: u32) -> Demotion {
    let name = name(key);
    let version = shard.version_of(name.as_ref().hashed()).expect("held");
    let CopyStart::Write(copy) = shard.begin_copy(name.as_ref().hashed(), version) else { panic!("{key}") };
    shard.copy_begun(copy.position(), RecordId(record));
    copy
}

fn end(shard: &mut Shard, copy: Demotion, record: u32, is_written: bool) {
    let (position, bytes, name) = (copy.position(), copy.extent.bytes(), copy.name.clone());
    drop(copy);
    shard.end_demotion(position, RecordId(record), name.as_ref(), bytes, is_written);
}

fn is_on_ssd(shard: &mut Shard, key: &str) -> bool {
    let name = name(key);
    let item = snowskin_protocol::wire::data::KeyItem::at_home(name.as_ref());
    matches!(shard.get(name.as_ref().hashed(), &item, LATER), Answer::OnSsd(..))
}

#[test]
fn a_copy_stays_in_memory_and_makes_eviction_free() {
    let mut shard = tiered(4 * 4096, TierPolicy::default());
    assert_eq!(put(&mut shard, "a", &VALUE), ItemStatus::Ok);
    let writing = copy(&mut shard, "a", 9);
    let version = shard.version_of(name("a").as_ref().hashed()).unwrap();
    let again = |shard: &mut Shard, version| shard.begin_copy(name("a").as_ref().hashed(), version);
    assert!(matches!(again(&mut shard, version), CopyStart::UnderWay));
    assert!(shard.is_writing(name("a").as_ref().hashed(), RecordId(9)));
    end(&mut shard, writing, 9, true);
    assert!(matches!(again(&mut shard, version), CopyStart::Written(_)));
    assert!(matches!(again(&mut shard, Version(version.0 + 1)), CopyStart::Replaced));
    assert!(get(&mut shard, "a", NOW).is_ok(), "it is in memory");
    assert_eq!(shard.evict_towards(0, LATER), EvictStep::Reached);
    assert!(is_on_ssd(&mut shard, "a"), "and was left to its copy");
    assert!(matches!(again(&mut shard, version), CopyStart::Written(_)));
    let stats = shard.stats();
    assert_eq!((stats.ssd_copied, stats.ssd_copied_bytes, stats.demoted, stats.evicted), (1, 4096, 0, 0));
    assert_eq!(remove(&mut shard, "a", true, LATER).status, ItemStatus::Ok);
    assert!(matches!(again(&mut shard, version), CopyStart::Replaced), "removed, so nothing is to be copied");
    accounts_are_square(&shard);
}

#[test]
fn what_is_being_copied_is_nobodys_victim_and_a_refused_copy_is_none() {
    let mut shard = tiered(4 * 4096, TierPolicy::default());
    for key in ["a", "b", "c", "d"] {
        assert_eq!(put(&mut shard, key, &VALUE), ItemStatus::Ok);
    }
    let copies: Vec<Demotion> =
        (0..).zip(["a", "b", "c", "d"]).map(|(record, key)| copy(&mut shard, key, record)).collect();
    assert_eq!(put_hinted(&mut shard, "e", &VALUE, PutHints::default(), LATER), ItemStatus::NoSpace);
    assert!(shard.begin_demotion(LATER, true).is_none());
    for (record, copy) in (0..).zip(copies) {
        end(&mut shard, copy, record, record == 1);
    }
    assert_eq!(put_hinted(&mut shard, "e", &VALUE, PutHints::default(), LATER), ItemStatus::Ok);
    assert_eq!(shard.evict_towards(0, LATER), EvictStep::Reached);
    let stats = shard.stats();
    assert_eq!((stats.objects, stats.objects_on_ssd, stats.evicted), (0, 1, 4), "one has a copy");
    assert!(is_on_ssd(&mut shard, "b"));
}

/// Nobody would know of its record: with the next restart it would come back, whatever was put since.
#[test]
fn what_goes_while_it_is_being_written_is_buried_for_whatever_reason_it_goes() {
    for (record, is_evicted) in [(1, true), (2, false)] {
        let mut shard = tiered(4 * 4096, TierPolicy::default());
        assert_eq!(put(&mut shard, "a", &VALUE), ItemStatus::Ok);
        let writing = copy(&mut shard, "a", record);
        match is_evicted {
            true => shard.evict(writing.position()),
            false => drop(remove(&mut shard, "a", true, NOW)),
        }
        let version = writing.version;
        end(&mut shard, writing, record, true);
        let (buried, released) = shard.take_tier_news();
        assert_eq!(buried, [(name("a"), version)]);
        assert_eq!(released.len(), 1, "its record is of no use");
        accounts_are_square(&shard);
    }
}

#[test]
fn what_was_used_once_is_not_let_in_and_what_comes_back_is() {
    for kind in PolicyKind::ALL {
        let options = Options { policy: kind, ..Options::default() };
        let mut shard = tiered(16 * 4096, second_touch());
        shard.index = Index::new(options.policy);
        shard.enable_tier(second_touch(), u64::MAX, None);
        let keys: Vec<String> = (0..8).map(|number| number.to_string()).collect();
        for key in &keys {
            assert_eq!(put(&mut shard, key, &VALUE), ItemStatus::Ok);
        }
        assert!(keys[..3].iter().all(|key| get(&mut shard, key, NOW).is_ok()));
        let admitted = |shard: &mut Shard| {
            let mut names: Vec<ObjectName> = Vec::new();
            while let Some(demotion) = shard.begin_demotion(LATER, true) {
                let record = names.len() as u32;
                shard.demotion_begun(demotion.position(), RecordId(record));
                names.push(demotion.name.clone());
                end(shard, demotion, record, true);
            }
            names.sort();
            names
        };
        // What was put last stays.
        assert_eq!(admitted(&mut shard), keys[..3].iter().map(|key| name(key)).collect::<Vec<_>>(), "{kind}");
        assert_eq!((shard.stats().ssd_not_admitted, shard.stats().evicted), (4, 4), "{kind}");
        // They went not long ago.
        for key in ["3", "4", "new", "last"] {
            assert_eq!(put(&mut shard, key, &VALUE), ItemStatus::Ok);
        }
        assert_eq!(admitted(&mut shard), [name("3"), name("4")], "{kind}");
        accounts_are_square(&shard);
    }
}

#[test]
fn without_budget_all_goes_as_without_an_ssd_but_for_what_has_a_copy() {
    let mut shard = tiered(16 * 4096, TierPolicy::default());
    for key in ["a", "b", "c", "last"] {
        assert_eq!(put(&mut shard, key, &VALUE), ItemStatus::Ok);
    }
    let writing = copy(&mut shard, "b", 5);
    end(&mut shard, writing, 5, true);
    assert!(shard.begin_demotion(LATER, false).is_none());
    let stats = shard.stats();
    assert_eq!((stats.ssd_over_budget, stats.evicted, stats.objects_on_ssd, stats.objects), (2, 2, 1, 1));
    // A lease protects from going nowhere.
    assert!(get(&mut shard, "last", LATER).is_ok());
    assert_eq!(put_hinted(&mut shard, "newest", &VALUE, PutHints::default(), LATER), ItemStatus::Ok);
    assert!(shard.begin_demotion(LATER, false).is_none() && get(&mut shard, "last", LATER).is_ok());
    assert!(shard.begin_demotion(LATER, true).is_some());
}

#[test]
fn what_is_larger_than_any_record_goes_as_without_an_ssd_and_is_in_nobodys_way() {
    let mut shard = shard(16 * 4096);
    let policy = TierPolicy { mode: WriteMode::Through, ..TierPolicy::default() };
    shard.enable_tier(policy, VALUE.len() as u64, None);
    let large = [VALUE; 2].concat();
    assert_eq!(put(&mut shard, "leased", &large), ItemStatus::Ok);
    assert_eq!(put(&mut shard, "large", &large), ItemStatus::Ok);
    assert_eq!(put(&mut shard, "small", &VALUE), ItemStatus::Ok);
    assert_eq!(put(&mut shard, "newest", &VALUE), ItemStatus::Ok);
    assert!(get(&mut shard, "leased", LATER).is_ok());
    assert_eq!(shard.next_fresh(true).expect("it is copied").name, name("small"));
    // Who is leased stays, who is not goes nowhere, and neither keeps the one behind them.
    assert_eq!(shard.begin_demotion(LATER, true).expect("it goes").name, name("small"));
    let stats = shard.stats();
    assert_eq!((stats.ssd_not_admitted, stats.evicted, stats.objects), (1, 1, 3));
    assert!(get(&mut shard, "leased", LATER).is_ok() && get(&mut shard, "large", LATER).is_err());
}

#[test]
fn what_is_written_through_comes_in_the_order_of_puts_and_is_what_is_still_held() {
    let mut shard = tiered(16 * 4096, TierPolicy { mode: WriteMode::Through, ..TierPolicy::default() });
    for key in ["a", "b", "c", "d", "e"] {
        assert_eq!(put(&mut shard, key, &VALUE), ItemStatus::Ok);
    }
    assert_eq!(remove(&mut shard, "a", true, NOW).status, ItemStatus::Ok);
    let writing = copy(&mut shard, "c", 1);
    end(&mut shard, writing, 1, true);
    assert_eq!(put(&mut shard, "a", &VALUE), ItemStatus::Ok);
    let mut order = Vec::new();
    while let Some(fresh) = shard.next_fresh(true) {
        order.push(fresh.name.clone());
    }
    assert_eq!(order, ["b", "d", "e", "a"].map(name));
    assert_eq!(put(&mut shard, "f", &VALUE), ItemStatus::Ok);
    assert!(shard.next_fresh(false).is_none(), "there is no budget for it");
    assert!(shard.next_fresh(true).is_none(), "nor is it named again");
    assert_eq!(shard.stats().ssd_over_budget, 0, "it may still be written when it leaves memory");
}

#[test]
fn a_reclaimed_copy_is_counted_and_its_object_is_in_memory_alone() {
    let mut shard = tiered(4 * 4096, TierPolicy::default());
    assert_eq!(put(&mut shard, "a", &VALUE), ItemStatus::Ok);
    let writing = copy(&mut shard, "a", 3);
    let version = writing.version;
    end(&mut shard, writing, 3, true);
    shard.forget_record(name("a").as_ref(), version, RecordId(3));
    assert_eq!(shard.stats().ssd_copies_reclaimed, 1);
    assert!(get(&mut shard, "a", NOW).is_ok());
    assert!(matches!(shard.begin_copy(name("a").as_ref().hashed(), version), CopyStart::Write(_)));
}

#[test]
fn admissions_have_names() {
    for admission in [Admission::All, Admission::SecondTouch] {
        assert_eq!(admission.to_string().parse(), Ok(admission));
    }
    let refused = "twice".parse::<Admission>().unwrap_err();
    assert_eq!(refused.to_string(), "there is no admission \"twice\": use all or second-touch");
}

/// What stands in the log, in order.
enum Logged {
    Record { name: ObjectName, version: Version, is_whole: bool },
    Tombstone(ObjectName),
}

/// A shard, a log, and what is on its way there.
struct World {
    shard: Shard,
    log: Vec<Logged>,
    under_way: VecDeque<(Demotion, u32)>,
}

impl World {
    fn pass_news(&mut self) {
        let (buried, _) = self.shard.take_tier_news();
        self.log.extend(buried.into_iter().map(|(name, _)| Logged::Tombstone(name)));
    }

    fn begin(&mut self, demotion: Demotion, stays: bool) {
        let record = self.log.len() as u32;
        let (name, version) = (demotion.name.clone(), demotion.version);
        self.log.push(Logged::Record { name, version, is_whole: false });
        match stays {
            true => self.shard.copy_begun(demotion.position(), RecordId(record)),
            false => self.shard.demotion_begun(demotion.position(), RecordId(record)),
        }
        self.under_way.push_back((demotion, record));
    }

    fn step(&mut self, kind: u8, key: &str) {
        let hashed = name(key);
        let hashed = hashed.as_ref().hashed();
        match kind % 12 {
            0..3 => drop(put(&mut self.shard, key, &VALUE)),
            3 => drop(self.upsert(key)),
            4 => drop(remove(&mut self.shard, key, true, LATER)),
            5 => drop(self.shard.evict_towards(300, LATER)),
            6 | 7 => {
                self.pass_news();
                let Some(version) = self.shard.version_of(hashed) else { return };
                if let CopyStart::Write(copy) = self.shard.begin_copy(hashed, version) {
                    self.begin(copy, true);
                }
            }
            8 => {
                self.pass_news();
                if let Some(demotion) = self.shard.begin_demotion(LATER, kind < 200) {
                    self.begin(demotion, false);
                }
            }
            9 => {
                // Whatever reason a group or a segment that is unmounted has.
                let Some((demotion, _)) = self.under_way.back() else { return };
                let is_there =
                    self.shard.version_of(demotion.name.as_ref().hashed()) == Some(demotion.version);
                if is_there {
                    self.shard.evict(demotion.position());
                }
            }
            _ => {
                let Some((demotion, record)) = self.under_way.pop_front() else { return };
                let written = !kind.is_multiple_of(3);
                if let Logged::Record { is_whole, .. } = &mut self.log[record as usize] {
                    *is_whole = written;
                }
                end(&mut self.shard, demotion, record, written);
            }
        }
    }

    fn upsert(&mut self, key: &str) -> Option<ItemStatus> {
        let name = name(key);
        let item = PutItem::new(name.as_ref(), 4096, Checksum::of(&VALUE));
        match self.shard.begin_put(name.as_ref().hashed(), &item, true, LATER) {
            PutStart::Answered(status) => Some(status),
            PutStart::Reserved(mut ticket) => {
                ticket.unfilled().copy_from_slice(&VALUE);
                ticket.advance(VALUE.len());
                Some(self.shard.finish_put(name.as_ref().hashed(), ticket, true, LATER).0)
            }
        }
    }

    /// What a life that begins now would find, when all is told that was to be buried.
    fn found_after_a_crash(&mut self) -> BTreeMap<ObjectName, Version> {
        self.pass_news();
        let mut found = BTreeMap::new();
        for logged in &self.log {
            if let Logged::Tombstone(name) = logged {
                found.remove(name);
            } else if let Logged::Record { name, version, is_whole: true } = logged {
                found.insert(name.clone(), *version);
            }
        }
        found
    }
}

quickcheck! {
    fn a_crash_brings_back_nothing_but_what_is_held(steps: Vec<(u8, u8)>) -> bool {
        let shard = tiered(6 * 4096, TierPolicy::default());
        let mut world = World { shard, log: Vec::new(), under_way: VecDeque::new() };
        for (kind, key) in steps {
            world.step(kind, &(key % 5).to_string());
            for (name, version) in world.found_after_a_crash() {
                let held = world.shard.version_of(name.as_ref().hashed());
                assert_eq!(held, Some(version), "{name:?} would come back");
            }
        }
        // Everything with a record is found, and what it says is there is.
        let found = world.found_after_a_crash();
        for key in 0..5 {
            let name = name(&key.to_string());
            let hashed = name.as_ref().hashed();
            let is_written = world.shard.version_of(hashed).is_some_and(|version| {
                matches!(world.shard.begin_copy(hashed, version), CopyStart::Written(_))
            });
            assert_eq!(is_written, found.contains_key(&name), "{name:?}");
        }
        accounts_are_square(&world.shard);
        true
    }
}
