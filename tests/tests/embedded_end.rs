//! What engines within a process leave behind when they have ended: nothing. The process's threads, mappings, memory and file
//! descriptors are counted, so this is the only test of its process.

use snowskin_client::{BlockingClient, ClientConfig, Found, PutOutcome};
use snowskin_engine::config::Config;
use snowskin_engine::embedded::EmbeddedEngine;
use snowskin_tests::values::value_of;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;
const VALUE_BYTES: usize = 1 << 20;
/// Far less than an engine's memory.
const MEMORY_MORE_BYTES_MAX: u64 = 16 << 20;
/// A thread that was waited for is listed for a moment longer.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// Within this an engine that is alone has ended, with room for a busy machine.
const STOP_TIME: Duration = Duration::from_secs(2);

/// What this process has.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    threads: usize,
    descriptors: usize,
    /// Mappings of memory with a descriptor: segments, shelves, lanes.
    shared_mappings: usize,
}

impl Holdings {
    fn now() -> Self {
        let entries = |folder: &str| fs::read_dir(folder).expect("our own process").count();
        let maps = fs::read_to_string("/proc/self/maps").expect("our own process");
        Holdings {
            threads: entries("/proc/self/task"),
            descriptors: entries("/proc/self/fd"),
            shared_mappings: maps.lines().filter(|line| line.contains("/memfd:")).count(),
        }
    }

    /// As soon as they are these again, or what they are after a while.
    fn settled(expected: &Holdings) -> Self {
        let deadline = Instant::now() + SETTLE_TIME;
        loop {
            let now = Holdings::now();
            if now == *expected || Instant::now() > deadline {
                return now;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Memory of this process that is in use.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("our own process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

fn start(sockets: &Path) -> EmbeddedEngine {
    let folder = sockets.to_str().expect("ASCII");
    let flags = ["--memory", "64MB", "--cores", "1", "--listen", "127.0.0.1:0", "--local-sockets", folder];
    EmbeddedEngine::start(&Config::from_flags(flags).expect("a configuration")).expect("an engine")
}

/// Puts a value and gets it, through shared memory.
fn use_it(engine: &EmbeddedEngine, sockets: &Path, generation: u64) {
    let config = ClientConfig { local_sockets: sockets.to_owned(), ..ClientConfig::new([engine.master()]) };
    let client = BlockingClient::connect(config).expect("the master answers");
    let value = value_of(b"key", generation, VALUE_BYTES);
    assert_eq!(client.put(&[(b"key", &value)]), [Ok(PutOutcome::Stored)]);
    assert!(client.get(&[b"key"]) == [Ok(Found::Hit(value))], "round {generation}");
    assert!(client.counters().lanes_opened > 0, "by shared memory");
}

#[test]
fn nothing_is_left_of_engines_that_have_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let sockets = folder.path();
    let count_sockets = || fs::read_dir(sockets).expect("a folder").count();
    // What the first one leaves once and for all is not counted: it is there once.
    let first = start(sockets);
    use_it(&first, sockets, 0);
    assert_eq!(count_sockets(), 1);
    first.stop().expect("a good end");
    std::thread::sleep(SETTLE_TIME);
    let before = Holdings::now();
    let resident_before = resident_bytes();
    let (mut starts, mut stops) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let begun = Instant::now();
        let engine = start(sockets);
        starts.push(begun.elapsed());
        let running = Holdings::now();
        assert!(running.threads > before.threads && running.shared_mappings > before.shared_mappings);
        use_it(&engine, sockets, round as u64);
        let begun = Instant::now();
        // Whoever forgets to stop one drops it.
        if round % 4 == 0 {
            drop(engine)
        } else {
            engine.stop().expect("a good end")
        }
        stops.push(begun.elapsed());
        assert_eq!(Holdings::settled(&before), before, "round {round}");
        assert_eq!(count_sockets(), 0, "round {round}");
    }
    let more = resident_bytes().saturating_sub(resident_before);
    assert!(more < MEMORY_MORE_BYTES_MAX, "{more} bytes of memory are not given back");
    let longest = |times: &[Duration]| times.iter().max().copied().expect("some rounds");
    println!("start: {:?} at most, stop: {:?} at most", longest(&starts), longest(&stops));
    assert!(longest(&stops) < STOP_TIME, "{stops:?}");
}
