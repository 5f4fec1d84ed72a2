//! What a read may legally return. This page is the definition; [`check`] is its implementation.
//!
//! **One key is one cell.** To its callers a key is in one of three states:
//!
//! ```text
//!            put, upsert              its bytes are gone, its home does not know yet
//!   Absent ──────────────► Held(g) ──────────────────────────────────────────────────► Hollow(g)
//!     ▲                     │   ▲ upsert(h): Held(h), from every state                    │
//!     └─────────────────────┴───┴── remove, sweep; a loss ────────────────────────────────┘
//! ```
//!
//! Every written value is told from every other by its generation `g`. What each state answers:
//!
//! | asked | `Absent` | `Held(g)` | `Hollow(g)` |
//! |---|---|---|---|
//! | `get` | miss | hit: the bytes of `g`, all of them, and no others | miss |
//! | `lookup`, `match_prefix` | miss | hit: the length of `g` | miss |
//! | `put(h)` | stored → `Held(h)` | existed | existed |
//! | `upsert(h)` | stored → `Held(h)` | stored → `Held(h)` | stored → `Held(h)` |
//! | `remove` | missing | removed → `Absent`, or leased | removed → `Absent`, or leased |
//! | sweep (`remove_matching`) | – | → `Absent`; without force it may stay | → `Absent`; without force it may stay |
//!
//! **When.** Every operation takes effect at one point between its call and its return, so operations that do not
//! overlap have an order, and those that do may have either. A sweep goes from core to core and begins again when slots
//! have moved meanwhile: it takes effect once or more often on a key. Three exceptions, each because of a failure:
//!
//! * *No answer* (an error, a deadline, a dead client): it may have taken effect, at any time from its call until the
//!   cluster has come to rest, any number of times, or never.
//! * *Asked again* (a connection broke under it): besides the effect that its answer speaks of, it may have taken effect
//!   any number of times between call and return.
//! * *Split slot*: a core that was declared dead while it lived goes on serving its slots to those who have not heard
//!   of it either, until it hears of it or dies ("a master that cannot be reached changes nothing", DESIGN § 8). For
//!   operations that overlap this window, only the first and third row of the last list below hold.
//!
//! **Losses.** `Held(g) → Hollow(g) → Absent` happens by itself only when a [`Fact`] allows it: bytes of `g`'s length were
//! evicted under that key after `g` was begun, or a core was lost after that. (A core is being lost from its end until all
//! who live have a table without it: entries that were on their way to it go with it.) Nothing else makes a value go: a join
//! does not, nor a cut, nor a pause, nor a master that comes or goes.
//!
//! **Always**, whatever happens:
//!
//! * a hit is one whole value of that key, of a generation that somebody has begun to write;
//! * a miss names a reason that is true: `Removed` needs a removal, `Evicted` an eviction of this key, `OwnerLost` a lost
//!   core, `Corrupt` corrupted bytes; `NotHeld` is true whenever the key is not held, and may not be said when it is;
//! * what was superseded before a split began does not come back in it or after it;
//! * every call returns by its deadline ([`Violation::Late`]), unless its own process stood still;
//! * what a read or a lookup has leased is neither evicted nor removed without force before the lease ends
//!   ([`leases`]); `Leased` is answered only when somebody may have a lease.
//!
//! **The checker** follows the set of all states a key may be in, together with which of the open operations have
//! taken effect (Lowe, "Testing for linearizability", 2017: just-in-time linearization). When an operation returns,
//! only those possibilities stay in which it has had its effect; when none stays, the history is illegal. It gives no
//! false alarm, and misses nothing that this page forbids, except within splits and when more than seven calls change one key
//! at the same time, or more than six unanswered puts are to be told apart.

mod answers;
mod checker;
mod history;
mod leases;
mod possible;
#[cfg(test)]
mod script;

pub use checker::{Violation, check};
pub use history::{Call, CallId, ClientId, Fact, Generation, History, KeyId, Outcome, Stamp, Verb};
pub use leases::check_leases;
