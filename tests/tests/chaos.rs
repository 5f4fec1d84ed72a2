//! Real processes under random faults: everything that the cluster answers is recorded and checked against the model.
//!
//! `SNOWSKIN_CHAOS_SECONDS` sets the time under fire, `SNOWSKIN_CHAOS_SEED` which faults there are.

use snowskin_tests::chaos::{Options, Passed, Tampering, run, tamper};
use snowskin_tests::model::check;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

/// Time under fire when nothing else is said: a short round, and one in which an engine is declared dead.
const FIRE_SECONDS: u64 = 24;

/// A setting from the environment. One that cannot be read is an error, not the default.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no whole number")))
}

fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is not 1970");
    since.as_nanos() as u64
}

#[test]
fn a_cluster_under_fire_keeps_its_promises_and_lies_would_be_noticed() {
    // Fails when another test of this process was first; then that one's choice holds.
    let _ = env_logger::try_init();
    let seed = setting("SNOWSKIN_CHAOS_SEED").unwrap_or_else(fresh_seed);
    let fire = Duration::from_secs(setting("SNOWSKIN_CHAOS_SECONDS").unwrap_or(FIRE_SECONDS));
    println!("seed {seed}, {fire:?} under fire");
    let started = Instant::now();
    let passed = run(Options { seed, fire }).unwrap_or_else(|failure| {
        panic!("{failure}\nagain: SNOWSKIN_CHAOS_SEED={seed} cargo test --test chaos")
    });
    println!("{passed}seed {seed}, {:?} in all", started.elapsed());
    // A machine that stood still excuses what it cannot explain.
    if !passed.counts.contains_key("stalls of this machine") {
        every_lie_is_noticed(&passed);
    }
}

/// One answer of the recorded history is changed: the checker refuses it.
fn every_lie_is_noticed(passed: &Passed) {
    for tampering in Tampering::ALL {
        let lie = tamper(&passed.history, tampering);
        let lie = lie.unwrap_or_else(|| panic!("no call can be changed into {tampering:?}"));
        let verdict = check(&lie, &Passed::bytes_of);
        assert!(verdict.is_err(), "{tampering:?} was not noticed");
    }
}
