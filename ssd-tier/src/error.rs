//! Why the tier says no.

use crate::format::FormatError;
use std::io;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// The disk said no.
    #[error("the disk: {0}")]
    Disk(#[from] io::Error),
    /// What stands there is not what should.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// What was read is not what was written: it is of no use any more.
    #[error("the record is damaged")]
    Damaged,
    /// No region is free: reclaim one first.
    #[error("no region is free")]
    Full,
    /// No region is large enough.
    #[error("a record of {0} bytes is larger than a region")]
    TooLarge(u64),
    /// All buffers are in use, or the system has no memory for the operation: try again when something has ended.
    #[error("all buffers are in use")]
    Busy,
    /// Nothing is written any more, because what was said to be durable may not have been.
    #[error("the volume takes nothing any more since writing has failed")]
    Ended,
}
