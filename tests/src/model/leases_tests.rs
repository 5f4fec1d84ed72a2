//! Short histories in the language of [`super::super::script`]; a lease is 100 ms, of which 80 are sure.

use super::super::script::{bytes_of, history};
use super::check_leases;
use std::time::Duration;

const LEASE: Duration = Duration::from_millis(100);
const EVICTED: &str = "its bytes were evicted under its lease";
const REMOVED: &str = "it was removed without force under the lease of";
const GONE: &str = "it has gone without force under the lease of";

fn legal(text: &str) {
    if let Err(violation) = check_leases(&history(text), LEASE, &bytes_of) {
        panic!("{text}\n{violation}");
    }
}

fn illegal(rule: &str, text: &str) {
    let violation = check_leases(&history(text), LEASE, &bytes_of).expect_err(text);
    assert!(violation.rule.contains(rule), "{text}\n{violation}");
}

#[test]
fn what_is_leased_is_not_evicted() {
    for read in ["get = hit 1", "lookup = bytes 10"] {
        illegal(EVICTED, &format!("put 1 = stored; {read}; at 79; evicted 10"));
        illegal(EVICTED, &format!("put 1 = stored; {read}; put 2 = existed; remove = leased; evicted 10"));
        illegal(EVICTED, &format!("put 1 = stored; {read}; sweep = swept; a: remove; evicted 10"));
        legal(&format!("put 1 = stored; {read}; at 80; evicted 10"));
        legal(&format!("put 1 = stored; {read}; at 79; look; at 81; evicted 10"));
        legal(&format!("put 1 = stored; look; {read}; evicted 10"));
        legal(&format!("put 1 = stored; {read}; evicted 20"));
        legal(&format!("put 1 = stored; {read}; evicted ?"));
    }
    illegal(EVICTED, "upsert 1 = unknown; rest; get = hit 1; evicted 10");
    legal("put 1 = stored; a: get; evicted 10; a = hit 1");
    legal("put 1 = stored; match = held; evicted 10");
}

#[test]
fn another_value_than_the_leased_one_may_be_evicted() {
    legal("upsert 1 = stored; upsert 11 = stored; get = hit 11; evicted 10");
    legal("put 1 = stored; get = hit 1; upsert 2 = stored; evicted 10");
    legal("put 1 = stored; get = hit 1; remove! = removed; evicted 10");
    legal("upsert 1 = unknown; get = hit 1; evicted 10");
    legal("a: upsert 1; get = hit 1; a = stored again; evicted 10");
}

#[test]
fn what_is_leased_is_not_removed_without_force() {
    for read in ["get = hit 1", "lookup = bytes 10"] {
        illegal(REMOVED, &format!("put 1 = stored; {read}; remove = removed"));
        illegal(REMOVED, &format!("put 1 = stored; {read}; at 79; remove = removed"));
        illegal(REMOVED, &format!("put 1 = stored; {read}; put 2 = existed; remove = removed"));
        illegal(REMOVED, &format!("put 1 = stored; {read}; sweep = swept; remove = removed"));
        legal(&format!("put 1 = stored; {read}; at 80; remove = removed"));
        legal(&format!("put 1 = stored; {read}; a: remove; at 81; a = removed"));
        legal(&format!("put 1 = stored; {read}; remove! = removed; put 2 = stored; remove = removed"));
        legal(&format!("put 1 = stored; {read}; upsert 2 = stored; remove = removed"));
        legal(&format!("put 1 = stored; {read}; sweep! = unknown; put 2 = stored; remove = removed"));
    }
    illegal(REMOVED, "put 1 = stored; sweep! = unknown; rest; get = hit 1; remove = removed");
    legal("put 1 = stored; a: get; remove = removed; a = hit 1");
    legal("put 1 = stored; get = hit 1; remove! = removed");
    legal("put 1 = stored; match = held; remove = removed");
}

#[test]
fn what_is_leased_does_not_go_by_a_sweep_without_force() {
    for read in ["get = hit 1", "lookup = bytes 10"] {
        for miss in
            ["get = miss Removed", "lookup = miss Removed", "match = untold", "remove! = missing Removed"]
        {
            illegal(GONE, &format!("put 1 = stored; {read}; sweep = swept; {miss}"));
            illegal(GONE, &format!("put 1 = stored; {read}; a: remove; at 79; {miss}"));
            legal(&format!("put 1 = stored; {read}; sweep = swept; at 80; {miss}"));
            legal(&format!("put 1 = stored; {read}; sweep! = swept; {miss}"));
            legal(&format!("put 1 = stored; evicted 10; {read}; sweep = swept; {miss}"));
            legal(&format!("put 1 = stored; lost; {read}; sweep = swept; {miss}"));
        }
    }
    legal("put 1 = stored; a: get; sweep = swept; a = hit 1; b: sweep; at 90; get = miss Removed");
    illegal(GONE, "evicted 10; put 1 = stored; get = hit 1; sweep = swept; get = miss Removed");
}

#[test]
fn leased_is_answered_only_when_somebody_may_have_a_lease() {
    let nobody = "nobody can have a lease on it";
    illegal(nobody, "put 1 = stored; remove = leased");
    illegal(nobody, "put 1 = stored; remove = leased; get = hit 1");
    illegal(nobody, "put 1 = stored; get = hit 1; at 101; remove = leased");
    illegal(nobody, "put 1 = stored; put 2 = existed; remove = leased");
    legal("put 1 = stored; get = hit 1; at 100; remove = leased");
    legal("put 1 = stored; a: get; at 500; a = hit 1; at 600; remove = leased");
    legal("put 1 = stored; a: get; at 5000; remove = leased");
    legal("put 1 = stored; get = unknown; at 5000; remove = leased");
    legal("put 1 = stored; a: remove; get = hit 1; a = leased");
    legal("put 1 = stored; lookup = bytes 10; remove = leased");
    legal("put 1 = stored; match = held; remove = leased");
    legal("put 1 = stored; split; remove = leased; whole");
}

#[test]
fn with_force_no_lease_matters() {
    illegal("no lease stops a removal with force", "put 1 = stored; get = hit 1; remove! = leased");
}

#[test]
fn a_lost_core_takes_its_leases_with_it() {
    let lost = "put 1 = stored; get = hit 1; lost; ";
    legal(&format!("{lost}sweep = swept; get = miss Removed"));
    legal(&format!("{lost}put 2 = stored; remove = removed"));
    legal(&format!("{lost}put 2 = unknown; remove = removed"));
    // The next life may have found the value on its SSD.
    legal(&format!("{lost}put 2 = existed; remove = removed"));
    legal(&format!("{lost}evicted 10"));
    illegal(REMOVED, &format!("{lost}get = hit 1; remove = removed"));
    illegal(EVICTED, &format!("{lost}get = hit 1; evicted 10"));
}

#[test]
fn in_a_split_leases_say_nothing() {
    for (split, whole) in [("split", "; whole"), ("split; whole", "")] {
        for end in ["evicted 10", "remove = removed", "sweep = swept; get = miss Removed"] {
            legal(&format!("put 1 = stored; get = hit 1; {split}; {end}{whole}"));
        }
        illegal(REMOVED, &format!("{split}{whole}; put 1 = stored; get = hit 1; remove = removed"));
        illegal(EVICTED, &format!("{split}{whole}; put 1 = stored; get = hit 1; evicted 10"));
    }
}

#[test]
fn after_a_jump_of_a_clock_leases_say_nothing() {
    for end in ["evicted 10", "remove = removed", "remove! = leased", "sweep = swept; get = miss Removed"] {
        legal(&format!("put 1 = stored; get = hit 1; {end}; jumped"));
    }
    legal("jumped; put 1 = stored; remove = leased");
}

#[test]
fn leases_are_those_of_one_key() {
    use super::super::history::{History, Outcome, Verb};
    let mut history = History::new();
    let call = |history: &mut History, key, verb, outcome| {
        let call = history.begin(0, key, verb, snowskin_io::Moment(0));
        history.end(call, outcome, false, snowskin_io::Moment(0));
    };
    call(&mut history, 1, Verb::Put(1), Outcome::Stored);
    call(&mut history, 1, Verb::Get, Outcome::Hit(1));
    call(&mut history, 2, Verb::Put(1), Outcome::Stored);
    call(&mut history, 2, Verb::Remove { force: false }, Outcome::Removed);
    assert!(check_leases(&history, LEASE, &bytes_of).is_ok());
    call(&mut history, 1, Verb::Remove { force: false }, Outcome::Removed);
    assert!(check_leases(&history, LEASE, &bytes_of).is_err());
}
