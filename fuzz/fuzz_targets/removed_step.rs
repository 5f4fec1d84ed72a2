#![no_main]
//! Feeds [`snowskin_fuzz::oracles::removed_step`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::oracles::removed_step(bytes));
