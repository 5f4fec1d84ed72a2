//! What all who take part in a run write into: the history, which faults are active, and what was reached.

use super::coverage::{Coverage, Phase};
use super::plan::{Fault, Operation};
use crate::keys::Keys;
use crate::model::{CallId, ClientId, Fact, Generation, History, KeyId, Outcome, Stamp, Verb};
use snowskin_io::sim::SimPlatform;
use snowskin_io::{Moment, Platform};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// Events of a run that are kept for people.
const TRAIL_MAX: usize = 400;
/// How much later than its deadline a call may return: the client's own turn may come a little later.
const LATE_MAX: Duration = Duration::from_millis(5);

/// Shared by everybody in one run.
pub(super) type SharedBook = Rc<RefCell<Book>>;

/// What is known of one run.
pub(super) struct Book {
    /// Its clock never jumps.
    observer: SimPlatform,
    /// The keys.
    pub(super) keys: Rc<Keys>,
    /// Calls and facts.
    pub(super) history: History,
    /// What was reached.
    pub(super) coverage: Coverage,
    /// Where the run is.
    pub(super) phase: Phase,
    /// Faults in the order in which they began; the number of an operation's first one is its place here.
    begun: Vec<Fault>,
    active: BTreeMap<Fault, usize>,
    next_generation: Vec<Generation>,
    /// Clients that were paused, and how often.
    pauses: BTreeMap<ClientId, usize>,
    /// Cores have SSDs, so some puts are to be durable.
    pub(super) has_ssds: bool,
    /// Errors are allowed: faults are about, or the cluster is still recovering.
    pub(super) is_lenient: bool,
    /// The first broken promise that is no matter of one key's history.
    pub(super) broken: Option<String>,
    /// What happened, for people.
    pub(super) trail: Vec<String>,
}

/// An operation under way.
pub(super) struct Running {
    operation: Operation,
    calls: Vec<(KeyId, CallId)>,
    started: Moment,
    deadline: Duration,
    client: ClientId,
    pauses: usize,
    active: BTreeSet<Fault>,
    begun: usize,
}

impl Book {
    /// An empty one.
    pub(super) fn new(observer: SimPlatform, keys: Rc<Keys>) -> SharedBook {
        let next_generation = vec![0; keys.count()];
        Rc::new(RefCell::new(Book {
            observer,
            keys,
            history: History::new(),
            coverage: Coverage::default(),
            phase: Phase::Fire,
            begun: Vec::new(),
            active: BTreeMap::new(),
            next_generation,
            pauses: BTreeMap::new(),
            has_ssds: false,
            is_lenient: true,
            broken: None,
            trail: Vec::new(),
        }))
    }

    /// Now, on the observer's clock.
    pub(super) fn now(&self) -> Moment {
        self.observer.now()
    }

    /// A point in the history.
    pub(super) fn stamp(&mut self) -> Stamp {
        let now = self.now();
        self.history.stamp(now)
    }

    /// A new generation of a key.
    pub(super) fn generation(&mut self, key: KeyId) -> Generation {
        self.next_generation[key] += 1;
        self.next_generation[key]
    }

    /// Writes down what people may want to know.
    pub(super) fn tell(&mut self, what: impl Into<String>) {
        let line = format!("{} {}", self.now(), what.into());
        log::debug!("{line}");
        if self.trail.len() < TRAIL_MAX {
            self.trail.push(line);
        }
    }

    /// A promise was broken. Only the first time counts.
    pub(super) fn break_promise(&mut self, what: impl Into<String>) {
        let what = format!("{} {}", self.now(), what.into());
        self.broken.get_or_insert(what);
    }

    // -- faults --

    /// A fault begins.
    pub(super) fn fault_begins(&mut self, fault: Fault, what: &str) {
        self.tell(format!("{}: {what}", fault.name()));
        self.begun.push(fault);
        *self.active.entry(fault).or_default() += 1;
    }

    /// Whether there has been such a fault.
    pub(super) fn has_begun(&self, fault: Fault) -> bool {
        self.begun.contains(&fault)
    }

    /// A fault ends.
    pub(super) fn fault_ends(&mut self, fault: Fault) {
        self.tell(format!("{}: ends", fault.name()));
        let count = self.active.entry(fault).or_default();
        *count -= 1;
        if *count == 0 {
            self.active.remove(&fault);
        }
    }

    /// A client stands still: its calls may return late.
    pub(super) fn client_paused(&mut self, client: ClientId) {
        *self.pauses.entry(client).or_default() += 1;
    }

    // -- operations --

    /// An operation begins; a verb for each key.
    pub(super) fn begin(
        &mut self,
        operation: Operation,
        client: ClientId,
        verbs: &[(KeyId, Verb)],
        deadline: Duration,
    ) -> Running {
        let started = self.now();
        let calls =
            verbs.iter().map(|&(key, verb)| (key, self.history.begin(client, key, verb, started))).collect();
        Running {
            operation,
            calls,
            started,
            deadline,
            client,
            pauses: *self.pauses.get(&client).unwrap_or(&0),
            active: self.active.keys().copied().collect(),
            begun: self.begun.len(),
        }
    }

    /// An operation returns; an outcome for each key.
    pub(super) fn end(&mut self, running: Running, outcomes: Vec<Outcome>, asked_again: bool) {
        let now = self.now();
        assert_eq!(running.calls.len(), outcomes.len(), "an outcome for each key");
        for (&(_, call), outcome) in running.calls.iter().zip(outcomes) {
            self.count_outcome(running.operation, &outcome);
            if outcome != Outcome::Unknown {
                self.history.end(call, outcome, asked_again, now);
            }
            log::trace!("{now} {}", self.history.call(call));
        }
        self.coverage.count("asked again", u64::from(asked_again));
        self.reach(&running);
        let was_paused = *self.pauses.get(&running.client).unwrap_or(&0) > running.pauses;
        if now - running.started > running.deadline + LATE_MAX && !was_paused {
            let (name, took) = (running.operation.name(), now - running.started);
            self.break_promise(format!(
                "a {name} of client {} took {took:?}, its deadline was {:?}",
                running.client, running.deadline
            ));
        }
    }

    fn reach(&mut self, running: &Running) {
        let seen: Vec<Fault> = match self.phase {
            Phase::Fire => {
                let since = self.begun.get(running.begun..).unwrap_or_default();
                running.active.iter().chain(since).copied().collect::<BTreeSet<_>>().into_iter().collect()
            }
            _ => self.begun.iter().copied().collect::<BTreeSet<_>>().into_iter().collect(),
        };
        self.coverage.reach(running.operation, &seen, self.phase);
    }

    fn count_outcome(&mut self, operation: Operation, outcome: &Outcome) {
        let verb = match operation {
            Operation::GetInto => "get",
            Operation::RemoveForced => "remove",
            operation => operation.name(),
        };
        self.coverage.count(format!("{verb} {}", outcome.words()), 1);
    }

    /// A fact for the checker.
    pub(super) fn note(&mut self, fact: Fact) {
        self.history.note(fact);
    }
}
