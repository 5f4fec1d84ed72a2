//! Properties of the planner, and the chains of origins one by one.

use super::*;
use crate::testing::member;
use quickcheck::{TestResult, quickcheck};
use snowskin_protocol::{CoreId, Epoch, Incarnation, SLOT_COUNT};

/// Members of ten engines with weights from 1 to 256, a handful: planning is 65,536 questions.
fn cluster(weights: &[u8]) -> Vec<Member> {
    weights.iter().take(12).zip(0..).map(|(&w, n)| member(u64::from(n % 10), n, u32::from(w) + 1)).collect()
}

fn share(table: &RoutingTable, index: u16) -> usize {
    table.homes.iter().filter(|&&home| home == index).count()
}

/// Whether a number of slots is what the weight asks for: six standard deviations of the draw, and a bit.
fn is_fair(slots: usize, weight: u32, weights: u32) -> bool {
    let p = f64::from(weight) / f64::from(weights);
    let expected = p * SLOT_COUNT as f64;
    let deviation = (expected * (1.0 - p)).sqrt();
    (slots as f64 - expected).abs() <= 6.0 * deviation + 2.0
}

/// What holds for every table.
fn is_sound(table: &RoutingTable) -> bool {
    let indices_valid = Slot::all().all(|slot| {
        let (home, origin) = (table.homes[slot.index()], table.origins[slot.index()]);
        let home_valid = home == NOBODY || table.members[usize::from(home)].weight > 0;
        let origin_valid = origin >= LOST || usize::from(origin) < table.members.len();
        home_valid && origin_valid && (home != origin || home == NOBODY)
    });
    let mut bytes = Vec::new();
    table.encode(&mut bytes);
    indices_valid && RoutingTable::decode(&bytes).as_ref() == Ok(table)
}

quickcheck! {
    fn slots_are_spread_by_weight(weights: Vec<u8>) -> TestResult {
        let members = cluster(&weights);
        let sum = members.iter().map(|member| member.weight).sum();
        let table = plan(&RoutingTable::empty(), &members);
        let fair = table.members.iter().zip(0..).all(|(m, index)| is_fair(share(&table, index), m.weight, sum));
        let fresh = table.origins.iter().all(|&origin| origin == NOBODY);
        TestResult::from_bool(fair && fresh && is_sound(&table) && table.epoch == Epoch(1))
    }

    fn a_join_moves_only_to_the_joiner(weights: Vec<u8>, weight: u8) -> TestResult {
        let mut members = cluster(&weights);
        if members.is_empty() {
            return TestResult::discard();
        }
        let before = plan(&RoutingTable::empty(), &members);
        members.insert(0, member(99, 0, u32::from(weight) + 1));
        let after = plan(&before, &members);
        let joiner = after.index_of(CoreId { engine: snowskin_protocol::EngineId(99), core: 0 }).unwrap();
        let sum = members.iter().map(|member| member.weight).sum();
        let minimal = Slot::all().map(Slot::index).all(|slot| {
            let (old, new) = (before.homes[slot], after.homes[slot]);
            let origin = if new == joiner { old } else { NOBODY };
            (new == old || new == joiner) && after.origins[slot] == origin
        });
        TestResult::from_bool(
            minimal && is_fair(share(&after, joiner), u32::from(weight) + 1, sum) && is_sound(&after),
        )
    }

    fn a_leave_and_a_death_move_only_their_slots(weights: Vec<u8>, who: usize, dies: bool) -> TestResult {
        let mut members = cluster(&weights);
        if members.len() < 2 {
            return TestResult::discard();
        }
        let before = plan(&RoutingTable::empty(), &members);
        let who = who % members.len();
        let gone = before.index_of(members[who].id).unwrap();
        if dies {
            members.remove(who);
        } else {
            members[who].weight = 0;
        }
        let after = plan(&before, &members);
        let minimal = Slot::all().map(Slot::index).all(|slot| {
            let home_id = |table: &RoutingTable| table.members[usize::from(table.homes[slot])].id;
            match before.homes[slot] == gone {
                true => after.origins[slot] == if dies { LOST } else { gone },
                false => home_id(&before) == home_id(&after) && after.origins[slot] == NOBODY,
            }
        });
        TestResult::from_bool(minimal && is_sound(&after))
    }

    fn any_history_leads_to_sound_tables(steps: Vec<(u8, u8, u8)>) -> bool {
        let mut table = RoutingTable::empty();
        let mut members: Vec<Member> = Vec::new();
        steps.into_iter().take(4).all(|(kind, who, weight)| {
            let known = members.iter().position(|m| m.id.core == u16::from(who % 5));
            match (kind % 4, known) {
                (_, None) => members.push(member(1, u16::from(who % 5), u32::from(weight))),
                (0, Some(at)) => _ = members.remove(at),
                (1, Some(at)) => members[at].incarnation.0 += 1,
                (2, Some(at)) => members[at].weight = 0,
                (_, Some(at)) => members[at].weight = u32::from(weight),
            }
            let next = plan(&table, &members);
            let grows = next.epoch == table.epoch.next();
            // The homes depend on who is there alone.
            let afresh = plan(&RoutingTable::empty(), &members);
            let same = Slot::all().all(|slot| {
                next.home(slot).map(|home| home.id) == afresh.home(slot).map(|home| home.id)
            });
            let twice = plan(&table, &members) == next;
            table = next;
            grows && same && twice && is_sound(&table)
        })
    }
}

#[test]
fn without_members_no_slot_has_a_home() {
    let table = plan(&RoutingTable::empty(), &[]);
    assert_eq!(table, RoutingTable { epoch: Epoch(1), ..RoutingTable::empty() });
}

#[test]
fn when_all_die_the_next_homes_know_that_entries_are_lost() {
    let full = plan(&RoutingTable::empty(), &[member(1, 0, 64)]);
    let deserted = plan(&full, &[]);
    assert!(deserted.homes.iter().all(|&home| home == NOBODY));
    let again = plan(&deserted, &[member(2, 0, 64)]);
    assert!(again.origins.iter().all(|&origin| origin == LOST));
}

#[test]
fn a_new_life_has_lost_what_the_old_one_had() {
    let (a, mut b) = (member(1, 0, 64), member(2, 0, 64));
    let before = plan(&RoutingTable::empty(), &[a, b]);
    b.incarnation = Incarnation(2);
    let after = plan(&before, &[a, b]);
    assert_eq!(after.homes, before.homes);
    for slot in Slot::all().map(Slot::index) {
        assert_eq!(after.origins[slot], if after.homes[slot] == 1 { LOST } else { NOBODY });
    }
}

#[test]
fn a_chain_names_the_last_home_and_ends_when_it_dies() {
    let (x, y, z) = (member(1, 0, 64), member(2, 0, 64), member(3, 0, 64));
    let first = plan(&RoutingTable::empty(), &[x]);
    let second = plan(&first, &[x, y]);
    let third = plan(&second, &[x, y, z]);
    let moved_twice = |slot: &usize| second.homes[*slot] == 1 && third.homes[*slot] == 2;
    let twice: Vec<usize> = (0..SLOT_COUNT).filter(moved_twice).collect();
    assert!(!twice.is_empty());
    for &slot in &twice {
        assert_eq!((second.origins[slot], third.origins[slot]), (0, 1));
    }
    // Slots that stayed at Y still come from X, if Y has not got them yet.
    let stayed = (0..SLOT_COUNT).find(|&slot| second.homes[slot] == 1 && third.homes[slot] == 1).unwrap();
    assert_eq!(third.origins[stayed], 0);
    // X goes: Y's index moves down, and what had to come from X is lost.
    let fourth = plan(&third, &[y, z]);
    assert_eq!(fourth.members, [y, z]);
    assert_eq!(fourth.origins[stayed], LOST);
    assert!(twice.iter().all(|&slot| fourth.origins[slot] == 0 && fourth.homes[slot] == 1));
    // Y goes too: all it still had to hand over is lost.
    let fifth = plan(&fourth, &[z]);
    assert!(twice.iter().all(|&slot| fifth.origins[slot] == LOST));
}

#[test]
fn a_slot_that_comes_back_comes_from_where_it_was() {
    let (x, y) = (member(1, 0, 64), member(2, 0, 64));
    let first = plan(&RoutingTable::empty(), &[x]);
    let second = plan(&first, &[x, y]);
    let back = plan(&second, &[x, Member { weight: 0, ..y }]);
    for slot in Slot::all().map(Slot::index) {
        assert_eq!(back.homes[slot], 0);
        assert_eq!(back.origins[slot], if second.homes[slot] == 1 { 1 } else { NOBODY });
    }
}

#[test]
fn the_last_to_leave_is_asked_by_the_next_to_come() {
    let (x, y) = (member(1, 0, 64), member(2, 0, 64));
    let leaving = Member { weight: 0, ..x };
    let first = plan(&RoutingTable::empty(), &[x]);
    let second = plan(&first, &[leaving]);
    assert!(second.homes.iter().all(|&home| home == NOBODY) && second.origins.iter().all(|&from| from == 0));
    let third = plan(&second, &[leaving, y]);
    assert!(third.homes.iter().all(|&home| home == 1) && third.origins.iter().all(|&from| from == 0));
}

#[test]
fn homes_are_the_same_on_every_machine() {
    let members: Vec<Member> = (0..7).map(|core| member(5, core, 100 + u32::from(core) * 50)).collect();
    let table = plan(&RoutingTable::empty(), &members);
    let bytes: Vec<u8> = table.homes.iter().flat_map(|home| home.to_le_bytes()).collect();
    // Written down once: a change of the hash moves nearly every slot of every cluster at its next join.
    assert_eq!(xxhash_rust::xxh3::xxh3_64(&bytes), 0x9599_f00a_972a_78e9);
}
