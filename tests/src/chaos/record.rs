//! What was asked and answered, from all threads, in one order and on one clock.

use crate::keys::Keys;
use crate::model::{CallId, ClientId, Fact, Generation, History, KeyId, Outcome, Stamp, Verb};
use snowskin_io::Moment;
use snowskin_protocol::ObjectName;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Keys of the recorded clients.
pub(super) const KEYS: usize = 64;
/// What their names begin with; those of `chaos_client` begin otherwise.
pub(super) const PREFIX: &str = "shared-";
/// No value is longer: a good part of a core.
const BYTES_MAX: u64 = 700_000;

/// The keys of the recorded clients.
pub(super) fn keys() -> Keys {
    let name = |key: usize| ObjectName::new("default", format!("{PREFIX}{key}").as_bytes());
    Keys::new((0..KEYS).map(|key| name(key).expect("a good name")), BYTES_MAX)
}

/// Shared by all threads of a run.
pub(super) struct Record {
    /// The keys.
    pub(super) keys: Keys,
    origin: Instant,
    inside: Mutex<Inside>,
}

struct Inside {
    history: History,
    generations: Vec<Generation>,
    counts: BTreeMap<String, u64>,
    trail: Vec<String>,
    broken: Option<String>,
}

impl Record {
    /// Nothing has happened yet.
    pub(super) fn new() -> Record {
        let inside = Inside {
            history: History::new(),
            generations: vec![0; KEYS],
            counts: BTreeMap::new(),
            trail: Vec::new(),
            broken: None,
        };
        Record { keys: keys(), origin: Instant::now(), inside: Mutex::new(inside) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // A thread that panicked while it wrote is a failure of its own; the rest is still worth reading.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the run began.
    pub(super) fn now(&self) -> Moment {
        Moment(self.origin.elapsed().as_nanos() as u64)
    }

    /// A point in the history.
    pub(super) fn stamp(&self) -> Stamp {
        let mut inside = self.inside();
        inside.history.stamp(self.now())
    }

    /// A new generation of each key.
    pub(super) fn generations(&self, keys: &[KeyId]) -> Vec<Generation> {
        let generations = &mut self.inside().generations;
        let mut next = |key: &KeyId| {
            generations[*key] += 1;
            generations[*key]
        };
        keys.iter().map(&mut next).collect()
    }

    /// A batch begins.
    pub(super) fn begin(&self, client: ClientId, verbs: &[(KeyId, Verb)]) -> (Moment, Vec<CallId>) {
        let mut inside = self.inside();
        let now = self.now();
        (now, verbs.iter().map(|&(key, verb)| inside.history.begin(client, key, verb, now)).collect())
    }

    /// A batch returns; an outcome for each call. Answers how long it took.
    pub(super) fn end(
        &self,
        verb: &str,
        (started, calls): (Moment, Vec<CallId>),
        outcomes: Vec<Outcome>,
        asked_again: bool,
    ) -> Duration {
        assert_eq!(calls.len(), outcomes.len(), "an outcome for each key");
        let mut inside = self.inside();
        let now = self.now();
        for (call, outcome) in calls.into_iter().zip(outcomes) {
            *inside.counts.entry(format!("{verb} {}", outcome.words())).or_default() += 1;
            // What had no answer has no end.
            if outcome != Outcome::Unknown {
                inside.history.end(call, outcome, asked_again, now);
            }
        }
        *inside.counts.entry("asked again".to_owned()).or_default() += u64::from(asked_again);
        now.since(started)
    }

    /// Something else is known.
    pub(super) fn note(&self, fact: Fact) {
        self.inside().history.note(fact);
    }

    /// Counts something.
    pub(super) fn count(&self, what: impl Into<String>) {
        *self.inside().counts.entry(what.into()).or_default() += 1;
    }

    /// Writes down what people may want to know.
    pub(super) fn tell(&self, what: impl AsRef<str>) {
        let line = format!("{:>8.3} s {}", self.origin.elapsed().as_secs_f64(), what.as_ref());
        log::debug!("{line}");
        self.inside().trail.push(line);
    }

    /// A promise was broken that is no matter of one key's history. Only the first time counts.
    pub(super) fn break_promise(&self, what: impl AsRef<str>) {
        let line = format!("{:.3} s: {}", self.origin.elapsed().as_secs_f64(), what.as_ref());
        self.inside().broken.get_or_insert(line);
    }

    /// The first broken promise.
    pub(super) fn broken(&self) -> Option<String> {
        self.inside().broken.clone()
    }

    /// What happened, for people.
    pub(super) fn trail(&self) -> Vec<String> {
        self.inside().trail.clone()
    }

    /// What was counted.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.inside().counts.clone()
    }

    /// All calls and facts.
    pub(super) fn history(&self) -> History {
        self.inside().history.clone()
    }
}
