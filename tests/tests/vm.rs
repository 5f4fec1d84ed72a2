//! A whole engine whose SSD tier is a block device: two cores on one NVMe disk of a virtual machine, that dies, and that has bad sectors.
//!
//! Skipped where there is no virtual machine: see `tests/src/vm.rs`, and `make vm`. The guest says line by line what it is about to write and
//! what has been answered, so that who starts the next one knows what may be seen:
//!
//! ```text
//!   begin KEY GENERATION     from now on this may be seen
//!   least KEY GENERATION     and nothing before this
//!   held COUNT               found by this life
//! ```

use snowskin_client::{BlockingClient, ClientConfig, CoreStats, Found, RemoveOutcome};
use snowskin_io::SplitMix;
use snowskin_tests::processes::{Process, binary};
use snowskin_tests::values::{generation_of, value_of};
use snowskin_tests::vm::{DISK, Guest, NO_GUEST, Vm};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

const KEYS: usize = 120;
/// Several times as much as there is memory, together.
const VALUE_BYTES: usize = 300_000;
/// Virtual machines that are killed.
const KILLS: u64 = 3;
/// Answers that one is left to give: enough to fill the memory.
const ANSWERS: u64 = 160;
/// Calls of a guest that ends by itself.
const CALLS: u64 = 300;

/// What may be seen of a key.
#[derive(Clone, Copy, Default)]
struct History {
    /// The least generation.
    least: u64,
    /// The last that was written, or may have been.
    last: u64,
}

fn read_histories(path: &Path) -> Vec<History> {
    let text = fs::read_to_string(path).expect("the host has written it");
    let numbers = |line: &str| {
        let (least, last) = line.split_once(' ').expect("two numbers");
        History { least: least.parse().expect("a number"), last: last.parse().expect("a number") }
    };
    text.lines().map(numbers).collect()
}

fn write_histories(path: &Path, histories: &[History]) {
    let mut text = String::new();
    histories.iter().for_each(|History { least, last }| writeln!(text, "{least} {last}").expect("memory"));
    fs::write(path, text).expect("room");
}

fn key(number: usize) -> Vec<u8> {
    format!("prefix-{number}").into_bytes()
}

// -- in the guest --

struct Load {
    client: BlockingClient,
    histories: Vec<History>,
    state: u64,
}

impl Load {
    fn random(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % below
    }

    fn step(&mut self) {
        let number = self.random(KEYS as u64) as usize;
        let (key, kind) = (key(number), self.random(10));
        let last = self.histories[number].last;
        match kind {
            0..6 => {
                let generation = last + 1;
                println!("begin {number} {generation}");
                let value = value_of(&key, generation, VALUE_BYTES);
                self.client.upsert(&[(&key, &value)]).remove(0).expect("the engine is there");
                println!("least {number} {generation}");
                self.histories[number] = History { least: generation, last: generation };
            }
            6 => {
                let removed = self.client.remove(&[&key], true).remove(0).expect("the engine is there");
                assert!(matches!(removed, RemoveOutcome::Removed | RemoveOutcome::Missing(_)), "{removed:?}");
                println!("least {number} {}", last + 1);
                self.histories[number].least = last + 1;
            }
            _ => drop(self.look(number)),
        }
    }

    /// Whether a key is held, with a value that may be seen.
    fn look(&self, number: usize) -> bool {
        let (key, History { least, last }) = (key(number), self.histories[number]);
        match self.client.get(&[&key]).remove(0).expect("the engine is there") {
            Found::Miss(_) => false,
            Found::Hit(value) => {
                let generation = generation_of(&key, &value);
                let is_allowed = generation.is_some_and(|found| (least..=last).contains(&found) && found > 0);
                assert!(is_allowed, "key {number}: generation {generation:?} of {least} to {last}");
                true
            }
        }
    }

    fn stats(&self) -> CoreStats {
        let mut sum = CoreStats::default();
        let cores = self.client.stats().expect("counters");
        cores.iter().for_each(|(_, stats)| sum.add(stats.as_ref().expect("the core answers")));
        sum
    }
}

#[test]
#[ignore = "runs in the virtual machine, where the other tests start it"]
fn in_the_guest() {
    let variable = |name| std::env::var(name).expect("the host says what to do");
    let args =
        ["--cores", "2", "--memory", "18MB", "--listen", "127.0.0.1:0", "--log", "info", "--name", "vm"];
    let tier = ["--lease-ms", "1", "--ssd", DISK, "--ssd-region", "1MiB"];
    let engine = Process::start("snowskin-engine", &[&args[..], &tier].concat());
    let client = BlockingClient::connect(ClientConfig::new([engine.address()])).expect("the engine answers");
    let histories = read_histories(Path::new(&variable("SNOWSKIN_GUEST_HISTORIES")));
    let seed: u64 = variable("SNOWSKIN_GUEST_SEED").parse().expect("a number");
    let mut load = Load { client, histories, state: seed | 1 };
    let held = (0..KEYS).filter(|number| load.look(*number)).count();
    println!("\nheld {held}");
    let calls: u64 = variable("SNOWSKIN_GUEST_CALLS").parse().expect("a number");
    for _ in 0..calls {
        load.step();
    }
    let held = (0..KEYS).filter(|number| load.look(*number)).count();
    let figures = load.stats();
    println!("held {held}: {figures:?}");
    assert!(figures.demoted > 0 && figures.ssd_reads > 0, "nothing went to the disk: {figures:?}");
    assert!(engine.terminate().success());
}

// -- here --

/// What a guest needs: the test and the engine, and where they find each other.
fn guest(vm: &Vm, calls: u64, seed: u64) -> (Guest, PathBuf) {
    fs::create_dir_all(vm.folder().join("deps")).expect("a folder");
    let test = vm.folder().join("deps/vm");
    fs::copy(std::env::current_exe().expect("this test"), &test).expect("room");
    vm.bring(&binary("snowskin-engine"));
    let variables = vec![
        ("SNOWSKIN_GUEST_HISTORIES", vm.folder().join("histories").display().to_string()),
        ("SNOWSKIN_GUEST_CALLS", calls.to_string()),
        ("SNOWSKIN_GUEST_SEED", seed.to_string()),
    ];
    let options = ["--nvme-size", "48M"].map(str::to_owned).to_vec();
    (Guest { options, variables }, test)
}

fn command(test: &Path) -> [&str; 5] {
    [test.to_str().expect("text"), "--ignored", "--exact", "in_the_guest", "--nocapture"]
}

/// One guest, killed in the middle. What it found; `None`: it did not get so far, and this has been said.
fn live_and_die(vm: &Vm, seed: u64, histories: &mut [History]) -> Option<u64> {
    let pid_path = vm.folder().join("pid");
    let (mut guest, test) = guest(vm, u64::MAX, seed);
    let pid = ["--qemu", "-pidfile", "--qemu", pid_path.to_str().expect("text")];
    guest.options.extend(pid.map(str::to_owned));
    write_histories(&vm.folder().join("histories"), histories);
    let mut child = vm.start(&vm.folder().join("disk"), &guest, &command(&test));
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let (mut held, mut killed) = (None, false);
    let mut answers = ANSWERS + SplitMix::split(seed, 0) % ANSWERS;
    let mut others = String::new();
    while let Some(Ok(line)) = lines.next() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["begin" | "least", key, generation] => {
                let (key, generation): (usize, u64) =
                    (key.parse().expect("a key"), generation.parse().expect("a number"));
                let history = &mut histories[key];
                match words[0] {
                    "begin" => history.last = generation,
                    _ => {
                        history.least = generation;
                        answers = answers.saturating_sub(1);
                    }
                }
            }
            ["held", count] => held = Some(count.parse().expect("a count")),
            _ => writeln!(others, "{line}").expect("memory"),
        }
        if !killed && answers == 0 {
            let pid = fs::read_to_string(&pid_path).expect("it has one").trim().parse().expect("a number");
            let pid = rustix::process::Pid::from_raw(pid).expect("a process");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
            killed = true;
        }
    }
    let status = child.wait().expect("it ends");
    if status.code() == Some(NO_GUEST) {
        println!("skipped: the virtual machine does not run");
        return None;
    }
    assert!(killed, "it ended by itself: {status}: {others}");
    held
}

#[test]
fn a_machine_that_dies_finds_what_it_had_and_nothing_that_was_ended() {
    let Some(vm) = Vm::find() else { return };
    let mut histories = vec![History::default(); KEYS];
    let mut found = Vec::new();
    for seed in 0..KILLS {
        let Some(held) = live_and_die(&vm, seed, &mut histories) else { return };
        found.push(held);
    }
    println!("{KILLS} machines killed, found by each: {found:?}");
    assert_eq!(found[0], 0, "the disk was empty");
    assert!(found.iter().sum::<u64>() > 0, "nothing is found after a kill");
    let table = std::process::Command::new(binary("snowskin-inspect"))
        .arg("parts")
        .arg(vm.folder().join("disk"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&table.stdout).into_owned();
    println!("{said}");
    assert!(table.status.success() && said.contains("1 of 2"), "{said}");
}

#[test]
fn an_engine_goes_on_when_sectors_of_its_disk_are_bad() {
    let Some(vm) = Vm::find() else { return };
    let (mut guest, test) = guest(&vm, CALLS, 77);
    write_histories(&vm.folder().join("histories"), &vec![History::default(); KEYS]);
    // Writes that reach one of these sectors fail, in parts of both cores.
    let mut filter = "driver=blkdebug,node-name=bad,image=nvme_file".to_owned();
    for (number, mib) in [5, 9, 15, 30, 40].into_iter().enumerate() {
        let sector = (mib << 20 | 300 << 10) / 512;
        write!(filter, ",inject-error.{number}.event=none,inject-error.{number}.iotype=write,inject-error.{number}.sector={sector}")
            .expect("memory");
    }
    let options = ["--nvme-top", "bad", "--qemu", "-blockdev", "--qemu", &filter].map(str::to_owned);
    guest.options.extend(options);
    let Some((status, said)) = vm.run(&vm.folder().join("disk"), &guest, &command(&test)) else { return };
    let last = said.lines().rfind(|line| line.starts_with("held")).unwrap_or_default();
    println!("{last}");
    assert!(status.success(), "{status}: {said}");
}
