//! What an exact LRU cache of so many blocks would make of a trace: the measure that real caches are put beside.
//!
//! The definition is the one of the published figures: of a request, all blocks are looked up first (a block counts
//! as a *prefix hit* only if all blocks before it in the request are held too); then the blocks are touched or
//! inserted in order, each insertion beyond the capacity dropping the least recently used one.

use super::Request;
use crate::latency::ratio;
use std::collections::HashMap;

/// A link that leads nowhere.
const NONE: usize = usize::MAX;

/// What a cache made of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixRates {
    /// Blocks looked up.
    pub blocks: u64,
    /// Of these, held.
    pub block_hits: u64,
    /// Of these, held with all blocks before them.
    pub prefix_hits: u64,
}

impl PrefixRates {
    /// The part of all blocks that need not be computed again.
    pub fn prefix_hit_rate(&self) -> f64 {
        ratio(self.prefix_hits, self.blocks)
    }
}

/// Replays a trace against an LRU cache of `capacity_blocks` (`usize::MAX`: a cache without end).
pub fn replay_lru(requests: &[Request], capacity_blocks: usize) -> PrefixRates {
    let mut cache = Lru::new(capacity_blocks);
    let mut rates = PrefixRates::default();
    for request in requests {
        let mut unbroken = true;
        for id in &request.blocks {
            let held = cache.holds(*id);
            unbroken &= held;
            rates.blocks += 1;
            rates.block_hits += u64::from(held);
            rates.prefix_hits += u64::from(unbroken);
        }
        for id in &request.blocks {
            cache.touch(*id);
        }
    }
    rates
}

/// A list of nodes in order of use, linked by positions, and a map to find them.
struct Lru {
    capacity: usize,
    nodes: Vec<Node>,
    places: HashMap<u64, usize>,
    newest: usize,
    oldest: usize,
}

struct Node {
    id: u64,
    newer: usize,
    older: usize,
}

impl Lru {
    fn new(capacity: usize) -> Self {
        Lru { capacity, nodes: Vec::new(), places: HashMap::new(), newest: NONE, oldest: NONE }
    }

    fn holds(&self, id: u64) -> bool {
        self.places.contains_key(&id)
    }

    fn touch(&mut self, id: u64) {
        if self.capacity == 0 {
            return;
        }
        let place = match self.places.get(&id) {
            Some(&place) => {
                self.unlink(place);
                place
            }
            None => self.place_for(id),
        };
        self.link_newest(place);
    }

    /// An unlinked node for `id`: a new one, or the oldest one's.
    fn place_for(&mut self, id: u64) -> usize {
        let place = if self.nodes.len() < self.capacity {
            self.nodes.push(Node { id, newer: NONE, older: NONE });
            self.nodes.len() - 1
        } else {
            let place = self.oldest;
            self.unlink(place);
            self.places.remove(&self.nodes[place].id);
            self.nodes[place].id = id;
            place
        };
        self.places.insert(id, place);
        place
    }

    fn unlink(&mut self, place: usize) {
        let Node { newer, older, .. } = self.nodes[place];
        match newer {
            NONE => self.newest = older,
            _ => self.nodes[newer].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            _ => self.nodes[older].newer = newer,
        }
    }

    fn link_newest(&mut self, place: usize) {
        self.nodes[place].newer = NONE;
        self.nodes[place].older = self.newest;
        match self.newest {
            NONE => self.oldest = place,
            newest => self.nodes[newest].newer = place,
        }
        self.newest = place;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{published, read_trace};
    use super::*;
    use quickcheck::quickcheck;

    fn request(blocks: &[u64]) -> Request {
        Request { timestamp_ms: 0, input_tokens: 0, output_tokens: 0, blocks: blocks.to_vec() }
    }

    #[test]
    fn a_hit_after_a_miss_is_no_prefix_hit() {
        let trace = [request(&[1, 2, 3]), request(&[9, 2, 3]), request(&[1, 2, 4])];
        let rates = replay_lru(&trace, usize::MAX);
        assert_eq!((rates.blocks, rates.block_hits, rates.prefix_hits), (9, 4, 2));
        assert_eq!(replay_lru(&trace, 0).block_hits, 0);
    }

    /// The rows of the traces' own page, to its three digits.
    #[test]
    fn the_published_figures_come_out() {
        for (name, rows) in [
            (
                "conversation_trace.jsonl.gz",
                [(1_000, 0.045), (10_000, 0.211), (30_000, 0.326), (usize::MAX, 0.366)],
            ),
            (
                "synthetic_trace.jsonl.gz",
                [(1_000, 0.083), (10_000, 0.424), (30_000, 0.624), (usize::MAX, 0.640)],
            ),
        ] {
            let Some(path) = published(name) else { continue };
            let trace = read_trace(&path, usize::MAX).unwrap();
            for (capacity, expected) in rows {
                let rate = replay_lru(&trace, capacity).prefix_hit_rate();
                assert!(
                    (rate - expected).abs() <= 0.0006,
                    "{name}, {capacity} blocks: {rate:.4}, not {expected}"
                );
            }
        }
    }

    quickcheck! {
        /// The same as a list that is searched from its end.
        fn equals_a_plain_list(trace: Vec<Vec<u8>>, capacity: u8) -> bool {
            let capacity = usize::from(capacity % 16);
            let trace: Vec<Request> =
                trace.iter().map(|ids| request(&ids.iter().map(|id| u64::from(id % 32)).collect::<Vec<_>>())).collect();
            let mut list: Vec<u64> = Vec::new();
            let mut hits = 0;
            for request in &trace {
                hits += request.blocks.iter().filter(|id| list.contains(id)).count() as u64;
                for id in &request.blocks {
                    list.retain(|held| held != id);
                    list.push(*id);
                    if list.len() > capacity {
                        list.remove(0);
                    }
                }
            }
            replay_lru(&trace, capacity).block_hits == hits
        }
    }
}
