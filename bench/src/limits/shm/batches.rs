//! Batches: gets of 32 values of 4 KiB, and lookups of 32 and of 16,384 keys.

use super::copies::segment_memory;
use super::{join, take_place};
use crate::limits::filled::{Set, start_cluster};
use crate::limits::memcpy::{Buffer, copies};
use crate::limits::slices::{Slice, slice};
use crate::limits::{LimitsPlan, Pinned, Wake, at_most, go_on};
use crate::progress::Progress;
use crate::report::table::{Table, microseconds, number};
use crate::spread::Spread;
use crate::store::Store;
use serde::Serialize;
use snowskin_io::memory::Extent;
use snowskin_protocol::ByteSize;
use std::time::Duration;

const VALUE_BYTES: usize = 4 << 10;
/// 16 MiB of values.
const VALUES: usize = 4_096;
/// Values, or keys, in a usual batch.
const BATCH: usize = 32;
/// Values that are looked up, and their size.
const LOOKUP_KEYS: usize = 16_384;
const LOOKUP_VALUE_BYTES: usize = 64;
/// How long a lookup of all of them may take.
const LOOKUP_BAR_US: f64 = 2_000.0;
/// A value takes 4 KiB at least.
const MEMORY_BYTES: u64 = 256 << 20;

/// One kind of batch in one wake mode.
#[derive(Debug, Serialize)]
pub(super) struct BatchRow {
    what: &'static str,
    keys: usize,
    value_bytes: Option<usize>,
    wake: Wake,
    keys_per_s: Spread,
    p50_us: Spread,
    ours_gb_per_s: Option<Spread>,
    /// Copies of as many values of the same size, out of as much memory into as much.
    memcpy_gb_per_s: Option<Spread>,
    bar_us: Option<f64>,
}

/// A client in one wake mode, and its slices.
struct Contest {
    wake: Wake,
    store: Box<dyn Store>,
    values: Set,
    lookups: Set,
    to: Buffer,
    memcpy: Vec<Slice>,
    gets: Vec<Slice>,
    small: Vec<Slice>,
    large: Vec<Slice>,
}

pub(super) fn measure(plan: &LimitsPlan, pinned: &mut Option<Pinned>) -> Result<Vec<BatchRow>, String> {
    let mut clusters = Vec::new();
    for &wake in &plan.wakes {
        clusters.push((wake, start_cluster(1, MEMORY_BYTES, wake.spin())?));
    }
    let _pin = take_place(plan, &clusters[0].1, pinned)?;
    let mut contests = Vec::new();
    for (wake, cluster) in &clusters {
        let store = join(plan, cluster, wake.spin(), plan.checksums)?;
        contests.push(Contest::new(*wake, store)?);
    }
    let source = segment_memory(VALUES * VALUE_BYTES)?;
    let mut progress = Progress::new("batches", plan.rounds as u64);
    for round in 0..plan.rounds {
        progress.at(round as u64, "batches".to_owned());
        contests.iter_mut().try_for_each(|contest| contest.round(&source, plan.slice))?;
    }
    progress.finish();
    Ok(contests.iter().flat_map(Contest::rows).collect())
}

impl Contest {
    fn new(wake: Wake, store: Box<dyn Store>) -> Result<Self, String> {
        let values = Set::new("batch", VALUE_BYTES, VALUES);
        let lookups = Set::new("lookup", LOOKUP_VALUE_BYTES, LOOKUP_KEYS);
        values.put(store.as_ref())?;
        lookups.put(store.as_ref())?;
        let to = Buffer::new(BATCH * VALUE_BYTES);
        let (memcpy, gets, small, large) = Default::default();
        Ok(Contest { wake, store, values, lookups, to, memcpy, gets, small, large })
    }

    fn round(&mut self, source: &Extent, time: Duration) -> Result<(), String> {
        go_on()?;
        self.memcpy.push(copies(source.value(), &mut self.to, VALUE_BYTES, time));
        let gets = self.gets(time)?;
        self.gets.push(gets);
        self.small.push(self.lookups(BATCH, time)?);
        self.large.push(self.lookups(LOOKUP_KEYS, time)?);
        Ok(())
    }

    /// Batches of values in turn into the same place; the last one is checked after the time is taken.
    fn gets(&mut self, time: Duration) -> Result<Slice, String> {
        let (mut first, mut last) = (0, 0);
        let measured = slice(time, || {
            last = first;
            first = (first + BATCH) % VALUES;
            self.values.get_batch(self.store.as_ref(), last, &mut self.to)
        })?;
        self.values.check_batch(last, &self.to)?;
        Ok(measured)
    }

    fn lookups(&self, batch: usize, time: Duration) -> Result<Slice, String> {
        let keys = self.lookups.keys();
        let mut batches = keys.chunks_exact(batch).cycle();
        slice(time, || {
            let held = self.store.lookup(batches.next().expect("a cycle does not end"));
            if held.len() == batch && held.iter().all(|outcome| *outcome == Ok(true)) {
                return Ok(());
            }
            let absent = held.iter().find(|outcome| **outcome != Ok(true));
            Err(format!("of {batch} keys that must be held one is not: {absent:?}"))
        })
    }

    fn rows(&self) -> [BatchRow; 3] {
        let row = |what, keys, slices: &[Slice]| BatchRow {
            what,
            keys,
            value_bytes: None,
            wake: self.wake,
            keys_per_s: Spread::of(slices.iter().map(|slice| slice.calls_per_s * keys as f64)),
            p50_us: Spread::of(slices.iter().map(|slice| slice.p50_us)),
            ours_gb_per_s: None,
            memcpy_gb_per_s: None,
            bar_us: None,
        };
        let gigabytes = |slices: &[Slice], values: usize| {
            let bytes = (values * VALUE_BYTES) as f64;
            Some(Spread::of(slices.iter().map(|slice| slice.calls_per_s * bytes / 1e9)))
        };
        let gets = BatchRow {
            value_bytes: Some(VALUE_BYTES),
            ours_gb_per_s: gigabytes(&self.gets, BATCH),
            memcpy_gb_per_s: gigabytes(&self.memcpy, 1),
            ..row("get", BATCH, &self.gets)
        };
        let large = BatchRow { bar_us: Some(LOOKUP_BAR_US), ..row("lookup", LOOKUP_KEYS, &self.large) };
        [gets, row("lookup", BATCH, &self.small), large]
    }
}

/// For people.
pub(super) fn table(rows: &[BatchRow]) -> Table {
    let mut table = Table::new(&["batch", "wake", "p50", "keys/s", "memcpy GB/s", "ours GB/s", "bar"]);
    for row in rows {
        let size = row.value_bytes.map_or_else(String::new, |bytes| format!(" × {}", ByteSize(bytes as u64)));
        let gigabytes =
            |rate: Option<Spread>| rate.map_or_else(String::new, |rate| format!("{:.2}", rate.median));
        table.row([
            format!("{} {}{size}", row.what, number(row.keys as u64)),
            row.wake.name(),
            microseconds(row.p50_us.median),
            number(row.keys_per_s.median as u64),
            gigabytes(row.memcpy_gb_per_s),
            gigabytes(row.ours_gb_per_s),
            row.bar_us.map_or_else(String::new, |bar| at_most(row.p50_us.median, bar, &microseconds(bar))),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;

    #[test]
    fn all_batches_are_measured() {
        let mut contest = Contest::new(Wake::Block, Box::new(FakeStore::default())).unwrap();
        let source = segment_memory(VALUES * VALUE_BYTES).unwrap();
        contest.round(&source, Duration::from_millis(2)).unwrap();
        let rows = contest.rows();
        assert_eq!(rows.each_ref().map(|row| row.keys), [32, 32, 16_384]);
        assert!(rows.iter().all(|row| row.keys_per_s.median > row.keys as f64), "{rows:?}");
        let lines = table(&rows).lines();
        assert!(lines[2].contains("get 32 × 4") && lines[4].contains("≤ 2.00 ms"), "{lines:?}");
    }

    #[test]
    fn absent_and_wrong_values_are_errors() {
        let contest = Contest::new(Wake::Spin, Box::new(FakeStore::default())).unwrap();
        let absent = Contest { store: Box::new(FakeStore::default()), ..contest };
        assert!(absent.lookups(BATCH, Duration::ZERO).expect_err("absent").contains("one is not"));
        let store = Box::new(FakeStore { corrupts: true, ..FakeStore::default() });
        let mut corrupt = Contest::new(Wake::Spin, store).unwrap();
        assert!(corrupt.gets(Duration::ZERO).expect_err("corrupt").contains("WRONG VALUE"));
    }
}
