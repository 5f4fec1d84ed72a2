//! Every interleaving of who tells an engine to stop, its cores, and who waits for them (`make loom`).
//!
//! The flag is relaxed: it carries nothing but itself. What must hold all the same is that nobody who learns of a
//! core's end, by its join or by its hung-up channel, finds the flag lowered that the core ended for.

use super::Stop;
use loom::thread::{self, JoinHandle};

/// A core: looks at the flag between two rounds of its work, and ends.
fn core(stop: &Stop) -> JoinHandle<()> {
    let stop = stop.clone();
    thread::spawn(move || {
        while !stop.is_stopped() {
            thread::yield_now();
        }
    })
}

#[test]
fn a_core_that_was_told_to_end_has_not_ended_unexpectedly() {
    loom::model(|| {
        let stop = Stop::default();
        let core = core(&stop);
        let signal = {
            let stop = stop.clone();
            thread::spawn(move || stop.stop())
        };
        core.join().unwrap();
        assert!(stop.is_stopped(), "the waiter would say that the core ended by itself");
        signal.join().unwrap();
    });
}

#[test]
fn once_raised_the_flag_stays_raised_whoever_raises_it() {
    loom::model(|| {
        let stop = Stop::default();
        let say = |stop: Stop| thread::spawn(move || stop.stop());
        let look = |stop: Stop| thread::spawn(move || [stop.is_stopped(), stop.is_stopped()]);
        // Two signals, or a signal and a core that cannot be set up.
        let says = [say(stop.clone()), say(stop.clone())];
        let seen = look(stop.clone()).join().unwrap();
        assert_ne!(seen, [true, false], "a core goes on after it was told to stop");
        assert!(!seen[1] || stop.is_stopped(), "a core was told to stop, and its waiter was not");
        says.into_iter().for_each(|say| say.join().unwrap());
        assert!(stop.is_stopped());
    });
}
