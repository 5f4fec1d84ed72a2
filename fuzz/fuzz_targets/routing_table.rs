#![no_main]
//! Feeds [`snowskin_fuzz::oracles::routing_table`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::oracles::routing_table(bytes));
