#![no_main]
//! Feeds [`snowskin_fuzz::oracles::replica_reply`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::oracles::replica_reply(bytes));
