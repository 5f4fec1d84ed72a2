//! Traces of requests to an inference service, in the format of Mooncake's published ones.
//!
//! One JSON object a line: `timestamp` (ms), `input_length` and `output_length` (tokens), `hash_ids` (one id per
//! block of 512 tokens of the prompt). Ids are hashes of chains: the same id means the same block with the same
//! blocks before it. `reader` takes files in, `generate` makes traces of the published shape where there is no
//! file, `lru` says what an ideal cache would make of a trace.

mod generate;
mod lru;
mod reader;

pub use generate::{Shape, generate};
pub use lru::{PrefixRates, replay_lru};
pub use reader::{TraceError, read_trace, read_trace_from};

use std::collections::HashMap;

/// One request to the inference service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it arrived, in milliseconds since the trace began.
    pub timestamp_ms: u64,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// The ids of the prompt's blocks, in order.
    pub blocks: Vec<u64>,
}

/// What a trace is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFacts {
    /// Requests.
    pub requests: u64,
    /// Blocks of all requests.
    pub blocks: u64,
    /// Different blocks.
    pub unique_blocks: u64,
    /// Blocks that only one request has.
    pub blocks_used_once: u64,
    /// From the first arrival to the last, in milliseconds.
    pub duration_ms: u64,
    /// The blocks of the longest request.
    pub blocks_per_request_max: u64,
}

impl TraceFacts {
    /// Counts.
    pub fn of(requests: &[Request]) -> Self {
        let mut uses: HashMap<u64, u64> = HashMap::new();
        for id in requests.iter().flat_map(|request| &request.blocks) {
            *uses.entry(*id).or_default() += 1;
        }
        let first = requests.iter().map(|request| request.timestamp_ms).min().unwrap_or(0);
        let last = requests.iter().map(|request| request.timestamp_ms).max().unwrap_or(0);
        TraceFacts {
            requests: requests.len() as u64,
            blocks: uses.values().sum(),
            unique_blocks: uses.len() as u64,
            blocks_used_once: uses.values().filter(|&&count| count == 1).count() as u64,
            duration_ms: last - first,
            blocks_per_request_max: requests.iter().map(|request| request.blocks.len()).max().unwrap_or(0)
                as u64,
        }
    }
}

/// The files of published traces, for tests that use them where they are: `SNOWSKIN_TRACES`, or `shared/traces` in
/// or beside the checkout.
#[cfg(test)]
pub(crate) fn published(name: &str) -> Option<std::path::PathBuf> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let places = [
        std::env::var_os("SNOWSKIN_TRACES").map(std::path::PathBuf::from),
        Some(root.join("shared/traces")),
        Some(root.join("../shared/traces")),
    ];
    let found = places.into_iter().flatten().map(|place| place.join(name)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: {name} is not here (set SNOWSKIN_TRACES to the folder that has it)");
    }
    found
}
