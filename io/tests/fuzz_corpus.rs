//! The fuzzer's target for streams of frames, on a stable compiler: see `protocol/tests/fuzz_corpus.rs`.

#[allow(unreachable_pub, reason = "shared with the fuzzer, which uses it as a library")]
#[path = "../../fuzz/src/frames.rs"]
mod frames;
#[allow(unreachable_pub, reason = "shared with the fuzzer, which uses it as a library")]
#[path = "../../fuzz/src/mutation.rs"]
mod mutation;

use mutation::{Mutator, corpus};
use std::path::Path;

/// Damaged inputs tried.
const INPUTS: usize = 20_000;
const SEED: u64 = 0x5eed;

#[test]
fn the_corpus_and_what_is_like_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let inputs = corpus(&root, "frames");
    inputs.iter().for_each(|input| frames::frames(input));
    let mut mutator = Mutator::new(inputs, SEED);
    for _ in 0..INPUTS {
        frames::frames(&mutator.next_input());
    }
}
