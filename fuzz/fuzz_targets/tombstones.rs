#![no_main]
//! Feeds [`snowskin_fuzz::format::tombstones`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::format::tombstones(bytes));
