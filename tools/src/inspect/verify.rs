//! Reads everything and compares every checksum.
//!
//! What is damaged is printed with its place; dead records count as well, since what has damaged them may damage others. A write that was cut
//! off at the end of an unfinished region is no damage: every crash leaves one. Nor is a record of tombstones that an index has as well. Damage in a region that was reclaimed while it was read is
//! none either: its header is another one afterwards.

use super::check::{Sums, check};
use super::failure::{Failure, Verdict};
use super::progress::Progress;
use super::read;
use super::text::counted;
use super::volume::Copies;
use argh::FromArgs;
use snowskin_protocol::ByteSize;
use std::io::Write;
use std::path::PathBuf;

/// read everything, compare every checksum: status 0 whole, 1 damaged, 2 cannot be read at all
#[derive(FromArgs)]
#[argh(subcommand, name = "verify", example = "{command_name} tier.img && echo whole")]
pub(crate) struct VerifyVerb {
    /// the file or block device
    #[argh(positional)]
    path: PathBuf,
}

pub(crate) fn run(verb: &VerifyVerb, out: &mut impl Write) -> Result<Verdict, Failure> {
    let (device, volume) = read(&verb.path)?;
    let mut copies = Copies::read(&device).troubles();
    if !copies.is_empty() {
        // It may have been written just then: what is damaged is so the next time as well.
        copies = Copies::read(&device).troubles();
    }
    let mut sums = Sums::default();
    let mut progress = Progress::new("verify");
    let troubles = check(&device, &volume, &mut sums, &mut |done, all| progress.at(done, all));
    drop(progress);
    let block = &volume.superblock;
    writeln!(out, "volume {}, generation {}", block.volume, block.generation)?;
    let (regions, values) = (counted(sums.regions, "region"), counted(sums.values, "value"));
    let tombstones = counted(sums.tombstones, "tombstone");
    writeln!(out, "read: {values}, {tombstones}, {} in {regions}", ByteSize(sums.bytes))?;
    for words in &copies {
        writeln!(out, "damaged: {words}")?;
    }
    for trouble in &troubles {
        writeln!(out, "{trouble}")?;
    }
    let places = copies.len() + troubles.iter().filter(|trouble| trouble.is_damage).count();
    match places {
        0 => writeln!(out, "whole")?,
        count => writeln!(out, "damaged in {}", counted(count as u64, "place"))?,
    }
    Ok(if places == 0 { Verdict::Whole } else { Verdict::Damaged })
}
