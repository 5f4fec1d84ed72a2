//! Streams of single blocks that are no traces: what a policy that was made for chats must not spoil.

use crate::model::TOKENS_PER_BLOCK;
use crate::trace::Request;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// Uses in a stream for each request of a generated trace: about as many blocks as these have.
pub(super) const BLOCKS_PER_REQUEST: usize = 24;
/// Of so many uses, one block more.
const USES_PER_BLOCK: usize = 8;
const THETA: f64 = 0.9;
/// A scan begins anew after so many uses, and takes so many of them.
const SCAN_EVERY: usize = 6_000;
const SCAN_LENGTH: usize = 2_500;
/// Numbers of blocks that nobody asks for again.
const ONCE_FROM: u64 = 1 << 40;

/// All of them, with their names.
pub(super) fn all(uses: usize, seed: u64) -> Vec<(String, Vec<Request>)> {
    let blocks = (uses / USES_PER_BLOCK).max(1);
    let mut random = StdRng::seed_from_u64(seed);
    let zipf = Zipf::new(blocks as f64, THETA).expect("valid constants");
    let popular: Vec<u64> = (0..uses).map(|_| zipf.sample(&mut random) as u64).collect();
    let is_scan = |at: usize| at % SCAN_EVERY < SCAN_LENGTH;
    let with_scans = popular.iter().enumerate();
    let with_scans = with_scans.map(|(at, &id)| if is_scan(at) { ONCE_FROM + at as u64 } else { id });
    let even = (0..uses).map(|_| random.random_range(0..blocks as u64));
    vec![
        (format!("zipf {THETA}"), stream(popular.iter().copied())),
        ("zipf with scans".to_owned(), stream(with_scans)),
        ("uniform".to_owned(), stream(even)),
    ]
}

fn stream(ids: impl Iterator<Item = u64>) -> Vec<Request> {
    let request = |(at, id): (usize, u64)| Request {
        timestamp_ms: at as u64,
        input_tokens: TOKENS_PER_BLOCK,
        output_tokens: 0,
        blocks: vec![id],
    };
    ids.enumerate().map(request).collect()
}
