//! The thin master: who is a member, who is the home of which slot, and the settings that hold everywhere.
//!
//! No byte of a value and no lookup passes it: it refuses such frames, and counts that it did
//! ([`master::FrameCounters`]). What it knows are kilobytes, and all of it is also known to the cores, so that its death loses
//! nothing: they go on with the table they have, and give it to the next master ([`state`]).
//!
//! ```text
//!   cores ──frames──► server ──► state ──► membership     who is there       (pure)
//!                       │          ├─────► planner        who is home        (pure)
//!                       │          └─────► settings       what holds         (pure)
//!                       ├──► ledger        remembers it over a restart       (files)
//!   people ──HTTP──► http ─channel─┘       tokio only, in the real process
//! ```
//!
//! [`start`] runs it on any [`snowskin_io::Platform`], also the simulated one; [`run_blocking`] runs it on the
//! calling thread with ordinary sockets, admin HTTP and all. The binary `snowskin-master` does the latter.

pub mod config;
mod cores;
mod http;
pub mod ledger;
pub mod master;
pub mod membership;
mod metrics;
mod page;
pub mod planner;
pub mod rendezvous;
mod run;
pub mod server;
pub mod settings;
pub mod state;
#[cfg(test)]
mod testing;
pub mod view;

pub use config::{MasterConfig, Timing};
pub use master::{Master, MasterError};
pub use run::{Addresses, Stop, run_blocking};
pub use server::{MasterHandle, start};
pub use settings::SettingsChange;
