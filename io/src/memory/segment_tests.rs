//! A segment beside a model with a bit per unit.

use super::*;
use quickcheck::quickcheck;

const UNITS: usize = 64;
const MEMORY: usize = UNITS * EXTENT_ALIGNMENT;

fn segment(bytes: usize) -> Segment {
    Segment::new(7, Mapping::plain(bytes).unwrap())
}

/// Something that holds memory.
enum Holder {
    Reserved(Reservation),
    Kept(ExtentId),
    Pinned(Extent),
}

struct Holding {
    holder: Holder,
    start: usize,
    value_bytes: usize,
    content: u8,
}

/// The segment, what it must do said with a number of holders per unit, and everything that holds memory.
struct Beside {
    segment: Segment,
    holders: [u8; UNITS],
    held: Vec<Holding>,
    next_content: u8,
}

impl Holding {
    fn units(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.value_bytes.max(1).div_ceil(EXTENT_ALIGNMENT)
    }
}

impl Beside {
    fn new() -> Self {
        Beside { segment: segment(MEMORY), holders: [0; UNITS], held: Vec::new(), next_content: 0 }
    }

    /// All free runs, as long as they can be: first unit and units.
    fn free_runs(&self) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for unit in (0..UNITS).filter(|&unit| self.holders[unit] == 0) {
            match runs.last_mut() {
                Some((start, length)) if *start + *length == unit => *length += 1,
                _ => runs.push((unit, 1)),
            }
        }
        runs
    }

    fn reserve(&mut self, value_bytes: usize) {
        let needed = value_bytes.max(1).div_ceil(EXTENT_ALIGNMENT);
        let runs = self.free_runs();
        let shortest = runs.iter().map(|(_, length)| *length).filter(|length| *length >= needed).min();
        let reservation = self.segment.reserve(value_bytes);
        assert_eq!(reservation.is_some(), shortest.is_some(), "for {value_bytes} bytes");
        let Some(mut reservation) = reservation else { return };
        let start = reservation.place().start as usize;
        // The beginning of one of the shortest that are long enough.
        assert!(runs.contains(&(start, shortest.unwrap_or_default())), "{start} of {runs:?}");
        reservation.value_mut().fill(self.next_content);
        let holder = Holder::Reserved(reservation);
        self.hold(Holding { holder, start, value_bytes, content: self.next_content });
        self.next_content = self.next_content.wrapping_add(1);
    }

    fn hold(&mut self, holding: Holding) {
        holding.units().for_each(|unit| self.holders[unit] += 1);
        self.held.push(holding);
    }

    /// Publishes what is reserved; pins what is kept; pins again what is pinned.
    fn go_on(&mut self, at: usize) {
        let Holding { start, value_bytes, content, .. } = self.held[at];
        let holder = match &self.held[at].holder {
            Holder::Reserved(_) => {
                let Holding { holder: Holder::Reserved(reservation), .. } = self.held.swap_remove(at) else {
                    unreachable!("it was reserved")
                };
                let holder = Holder::Kept(reservation.publish());
                return self.held.push(Holding { holder, start, value_bytes, content });
            }
            Holder::Kept(extent) => Holder::Pinned(self.segment.pin(*extent, value_bytes)),
            Holder::Pinned(extent) => Holder::Pinned(extent.clone()),
        };
        self.hold(Holding { holder, start, value_bytes, content });
    }

    fn let_go(&mut self, at: usize) {
        let holding = self.held.swap_remove(at);
        holding.units().for_each(|unit| self.holders[unit] -= 1);
        match holding.holder {
            Holder::Kept(extent) => self.segment.let_go(extent),
            Holder::Reserved(reservation) => drop(reservation),
            Holder::Pinned(extent) => drop(extent),
        }
    }

    fn step(&mut self, kind: u8, number: u16) {
        let number = usize::from(number);
        match kind % 10 {
            // Sizes of values: small ones, those of a few units, and those that need half the memory.
            0 | 1 => self.reserve(number % (2 * EXTENT_ALIGNMENT)),
            2 => self.reserve(number % (8 * EXTENT_ALIGNMENT)),
            3 => self.reserve(number % (MEMORY + 1)),
            // What cannot be: rounding up must not wrap around.
            4 if number.is_multiple_of(4) => self.reserve(usize::MAX - number % (2 * EXTENT_ALIGNMENT)),
            _ if self.held.is_empty() => {}
            4..7 => self.go_on(number % self.held.len()),
            7 => self.let_go(0),
            _ => self.let_go(number % self.held.len()),
        }
    }

    /// Units that are held by pins alone.
    fn pinned_units(&self) -> usize {
        let is_only_pinned = |unit: &usize| {
            let of_unit = || self.held.iter().filter(|holding| holding.units().contains(unit));
            of_unit().next().is_some() && of_unit().all(|holding| matches!(holding.holder, Holder::Pinned(_)))
        };
        (0..UNITS).filter(is_only_pinned).count()
    }

    fn check(&self) {
        let usage = self.segment.usage();
        let runs = self.free_runs();
        let bytes = |units: usize| (units * EXTENT_ALIGNMENT) as u64;
        let is_reserved = |holding: &&Holding| matches!(holding.holder, Holder::Reserved(_));
        let reserved: usize = self.held.iter().filter(is_reserved).map(|holding| holding.units().len()).sum();
        let expected = Usage {
            capacity_bytes: MEMORY as u64,
            free_bytes: bytes(runs.iter().map(|(_, length)| length).sum()),
            reserved_bytes: bytes(reserved),
            pinned_bytes: bytes(self.pinned_units()),
            free_range_bytes_max: bytes(runs.iter().map(|(_, length)| *length).max().unwrap_or(0)),
        };
        assert_eq!(usage, expected);
        for holding in &self.held {
            let pin;
            let value = match &holding.holder {
                Holder::Reserved(reservation) => reservation.value(),
                Holder::Pinned(extent) => extent.value(),
                Holder::Kept(extent) => {
                    pin = self.segment.pin(*extent, holding.value_bytes);
                    pin.value()
                }
            };
            assert!(value.len() == holding.value_bytes && value.iter().all(|byte| *byte == holding.content));
        }
    }
}

quickcheck! {
    fn every_history_agrees_with_the_model(steps: Vec<(u8, u16)>) -> bool {
        let mut beside = Beside::new();
        for (kind, number) in steps {
            beside.step(kind, number);
            beside.check();
        }
        true
    }

    fn after_any_history_the_rest_can_be_filled_and_all_of_it_used_again(steps: Vec<(u8, u16)>) -> bool {
        let mut beside = Beside::new();
        steps.into_iter().for_each(|(kind, number)| beside.step(kind, number));
        let free_units = beside.holders.iter().filter(|holders| **holders == 0).count();
        let before = beside.held.len();
        (0..UNITS).for_each(|_| beside.reserve(1));
        assert_eq!((beside.held.len(), beside.segment.usage().free_bytes), (before + free_units, 0));
        while !beside.held.is_empty() {
            // From the middle outwards: neighbours on no side, on one, on both.
            beside.let_go(beside.held.len() / 2);
            beside.check();
        }
        beside.reserve(MEMORY);
        beside.held.len() == 1
    }
}

#[test]
fn best_fit_keeps_the_long_run_whole() {
    let segment = segment(MEMORY);
    let small = segment.reserve(4 * EXTENT_ALIGNMENT).unwrap();
    let _wall = segment.reserve(1).unwrap();
    drop(small);
    let again = segment.reserve(3 * EXTENT_ALIGNMENT).unwrap();
    assert_eq!(again.place().start, 0);
    assert_eq!(segment.usage().free_range_bytes_max, (MEMORY - 5 * EXTENT_ALIGNMENT) as u64);
}

#[test]
fn a_pin_outlives_its_keeper_and_its_segment() {
    let segment = segment(MEMORY);
    let mut reservation = segment.reserve(1000).unwrap();
    reservation.value_mut().fill(7);
    let kept = reservation.publish();
    let pin = segment.pin(kept, 1000);
    segment.let_go(kept);
    assert_eq!((segment.usage().pinned_bytes, segment.usage().free_bytes), (1024, MEMORY as u64 - 1024));
    drop(segment);
    assert_eq!(pin.value(), [7; 1000]);
}

#[test]
#[should_panic(expected = "not published here")]
fn what_is_being_written_cannot_be_pinned() {
    let segment = segment(MEMORY);
    let reservation = segment.reserve(1).unwrap();
    let invented = ExtentId { segment: 7, range: reservation.place().range };
    segment.pin(invented, 1);
}

#[test]
#[should_panic(expected = "is shorter than")]
fn a_pin_reaches_no_further_than_its_range() {
    let segment = segment(MEMORY);
    let kept = segment.reserve(1).unwrap().publish();
    segment.pin(kept, EXTENT_ALIGNMENT + 1);
}

#[test]
fn a_name_is_let_go_once_and_its_pins_stay() {
    let segment = segment(MEMORY);
    let kept = segment.reserve(1).unwrap().publish();
    let pin = segment.pin(kept, 1);
    segment.let_go(kept);
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| segment.let_go(kept)));
    assert!(again.is_err());
    assert_eq!(pin.value().len(), 1);
    assert_eq!(segment.usage().pinned_bytes, 512);
}
