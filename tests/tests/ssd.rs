//! Real engines with real files: what goes to the SSD comes back, also after kills, and nothing else does.
//!
//! Each key has a history: which generations of its value may be seen. An upsert that was answered ends all before it, a remove that
//! was answered ends all; what was under way when the engine was killed may have happened or not. A miss is always allowed, but for what was
//! acknowledged as durable.

use snowskin_client::{
    BlockingClient, ClientConfig, CoreStats, Durability, Error, Found, PutOptions, PutOutcome, RemoveOutcome,
};
use snowskin_tests::kept::Kept;
use snowskin_tests::processes::Process;
use snowskin_tests::values::{generation_of, value_of};
use std::collections::BTreeSet;
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
    start_with(folder, size, &["--cores", "1", "--lease-ms", "1"])
}

fn start_with(folder: &Path, size: &str, more: &[&str]) -> Process {
    let folder = folder.to_str().expect("text");
    let args = [
        "--memory",
        MEMORY,
        "--listen",
        "127.0.0.1:0",
        "--log",
        "warn",
        "--name",
        "ssd",
        "--ssd",
        folder,
        "--ssd-size",
        size,
        "--ssd-region",
        "1MiB",
    ];
    Process::start("snowskin-engine", &[&args[..], more].concat())
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
fn what_is_on_the_ssd_is_used_where_it_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let engine = start(folder.path(), "64MiB");
    let client = connect(&engine);
    for number in 0..KEYS as usize {
        let value = value_of(&key(number), 1, VALUE_BYTES);
        assert!(client.put(&[(&key(number), &value)]).remove(0).is_ok());
        std::thread::sleep(Duration::from_millis(8));
    }
    let (before, mut hits) = (stats(&client), 0);
    for number in 0..KEYS as usize {
        let (key, mut buffer) = (key(number), vec![0; VALUE_BYTES]);
        if number % 2 == 0 {
            let Ok(Found::Hit(view)) = client.view_one(&key) else { continue };
            assert!(view.is_in_place() && *view == *value_of(&key, 1, VALUE_BYTES));
        } else {
            let found = client.get_into(&mut [(&key, &mut buffer)]).remove(0);
            let Ok(Found::Hit(bytes)) = found else { continue };
            assert_eq!(buffer[..bytes], value_of(&key, 1, VALUE_BYTES));
        }
        hits += 1;
    }
    let after = stats(&client);
    let loaded = after.ssd_reads - before.ssd_reads;
    assert!(hits > KEYS * 8 / 10 && loaded > KEYS / 3, "{hits} of {KEYS}: {after:?}");
    std::thread::sleep(Duration::from_millis(1_500));
    let after = stats(&client);
    assert_eq!((after.lane_pins, after.pinned_bytes), (0, 0));
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

/// Puts of which some are durable.
struct DurableLoad {
    kept: Vec<Kept>,
    random: Load,
    /// Bytes that were put.
    put_bytes: u64,
    calls: u64,
    durable_puts: u64,
}

const DURABLE_KEYS: usize = 100;
const DURABLE_VALUE_BYTES: usize = 150_000;
const DURABLE_SSD: (&str, u64) = ("96MiB", 96 << 20);

impl DurableLoad {
    fn new() -> Self {
        let kept = vec![Kept::default(); DURABLE_KEYS];
        DurableLoad { kept, random: Load::new(0xd07ab1e), put_bytes: 0, calls: 0, durable_puts: 0 }
    }

    /// One call; `false`: it was not answered.
    fn step(&mut self, client: &BlockingClient) -> bool {
        self.calls += 1;
        match self.random.random(12) {
            0..6 => self.write(client, true, Durability::Ssd),
            6..8 => self.write(client, true, Durability::Memory),
            // Held or not: what is held then is durable.
            8..10 => self.write(client, false, Durability::Ssd),
            10 => self.remove(client),
            _ => self.read(client),
        }
    }

    fn some_key(&mut self) -> usize {
        self.random.random(DURABLE_KEYS as u64) as usize
    }

    /// A few values in one call.
    fn write(&mut self, client: &BlockingClient, replace: bool, durability: Durability) -> bool {
        let count = 1 + self.random.random(4);
        let numbers: BTreeSet<usize> = (0..count).map(|_| self.some_key()).collect();
        let options = PutOptions { durability, ..PutOptions::default() };
        let mut items = Vec::new();
        for &number in &numbers {
            let generation = self.kept[number].begin_write(replace);
            let value = value_of(&key(number), generation, DURABLE_VALUE_BYTES);
            self.put_bytes += value.len() as u64;
            items.push((key(number), value));
        }
        let items: Vec<_> =
            items.iter().map(|(key, value)| (&key[..], &value[..], options.clone())).collect();
        let outcomes = match replace {
            true => client.upsert_with(&items),
            false => client.put_with(&items),
        };
        let is_durable = durability == Durability::Ssd;
        for (&number, outcome) in numbers.iter().zip(&outcomes) {
            match outcome {
                Ok(PutOutcome::Stored) => self.kept[number].stored(self.put_bytes, is_durable),
                Ok(PutOutcome::Existed) => self.kept[number].existed(is_durable),
                Err(Error::NotDurable | Error::NotDurableYet) => panic!("{outcome:?} of a healthy SSD"),
                Err(_) => continue,
            }
            self.durable_puts += u64::from(is_durable);
        }
        outcomes.iter().all(Result::is_ok)
    }

    fn remove(&mut self, client: &BlockingClient) -> bool {
        let number = self.some_key();
        self.kept[number].begin_removal();
        match client.remove(&[&key(number)], true).remove(0) {
            Ok(RemoveOutcome::Removed | RemoveOutcome::Missing(_)) => {
                self.kept[number].removed();
                true
            }
            Ok(other) => panic!("{other:?} of a forced remove"),
            Err(_) => false,
        }
    }

    fn read(&mut self, client: &BlockingClient) -> bool {
        let number = self.some_key();
        client.get(&[&key(number)]).remove(0).is_ok_and(|found| {
            self.look_at(number, &found);
            true
        })
    }

    /// Whether the key is held, by a value that may be. The SSD is a log in order: what is durable stays until as much has been written
    /// behind it as it has room for. Each value is written once, and a tenth of a region once more.
    fn look_at(&mut self, number: usize, found: &Found<Vec<u8>>) -> bool {
        let is_kept = |then| self.put_bytes - then < DURABLE_SSD.1 / 2;
        self.kept[number].look_at(&key(number), found, is_kept).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// Reads all keys; answers how many are held, and how many of these were durable.
    fn check(&mut self, client: &BlockingClient) -> (u64, u64) {
        let (mut held, mut durable) = (0, 0);
        for number in 0..DURABLE_KEYS {
            self.kept[number].rest();
            let found = client.get(&[&key(number)]).remove(0).expect("an answer");
            if self.look_at(number, &found) {
                held += 1;
                durable += u64::from(self.kept[number].is_durable());
            }
        }
        (held, durable)
    }
}

#[test]
fn killed_engines_lose_nothing_that_was_acknowledged_as_durable() {
    let kills =
        std::env::var("SNOWSKIN_SSD_KILLS").map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let folder = tempfile::tempdir().unwrap();
    let mut load = DurableLoad::new();
    let (mut found, mut found_durable) = (0, 0);
    for round in 0..kills {
        let mode = ["write-back", "write-through"][round % 2];
        let engine = start_with(
            folder.path(),
            DURABLE_SSD.0,
            &["--cores", "1", "--lease-ms", "1", "--ssd-mode", mode],
        );
        let client = connect(&engine);
        let (held, durable) = load.check(&client);
        (found, found_durable) = (found + held, found_durable + durable);
        let end = Instant::now() + Duration::from_millis(50 + load.random.random(500));
        while Instant::now() < end {
            assert!(load.step(&client), "round {round}: the engine is there");
        }
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2));
            engine.kill();
        });
        while load.step(&client) {}
        killer.join().expect("it is killed");
    }
    let DurableLoad { calls, durable_puts, .. } = load;
    println!(
        "{kills} kills, {calls} calls, {durable_puts} durable puts; the next life found {found} objects, {found_durable} of them \
         durable; none was lost"
    );
    assert!(kills < 3 || found_durable > 0, "nothing durable is found after a kill");
}

#[test]
fn what_is_to_be_durable_and_cannot_be_is_held_and_that_is_said() {
    let args = ["--cores", "1", "--memory", MEMORY, "--listen", "127.0.0.1:0", "--log", "warn"];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().expect("text");
    let off: Vec<&str> =
        args.into_iter().chain(["--ssd", path, "--ssd-size", "1GiB", "--ssd-mode", "off"]).collect();
    for args in [&args[..], &off] {
        let engine = Process::start("snowskin-engine", args);
        let client = connect(&engine);
        let options = PutOptions { durability: Durability::Ssd, ..PutOptions::default() };
        let put = || client.put_with(&[(b"key", b"value", options.clone())]).remove(0);
        assert_eq!((put(), put()), (Err(Error::NotDurable), Err(Error::NotDurable)));
        assert_eq!(client.get(&[b"key"]).remove(0), Ok(Found::Hit(b"value".to_vec())));
        assert_eq!(stats(&client).puts_not_durable, 2);
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing was made there");
}

#[test]
fn written_through_is_on_the_ssd_although_memory_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let engine = start_with(
        folder.path(),
        "64MiB",
        &["--cores", "1", "--lease-ms", "1", "--ssd-mode", "write-through"],
    );
    let client = connect(&engine);
    let value = value_of(&key(1), 1, 100_000);
    assert!(client.put(&[(&key(1), &value)]).remove(0).is_ok());
    let end = Instant::now() + Duration::from_secs(10);
    while stats(&client).ssd_copied == 0 {
        assert!(Instant::now() < end, "it is not written: {:?}", stats(&client));
        std::thread::sleep(Duration::from_millis(5));
    }
    let figures = stats(&client);
    assert_eq!((figures.objects, figures.objects_on_ssd, figures.demoted), (1, 0, 0), "{figures:?}");
    // The master is to know who keeps what.
    std::thread::sleep(Duration::from_millis(1500));
    engine.kill();
    let next = start(folder.path(), "64MiB");
    assert_eq!(connect(&next).get(&[&key(1)]).remove(0), Ok(Found::Hit(value)));
}

/// Fills memory and SSD, as fast as the disk takes it, and waits until the master knows who keeps what.
fn fill(load: &mut Load, client: &BlockingClient) {
    for number in 0..KEYS as usize {
        let generation = load.histories[number].last + 1;
        let value = value_of(&key(number), generation, VALUE_BYTES);
        assert!(client.upsert(&[(&key(number), &value)]).remove(0).is_ok());
        load.histories[number] = History { least: generation, last: generation };
        std::thread::sleep(Duration::from_millis(8));
    }
    std::thread::sleep(Duration::from_millis(1500));
}

#[test]
fn all_cores_of_an_engine_with_its_own_master_find_what_they_had() {
    let folder = tempfile::tempdir().unwrap();
    let start = |cores: u32| {
        let (size, cores) = (format!("{}MiB", cores * 32), cores.to_string());
        start_with(folder.path(), &size, &["--cores", &cores, "--lease-ms", "1"])
    };
    let mut load = Load::new(3);
    let engine = start(2);
    fill(&mut load, &connect(&engine));
    let on_ssd = |client: &BlockingClient| -> Vec<u64> {
        let cores = client.stats().expect("counters");
        cores.iter().map(|(_, stats)| stats.as_ref().expect("the core answers").objects_on_ssd).collect()
    };
    let before = on_ssd(&connect(&engine));
    assert!(before.iter().all(|objects| *objects > 0), "both cores have demoted: {before:?}");
    engine.kill();
    let engine = start(2);
    assert_eq!(on_ssd(&connect(&engine)), before, "each has found its own");
    let held = load.check(&connect(&engine));
    assert!(held as u64 >= before.iter().sum(), "{held} of {before:?}");
    std::thread::sleep(Duration::from_millis(1500));
    // In an orderly way as well.
    let before = on_ssd(&connect(&engine));
    assert!(engine.terminate().success());
    let engine = start(2);
    // And what had a copy in memory.
    let after = on_ssd(&connect(&engine));
    assert!(after.iter().zip(&before).all(|(after, before)| after >= before), "{after:?} of {before:?}");
    fill(&mut load, &connect(&engine));
    engine.kill();
    let engine = start(2);
    load.check(&connect(&engine));
}

#[test]
fn an_engine_behind_a_ledger_finds_what_it_had_also_when_the_master_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("master-ledger");
    let ledger = ledger.to_str().expect("text");
    let start_master = |listen: &str| {
        let args = ["--listen", listen, "--http", "127.0.0.1:0", "--ledger", ledger, "--lease-ms", "1"];
        Process::start("snowskin-master", &args)
    };
    let mut master = start_master("127.0.0.1:0");
    let address = master.address().to_string();
    let start = || start_with(folder.path(), "64MiB", &["--cores", "2", "--master", &address]);
    let mut load = Load::new(4);
    let mut engine = start();
    fill(&mut load, &connect(&engine));
    let mut found = 0;
    for round in 0..3 {
        let on_ssd = stats(&connect(&engine)).objects_on_ssd;
        engine.kill();
        if round > 0 {
            master.kill();
            master = start_master(&address);
        }
        engine = start();
        let client = connect(&engine);
        let recovered = stats(&client).ssd_recovered;
        assert!(recovered >= on_ssd, "round {round}: {recovered} of {on_ssd}");
        found += recovered;
        assert!(load.check(&client) as u64 >= on_ssd);
        for _ in 0..100 {
            assert!(load.step(&client));
        }
        std::thread::sleep(Duration::from_millis(1500));
    }
    assert!(found > 0);
    // Without its ledger the master knows nobody, and nobody's objects count.
    engine.kill();
    master.kill();
    std::fs::remove_file(ledger).unwrap();
    let _master = start_master(&address);
    let engine = start();
    assert_eq!(stats(&connect(&engine)).ssd_recovered, 0);
    load.check(&connect(&engine));
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
