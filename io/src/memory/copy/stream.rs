//! A copy that goes around the caches: streaming stores write whole lines without reading them first.
//!
//! On x86-64 with AVX2. AVX-512 was slower where we could try it, and other processors have no stores of this kind that
//! are worth it: there an ordinary copy is all there is.

/// What is copied comes in blocks of so many bytes.
pub(super) const BLOCK_BYTES: usize = 128;

/// How far ahead of the reading the processor is asked for more. Its own prefetcher stops at the end of each page; this
/// gains 5 to 15 %, at any distance from 256 B to 4 KiB.
#[cfg(target_arch = "x86_64")]
pub(super) const PREFETCH_BYTES: usize = 512;

#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::{copy_blocks, fence, is_available};

#[cfg(not(target_arch = "x86_64"))]
pub(super) use nowhere::{copy_blocks, fence, is_available};

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::{BLOCK_BYTES, PREFETCH_BYTES};
    use core::arch::x86_64::{
        __m256i, _MM_HINT_NTA, _mm_prefetch, _mm_sfence, _mm256_loadu_si256, _mm256_setzero_si256,
        _mm256_stream_si256,
    };

    const VECTOR_BYTES: usize = size_of::<__m256i>();

    /// Whether this processor can.
    #[inline]
    pub(in super::super) fn is_available() -> bool {
        is_x86_feature_detected!("avx2")
    }

    /// Copies; other threads that learn of it after the call see all of it.
    ///
    /// # Safety
    ///
    /// [`is_available`]; `bytes` is a multiple of [`BLOCK_BYTES`], so many can be read at `from` and written at `to`,
    /// which is a multiple of a vector's size (unless there are none), and the two do not overlap.
    #[target_feature(enable = "avx2")]
    pub(in super::super) unsafe fn copy_blocks(to: *mut u8, from: *const u8, bytes: usize) {
        for block in (0..bytes).step_by(BLOCK_BYTES) {
            // SAFETY: a block begins before `bytes` and so lies within what the caller promised, and a vector within
            // its block; stores are aligned, because `to`, block and vector are. A prefetch faults at no address.
            unsafe {
                _mm_prefetch::<_MM_HINT_NTA>(from.wrapping_add(block + PREFETCH_BYTES).cast());
                _mm_prefetch::<_MM_HINT_NTA>(from.wrapping_add(block + PREFETCH_BYTES + 64).cast());
                let (to, from) = (to.add(block), from.add(block));
                let mut vectors = [_mm256_setzero_si256(); BLOCK_BYTES / VECTOR_BYTES];
                for (index, vector) in vectors.iter_mut().enumerate() {
                    *vector = _mm256_loadu_si256(from.add(index * VECTOR_BYTES).cast());
                }
                for (index, vector) in vectors.iter().enumerate() {
                    _mm256_stream_si256(to.add(index * VECTOR_BYTES).cast(), *vector);
                }
            }
        }
        fence();
    }

    /// Streaming stores are not ordered with those that follow, such as the one that says that a value is there; they are
    /// with those that follow this.
    #[inline]
    pub(in super::super) fn fence() {
        // SAFETY: every x86-64 has SSE.
        unsafe { _mm_sfence() };
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod nowhere {
    /// Whether this processor can.
    #[inline]
    pub(in super::super) fn is_available() -> bool {
        false
    }

    /// All stores are ordinary ones.
    #[inline]
    pub(in super::super) fn fence() {}

    /// Copies, in the ordinary way.
    ///
    /// # Safety
    ///
    /// `bytes` bytes can be read at `from` and written at `to`, and the two do not overlap.
    pub(in super::super) unsafe fn copy_blocks(to: *mut u8, from: *const u8, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { from.copy_to_nonoverlapping(to, bytes) };
    }
}
