//! Lives and silences, on a clock of the tests' own.

use super::*;
use crate::testing::{at, at_epoch, in_life, member, report};
use snowskin_protocol::SLOT_COUNT;

fn membership() -> Membership {
    Membership::new(Timing::default())
}

fn state(members: &Membership, engine: u64, core: u16) -> Option<MemberState> {
    members.row(member(engine, core, 0).id).map(|row| row.state)
}

/// What a master does when it publishes all that is wanted.
fn publish(members: &mut Membership) {
    let table = RoutingTable { members: members.wanted(), ..RoutingTable::empty() };
    members.published(&table);
}

fn two_active() -> Membership {
    let mut members = membership();
    for engine in [1, 2] {
        members.register(at(0), &report(engine, 0, 1)).unwrap();
    }
    publish(&mut members);
    members
}

#[test]
fn an_engine_settles_when_all_cores_are_there_or_time_is_up() {
    let mut members = membership();
    assert!(!members.is_settling(at(0)));
    members.register(at(0), &report(1, 0, 2)).unwrap();
    assert!(members.is_settling(at(299)) && !members.is_settling(at(300)));
    members.register(at(100), &report(1, 1, 2)).unwrap();
    assert!(!members.is_settling(at(100)));
    publish(&mut members);
    assert_eq!(state(&members, 1, 1), Some(MemberState::Active));
    // Another engine settles for itself; one that is in is not waited for again.
    members.register(at(1_000), &report(2, 0, 3)).unwrap();
    assert!(members.is_settling(at(1_100)) && !members.is_settling(at(1_300)));
}

#[test]
fn silence_makes_suspect_then_dead_and_a_report_makes_active() {
    let mut members = two_active();
    for second in 1..=9 {
        assert!(members.heartbeat(at(second * 1000), &report(2, 0, 1)));
        members.advance(at(second * 1000));
        let expected = if second < 3 { MemberState::Active } else { MemberState::Suspect };
        assert_eq!(state(&members, 1, 0), Some(expected), "{second} s");
        assert_eq!(members.wanted().len(), 2);
    }
    let mut returned = two_active();
    returned.advance(at(4_000));
    assert!(returned.heartbeat(at(4_100), &report(1, 0, 1)));
    assert_eq!(state(&returned, 1, 0), Some(MemberState::Active));

    members.heartbeat(at(10_000), &report(2, 0, 1));
    members.advance(at(10_000));
    assert_eq!(state(&members, 1, 0), Some(MemberState::Dead));
    assert_eq!(members.wanted(), [member(2, 0, 64)]);
    // The dead has to register again, and joins again, in whatever life.
    assert!(!members.heartbeat(at(10_500), &report(1, 0, 1)));
    members.register(at(10_600), &report(1, 0, 1)).unwrap();
    assert_eq!(state(&members, 1, 0), Some(MemberState::Joining));
}

#[test]
fn the_dead_are_shown_for_a_while() {
    let mut members = two_active();
    for second in 1..=700 {
        members.heartbeat(at(second * 1000), &report(2, 0, 1));
        members.advance(at(second * 1000));
    }
    assert_eq!(state(&members, 1, 0), None);
    assert_eq!(members.rows().count(), 1);
}

#[test]
fn a_master_that_is_cut_off_gives_nobody_up() {
    let mut members = two_active();
    members.advance(at(60_000));
    assert_eq!(state(&members, 1, 0), Some(MemberState::Suspect));
    assert_eq!(members.wanted().len(), 2);
    // The first one is back; the other has all its time, and then no more.
    members.heartbeat(at(60_100), &report(2, 0, 1));
    for ms in (60_100..70_100).step_by(100) {
        members.heartbeat(at(ms), &report(2, 0, 1));
        members.advance(at(ms));
        assert_eq!(state(&members, 1, 0), Some(MemberState::Suspect));
    }
    members.advance(at(70_100));
    assert_eq!(state(&members, 1, 0), Some(MemberState::Dead));
}

#[test]
fn a_new_life_ends_the_old_one_of_all_its_cores_for_good() {
    let mut members = membership();
    for core in 0..2 {
        members.register(at(0), &report(1, core, 2)).unwrap();
    }
    publish(&mut members);
    let reborn = in_life(report(1, 0, 2), 2);
    members.register(at(1_000), &reborn).unwrap();
    assert_eq!(members.wanted(), [reborn.member]);
    assert!(members.is_settling(at(1_100)));
    assert!(!members.heartbeat(at(1_100), &report(1, 1, 2)));
    assert_eq!(members.register(at(1_100), &report(1, 1, 2)), Err(RegisterError::Replaced(EngineId(1))));
    members.register(at(1_200), &in_life(report(1, 1, 2), 2)).unwrap();
    assert!(!members.is_settling(at(1_200)));
    assert_eq!(members.wanted().len(), 2);
}

#[test]
fn a_first_frame_ends_no_other_life() {
    let mut members = two_active();
    let reborn = in_life(report(1, 0, 1), 2);
    // It may have been sent by a process that has died since, before the one that is there now.
    assert_eq!(members.introduce(at(1_000), &reborn), Ok(false));
    assert!(members.heartbeat(at(1_100), &report(1, 0, 1)));
    assert_eq!(members.row(reborn.member.id).map(|row| row.member.incarnation), Some(Incarnation(1)));
    // Who has heard the answer and says so again is alive.
    members.register(at(1_200), &reborn).unwrap();
    assert!(!members.heartbeat(at(1_300), &report(1, 0, 1)));
    // The same life, a new engine, and one that was ended: all of them learn at once what they are.
    assert_eq!(members.introduce(at(1_400), &reborn), Ok(true));
    assert_eq!(members.introduce(at(1_400), &report(3, 0, 1)), Ok(true));
    let replaced = Err(RegisterError::Replaced(EngineId(1)));
    assert_eq!(members.introduce(at(1_400), &report(1, 0, 1)), replaced);
}

#[test]
fn leaving_is_listed_without_weight_until_it_is_gone() {
    let mut members = two_active();
    let leaver = report(1, 0, 1);
    assert!(members.leave(at(100), &leaver));
    assert_eq!(members.wanted(), [member(1, 0, 0), member(2, 0, 64)]);
    // Neither a heartbeat nor a registration of the same life takes it back.
    assert!(members.heartbeat(at(200), &leaver));
    members.register(at(300), &leaver).unwrap();
    assert_eq!(state(&members, 1, 0), Some(MemberState::Leaving));
    let mut done = leaver;
    done.member.weight = 0;
    assert!(members.leave(at(400), &done));
    assert_eq!(members.wanted(), [member(2, 0, 64)]);
    assert!(!members.leave(at(500), &done));
}

#[test]
fn who_leaves_before_it_joined_or_dies_leaving_is_gone() {
    let mut members = membership();
    members.register(at(0), &report(1, 0, 1)).unwrap();
    members.leave(at(10), &report(1, 0, 1));
    assert_eq!(members.wanted(), []);
    let mut members = two_active();
    members.leave(at(0), &report(1, 0, 1));
    for second in 1..=10 {
        members.heartbeat(at(second * 1000), &report(2, 0, 1));
        members.advance(at(second * 1000));
    }
    assert_eq!(state(&members, 1, 0), Some(MemberState::Dead));
}

#[test]
fn a_heartbeat_may_change_weight_and_load() {
    let mut members = two_active();
    let mut heavier = report(1, 0, 1);
    heavier.member.weight = 128;
    heavier.load.objects = 9;
    members.heartbeat(at(100), &heavier);
    assert_eq!(members.wanted()[0].weight, 128);
    assert_eq!(members.row(heavier.member.id).unwrap().load.objects, 9);
}

#[test]
fn reports_that_cannot_be_are_refused() {
    let mut members = membership();
    let mut nowhere = report(1, 0, 1);
    nowhere.member.address = "0.0.0.0:7400".parse().unwrap();
    let address = nowhere.member.address;
    assert_eq!(members.register(at(0), &nowhere), Err(RegisterError::Address(address)));
    let error = RegisterError::Core { core: 2, engine_cores: 2 };
    assert_eq!(members.register(at(0), &report(1, 2, 2)), Err(error));
    assert_eq!(members.rows().count(), 0);
}

#[test]
fn the_limit_holds_and_the_dead_make_room() {
    let mut members = membership();
    for core in 0..MEMBERS_MAX as u16 {
        members.register(at(0), &report(1, core, u16::MAX)).unwrap();
    }
    assert_eq!(members.register(at(1), &report(2, 0, 1)), Err(RegisterError::Full));
    for second in 1..=10 {
        members.heartbeat(at(second * 1000), &report(1, 0, u16::MAX));
        members.advance(at(second * 1000));
    }
    members.register(at(10_001), &report(2, 0, 1)).unwrap();
    assert_eq!(members.rows().count(), MEMBERS_MAX);
}

fn table_of(members: &[Member]) -> RoutingTable {
    let (epoch, members) = (Epoch(5), members.to_vec());
    RoutingTable { epoch, members, homes: vec![0; SLOT_COUNT], ..RoutingTable::empty() }
}

#[test]
fn adopted_members_have_time_to_report() {
    let mut members = membership();
    members.register(at(0), &at_epoch(report(1, 0, 1), Epoch(5))).unwrap();
    assert_eq!(members.epoch_max(), Epoch(5));
    members.adopt(at(100), &table_of(&[member(1, 0, 64), member(2, 0, 64), member(3, 0, 0)]));
    let states = [1, 2, 3].map(|engine| state(&members, engine, 0).unwrap());
    assert_eq!(states, [MemberState::Active, MemberState::Active, MemberState::Leaving]);
    assert!(members.is_anyone_unheard());
    // A heartbeat is enough. The one without weight says that it never had one, so it does not leave.
    assert!(members.heartbeat(at(200), &report(2, 0, 1)));
    let mut lender = report(3, 0, 1);
    lender.member.weight = 0;
    assert!(members.heartbeat(at(200), &lender));
    assert_eq!(state(&members, 3, 0), Some(MemberState::Active));
    assert!(!members.is_anyone_unheard());
}

#[test]
fn adopting_keeps_what_has_been_heard() {
    let mut members = membership();
    members.register(at(0), &in_life(report(1, 0, 2), 2)).unwrap();
    members.register(at(0), &report(4, 0, 1)).unwrap();
    members.adopt(at(100), &table_of(&[member(1, 0, 64), member(1, 1, 64), member(2, 0, 64)]));
    // The old life of engine 1 is over, also for the core that has not registered yet.
    assert_eq!(state(&members, 1, 1), None);
    assert_eq!(state(&members, 1, 0), Some(MemberState::Joining));
    assert_eq!(state(&members, 4, 0), Some(MemberState::Joining));
    // A newer table does without engine 2, of which nothing has been heard.
    members.adopt(at(200), &table_of(&[member(3, 0, 64)]));
    assert_eq!(state(&members, 2, 0), None);
    assert_eq!(members.wanted().len(), 3);
}

#[test]
fn an_absurd_epoch_is_not_believed() {
    let mut members = membership();
    members.register(at(0), &at_epoch(report(1, 0, 1), Epoch(u64::MAX))).unwrap();
    assert_eq!(members.epoch_max(), Epoch(0));
}
