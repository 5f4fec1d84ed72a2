//! The client library of Snowskin: batch first, asynchronous and blocking.
//!
//! A client hashes each key to a slot, looks the slot's home up in its copy of the routing table, and talks to the
//! one core that can answer. No byte and no lookup passes a master. It needs ordinary sockets and nothing else.
//!
//! ```no_run
//! use snowskin_client::{BlockingClient, ClientConfig, Found};
//!
//! let client = BlockingClient::connect(ClientConfig::new(["127.0.0.1:7400".parse()?]))?;
//! for outcome in client.put(&[(b"llama/17/0", b"keys and values"), (b"llama/17/1", b"more of them")]) {
//!     outcome?;
//! }
//! let held = client.match_prefix(&[b"llama/17/0", b"llama/17/1", b"llama/17/2"])?;
//! assert_eq!(held, 2);
//! let mut buffer = vec![0; 1 << 20];
//! match client.get_into(&mut [(b"llama/17/0", &mut buffer)]).remove(0)? {
//!     Found::Hit(bytes) => assert_eq!(&buffer[..bytes], b"keys and values"),
//!     Found::Miss(reason) => println!("compute it: {}", reason.words()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * [`BlockingClient`]: from any number of threads; each call does its socket work on its own thread, and reads and
//!   writes the caller's buffers without a copy.
//! * [`Client`]: futures for any executor, on owned data; a background thread does the work. The two may share
//!   everything: [`Client::blocking`], [`BlockingClient::asynchronous`].
//! * Values that lie in several pieces, such as a block of many layers: [`BlockingClient::put_parts`],
//!   [`BlockingClient::get_parts_into`], and parts of values: [`BlockingClient::get_ranges_into`].
//! * [`Session`]: what both are made of, generic over the platform; for simulators.
//!
//! What an operation means is said in `docs/`: a put is atomic and the first writer wins, a miss is not an error, and
//! every call ends at its deadline. A call that ends with [`Error::Deadline`] or [`Error::Broken`] may have happened.

mod asynchronous;
mod blocking;
mod config;
mod driver;
mod error;
mod given;
mod lane;
mod local;
mod options;
mod outcome;
mod room;
mod session;
mod started;

pub use asynchronous::Client;
pub use blocking::BlockingClient;
pub use config::{ClientConfig, DEADLINE_DEFAULT, SPIN_DEFAULT, Transport};
pub use error::Error;
pub use lane::View;
pub use options::{Durability, PutOptions};
pub use outcome::{
    ClientCounters, Found, FrameCounters, Holders, KeyPage, KeysCursor, ListedKey, PutOutcome, RemoveOutcome,
    RemovedCount, TaskId, TaskStart,
};
pub use session::{PutValue, Session};
pub use snowskin_protocol::wire::admin;
pub use snowskin_protocol::wire::stats::CoreStats;
pub use snowskin_protocol::{
    Code, CoreId, EngineId, Member, MissReason, NameError, ObjectName, RoutingTable,
};
