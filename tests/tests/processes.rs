//! Real processes under `kill -9`, SIGSTOP, joins and leaves: nothing hangs, nothing leaks, nothing is wrong.

use rustix::process::Signal;
use snowskin_client::{BlockingClient, ClientConfig, CoreStats, Error, Found, MissReason, PutOutcome};
use snowskin_tests::processes::{Process, binary};
use snowskin_tests::values::{generation_of, value_of};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// What a loaded machine may add to a deadline before we call it a hang.
const SLACK: Duration = Duration::from_secs(2);
/// Set in a child: the cluster that the child is to write to until it is killed.
const WRITER: &str = "SNOWSKIN_TEST_WRITER";

fn key(number: usize) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

fn connect(seed: SocketAddr, deadline: Duration) -> BlockingClient {
    let config = ClientConfig { deadline, ..ClientConfig::new([seed]) };
    BlockingClient::connect(config).expect("the cluster answers")
}

fn put(client: &BlockingClient, number: usize, bytes: usize) -> Result<PutOutcome, Error> {
    client.put(&[(&key(number), &value_of(&key(number), 0, bytes))]).remove(0)
}

/// Reads one key. A hit must be a value of that key.
fn get(client: &BlockingClient, number: usize) -> Result<Found<()>, Error> {
    match client.get(&[&key(number)]).remove(0)? {
        Found::Hit(value) => {
            assert!(generation_of(&key(number), &value).is_some(), "wrong bytes under key {number}");
            Ok(Found::Hit(()))
        }
        Found::Miss(reason) => Ok(Found::Miss(reason)),
    }
}

fn stats(client: &BlockingClient) -> CoreStats {
    let mut sum = CoreStats::default();
    for (member, stats) in client.stats().expect("the table is known") {
        let stats = stats.unwrap_or_else(|error| panic!("core {}: {error}", member.id));
        let bytes = stats.free_bytes + stats.live_bytes + stats.pinned_bytes + stats.reserved_bytes;
        assert_eq!(bytes, stats.capacity_bytes, "the bytes of core {} do not add up", member.id);
        sum.add(&stats);
    }
    sum
}

/// Waits until `done`, bounded.
fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Not a test of its own: what the child of `a_killed_client_leaves_nothing` does.
#[test]
fn writer_child() {
    let Ok(seed) = std::env::var(WRITER) else { return };
    let client = connect(seed.parse().unwrap(), Duration::from_secs(5));
    for number in 0..1_000_000 {
        let _ = put(&client, number % 64, 4 * MIB - number % 1000);
        let _ = get(&client, (number * 7) % 64);
    }
}

#[test]
fn a_killed_client_leaves_nothing() {
    let master = Process::master("127.0.0.1:0");
    let _engines =
        [Process::engine("a", master.address(), "64MB"), Process::engine("b", master.address(), "64MB")];
    let client = connect(master.address(), Duration::from_secs(5));
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_child"])
            .env(WRITER, master.address().to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + 17 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("its memory and pins are given back", Duration::from_secs(5), || {
            let stats = stats(&client);
            // Ours is the one connection that each core still has.
            stats.reserved_bytes == 0 && stats.pinned_bytes == 0 && stats.connections <= 4 + 4
        });
    }
    let found = (0..64).filter(|number| matches!(get(&client, *number), Ok(Found::Hit(())))).count();
    assert!(found > 0, "the writers did write");
}

#[test]
fn a_killed_engine_ends_in_typed_errors_in_time_and_can_be_replaced() {
    let master = Process::master("127.0.0.1:0");
    let _staying = Process::engine("a", master.address(), "64MB");
    let victim = Process::engine("b", master.address(), "64MB");
    let deadline = Duration::from_millis(800);
    let client = connect(master.address(), deadline);
    for number in 0..40 {
        assert_eq!(put(&client, number, MIB), Ok(PutOutcome::Stored));
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let (client, over) = (client.clone(), &over);
                scope.spawn(move || {
                    let (mut hits, mut failures) = (0, 0);
                    for number in (0..).map(|n| (n * 7 + reader) % 40) {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let asked = Instant::now();
                        let result = get(&client, number);
                        assert!(asked.elapsed() < deadline + SLACK, "a get took {:?}", asked.elapsed());
                        match result {
                            Ok(Found::Hit(())) => hits += 1,
                            Err(Error::Unreachable { .. } | Error::Broken { .. } | Error::Deadline) => {
                                failures += 1
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    (hits, failures)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        victim.kill();
        std::thread::sleep(Duration::from_millis(1000));
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            let (hits, failures) = reader.join().unwrap();
            assert!(hits > 0 && failures > 0, "{hits} hits, {failures} failures");
        }
    });
    // The same engine comes back with nothing: its slots are served again, and say what happened.
    let _back = Process::engine("b", master.address(), "64MB");
    wait_until("all keys are answered", Duration::from_secs(20), || (0..40).all(|n| get(&client, n).is_ok()));
    let answers: Vec<_> = (0..40).map(|number| get(&client, number).unwrap()).collect();
    assert!(answers.contains(&Found::Hit(())));
    assert!(answers.iter().all(|found| matches!(found, Found::Hit(()) | Found::Miss(MissReason::OwnerLost))));
    assert!((100..140).all(|number| put(&client, number, MIB / 2) == Ok(PutOutcome::Stored)));
}

#[test]
fn a_killed_master_is_no_outage_and_the_next_one_learns() {
    let master = Process::master("127.0.0.1:0");
    let address = master.address();
    let _first = Process::engine("a", address, "64MB");
    let client = connect(address, Duration::from_secs(5));
    assert!((0..30).all(|number| put(&client, number, MIB / 4) == Ok(PutOutcome::Stored)));
    master.kill();
    assert!((30..60).all(|number| put(&client, number, MIB / 4) == Ok(PutOutcome::Stored)));
    assert!((0..60).all(|number| get(&client, number) == Ok(Found::Hit(()))));
    let _master = Process::master(&address.to_string());
    let _second = Process::engine("b", address, "64MB");
    assert!((0..60).all(|number| get(&client, number) == Ok(Found::Hit(()))));
    wait_until("slots have moved", Duration::from_secs(20), || {
        let stats = stats(&client);
        stats.slots_awaited + stats.slots_frozen == 0 && stats.objects_elsewhere > 0
    });
    assert!((0..60).all(|number| get(&client, number) == Ok(Found::Hit(()))));
}

#[test]
fn a_stopped_engine_costs_its_keys_their_deadline_and_no_more() {
    let master = Process::master("127.0.0.1:0");
    let engines =
        [Process::engine("a", master.address(), "64MB"), Process::engine("b", master.address(), "64MB")];
    let client = connect(master.address(), Duration::from_millis(400));
    for number in 0..20 {
        assert_eq!(put(&client, number, MIB), Ok(PutOutcome::Stored));
    }
    engines[1].signal(Signal::STOP);
    let mut buffers = vec![vec![0; MIB]; 20];
    let keys: Vec<_> = (0..20).map(key).collect();
    let mut reads: Vec<_> =
        keys.iter().zip(&mut buffers).map(|(key, buffer)| (&key[..], &mut buffer[..])).collect();
    let asked = Instant::now();
    let results = client.get_into(&mut reads);
    assert!(asked.elapsed() < Duration::from_millis(400) + SLACK, "{:?}", asked.elapsed());
    let served = results.iter().filter(|result| matches!(result, Ok(Found::Hit(MIB)))).count();
    let late = results.iter().filter(|result| matches!(result, Err(Error::Deadline))).count();
    assert!(served > 0 && late > 0 && served + late == 20, "{results:?}");
    // The buffers are ours again: what the engine sends when it goes on must not reach them.
    buffers.iter_mut().for_each(|buffer| buffer.fill(0x5a));
    engines[1].signal(Signal::CONT);
    wait_until("the engine answers again", Duration::from_secs(20), || {
        (0..20).all(|n| get(&client, n).is_ok())
    });
    assert!(buffers.iter().flatten().all(|byte| *byte == 0x5a));
}

#[test]
fn joins_and_leaves_under_load_lose_nothing_they_need_not() {
    let master = Process::master("127.0.0.1:0");
    let _first = Process::engine("a", master.address(), "128MB");
    let client = connect(master.address(), Duration::from_secs(5));
    assert!((0..100).all(|number| put(&client, number, MIB / 4) == Ok(PutOutcome::Stored)));
    let over = AtomicBool::new(false);
    let leaver = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            for number in (0..100).cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                assert_eq!(get(&client, number), Ok(Found::Hit(())), "key {number}");
                reads += 1;
            }
            reads
        });
        let joined = Process::engine("b", master.address(), "128MB");
        std::thread::sleep(Duration::from_millis(1500));
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
        joined
    });
    assert!(stats(&client).objects_elsewhere > 0, "entries have moved");
    assert!(leaver.terminate().success());
    assert!(
        (0..100).all(|number| get(&client, number) == Ok(Found::Hit(()))),
        "the bytes never left the first"
    );
}

#[test]
fn garbage_on_a_real_socket_is_refused_with_a_sentence() {
    let engine =
        Process::start("snowskin-engine", &["--cores", "1", "--memory", "16MB", "--listen", "127.0.0.1:0"]);
    let mut stream = TcpStream::connect(engine.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: snowskin\r\nUser-Agent: a browser that lost its way\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    // The end comes as an end or as a reset, since we sent more than was read.
    let _ = stream.read_to_end(&mut answer);
    assert!(engine.ready.contains("is ready"));
    let client = connect(engine.address(), Duration::from_secs(5));
    assert_eq!(put(&client, 1, 100), Ok(PutOutcome::Stored));
    assert_eq!(get(&client, 1), Ok(Found::Hit(())));
}

#[test]
fn a_taken_port_and_a_bad_flag_end_with_advice() {
    let engine =
        Process::start("snowskin-engine", &["--cores", "1", "--memory", "16MB", "--listen", "127.0.0.1:0"]);
    let listen = engine.address().to_string();
    for (args, advice) in [
        (vec!["--cores", "1", "--memory", "16MB", "--listen", &listen], "--listen"),
        (vec!["--cores", "1", "--memory", "lots"], "such as"),
        (vec!["--cores", "0"], "cores"),
    ] {
        let output =
            Command::new(binary("snowskin-engine")).args(&args).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(advice), "{args:?}: {said}");
    }
}
