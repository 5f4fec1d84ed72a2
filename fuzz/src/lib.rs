//! What must hold for any bytes that a peer may send or a medium may hold, as functions that panic when it does not.
//!
//! The fuzzer calls them (`make fuzz`, nightly), and so do tests on stable (`fuzz_corpus.rs` of
//! `protocol`, `io` and `ssd-tier`), which include the modules below by their path, replay the corpus and mutate it.

pub mod format;
pub mod frames;
pub mod mutation;
pub mod oracles;
