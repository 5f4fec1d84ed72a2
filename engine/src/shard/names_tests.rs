//! Names beside a map; pages that come back; and, when asked for, what it costs.

use super::*;
use quickcheck::quickcheck;
use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

/// Recounts every page and every list.
fn assert_sound(names: &Names) {
    let mut listed = HashMap::new();
    for (class, lists) in names.lists.iter().enumerate() {
        for (quarter, &first) in lists.iter().enumerate() {
            let (mut number, mut previous) = (first, NO_PAGE);
            while number != NO_PAGE {
                let page = names.page(number);
                assert_eq!(page.previous, previous);
                assert_eq!((page.slot_bytes.into(), page.quarter()), (slot_bytes(class), Some(quarter)));
                assert!(listed.insert(number, true).is_none(), "in two lists");
                (number, previous) = (page.next, number);
            }
        }
    }
    let mut number = names.pool;
    while number != NO_PAGE {
        assert_eq!(names.page(number).held, 0);
        assert!(listed.insert(number, false).is_none(), "in two lists");
        number = names.page(number).next;
    }
    let mut len = 0;
    for (number, page) in names.pages.iter().enumerate() {
        let held = (0..page.untouched).filter(|&slot| word(page.slot(slot), 0) > 0).count();
        assert_eq!(usize::from(page.held), held);
        let is_listed = listed.get(&(number as u32)).copied();
        assert_eq!(is_listed, page.quarter().map(|_| true).or((held == 0).then_some(false)));
        len += held;
    }
    assert_eq!(names.len(), len);
}

/// The names and the same in a map; and how many pages they may have.
struct Beside {
    names: Names,
    held: HashMap<NameId, Vec<u8>>,
    ids: Vec<NameId>,
    counts: [usize; CLASSES],
    most: [usize; CLASSES],
}

impl Beside {
    fn new() -> Self {
        let (names, held, ids) = (Names::new(), HashMap::new(), Vec::new());
        Beside { names, held, ids, counts: [0; CLASSES], most: [0; CLASSES] }
    }

    fn insert(&mut self, length: usize, seed: u8) {
        let name: Vec<u8> = (0..length).map(|at| seed.wrapping_add(at as u8)).collect();
        let class = class_of(length + LENGTH_BYTES);
        self.counts[class] += 1;
        self.most[class] = self.most[class].max(self.counts[class]);
        let id = self.names.insert(&name);
        assert_eq!(self.names.get(id), name);
        assert!(self.held.insert(id, name).is_none(), "an id stands for two names");
        self.ids.push(id);
    }

    fn remove(&mut self, chance: usize) {
        let id = self.ids.swap_remove(chance % self.ids.len());
        let name = self.held.remove(&id).expect("an id is held");
        self.counts[class_of(name.len() + LENGTH_BYTES)] -= 1;
        assert_eq!(self.names.get(id), name);
        self.names.remove(id);
    }

    fn assert_equal(&self) {
        assert_sound(&self.names);
        assert_eq!(self.names.len(), self.held.len());
        for (&id, name) in &self.held {
            self.names.prefetch(id);
            assert_eq!(self.names.get(id), name);
        }
        let filled = |(class, &most): (usize, &usize)| most.div_ceil(PAGE_BYTES / slot_bytes(class));
        assert!(self.names.pages.len() <= self.most.iter().enumerate().map(filled).sum());
    }
}

quickcheck! {
    fn they_agree_with_a_map(steps: Vec<(u8, u16)>, rounds: u8) -> bool {
        let mut both = Beside::new();
        for round in 0..usize::from(rounds % 8) + 1 {
            for &(kind, number) in &steps {
                let chance = usize::from(number);
                match kind % 8 {
                    0..=2 if !both.ids.is_empty() => both.remove(chance),
                    // Many of one length, which changes from round to round; short ones; and all there are.
                    3 | 4 => (0..chance % 8).for_each(|_| both.insert(NAME_BYTES_MAX - round * 500, kind)),
                    5 => both.insert(chance % 40 + 1, kind),
                    _ => both.insert(chance % NAME_BYTES_MAX + 1, kind),
                }
            }
            both.assert_equal();
        }
        while !both.ids.is_empty() {
            both.remove(both.ids.len() * 7919);
        }
        both.assert_equal();
        both.names.pages.iter().all(|page| page.quarter().is_none())
    }
}

#[test]
fn every_length_has_a_slot_that_wastes_little() {
    for length in 1..=NAME_BYTES_MAX {
        let needed = length + LENGTH_BYTES;
        let slot = slot_bytes(class_of(needed));
        let waste_max =
            if needed < SLOT_BYTES_MIN { SLOT_BYTES_MIN - 3 } else { (needed / 16).max(STEP - 1) };
        assert!((needed..=needed + waste_max).contains(&slot), "{slot} bytes for {needed}");
        assert_eq!(class_of(slot), class_of(needed));
    }
    assert_eq!((class_of(slot_bytes(CLASSES - 1)), slot_bytes(CLASSES - 1)), (CLASSES - 1, 4_352));
    assert!((1..CLASSES).all(|class| slot_bytes(class - 1) < slot_bytes(class)));
}

#[test]
fn pages_come_back_when_keys_change_their_length() {
    let mut names = Names::new();
    let mut ids: Vec<NameId> = (0..100_000).map(|_| names.insert(&[7; 60])).collect();
    let before = names.heap_bytes();
    assert!(before < 100_000 * 64 + 2 * PAGE_BYTES + names.pages.heap_bytes(), "{before}");
    for length in [30, 61, 62, 63, 20, 50] {
        for id in &mut ids {
            names.remove(*id);
            *id = names.insert(&vec![length; length.into()]);
            assert_eq!(names.get(*id).len(), usize::from(length));
        }
        assert!(names.heap_bytes() <= before * 9 / 8 + 2 * PAGE_BYTES, "{}", names.heap_bytes());
    }
    ids.into_iter().for_each(|id| names.remove(id));
    assert_sound(&names);
    assert!(names.len() == 0 && names.lists.as_flattened().iter().all(|&first| first == NO_PAGE));
    assert_eq!(format!("{names:?}").split_at(15).0, "Names { len: 0,");
}

#[test]
#[should_panic(expected = "was removed")]
fn a_name_is_removed_once() {
    let mut names = Names::new();
    let id = names.insert(b"a");
    names.insert(b"b");
    names.remove(id);
    names.remove(id);
}

#[test]
#[should_panic(expected = "was removed")]
fn a_page_of_the_pool_has_no_names() {
    let mut names = Names::new();
    let id = names.insert(b"a");
    names.remove(id);
    names.get(id);
}

#[test]
#[should_panic(expected = "a name of 4162 bytes")]
fn a_name_has_a_length_limit() {
    Names::new().insert(&[1; NAME_BYTES_MAX + 1]);
}

// -- figures: `cargo test --release -p snowskin-engine names -- --ignored --nocapture --test-threads 1` --

const COUNT: usize = 1_000_000;

fn chance(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// The median of many rounds, in nanoseconds a name.
fn median_ns(order: &[NameId], mut step: impl FnMut(&[NameId])) -> u128 {
    let round = |ids: &[NameId]| {
        let start = Instant::now();
        ids.chunks(32).for_each(&mut step);
        start.elapsed().as_nanos() / ids.len() as u128
    };
    let mut rounds: Vec<u128> = order.chunks(1_600).map(round).collect();
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

fn print_figures(what: &str, length: impl Fn(usize) -> usize) {
    let (mut names, mut state) = (Names::new(), 1);
    let mut bytes = 0;
    let text = [b'n'; NAME_BYTES_MAX];
    let start = Instant::now();
    let mut ids: Vec<(NameId, usize)> = (0..COUNT)
        .map(|_| {
            let length = length(chance(&mut state));
            bytes += length;
            (names.insert(&text[..length]), length)
        })
        .collect();
    let ns = start.elapsed().as_nanos() / COUNT as u128;
    let beyond = |names: &Names, bytes: usize| (names.heap_bytes() - bytes) as f64 / COUNT as f64;
    println!("{what}: {:.1} bytes a name beyond its own, insertion {ns} ns", beyond(&names, bytes));
    let order: Vec<NameId> = (0..500_000).map(|_| ids[chance(&mut state) % COUNT].0).collect();
    // All bytes, as a comparison would.
    let is_it = |id: &NameId| {
        let name = names.get(*id);
        black_box(name == &text[..name.len()]);
    };
    let get = median_ns(&order, |batch| batch.iter().for_each(is_it));
    let ahead = median_ns(&order, |batch| {
        batch.iter().for_each(|&id| names.prefetch(id));
        batch.iter().for_each(is_it);
    });
    println!("  get {get} ns, in batches of 32 that are asked for {ahead} ns");
    for _ in 0..5 * COUNT {
        let pick = chance(&mut state) % COUNT;
        let (id, was) = ids[pick];
        names.remove(id);
        let length = length(chance(&mut state));
        ids[pick] = (names.insert(&text[..length]), length);
        bytes = bytes + length - was;
    }
    println!("  after 5 million came and went, in any order: {:.1}", beyond(&names, bytes));
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    print_figures("64 bytes", |_| 64);
    print_figures("30 to 200 bytes", |chance| 30 + chance % 171);
    // All change their length, in any order.
    let (mut names, mut state) = (Names::new(), 1);
    let mut ids: Vec<NameId> = (0..COUNT).map(|_| names.insert(&[1; 64])).collect();
    for at in (1..COUNT).rev() {
        ids.swap(at, chance(&mut state) % (at + 1));
    }
    let mut most = names.heap_bytes();
    for id in &mut ids {
        names.remove(*id);
        *id = names.insert(&[1; 100]);
        most = most.max(names.heap_bytes());
    }
    let (is, needed) = (names.heap_bytes() >> 20, (COUNT * 104) >> 20);
    println!("64 to 100 bytes in any order: {} MiB at most, {is} after, {needed} needed", most >> 20);
}
