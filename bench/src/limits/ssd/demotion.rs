//! Values that go to the SSD because memory is full, beside fio's writes of as many bytes in order.
//!
//! Both write over blocks that were written before: the volume has been filled once, so its oldest region makes room for
//! each new one, and fio's file is as long as the volume.

use super::beside_fio::{self, BesideFio, Round};
use super::feeder::{Feeder, Pace, VALUE_BYTES, while_feeding, wrap_around};
use super::fio::{Fio, Job, Pattern, RAMP};
use super::rig::{Rig, rate, stats};
use crate::limits::{LimitsPlan, at_most, go_on};
use crate::progress::Progress;
use crate::report::table::Table;
use serde::Serialize;
use std::time::Duration;

const MEMORY_BYTES: u64 = 1 << 30;
const SSD_BYTES: u64 = 2 << 30;
const AMPLIFICATION_BAR: f64 = 1.11;

#[derive(Debug, Serialize)]
pub(super) struct DemotionRow {
    /// Bytes of values.
    #[serde(flatten)]
    rate: BesideFio,
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
    let mut rounds = Vec::new();
    let mut progress = Progress::new("demotion", plan.rounds as u64);
    if let Some(fio) = fio {
        // Its file gets its blocks.
        fio.bytes_per_s(&job, Duration::from_secs(5))?;
    }
    for round in 0..plan.rounds {
        go_on()?;
        progress.at(round as u64, "demotion".to_owned());
        let fio = fio.map(|fio| {
            let job = &job;
            move || fio.bytes_per_s(job, plan.slice)
        });
        rounds.push(Round::measure(round, fio, || {
            while_feeding((feeding.as_ref(), &mut feeder, Pace::Demotion), || {
                std::thread::sleep(RAMP);
                rate(store.as_ref(), plan.slice, |stats| stats.demoted_bytes)
            })
        })?);
    }
    progress.finish();
    let after = stats(store.as_ref())?;
    let written = after.ssd_written_bytes - before.ssd_written_bytes;
    let demoted = (after.demoted_bytes - before.demoted_bytes).max(1);
    Ok(DemotionRow {
        rate: BesideFio::new(VALUE_BYTES, &rounds),
        write_amplification: written as f64 / demoted as f64,
    })
}

/// For people.
pub(super) fn table(row: &DemotionRow) -> Table {
    let mut table = beside_fio::table("demotion", [&row.rate]);
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
    fn rate_and_amplification_have_bars_of_their_own() {
        let rate = BesideFio::new(VALUE_BYTES, &[Round { ours: 1e9, fio: Some(2e9) }]);
        let row = DemotionRow { rate, write_amplification: 1.2 };
        let lines = table(&row).lines();
        assert!(lines[2].contains("BELOW") && lines[3].contains("ABOVE"), "{lines:?}");
        let json = serde_json::to_value(&row).unwrap();
        assert!(json["value_bytes"].is_u64() && json["write_amplification"].is_f64(), "{json}");
    }
}
