//! Seeds of the simulated cluster under fire, as many as a continuous integration has time for: those that have failed
//! once, then others. `make nightly` runs them for hours, and asks what was reached.

use snowskin_tests::Failure;
use snowskin_tests::sim::{Finder, Passed, SEEDED_BUGS, known_seeds, run};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds besides the known ones.
const SEEDS: u64 = 150;
/// Beyond the seeds that are used elsewhere.
const FIRST_SEED: u64 = 1_000_000;

fn pass(seed: u64) -> Passed {
    run(seed).unwrap_or_else(|failure: Box<Failure>| panic!("{failure}"))
}

#[test]
fn seeds_that_have_failed_and_others_keep_all_promises() {
    let known = known_seeds();
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let fresh = turn.checked_sub(known.len() as u64);
                    match fresh {
                        None => pass(known[turn as usize]),
                        Some(number) if number < SEEDS => pass(FIRST_SEED + number),
                        Some(_) => break,
                    };
                }
            });
        }
    });
}

#[test]
fn the_same_seed_is_the_same_run_under_fire_too() {
    for seed in [3, 17] {
        let (first, second) = (pass(seed), pass(seed));
        assert_eq!(first.event_hash, second.event_hash, "seed {seed}");
        assert_eq!(first.coverage, second.coverage, "seed {seed}");
    }
}

/// The names in the sources, in the list and in the document are the same.
#[test]
fn every_seeded_bug_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut sources = Vec::new();
    for directory in ["client", "engine", "io", "master", "ssd-tier"] {
        collect(&root.join(directory).join("src"), &mut sources);
    }
    let mut found = BTreeSet::new();
    for source in sources {
        let text = std::fs::read_to_string(&source).expect("a source");
        let uses = text.split("seeded_bug!(\"").skip(1).filter_map(|rest| rest.split('"').next());
        found.extend(uses.map(str::to_owned));
    }
    let listed: BTreeSet<String> = SEEDED_BUGS.iter().map(|bug| bug.name.to_owned()).collect();
    assert_eq!(found, listed);
    assert!(SEEDED_BUGS.iter().filter(|bug| bug.finder == Finder::Seeds).count() >= 20);
    let document =
        std::fs::read_to_string(root.join("docs/SEEDED-BUGS.md")).expect("the table of detections");
    for name in &listed {
        assert!(document.contains(&format!("| {name} |")), "docs/SEEDED-BUGS.md does not have {name}");
    }
}

#[test]
fn a_normal_build_has_no_seeded_bug() {
    let name = SEEDED_BUGS[0].name;
    assert_eq!(snowskin_io::seeded::choose(name), cfg!(snowskin_seeded_bugs));
    assert_eq!(snowskin_io::seeded::is_chosen(name), cfg!(snowskin_seeded_bugs));
}

fn collect(directory: &Path, sources: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
}
