//! The clock of a host.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of a clock that all processes of this host share and nobody sets; a few of them late. Costs some nanoseconds.
#[inline]
pub fn host_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}
