//! The bytes between peers: frames of a 64-byte header, a body (items, names, tables) and a payload (values).
//!
//! ```text
//!   ┌──────────────┬───────────────────────────┬──────────────────────────────┐
//!   │ header, 64 B │ body, 0 … 1 MiB           │ payload: values, end to end  │
//!   │ own checksum │ checksum in the header    │ a checksum each, in the item │
//!   └──────────────┴───────────────────────────┴──────────────────────────────┘
//! ```
//!
//! * [`header`]: what every frame begins with, and what a receiver checks before it reads on.
//! * [`hello`]: the first exchange on a connection; agrees on a version.
//! * [`data`]: put, get, lookup, match_prefix, remove and their replies, in batches.
//! * [`list`]: the keys that a core answers for.
//! * [`lane`]: the same without frames, through shared memory, for values that stay where they are.
//! * [`admin`]: what an operator asks of a core.
//! * [`control`]: membership, tables, hand-over of slots, counters.
//! * [`replica`]: from a home to those that are to have a replica.
//!
//! Decoders borrow from the bytes they are given. What a decoder accepts, its encoder would have written.

pub mod admin;
pub mod control;
mod cursor;
pub mod data;
pub mod header;
pub mod hello;
pub mod lane;
pub mod list;
pub mod replica;
pub mod stats;

pub use cursor::Cursor;
pub use header::{Header, Opcode, Refusal};

/// Why bytes are not a message. The receiver refuses the frame, says this, and closes the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The header does not begin with the magic: not our protocol, or out of step.
    #[error("this is no Snowskin frame (magic {0:#010x}): is the peer a Snowskin client?")]
    Magic(u32),
    /// The checksum of header or body does not match.
    #[error("the {0} does not match its checksum")]
    Checksum(&'static str),
    /// The frame is of another version than agreed in the hello.
    #[error("the frame has version {0}, and this connection speaks {1}")]
    Version(u16, u16),
    /// An operation we do not know.
    #[error("unknown operation {0}")]
    Opcode(u8),
    /// More than a limit allows.
    #[error("{count} {what}, and the limit is {limit}: split the request")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// How many the peer announced.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The message ends early.
    #[error("the message ends early: {0} more bytes were needed")]
    Short(usize),
    /// The message goes on after its end.
    #[error("{0} bytes are left over after the message")]
    Long(usize),
    /// A field has a value that means nothing.
    #[error("the {0} has a value that means nothing")]
    Value(&'static str),
    /// A name is not valid.
    #[error(transparent)]
    Name(#[from] crate::key::NameError),
}
