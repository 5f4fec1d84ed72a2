//! Values that a client of the same machine reads without asking its engine: what it finds, and what it must not find any more.

use snowskin_client::{BlockingClient, ClientConfig, Found, RemoveOutcome, Transport, View};
use snowskin_tests::processes::Process;
use snowskin_tests::values::{generation_of, value_of};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const BYTES: usize = 5_000;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Folder(PathBuf::from(format!("/tmp/snowskin-test-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn engine(folder: &Folder, name: &str, listen: &str, master: SocketAddr) -> Process {
    let (master, sockets) = (master.to_string(), folder.0.to_str().unwrap());
    let args = ["--cores", "1", "--memory", "64MiB", "--log", "warn"];
    let more = ["--listen", listen, "--name", name, "--master", &master, "--local-sockets", sockets];
    Process::start("snowskin-engine", &[&args[..], &more].concat())
}

fn client(folder: &Folder, seed: SocketAddr) -> BlockingClient {
    let local_sockets = folder.0.clone();
    let config = ClientConfig { transport: Transport::Auto, local_sockets, ..ClientConfig::new([seed]) };
    BlockingClient::connect(config).expect("the master answers").with_deadline(Duration::from_secs(5))
}

/// An engine and its master, and two clients beside it; in this order they end.
struct Machine {
    reader: BlockingClient,
    writer: BlockingClient,
    _engine: Process,
    _master: Process,
    _folder: Folder,
}

impl Machine {
    fn start(name: &str) -> Machine {
        let folder = Folder::new(name);
        let master = Process::master("127.0.0.1:0");
        let engine = engine(&folder, "a", "127.0.0.1:0", master.address());
        let [reader, writer] = [(); 2].map(|()| client(&folder, master.address()));
        Machine { reader, writer, _engine: engine, _master: master, _folder: folder }
    }
}

fn view(client: &BlockingClient, key: &[u8]) -> Option<View> {
    client.view_one(key).expect("an answer").hit()
}

/// Reads until it is found without asking.
fn shelve(client: &BlockingClient, key: &[u8]) {
    let found = client.counters().found;
    let until = Instant::now() + Duration::from_secs(9);
    while client.counters().found == found {
        assert!(view(client, key).is_some() && Instant::now() < until, "it is never found without asking");
    }
}

#[test]
fn what_others_change_is_seen_at_once() {
    let machine = Machine::start("shelf-changes");
    let (reader, writer) = (&machine.reader, &machine.writer);
    let key = b"key";
    for generation in 1..200 {
        assert!(writer.upsert(&[(key, &value_of(key, generation, BYTES))]).remove(0).is_ok());
        for _ in 0..3 {
            let seen = view(reader, key).and_then(|view| generation_of(key, &view));
            assert_eq!(seen, Some(generation));
        }
        if generation.is_multiple_of(7) {
            assert_eq!(writer.remove(&[key], true).remove(0), Ok(RemoveOutcome::Removed));
            assert!(view(reader, key).is_none());
        }
    }
    let counters = reader.counters();
    assert!(counters.found > 100, "{counters:?}");
    // In batches, into buffers, and of names of any length.
    let names: Vec<Vec<u8>> =
        (0..100).map(|number| vec![b'a' + (number % 26) as u8; 1 + number * 4]).collect();
    for name in &names {
        assert!(writer.put(&[(name, &value_of(name, 1, BYTES))]).remove(0).is_ok());
    }
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let before = reader.counters().found;
    for _ in 0..4 {
        for (name, found) in names.iter().zip(reader.get(&names)) {
            assert!(matches!(found, Ok(Found::Hit(value)) if generation_of(name, &value) == Some(1)));
        }
        let mut buffers = vec![vec![0; BYTES]; names.len()];
        let mut reads: Vec<(&[u8], &mut [u8])> =
            names.iter().zip(&mut buffers).map(|(name, buffer)| (*name, &mut buffer[..])).collect();
        assert!(reader.get_into(&mut reads).into_iter().all(|found| found == Ok(Found::Hit(BYTES))));
        for (name, buffer) in names.iter().zip(&buffers) {
            assert_eq!(generation_of(name, buffer), Some(1));
        }
    }
    assert!(reader.counters().found > before + 100);
}

#[test]
fn views_of_what_is_gone_keep_their_bytes_and_are_given_back() {
    let machine = Machine::start("shelf-views");
    let (reader, writer) = (&machine.reader, &machine.writer);
    let keys: Vec<Vec<u8>> = (0..100).map(|number| format!("key-{number}").into_bytes()).collect();
    for key in &keys {
        assert!(writer.put(&[(key, &value_of(key, 1, BYTES))]).remove(0).is_ok());
    }
    keys.iter().for_each(|key| shelve(reader, key));
    // More than a lane can hold of the shelf.
    let views: Vec<View> = keys.iter().map(|key| view(reader, key).expect("it is held")).collect();
    for key in &keys {
        assert!(writer.remove(&[key], true).remove(0).is_ok());
    }
    // All that memory can have, twice.
    for number in 0..30_000_usize {
        let key = format!("other-{number}").into_bytes();
        assert!(writer.put(&[(&key, &value_of(&key, 1, BYTES))]).remove(0).is_ok());
    }
    for (key, view) in keys.iter().zip(&views) {
        assert!(view.is_intact() && generation_of(key, view) == Some(1));
    }
    let stats =
        |client: &BlockingClient| client.stats().expect("it answers").remove(0).1.expect("it answers");
    assert!(stats(writer).shelf_held_bytes > 0);
    drop(views);
    let until = Instant::now() + Duration::from_secs(9);
    while stats(writer).pinned_bytes > 0 {
        assert!(Instant::now() < until, "{:?}", stats(writer));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(stats(writer).shelf_held_bytes, 0);
}

#[test]
fn nothing_is_found_on_the_shelf_of_a_killed_engine() {
    let folder = Folder::new("shelf-killed");
    let master = Process::master("127.0.0.1:0");
    for round in 0..5 {
        let engine = engine(&folder, "a", "127.0.0.1:0", master.address());
        let address = engine.address().to_string();
        let reader = client(&folder, master.address());
        let key = format!("key-{round}").into_bytes();
        assert!(reader.put(&[(&key, &value_of(&key, 1, BYTES))]).remove(0).is_ok());
        shelve(&reader, &key);
        engine.kill();
        // At once, and not when its hour is over: the next one may be there already.
        let found = reader.counters().found;
        let next = self::engine(&folder, "a", &address, master.address());
        assert!(view(&reader, &key).is_none(), "the next life has other memory");
        assert_eq!(reader.counters().found, found);
        drop(next);
    }
}

#[test]
fn the_lease_of_who_has_read_without_asking_ends() {
    let machine = Machine::start("shelf-leases");
    let (reader, writer) = (&machine.reader, &machine.writer);
    let key = b"key";
    assert!(writer.put(&[(key, &value_of(key, 1, BYTES))]).remove(0).is_ok());
    shelve(reader, key);
    assert_eq!(writer.remove(&[key], false).remove(0), Ok(RemoveOutcome::Leased));
    // Ten times as long as a lease: the core has heard of it meanwhile, also if nobody has asked for anything.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(writer.remove(&[key], false).remove(0), Ok(RemoveOutcome::Removed));
}
