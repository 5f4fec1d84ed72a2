//! Segments and eviction of real engines, as an operator works with them: `snowskin-ctl`, and the master's HTTP.

use snowskin_client::{BlockingClient, ClientConfig, Found, PutOptions, PutOutcome};
use snowskin_tests::processes::{Process, binary};
use snowskin_tests::values::{generation_of, value_of};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

const KEYS: usize = 200;
const VALUE_BYTES: usize = 100_000;

fn key(number: usize) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

fn connect(seed: SocketAddr) -> BlockingClient {
    BlockingClient::connect(ClientConfig::new([seed])).expect("the cluster answers")
}

fn put(client: &BlockingClient, number: usize, options: PutOptions) -> PutOutcome {
    let (key, value) = (key(number), value_of(&key(number), 0, VALUE_BYTES));
    client.put_with(&[(&key, &value, options)]).remove(0).expect("there is room")
}

/// How many of the keys are held, each with its own bytes.
fn held(client: &BlockingClient) -> usize {
    let is_held = |number: &usize| match client.get(&[&key(*number)]).remove(0).expect("an answer") {
        Found::Hit(value) => {
            assert!(generation_of(&key(*number), &value).is_some(), "wrong bytes under key {number}");
            true
        }
        Found::Miss(_) => false,
    };
    (0..KEYS).filter(is_held).count()
}

/// Runs `snowskin-ctl`; answers whether it succeeded, and what it said.
fn ctl(at: SocketAddr, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary("snowskin-ctl"))
        .args(["--at", &at.to_string()])
        .args(arguments)
        .output()
        .expect("it can be started");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).expect("text"))
}

/// The answer to one HTTP request: its status and its body.
fn http(at: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: m\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, body.to_owned())
}

fn http_address(master: &Process) -> SocketAddr {
    master.ready.rsplit("http://").next().expect("it says where").trim().parse().expect("an address")
}

/// The ids of the cores, as `status` shows them.
fn cores(client: &BlockingClient) -> Vec<String> {
    client.table().unwrap().members.iter().map(|member| member.id.to_string()).collect()
}

#[test]
fn segments_come_and_go_and_no_byte_is_lost() {
    let master = Process::master("127.0.0.1:0");
    let _engine = Process::engine("a", master.address(), "32MB");
    let client = connect(master.address());
    let at = master.address();
    (0..KEYS).for_each(|number| assert_eq!(put(&client, number, PutOptions::default()), PutOutcome::Stored));
    let cores = cores(&client);
    let (_, before) = ctl(at, &["segments"]);
    assert_eq!(before.lines().count(), 3, "{before}");
    for core in &cores {
        let (is_done, said) = ctl(at, &["mount", core, "--size", "32MiB", "--huge-pages", "off"]);
        assert!(is_done && said.contains("has segment 1 of 32 MiB: plain pages"), "{said}");
        let (is_done, said) = ctl(at, &["unmount", core, "0"]);
        assert!(is_done && said.contains("empties segment 0"), "{said}");
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while ctl(at, &["segments"]).1.lines().count() > 3 {
        assert!(Instant::now() < deadline, "still there: {}", ctl(at, &["segments"]).1);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(held(&client), KEYS, "all has moved");
    let (is_done, said) = ctl(at, &["unmount", &cores[0], "0"]);
    assert!(!is_done && said.contains("there is no segment 0 here"), "{said}");
    let (is_done, said) = ctl(at, &["mount", "12345678/9", "--size", "1MiB"]);
    assert!(!is_done && said.contains("there is no core 12345678/9"), "{said}");
    let (is_done, said) = ctl(at, &["mount", &cores[0]]);
    assert!(!is_done && said.contains("say how many bytes"), "{said}");
    let (is_done, said) = ctl(at, &["mount", &cores[0], "--size", "1900GiB", "--huge-pages", "off"]);
    assert!(!is_done && said.contains("are available") && said.contains("mount less"), "{said}");
    let (is_done, said) = ctl(at, &["mount", &cores[0], "--path", "/no/such/folder/file", "--size", "1MiB"]);
    assert!(!is_done && said.contains("/no/such/folder/file"), "{said}");
}

#[test]
fn segments_are_mounted_one_after_the_other() {
    let master = Process::master("127.0.0.1:0");
    let _engine = Process::engine("a", master.address(), "4MB");
    let (at, client) = (master.address(), connect(master.address()));
    let core = &cores(&client)[0];
    let mount = |size| ctl(at, &["mount", core, "--size", size, "--huge-pages", "off"]);
    std::thread::scope(|scope| {
        let large = scope.spawn(|| mount("512MiB"));
        let refused = || {
            let (is_done, said) = mount("1MiB");
            assert!(is_done || said.contains("another segment is being mounted"), "{said}");
            !is_done
        };
        let was_refused = std::iter::repeat_with(|| (large.is_finished(), refused()));
        let was_refused = was_refused.take_while(|(is_over, _)| !is_over).any(|(_, refused)| refused);
        let (is_done, said) = large.join().expect("it ends");
        assert!(was_refused == is_done && (is_done || said.contains("another segment")), "{said}");
    });
    assert!(mount("1MiB").0, "it is there: the next one may come");
}

#[test]
fn a_file_can_be_a_segment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("segment");
    let master = Process::master("127.0.0.1:0");
    let _engine = Process::engine("a", master.address(), "4MB");
    let client = connect(master.address());
    let core = &cores(&client)[0];
    let path = path.to_str().expect("a plain path");
    let (is_done, said) = ctl(master.address(), &["mount", core, "--path", path, "--size", "64MiB"]);
    assert!(is_done, "{said}");
    let (is_done, said) = ctl(master.address(), &["mount", core, "--path", path, "--size", "64MiB"]);
    assert!(!is_done, "one file is not two segments: {said}");
    // The core's own two megabytes hold none of these, as the other core's do.
    let large = vec![5; 10 << 20];
    let stored = (0..8).filter(|number| client.put(&[(&key(*number), &large)]).remove(0).is_ok()).count();
    assert!(stored > 0, "some keys have their home there");
}

#[test]
fn an_operator_evicts_and_pins_hold() {
    let master = Process::master("127.0.0.1:0");
    let _engine = Process::engine("a", master.address(), "64MB");
    let client = connect(master.address());
    for number in 0..KEYS {
        let options = PutOptions { hard_pin: number < 20, ..PutOptions::default() };
        assert_eq!(put(&client, number, options), PutOutcome::Stored);
    }
    let (is_done, said) = ctl(master.address(), &["evict", "--to", "0.1"]);
    assert!(is_done && said.lines().count() == 2 && said.contains("evicted"), "{said}");
    let left = held(&client);
    assert!((20..KEYS).contains(&left), "{left} are left");
    std::thread::sleep(Duration::from_millis(250));
    let (is_done, said) = ctl(master.address(), &["evict", "--to", "0"]);
    assert!(is_done && said.contains("protect the rest"), "{said}");
    assert_eq!(held(&client), 20, "what is pinned hard");
    let (is_done, said) = ctl(master.address(), &["evict", "--to", "50"]);
    assert!(!is_done && said.contains("\"50\" is no share"), "{said}");
}

#[test]
fn the_masters_http_reaches_the_cores() {
    let master = Process::master("127.0.0.1:0");
    let _engine = Process::engine("a", master.address(), "64MB");
    let client = connect(master.address());
    let (cores, at) = (cores(&client), http_address(&master));
    (0..KEYS).for_each(|number| assert_eq!(put(&client, number, PutOptions::default()), PutOutcome::Stored));
    let (status, segments) = http(at, "GET", "/segments", "");
    assert!(status == 200 && cores.iter().all(|core| segments.contains(core.as_str())), "{segments}");
    let path = format!("/cores/{}", cores[1]);
    let (status, mounted) = http(at, "POST", &path, r#"{"mount": {"bytes": 1048576, "huge_pages": "off"}}"#);
    assert!(status == 200 && mounted.contains(r#""mounted":{"segment":1,"bytes":1048576"#), "{mounted}");
    let (status, evicted) = http(at, "POST", "/cores", r#"{"evict": {"permille": 0}}"#);
    assert!(status == 200 && evicted.matches(r#""reached":true"#).count() == 2, "{evicted}");
    assert_eq!(held(&client), 0);
    let engine = cores[0].split('/').next().expect("an engine");
    let (status, answer) = http(at, "POST", &format!("/cores/{engine}"), r#""segments""#);
    assert!(status == 200 && answer.matches("free_bytes").count() == 3, "{answer}");
    assert_eq!(http(at, "POST", "/cores/nobody/0", r#""segments""#).0, 404);
    let (status, advice) = http(at, "POST", "/cores", "{}");
    assert!(status == 400 && advice.contains("mount"), "{advice}");
}

#[test]
fn the_strategy_is_a_setting_of_the_cluster() {
    let master = Process::master("127.0.0.1:0");
    let at = http_address(&master);
    let (status, settings) = http(at, "GET", "/settings", "");
    assert!(
        status == 200 && settings.contains(r#""allocation_strategy":"fragmentation_aware""#),
        "{settings}"
    );
    let (status, settings) = http(at, "PUT", "/settings", r#"{"allocation_strategy": "random"}"#);
    assert!(status == 200 && settings.contains(r#""allocation_strategy":"random""#), "{settings}");
    let (status, advice) = http(at, "PUT", "/settings", r#"{"allocation_strategy": "best"}"#);
    assert!(status == 400 && advice.contains("free_ratio_first"), "{advice}");
}
