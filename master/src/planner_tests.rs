//! Properties of the planner, and the chains of origins one by one.

use super::*;
use crate::testing::member;
use quickcheck::{QuickCheck, TestResult, quickcheck};
use snowskin_protocol::{CoreId, Epoch, Incarnation, SLOT_COUNT};
use std::collections::BTreeSet;

/// The next table when nobody kept anything.
fn plan(previous: &RoutingTable, members: &[Member]) -> RoutingTable {
    super::plan(previous, members, &BTreeSet::new())
}

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

/// A core comes, dies, comes back in a new life, leaves, or gets another weight, and with it another address.
fn happen(members: &mut Vec<Member>, (kind, who, weight): (u8, u8, u8)) {
    let known = members.iter().position(|m| m.id.core == u16::from(who % 5));
    match (kind % 4, known) {
        (_, None) => members.push(member(1, u16::from(who % 5), u32::from(weight))),
        (0, Some(at)) => _ = members.remove(at),
        (1, Some(at)) => members[at].incarnation.0 += 1,
        (2, Some(at)) => members[at].weight = 0,
        (_, Some(at)) => {
            members[at].weight = u32::from(weight);
            members[at].address.set_port(20_000 + u16::from(weight));
        }
    }
    // The planner is promised no order.
    let turn = usize::from(weight) % members.len().max(1);
    members.rotate_left(turn);
}

/// One life of a core.
type Life = (CoreId, Incarnation);

/// A column's entry in words that mean the same in every table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Nobody,
    Lost,
    Core(Life),
}

fn who(table: &RoutingTable, entry: u16) -> Who {
    match entry {
        NOBODY => Who::Nobody,
        LOST => Who::Lost,
        index => Who::Core(life(&table.members[usize::from(index)])),
    }
}

fn life(member: &Member) -> Life {
    (member.id, member.incarnation)
}

/// The row of the table in the planner's head, with what it says.
fn row(before: &RoutingTable, after: &RoutingTable, slot: usize) -> (&'static str, Who) {
    let [old, new] = [before, after].map(|table| who(table, table.homes[slot]));
    let origin = who(before, before.origins[slot]);
    let there = |who: Who| match who {
        Who::Core(gone) if after.members.iter().all(|member| life(member) != gone) => None,
        other => Some(other),
    };
    match (there(old), there(origin)) {
        (None, _) if new == Who::Nobody => ("gone, nobody follows", Who::Lost),
        (None, _) => ("gone or in a new life", Who::Lost),
        (Some(Who::Nobody), None) => ("no home, and the last who left is gone", Who::Lost),
        (Some(Who::Nobody), Some(stays)) if stays != new || new == Who::Nobody => match stays {
            Who::Core(_) => ("no home, the last who left", stays),
            _ => ("no home", stays),
        },
        (Some(Who::Nobody), Some(_)) => ("no home, and back to the last who left", Who::Lost),
        (Some(old), None) if old == new => ("stays, its origin is gone", Who::Lost),
        (Some(old), Some(stays)) if old == new => ("stays", stays),
        (Some(old), _) => ("moves", old),
    }
}

/// Which rows of the head's table were needed to explain the step from one table to the next.
fn explained(before: &RoutingTable, after: &RoutingTable) -> BTreeSet<&'static str> {
    let explain = |slot: usize| {
        let (name, expected) = row(before, after, slot);
        assert_eq!(who(after, after.origins[slot]), expected, "slot {slot}: {name}");
        name
    };
    (0..SLOT_COUNT).map(explain).collect()
}

/// Survivors in their old order, then the new ones by id.
fn is_in_order(before: &RoutingTable, after: &RoutingTable, members: &[Member]) -> bool {
    let (old, new): (Vec<Member>, Vec<Member>) =
        after.members.iter().partition(|member| before.index_of(member.id).is_some());
    let all: BTreeSet<CoreId> = members.iter().map(|member| member.id).collect();
    [old.clone(), new.clone()].concat() == after.members
        && old.is_sorted_by_key(|member| before.index_of(member.id))
        && new.is_sorted_by_key(|member| member.id)
        && after.members.iter().map(|member| member.id).collect::<BTreeSet<_>>() == all
        && after.members.iter().all(|member| members.contains(member))
}

/// What really happened to some slots, remembered without looking at any origin.
#[derive(Default)]
struct Past {
    /// Per slot: its homes one after another.
    stints: Vec<Vec<Who>>,
    /// Lives that were missing in some table after they had been in one.
    dead: BTreeSet<Life>,
}

/// Every how manieth slot is remembered.
const REMEMBERED: usize = 64;

impl Past {
    fn remember(&mut self, before: &RoutingTable, after: &RoutingTable) {
        let there: BTreeSet<Life> = after.members.iter().map(life).collect();
        self.dead.extend(before.members.iter().map(life).filter(|life| !there.contains(life)));
        self.stints.resize(SLOT_COUNT / REMEMBERED, Vec::new());
        for (stints, slot) in self.stints.iter_mut().zip((0..SLOT_COUNT).step_by(REMEMBERED)) {
            let home = who(after, after.homes[slot]);
            if stints.last() != Some(&home) {
                stints.push(home);
            }
        }
    }

    /// An origin that is told is the last one who had the slot; one that is not told has never been, or is dead.
    fn is_told(&self, table: &RoutingTable) -> bool {
        self.stints.iter().zip((0..SLOT_COUNT).step_by(REMEMBERED)).all(|(stints, slot)| {
            let (now, past) = stints.split_last().expect("remembered");
            let mut past = past.iter().rev().filter(|stint| **stint != Who::Nobody);
            match who(table, table.origins[slot]) {
                Who::Nobody => past.next().is_none(),
                Who::Lost => past.any(|stint| stint == now || self.is_dead(stint)),
                origin => origin != *now && past.next() == Some(&origin),
            }
        })
    }

    fn is_dead(&self, stint: &Who) -> bool {
        matches!(stint, Who::Core(life) if self.dead.contains(life))
    }
}

/// A history of a few tables is a lot of slots: fewer histories, longer ones.
#[test]
fn every_history_is_as_the_table_in_the_head_says() {
    fn property(steps: Vec<(u8, u8, u8)>) -> bool {
        let (mut table, mut members) = (RoutingTable::empty(), Vec::new());
        let mut past = Past::default();
        steps.into_iter().take(10).all(|what| {
            happen(&mut members, what);
            let next = plan(&table, &members);
            explained(&table, &next);
            past.remember(&table, &next);
            let in_order = is_in_order(&table, &next, &members);
            table = next;
            in_order && past.is_told(&table)
        })
    }
    QuickCheck::new().tests(30).quickcheck(property as fn(Vec<(u8, u8, u8)>) -> bool);
}

#[test]
fn the_table_in_the_head_is_needed_whole() {
    let (comes, dies, again, leaves) = (3, 0, 1, 2);
    let history = [
        (comes, 0, 64),
        (comes, 1, 64),
        (comes, 2, 64),
        (dies, 0, 0),
        (again, 1, 0),
        (leaves, 1, 0),
        (leaves, 2, 0),
        (comes, 2, 64),
        (leaves, 2, 0),
        (dies, 2, 0),
        (dies, 1, 0),
    ];
    let (mut table, mut members, mut rows) = (RoutingTable::empty(), Vec::new(), BTreeSet::new());
    for what in history {
        happen(&mut members, what);
        let next = plan(&table, &members);
        rows.extend(explained(&table, &next));
        table = next;
    }
    // The last to have been a home dies while no slot has one, or is still there to be asked; and the only one dies.
    let (x, y) = (member(1, 0, 64), member(2, 0, 64));
    let leaving = Member { weight: 0, ..x };
    for then in [vec![], vec![leaving, y]] {
        let mut table = plan(&RoutingTable::empty(), &[x]);
        for members in [vec![leaving], then, vec![y], vec![]] {
            let next = plan(&table, &members);
            rows.extend(explained(&table, &next));
            table = next;
        }
    }
    let all = [
        "gone or in a new life",
        "gone, nobody follows",
        "moves",
        "no home",
        "no home, and back to the last who left",
        "no home, and the last who left is gone",
        "no home, the last who left",
        "stays",
        "stays, its origin is gone",
    ];
    assert_eq!(rows, BTreeSet::from(all));
}

quickcheck! {
    fn a_weight_that_changes_moves_slots_of_its_core_alone(weights: Vec<u8>, core: usize, weight: u8) -> TestResult {
        let mut members = cluster(&weights);
        if members.is_empty() {
            return TestResult::discard();
        }
        let before = plan(&RoutingTable::empty(), &members);
        let changed = core % members.len();
        let (old, new) = (members[changed].weight, u32::from(weight));
        members[changed].weight = new;
        // Neither of these is a reason to move.
        members.iter_mut().for_each(|member| member.address.set_port(9));
        let after = plan(&before, &members);
        let changed = before.index_of(members[changed].id).unwrap();
        TestResult::from_bool(is_sound(&after) && (0..SLOT_COUNT).all(|slot| {
            let (from, to) = (before.homes[slot], after.homes[slot]);
            from == to || (if new > old { to } else { from }) == changed && new != old
        }))
    }

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
        steps.into_iter().take(4).all(|what| {
            happen(&mut members, what);
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
