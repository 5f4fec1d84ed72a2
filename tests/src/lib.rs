//! What the tests of whole clusters share.

pub mod lone_core;
pub mod peer;
pub mod processes;
pub mod simulated;
pub mod values;
