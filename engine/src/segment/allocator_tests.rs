//! The allocator beside a model with a bit per unit.

use super::*;
use quickcheck::quickcheck;

const UNITS: usize = 64;
const MEMORY: usize = UNITS * EXTENT_ALIGNMENT;

/// The allocator, what an allocator must do said with a bit per unit, and what was handed out, each with its content.
struct Beside {
    allocator: Allocator,
    used: [bool; UNITS],
    held: Vec<(Grant, u8)>,
    next_content: u8,
}

impl Beside {
    fn new() -> Self {
        let allocator = Allocator::new(Span::map(MEMORY, false).unwrap());
        Beside { allocator, used: [false; UNITS], held: Vec::new(), next_content: 0 }
    }

    /// All free runs, as long as they can be: offset and length in bytes.
    fn free_runs(&self) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for unit in (0..UNITS).filter(|&unit| !self.used[unit]) {
            let offset = unit * EXTENT_ALIGNMENT;
            match runs.last_mut() {
                Some((start, length)) if *start + *length == offset => *length += EXTENT_ALIGNMENT,
                _ => runs.push((offset, EXTENT_ALIGNMENT)),
            }
        }
        runs
    }

    fn mark(&mut self, span: &Span, used: bool) {
        assert!(
            [span.offset(), span.len()].iter().all(|bytes| bytes.is_multiple_of(EXTENT_ALIGNMENT)),
            "{span:?}"
        );
        let units = span.offset() / EXTENT_ALIGNMENT..(span.offset() + span.len()) / EXTENT_ALIGNMENT;
        assert!(self.used[units.clone()].iter().all(|was| *was != used), "{units:?} overlap");
        self.used[units].fill(used);
    }

    fn allocate(&mut self, bytes: usize) {
        let needed = bytes.max(1).div_ceil(EXTENT_ALIGNMENT).saturating_mul(EXTENT_ALIGNMENT);
        let runs = self.free_runs();
        let shortest = runs.iter().map(|(_, length)| *length).filter(|length| *length >= needed).min();
        let grant = self.allocator.allocate(bytes);
        assert_eq!(grant.is_some(), shortest.is_some(), "for {bytes} bytes");
        let Some(mut grant) = grant else { return };
        // The beginning of one of the shortest that are long enough.
        let run = (grant.span.offset(), shortest.unwrap_or_default());
        assert!(runs.contains(&run), "{run:?} is none of {runs:?}");
        assert_eq!(grant.span.len(), needed);
        self.mark(&grant.span, true);
        grant.span.bytes_mut().fill(self.next_content);
        self.held.push((grant, self.next_content));
        self.next_content = self.next_content.wrapping_add(1);
    }

    fn free(&mut self, at: usize) {
        let (grant, content) = self.held.remove(at);
        assert!(grant.span.bytes().iter().all(|byte| *byte == content), "somebody else wrote into {grant:?}");
        self.mark(&grant.span, false);
        self.allocator.free(grant);
    }

    fn step(&mut self, kind: u8, number: u16) {
        let number = usize::from(number);
        match kind % 8 {
            // Sizes of values: small ones, those of a few units, and those that need half the memory.
            0 | 1 => self.allocate(number % (2 * EXTENT_ALIGNMENT)),
            2 => self.allocate(number % (8 * EXTENT_ALIGNMENT)),
            3 => self.allocate(number % (MEMORY + 1)),
            // What cannot be: rounding up must not wrap around.
            4 if number.is_multiple_of(4) => self.allocate(usize::MAX - number % (2 * EXTENT_ALIGNMENT)),
            _ if self.held.is_empty() => {}
            4 => self.free(0),
            _ => self.free(number % self.held.len()),
        }
    }

    fn check(&self) {
        let runs = self.free_runs();
        let mut kept: Vec<(usize, usize)> =
            self.allocator.free.iter().flatten().map(|span| (span.offset(), span.len())).collect();
        kept.sort_unstable();
        assert_eq!(kept, runs, "free runs, each as long as it can be");
        assert_eq!(self.allocator.free_bytes(), runs.iter().map(|(_, length)| length).sum::<usize>());
        let longest = runs.iter().map(|(_, length)| *length).max();
        assert_eq!(self.allocator.free_range_bytes_max(), longest.unwrap_or(0));
        assert_eq!(self.allocator.capacity_bytes(), MEMORY);
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
        let free_units = beside.used.iter().filter(|used| !**used).count();
        let before = beside.held.len();
        (0..UNITS).for_each(|_| beside.allocate(1));
        assert_eq!((beside.held.len(), beside.allocator.free_bytes()), (before + free_units, 0));
        while !beside.held.is_empty() {
            // From the middle outwards: neighbours on no side, on one, on both.
            beside.free(beside.held.len() / 2);
            beside.check();
        }
        beside.allocate(MEMORY);
        beside.held.len() == 1
    }
}

#[test]
fn best_fit_keeps_the_long_run_whole() {
    let mut allocator = Allocator::new(Span::map(MEMORY, false).unwrap());
    let small = allocator.allocate(4 * EXTENT_ALIGNMENT).unwrap();
    let wall = allocator.allocate(1).unwrap();
    allocator.free(small);
    let again = allocator.allocate(3 * EXTENT_ALIGNMENT).unwrap();
    assert_eq!(again.span.offset(), 0);
    assert_eq!(allocator.free_range_bytes_max(), MEMORY - 5 * EXTENT_ALIGNMENT);
    allocator.free(wall);
    allocator.free(again);
}

#[test]
#[should_panic(expected = "no whole units")]
fn memory_of_broken_units_is_refused() {
    Allocator::new(Span::map(EXTENT_ALIGNMENT - 1, false).unwrap());
}
