//! The plot: prefix hit rates over the cache's share of all bytes; a panel for each trace, a curve for each contender.

use super::Outcome;
use crate::report::plot::{Curve, Panel, panels};
use plotters::prelude::{RGBColor, SeriesLabelPosition};

const PANEL: (u32, u32) = (560, 400);
const COLUMNS: usize = 2;

/// Told apart by the colour-blind, too (Okabe, Ito 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(86, 90, 96),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// Prefix hit rates.
pub(super) fn rates(outcomes: &[Outcome]) -> Result<String, String> {
    let traces = distinct(outcomes.iter().map(|outcome| outcome.trace.as_str()));
    panels(traces.into_iter().map(|trace| panel(trace, outcomes)).collect(), COLUMNS, PANEL)
}

fn panel<'a>(trace: &str, outcomes: &'a [Outcome]) -> Panel<'a> {
    let of_trace = || outcomes.iter().filter(|outcome| outcome.trace == trace);
    let shares = || of_trace().map(|outcome| outcome.share_percent);
    let (least, most) = (shares().fold(100.0, f64::min), shares().fold(0.0, f64::max));
    let highest = of_trace().map(|outcome| 100.0 * outcome.prefix_hit_rate).fold(1.0, f64::max);
    let contenders = distinct(of_trace().map(|outcome| outcome.contender.as_str()));
    let curve = |(label, colour): (&'a str, RGBColor)| {
        let of = of_trace().filter(|outcome| outcome.contender == label);
        let points = of.map(|outcome| (outcome.share_percent, 100.0 * outcome.prefix_hit_rate)).collect();
        Curve { label, colour, points }
    };
    Panel {
        caption: trace.to_owned(),
        x: ("bytes of the cache, % of all different blocks", least * 0.9..most * 1.1),
        y: ("prefix hits, %", 0.0..highest * 1.05),
        legend: SeriesLabelPosition::LowerRight,
        curves: contenders.into_iter().zip(COLOURS.into_iter().cycle()).map(curve).collect(),
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}
