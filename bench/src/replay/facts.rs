//! What a replay needs to know beforehand (how much memory) and says afterwards (beside what ideal).

use crate::meter::Measured;
use crate::trace::{Request, TraceFacts, replay_lru};
use serde::Serialize;
use snowskin_protocol::ByteSize;
use snowskin_protocol::limits::EXTENT_ALIGNMENT;
use std::str::FromStr;

/// Memory comes in pages.
const PAGE_BYTES: u64 = 4_096;

/// The memory of a cluster: of each engine in bytes, or of all together as a part of what the trace puts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Memory {
    PerEngine(u64),
    /// 0.2 for `20%`: of unique blocks × block size, over all engines.
    PartOfUnique(f64),
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(percent) = text.trim().strip_suffix('%') else {
            return crate::workload::parse_size(text).map(|size| Memory::PerEngine(size.0));
        };
        match percent.trim().parse::<f64>() {
            Ok(percent) if percent.is_finite() && percent > 0.0 => Ok(Memory::PartOfUnique(percent / 100.0)),
            _ => Err(format!("\"{text}\" is no part of the trace: write 20%")),
        }
    }
}

/// Bytes of memory of each engine. A part is rounded up so that each core holds a whole number of blocks; what the
/// engine itself needs (index, buffers) is beside this memory, so nothing is added for it.
pub(crate) fn cluster_memory(
    memory: Memory,
    facts: &TraceFacts,
    block_bytes: u64,
    engines: usize,
    cores: usize,
) -> u64 {
    match memory {
        Memory::PerEngine(bytes) => bytes,
        Memory::PartOfUnique(part) => {
            let cores = cores as u64;
            let blocks = (facts.unique_blocks as f64 * part).ceil() as u64;
            let blocks_per_core = blocks.div_ceil(engines as u64 * cores).max(1);
            (blocks_per_core * extent_bytes(block_bytes)).next_multiple_of(PAGE_BYTES) * cores
        }
    }
}

/// What one block takes of a segment.
fn extent_bytes(block_bytes: u64) -> u64 {
    block_bytes.next_multiple_of(EXTENT_ALIGNMENT as u64)
}

/// Hit rates of caches that do not exist.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ideal {
    pub(crate) lru_blocks: u64,
    pub(crate) lru_rate: f64,
    /// Of the memory alone, if there is an SSD tier besides.
    pub(crate) lru_memory_rate: Option<f64>,
    pub(crate) infinite_rate: f64,
}

impl Ideal {
    /// Of an exact LRU with the memory of all engines, and what they have on SSDs, together as one, and of a cache without end.
    /// `memory_bytes` is `None` for somebody else's cluster, whose memory we do not know.
    pub(crate) fn of(
        requests: &[Request],
        memory_bytes: Option<u64>,
        ssd_bytes: u64,
        block_bytes: u64,
    ) -> Self {
        let blocks = |bytes: u64| bytes / extent_bytes(block_bytes);
        let rate =
            |blocks| replay_lru(requests, usize::try_from(blocks).unwrap_or(usize::MAX)).prefix_hit_rate();
        let lru_blocks = memory_bytes.map_or(u64::MAX, |bytes| blocks(bytes + ssd_bytes));
        let of_memory = memory_bytes.filter(|_| ssd_bytes > 0).map(blocks);
        Ideal {
            lru_blocks,
            lru_rate: rate(lru_blocks),
            lru_memory_rate: of_memory.map(rate),
            infinite_rate: rate(u64::MAX),
        }
    }
}

/// The part of a summary that only replays have. See [`crate::report::summary`] for the meaning of the fields.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TraceSummary {
    pub(crate) requests: u64,
    pub(crate) blocks: u64,
    pub(crate) unique_blocks: u64,
    pub(crate) block_bytes: u64,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) time_scale: Option<f64>,
    pub(crate) lease_ms: Option<u64>,
    pub(crate) prefix_hit_rate: f64,
    pub(crate) ideal_lru_prefix_hit_rate: f64,
    pub(crate) ideal_lru_memory_prefix_hit_rate: Option<f64>,
    pub(crate) ideal_lru_blocks: Option<u64>,
    pub(crate) infinite_prefix_hit_rate: f64,
    pub(crate) misses_after_hit: u64,
}

impl TraceSummary {
    pub(crate) fn new(measured: &Measured, facts: &TraceFacts, ideal: Ideal, block_bytes: u64) -> Self {
        let counts = &measured.total.counts;
        TraceSummary {
            requests: measured.total.calls(crate::latency::Op::Request),
            blocks: counts.blocks,
            unique_blocks: facts.unique_blocks,
            block_bytes,
            memory_bytes: None,
            time_scale: None,
            lease_ms: None,
            prefix_hit_rate: counts.prefix_hit_rate(),
            ideal_lru_prefix_hit_rate: ideal.lru_rate,
            ideal_lru_memory_prefix_hit_rate: ideal.lru_memory_rate,
            ideal_lru_blocks: (ideal.lru_blocks != u64::MAX).then_some(ideal.lru_blocks),
            infinite_prefix_hit_rate: ideal.infinite_rate,
            misses_after_hit: counts.misses_after_hit,
        }
    }

    /// Memory in words.
    pub(crate) fn memory(&self) -> String {
        self.memory_bytes
            .map_or_else(|| "not ours, size unknown".to_owned(), |bytes| ByteSize(bytes).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Shape, generate};

    #[test]
    fn memory_as_people_write_it() {
        assert_eq!("20%".parse(), Ok(Memory::PartOfUnique(0.2)));
        assert_eq!("1GB".parse(), Ok(Memory::PerEngine(1 << 30)));
        for bad in ["%", "-1%", "0%", "0", "much", "NaN%"] {
            assert!(bad.parse::<Memory>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_part_of_the_trace_is_whole_blocks_on_every_core() {
        let facts = TraceFacts { unique_blocks: 1_001, ..TraceFacts::default() };
        let memory = cluster_memory(Memory::PartOfUnique(0.2), &facts, 65_536, 2, 2);
        assert_eq!(memory, 51 * 65_536 * 2, "201 blocks on 4 cores: 51 each");
        assert_eq!(cluster_memory(Memory::PerEngine(7), &facts, 65_536, 2, 2), 7);
        let odd = cluster_memory(Memory::PartOfUnique(0.0001), &facts, 1_000, 1, 1);
        assert_eq!(odd, 4_096, "one block of 1,024 bytes takes a page");
    }

    #[test]
    fn ideals_are_ordered() {
        let trace = generate(Shape { requests: 500, seed: 1 });
        let small = Ideal::of(&trace, Some(500 * 512), 0, 512);
        assert_eq!(small.lru_blocks, 500);
        assert!(small.lru_rate < small.infinite_rate);
        let tiered = Ideal::of(&trace, Some(500 * 512), 500 * 512, 512);
        assert_eq!((tiered.lru_blocks, tiered.lru_memory_rate), (1_000, Some(small.lru_rate)));
        assert!(tiered.lru_rate > small.lru_rate);
        let unknown = Ideal::of(&trace, None, 0, 512);
        assert_eq!(unknown.lru_rate, unknown.infinite_rate);
    }
}
