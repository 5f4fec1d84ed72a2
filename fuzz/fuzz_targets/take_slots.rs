#![no_main]
//! Feeds [`snowskin_fuzz::oracles::take_slots`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::oracles::take_slots(bytes));
