//! A copy to be made: from one place into one, from several into one, or out of one into several.
//!
//! ```text
//!   from        │            a value, in one place, cut in chunks            │     each byte is read once
//!   chunks      │   0    │   1    │   2    │   3    │   4    │   5    │  6   │
//!   to        │    a     ││     b      ││          c             │                 where chunk 1 and 3 have their ends
//! ```
//!
//! A chunk that lies in one place at both ends is hashed while it is copied. Another one goes by way of memory of our own, which
//! stays in the first cache: gathered there, then hashed and copied; or copied and hashed, and scattered from there. So what is
//! hashed is what was copied. A chunk that nobody wants is only hashed.
//!
//! With its checksum a value of 2 MiB goes from cache to cache at 31 GB/s in one place or in pieces of whole chunks, at 22 in pieces of
//! 40,000 bytes, at 14 to 16 in pieces shorter than a chunk; a value that is only hashed at 24 (an EPYC, in a
//! virtual machine).

use super::{copy_raw, copy_raw_checked};
use snowskin_protocol::{CHUNK_BYTES, Checksum};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A copy to be made.
#[derive(Debug)]
pub struct CopyJob<'a> {
    way: Way,
    /// Of the whole, wherever they lie.
    bytes: usize,
    borrowed: PhantomData<(&'a mut [u8], &'a [u8])>,
}

// SAFETY: it stands for borrowed slices of bytes, which threads may share and send.
unsafe impl Send for CopyJob<'_> {}
// SAFETY: as above; whoever writes has it exclusively, or a part of it that is only its own.
unsafe impl Sync for CopyJob<'_> {}

/// What is copied, and where to.
#[derive(Debug)]
enum Way {
    Straight {
        to: *mut u8,
        from: *const u8,
    },
    /// From several places, one behind the other, with the place in the whole where each begins.
    Gathered {
        to: *mut u8,
        from: Vec<(usize, *const u8)>,
    },
    Scattered {
        to: Spans,
        from: *const u8,
    },
}

/// Where bytes of the whole go.
#[derive(Debug)]
struct Spans {
    /// By where they begin. Some may overlap, and not all of the whole need go anywhere.
    list: Vec<Span>,
    /// Bytes of the longest.
    longest: usize,
}

#[derive(Debug)]
struct Span {
    /// In the whole.
    bytes: Range<usize>,
    to: *mut u8,
}

/// What is done with the next bytes of a copy with a checksum.
enum Step {
    Straight(*mut u8, *const u8),
    /// A chunk by way of memory of our own.
    Bounced,
    Hashed(*const u8),
}

impl<'a> CopyJob<'a> {
    /// A copy of `from` into `to`.
    ///
    /// # Panics
    ///
    /// If they differ in length.
    pub fn new(to: &'a mut [u8], from: &'a [u8]) -> Self {
        assert_eq!(to.len(), from.len(), "a copy of as many bytes");
        let way = Way::Straight { to: to.as_mut_ptr(), from: from.as_ptr() };
        CopyJob { way, bytes: from.len(), borrowed: PhantomData }
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
        let way = Way::Gathered { to: to.as_mut_ptr(), from: starts };
        CopyJob { way, bytes, borrowed: PhantomData }
    }

    /// A copy of `from` into `pieces`, one behind the other. What they have more stays as it is.
    ///
    /// # Panics
    ///
    /// If they are shorter together.
    pub fn scattered(pieces: impl IntoIterator<Item = &'a mut [u8]>, from: &'a [u8]) -> Self {
        let mut done = 0;
        let place = |piece: &'a mut [u8]| {
            let room = piece.len().min(from.len() - done);
            done += room;
            (done - room, &mut piece[..room])
        };
        let job = CopyJob::ranges(pieces.into_iter().map(place), from);
        assert_eq!(done, from.len(), "room for as many bytes");
        job
    }

    /// Copies of parts of `from`: those bytes from the first number on that the slice has room for. Its checksum is that of all of
    /// `from`.
    ///
    /// # Panics
    ///
    /// If there are no such bytes.
    pub fn ranges(parts: impl IntoIterator<Item = (usize, &'a mut [u8])>, from: &'a [u8]) -> Self {
        let bytes = from.len();
        let mut list = Vec::new();
        for (start, to) in parts {
            assert!(
                start <= bytes && to.len() <= bytes - start,
                "{} bytes from {start} of {bytes}",
                to.len()
            );
            if !to.is_empty() {
                list.push(Span { bytes: start..start + to.len(), to: to.as_mut_ptr() });
            }
        }
        let from = from.as_ptr();
        let way = match &list[..] {
            [span] if span.bytes.len() == bytes => Way::Straight { to: span.to, from },
            _ => Way::Scattered { to: Spans::new(list), from },
        };
        CopyJob { way, bytes, borrowed: PhantomData }
    }

    /// Makes the copy.
    pub fn make(self) {
        // SAFETY: it is all ours.
        unsafe { self.copy_part(0..self.bytes) }
    }

    /// Makes the copy; answers the checksum of what was copied from.
    pub fn make_checked(self) -> Checksum {
        // SAFETY: it is all ours.
        unsafe { self.copy_part_checked(0..self.bytes) }
    }

    /// Bytes of the whole.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn check(&self, bytes: &Range<usize>) {
        assert!(bytes.start <= bytes.end && bytes.end <= self.bytes, "{bytes:?} of {}", self.bytes);
    }

    /// Copies these bytes of the whole.
    ///
    /// # Safety
    ///
    /// Nobody else copies any of these bytes of the job meanwhile.
    pub(super) unsafe fn copy_part(&self, bytes: Range<usize>) {
        self.check(&bytes);
        match &self.way {
            // SAFETY: slices are borrowed as long as the job lives, those that are written exclusively, so that they do not
            // overlap; the bytes lie within both; and the caller's promise.
            Way::Straight { to, from } => unsafe {
                copy_raw(to.add(bytes.start), from.add(bytes.start), bytes.len());
            },
            Way::Gathered { to, from } => {
                let mut at = bytes.start;
                while at < bytes.end {
                    let (from, count) = run(from, at..bytes.end);
                    // SAFETY: as above.
                    unsafe { copy_raw(to.add(at), from, count) };
                    at += count;
                }
            }
            Way::Scattered { to, from } => {
                for (part, to) in to.within(bytes) {
                    // SAFETY: as above.
                    unsafe { copy_raw(to, from.add(part.start), part.len()) };
                }
            }
        }
    }

    /// What these bytes, which begin where a chunk does and end so, or with the whole, contribute to the checksum of the job.
    ///
    /// # Safety
    ///
    /// Nobody else copies any of these bytes of the job meanwhile.
    pub(super) unsafe fn copy_part_checked(&self, bytes: Range<usize>) -> Checksum {
        self.check(&bytes);
        assert!(bytes.start.is_multiple_of(CHUNK_BYTES), "{bytes:?} begins within a chunk");
        if self.bytes == 0 {
            return Checksum::of(&[]);
        }
        let (mut sum, mut at) = (Checksum(0), bytes.start);
        while at < bytes.end {
            let number = (at / CHUNK_BYTES) as u64;
            let (step, count) = self.step(at..bytes.end);
            // SAFETY: as in `copy_part`.
            sum = sum.plus(unsafe {
                match step {
                    Step::Straight(to, from) => copy_raw_checked(to, from, count, number),
                    Step::Bounced => self.copy_bounced(at..at + count),
                    Step::Hashed(from) => {
                        Checksum::of_chunks(number, std::slice::from_raw_parts(from, count))
                    }
                }
            });
            at += count;
        }
        sum
    }

    /// What is to be done with the first of these bytes, and with how many: all of them, or some chunks.
    fn step(&self, bytes: Range<usize>) -> (Step, usize) {
        // As many as are in one place: in whole chunks, unless that is all.
        let chunks = |count: usize| match count < bytes.len() {
            true => count / CHUNK_BYTES * CHUNK_BYTES,
            false => bytes.len(),
        };
        let (step, count) = match &self.way {
            Way::Straight { to, from } => {
                (Step::Straight(to.wrapping_add(bytes.start), from.wrapping_add(bytes.start)), bytes.len())
            }
            Way::Gathered { to, from } => {
                let (from, count) = run(from, bytes.clone());
                (Step::Straight(to.wrapping_add(bytes.start), from), chunks(count))
            }
            Way::Scattered { to, from } => {
                let (to, count) = to.alone(bytes.start, CHUNK_BYTES.min(bytes.len()));
                let from = from.wrapping_add(bytes.start);
                (to.map_or(Step::Hashed(from), |to| Step::Straight(to, from)), chunks(count))
            }
        };
        if count == 0 { (Step::Bounced, CHUNK_BYTES.min(bytes.len())) } else { (step, count) }
    }

    /// Copies a chunk that lies in several places, and answers what it contributes.
    ///
    /// # Safety
    ///
    /// Nobody else copies any of these bytes of the job meanwhile.
    // Not part of its caller: each call would touch the pages of the stack that only this needs.
    #[inline(never)]
    unsafe fn copy_bounced(&self, chunk: Range<usize>) -> Checksum {
        let number = (chunk.start / CHUNK_BYTES) as u64;
        let mut bounce = [const { MaybeUninit::<u8>::uninit() }; CHUNK_BYTES];
        assert!(chunk.len() <= bounce.len(), "{chunk:?} is no chunk");
        let own = bounce.as_mut_ptr().cast::<u8>();
        // SAFETY: as in `copy_part`, and `own` is ours: as many bytes of it as the chunk has are written before they are read.
        unsafe {
            match &self.way {
                Way::Straight { .. } => unreachable!("it is in one place"),
                Way::Gathered { to, from } => {
                    let mut at = chunk.start;
                    while at < chunk.end {
                        let (from, count) = run(from, at..chunk.end);
                        from.copy_to_nonoverlapping(own.add(at - chunk.start), count);
                        at += count;
                    }
                    copy_raw_checked(to.add(chunk.start), own, chunk.len(), number)
                }
                Way::Scattered { to, from } => {
                    let sum = copy_raw_checked(own, from.add(chunk.start), chunk.len(), number);
                    for (part, to) in to.within(chunk.clone()) {
                        own.add(part.start - chunk.start).copy_to_nonoverlapping(to, part.len());
                    }
                    sum
                }
            }
        }
    }
}

/// The first of these bytes, and how many of them follow it in its place.
fn run(starts: &[(usize, *const u8)], bytes: Range<usize>) -> (*const u8, usize) {
    let next = starts.partition_point(|(start, _)| *start <= bytes.start);
    let (start, from) = starts[next - 1];
    let end = starts.get(next).map_or(bytes.end, |(start, _)| bytes.end.min(*start));
    (from.wrapping_add(bytes.start - start), end - bytes.start)
}

impl Spans {
    fn new(mut list: Vec<Span>) -> Self {
        list.sort_unstable_by_key(|span| span.bytes.start);
        let longest = list.iter().map(|span| span.bytes.len()).max().unwrap_or(0);
        Spans { list, longest }
    }

    /// Those of which some bytes are among these.
    fn among(&self, bytes: Range<usize>) -> impl Iterator<Item = &Span> {
        // One that begins before, by so much, ends before.
        let first = self.list.partition_point(|span| span.bytes.start + self.longest <= bytes.start);
        let begun = self.list[first..].iter().take_while(move |span| span.bytes.start < bytes.end);
        begun.filter(move |span| span.bytes.end > bytes.start)
    }

    /// Where which of these bytes go.
    fn within(&self, bytes: Range<usize>) -> impl Iterator<Item = (Range<usize>, *mut u8)> {
        self.among(bytes.clone()).map(move |span| {
            let part = span.bytes.start.max(bytes.start)..span.bytes.end.min(bytes.end);
            let to = span.to.wrapping_add(part.start - span.bytes.start);
            (part, to)
        })
    }

    /// The one place where as many bytes go from there on, or that they go nowhere; and how many behind them do the same. None, if
    /// they do not go all to the same place.
    fn alone(&self, at: usize, bytes: usize) -> (Option<*mut u8>, usize) {
        let next = self.list.partition_point(|span| span.bytes.start < at + bytes);
        let end = self.list.get(next).map_or(usize::MAX, |span| span.bytes.start);
        let mut among = self.among(at..at + bytes);
        match (among.next(), among.next()) {
            (None, _) => (None, end - at),
            (Some(Span { bytes: all, to }), None) if all.start <= at && all.end >= at + bytes => {
                (Some(to.wrapping_add(at - all.start)), all.end.min(end) - at)
            }
            _ => (None, 0),
        }
    }
}

#[cfg(all(test, not(snowskin_loom)))]
#[path = "job_tests.rs"]
mod tests;
