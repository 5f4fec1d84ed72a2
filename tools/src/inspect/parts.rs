//! How a disk is divided among cores, and what is in each part.

use super::device::Device;
use super::failure::{Failure, Verdict};
use super::text::{Table, number};
use super::volume::Copies;
use argh::FromArgs;
use snowskin_protocol::ByteSize;
use std::io::Write;
use std::path::PathBuf;

const HEADS: [&str; 5] = ["core", "part", "at", "size", "volume"];

/// the parts of a disk that cores share, and the volume in each
#[derive(FromArgs)]
#[argh(subcommand, name = "parts", example = "{command_name} /dev/nvme1n1")]
pub(crate) struct PartsVerb {
    /// the file or block device
    #[argh(positional)]
    path: PathBuf,
}

pub(crate) fn run(verb: &PartsVerb, out: &mut impl Write) -> Result<Verdict, Failure> {
    let whole = Device::open_whole(&verb.path)?;
    let Some(parts) = whole.table()? else { return Err(Failure::Undivided(verb.path.clone())) };
    let mut table = Table::new(&HEADS, &["core", "at", "size"]);
    let mut verdict = Verdict::Whole;
    for (core, at) in parts.parts() {
        let name = PathBuf::from(format!("{}@{core}", verb.path.display()));
        let device = Device::open(&name)?;
        let volume = match Copies::read(&device).choose(&device) {
            Ok(superblock) => superblock.volume.to_string(),
            Err(Failure::NoVolume(_)) => "none yet".to_owned(),
            Err(failure) => {
                verdict = Verdict::Damaged;
                failure.to_string()
            }
        };
        let (core, part) = (format!("{core} of {}", parts.engine_cores), name.display().to_string());
        table.row([core, part, number(at), ByteSize(parts.part_bytes).to_string(), volume]);
    }
    for line in table.lines() {
        writeln!(out, "{line}")?;
    }
    Ok(verdict)
}
