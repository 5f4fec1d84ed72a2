#![no_main]
//! Feeds [`snowskin_fuzz::format::region_header`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::format::region_header(bytes));
