use super::*;
use quickcheck::quickcheck;
use snowskin_protocol::table::{LOST, NOBODY};
use snowskin_protocol::{CoreId, EngineId, Epoch, Incarnation, Member};

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
    x.apply(&table(1, 0, NOBODY), life(0), None);
    assert_eq!(x.service(S), Service::Home { after_loss: false });
    let joined = table(2, 1, 0);
    y.apply(&joined, life(1), None);
    assert_eq!(y.service(S), Service::Moving);
    // The origin has not heard yet: it still serves, so it gives nothing.
    assert_eq!(x.asked(&one(S)).0.len(), 0);
    x.apply(&joined, life(0), None);
    assert_eq!(x.service(S), Service::WrongHome);
    let generation = x.generation(S);
    assert_eq!(hand_over(&mut x, &mut y), (true, false));
    assert_eq!(y.service(S), Service::Home { after_loss: false });
    assert_eq!(x.generation(S), generation + 1, "the origin's entries no longer count");
    let rest = SLOT_COUNT as u64 - 1;
    assert_eq!((x.counts().frozen, y.counts().awaited, y.counts().served), (rest, rest, 1));
}

#[test]
fn a_slot_comes_back_before_it_was_taken() {
    let (mut x, mut y) = (Slots::new(), Slots::new());
    x.apply(&table(1, 0, NOBODY), life(0), None);
    for (number, slots) in [(0, &mut x), (1, &mut y)] {
        slots.apply(&table(2, 1, 0), life(number), None);
        slots.apply(&table(3, 0, 1), life(number), None);
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
    x.apply(&table(1, 0, NOBODY), life(0), None);
    for (number, slots) in [(0, &mut x), (1, &mut y)] {
        slots.apply(&table(2, 1, 0), life(number), None);
    }
    // Taken, but the confirmation is lost.
    let (given, _) = x.asked(&one(S));
    y.begin_taking(&given);
    y.finish_taking(&given);
    for (number, slots) in [(0, &mut x), (1, &mut y)] {
        slots.apply(&table(3, 0, 1), life(number), None);
    }
    let generation = x.generation(S);
    assert_eq!(hand_over(&mut y, &mut x), (true, false));
    assert_eq!(x.generation(S), generation + 1, "what the other says counts, not what we froze");
}

#[test]
fn who_has_said_farewell_serves_nothing_whatever_tables_say() {
    let mut x = Slots::new();
    x.apply(&table(1, 0, NOBODY), life(0), None);
    x.retire();
    assert_eq!((x.service(S), x.counts()), (Service::WrongHome, SlotCounts::default()));
    x.apply(&table(2, 0, NOBODY), life(0), None);
    assert_eq!((x.service(S), x.counts()), (Service::WrongHome, SlotCounts::default()));
}

#[test]
fn a_lost_origin_means_serving_after_a_loss() {
    let mut y = Slots::new();
    y.apply(&table(2, 1, 0), life(1), None);
    let mut gone = table(3, 1, LOST);
    gone.members[0].incarnation = Incarnation(99);
    y.apply(&gone, life(1), None);
    assert_eq!(y.service(S), Service::Moving, "others may keep replicas");
    assert!(y.awaited().is_empty() && y.is_awaited(S));
    let mut later = gone.clone();
    later.epoch = Epoch(4);
    y.apply(&later, life(1), None);
    assert_eq!(y.service(S), Service::Moving, "nobody has been asked yet");
    y.finish_claiming(&one(S));
    assert_eq!(y.service(S), Service::Home { after_loss: true });
    assert!(!y.claiming().contains(S) && !y.is_awaited(S));
}

#[test]
fn an_origin_that_lives_is_kept_although_the_table_forgot_it() {
    // Epochs 3 and 4 (given away and back, the other died) were never seen here.
    let mut y = Slots::new();
    y.apply(&table(2, 1, 0), life(1), None);
    y.apply(&table(5, 1, LOST), life(1), None);
    assert_eq!(y.service(S), Service::Moving);
    assert_eq!(y.awaited().keys().next(), Some(&(core(0), Incarnation(0))));
}

#[test]
fn a_table_that_knows_an_earlier_life_gives_us_nothing() {
    let mut reborn = Slots::new();
    reborn.apply(&table(4, 0, NOBODY), (core(0), Incarnation(99)), None);
    assert_eq!(reborn.service(S), Service::WrongHome);
    let mut next = table(5, 0, LOST);
    next.members[0].incarnation = Incarnation(99);
    reborn.apply(&next, (core(0), Incarnation(99)), None);
    reborn.finish_claiming(&one(S));
    assert_eq!(reborn.service(S), Service::Home { after_loss: true });
}

#[test]
fn an_heir_serves_what_its_former_life_has_left_and_nobody_else_does() {
    let former = (core(0), Incarnation(99));
    let mut left = table(2, 1, 3);
    left.former.push(former);
    let (mut heir, mut other) = (Slots::new(), Slots::new());
    heir.apply(&left, life(1), Some(former));
    heir.finish_claiming(&one(S));
    other.apply(&left, life(1), Some((core(1), Incarnation(99))));
    other.finish_claiming(&one(S));
    for slots in [&heir, &other] {
        assert_eq!(slots.service(S), Service::Home { after_loss: true });
    }
    assert_eq!(
        (heir.generation(S), other.generation(S)),
        (0, 1),
        "rows from before count here, and not there"
    );
    assert!(!heir.take_raised() && other.take_raised());
    // Somebody who awaited the slot of a member that is gone has lost it, whatever that one has left.
    let mut third = Slots::new();
    third.apply(&table(1, 1, 0), life(1), None);
    left.members[0].incarnation = Incarnation(1000);
    third.apply(&left, life(1), Some(former));
    third.finish_claiming(&one(S));
    assert_eq!((third.service(S), third.generation(S)), (Service::Home { after_loss: true }, 1));
}

/// A table in which slot [`S`] has this home and this origin, and no other slot has any.
fn table_of_one(epoch: u64, home: u16, origin: u16) -> RoutingTable {
    let mut table = table(epoch, NOBODY, NOBODY);
    (table.homes[S.index()], table.origins[S.index()]) = (home, origin);
    table
}

const CORES: usize = 3;

/// Some cores, a slot that wanders among them as a master would have it, and what is written to it.
struct Wandering {
    cores: Vec<Slots>,
    tables: Vec<RoutingTable>,
    /// Which table each core has.
    known: Vec<usize>,
    /// What each core knows of the slot, and in which generation: how often it was written.
    rows: Vec<Option<(u32, u64)>>,
    written: u64,
}

impl Wandering {
    fn new() -> Self {
        let first = table_of_one(1, 0, NOBODY);
        let mut cores: Vec<Slots> = (0..CORES).map(|_| Slots::new()).collect();
        cores.iter_mut().zip(0..).for_each(|(slots, number)| slots.apply(&first, life(number), None));
        let (known, rows) = (vec![0; CORES], vec![None; CORES]);
        Wandering { cores, tables: vec![first], known, rows, written: 0 }
    }

    /// The next table, if all have this one and nothing is on its way.
    fn publish(&mut self, home: u16) {
        let last = self.tables.len() - 1;
        let is_moving = |slots: &Slots| slots.counts().awaited + slots.counts().frozen > 0;
        if self.known.iter().all(|known| *known == last) && !self.cores.iter().any(is_moving) {
            let (old, origin) = (self.tables[last].homes[S.index()], self.tables[last].origins[S.index()]);
            let origin = if home == old { origin } else { old };
            self.tables.push(table_of_one(last as u64 + 2, home, origin));
        }
    }

    fn tell(&mut self, number: usize) {
        if self.known[number] + 1 < self.tables.len() {
            self.known[number] += 1;
            self.cores[number].apply(&self.tables[self.known[number]], life(number as u16), None);
        }
    }

    /// What counts of what a core knows.
    fn value(&self, number: usize) -> u64 {
        let generation = self.cores[number].generation(S);
        self.rows[number].filter(|(written_in, _)| *written_in == generation).map_or(0, |(_, value)| value)
    }

    /// The core asks its origin and takes what it gets, if both have the same table.
    fn take(&mut self, number: usize) {
        let Some(&(origin, _)) = self.cores[number].origins.get(&S) else { return };
        let origin = usize::from(origin.core);
        if self.known[origin] != self.known[number] {
            return;
        }
        let (given, declined) = self.cores[origin].asked(&one(S));
        let value = self.value(origin);
        self.cores[number].begin_taking(&given);
        if given.contains(S) {
            self.rows[number] = Some((self.cores[number].generation(S), value));
        }
        self.cores[number].finish_taking(&given);
        self.cores[number].finish_taking(&declined);
    }

    /// The core says what it has taken.
    fn confirm(&mut self, number: usize) {
        for (giver, slots) in self.cores[number].unconfirmed() {
            let origin = usize::from(giver.0.core);
            if self.known[origin] == self.known[number] {
                self.cores[origin].confirm_given(&slots);
                self.cores[number].forget_unconfirmed(giver, &slots);
            }
        }
    }

    fn serving(&self) -> Vec<usize> {
        (0..CORES).filter(|&number| matches!(self.cores[number].service(S), Service::Home { .. })).collect()
    }

    fn write(&mut self) {
        if let Some(&number) = self.serving().first() {
            self.written += 1;
            self.rows[number] = Some((self.cores[number].generation(S), self.written));
        }
    }

    fn step(&mut self, kind: u8, number: usize) {
        match kind % 8 {
            0 => self.publish(number as u16),
            1..4 => self.tell(number),
            4 | 5 => self.take(number),
            6 => self.confirm(number),
            _ => self.write(),
        }
        let serving = self.serving();
        assert!(serving.len() <= 1, "{serving:?} serve");
        serving.iter().for_each(|number| assert_eq!(self.value(*number), self.written, "at core {number}"));
    }
}

quickcheck! {
    /// However slowly a slot follows its homes, nothing that was written is lost, nobody serves beside another, and in
    /// the end only the home has it.
    fn a_slot_that_wanders_arrives_whole(steps: Vec<(u8, u8)>) -> bool {
        let mut wandering = Wandering::new();
        steps.into_iter().for_each(|(kind, number)| wandering.step(kind, usize::from(number) % CORES));
        for _ in 0..CORES {
            for number in 0..CORES {
                [1, 4, 6].into_iter().for_each(|kind| wandering.step(kind, number));
            }
        }
        let home = usize::from(wandering.tables.last().expect("the first one").homes[S.index()]);
        let have_it = (0..CORES).filter(|&number| wandering.cores[number].states[S.index()] != State::NotMine);
        wandering.serving() == [home] && have_it.count() == 1
    }
}
