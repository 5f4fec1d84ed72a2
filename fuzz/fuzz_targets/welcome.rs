#![no_main]
//! Feeds [`snowskin_fuzz::oracles::welcome`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::oracles::welcome(bytes));
