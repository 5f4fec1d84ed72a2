//! How long a read busy-waits before it leaves the thread to the kernel.
//!
//! A wake-up across CPUs costs more than a whole small request (`docs/` has the figures), so a read that will be
//! answered soon is worth waiting for. A stream keeps a score: a wait that was rewarded raises it, one that was not
//! lowers it; at zero it tries now and then. It does not hold the thread: after a short burst of attempts the task
//! yields, so others run, and several streams may wait at once.

use std::rc::Rc;
use std::time::{Duration, Instant};

/// The highest score of a stream.
const SCORE_MAX: u8 = 8;
/// At score zero, one read in so many waits.
const TRIAL_EVERY: u8 = 32;
/// Attempts in one poll of a task: a few microseconds.
const ATTEMPTS_PER_POLL: u32 = 16;

/// What the streams of a runtime share.
#[derive(Clone, Debug)]
pub(super) struct Spin(Rc<Duration>);

impl Spin {
    pub(super) fn new(max: Duration) -> Self {
        Spin(Rc::new(max))
    }

    /// The state of one stream's reads.
    pub(super) fn stream(&self) -> SpinScore {
        SpinScore { max: *self.0, begun: None, score: SCORE_MAX / 2, trial: 0 }
    }
}

/// What a stream knows of its own luck, and of the wait it is in.
#[derive(Debug)]
pub(super) struct SpinScore {
    max: Duration,
    /// When the wait began that the task is in.
    begun: Option<Instant>,
    score: u8,
    trial: u8,
}

/// What came of a burst of attempts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Burst<T> {
    /// An attempt succeeded.
    Found(T),
    /// Not yet; yield and come back.
    Again,
    /// It is not worth while to go on: wait for the kernel.
    Park,
}

impl SpinScore {
    /// Calls `attempt` at least once and at most a few times.
    pub(super) fn burst<T>(&mut self, mut attempt: impl FnMut() -> Option<T>) -> Burst<T> {
        if let Some(found) = attempt() {
            return self.found(found);
        }
        if self.begun.is_none() && !self.may_wait() {
            return Burst::Park;
        }
        let begun = *self.begun.get_or_insert_with(Instant::now);
        for _ in 1..ATTEMPTS_PER_POLL {
            std::hint::spin_loop();
            if let Some(found) = attempt() {
                return self.found(found);
            }
        }
        if begun.elapsed() < self.max {
            return Burst::Again;
        }
        self.begun = None;
        self.score = self.score.saturating_sub(1);
        Burst::Park
    }

    fn found<T>(&mut self, found: T) -> Burst<T> {
        if self.begun.take().is_some() {
            self.reward();
        }
        Burst::Found(found)
    }

    /// Whether its waits have lately been rewarded again and again.
    pub(super) fn is_lucky(&self) -> bool {
        self.score == SCORE_MAX
    }

    /// Whether waits have lately been rewarded.
    #[inline]
    pub(super) fn is_hopeful(&self) -> bool {
        self.score > 0 && !self.max.is_zero()
    }

    /// A wait was rewarded.
    #[inline]
    pub(super) fn reward(&mut self) {
        self.score = (self.score + 1).min(SCORE_MAX);
    }

    fn may_wait(&mut self) -> bool {
        if self.max.is_zero() {
            return false;
        }
        if self.score > 0 {
            return true;
        }
        self.trial = (self.trial + 1) % TRIAL_EVERY;
        self.trial == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_luck_stops_waiting_and_tries_again_later() {
        let mut stream = Spin::new(Duration::from_micros(20)).stream();
        let mut waits = 0;
        for _ in 0..100 {
            let mut attempts = 0;
            loop {
                let burst = stream.burst(|| {
                    attempts += 1;
                    None::<()>
                });
                if burst == Burst::Park {
                    break;
                }
            }
            waits += usize::from(attempts > 1);
        }
        assert!((5..=12).contains(&waits), "{waits} waits");
    }

    #[test]
    fn luck_is_remembered() {
        let mut stream = Spin::new(Duration::from_millis(50)).stream();
        for _ in 0..20 {
            assert_eq!(stream.burst(|| None::<()>), Burst::Again);
            assert_eq!(stream.burst(|| Some(1)), Burst::Found(1));
        }
        assert_eq!(stream.score, SCORE_MAX);
    }

    #[test]
    fn zero_means_never() {
        let mut stream = Spin::new(Duration::ZERO).stream();
        let mut attempts = 0;
        let burst = stream.burst(|| {
            attempts += 1;
            None::<()>
        });
        assert_eq!((burst, attempts), (Burst::Park, 1));
    }
}
