//! Random histories: those of a reference store are legal; those of a store that errs, and arbitrary ones, are legal
//! exactly if an independent search through all orders finds one that explains them.

use super::super::super::history::{CallId, Fact, Generation, History, KeyId, Outcome, Stamp, Verb};
use super::check;
use quickcheck::{QuickCheck, TestResult};
use snowskin_io::Moment;
use snowskin_protocol::MissReason;
use std::collections::HashSet;

const NOW: Moment = Moment(0);

/// Two lengths, so that generations share them.
fn bytes_of(_: KeyId, generation: Generation) -> u64 {
    10 + generation % 2
}

/// Sebastiano Vigna's splitmix64: a seed is all that a history needs.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// The state of the one key, as the oracle and the reference store see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Cell {
    Absent,
    Held(Generation),
    Hollow(Generation),
}

// -- the oracle: every order, one after the other --

struct Oracle<'a> {
    history: &'a History,
    ends: u64,
    seen: HashSet<(u64, Cell, u64)>,
}

/// Whether any order of effects explains a history of one key without splits.
fn is_explained(history: &History) -> bool {
    let ends = history.clone().stamp(NOW).order;
    Oracle { history, ends, seen: HashSet::new() }.search(1, Cell::Absent, 0)
}

impl Oracle<'_> {
    /// From a cell between points `now - 1` and `now`, with the answers given of the calls in `done`.
    fn search(&mut self, now: u64, cell: Cell, done: u64) -> bool {
        if !self.seen.insert((now, cell, done)) {
            return false;
        }
        if now > self.ends {
            return true;
        }
        for (index, call) in self.history.calls().iter().enumerate() {
            let end = call.end.map_or(u64::MAX, |end| end.order);
            let is_unknown = call.outcome == Outcome::Unknown;
            let rest = self.history.facts().iter().filter_map(|fact| match fact {
                Fact::Rest { at } if at.order > call.start.order && (end == u64::MAX || end <= at.order) => {
                    Some(at.order)
                }
                _ => None,
            });
            let last = if is_unknown { rest.min().unwrap_or(u64::MAX) } else { end };
            if now <= call.start.order || now > last {
                continue;
            }
            if !is_unknown
                && done & 1 << index == 0
                && let Some(after) = answered(cell, call.verb, &call.outcome)
                && self.search(now, after, done | 1 << index)
            {
                return true;
            }
            let is_loose = is_unknown || call.asked_again || matches!(call.verb, Verb::Sweep { .. });
            if is_loose && self.search(now, changed(cell, call.verb), done) {
                return true;
            }
        }
        let lost = match cell {
            Cell::Held(generation) if self.may_go(generation, now) => Cell::Hollow(generation),
            Cell::Hollow(_) => Cell::Absent,
            _ => cell,
        };
        // Time passes, unless a call returns now whose answer nothing has explained.
        let mut ended = self.history.calls().iter().enumerate().filter(|(_, call)| {
            call.outcome != Outcome::Unknown && call.end.is_some_and(|end| end.order == now)
        });
        let may_pass = ended.all(|(index, _)| done & 1 << index != 0);
        self.search(now, lost, done) || (may_pass && self.search(now + 1, cell, done))
    }

    fn may_go(&self, generation: Generation, now: u64) -> bool {
        let writes = |verb| verb == Verb::Put(generation) || verb == Verb::Upsert(generation);
        let begun = self.history.calls().iter().find(|call| writes(call.verb)).unwrap().start.order;
        self.history.facts().iter().any(|fact| match fact {
            Fact::Evicted { value_bytes, after, before, .. } => {
                after.order < now
                    && before.order > begun
                    && value_bytes.is_none_or(|b| b == bytes_of(0, generation))
            }
            Fact::CoreLost { after, until } => after.order < now && until.order > begun,
            _ => false,
        })
    }
}

/// The table, read from left to right: the cell after a call with this answer, if it can have it.
fn answered(cell: Cell, verb: Verb, outcome: &Outcome) -> Option<Cell> {
    let is_sparing = verb == Verb::Sweep { force: false };
    let options = match (verb, cell) {
        (Verb::Get, Cell::Held(generation)) => vec![(Outcome::Hit(generation), cell)],
        (Verb::Lookup, Cell::Held(generation)) => vec![(Outcome::HitBytes(bytes_of(0, generation)), cell)],
        (Verb::Match, Cell::Held(_)) => vec![(Outcome::HitBytes(0), cell)],
        (Verb::Match, _) => vec![(Outcome::MissUntold, cell)],
        (Verb::Get | Verb::Lookup, _) => vec![(Outcome::Miss(MissReason::NotHeld), cell)],
        (Verb::Put(generation), Cell::Absent) => vec![(Outcome::Stored, Cell::Held(generation))],
        (Verb::Put(_), _) => vec![(Outcome::Existed, cell)],
        (Verb::Upsert(generation), _) => vec![(Outcome::Stored, Cell::Held(generation))],
        (Verb::Remove { .. }, Cell::Absent) => vec![(Outcome::Missing(MissReason::NotHeld), cell)],
        (Verb::Remove { .. }, _) => vec![(Outcome::Removed, Cell::Absent), (Outcome::Leased, cell)],
        // That it takes effect more often is the caller's business.
        (Verb::Sweep { .. }, _) => vec![(Outcome::Swept, if is_sparing { cell } else { Cell::Absent })],
    };
    options.into_iter().find(|(option, _)| option == outcome).map(|(_, cell)| cell)
}

/// The cell after the effect of a call of which nobody knows the answer.
fn changed(cell: Cell, verb: Verb) -> Cell {
    match (verb, cell) {
        (Verb::Put(generation), Cell::Absent) | (Verb::Upsert(generation), _) => Cell::Held(generation),
        (Verb::Remove { .. } | Verb::Sweep { .. }, _) => Cell::Absent,
        _ => cell,
    }
}

// -- the reference store --

/// How a store errs, now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Error {
    SkipsEffect,
    AnswersOfBefore,
    LosesWithoutFact,
    TakesBackOld,
    StoresOverHeld,
    LengthOfAnother,
    Dreams,
}

const ERRORS: [Error; 7] = [
    Error::SkipsEffect,
    Error::AnswersOfBefore,
    Error::LosesWithoutFact,
    Error::TakesBackOld,
    Error::StoresOverHeld,
    Error::LengthOfAnother,
    Error::Dreams,
];

struct Open {
    id: CallId,
    answer: Option<Outcome>,
    /// Has no answer in the end.
    is_unknown: bool,
    asked_again: bool,
    /// Was open at a rest: had it no return, it could have no effect any more.
    must_return: bool,
}

struct Store {
    random: Random,
    history: History,
    cell: Cell,
    before: Cell,
    open: Vec<Open>,
    /// Without an answer and not at rest yet.
    unknown: Vec<CallId>,
    error: Option<Error>,
    generations: Generation,
}

/// What a store does with so many calls, so many at a time.
fn run(seed: u64, calls: usize, at_a_time: usize, error: Option<Error>) -> History {
    let (random, history) = (Random(seed), History::new());
    let (cell, open, unknown) = (Cell::Absent, Vec::new(), Vec::new());
    let mut store = Store { random, history, cell, before: cell, open, unknown, error, generations: 0 };
    loop {
        let begins = store.history.calls().len() < calls;
        if !begins && store.open.is_empty() {
            return store.history;
        }
        match store.random.below(16) {
            0..6 if begins && store.open.len() < at_a_time => store.begin(),
            6 => store.lose(),
            7 if store.random.one_in(4) => store.rest(),
            8 => store.has_late_effect(),
            _ if !store.open.is_empty() => {
                let index = store.random.below(store.open.len() as u64) as usize;
                store.go_on(index);
            }
            _ => {}
        }
    }
}

impl Store {
    fn begin(&mut self) {
        self.generations += 1;
        let force = self.random.one_in(2);
        let verb = match self.random.below(14) {
            0..3 => Verb::Put(self.generations),
            3..6 => Verb::Upsert(self.generations),
            6..9 => Verb::Get,
            9 => Verb::Lookup,
            10 => Verb::Match,
            11 | 12 => Verb::Remove { force },
            _ => Verb::Sweep { force },
        };
        let id = self.history.begin(0, 0, verb, NOW);
        let (is_unknown, asked_again) = (self.random.one_in(6), self.random.one_in(8));
        self.open.push(Open { id, answer: None, is_unknown, asked_again, must_return: false });
    }

    /// One of the open calls takes effect, or returns, or takes effect once more.
    fn go_on(&mut self, index: usize) {
        let Open { id, ref answer, is_unknown, asked_again, must_return } = self.open[index];
        let verb = self.history.call(id).verb;
        if is_unknown {
            self.unknown.push(id);
            self.open.remove(index);
            match self.random.below(3) {
                roll if roll == 0 || must_return => self.history.end(id, Outcome::Unknown, asked_again, NOW),
                1 => self.take(changed(self.cell, verb)),
                _ => {}
            }
        } else if (asked_again || matches!(verb, Verb::Sweep { .. })) && self.random.one_in(3) {
            self.take(changed(self.cell, verb));
        } else if let Some(outcome) = answer.clone() {
            self.open.remove(index);
            self.history.end(id, outcome, asked_again, NOW);
        } else {
            self.open[index].answer = Some(self.effect(verb));
        }
    }

    fn take(&mut self, cell: Cell) {
        self.before = std::mem::replace(&mut self.cell, cell);
    }

    fn effect(&mut self, verb: Verb) -> Outcome {
        let errs = self.error.filter(|_| self.random.one_in(2));
        let seen = match errs {
            Some(Error::AnswersOfBefore) => self.before,
            Some(Error::Dreams) => self.dream(),
            _ => self.cell,
        };
        let outcome = self.answer(seen, verb, errs);
        let after = match errs {
            Some(Error::SkipsEffect) => self.cell,
            Some(Error::TakesBackOld) => self.before,
            Some(Error::LosesWithoutFact) => Cell::Absent,
            _ if outcome == Outcome::Stored => changed(Cell::Absent, verb),
            _ if outcome == Outcome::Leased || verb == (Verb::Sweep { force: false }) => self.cell,
            _ => changed(self.cell, verb),
        };
        if after != self.cell {
            self.take(after);
        }
        outcome
    }

    fn dream(&mut self) -> Cell {
        match self.random.below(self.generations + 2) {
            0 => Cell::Absent,
            1 => Cell::Hollow(0),
            generation => Cell::Held(generation - 1),
        }
    }

    fn answer(&mut self, cell: Cell, verb: Verb, errs: Option<Error>) -> Outcome {
        let is_leased = self.random.one_in(4);
        match (verb, cell) {
            (Verb::Put(_), Cell::Held(_) | Cell::Hollow(_)) if errs != Some(Error::StoresOverHeld) => {
                Outcome::Existed
            }
            (Verb::Put(_) | Verb::Upsert(_), _) => Outcome::Stored,
            (Verb::Get, Cell::Held(generation)) => Outcome::Hit(generation),
            (Verb::Lookup, Cell::Held(generation)) if errs == Some(Error::LengthOfAnother) => {
                Outcome::HitBytes(bytes_of(0, generation + 1))
            }
            (Verb::Lookup, Cell::Held(generation)) => Outcome::HitBytes(bytes_of(0, generation)),
            (Verb::Match, Cell::Held(_)) => Outcome::HitBytes(0),
            (Verb::Match, _) => Outcome::MissUntold,
            (Verb::Get | Verb::Lookup, _) => Outcome::Miss(MissReason::NotHeld),
            (Verb::Remove { .. }, Cell::Absent) => Outcome::Missing(MissReason::NotHeld),
            (Verb::Remove { .. }, _) if is_leased => Outcome::Leased,
            (Verb::Remove { .. }, _) => Outcome::Removed,
            (Verb::Sweep { .. }, _) => Outcome::Swept,
        }
    }

    /// A loss, and a look before and after it; or the home learns of one.
    fn lose(&mut self) {
        match self.cell {
            Cell::Held(generation) if self.random.one_in(2) => {
                let (after, before) = (self.history.stamp(NOW), self.history.stamp(NOW));
                let value_bytes = (!self.random.one_in(3)).then(|| bytes_of(0, generation));
                self.history.note(if self.random.one_in(2) {
                    Fact::CoreLost { after, until: before }
                } else {
                    Fact::Evicted { key: 0, value_bytes, after, before }
                });
                self.take(Cell::Hollow(generation));
            }
            Cell::Hollow(_) => self.take(Cell::Absent),
            _ => {}
        }
    }

    fn rest(&mut self) {
        let at: Stamp = self.history.stamp(NOW);
        self.history.note(Fact::Rest { at });
        self.unknown.clear();
        self.open.iter_mut().for_each(|open| open.must_return = true);
    }

    fn has_late_effect(&mut self) {
        if !self.unknown.is_empty() {
            let index = self.random.below(self.unknown.len() as u64) as usize;
            let verb = self.history.call(self.unknown[index]).verb;
            self.take(changed(self.cell, verb));
        }
    }
}

// -- the properties --

fn told(history: &History) -> String {
    let calls: String = history.calls().iter().map(|call| format!("{call}\n")).collect();
    format!("{calls}{:#?}", history.facts())
}

/// A fact more never makes a history illegal, if it is not that of a rest.
fn with_a_split(mut history: History, random: &mut Random) -> History {
    let last = history.stamp(NOW).order;
    let mut point = || Stamp { order: 1 + random.below(last), at: NOW };
    let (one, other) = (point(), point());
    history.note(Fact::Split { keys: vec![0], from: one.min(other), to: one.max(other) });
    history
}

#[test]
fn what_the_reference_store_does_is_legal() {
    fn property(seed: u64) -> TestResult {
        let mut random = Random(!seed);
        let (calls, at_a_time) = (1 + random.below(60) as usize, 1 + random.below(9) as usize);
        let mut history = run(seed, calls, at_a_time, None);
        for _ in 0..3 {
            if let Err(violation) = check(&history, &bytes_of) {
                return TestResult::error(format!("{violation}\n{}", told(&history)));
            }
            history = with_a_split(history, &mut random);
        }
        TestResult::passed()
    }
    QuickCheck::new().tests(3_000).quickcheck(property as fn(u64) -> TestResult);
}

/// A small history, of a store that errs or not, or with answers of another one.
fn small(seed: u64) -> History {
    let mut random = Random(!seed);
    let calls = 3 + random.below(5) as usize;
    let at_a_time = 1 + random.below(calls as u64).min(random.below(5)) as usize;
    let error = ERRORS.get(random.below(9) as usize).copied();
    run(seed, calls, at_a_time, error)
}

/// Whether it is legal, if both agree on that.
fn agreed(history: &History) -> Result<bool, String> {
    let checked = check(history, &bytes_of);
    let explained = is_explained(history);
    match checked {
        Ok(()) if !explained => Err(format!("the checker misses:\n{}", told(history))),
        Err(violation) if explained => Err(format!("false alarm:\n{violation}\n{}", told(history))),
        checked => Ok(checked.is_ok()),
    }
}

#[test]
fn the_checker_agrees_with_all_orders() {
    fn property(seed: u64) -> TestResult {
        agreed(&small(seed)).map_or_else(TestResult::error, |_| TestResult::passed())
    }
    QuickCheck::new().tests(10_000).quickcheck(property as fn(u64) -> TestResult);
}

#[test]
fn the_checker_agrees_with_all_orders_and_has_something_to_say() {
    let verdicts: Vec<bool> = (0..20_000)
        .map(|seed| agreed(&small(seed)).unwrap_or_else(|why| panic!("seed {seed}: {why}")))
        .collect();
    let legal = verdicts.iter().filter(|is_legal| **is_legal).count();
    println!("{legal} of {} are legal", verdicts.len());
    assert!((verdicts.len() / 2..verdicts.len() * 9 / 10).contains(&legal), "{legal} are legal");
}
