//! Clients on the same machine as their engine: shared memory where it can be had, and what is said where it cannot.

use snowskin_client::{BlockingClient, ClientConfig, CoreStats, Error, Found, PutOutcome, Transport, View};
use snowskin_io::SplitMix;
use snowskin_tests::processes::{Process, binary};
use snowskin_tests::values::{generation_of, value_of};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
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
    assert!(
        near.counters().lanes_opened >= 2 && far.counters().connects_local + far.counters().lanes_opened == 0
    );
    assert!(engine.terminate().success());
    assert_eq!(folder.sockets(), 0);
}

#[test]
fn a_lane_that_a_thread_keeps_is_for_whoever_needs_one() {
    let folder = Folder::new("seats");
    let master = Process::master("127.0.0.1:0");
    let _engine = engine("a", master.address(), folder.0.to_str().unwrap());
    let client = client(master.address(), &folder.0, Transport::Auto);
    let keys: Vec<Vec<u8>> = (1..KEYS).map(key).collect();
    let look_at_each = || {
        for key in &keys {
            let view = client.view_one(key).unwrap().hit().expect("it was put");
            assert!(view.is_in_place() && *view == *value_of(key, 0, 100));
        }
    };
    for key in &keys {
        assert_eq!(client.put(&[(key, &value_of(key, 0, 100))]), [Ok(PutOutcome::Stored)]);
    }
    look_at_each();
    let opened = client.counters().lanes_opened;
    assert_eq!(opened, 2, "one for each core");
    let gets = client.counters().value_bytes_received;
    assert_eq!(gets, 100 * keys.len() as u64, "what is kept is counted");
    // One after the other, by other threads and as a batch.
    for _ in 0..3 {
        std::thread::scope(|scope| drop(scope.spawn(look_at_each)));
        let batch: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        assert!(client.get(&batch).iter().all(|found| matches!(found, Ok(Found::Hit(_)))));
    }
    assert_eq!(client.counters().lanes_opened, opened);
}

#[test]
fn a_socket_that_a_killed_engine_left_is_nobodys() {
    let folder = Folder::new("left");
    let master = Process::master("127.0.0.1:0");
    let engine = engine("a", master.address(), folder.0.to_str().unwrap());
    // Of an engine that had the port that is the master's now.
    drop(std::os::unix::net::UnixListener::bind(folder.0.join(format!("{}.sock", master.address()))));
    let insisting = client(master.address(), &folder.0, Transport::SharedMemory);
    assert_eq!(insisting.put(&[(b"k", b"v")]), [Ok(PutOutcome::Stored)]);
    engine.terminate();
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

/// Kills in a run of the tests; `SNOWSKIN_KILLS` says otherwise.
const KILLS: u64 = 60;
/// Clients at the same time.
const VICTIMS: usize = 4;

/// A client process, its output and when it is to be killed.
struct Victim {
    child: Guard,
    output: BufReader<ChildStdout>,
}

impl Victim {
    fn start(master: SocketAddr, folder: &Path, seed: u64, user: Option<u32>) -> Self {
        let mut command = Command::new(binary("local_client"));
        command.args([&master.to_string(), folder.to_str().unwrap(), &seed.to_string(), "1"]);
        if let Some(user) = user {
            command.uid(user);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it can be started");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Victim { child: Guard(child), output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }
}

/// What a client that is killed has reserved or pinned is free again, its lanes are gone, and every byte is accounted for.
#[test]
fn killed_clients_leave_nothing() {
    let folder = Folder::new("killed");
    let master = Process::master("127.0.0.1:0");
    let _engine = engine("a", master.address(), folder.0.to_str().unwrap());
    let watcher = client(master.address(), &folder.0, Transport::Tcp);
    let kills =
        std::env::var("SNOWSKIN_KILLS").map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let random = SplitMix::new(kills);
    for round in 0..kills.div_ceil(VICTIMS as u64) {
        let seeds = (0..VICTIMS as u64).map(|number| round * 100 + number);
        let mut victims: Vec<Victim> =
            seeds.map(|seed| Victim::start(master.address(), &folder.0, seed, None)).collect();
        for victim in &mut victims {
            // Some before they have done anything.
            if !random.draw().is_multiple_of(8) {
                assert_eq!(victim.line(), "ready");
            }
            std::thread::sleep(Duration::from_micros(random.draw() % 30_000));
            victim.child.0.kill().expect("it is ours");
            victim.child.0.wait().expect("it is ours");
        }
    }
    let is_left = |stats: &CoreStats| {
        [stats.reserved_bytes, stats.pinned_bytes, stats.lanes, stats.lane_pins, stats.lane_puts]
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let stats: Vec<CoreStats> =
            watcher.stats().unwrap().into_iter().map(|(_, core)| core.unwrap()).collect();
        for core in &stats {
            let bytes = core.free_bytes + core.live_bytes + core.pinned_bytes + core.reserved_bytes;
            assert_eq!(bytes, core.capacity_bytes, "every byte is accounted for");
        }
        if stats.iter().all(|core| is_left(core) == [0; 5]) {
            break;
        }
        assert!(Instant::now() < deadline, "{:?} are left", stats.iter().map(is_left).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(50));
    }
    // And it serves as before; who is not killed is never given wrong bytes.
    let mut last = Victim::start(master.address(), &folder.0, 7, None);
    assert_eq!(last.line(), "ready");
    let (lanes, in_place) = what_it_had(&last.line());
    assert!(last.child.0.wait().unwrap().success() && lanes > 0 && in_place > 0);
}

/// `lanes 2, local 1, in place 17`
fn what_it_had(line: &str) -> (u64, u64) {
    let numbers: Vec<u64> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers.len(), 3, "{line}");
    (numbers[0], numbers[2])
}

/// A view is good as long as it is there: without its client, without its lane, while its value is replaced and evicted.
#[test]
fn views_outlive_their_client_and_their_lane() {
    let folder = Folder::new("views");
    let master = Process::master("127.0.0.1:0");
    let _engine = engine("a", master.address(), folder.0.to_str().unwrap());
    let writer = client(master.address(), &folder.0, Transport::Auto);
    let put = |generation: u64| {
        for number in 0..30 {
            let value = value_of(&key(number), generation, 500_000);
            writer.upsert(&[(&key(number), &value)]).remove(0).expect("there is room");
        }
    };
    put(0);
    let reader = client(master.address(), &folder.0, Transport::Auto);
    reader.lookup(&(0..30).map(key).collect::<Vec<_>>().iter().map(Vec::as_slice).collect::<Vec<_>>());
    let view = |reader: &BlockingClient, number| reader.view_one(&key(number)).unwrap().hit().expect("held");
    let mut views: Vec<_> = (0..10).map(|number| view(&reader, number)).collect();
    // A call that has no time breaks its lane; what was got by it stays.
    let hasty = reader.with_deadline(Duration::from_nanos(1));
    (0..50).for_each(|number| drop(hasty.get(&[&key(number % 30)])));
    views.extend((10..20).map(|number| view(&reader, number)));
    assert!(views.iter().filter(|view| view.is_in_place()).count() > 10, "{views:?}");
    drop((reader, hasty));
    for generation in 1..8 {
        put(generation);
        let right = |(number, view): (usize, &View)| generation_of(&key(number), view) == Some(0);
        assert!(views.iter().enumerate().all(right), "after {generation} generations");
    }
    drop(views);
    let deadline = Instant::now() + Duration::from_secs(10);
    let left =
        || writer.stats().unwrap().iter().map(|(_, core)| core.as_ref().unwrap().lane_pins).sum::<u64>();
    while left() > 0 {
        assert!(Instant::now() < deadline, "{} pins are left", left());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A lane that is silent costs a part of the call's time, not time of its own.
#[test]
fn calls_keep_to_their_deadline_when_the_engine_stops() {
    const DEADLINE: Duration = Duration::from_secs(2);
    let folder = Folder::new("stops");
    let master = Process::master("127.0.0.1:0");
    let engine = engine("a", master.address(), folder.0.to_str().unwrap());
    let key = key(1);
    let value = value_of(&key, 0, 5_000);
    let near = || {
        let client = client(master.address(), &folder.0, Transport::Auto);
        client.upsert(&[(&key, &value)]).remove(0).expect("there is room");
        assert!(client.view_one(&key).unwrap().hit().is_some_and(|view| view.is_in_place()));
        client.with_deadline(DEADLINE)
    };
    type Call = fn(&BlockingClient, &[u8]) -> Option<Error>;
    let calls: [Call; 4] = [
        |client, key| client.view_one(key).err(),
        |client, key| client.get_into(&mut [(key, &mut [0; 5_000])]).remove(0).err(),
        |client, key| client.lookup(&[key]).remove(0).err(),
        |client, key| client.match_prefix(&[key]).err(),
    ];
    let clients = calls.map(|call| (near(), call));
    engine.signal(rustix::process::Signal::STOP);
    // Its threads stop one after the other, and until then a core answers within a microsecond; what is on its shelf may be read for a second.
    std::thread::sleep(Duration::from_millis(1100));
    std::thread::scope(|scope| {
        for (number, (client, call)) in clients.iter().enumerate() {
            let key = &key;
            scope.spawn(move || {
                let start = Instant::now();
                assert!(call(client, key).is_some(), "nobody can have answered call {number}");
                let elapsed = start.elapsed();
                assert!(elapsed < DEADLINE.mul_f64(1.3), "call {number} took {elapsed:?} of {DEADLINE:?}");
            });
        }
    });
}

/// Another user's client is let in where the operator says so, and sees no memory but that of its own connection.
#[test]
fn clients_of_other_users_get_copies() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can start clients of other users");
    }
    const NOBODY: u32 = 65_534;
    let folder = Folder::new("users");
    let master = Process::master("127.0.0.1:0");
    let folder_name = folder.0.to_str().unwrap();
    let at = master.address().to_string();
    let args =
        ["--cores", "1", "--memory", "64MiB", "--listen", "127.0.0.1:0", "--log", "warn", "--name", "a"];
    let more = ["--master", &at, "--local-sockets", folder_name, "--local-users"];
    for (users, is_let_in) in [("any", true), ("owner", false)] {
        let engine = Process::start("snowskin-engine", &[&args[..], &more, &[users]].concat());
        let near = client(master.address(), &folder.0, Transport::Auto);
        let deadline = Instant::now() + Duration::from_secs(20);
        while near.put(&[(b"k", b"v")])[0].is_err() {
            assert!(Instant::now() < deadline, "the engine joins");
        }
        near.lookup(&[b"k"]);
        let mut stranger = Victim::start(master.address(), &folder.0, 1, Some(NOBODY));
        assert_eq!(stranger.line(), "ready");
        let line = stranger.line();
        assert!(stranger.child.0.wait().unwrap().success());
        assert_eq!(what_it_had(&line), (0, 0), "no lane, nothing in place");
        assert_eq!(line.contains("local 0"), !is_let_in, "{line}");
        assert!(near.view_one(b"k").unwrap().hit().is_some_and(|view| view.is_in_place()));
        let settled = Duration::from_secs(1);
        assert!(engine.terminate().success());
        std::thread::sleep(settled);
    }
}

/// A child that ends with the test, whatever comes.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An engine and its client in different containers that share the folder of sockets: neither sees the other's process.
#[test]
fn containers_share_memory_through_the_folder() {
    let folder = Folder::new("containers");
    let apart = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(program);
        command
    };
    if !apart(Path::new("/bin/true")).status().is_ok_and(|status| status.success()) {
        return eprintln!("skipped: no process namespaces can be made here");
    }
    let master = Process::master("127.0.0.1:0");
    let at = master.address().to_string();
    let mut engine = Guard(
        apart(&binary("snowskin-engine"))
            .args([
                "--cores",
                "1",
                "--memory",
                "64MiB",
                "--listen",
                "127.0.0.1:0",
                "--log",
                "warn",
                "--name",
                "a",
            ])
            .args(["--master", &at, "--local-sockets", folder.0.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started"),
    );
    let mut ready = String::new();
    BufReader::new(engine.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.contains("is ready"), "{ready}");
    let mut victim = Victim::start(master.address(), &folder.0, 3, None);
    let first = victim.line();
    let (lanes, in_place) = what_it_had(&victim.line());
    let success = victim.child.0.wait().unwrap().success();
    assert!(first == "ready" && success && lanes > 0 && in_place > 0, "{lanes} lanes, {in_place} in place");
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
