//! The real thing: a master on ordinary sockets, in a thread and as a process, with admin HTTP asked by a plain client.

use serde_json::{Value, json};
use snowskin_io::framing::Channel;
use snowskin_io::sockets::SocketsRuntime;
use snowskin_master::{Addresses, MasterConfig, MasterError, run_blocking};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::control::{Load, Orders, Report};
use snowskin_protocol::{CoreId, EngineId, Epoch, Incarnation, Member, RoutingTable, SLOT_COUNT};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A master in a thread of this process.
struct Embedded {
    addresses: Addresses,
    config: MasterConfig,
    thread: JoinHandle<Result<(), MasterError>>,
}

impl Embedded {
    fn start() -> Self {
        let http = Some("127.0.0.1:0".parse().unwrap());
        let config = MasterConfig { http, ..MasterConfig::embedded() };
        let (sender, receiver) = std::sync::mpsc::channel();
        let given = config.clone();
        let thread = std::thread::spawn(move || run_blocking(given, move |at| sender.send(at).unwrap()));
        let addresses = receiver.recv_timeout(PATIENCE).expect("it starts");
        Embedded { addresses, config, thread }
    }

    fn get(&self, path: &str) -> (u16, String) {
        ask(self.addresses.http.unwrap(), "GET", path, "")
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    fn stop(self) {
        self.config.stop.stop();
        self.thread.join().unwrap().unwrap();
    }
}

/// One HTTP request; answers status and body.
fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}");
    write!(stream, "{head}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn report(core: u16) -> Report {
    let member = Member {
        id: CoreId { engine: EngineId::of_name("test"), core },
        incarnation: Incarnation(1),
        address: SocketAddr::from(([127, 0, 0, 1], 7400 + core)),
        weight: 64,
    };
    let load = Load { capacity_bytes: 3 << 30, free_bytes: 1 << 30, objects: 5, ..Load::default() };
    Report { member, engine_cores: 2, epoch: Epoch(0), slots_moving: 0, keeps: false, load }
}

/// Registers two cores and asks until there is a table; answers it.
fn join(master: SocketAddr) -> RoutingTable {
    let runtime = SocketsRuntime::new(Duration::ZERO).unwrap();
    let joined = runtime.run(move |platform| async move {
        let mut channel = Channel::open(&platform, master).await.unwrap();
        let mut reply = Vec::new();
        for core in 0..2 {
            channel.call(Opcode::Register, Epoch(0), &report(core).encode(), &mut reply).await.unwrap();
        }
        let began = Instant::now();
        loop {
            channel.call(Opcode::Heartbeat, Epoch(0), &report(0).encode(), &mut reply).await.unwrap();
            if Orders::decode(&reply).unwrap().epoch > Epoch(0) {
                break;
            }
            assert!(began.elapsed() < PATIENCE);
            snowskin_io::Platform::sleep(&platform, Duration::from_millis(20)).await;
        }
        channel.call(Opcode::Table, Epoch(0), &[], &mut reply).await.unwrap();
        RoutingTable::decode(&reply).unwrap()
    });
    joined.expect("no panic")
}

#[test]
fn http_shows_what_the_frames_did() {
    let master = Embedded::start();
    assert_eq!(master.json("/health")["epoch"], 0);
    let table = join(master.addresses.frames);
    assert_eq!((table.epoch, table.members.len()), (Epoch(1), 2));

    assert_eq!(master.json("/health")["members"], 2);
    let shown = master.json("/table");
    let slots = |row: &Value| row["slots"].as_u64().unwrap();
    assert_eq!(shown["members"].as_array().unwrap().iter().map(slots).sum::<u64>(), SLOT_COUNT as u64);
    assert_eq!((&shown["moving_slots"], &shown["homeless_slots"]), (&json!(0), &json!(0)));
    let members = master.json("/members");
    assert_eq!((&members[1]["state"], &members[1]["core"]), (&json!("active"), &json!(1)));
    assert!(members[1]["silence_s"].as_f64().unwrap() < 60.0);
    let engines = master.json("/engines");
    assert_eq!((&engines[0]["cores"], &engines[0]["cores_alive"]), (&json!(2), &json!(2)));
    assert_eq!(engines[0]["capacity_bytes"], 6_u64 << 30);

    let (status, metrics) = master.get("/metrics");
    assert_eq!(status, 200);
    for line in [
        "snowskin_master_epoch 1",
        "snowskin_master_members{state=\"active\"} 2",
        "snowskin_master_frames_total{opcode=\"register\"} 2",
        "snowskin_master_data_frames_refused_total 0",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    let engine = EngineId::of_name("test");
    assert!(
        metrics.contains(&format!("snowskin_core_free_bytes{{engine=\"{engine}\",core=\"1\"}} {}", 1 << 30))
    );
    let (status, page) = master.get("/");
    assert_eq!(status, 200);
    assert!(page.contains("127.0.0.1:7401") && page.ends_with("</html>\n"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
    assert_eq!(master.get("/nonsense").0, 404);
    master.stop();
}

#[test]
fn settings_change_by_http_and_reach_the_cores() {
    let master = Embedded::start();
    let http = master.addresses.http.unwrap();
    let (status, body) =
        ask(http, "PUT", "/settings", r#"{"high_watermark_permille": 900, "low_watermark_permille": 800}"#);
    assert_eq!(status, 200);
    let expected = json!({"high_watermark_permille": 900, "low_watermark_permille": 800, "lease_ms": 5000, "allocation_strategy": "fragmentation_aware"});
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    for (bad, words) in [
        (r#"{"high_watermark_permille": 700}"#, "1 <= low <= high <= 1000"),
        (r#"{"lease_ms": -1}"#, "lease_ms"),
        (r#"{"lease": 1}"#, "unknown field"),
        ("not JSON", "JSON"),
    ] {
        let (status, sentence) = ask(http, "PUT", "/settings", bad);
        assert_eq!(status, 400, "{bad}");
        assert!(sentence.contains(words), "{sentence}");
    }
    assert_eq!(ask(http, "PUT", "/settings", &" ".repeat(100_000)).0, 413);
    assert_eq!(ask(http, "DELETE", "/settings", "").0, 405);
    assert_eq!(master.json("/settings"), expected);
    let frames = master.addresses.frames;
    let settings = SocketsRuntime::new(Duration::ZERO).unwrap().run(move |platform| async move {
        let mut channel = Channel::open(&platform, frames).await.unwrap();
        let mut reply = Vec::new();
        channel.call(Opcode::Register, Epoch(0), &report(0).encode(), &mut reply).await.unwrap();
        Orders::decode(&reply).unwrap().settings
    });
    assert_eq!(settings.unwrap().low_watermark_permille, 800);
    master.stop();
}

#[test]
fn a_port_that_is_taken_is_told() {
    let master = Embedded::start();
    let config = MasterConfig { listen: master.addresses.frames, ..MasterConfig::embedded() };
    let error = run_blocking(config, |_| panic!("it cannot be ready")).unwrap_err();
    assert!(error.to_string().contains(&master.addresses.frames.to_string()));
    let config = MasterConfig { http: master.addresses.http, ..MasterConfig::embedded() };
    assert!(matches!(run_blocking(config, |_| ()), Err(MasterError::Listen { .. })));
    master.stop();
}

#[test]
fn stopped_before_it_starts_it_does_not_run() {
    let config = MasterConfig::embedded();
    config.stop.stop();
    run_blocking(config, |_| ()).unwrap();
}

/// A master as a process, killed when the test ends.
struct Process {
    child: Child,
    /// Kept open: a closed pipe would be another test.
    _stdout: BufReader<ChildStdout>,
    frames: SocketAddr,
    http: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snowskin-master"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn spawn(ledger: &Path) -> Process {
    let ledger = ledger.to_str().unwrap();
    let mut child = command(&["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ledger", ledger])
        .args(["--quiet-ms", "0", "--log", "error"])
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let rest = line.trim_end().strip_prefix("snowskin-master is ready: frames on ").expect("the ready line");
    let (frames, http) = rest.split_once(", http on http://").expect("both addresses");
    Process { child, frames: frames.parse().unwrap(), http: http.parse().unwrap(), _stdout: stdout }
}

#[test]
fn a_process_remembers_by_its_ledger_and_ends_cleanly() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger");
    let mut first = spawn(&ledger);
    let table = join(first.frames);
    let (status, _) = ask(first.http, "PUT", "/settings", r#"{"lease_ms": 11}"#);
    assert_eq!(status, 200);
    // The ledger has one owner.
    let second =
        command(&["--listen", "127.0.0.1:0", "--no-http", "--ledger", ledger.to_str().unwrap()]).output();
    let second = second.unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8(second.stderr).unwrap().contains("in use by another master"));
    // Killed without warning, it has told nobody anything that the ledger does not have.
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let mut again = spawn(&ledger);
    let (_, shown) = ask(again.http, "GET", "/table", "");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["epoch"], table.epoch.0);
    assert!(ask(again.http, "GET", "/settings", "").1.contains("\"lease_ms\":11"));
    for signal in ["-TERM", "-INT"] {
        let pid = again.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(again.child.wait().unwrap().code(), Some(0));
        again = spawn(&ledger);
    }
}

#[test]
fn a_process_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger");
    std::fs::write(&ledger, b"torn").unwrap();
    let damaged =
        command(&["--listen", "127.0.0.1:0", "--no-http", "--ledger", ledger.to_str().unwrap()]).output();
    let damaged = damaged.unwrap();
    assert_eq!(damaged.status.code(), Some(1));
    assert!(String::from_utf8(damaged.stderr).unwrap().contains("move it away"));
    assert_eq!(std::fs::read(&ledger).unwrap(), b"torn");
    let master = spawn(&directory.path().join("other"));
    let taken = command(&["--listen", &master.frames.to_string(), "--no-http"]).output().unwrap();
    assert_eq!(taken.status.code(), Some(1));
    let sentence = String::from_utf8(taken.stderr).unwrap();
    assert!(sentence.contains(&master.frames.to_string()) && sentence.contains("0 for any"));
}
