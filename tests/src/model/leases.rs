//! What a read or a lookup has leased stays until the lease ends, and nobody is told of a lease that nobody has.
//!
//! Only what is sure is refused: a lease says nothing any more once the value may have been superseded or removed with
//! force, or another put in its place after a loss, nor when a core was lost, nor in a split.

use super::checker::Violation;
use super::history::{Call, Fact, Generation, History, KeyId, Outcome, Verb};
use snowskin_io::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// Leases travel between cores in whole milliseconds, rounded down, once a move.
const ROUNDING: Duration = Duration::from_millis(20);

/// Checks the leases of a history in which no clock has jumped (else it says nothing).
pub fn check_leases(
    history: &History,
    lease: Duration,
    bytes_of: &dyn Fn(KeyId, Generation) -> u64,
) -> Result<(), Box<Violation>> {
    if history.facts().iter().any(|fact| matches!(fact, Fact::ClockJumped)) {
        return Ok(());
    }
    let mut by_key: BTreeMap<KeyId, Vec<&Call>> = BTreeMap::new();
    for call in history.calls() {
        by_key.entry(call.key).or_default().push(call);
    }
    by_key.into_iter().try_for_each(|(key, calls)| {
        let leases = Leases { key, calls, facts: history.facts(), lease, bytes_of };
        leases.check_evictions()?;
        leases.check_misses()?;
        leases.calls.iter().try_for_each(|call| leases.check_removal(call))
    })
}

/// The leases on one key.
struct Leases<'a> {
    key: KeyId,
    calls: Vec<&'a Call>,
    facts: &'a [Fact],
    lease: Duration,
    bytes_of: &'a dyn Fn(KeyId, Generation) -> u64,
}

impl Leases<'_> {
    fn check_evictions(&self) -> Result<(), Box<Violation>> {
        for fact in self.facts {
            let Fact::Evicted { key, value_bytes: Some(bytes), after, before } = fact else { continue };
            // Of several generations of this length, another than the leased one may have been evicted.
            let are_alike = |verb: Verb| match verb {
                Verb::Put(generation) | Verb::Upsert(generation) => {
                    (self.bytes_of)(self.key, generation) == *bytes
                }
                _ => false,
            };
            if *key != self.key || self.calls.iter().filter(|call| are_alike(call.verb)).count() != 1 {
                continue;
            }
            let protects = |call: &&&Call| {
                self.leased_bytes(call) == Some(*bytes)
                    && call.end.is_some_and(|end| end.order < after.order)
                    && self.until(call) > before.at
                    && self.is_kept(call, before.order)
            };
            if let Some(call) = self.calls.iter().find(protects) {
                return self.refuse(call, format!("its bytes were evicted under its lease: {fact:?}"));
            }
        }
        Ok(())
    }

    /// Whoever took it away: a sweep does not say of which keys it did.
    fn check_misses(&self) -> Result<(), Box<Violation>> {
        for miss in &self.calls {
            let (Outcome::Miss(_) | Outcome::MissUntold | Outcome::Missing(_), Some(end)) =
                (&miss.outcome, miss.end)
            else {
                continue;
            };
            // A value may go long after the loss that is the reason.
            let may_be_lost = |read: &Call| {
                let written = self.calls.iter().find(|call| match (call.verb, &read.outcome) {
                    (Verb::Put(written) | Verb::Upsert(written), Outcome::Hit(hit)) => written == *hit,
                    _ => false,
                });
                let since = written.map_or(0, |write| write.start.order);
                self.facts.iter().any(|fact| match fact {
                    Fact::Evicted { key, before: to, .. } if *key == self.key => to.order > since,
                    Fact::CoreLost { until: to, .. } => to.order > since,
                    _ => false,
                })
            };
            let is_leased = |read: &&&Call| {
                self.is_leased_over(read, miss) && self.is_kept(read, end.order) && !may_be_lost(read)
            };
            if let Some(read) = self.calls.iter().find(is_leased) {
                return self.refuse(miss, format!("it has gone without force under the lease of {read}"));
            }
        }
        Ok(())
    }

    fn check_removal(&self, removal: &Call) -> Result<(), Box<Violation>> {
        let (Verb::Remove { force }, Some(end)) = (removal.verb, removal.end) else { return Ok(()) };
        match removal.outcome {
            Outcome::Leased if force => self.refuse(removal, "no lease stops a removal with force".into()),
            Outcome::Leased => {
                let may_lease = |call: &&Call| {
                    let reads = matches!(call.verb, Verb::Get | Verb::Lookup | Verb::Match);
                    let last = call.end.filter(|_| call.outcome != Outcome::Unknown);
                    let granted = last.map_or(Moment::NEVER, |end| end.at + self.lease);
                    reads && call.start.order < end.order && granted >= removal.start.at
                };
                if self.calls.iter().any(may_lease) || self.is_split(removal.start.order, end.order) {
                    return Ok(());
                }
                self.refuse(removal, "nobody can have a lease on it".into())
            }
            Outcome::Removed if !force && !removal.asked_again => {
                let is_leased =
                    |read: &&&Call| self.is_leased_over(read, removal) && self.is_kept(read, end.order);
                let Some(read) = self.calls.iter().find(is_leased) else { return Ok(()) };
                self.refuse(removal, format!("it was removed without force under the lease of {read}"))
            }
            _ => Ok(()),
        }
    }

    // -- what is known of a lease --

    /// How many bytes a call is known to have leased.
    fn leased_bytes(&self, call: &Call) -> Option<u64> {
        match (call.verb, &call.outcome) {
            (_, Outcome::Hit(generation)) => Some((self.bytes_of)(self.key, *generation)),
            (Verb::Lookup, Outcome::HitBytes(bytes)) => Some(*bytes),
            _ => None,
        }
    }

    /// Until when it is leased at least: the lease was granted after the call began.
    fn until(&self, call: &Call) -> Moment {
        Moment((call.start.at + self.lease).0.saturating_sub(ROUNDING.as_nanos() as u64))
    }

    /// Whether a read's lease began before another call, and ended after it.
    fn is_leased_over(&self, read: &Call, other: &Call) -> bool {
        self.leased_bytes(read).is_some()
            && read.end.is_some_and(|end| end.order < other.start.order)
            && other.end.is_some_and(|end| self.until(read) > end.at)
    }

    /// Whether nothing but the lease has decided on what was read, from then on to this point.
    fn is_kept(&self, read: &Call, to: u64) -> bool {
        let from = read.start.order;
        let may_change = |call: &Call| {
            let may_do = match (call.verb, &call.outcome) {
                // A put does so only where the value has gone.
                (Verb::Put(_), Outcome::Existed) | (Verb::Remove { .. }, Outcome::Missing(_)) => {
                    call.asked_again
                }
                (Verb::Put(_) | Verb::Upsert(_), _) => true,
                (Verb::Remove { force } | Verb::Sweep { force }, _) => force,
                _ => false,
            };
            may_do && call.start.order < to && self.effects_end(call) > from
        };
        // A life that has its objects from an earlier one knows nothing of the leases on them.
        let is_forgotten = |fact: &Fact| matches!(fact, Fact::CoreLost { after, until } if after.order < to && until.order > from);
        let is_changed = self.calls.iter().any(|call| may_change(call));
        !is_changed && !self.is_split(from, to) && !self.facts.iter().any(is_forgotten)
    }

    fn is_split(&self, first: u64, last: u64) -> bool {
        self.facts.iter().any(|fact| match fact {
            Fact::Split { keys, from, to } => {
                keys.contains(&self.key) && from.order < last && to.order > first
            }
            _ => false,
        })
    }

    /// After this point a call has no effect any more.
    fn effects_end(&self, call: &Call) -> u64 {
        let end = call.end.map(|end| end.order);
        if call.outcome != Outcome::Unknown {
            return end.unwrap_or(u64::MAX);
        }
        let rests = self.facts.iter().filter_map(|fact| match fact {
            Fact::Rest { at } => Some(at.order).filter(|at| *at > end.unwrap_or(call.start.order)),
            _ => None,
        });
        rests.min().unwrap_or(u64::MAX)
    }

    fn refuse(&self, call: &Call, rule: String) -> Result<(), Box<Violation>> {
        let before = self.calls.iter().map(|&other| other.clone()).collect();
        Err(Box::new(Violation { rule, call: call.clone(), before, facts: Vec::new() }))
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
