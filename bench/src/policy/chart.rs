//! The plot: prefix hit rates over the cache's share of all bytes; a panel for each trace, a curve for each contender.

use super::Outcome;
use crate::report::plot::{GRID, TEXT, draw_legend, words};
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::prelude::{
    ChartBuilder, Circle, Color, IntoDrawingArea, IntoFont, IntoLogRange, LineSeries, PathElement, RGBColor,
    SVGBackend, SeriesLabelPosition, WHITE,
};

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

pub(super) fn rates(outcomes: &[Outcome]) -> Result<String, String> {
    let traces = distinct(outcomes.iter().map(|outcome| outcome.trace.as_str()));
    let rows = traces.len().div_ceil(COLUMNS).max(1);
    let mut svg = String::new();
    {
        let size = (PANEL.0 * COLUMNS as u32, PANEL.1 * rows as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(words)?;
        for (panel, trace) in area.split_evenly((rows, COLUMNS)).iter().zip(traces) {
            let of: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.trace == trace).collect();
            draw(panel, trace, &of)?;
        }
        area.present().map_err(words)?;
    }
    Ok(svg)
}

fn draw(
    panel: &DrawingArea<SVGBackend<'_>, Shift>,
    trace: &str,
    outcomes: &[&Outcome],
) -> Result<(), String> {
    let shares = || outcomes.iter().map(|outcome| outcome.share_percent);
    let (least, most) = (shares().fold(100.0, f64::min), shares().fold(0.0, f64::max));
    let highest = outcomes.iter().map(|outcome| 100.0 * outcome.prefix_hit_rate).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(panel)
        .caption(trace, ("sans-serif", 18).into_font().color(&TEXT))
        .margin(14)
        .x_label_area_size(40)
        .y_label_area_size(54)
        .build_cartesian_2d((least * 0.9..most * 1.1).log_scale(), 0.0..highest * 1.05)
        .map_err(words)?;
    chart
        .configure_mesh()
        .x_desc("bytes of the cache, % of all different blocks")
        .y_desc("prefix hits, %")
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .x_label_formatter(&|share| format!("{share:.0}"))
        .label_style(("sans-serif", 13).into_font().color(&TEXT))
        .draw()
        .map_err(words)?;
    let contenders = distinct(outcomes.iter().map(|outcome| outcome.contender.as_str()));
    for (contender, colour) in contenders.into_iter().zip(COLOURS.into_iter().cycle()) {
        let style = colour.stroke_width(2);
        let of = outcomes.iter().filter(|outcome| outcome.contender == contender);
        let points: Vec<(f64, f64)> =
            of.map(|outcome| (outcome.share_percent, 100.0 * outcome.prefix_hit_rate)).collect();
        chart
            .draw_series(points.iter().map(|&point| Circle::new(point, 3, style.filled())))
            .map_err(words)?;
        chart
            .draw_series(LineSeries::new(points, style))
            .map_err(words)?
            .label(contender)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], style));
    }
    draw_legend(&mut chart, SeriesLabelPosition::LowerRight)
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
