//! Through shared memory, beside what memory can do: copies beside memcpy of the same buffers, reads in place beside a
//! ping-pong of two processes, batches, and two cores beside one.
//!
//! The parts are measured one after the other, each with clusters of its own; within a part, turn by turn.

mod batches;
mod copies;
mod cores;
mod handover;
mod pingpong;
mod views;

pub(crate) use pingpong::{PONG_SERVER, serve_pongs};

use super::{LimitsPlan, Part, Pinned, pinned_line, placement};
use crate::cluster::Cluster;
use crate::cpu::Pin;
use crate::report::table::Table;
use crate::store::{Reach, Store, connect};
use batches::BatchRow;
use copies::CopyRow;
use cores::CoresRow;
use serde::Serialize;
use std::time::Duration;
use views::ViewRow;

/// All figures.
#[derive(Debug, Serialize)]
pub(crate) struct ShmReport {
    command: &'static str,
    transport: String,
    rounds: usize,
    slice_seconds: f64,
    pinned: Option<Pinned>,
    copies: Vec<CopyRow>,
    views: Vec<ViewRow>,
    batches: Vec<BatchRow>,
    cores: Vec<CoresRow>,
}

/// Measures the parts that are asked for.
pub(super) fn measure(plan: &LimitsPlan) -> Result<ShmReport, String> {
    let mut report = ShmReport {
        command: "limits",
        transport: plan.transport.to_string(),
        rounds: plan.rounds,
        slice_seconds: plan.slice.as_secs_f64(),
        pinned: None,
        copies: Vec::new(),
        views: Vec::new(),
        batches: Vec::new(),
        cores: Vec::new(),
    };
    let has = |part: Part| plan.parts.is_empty() || plan.parts.contains(&part);
    let pinned = &mut report.pinned;
    if has(Part::Copies) {
        report.copies = copies::measure(plan, pinned)?;
    }
    if has(Part::Views) {
        report.views = views::measure(plan, pinned)?;
    }
    if has(Part::Batches) {
        report.batches = batches::measure(plan, pinned)?;
    }
    if has(Part::Cores) {
        report.cores = cores::measure(plan, pinned)?;
    }
    Ok(report)
}

/// Pins this thread if it shall be pinned, after all clusters have been started, which would inherit it.
fn take_place(
    plan: &LimitsPlan,
    cluster: &Cluster,
    place: &mut Option<Pinned>,
) -> Result<Option<Pin>, String> {
    *place = placement(plan.pin, cluster)?;
    let pin = place.map(|Pinned { client_cpu, .. }| Pin::to(client_cpu));
    pin.transpose().map_err(|error| format!("cannot pin the client: {error}"))
}

/// A client by shared memory.
fn join(
    plan: &LimitsPlan,
    cluster: &Cluster,
    spin: Duration,
    checksums: bool,
) -> Result<Box<dyn Store>, String> {
    let reach = Reach { seeds: cluster.seeds(), spin, checksums, transport: plan.transport };
    connect(&reach).map_err(|failure| failure.sentence)
}

impl ShmReport {
    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            pinned_line(self.pinned),
            format!(
                "  {} rounds; ours by {}; ratio = ours / raw, median (lowest … highest)",
                self.rounds, self.transport
            ),
        ];
        let mut part = |head: &str, table: Table, is_empty: bool| {
            if !is_empty {
                lines.extend([String::new(), format!("  {head}"), String::new()]);
                lines.extend(table.lines());
            }
        };
        part(
            "get into memory of the caller, beside memcpy of the same buffers; cold: over 256 MiB of values and of memory",
            copies::table(&self.copies),
            self.copies.is_empty(),
        );
        part(
            "get of 64 B in place, beside a ping-pong of two processes through shared memory; round trip, p50",
            views::table(&self.views),
            self.views.is_empty(),
        );
        part("batches, one call at a time", batches::table(&self.batches), self.batches.is_empty());
        part(
            "two clients of an engine with two cores, beside one client of one core",
            cores::table(&self.cores),
            self.cores.is_empty(),
        );
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{LimitsReport, Wake};
    use crate::report::write_json;
    use crate::spread::Spread;

    fn report() -> ShmReport {
        let spread = Spread::of([1.5]);
        ShmReport {
            command: "limits",
            transport: "shm".to_owned(),
            rounds: 1,
            slice_seconds: 0.1,
            pinned: Some(Pinned { engine_cpu: 0, client_cpu: 1 }),
            copies: Vec::new(),
            views: vec![ViewRow::new(Wake::Spin, pingpong::Way::Spin, &[(2.0, 3.0)])],
            batches: Vec::new(),
            cores: vec![CoresRow { what: "get", one_gb_per_s: spread, two_gb_per_s: spread, ratio: spread }],
        }
    }

    #[test]
    fn a_report_has_the_tables_of_what_was_measured_and_json() {
        let text = report().lines().join("\n");
        assert!(text.contains("ping-pong") && text.contains("two clients"), "{text}");
        assert!(!text.contains("memcpy") && !text.contains("batches"), "{text}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits.json");
        write_json(&path, &LimitsReport::Shm(report())).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!((&json["command"], &json["views"][0]["raw"]), (&"limits".into(), &"spin".into()));
        assert_eq!(json["views"][0]["ratio"]["median"], 1.5);
    }
}
