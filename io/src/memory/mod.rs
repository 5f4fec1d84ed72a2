//! Bytes: who may touch which, and until when.
//!
//! * [`Mapping`]: how a segment gets its memory: which pages, on which node, from what.
//! * [`Segment`]: a mapping, given out in ranges: a [`Reservation`] is written by one task and seen by nobody, an
//!   [`Extent`] is a pin of what is published and never changes. [`Ranges`] say which ranges are free, in numbers only.
//! * [`Loan`], [`LoanMut`]: a caller's buffer, lent to tasks of the client for the length of one call. When the call
//!   returns, for whatever reason, the buffer is the caller's again and no task can reach it any more.
//! * [`copy()`], [`copy_checked`], [`Copiers`]: values into buffers and back, at the speed of memory, checked on the way.
//! * [`SharedWords`]: a few words that processes share.

mod copy;
mod lengths;
mod loan;
mod mapping;
mod paged;
mod prefetch;
mod ranges;
mod segment;
mod shared_words;

pub use copy::{Copiers, CopyJob, copied, copied_checked, copy, copy_checked};
pub use loan::{Loan, LoanMut, lend, lend_mut};
pub use mapping::{
    Backing, HugePagePool, Mapping, MappingError, MappingRequest, PageChoice, PageFacts, PageForecast,
    PageKind, PagesUsed, Prefault, Progress, SharedSegment, TransparentTrial, try_transparent_pages,
};
pub use paged::Paged;
pub use prefetch::prefetch;
pub use ranges::{Cut, RangeId, Ranges};
pub use segment::{Extent, ExtentId, Reservation, Segment, Usage, allocated_bytes};
pub use shared_words::SharedWords;
