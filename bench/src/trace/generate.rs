//! Makes a trace of the shape of the published chat trace, for machines that do not have the file.
//!
//! What is kept of the published one, and tested: block 0 opens every request (the service's own preamble), about
//! three quarters of all blocks are used once, a cache without end would hit a bit more than a third of all blocks,
//! requests have 24 blocks in the mean with a long tail, 3.4 arrive a second and they come in bursts.
//!
//! How: users open *sessions*. A session starts from the root or, for some, from a popular document (a chain that
//! other sessions share, popular ones more often: Zipf). Every turn sends all blocks of the turns before and new
//! ones; most sessions end after the first turn. The same seed makes the same trace.

use super::Request;
use crate::model::TOKENS_PER_BLOCK;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp, LogNormal, Zipf};
use std::collections::BinaryHeap;

/// Documents that sessions share.
const DOCUMENTS: usize = 400;
/// How unevenly documents are read.
const DOCUMENT_THETA: f64 = 0.9;
/// The part of sessions that starts from a document.
const SESSIONS_WITH_DOCUMENT: f64 = 0.08;
/// The part of sessions that has a second turn, and of those that have one, a further one.
const SECOND_TURN: f64 = 0.17;
const FURTHER_TURN: f64 = 0.60;
/// Mean time between two turns of a session.
const TURN_PAUSE_MS_MEAN: f64 = 60_000.0;
/// Mean time between arrivals of sessions in quiet times, and how much faster they come in a burst.
const SESSION_GAP_MS_MEAN: f64 = 600.0;
const BURST_FACTOR: f64 = 6.0;
/// The part of sessions that starts a burst, and how many sessions a burst has.
const BURST_STARTS: f64 = 0.02;
const BURST_SESSIONS: u32 = 20;
/// The longest prompt, in blocks, as in the published trace.
const BLOCKS_PER_REQUEST_MAX: usize = 247;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Requests.
    pub requests: usize,
    /// Same seed, same trace.
    pub seed: u64,
}

/// A session's next turn; the heap gives the earliest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at_ms: std::cmp::Reverse<u64>,
    session: std::cmp::Reverse<u64>,
    blocks: Vec<u64>,
    first: bool,
}

struct Generator {
    random: StdRng,
    next_id: u64,
    next_session: u64,
    documents: Vec<Vec<u64>>,
    popularity: Zipf<f64>,
    first_blocks: LogNormal<f64>,
    further_blocks: LogNormal<f64>,
    clock_ms: f64,
    burst_left: u32,
    turns: BinaryHeap<Turn>,
}

/// Makes a trace.
pub fn generate(shape: Shape) -> Vec<Request> {
    let mut generator = Generator::new(shape.seed);
    let mut requests: Vec<Request> = Vec::with_capacity(shape.requests);
    let mut next_session_ms = 0;
    while requests.len() < shape.requests {
        while generator.turns.peek().is_none_or(|turn| turn.at_ms.0 >= next_session_ms) {
            generator.open_session(next_session_ms);
            next_session_ms = generator.next_arrival_ms();
        }
        let turn = generator.turns.pop().expect("a session was opened");
        requests.push(generator.request(&turn));
        generator.continue_session(turn);
    }
    requests
}

impl Generator {
    fn new(seed: u64) -> Self {
        let mut generator = Generator {
            random: StdRng::seed_from_u64(seed),
            next_id: 1,
            next_session: 0,
            documents: Vec::new(),
            popularity: Zipf::new(DOCUMENTS as f64, DOCUMENT_THETA).expect("valid constants"),
            first_blocks: LogNormal::new(2.55, 0.95).expect("valid constants"),
            further_blocks: LogNormal::new(0.9, 0.7).expect("valid constants"),
            clock_ms: 0.0,
            burst_left: 0,
            turns: BinaryHeap::new(),
        };
        generator.documents = (0..DOCUMENTS).map(|_| generator.document()).collect();
        generator
    }

    /// The root and a chain of its own.
    fn document(&mut self) -> Vec<u64> {
        let mut blocks = vec![0];
        let length = draw(&self.first_blocks, &mut self.random);
        self.extend(&mut blocks, length);
        blocks
    }

    fn extend(&mut self, blocks: &mut Vec<u64>, by: usize) {
        for _ in 0..by.min(BLOCKS_PER_REQUEST_MAX.saturating_sub(blocks.len())) {
            blocks.push(self.next_id);
            self.next_id += 1;
        }
    }

    fn next_arrival_ms(&mut self) -> u64 {
        if self.burst_left == 0 && self.random.random_bool(BURST_STARTS) {
            self.burst_left = BURST_SESSIONS;
        }
        let mean = if self.burst_left > 0 { SESSION_GAP_MS_MEAN / BURST_FACTOR } else { SESSION_GAP_MS_MEAN };
        self.burst_left = self.burst_left.saturating_sub(1);
        self.clock_ms += exponential(mean, &mut self.random);
        self.clock_ms as u64
    }

    fn open_session(&mut self, at_ms: u64) {
        let mut blocks = vec![0];
        if self.random.random_bool(SESSIONS_WITH_DOCUMENT) {
            let chosen = self.popularity.sample(&mut self.random) as usize - 1;
            blocks.clone_from(&self.documents[chosen.min(DOCUMENTS - 1)]);
        }
        let length = draw(&self.first_blocks, &mut self.random);
        self.extend(&mut blocks, length);
        self.next_session += 1;
        let session = std::cmp::Reverse(self.next_session);
        self.turns.push(Turn { at_ms: std::cmp::Reverse(at_ms), session, blocks, first: true });
    }

    fn request(&mut self, turn: &Turn) -> Request {
        // The last block is rarely full.
        let unfilled = self.random.random_range(0..TOKENS_PER_BLOCK);
        Request {
            timestamp_ms: turn.at_ms.0,
            input_tokens: turn.blocks.len() as u64 * TOKENS_PER_BLOCK - unfilled,
            output_tokens: 1 + exponential(343.0, &mut self.random) as u64,
            blocks: turn.blocks.clone(),
        }
    }

    fn continue_session(&mut self, mut turn: Turn) {
        if !self.random.random_bool(if turn.first { SECOND_TURN } else { FURTHER_TURN }) {
            return;
        }
        // What was the unfilled last block has become a full one with another id.
        if turn.blocks.len() > 1 {
            turn.blocks.pop();
        }
        let length = 1 + draw(&self.further_blocks, &mut self.random);
        self.extend(&mut turn.blocks, length);
        turn.at_ms.0 += 1_000 + exponential(TURN_PAUSE_MS_MEAN, &mut self.random) as u64;
        turn.first = false;
        self.turns.push(turn);
    }
}

fn draw(distribution: &LogNormal<f64>, random: &mut StdRng) -> usize {
    (distribution.sample(random) as usize).max(1)
}

fn exponential(mean: f64, random: &mut StdRng) -> f64 {
    Exp::new(1.0 / mean).expect("the mean is positive").sample(random)
}

#[cfg(test)]
mod tests {
    use super::super::{TraceFacts, replay_lru};
    use super::*;

    #[test]
    fn the_shape_is_the_published_one() {
        let trace = generate(Shape { requests: 8_000, seed: 1 });
        let facts = TraceFacts::of(&trace);
        let once = facts.blocks_used_once as f64 / facts.unique_blocks as f64;
        let mean = facts.blocks as f64 / facts.requests as f64;
        let infinite = replay_lru(&trace, usize::MAX).prefix_hit_rate();
        let rate = facts.requests as f64 / (facts.duration_ms as f64 / 1_000.0);
        println!("{facts:?} once {once:.3} mean {mean:.1} infinite {infinite:.3} rate {rate:.2}/s");
        assert!((0.70..0.82).contains(&once), "used once: {once}");
        assert!((0.32..0.42).contains(&infinite), "cache without end: {infinite}");
        assert!((19.0..29.0).contains(&mean), "blocks a request: {mean}");
        assert!((2.5..4.5).contains(&rate), "requests a second: {rate}");
        assert!(
            trace
                .iter()
                .all(|request| request.blocks[0] == 0 && request.blocks.len() <= BLOCKS_PER_REQUEST_MAX)
        );
        assert!(trace.windows(2).all(|pair| pair[0].timestamp_ms <= pair[1].timestamp_ms));
    }

    #[test]
    fn ids_are_chains() {
        let mut before: std::collections::HashMap<u64, u64> = std::collections::HashMap::new();
        for request in generate(Shape { requests: 2_000, seed: 2 }) {
            for pair in request.blocks.windows(2) {
                assert_eq!(*before.entry(pair[1]).or_insert(pair[0]), pair[0], "one block, one predecessor");
            }
        }
    }

    #[test]
    fn arrivals_come_in_bursts() {
        let trace = generate(Shape { requests: 8_000, seed: 3 });
        let mut per_second: std::collections::HashMap<u64, u64> = std::collections::HashMap::new();
        for request in &trace {
            *per_second.entry(request.timestamp_ms / 1_000).or_default() += 1;
        }
        assert!(per_second.values().copied().max() >= Some(12), "no second is busier than Poisson makes it");
    }

    #[test]
    fn the_same_seed_makes_the_same_trace() {
        let shape = Shape { requests: 300, seed: 9 };
        assert_eq!(generate(shape), generate(shape));
        assert_ne!(generate(shape), generate(Shape { seed: 10, ..shape }));
    }
}
