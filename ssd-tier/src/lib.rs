//! The SSD tier: a log of records on a disk of its own for each core.
//!
//! The tier knows nothing of sockets, slots or the master: it stores records under names and gives them back whole.

pub mod format;
