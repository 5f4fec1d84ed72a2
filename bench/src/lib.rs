//! Workloads, trace replay, limits and reports: how fast, how full, how right.
//!
//! * [`values`]: values that say whose they are, so that every byte read is judged.
//! * [`trace`], [`model`]: requests as inference services see them, what an ideal LRU makes of them, and how large
//!   a block is.
//! * [`latency`]: what is counted and timed.
//! * [`cli`]: the commands `run`, `replay`, `limits`, `idle`, `alloc`, `policy` and `demo`.

mod alloc;
pub mod cli;
mod cluster;
mod commands;
mod cpu;
mod demo;
mod evict;
#[cfg(test)]
mod fake;
mod idle;
mod interrupt;
pub mod latency;
mod limits;
mod lookups;
mod meter;
pub mod model;
mod policy;
mod process;
mod progress;
mod replay;
mod report;
mod run;
mod scratch;
mod spread;
mod ssd;
mod store;
pub mod trace;
pub mod values;
mod workload;
