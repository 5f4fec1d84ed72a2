//! What the tests of whole clusters share.

pub mod simulated;
pub mod values;
