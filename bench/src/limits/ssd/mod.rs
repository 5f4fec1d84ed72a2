//! The SSD tier beside what the disk can do: reads and demotion beside fio on the same file system, latencies beside those of an
//! engine without a tier, and how long opening a volume takes.
//!
//! Files are in a folder of their own in the one that is named, and are removed at the end. Disks drift more than anything
//! else: a throttled one may double its speed within a second. So give it rounds, and look at the extremes.
//!
//! | file | what lives there |
//! |---|---|
//! | `rig.rs` | an engine with an SSD tier, and filling it |
//! | `feeder.rs` | puts that never end |
//! | `fio.rs` | what the disk can do |
//! | `beside_fio.rs` | what is put beside it |
//! | `reads.rs`, `demotion.rs`, `latency.rs` | the parts |

mod beside_fio;
mod demotion;
mod feeder;
mod fio;
mod latency;
mod reads;
mod rig;

use super::{LimitsPlan, Part};
use crate::report::table::Table;
use beside_fio::BesideFio;
use demotion::DemotionRow;
use fio::Fio;
use latency::LatencyReport;
use reads::{Filled, Mount};
use serde::Serialize;

/// All figures.
#[derive(Debug, Serialize)]
pub(crate) struct SsdReport {
    command: &'static str,
    transport: String,
    rounds: usize,
    slice_seconds: f64,
    /// How fio was used; null: it is not there.
    fio: Option<String>,
    reads: Vec<BesideFio>,
    mount: Option<Mount>,
    demotion: Option<DemotionRow>,
    latency: Option<LatencyReport>,
}

/// Measures the parts that are asked for.
pub(super) fn measure(plan: &LimitsPlan) -> Result<SsdReport, String> {
    let folder = plan.ssd.as_deref().ok_or("no folder for the SSD tier")?;
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let fio = Fio::find(folder)?;
    let mut report = SsdReport {
        command: "limits",
        transport: plan.transport.to_string(),
        rounds: plan.rounds,
        slice_seconds: plan.slice.as_secs_f64(),
        fio: fio.map(Fio::in_words),
        reads: Vec::new(),
        mount: None,
        demotion: None,
        latency: None,
    };
    let has = |part: Part| plan.parts.is_empty() || plan.parts.contains(&part);
    if has(Part::Reads) || has(Part::Mount) {
        // Filling takes longest: once for both.
        let filled = Filled::new(plan)?;
        if has(Part::Reads) {
            report.reads = filled.measure(plan, fio)?;
        }
        if has(Part::Mount) {
            report.mount = Some(filled.mount()?);
        }
    }
    if has(Part::Demotion) {
        report.demotion = Some(demotion::measure(plan, fio)?);
    }
    if has(Part::Latency) {
        report.latency = Some(latency::measure(plan)?);
    }
    Ok(report)
}

impl SsdReport {
    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let no_fio =
            "fio is not there, so nothing is put beside it: apt-get install fio (or dnf install fio)";
        let mut lines = vec![
            format!("  {} rounds of {:.1} s; ours by {}", self.rounds, self.slice_seconds, self.transport),
            format!("  {}", self.fio.as_deref().unwrap_or(no_fio)),
            "  median (lowest … highest); ratio = ours / fio within a round".to_owned(),
        ];
        let mut part = |head: &str, table: Table| {
            lines.extend([String::new(), format!("  {head}"), String::new()]);
            lines.extend(table.lines());
        };
        if !self.reads.is_empty() {
            part(
                "gets of objects on the SSD, 4 threads with batches of 8",
                beside_fio::table("get", &self.reads),
            );
        }
        if let Some(demotion) = &self.demotion {
            part("puts into memory that is full, of 1 MiB: what goes to the SSD", demotion::table(demotion));
        }
        if let Some(latency) = &self.latency {
            part("gets of objects in memory, one at a time", latency::table(latency));
        }
        if let Some(Mount { seconds, gib, objects }) = self.mount {
            lines.extend([
                String::new(),
                format!(
                    "  opening a volume with {gib:.1} GiB and {objects} objects in use: {:.0} ms, {:.1} ms a GiB",
                    seconds * 1e3,
                    seconds * 1e3 / gib.max(0.001)
                ),
            ]);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_how_to_get_fio_and_what_mounting_took() {
        let report = SsdReport {
            command: "limits",
            transport: "auto".to_owned(),
            rounds: 1,
            slice_seconds: 1.0,
            fio: None,
            reads: Vec::new(),
            mount: Some(Mount { seconds: 0.1, gib: 2.0, objects: 5 }),
            demotion: None,
            latency: None,
        };
        let text = report.lines().join("\n");
        assert!(text.contains("apt-get install fio") && text.contains("50.0 ms a GiB"), "{text}");
        assert!(!text.contains("demotion"), "{text}");
    }
}
