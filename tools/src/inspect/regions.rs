//! The regions in a table, and one of them in detail.

use super::failure::{Failure, Verdict};
use super::read;
use super::records;
use super::region::{Fate, Region, State, Trouble};
use super::text::{Table, age, date, now_unix_ms, number};
use super::volume::{Volume, is_value};
use argh::FromArgs;
use snowskin_protocol::ByteSize;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;

/// the regions: state, age, records, live and dead bytes
#[derive(FromArgs)]
#[argh(subcommand, name = "regions", example = "{command_name} tier.img")]
pub(crate) struct RegionsVerb {
    /// the file or block device
    #[argh(positional)]
    path: PathBuf,
}

/// one region: its header, its footer, all its records
#[derive(FromArgs)]
#[argh(subcommand, name = "region", example = "{command_name} tier.img 3")]
pub(crate) struct RegionVerb {
    /// the file or block device
    #[argh(positional)]
    path: PathBuf,
    /// the number of the region, from 0
    #[argh(positional)]
    number: u32,
}

/// Of all regions.
pub(crate) fn run(verb: &RegionsVerb, out: &mut impl Write) -> Result<Verdict, Failure> {
    let (_, volume) = read(&verb.path)?;
    let heads =
        ["region", "sequence", "state", "opened (UTC)", "records", "tombstones", "live", "dead", "damaged"];
    let mut table = Table::new(&heads, &["state", "opened (UTC)"]);
    for region in &volume.regions {
        table.row(cells(region));
    }
    for line in table.lines() {
        writeln!(out, "{line}")?;
    }
    let notes: Vec<&Trouble> = volume.troubles().collect();
    if !notes.is_empty() {
        writeln!(out)?;
    }
    for note in notes {
        writeln!(out, "  {note}")?;
    }
    Ok(volume.verdict())
}

fn cells(region: &Region) -> [String; 9] {
    let size = |bytes| if region.found.is_empty() { String::new() } else { ByteSize(bytes).to_string() };
    let sequence = region.opened();
    let damaged = region.bytes_of(|fate| fate == Fate::NotWhole);
    let records = region.found.iter().filter(|found| is_value(found)).count() as u64;
    let count = |count| if region.state == State::Free { String::new() } else { number(count) };
    [
        region.number.to_string(),
        sequence.map_or_else(|| "-".to_owned(), |sequence| sequence.0.to_string()),
        region.state.word().to_owned(),
        region.header.map_or_else(|| "-".to_owned(), |header| date(header.opened_unix_ms)),
        count(records),
        count(region.count_of(|fate| fate == Fate::Tombstone)),
        size(region.bytes_of(|fate| fate == Fate::Live)),
        size(region.bytes_of(|fate| matches!(fate, Fate::Replaced | Fate::Removed))),
        if damaged > 0 { ByteSize(damaged).to_string() } else { String::new() },
    ]
}

/// Of one region.
pub(crate) fn run_one(verb: &RegionVerb, out: &mut impl Write) -> Result<Verdict, Failure> {
    let (_, volume) = read(&verb.path)?;
    let Some(region) = volume.regions.get(verb.number as usize) else {
        let regions = volume.regions.len();
        return Err(Failure::Asked(format!(
            "there is no region {}: they are 0 to {}",
            verb.number,
            regions - 1
        )));
    };
    describe(&volume, region, out)?;
    if !region.found.is_empty() {
        writeln!(out)?;
        records::table(region.found.iter().map(|found| (region, found)), out)?;
    }
    if !region.troubles.is_empty() {
        writeln!(out)?;
    }
    for trouble in &region.troubles {
        writeln!(out, "  {trouble}")?;
    }
    Ok(if region.is_damaged() { Verdict::Damaged } else { Verdict::Whole })
}

fn describe(volume: &Volume, region: &Region, out: &mut impl Write) -> Result<(), Failure> {
    let geometry = volume.superblock.geometry;
    let (at, state) = (geometry.region_at(region.number), region.state.word());
    writeln!(out, "region {}: {state}", region.number)?;
    writeln!(
        out,
        "  on the disk   {at} to {}, {}",
        at + geometry.region_bytes,
        ByteSize(geometry.region_bytes)
    )?;
    match region.header {
        Some(header) => {
            let (sequence, floor) = (header.sequence, volume.superblock.floor);
            let compared = if sequence < floor { "below" } else { "not below" };
            writeln!(out, "  sequence      {}, {compared} the floor, {}", sequence.0, floor.0)?;
            let (opened, now) = (header.opened_unix_ms, now_unix_ms());
            writeln!(out, "  opened        {} UTC, {}", date(opened), age(opened, now))?;
        }
        None => writeln!(out, "  header        none that is whole")?,
    }
    match region.footer {
        Some(footer) => {
            let index = ByteSize(footer.entries_bytes.into());
            let (entries, end) = (number(footer.entries.into()), footer.records_end);
            writeln!(out, "  footer        {entries} entries, {index}; records end at {end}")?;
        }
        None => {
            writeln!(out, "  footer        none of this sequence; records end at {}", region.records_end)?
        }
    }
    Ok(())
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trouble { is_damage, region, offset, words } = self;
        let kind = if *is_damage { "damaged" } else { "note" };
        write!(f, "{kind}: region {region}, offset {offset}: {words}")
    }
}
