//! Records, chosen by name, as a table, as CSV or as JSON.

use super::failure::{Failure, Verdict};
use super::region::{Fate, Found, Region};
use super::text::{Table, cut, date, number, shown, unshown};
use super::volume::is_value;
use super::{read, say_troubles};
use argh::{FromArgValue, FromArgs};
use regex::bytes::Regex;
use serde::Serialize;
use snowskin_protocol::NameRef;
use std::io::{self, Write};
use std::path::PathBuf;

/// Letters of a key that a table shows; CSV and JSON have all.
const KEY_LETTERS_MAX: usize = 60;

/// the live records; with --all the dead ones and tombstones too
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "records",
    example = "{command_name} tier.img --match '^llama/' --tenant default\n{command_name} tier.img --all --format csv > records.csv",
    note = "Keys are shown with \\\\ for a backslash and \\xNN for bytes that are not printable; --key and `get` read them so."
)]
pub(crate) struct RecordsVerb {
    /// the file or block device
    #[argh(positional)]
    path: PathBuf,
    /// only this key
    #[argh(option)]
    key: Option<String>,
    /// only keys that this regular expression is found in
    #[argh(option, long = "match")]
    pattern: Option<String>,
    /// only this tenant
    #[argh(option)]
    tenant: Option<String>,
    /// dead records and tombstones too
    #[argh(switch)]
    all: bool,
    /// table, csv or json (default: table)
    #[argh(option, default = "Format::Table")]
    format: Format,
}

#[derive(Clone, Copy)]
enum Format {
    Table,
    Csv,
    Json,
}

impl FromArgValue for Format {
    fn from_arg_value(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Format::Table),
            "csv" => Ok(Format::Csv),
            "json" => Ok(Format::Json),
            _ => Err(format!("{text} is no format: write table, csv or json")),
        }
    }
}

/// Which names are meant.
struct Selection {
    key: Option<Vec<u8>>,
    pattern: Option<Regex>,
    tenant: Option<Vec<u8>>,
}

impl Selection {
    fn of(verb: &RecordsVerb) -> Result<Self, Failure> {
        let bytes = |text: &Option<String>| text.as_deref().map(unshown).transpose().map_err(Failure::Asked);
        let pattern = verb.pattern.as_deref().map(Regex::new).transpose();
        let pattern = pattern.map_err(|error| Failure::Asked(error.to_string()))?;
        Ok(Selection { key: bytes(&verb.key)?, pattern, tenant: bytes(&verb.tenant)? })
    }

    fn has(&self, name: NameRef<'_>) -> bool {
        self.key.as_ref().is_none_or(|key| key == name.key())
            && self.tenant.as_ref().is_none_or(|tenant| tenant == name.tenant())
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(name.key()))
    }
}

pub(crate) fn run(verb: &RecordsVerb, out: &mut impl Write) -> Result<Verdict, Failure> {
    let selection = Selection::of(verb)?;
    let (_, volume) = read(&verb.path)?;
    let chosen = volume.records().filter(|(region, found)| {
        (verb.all || found.fate == Fate::Live) && selection.has(region.name(found))
    });
    match verb.format {
        Format::Table => table(chosen, out)?,
        Format::Csv => csv(chosen, out)?,
        Format::Json => json(chosen, out)?,
    }
    Ok(say_troubles(&volume))
}

/// A line a record.
pub(crate) fn table<'v>(
    chosen: impl Iterator<Item = (&'v Region, &'v Found)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let heads = ["region", "offset", "state", "tenant", "key", "bytes", "version", "written (UTC)"];
    let mut table = Table::new(&heads, &["state", "tenant", "key", "written (UTC)"]);
    for (region, found) in chosen {
        let name = region.name(found);
        let bytes = if is_value(found) { number(found.record.value_bytes) } else { "-".to_owned() };
        table.row([
            region.number.to_string(),
            found.offset.to_string(),
            found.fate.word().to_owned(),
            shown(name.tenant()),
            cut(&shown(name.key()), KEY_LETTERS_MAX),
            bytes,
            format!("{:x}", found.record.version.0),
            date(found.record.written_unix_ms),
        ]);
    }
    table.lines().iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// A record for programs.
#[derive(Serialize)]
struct Row {
    region: u32,
    sequence: u64,
    offset: u32,
    state: &'static str,
    kind: &'static str,
    tenant: String,
    key: String,
    version: u64,
    value_bytes: u64,
    record_bytes: u64,
    checksum: String,
    written_unix_ms: u64,
}

const COLUMNS: &str =
    "region,sequence,offset,state,kind,tenant,key,version,value_bytes,record_bytes,checksum,written_unix_ms";

impl Row {
    fn of(region: &Region, found: &Found) -> Self {
        let name = region.name(found);
        Row {
            region: region.number,
            sequence: region.opened().unwrap_or_default().0,
            offset: found.offset,
            state: found.fate.word(),
            kind: if is_value(found) { "value" } else { "tombstone" },
            tenant: shown(name.tenant()),
            key: shown(name.key()),
            version: found.record.version.0,
            value_bytes: found.record.value_bytes,
            record_bytes: found.bytes,
            checksum: found.record.checksum.to_string(),
            written_unix_ms: found.record.written_unix_ms,
        }
    }
}

fn csv<'v>(chosen: impl Iterator<Item = (&'v Region, &'v Found)>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{COLUMNS}")?;
    for (region, found) in chosen {
        let row = Row::of(region, found);
        write!(out, "{},{},{},{},{},", row.region, row.sequence, row.offset, row.state, row.kind)?;
        write!(out, "{},{},{},", quoted(&row.tenant), quoted(&row.key), row.version)?;
        writeln!(out, "{},{},{},{}", row.value_bytes, row.record_bytes, row.checksum, row.written_unix_ms)?;
    }
    Ok(())
}

fn json<'v>(chosen: impl Iterator<Item = (&'v Region, &'v Found)>, out: &mut impl Write) -> io::Result<()> {
    let mut before = "[\n";
    for (region, found) in chosen {
        write!(out, "{before}  {}", serde_json::to_string(&Row::of(region, found))?)?;
        before = ",\n";
    }
    match before {
        "[\n" => writeln!(out, "[]"),
        _ => writeln!(out, "\n]"),
    }
}

/// A field of CSV (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}
