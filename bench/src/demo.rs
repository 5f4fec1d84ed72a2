//! The command `demo`: what a newcomer sees first.

use crate::cli::{DemoArguments, Failed, ReplayArguments};
use crate::cluster::SsdPlace;
use crate::commands::{Prepared, Target, finish, print_latencies, requests_of};
use crate::replay::{Memory, TraceSummary};
use crate::report::summary::Summary;
use crate::report::table::{number, percent};
use crate::scratch::Scratch;
use crate::ssd;
use crate::trace::Request;
use snowskin_client::Transport;
use snowskin_protocol::{ByteSize, KIB};

/// Requests of the generated trace: about a quarter of an hour of one service's traffic.
const REQUESTS: usize = 4_000;
/// Bytes of a block. With the usual memory, an eighth of the blocks fits: enough for a cache to be tested.
const BLOCK_BYTES: u64 = 128 * KIB;
/// Bytes of a region of an engine's log on the SSD: small, as the tier is.
const SSD_REGION_BYTES: u64 = 16 << 20;
/// The width of the drawn rates.
const BAR_CELLS: usize = 40;

/// Starts, replays, explains, stops.
pub(crate) fn demo(arguments: &DemoArguments) -> Result<(), Failed> {
    let mut replay = replay_arguments(arguments);
    let requests = requests_of(&replay)?;
    replay.time_scale = time_scale(&requests, arguments.duration.as_secs_f64());
    let mut prepared = Prepared::new(&replay, requests)?;
    // Goes after the engines.
    let _scratch = match ssd_place(arguments, &replay) {
        Ok((scratch, place)) => {
            prepared.take_ssd(place);
            Some(scratch)
        }
        Err(reason) => {
            println!("  Without an SSD tier: {reason}.");
            None
        }
    };
    println!(
        "\nSnowskin: a pool of memory in which inference engines keep the KV blocks of prompts they have seen.\n"
    );
    println!("1. A cluster on this machine: a thin master, and two engines of two cores each");
    let mut target = Target::open(None, &prepared.cluster_plan, replay.clients, (true, replay.transport))?;
    target.announce();
    println!("\n2. Chat traffic, {:.0} times faster than it happened", replay.time_scale);
    println!("  {}", prepared.trace_in_words());
    println!("  Each request asks how many of its leading blocks are held, reads those, and puts the rest.");
    println!(
        "  {} of the unique blocks, so many must be evicted. Every byte read is checked.\n",
        prepared.room_in_words()
    );
    let (summary, measured) = prepared.replay(&replay, &mut target, "demo")?;
    println!("3. What came out");
    explain(&summary);
    println!(
        "\n4. How long calls took (a call is a batch of up to {} blocks; a request is all its calls)",
        replay.batch
    );
    print_latencies(&summary);
    let outcome = finish(&summary, &measured, arguments.json.as_deref(), &arguments.report);
    drop(target);
    println!("\n5. Engines and master have stopped. Try next: snowskin-bench run, replay, limits (--help)\n");
    outcome
}

/// A part of the temporary folder for each engine.
fn ssd_place(arguments: &DemoArguments, replay: &ReplayArguments) -> Result<(Scratch, SsdPlace), String> {
    if arguments.no_ssd {
        return Err("--no-ssd".to_owned());
    }
    let (size, region) = (arguments.ssd_size.0, replay.ssd_region.0);
    ssd::temporary(&std::env::temp_dir(), replay.engines, size, region)
}

fn replay_arguments(arguments: &DemoArguments) -> ReplayArguments {
    ReplayArguments {
        trace: arguments.trace.clone(),
        requests: REQUESTS,
        limit: None,
        model: None,
        block_size: Some(ByteSize(BLOCK_BYTES)),
        time_scale: 1.0,
        closed: false,
        threads: 8,
        clients: 1,
        batch: 32,
        transport: Transport::Auto,
        master: None,
        engines: 2,
        cores: 2,
        memory: Memory::PerEngine(arguments.memory.0),
        ssd: None,
        ssd_size: None,
        ssd_region: ByteSize(SSD_REGION_BYTES),
        ssd_mode: None,
        ssd_admission: None,
        keep: false,
        lease_ms: None,
        spin_us: 50,
        no_verify: false,
        seed: 1,
        json: arguments.json.clone(),
        json_lines: None,
        report: arguments.report.clone(),
    }
}

/// The factor with which the trace takes this long.
fn time_scale(requests: &[Request], seconds: f64) -> f64 {
    let (first, last) = (requests.first(), requests.last());
    let span_ms = first.zip(last).map_or(0, |(first, last)| last.timestamp_ms - first.timestamp_ms);
    (span_ms as f64 / 1_000.0 / seconds.max(0.1)).max(1.0)
}

/// A rate of prefix hits, and whose it is.
struct HitRate {
    whose: &'static str,
    rate: f64,
}

/// The store's, and those of caches that do not exist; that of the memory alone only where there is an SSD besides.
fn hit_rates(trace: &TraceSummary) -> Vec<HitRate> {
    let memory_alone = trace.ideal_lru_memory_prefix_hit_rate;
    [
        ("this store", Some(trace.prefix_hit_rate)),
        ("an ideal LRU", Some(trace.ideal_lru_prefix_hit_rate)),
        ("it without the SSD", memory_alone),
        ("memory without end", Some(trace.infinite_prefix_hit_rate)),
    ]
    .into_iter()
    .filter_map(|(whose, rate)| Some(HitRate { whose, rate: rate? }))
    .collect()
}

fn explain(summary: &Summary) {
    let Some(trace) = &summary.trace else { return };
    let scale = trace.infinite_prefix_hit_rate.max(f64::MIN_POSITIVE);
    println!("  Blocks that need not be computed again:");
    for HitRate { whose, rate } in hit_rates(trace) {
        println!("    {whose:<19} {:>6}  {}", percent(rate), bar(rate / scale));
    }
    println!(
        "\n  {} requests, {} read and {} written, {:.2} GB/s, {:.2} CPU seconds a GB (all processes)",
        number(trace.requests),
        ByteSize(summary.bytes_read),
        ByteSize(summary.bytes_written),
        summary.gb_per_s,
        summary.cpu_seconds_per_gb
    );
    if let Some(ssd) = &summary.ssd {
        let from_memory = summary.bytes_read.saturating_sub(ssd.read_bytes);
        println!(
            "  {} of what was read came from memory, {} from the SSD",
            ByteSize(from_memory),
            ByteSize(ssd.read_bytes)
        );
        println!("{}", ssd.line());
    }
    println!(
        "  wrong values {}   errors {}   puts without space {}   blocks gone between match and read {}",
        summary.wrong_values,
        summary.errors.values().sum::<u64>(),
        summary.no_space,
        trace.misses_after_hit
    );
}

fn bar(part: f64) -> String {
    let filled = (part.clamp(0.0, 1.0) * BAR_CELLS as f64).round() as usize;
    format!("{}{}", "█".repeat(filled), "░".repeat(BAR_CELLS - filled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Measured;
    use crate::replay::Ideal;
    use crate::trace::{Shape, TraceFacts, generate};

    #[test]
    fn the_trace_is_scaled_to_the_time() {
        let at = |timestamp_ms| Request { timestamp_ms, input_tokens: 1, output_tokens: 1, blocks: vec![0] };
        assert_eq!(time_scale(&[at(1_000), at(901_000)], 30.0), 30.0);
        assert_eq!(time_scale(&[at(0)], 30.0), 1.0);
    }

    #[test]
    fn the_memory_alone_is_told_beside_an_ssd_only() {
        let rates = |ssd_bytes| {
            let (requests, block_bytes) = (generate(Shape { requests: 50, seed: 1 }), 512);
            let ideal = Ideal::of(&requests, Some(100 * block_bytes), ssd_bytes, block_bytes);
            let trace =
                TraceSummary::new(&Measured::default(), &TraceFacts::of(&requests), ideal, block_bytes);
            hit_rates(&trace).into_iter().map(|HitRate { whose, .. }| whose).collect::<Vec<_>>()
        };
        assert_eq!(rates(0), ["this store", "an ideal LRU", "memory without end"]);
        assert_eq!(rates(512)[2], "it without the SSD");
    }

    #[test]
    fn bars_fill() {
        assert_eq!(bar(0.0), "░".repeat(BAR_CELLS));
        assert_eq!(bar(7.0), "█".repeat(BAR_CELLS));
    }
}
