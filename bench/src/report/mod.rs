//! What is left of a run: a table for people, a summary for programs, plots for both.

pub(crate) mod plot;
pub(crate) mod summary;
pub(crate) mod table;

use crate::meter::Measured;
use std::fs;
use std::path::{Path, PathBuf};
use summary::Summary;

/// Writes the report's files into `folder` (made if absent) and returns their paths.
pub(crate) fn write(folder: &Path, summary: &Summary, measured: &Measured) -> Result<Vec<PathBuf>, String> {
    let place = |error: std::io::Error| format!("cannot write the report to {}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(place)?;
    let (numbers, latency) = (folder.join("summary.json"), folder.join("latency.svg"));
    write_json(&numbers, summary)?;
    fs::write(&latency, plot::latency(&measured.total)?).map_err(place)?;
    let mut paths = vec![numbers, latency];
    if summary.trace.is_some() {
        let over_time = folder.join("over-time.svg");
        fs::write(&over_time, plot::over_time(&measured.seconds)?).map_err(place)?;
        paths.push(over_time);
    }
    Ok(paths)
}

/// Writes figures as `NAME.json` and their plot as `NAME.svg` into `folder` (made if absent), and says where they are.
pub(crate) fn write_figures(
    folder: &Path,
    name: &str,
    figures: &impl serde::Serialize,
    plot: Option<Result<String, String>>,
) -> Result<(), String> {
    let place = |error: std::io::Error| format!("cannot write the report to {}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(place)?;
    let numbers = folder.join(name).with_extension("json");
    write_json(&numbers, figures)?;
    println!("figures: {}", numbers.display());
    if let Some(svg) = plot {
        let plot = folder.join(name).with_extension("svg");
        fs::write(&plot, svg?).map_err(place)?;
        println!("plot: {}", plot.display());
    }
    Ok(())
}

/// Writes anything as JSON with a line end.
pub(crate) fn write_json(path: &Path, what: &impl serde::Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(what).expect("reports have string keys and finite numbers");
    fs::write(path, text + "\n").map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Op;
    use crate::meter::Second;
    use crate::store::Failure;
    use snowskin_protocol::Code;
    use snowskin_protocol::wire::stats::CoreStats;
    use std::time::Duration;

    fn measured() -> Measured {
        let mut measured =
            Measured { elapsed: Duration::from_secs(2), cpu_seconds: 1.0, ..Measured::default() };
        for i in 1..=5_000u64 {
            measured.total.latency(Op::Get, Duration::from_nanos(10_000 + i * i));
            measured.total.latency(Op::Put, Duration::from_micros(20 + i % 100));
        }
        measured.total.counts.operations = 10_000;
        measured.total.counts.bytes_read = 4_000_000_000;
        measured.total.counts.hits = 3;
        measured.total.counts.misses = 1;
        measured.seconds = (1..=9)
            .map(|at| Second {
                at_s: at as f64,
                gb_per_s: at as f64 / 3.0,
                prefix_hit_rate: 0.3,
                ..Second::default()
            })
            .collect();
        measured
    }

    #[test]
    fn a_report_has_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let measured = measured();
        let summary = Summary::new("run", Default::default(), &measured, Default::default());
        let into = folder.path().join("new/report");
        let paths = write(&into, &summary, &measured).unwrap();
        assert_eq!(paths.len(), 2);
        let svg = fs::read_to_string(&paths[1]).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("\nget\n</text>"), "{svg}");
        let over_time = plot::over_time(&measured.seconds).unwrap();
        assert!(over_time.contains("GB/s"));
        plot::over_time(&[]).expect("a plot of nothing");
        plot::latency(&Default::default()).expect("a plot of nothing");
        let error = write(Path::new("/proc/no"), &summary, &measured).expect_err("not there");
        assert!(error.contains("/proc/no"), "{error}");
    }

    #[test]
    fn counters_that_are_not_told_are_an_error_and_no_tier() {
        let mut summary = Summary::new("run", Default::default(), &measured(), Default::default());
        let (before, after) =
            (CoreStats::default(), CoreStats { ssd_capacity_bytes: 9, ..Default::default() });
        summary.take_ssd(&before, Ok(after));
        assert!(summary.ssd.is_some() && summary.complaint().is_none());
        summary.ssd = None;
        summary.take_ssd(&before, Err(Failure { code: Code::RpcTimeout, sentence: "too late".to_owned() }));
        assert_eq!((summary.ssd, summary.errors["RpcTimeout"]), (None, 1));
        assert!(summary.complaint().expect("one error").contains("first: too late"));
    }

    /// Programs read these names: they stay.
    #[test]
    fn the_names_of_the_summary_are_stable() {
        let summary = Summary::new("run", Default::default(), &measured(), Default::default());
        let json: serde_json::Value = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["operations"], 10_000);
        assert_eq!(json["gb_per_s"], 2.0);
        assert_eq!(json["hit_rate"], 0.75);
        assert_eq!(json["cpu_seconds_per_gb"], 0.25);
        assert_eq!(json["wrong_values"], 0);
        assert_eq!(json["seconds"], 2.0);
        assert_eq!(json["reached"]["lanes"], 0);
        assert!(json["latency_us"]["get"]["p50"].as_f64().unwrap() > 10.0);
        for name in ["p50", "p90", "p99", "p99_9", "max", "mean", "count"] {
            assert!(json["latency_us"]["put"][name].is_number(), "{name}");
        }
        for name in
            ["bytes", "errors", "no_space", "stored", "existed", "hits", "misses", "settings", "command"]
        {
            assert!(!json[name].is_null(), "{name}");
        }
    }
}
