//! Short stretches of one thing, measured again and again between others, and what to make of many of them.

use crate::latency::{Op, Recorder, quantile_us};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Calls before the clock runs.
const WARM_UP_CALLS: usize = 2;

/// One stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Slice {
    pub(crate) calls_per_s: f64,
    pub(crate) p50_us: f64,
}

/// Calls again and again for `time`, at least once.
pub(crate) fn slice(time: Duration, mut call: impl FnMut() -> Result<(), String>) -> Result<Slice, String> {
    for _ in 0..WARM_UP_CALLS {
        call()?;
    }
    let mut latencies = Recorder::default();
    let mut calls = 0u64;
    let begun = Instant::now();
    let mut now = begun;
    while calls == 0 || now - begun < time {
        call()?;
        let after = Instant::now();
        latencies.latency(Op::Get, after - now);
        now = after;
        calls += 1;
    }
    let p50_us = latencies.latencies().next().map_or(0.0, |(_, histogram)| quantile_us(histogram, 0.5));
    Ok(Slice { calls_per_s: calls as f64 / (now - begun).as_secs_f64(), p50_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_counts_calls_and_passes_errors_on() {
        let slept = slice(Duration::from_millis(40), || {
            std::thread::sleep(Duration::from_millis(4));
            Ok(())
        })
        .unwrap();
        assert!(slept.calls_per_s < 251.0 && slept.p50_us >= 4_000.0, "{slept:?}");
        assert_eq!(slice(Duration::ZERO, || Err("broken".to_owned())), Err("broken".to_owned()));
    }
}
