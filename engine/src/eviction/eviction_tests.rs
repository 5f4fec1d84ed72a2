//! Each policy beside a plain list; links, chains and bounds after any calls.

use super::*;
use quickcheck::quickcheck;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

/// Rows of some positions, which count how often one is looked at.
#[derive(Default)]
struct Rows {
    rows: Vec<(Seat, u64)>,
    looks: Cell<usize>,
}

impl Rows {
    fn new(bytes: impl IntoIterator<Item = u64>) -> Self {
        let rows = bytes.into_iter().map(|bytes| (Seat::default(), bytes)).collect();
        Rows { rows, looks: Cell::new(0) }
    }
}

impl Seats for Rows {
    fn seat(&self, at: Position) -> &Seat {
        self.looks.set(self.looks.get() + 1);
        &self.rows[at as usize].0
    }

    fn seat_mut(&mut self, at: Position) -> &mut Seat {
        self.looks.set(self.looks.get() + 1);
        &mut self.rows[at as usize].0
    }

    fn bytes(&self, at: Position) -> u64 {
        self.rows[at as usize].1
    }
}

const PLACES: u32 = 24;

fn hash(at: Position) -> u64 {
    (u64::from(at) + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn arrival(at: Position) -> Arrival {
    Arrival { hash: hash(at), ..Arrival::default() }
}

fn held(rows: &Rows) -> Vec<Position> {
    (0..rows.rows.len() as Position).filter(|&at| !rows.rows[at as usize].0.is_vacant()).collect()
}

/// Every queue read from both ends has the same rows, they say that they are in it, and the sums are right.
fn assert_linked(eviction: &Eviction, rows: &Rows) {
    let mut all = Vec::new();
    for number in 0..queues::QUEUES as u8 {
        let queue = eviction.queues.queue(number);
        let walk = |from: Position, next: fn(&Seat) -> Position| {
            let step = |at: &Position| Some(next(&rows.rows[*at as usize].0)).filter(|&at| at != NOWHERE);
            std::iter::successors(Some(from).filter(|&at| at != NOWHERE), step).collect::<Vec<_>>()
        };
        let mut forth = walk(queue.oldest, |seat| seat.newer);
        let back = walk(queue.newest, |seat| seat.older);
        assert!(forth.iter().all(|&at| rows.rows[at as usize].0.linked() == number));
        assert_eq!((queue.count, queue.bytes), (forth.len(), forth.iter().map(|&at| rows.bytes(at)).sum()));
        all.extend_from_slice(&forth);
        forth.reverse();
        assert_eq!(forth, back);
    }
    all.sort_unstable();
    assert_eq!(all, held(rows));
}

/// The children that each row counts are those that name it, and whoever names a position whose row has left is an
/// orphan.
fn assert_related(
    eviction: &Eviction,
    rows: &Rows,
    parents: &BTreeMap<Position, (Position, u64)>,
    born: &[u64],
) {
    let mut children: HashMap<Position, u16> = HashMap::new();
    let mut orphans: HashMap<Position, u32> = HashMap::new();
    for (&child, &(parent, birth)) in parents {
        if rows.rows[child as usize].0.parent != parent {
            continue;
        }
        match born[parent as usize] == birth && !rows.rows[parent as usize].0.is_vacant() {
            true => *children.entry(parent).or_default() += 1,
            false => *orphans.entry(parent).or_default() += 1,
        }
    }
    for at in held(rows) {
        assert_eq!(rows.rows[at as usize].0.children, children.get(&at).copied().unwrap_or(0), "row {at}");
    }
    assert_eq!(eviction.orphans, orphans);
}

#[test]
fn a_policy_has_a_name_and_another_name_is_refused_in_words() {
    for kind in PolicyKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    let error = "fifo".parse::<PolicyKind>().unwrap_err().to_string();
    assert!(error.contains("\"fifo\"") && error.contains("hit_density, s3fifo or lru"), "{error}");
}

#[test]
fn of_a_chain_the_end_goes_first() {
    for kind in PolicyKind::ALL {
        let (mut eviction, mut rows) = (Eviction::new(kind), Rows::new([1; 8]));
        for at in 0..6 {
            eviction.insert(&mut rows, at, &Arrival { parent: at.checked_sub(1), ..arrival(at) });
        }
        assert!(eviction.is_newest(5) && !eviction.is_newest(4));
        eviction.insert(&mut rows, 6, &arrival(6));
        // Then the beginning alone becomes the oldest.
        (1..6).for_each(|at| eviction.hit(&mut rows, at, hash(at)));
        let mut gone = Vec::new();
        while let Some(at) = eviction.victim(&mut rows, true, |_, at| at < 6) {
            eviction.remove(&mut rows, at, hash(at), true);
            gone.push(at);
        }
        assert_eq!(gone, [5, 4, 3, 2, 1, 0], "{kind}");
        assert_eq!(eviction.victim(&mut rows, true, |_, _| true), Some(6), "the newest, when it is alone");
    }
}

#[test]
fn a_position_that_is_used_again_is_no_parent_of_orphans() {
    let (mut eviction, mut rows) = (Eviction::new(PolicyKind::Lru), Rows::new([1; 8]));
    eviction.insert(&mut rows, 0, &arrival(0));
    eviction.insert(&mut rows, 1, &Arrival { parent: Some(0), ..arrival(1) });
    eviction.insert(&mut rows, 2, &Arrival { parent: Some(0), ..arrival(2) });
    eviction.remove(&mut rows, 0, hash(0), false);
    eviction.insert(&mut rows, 0, &arrival(77));
    eviction.insert(&mut rows, 3, &Arrival { parent: Some(0), ..arrival(3) });
    assert_eq!((rows.rows[0].0.children, rows.rows[3].0.parent), (0, NOWHERE), "not yet");
    eviction.remove(&mut rows, 1, hash(1), true);
    eviction.remove(&mut rows, 2, hash(2), false);
    assert!(eviction.orphans.is_empty());
    eviction.insert(&mut rows, 4, &Arrival { parent: Some(0), ..arrival(4) });
    assert_eq!(rows.rows[0].0.children, 1);
}

#[test]
fn pins_soft_last_hard_never() {
    for kind in PolicyKind::ALL {
        let (mut eviction, mut rows) = (Eviction::new(kind), Rows::new([1; 8]));
        for (at, pin) in [Pin::Hard, Pin::Soft, Pin::None, Pin::None].into_iter().enumerate() {
            let at = at as Position;
            eviction.insert(&mut rows, at, &Arrival { pin, ..arrival(at) });
        }
        eviction.insert(&mut rows, 4, &Arrival { pin: Pin::Hard, ..arrival(4) });
        let mut gone = Vec::new();
        while let Some(at) = eviction.victim(&mut rows, true, |_, _| true) {
            eviction.remove(&mut rows, at, hash(at), true);
            gone.push(at);
        }
        assert_eq!(gone, [2, 3, 1], "{kind}");
        eviction.set_pin(&mut rows, 0, Pin::None);
        assert_eq!(eviction.victim(&mut rows, true, |_, _| true), Some(0));
    }
}

#[test]
fn what_may_not_go_makes_way_for_what_may() {
    for kind in PolicyKind::ALL {
        let (mut eviction, mut rows) = (Eviction::new(kind), Rows::new([1; 512]));
        (0..512).for_each(|at| eviction.insert(&mut rows, at, &arrival(at)));
        let found = (0..100).find_map(|_| eviction.victim(&mut rows, true, |_, at| at == 500));
        assert_eq!(found, Some(500), "{kind}");
        assert_linked(&eviction, &rows);
    }
}

/// A busy cache: no call looks at more rows than is said, and what is remembered stays small.
#[test]
fn calls_and_memories_are_bounded() {
    for kind in PolicyKind::ALL {
        let (mut eviction, mut rows) = (Eviction::new(kind), Rows::new([1; 4_000]));
        let mut state = 1_u64;
        let mut names: Vec<u64> = vec![0; 4_000];
        let mut nobody = 0;
        for step in 0..60_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as Position % 4_000;
            rows.looks.set(0);
            if !rows.rows[at as usize].0.is_vacant() {
                eviction.hit(&mut rows, at, names[at as usize]);
            } else if eviction.count() < 3_000 {
                names[at as usize] = hash(step as Position);
                let parent =
                    Some((at + 1) % 4_000).filter(|&parent| !rows.rows[parent as usize].0.is_vacant());
                eviction.insert(
                    &mut rows,
                    at,
                    &Arrival { hash: names[at as usize], parent, ..Arrival::default() },
                );
            } else {
                // Those that may not go gather at the old ends: sometimes only a later look finds others.
                let victim = eviction.victim(&mut rows, true, |_, at| !at.is_multiple_of(3));
                nobody += u32::from(victim.is_none());
                victim.iter().for_each(|&at| eviction.remove(&mut rows, at, names[at as usize], true));
            }
            let bound = if kind == PolicyKind::S3Fifo { 8 * s3fifo::STEPS_MAX } else { 16 * LOOKED_AT_MAX };
            assert!(rows.looks.get() <= bound, "{kind}: {}", rows.looks.get());
        }
        assert!(nobody <= 2_000, "{kind}: {nobody} looks for nothing");
        assert!(eviction.footprint_bytes() <= 2 << 20, "{kind}: {}", eviction.footprint_bytes());
        assert_linked(&eviction, &rows);
    }
}

/// Rows of which half are used often and half never: the classes learn it.
#[test]
fn hit_density_keeps_what_is_used() {
    let (mut eviction, mut rows) = (Eviction::new(PolicyKind::HitDensity), Rows::new([1; 2_000]));
    let mut held: HashMap<u64, Position> = HashMap::new();
    let mut names = vec![0; 2_000];
    let (mut hits, mut asked) = (0, 0);
    for step in 0..120_000_u64 {
        // 1,200 names in turn, and as many that come once; room for 1,500.
        let name = if step % 2 == 0 { step / 2 % 1_200 } else { 1 << 40 | step };
        let key = mixed(name);
        if step > 60_000 && step % 2 == 0 {
            asked += 1;
            hits += u32::from(held.contains_key(&key));
        }
        if let Some(&at) = held.get(&key) {
            eviction.hit(&mut rows, at, key);
            continue;
        }
        if eviction.count() == 1_500 {
            let at = eviction.victim(&mut rows, true, |_, _| true).unwrap();
            eviction.remove(&mut rows, at, names[at as usize], true);
            held.remove(&names[at as usize]);
        }
        let at = (0..2_000).find(|&at| rows.rows[at as usize].0.is_vacant()).unwrap();
        eviction.insert(&mut rows, at, &Arrival { hash: key, ..Arrival::default() });
        names[at as usize] = key;
        held.insert(key, at);
    }
    assert!(hits * 10 >= asked * 9, "{hits} of {asked}, where LRU has none");
}

/// S3-FIFO with lists.
#[derive(Default)]
struct Model {
    small: Vec<(Position, u8)>,
    main: Vec<(Position, u8)>,
    ghosts: Vec<Position>,
}

impl Model {
    fn put(&mut self, at: Position) {
        let is_known = self.ghosts.contains(&at);
        self.ghosts.retain(|&ghost| ghost != at);
        if is_known { self.main.push((at, 0)) } else { self.small.push((at, 0)) }
    }

    fn hit(&mut self, at: Position) {
        for (row, uses) in self.small.iter_mut().chain(&mut self.main) {
            *uses = (*uses + u8::from(*row == at)).min(3);
        }
    }

    fn victim(&mut self, bytes: impl Fn(Position) -> u64, newest: Option<Position>) -> Option<Position> {
        let mut used = None;
        let mut passed_over = [0; 2];
        for _ in 0..s3fifo::STEPS_MAX {
            let sum = |list: &[(Position, u8)]| list.iter().map(|row| bytes(row.0)).sum::<u64>();
            let (small, main) = (sum(&self.small), sum(&self.main));
            let left = [passed_over[0] < self.small.len(), passed_over[1] < self.main.len()];
            if left == [false, false] {
                break;
            }
            let is_small = left[0] && (small * 10 >= small + main || !left[1]);
            let (at, uses) = if is_small { self.small.remove(0) } else { self.main.remove(0) };
            let may_go = Some(at) != newest;
            match (is_small, uses) {
                (true, 0) | (false, 0) if may_go => {
                    let list = if is_small { &mut self.small } else { &mut self.main };
                    list.insert(0, (at, uses));
                    return Some(at);
                }
                (true, 0) => self.small.push((at, 0)),
                (true, _) => self.main.push((at, 0)),
                (false, _) => self.main.push((at, uses.saturating_sub(1))),
            }
            passed_over[usize::from(!is_small)] += usize::from(uses == 0);
            if may_go && used.is_none() && uses > 0 {
                used = Some(at);
            }
        }
        used.or(newest)
    }

    fn remove(&mut self, at: Position, evicted: bool) {
        if evicted && self.small.iter().any(|row| row.0 == at) {
            self.ghosts.push(at);
        }
        self.small.retain(|row| row.0 != at);
        self.main.retain(|row| row.0 != at);
    }
}

quickcheck! {
    /// The least recently used, of those that were not put last.
    fn lru_is_a_list(steps: Vec<(u8, u8)>) -> bool {
        let (mut eviction, mut rows) = (Eviction::new(PolicyKind::Lru), Rows::new((0..PLACES).map(|at| u64::from(at) + 1)));
        let mut list: Vec<Position> = Vec::new();
        let mut newest = None;
        for (what, at) in steps {
            let at = Position::from(at) % PLACES;
            let is_held = list.contains(&at);
            match what % 8 {
                0..=4 if is_held => {
                    eviction.hit(&mut rows, at, hash(at));
                    list.retain(|&row| row != at);
                    list.push(at);
                }
                0..=4 => {
                    eviction.insert(&mut rows, at, &arrival(at));
                    list.push(at);
                    newest = Some(at);
                }
                5 if is_held => {
                    eviction.remove(&mut rows, at, hash(at), false);
                    list.retain(|&row| row != at);
                    newest = newest.filter(|&row| row != at);
                }
                _ => {
                    let expected = list.iter().copied().find(|&row| Some(row) != newest).or(newest);
                    let victim = eviction.victim(&mut rows, true, |_, _| true);
                    assert_eq!(victim, expected);
                    let Some(victim) = victim else { continue };
                    eviction.remove(&mut rows, victim, hash(victim), true);
                    list.retain(|&row| row != victim);
                    newest = newest.filter(|&row| row != victim);
                }
            }
            assert_eq!(eviction.bytes(), list.iter().map(|&at| u64::from(at) + 1).sum::<u64>());
        }
        assert_linked(&eviction, &rows);
        eviction.count() == list.len()
    }

    /// With so few names no ghost is forgotten for want of room, so the model remembers all.
    fn s3fifo_is_two_lists_and_a_memory(steps: Vec<(u8, u8)>) -> bool {
        let (mut eviction, mut rows) = (Eviction::new(PolicyKind::S3Fifo), Rows::new((0..PLACES).map(|at| u64::from(at % 3) + 1)));
        let mut model = Model::default();
        let mut newest = None;
        eviction.ghosts.keep_all();
        for (what, at) in steps {
            let at = Position::from(at) % PLACES;
            let is_held = !rows.rows[at as usize].0.is_vacant();
            match what % 8 {
                0..=4 if is_held => {
                    eviction.hit(&mut rows, at, hash(at));
                    model.hit(at);
                }
                0..=4 => {
                    eviction.insert(&mut rows, at, &arrival(at));
                    model.put(at);
                    newest = Some(at);
                }
                5 if is_held => {
                    eviction.remove(&mut rows, at, hash(at), false);
                    model.remove(at, false);
                    newest = newest.filter(|&row| row != at);
                }
                _ => {
                    let victim = eviction.victim(&mut rows, true, |_, _| true);
                    assert_eq!(victim, model.victim(|at| u64::from(at % 3) + 1, newest));
                    let Some(victim) = victim else { continue };
                    eviction.remove(&mut rows, victim, hash(victim), true);
                    model.remove(victim, true);
                    newest = newest.filter(|&row| row != victim);
                }
            }
        }
        assert_linked(&eviction, &rows);
        true
    }

    /// Any calls, with parents of all kinds, positions used again, pins and leases.
    fn queues_and_chains_stay_right(steps: Vec<(u8, u8, u8)>, kind: u8) -> bool {
        let kind = PolicyKind::ALL[usize::from(kind) % 3];
        let (mut eviction, mut rows) = (Eviction::new(kind), Rows::new((0..PLACES).map(|at| u64::from(at) + 1)));
        let mut parents: BTreeMap<Position, (Position, u64)> = BTreeMap::new();
        let mut born = vec![0_u64; PLACES as usize];
        for (step, (what, at, other)) in steps.into_iter().enumerate() {
            let (at, other) = (Position::from(at) % PLACES, Position::from(other));
            let is_held = !rows.rows[at as usize].0.is_vacant();
            let pin = [Pin::None, Pin::None, Pin::Soft, Pin::Hard][other as usize % 4];
            match what % 9 {
                0..=3 if is_held => eviction.hit(&mut rows, at, hash(at)),
                0..=3 => {
                    let parent = Some(other % PLACES).filter(|_| other < 200);
                    let more = Arrival { parent, continues: what & 16 > 0, is_leaf: what & 32 > 0, pin, ..arrival(at) };
                    eviction.insert(&mut rows, at, &more);
                    born[at as usize] = step as u64 + 1;
                    parents.remove(&at);
                    if rows.rows[at as usize].0.parent != NOWHERE {
                        parents.insert(at, (other % PLACES, born[other as usize % PLACES as usize]));
                    }
                }
                4 if is_held => eviction.set_pin(&mut rows, at, pin),
                5 if is_held => {
                    eviction.remove(&mut rows, at, hash(at), other % 2 == 0);
                    parents.remove(&at);
                }
                _ => {
                    let Some(victim) = eviction.victim(&mut rows, true, |_, at| at % 5 != other % 5) else { continue };
                    assert!(rows.rows[victim as usize].0.linked() != HARD && victim % 5 != other % 5);
                    eviction.remove(&mut rows, victim, hash(victim), true);
                    parents.remove(&victim);
                }
            }
            assert_related(&eviction, &rows, &parents, &born);
        }
        assert_linked(&eviction, &rows);
        true
    }
}
