//! What to ask for and when: mixes of operations, keys by popularity, and the clock of an open loop.

use crate::latency::Op;
use rand::RngExt;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Zipf};
use snowskin_protocol::ByteSize;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A sleeping thread wakes up this much late; the rest is polled.
const SLEEP_OVERSHOOT: Duration = Duration::from_micros(80);
/// How long a wait for the next intended start goes on without looking whether the run has ended.
const SLEEP_SLICE: Duration = Duration::from_millis(20);

/// Kinds of operations and how often each is chosen. Reads `get=0.9,put=0.1`; parts need not add up to 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mix(Vec<(Op, f64)>);

impl Mix {
    /// The kind for a number that is drawn from 0 to 1.
    pub(crate) fn choose(&self, drawn: f64) -> Op {
        let total: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut left = drawn * total;
        for &(op, weight) in &self.0 {
            if left < weight {
                return op;
            }
            left -= weight;
        }
        self.0.last().expect("a mix has a kind").0
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut kinds = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let op = Op::ALL.into_iter().find(|op| op.name() == name.trim() && *op != Op::Request);
            let op = op.ok_or_else(|| {
                format!("\"{name}\" is no operation: use get, view, put, upsert, lookup or match_prefix, such as get=0.9,put=0.1")
            })?;
            let weight: f64 =
                weight.trim().parse().map_err(|_| format!("\"{weight}\" is no weight: use 0.9"))?;
            if !(weight.is_finite() && weight > 0.0) {
                return Err(format!("the weight of {name} must be above 0"));
            }
            kinds.push((op, weight));
        }
        Ok(Mix(kinds))
    }
}

/// Sizes of values; keys take them in turn. Reads `1MiB` or `1MiB,64KiB`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sizes(Vec<u64>);

impl Sizes {
    /// The size of the value of key `index`.
    pub(crate) fn of_key(&self, index: u64) -> usize {
        self.0[(index % self.0.len() as u64) as usize] as usize
    }

    /// The largest.
    pub(crate) fn max(&self) -> usize {
        self.0.iter().copied().max().unwrap_or(0) as usize
    }

    /// Bytes of the values of the first `keys` keys.
    pub(crate) fn total(&self, keys: u64) -> u64 {
        let rounds = keys / self.0.len() as u64;
        let rest = (keys % self.0.len() as u64) as usize;
        rounds * self.0.iter().sum::<u64>() + self.0[..rest].iter().sum::<u64>()
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes: Result<Vec<u64>, String> =
            text.split(',').map(|part| parse_size(part).map(|size| size.0)).collect();
        sizes.map(Sizes)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.0.iter().map(|(op, weight)| format!("{}={weight}", op.name())).collect();
        f.write_str(&parts.join(","))
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|&size| ByteSize(size).to_string()).collect();
        f.write_str(&parts.join(", "))
    }
}

/// A size that is not zero.
pub(crate) fn parse_size(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err("a size must be at least one byte".to_owned()),
        Ok(size) => Ok(size),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads `10s`, `500ms`, `2m` or a number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("\"{text}\" is not a duration: write 10s, 500ms or 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds_per_unit = match unit.trim() {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(refuse()),
    };
    let number: f64 = number.parse().map_err(|_| refuse())?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| refuse())
}

/// Which keys are asked for.
#[derive(Clone, Debug)]
pub(crate) enum Popularity {
    /// All the same.
    Uniform { keys: u64 },
    /// Key 0 most, then falling as rank to the power of `-theta`. Where a key lies is decided by its hash, so
    /// neighbours in popularity are no neighbours in the store.
    Zipf(Zipf<f64>),
}

impl Popularity {
    pub(crate) fn new(kind: &str, keys: u64, theta: f64) -> Result<Self, String> {
        match kind {
            "uniform" => Ok(Popularity::Uniform { keys }),
            "zipf" => Zipf::new(keys as f64, theta)
                .map(Popularity::Zipf)
                .map_err(|error| format!("--theta {theta} makes no zipf distribution: {error}")),
            _ => Err(format!("\"{kind}\" is no workload: use uniform or zipf")),
        }
    }

    /// The next key to ask for.
    pub(crate) fn draw(&self, random: &mut StdRng) -> u64 {
        match self {
            Popularity::Uniform { keys } => random.random_range(0..*keys),
            Popularity::Zipf(zipf) => zipf.sample(random) as u64 - 1,
        }
    }
}

/// When calls start. In a closed loop at once; in an open loop at fixed times, whether or not the store keeps up,
/// and latency counts from the time that was meant: a stall is seen by all calls that it delays.
#[derive(Debug)]
pub(crate) struct Pace {
    begun: Instant,
    gap: Option<Duration>,
    next_call: AtomicU64,
}

impl Pace {
    /// `calls_per_s`: `None` for a closed loop.
    pub(crate) fn new(calls_per_s: Option<f64>) -> Self {
        let gap = calls_per_s.map(|rate| Duration::from_secs_f64(1.0 / rate));
        Pace { begun: Instant::now(), gap, next_call: AtomicU64::new(0) }
    }

    /// Waits for the next start that nobody has taken, and says when it was meant to be. `None`: the run has ended.
    pub(crate) fn next(&self, stopped: impl Fn() -> bool) -> Option<Instant> {
        match self.gap {
            None => (!stopped()).then(Instant::now),
            Some(gap) => {
                let call = self.next_call.fetch_add(1, Ordering::Relaxed);
                let intended = self.begun + gap.mul_f64(call as f64);
                wait_until(intended, stopped).then_some(intended)
            }
        }
    }
}

/// Sleeps, then polls, until `time`. False if the run ended before.
pub(crate) fn wait_until(time: Instant, stopped: impl Fn() -> bool) -> bool {
    loop {
        if stopped() {
            return false;
        }
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        match left.checked_sub(SLEEP_OVERSHOOT) {
            Some(sleep) => std::thread::sleep(sleep.min(SLEEP_SLICE)),
            None => std::hint::spin_loop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn mixes_as_people_write_them() {
        let mix: Mix = "get=3, put=1".parse().unwrap();
        assert_eq!(
            (mix.choose(0.0), mix.choose(0.74), mix.choose(0.76), mix.choose(1.0)),
            (Op::Get, Op::Get, Op::Put, Op::Put)
        );
        let mix: Mix = "get=1,view=1".parse().unwrap();
        assert_eq!((mix.choose(0.4), mix.choose(0.6)), (Op::Get, Op::View));
        assert_eq!(mix.to_string(), "get=1,view=1");
        assert_eq!("match_prefix".parse::<Mix>().unwrap().choose(0.5), Op::MatchPrefix);
        for bad in ["", "fly=1", "get=x", "get=0", "get=-1", "get=inf", "request=1"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_taken_in_turn() {
        let sizes: Sizes = "1MiB,64KiB".parse().unwrap();
        assert_eq!(
            (sizes.of_key(0), sizes.of_key(1), sizes.of_key(2), sizes.max()),
            (1 << 20, 1 << 16, 1 << 20, 1 << 20)
        );
        assert_eq!(sizes.total(3), 2 * (1 << 20) + (1 << 16));
        assert!("0".parse::<Sizes>().is_err() && "1MiB,".parse::<Sizes>().is_err());
    }

    #[test]
    fn durations_as_people_write_them() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        for bad in ["", "s", "-1s", "10 parsecs"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn zipf_prefers_the_first_keys_and_stays_in_range() {
        let mut random = StdRng::seed_from_u64(1);
        for kind in ["uniform", "zipf"] {
            let popularity = Popularity::new(kind, 100, 0.99).unwrap();
            let draws: Vec<u64> = (0..20_000).map(|_| popularity.draw(&mut random)).collect();
            assert!(draws.iter().all(|&key| key < 100));
            let first_ten = draws.iter().filter(|&&key| key < 10).count();
            assert_eq!(first_ten > 8_000, kind == "zipf", "{kind}: {first_ten}");
        }
        assert!(Popularity::new("normal", 1, 0.9).is_err());
        assert!(Popularity::new("zipf", 1, -1.0).is_err());
    }

    #[test]
    fn an_open_loop_keeps_its_times_and_counts_from_them() {
        let pace = Pace::new(Some(1_000.0));
        let first = pace.next(|| false).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        let late = pace.next(|| false).unwrap();
        assert_eq!(late - first, Duration::from_millis(1), "the stall did not move the schedule");
        assert!(late.elapsed() >= Duration::from_millis(28), "and is part of the next call's latency");
        assert_eq!(pace.next(|| true), None);
    }
}
