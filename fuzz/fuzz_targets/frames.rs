#![no_main]
//! Feeds [`snowskin_fuzz::frames::frames`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::frames::frames(bytes));
