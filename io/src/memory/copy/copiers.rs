//! Many copies, or large ones, by several threads.
//!
//! ```text
//!   jobs     │      0      │1│2│3│                4                │
//!   parts    │  0   │  1   │2│3│4│ 5 │      6      │      7      │     only the first part of a job is short
//!   pieces   │  0   │  1   │      2      │      3      │      4     │     neighbours, until there are enough bytes
//! ```
//!
//! A checksum is the XOR of what parts contribute, in any order. To carry the checksum of a part over those behind it
//! is quick, because they are a number of whole pieces.

use super::helpers::Helpers;
use super::{copy_raw, copy_raw_checked};
use snowskin_protocol::Checksum;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a thread takes at a time: long against the taking, short against the whole.
const PIECE_BYTES: usize = 512 * 1024;
/// Fewer bytes are copied before a helper is awake.
const SHARED_BYTES_MIN: usize = 2 * 1024 * 1024;

/// A copy to be made, of as many bytes on either side.
#[derive(Debug)]
pub struct CopyJob<'a> {
    to: *mut u8,
    from: *const u8,
    bytes: usize,
    borrowed: PhantomData<(&'a mut [u8], &'a [u8])>,
}

// SAFETY: it stands for borrowed slices of bytes, which threads may share and send.
unsafe impl Send for CopyJob<'_> {}
// SAFETY: as above; whoever writes has it exclusively, or a part of it that is only its own.
unsafe impl Sync for CopyJob<'_> {}

/// Makes copies, with the help of threads if there is much to do.
///
/// One is enough for a process. The threads are started by the first copy that needs them, sleep without cost when
/// nobody copies, and end with this.
pub struct Copiers {
    helpers: Helpers,
    piece_bytes: usize,
    shared_bytes_min: usize,
}

/// A part of a job.
struct Part {
    job: usize,
    bytes: Range<usize>,
}

impl<'a> CopyJob<'a> {
    /// A copy of `from` into `to`.
    ///
    /// # Panics
    ///
    /// If they differ in length.
    pub fn new(to: &'a mut [u8], from: &'a [u8]) -> Self {
        assert_eq!(to.len(), from.len(), "a copy of as many bytes");
        // SAFETY: both slices are borrowed as long as the job lives, `to` exclusively, so that they do not overlap.
        unsafe { CopyJob::of_raw(to.as_mut_ptr(), from.as_ptr(), from.len()) }
    }

    /// A copy in memory that is not this process's alone.
    ///
    /// # Safety
    ///
    /// As long as the job lives: `bytes` bytes can be read at `from` and written at `to`; they do not overlap; nobody in
    /// this process writes the former or uses the latter but through the job.
    pub(crate) unsafe fn of_raw(to: *mut u8, from: *const u8, bytes: usize) -> Self {
        CopyJob { to, from, bytes, borrowed: PhantomData }
    }

    /// # Safety
    ///
    /// Nobody else copies any of these bytes of the job meanwhile.
    unsafe fn copy(&self, bytes: Range<usize>) {
        assert!(bytes.start <= bytes.end && bytes.end <= self.bytes, "{bytes:?} of {}", self.bytes);
        // SAFETY: the promise made with the job, for a part of it; of the caller, that this part is its alone.
        unsafe { copy_raw(self.to.add(bytes.start), self.from.add(bytes.start), bytes.len()) }
    }

    /// What these bytes contribute to the checksum of the job.
    ///
    /// # Safety
    ///
    /// Nobody else copies any of these bytes of the job meanwhile.
    unsafe fn copy_checked(&self, bytes: Range<usize>) -> Checksum {
        assert!(bytes.start <= bytes.end && bytes.end <= self.bytes, "{bytes:?} of {}", self.bytes);
        let (start, after) = (bytes.start, self.bytes - bytes.end);
        // SAFETY: the promise made with the job, for a part of it; of the caller, that this part is its alone.
        let own = unsafe { copy_raw_checked(self.to.add(start), self.from.add(start), bytes.len()) };
        own.carried(after as u64)
    }
}

impl Copiers {
    /// With so many threads besides the caller's: none is fine.
    pub fn new(helpers: usize) -> Self {
        Copiers::with_pieces(helpers, PIECE_BYTES, SHARED_BYTES_MIN)
    }

    fn with_pieces(helpers: usize, piece_bytes: usize, shared_bytes_min: usize) -> Self {
        Copiers { helpers: Helpers::new(helpers), piece_bytes, shared_bytes_min }
    }

    /// Makes all copies.
    pub fn copy(&self, jobs: &mut [CopyJob<'_>]) {
        self.for_each_part(jobs, |job, bytes| {
            // SAFETY: jobs are borrowed exclusively, and parts do not overlap.
            unsafe { jobs[job].copy(bytes) }
        });
    }

    /// Makes all copies; answers the checksum of each.
    pub fn copy_checked(&self, jobs: &mut [CopyJob<'_>]) -> Vec<Checksum> {
        let sums: Vec<AtomicU64> = jobs.iter().map(|_| AtomicU64::new(0)).collect();
        self.for_each_part(jobs, |job, bytes| {
            // SAFETY: jobs are borrowed exclusively, and parts do not overlap.
            let contribution = unsafe { jobs[job].copy_checked(bytes) };
            sums[job].fetch_xor(contribution.0, Ordering::Relaxed);
        });
        sums.into_iter().map(|sum| Checksum(sum.into_inner())).collect()
    }

    /// Calls `copy` with parts of jobs, which together are all of each job and do not overlap.
    fn for_each_part(&self, jobs: &[CopyJob<'_>], copy: impl Fn(usize, Range<usize>) + Sync) {
        let all_bytes: usize = jobs.iter().map(|job| job.bytes).sum();
        if self.helpers.count() == 0 || all_bytes < self.shared_bytes_min {
            jobs.iter().enumerate().for_each(|(index, job)| copy(index, 0..job.bytes));
            return;
        }
        let parts = parts(jobs, self.piece_bytes);
        let pieces = pieces(&parts, self.piece_bytes);
        self.helpers.for_each(pieces.len(), &|piece| {
            parts[pieces[piece].clone()].iter().for_each(|part| copy(part.job, part.bytes.clone()));
        });
    }
}

/// Jobs, cut so that no part is longer than a piece and so that whole pieces follow each cut.
fn parts(jobs: &[CopyJob<'_>], piece_bytes: usize) -> Vec<Part> {
    let mut parts = Vec::with_capacity(jobs.len());
    for (index, job) in jobs.iter().enumerate() {
        let mut start = 0;
        while start < job.bytes {
            let left = job.bytes - start;
            let end = job.bytes - (left - 1) / piece_bytes * piece_bytes;
            parts.push(Part { job: index, bytes: start..end });
            start = end;
        }
    }
    parts
}

/// Runs of parts with at least the bytes of a piece, but for the last.
fn pieces(parts: &[Part], piece_bytes: usize) -> Vec<Range<usize>> {
    let (mut pieces, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (index, part) in parts.iter().enumerate() {
        bytes += part.bytes.len();
        if bytes >= piece_bytes || index + 1 == parts.len() {
            pieces.push(start..index + 1);
            (start, bytes) = (index + 1, 0);
        }
    }
    pieces
}

#[cfg(all(test, not(snowskin_loom)))]
#[path = "copiers_tests.rs"]
mod tests;
