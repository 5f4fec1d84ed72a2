//! What was called, what came back, and what else is known to have happened, in order.

use snowskin_io::Moment;
use snowskin_protocol::MissReason;
use std::fmt;

/// Which key of a workload.
pub type KeyId = usize;
/// Which client; a client that was killed and started again is another one.
pub type ClientId = usize;
/// Which of the values written under a key, from 1.
pub type Generation = u64;

/// A point in a history. Points are totally ordered; their times are on the observer's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// How many points came before it.
    pub order: u64,
    /// When it was.
    pub at: Moment,
}

/// What is asked of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// First writer wins.
    Put(Generation),
    /// Last writer wins.
    Upsert(Generation),
    /// The bytes.
    Get,
    /// The length.
    Lookup,
    /// Held or not, as one of several keys of a `match_prefix`.
    Match,
    /// Gone, with force or not.
    Remove {
        /// Also when leased.
        force: bool,
    },
    /// Gone, as one of all keys, with force or not.
    Sweep {
        /// Also when leased.
        force: bool,
    },
}

/// What came back for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A put or upsert was stored.
    Stored,
    /// A put found the key held.
    Existed,
    /// A get: the whole value of this generation.
    Hit(Generation),
    /// A lookup: a value of this length. A match: any (0).
    HitBytes(u64),
    /// A read found nothing.
    Miss(MissReason),
    /// A match found nothing; it does not say why.
    MissUntold,
    /// A remove.
    Removed,
    /// A remove found nothing.
    Missing(MissReason),
    /// A remove found a lease.
    Leased,
    /// A sweep ended well.
    Swept,
    /// A get returned bytes that are no whole value of the key.
    Garbage(String),
    /// No answer: an error, or nobody is left to hear it.
    Unknown,
}

/// One operation on one key.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asked.
    pub client: ClientId,
    /// For which key.
    pub key: KeyId,
    /// What.
    pub verb: Verb,
    /// When it was called.
    pub start: Stamp,
    /// When it returned; `None`: never, or without an answer.
    pub end: Option<Stamp>,
    /// What it returned.
    pub outcome: Outcome,
    /// Whether it may have been sent more than once.
    pub asked_again: bool,
}

/// Names a call of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId(usize);

/// What an observer with a look inside knows, besides calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Bytes of a key were evicted, between two looks.
    Evicted {
        /// Whose.
        key: KeyId,
        /// How many; `None`: not known.
        value_bytes: Option<u64>,
        /// Not before this.
        after: Stamp,
        /// Not after this.
        before: Stamp,
    },
    /// A core ended, left, or was declared dead, between two looks.
    CoreLost {
        /// Not before this.
        after: Stamp,
        /// Not after this; later values are not concerned.
        until: Stamp,
    },
    /// Two cores may have served these keys.
    Split {
        /// Whose slots were concerned.
        keys: Vec<KeyId>,
        /// From the last look before.
        from: Stamp,
        /// To the first look after.
        to: Stamp,
    },
    /// A core's clock jumped: leases may have ended early.
    ClockJumped,
    /// The cluster came to rest: what had no answer before has no effect any more.
    Rest {
        /// When.
        at: Stamp,
    },
}

/// A recorded history. The length of each generation is known, so that lengths can be checked as well.
#[derive(Clone, Debug, Default)]
pub struct History {
    calls: Vec<Call>,
    facts: Vec<Fact>,
    stamps: u64,
}

impl History {
    /// A history in which nothing has happened.
    pub fn new() -> Self {
        History::default()
    }

    /// The next point.
    pub fn stamp(&mut self, at: Moment) -> Stamp {
        self.stamps += 1;
        Stamp { order: self.stamps, at }
    }

    /// A call begins.
    pub fn begin(&mut self, client: ClientId, key: KeyId, verb: Verb, at: Moment) -> CallId {
        let start = self.stamp(at);
        let outcome = Outcome::Unknown;
        self.calls.push(Call { client, key, verb, start, end: None, outcome, asked_again: false });
        CallId(self.calls.len() - 1)
    }

    /// A call returns.
    pub fn end(&mut self, call: CallId, outcome: Outcome, asked_again: bool, at: Moment) {
        let end = self.stamp(at);
        let call = &mut self.calls[call.0];
        assert!(call.end.is_none(), "a call returns once");
        (call.end, call.outcome, call.asked_again) = (Some(end), outcome, asked_again);
    }

    /// Something else is known. Losses that follow on each other are one.
    pub fn note(&mut self, fact: Fact) {
        if let Fact::CoreLost { after, until } = fact
            && let Some(Fact::CoreLost { after: first, until: last }) = self.last_loss_mut()
            && *last >= after
        {
            (*first, *last) = (after.min(*first), until.max(*last));
            return;
        }
        self.facts.push(fact);
    }

    fn last_loss_mut(&mut self) -> Option<&mut Fact> {
        self.facts.iter_mut().rev().find(|fact| matches!(fact, Fact::CoreLost { .. }))
    }

    /// One call.
    pub fn call(&self, call: CallId) -> &Call {
        &self.calls[call.0]
    }

    /// The calls, in the order in which they began.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// What else is known.
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { client, key, verb, start, outcome, .. } = self;
        write!(f, "[{:>6}", start.order)?;
        match self.end {
            Some(end) => write!(f, " … {:>6}]", end.order)?,
            None => write!(f, " …       ]")?,
        }
        write!(f, " {} client {client} key {key}: {verb:?} → {outcome:?}", start.at)?;
        if self.asked_again { write!(f, " (asked again)") } else { Ok(()) }
    }
}
