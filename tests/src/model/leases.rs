//! What a read or a lookup has leased stays until the lease ends, and nobody is told of a lease that nobody has.

use super::checker::Violation;
use super::history::{Call, Fact, Generation, History, KeyId, Outcome, Verb};
use snowskin_io::Moment;
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
    let leases = Leases { history, lease, bytes_of };
    leases.check_evictions()?;
    history.calls().iter().try_for_each(|call| leases.check_removal(call))
}

struct Leases<'a> {
    history: &'a History,
    lease: Duration,
    bytes_of: &'a dyn Fn(KeyId, Generation) -> u64,
}

impl Leases<'_> {
    /// The generation that a call is known to have leased.
    fn leased(&self, call: &Call) -> Option<Generation> {
        match call.outcome {
            Outcome::Hit(generation) => Some(generation),
            _ => None,
        }
    }

    /// Until when it is leased at least: the lease was granted after the call began.
    fn until(&self, call: &Call) -> Moment {
        Moment((call.start.at + self.lease).0.saturating_sub(ROUNDING.as_nanos() as u64))
    }

    fn check_evictions(&self) -> Result<(), Box<Violation>> {
        for fact in self.history.facts() {
            let Fact::Evicted { key, value_bytes: Some(bytes), after, before } = fact else { continue };
            let protects = |call: &&Call| {
                call.key == *key
                    && self.leased(call).is_some_and(|generation| (self.bytes_of)(*key, generation) == *bytes)
                    && call.end.is_some_and(|end| end.order < after.order)
                    && self.until(call) > before.at
            };
            // Another generation of this length may have been the one that was evicted.
            let is_alone = |generation: Generation| {
                let mut writes = self.history.calls().iter().filter(|call| call.key == *key);
                !writes.any(|call| match call.verb {
                    Verb::Put(other) | Verb::Upsert(other) => {
                        other != generation && (self.bytes_of)(*key, other) == *bytes
                    }
                    _ => false,
                })
            };
            if let Some(call) = self.history.calls().iter().find(protects)
                && self.leased(call).is_some_and(is_alone)
            {
                return self.refuse(call, format!("its bytes were evicted under its lease: {fact:?}"));
            }
        }
        Ok(())
    }

    fn check_removal(&self, removal: &Call) -> Result<(), Box<Violation>> {
        let (Verb::Remove { force: false }, Some(end)) = (removal.verb, removal.end) else { return Ok(()) };
        let same_key = || self.history.calls().iter().filter(|call| call.key == removal.key);
        match removal.outcome {
            Outcome::Leased => {
                let may_lease = |call: &Call| {
                    let reads = matches!(call.verb, Verb::Get | Verb::Lookup | Verb::Match);
                    let last = call.end.filter(|_| call.outcome != Outcome::Unknown);
                    let granted = last.map_or(Moment::NEVER, |end| end.at + self.lease);
                    reads && call.start.order < end.order && granted >= removal.start.at
                };
                if !same_key().any(may_lease) {
                    return self.refuse(removal, "nobody can have a lease on it".into());
                }
            }
            Outcome::Removed if !removal.asked_again => {
                let is_leased = |read: &&Call| {
                    self.leased(read).is_some()
                        && read.end.is_some_and(|read_end| read_end.order < removal.start.order)
                        && self.until(read) > end.at
                };
                // Only when nothing else can have put another value there since.
                let changes_since = |read: &Call| {
                    same_key().any(|call| {
                        let changes = !matches!(call.verb, Verb::Get | Verb::Lookup | Verb::Match);
                        let ended = call.end.filter(|_| call.outcome != Outcome::Unknown);
                        changes
                            && !std::ptr::eq(call, removal)
                            && call.start.order < end.order
                            && ended.is_none_or(|ended| ended.order > read.start.order)
                    })
                };
                if let Some(read) = same_key().find(is_leased).filter(|read| !changes_since(read)) {
                    return self
                        .refuse(removal, format!("it was removed without force under the lease of {read}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn refuse(&self, call: &Call, rule: String) -> Result<(), Box<Violation>> {
        let before = self.history.calls().iter().filter(|other| other.key == call.key).cloned().collect();
        Err(Box::new(Violation { rule, call: call.clone(), before, facts: Vec::new() }))
    }
}
