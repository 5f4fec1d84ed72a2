//! What takes the space: live records by size, by age and by tenant.

use super::failure::{Failure, Verdict};
use super::region::{Fate, State};
use super::text::{Table, bar, cut, now_unix_ms, number, percent, shown};
use super::volume::Volume;
use super::{read, say_troubles};
use argh::FromArgs;
use snowskin_protocol::ByteSize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// Letters of the longest bar.
const BAR_LETTERS: u64 = 24;
/// Tenants that are shown each; the others are summed up.
const TENANTS_MAX: usize = 20;
/// Letters of a tenant that are shown.
const TENANT_LETTERS_MAX: usize = 32;
/// The oldest of each class of age, in seconds.
const AGES: [(u64, &str); 7] = [
    (60, "up to a minute"),
    (600, "10 minutes"),
    (3_600, "an hour"),
    (86_400, "a day"),
    (604_800, "a week"),
    (2_592_000, "30 days"),
    (u64::MAX, "older"),
];

/// what takes the space: live records by size, age and tenant
#[derive(FromArgs)]
#[argh(subcommand, name = "usage", example = "{command_name} tier.img")]
pub(crate) struct UsageVerb {
    /// the file or block device
    #[argh(positional)]
    path: PathBuf,
}

/// How many, and bytes of values.
#[derive(Clone, Copy, Default)]
struct Sum {
    count: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

pub(crate) fn run(verb: &UsageVerb, out: &mut impl Write) -> Result<Verdict, Failure> {
    let (_, volume) = read(&verb.path)?;
    summary(&volume, out)?;
    let now = now_unix_ms();
    let (mut sizes, mut ages) = (BTreeMap::<u32, Sum>::new(), BTreeMap::<usize, Sum>::new());
    let mut tenants = BTreeMap::<String, Sum>::new();
    for (region, found) in volume.live() {
        let bytes = found.record.value_bytes;
        let seconds = now.saturating_sub(found.record.written_unix_ms) / 1_000;
        sizes.entry(bytes.next_power_of_two().ilog2()).or_default().add(bytes);
        ages.entry(AGES.partition_point(|&(oldest, _)| oldest < seconds)).or_default().add(bytes);
        let tenant = cut(&shown(region.name(found).tenant()), TENANT_LETTERS_MAX);
        tenants.entry(tenant).or_default().add(bytes);
    }
    let size = |(class, sum): (u32, Sum)| (format!("up to {}", ByteSize(1 << class)), sum);
    list("size", sizes.into_iter().map(size).collect(), out)?;
    let age = |(class, sum): (usize, Sum)| (AGES[class].1.to_owned(), sum);
    list("age", ages.into_iter().map(age).collect(), out)?;
    list("tenant", largest(tenants), out)?;
    Ok(say_troubles(&volume))
}

/// All of the volume.
fn summary(volume: &Volume, out: &mut impl Write) -> io::Result<()> {
    let geometry = volume.superblock.geometry;
    let all = geometry.region_bytes * u64::from(geometry.regions);
    let bytes = |fates: &[Fate]| -> u64 {
        volume.regions.iter().map(|region| region.bytes_of(|fate| fates.contains(&fate))).sum()
    };
    let rows = [
        ("live", bytes(&[Fate::Live])),
        ("dead", bytes(&[Fate::Replaced, Fate::Removed])),
        ("tombstones", bytes(&[Fate::Tombstone])),
        ("damaged", bytes(&[Fate::NotWhole])),
    ];
    let free = volume.regions.iter().filter(|region| region.state == State::Free).count() as u64;
    let free = free * geometry.region_bytes;
    let rest = all.saturating_sub(free + rows.iter().map(|(_, bytes)| bytes).sum::<u64>());
    let others = [("free regions", free), ("headers, indexes, room", rest)];
    let mut table = Table::new(&["on the medium", "bytes", "share", " "], &["on the medium", " "]);
    for (what, bytes) in rows.into_iter().chain(others) {
        let (share, bar) = (percent(bytes, all), bar(bytes, all, BAR_LETTERS));
        table.row([what.to_owned(), ByteSize(bytes).to_string(), share, bar]);
    }
    table.lines().iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// Those with the most bytes, and the sum of the others.
fn largest(tenants: BTreeMap<String, Sum>) -> Vec<(String, Sum)> {
    let mut rows: Vec<(String, Sum)> = tenants.into_iter().collect();
    rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.bytes));
    if rows.len() > TENANTS_MAX {
        let others = rows.split_off(TENANTS_MAX);
        let mut sum = Sum::default();
        for (_, other) in &others {
            sum = Sum { count: sum.count + other.count, bytes: sum.bytes + other.bytes };
        }
        rows.push((format!("{} others", number(others.len() as u64)), sum));
    }
    rows
}

fn list(class: &str, rows: Vec<(String, Sum)>, out: &mut impl Write) -> io::Result<()> {
    let all: u64 = rows.iter().map(|(_, sum)| sum.bytes).sum();
    let most = rows.iter().map(|(_, sum)| sum.bytes).max().unwrap_or(0);
    let mut table = Table::new(&[class, "values", "bytes", "share", " "], &["size", "age", "tenant", " "]);
    for (what, Sum { count, bytes }) in rows {
        let (share, bar) = (percent(bytes, all), bar(bytes, most, BAR_LETTERS));
        table.row([what, number(count), ByteSize(bytes).to_string(), share, bar]);
    }
    writeln!(out)?;
    table.lines().iter().try_for_each(|line| writeln!(out, "{line}"))
}
