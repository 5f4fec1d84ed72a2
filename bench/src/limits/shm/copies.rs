//! Gets that copy, beside memcpy of the same buffers.
//!
//! *Warm*: one value, again and again into the same place. *Cold*: many values, and places, more than caches hold. The
//! raw side copies out of a segment as the engine's are (the same kind of pages) into the very memory that ours
//! reads into.

use super::{join, take_place};
use crate::limits::filled::{Set, start_cluster};
use crate::limits::memcpy::{Buffer, WALK_BYTES, Walk, copies};
use crate::limits::slices::{Slice, slice};
use crate::limits::{LimitsPlan, Pinned, at_least, go_on, spread_in_words};
use crate::progress::Progress;
use crate::report::table::{Table, microseconds};
use crate::spread::Spread;
use crate::store::Store;
use serde::Serialize;
use snowskin_io::memory::{Backing, Extent, Mapping, MappingRequest, PageChoice, Prefault, Segment};
use snowskin_protocol::ByteSize;
use std::ops::ControlFlow;
use std::time::Duration;

/// Sizes of values; the one between 1 and 16 MiB is a block of a large model.
const SIZES: [usize; 6] = [4 << 10, 64 << 10, 256 << 10, 1 << 20, 3_274_752, 16 << 20];
/// Enough for cold values of all sizes: 6 × 256 MiB, and room above.
const MEMORY_BYTES: u64 = 1_800 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Caches {
    Warm,
    Cold,
}

/// One size, into warm or cold caches, with or without checksums compared.
#[derive(Debug, Serialize)]
pub(super) struct CopyRow {
    value_bytes: usize,
    caches: Caches,
    checksums: bool,
    memcpy_gb_per_s: Spread,
    ours_gb_per_s: Spread,
    ours_p50_us: Spread,
    /// Ours by memcpy, within each round.
    ratio: Spread,
    bar: Option<f64>,
}

/// Both sides' memory, and the clients with what was measured of them.
struct Copies {
    source: Extent,
    to: Buffer,
    sets: Vec<Set>,
    clients: Vec<Client>,
}

/// One client, and a list of memcpy and ours for each size: warm, cold.
struct Client {
    store: Box<dyn Store>,
    checksums: bool,
    figures: Vec<[Vec<(Slice, Slice)>; 2]>,
}

/// The least ratio, by size (docs: the design's § 13).
fn bar(value_bytes: usize) -> Option<f64> {
    const KIB_64: usize = 64 << 10;
    const MIB: usize = 1 << 20;
    const MIB_16: usize = 16 << 20;
    match value_bytes {
        KIB_64 => Some(0.80),
        MIB..=MIB_16 => Some(0.90),
        _ => None,
    }
}

/// In the first of the wake modes: what a wake-up costs is another part's question.
pub(super) fn measure(plan: &LimitsPlan, pinned: &mut Option<Pinned>) -> Result<Vec<CopyRow>, String> {
    let spin = plan.wakes[0].spin();
    let cluster = start_cluster(1, MEMORY_BYTES, spin)?;
    let _pin = take_place(plan, &cluster, pinned)?;
    let all_checks: &[bool] = if plan.checksums { &[true, false] } else { &[false] };
    let mut stores = Vec::new();
    for &checksums in all_checks {
        stores.push((checksums, join(plan, &cluster, spin, checksums)?));
    }
    let mut progress = Progress::new("copies", (plan.rounds * SIZES.len()) as u64);
    progress.at(0, "filling".to_owned());
    let mut copies = Copies::new(stores, &SIZES, WALK_BYTES)?;
    for round in 0..plan.rounds {
        for (place, size) in SIZES.into_iter().enumerate() {
            progress.at((round * SIZES.len() + place) as u64, format!("values of {}", ByteSize(size as u64)));
            copies.round(place, Caches::Warm, plan.slice)?;
            copies.round(place, Caches::Cold, plan.slice)?;
        }
    }
    progress.finish();
    Ok(copies.rows())
}

/// Memory as the engine's is, with something in it.
pub(super) fn segment_memory(bytes: usize) -> Result<Extent, String> {
    let (backing, pages) = (Backing::Anonymous, PageChoice::Auto);
    let request = MappingRequest { bytes, backing, pages, node: None, prefault: Some(Prefault::default()) };
    let mapping = Mapping::create(&request, &mut |_, _| ControlFlow::Continue(()))
        .map_err(|error| error.to_string())?;
    let segment = Segment::new(0, mapping);
    let mut memory = segment.reserve(bytes).ok_or("a fresh segment has no room")?;
    memory.value_mut().fill(7);
    Ok(segment.pin(memory.publish(), bytes))
}

impl Copies {
    fn new(stores: Vec<(bool, Box<dyn Store>)>, sizes: &[usize], walk_bytes: usize) -> Result<Self, String> {
        let sets: Vec<Set> = sizes.iter().map(|&size| Set::new("copy", size, walk_bytes / size)).collect();
        let (_, store) = stores.first().ok_or("no client")?;
        sets.iter().try_for_each(|set| go_on().and_then(|()| set.put(store.as_ref())))?;
        let figures = || sizes.iter().map(|_| Default::default()).collect();
        let clients =
            stores.into_iter().map(|(checksums, store)| Client { store, checksums, figures: figures() });
        let clients = clients.collect();
        Ok(Copies { source: segment_memory(walk_bytes)?, to: Buffer::new(walk_bytes), sets, clients })
    }

    fn round(&mut self, place: usize, caches: Caches, time: Duration) -> Result<(), String> {
        go_on()?;
        let set = &self.sets[place];
        let size = set.value_bytes();
        let walked = match caches {
            Caches::Warm => size,
            Caches::Cold => self.to.len(),
        };
        let to = &mut self.to[..walked];
        let raw = copies(&self.source.value()[..walked], to, size, time);
        for client in &mut self.clients {
            let ours = gets(client.store.as_ref(), set, to, time)?;
            client.figures[place][caches as usize].push((raw, ours));
        }
        Ok(())
    }

    fn rows(&self) -> Vec<CopyRow> {
        let mut rows = Vec::new();
        for (place, set) in self.sets.iter().enumerate() {
            for caches in [Caches::Warm, Caches::Cold] {
                for client in &self.clients {
                    let pairs = &client.figures[place][caches as usize];
                    rows.push(CopyRow::new(set.value_bytes(), caches, client.checksums, pairs));
                }
            }
        }
        rows
    }
}

/// Reads values in turn into places in turn: as many as there is room for. The last one is checked after the time is
/// taken.
fn gets(store: &dyn Store, set: &Set, to: &mut [u8], time: Duration) -> Result<Slice, String> {
    let size = set.value_bytes();
    let values = to.len() / size;
    let (mut places, mut last) = (Walk::new(to.len()), (0, 0..size));
    let mut number = 0;
    let measured = slice(time, || {
        last = (number, places.next(size));
        number = (number + 1) % values;
        set.get(store, last.0, &mut to[last.1.clone()])
    })?;
    set.check(last.0, &to[last.1])?;
    Ok(measured)
}

impl CopyRow {
    fn new(value_bytes: usize, caches: Caches, checksums: bool, pairs: &[(Slice, Slice)]) -> Self {
        let spread = |figure: &dyn Fn(&(Slice, Slice)) -> f64| Spread::of(pairs.iter().map(figure));
        let gigabytes = |slice: &Slice| slice.calls_per_s * value_bytes as f64 / 1e9;
        CopyRow {
            value_bytes,
            caches,
            checksums,
            memcpy_gb_per_s: spread(&|(raw, _)| gigabytes(raw)),
            ours_gb_per_s: spread(&|(_, ours)| gigabytes(ours)),
            ours_p50_us: spread(&|(_, ours)| ours.p50_us),
            ratio: spread(&|(raw, ours)| ours.calls_per_s / raw.calls_per_s),
            bar: bar(value_bytes),
        }
    }
}

/// For people.
pub(super) fn table(rows: &[CopyRow]) -> Table {
    let mut table =
        Table::new(&["value", "caches", "checksums", "memcpy GB/s", "ours GB/s", "ours p50", "ratio", "bar"]);
    for row in rows {
        table.row([
            ByteSize(row.value_bytes as u64).to_string(),
            format!("{:?}", row.caches).to_lowercase(),
            if row.checksums { "on" } else { "off" }.to_owned(),
            format!("{:.2}", row.memcpy_gb_per_s.median),
            format!("{:.2}", row.ours_gb_per_s.median),
            microseconds(row.ours_p50_us.median),
            spread_in_words(row.ratio),
            row.bar.map_or_else(String::new, |bar| at_least(row.ratio.median, bar)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;

    #[test]
    fn every_size_is_measured_warm_and_cold() {
        let stores: Vec<(bool, Box<dyn Store>)> = vec![(true, Box::new(FakeStore::default()))];
        let mut copies = Copies::new(stores, &[4 << 10, 64 << 10], 1 << 20).unwrap();
        for place in [0, 1] {
            copies.round(place, Caches::Warm, Duration::from_millis(2)).unwrap();
            copies.round(place, Caches::Cold, Duration::from_millis(2)).unwrap();
        }
        let rows = copies.rows();
        assert_eq!(rows.len(), 4);
        assert!(rows.iter().all(|row| row.ratio.min > 0.0 && row.checksums), "{rows:?}");
        assert_eq!(table(&rows).lines().len(), 6);
    }

    #[test]
    fn wrong_values_are_errors() {
        let store = FakeStore { corrupts: true, ..FakeStore::default() };
        let mut copies = Copies::new(vec![(false, Box::new(store))], &[4 << 10], 8 << 10).unwrap();
        let error = copies.round(0, Caches::Cold, Duration::ZERO).expect_err("corrupt");
        assert!(error.contains("WRONG VALUE"), "{error}");
    }

    #[test]
    fn bars_are_those_of_the_design() {
        assert_eq!(SIZES.map(bar), [None, Some(0.80), None, Some(0.90), Some(0.90), Some(0.90)]);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let slice = |calls_per_s| Slice { calls_per_s, p50_us: 1e6 / calls_per_s };
        // The machine was half as fast in the second round; the ratio is the same.
        let pairs = [(slice(1_000.0), slice(850.0)), (slice(500.0), slice(425.0))];
        let row = CopyRow::new(1 << 20, Caches::Cold, true, &pairs);
        assert_eq!(row.ratio, Spread { median: 0.85, min: 0.85, max: 0.85 });
        assert!(table(&[row]).lines()[2].contains("≥ 0.90 BELOW"));
    }
}
