#![no_main]
//! Feeds [`snowskin_fuzz::oracles::remove_matching`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::oracles::remove_matching(bytes));
