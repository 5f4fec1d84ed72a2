//! Soft pins: until when an object goes last.
//!
//! Each use of an object renews its soft pin. When it has run out, the object is an ordinary one again. What is due is
//! looked at in the order of time, so nothing is searched; a renewed pin is found when its old time comes.
//!
//! A pin is the row's, wherever its bytes are: who comes back from the SSD in time is pinned in memory as before.

use super::row::Position;
use snowskin_io::Moment;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// The soft pins of a core, by position.
#[derive(Debug, Default)]
pub(super) struct SoftPins {
    pins: HashMap<Position, SoftPin>,
    /// When to look at whom: each pin has one place here.
    due: BTreeSet<(Moment, Position)>,
}

#[derive(Clone, Copy, Debug)]
struct SoftPin {
    until: Moment,
    /// Its place in `due`: not later.
    due: Moment,
    time: Duration,
}

impl SoftPins {
    /// Pins a row for `time` from `now` and from each later use on.
    pub(super) fn pin(&mut self, position: Position, time: Duration, now: Moment) {
        self.forget(position);
        let until = now + time;
        self.pins.insert(position, SoftPin { until, due: until, time });
        self.due.insert((until, position));
    }

    /// The row was used.
    #[inline]
    pub(super) fn renew(&mut self, position: Position, now: Moment) {
        // Nearly always nothing is pinned.
        if !self.pins.is_empty()
            && let Some(pin) = self.pins.get_mut(&position)
        {
            pin.until = now + pin.time;
        }
    }

    /// For how long after each use a row is pinned; zero, if it is not.
    pub(super) fn time_of(&self, position: Position) -> Duration {
        self.pins.get(&position).map_or(Duration::ZERO, |pin| pin.time)
    }

    /// Whether a row is pinned, as far as it was looked at.
    pub(super) fn is_pinned(&self, position: Position) -> bool {
        !self.pins.is_empty() && self.pins.contains_key(&position)
    }

    /// The row is gone.
    pub(super) fn forget(&mut self, position: Position) {
        if !self.pins.is_empty()
            && let Some(pin) = self.pins.remove(&position)
        {
            self.due.remove(&(pin.due, position));
        }
    }

    /// Looks at the pin that is due first, a bounded step: answers the row if it has run out. `None`: none is due.
    pub(super) fn run_out(&mut self, now: Moment) -> Option<Option<Position>> {
        let &(due, position) = self.due.first()?;
        if due > now {
            return None;
        }
        self.due.pop_first();
        let pin = self.pins.get_mut(&position)?;
        if pin.until > now {
            pin.due = pin.until;
            self.due.insert((pin.due, position));
            return Some(None);
        }
        self.pins.remove(&position);
        Some(Some(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::collections::BTreeMap;

    quickcheck! {
        fn pins_run_out_when_they_should(steps: Vec<(u8, u8, u8)>) -> bool {
            let mut pins = SoftPins::default();
            let mut model = BTreeMap::<Position, (u64, u64)>::new();
            let mut now = 0;
            for (kind, position, number) in steps {
                let (position, number) = (Position::from(position % 8), u64::from(number));
                match kind % 4 {
                    0 => {
                        pins.pin(position, Duration::from_nanos(number), Moment(now));
                        model.insert(position, (now + number, number));
                    }
                    1 => {
                        pins.renew(position, Moment(now));
                        model.entry(position).and_modify(|(until, time)| *until = now + *time);
                    }
                    2 => {
                        pins.forget(position);
                        model.remove(&position);
                    }
                    _ => now += number,
                }
                let mut out: Vec<Position> = std::iter::from_fn(|| pins.run_out(Moment(now))).flatten().collect();
                out.sort_unstable();
                let expected: Vec<Position> = model.extract_if(.., |_, (until, _)| *until <= now).map(|(at, _)| at).collect();
                assert_eq!(out, expected);
            }
            (pins.pins.len(), pins.due.len()) == (model.len(), model.len())
        }
    }
}
