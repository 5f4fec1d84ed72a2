//! Ranges beside a list, in sizes of real segments; and what is left over after long use.

use super::*;
use quickcheck::quickcheck;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

/// What [`Ranges`] must do, said with a map of held ranges by their beginning.
#[derive(Default)]
struct Model {
    held: BTreeMap<u32, (u32, RangeId)>,
}

impl Model {
    fn free(&self, units: u32) -> Vec<(u32, u32)> {
        let mut from = 0;
        let mut free = Vec::new();
        for (&start, &(length, _)) in self.held.iter().chain([(&units, &(0, NONE))]) {
            if start > from {
                free.push((from, start - from));
            }
            from = start + length;
        }
        free
    }
}

fn agrees(ranges: &Ranges, model: &Model) -> bool {
    let free = model.free(ranges.units());
    ranges.free_units() == free.iter().map(|(_, length)| length).sum::<u32>()
        && ranges.longest() == free.iter().map(|(_, length)| *length).max().unwrap_or(0)
}

quickcheck! {
    /// Lengths on both sides of the border between array and map, and sets of three levels.
    fn long_ranges_agree_with_a_list(steps: Vec<(u8, u32)>, units: u32) -> bool {
        let units = units % (SHORT * 8);
        let (mut ranges, mut model) = (Ranges::new(units), Model::default());
        for (kind, number) in steps {
            let any = model.held.keys().nth(number as usize % model.held.len().max(1)).copied();
            if kind % 5 < 2 {
                let length = number % (SHORT * 2);
                let free = model.free(units);
                let fits = free.iter().map(|(_, free)| *free).filter(|free| *free >= length.max(1)).min();
                let cut = ranges.allocate(length);
                assert_eq!(cut.map(|cut| free.contains(&(cut.start, fits.unwrap_or(0)))), fits.map(|_| true));
                if let Some(cut) = cut {
                    assert_eq!(ranges.place(cut.range), (cut.start, length.max(1)));
                    model.held.insert(cut.start, (length.max(1), cut.range));
                }
            } else if let Some(start) = any {
                let (length, range) = model.held.remove(&start).expect("it is held");
                if kind % 5 < 4 {
                    ranges.free(range);
                } else {
                    let front = number % length;
                    ranges.free_front(range, front);
                    assert_eq!(ranges.place(range), (start + front, length - front));
                    model.held.insert(start + front, (length - front, range));
                }
            }
            assert!(agrees(&ranges, &model));
        }
        for (_, range) in std::mem::take(&mut model.held).into_values() {
            ranges.free(range);
        }
        // Everything is one range again, and no name is lost.
        let next = |&name: &RangeId| Some(ranges.at(name).next).filter(|&next| next != NONE);
        let spare = std::iter::successors(Some(ranges.spare).filter(|&name| name != NONE), next).count();
        ranges.longest() == units && 1 + spare + usize::from(units > 0) == ranges.ranges.len()
    }
}

#[test]
#[should_panic(expected = "given back twice")]
fn a_range_is_given_back_once() {
    let mut ranges = Ranges::new(100);
    let wall = ranges.allocate(10).unwrap();
    let cut = ranges.allocate(10).unwrap();
    let behind = ranges.allocate(10).unwrap();
    ranges.free(cut.range);
    assert_ne!((wall.range, behind.range), (cut.range, cut.range));
    ranges.free(cut.range);
}

/// Fills, frees a tenth at random, and again, for long; then how full it is at failures, at least.
fn worst_fill(units: u32, mut length: impl FnMut(&mut StdRng) -> u32) -> f64 {
    let mut random = StdRng::seed_from_u64(4);
    let (mut ranges, mut held) = (Ranges::new(units), Vec::new());
    let mut worst = 1.0_f64;
    for round in 0..40 {
        while let Some(cut) = ranges.allocate(length(&mut random)) {
            held.push(cut.range);
        }
        if round >= 20 {
            worst = worst.min(1.0 - f64::from(ranges.free_units()) / f64::from(units));
        }
        for _ in 0..held.len() / 10 {
            ranges.free(held.swap_remove(random.random_range(0..held.len())));
        }
    }
    worst
}

const GIB: u32 = 1 << 21;

fn units(bytes: u32) -> u32 {
    bytes.div_ceil(512)
}

#[test]
fn one_size_uses_nearly_everything() {
    for bytes in [3_274_752, 658_432, 1 << 20, 200_000, 5_000_001] {
        let fill = worst_fill(GIB, |_| units(bytes));
        assert!(fill >= 0.985, "{bytes}: {fill}");
    }
}

#[test]
fn two_sizes_use_nearly_everything() {
    let fill = worst_fill(4 * GIB, |random| units([3_274_752, 658_432][random.random_range(0..2)]));
    assert!(fill >= 0.970, "{fill}");
}

#[test]
fn any_sizes_use_nearly_everything() {
    let fill = worst_fill(4 * GIB, |random| units(random.random_range(4 << 10..=4 << 20)));
    assert!(fill >= 0.93, "{fill}");
}
