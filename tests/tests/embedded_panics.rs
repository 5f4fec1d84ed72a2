//! A panic on a thread of an engine ends the process that has it; one on a thread of the host does not.
//!
//! Each case is a process of its own: this test, started again. What panics on an engine's thread is the host's logger.

use log::{LevelFilter, Log, Metadata, Record};
use snowskin_client::{BlockingClient, ClientConfig, Found, PutOutcome};
use snowskin_engine::config::Config;
use snowskin_engine::embedded::EmbeddedEngine;
use snowskin_tests::values::value_of;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

/// Set for a child process: which thread is to panic.
const CHILD_VARIABLE: &str = "SNOWSKIN_PANIC_CHILD";
const SIGABRT: i32 = 6;
const EARLIER_HOOK: &str = "the host's own hook was called";
const GOES_ON: &str = "the host goes on";

/// Panics at a line of the log, on a thread whose name begins so.
struct Panicking {
    thread: &'static str,
    line: &'static str,
}

impl Log for Panicking {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let thread = std::thread::current();
        let is_there = thread.name().is_some_and(|name| name.starts_with(self.thread));
        assert!(!(is_there && record.args().to_string().contains(self.line)), "on purpose");
    }

    fn flush(&self) {}
}

fn child(thread: &str) -> Output {
    Command::new(std::env::current_exe().expect("our path"))
        .args(["--exact", "child_panics", "--nocapture"])
        .env(CHILD_VARIABLE, thread)
        .output()
        .expect("a child")
}

#[test]
fn child_panics() {
    let Some(thread) = std::env::var_os(CHILD_VARIABLE) else { return };
    std::panic::set_hook(Box::new(|_| println!("{EARLIER_HOOK}")));
    let logger: &'static dyn Log = match thread.to_str() {
        Some("core") => &Panicking { thread: "snowskin-0", line: "of memory in" },
        Some("master") => &Panicking { thread: "snowskin-master", line: "answering frames on" },
        _ => &Panicking { thread: "nobody", line: "" },
    };
    log::set_logger(logger).expect("the first one");
    log::set_max_level(LevelFilter::Info);
    let sockets = tempfile::tempdir().expect("a folder");
    let folder = sockets.path().to_str().expect("ASCII");
    let flags = ["--memory", "64MB", "--cores", "1", "--listen", "127.0.0.1:0", "--local-sockets", folder];
    let config = Config::from_flags(flags).expect("a configuration");
    let engine = EmbeddedEngine::start(&config).expect("an engine");
    let panicked = std::thread::spawn(|| panic!("on purpose")).join();
    assert!(panicked.is_err());
    let seeds = [engine.master()];
    let config = ClientConfig { local_sockets: sockets.path().to_owned(), ..ClientConfig::new(seeds) };
    let client = BlockingClient::connect(config).expect("the master answers");
    let value = value_of(b"key", 0, 1000);
    assert_eq!(client.put(&[(b"key", &value)]), [Ok(PutOutcome::Stored)]);
    assert!(client.get(&[b"key"]) == [Ok(Found::Hit(value))]);
    engine.stop().expect("a good end");
    println!("{GOES_ON}");
}

#[test]
fn a_panic_on_an_engines_thread_ends_the_process() {
    for thread in ["core", "master"] {
        let output = child(thread);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{thread}: {printed}");
        assert!(printed.contains(EARLIER_HOOK) && !printed.contains(GOES_ON), "{thread}: {printed}");
    }
}

#[test]
fn a_panic_on_the_hosts_thread_does_not() {
    let output = child("host");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains(EARLIER_HOOK) && printed.contains(GOES_ON), "{printed}");
}
