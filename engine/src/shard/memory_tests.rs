//! What happens to memory: pins of two kinds, groups, chains, evicting down to a level, segments that come and go.

use super::tests::{
    NOW, accounts_are_square, empty_shard, get, hand_over, name, put, put_hinted, shard, table,
};
use super::*;
use crate::segment::{Mapping, SegmentError};
use quickcheck::quickcheck;
use snowskin_protocol::wire::data::{PutHints, PutItem};
use snowskin_protocol::{Checksum, ObjectName};

const VALUE: [u8; 4096] = [7; 4096];

fn later(ms: u64) -> Moment {
    NOW + Duration::from_millis(ms)
}

/// Values of one shape under numbered keys; answers which of them are held.
fn held(shard: &mut Shard, keys: std::ops::Range<usize>, now: Moment) -> Vec<usize> {
    keys.filter(|key| get(shard, &key.to_string(), now).is_ok()).collect()
}

fn hinted(flags: u32) -> PutHints {
    PutHints { flags, ..PutHints::default() }
}

#[test]
fn what_is_pinned_hard_stays_and_what_is_pinned_softly_goes_last() {
    let mut shard = shard(16 * 4096);
    for key in 0..16 {
        let hints = match key {
            0..4 => hinted(PutHints::HARD_PIN),
            4..8 => PutHints { soft_pin_ms: 1_000_000, ..PutHints::default() },
            _ => PutHints::default(),
        };
        assert_eq!(put_hinted(&mut shard, &key.to_string(), &VALUE, hints, NOW), ItemStatus::Ok);
    }
    for key in 16..24 {
        assert_eq!(put(&mut shard, &key.to_string(), &VALUE), ItemStatus::Ok);
    }
    assert_eq!(held(&mut shard, 0..16, NOW), (0..8).collect::<Vec<_>>(), "the others went first");
    // Everything is leased now, by those reads; then only what is pinned hard cannot go.
    for key in 24..36 {
        assert_eq!(put_hinted(&mut shard, &key.to_string(), &VALUE, hinted(0), later(200)), ItemStatus::Ok);
    }
    assert_eq!(held(&mut shard, 0..24, later(200)), (0..8).collect::<Vec<_>>());
    let hard = hinted(PutHints::HARD_PIN);
    for key in 36..44 {
        assert_eq!(put_hinted(&mut shard, &key.to_string(), &VALUE, hard, later(400)), ItemStatus::Ok);
    }
    assert_eq!(held(&mut shard, 0..36, later(400)), (0..8).collect::<Vec<_>>());
    // Nothing is left but what is pinned: the soft ones go.
    for key in 44..48 {
        assert_eq!(put_hinted(&mut shard, &key.to_string(), &VALUE, hard, later(600)), ItemStatus::Ok);
    }
    assert_eq!(held(&mut shard, 0..36, later(600)), [0, 1, 2, 3]);
    assert_eq!(put_hinted(&mut shard, "one more", &VALUE, hard, later(800)), ItemStatus::NoSpace);
    assert_eq!(super::tests::remove(&mut shard, "0", true, later(800)).status, ItemStatus::Ok);
    assert_eq!(put_hinted(&mut shard, "one more", &VALUE, hard, later(800)), ItemStatus::Ok);
    accounts_are_square(&shard);
}

/// Whether the bytes are still an entry's cannot be known here, so they must be able to go.
#[test]
fn a_hard_pin_is_a_soft_one_once_its_key_has_another_home() {
    let (mut old, mut new) = (shard(8 * 4096), empty_shard(1, 1 << 16));
    for key in 0..8 {
        let hints = if key < 2 { hinted(PutHints::HARD_PIN) } else { hinted(0) };
        assert_eq!(put_hinted(&mut old, &key.to_string(), &VALUE, hints, NOW), ItemStatus::Ok);
    }
    [&mut old, &mut new].into_iter().for_each(|shard| shard.apply_table(&table(2, 1, 0)));
    hand_over(&mut old, &mut new);
    assert_eq!(old.sweep(0), 0);
    for (permille, left) in [(500, 4), (250, 2), (0, 0)] {
        assert_eq!(old.evict_towards(permille, later(200)), EvictStep::Reached);
        assert_eq!(old.stats().objects, left);
        let is_left = (0..2).all(|key| old.knows(name(&key.to_string()).as_ref().hashed()));
        assert_eq!(is_left, left > 0, "what was pinned goes last");
    }
}

#[test]
fn names_without_room_are_no_space_and_the_unpinned_make_room() {
    let (mut shard, mut new) = (shard(1 << 20), empty_shard(1, 1 << 20));
    [&mut shard, &mut new].into_iter().for_each(|shard| shard.index.limit_names(1));
    let key = |number: usize| format!("{number:04000}");
    let put = |shard: &mut Shard, number, hints| put_hinted(shard, &key(number), b"value", hints, NOW);
    assert_eq!(put(&mut shard, 0, hinted(0)), ItemStatus::Ok);
    let statuses: Vec<_> =
        (1..30).map(|number| put(&mut shard, number, hinted(PutHints::HARD_PIN))).collect();
    let stored = statuses.iter().take_while(|&&status| status == ItemStatus::Ok).count();
    assert!((13..17).contains(&stored), "{stored} keys of 4,000 bytes fit in a page of 64 KiB");
    assert!(statuses[stored..].iter().all(|&status| status == ItemStatus::NoSpace));
    assert!(get(&mut shard, &key(0), NOW).is_err(), "it was not pinned, and made room");
    accounts_are_square(&shard);
    // Another home has no room for all of the entries: those are misses there.
    new.index.limit_names(0);
    [&mut shard, &mut new].into_iter().for_each(|shard| shard.apply_table(&table(2, 1, 0)));
    hand_over(&mut shard, &mut new);
    let reply = get(&mut new, &key(1), NOW).unwrap_err();
    assert_eq!((reply.status, reply.miss), (ItemStatus::Miss, Some(MissReason::Evicted)));
}

/// Room that was there when the value began to arrive may be taken when it is complete.
#[test]
fn the_last_room_for_a_name_goes_to_whoever_is_complete_first() {
    let mut shard = shard(1 << 20);
    shard.index.limit_names(1);
    let names: Vec<_> = (0..40).map(|number| name(&format!("{number:04000}"))).collect();
    let hints = hinted(PutHints::HARD_PIN);
    let item = |name: &ObjectName| PutItem { hints, ..PutItem::new(name.as_ref(), 1, Checksum::of(&[7])) };
    let mut tickets = Vec::new();
    for name in &names {
        match shard.begin_put(name.as_ref().hashed(), &item(name), false, NOW) {
            PutStart::Reserved(mut ticket) => {
                ticket.unfilled().fill(7);
                ticket.advance(1);
                tickets.push(ticket);
            }
            PutStart::Answered(status) => panic!("{status:?}: nothing is stored yet"),
        }
    }
    let finish =
        |(name, ticket): (&ObjectName, _)| shard.finish_put(name.as_ref().hashed(), ticket, false, NOW).0;
    let statuses: Vec<_> = names.iter().zip(tickets).map(finish).collect();
    let stored = statuses.iter().take_while(|&&status| status == ItemStatus::Ok).count();
    assert!((14..18).contains(&stored), "{stored}");
    assert!(statuses[stored..].iter().all(|&status| status == ItemStatus::NoSpace));
    assert_eq!(shard.stats().puts_no_space, 40 - stored as u64);
    accounts_are_square(&shard);
}

#[test]
fn a_soft_pin_runs_out_unless_it_is_used() {
    let mut shard = shard(8 * 4096);
    for key in 0..8 {
        let soft_pin_ms = if key < 2 { 300 } else { 0 };
        let hints = PutHints { soft_pin_ms, ..PutHints::default() };
        put_hinted(&mut shard, &key.to_string(), &VALUE, hints, NOW);
    }
    // One of the two is read again and again.
    for ms in (0..2_000).step_by(250) {
        assert!(get(&mut shard, "0", later(ms)).is_ok());
    }
    // A read or two make the other young; so many puts make it old again.
    for key in 100..120 {
        put_hinted(&mut shard, &key.to_string(), &VALUE, hinted(0), later(2_000));
    }
    assert_eq!(held(&mut shard, 0..8, later(2_000)), [0]);
}

#[test]
fn a_group_goes_together() {
    let mut shard = shard(16 * 4096);
    for key in 0..16 {
        let hints = PutHints { group: u64::from(key % 4 == 1), ..PutHints::default() };
        put_hinted(&mut shard, &key.to_string(), &VALUE, hints, NOW);
    }
    // The first victim is 0, the second 1, and with it go 5, 9 and 13.
    for key in 16..21 {
        put(&mut shard, &key.to_string(), &VALUE);
    }
    let gone: Vec<usize> = (0..16).filter(|key| get(&mut shard, &key.to_string(), NOW).is_err()).collect();
    assert!([1, 5, 9, 13].iter().all(|member| gone.contains(member)), "{gone:?}");
    assert_eq!(gone.len(), 5);
}

#[test]
fn the_end_of_a_chain_goes_before_its_beginning() {
    let mut shard = shard(9 * 4096);
    let mut parent = 0;
    for key in 0..8 {
        let flags = if key == 7 { PutHints::LEAF } else { 0 };
        put_hinted(
            &mut shard,
            &key.to_string(),
            &VALUE,
            PutHints { parent, flags, ..PutHints::default() },
            NOW,
        );
        parent = name(&key.to_string()).hash();
    }
    // What was put last is never the first to go.
    put(&mut shard, "other-0", &VALUE);
    for more in 1..7 {
        put(&mut shard, &format!("other-{more}"), &VALUE);
        let left = (0..8).take_while(|key| shard.knows(name(&key.to_string()).as_ref().hashed())).count();
        let of_chain = (0..8).filter(|key| shard.knows(name(&key.to_string()).as_ref().hashed())).count();
        assert_eq!(left, of_chain, "what is left of the chain is its beginning");
    }
}

#[test]
fn an_operator_evicts_down_to_a_level_and_leases_hold() {
    let mut shard = shard(64 * 4096);
    (0..64).for_each(|key| assert_eq!(put(&mut shard, &key.to_string(), &VALUE), ItemStatus::Ok));
    let to = |shard: &mut Shard, permille, now| {
        let steps = std::iter::repeat_with(|| shard.evict_towards(permille, now));
        steps.take(100).find(|step| *step != EvictStep::More)
    };
    assert_eq!(to(&mut shard, 500, NOW), Some(EvictStep::Reached));
    assert_eq!(shard.stats().objects, 32);
    let read: Vec<usize> = held(&mut shard, 0..64, NOW).into_iter().collect();
    assert_eq!(to(&mut shard, 0, later(99)), Some(EvictStep::Stuck));
    assert_eq!(held(&mut shard, 0..64, NOW), read, "all of them are leased");
    assert_eq!(to(&mut shard, 0, later(300)), Some(EvictStep::Reached));
    assert_eq!((shard.stats().objects, shard.stats().evicted), (0, 64));
    accounts_are_square(&shard);
}

/// Steps until the segment waits or is gone; answers whether it is gone.
fn unmounted(shard: &mut Shard, now: Moment) -> bool {
    for _ in 0..10_000 {
        match shard.unmount_step(now) {
            UnmountStep::More => {}
            UnmountStep::Waits => return false,
            UnmountStep::Gone { .. } => return true,
        }
    }
    panic!("it does not end");
}

#[test]
fn a_leaving_segment_moves_what_it_has_and_drops_the_rest_at_the_deadline() {
    let mut shard = shard(16 * 4096);
    (0..16).for_each(|key| assert_eq!(put(&mut shard, &key.to_string(), &VALUE), ItemStatus::Ok));
    let second = shard.segments_mut().mount(Mapping::plain(10 * 4096).unwrap()).unwrap();
    let pinned = get(&mut shard, "3", NOW).unwrap();
    shard.begin_unmount(0, later(1_000)).unwrap();
    assert_eq!(shard.begin_unmount(0, later(1_000)), Err(SegmentError::Leaving(0)));
    assert!(!unmounted(&mut shard, NOW), "ten have moved, six have found no room");
    assert_eq!(held(&mut shard, 0..16, NOW).len(), 16, "all are readable");
    accounts_are_square(&shard);
    assert!(!unmounted(&mut shard, later(1_000)), "somebody still reads there");
    assert_eq!(pinned.value(), VALUE);
    drop(pinned);
    assert!(unmounted(&mut shard, later(1_000)) && !shard.is_unmounting());
    let left = held(&mut shard, 0..16, later(1_000));
    assert_eq!(left.len(), 10);
    assert!(left.iter().all(|key| get(&mut shard, &key.to_string(), NOW).unwrap().value() == VALUE));
    assert_eq!(shard.stats().capacity_bytes, 10 * 4096);
    assert_eq!(shard.segments().iter().map(|(segment, _)| segment.number()).collect::<Vec<_>>(), [second]);
    accounts_are_square(&shard);
}

#[test]
fn a_large_value_moves_in_steps_and_is_never_half_there() {
    let value: Vec<u8> = (0..5 << 20).map(|at: u32| (at / 7) as u8).collect();
    let mut shard = shard(6 << 20);
    assert_eq!(put(&mut shard, "large", &value), ItemStatus::Ok);
    shard.segments_mut().mount(Mapping::plain(6 << 20).unwrap()).unwrap();
    shard.begin_unmount(0, later(1_000)).unwrap();
    let mut steps = 0;
    while matches!(shard.unmount_step(NOW), UnmountStep::More) {
        steps += 1;
        assert_eq!(get(&mut shard, "large", NOW).unwrap().value(), value);
        accounts_are_square(&shard);
    }
    assert!(steps >= 4, "{steps} steps");
    assert!(unmounted(&mut shard, NOW) || !shard.is_unmounting());
    assert_eq!(get(&mut shard, "large", NOW).unwrap().value(), value);
    assert_eq!(shard.stats().capacity_bytes, 6 << 20);
}

quickcheck! {
    /// Puts, reads, removals, mounts and unmounts in any order: whoever is held has its own bytes, and no byte is lost.
    fn segments_come_and_go_under_load(steps: Vec<(u8, u8, u8)>) -> bool {
        let mut shard = shard(8 * 4096);
        let mut ms = 0;
        let mut pins = Vec::new();
        for (kind, key, number) in steps {
            let (key, value) = (key % 16, vec![key % 16; usize::from(number) * 64 + 1]);
            let now = later(ms);
            match kind % 10 {
                0..4 => _ = put_hinted(&mut shard, &key.to_string(), &value, hinted(0), now),
                4 | 5 => {
                    if let Ok(extent) = get(&mut shard, &key.to_string(), now) {
                        assert!(extent.value().iter().all(|byte| *byte == key), "bytes of another key");
                        pins.push(extent);
                    }
                }
                6 => _ = super::tests::remove(&mut shard, &key.to_string(), true, now),
                7 if shard.segments().iter().count() < 4 => {
                    shard.segments_mut().mount(Mapping::plain((usize::from(number % 8) + 1) * 4096).unwrap()).unwrap();
                }
                8 => _ = shard.begin_unmount(u16::from(number % 4), now + Duration::from_millis(u64::from(key) * 10)),
                _ => {
                    ms += u64::from(number);
                    pins.truncate(usize::from(key));
                }
            }
            if number.is_multiple_of(2) {
                shard.unmount_step(later(ms));
            }
            accounts_are_square(&shard);
        }
        drop(pins);
        (0..4).for_each(|number| _ = shard.begin_unmount(number, later(ms)));
        // Those that were being unmounted have their time until then.
        for _ in 0..100 {
            shard.unmount_step(later(ms + 1_000));
        }
        let stats = shard.stats();
        (stats.capacity_bytes, stats.objects, shard.is_unmounting()) == (0, 0, false)
    }
}

#[test]
fn a_value_inherits_the_soft_pin_of_what_it_replaces_if_that_is_asked_for() {
    let mut shard = shard(16 * 4096);
    let pinned = PutHints { soft_pin_ms: 1_000_000, ..PutHints::default() };
    let replace = |shard: &mut Shard, key: &str, hints| {
        let name = super::tests::name(key);
        assert_eq!(super::tests::put_named(shard, &name, &VALUE, hints, true, NOW), ItemStatus::Ok);
    };
    for key in ["kept", "given up", "its own", "nothing"] {
        let hints = if key == "nothing" { hinted(0) } else { pinned };
        assert_eq!(put_hinted(&mut shard, key, &VALUE, hints, NOW), ItemStatus::Ok);
    }
    replace(&mut shard, "kept", hinted(PutHints::KEEP_SOFT_PIN));
    replace(&mut shard, "given up", hinted(0));
    let own = PutHints { soft_pin_ms: 7, ..hinted(PutHints::KEEP_SOFT_PIN) };
    replace(&mut shard, "its own", own);
    replace(&mut shard, "nothing", hinted(PutHints::KEEP_SOFT_PIN));
    let time = |key: &str| {
        let position = shard.index.find(super::tests::name(key).as_ref().hashed()).unwrap();
        shard.soft_pins.time_of(position).as_millis()
    };
    assert_eq!(["kept", "given up", "its own", "nothing"].map(time), [1_000_000, 0, 7, 0]);
}
