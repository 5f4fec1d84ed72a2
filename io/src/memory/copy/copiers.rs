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
use super::{copy_raw, copy_raw_checked};
use snowskin_protocol::{CHUNK_BYTES, Checksum};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a thread takes at a time: long against the taking, short against the whole.
const PIECE_BYTES: usize = 512 * 1024;
/// Fewer bytes are copied before a helper is awake.
const SHARED_BYTES_MIN: usize = 2 * 1024 * 1024;

const _: () = assert!(PIECE_BYTES.is_multiple_of(CHUNK_BYTES));

/// A copy to be made.
#[derive(Debug)]
pub struct CopyJob<'a> {
    to: *mut u8,
    from: Source,
    bytes: usize,
    borrowed: PhantomData<(&'a mut [u8], &'a [u8])>,
}

// SAFETY: it stands for borrowed slices of bytes, which threads may share and send.
unsafe impl Send for CopyJob<'_> {}
// SAFETY: as above; whoever writes has it exclusively, or a part of it that is only its own.
unsafe impl Sync for CopyJob<'_> {}

/// What is copied.
#[derive(Debug)]
enum Source {
    One(*const u8),
    /// Several, one behind the other, with the place in the whole where each begins.
    Many(Vec<(usize, *const u8)>),
}

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
        let (to, from, bytes) = (to.as_mut_ptr(), Source::One(from.as_ptr()), from.len());
        CopyJob { to, from, bytes, borrowed: PhantomData }
    }

    /// A copy of what `pieces` are together into `to`.
    ///
    /// # Panics
    ///
    /// If they differ in length.
    pub fn gathered(to: &'a mut [u8], pieces: &[&'a [u8]]) -> Self {
        if let [from] = pieces {
            return CopyJob::new(to, from);
        }
        let mut bytes = 0;
        let mut starts = Vec::with_capacity(pieces.len());
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            starts.push((bytes, piece.as_ptr()));
            bytes += piece.len();
        }
        assert_eq!(to.len(), bytes, "a copy of as many bytes");
        CopyJob { to: to.as_mut_ptr(), from: Source::Many(starts), bytes, borrowed: PhantomData }
    }

    /// Copies these bytes of the whole.
    ///
    /// # Safety
    ///
    /// Nobody else copies any of these bytes of the job meanwhile.
    unsafe fn copy(&self, bytes: Range<usize>) {
        assert!(bytes.start <= bytes.end && bytes.end <= self.bytes, "{bytes:?} of {}", self.bytes);
        let mut at = bytes.start;
        while at < bytes.end {
            let (from, count) = self.run(at..bytes.end);
            // SAFETY: slices are borrowed as long as the job lives, `to` exclusively, so that they do not overlap; the run
            // lies within both; and the caller's promise.
            unsafe { copy_raw(self.to.add(at), from, count) };
            at += count;
        }
    }

    /// What these bytes, which begin where a chunk does, contribute to the checksum of the job.
    ///
    /// # Safety
    ///
    /// Nobody else copies any of these bytes of the job meanwhile.
    unsafe fn copy_checked(&self, bytes: Range<usize>) -> Checksum {
        assert!(bytes.start <= bytes.end && bytes.end <= self.bytes, "{bytes:?} of {}", self.bytes);
        assert!(bytes.start.is_multiple_of(CHUNK_BYTES), "{bytes:?} begins within a chunk");
        if let Source::One(from) = &self.from {
            let first = (bytes.start / CHUNK_BYTES) as u64;
            // SAFETY: as in `copy`.
            return unsafe {
                copy_raw_checked(self.to.add(bytes.start), from.add(bytes.start), bytes.len(), first)
            };
        }
        if self.bytes == 0 {
            return Checksum::of(&[]);
        }
        let (mut sum, mut at) = (Checksum(0), bytes.start);
        while at < bytes.end {
            let count = CHUNK_BYTES.min(bytes.end - at);
            // SAFETY: as in `copy`.
            sum = sum.plus(unsafe { self.copy_gathered(at..at + count) });
            at += count;
        }
        sum
    }

    /// Copies a chunk that may lie in several places, and answers what it contributes.
    ///
    /// # Safety
    ///
    /// Nobody else copies any of these bytes of the job meanwhile.
    unsafe fn copy_gathered(&self, chunk: Range<usize>) -> Checksum {
        let number = (chunk.start / CHUNK_BYTES) as u64;
        let (from, count) = self.run(chunk.clone());
        if count == chunk.len() {
            // SAFETY: as in `copy`.
            return unsafe { copy_raw_checked(self.to.add(chunk.start), from, count, number) };
        }
        let mut bounce = [0; CHUNK_BYTES];
        let whole = &mut bounce[..chunk.len()];
        let mut done = 0;
        while done < whole.len() {
            let (from, count) = self.run(chunk.start + done..chunk.end);
            // SAFETY: as in `copy`, and `bounce` is our own.
            unsafe { from.copy_to_nonoverlapping(whole[done..][..count].as_mut_ptr(), count) };
            done += count;
        }
        // SAFETY: as above.
        unsafe { copy_raw_checked(self.to.add(chunk.start), whole.as_ptr(), whole.len(), number) }
    }

    /// The first of these bytes, and how many of them follow it in its place.
    fn run(&self, bytes: Range<usize>) -> (*const u8, usize) {
        match &self.from {
            Source::One(from) => (from.wrapping_add(bytes.start), bytes.len()),
            Source::Many(starts) => {
                let next = starts.partition_point(|(start, _)| *start <= bytes.start);
                let (start, from) = starts[next - 1];
                let end = starts.get(next).map_or(bytes.end, |(start, _)| bytes.end.min(*start));
                (from.wrapping_add(bytes.start - start), end - bytes.start)
            }
        }
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
            sums[job].fetch_add(contribution.0, Ordering::Relaxed);
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

/// Jobs, cut so that no part is longer than a piece and begins within one. One without bytes has a part, too.
fn parts(jobs: &[CopyJob<'_>], piece_bytes: usize) -> Vec<Part> {
    let mut parts = Vec::with_capacity(jobs.len());
    for (index, job) in jobs.iter().enumerate() {
        for start in (0..job.bytes.max(1)).step_by(piece_bytes) {
            parts.push(Part { job: index, bytes: start..job.bytes.min(start + piece_bytes) });
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
