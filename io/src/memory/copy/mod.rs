//! Copies of values, between a segment and a caller's buffer, and their checksums on the way.
//!
//! | file | what lives there |
//! |---|---|
//! | `stream.rs` | a copy that goes around the caches |
//! | `fold.rs` | a copy that computes the checksum of what it moves, in registers |
//! | `copiers.rs` | many copies, or large ones, cut into pieces for several threads |
//! | `helpers.rs` | those threads |
//!
//! An ordinary store first reads the line that it overwrites. A streaming store does not, so a copy from and to cold
//! memory is nearly twice as fast with it; but from cache to cache it is slower, since it goes to memory. Nobody tells us
//! where the bytes are, so [`copy`] looks how long its first kilobytes take. With a checksum there is nothing to choose:
//! to multiply takes longer than to stream. Where both ends are in a cache, that makes it slower than `memcpy`; with
//! one of them in memory it is faster.
//!
//! A checksum is of the bytes that were copied, each of which is read once: even if another process breaks the rules
//! and writes while we read. No reference is made to bytes given by address.

mod copiers;
mod fold;
mod helpers;
mod stream;

pub use copiers::{Copiers, CopyJob};

use snowskin_protocol::{Checksum, Digest};
use std::time::{Duration, Instant};

/// Copies of so many bytes may go around the caches. The whole of a smaller one is in them when its reader comes.
const STREAM_BYTES_MIN: usize = 64 * 1024;
/// As above, with a checksum: that is the copy into a segment, whose reader comes later.
const STREAM_CHECKED_BYTES_MIN: usize = 16 * 1024;
/// A copy is slow before the processor has seen where it goes: so many bytes say nothing, in a long one ...
const LEAD_BYTES_MAX: usize = 16 * 1024;
/// ... and this part of a shorter one.
const LEAD_SHARE: usize = 64;
/// The first look at how fast a copy goes: long enough to tell, short enough to be cheap if it was the wrong way.
const LOOK_BYTES: std::ops::RangeInclusive<usize> = 16 * 1024..=32 * 1024;
/// As above, part of the copy.
const LOOK_SHARE: usize = 32;
/// The next looks.
const LOOK_AGAIN_BYTES: usize = 256 * 1024;
/// From cache to cache an ordinary copy makes 27 to 40 bytes in a nanosecond, with one end in memory 15 to 24, with both
/// 10 (EPYC 9004). A streaming one makes 27, 20 to 26 and 20: in the middle there is little to lose.
const CACHED_BYTES_PER_NS_MIN: usize = 24;
/// Shorter values do not pay for the setting up of a fold.
const FOLD_BYTES_MIN: usize = 512;
/// What is copied and digested at a time where the processor cannot fold: a part of the first cache.
const BOUNCE_BYTES: usize = 8 * 1024;
/// Streaming stores write whole lines.
const LINE_BYTES: usize = 64;

/// Copies `from` into `to`.
///
/// # Panics
///
/// If they differ in length.
pub fn copy(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "a copy of as many bytes");
    // SAFETY: both slices are borrowed during the call, `to` exclusively, so that they do not overlap.
    unsafe { copy_raw(to.as_mut_ptr(), from.as_ptr(), from.len()) }
}

/// Copies `from` into `to`; answers the checksum of what was copied.
///
/// # Panics
///
/// If they differ in length.
pub fn copy_checked(to: &mut [u8], from: &[u8]) -> Checksum {
    assert_eq!(to.len(), from.len(), "a copy of as many bytes");
    // SAFETY: both slices are borrowed during the call, `to` exclusively, so that they do not overlap.
    unsafe { copy_raw_checked(to.as_mut_ptr(), from.as_ptr(), from.len()) }
}

/// `from` in a vector.
pub fn copied(from: &[u8]) -> Vec<u8> {
    let mut to = Vec::with_capacity(from.len());
    // SAFETY: there is room for as many bytes, which are all written before they become the vector's; nothing else refers
    // to them, and `from` is borrowed during the call.
    unsafe {
        copy_raw(to.as_mut_ptr(), from.as_ptr(), from.len());
        to.set_len(from.len());
    }
    to
}

/// `from` in a vector, and the checksum of what was copied.
pub fn copied_checked(from: &[u8]) -> (Vec<u8>, Checksum) {
    let mut to = Vec::with_capacity(from.len());
    // SAFETY: as in `copied`.
    unsafe {
        let checksum = copy_raw_checked(to.as_mut_ptr(), from.as_ptr(), from.len());
        to.set_len(from.len());
        (to, checksum)
    }
}

/// [`copy`], of memory that is not this process's alone.
///
/// # Safety
///
/// `bytes` bytes can be read at `from` and written at `to` during the call; they do not overlap; nobody in this process
/// writes the former or uses the latter meanwhile.
pub(crate) unsafe fn copy_raw(to: *mut u8, from: *const u8, bytes: usize) {
    let ordinary = if bytes < STREAM_BYTES_MIN || !stream::is_available() {
        // SAFETY: the caller's promise.
        unsafe { from.copy_to_nonoverlapping(to, bytes) };
        bytes
    } else {
        // SAFETY: the caller's promise.
        unsafe { copy_while_cached(to, from, bytes) }
    };
    if ordinary < bytes {
        // SAFETY: the caller's promise, for what is left; `ordinary` is less only where streaming is available.
        unsafe { copy_streaming(to.add(ordinary), from.add(ordinary), bytes - ordinary) }
    }
}

/// Copies until it goes slower than from cache to cache. Answers how many bytes that were.
///
/// # Safety
///
/// That of [`copy_raw`].
unsafe fn copy_while_cached(to: *mut u8, from: *const u8, bytes: usize) -> usize {
    let mut done = (bytes / LEAD_SHARE).min(LEAD_BYTES_MAX);
    let mut look = (bytes / LOOK_SHARE).clamp(*LOOK_BYTES.start(), *LOOK_BYTES.end());
    // SAFETY: the caller's promise.
    unsafe { from.copy_to_nonoverlapping(to, done) };
    while done < bytes {
        look = look.min(bytes - done);
        let started = Instant::now();
        // SAFETY: the caller's promise; `done + look` is at most `bytes`.
        unsafe { from.add(done).copy_to_nonoverlapping(to.add(done), look) };
        done += look;
        if started.elapsed() > Duration::from_nanos((look / CACHED_BYTES_PER_NS_MIN) as u64) {
            break;
        }
        look = LOOK_AGAIN_BYTES;
    }
    done
}

/// # Safety
///
/// That of [`copy_raw`]; and [`stream::is_available`].
unsafe fn copy_streaming(to: *mut u8, from: *const u8, bytes: usize) {
    let head = bytes_to_line(to).min(bytes);
    let blocks = (bytes - head) / stream::BLOCK_BYTES * stream::BLOCK_BYTES;
    let end = head + blocks;
    // SAFETY: the caller's promise; head, blocks and tail follow each other and end with `bytes`. The head ends on a
    // line, unless all bytes are head.
    unsafe {
        from.copy_to_nonoverlapping(to, head);
        stream::copy_blocks(to.add(head), from.add(head), blocks);
        from.add(end).copy_to_nonoverlapping(to.add(end), bytes - end);
    }
}

/// [`copy_checked`], of memory that is not this process's alone.
///
/// # Safety
///
/// That of [`copy_raw`].
pub(crate) unsafe fn copy_raw_checked(to: *mut u8, from: *const u8, bytes: usize) -> Checksum {
    let mut digest = Digest::new();
    if bytes < FOLD_BYTES_MIN || !fold::is_available() {
        // SAFETY: the caller's promise.
        unsafe { copy_digested(to, from, bytes, &mut digest) };
        return digest.checksum();
    }
    let head = bytes_to_line(to);
    let blocks = (bytes - head) / fold::BLOCK_BYTES * fold::BLOCK_BYTES;
    let end = head + blocks;
    // SAFETY: the caller's promise; head, blocks and tail follow each other and end with `bytes`. The head is shorter
    // than the shortest value that is folded, and ends on a line; there is a block at least.
    unsafe {
        copy_digested(to, from, head, &mut digest);
        let (to_blocks, from_blocks) = (to.add(head), from.add(head));
        if bytes < STREAM_CHECKED_BYTES_MIN {
            fold::copy_blocks::<false>(to_blocks, from_blocks, blocks, &mut digest);
        } else {
            fold::copy_blocks::<true>(to_blocks, from_blocks, blocks, &mut digest);
        }
        copy_digested(to.add(end), from.add(end), bytes - end, &mut digest);
    }
    digest.checksum()
}

/// Copies by way of memory of our own, and digests it there.
///
/// # Safety
///
/// That of [`copy_raw`].
unsafe fn copy_digested(to: *mut u8, from: *const u8, bytes: usize, digest: &mut Digest) {
    let mut bounce = [const { std::mem::MaybeUninit::<u8>::uninit() }; BOUNCE_BYTES];
    let mut done = 0;
    while done < bytes {
        let count = BOUNCE_BYTES.min(bytes - done);
        // SAFETY: the caller's promise; `done + count` is at most `bytes`, and `count` at most the size of `bounce`, of
        // which the first `count` bytes are written before they are read.
        let own = unsafe {
            from.add(done).copy_to_nonoverlapping(bounce.as_mut_ptr().cast(), count);
            std::slice::from_raw_parts(bounce.as_ptr().cast::<u8>(), count)
        };
        digest.update(own);
        // SAFETY: as above.
        unsafe { own.as_ptr().copy_to_nonoverlapping(to.add(done), count) };
        done += count;
    }
}

/// How many bytes from here to the next whole line.
fn bytes_to_line(to: *mut u8) -> usize {
    to.addr().wrapping_neg() % LINE_BYTES
}

#[cfg(all(test, not(snowskin_loom)))]
mod tests;
