use super::*;
use snowskin_protocol::{EngineId, Epoch, Member};

const S: Slot = Slot(7);

fn core(number: u16) -> CoreId {
    CoreId { engine: EngineId(1), core: number }
}

fn life(number: u16) -> Life {
    (core(number), Incarnation(u64::from(number)))
}

fn member(number: u16) -> Member {
    Member {
        id: core(number),
        incarnation: Incarnation(u64::from(number)),
        address: "127.0.0.1:1".parse().unwrap(),
        weight: 1,
    }
}

/// A table of cores 0, 1 and 2 in which all slots have this home and this origin.
fn table(epoch: u64, home: u16, origin: u16) -> RoutingTable {
    let mut table = RoutingTable::empty();
    table.epoch = Epoch(epoch);
    table.members = (0..3).map(member).collect();
    table.homes.fill(home);
    table.origins.fill(origin);
    table
}

fn one(slot: Slot) -> SlotSet {
    let mut slots = SlotSet::new();
    slots.insert(slot);
    slots
}

/// Taker and origin go through a whole hand-over of slot [`S`].
fn hand_over(origin: &mut Slots, taker: &mut Slots) -> (bool, bool) {
    let (given, declined) = origin.asked(&one(S));
    taker.begin_taking(&given);
    taker.finish_taking(&given);
    taker.finish_taking(&declined);
    origin.confirm_given(&given);
    (given.contains(S), declined.contains(S))
}

#[test]
fn a_join_moves_a_slot() {
    let (mut x, mut y) = (Slots::new(), Slots::new());
    x.apply(&table(1, 0, NOBODY), life(0));
    assert_eq!(x.service(S), Service::Home { after_loss: false });
    let joined = table(2, 1, 0);
    y.apply(&joined, life(1));
    assert_eq!(y.service(S), Service::Moving);
    // The origin has not heard yet: it still serves, so it gives nothing.
    assert_eq!(x.asked(&one(S)).0.len(), 0);
    x.apply(&joined, life(0));
    assert_eq!(x.service(S), Service::WrongHome);
    let generation = x.generation(S);
    assert_eq!(hand_over(&mut x, &mut y), (true, false));
    assert_eq!(y.service(S), Service::Home { after_loss: false });
    assert_eq!(x.generation(S), generation + 1, "the origin's entries no longer count");
    let rest = SLOT_COUNT as u64 - 1;
    assert_eq!((x.counts().frozen, y.counts().awaited, y.counts().served), (rest, rest, 1));
}

#[test]
fn a_chain_waits_for_the_middle() {
    let (mut x, mut y, mut z) = (Slots::new(), Slots::new(), Slots::new());
    x.apply(&table(1, 0, NOBODY), life(0));
    for (number, slots) in [(0, &mut x), (1, &mut y)] {
        slots.apply(&table(2, 1, 0), life(number));
    }
    for (number, slots) in [(0, &mut x), (1, &mut y), (2, &mut z)] {
        slots.apply(&table(3, 2, 1), life(number));
    }
    assert_eq!(y.service(S), Service::WrongHome);
    assert_eq!(y.asked(&one(S)), (SlotSet::new(), SlotSet::new()), "not yet");
    assert_eq!(hand_over(&mut x, &mut y), (true, false));
    assert_eq!(y.service(S), Service::WrongHome, "it has them only to pass them on");
    assert_eq!(hand_over(&mut y, &mut z), (true, false));
    assert_eq!(z.service(S), Service::Home { after_loss: false });
}

#[test]
fn a_slot_comes_back_before_it_was_taken() {
    let (mut x, mut y) = (Slots::new(), Slots::new());
    x.apply(&table(1, 0, NOBODY), life(0));
    for (number, slots) in [(0, &mut x), (1, &mut y)] {
        slots.apply(&table(2, 1, 0), life(number));
        slots.apply(&table(3, 0, 1), life(number));
    }
    let generation = x.generation(S);
    assert_eq!(x.service(S), Service::Moving);
    assert_eq!(hand_over(&mut y, &mut x), (false, true), "the other never had it");
    assert_eq!(x.service(S), Service::Home { after_loss: false });
    assert_eq!(x.generation(S), generation, "and our entries still count");
}

#[test]
fn a_slot_comes_back_after_it_was_taken() {
    let (mut x, mut y) = (Slots::new(), Slots::new());
    x.apply(&table(1, 0, NOBODY), life(0));
    for (number, slots) in [(0, &mut x), (1, &mut y)] {
        slots.apply(&table(2, 1, 0), life(number));
    }
    // Taken, but the confirmation is lost.
    let (given, _) = x.asked(&one(S));
    y.begin_taking(&given);
    y.finish_taking(&given);
    for (number, slots) in [(0, &mut x), (1, &mut y)] {
        slots.apply(&table(3, 0, 1), life(number));
    }
    let generation = x.generation(S);
    assert_eq!(hand_over(&mut y, &mut x), (true, false));
    assert_eq!(x.generation(S), generation + 1, "what the other says counts, not what we froze");
}

#[test]
fn a_lost_origin_means_serving_after_a_loss() {
    let mut y = Slots::new();
    y.apply(&table(2, 1, 0), life(1));
    let mut gone = table(3, 1, LOST);
    gone.members[0].incarnation = Incarnation(99);
    y.apply(&gone, life(1));
    assert_eq!(y.service(S), Service::Home { after_loss: true });
    assert!(y.awaited().is_empty());
}

#[test]
fn an_origin_that_lives_is_kept_although_the_table_forgot_it() {
    // Epochs 3 and 4 (given away and back, the other died) were never seen here.
    let mut y = Slots::new();
    y.apply(&table(2, 1, 0), life(1));
    y.apply(&table(5, 1, LOST), life(1));
    assert_eq!(y.service(S), Service::Moving);
    assert_eq!(y.awaited().keys().next(), Some(&(core(0), Incarnation(0))));
}

#[test]
fn a_table_that_knows_an_earlier_life_gives_us_nothing() {
    let mut reborn = Slots::new();
    reborn.apply(&table(4, 0, NOBODY), (core(0), Incarnation(99)));
    assert_eq!(reborn.service(S), Service::WrongHome);
    let mut next = table(5, 0, LOST);
    next.members[0].incarnation = Incarnation(99);
    reborn.apply(&next, (core(0), Incarnation(99)));
    assert_eq!(reborn.service(S), Service::Home { after_loss: true });
}
