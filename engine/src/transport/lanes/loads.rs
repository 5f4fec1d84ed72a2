//! What the client of a lane is to get from the SSD.
//!
//! ```text
//!   asked for ──► under way ──► here ──► fetched: the client has its pin
//!                     │          └─────► let go, if nobody fetches it
//!                     └──► failed ─────► to be asked for by frames
//! ```
//!
//! Nobody waits in a lane: the client hears that a value is loading, and when it is worth while to ask again. What has come is
//! kept for it, pinned, for so long.

use snowskin_io::Moment;
use snowskin_protocol::Version;
use std::collections::HashMap;
use std::time::Duration;

/// Values that one lane's client may have under way, or may fetch, at a time.
pub(super) const LOADS_MAX: usize = 256;
/// How long a value is kept for the client.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(1);
/// While others are under way, the client hears of what has come when it is so much.
const ARRIVAL_BYTES: u64 = 1 << 20;

/// An object: the hash of its name, and which bytes of it.
pub(super) type LoadKey = (u64, Version);

/// See the module's head; `T` keeps the bytes.
#[derive(Debug)]
pub(super) struct Loads<T> {
    by_key: HashMap<LoadKey, Load<T>>,
    under_way: usize,
    /// That have come since the client heard of any.
    untold_bytes: u64,
}

#[derive(Debug)]
struct Load<T> {
    value_bytes: u64,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    UnderWay,
    Here(T, Moment),
    Failed(Moment),
}

/// What there is for somebody who asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fetched<T> {
    /// Nothing.
    Unknown,
    UnderWay,
    /// His from now on.
    Here(T),
    Failed,
}

impl<T> Default for Loads<T> {
    fn default() -> Self {
        Loads { by_key: HashMap::new(), under_way: 0, untold_bytes: 0 }
    }
}

impl<T> Loads<T> {
    /// Under way, or to be fetched.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Somebody asks. What has come, or failed, is known no more.
    pub(super) fn fetch(&mut self, key: LoadKey) -> Fetched<T> {
        match self.by_key.get(&key).map(|load| &load.state) {
            None => Fetched::Unknown,
            Some(State::UnderWay) => Fetched::UnderWay,
            Some(_) => match self.by_key.remove(&key).map(|load| load.state) {
                Some(State::Here(value, _)) => Fetched::Here(value),
                _ => Fetched::Failed,
            },
        }
    }

    /// What is unknown is under way from now on.
    pub(super) fn begin(&mut self, key: LoadKey, value_bytes: u64) {
        let before = self.by_key.insert(key, Load { value_bytes, state: State::UnderWay });
        assert!(before.is_none(), "it was unknown");
        self.under_way += 1;
    }

    /// It has come (or not). Whether the client is to hear that it is worth while to ask again.
    pub(super) fn end(&mut self, key: LoadKey, value: Option<T>, now: Moment) -> bool {
        // The client may have left.
        let Some(load) = self.by_key.get_mut(&key) else { return false };
        assert!(matches!(load.state, State::UnderWay), "it comes once");
        load.state = value.map_or(State::Failed(now), |value| State::Here(value, now));
        self.under_way -= 1;
        self.untold_bytes += load.value_bytes;
        let is_worth_while = self.under_way == 0 || self.untold_bytes >= ARRIVAL_BYTES;
        if is_worth_while {
            self.untold_bytes = 0;
        }
        is_worth_while
    }

    /// Something has come of which the client has not heard; it will have heard.
    pub(super) fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.untold_bytes) > 0
    }

    /// It is read from elsewhere: bytes that were kept of it.
    pub(super) fn forget(&mut self, key: LoadKey) -> Option<u64> {
        let load = self.by_key.get(&key).filter(|load| !matches!(load.state, State::UnderWay))?;
        let value_bytes = load.value_bytes;
        self.by_key.remove(&key);
        Some(value_bytes)
    }

    /// Lets go what came before `moment`. Answers how many bytes each had.
    pub(super) fn expire(&mut self, moment: Moment) -> Vec<u64> {
        let is_old = |load: &Load<T>| match load.state {
            State::UnderWay => false,
            State::Here(_, since) | State::Failed(since) => since < moment,
        };
        self.by_key.extract_if(|_, load| is_old(load)).map(|(_, load)| load.value_bytes).collect()
    }

    /// The client is gone: all is unknown. Answers how many bytes each had.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = u64> + use<T> {
        std::mem::take(self).by_key.into_values().map(|load| load.value_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::collections::BTreeMap;

    fn key(number: u8) -> LoadKey {
        (u64::from(number % 8), Version(u64::from(number / 8 % 2)))
    }

    /// The same without a heap of bytes: what each is, and since when.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Model {
        UnderWay,
        Here(u32, Moment),
        Failed(Moment),
    }

    quickcheck! {
        fn it_is_a_table_of_what_was_asked_for(steps: Vec<(u8, u8)>) -> bool {
            let mut loads = Loads::default();
            let mut model = BTreeMap::<LoadKey, Model>::new();
            let mut untold = 0;
            for (at, (kind, number)) in (0u32..).zip(steps) {
                let (now, key) = (Moment(u64::from(at)), key(number));
                match kind % 6 {
                    0 | 1 => match loads.fetch(key) {
                        Fetched::Unknown => {
                            assert!(!model.contains_key(&key));
                            loads.begin(key, ARRIVAL_BYTES / 4);
                            model.insert(key, Model::UnderWay);
                        }
                        Fetched::UnderWay => assert_eq!(model[&key], Model::UnderWay),
                        Fetched::Here(value) => assert!(
                            matches!(model.remove(&key), Some(Model::Here(expected, _)) if expected == value)
                        ),
                        Fetched::Failed => assert!(matches!(model.remove(&key), Some(Model::Failed(_)))),
                    },
                    2 | 3 => {
                        let is_under_way = model.get(&key) == Some(&Model::UnderWay);
                        if is_under_way || !model.contains_key(&key) {
                            let value = (kind % 2 == 0).then_some(at);
                            let tells = loads.end(key, value, now);
                            if is_under_way {
                                let state = value.map_or(Model::Failed(now), |value| Model::Here(value, now));
                                model.insert(key, state);
                                untold += 1;
                            }
                            let is_last = !model.values().any(|state| *state == Model::UnderWay);
                            assert_eq!(tells, is_under_way && (is_last || untold == 4));
                            untold = if tells { 0 } else { untold };
                        }
                    }
                    4 => {
                        let known = model.get(&key).filter(|state| **state != Model::UnderWay).is_some();
                        assert_eq!(loads.forget(key).is_some(), known);
                        if known {
                            model.remove(&key);
                        }
                    }
                    _ => {
                        let before = Moment(u64::from(at.saturating_sub(u32::from(number) % 9)));
                        let count = model.len();
                        model.retain(|_, state| match state {
                            Model::UnderWay => true,
                            Model::Here(_, since) | Model::Failed(since) => *since >= before,
                        });
                        assert_eq!(loads.expire(before).len(), count - model.len());
                    }
                }
                assert_eq!(loads.len(), model.len());
            }
            loads.clear().count() == model.len() && loads.len() == 0
        }
    }
}
