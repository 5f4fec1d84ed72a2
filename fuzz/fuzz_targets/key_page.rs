#![no_main]
//! Feeds [`snowskin_fuzz::oracles::key_page`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::oracles::key_page(bytes));
