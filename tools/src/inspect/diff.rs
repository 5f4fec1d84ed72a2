//! Which names differ between two volumes, and how.

use super::failure::{Failure, Verdict};
use super::region::Found;
use super::text::{counted, label};
use super::volume::Volume;
use super::{read, say_troubles};
use argh::FromArgs;
use snowskin_protocol::{ByteSize, NameRef};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

/// which live names differ between two volumes, and how: - only in the first, + only in the second, ~ other bytes, = other version only
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "diff",
    example = "{command_name} yesterday.img today.img",
    note = "Values are compared by their checksums, without reading them. Status 0: alike; 1: they differ."
)]
pub(crate) struct DiffVerb {
    /// the first file or block device
    #[argh(positional)]
    first: PathBuf,
    /// the second one
    #[argh(positional)]
    second: PathBuf,
}

pub(crate) fn run(verb: &DiffVerb, out: &mut impl Write) -> Result<Verdict, Failure> {
    let (_, first) = read(&verb.first)?;
    let (_, second) = read(&verb.second)?;
    let (before, after) = (by_name(&first), by_name(&second));
    let mut names: Vec<&&[u8]> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let (mut alike, mut different) = (0, 0);
    for name in names {
        match difference(before.get(name).copied(), after.get(name).copied()) {
            None => alike += 1,
            Some((sign, words)) => {
                different += 1;
                writeln!(out, "{sign} {}   {words}", label(NameRef::known(name)))?;
            }
        }
    }
    let damages = [say_troubles(&first), say_troubles(&second)];
    writeln!(out, "{} alike, {different} different", counted(alike, "name"))?;
    let is_whole = different == 0 && damages == [Verdict::Whole; 2];
    Ok(if is_whole { Verdict::Whole } else { Verdict::Damaged })
}

fn by_name(volume: &Volume) -> BTreeMap<&[u8], &Found> {
    volume.live().map(|(region, found)| (region.name(found).bytes(), found)).collect()
}

fn difference(before: Option<&Found>, after: Option<&Found>) -> Option<(char, String)> {
    let size = |found: &Found| ByteSize(found.record.value_bytes);
    match (before, after) {
        (Some(before), None) => Some(('-', size(before).to_string())),
        (None, Some(after)) => Some(('+', size(after).to_string())),
        (Some(before), Some(after)) => {
            let (old, new) = (before.record, after.record);
            if (old.value_bytes, old.checksum) != (new.value_bytes, new.checksum) {
                let (was, is) = (size(before), size(after));
                Some(('~', format!("{was}, {} -> {is}, {}", old.checksum, new.checksum)))
            } else if old.version != new.version {
                Some(('=', format!("the same bytes, version {:x} -> {:x}", old.version.0, new.version.0)))
            } else {
                None
            }
        }
        (None, None) => None,
    }
}
