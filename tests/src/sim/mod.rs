//! The simulated cluster under fire: one seed, one run.
//!
//! ```text
//!   seed ─► plan ─► SimCluster (master, engines, network) ◄── storm: faults begin and end
//!                       ▲     ▲
//!        clients ───────┘     └────── watch: facts and invariants, every few milliseconds
//!            └────► book: history ─► model: is it legal?        coverage: what was reached
//!
//!   fire ───────────► calm ─────────────► convergence ─────────► audit
//!   faults, load      no faults, load     one table, all slots   every key is read, everything is removed,
//!                                         served, no errors      every byte can be used again
//! ```
//!
//! One seed of eight is another story: the lives of an engine with its own master and an SSD ([`crate::lives`]).
//!
//! The engine, master and client code is that of the real processes. A failing seed can be run again: everything
//! follows from it, bit by bit.

mod book;
mod bugs;
mod clients;
mod coverage;
mod detect;
mod operator;
mod phases;
mod plan;
mod seeds;
mod storm;
mod watch;

pub use bugs::{Finder, SEEDED_BUGS, SeededBug};
pub use coverage::{Coverage, Phase};
pub use detect::{Detection, detect_all};
pub use phases::{Passed, run};
pub use plan::{Fault, Operation, Plan};
pub use seeds::known_seeds;
