//! One cell of the matrix.

use crate::spread::Spread;
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde::{Serialize, Serializer};
use snowskin_engine::segment::{Figures, Places, RangeId, Ranges, Request, Strategy};
use snowskin_protocol::limits::EXTENT_ALIGNMENT;
use std::cell::RefCell;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Which sizes values have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// All 3,274,752 bytes, as in one deployment of Mooncake.
    One,
    /// 3,274,752 or 658,432 bytes, as often as each other.
    Pair,
    /// Anything from 4 KiB to 4 MiB.
    Random,
    /// 70 of 100 have 4 KiB, 20 have 256 KiB, 10 have 3.12 MB.
    Mixed,
}

impl Sizes {
    pub(crate) const ALL: [Sizes; 4] = [Sizes::One, Sizes::Pair, Sizes::Random, Sizes::Mixed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Sizes::One => "one",
            Sizes::Pair => "pair",
            Sizes::Random => "random",
            Sizes::Mixed => "mixed",
        }
    }

    fn units(self, random: &mut StdRng) -> u32 {
        let bytes: usize = match self {
            Sizes::One => 3_274_752,
            Sizes::Pair => [3_274_752, 658_432][random.random_range(0..2)],
            Sizes::Random => random.random_range(4 << 10..=4 << 20),
            Sizes::Mixed => match random.random_range(0..100) {
                0..70 => 4 << 10,
                70..90 => 256 << 10,
                _ => 3_120_000,
            },
        };
        bytes.div_ceil(EXTENT_ALIGNMENT) as u32
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Sizes::ALL.into_iter().find(|sizes| sizes.name() == name);
        found.ok_or_else(|| format!("{name:?}: give one, pair, random or mixed"))
    }
}

/// How the memory is divided among segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shares {
    /// All have the same.
    Even,
    /// The first has half of it, the others the same of the rest.
    Skewed,
}

impl Shares {
    pub(crate) const ALL: [Shares; 2] = [Shares::Even, Shares::Skewed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Shares::Even => "even",
            Shares::Skewed => "skewed",
        }
    }

    fn units(self, all: u32, segments: usize) -> Vec<u32> {
        let others = segments.saturating_sub(1).max(1) as u32;
        let of = |segment| match self {
            Shares::Even => all / segments as u32,
            Shares::Skewed if segment == 0 => all / 2,
            Shares::Skewed => all / 2 / others,
        };
        (0..segments).map(of).collect()
    }
}

/// A cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cell {
    #[serde(serialize_with = "strategy_name")]
    pub(crate) strategy: Strategy,
    pub(crate) segments: usize,
    pub(crate) copies: usize,
    #[serde(serialize_with = "sizes_name")]
    pub(crate) sizes: Sizes,
    #[serde(serialize_with = "shares_name")]
    pub(crate) shares: Shares,
}

fn strategy_name<S: Serializer>(strategy: &Strategy, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(strategy.name())
}

fn sizes_name<S: Serializer>(sizes: &Sizes, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(sizes.name())
}

fn shares_name<S: Serializer>(shares: &Shares, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(shares.name())
}

/// What came of it. Parts are between 0 and 1.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) cell: Cell,
    /// Of all bytes, when a value has no place for the first time.
    pub(crate) fill_at_first_failure: f64,
    /// 1 − the longest free range / all free bytes, then.
    pub(crate) fragmentation_at_first_failure: f64,
    /// Of all bytes, on average while values come and go.
    pub(crate) fill_in_churn: f64,
    /// Values placed in the time that placing took.
    pub(crate) allocations_per_s: f64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    /// Of a range freed and another one allocated, without strategy and without a clock between them: the median of batches.
    pub(crate) pair_ns: f64,
    /// Of all attempts at a segment.
    pub(crate) attempts_refused: f64,
}

/// Pairs of freeing and placing between two looks at the clock, and how often they are timed.
const PAIRS: usize = 64;
const PAIR_BATCHES: usize = 301;

struct Segments(Vec<RefCell<Ranges>>);

impl Places for Segments {
    fn count(&self) -> usize {
        self.0.len()
    }

    /// Each on a host of its own, so that copies spread.
    fn figures(&self, place: usize) -> Figures {
        let ranges = self.0[place].borrow();
        let bytes = |units: u32| u64::from(units) * EXTENT_ALIGNMENT as u64;
        Figures {
            capacity_bytes: bytes(ranges.units()),
            free_bytes: bytes(ranges.free_units()),
            free_range_bytes_max: bytes(ranges.longest()),
            host: place as u64,
            is_local: place == 0,
        }
    }
}

impl Segments {
    fn sum(&self, of: impl Fn(&Ranges) -> u32) -> u64 {
        self.0.iter().map(|ranges| u64::from(of(&ranges.borrow()))).sum()
    }

    fn fill(&self) -> f64 {
        1.0 - self.sum(Ranges::free_units) as f64 / self.sum(Ranges::units) as f64
    }

    fn fragmentation(&self) -> f64 {
        let longest = self.0.iter().map(|ranges| ranges.borrow().longest()).max().unwrap_or(0);
        match self.sum(Ranges::free_units) {
            0 => 0.0,
            free => 1.0 - f64::from(longest) / free as f64,
        }
    }
}

/// A value's copies: where, and which range.
type Held = Vec<(usize, RangeId)>;

struct Run {
    cell: Cell,
    segments: Segments,
    random: StdRng,
    held: Vec<Held>,
    attempts: u64,
    refused: u64,
    placing_ns: Histogram<u64>,
}

/// Fills, then churns `churn` values.
pub(crate) fn measure(cell: Cell, memory_bytes: u64, churn: usize, seed: u64) -> Outcome {
    let all = (memory_bytes / EXTENT_ALIGNMENT as u64).min(u64::from(u32::MAX)) as u32;
    let shares = cell.shares.units(all, cell.segments);
    let mut run = Run {
        cell,
        segments: Segments(shares.into_iter().map(|units| RefCell::new(Ranges::new(units))).collect()),
        random: StdRng::seed_from_u64(seed),
        held: Vec::new(),
        attempts: 0,
        refused: 0,
        placing_ns: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("good bounds"),
    };
    while run.place() {}
    let (fill, fragmentation) = (run.segments.fill(), run.segments.fragmentation());
    run.placing_ns.clear();
    (run.attempts, run.refused) = (0, 0);
    let fill_in_churn = run.churn(churn);
    let attempts_refused = run.refused as f64 / run.attempts.max(1) as f64;
    let pair_ns = run.pairs();
    let spent = Duration::from_nanos((run.placing_ns.mean() * run.placing_ns.len() as f64) as u64);
    Outcome {
        cell,
        fill_at_first_failure: fill,
        fragmentation_at_first_failure: fragmentation,
        fill_in_churn,
        allocations_per_s: run.placing_ns.len() as f64 / spent.as_secs_f64().max(1e-9),
        p50_ns: run.placing_ns.value_at_quantile(0.5),
        p99_ns: run.placing_ns.value_at_quantile(0.99),
        pair_ns,
        attempts_refused,
    }
}

impl Run {
    /// Places a value of a drawn size, as many copies as fit. Answers whether there is one.
    fn place(&mut self) -> bool {
        let units = self.cell.sizes.units(&mut self.random);
        let mut held = Held::new();
        let began = Instant::now();
        self.place_in(units, &mut held);
        let took = began.elapsed().as_nanos() as u64;
        if held.is_empty() {
            return false;
        }
        self.placing_ns.saturating_record(took.max(1));
        self.held.push(held);
        true
    }

    fn place_in(&mut self, units: u32, held: &mut Held) {
        let bytes = u64::from(units) * EXTENT_ALIGNMENT as u64;
        let request = Request { strategy: self.cell.strategy, bytes, preferred: &[] };
        let attempt = |place: usize| {
            self.attempts += 1;
            match self.segments.0[place].borrow_mut().allocate(units) {
                Some(cut) => held.push((place, cut.range)),
                None => {
                    self.refused += 1;
                    return false;
                }
            }
            true
        };
        let random = || self.random.next_u64();
        match self.cell.copies {
            1 => drop(request.place_one(&self.segments, random, attempt)),
            copies => drop(request.place(&self.segments, copies, random, attempt)),
        }
    }

    fn free(&self, held: &mut Held) {
        held.drain(..).for_each(|(place, range)| self.segments.0[place].borrow_mut().free(range));
    }

    /// Frees a range and allocates another one in the same segment, [`PAIRS`] times between two looks at the clock; what
    /// and which was drawn before. Answers the nanoseconds a pair, the median of [`PAIR_BATCHES`].
    fn pairs(&mut self) -> f64 {
        let mut batches = Vec::with_capacity(PAIR_BATCHES);
        for _ in 0..PAIR_BATCHES {
            let mut pairs = Vec::with_capacity(PAIRS);
            while pairs.len() < PAIRS && !self.held.is_empty() {
                let number = self.random.random_range(0..self.held.len());
                let held = self.held.swap_remove(number);
                let units = self.cell.sizes.units(&mut self.random);
                pairs.extend(held.into_iter().map(|(place, range)| (place, units, Some(range))));
            }
            let began = Instant::now();
            for (place, units, range) in &mut pairs {
                let mut ranges = self.segments.0[*place].borrow_mut();
                range.take().into_iter().for_each(|range| ranges.free(range));
                *range = ranges.allocate(*units).map(|cut| cut.range);
            }
            batches.push(began.elapsed().as_nanos() as f64 / pairs.len().max(1) as f64);
            let held = pairs.into_iter().filter_map(|(place, _, range)| Some(vec![(place, range?)]));
            self.held.extend(held);
        }
        Spread::of(batches).median
    }

    /// Frees values at random until the next one has a place, again and again. Answers how full it was on average.
    fn churn(&mut self, values: usize) -> f64 {
        let mut fill = 0.0;
        for _ in 0..values {
            while !self.place() && !self.held.is_empty() {
                let number = self.random.random_range(0..self.held.len());
                let mut held = self.held.swap_remove(number);
                self.free(&mut held);
            }
            fill += self.segments.fill();
        }
        fill / values.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_every_sum_is_square() {
        assert_eq!(Shares::Even.units(100, 4), [25; 4]);
        assert_eq!(Shares::Skewed.units(120, 4), [60, 20, 20, 20]);
        for strategy in Strategy::ALL {
            for sizes in Sizes::ALL {
                let cell = Cell { strategy, segments: 4, copies: 2, sizes, shares: Shares::Skewed };
                let outcome = measure(cell, 256 << 20, 200, 1);
                let parts = [
                    outcome.fill_at_first_failure,
                    outcome.fragmentation_at_first_failure,
                    outcome.fill_in_churn,
                    outcome.attempts_refused,
                ];
                assert!(parts.iter().all(|part| (0.0..=1.0).contains(part)), "{outcome:?}");
                assert!(outcome.p50_ns <= outcome.p99_ns && outcome.allocations_per_s > 0.0);
                assert!(outcome.pair_ns > 0.0, "{outcome:?}");
            }
        }
    }

    /// The strategy that looks at free ranges makes no attempt in vain; the one that looks at free bytes does.
    #[test]
    fn attempts_in_vain() {
        let refused = |strategy| {
            let cell = Cell { strategy, segments: 8, copies: 1, sizes: Sizes::Random, shares: Shares::Even };
            measure(cell, 512 << 20, 500, 1).attempts_refused
        };
        assert_eq!(refused(Strategy::FragmentationAware), 0.0);
        assert!(refused(Strategy::FreeRatioFirst) > 0.05 && refused(Strategy::Random) > 0.05);
    }

    #[test]
    fn sizes_by_name() {
        assert!(Sizes::ALL.into_iter().all(|sizes| sizes.name().parse() == Ok(sizes)));
        assert!("two".parse::<Sizes>().unwrap_err().contains("pair"));
    }
}
