//! What the tests of whole clusters share.

pub mod chaos;
mod failure;
pub mod kept;
mod keys;
pub mod lane_clients;
pub mod lives;
pub mod lone_core;
pub mod model;
pub mod peer;
pub mod processes;
pub mod sim;
pub mod simulated;
pub mod values;
pub mod vm;

pub use failure::Failure;
