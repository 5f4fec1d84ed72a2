//! What may be found under a name when a volume is opened.
//!
//! Of each name: what is sure, and what was said since, in the order in which it was. What was finished and then committed is sure; all before it is
//! gone. What was not may be there or not, after any crash.

use std::collections::{BTreeMap, BTreeSet};

/// A name, as a number.
pub(crate) type Key = u16;

/// An object's version; `None`: nothing is there.
pub(crate) type What = Option<u64>;

/// What may be found under each name at one of several moments.
pub(crate) type Window = BTreeMap<Key, BTreeSet<What>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begun,
    Finished,
    Failed,
}

#[derive(Clone, Debug)]
struct Event {
    number: u64,
    what: What,
    state: State,
}

#[derive(Clone, Debug)]
struct History {
    sure: BTreeSet<What>,
    events: Vec<Event>,
}

impl Default for History {
    fn default() -> Self {
        History { sure: [None].into(), events: Vec::new() }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    names: BTreeMap<Key, History>,
    /// Records that reclaim is about to forget.
    going: BTreeSet<(Key, u64)>,
    /// A flush has failed while the volume was opened: what is found next may be what the disk has given up already, and goes with the next
    /// failure or the power. One that fails later does no harm.
    is_shaky: bool,
    /// All that was allowed at any moment since the last call of [`Model::next_window`], if there was one.
    window: Option<Window>,
    said: u64,
    versions: u64,
}

impl Model {
    pub(crate) fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    /// A record of a name has got its place in the log.
    pub(crate) fn begun(&mut self, key: Key, version: u64) -> u64 {
        self.say(key, Some(version), State::Begun)
    }

    /// What was begun has ended.
    pub(crate) fn ended(&mut self, key: Key, number: u64, is_written: bool) {
        let events = &mut self.names.get_mut(&key).expect("begun").events;
        if let Some(event) = events.iter_mut().find(|event| event.number == number) {
            event.state = if is_written { State::Finished } else { State::Failed };
        }
    }

    pub(crate) fn buried(&mut self, key: Key) {
        self.say(key, None, State::Finished);
    }

    fn say(&mut self, key: Key, what: What, state: State) -> u64 {
        self.said += 1;
        let event = Event { number: self.said, what, state };
        self.names.entry(key).or_default().events.push(event);
        self.note(key);
        self.said
    }

    /// Reclaim looks at the record: from some moment on it is gone, unless it stands elsewhere.
    pub(crate) fn going(&mut self, key: Key, version: u64) {
        self.going.insert((key, version));
        self.note(key);
    }

    /// It does.
    pub(crate) fn moved(&mut self, key: Key, version: u64) {
        self.going.remove(&(key, version));
    }

    /// The record is gone for good, and nothing takes its place.
    pub(crate) fn forgotten(&mut self, key: Key, version: u64) {
        let history = self.names.entry(key).or_default();
        if history.sure.remove(&Some(version)) {
            history.sure.insert(None);
        }
        let events = history.events.iter_mut().filter(|event| event.what == Some(version));
        events.for_each(|event| event.what = None);
        self.note(key);
    }

    /// What a commit that begins now is for.
    pub(crate) fn mark(&self) -> BTreeSet<u64> {
        let events = self.names.values().flat_map(|history| &history.events);
        events.filter(|event| event.state != State::Begun).map(|event| event.number).collect()
    }

    /// It has succeeded.
    pub(crate) fn committed(&mut self, mark: &BTreeSet<u64>) {
        for history in self.names.values_mut() {
            let is_durable = |event: &Event| event.state == State::Finished && mark.contains(&event.number);
            if let Some(last) = history.events.iter().rposition(is_durable) {
                history.sure = [history.events[last].what].into();
                history.events.drain(..=last);
            }
            history.events.retain(|event| event.state != State::Failed || !mark.contains(&event.number));
        }
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.names.keys().copied().collect()
    }

    /// What may be there.
    pub(crate) fn allowed(&self, key: Key) -> BTreeSet<What> {
        let history = self.names.get(&key).cloned().unwrap_or_default();
        let events = history.events.iter().map(|event| event.what);
        let mut allowed: BTreeSet<What> = history.sure.iter().copied().chain(events).collect();
        if allowed.iter().flatten().any(|version| self.going.contains(&(key, *version))) {
            allowed.insert(None);
        }
        allowed
    }

    /// What is there, from now on.
    pub(crate) fn found(&mut self, key: Key, what: What) {
        let sure = if self.is_shaky { self.allowed(key) } else { [what].into() };
        self.going.retain(|(going, _)| *going != key);
        self.names.insert(key, History { sure, events: Vec::new() });
    }

    /// A flush has failed while the volume was opened.
    pub(crate) fn shake(&mut self) {
        self.is_shaky = true;
    }

    // -- for who looks at it later, and does not know when --

    /// What may be found in one of several states.
    pub(crate) fn of_window(window: &Window) -> Self {
        let names =
            window.iter().map(|(key, sure)| (*key, History { sure: sure.clone(), events: Vec::new() }));
        let versions = window.values().flatten().flatten().copied().max().unwrap_or(0);
        Model { names: names.collect(), versions, ..Model::default() }
    }

    /// What was allowed at any moment since the last call. What is allowed now belongs to the next one.
    pub(crate) fn next_window(&mut self) -> Window {
        let now = self.keys().into_iter().map(|key| (key, self.allowed(key))).collect();
        self.window.replace(now).unwrap_or_default()
    }

    fn note(&mut self, key: Key) {
        if self.window.is_none() {
            return;
        }
        let allowed = self.allowed(key);
        if let Some(window) = &mut self.window {
            // Before the first word of a name nothing was there.
            window.entry(key).or_insert_with(|| [None].into()).extend(allowed);
        }
    }
}
