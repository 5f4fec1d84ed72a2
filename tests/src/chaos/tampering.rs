//! Lies that a checker must notice: a recorded history with one answer changed.

use super::record::KEYS;
use crate::model::{Call, CallId, Fact, History, KeyId, Outcome, Verb};
use snowskin_protocol::MissReason;
use std::collections::BTreeMap;

/// What one answer is changed into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// A hit with bytes that are no value of the key.
    TornBytes,
    /// A hit with a value that nobody has written.
    UnknownValue,
    /// A hit with a value that was replaced before the get began.
    StaleValue,
    /// A hit with a value that was removed before the get began.
    RemovedValue,
    /// A miss whose reason cannot be.
    UntrueReason,
    /// A length that no possible value has.
    WrongLength,
}

impl Tampering {
    /// All of them.
    pub const ALL: [Tampering; 6] = [
        Tampering::TornBytes,
        Tampering::UnknownValue,
        Tampering::StaleValue,
        Tampering::RemovedValue,
        Tampering::UntrueReason,
        Tampering::WrongLength,
    ];
}

/// The calls of one key, with one answer changed; `None` if the history has no call that could be changed so.
pub fn tamper(history: &History, tampering: Tampering) -> Option<History> {
    (0..KEYS).find_map(|key| {
        let whole = history_of(history, key);
        let calls: Vec<&Call> = whole.calls().iter().collect();
        let (at, outcome) = lie(&calls, tampering)?;
        Some(rebuilt(history, key, &calls, Some((at, &outcome))))
    })
}

/// The calls of one key, but for reads that had no answer: those change nothing, and only take a checker's time.
pub(super) fn history_of(history: &History, key: KeyId) -> History {
    let matters = |call: &&Call| {
        let is_read = matches!(call.verb, Verb::Get | Verb::Lookup | Verb::Match);
        call.key == key && (call.end.is_some() || !is_read)
    };
    let calls: Vec<&Call> = history.calls().iter().filter(matters).collect();
    rebuilt(history, key, &calls, None)
}

/// Which call, and what it says instead.
fn lie(calls: &[&Call], tampering: Tampering) -> Option<(usize, Outcome)> {
    let last = |is_it: &dyn Fn(&Call) -> bool| calls.iter().rposition(|call| is_it(call));
    let is_hit = |call: &Call| matches!(call.outcome, Outcome::Hit(_));
    match tampering {
        Tampering::TornBytes => Some((last(&is_hit)?, Outcome::Garbage("torn".into()))),
        Tampering::UnknownValue => Some((last(&is_hit)?, Outcome::Hit(u64::MAX))),
        Tampering::StaleValue => {
            ended_by(calls, &|call| matches!((call.verb, &call.outcome), (Verb::Upsert(_), Outcome::Stored)))
        }
        Tampering::RemovedValue => ended_by(calls, &|call| call.outcome == Outcome::Removed),
        Tampering::UntrueReason => {
            let at = last(&|call: &Call| matches!(call.outcome, Outcome::Miss(_)))?;
            Some((at, Outcome::Miss(MissReason::Corrupt)))
        }
        Tampering::WrongLength => {
            let at = last(&|call: &Call| {
                call.verb == Verb::Lookup && matches!(call.outcome, Outcome::HitBytes(_))
            })?;
            Some((at, Outcome::HitBytes(1)))
        }
    }
}

/// A get that began after a change had ended, which began after a write had; the get now returns what was written.
fn ended_by(calls: &[&Call], is_change: &dyn Fn(&Call) -> bool) -> Option<(usize, Outcome)> {
    let get = calls.iter().rposition(|call| call.verb == Verb::Get && call.end.is_some())?;
    let is_over = |call: &Call, before: &Call| {
        call.end.is_some_and(|end| end.order < before.start.order) && !call.asked_again
    };
    let change = calls.iter().rfind(|call| is_change(call) && is_over(call, calls[get]))?;
    let written = |call: &Call| match (call.verb, &call.outcome) {
        (Verb::Put(generation) | Verb::Upsert(generation), Outcome::Stored) => Some(generation),
        _ => None,
    };
    let write = calls.iter().rfind(|call| written(call).is_some() && is_over(call, change))?;
    Some((get, Outcome::Hit(written(write)?)))
}

/// These calls at the same points, with the same facts; one outcome may be another.
fn rebuilt(history: &History, key: KeyId, calls: &[&Call], lie: Option<(usize, &Outcome)>) -> History {
    enum Point {
        Begin(usize),
        End(usize),
    }
    let mut points = BTreeMap::new();
    for (number, call) in calls.iter().enumerate() {
        points.insert(call.start.order, Point::Begin(number));
        points.extend(call.end.map(|end| (end.order, Point::End(number))));
    }
    let last = points.keys().next_back().copied().unwrap_or(0);
    let mut fresh = History::new();
    let mut begun: Vec<Option<CallId>> = vec![None; calls.len()];
    for order in 1..=last {
        match points.get(&order) {
            None => {
                fresh.stamp(snowskin_io::Moment::default());
            }
            Some(&Point::Begin(number)) => {
                let Call { client, key, verb, start, .. } = *calls[number];
                begun[number] = Some(fresh.begin(client, key, verb, start.at));
            }
            Some(&Point::End(number)) => {
                let Call { end, asked_again, outcome: said, .. } = calls[number];
                let said = lie.filter(|(at, _)| *at == number).map_or(said, |(_, outcome)| outcome);
                let (id, end) = (begun[number].expect("it has begun"), end.expect("it has ended"));
                fresh.end(id, said.clone(), *asked_again, end.at);
            }
        }
    }
    let concerns = |fact: &&Fact| !matches!(fact, Fact::Evicted { key: other, .. } if *other != key);
    history.facts().iter().filter(concerns).for_each(|fact| fresh.note(fact.clone()));
    fresh
}
