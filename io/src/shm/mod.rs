//! Connections between processes of one machine through shared memory.
//!
//! ```text
//!   client ── connects to a Unix socket ──────────────► engine: looks who it is (SO_PEERCRED), makes a memfd
//!          ◄── the memfd, and a second socket ─────────
//!
//!   client ══ pipe ══════════════════════════════════► engine        a ring of bytes in the memfd
//!          ◄══════════════════════════════════ pipe ══
//!          ·· sockets: bells for whoever sleeps, and the end of a process that died ··
//! ```
//!
//! A connection is a [`crate::Stream`] like one over TCP, and the same code runs over it. While both sides are busy, bytes move
//! without a system call. Who finds nothing to do waits at a socket: the first one rings for bytes, the second for
//! room, so that the two halves of a side wait each at its own; both hang up when the other process ends, however it ends.
//!
//! The engine makes the memory and seals its size, so nobody can take it away. What the other side writes is believed
//! as far as it is possible, see `pipe`.
//!
//! | file | what lives there |
//! |---|---|
//! | `pipe.rs` | bytes through memory, in one direction |
//! | `slots.rs` | a lane: requests and replies in slots, without frames |
//! | `shelf/` | values that are read without a request |
//! | `link.rs` | a connection: a pipe in each direction, the bells, a lane |
//! | `region.rs` | the memory of all that |
//! | `news.rs` | what goes through a lane's socket: rings, and descriptors of segments |
//! | `meet.rs` | how two processes come to share one |

mod credentials;
mod link;
mod meet;
pub(crate) mod news;
mod pipe;
mod region;
mod shelf;
mod slots;

/// What a lane is made of, for both of its ends.
pub mod lane {
    pub use super::news::{Access, Heard, SegmentNews};
    pub use super::pipe::Broken;
    pub use super::region::{LINK_BYTES, LaneRegion};
    pub use super::shelf::{
        CARDS_PER_SET, Card, CardId, HOLDS, HoldRegion, Holder, NAME_BYTES_MAX as CARD_NAME_BYTES_MAX,
        Placed, SharedShelf, ShelfRegion, Watch, host_ms, release,
    };
    pub use super::slots::{
        Caller, Completion, LANE_PINS_MAX, LANE_SLOTS, LaneMemory, PinReturns, Server, Submission,
    };
}

/// What a pipe is made of.
mod atomic {
    #[cfg(all(test, not(snowskin_loom)))]
    pub(super) use std::sync::atomic::AtomicU8;
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

#[cfg(all(test, not(snowskin_loom)))]
mod heap;
#[cfg(all(test, snowskin_loom))]
mod loomed;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The folder in which this user's engines have their sockets if nobody says otherwise: the same for engines and clients.
pub fn local_folder() -> PathBuf {
    PathBuf::from(format!("/tmp/snowskin-{}", rustix::process::geteuid().as_raw()))
}

/// The socket of the core with this address, in a folder.
pub fn local_socket(folder: &Path, address: SocketAddr) -> PathBuf {
    folder.join(format!("{address}.sock"))
}

pub(crate) use link::{End, Half, Link, LinkReader, LinkWriter, listen};
pub(crate) use meet::{bind, check_before_connecting, check_server, meet_client, meet_engine};
