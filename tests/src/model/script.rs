//! Histories of one key as short texts, for tests: points in their order, separated by `;`.
//!
//! ```text
//! put 1 = stored          a call that begins and returns, alone
//! a: get                  a call begins …
//! a = hit 1               … and returns; ` again` behind the answer: asked again; no such line: it never returns
//! look                    the next fact's window begins here, not just before it
//! evicted 10, lost        facts: bytes of this length (`?`: not known) were evicted; a core was lost
//! split, whole            a split of the slot begins and ends
//! rest, jumped            the cluster is at rest; a clock has jumped
//! at 30                   from here on it is 30 ms
//! ```

use super::history::{CallId, Fact, Generation, History, KeyId, Outcome, Stamp, Verb};
use snowskin_io::Moment;
use snowskin_protocol::MissReason;
use std::collections::BTreeMap;

/// Ten bytes for generations 1, 11, 21 …; twenty for 2, 12 …
pub(super) fn bytes_of(_: KeyId, generation: Generation) -> u64 {
    generation % 10 * 10
}

/// The history that a text tells.
pub(super) fn history(text: &str) -> History {
    let mut script = Script::default();
    for point in text.split(';').map(str::trim).filter(|point| !point.is_empty()) {
        script.point(point);
    }
    assert!(script.split.is_none(), "a split that does not end");
    script.history
}

#[derive(Default)]
struct Script {
    history: History,
    now: Moment,
    calls: BTreeMap<String, CallId>,
    look: Option<Stamp>,
    split: Option<Stamp>,
}

impl Script {
    fn point(&mut self, point: &str) {
        if let Some((name, verb)) = point.split_once(": ") {
            let call = self.begin(verb);
            assert!(self.calls.insert(name.to_owned(), call).is_none(), "{name} has begun already");
        } else if let Some((call, answer)) = point.split_once(" = ") {
            let begun = self.calls.remove(call);
            let call = begun.unwrap_or_else(|| self.begin(call));
            let (answer, asked_again) =
                answer.strip_suffix(" again").map_or((answer, false), |answer| (answer, true));
            self.history.end(call, outcome(answer), asked_again, self.now);
        } else {
            self.fact(point);
        }
    }

    fn begin(&mut self, verb: &str) -> CallId {
        self.history.begin(0, 0, verb_of(verb), self.now)
    }

    fn fact(&mut self, point: &str) {
        let stamp = self.history.stamp(self.now);
        let mut window = || {
            let after = self.look.take().unwrap_or(stamp);
            (after, self.history.stamp(self.now))
        };
        match point.split(' ').collect::<Vec<_>>()[..] {
            ["at", ms] => self.now = Moment(ms.parse::<u64>().unwrap() * 1_000_000),
            ["look"] => self.look = Some(stamp),
            ["evicted", bytes] => {
                let (after, before) = window();
                let value_bytes = bytes.parse().ok();
                self.history.note(Fact::Evicted { key: 0, value_bytes, after, before });
            }
            ["lost"] => {
                let (after, until) = window();
                self.history.note(Fact::CoreLost { after, until });
            }
            ["split"] => self.split = Some(stamp),
            ["whole"] => {
                let from = self.split.take().expect("a split that has begun");
                self.history.note(Fact::Split { keys: vec![0], from, to: stamp });
            }
            ["rest"] => self.history.note(Fact::Rest { at: stamp }),
            ["jumped"] => self.history.note(Fact::ClockJumped),
            _ => panic!("{point}?"),
        }
    }
}

fn verb_of(verb: &str) -> Verb {
    let (verb, generation) = verb.split_once(' ').unwrap_or((verb, "0"));
    match verb {
        "put" => Verb::Put(generation.parse().unwrap()),
        "upsert" => Verb::Upsert(generation.parse().unwrap()),
        "get" => Verb::Get,
        "lookup" => Verb::Lookup,
        "match" => Verb::Match,
        "remove" => Verb::Remove { force: false },
        "remove!" => Verb::Remove { force: true },
        "sweep" => Verb::Sweep { force: false },
        "sweep!" => Verb::Sweep { force: true },
        _ => panic!("{verb}?"),
    }
}

fn outcome(answer: &str) -> Outcome {
    match answer.split(' ').collect::<Vec<_>>()[..] {
        ["stored"] => Outcome::Stored,
        ["existed"] => Outcome::Existed,
        ["hit", generation] => Outcome::Hit(generation.parse().unwrap()),
        ["bytes", bytes] => Outcome::HitBytes(bytes.parse().unwrap()),
        ["held"] => Outcome::HitBytes(0),
        ["untold"] => Outcome::MissUntold,
        ["removed"] => Outcome::Removed,
        ["leased"] => Outcome::Leased,
        ["swept"] => Outcome::Swept,
        ["garbage"] => Outcome::Garbage("byte 7 is of another key".into()),
        ["unknown"] => Outcome::Unknown,
        ["miss"] => Outcome::Miss(MissReason::NotHeld),
        ["miss", why] => Outcome::Miss(reason(why)),
        ["missing"] => Outcome::Missing(MissReason::NotHeld),
        ["missing", why] => Outcome::Missing(reason(why)),
        _ => panic!("{answer}?"),
    }
}

fn reason(why: &str) -> MissReason {
    let named = |reason: &&MissReason| format!("{reason:?}") == why;
    *MissReason::ALL.iter().find(named).unwrap_or_else(|| panic!("{why}?"))
}
