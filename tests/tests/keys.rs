//! Lists of keys: in the simulator, while slots change hands, and of real engines, as a client and an operator ask for them.

use bytes::Bytes;
use snowskin_client::{
    BlockingClient, ClientConfig, Error, Found, KeysCursor, PutOutcome, RemoveOutcome, Session,
};
use snowskin_io::Platform;
use snowskin_io::sim::SimPlatform;
use snowskin_protocol::{ObjectName, Settings};
use snowskin_tests::processes::{Process, binary};
use snowskin_tests::simulated::{Shape, SimCluster, patiently};
use snowskin_tests::values::value_of;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Keys, with the bytes of their values.
type Listed = BTreeMap<Vec<u8>, u64>;

fn key(number: usize) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

fn bytes_of(number: usize) -> usize {
    100 + number
}

fn expected(numbers: impl Iterator<Item = usize>) -> Listed {
    numbers.map(|number| (key(number), bytes_of(number) as u64)).collect()
}

// -- the simulated cluster --

fn name(number: usize) -> ObjectName {
    ObjectName::new("default", &key(number)).unwrap()
}

async fn put(session: &Rc<Session<SimPlatform>>, numbers: std::ops::Range<usize>) {
    let item = |number| (name(number), Bytes::from(value_of(&key(number), 0, bytes_of(number))));
    let deadline = patiently(session.platform());
    let put = session.put(numbers.map(item).collect(), deadline).await;
    assert!(put.iter().all(|put| *put == Ok(PutOutcome::Stored)), "{put:?}");
}

/// All pages of so many keys, and how often it was begun anew.
async fn list(
    session: &Rc<Session<SimPlatform>>,
    pattern: &str,
    limit: usize,
    pause: Duration,
) -> (Listed, usize) {
    let (mut listed, mut again, mut after) = (Listed::new(), 0, None);
    loop {
        match session.list_keys(pattern, limit, after, patiently(session.platform())).await {
            Ok(page) => {
                for key in page.keys {
                    assert_eq!(listed.insert(key.key, key.value_bytes), None, "listed twice");
                }
                match page.next {
                    Some(next) => after = Some(next),
                    None => return (listed, again),
                }
            }
            Err(Error::KeysMoved) => {
                (listed, again, after) = (Listed::new(), again + 1, None::<KeysCursor>);
            }
            Err(error) => panic!("{error}"),
        }
        session.platform().sleep(pause).await;
    }
}

/// Two engines, two tenants, and all that changes what is listed; answers the event hash.
fn of_two_engines(seed: u64) -> u64 {
    let settings = Settings { lease_ms: 50, ..Settings::default() };
    let mut cluster = SimCluster::start(seed, 2, Shape { cores: 2, settings, ..Shape::default() });
    let (node, session) = cluster.client("client");
    let other_config = ClientConfig { tenant: "other".to_owned(), ..cluster.client_config() };
    let (ours, others) = (session, Session::open(node.clone(), other_config));
    cluster.run(&node, async move {
        put(&ours, 0..200).await;
        let deadline = patiently(others.platform());
        let item = (others.name(b"of another tenant").unwrap(), Bytes::from_static(b"value"));
        assert!(others.put(vec![item], deadline).await[0].is_ok());
        for limit in [1, 7, 200, usize::MAX] {
            assert_eq!(list(&ours, "", limit, Duration::ZERO).await, (expected(0..200), 0));
        }
        let nines = || (0..200).filter(|number| number % 10 == 9);
        assert_eq!(list(&ours, "9$", 3, Duration::ZERO).await.0, expected(nines()));
        let of_others = list(&others, "", 3, Duration::ZERO).await.0;
        assert_eq!(of_others, Listed::from([(b"of another tenant".to_vec(), 5)]));
        // No leases: what was only listed can be removed.
        let removed = ours.remove(nines().map(name).collect(), false, deadline).await;
        assert!(removed.iter().all(|removed| *removed == Ok(RemoveOutcome::Removed)), "{removed:?}");
        let rest = expected((0..200).filter(|number| number % 10 != 9));
        assert_eq!(list(&ours, "", 64, Duration::ZERO).await.0, rest);
        let error = ours.list_keys("(", 1, None, deadline).await.unwrap_err();
        assert!(matches!(error, Error::BadPattern(_)), "{error}");
    });
    cluster.sim.event_hash()
}

#[test]
fn what_is_held_is_listed_and_the_same_seed_is_the_same_run() {
    let first = of_two_engines(1);
    assert_eq!(first, of_two_engines(1));
    assert_ne!(first, of_two_engines(2));
}

#[test]
fn a_listing_is_whole_also_while_engines_join_and_leave() {
    let mut cluster = SimCluster::start(5, 1, Shape { cores: 2, ..Shape::default() });
    let (node, session) = cluster.client("client");
    let first = session.clone();
    cluster.run(&node, async move { put(&first, 0..300).await });
    let mut again = 0;
    for engines in 2..=4 {
        cluster.add_engine();
        for pause_ms in [0, 3, 20, 60] {
            let session = session.clone();
            let pause = Duration::from_millis(pause_ms);
            let (listed, more) = cluster.run(&node, async move { list(&session, "", 25, pause).await });
            assert_eq!(listed, expected(0..300), "{engines} engines");
            again += more;
        }
        cluster.settle();
    }
    assert!(again > 0, "no page met a table that was newer than that of the one before it");
}

// -- real engines --

fn connect(seed: SocketAddr) -> BlockingClient {
    BlockingClient::connect(ClientConfig::new([seed])).expect("the cluster answers")
}

fn list_all(client: &BlockingClient, limit: usize) -> Listed {
    let (mut listed, mut after) = (Listed::new(), None);
    loop {
        let page = client.list_keys("", limit, after).expect("nobody comes or goes");
        listed.extend(page.keys.into_iter().map(|listed| (listed.key, listed.value_bytes)));
        match page.next {
            Some(next) => after = Some(next),
            None => return listed,
        }
    }
}

/// Runs `snowskin-ctl`; answers whether it succeeded, its output, and what else it said.
fn ctl(at: SocketAddr, arguments: &[&str]) -> (bool, String, String) {
    let at = at.to_string();
    let output = Command::new(binary("snowskin-ctl")).args(["--at", &at]).args(arguments).output();
    let output = output.expect("it can be started");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_operator_lists_keys() {
    let master = Process::master("127.0.0.1:0");
    let _engines = ["a", "b"].map(|name| Process::engine(name, master.address(), "32MB"));
    let client = connect(master.address());
    for number in 0..1_100 {
        let value = value_of(&key(number), 0, bytes_of(number));
        // The second engine's arrival moves slots.
        assert_eq!(client.upsert(&[(&key(number), &value)]), [Ok(PutOutcome::Stored)]);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while client
        .stats()
        .unwrap()
        .iter()
        .any(|(_, core)| core.as_ref().is_ok_and(|core| core.slots_awaited > 0))
    {
        assert!(Instant::now() < deadline, "slots arrive");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(list_all(&client, 300), expected(0..1_100));
    let lines = |arguments: &[&str]| {
        let (is_done, out, said) = ctl(master.address(), &[&["keys"], arguments].concat());
        assert!(is_done, "{said}");
        (out.lines().map(str::to_owned).collect::<Vec<_>>(), said)
    };
    let (mut all, said) = lines(&["--limit", "2000"]);
    all.sort();
    let mut right: Vec<String> = (0..1_100).map(|n| format!("key-{n}: {} bytes", bytes_of(n))).collect();
    right.sort();
    assert!(all == right && said.is_empty(), "{said}");
    let (some, said) = lines(&[]);
    assert!(some.len() == 1_000 && said.contains("there may be more"), "{said}");
    assert_eq!(lines(&["--match", "^key-77$"]).0, ["key-77: 177 bytes"]);
    assert_eq!(lines(&["--match", "^nothing", "--limit", "3"]).0, [""; 0]);
    let (is_done, _, said) = ctl(master.address(), &["keys", "--match", "("]);
    assert!(!is_done && said.contains("no regular expression"), "{said}");
    let (is_done, help, _) = ctl(master.address(), &["keys", "--help"]);
    assert!(
        is_done && help.contains("--match") && help.contains("--limit") && help.contains("grants no leases")
    );
}

/// What has gone to the SSD is held, and listed; what is gone from there, too, is not.
#[test]
fn what_is_on_an_ssd_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().expect("text");
    let args =
        ["--memory", "9MB", "--listen", "127.0.0.1:0", "--log", "warn", "--name", "ssd", "--cores", "1"];
    let more = ["--ssd", place, "--ssd-size", "64MiB", "--ssd-region", "1MiB", "--lease-ms", "1"];
    let engine = Process::start("snowskin-engine", &[&args[..], &more].concat());
    let client = connect(engine.address());
    for number in 0..100 {
        let value = value_of(&key(number), 0, 200_000 + number);
        assert_eq!(client.put(&[(&key(number), &value)]), [Ok(PutOutcome::Stored)]);
        std::thread::sleep(Duration::from_millis(6));
    }
    let on_ssd = client.stats().unwrap()[0].1.as_ref().unwrap().objects_on_ssd;
    assert!(on_ssd > 20, "{on_ssd}");
    let listed = list_all(&client, 7);
    let held: Listed = (0..100)
        .filter(|number| matches!(client.get(&[&key(*number)])[0], Ok(Found::Hit(_))))
        .map(|number| (key(number), 200_000 + number as u64))
        .collect();
    assert_eq!(listed, held);
}
