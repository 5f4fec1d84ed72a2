//! Real engines with real files: what goes to the SSD comes back, also after kills, and nothing else does.
//!
//! Each key has a history: which generations of its value may be seen. An upsert that was answered ends all before it, a remove that
//! was answered ends all; what was under way when the engine was killed may have happened or not. A miss is always allowed.

use snowskin_client::{BlockingClient, ClientConfig, CoreStats, Found, RemoveOutcome};
use snowskin_tests::processes::Process;
use snowskin_tests::values::{generation_of, value_of};
use std::path::Path;
use std::time::{Duration, Instant};

/// Kills in a run of the tests; `SNOWSKIN_SSD_KILLS` says otherwise.
const KILLS: usize = 6;
const KEYS: u64 = 120;
/// Four times as much as there is memory, together.
const VALUE_BYTES: usize = 300_000;
const MEMORY: &str = "9MB";

/// What may be seen of a key.
#[derive(Clone, Copy, Default)]
struct History {
    /// The least generation.
    least: u64,
    /// The last that was written, or may have been.
    last: u64,
}

struct Load {
    histories: Vec<History>,
    state: u64,
}

impl Load {
    fn new(seed: u64) -> Self {
        Load { histories: vec![History::default(); KEYS as usize], state: seed | 1 }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % below
    }

    /// One call; `false`: it was not answered.
    fn step(&mut self, client: &BlockingClient) -> bool {
        let number = self.random(KEYS) as usize;
        let (key, kind) = (key(number), self.random(10));
        let History { least, last } = self.histories[number];
        match kind {
            0..5 => {
                let generation = last + 1;
                self.histories[number].last = generation;
                let value = value_of(&key, generation, VALUE_BYTES);
                let answered = client.upsert(&[(&key, &value)]).remove(0).is_ok();
                if answered {
                    self.histories[number].least = generation;
                }
                answered
            }
            5 => match client.remove(&[&key], true).remove(0) {
                Ok(RemoveOutcome::Removed | RemoveOutcome::Missing(_)) => {
                    self.histories[number].least = last + 1;
                    true
                }
                Ok(other) => panic!("{other:?} of a forced remove"),
                Err(_) => false,
            },
            _ => match client.get(&[&key]).remove(0) {
                Ok(Found::Hit(value)) => {
                    let generation = generation_of(&key, &value);
                    let allowed =
                        generation.is_some_and(|found| (least..=last).contains(&found) && found > 0);
                    assert!(allowed, "key {number}: generation {generation:?} of {least} to {last}");
                    true
                }
                Ok(Found::Miss(_)) => true,
                Err(_) => false,
            },
        }
    }

    /// Reads all keys; answers how many are held, each with a value that may be seen.
    fn check(&mut self, client: &BlockingClient) -> usize {
        let mut held = 0;
        for number in 0..KEYS as usize {
            let (key, History { least, last }) = (key(number), self.histories[number]);
            match client.get(&[&key]).remove(0).expect("an answer") {
                Found::Miss(_) => {}
                Found::Hit(value) => {
                    let generation = generation_of(&key, &value);
                    let allowed =
                        generation.is_some_and(|found| (least..=last).contains(&found) && found > 0);
                    assert!(allowed, "key {number}: generation {generation:?} of {least} to {last}");
                    held += 1;
                }
            }
        }
        held
    }
}

fn key(number: usize) -> Vec<u8> {
    format!("prefix-{number}").into_bytes()
}

fn start(folder: &Path, size: &str) -> Process {
    let folder = folder.to_str().expect("text");
    let args = [
        "--cores",
        "1",
        "--memory",
        MEMORY,
        "--listen",
        "127.0.0.1:0",
        "--log",
        "warn",
        "--name",
        "ssd",
        "--lease-ms",
        "1",
        "--ssd",
        folder,
        "--ssd-size",
        size,
        "--ssd-region",
        "1MiB",
    ];
    Process::start("snowskin-engine", &args)
}

fn connect(engine: &Process) -> BlockingClient {
    BlockingClient::connect(ClientConfig::new([engine.address()])).expect("the engine answers")
}

fn stats(client: &BlockingClient) -> CoreStats {
    let mut sum = CoreStats::default();
    let cores = client.stats().expect("counters");
    cores.iter().for_each(|(_, stats)| sum.add(stats.as_ref().expect("the core answers")));
    sum
}

#[test]
fn what_has_no_room_in_memory_comes_back_from_the_ssd() {
    let folder = tempfile::tempdir().unwrap();
    let engine = start(folder.path(), "64MiB");
    let client = connect(&engine);
    for number in 0..KEYS as usize {
        let value = value_of(&key(number), 1, VALUE_BYTES);
        assert!(client.put(&[(&key(number), &value)]).remove(0).is_ok());
        // As fast as the disk takes it: what it cannot take in time is dropped.
        std::thread::sleep(Duration::from_millis(8));
    }
    let mut load = Load::new(1);
    load.histories.fill(History { least: 1, last: 1 });
    let held = load.check(&client);
    let figures = stats(&client);
    assert!(held as u64 > KEYS * 8 / 10, "{held} of {KEYS} are held: {figures:?}");
    assert!(figures.demoted > 0 && figures.ssd_reads > 0 && figures.ssd_lost == 0, "{figures:?}");
    // All at once, and most of it a second time.
    let names: Vec<Vec<u8>> = (0..KEYS as usize).map(key).collect();
    let all: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
    let hits = client.get(&all).into_iter().filter(|found| matches!(found, Ok(Found::Hit(_)))).count();
    assert_eq!(hits, held);
    assert!(stats(&client).promoted > 0);
}

#[test]
fn killed_engines_find_what_they_had_and_nothing_that_was_ended() {
    let kills =
        std::env::var("SNOWSKIN_SSD_KILLS").map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let folder = tempfile::tempdir().unwrap();
    let mut load = Load::new(0x5eed);
    let (mut calls, mut found) = (0, 0);
    for round in 0..kills {
        // A small volume, so that it is reclaimed again and again.
        let engine = start(folder.path(), "24MiB");
        let client = connect(&engine);
        found += load.check(&client);
        let end = Instant::now() + Duration::from_millis(50 + load.random(900));
        while Instant::now() < end {
            assert!(load.step(&client), "round {round}: the engine is there");
            calls += 1;
        }
        // In the middle of a call.
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2));
            engine.kill();
        });
        while load.step(&client) {
            calls += 1;
        }
        killer.join().expect("it is killed");
    }
    println!("{kills} kills, {calls} calls, {found} objects found by the next life");
    assert!(kills < 3 || found > 0, "nothing is found after a kill");
}

#[test]
fn two_engines_do_not_share_a_volume() {
    let folder = tempfile::tempdir().unwrap();
    let _first = start(folder.path(), "16MiB");
    let path = folder.path().to_str().expect("text").to_owned();
    let second = std::process::Command::new(snowskin_tests::processes::binary("snowskin-engine"))
        .args(["--cores", "1", "--memory", MEMORY, "--listen", "127.0.0.1:0", "--name", "other"])
        .args(["--ssd", &path, "--ssd-size", "16MiB", "--ssd-region", "1MiB"])
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("used by another engine"), "{said}");
}
