//! Lives of an engine with its own master, as many as a continuous integration has time for; `SNOWSKIN_LIVES` says how many seeds.

use snowskin_tests::lives::{Lived, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 60;

#[test]
fn what_was_acknowledged_as_durable_is_found_by_the_next_life_and_what_was_ended_is_not() {
    let seeds =
        std::env::var("SNOWSKIN_LIVES").map_or(SEEDS, |text| text.parse().expect("a number of seeds"));
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Lived::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let lived = run(seed).unwrap_or_else(|failure| panic!("{failure}"));
                    let mut sum = sum.lock().expect("nobody panics with it");
                    sum.durable_puts += lived.durable_puts;
                    sum.durable_found += lived.durable_found;
                    sum.found += lived.found;
                }
            });
        }
    });
    let sum = sum.into_inner().expect("nobody panics with it");
    println!("{seeds} seeds: {sum:?}");
    assert!(
        sum.durable_puts > 20 * seeds && sum.durable_found > 4 * seeds,
        "hardly anything is tried: {sum:?}"
    );
}

#[test]
fn the_same_seed_is_the_same_lives() {
    assert_eq!(run(7).map_err(|failure| failure.what), run(7).map_err(|failure| failure.what));
}
