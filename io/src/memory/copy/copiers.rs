//! Many copies, or large ones, by several threads.
//!
//! ```text
//!   jobs     │      0      │1│2│3│                4                │
//!   parts    │   0   │  1  │2│3│4│      5      │      6      │ 7 │     only the last part of a job is short
//!   pieces   │  0   │  1   │      2      │      3      │      4     │     neighbours, until there are enough bytes
//! ```
//!
//! A checksum is the sum of what chunks contribute, in any order: parts begin where chunks do.

use super::helpers::Helpers;
use super::job::CopyJob;
use snowskin_protocol::{CHUNK_BYTES, Checksum};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a thread takes at a time: long against the taking, short against the whole.
const PIECE_BYTES: usize = 512 * 1024;
/// Fewer bytes are copied before a helper is awake.
const SHARED_BYTES_MIN: usize = 2 * 1024 * 1024;

const _: () = assert!(PIECE_BYTES.is_multiple_of(CHUNK_BYTES));

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

impl Copiers {
    /// With so many threads besides the caller's: none is fine.
    pub fn new(helpers: usize) -> Self {
        Copiers::with_pieces(helpers, PIECE_BYTES, SHARED_BYTES_MIN)
    }

    pub(super) fn with_pieces(helpers: usize, piece_bytes: usize, shared_bytes_min: usize) -> Self {
        Copiers { helpers: Helpers::new(helpers), piece_bytes, shared_bytes_min }
    }

    /// Makes all copies.
    pub fn copy(&self, jobs: &mut [CopyJob<'_>]) {
        self.for_each_part(jobs, |job, bytes| {
            // SAFETY: jobs are borrowed exclusively, and parts do not overlap.
            unsafe { jobs[job].copy_part(bytes) }
        });
    }

    /// Makes all copies; answers the checksum of each.
    pub fn copy_checked(&self, jobs: &mut [CopyJob<'_>]) -> Vec<Checksum> {
        let sums: Vec<AtomicU64> = jobs.iter().map(|_| AtomicU64::new(0)).collect();
        self.for_each_part(jobs, |job, bytes| {
            // SAFETY: jobs are borrowed exclusively, and parts do not overlap.
            let contribution = unsafe { jobs[job].copy_part_checked(bytes) };
            sums[job].fetch_add(contribution.0, Ordering::Relaxed);
        });
        sums.into_iter().map(|sum| Checksum(sum.into_inner())).collect()
    }

    /// Calls `copy` with parts of jobs, which together are all of each job and do not overlap.
    fn for_each_part(&self, jobs: &[CopyJob<'_>], copy: impl Fn(usize, Range<usize>) + Sync) {
        let all_bytes: usize = jobs.iter().map(|job| job.bytes()).sum();
        if self.helpers.count() == 0 || all_bytes < self.shared_bytes_min {
            jobs.iter().enumerate().for_each(|(index, job)| copy(index, 0..job.bytes()));
            return;
        }
        let parts = parts(jobs, self.piece_bytes);
        let pieces = pieces(&parts, self.piece_bytes);
        self.helpers.for_each(pieces.len(), &|piece| {
            parts[pieces[piece].clone()].iter().for_each(|part| copy(part.job, part.bytes.clone()));
        });
    }
}

/// Jobs, cut so that no part is longer than a piece and begins within one. One without bytes has a part, too.
fn parts(jobs: &[CopyJob<'_>], piece_bytes: usize) -> Vec<Part> {
    let mut parts = Vec::with_capacity(jobs.len());
    for (index, job) in jobs.iter().enumerate() {
        for start in (0..job.bytes().max(1)).step_by(piece_bytes) {
            parts.push(Part { job: index, bytes: start..job.bytes().min(start + piece_bytes) });
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
