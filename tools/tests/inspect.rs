//! `snowskin-inspect` as people run it: on the golden images, and on images that are damaged anywhere. Exit status, standard output, and that
//! nothing is ever written to a volume.

#[allow(dead_code, reason = "shared with the golden test of the format")]
#[path = "../../ssd-tier/tests/image/golden.rs"]
mod golden;
#[allow(dead_code, reason = "shared with the golden test of the format")]
#[path = "../../ssd-tier/tests/image/mod.rs"]
mod image;

use image::{Image, name, value};
use quickcheck::{Gen, QuickCheck};
use serde_json::Value;
use snowskin_ssd_tier::format::{PARTS_AT, PartTable, SECTOR_BYTES, SetId, TABLES_AT};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Volumes damaged by chance, all commands on each.
const DAMAGED_VOLUMES: u64 = 25;
/// Every command that needs nothing but a volume.
const COMMANDS: [&[&str]; 9] = [
    &["superblock"],
    &["regions"],
    &["region", "PATH", "2"],
    &["records", "PATH", "--all"],
    &["records", "PATH", "--all", "--format", "json"],
    &["get", "PATH", "greeting"],
    &["map"],
    &["verify"],
    &["usage"],
];
/// Places among them.
const GET: usize = 5;
const VERIFY: usize = 7;

/// What a run left.
#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    errors: String,
}

fn inspect(arguments: &[&str]) -> Ran {
    let output =
        Command::new(env!("CARGO_BIN_EXE_snowskin-inspect")).args(arguments).output().expect("it runs");
    Ran {
        status: output.status.code().expect("it ends by itself"),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// An image in a file, in a directory of its own.
struct Disk {
    directory: TempDir,
    bytes: Vec<u8>,
}

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("volume"), &bytes).expect("written");
        Disk { directory, bytes }
    }

    fn golden(image: &str) -> Self {
        Disk::of(golden::committed(image))
    }

    fn path(&self) -> String {
        self.beside("volume").display().to_string()
    }

    fn beside(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Runs a command on it: `PATH` is its place, behind the verb unless said otherwise.
    fn run(&self, arguments: &[&str]) -> Ran {
        let path = self.path();
        let mut arguments = arguments.to_vec();
        if !arguments.contains(&"PATH") {
            arguments.insert(1, "PATH");
        }
        let arguments: Vec<&str> =
            arguments.into_iter().map(|word| if word == "PATH" { path.as_str() } else { word }).collect();
        let ran = inspect(&arguments);
        assert!(fs::read(&path).expect("it is there") == self.bytes, "{arguments:?} has written to it");
        ran
    }

    /// The same, which must end so; answers what it has written.
    fn out(&self, arguments: &[&str], status: i32) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.status, status, "{arguments:?}: {ran:?}");
        ran.out
    }
}

/// The cells of the line of a table that begins with such a cell.
fn row<'t>(table: &'t str, first: &str) -> Vec<&'t str> {
    let cells = |line: &'t str| -> Vec<&'t str> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
    };
    let found = table.lines().map(cells).find(|cells| cells.first() == Some(&first));
    found.unwrap_or_else(|| panic!("no line {first} in\n{table}"))
}

#[test]
fn superblock_shows_both_copies_and_the_one_that_counts() {
    let out = Disk::golden("whole").out(&["superblock"], 0);
    assert_eq!(row(&out, "counts"), ["counts", "no", "yes"]);
    assert_eq!(row(&out, "generation"), ["generation", "2", "3"]);
    assert_eq!(row(&out, "floor"), ["floor", "1", "3"]);
    assert_eq!(row(&out, "regions")[1], "8 of 64 KiB");
    assert_eq!(row(&out, "volume")[2], "6120676f6c64656e20766f6c756d6521");
    assert!(row(&out, "since")[1].starts_with("2023-11-14 22:14:20 UTC, ") && out.contains(" ago"), "{out}");
    let out = Disk::golden("torn-superblock").out(&["superblock"], 1);
    assert_eq!(row(&out, "generation"), ["generation", "2"]);
    assert!(out.contains("damaged: superblock at 4096: the checksum"), "{out}");
}

/// A disk that is divided among two cores of four; the second has the golden volume, the first none yet.
fn divided() -> Disk {
    let volume = golden::committed("whole");
    let part = volume.len().next_multiple_of(PARTS_AT as usize);
    let mut bytes = vec![0; PARTS_AT as usize + 2 * part];
    let table = PartTable::of_disk(SetId(*b"two disks of one"), bytes.len() as u64, 4, vec![1, 3]);
    let table = table.expect("room for two");
    TABLES_AT.iter().for_each(|at| table.encode(&mut bytes[*at as usize..][..SECTOR_BYTES]));
    let at = table.part_of(3).expect("it has one") as usize;
    bytes[at..at + volume.len()].copy_from_slice(&volume);
    Disk::of(bytes)
}

#[test]
fn a_disk_of_several_cores_has_a_volume_for_each() {
    let disk = divided();
    let out = disk.out(&["parts"], 0);
    let part = |core: u16| format!("{}@{core}", disk.path());
    assert_eq!(row(&out, "1 of 4"), ["1 of 4", &part(1), "1,048,576", "2 MiB", "none yet"], "{out}");
    assert_eq!(row(&out, "3 of 4")[4], "6120676f6c64656e20766f6c756d6521", "{out}");
    // Each command takes a part.
    let whole = Disk::golden("whole");
    for command in COMMANDS {
        let mut arguments: Vec<&str> = command.to_vec();
        if !arguments.contains(&"PATH") {
            arguments.insert(1, "PATH");
        }
        let (name, path) = (part(3), whole.path());
        let on = |place: &str| {
            let ran = inspect(
                &arguments.iter().map(|word| if *word == "PATH" { place } else { word }).collect::<Vec<_>>(),
            );
            (ran.status, ran.out)
        };
        assert_eq!(on(&name), on(&path), "{arguments:?}");
    }
    for (place, words) in [
        (disk.path(), "is divided among cores: name one of"),
        (part(2), "is divided among cores: name one of"),
        (part(1), "there is no superblock in"),
        (format!("{}@0", whole.path()), "is not divided among cores"),
    ] {
        let ran = inspect(&["verify", &place]);
        assert!(ran.status == 2 && ran.errors.contains(words), "{place}: {ran:?}");
    }
    let ran = inspect(&["parts", &whole.path()]);
    assert!(ran.status == 2 && ran.errors.contains("is not divided among cores"), "{ran:?}");
    // One copy of the table is enough; with none that is whole nothing is guessed.
    let mut bytes = disk.bytes.clone();
    bytes[40] ^= 1;
    assert!(Disk::of(bytes.clone()).out(&["parts"], 0).contains("3 of 4"));
    bytes[4_096 + 40] ^= 1;
    let ran = Disk::of(bytes).run(&["parts"]);
    assert!(ran.status == 2 && ran.errors.contains("the checksum of the table of parts"), "{ran:?}");
}

#[test]
fn regions_have_their_states_and_bytes() {
    let out = Disk::golden("whole").out(&["regions"], 0);
    assert_eq!(row(&out, "0")[1..], ["5", "unfinished", "2023-11-14 22:30:20", "2", "1", "24 KiB", "0 B"]);
    assert_eq!(row(&out, "1")[1..], ["2", "free", "2023-11-14 22:19:20"]);
    assert_eq!(row(&out, "2")[1..], ["3", "complete", "2023-11-14 22:21:20", "4", "0", "20 KiB", "12 KiB"]);
    assert_eq!(row(&out, "3")[1..3], ["4", "complete"]);
    assert_eq!(row(&out, "7")[1..], ["-", "free", "-"]);
    let out = Disk::golden("torn-tail").out(&["regions"], 0);
    assert_eq!(row(&out, "0")[6..], ["12 KiB", "0 B", "12 KiB"]);
    assert!(out.contains("note: region 0, offset 20480: the value does not match"), "{out}");
    let out = Disk::golden("damaged-footer").out(&["regions"], 1);
    assert_eq!(row(&out, "3")[1..], ["4", "damaged", "2023-11-14 22:26:20", "2", "2", "20 KiB", "0 B"]);
    assert!(out.contains("damaged: region 3, offset 61440: the checksum of the footer"), "{out}");
}

#[test]
fn a_region_in_detail() {
    let disk = Disk::golden("whole");
    let out = disk.out(&["region", "PATH", "3"], 0);
    assert!(out.starts_with("region 3: complete\n") && out.contains("4 entries"), "{out}");
    assert!(out.contains("sequence      4, not below the floor, 3"), "{out}");
    assert_eq!(row(&out, "3")[1..5], ["4096", "live", "default", "replaced"], "{out}");
    let ran = disk.run(&["region", "PATH", "8"]);
    assert_eq!(ran.status, 1);
    assert!(ran.errors.contains("there is no region 8: they are 0 to 7"), "{ran:?}");
}

/// The keys of a listing in JSON, with their states.
fn states(disk: &Disk, more: &[&str]) -> Vec<(String, String)> {
    let out = disk.out(&[&["records", "PATH", "--format", "json"], more].concat(), 0);
    let rows: Vec<Value> = serde_json::from_str(&out).expect("it is JSON");
    let text = |row: &Value, field: &str| row[field].as_str().expect("a text").to_owned();
    rows.iter().map(|row| (text(row, "key"), text(row, "state"))).collect()
}

#[test]
fn records_are_chosen_by_name() {
    let disk = Disk::golden("whole");
    let keys = |more: &[&str]| -> Vec<String> {
        states(&disk, more).into_iter().map(|(key, _)| key.chars().take(12).collect()).collect()
    };
    let live = ["greeting", "prefix/1", "replaced", "a long key a", "removed", "last \\\\ ü"];
    assert_eq!(keys(&[]), live);
    assert_eq!(keys(&["--tenant", "llama"]), ["prefix/1", "a long key a", "removed"]);
    assert_eq!(keys(&["--match", "^re"]), ["replaced", "removed"]);
    assert_eq!(keys(&["--key", "last \\\\ \\xc3\\xbc"]), ["last \\\\ ü"]);
    assert_eq!(keys(&["--key", "never"]), [""; 0]);
    let all = states(&disk, &["--all", "--match", "^re"]);
    let all: Vec<(&str, &str)> = all.iter().map(|(key, state)| (&**key, &**state)).collect();
    let should = [
        ("replaced", "replaced"),
        ("removed", "removed"),
        ("replaced", "live"),
        ("removed", "tombstone"),
        ("removed", "live"),
    ];
    assert_eq!(all, should);
    assert!(disk.run(&["records", "PATH", "--match", "("]).errors.contains("unclosed group"));
    assert!(disk.run(&["records", "PATH", "--key", "\\q"]).errors.contains("is no key"));
    assert!(disk.run(&["records", "PATH", "--format", "xml"]).errors.contains("write table, csv or json"));
}

#[test]
fn records_as_table_and_as_csv() {
    let disk = Disk::golden("whole");
    let out = disk.out(&["records"], 0);
    let greeting = out.lines().find(|line| line.contains("greeting")).expect("it is listed");
    for cell in ["live", "default", "2023-11-14 22:22:20"] {
        assert!(greeting.contains(cell), "{greeting}");
    }
    let out = disk.out(&["records", "PATH", "--format", "csv", "--key", "greeting"], 0);
    let should = "region,sequence,offset,state,kind,tenant,key,version,value_bytes,record_bytes,checksum,written_unix_ms\n\
                  2,3,4096,live,value,default,greeting,5,5,4096,9555e8555c62dcfd,1700000540000\n";
    assert_eq!(out, should);
    let mut image = Image::new(2, golden::REGION_BYTES);
    image.open(0);
    image.put(&name("default", "with, comma and \"quotes\""), b"1");
    let out = Disk::of(image.bytes).out(&["records", "PATH", "--format", "csv"], 0);
    assert!(out.contains(",\"with, comma and \"\"quotes\"\"\",1,"), "{out}");
}

#[test]
fn get_writes_what_was_put_or_nothing() {
    let disk = Disk::golden("whole");
    assert_eq!(disk.out(&["get", "PATH", "greeting"], 0), "hello");
    let to = disk.beside("value");
    let to_text = to.display().to_string();
    disk.out(&["get", "PATH", "prefix/1", "--tenant", "llama", "--to", &to_text], 0);
    assert!(fs::read(&to).expect("it is written") == value(b'f', 12_288));
    for (key, why) in [
        ("never", "there is none, and no tombstone of it"),
        ("first", "it was removed; the tombstone is in region 0, at offset 16384"),
    ] {
        let ran = disk.run(&["get", "PATH", key]);
        assert_eq!((ran.status, &*ran.out), (1, ""));
        assert!(ran.errors.contains(why), "{ran:?}");
    }
    let disk = Disk::golden("damaged-record");
    let to = disk.beside("value").display().to_string();
    for more in [&[][..], &["--to", &to]] {
        let ran = disk.run(&[&["get", "PATH", "prefix/1", "--tenant", "llama"], more].concat());
        assert_eq!((ran.status, &*ran.out), (1, ""));
        assert!(
            ran.errors.contains("region 2, offset 16384: the value does not match its checksum"),
            "{ran:?}"
        );
    }
    let files: Vec<_> = fs::read_dir(disk.directory.path()).expect("a directory").collect();
    assert_eq!(files.len(), 1, "half a value was left: {files:?}");
}

#[test]
fn a_map_of_few_regions() {
    let out = Disk::golden("whole").out(&["map"], 0);
    assert!(!out.contains('\x1b'), "colours are for terminals");
    assert!(row(&out, "0")[2].starts_with("≡≡≡≡████████████††††████"), "{out}");
    assert_eq!(row(&out, "1")[2], "·".repeat(64));
    assert!(row(&out, "2")[2].contains("████▒▒▒▒▒▒▒▒████"), "{out}");
    assert!(out.contains("8 regions of 64 KiB, 12.5 % live"), "{out}");
    let out = Disk::golden("damaged-footer").out(&["map"], 1);
    assert!(row(&out, "3")[2].ends_with("_××××"), "{out}");
}

#[test]
fn a_map_of_many_regions_and_one_for_a_browser() {
    let disk = Disk::golden("whole");
    let svg = disk.beside("map.svg");
    assert_eq!(disk.out(&["map", "PATH", "--svg", &svg.display().to_string()], 0), "");
    let text = fs::read_to_string(svg).expect("it is written");
    assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    assert_eq!((text.matches("<g ").count(), text.matches("</g>").count()), (8, 8));
    assert!(text.contains("<title>region 0: unfinished, sequence 5</title>"));
    let mut image = Image::new(100, 16 << 10);
    for region in [0, 70] {
        image.open(region);
        image.put(&name("default", &region.to_string()), &value(1, 3_000));
        image.complete();
    }
    let out = Disk::of(image.bytes).out(&["map"], 0);
    assert_eq!(row(&out, "0")[1], format!("▒{}", "·".repeat(63)));
    assert_eq!(row(&out, "64")[1], format!("{}▒{}", "·".repeat(6), "·".repeat(29)));
}

#[test]
fn verify_tells_whole_from_damaged() {
    for (image, status, words) in [
        ("whole", 0, "read: 8 values, 3 tombstones, 84 KiB in 3 regions\nwhole\n"),
        ("torn-tail", 0, "nothing is behind it: a write that was under way, or former content\nwhole\n"),
        ("damaged-footer", 1, "damaged: region 3, offset 61440: the checksum of the footer does not match"),
        (
            "damaged-record",
            1,
            "damaged: region 2, offset 16384: llama:prefix/1 (live): the value does not match",
        ),
        ("torn-superblock", 1, "damaged: superblock at 4096: the checksum of the superblock"),
        ("other-version", 2, ""),
    ] {
        let out = Disk::golden(image).out(&["verify"], status);
        assert!(out.contains(words), "{image}: {out}");
        assert_eq!(out.contains("damaged in 1 place\n"), status == 1, "{image}: {out}");
    }
}

#[test]
fn what_is_no_volume_is_refused_with_advice() {
    let whole = golden::committed("whole");
    for (bytes, words) in [
        (vec![0; 1 << 20], "there is no superblock in "),
        (Vec::new(), "no superblock of "),
        (whole[..whole.len() - 4_096].to_vec(), "the volume needs 1.5 MiB, and "),
        (
            golden::committed("other-version"),
            "was written in format version 2, and this program reads version 1",
        ),
    ] {
        let disk = Disk::of(bytes);
        for arguments in COMMANDS {
            let ran = disk.run(arguments);
            assert_eq!(ran.status, 2, "{arguments:?}: {ran:?}");
            assert!(ran.errors.contains(words), "{arguments:?}: {ran:?}");
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let there = directory.path().display().to_string();
    assert!(
        inspect(&["verify", &there]).errors.contains("is a directory: name the file or the block device")
    );
    let absent = inspect(&["verify", &format!("{there}/absent")]);
    assert!(absent.status == 2 && absent.errors.contains("No such file"), "{absent:?}");
}

#[test]
fn usage_by_size_age_and_tenant() {
    let out = Disk::golden("whole").out(&["usage"], 0);
    assert_eq!(row(&out, "live")[1..3], ["64 KiB", "12.5 %"]);
    assert_eq!(row(&out, "free regions")[1..3], ["320 KiB", "62.5 %"]);
    assert_eq!(row(&out, "up to 8 B")[1..3], ["1", "5 B"]);
    assert_eq!(row(&out, "up to 16 KiB")[1..3], ["3", "30.6 KiB"]);
    assert_eq!(row(&out, "older")[1..4], ["6", "42.5 KiB", "100.0 %"]);
    assert_eq!(row(&out, "llama")[1..3], ["3", "23.9 KiB"]);
    assert!(row(&out, "llama")[4].starts_with("████"), "{out}");
}

#[test]
fn export_writes_every_live_value_once() {
    let disk = Disk::golden("whole");
    let to = disk.beside("exported");
    let to_text = to.display().to_string();
    let out = disk.out(&["export", "PATH", &to_text], 0);
    assert!(out.starts_with("6 values, 42.5 KiB, in "), "{out}");
    let index = read_index(&to);
    let values = index["values"].as_array().expect("a list");
    assert_eq!(values.len(), 6);
    assert_eq!(fs::read_dir(&to).expect("a directory").count(), 7);
    let replaced = values.iter().find(|one| one["key"] == "replaced").expect("it is listed");
    let file = to.join(replaced["file"].as_str().expect("a name"));
    assert!(fs::read(file).expect("it is there") == value(b'h', 9_000));
    let ran = disk.run(&["export", "PATH", &to_text]);
    assert!(ran.status == 1 && ran.errors.contains("is not empty: name another directory"), "{ran:?}");

    let disk = Disk::golden("damaged-record");
    let to = disk.beside("exported");
    let out = disk.out(&["export", "PATH", &to.display().to_string()], 1);
    assert!(out.starts_with("5 values, "), "{out}");
    assert_eq!(read_index(&to)["damaged"][0]["key"], "prefix/1");
}

fn read_index(directory: &Path) -> Value {
    let text = fs::read_to_string(directory.join("index.json")).expect("the index");
    serde_json::from_str(&text).expect("it is JSON")
}

#[test]
fn diff_says_which_names_differ() {
    let disk = Disk::golden("whole");
    let path = disk.path();
    assert_eq!(disk.out(&["diff", "PATH", &path], 0), "6 names alike, 0 different\n");
    let mut image = Image::new(4, golden::REGION_BYTES);
    image.open(0);
    image.put(&name("default", "new"), b"1");
    image.put(&name("default", "greeting"), b"hello");
    image.put(&name("default", "replaced"), b"other");
    let other = Disk::of(image.bytes);
    let out = disk.out(&["diff", "PATH", &other.path()], 1);
    for line in [
        "+ default:new   1 B",
        "- default:last \\\\ ü   9.8 KiB",
        "= default:greeting   the same bytes, version 5 -> 2",
        "~ default:replaced   8.8 KiB, 997df5274d4f8d83 -> 5 B, ",
        "0 names alike, 7 different",
    ] {
        assert!(out.contains(line), "{line} is not in {out}");
    }
}

#[test]
fn a_pipe_that_is_closed_early_is_no_error() {
    let mut image = Image::new(16, golden::REGION_BYTES);
    for region in 0..16 {
        image.open(region);
        for place in 0..4 {
            image.put(&name("default", &format!("{region}/{place}{}", "k".repeat(4_000))), b"value");
        }
        image.complete();
    }
    let disk = Disk::of(image.bytes);
    let mut running = Command::new(env!("CARGO_BIN_EXE_snowskin-inspect"))
        .args(["records", &disk.path(), "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut first = [0; 100];
    let mut reader = running.stdout.take().expect("a pipe");
    reader.read_exact(&mut first).expect("something comes");
    drop(reader);
    let output = running.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn help_has_examples() {
    let help = inspect(&["--help"]);
    assert!(help.status == 0 && help.out.contains("Examples:"), "{help:?}");
    for verb in
        ["superblock", "regions", "region", "records", "get", "map", "verify", "usage", "export", "diff"]
    {
        assert!(help.out.contains(verb), "{verb}");
        let help = inspect(&[verb, "--help"]);
        assert!(help.status == 0 && help.out.contains("Examples:"), "{verb}: {help:?}");
    }
}

/// Damage anywhere, the superblocks included: every command ends by itself, with one of the statuses that it has.
#[test]
fn damaged_volumes_are_no_panic() {
    fn every_command_ends(bits: Vec<(u16, u16, u8)>) -> bool {
        let mut bytes = golden::committed("whole");
        for (sector, byte, bit) in bits {
            // The superblocks are two sectors, the regions used are the 64 behind the first MiB.
            let sector = usize::from(sector) % 66;
            let at = if sector < 2 { sector * 4_096 } else { (1 << 20) + (sector - 2) * 4_096 };
            bytes[at + usize::from(byte) % 256] ^= 1 << (bit % 8);
        }
        let disk = Disk::of(bytes);
        let ran = COMMANDS.map(|arguments| disk.run(arguments));
        let verified = ran[VERIFY].status;
        let ends = ran.iter().all(|ran| (0..=2).contains(&ran.status) && !ran.errors.contains("panicked"));
        // Nobody finds damage that verify does not find. (A value may be gone with a region that is free now, for all that can be seen.)
        let agree = ran.iter().enumerate().all(|(at, ran)| at == GET || ran.status <= verified);
        ends && agree && (ran[GET].status == 2) == (verified == 2)
    }
    let check = every_command_ends as fn(Vec<(u16, u16, u8)>) -> bool;
    QuickCheck::new().tests(DAMAGED_VOLUMES).rng(Gen::new(40)).quickcheck(check);
}
