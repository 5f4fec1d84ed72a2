#![no_main]
//! Feeds [`snowskin_fuzz::oracles::list_keys`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::oracles::list_keys(bytes));
