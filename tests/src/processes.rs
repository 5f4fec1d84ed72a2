//! Clusters of real processes: the binaries as users start them, on loopback.
//!
//! Every child is killed by its pid when its handle goes, whatever the test does.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How long a process may take to say that it is ready.
const READY_TIME: Duration = Duration::from_secs(30);
/// How long a process may take to end after SIGTERM.
const END_TIME: Duration = Duration::from_secs(15);

/// A child process that said it is ready.
pub struct Process {
    child: Child,
    /// The line with which it said so; empty: not yet.
    pub ready: String,
    first_line: Receiver<String>,
}

/// The path of one of our binaries, in the build of this test.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let build = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps/TEST");
    let path = build.join(name);
    assert!(path.exists(), "{} is missing: build it with `cargo build --workspace --bins`", path.display());
    path
}

impl Process {
    /// Starts a binary and waits for the first line it prints, which says where it listens.
    pub fn start(name: &str, args: &[&str]) -> Process {
        let mut process = Process::spawn(name, args);
        process.ready = process.first_line.recv_timeout(READY_TIME).unwrap_or_default();
        assert!(process.ready.contains("is ready"), "{name} {args:?} said: {:?}", process.ready);
        process
    }

    /// Starts a binary and does not wait; see [`Process::is_ready`].
    pub fn spawn(name: &str, args: &[&str]) -> Process {
        let mut command = Command::new(binary(name));
        let child = command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let output = child.stdout.take().expect("it is piped");
        let (sender, first_line) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(output).lines();
            // The receiver is gone when the test has given up waiting.
            let _ = sender.send(lines.next().and_then(Result::ok).unwrap_or_default());
            lines.for_each(drop);
        });
        Process { child, ready: String::new(), first_line }
    }

    /// Whether it has said by now that it is ready.
    pub fn is_ready(&mut self) -> bool {
        if self.ready.is_empty() {
            self.ready = self.first_line.try_recv().unwrap_or_default();
        }
        self.ready.contains("is ready")
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// A master on any free port, or on a given one.
    pub fn master(listen: &str) -> Process {
        Process::start("snowskin-master", &["--listen", listen, "--http", "127.0.0.1:0", "--lease-ms", "200"])
    }

    /// An engine with two cores.
    pub fn engine(name: &str, master: SocketAddr, memory: &str) -> Process {
        let master = master.to_string();
        let args = ["--cores", "2", "--memory", memory, "--listen", "127.0.0.1:0", "--log", "warn"];
        Process::start("snowskin-engine", &[&args[..], &["--name", name, "--master", &master]].concat())
    }

    /// The first address of the line with which it said that it is ready.
    pub fn address(&self) -> SocketAddr {
        let words = self.ready.split([' ', ',']);
        words.filter_map(|word| word.parse().ok()).next().expect("the line has an address")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Any other signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it is our child");
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        let deadline = Instant::now() + END_TIME;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "process {} does not end", self.pid());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then both fail and nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
