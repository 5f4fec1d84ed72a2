#![no_main]
//! Feeds [`snowskin_fuzz::format::superblock`].

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snowskin_fuzz::format::superblock(bytes));
