//! Every live value as a file, with an index in JSON that says which is which.
//!
//! ```text
//!   DIR/index.json      volume, then a line a value: file, tenant, key, bytes, checksum, version, when it was written
//!   DIR/00000001.value  the values, in the order of the log; keys may be anything, so they are no names of files
//! ```

use super::failure::{Failure, Verdict};
use super::progress::Progress;
use super::text::{counted, shown};
use super::{get, read, say_troubles};
use argh::FromArgs;
use serde::Serialize;
use snowskin_protocol::ByteSize;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// write every live value to a file of its own, and an index of them
#[derive(FromArgs)]
#[argh(subcommand, name = "export", example = "{command_name} tier.img exported/")]
pub(crate) struct ExportVerb {
    /// the file or block device
    #[argh(positional)]
    path: PathBuf,
    /// where to: a directory that is empty, or not there yet
    #[argh(positional)]
    directory: PathBuf,
}

#[derive(Serialize)]
struct Index {
    volume: String,
    generation: u64,
    values: Vec<Exported>,
    damaged: Vec<NotExported>,
}

#[derive(Serialize)]
struct Exported {
    file: String,
    tenant: String,
    key: String,
    bytes: u64,
    checksum: String,
    version: u64,
    written_unix_ms: u64,
}

#[derive(Serialize)]
struct NotExported {
    tenant: String,
    key: String,
    why: String,
}

pub(crate) fn run(verb: &ExportVerb, out: &mut impl Write) -> Result<Verdict, Failure> {
    let (device, volume) = read(&verb.path)?;
    make_empty(&verb.directory)?;
    let mut index = Index {
        volume: volume.superblock.volume.to_string(),
        generation: volume.superblock.generation,
        values: Vec::new(),
        damaged: Vec::new(),
    };
    let all: u64 = volume.live().map(|(_, found)| found.record.value_bytes).sum();
    let (mut progress, mut done) = (Progress::new("export"), 0);
    for (region, found) in volume.live() {
        let (name, record) = (region.name(found), found.record);
        let (tenant, key) = (shown(name.tenant()), shown(name.key()));
        let file = format!("{:08}.value", index.values.len() + 1);
        match get::write_file(&device, &volume, (region, found), &verb.directory.join(&file)) {
            Ok(()) => index.values.push(Exported {
                file,
                tenant,
                key,
                bytes: record.value_bytes,
                checksum: record.checksum.to_string(),
                version: record.version.0,
                written_unix_ms: record.written_unix_ms,
            }),
            Err(Failure::Asked(why)) => {
                eprintln!("snowskin-inspect: not exported: {why}");
                index.damaged.push(NotExported { tenant, key, why });
            }
            Err(failure) => return Err(failure),
        }
        done += record.value_bytes;
        progress.at(done, all);
    }
    drop(progress);
    let path = verb.directory.join("index.json");
    let text = serde_json::to_string_pretty(&index).expect("strings and numbers");
    fs::write(&path, text + "\n").map_err(|error| Failure::Write(path, error))?;
    let bytes = ByteSize(index.values.iter().map(|value| value.bytes).sum());
    writeln!(
        out,
        "{}, {bytes}, in {}",
        counted(index.values.len() as u64, "value"),
        verb.directory.display()
    )?;
    match index.damaged.is_empty() {
        true => Ok(say_troubles(&volume)),
        false => Ok(Verdict::Damaged),
    }
}

fn make_empty(directory: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::Write(directory.to_owned(), error);
    fs::create_dir_all(directory).map_err(failed)?;
    match fs::read_dir(directory).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => {
            let words = format!("{} is not empty: name another directory, or empty it", directory.display());
            Err(Failure::Asked(words))
        }
    }
}
