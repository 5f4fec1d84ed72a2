//! A trace as the simulator wants it: blocks numbered from 0, with their tokens.

use crate::model::TOKENS_PER_BLOCK;
use crate::trace::Request;
use std::collections::HashMap;

/// All requests of a trace, in order, as numbers of blocks.
pub(super) struct Blocks {
    requests: Vec<Vec<u32>>,
    tokens: Vec<u64>,
}

/// A use of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) block: u32,
    /// Its place in the request.
    pub(super) depth: u32,
    /// The request that uses it next.
    pub(super) next: Option<u32>,
}

impl Blocks {
    /// A request's last block has the tokens that are left for it; the bytes of a block are in proportion to its
    /// tokens. A block that requests state differently has the most that one of them states.
    pub(super) fn of(trace: &[Request]) -> Self {
        let mut numbers: HashMap<u64, u32> = HashMap::new();
        let mut tokens: Vec<u64> = Vec::new();
        let mut requests = Vec::with_capacity(trace.len());
        for request in trace {
            let mut left = request.input_tokens;
            let mut blocks = Vec::with_capacity(request.blocks.len());
            for id in &request.blocks {
                let here = left.clamp(1, TOKENS_PER_BLOCK);
                left = left.saturating_sub(here);
                let number = *numbers.entry(*id).or_insert(tokens.len() as u32);
                if number as usize == tokens.len() {
                    tokens.push(0);
                }
                let known = &mut tokens[number as usize];
                *known = here.max(*known);
                blocks.push(number);
            }
            requests.push(blocks);
        }
        Blocks { requests, tokens }
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = &[u32]> {
        self.requests.iter().map(Vec::as_slice)
    }

    pub(super) fn unique(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn unique_tokens(&self) -> u64 {
        self.tokens.iter().sum()
    }

    pub(super) fn tokens(&self, block: u32) -> u64 {
        self.tokens[block as usize]
    }

    /// A hash of its name.
    pub(super) fn hash(&self, block: u32) -> u64 {
        let mixed = (u64::from(block) + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 31).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    /// All uses in order, each with the next one of its block.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> {
        let mut next: Vec<Option<u32>> = vec![None; self.tokens.len()];
        let mut steps = Vec::new();
        for (number, request) in self.requests.iter().enumerate().rev() {
            for (depth, &block) in request.iter().enumerate().rev() {
                let later = next[block as usize].replace(number as u32);
                // A request that has a block twice uses it once.
                let later = later.filter(|&later| later != number as u32);
                steps.push(Step { block, depth: depth as u32, next: later });
            }
        }
        steps.into_iter().rev()
    }
}
