//! Power loss on a block device: what a volume on the disk of a virtual machine leaves at any moment.
//!
//! ```text
//!   guest: Volume on UringDisk on /dev/nvme0n1 ──► log of writes, discards and flushes ─┐
//!             └─► journal: what may be found, commit by commit ────────────────────────┤
//!                                                                                      ▼
//!   here:  up to each flush and each marker, what was flushed and a choice of the rest: opened, read, used, opened again
//! ```
//!
//! What survives of what was not flushed: each sector of 4 KiB or not, some of them torn in blocks of 512 bytes, as the fault model of disks says
//! (`io/src/sim/disk.rs`). A write that the device had completed when a flush began, and its log has before it, counts as flushed.

mod guest;
mod write_log;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Instant;

use snowskin_io::SplitMix;

use crate::crashes::torn;
use crate::keeper::Core;
use crate::model::{Model, Window};
use crate::paper::{Image, PaperDisk, Plan, SECTOR, Write};
use crate::vm::{DISK, Guest, Vm};
use crate::{on_paper, options};

use write_log::{Record, records};

/// Where markers are: between the superblocks and the first region.
const MARKER_SECTOR: u64 = 16;
const MARKER_MAGIC: [u8; 8] = *b"SNOWMARK";
/// What survives at one moment: so many choices.
const CHOICES: u64 = 12;
/// So many disks that lose a write are tried: where the write is needed later, before its place is written over, it is found.
const LIES: u64 = 6;
/// Of so many images one is looked at with the tool.
const INSPECTED_ONE_IN: u64 = 97;

/// What the guest does.
#[derive(Clone, Debug)]
struct GuestPlan {
    disk: PathBuf,
    journal: PathBuf,
    region_sectors: u64,
    lives: u64,
    steps: u64,
    seed: u64,
}

/// A line of the guest's journal.
#[derive(Debug)]
struct Line {
    commit: u64,
    written_then: u64,
    window: Window,
}

fn journal_line(commit: u64, written_then: u64, window: &Window) -> String {
    let names = window.iter().map(|(key, allowed)| {
        let words = allowed.iter().map(|what| what.map_or("-".to_owned(), |version| version.to_string()));
        format!(" {key}:{}", words.collect::<Vec<_>>().join(","))
    });
    format!("{commit} {written_then}{}", names.collect::<String>())
}

fn read_line(line: &str) -> Line {
    let mut words = line.split(' ');
    let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
    let (commit, written_then) = (number(), number());
    let window = words.map(|word| {
        let (key, allowed) = word.split_once(':').expect("a name and what is allowed");
        let what = |word: &str| (word != "-").then(|| word.parse().expect("a version"));
        (key.parse().expect("a name"), allowed.split(',').map(what).collect())
    });
    Line { commit, written_then, window: window.collect() }
}

/// What may be found at a moment when this was the highest marker in the log.
fn allowed_at(journal: &[Line], marker: u64) -> Window {
    let mut allowed = Window::new();
    let lines = journal.iter().filter(|line| line.commit > marker && line.written_then <= marker);
    for (key, whats) in lines.flat_map(|line| &line.window) {
        allowed.entry(*key).or_default().extend(whats);
    }
    allowed
}

#[test]
fn the_journal_says_what_may_be_found() {
    let window: Window = [(3, [None, Some(7)].into()), (4, [Some(8)].into())].into();
    let line = journal_line(2, 1, &window);
    assert_eq!(line, "2 1 3:-,7 4:8");
    let later: Window = [(4, [None].into())].into();
    let lines = [line, journal_line(3, 1, &later), journal_line(4, 2, &later)].map(|line| read_line(&line));
    assert_eq!(allowed_at(&lines, 1), [(3, [None, Some(7)].into()), (4, [None, Some(8)].into())].into());
    assert_eq!(allowed_at(&lines, 2), [(4, [None].into())].into());
}

/// What was found out.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    flushes: u64,
    writes: u64,
    discards: u64,
    moments: u64,
    images: u64,
    torn: u64,
    found: u64,
    inspected: u64,
    inspected_damaged: u64,
}

/// Looks at all that a power loss may have left.
struct Trial<'t> {
    region_sectors: u64,
    disk_bytes: u64,
    journal: Vec<Line>,
    random: SplitMix,
    /// What survives at one moment: so many choices.
    choices: u64,
    folder: &'t Path,
    inspect: PathBuf,
    tally: Tally,
}

impl Trial<'_> {
    fn run(&mut self, log: &[Record]) {
        let (mut durable, mut volatile) = (Image::new(), Vec::<Write>::new());
        // 0: not even the volume is made.
        let mut marker = 0;
        for record in log {
            match record {
                Record::Flush => {
                    self.moment(&durable, &volatile, marker);
                    durable.extend(volatile.drain(..));
                    self.moment(&durable, &volatile, marker);
                    self.tally.flushes += 1;
                }
                Record::Discard(sectors) => {
                    volatile.extend(sectors.iter().cloned());
                    self.tally.discards += 1;
                }
                Record::Write(sectors) => {
                    volatile.extend(sectors.iter().cloned());
                    self.tally.writes += 1;
                    let (at, bytes) = &sectors[0];
                    if *at == MARKER_SECTOR && bytes[..8] == MARKER_MAGIC {
                        let number = u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes"));
                        marker = marker.max(number);
                        self.moment(&durable, &volatile, marker);
                    }
                }
            }
        }
        self.moment(&durable, &volatile, marker);
    }

    /// Whether it is found out that a disk has lost a write, with all that was flushed since.
    fn finds_lost_write(&mut self, log: &[Record], lie: u64) -> bool {
        let writes: Vec<usize> = (0..log.len())
            .filter(|at| matches!(&log[*at], Record::Write(sectors) if sectors[0].0 != MARKER_SECTOR))
            .collect();
        // Of the middle, where a volume is there and something follows.
        let lost = writes[writes.len() / 3 + (SplitMix::split(lie, 0) % (writes.len() as u64 / 3)) as usize];
        let mut lying = log.to_vec();
        lying.remove(lost);
        self.choices = 1;
        catch_unwind(AssertUnwindSafe(|| self.run(&lying))).is_err()
    }

    /// A moment, and what may be left then: nothing that was not flushed, all of it, the first of it, any of it.
    fn moment(&mut self, durable: &Image, volatile: &[Write], marker: u64) {
        if marker == 0 {
            return;
        }
        self.tally.moments += 1;
        let allowed = allowed_at(&self.journal, marker);
        let count = volatile.len() as u64;
        let choices = if count == 0 { 1 } else { self.choices };
        for choice in 0..choices {
            let end = self.random.draw() % (count + 1);
            let is_torn = choice > CHOICES / 2;
            let mut image = durable.clone();
            for (at, (sector, bytes)) in (0..).zip(volatile) {
                let survives = match choice {
                    0 => false,
                    1 => true,
                    2..4 => at < end,
                    _ => self.random.draw().is_multiple_of(2),
                };
                if survives {
                    image.insert(*sector, bytes.clone());
                } else if is_torn && self.random.draw().is_multiple_of(3) {
                    let bytes = torn(image.get(sector), bytes, self.random.draw());
                    image.insert(*sector, bytes);
                    self.tally.torn += 1;
                }
            }
            self.tally.images += 1;
            let is_inspected = self.tally.images.is_multiple_of(INSPECTED_ONE_IN);
            if is_inspected {
                self.inspect(&image, choice == 0 || choices == 1);
            }
            self.open(image, &allowed);
        }
    }

    /// Opens what is left, uses it, opens it again.
    fn open(&mut self, image: Image, allowed: &Window) {
        let disk = PaperDisk::new(self.disk_bytes, image, Plan::Calm);
        let model = Rc::new(RefCell::new(Model::of_window(allowed)));
        let options = options(self.region_sectors);
        let found = on_paper(&disk, |platform, disk| async move {
            let opened = Core::open(platform.clone(), disk.clone(), options, model.clone()).await;
            let (core, recovered) = opened.expect("it opens");
            core.read_all().await.expect("whole");
            core.keep_percent.set(50);
            core.put_by_force(7, 150).await.expect("no faults");
            core.bury(5);
            core.commit_by_force().await.expect("no faults");
            drop(core);
            let (core, _) = Core::open(platform, disk, options, model).await.expect("it opens again");
            core.read_all().await.expect("whole");
            recovered.objects.len() as u64
        });
        self.tally.found += found.expect("nothing stops it");
    }

    /// What the tool says of it. If nothing was under way, all is whole.
    fn inspect(&mut self, image: &Image, is_quiet: bool) {
        let path = self.folder.join("image");
        let mut bytes = vec![0; self.disk_bytes as usize];
        for (sector, content) in image {
            bytes[*sector as usize * SECTOR..][..SECTOR].copy_from_slice(content);
        }
        std::fs::write(&path, bytes).expect("room");
        let output = Command::new(&self.inspect).arg("verify").arg(&path).output().expect("it runs");
        let (status, said) = (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned());
        assert!(matches!(status, Some(0 | 1)), "{status:?}: {said}");
        assert!(!is_quiet || status == Some(0), "nothing was under way: {said}");
        self.tally.inspected += 1;
        self.tally.inspected_damaged += u64::from(status == Some(1));
    }
}

/// The tool that looks into volumes, of the build of this test.
fn inspect_path() -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let build = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    build.join("snowskin-inspect")
}

/// One history in a guest, and all that it may have left.
fn lose_power(vm: &Vm, plan: GuestPlan, options: &[&str]) -> Option<Tally> {
    let name = format!("disk-{}", plan.seed);
    let [disk, log] = ["", ".log"].map(|end| vm.folder().join(format!("{name}{end}")));
    let program = vm.bring(&std::env::current_exe().expect("this test"));
    let mut guest = Guest { variables: plan.variables(), ..Guest::default() };
    guest.options = options.iter().map(|&option| option.to_owned()).collect();
    guest.options.extend(["--write-log".to_owned(), log.to_str().expect("text").to_owned()]);
    let program = program.to_str().expect("text");
    let command = [program, "--ignored", "--exact", "power::in_the_guest", "--nocapture"];
    let begin = Instant::now();
    let (status, said) = vm.run(&disk, &guest, &command)?;
    assert!(status.success(), "{status}: {said}");
    println!("{said}{:?} in the guest", begin.elapsed());
    let journal = std::fs::read_to_string(&plan.journal).expect("the guest has written it");
    let mut trial = Trial {
        region_sectors: plan.region_sectors,
        disk_bytes: std::fs::metadata(&disk).expect("the guest had it").len(),
        journal: journal.lines().map(read_line).collect(),
        random: SplitMix::new(plan.seed),
        choices: CHOICES,
        folder: vm.folder(),
        inspect: inspect_path(),
        tally: Tally::default(),
    };
    assert!(trial.inspect.exists(), "{} is missing: cargo build --workspace --bins", trial.inspect.display());
    let log = records(&std::fs::read(log).expect("the guest has written it"));
    trial.run(&log);
    let tally = trial.tally;
    println!("{tally:?}, {:?}", begin.elapsed());
    let found = (0..LIES).filter(|lie| trial.finds_lost_write(&log, *lie)).count();
    println!("a write that is lost: {found} of {LIES} found, {:?}", begin.elapsed());
    assert!(found > 0, "this finds nothing");
    Some(tally)
}

impl GuestPlan {
    fn variables(&self) -> Vec<(&'static str, String)> {
        let numbers =
            [self.region_sectors, self.lives, self.steps, self.seed].map(|number| number.to_string());
        vec![
            ("SNOWSKIN_GUEST_JOURNAL", self.journal.display().to_string()),
            ("SNOWSKIN_GUEST_NUMBERS", numbers.join(" ")),
        ]
    }

    fn from_variables() -> GuestPlan {
        let variable = |name| std::env::var(name).expect("the host says what to do");
        let numbers = variable("SNOWSKIN_GUEST_NUMBERS");
        let numbers: Vec<u64> = numbers.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [region_sectors, lives, steps, seed] = numbers[..] else { panic!("four numbers") };
        let journal = variable("SNOWSKIN_GUEST_JOURNAL").into();
        GuestPlan { disk: DISK.into(), journal, region_sectors, lives, steps, seed }
    }
}

#[test]
#[ignore = "runs in the virtual machine: a_power_loss_on_a_device_leaves_what_was_committed starts it there"]
fn in_the_guest() {
    guest::run(GuestPlan::from_variables());
}

#[test]
fn a_power_loss_on_a_device_leaves_what_was_committed() {
    let Some(vm) = Vm::find() else { return };
    let plans = BTreeMap::from([(512, (8, "3M")), (4_096, (24, "6M"))]);
    for (block, (region_sectors, size)) in plans {
        let journal = vm.folder().join(format!("journal-{block}"));
        let plan =
            GuestPlan { disk: DISK.into(), journal, region_sectors, lives: 4, steps: 400, seed: block };
        let block = block.to_string();
        let tally = lose_power(&vm, plan, &["--nvme-size", size, "--nvme-block", &block]);
        let Some(tally) = tally else { return };
        assert!(tally.flushes > 100 && tally.images > 1_000 && tally.found > 1_000, "{tally:?}");
        assert!(tally.torn > 100 && tally.inspected > 10, "{tally:?}");
    }
}
