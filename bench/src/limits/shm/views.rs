//! Gets in place, beside a ping-pong in the same wake mode: a request and an answer, and nothing that depends on
//! the length of the value.

use super::pingpong::{PingPong, Way};
use super::{join, take_place};
use crate::limits::filled::{Set, start_cluster};
use crate::limits::slices::slice;
use crate::limits::{LimitsPlan, Pinned, Wake, at_most, go_on, spread_in_words};
use crate::progress::Progress;
use crate::report::table::Table;
use crate::spread::Spread;
use crate::store::Store;
use serde::Serialize;
use std::time::Duration;

const VALUE_BYTES: usize = 64;
const VALUES: usize = 1_024;
const MEMORY_BYTES: u64 = 64 << 20;
/// Gets while both sides spin are timed together, as ping-pongs are, because to look at the clock and to note what it says
/// took a tenth of a client's samples. Not as many: the engine notes the uses of 32 values together, which half of all dozens would contain and one in
/// eight of these does. So this is the median of single gets still, without the clock.
const SPUN_GETS_AT_A_TIME: u32 = 4;
/// How many times as long as a ping-pong a get in place may take (docs: the design's § 13).
const BAR: f64 = 2.0;

/// One wake mode beside one way to wait.
#[derive(Debug, Serialize)]
pub(super) struct ViewRow {
    wake: Wake,
    raw: Way,
    raw_p50_us: Spread,
    ours_p50_us: Spread,
    /// Ours by raw, within each round.
    ratio: Spread,
    bar: f64,
}

/// A client in one wake mode, and the ping-pongs of the same mode, each with the medians of both.
struct Contest {
    wake: Wake,
    store: Box<dyn Store>,
    set: Set,
    raws: Vec<Raw>,
}

struct Raw {
    way: Way,
    ping_pong: PingPong,
    /// Of each round: its own, ours.
    medians: Vec<(f64, f64)>,
}

pub(super) fn measure(plan: &LimitsPlan, pinned: &mut Option<Pinned>) -> Result<Vec<ViewRow>, String> {
    let mut clusters = Vec::new();
    for &wake in &plan.wakes {
        clusters.push((wake, start_cluster(1, MEMORY_BYTES, wake.spin())?));
    }
    let _pin = take_place(plan, &clusters[0].1, pinned)?;
    let mut contests = Vec::new();
    for (wake, cluster) in &clusters {
        let store = join(plan, cluster, wake.spin(), plan.checksums)?;
        let mut raws = Vec::new();
        for &way in ways(*wake) {
            let ping_pong = PingPong::start(way, pinned.map(|pinned| pinned.engine_cpu))?;
            raws.push(Raw { way, ping_pong, medians: Vec::new() });
        }
        contests.push(Contest::new(*wake, store, raws)?);
    }
    let mut progress = Progress::new("views", plan.rounds as u64);
    for round in 0..plan.rounds {
        progress.at(round as u64, "gets in place".to_owned());
        contests.iter_mut().try_for_each(|contest| contest.round(plan.slice))?;
    }
    progress.finish();
    Ok(contests.iter().flat_map(Contest::rows).collect())
}

/// The raw ways to wait that a wake mode is put beside.
fn ways(wake: Wake) -> &'static [Way] {
    match wake {
        Wake::Spin => &[Way::Spin],
        Wake::Block => &[Way::Futex, Way::Eventfd],
    }
}

impl Contest {
    fn new(wake: Wake, store: Box<dyn Store>, raws: Vec<Raw>) -> Result<Self, String> {
        let set = Set::new("view", VALUE_BYTES, VALUES);
        set.put(store.as_ref())?;
        Ok(Contest { wake, store, set, raws })
    }

    fn round(&mut self, time: Duration) -> Result<(), String> {
        for Raw { ping_pong, medians, .. } in &mut self.raws {
            go_on()?;
            let raw = ping_pong.p50_us(time)?;
            medians.push((raw, views(self.store.as_ref(), &self.set, self.wake, time)?));
        }
        Ok(())
    }

    fn rows(&self) -> Vec<ViewRow> {
        self.raws.iter().map(|raw| ViewRow::new(self.wake, raw.way, &raw.medians)).collect()
    }
}

/// The median of gets in place of values in turn, in µs.
fn views(store: &dyn Store, set: &Set, wake: Wake, time: Duration) -> Result<f64, String> {
    let at_a_time = if wake == Wake::Spin { SPUN_GETS_AT_A_TIME } else { 1 };
    let mut number = 0;
    let measured = slice(time, || {
        (0..at_a_time).try_for_each(|_| {
            number += 1;
            set.view(store, number)
        })
    })?;
    Ok(measured.p50_us / f64::from(at_a_time))
}

impl ViewRow {
    /// Of the medians of each round: raw, ours.
    pub(super) fn new(wake: Wake, raw: Way, medians: &[(f64, f64)]) -> Self {
        ViewRow {
            wake,
            raw,
            raw_p50_us: Spread::of(medians.iter().map(|(raw, _)| *raw)),
            ours_p50_us: Spread::of(medians.iter().map(|(_, ours)| *ours)),
            ratio: Spread::of(medians.iter().map(|(raw, ours)| ours / raw)),
            bar: BAR,
        }
    }
}

/// For people.
pub(super) fn table(rows: &[ViewRow]) -> Table {
    let mut table = Table::new(&["wake", "raw", "raw p50", "ours p50", "ratio", "bar"]);
    for row in rows {
        table.row([
            row.wake.name(),
            row.raw.name(),
            format!("{:.2} µs", row.raw_p50_us.median),
            format!("{:.2} µs", row.ours_p50_us.median),
            spread_in_words(row.ratio),
            at_most(row.ratio.median, row.bar, &format!("{:.2}", row.bar)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;

    #[test]
    fn a_ratio_is_the_times_within_a_round() {
        let row = ViewRow::new(Wake::Block, Way::Futex, &[(40.0, 60.0), (4.0, 6.0), (10.0, 25.0)]);
        assert_eq!(row.ratio, Spread { median: 1.5, min: 1.5, max: 2.5 });
        assert!(table(&[row]).lines()[2].contains("≤ 2.00 met"));
        let row = ViewRow::new(Wake::Spin, Way::Spin, &[(1.0, 3.0)]);
        assert!(table(&[row]).lines()[2].contains("ABOVE"));
    }

    #[test]
    fn values_are_read_in_place() {
        let mut contest = Contest::new(Wake::Spin, Box::new(FakeStore::default()), Vec::new()).unwrap();
        contest.round(Duration::ZERO).unwrap();
        assert!(contest.rows().is_empty());
        assert!(
            views(contest.store.as_ref(), &contest.set, Wake::Spin, Duration::from_millis(1)).unwrap() > 0.0
        );
        let absent = FakeStore::default();
        assert!(views(&absent, &contest.set, Wake::Spin, Duration::ZERO).is_err());
    }
}
