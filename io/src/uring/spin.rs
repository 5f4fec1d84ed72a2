//! How long a read busy-waits before it parks.
//!
//! Busy-waiting pays when the next bytes come soon and nobody else needs the core. So each stream keeps a score:
//! a wait that was rewarded raises it, one that was not lowers it; at zero the stream still tries now and then. And
//! a stream waits only while it is the one that was active last: as soon as two streams take turns on a core, none
//! of them makes the other wait.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The highest score of a stream.
const SCORE_MAX: u8 = 8;
/// At score zero, one read in so many tries.
const TRIAL_EVERY: u8 = 32;
/// A stream is the only active one if no other has read anything for this long.
const ALONE_AFTER: Duration = Duration::from_micros(200);

/// What the streams of a core share: how long to wait at most, and who was active last.
#[derive(Clone, Debug)]
pub struct Spin {
    max: Duration,
    last: Rc<Cell<Option<(u64, Instant)>>>,
    /// When another stream than the last one was active.
    changed: Rc<Cell<Option<Instant>>>,
    streams: Rc<Cell<u64>>,
}

/// What a stream knows of its own luck.
#[derive(Debug)]
pub(crate) struct SpinScore {
    shared: Spin,
    stream: u64,
    score: u8,
    trial: u8,
}

impl Spin {
    /// For a core whose reads wait at most `max`; zero: never.
    pub fn new(max: Duration) -> Self {
        Spin { max, last: Rc::default(), changed: Rc::default(), streams: Rc::default() }
    }

    /// How long a wait may be.
    pub(super) fn max(&self) -> Duration {
        self.max
    }

    /// Whether several streams are active, so that whoever waits makes others wait.
    pub(super) fn is_shared(&self) -> bool {
        self.changed.get().is_some_and(|when| when.elapsed() < ALONE_AFTER)
    }

    pub(crate) fn stream(&self) -> SpinScore {
        let stream = self.streams.get();
        self.streams.set(stream + 1);
        SpinScore { shared: self.clone(), stream, score: SCORE_MAX / 2, trial: 0 }
    }
}

impl SpinScore {
    /// Calls `attempt` until it yields something or the wait is over. The first attempt is always made.
    pub(crate) fn attempt<T>(&mut self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        if let Some(found) = attempt() {
            self.note_activity();
            return Some(found);
        }
        if !self.may_wait() {
            return None;
        }
        let begun = Instant::now();
        while begun.elapsed() < self.shared.max {
            std::hint::spin_loop();
            if let Some(found) = attempt() {
                self.score = (self.score + 1).min(SCORE_MAX);
                self.note_activity();
                return Some(found);
            }
        }
        self.score = self.score.saturating_sub(1);
        None
    }

    /// The next wait is worth while, whatever came of the last ones.
    pub(super) fn encourage(&mut self) {
        self.score = self.score.max(1);
    }

    /// Whether waits are wanted at all.
    pub(super) fn may_ever_wait(&self) -> bool {
        !self.shared.max.is_zero()
    }

    fn may_wait(&mut self) -> bool {
        if self.shared.max.is_zero() {
            return false;
        }
        if let Some((stream, when)) = self.shared.last.get()
            && stream != self.stream
            && when.elapsed() < ALONE_AFTER
        {
            return false;
        }
        if self.score > 0 {
            return true;
        }
        self.trial = (self.trial + 1) % TRIAL_EVERY;
        self.trial == 0
    }

    fn note_activity(&self) {
        if !self.shared.max.is_zero() {
            let now = Instant::now();
            let before = self.shared.last.replace(Some((self.stream, now)));
            if before.is_some_and(|(stream, _)| stream != self.stream) {
                self.shared.changed.set(Some(now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_luck_stops_waiting_and_tries_again_later() {
        let spin = Spin::new(Duration::from_micros(20));
        let mut stream = spin.stream();
        let mut waits = 0;
        for _ in 0..100 {
            let mut attempts = 0;
            let found = stream.attempt(|| {
                attempts += 1;
                None::<()>
            });
            assert!(found.is_none());
            waits += usize::from(attempts > 1);
        }
        assert!((5..=12).contains(&waits), "{waits} waits");
    }

    #[test]
    fn who_is_encouraged_waits_once_more() {
        let spin = Spin::new(Duration::from_micros(20));
        let mut stream = spin.stream();
        let waits = |stream: &mut SpinScore| {
            let mut attempts = 0;
            stream.attempt(|| {
                attempts += 1;
                None::<()>
            });
            attempts > 1
        };
        assert_eq!(
            (0..=SCORE_MAX / 2).filter(|_| waits(&mut stream)).count(),
            4,
            "until it has no luck any more"
        );
        stream.encourage();
        assert!(waits(&mut stream) && !waits(&mut stream));
    }

    #[test]
    fn nobody_waits_while_another_stream_is_active() {
        let spin = Spin::new(Duration::from_millis(50));
        let (mut busy, mut other) = (spin.stream(), spin.stream());
        assert_eq!(busy.attempt(|| Some(1)), Some(1));
        let mut attempts = 0;
        other.attempt(|| {
            attempts += 1;
            None::<()>
        });
        assert_eq!(attempts, 1);
    }

    #[test]
    fn zero_means_never() {
        let mut stream = Spin::new(Duration::ZERO).stream();
        let mut attempts = 0;
        stream.attempt(|| {
            attempts += 1;
            None::<()>
        });
        assert_eq!(attempts, 1);
    }
}
