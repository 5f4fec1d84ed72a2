#![no_main]
//! Feeds [`snowskin_fuzz::format::part_table`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::format::part_table(bytes));
