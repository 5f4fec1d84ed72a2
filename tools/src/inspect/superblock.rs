//! Both copies of the superblock, and which one counts.

use super::device::Device;
use super::failure::{Failure, Verdict};
use super::text::{Table, age, date, now_unix_ms, number};
use super::volume::Copies;
use argh::FromArgs;
use snowskin_protocol::ByteSize;
use snowskin_ssd_tier::format::Superblock;
use std::io::Write;
use std::path::PathBuf;

const HEADS: [&str; 3] = ["superblock", "at 0", "at 4096"];
const FIELDS: [&str; 8] =
    ["counts", "volume", "generation", "regions", "floor", "mounted", "last owner", "since"];

/// both copies of the superblock, and which one counts
#[derive(FromArgs)]
#[argh(subcommand, name = "superblock", example = "{command_name} /dev/nvme1n1")]
pub(crate) struct SuperblockVerb {
    /// the file or block device
    #[argh(positional)]
    path: PathBuf,
}

pub(crate) fn run(verb: &SuperblockVerb, out: &mut impl Write) -> Result<Verdict, Failure> {
    let device = Device::open(&verb.path)?;
    let copies = Copies::read(&device);
    let chosen = copies.choose(&device);
    let counts = chosen.as_ref().ok();
    let mut columns = Vec::new();
    for place in 0..2 {
        // A volume that is larger than its file is shown as well.
        let copy = copies.decode_anyhow(place).ok();
        columns.push(
            copy.map_or([const { String::new() }; FIELDS.len()], |block| {
                cells(&block, counts == Some(&block))
            }),
        );
    }
    let mut table = Table::new(&HEADS, &HEADS);
    for (row, field) in FIELDS.into_iter().enumerate() {
        table.row([field.to_owned(), columns[0][row].clone(), columns[1][row].clone()]);
    }
    for line in table.lines() {
        writeln!(out, "{line}")?;
    }
    let troubles = copies.troubles();
    for words in &troubles {
        writeln!(out, "\n  damaged: {words}")?;
    }
    chosen.map(|_| if troubles.is_empty() { Verdict::Whole } else { Verdict::Damaged })
}

fn cells(block: &Superblock, counts: bool) -> [String; FIELDS.len()] {
    let (geometry, owner) = (block.geometry, &block.owner);
    let mounted = match block.mounts {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        count => format!("{} times", number(count)),
    };
    let [by, at] = match block.mounts {
        0 => ["-", "-"].map(String::from),
        _ => [
            format!("core {}, incarnation {:016x}", owner.core, owner.incarnation.0),
            format!("{} UTC, {}", date(owner.since_unix_ms), age(owner.since_unix_ms, now_unix_ms())),
        ],
    };
    [
        if counts { "yes" } else { "no" }.to_owned(),
        block.volume.to_string(),
        number(block.generation),
        format!("{} of {}", number(geometry.regions.into()), ByteSize(geometry.region_bytes)),
        number(block.floor.0),
        mounted,
        by,
        at,
    ]
}
