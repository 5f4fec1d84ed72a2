//! What engines, clients and the master have agreed on: names of things, limits, and the bytes on the wire.
//!
//! Nothing here does I/O, reads a clock or draws a random number, and nothing is unsafe. Every decoder takes a
//! byte slice from a peer that may be broken or hostile and answers with a value or a [`wire::WireError`]; none
//! allocates more than it was given, and none panics. `docs/PROTOCOL.md` describes the same bytes for people.
//!
//! Start with [`key`] (what a name is and where it lives), [`table`] (who is its home), [`wire`] (how to ask).

pub mod checksum;
pub mod code;
pub mod ids;
pub mod key;
pub mod limits;
pub mod settings;
pub mod strategy;
pub mod table;
pub mod units;
pub mod wire;

pub use checksum::{CHUNK_BYTES, Checksum, Flowing, Growing};
pub use code::{Code, MissReason};
pub use ids::{CoreId, EngineId, Epoch, Incarnation, Life, Version};
pub use key::{HashedName, NameError, NameRef, ObjectName, SLOT_COUNT, Slot};
pub use settings::Settings;
pub use strategy::Strategy;
pub use table::{Member, Origin, RoutingTable};
pub use units::{ByteSize, GIB, KIB, MIB};

#[cfg(not(target_endian = "little"))]
compile_error!("the wire format is the memory format of a little-endian machine");
