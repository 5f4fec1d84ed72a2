//! Small traces with known outcomes, what holds for all, and the published traces where they are.

use super::*;
use crate::trace::{published, replay_lru};
use quickcheck::quickcheck;

fn request(blocks: &[u64]) -> Request {
    Request {
        timestamp_ms: 0,
        input_tokens: 512 * blocks.len() as u64,
        output_tokens: 0,
        blocks: blocks.to_vec(),
    }
}

const OURS: PolicyKind = PolicyKind::HitDensity;

fn rate(blocks: &Blocks, kind: PolicyKind, share: f64, gives_hints: bool) -> f64 {
    let capacity = (blocks.unique_tokens() as f64 * share).ceil() as u64;
    Cache::new(blocks, kind, capacity, gives_hints).replay().rate()
}

#[test]
fn bytes_are_tokens_and_a_last_block_has_what_is_left() {
    let mut trace = vec![request(&[1, 2, 3]), request(&[1, 2])];
    trace[0].input_tokens = 1_100;
    let blocks = Blocks::of(&trace);
    assert_eq!([0, 1, 2].map(|block| blocks.tokens(block)), [512, 512, 76]);
    let hits = infinite(&blocks);
    assert_eq!((hits.prefix_hits, hits.blocks, hits.prefix_hit_tokens, hits.tokens), (2, 5, 1_024, 2_124));
}

#[test]
fn the_optimum_keeps_what_is_used_next() {
    let blocks = Blocks::of(&[[1], [2], [3], [1], [2], [3]].map(|ids| request(&ids)));
    assert_eq!(optimum(&blocks, 2 * 512).prefix_hits, 2);
    assert_eq!(Cache::new(&blocks, PolicyKind::Lru, 2 * 512, false).replay().prefix_hits, 0);
}

#[test]
fn settings_are_understood_or_refused_in_words() {
    assert_eq!("5, 10".parse(), Ok(SharesOfUnique(vec![5.0, 10.0])));
    assert_eq!("lru,hit_density".parse(), Ok(Policies(vec![PolicyKind::Lru, OURS])));
    assert!("0".parse::<SharesOfUnique>().is_err() && "5;6".parse::<SharesOfUnique>().is_err());
    assert!("best".parse::<Policies>().unwrap_err().contains("s3fifo"));
}

#[test]
fn a_bar_is_high_where_lru_is_far_from_the_end() {
    assert_eq!((bar(0.19, 0.36), bar(0.35, 0.36)), (BAR_FAR, BAR_NEAR));
}

#[test]
fn popular_blocks_survive_scans() {
    for (name, stream) in streams::all(60_000, 1) {
        let blocks = Blocks::of(&stream);
        for share in [0.05, 0.2] {
            let (ours, lru) =
                (rate(&blocks, OURS, share, false), rate(&blocks, PolicyKind::Lru, share, false));
            assert!(ours >= 0.97 * lru, "{name}, {share}: {ours:.4} and LRU {lru:.4}");
        }
    }
}

#[test]
fn outcomes_come_as_table_and_plot() {
    let blocks = Blocks::of(&generate(Shape { requests: 300, seed: 1 }));
    let contenders = [Contender::Policy { kind: PolicyKind::Lru, gives_hints: false }, Contender::Infinite];
    let outcomes = column("a trace", &blocks, 10.0, &contenders);
    assert_eq!(table("a trace", &[10.0], &contenders, &outcomes).lines().len(), 4);
    assert!(chart::rates(&outcomes).unwrap().contains("a trace"));
    chart::rates(&[]).expect("a plot of nothing");
}

/// The bars on the published traces, as far as they are met; and never far below LRU without hints.
#[test]
fn the_published_traces_have_more_hits_than_lru() {
    for (name, ratios) in
        [("conversation_trace.jsonl.gz", [1.05, 1.05, 1.0]), ("synthetic_trace.jsonl.gz", [1.0, 1.03, 1.03])]
    {
        let Some(path) = published(name) else { continue };
        let blocks = Blocks::of(&read_trace(&path, usize::MAX).unwrap());
        for (share, least) in [0.05, 0.1, 0.2].into_iter().zip(ratios) {
            let lru = rate(&blocks, PolicyKind::Lru, share, false);
            let (with, without) = (rate(&blocks, OURS, share, true), rate(&blocks, OURS, share, false));
            assert!(with >= least * lru, "{name}, {share}: {with:.4} by {lru:.4}");
            assert!(without >= 0.995 * lru, "{name}, {share}, no hints: {without:.4} by {lru:.4}");
        }
    }
}

/// Blocks of one size: the exact LRU of the traces' own page, but for the order within a request, and for what was put
/// last, which stays.
#[test]
fn lru_is_nearly_the_ideal_one() {
    let mut trace = generate(Shape { requests: 2_000, seed: 3 });
    trace.iter_mut().for_each(|request| request.input_tokens = 512 * request.blocks.len() as u64);
    let blocks = Blocks::of(&trace);
    for capacity in [300, 3_000] {
        let ideal = replay_lru(&trace, capacity).prefix_hit_rate();
        let ours = Cache::new(&blocks, PolicyKind::Lru, 512 * capacity as u64, false).replay().rate();
        assert!((ours - ideal).abs() <= 0.004, "{capacity}: {ours:.4}, not {ideal:.4}");
    }
}

quickcheck! {
    fn nothing_has_more_than_a_cache_without_end(trace: Vec<Vec<u8>>, capacity: u8) -> bool {
        let mut trace: Vec<Request> =
            trace.iter().map(|ids| request(&ids.iter().map(|&id| u64::from(id)).collect::<Vec<_>>())).collect();
        // A request does not have a block twice.
        trace.iter_mut().for_each(|request| { request.blocks.sort_unstable(); request.blocks.dedup() });
        let blocks = Blocks::of(&trace);
        let capacity = 512 * u64::from(capacity);
        let endless = infinite(&blocks).prefix_hits;
        let policies = PolicyKind::ALL.into_iter().flat_map(|kind| [(kind, true), (kind, false)]);
        optimum(&blocks, capacity).prefix_hits <= endless
            && policies.into_iter().all(|(kind, hints)| Cache::new(&blocks, kind, capacity, hints).replay().prefix_hits <= endless)
    }
}
