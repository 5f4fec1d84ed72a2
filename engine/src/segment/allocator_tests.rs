//! The allocator beside a model with a bit per unit.

use super::*;
use quickcheck::quickcheck;

const UNITS: usize = 64;
const MEMORY: usize = UNITS * EXTENT_ALIGNMENT;

/// The allocator, what an allocator must do said with a bit per unit, and what was handed out, each with its content.
struct Beside {
    allocator: Allocator,
    used: [bool; UNITS],
    held: Vec<(Span, u8)>,
    next_content: u8,
    /// Bytes behind the last whole unit: free for ever.
    tail: usize,
}

impl Beside {
    fn new(tail: usize) -> Self {
        let allocator = Allocator::new(Span::map(MEMORY + tail, false).unwrap());
        Beside { allocator, used: [false; UNITS], held: Vec::new(), next_content: 0, tail }
    }

    /// All free runs, as long as they can be: offset and length in bytes.
    fn free_runs(&self) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        let units = self.used.iter().enumerate().map(|(unit, used)| (unit, *used, EXTENT_ALIGNMENT));
        let tail = (self.tail > 0).then_some((UNITS, false, self.tail));
        for (unit, used, bytes) in units.chain(tail) {
            let offset = unit * EXTENT_ALIGNMENT;
            match runs.last_mut() {
                _ if used => {}
                Some((start, length)) if *start + *length == offset => *length += bytes,
                _ => runs.push((offset, bytes)),
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
        let fitting = self.free_runs().into_iter().filter(|(_, length)| *length >= needed);
        // The shortest that is long enough, and the first of those.
        let expected = fitting.min_by_key(|&(offset, length)| (length, offset)).map(|(offset, _)| offset);
        let span = self.allocator.allocate(bytes);
        assert_eq!(span.as_ref().map(Span::offset), expected, "for {bytes} bytes");
        let Some(mut span) = span else { return };
        assert_eq!(span.len(), needed);
        self.mark(&span, true);
        span.bytes_mut().fill(self.next_content);
        self.held.push((span, self.next_content));
        self.next_content = self.next_content.wrapping_add(1);
    }

    fn free(&mut self, at: usize) {
        let (span, content) = self.held.remove(at);
        assert!(span.bytes().iter().all(|byte| *byte == content), "somebody else wrote into {span:?}");
        self.mark(&span, false);
        self.allocator.free(span);
    }

    fn step(&mut self, kind: u8, number: u16) {
        let number = usize::from(number);
        match kind % 8 {
            // Sizes of values: small ones, those of a few units, and those that need half the memory.
            0 | 1 => self.allocate(number % (2 * EXTENT_ALIGNMENT)),
            2 => self.allocate(number % (8 * EXTENT_ALIGNMENT)),
            3 => self.allocate(number % (MEMORY + self.tail + 1)),
            // What cannot be: rounding up must not wrap around.
            4 if number.is_multiple_of(4) => self.allocate(usize::MAX - number % (2 * EXTENT_ALIGNMENT)),
            _ if self.held.is_empty() => {}
            4 => self.free(0),
            _ => self.free(number % self.held.len()),
        }
    }

    fn check(&self) {
        let runs = self.free_runs();
        let by_offset: Vec<(usize, usize)> =
            self.allocator.by_offset.iter().map(|(offset, span)| (*offset, span.len())).collect();
        assert_eq!(by_offset, runs, "free runs, each as long as it can be");
        assert!(self.allocator.by_offset.iter().all(|(offset, span)| *offset == span.offset()));
        let mut by_length: Vec<(usize, usize)> =
            self.allocator.by_length.iter().map(|(length, offset)| (*offset, *length)).collect();
        by_length.sort_unstable();
        assert_eq!(by_length, runs, "the same runs by length");
        assert_eq!(self.allocator.free_bytes(), runs.iter().map(|(_, length)| length).sum());
        let longest = runs.iter().map(|(_, length)| *length).max();
        assert_eq!(self.allocator.free_range_bytes_max(), longest.unwrap_or(0));
        assert_eq!(self.allocator.capacity_bytes(), MEMORY + self.tail);
    }
}

quickcheck! {
    fn every_history_agrees_with_the_model(steps: Vec<(u8, u16)>, tail: u16) -> bool {
        let mut beside = Beside::new(usize::from(tail) % EXTENT_ALIGNMENT);
        for (kind, number) in steps {
            beside.step(kind, number);
            beside.check();
        }
        true
    }

    fn after_any_history_the_rest_can_be_filled_and_all_of_it_used_again(steps: Vec<(u8, u16)>) -> bool {
        let mut beside = Beside::new(0);
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
    assert_eq!(again.offset(), 0);
    assert_eq!(allocator.free_range_bytes_max(), MEMORY - 5 * EXTENT_ALIGNMENT);
    allocator.free(wall);
    allocator.free(again);
}

#[test]
fn memory_shorter_than_a_unit_holds_nothing() {
    let mut allocator = Allocator::new(Span::map(EXTENT_ALIGNMENT - 1, false).unwrap());
    assert!(allocator.allocate(0).is_none() && allocator.allocate(1).is_none());
    assert_eq!(allocator.free_range_bytes_max(), EXTENT_ALIGNMENT - 1);
}
