//! Copies of values, between a segment and a caller's buffer, and their checksums on the way.
//!
//! | file | what lives there |
//! |---|---|
//! | `stream.rs` | a copy that goes around the caches |
//! | `hash.rs` | a copy that hashes what it moves, in registers |
//! | `job.rs` | a copy to be made, also from several places or into several |
//! | `copiers.rs` | many copies, or large ones, cut into pieces for several threads |
//! | `helpers.rs` | those threads |
//! | `way.rs` | whether a copy goes around the caches |
//!
//! A checksum costs little: it is made chunk by chunk, about as fast as memory and caches are.
//!
//! A checksum is of the bytes that were copied, each of which is read once: even if another process breaks the rules
//! and writes while we read. No reference is made to bytes given by address.

mod copiers;
mod hash;
mod helpers;
mod job;
mod stream;
mod way;

pub use copiers::Copiers;
pub use job::CopyJob;

use snowskin_protocol::{CHUNK_BYTES, Checksum};
use std::mem::MaybeUninit;

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
    unsafe { copy_raw_checked(to.as_mut_ptr(), from.as_ptr(), from.len(), 0) }
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
        let checksum = copy_raw_checked(to.as_mut_ptr(), from.as_ptr(), from.len(), 0);
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
    way::faster(bytes, stream::is_available(), |part, streams| {
        let (to, from) = (to.wrapping_add(part.start), from.wrapping_add(part.start));
        // SAFETY: the caller's promise, for a part of it; it streams only where that is available.
        unsafe {
            match streams {
                true => copy_streaming(to, from, part.len()),
                false => from.copy_to_nonoverlapping(to, part.len()),
            }
        }
    });
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

/// [`copy_checked`], of memory that is not this process's alone: what chunks contribute, the first of which has the number
/// `first`.
///
/// # Safety
///
/// That of [`copy_raw`].
pub(crate) unsafe fn copy_raw_checked(to: *mut u8, from: *const u8, bytes: usize, first: u64) -> Checksum {
    if bytes <= CHUNK_BYTES {
        // SAFETY: the caller's promise.
        return unsafe { copy_chunk(to, from, bytes, first, hash::NEAR) };
    }
    let may_stream = to.addr().is_multiple_of(hash::ALIGNMENT);
    let mut sum = Checksum(0);
    let course = if bytes < way::LONG_BYTES_MIN { hash::NEAR } else { hash::FAR };
    way::faster(bytes, may_stream, |part, streams| {
        let course = if streams { hash::AROUND } else { course };
        for at in part.clone().step_by(CHUNK_BYTES) {
            let number = first + (at / CHUNK_BYTES) as u64;
            let count = CHUNK_BYTES.min(part.end - at);
            // SAFETY: the caller's promise; the chunk lies within the part, and begins a number of chunks behind `to`.
            let chunk = unsafe { copy_chunk(to.add(at), from.add(at), count, number, course) };
            sum = sum.plus(chunk);
        }
        if streams {
            stream::fence();
        }
    });
    sum
}

/// Copies a chunk on a course, and hashes what it has copied.
///
/// # Safety
///
/// That of [`copy_raw`]; `to` is a multiple of [`hash::ALIGNMENT`] if it goes around the caches.
unsafe fn copy_chunk(
    to: *mut u8,
    from: *const u8,
    bytes: usize,
    number: u64,
    course: hash::Course,
) -> Checksum {
    // In whole stripes, each is read once. Others go by way of memory of our own, since what is hashed has to be what was
    // copied.
    if bytes < hash::BYTES_MIN || !bytes.is_multiple_of(hash::STRIPE_BYTES) || !hash::is_available() {
        // SAFETY: the caller's promise.
        return unsafe { copy_chunk_bounced(to, from, bytes, number) };
    }
    // SAFETY: the caller's promise, and what was asked above.
    Checksum(unsafe {
        match course {
            hash::AROUND => hash::copy_stripes::<{ hash::AROUND }>(to, from, bytes, number),
            hash::NEAR => hash::copy_stripes::<{ hash::NEAR }>(to, from, bytes, number),
            _ => hash::copy_stripes::<{ hash::FAR }>(to, from, bytes, number),
        }
    })
}

/// Copies a chunk by way of memory of our own, and hashes it there.
///
/// # Safety
///
/// That of [`copy_raw`].
// Not part of its caller: each call would touch the pages of the stack that only this needs.
#[inline(never)]
unsafe fn copy_chunk_bounced(to: *mut u8, from: *const u8, bytes: usize, number: u64) -> Checksum {
    assert!(bytes <= CHUNK_BYTES, "{bytes} bytes are no chunk");
    let mut bounce = [const { MaybeUninit::<u8>::uninit() }; CHUNK_BYTES];
    // SAFETY: the caller's promise; `bytes` is at most the size of `bounce`, of which as many bytes are written before
    // they are read.
    let own = unsafe {
        from.copy_to_nonoverlapping(bounce.as_mut_ptr().cast(), bytes);
        forget_origin(bounce.as_mut_ptr());
        std::slice::from_raw_parts(bounce.as_ptr().cast::<u8>(), bytes)
    };
    // SAFETY: the caller's promise.
    unsafe { own.as_ptr().copy_to_nonoverlapping(to, bytes) };
    Checksum::of_chunk(number, own)
}

/// Hides from the compiler what stands there. What was copied twice may be copied from its first place otherwise, where another process
/// may have written meanwhile.
fn forget_origin(bytes: *mut MaybeUninit<u8>) {
    // SAFETY: does nothing, and says that it may have written to all memory that it can reach.
    unsafe { std::arch::asm!("/* {0} */", in(reg) bytes, options(nostack, preserves_flags)) }
}

/// How many bytes from here to the next whole line.
fn bytes_to_line(to: *mut u8) -> usize {
    to.addr().wrapping_neg() % LINE_BYTES
}

#[cfg(all(test, not(snowskin_loom)))]
mod tests;
