//! Follows every state that a key may be in, and says no when none is left. The rules are the page in [`super`].

use super::history::{Call, Fact, Generation, History, KeyId, Outcome, Stamp, Verb};
use super::possible::{Possibility, Possible, State};
use snowskin_protocol::MissReason;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Calls with an answer that may be open on one key at the same time.
const OPEN_MAX: usize = 64;
/// Calls that change a key and are followed exactly while they are open at the same time. Of more, it is only assumed that
/// they may have an effect or not: the possibilities double with each.
const CHANGES_FOLLOWED_MAX: u32 = 7;
/// Stands for any of the generations of upserts that may take effect at any time: after one of them, another may follow,
/// so there is nothing to be gained by telling them apart. (A put does not follow on another; so puts are told apart.)
const ANY: Generation = 0;
/// Puts that may take effect at any time and are told apart; more are too many possibilities.
const LOOSE_PUTS_FOLLOWED_MAX: usize = 6;
/// Calls that a violation shows before the one that broke the rules.
const CALLS_SHOWN: usize = 24;

/// A history that no store with our promises has.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which rule was broken, in a sentence.
    pub rule: String,
    /// The call that shows it.
    pub call: Call,
    /// The calls on the same key before it.
    pub before: Vec<Call>,
    /// The key's facts.
    pub facts: Vec<Fact>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.rule)?;
        writeln!(f, "  {}", self.call)?;
        writeln!(f, "calls on this key before:")?;
        for call in &self.before {
            writeln!(f, "  {call}")?;
        }
        writeln!(f, "facts since then:")?;
        let first = self.before.first().unwrap_or(&self.call).start.order;
        for fact in &self.facts {
            match fact {
                Fact::Evicted { value_bytes, after, before, .. } if before.order > first => {
                    let bytes = value_bytes.unwrap_or(0);
                    writeln!(f, "  [{:>6} … {:>6}] {bytes} bytes were evicted", after.order, before.order)?;
                }
                Fact::CoreLost { after, until } if until.order > first => {
                    writeln!(f, "  [{:>6} … {:>6}] a core was lost", after.order, until.order)?;
                }
                Fact::Split { from, to, .. } if to.order > first => {
                    writeln!(f, "  [{:>6} … {:>6}] its slot was split", from.order, to.order)?;
                }
                Fact::Rest { at } => writeln!(f, "  [{:>6}] the cluster is at rest", at.order)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Checks a history, key by key. `bytes_of` says how long each generation's value is.
pub fn check(history: &History, bytes_of: &dyn Fn(KeyId, Generation) -> u64) -> Result<(), Box<Violation>> {
    let mut by_key: BTreeMap<KeyId, Vec<&Call>> = BTreeMap::new();
    for call in history.calls() {
        by_key.entry(call.key).or_default().push(call);
    }
    for (key, calls) in by_key {
        Follower::new(key, calls, history.facts(), bytes_of).follow()?;
    }
    Ok(())
}

/// Something that happens to a key, in the order of stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    Begin(usize),
    End(usize),
    SplitBegins,
    SplitEnds,
    Rest,
}

struct Follower<'a> {
    calls: Vec<&'a Call>,
    facts: Vec<&'a Fact>,
    bytes_of: Box<dyn Fn(Generation) -> u64 + 'a>,
    possible: Possible,
    /// Calls that have begun and will have an answer; the place is the bit.
    open: [Option<usize>; OPEN_MAX],
    /// Calls that may have further effects: without an answer, asked again, or within a split.
    loose: BTreeSet<usize>,
    /// There have been so many loose puts that [`ANY`] stands for theirs as well.
    merges_puts: bool,
    /// Calls that overlap a split, and whether their answer may be from before it.
    excused: BTreeMap<usize, bool>,
    /// Changes that began while many others were open.
    crowded: BTreeSet<usize>,
    written: BTreeMap<Generation, Stamp>,
    splits: usize,
    /// Generations that may be seen in the split and after it.
    split_generations: BTreeSet<Generation>,
}

impl<'a> Follower<'a> {
    fn new(
        key: KeyId,
        calls: Vec<&'a Call>,
        facts: &'a [Fact],
        bytes_of: &'a dyn Fn(KeyId, Generation) -> u64,
    ) -> Self {
        let concerns = |fact: &&Fact| match fact {
            Fact::Evicted { key: evicted, .. } => *evicted == key,
            Fact::Split { keys, .. } => keys.contains(&key),
            Fact::CoreLost { .. } | Fact::ClockJumped | Fact::Rest { .. } => true,
        };
        let mut possible = Possible::default();
        possible.add((State::Absent, 0), 0);
        Follower {
            calls,
            facts: facts.iter().filter(concerns).collect(),
            bytes_of: Box::new(move |generation| bytes_of(key, generation)),
            possible,
            open: [None; OPEN_MAX],
            loose: BTreeSet::new(),
            merges_puts: false,
            excused: BTreeMap::new(),
            crowded: BTreeSet::new(),
            written: BTreeMap::new(),
            splits: 0,
            split_generations: BTreeSet::new(),
        }
    }

    fn follow(mut self) -> Result<(), Box<Violation>> {
        for (order, point) in self.points() {
            match point {
                Point::Begin(index) => self.begin(index),
                Point::End(index) => self.end(index)?,
                Point::SplitBegins => self.begin_split(order),
                Point::SplitEnds => self.end_split()?,
                Point::Rest => {
                    self.close_over(order);
                    let calls = &self.calls;
                    let is_over = |index: &usize| calls[*index].end.is_none_or(|end| end.order <= order);
                    let over: Vec<usize> = self.loose.iter().copied().filter(is_over).collect();
                    over.into_iter().for_each(|index| self.fasten(index));
                }
            }
        }
        Ok(())
    }

    fn points(&self) -> Vec<(u64, Point)> {
        let mut points = Vec::new();
        for (index, call) in self.calls.iter().enumerate() {
            points.push((call.start.order, Point::Begin(index)));
            points.extend(call.end.map(|end| (end.order, Point::End(index))));
        }
        for fact in &self.facts {
            match fact {
                Fact::Split { from, to, .. } => {
                    points.push((from.order, Point::SplitBegins));
                    points.push((to.order, Point::SplitEnds));
                }
                Fact::Rest { at } => points.push((at.order, Point::Rest)),
                _ => {}
            }
        }
        points.sort_unstable();
        points
    }

    // -- points --

    fn begin(&mut self, index: usize) {
        let call = self.calls[index];
        if let Some(generation) = written_by(call.verb) {
            self.written.insert(generation, call.start);
            if self.splits > 0 {
                self.split_generations.insert(generation);
            }
        }
        // A sweep that spares what is leased may spare anything.
        let is_answered = call.end.is_some()
            && call.outcome != Outcome::Unknown
            && call.verb != Verb::Sweep { force: false };
        let is_crowded = is_change(call) && self.changes().count_ones() >= CHANGES_FOLLOWED_MAX;
        if is_crowded && is_answered && self.splits == 0 {
            self.crowded.insert(index);
        } else if self.splits > 0 && is_answered {
            self.excused.insert(index, false);
        } else if is_answered {
            let place =
                self.open.iter().position(Option::is_none).expect("not so many calls are open at once");
            self.open[place] = Some(index);
        }
        // A sweep goes from core to core, and begins again when slots have moved meanwhile.
        let is_sweep = matches!(call.verb, Verb::Sweep { .. });
        if !is_answered || is_sweep || is_crowded || call.asked_again || self.splits > 0 {
            self.loosen(index);
        }
    }

    fn end(&mut self, index: usize) -> Result<(), Box<Violation>> {
        let call = self.calls[index];
        if call.outcome == Outcome::Unknown {
            return Ok(());
        }
        let order = call.end.map_or(0, |end| end.order);
        self.close_over(order);
        self.check_always(index)?;
        self.fasten(index);
        if let Some(is_from_before) = self.excused.remove(&index) {
            return if is_from_before { Ok(()) } else { self.check_in_split(index) };
        }
        if call.verb == (Verb::Sweep { force: false }) || self.crowded.remove(&index) {
            return Ok(());
        }
        let place = self.open.iter().position(|open| *open == Some(index)).expect("it has begun");
        self.open[place] = None;
        let bit = 1 << place;
        let before = std::mem::take(&mut self.possible);
        let changes = self.changes();
        for (state, had) in before.iter().filter(|(_, had)| had & bit != 0) {
            self.possible.add((state, had & !bit), changes);
        }
        if self.possible.is_empty() {
            let states: BTreeSet<State> = before.states().collect();
            return self.refuse(index, format!("no legal order explains it: the key can only be {states:?}"));
        }
        Ok(())
    }

    /// The bits of open calls that change the key.
    fn changes(&self) -> u64 {
        let is_one = |open: &Option<usize>| open.is_some_and(|index| is_change(self.calls[index]));
        self.open
            .iter()
            .enumerate()
            .filter(|(_, open)| is_one(open))
            .fold(0, |bits, (place, _)| bits | 1 << place)
    }

    /// A loose call can have no further effects.
    fn fasten(&mut self, index: usize) {
        let is_any = self.loose.contains(&index).then(|| self.any_of(index)).flatten();
        self.loose.remove(&index);
        let Some(generation) = is_any else { return };
        let changes = self.changes();
        for (state, had) in self.possible.clone().iter() {
            let now = match state {
                State::Held(ANY) => State::Held(generation),
                State::Hollow(ANY) => State::Hollow(generation),
                _ => continue,
            };
            self.possible.add((now, had), changes);
        }
        if self.loose_any().next().is_none() {
            self.possible.retain_states(|state| !matches!(state, State::Held(ANY) | State::Hollow(ANY)));
        }
    }

    /// The generations that [`ANY`] stands for.
    fn loose_any(&self) -> impl Iterator<Item = Generation> + '_ {
        self.loose.iter().filter_map(|&index| self.any_of(index))
    }

    /// The generation of a loose call, if [`ANY`] stands for it.
    fn any_of(&self, index: usize) -> Option<Generation> {
        match self.calls[index].verb {
            Verb::Upsert(generation) => Some(generation),
            Verb::Put(generation) if self.merges_puts => Some(generation),
            _ => None,
        }
    }

    fn loosen(&mut self, index: usize) {
        self.loose.insert(index);
        let is_put = |index: &&usize| matches!(self.calls[**index].verb, Verb::Put(_));
        self.merges_puts |= self.loose.iter().filter(is_put).count() > LOOSE_PUTS_FOLLOWED_MAX;
    }

    /// Whether a state's generation may be this one.
    fn may_be(&self, generation: Generation, is_it: impl Fn(Generation) -> bool) -> bool {
        match generation {
            ANY => self.loose_any().any(is_it),
            generation => is_it(generation),
        }
    }

    fn begin_split(&mut self, order: u64) {
        self.close_over(order);
        if self.splits == 0 {
            // Those of an earlier split.
            self.excused.values_mut().for_each(|is_from_before| *is_from_before = true);
        }
        self.splits += 1;
        for state in self.possible.states() {
            if let State::Held(generation) | State::Hollow(generation) = state {
                self.split_generations.insert(generation);
            }
        }
        // What is open may have its effect in the split.
        for (place, open) in self.open.iter_mut().enumerate() {
            if let Some(index) = open.take() {
                let is_from_before = self.possible.iter().any(|(_, had)| had & 1 << place != 0);
                self.excused.insert(index, is_from_before);
                self.loose.insert(index);
            }
        }
        let loose = self.loose.iter().filter_map(|&index| written_by(self.calls[index].verb));
        self.split_generations.extend(loose);
        self.split_generations.remove(&ANY);
        for state in std::mem::take(&mut self.possible).states() {
            self.possible.add((state, 0), 0);
        }
    }

    fn end_split(&mut self) -> Result<(), Box<Violation>> {
        if self.splits > 1 {
            self.splits -= 1;
            return Ok(());
        }
        // What was superseded does not come back after the split either; what is not written yet is another matter.
        for (&index, _) in self.excused.iter().filter(|(_, is_from_before)| !**is_from_before) {
            match self.calls[index].outcome {
                Outcome::Hit(generation) if self.written.contains_key(&generation) => {
                    self.check_in_split(index)?
                }
                _ => {}
            }
        }
        self.splits = 0;
        self.possible = Possible::default();
        self.possible.add((State::Absent, 0), 0);
        for generation in std::mem::take(&mut self.split_generations) {
            self.possible.add((State::Held(generation), 0), 0);
            self.possible.add((State::Hollow(generation), 0), 0);
        }
        Ok(())
    }

    // -- what may have happened --

    /// Adds everything that open calls and losses may have led to up to now.
    fn close_over(&mut self, now: u64) {
        if self.splits > 0 {
            return;
        }
        let changes = self.changes();
        let mut fresh: Vec<Possibility> = Vec::new();
        for possibility in std::mem::take(&mut self.possible).iter() {
            let possibility = self.settled(possibility);
            self.possible.add(possibility, changes);
            fresh.push(possibility);
        }
        while let Some((state, had)) = fresh.pop() {
            let mut reached: Vec<Possibility> = Vec::new();
            for (place, index) in self.open.iter().enumerate() {
                let bit = 1 << place;
                if let Some(index) = index
                    && had & bit == 0
                    && let Some(after) = self.effect(self.calls[*index], state)
                {
                    reached.push((after, had | bit));
                }
            }
            let loose: BTreeSet<State> = self
                .loose
                .iter()
                .filter_map(|&index| loose_effect(self.calls[index].verb, state, self.merges_puts))
                .collect();
            reached.extend(loose.into_iter().map(|state| (state, had)));
            match state {
                State::Held(generation) if self.may_be(generation, |one| self.may_be_lost(one, now)) => {
                    reached.push((State::Hollow(generation), had));
                }
                State::Hollow(_) => reached.push((State::Absent, had)),
                _ => {}
            }
            for possibility in reached {
                let possibility = self.settled(possibility);
                if self.possible.add(possibility, changes) {
                    fresh.push(possibility);
                }
            }
        }
    }

    /// The same, with every effect had that never changes anything: to have it at once is never worse than later.
    fn settled(&self, (state, mut had): Possibility) -> Possibility {
        for (place, index) in self.open.iter().enumerate() {
            if let Some(call) = index.map(|index| self.calls[index])
                && !is_change(call)
                && self.effect(call, state) == Some(state)
            {
                had |= 1 << place;
            }
        }
        (state, had)
    }

    /// The state after the effect that a call's answer speaks of, if it can have it.
    fn effect(&self, call: &Call, state: State) -> Option<State> {
        let is_there = state != State::Absent;
        let held = match state {
            State::Held(generation) => Some(generation),
            _ => None,
        };
        let unchanged_if = |condition: bool| condition.then_some(state);
        match (call.verb, &call.outcome) {
            (Verb::Put(generation), Outcome::Stored) => (!is_there).then_some(State::Held(generation)),
            (Verb::Put(_), Outcome::Existed) => unchanged_if(is_there),
            (Verb::Upsert(generation), Outcome::Stored) => Some(State::Held(generation)),
            (_, Outcome::Hit(hit)) => {
                unchanged_if(held.is_some_and(|held| self.may_be(held, |generation| generation == *hit)))
            }
            (Verb::Match, Outcome::HitBytes(_)) => unchanged_if(held.is_some()),
            (_, Outcome::HitBytes(bytes)) => {
                let is_it = |generation| (self.bytes_of)(generation) == *bytes;
                unchanged_if(held.is_some_and(|held| self.may_be(held, is_it)))
            }
            (_, Outcome::Miss(_) | Outcome::MissUntold) => unchanged_if(held.is_none()),
            (_, Outcome::Removed) => is_there.then_some(State::Absent),
            (_, Outcome::Missing(_)) => unchanged_if(!is_there),
            (_, Outcome::Leased) => unchanged_if(is_there),
            (Verb::Sweep { force: true }, Outcome::Swept) => Some(State::Absent),
            _ => None,
        }
    }

    fn may_be_lost(&self, generation: Generation, now: u64) -> bool {
        let Some(written) = self.written.get(&generation) else { return false };
        self.facts.iter().any(|fact| match fact {
            Fact::Evicted { value_bytes, after, before, .. } => {
                after.order <= now
                    && before.order > written.order
                    && value_bytes.is_none_or(|bytes| bytes == (self.bytes_of)(generation))
            }
            // `after` is the last look before; the loss itself was later.
            Fact::CoreLost { after, until } => after.order <= now && until.order > written.order,
            _ => false,
        })
    }

    // -- what always holds --

    fn check_always(&self, index: usize) -> Result<(), Box<Violation>> {
        let call = self.calls[index];
        let now = call.end.map_or(0, |end| end.order);
        match &call.outcome {
            Outcome::Garbage(what) => {
                self.refuse(index, format!("these bytes are no value of this key: {what}"))
            }
            Outcome::Hit(generation) if !self.written.contains_key(generation) => {
                self.refuse(index, format!("nobody has begun to write generation {generation}"))
            }
            Outcome::Miss(reason) | Outcome::Missing(reason) if !self.is_true(*reason, now) => {
                self.refuse(index, format!("{reason:?} is not the reason: nothing of the kind has happened"))
            }
            _ => Ok(()),
        }
    }

    fn is_true(&self, reason: MissReason, now: u64) -> bool {
        let has = |is_it: &dyn Fn(&Fact) -> bool| self.facts.iter().any(|fact| is_it(fact));
        match reason {
            MissReason::NotHeld => true,
            MissReason::Evicted => {
                has(&|fact| matches!(fact, Fact::Evicted { after, .. } if after.order <= now))
            }
            MissReason::OwnerLost => {
                has(&|fact| matches!(fact, Fact::CoreLost { after, .. } if after.order <= now))
            }
            MissReason::Removed => self.calls.iter().any(|call| {
                let removes = matches!(call.verb, Verb::Remove { .. } | Verb::Sweep { .. });
                let has_not =
                    matches!(call.outcome, Outcome::Missing(_) | Outcome::Leased) && !call.asked_again;
                removes && !has_not && call.start.order < now
            }),
            MissReason::Corrupt => false,
        }
    }

    fn check_in_split(&self, index: usize) -> Result<(), Box<Violation>> {
        let call = self.calls[index];
        let may_be = |is_it: &dyn Fn(Generation) -> bool| {
            self.splits == 0 || self.split_generations.iter().any(|generation| is_it(*generation))
        };
        let is_explained = match (call.verb, &call.outcome) {
            (_, Outcome::Hit(hit)) => may_be(&|generation| generation == *hit),
            (Verb::Lookup, Outcome::HitBytes(bytes)) => {
                may_be(&|generation| (self.bytes_of)(generation) == *bytes)
            }
            _ => true,
        };
        if is_explained {
            return Ok(());
        }
        self.refuse(index, "it was superseded before the split began".into())
    }

    fn refuse(&self, index: usize, rule: String) -> Result<(), Box<Violation>> {
        let call = self.calls[index];
        let end = call.end.map_or(u64::MAX, |end| end.order);
        let mut before: Vec<&Call> = self
            .calls
            .iter()
            .filter(|other| other.start.order < end && !std::ptr::eq(**other, call))
            .copied()
            .collect();
        before.drain(..before.len().saturating_sub(CALLS_SHOWN));
        Err(Box::new(Violation {
            rule,
            call: call.clone(),
            before: before.into_iter().cloned().collect(),
            facts: self.facts.iter().map(|&fact| fact.clone()).collect(),
        }))
    }
}

/// Whether a call has changed the key.
fn is_change(call: &Call) -> bool {
    matches!(call.outcome, Outcome::Stored | Outcome::Removed | Outcome::Swept)
}

/// The generation that a call writes.
fn written_by(verb: Verb) -> Option<Generation> {
    match verb {
        Verb::Put(generation) | Verb::Upsert(generation) => Some(generation),
        _ => None,
    }
}

/// What a call may do besides, or if nobody knows whether it has done anything.
fn loose_effect(verb: Verb, state: State, merges_puts: bool) -> Option<State> {
    match (verb, state) {
        (Verb::Put(_), State::Absent) if merges_puts => Some(State::Held(ANY)),
        (Verb::Put(generation), State::Absent) => Some(State::Held(generation)),
        (Verb::Upsert(_), _) => Some(State::Held(ANY)),
        (Verb::Remove { .. } | Verb::Sweep { .. }, _) => Some(State::Absent),
        _ => None,
    }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
