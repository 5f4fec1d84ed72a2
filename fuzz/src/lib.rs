//! What must hold for any bytes that a peer may send, as functions that panic when it does not.
//!
//! The fuzzer calls them (`make fuzz`, nightly), and so do tests on stable (`protocol/tests/fuzz_corpus.rs`,
//! `io/tests/fuzz_corpus.rs`), which include the modules below by their path, replay the corpus and mutate it.

pub mod frames;
pub mod mutation;
pub mod oracles;
