//! The SSD tier: a log of records on a disk of its own for each core.
//!
//! ```text
//!                    begin (place in the log)      finish (on the disk)        reclaim: oldest region first
//!   a value in memory ──────────────────► Writing ──────────────► a record ──────┬──────────────────► space
//!                                                                    │ read      │ still wanted:
//!                                                                    ▼           └─► written once more, at the end
//!                                                              memory of a segment
//! ```
//!
//! The tier knows nothing of sockets, slots or the master, and keeps no directory of names: whoever has written a record keeps its
//! [`RecordAddress`], says when it is of no more use ([`Volume::release`]), and that its name means nothing any more, also after a restart
//! ([`Volume::bury`]). It gives bytes back whole or not at all.
//!
//! | module | what lives there |
//! |---|---|
//! | [`format`] | what stands on the medium |
//! | `log` | which region is what, and where the next record goes: plain code |
//! | `volume` | a volume: its parts, making and opening one |
//! | `write` | records, the beginning and end of regions |
//! | `bury` | tombstones |
//! | `commit` | when what was written is durable |
//! | `read` | a record into memory |
//! | `scan` | what stands in a region, with or without a footer |
//! | `recovery` | what a volume held when it was opened |
//! | `reclaim` | the oldest region makes room |
//! | `trim` | the device is told what is of no use any more |
//! | `scrub` | what nobody asks for is read, so that damage is found |
//!
//! **What may go wrong** is the fault model of disks (`io/src/sim/disk.rs`): writes that are lost, torn, astray or refused, bits that rot,
//! power that fails at any moment. What is promised in spite of it:
//!
//! * A read returns exactly what was written under that name and version, or an error.
//! * What was committed is there after any crash, unless its bytes were damaged afterwards: then it is dropped and counted, alone.
//! * What was buried and committed does not come back.
//! * What was not committed is there whole or not at all.

pub mod format;

mod bury;
mod commit;
mod error;
mod log;
mod read;
mod reclaim;
mod recovery;
mod scan;
mod scrub;
mod trim;
mod volume;
mod write;

pub use error::TierError;
pub use read::room_bytes;
pub use reclaim::{Fate, Keeper, Reclaimed};
pub use recovery::{Found, Recovered};
pub use scan::Damage;
pub use scrub::{Scrub, Scrubbed};
pub use volume::{TierCounters, Trim, Usage, Volume, VolumeOptions};
pub use write::{Value, Writing};

use snowskin_protocol::{Checksum, Version};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordAddress {
    /// Which region, counted from the beginning of the volume.
    pub region: u32,
    /// Where in the region, in bytes; a multiple of a sector.
    pub offset: u32,
}

/// What an object is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Tells its bytes from all others of the name.
    pub version: Version,
    /// Bytes of the value.
    pub value_bytes: u64,
    /// Of the value.
    pub checksum: Checksum,
}
