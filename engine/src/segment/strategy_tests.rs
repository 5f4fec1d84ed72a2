//! Each strategy on places that are written down, and what holds for all of them.

use super::*;
use crate::segment::{RangeId, Ranges};
use quickcheck::quickcheck;
use std::cell::RefCell;
use std::collections::BTreeSet;

const MIB: u64 = 1 << 20;

impl Places for Vec<Figures> {
    fn count(&self) -> usize {
        self.len()
    }

    fn figures(&self, place: usize) -> Figures {
        self[place]
    }
}

fn figures(free: u64, longest: u64) -> Figures {
    Figures { capacity_bytes: 100, free_bytes: free, free_range_bytes_max: longest, host: 0, is_local: false }
}

fn chance(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 20
    }
}

/// Which places are tried if none takes it.
fn tried(request: Request<'_>, places: &impl Places, seed: u64) -> Vec<usize> {
    let mut tried = Vec::new();
    let refuse = |place| {
        tried.push(place);
        false
    };
    assert_eq!(request.place_one(places, chance(seed), refuse), None);
    tried
}

fn choose(strategy: Strategy, places: &Vec<Figures>, bytes: u64) -> Vec<usize> {
    tried(Request { strategy, bytes, preferred: &[] }, places, 1)
}

#[test]
fn each_strategy_has_its_order() {
    let far = |free, longest| figures(free, longest);
    let near = |free, longest| Figures { is_local: true, ..figures(free, longest) };
    let places = vec![far(90, 10), far(50, 50), near(60, 60), far(70, 30), far(80, 30)];
    assert_eq!(choose(Strategy::FreeRatioFirst, &places, 30), [0, 4, 3, 2, 1]);
    assert_eq!(choose(Strategy::FragmentationAware, &places, 30), [4, 3, 1, 2], "the first has no room");
    assert_eq!(choose(Strategy::LocalFirst, &places, 30), [2, 4, 3, 1]);
    let random: BTreeSet<Vec<usize>> = (0..100)
        .map(|seed| tried(Request { strategy: Strategy::Random, bytes: 30, preferred: &[] }, &places, seed))
        .collect();
    assert!(random.len() > 5 && random.iter().all(|order| order.len() == 5), "{random:?}");
    for strategy in Strategy::ALL {
        let request = Request { strategy, bytes: 30, preferred: &[1, 0, 77] };
        assert_eq!(tried(request, &places, 1)[..2], [1, 0]);
        assert_eq!(strategy.name().parse(), Ok(strategy));
    }
    assert!("best".parse::<Strategy>().unwrap_err().to_string().contains("free_ratio_first"));
}

/// Two segments: one with more free bytes, in small pieces; one with fewer, in one piece.
#[test]
fn the_emptiest_fails_first_and_the_tightest_does_not() {
    let segments = [RefCell::new(Ranges::new(1_000)), RefCell::new(Ranges::new(1_000))];
    // 500 of 1,000 units are free, none next to another; and 300 in one piece.
    let held: Vec<RangeId> =
        (0..1_000).map(|_| segments[0].borrow_mut().allocate(1).unwrap().range).collect();
    for &range in held.iter().step_by(2) {
        segments[0].borrow_mut().free(range);
    }
    segments[1].borrow_mut().allocate(700).unwrap();
    struct Segments<'a>(&'a [RefCell<Ranges>; 2]);
    impl Places for Segments<'_> {
        fn count(&self) -> usize {
            2
        }

        fn figures(&self, place: usize) -> Figures {
            let ranges = self.0[place].borrow();
            Figures {
                capacity_bytes: ranges.units().into(),
                free_bytes: ranges.free_units().into(),
                free_range_bytes_max: ranges.longest().into(),
                host: 0,
                is_local: true,
            }
        }
    }
    let tried = |strategy| tried(Request { strategy, bytes: 100, preferred: &[] }, &Segments(&segments), 3);
    let takes = |place: usize| segments[place].borrow_mut().allocate(100).is_some();
    assert_eq!(tried(Strategy::FreeRatioFirst), [0, 1]);
    assert!(!takes(0), "its first attempt fails");
    for _ in 0..3 {
        assert_eq!(tried(Strategy::FragmentationAware), [1]);
        assert!(takes(1), "every attempt succeeds as long as there is room");
    }
    assert!(tried(Strategy::FragmentationAware).is_empty(), "and when there is none, none is made");
}

quickcheck! {
    fn a_choice_looks_at_few_places_each_once(count: u16, seed: u64) -> bool {
        let count = usize::from(count) % 1_000;
        let looked_at = RefCell::new(Vec::new());
        struct Counted<'a>(usize, &'a RefCell<Vec<usize>>);
        impl Places for Counted<'_> {
            fn count(&self) -> usize {
                self.0
            }

            fn figures(&self, place: usize) -> Figures {
                assert!(place < self.0);
                self.1.borrow_mut().push(place);
                figures(50, 50)
            }
        }
        Strategy::ALL.into_iter().all(|strategy| {
            let request = Request { strategy, bytes: 1, preferred: &[] };
            looked_at.borrow_mut().clear();
            let all = tried(request, &Counted(count, &looked_at), seed);
            let different: BTreeSet<usize> = all.iter().copied().collect();
            let is_bounded = all.len() == count.min(LOOKED_AT_MAX) && different.len() == all.len();
            looked_at.borrow_mut().clear();
            let found = request.place_one(&Counted(count, &looked_at), chance(seed), |_| true);
            is_bounded && looked_at.borrow().len() == count.min(SAMPLE_MAX) && found == all.first().copied()
        })
    }

    fn copies_go_to_different_places_and_to_different_hosts_first(hosts: Vec<u8>, room: Vec<bool>, copies: u8, seed: u64) -> bool {
        let copies = usize::from(copies % 5);
        let places: Vec<Figures> = hosts.iter().take(SAMPLE_MAX)
            .map(|&host| Figures { host: u64::from(host % 4), ..figures(50, 50) }).collect();
        let has_room = |place: usize| room.get(place).copied().unwrap_or(true);
        let able: Vec<usize> = (0..places.len()).filter(|&place| has_room(place)).collect();
        let able_hosts: BTreeSet<u64> = able.iter().map(|&place| places[place].host).collect();
        Strategy::ALL.into_iter().all(|strategy| {
            let request = Request { strategy, bytes: 1, preferred: &[] };
            let taken = request.place(&places, copies, chance(seed), has_room);
            let different: BTreeSet<usize> = taken.iter().copied().collect();
            let on_hosts: BTreeSet<u64> = taken.iter().map(|&place| places[place].host).collect();
            different.len() == taken.len()
                && taken.len() == copies.min(able.len())
                && on_hosts.len() == taken.len().min(able_hosts.len())
        })
    }
}

#[test]
fn no_place_at_all() {
    let none: Vec<Figures> = Vec::new();
    assert!(Strategy::ALL.into_iter().all(|strategy| choose(strategy, &none, MIB).is_empty()));
}
