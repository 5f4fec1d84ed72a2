//! Which of several places takes a value: a segment of a core, or a core among cores. One interface for both.
//!
//! A choice looks at a sample of places and tries them, best first; if none of them takes the value, at another sample, up
//! to a bound: never at all places of a large cluster. What is known of a place may be old by the time it is tried.
//!
//! | strategy | tries |
//! |---|---|
//! | [`Strategy::Random`] | any |
//! | [`Strategy::FreeRatioFirst`] | the one with the largest share of its bytes free |
//! | [`Strategy::FragmentationAware`] | of those whose longest free range is long enough, the one in which that is the shortest: long ranges stay whole |
//! | [`Strategy::LocalFirst`] | those on this host, then as `FragmentationAware` |
//!
//! Places that the caller prefers come before all others, in the caller's order, whatever the strategy.

use snowskin_protocol::Strategy;

/// Places of a sample.
pub const SAMPLE_MAX: usize = 8;
/// Places that one choice looks at, in as many samples as that takes. Most choices end with the first sample; when nearly
/// everything is full, a place is worth some searching.
pub const LOOKED_AT_MAX: usize = 64;

/// What is known of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// All its bytes.
    pub capacity_bytes: u64,
    /// Bytes not allocated.
    pub free_bytes: u64,
    /// The longest run of them.
    pub free_range_bytes_max: u64,
    /// On which host it is. Copies of a value go to different ones, as far as there are any.
    pub host: u64,
    /// Whether that is the host of whoever asks.
    pub is_local: bool,
}

impl Figures {
    /// Of a million bytes, how many are free.
    fn free_ppm(&self) -> u64 {
        let ppm = u128::from(self.free_bytes) * 1_000_000 / u128::from(self.capacity_bytes.max(1));
        ppm as u64
    }
}

/// Places to choose from.
pub trait Places {
    /// How many there are.
    fn count(&self) -> usize;

    /// What is known of one.
    fn figures(&self, place: usize) -> Figures;
}

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// How to choose.
    pub strategy: Strategy,
    /// Bytes, as they will be allocated.
    pub bytes: u64,
    /// Places that come before all others.
    pub preferred: &'a [usize],
}

impl Request<'_> {
    /// Places a value: the first place for which `attempt` says that it has taken it.
    pub fn place_one(
        self,
        places: &impl Places,
        random: impl FnMut() -> u64,
        mut attempt: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let mut draw = Draw::new(places.count(), random);
        let preferred = self.preferred.iter().copied().filter(|&place| place < places.count());
        preferred.into_iter().find(|&place| attempt(place)).or_else(|| {
            std::iter::from_fn(|| self.order(places, &mut draw))
                .find_map(|order| order.places().find(|&place| attempt(place)))
        })
    }

    /// Places copies of a value, each on a host of its own as far as hosts go. Answers where: as many places as took one,
    /// `count` at most; fewer is no error.
    pub fn place(
        self,
        places: &impl Places,
        count: usize,
        random: impl FnMut() -> u64,
        mut attempt: impl FnMut(usize) -> bool,
    ) -> Vec<usize> {
        let mut taken: Vec<usize> = Vec::with_capacity(count);
        let mut hosts: Vec<u64> = Vec::with_capacity(count);
        let mut others = Vec::new();
        let mut draw = Draw::new(places.count(), random);
        let preferred = self.preferred.iter().copied().filter(|&place| place < places.count());
        let sampled = std::iter::from_fn(|| self.order(places, &mut draw)).flat_map(Order::into_places);
        let mut in_order = preferred.chain(sampled);
        while taken.len() < count
            && let Some(place) = in_order.next()
        {
            let host = places.figures(place).host;
            if hosts.contains(&host) {
                others.push(place);
            } else if attempt(place) {
                taken.push(place);
                hosts.push(host);
            }
        }
        let missing = count - taken.len();
        taken.extend(others.into_iter().filter(|&place| attempt(place)).take(missing));
        taken
    }

    /// The places of the next sample, best first, without those that are preferred or cannot hold the value.
    fn order<R: FnMut() -> u64>(self, places: &impl Places, draw: &mut Draw<R>) -> Option<Order> {
        let mut order = Order::default();
        for place in draw.sample()? {
            if self.preferred.contains(&place) {
                continue;
            }
            let figures = places.figures(place);
            // What is equal stays in the order in which it was drawn.
            let rank = match self.strategy {
                Strategy::Random => (false, 0, 0),
                Strategy::FreeRatioFirst => (false, 0, u64::MAX - figures.free_ppm()),
                Strategy::FragmentationAware | Strategy::LocalFirst => {
                    if figures.free_range_bytes_max < self.bytes {
                        continue;
                    }
                    let is_far = self.strategy == Strategy::LocalFirst && !figures.is_local;
                    (is_far, figures.free_range_bytes_max, u64::MAX - figures.free_ppm())
                }
            };
            order.ranked[order.count] = (rank, place);
            order.count += 1;
        }
        order.ranked[..order.count].sort_by_key(|(rank, _)| *rank);
        Some(order)
    }
}

/// Places of one sample, in the order in which to try them.
#[derive(Default)]
struct Order {
    ranked: [((bool, u64, u64), usize); SAMPLE_MAX],
    count: usize,
}

impl Order {
    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        self.ranked[..self.count].iter().map(|(_, place)| *place)
    }

    fn into_places(self) -> impl Iterator<Item = usize> {
        self.ranked.into_iter().take(self.count).map(|(_, place)| place)
    }
}

/// Draws places by chance, each once, a sample after the other.
struct Draw<R> {
    count: usize,
    first: usize,
    step: usize,
    drawn: usize,
    random: R,
}

impl<R: FnMut() -> u64> Draw<R> {
    fn new(count: usize, random: R) -> Self {
        Draw { count, first: 0, step: 1, drawn: 0, random }
    }

    /// The next few, as long as some are left that may be looked at.
    fn sample(&mut self) -> Option<impl Iterator<Item = usize> + use<R>> {
        if self.drawn == 0 && self.count > 1 {
            let (chance, count) = ((self.random)(), self.count as u64);
            self.first = (chance % count) as usize;
            // A step that shares no factor with the count meets each place once.
            let from = (chance / count % count) as usize;
            self.step = (from..).find(|&step| gcd(step, self.count) == 1).unwrap_or(1);
        }
        let (count, first, step, drawn) = (self.count, self.first, self.step, self.drawn);
        self.drawn = count.min(drawn + SAMPLE_MAX).min(LOOKED_AT_MAX);
        let sample = (drawn..self.drawn).map(move |number| (first + number * step) % count);
        (drawn < self.drawn).then_some(sample)
    }
}

fn gcd(one: usize, other: usize) -> usize {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
#[path = "strategy_tests.rs"]
mod tests;
