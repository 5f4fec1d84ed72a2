#![no_main]
//! Feeds [`snowskin_fuzz::oracles::lane`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::oracles::lane(bytes));
