//! A cache of so many bytes before a trace, with the engine's own eviction code and nothing else of the engine.
//!
//! Of a request, all blocks are looked up first; those held with all blocks before them are its prefix hits. Then the
//! blocks that are held are touched, deepest first, and the others put: in order with their parents where hints are
//! given, else deepest first, as an engine handles a batch.

use super::blocks::{Blocks, Step};
use crate::latency::ratio;
use serde::Serialize;
use snowskin_engine::eviction::{Arrival, Eviction, NOWHERE, PolicyKind, Position, Seat, Seats};

/// Blocks that must be held for a request to count as going on where another one ended: one may be a preamble that all
/// requests have in common.
const HELD_TO_CONTINUE: usize = 2;

/// What a cache made of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Hits {
    pub(crate) blocks: u64,
    pub(crate) prefix_hits: u64,
    pub(crate) tokens: u64,
    pub(crate) prefix_hit_tokens: u64,
}

impl Hits {
    /// Counts a request of which the first `held` blocks need not be computed again.
    pub(super) fn count(&mut self, blocks: &Blocks, request: &[u32], held: usize) {
        self.blocks += request.len() as u64;
        self.prefix_hits += held as u64;
        let tokens = |part: &[u32]| part.iter().map(|&block| blocks.tokens(block)).sum::<u64>();
        self.tokens += tokens(request);
        self.prefix_hit_tokens += tokens(&request[..held]);
    }

    pub(crate) fn rate(&self) -> f64 {
        ratio(self.prefix_hits, self.blocks)
    }
}

/// A row of the cache.
#[derive(Clone, Default)]
struct Row {
    seat: Seat,
    block: u32,
    tokens: u64,
}

#[derive(Default)]
struct Rows(Vec<Row>);

impl Seats for Rows {
    fn seat(&self, at: Position) -> &Seat {
        &self.0[at as usize].seat
    }

    fn seat_mut(&mut self, at: Position) -> &mut Seat {
        &mut self.0[at as usize].seat
    }

    fn bytes(&self, at: Position) -> u64 {
        self.0[at as usize].tokens
    }
}

/// The cache. Bytes are counted in tokens: what a token takes is the same for all.
pub(super) struct Cache<'a> {
    blocks: &'a Blocks,
    capacity: u64,
    eviction: Eviction,
    rows: Rows,
    spare: Vec<Position>,
    places: Vec<Position>,
    gives_hints: bool,
}

impl<'a> Cache<'a> {
    pub(super) fn new(blocks: &'a Blocks, kind: PolicyKind, capacity: u64, gives_hints: bool) -> Self {
        Cache {
            blocks,
            capacity,
            eviction: Eviction::new(kind),
            rows: Rows::default(),
            spare: Vec::new(),
            places: vec![NOWHERE; blocks.unique()],
            gives_hints,
        }
    }

    /// Replays all requests.
    pub(super) fn replay(mut self) -> Hits {
        let mut hits = Hits::default();
        for request in self.blocks.requests() {
            let held = request.iter().take_while(|&&block| self.is_held(block)).count();
            hits.count(self.blocks, request, held);
            for &block in request.iter().rev() {
                if self.is_held(block) {
                    self.eviction.hit(&mut self.rows, self.places[block as usize], self.blocks.hash(block));
                }
            }
            self.put_missing(request, held);
        }
        hits
    }

    fn put_missing(&mut self, request: &[u32], held: usize) {
        if !self.gives_hints {
            for &block in request.iter().rev() {
                self.put(block, Arrival::default());
            }
            return;
        }
        let mut parent = None;
        for (depth, &block) in request.iter().enumerate() {
            let is_leaf = depth + 1 == request.len();
            self.put(
                block,
                Arrival { parent, continues: held >= HELD_TO_CONTINUE, is_leaf, ..Arrival::default() },
            );
            parent = Some(self.places[block as usize]).filter(|&place| place != NOWHERE);
        }
    }

    fn is_held(&self, block: u32) -> bool {
        self.places[block as usize] != NOWHERE
    }

    fn put(&mut self, block: u32, arrival: Arrival) {
        let tokens = self.blocks.tokens(block);
        if self.is_held(block) || tokens > self.capacity {
            return;
        }
        while self.eviction.bytes() + tokens > self.capacity {
            let victim =
                self.eviction.victim(&mut self.rows, true, |_, _| true).expect("nothing is leased or pinned");
            let gone = self.rows.0[victim as usize].block;
            self.eviction.remove(&mut self.rows, victim, self.blocks.hash(gone), true);
            self.places[gone as usize] = NOWHERE;
            self.spare.push(victim);
        }
        let at = self.spare.pop().unwrap_or(self.rows.0.len() as Position);
        if at as usize == self.rows.0.len() {
            self.rows.0.push(Row::default());
        }
        self.rows.0[at as usize] = Row { seat: Seat::default(), block, tokens };
        // The parent may have been what had to go.
        let parent = arrival.parent.filter(|&parent| parent != at);
        let hash = self.blocks.hash(block);
        self.eviction.insert(&mut self.rows, at, &Arrival { hash, parent, ..arrival });
        self.places[block as usize] = at;
    }
}

/// The optimum by next use (Belady 1966): what is not asked for again is not kept, and what is asked for last goes
/// first, of a request the deepest. It knows the future; with prefixes and unequal bytes it is a reference, not a
/// proof.
pub(super) fn optimum(blocks: &Blocks, capacity: u64) -> Hits {
    let mut hits = Hits::default();
    let mut held = std::collections::BTreeSet::new();
    let mut keys: Vec<Option<(u32, u32, u32)>> = vec![None; blocks.unique()];
    let mut bytes = 0;
    let mut steps = blocks.steps();
    for request in blocks.requests() {
        let prefix = request.iter().take_while(|&&block| keys[block as usize].is_some()).count();
        hits.count(blocks, request, prefix);
        for _ in request {
            let Step { block, depth, next } = steps.next().expect("a step for each block of each request");
            let key = &mut keys[block as usize];
            if let Some(key) = key.take() {
                held.remove(&key);
                bytes -= blocks.tokens(block);
            }
            if let Some(next) = next {
                *key = Some((next, depth, block));
                held.insert((next, depth, block));
                bytes += blocks.tokens(block);
            }
            while bytes > capacity {
                let (_, _, last) = held.pop_last().expect("bytes are held");
                keys[last as usize] = None;
                bytes -= blocks.tokens(last);
            }
        }
    }
    hits
}

/// A cache without end.
pub(super) fn infinite(blocks: &Blocks) -> Hits {
    optimum(blocks, u64::MAX)
}
