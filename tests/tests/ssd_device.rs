//! Real engines whose cores share a device: a loop device where there can be one, and a file, which is divided in the same way.

use snowskin_client::{BlockingClient, ClientConfig, Found};
use snowskin_tests::processes::{Process, binary};
use snowskin_tests::values::{generation_of, value_of};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const KEYS: usize = 90;
/// Several times as much as there is memory, together.
const VALUE_BYTES: usize = 300_000;
const DISK_BYTES: u64 = 64 << 20;

/// A block device made of a file, as long as this lives.
struct Loop(PathBuf);

impl Loop {
    fn new(file: &Path) -> Option<Loop> {
        let output =
            Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(file).output().ok()?;
        let name = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| Loop(PathBuf::from(name.trim())))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

fn arguments<'a>(disk: &'a str, cores: &'a str, name: &'a str) -> Vec<&'a str> {
    let args =
        ["--cores", cores, "--memory", "18MB", "--listen", "127.0.0.1:0", "--log", "warn", "--name", name];
    let tier = ["--lease-ms", "1", "--ssd", disk, "--ssd-size", "64MiB", "--ssd-region", "1MiB"];
    [&args[..], &tier].concat()
}

fn connect(engine: &Process) -> BlockingClient {
    BlockingClient::connect(ClientConfig::new([engine.address()])).expect("the engine answers")
}

fn key(number: usize) -> Vec<u8> {
    format!("prefix-{number}").into_bytes()
}

/// How many keys are held, each with the bytes that were put.
fn held(client: &BlockingClient) -> usize {
    let is_held = |number: &usize| match client.get(&[&key(*number)]).remove(0).expect("an answer") {
        Found::Miss(_) => false,
        Found::Hit(value) => {
            assert_eq!(generation_of(&key(*number), &value), Some(1), "key {number}");
            true
        }
    };
    (0..KEYS).filter(is_held).count()
}

/// What an engine says that does not start.
fn refusal(disk: &str, cores: &str) -> String {
    let mut command = Command::new(binary("snowskin-engine"));
    let output = command.args(arguments(disk, cores, "other")).output().expect("it can be started");
    assert!(!output.status.success(), "it has started");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Two cores on a disk: each demotes to its part, the next life finds what there is, and nobody else gets in.
fn is_shared(disk: &Path) {
    let disk = disk.to_str().expect("text");
    let engine = Process::start("snowskin-engine", &arguments(disk, "2", "ssd"));
    let client = connect(&engine);
    for number in 0..KEYS {
        let value = value_of(&key(number), 1, VALUE_BYTES);
        assert!(client.put(&[(&key(number), &value)]).remove(0).is_ok());
        // As fast as the disk takes it.
        std::thread::sleep(Duration::from_millis(8));
    }
    let before = held(&client);
    let cores = client.stats().expect("counters");
    let demoted: Vec<u64> =
        cores.iter().map(|(_, stats)| stats.as_ref().expect("it answers").demoted).collect();
    assert!(demoted.len() == 2 && demoted.iter().all(|count| *count > 0), "{demoted:?} went to the disk");
    assert!(before > KEYS / 2, "{before} of {KEYS} are held");
    let said = refusal(disk, "2");
    assert!(said.contains("is used by another engine"), "{said}");
    engine.kill();
    for cores in ["1", "3"] {
        let said = refusal(disk, cores);
        assert!(said.contains("divided for an engine of 2 cores"), "{said}");
    }
    for part in ["0", "1"] {
        let part = format!("{disk}@{part}");
        let output =
            Command::new(binary("snowskin-inspect")).args(["verify", &part]).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("read: "), "{said}");
    }
    let engine = Process::start("snowskin-engine", &arguments(disk, "2", "ssd"));
    let found = held(&connect(&engine));
    println!("{disk}: {demoted:?} demoted, {before} held, {found} found by the next life");
    assert!(engine.terminate().success());
}

#[test]
fn two_cores_share_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk");
    File::create(&path).and_then(|file| file.set_len(DISK_BYTES)).expect("room");
    is_shared(&path);
}

#[test]
fn two_cores_share_a_block_device() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk");
    File::create(&path).and_then(|file| file.set_len(DISK_BYTES)).expect("room");
    let Some(device) = Loop::new(&path) else { return println!("skipped: no loop device can be had") };
    is_shared(&device.0);
}
