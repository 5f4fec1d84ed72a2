//! Short histories, legal and not. Random ones are in `differential`; the language is that of [`super::super::script`].

use super::super::script::{bytes_of, history};
use super::check;

#[path = "differential_tests.rs"]
mod differential;

const NO_ORDER: &str = "no legal order explains it";
const UNTRUE: &str = "is not the reason";

fn legal(text: &str) {
    if let Err(violation) = check(&history(text), &bytes_of) {
        panic!("{text}\n{violation}");
    }
}

fn illegal(rule: &str, text: &str) {
    let violation = check(&history(text), &bytes_of).expect_err(text);
    assert!(violation.rule.contains(rule), "{text}\n{violation}");
    assert!(violation.to_string().contains(&violation.call.to_string()), "{violation}");
}

/// Illegal at its last call, and at none before.
fn illegal_at_last(rule: &str, text: &str) {
    illegal(rule, text);
    legal(text.rsplit_once(';').expect("more than one point").0);
}

// -- the table of states --

#[test]
fn what_is_absent_answers() {
    legal("get = miss; lookup = miss; match = untold; remove = missing; remove! = missing");
    legal("sweep = swept; sweep! = swept; get = miss; put 1 = stored; get = hit 1");
    legal("upsert 1 = stored; get = hit 1");
}

#[test]
fn what_is_held_answers() {
    legal("put 1 = stored; get = hit 1; lookup = bytes 10; match = held; put 2 = existed; get = hit 1");
    legal("put 1 = stored; upsert 2 = stored; get = hit 2; lookup = bytes 20");
    legal("put 1 = stored; remove = removed; get = miss Removed; remove = missing Removed");
    legal("put 1 = stored; remove! = removed; match = untold; put 2 = stored; get = hit 2");
    legal("put 1 = stored; get = hit 1; remove = leased; get = hit 1");
    legal("put 1 = stored; sweep! = swept; lookup = miss Removed");
    legal("put 1 = stored; sweep = swept; get = miss Removed");
    legal("put 1 = stored; get = hit 1; sweep = swept; get = hit 1");
}

#[test]
fn what_is_hollow_answers() {
    let hollow = "put 1 = stored; lost; get = miss OwnerLost; put 2 = existed; ";
    for rest in [
        "get = miss; lookup = miss; match = untold; put 3 = existed; get = miss",
        "upsert 3 = stored; get = hit 3",
        "remove = removed; put 3 = stored; get = hit 3",
        "remove = leased; put 3 = existed",
        "sweep! = swept; remove = missing Removed",
        "sweep = swept; put 3 = existed",
        "put 3 = stored; get = hit 3",
        "remove = missing OwnerLost",
    ] {
        legal(&format!("{hollow}{rest}"));
    }
}

#[test]
fn what_is_absent_does_not_answer() {
    for last in ["put 2 = existed", "remove = removed", "remove! = removed", "remove = leased"] {
        illegal_at_last(NO_ORDER, &format!("get = miss; {last}"));
        illegal_at_last(NO_ORDER, &format!("put 1 = stored; remove = removed; {last}"));
    }
    for last in ["lookup = bytes 10", "lookup = bytes 0", "match = held"] {
        illegal_at_last(NO_ORDER, &format!("get = miss; {last}"));
        illegal_at_last(NO_ORDER, &format!("put 1 = stored; sweep! = swept; {last}"));
    }
}

#[test]
fn what_is_held_does_not_answer() {
    for last in ["get = miss", "lookup = miss", "match = untold", "remove = missing", "put 2 = stored"] {
        illegal_at_last(NO_ORDER, &format!("put 1 = stored; {last}"));
        illegal_at_last(NO_ORDER, &format!("upsert 1 = stored; get = hit 1; {last}"));
    }
    illegal_at_last(NO_ORDER, "put 1 = stored; lookup = bytes 11");
    illegal_at_last(NO_ORDER, "put 1 = stored; put 2 = existed; get = hit 2");
    illegal_at_last(NO_ORDER, "put 1 = stored; put 2 = existed; lookup = bytes 20");
}

#[test]
fn what_is_hollow_does_not_answer() {
    let hollow = "put 1 = stored; lost; get = miss; put 2 = existed; ";
    for last in ["get = hit 1", "get = hit 2", "lookup = bytes 10", "match = held"] {
        illegal_at_last(NO_ORDER, &format!("{hollow}{last}"));
    }
    illegal_at_last(NO_ORDER, &format!("{hollow}remove = missing; get = miss; put 3 = existed"));
}

// -- when --

#[test]
fn overlapping_writes_have_either_order() {
    for last in [1, 2] {
        let writes = "a: upsert 1; b: upsert 2; a = stored; b = stored";
        legal(&format!("{writes}; get = hit {last}; get = hit {last}"));
        illegal_at_last(NO_ORDER, &format!("{writes}; get = hit {last}; get = hit {}", 3 - last));
    }
    legal("a: put 1; b: put 2; b = existed; a = stored; get = hit 1");
    legal("a: put 1; b: remove; a = stored; b = removed; get = miss Removed");
    legal("a: put 1; b: remove; a = stored; b = missing; get = hit 1");
    illegal(NO_ORDER, "a: put 1; b: remove; a = stored; b = missing; get = miss");
    illegal(NO_ORDER, "a: put 1; b: put 2; a = stored; b = stored");
    legal("a: put 1; b: put 2; c: remove; a = stored; c = removed; b = stored; get = hit 2");
}

#[test]
fn reads_beside_a_write_see_it_or_not_yet_but_not_back_and_forth() {
    legal("a: put 1; get = miss; get = hit 1; a = stored");
    illegal_at_last(NO_ORDER, "a: put 1; get = hit 1; get = miss");
    legal("upsert 1 = stored; a: upsert 2; b: get; c: get; b = hit 2; c = hit 1; a = stored");
    illegal("order", "upsert 1 = stored; a: upsert 2; get = hit 2; get = hit 1; a = stored");
    illegal_at_last(NO_ORDER, "a: put 1; get = hit 1; a = existed");
    legal("a: get; put 1 = stored; upsert 2 = stored; a = hit 1");
    legal("a: get; put 1 = stored; upsert 2 = stored; a = miss");
}

#[test]
fn what_was_acknowledged_is_seen() {
    illegal_at_last(NO_ORDER, "upsert 1 = stored; upsert 2 = stored; get = hit 1");
    illegal_at_last(NO_ORDER, "upsert 1 = stored; upsert 2 = stored; lookup = bytes 10");
    illegal_at_last(NO_ORDER, "put 1 = stored; remove = removed; get = hit 1");
    illegal_at_last(NO_ORDER, "put 1 = stored; sweep! = swept; get = hit 1");
    illegal_at_last(NO_ORDER, "put 1 = stored; sweep = swept; get = miss Removed; get = hit 1");
    illegal_at_last(NO_ORDER, "put 1 = stored; remove = removed; get = miss Removed; match = held");
    illegal_at_last(NO_ORDER, "put 1 = stored; put 2 = stored");
    illegal_at_last(NO_ORDER, "put 1 = stored; remove = removed; remove = removed");
    // Stored, and only seen by and by.
    illegal_at_last(NO_ORDER, "put 1 = stored; get = miss");
    illegal_at_last(NO_ORDER, "a: get; put 1 = stored; a = miss; get = miss");
}

// -- no answer, asked again, sweeps --

#[test]
fn a_write_without_an_answer_shows_up_late_twice_or_never() {
    let without = ["a: upsert 1", "upsert 1 = unknown"];
    for write in without {
        legal(&format!("{write}; get = miss; get = miss; get = hit 1"));
        legal(&format!("{write}; get = hit 1; remove = removed; get = miss Removed; get = hit 1"));
        legal(&format!(
            "{write}; upsert 2 = stored; get = hit 2; get = hit 1; upsert 3 = stored; get = hit 1"
        ));
        legal(&format!("{write}; get = miss; rest; get = miss; put 2 = stored; get = hit 2"));
        legal(&format!("{write}; upsert 2 = stored; rest; get = hit 1; get = hit 1"));
        illegal_at_last(NO_ORDER, &format!("{write}; get = hit 1; get = miss"));
    }
    legal("put 1 = unknown; get = miss; put 2 = stored; remove = removed; get = hit 1");
    illegal_at_last(NO_ORDER, "put 1 = unknown; put 2 = stored; get = hit 2; get = hit 1");
    illegal_at_last(NO_ORDER, "put 1 = unknown; put 2 = stored; get = hit 1");
}

#[test]
fn two_puts_without_an_answer_do_not_supersede_each_other() {
    let puts = "put 1 = unknown; put 2 = unknown; get = hit 1; ";
    illegal_at_last(NO_ORDER, &format!("{puts}get = hit 2"));
    illegal_at_last(NO_ORDER, &format!("{puts}lookup = bytes 20"));
    legal(&format!("{puts}remove = removed; get = hit 2"));
    legal(&format!("{puts}lost; get = hit 2"));
}

#[test]
fn a_removal_without_an_answer_may_remove_at_any_time() {
    legal("a: remove; put 1 = stored; get = hit 1; get = miss Removed; put 2 = stored; get = miss Removed");
    legal("put 1 = stored; remove = unknown; get = hit 1; rest; get = hit 1");
    legal("put 1 = stored; sweep! = unknown; get = hit 1; get = miss Removed");
    illegal_at_last(NO_ORDER, "put 1 = stored; remove = unknown; rest; get = hit 1; get = miss");
}

#[test]
fn after_rest_nothing_shows_up_any_more() {
    illegal_at_last(NO_ORDER, "upsert 1 = unknown; rest; upsert 2 = stored; get = hit 1");
    illegal_at_last(NO_ORDER, "upsert 1 = unknown; upsert 2 = stored; rest; get = hit 2; get = hit 1");
    illegal_at_last(NO_ORDER, "a: upsert 1; upsert 2 = stored; rest; get = hit 2; get = hit 1");
    illegal_at_last(NO_ORDER, "put 1 = unknown; rest; get = miss; get = hit 1");
    // It returned after the rest: it was under way.
    legal("a: upsert 1; rest; upsert 2 = stored; a = unknown; get = hit 2; get = hit 1");
    // One is over, the other is not.
    legal("upsert 1 = unknown; rest; upsert 2 = unknown; get = hit 1; get = hit 2");
    illegal_at_last(NO_ORDER, "upsert 1 = unknown; rest; upsert 2 = unknown; get = hit 2; get = hit 1");
}

#[test]
fn what_was_asked_again_shows_up_around_others() {
    legal("a: upsert 1; upsert 2 = stored; get = hit 2; get = hit 1; a = stored again; get = hit 1");
    legal("a: upsert 1; get = hit 1; upsert 2 = stored; get = hit 2; get = hit 1; a = stored again");
    legal("a: put 1; get = hit 1; a = existed again; get = hit 1");
    legal("put 1 = stored; remove = missing Removed again; get = miss Removed");
    legal("put 1 = stored; a: remove; get = miss Removed; put 2 = stored; a = removed again");
    illegal_at_last(
        NO_ORDER,
        "a: upsert 1; upsert 2 = stored; get = hit 1; upsert 3 = stored; get = hit 1; upsert 4 = stored; \
         get = hit 1; a = stored again; get = hit 2",
    );
    illegal_at_last(NO_ORDER, "a: upsert 1; a = stored again; upsert 2 = stored; get = hit 2; get = hit 1");
    illegal(
        NO_ORDER,
        "a: upsert 1; upsert 2 = stored; get = hit 2; get = hit 1; upsert 3 = stored; get = hit 1; a = stored",
    );
}

#[test]
fn a_sweep_takes_effect_once_or_more_often() {
    let twice =
        "put 1 = stored; a: sweep!; get = miss Removed; put 2 = stored; get = miss Removed; put 3 = stored";
    legal(&format!("{twice}; a = swept; get = hit 3"));
    legal(&format!("{twice}; a = swept; get = miss Removed"));
    legal("a: sweep!; put 1 = stored; a = swept; get = hit 1");
    legal("put 1 = stored; a: sweep; get = miss Removed; put 2 = stored; a = swept; get = miss Removed");
    illegal_at_last(NO_ORDER, "put 1 = stored; sweep! = swept; get = hit 1");
    illegal("order", "put 1 = stored; a: sweep!; get = hit 1; a = swept; put 2 = existed");
    illegal_at_last(NO_ORDER, "put 1 = stored; sweep = swept; get = hit 1; get = miss Removed");
}

// -- losses --

#[test]
fn a_fact_lets_a_value_go() {
    legal("put 1 = stored; evicted 10; get = miss Evicted; put 2 = stored; get = hit 2");
    legal("put 1 = stored; evicted ?; get = hit 1; get = miss Evicted");
    legal("put 1 = stored; lost; get = hit 1; get = miss OwnerLost");
    legal("put 1 = stored; lost; put 2 = stored; get = hit 2");
    legal("a: put 1; evicted 10; a = stored; get = miss Evicted");
    legal("look; put 1 = stored; get = miss Evicted; evicted 10");
    legal("put 1 = stored; look; get = hit 1; get = miss; lost; get = miss OwnerLost");
    legal("put 1 = stored; upsert 11 = stored; evicted 10; get = miss Evicted");
}

#[test]
fn without_a_fact_no_value_goes() {
    illegal_at_last(NO_ORDER, "put 1 = stored; get = hit 1; get = miss");
    illegal_at_last(NO_ORDER, "put 1 = stored; evicted 20; get = miss Evicted");
    illegal_at_last(NO_ORDER, "evicted 10; put 1 = stored; get = miss Evicted");
    illegal_at_last(NO_ORDER, "lost; put 1 = stored; get = miss OwnerLost");
    illegal(NO_ORDER, "put 1 = stored; get = miss; lost");
    illegal(NO_ORDER, "put 1 = stored; get = miss; look; evicted 10");
    illegal_at_last(NO_ORDER, "put 1 = stored; lost; upsert 2 = stored; get = miss OwnerLost");
    illegal_at_last(NO_ORDER, "put 1 = stored; evicted 10; upsert 2 = stored; get = miss Evicted");
    illegal_at_last(NO_ORDER, "put 1 = stored; lost; get = miss OwnerLost; get = hit 1");
    illegal_at_last(NO_ORDER, "put 1 = stored; jumped; rest; get = miss");
}

#[test]
fn what_another_key_lost_is_no_excuse() {
    use super::super::history::{Fact, History, Outcome, Verb};
    let mut history = History::new();
    let now = snowskin_io::Moment(0);
    let put = history.begin(0, 0, Verb::Put(1), now);
    history.end(put, Outcome::Stored, false, now);
    let (after, before) = (history.stamp(now), history.stamp(now));
    history.note(Fact::Evicted { key: 1, value_bytes: None, after, before });
    history.note(Fact::Split { keys: vec![1], from: after, to: before });
    let get = history.begin(0, 0, Verb::Get, now);
    history.end(get, Outcome::MissUntold, false, now);
    assert!(check(&history, &bytes_of).unwrap_err().rule.contains(NO_ORDER));
}

// -- splits --

#[test]
fn a_split_slot_answers_for_both_cores() {
    legal(
        "put 1 = stored; split; get = miss; get = hit 1; put 2 = stored; get = hit 1; get = hit 2; whole; get = hit 1",
    );
    legal("put 1 = stored; split; upsert 2 = stored; whole; get = hit 2; get = hit 2");
    legal("put 1 = stored; split; remove = removed; get = hit 1; whole; put 3 = existed; get = hit 1");
    legal("put 1 = stored; split; whole; get = miss; put 2 = stored; get = hit 2");
    legal("put 1 = stored; a: upsert 2; split; get = hit 1; a = stored; get = hit 1; whole; get = hit 1");
    legal("a: upsert 1; split; upsert 2 = stored; whole; get = hit 2; get = hit 1; a = stored");
}

#[test]
fn what_was_read_before_a_split_may_be_told_in_it() {
    legal("upsert 1 = stored; a: get; upsert 2 = stored; split; a = hit 1; whole");
    legal("upsert 1 = stored; a: lookup; upsert 2 = stored; split; a = bytes 10; whole");
    legal("upsert 1 = stored; a: get; upsert 2 = stored; split; whole; a = hit 1");
    legal("upsert 1 = stored; split; a: get; whole; get = hit 1; upsert 2 = stored; split; a = hit 1; whole");
}

#[test]
fn what_was_superseded_before_a_split_does_not_come_back() {
    let back = "it was superseded before the split began";
    let before = "upsert 1 = stored; upsert 2 = stored; ";
    illegal(back, &format!("{before}split; get = hit 1; whole"));
    illegal(back, &format!("{before}split; lookup = bytes 10; whole"));
    illegal(back, &format!("{before}split; a: get; whole; a = hit 1"));
    illegal(back, &format!("{before}a: get; split; a = hit 1; whole"));
    illegal_at_last(NO_ORDER, &format!("{before}split; whole; get = hit 1"));
    illegal_at_last(NO_ORDER, &format!("{before}split; get = hit 2; whole; lookup = bytes 10"));
    legal(&format!("{before}split; a: get; whole; upsert 3 = stored; a = hit 3"));
}

#[test]
fn after_a_split_all_rules_hold_again() {
    let split = "put 1 = stored; split; upsert 2 = stored; whole; ";
    illegal_at_last(NO_ORDER, &format!("{split}get = hit 1; get = hit 2"));
    illegal_at_last(NO_ORDER, &format!("{split}put 3 = stored; get = hit 2"));
    illegal_at_last(NO_ORDER, &format!("{split}upsert 3 = stored; get = miss"));
    illegal("nobody has begun", "split; get = hit 1; whole");
    illegal("no value of this key", "split; get = garbage; whole");
    illegal(UNTRUE, "put 1 = stored; split; get = miss Removed; whole");
}

// -- what always holds --

#[test]
fn a_hit_is_a_value_that_somebody_has_begun_to_write() {
    illegal("nobody has begun to write generation 7", "put 1 = stored; get = hit 7");
    illegal("nobody has begun to write generation 1", "get = hit 1; put 1 = stored");
    illegal("no value of this key", "put 1 = stored; get = garbage");
    illegal_at_last(NO_ORDER, "put 1 = stored; lookup = bytes 70");
}

#[test]
fn a_miss_names_a_true_reason() {
    for why in ["Removed", "Evicted", "OwnerLost", "Corrupt"] {
        illegal(UNTRUE, &format!("get = miss {why}"));
        illegal(UNTRUE, &format!("lookup = miss {why}; put 1 = stored; remove = removed; lost; evicted 10"));
        illegal(UNTRUE, &format!("remove = missing {why}"));
    }
    illegal(NO_ORDER, "put 1 = stored; get = miss NotHeld");
    illegal(UNTRUE, "put 1 = stored; evicted 10; get = miss Removed");
    illegal(UNTRUE, "put 1 = stored; evicted 10; get = miss OwnerLost");
    illegal(UNTRUE, "put 1 = stored; lost; get = miss Evicted");
    illegal(UNTRUE, "put 1 = stored; lost; get = miss Corrupt");
    // A removal that found nothing, or was refused, is none.
    illegal(UNTRUE, "remove = missing; get = miss Removed");
    illegal(UNTRUE, "put 1 = stored; get = hit 1; remove = leased; lost; get = miss Removed");
    legal("put 1 = stored; a: remove; get = miss Removed; a = removed");
    legal("put 1 = stored; a: remove; get = miss Removed");
}

// -- limits --

#[test]
fn of_more_than_seven_changes_at_a_time_only_effects_are_assumed() {
    let begin: String = (1..=9).map(|write| format!("w{write}: upsert {write}; ")).collect();
    let end: String = (1..=9).map(|write| format!("w{write} = stored; ")).collect();
    for last in 1..=9 {
        legal(&format!("{begin}{end}get = hit {last}; get = hit {last}"));
        illegal_at_last(NO_ORDER, &format!("{begin}{end}get = hit {last}; get = hit {}", last % 9 + 1));
    }
    illegal_at_last(NO_ORDER, &format!("{begin}{end}upsert 11 = stored; get = hit 1"));
}
