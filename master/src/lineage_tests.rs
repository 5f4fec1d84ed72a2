//! A former life is named as an origin only if it kept the slot and nobody has been the home since
//! (`docs/notes/2026-11-28-lineage.md`).

use super::*;
use crate::testing::member;
use quickcheck::{QuickCheck, TestResult};
use snowskin_protocol::{Incarnation, Origin};

/// Every how manieth slot is looked at.
const LOOKED_AT: usize = 97;

fn kept(lives: &[Member]) -> BTreeSet<Life> {
    lives.iter().map(Member::life).collect()
}

fn reborn(member: Member) -> Member {
    Member { incarnation: Incarnation(member.incarnation.0 + 1), ..member }
}

fn origins(table: &RoutingTable) -> BTreeSet<String> {
    Slot::all().map(|slot| format!("{:?}", table.origin(slot))).collect()
}

fn only(origin: Origin) -> BTreeSet<String> {
    BTreeSet::from([format!("{origin:?}")])
}

#[test]
fn a_new_life_of_a_lone_core_is_told_whose_slots_it_gets() {
    let x = member(1, 0, 64);
    let first = plan(&RoutingTable::empty(), &[x], &kept(&[]));
    let second = plan(&first, &[reborn(x)], &kept(&[x]));
    assert_eq!((second.former.clone(), origins(&second)), (vec![x.life()], only(Origin::Former(x.life()))));
    // If that one never says that it keeps them, they are lost; and so they are at once if the first did not.
    let third = plan(&second, &[reborn(reborn(x))], &kept(&[]));
    assert_eq!((third.former.len(), origins(&third)), (0, only(Origin::Lost)));
    assert_eq!(origins(&plan(&first, &[reborn(x)], &kept(&[]))), only(Origin::Lost));
}

#[test]
fn who_leaves_nobody_behind_is_remembered_until_somebody_comes() {
    let x = member(1, 0, 64);
    let first = plan(&RoutingTable::empty(), &[x], &kept(&[]));
    let leaving = plan(&first, &[Member { weight: 0, ..x }], &kept(&[x]));
    assert_eq!(still_kept(&first, &leaving, &kept(&[x])), kept(&[x]));
    let gone = plan(&leaving, &[], &kept(&[x]));
    assert_eq!(origins(&gone), only(Origin::Former(x.life())));
    let y = member(2, 0, 64);
    let taken = plan(&gone, &[y], &kept(&[]));
    assert_eq!(origins(&taken), only(Origin::Former(x.life())), "whoever has its volume");
    // Now somebody has been the home: what x has left means nothing any more.
    let back = plan(&taken, &[reborn(x)], &kept(&[]));
    assert_eq!(origins(&back), only(Origin::Lost));
    let beside = plan(&taken, &[y, reborn(x)], &kept(&[]));
    let moved = Slot::all().find(|slot| beside.home(*slot) != Some(&y)).expect("some go to x");
    assert_eq!(beside.origin(moved), Origin::Member(0));
}

#[test]
fn who_gets_a_slot_has_to_say_again_that_it_keeps_them() {
    let (x, y) = (member(1, 0, 64), member(2, 0, 64));
    let both = plan(&RoutingTable::empty(), &[x, y], &kept(&[]));
    let all = kept(&[x, y]);
    let alone = plan(&both, &[x], &all);
    assert_eq!(still_kept(&both, &alone, &all), kept(&[]), "x has slots of y");
    let third = member(3, 0, 64);
    let more = plan(&both, &[x, y, third], &all);
    assert_eq!(still_kept(&both, &more, &all), all, "these have only lost some");
}

#[test]
fn what_was_on_its_way_to_a_home_is_lost_with_its_origin() {
    let (x, y) = (member(1, 0, 64), member(2, 0, 64));
    let first = plan(&RoutingTable::empty(), &[x], &kept(&[]));
    let second = plan(&first, &[x, y], &kept(&[x]));
    // x dies while y takes: nobody knows how far it has come.
    let third = plan(&second, &[y], &kept(&[x]));
    for slot in Slot::all() {
        let was_moving = second.home(slot) == Some(&y);
        let expected = if was_moving { Origin::Lost } else { Origin::Former(x.life()) };
        assert_eq!(third.origin(slot), expected, "{slot:?}");
    }
}

/// What happened, remembered without looking at any origin.
#[derive(Default)]
struct Truth {
    /// Of some slots: their homes one after another, without those in a row.
    homes: Vec<Vec<Option<Life>>>,
    /// Who has said that it keeps its slots, and has got none since.
    keeps: BTreeSet<Life>,
    /// Who kept its slots when it was seen last.
    kept_to_the_end: BTreeSet<Life>,
}

impl Truth {
    fn homes_of(table: &RoutingTable) -> Vec<Option<Life>> {
        Slot::all().step_by(LOOKED_AT).map(|slot| table.home(slot).map(Member::life)).collect()
    }

    fn follow(&mut self, before: &RoutingTable, after: &RoutingTable) {
        let is_there = |life: &Life| after.members.iter().any(|member| member.life() == *life);
        self.kept_to_the_end.extend(self.keeps.iter().filter(|life| !is_there(life)));
        self.keeps.retain(is_there);
        for slot in Slot::all() {
            let [old, new] = [before, after].map(|table| table.home(slot).map(Member::life));
            if old != new {
                new.iter().for_each(|life| _ = self.keeps.remove(life));
            }
        }
        let homes = Truth::homes_of(after);
        self.homes.resize(homes.len(), Vec::new());
        for (past, home) in self.homes.iter_mut().zip(homes) {
            if past.last() != Some(&home) {
                past.push(home);
            }
        }
    }

    /// Whoever is named as a former life was the last home before the present one, and kept the slot to its end.
    fn is_told(&self, table: &RoutingTable) -> bool {
        self.homes.iter().zip(Slot::all().step_by(LOOKED_AT)).all(|(past, slot)| {
            let Origin::Former(life) = table.origin(slot) else { return true };
            let before: Vec<Life> = past[..past.len() - 1].iter().filter_map(|home| *home).collect();
            before.last() == Some(&life) && self.kept_to_the_end.contains(&life)
        })
    }
}

/// Cores come, die, come back, leave, and say at any time that they keep what they have.
fn former_lives_are_named_with_reason(events: Vec<(u8, u8)>) -> TestResult {
    let mut members: Vec<Member> = Vec::new();
    let mut table = RoutingTable::empty();
    let mut truth = Truth::default();
    let mut remembered: BTreeSet<Life> = BTreeSet::new();
    let mut lives = 0;
    for (kind, who) in events.into_iter().take(40) {
        let id = u16::from(who % 4);
        let known = members.iter().position(|member| member.id.core == id);
        match (kind % 8, known) {
            (0..2, Some(at)) => _ = members.remove(at),
            (2, Some(at)) => {
                lives += 1;
                members[at].incarnation = Incarnation(1000 + lives);
            }
            (3, Some(at)) => members[at].weight = 0,
            (4..8, Some(at)) => {
                let life = members[at].life();
                if table.members.iter().any(|member| member.life() == life) {
                    truth.keeps.insert(life);
                    remembered.insert(life);
                }
                continue;
            }
            (_, None) => {
                lives += 1;
                members.push(Member { incarnation: Incarnation(1000 + lives), ..member(1, id, 16) });
            }
            _ => unreachable!("kinds are below 8"),
        }
        let next = plan(&table, &members, &remembered);
        remembered = still_kept(&table, &next, &remembered);
        truth.follow(&table, &next);
        if !truth.is_told(&next) || remembered != truth.keeps {
            return TestResult::failed();
        }
        let mut bytes = Vec::new();
        next.encode(&mut bytes);
        if RoutingTable::decode(&bytes).as_ref() != Ok(&next) {
            return TestResult::error("not read back");
        }
        table = next;
    }
    TestResult::passed()
}

#[test]
fn a_former_life_was_the_last_home_and_kept_the_slot() {
    QuickCheck::new().tests(60).quickcheck(former_lives_are_named_with_reason as fn(_) -> _);
}
