//! A cluster of real processes under fire, and everything it answers checked against the model.
//!
//! ```text
//!   storm: kill -9, SIGSTOP, joins, leaves ──► cluster: master with a ledger, engines with little memory, clients that
//!                                                 ▲     are processes (`chaos_client`, they check for themselves)
//!   load: threads with clients ───────────────────┘
//!        └─► record: history of all calls ─► model: is it legal?
//!
//!   round:  fire ──────► convergence ────────► calm ─────────► rest ──────────────► audit
//!           faults, load   one table, all slots  no call may     clients gone, no byte  every key is read
//!                          served, within 30 s   fail            pinned or reserved
//! ```
//!
//! What happens inside is not seen from here, so the model is told that any value may have been evicted at any time.
//! What is left to check: wrong, torn, foreign and stale bytes, the return of what was removed or replaced, untrue
//! reasons of a miss, broken leases, calls that return late, errors that nothing explains, convergence, accounting.
//!
//! A seed chooses faults and load. It does not make a run repeatable: processes and kernel have a will of their own.

mod cluster;
mod load;
mod record;
mod rounds;
mod storm;
mod tampering;

pub use load::{FIRE_DEADLINE, SLACK, is_explained};
pub use rounds::{Options, Passed, run};
pub use tampering::{Tampering, tamper};
