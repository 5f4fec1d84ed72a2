//! Reads everything and compares every checksum.
//!
//! What is damaged is printed with its place; dead records count as well, since what has damaged them may damage others. A write that was cut
//! off at the end of an unfinished region is no damage: every crash leaves one. Damage in a region that was reclaimed while it was read is
//! none either: its header is another one afterwards.

use super::device::{Device, Window};
use super::failure::{Failure, Verdict};
use super::get::label;
use super::progress::Progress;
use super::read;
use super::region::{Found, Region, State, Trouble};
use super::text::counted;
use super::value::{Unread, read_head, read_value};
use super::volume::{Copies, Volume, is_value};
use argh::FromArgs;
use snowskin_protocol::{ByteSize, Version};
use snowskin_ssd_tier::format::{FormatError, RegionHeader, SECTOR_BYTES, tombstones_of};
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

/// What was read.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) regions: u64,
    pub(crate) values: u64,
    pub(crate) tombstones: u64,
    pub(crate) bytes: u64,
}

pub(crate) fn run(verb: &VerifyVerb, out: &mut impl Write) -> Result<Verdict, Failure> {
    let (device, volume) = read(&verb.path)?;
    let mut copies = Copies::read(&device).troubles();
    if !copies.is_empty() {
        // It may have been written just then: what is damaged is so the next time as well.
        copies = Copies::read(&device).troubles();
    }
    let mut sums = Sums::default();
    let troubles = verify(&device, &volume, &mut sums);
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

/// Reads all values and compares all checksums. Answers what was known before, too.
pub(crate) fn verify(device: &Device, volume: &Volume, sums: &mut Sums) -> Vec<Trouble> {
    let used = || volume.regions.iter().filter(|region| !region.found.is_empty());
    let all: u64 = used().map(|region| region.bytes_of(|_| true)).sum();
    let mut progress = Progress::new("verify");
    let mut troubles = Vec::new();
    for region in &volume.regions {
        let mut found = region.troubles.clone();
        let mut window = Window::new(device);
        let mut rest = &region.found[..];
        while let Some(first) = rest.first() {
            let count = rest.iter().take_while(|other| other.offset == first.offset).count();
            let (group, behind) = rest.split_at(if is_value(first) { 1 } else { count });
            // Those of other regions were tried when they were found.
            if region.footer.is_some()
                && let Err(error) = check(volume, &mut window, region, group)
            {
                found.push(trouble(region, first, &error));
            }
            sums.bytes += first.bytes;
            progress.at(sums.bytes, all);
            rest = behind;
        }
        sums.regions += u64::from(region.state != State::Free);
        sums.values += region.found.iter().filter(|found| is_value(found)).count() as u64;
        sums.tombstones += region.found.iter().filter(|found| !is_value(found)).count() as u64;
        troubles.extend(forgiven(device, volume, region, found));
    }
    troubles
}

/// One record: a value, or tombstones.
fn check(volume: &Volume, window: &mut Window<'_>, region: &Region, group: &[Found]) -> Result<(), Unread> {
    let first = &group[0];
    if is_value(first) {
        return volume.read_value(window, (region, first), |_| Ok(()));
    }
    let sequence = region.sequence().expect("a region with records has a sequence");
    let offset = u64::from(first.offset);
    let head = read_head(window, &volume.superblock, (region.number, sequence, offset))?;
    let mut list = Vec::new();
    let place = (region.number, offset);
    read_value(window, &volume.superblock, place, &head, |piece| {
        list.extend_from_slice(piece);
        Ok(())
    })?;
    let there: Result<Vec<(&[u8], Version)>, FormatError> =
        tombstones_of(&list).map(|one| one.map(|one| (one.name.bytes(), one.version))).collect();
    let listed: Vec<(&[u8], Version)> =
        group.iter().map(|found| (region.name(found).bytes(), found.record.version)).collect();
    let counts = head.record.kind == first.record.kind && head.record.version == Version(listed.len() as u64);
    match there.map_err(Unread::Format)? == listed && counts {
        true => Ok(()),
        false => Err(Unread::Index),
    }
}

fn trouble(region: &Region, found: &Found, error: &Unread) -> Trouble {
    let what = match is_value(found) {
        true => format!("{} ({})", label(region.name(found)), found.fate.word()),
        false => "tombstones".to_owned(),
    };
    let words = format!("{what}: {error}");
    Trouble { is_damage: true, region: region.number, offset: found.offset.into(), words }
}

/// What was found in a region that has changed meanwhile is no damage.
fn forgiven(device: &Device, volume: &Volume, region: &Region, found: Vec<Trouble>) -> Vec<Trouble> {
    if !found.iter().any(|trouble| trouble.is_damage) || region.header.is_none() {
        return found;
    }
    let at = volume.superblock.geometry.region_at(region.number);
    let now = device.read(at, SECTOR_BYTES).ok();
    let now = now.map(|sector| RegionHeader::decode(&sector, volume.superblock.volume, region.number).ok());
    match now == Some(region.header) {
        true => found,
        false => {
            let words =
                "it was reclaimed while it was read: verify again to know what is in it now".to_owned();
            vec![Trouble { is_damage: false, region: region.number, offset: 0, words }]
        }
    }
}
