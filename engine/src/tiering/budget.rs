//! How much may be written to the SSD: so many bytes a day, and some of them at once. Plain code.
//!
//! ```text
//!   a day's bytes, evenly ──► │ allowance │ ──► what is written, whatever it is: records, tombstones, what reclaim moves
//!                               an hour's at most, and less than nothing when more had to be written
//! ```
//!
//! Only what may as well not be written asks for leave. So in the end no more is written than is allowed, unless puts that are to be durable
//! and removals need more than that by themselves.

use snowskin_io::Moment;

const DAY_NS: u128 = 24 * 3_600 * 1_000_000_000;
/// What was not written is allowed later, up to what comes in this part of a day.
const BURST_DIVISOR: i128 = 24;

/// What may still be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    bytes_per_day: u64,
    /// In bytes; negative: more was written than was allowed.
    allowance: i128,
    /// What is not a whole byte yet, in parts of a byte of which there are as many as nanoseconds in a day.
    rest: u128,
    last: Moment,
    written: u64,
}

impl Budget {
    /// A day's bytes, of which an hour's are there at once.
    pub(super) fn new(bytes_per_day: u64, now: Moment) -> Self {
        let burst = i128::from(bytes_per_day) / BURST_DIVISOR;
        Budget { bytes_per_day, allowance: burst, rest: 0, last: now, written: 0 }
    }

    /// Whether more may be written, when so many bytes were since it was made.
    pub(super) fn allows(&mut self, now: Moment, written: u64) -> bool {
        let passed = u128::from(now.0.saturating_sub(self.last.0));
        self.last = self.last.max(now);
        let parts = passed * u128::from(self.bytes_per_day) + self.rest;
        self.rest = parts % DAY_NS;
        let burst = i128::from(self.bytes_per_day) / BURST_DIVISOR;
        self.allowance = (self.allowance + (parts / DAY_NS) as i128).min(burst);
        self.allowance -= i128::from(written.saturating_sub(self.written));
        self.written = self.written.max(written);
        self.allowance > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::time::Duration;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_days_bytes_come_evenly_and_an_hours_may_wait() {
        let mut budget = Budget::new(24 * 60 * MIB, Moment(0));
        // An hour's are there, not more.
        assert!(budget.allows(Moment(0), 60 * MIB - 1) && !budget.allows(Moment(0), 60 * MIB));
        let minute = |number: u64| Moment(0) + Duration::from_secs(60 * number);
        assert!(budget.allows(minute(1), 60 * MIB), "one MiB a minute");
        assert!(!budget.allows(minute(1), 61 * MIB));
        assert!(!budget.allows(minute(2), 64 * MIB), "more was written than is allowed");
        assert!(!budget.allows(minute(4), 64 * MIB) && budget.allows(minute(5), 64 * MIB));
        // After a week there is an hour's.
        assert!(budget.allows(minute(10_000), 64 * MIB + 60 * MIB - 1));
        assert!(!budget.allows(minute(10_000), 64 * MIB + 60 * MIB));
    }

    quickcheck! {
        fn whoever_asks_often_writes_no_more_than_is_allowed(bytes_per_day: u32, steps: Vec<(u32, u16)>) -> bool {
            let mut budget = Budget::new(bytes_per_day.into(), Moment(0));
            let burst = u64::from(bytes_per_day) / 24;
            let (mut now, mut written) = (0_u64, 0_u64);
            steps.into_iter().all(|(nanoseconds, bytes)| {
                now += u64::from(nanoseconds) * 1_000;
                let due = (u128::from(now) * u128::from(bytes_per_day) / DAY_NS) as u64;
                let may_write = budget.allows(Moment(now), written);
                // No more at any time than a burst and what has come since the beginning.
                let is_right = !may_write || written < burst + due;
                if may_write {
                    written += u64::from(bytes);
                }
                is_right
            })
        }
    }
}
