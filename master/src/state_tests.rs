//! A master's life on a clock of the tests' own: joins, deaths, and what a new master learns from old cores.

use super::*;
use crate::testing::{at, at_epoch, in_life, member, report};
use snowskin_protocol::table::NOBODY;
use snowskin_protocol::{Incarnation, Slot};

fn fresh() -> MasterState {
    MasterState::new(at(0), Timing::default(), Settings::default())
}

/// Ticks up to a time, with heartbeats of these cores every second; answers the times of new tables.
fn run(state: &mut MasterState, from: u64, to: u64, alive: &[Report]) -> Vec<u64> {
    let mut changes = Vec::new();
    for ms in (from..to).step_by(100) {
        if ms % 1000 == 0 {
            for report in alive {
                let orders = state.heartbeat(at(ms), &at_epoch(*report, state.table().epoch));
                assert_eq!((orders.wants_table, orders.wants_register), (0, 0));
            }
        }
        if state.tick(at(ms)) {
            changes.push(ms);
        }
    }
    changes
}

/// These cores say that they know the newest table.
fn acknowledge(state: &mut MasterState, ms: u64, cores: &[Report]) {
    for core in cores {
        let known = at_epoch(*core, state.table().epoch);
        state.heartbeat(at(ms), &known);
    }
}

fn two_engines() -> (MasterState, [Report; 3]) {
    let mut state = fresh();
    let cores = [report(1, 0, 2), report(1, 1, 2), report(2, 0, 1)];
    for report in &cores {
        let orders = state.register(at(50), report).unwrap();
        assert_eq!((orders.epoch, orders.wants_table, orders.wants_register), (Epoch(0), 0, 0));
    }
    assert_eq!(run(&mut state, 100, 3_000, &cores), [2_000]);
    acknowledge(&mut state, 2_000, &cores);
    (state, cores)
}

#[test]
fn a_fresh_cluster_gets_one_table_after_the_quiet_time() {
    let (state, _) = two_engines();
    assert_eq!(state.table().epoch, Epoch(1));
    assert_eq!(state.table().members.len(), 3);
    assert_eq!(&RoutingTable::decode(&state.table_bytes()).unwrap(), state.table());
}

#[test]
fn an_engine_joins_in_one_epoch_when_complete_or_after_a_moment() {
    let (mut state, mut cores) = (fresh(), Vec::new());
    run(&mut state, 0, 3_000, &[]);
    assert_eq!(state.table().epoch, Epoch(0));
    cores.push(report(1, 0, 2));
    state.register(at(3_000), &cores[0]).unwrap();
    assert!(!state.tick(at(3_100)));
    cores.push(report(1, 1, 2));
    state.register(at(3_150), &cores[1]).unwrap();
    assert!(state.tick(at(3_200)));
    acknowledge(&mut state, 3_900, &cores);
    // One core of three comes; the others are not waited for beyond 300 ms.
    state.register(at(4_000), &report(2, 0, 3)).unwrap();
    assert_eq!(run(&mut state, 4_100, 5_000, &cores), [4_300]);
}

#[test]
fn a_change_does_not_wait_for_ever_for_engines_that_settle() {
    let (mut state, known) = two_engines();
    let mut known = known.to_vec();
    let mut changes = Vec::new();
    for step in 0..20 {
        let now = 3_000 + step * 200;
        known.push(report(10 + step, 0, 2));
        state.register(at(now), &known[known.len() - 1]).unwrap();
        if state.tick(at(now)) {
            changes.push(now);
            acknowledge(&mut state, now, &known);
        }
    }
    assert_eq!(changes, [4_000, 5_200, 6_400]);
}

#[test]
fn a_dead_core_loses_its_slots_and_a_returning_one_joins() {
    let (mut state, cores) = two_engines();
    let before = state.table().clone();
    // Core 0 of engine 1 was last heard of at 2 s.
    assert_eq!(run(&mut state, 3_000, 14_000, &cores[1..]), [12_000]);
    let after = state.table().clone();
    assert_eq!(after.members.len(), 2);
    for slot in Slot::all().map(Slot::index) {
        let was_its = before.homes[slot] == 0;
        assert_eq!(after.origins[slot], if was_its { LOST } else { NOBODY });
    }
    let orders = state.heartbeat(at(14_000), &cores[0]);
    assert_eq!(orders.wants_register, 1);
    state.register(at(14_010), &cores[0]).unwrap();
    assert!(state.tick(at(14_100)));
    assert_eq!(state.table().epoch, Epoch(3));
    assert!(state.table().origins.iter().all(|&origin| origin != 2));
}

fn moving(report: &Report, epoch: Epoch, slots_moving: u32) -> Report {
    Report { slots_moving, ..at_epoch(*report, epoch) }
}

#[test]
fn while_slots_are_on_their_way_nobody_joins_or_leaves_and_the_dead_are_taken_out() {
    let (mut state, cores) = two_engines();
    state.heartbeat(at(3_000), &moving(&cores[1], Epoch(1), 5));
    state.register(at(3_000), &report(9, 0, 1)).unwrap();
    state.leave(at(3_000), &at_epoch(cores[2], Epoch(1)));
    assert!(!state.tick(at(3_100)));
    // Core 0 of engine 1 falls silent; the others go on for as long as they like.
    for ms in (4_000..13_000).step_by(100) {
        state.heartbeat(at(ms), &moving(&cores[1], state.table().epoch, 5));
        state.heartbeat(at(ms), &at_epoch(report(9, 0, 1), state.table().epoch));
        state.leave(at(ms), &at_epoch(cores[2], state.table().epoch));
        state.tick(at(ms));
    }
    let ids =
        |state: &MasterState| state.table().members.iter().map(|it| (it.id, it.weight)).collect::<Vec<_>>();
    assert_eq!(state.table().epoch, Epoch(2));
    assert_eq!(ids(&state), [(cores[1].member.id, 64), (cores[2].member.id, 64)]);
    state.heartbeat(at(13_000), &moving(&cores[1], Epoch(2), 0));
    assert!(state.tick(at(13_100)));
    assert_eq!(
        ids(&state),
        [(cores[1].member.id, 64), (cores[2].member.id, 0), (report(9, 0, 1).member.id, 64)]
    );
}

#[test]
fn who_was_given_up_and_comes_back_hears_of_it_before_it_joins() {
    let (mut state, cores) = two_engines();
    assert_eq!(run(&mut state, 3_000, 14_000, &cores[1..]), [12_000]);
    // It still takes itself for the home of its slots, and would go on as such if the next table named it again.
    state.register(at(14_000), &at_epoch(cores[0], Epoch(1))).unwrap();
    assert!(!state.tick(at(14_100)));
    state.heartbeat(at(14_200), &at_epoch(cores[0], Epoch(2)));
    assert!(state.tick(at(14_300)));
    assert_eq!(state.table().members.len(), 3);
}

#[test]
fn a_restarted_engine_stays_home_of_slots_whose_entries_are_lost() {
    let (mut state, cores) = two_engines();
    let before = state.table().clone();
    let reborn = cores.map(|core| if core.member.id.engine.0 == 1 { in_life(core, 2) } else { core });
    assert_eq!(state.heartbeat(at(3_000), &reborn[0]).wants_register, 1);
    state.register(at(3_000), &reborn[0]).unwrap();
    assert!(!state.tick(at(3_100)));
    state.register(at(3_150), &reborn[1]).unwrap();
    assert!(state.tick(at(3_200)));
    let after = state.table();
    assert_eq!((&after.homes, after.epoch), (&before.homes, Epoch(2)));
    assert_eq!(after.members[0].incarnation, Incarnation(2));
    let lost =
        after.homes.iter().zip(&after.origins).all(|(&home, &origin)| (home == 2) == (origin == NOBODY));
    assert!(lost);
    // What is left of the old life is told apart.
    assert!(matches!(state.register(at(3_300), &cores[0]), Err(RegisterError::Replaced(_))));
}

#[test]
fn a_leaver_is_emptied_and_then_forgotten() {
    let (mut state, cores) = two_engines();
    let orders = state.leave(at(3_000), &at_epoch(cores[2], Epoch(1)));
    assert_eq!(orders.wants_register, 0);
    assert!(state.tick(at(3_100)));
    let table = state.table().clone();
    assert_eq!((table.members.len(), table.members[2].weight), (3, 0));
    assert!(table.homes.iter().all(|&home| home != 2) && table.origins.contains(&2));
    acknowledge(&mut state, 3_150, &cores[..2]);
    let mut done = at_epoch(cores[2], table.epoch);
    done.member.weight = 0;
    assert_eq!(state.leave(at(3_200), &done).wants_register, 0);
    assert!(state.tick(at(3_300)));
    assert_eq!(state.table().members.len(), 2);
    assert!(state.table().origins.iter().all(|&origin| origin == NOBODY || origin == LOST));
    assert_eq!(state.leave(at(3_400), &done).wants_register, 0);
}

#[test]
fn a_restarted_master_adopts_the_newest_table_and_goes_on() {
    let (old, cores) = two_engines();
    let table_one = old.table().clone();
    let table_two = planner::plan(&table_one, &[cores[0].member, cores[1].member], &BTreeSet::new());

    let mut state = fresh();
    let orders = state.heartbeat(at(100), &at_epoch(cores[0], Epoch(1)));
    assert_eq!((orders.epoch, orders.wants_register, orders.wants_table), (Epoch(0), 1, 1));
    let orders = state.register(at(110), &at_epoch(cores[0], Epoch(1))).unwrap();
    assert_eq!((orders.wants_register, orders.wants_table), (0, 1));
    assert_eq!(state.offer_table(at(120), table_one.clone()), Ok(true));
    assert_eq!(state.table(), &table_one);
    // Another core knows better.
    let orders = state.heartbeat(at(200), &at_epoch(cores[1], Epoch(2)));
    assert_eq!((orders.epoch, orders.wants_register, orders.wants_table), (Epoch(1), 0, 1));
    assert!(!state.tick(at(210)));
    assert_eq!(state.offer_table(at(220), table_two.clone()), Ok(true));
    assert_eq!(state.offer_table(at(230), table_one), Ok(false));
    assert_eq!(state.table(), &table_two);
    assert_eq!(state.orders_of_offer().epoch, Epoch(2));
    // Nobody is missing and nobody is new, so nothing changes; the next change has the next epoch.
    assert!(run(&mut state, 300, 5_000, &cores[..2]).is_empty());
    state.register(at(5_000), &report(9, 0, 1)).unwrap();
    assert!(state.tick(at(5_100)));
    assert_eq!(state.table().epoch, Epoch(3));
}

#[test]
fn after_an_adoption_changes_wait_for_all_members_or_their_deaths() {
    let (old, cores) = two_engines();
    let mut state = fresh();
    state.register(at(100), &at_epoch(cores[0], Epoch(1))).unwrap();
    state.register(at(100), &report(9, 0, 1)).unwrap();
    state.offer_table(at(120), old.table().clone()).unwrap();
    let alive = [cores[0], cores[1], report(9, 0, 1)];
    // Engine 2 is never heard of again: its death and the join of engine 9 are one change.
    assert_eq!(run(&mut state, 200, 15_000, &alive), [10_200]);
    let engines: Vec<u64> = state.table().members.iter().map(|m| m.id.engine.0).collect();
    assert_eq!((engines, state.table().epoch), (vec![1, 1, 9], Epoch(2)));
    assert!(state.table().origins.contains(&LOST));
}

#[test]
fn a_master_with_a_ledger_does_not_wait_when_all_report() {
    let (old, cores) = two_engines();
    let mut state = MasterState::with_table(
        at(0),
        Timing::default(),
        Settings::default(),
        (old.table().clone(), BTreeSet::new()),
        false,
    );
    for core in &cores {
        let orders = state.heartbeat(at(50), &at_epoch(*core, Epoch(1)));
        assert_eq!((orders.wants_register, orders.wants_table), (0, 0));
    }
    state.register(at(60), &report(9, 0, 1)).unwrap();
    assert!(state.tick(at(100)));
    assert_eq!(state.table().epoch, Epoch(2));
}

#[test]
fn a_table_that_nobody_offers_is_outlived() {
    let mut state = fresh();
    let secretive = at_epoch(report(1, 0, 1), Epoch(41));
    state.register(at(0), &secretive).unwrap();
    let mut changes = Vec::new();
    for ms in (100..12_000).step_by(100) {
        let orders = state.heartbeat(at(ms), &secretive);
        assert_eq!(orders.wants_table == 1, changes.is_empty());
        if state.tick(at(ms)) {
            changes.push((ms, state.table().epoch));
        }
    }
    assert_eq!(changes, [(10_100, Epoch(42))]);
    assert!(state.table().origins.iter().all(|&origin| origin == LOST));
}

#[test]
fn tables_that_cannot_be_are_not_adopted() {
    let mut state = fresh();
    let twice = RoutingTable {
        epoch: Epoch(3),
        members: vec![member(1, 0, 64), member(1, 0, 32)],
        ..RoutingTable::empty()
    };
    assert_eq!(state.offer_table(at(0), twice), Err(OfferError::Twice(member(1, 0, 64).id)));
    let never = RoutingTable { epoch: Epoch(u64::MAX), ..RoutingTable::empty() };
    assert_eq!(state.offer_table(at(0), never), Err(OfferError::Epoch(Epoch(u64::MAX))));
    assert_eq!(state.table().epoch, Epoch(0));
}

#[test]
fn a_master_that_stood_still_gives_nobody_up() {
    let (mut state, cores) = two_engines();
    // Stopped for a minute, it looks at the clock before it reads what came meanwhile.
    assert!(!state.tick(at(63_000)));
    state.heartbeat(at(63_010), &cores[0]);
    assert!(run(&mut state, 63_100, 70_000, &cores).is_empty());
}

#[test]
fn settings_reach_every_core_with_its_next_heartbeat() {
    let (mut state, cores) = two_engines();
    let change = SettingsChange { lease_ms: Some(99), ..SettingsChange::default() };
    assert_eq!(state.change_settings(change).unwrap().lease_ms, 99);
    assert_eq!(state.heartbeat(at(3_000), &cores[0]).settings.lease_ms, 99);
    let change = SettingsChange { high_watermark_permille: Some(1), ..SettingsChange::default() };
    assert!(state.change_settings(change).is_err());
    assert_eq!(state.settings().high_watermark_permille, 980);
}

#[test]
fn a_table_is_known_to_all_who_live_before_there_is_the_next_one() {
    let (mut state, cores) = two_engines();
    state.register(at(3_000), &report(9, 0, 1)).unwrap();
    assert!(state.tick(at(3_100)));
    acknowledge(&mut state, 3_200, &cores[1..]);
    acknowledge(&mut state, 3_200, &[report(9, 0, 1)]);
    state.register(at(3_300), &report(10, 0, 1)).unwrap();
    // Core 0 of engine 1 has not said that it knows epoch 2.
    assert!(!state.tick(at(4_000)));
    acknowledge(&mut state, 4_100, &cores[..1]);
    assert!(state.tick(at(4_200)));
    // It has not said that it knows epoch 3 either when a core dies, which is waited for no less.
    let others = [cores[1], report(9, 0, 1), report(10, 0, 1)];
    for ms in (5_000..20_000).step_by(100) {
        if ms % 1000 == 0 {
            acknowledge(&mut state, ms, &others);
            state.heartbeat(at(ms), &at_epoch(cores[0], Epoch(2)));
        }
        assert!(!state.tick(at(ms)), "{ms}");
    }
    acknowledge(&mut state, 20_000, &cores[..1]);
    assert!(state.tick(at(20_100)));
    assert!(state.table().index_of(cores[2].member.id).is_none(), "the dead one is taken out");
}

#[test]
fn who_dies_at_nearly_the_same_time_is_taken_out_with_one_table() {
    let (mut state, cores) = two_engines();
    // The second core of the first engine was heard of a little longer than the first one.
    run(&mut state, 3_000, 4_100, &cores);
    acknowledge(&mut state, 4_900, &cores[1..]);
    assert_eq!(run(&mut state, 5_000, 16_000, &cores[2..]), [14_900]);
    assert_eq!(state.table().members, [member(2, 0, 64)]);
    // Who is silent for much shorter is not waited for.
    let (mut state, cores) = two_engines();
    run(&mut state, 3_000, 4_100, &cores);
    run(&mut state, 5_000, 8_100, &cores[1..]);
    assert_eq!(run(&mut state, 9_000, 17_000, &cores[2..]), [14_000]);
    acknowledge(&mut state, 17_000, &cores[2..]);
    assert_eq!(run(&mut state, 17_000, 19_000, &cores[2..]), [18_000]);
}

#[test]
fn it_is_known_when_all_know_who_has_gone() {
    assert!(fresh().do_all_know(), "nobody is there");
    let (mut state, [one, other, staying]) = two_engines();
    assert!(state.do_all_know());
    let life = staying.member.life();
    for core in [one, other] {
        let mut gone = at_epoch(core, state.table().epoch);
        gone.member.weight = 0;
        state.leave(at(3_000), &gone);
    }
    assert!(!state.do_all_know(), "the table still has them");
    assert!(state.tick(at(3_100)) && state.table().members.len() == 1);
    assert!(!state.do_all_know(), "who stays has the old one");
    state.note_told(life, Epoch(1));
    state.note_told(one.member.life(), state.table().epoch);
    assert!(!state.do_all_know(), "an older table, and somebody who has gone");
    state.note_told(life, state.table().epoch);
    assert!(state.do_all_know());
    let (mut state, [one, other, staying]) = two_engines();
    for core in [one, other] {
        let mut gone = at_epoch(core, state.table().epoch);
        gone.member.weight = 0;
        state.leave(at(3_000), &gone);
    }
    assert!(state.tick(at(3_100)) && !state.do_all_know());
    acknowledge(&mut state, 3_200, &[staying]);
    assert!(state.do_all_know(), "it says itself that it has it");
}
