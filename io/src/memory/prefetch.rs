//! Asking the processor for bytes before they are needed.
//!
//! ```text
//!   one by one    ask a ·····wait····· use a   ask b ·····wait····· use b
//!   in a batch    ask a  ask b  ask c  ·wait·  use a  use b  use c
//! ```
//!
//! A place that is in no cache is a hundred nanoseconds away; a core can have some twenty such requests under way. So
//! whoever works on many places asks for all of them first.

/// Asks for the cache line at which `place` begins, and returns at once.
///
/// A hint: nothing that a program can observe depends on it, but for the time that it takes. Of a `place` that is
/// longer than a line, only the first line is asked for. Does nothing on processors other than x86-64 and AArch64.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    let place: *const T = place;
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing into the program and faults at no address; SSE is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: a prefetch reads nothing into the program and faults at no address; it changes no register.
        unsafe {
            core::arch::asm!(
                "prfm pldl1keep, [{place}]",
                place = in(reg) place,
                options(nostack, preserves_flags, readonly)
            );
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_place_will_do() {
        let rows = vec![[7_u64; 16]; 3];
        rows.iter().for_each(prefetch);
        prefetch(&rows[2][15]);
        prefetch(&());
        assert!(rows.iter().flatten().all(|&word| word == 7));
    }
}
