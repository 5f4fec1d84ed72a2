//! Clients on the same machine as their engine: shared memory where it can be had, and what is said where it cannot.

use snowskin_client::{BlockingClient, ClientConfig, CoreStats, Error, Found, PutOutcome, Transport};
use snowskin_tests::processes::{Process, binary};
use snowskin_tests::values::value_of;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const KEYS: usize = 64;
/// More than a pipe holds.
const LARGE_BYTES: usize = 3_274_752;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Folder(PathBuf::from(format!("/tmp/snowskin-test-{name}-{}", std::process::id())))
    }

    fn sockets(&self) -> usize {
        std::fs::read_dir(&self.0).map_or(0, Iterator::count)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn engine(name: &str, master: SocketAddr, local_sockets: &str) -> Process {
    let master = master.to_string();
    let args = ["--cores", "2", "--memory", "64MiB", "--listen", "127.0.0.1:0", "--log", "warn"];
    let more = ["--name", name, "--master", &master, "--local-sockets", local_sockets];
    Process::start("snowskin-engine", &[&args[..], &more].concat())
}

fn client(seed: SocketAddr, folder: &Path, transport: Transport) -> BlockingClient {
    let config = ClientConfig { transport, local_sockets: folder.to_owned(), ..ClientConfig::new([seed]) };
    BlockingClient::connect(config).expect("the master answers")
}

fn key(number: usize) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

fn bytes_of(number: usize) -> usize {
    if number.is_multiple_of(16) { LARGE_BYTES } else { 1 + number * 700 }
}

#[test]
fn values_of_all_sizes_go_through_shared_memory_and_the_sockets_go_with_the_engine() {
    let folder = Folder::new("values");
    let master = Process::master("127.0.0.1:0");
    let engine = engine("a", master.address(), folder.0.to_str().unwrap());
    assert_eq!(folder.sockets(), 2, "one for each core");
    let near = client(master.address(), &folder.0, Transport::Auto);
    let far = client(master.address(), &folder.0, Transport::Tcp);
    for number in 0..KEYS {
        let writer = if number % 3 == 0 { &far } else { &near };
        let (key, value) = (key(number), value_of(&key(number), 0, bytes_of(number)));
        assert_eq!(writer.put(&[(&key, &value)]), [Ok(PutOutcome::Stored)]);
    }
    for reader in [&near, &far] {
        let keys: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        for (number, found) in reader.get(&keys).into_iter().enumerate() {
            let is_right = found == Ok(Found::Hit(value_of(keys[number], 0, bytes_of(number))));
            assert!(is_right, "key {number}");
        }
    }
    assert_eq!((near.counters().connects_local, far.counters().connects_local), (2, 0));
    assert!(engine.terminate().success());
    assert_eq!(folder.sockets(), 0);
}

#[test]
fn who_insists_on_shared_memory_gets_it_or_an_error_that_says_what_to_do() {
    let folder = Folder::new("insists");
    let master = Process::master("127.0.0.1:0");
    let engine_with = engine("a", master.address(), folder.0.to_str().unwrap());
    let insisting = client(master.address(), &folder.0, Transport::SharedMemory);
    assert_eq!(insisting.put(&[(b"k", b"v")]), [Ok(PutOutcome::Stored)]);
    engine_with.terminate();
    let _without = engine("b", master.address(), "off");
    let deadline = Instant::now() + Duration::from_secs(20);
    let error = loop {
        match insisting.get(&[b"k"]).remove(0) {
            // Until it knows that the first engine is gone.
            Err(Error::Unreachable { reason, .. }) if reason.contains("shares no memory") => break reason,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(error.contains("--local-sockets"), "{error}");
    let relaxed = client(master.address(), &folder.0, Transport::Auto);
    assert!(relaxed.get(&[b"k"])[0].is_ok(), "others use TCP");
}

/// What a client that is killed has reserved or pinned is free again, and its connection is gone.
#[test]
fn a_killed_client_leaves_nothing() {
    let folder = Folder::new("killed");
    let master = Process::master("127.0.0.1:0");
    // With its sockets where everybody looks for them.
    let _engine = Process::engine("a", master.address(), "64MiB");
    let watcher = BlockingClient::connect(ClientConfig::new([master.address()])).expect("it answers");
    for round in 0..20 {
        let at = master.address().to_string();
        let mut child = Command::new(binary("snowskin-bench"))
            .args(["run", "--master", &at, "--transport", "shm", "--duration", "20s", "--value-size", "1MiB"])
            .args(["--report", folder.0.join("report").to_str().unwrap()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("it can be started");
        std::thread::sleep(Duration::from_millis(60 + round * 17));
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let stats = watcher.stats().expect("it answers");
        let left = |of: fn(&CoreStats) -> u64| -> u64 {
            stats.iter().map(|(_, stats)| of(stats.as_ref().expect("it answers"))).sum()
        };
        let (reserved, pinned) = (left(|stats| stats.reserved_bytes), left(|stats| stats.pinned_bytes));
        if (reserved, pinned) == (0, 0) {
            break;
        }
        assert!(Instant::now() < deadline, "{reserved} bytes are reserved, {pinned} pinned");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_folder_that_others_may_write_to_is_an_error_if_it_was_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("open");
    std::fs::create_dir(&folder.0).unwrap();
    std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o777)).unwrap();
    let output = Command::new(binary("snowskin-engine"))
        .args(["--memory", "8MiB", "--cores", "1", "--listen", "127.0.0.1:0", "--master-http", "127.0.0.1:0"])
        .args(["--local-sockets", folder.0.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("others may write to it"), "{said}");
}
