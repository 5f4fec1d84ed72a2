//! Values that go to the SSD because memory is full, beside fio's writes of as many bytes in order.
//!
//! Both write over blocks that were written before: the volume has been filled once, so its oldest region makes room for
//! each new one, and fio's file is as long as the volume.

use super::feeder::{Feeder, Pace, VALUE_BYTES, while_feeding, wrap_around};
use super::fio::{Fio, Job, Pattern};
use super::rig::{Rig, rate, stats};
use crate::limits::{LimitsPlan, at_least, at_most, go_on, spread_in_words};
use crate::progress::Progress;
use crate::report::table::Table;
use crate::spread::Spread;
use serde::Serialize;
use std::time::Duration;

const MEMORY_BYTES: u64 = 1 << 30;
const SSD_BYTES: u64 = 2 << 30;
/// Time until memory is as full as it stays.
const RAMP: Duration = Duration::from_millis(300);
const BAR: f64 = 0.92;
const AMPLIFICATION_BAR: f64 = 1.11;

#[derive(Debug, Serialize)]
pub(super) struct DemotionRow {
    value_bytes: usize,
    /// Bytes of values.
    ours_gb_per_s: Spread,
    fio_gb_per_s: Option<Spread>,
    /// Ours by fio's, within each round.
    ratio: Option<Spread>,
    bar: f64,
    /// Bytes written by bytes of values demoted, of the whole run.
    write_amplification: f64,
}

pub(super) fn measure(plan: &LimitsPlan, fio: Option<Fio>) -> Result<DemotionRow, String> {
    let rig = Rig::start(plan, MEMORY_BYTES, SSD_BYTES)?;
    let (store, feeding) = (rig.join()?, rig.join()?);
    let mut feeder = Feeder::new();
    wrap_around(store.as_ref(), &mut feeder)?;
    let file = rig.folder().join("fio");
    let job = Job { file: &file, file_bytes: SSD_BYTES, block_bytes: VALUE_BYTES, pattern: Pattern::Writes };
    let before = stats(store.as_ref())?;
    let mut figures = Vec::new();
    let mut progress = Progress::new("demotion", plan.rounds as u64);
    if let Some(fio) = fio {
        // Its file gets its blocks.
        fio.bytes_per_s(&job, Duration::from_secs(5))?;
    }
    for round in 0..plan.rounds {
        go_on()?;
        progress.at(round as u64, "demotion".to_owned());
        let fio = fio.map(|fio| fio.bytes_per_s(&job, plan.slice)).transpose()?;
        let ours = while_feeding((feeding.as_ref(), &mut feeder, Pace::Demotion), || {
            std::thread::sleep(RAMP);
            rate(store.as_ref(), plan.slice, |stats| stats.demoted_bytes)
        })?;
        figures.push((ours, fio));
    }
    progress.finish();
    let after = stats(store.as_ref())?;
    let written = after.ssd_written_bytes - before.ssd_written_bytes;
    let demoted = (after.demoted_bytes - before.demoted_bytes).max(1);
    Ok(DemotionRow::new(&figures, written as f64 / demoted as f64))
}

impl DemotionRow {
    /// Of bytes a second in each round: ours, fio's.
    fn new(figures: &[(f64, Option<f64>)], write_amplification: f64) -> Self {
        let fio: Option<Vec<f64>> = figures.iter().map(|(_, fio)| *fio).collect();
        let ratios = |fio: &Vec<f64>| Spread::of(figures.iter().zip(fio).map(|((ours, _), fio)| ours / fio));
        DemotionRow {
            value_bytes: VALUE_BYTES,
            ours_gb_per_s: Spread::of(figures.iter().map(|(ours, _)| ours / 1e9)),
            ratio: fio.as_ref().map(ratios),
            fio_gb_per_s: fio.map(|fio| Spread::of(fio.iter().map(|rate| rate / 1e9))),
            bar: BAR,
            write_amplification,
        }
    }
}

/// For people.
pub(super) fn table(row: &DemotionRow) -> Table {
    let mut table = Table::new(&["demotion", "fio GB/s", "ours GB/s", "ratio", "bar"]);
    let or_blank = |spread: Option<Spread>| spread.map_or_else(String::new, spread_in_words);
    table.row([
        "1.00 MiB".to_owned(),
        or_blank(row.fio_gb_per_s),
        spread_in_words(row.ours_gb_per_s),
        or_blank(row.ratio),
        row.ratio.map_or_else(String::new, |ratio| at_least(ratio.median, row.bar)),
    ]);
    table.row([
        "bytes written by bytes demoted".to_owned(),
        String::new(),
        String::new(),
        format!("{:.3}", row.write_amplification),
        at_most(row.write_amplification, AMPLIFICATION_BAR, "1.11"),
    ]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let row = DemotionRow::new(&[(1e9, Some(2e9)), (2e9, Some(4e9))], 1.2);
        assert_eq!(row.ratio, Some(Spread { median: 0.5, min: 0.5, max: 0.5 }));
        let lines = table(&row).lines();
        assert!(lines[2].contains("BELOW") && lines[3].contains("ABOVE"), "{lines:?}");
    }
}
