//! Engines within this process, by the library: started in a line, spoken to by a client of the same process, ended.
//!
//! What is left of them afterwards: `embedded_end.rs`.

use snowskin_client::{BlockingClient, ClientConfig, Found, PutOutcome};
use snowskin_engine::config::Config;
use snowskin_engine::embedded::{EmbeddedEngine, EmbeddedError};
use snowskin_engine::launch::{LaunchError, Stop};
use snowskin_tests::values::value_of;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

const KEYS: usize = 40;
/// The longest value, in bytes.
const VALUE_BYTES_MAX: usize = 100_000;
/// How long an engine may take to end that has others to give its slots to.
const END_TIME: Duration = Duration::from_secs(10);

fn config(sockets: &Path, more: &[&str]) -> Config {
    let sockets = sockets.to_str().expect("a path in ASCII");
    let flags = ["--memory", "64MB", "--cores", "1", "--listen", "127.0.0.1:0", "--local-sockets", sockets];
    Config::from_flags([&flags[..], more].concat()).expect("a configuration")
}

fn client(engine: &EmbeddedEngine, sockets: &Path) -> BlockingClient {
    client_of(engine.master(), sockets)
}

fn client_of(seed: SocketAddr, sockets: &Path) -> BlockingClient {
    let config = ClientConfig { local_sockets: sockets.to_owned(), ..ClientConfig::new([seed]) };
    BlockingClient::connect(config).expect("somebody answers")
}

fn key(number: usize) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

fn value(number: usize) -> Vec<u8> {
    value_of(&key(number), 0, 100 + number * (VALUE_BYTES_MAX / KEYS))
}

fn put_all(client: &BlockingClient) {
    for number in 0..KEYS {
        assert_eq!(client.put(&[(&key(number), &value(number))]), [Ok(PutOutcome::Stored)], "key {number}");
    }
}

/// How many of the keys are found; what is found is right.
fn found(client: &BlockingClient) -> usize {
    let keys: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let answers = client.get(&keys).into_iter().enumerate();
    answers
        .filter(|(number, answer)| match answer.as_ref().expect("an answer") {
            Found::Hit(bytes) => {
                assert!(*bytes == value(*number), "key {number}");
                true
            }
            Found::Miss(_) => false,
        })
        .count()
}

#[test]
fn an_engine_serves_the_process_that_it_is_in_and_another_one_after_it() {
    let sockets = tempfile::tempdir().expect("a folder");
    for round in 0..2 {
        let engine = EmbeddedEngine::start(&config(sockets.path(), &[])).expect("an engine");
        assert_eq!(engine.cores().len(), 1);
        assert!(engine.cores().iter().all(|core| core.ip().is_loopback() && core.port() != 0));
        let http = engine.master_http().expect("its own master serves HTTP");
        assert!(http.ip().is_loopback() && http.port() != 0);
        let client = client(&engine, sockets.path());
        assert_eq!(found(&client), 0, "round {round}: nothing is left of an earlier one");
        put_all(&client);
        assert_eq!(found(&client), KEYS);
        assert!(client.counters().lanes_opened > 0, "they share memory");
        let addresses = [engine.cores()[0], engine.master(), http];
        engine.stop().expect("a good end");
        // Nobody listens there any more.
        for address in addresses {
            drop(
                TcpListener::bind(address)
                    .unwrap_or_else(|error| panic!("{address} of {addresses:?}: {error}")),
            );
        }
    }
}

#[test]
fn two_engines_of_one_process_share_a_master_and_the_second_takes_over() {
    let sockets = tempfile::tempdir().expect("a folder");
    let second_config = |master: SocketAddr| config(sockets.path(), &["--master", &master.to_string()]);
    let first = EmbeddedEngine::start(&config(sockets.path(), &[])).expect("an engine");
    let second = EmbeddedEngine::start(&second_config(first.master())).expect("a second one");
    assert_eq!((second.master(), second.master_http()), (first.master(), None));
    let client = client(&first, sockets.path());
    assert_eq!(client.table().expect("a table").members.len(), 2);
    put_all(&client);
    assert_eq!(found(&client), KEYS);
    // The second one leaves, comes again under a name of its own, and the first one has all slots in between.
    let begun = Instant::now();
    second.stop().expect("a good end");
    assert!(begun.elapsed() < END_TIME);
    let kept = found(&client);
    assert!((1..KEYS).contains(&kept), "{kept}: what was in the other one's memory is gone");
    let second = EmbeddedEngine::start(&second_config(first.master())).expect("it joins again");
    let another = self::client(&first, sockets.path());
    assert_eq!(another.table().expect("a table").members.len(), 2);
    assert_eq!([found(&client), found(&another)], [kept; 2]);
    // Without its master an engine goes on with what it knows: it has all slots, and what the other one held is a miss.
    first.stop().expect("a good end");
    let last = client_of(second.cores()[0], sockets.path());
    assert_eq!(last.table().expect("a table").members.len(), 1);
    let begun = Instant::now();
    assert!(found(&last) < KEYS && begun.elapsed() < Duration::from_secs(1));
    for number in KEYS..2 * KEYS {
        let (key, value) = (key(number), value(number));
        assert_eq!(last.put(&[(&key, &value)]), [Ok(PutOutcome::Stored)], "key {number}");
        assert!(last.get(&[&key]) == [Ok(Found::Hit(value))], "key {number}");
    }
    second.stop().expect("a good end");
}

#[test]
fn cores_that_cannot_start_are_an_error_and_leave_nobody_behind() {
    let sockets = tempfile::tempdir().expect("a folder");
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("it is bound").to_string();
    let listening = |more: &[&str]| {
        let flags = ["--memory", "64MB", "--local-sockets", sockets.path().to_str().expect("ASCII")];
        Config::from_flags([&flags[..], more].concat()).expect("a configuration")
    };
    let refused = EmbeddedEngine::start(&listening(&["--listen", &taken, "--cores", "1"])).err();
    assert!(matches!(refused, Some(EmbeddedError::Launch(LaunchError::Core { core: 0, .. }))), "{refused:?}");
    drop(holder);
    // A processor that is not there: the cores before it have begun, and end.
    let mut config = listening(&["--listen", &taken, "--cores", "2", "--overcommit"]);
    config.cpu_plan.cores[1].cpu = 60_000;
    let refused = EmbeddedEngine::start(&config).err();
    assert!(
        matches!(refused, Some(EmbeddedError::Launch(LaunchError::Thread { core: 1, .. }))),
        "{refused:?}"
    );
    drop(TcpListener::bind(&taken).expect("the port is free"));
    assert_eq!(std::fs::read_dir(sockets.path()).expect("a folder").count(), 0);
}

#[test]
fn a_master_that_cannot_start_is_an_error() {
    let sockets = tempfile::tempdir().expect("a folder");
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let http = holder.local_addr().expect("it is bound").to_string();
    let refused = EmbeddedEngine::start(&config(sockets.path(), &["--master-http", &http])).err();
    assert!(matches!(refused, Some(EmbeddedError::Master(_))), "{refused:?}");
}

#[test]
fn a_folder_of_another_engine_is_refused() {
    let (sockets, ssd) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let place = ssd.path().to_str().expect("ASCII");
    let flags = ["--ssd", place, "--ssd-size", "64MiB", "--ssd-region", "1MiB"];
    let first = EmbeddedEngine::start(&config(sockets.path(), &flags)).expect("an engine");
    let refused = EmbeddedEngine::start(&config(sockets.path(), &flags)).err();
    assert!(
        matches!(&refused, Some(EmbeddedError::FolderInUse(folder)) if folder == ssd.path()),
        "{refused:?}"
    );
    // One that has no ledger there comes as far as the volume.
    let master = first.master().to_string();
    let beside = config(sockets.path(), &[&flags[..], &["--master", &master]].concat());
    let refused = EmbeddedEngine::start(&beside).err();
    let is_core = |error: &EmbeddedError| matches!(error, EmbeddedError::Launch(LaunchError::Core { .. }));
    assert!(refused.as_ref().is_some_and(is_core), "{refused:?}");
    assert_eq!(std::fs::read_dir(sockets.path()).expect("a folder").count(), 1, "its own is gone");
    first.stop().expect("a good end");
    let second = EmbeddedEngine::start(&config(sockets.path(), &flags)).expect("the folder is free");
    second.stop().expect("a good end");
}

#[test]
fn a_start_that_waits_for_a_master_can_be_ended() {
    let sockets = tempfile::tempdir().expect("a folder");
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound");
    let config = config(sockets.path(), &["--master", &nobody.to_string()]);
    let stop = Stop::default();
    let switch = stop.clone();
    let ender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        switch.stop();
    });
    let begun = Instant::now();
    let engine = EmbeddedEngine::start_with(&config, stop).expect("it was asked to end, that is no error");
    engine.wait().expect("a good end");
    assert!(begun.elapsed() < END_TIME);
    ender.join().expect("it has used the switch");
}
