//! The plots of a report, as SVG.
//!
//! *Latency*: each kind of call is a curve; to the right come rarer calls, on a scale where p90, p99 and p99.9 are
//! equally far apart (the logarithm of 1 / (1 - p)), up to what that many calls can tell. *Over time*: the hit rate
//! and the throughput of each second of a replay.

use crate::latency::{Op, Recorder, quantile_us};
use crate::meter::Second;
use hdrhistogram::Histogram;
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::Ranged;
use plotters::drawing::DrawingArea;
use plotters::prelude::{
    ChartBuilder, Circle, Color, IntoDrawingArea, IntoFont, IntoLogRange, LineSeries, PathElement, RGBColor,
    SVGBackend, SeriesLabelPosition, WHITE,
};
use std::ops::Range;

const SIZE: (u32, u32) = (960, 540);
/// Points of a curve for each factor of ten in rareness.
const POINTS_PER_DECADE: usize = 24;
/// A row of less time says nothing about a rate.
const SHORTEST_SECOND_S: f64 = 0.3;
const GRID: RGBColor = RGBColor(225, 228, 232);
const TEXT: RGBColor = RGBColor(60, 64, 70);

/// One colour for each kind of call; told apart by the colour-blind, too (Okabe, Ito 2008).
fn colour(op: Op) -> RGBColor {
    match op {
        Op::Get => RGBColor(0, 114, 178),
        Op::View => RGBColor(86, 180, 233),
        Op::Put => RGBColor(213, 94, 0),
        Op::Upsert => RGBColor(204, 121, 167),
        Op::Lookup => RGBColor(0, 158, 115),
        Op::MatchPrefix => RGBColor(230, 159, 0),
        Op::Request => RGBColor(86, 90, 96),
    }
}

/// Percentile curves of every kind of call.
pub(crate) fn latency(total: &Recorder) -> Result<String, String> {
    let curves: Vec<(Op, Vec<(f64, f64)>)> =
        total.latencies().map(|(op, histogram)| (op, curve(histogram))).collect();
    let points = || curves.iter().flat_map(|(_, points)| points);
    let rarest = points().map(|point| point.0).fold(1_000.0, f64::max);
    let lowest = points().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let highest = points().map(|point| point.1).fold(10.0, f64::max);
    let lowest = if lowest.is_finite() { lowest * 0.8 } else { 1.0 };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(words)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("Latency by percentile", ("sans-serif", 22).into_font().color(&TEXT))
            .margin(18)
            .x_label_area_size(46)
            .y_label_area_size(78)
            .build_cartesian_2d((1.0..rarest * 1.05).log_scale(), (lowest..highest * 1.3).log_scale())
            .map_err(words)?;
        chart
            .configure_mesh()
            .x_desc("percentile of calls")
            .y_desc("microseconds")
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .x_labels(7)
            .y_labels(8)
            .x_label_formatter(&|rareness| percentile_name(*rareness))
            .y_label_formatter(&|value| short_number(*value))
            .label_style(("sans-serif", 14).into_font().color(&TEXT))
            .draw()
            .map_err(words)?;
        for (op, points) in curves {
            let style = colour(op).stroke_width(2);
            chart
                .draw_series(LineSeries::new(points, style))
                .map_err(words)?
                .label(op.name())
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], style));
        }
        draw_legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
        area.present().map_err(words)?;
    }
    Ok(svg)
}

/// Hit rate (left) and GB/s (right), second by second.
pub(crate) fn over_time(seconds: &[Second]) -> Result<String, String> {
    let seconds = whole_seconds(seconds);
    let end = seconds.last().map_or(1.0, |second| second.at_s).max(1.0);
    let fastest = seconds.iter().map(|second| second.gb_per_s).fold(0.1, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(words)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(
                "Prefix hit rate and throughput, each second",
                ("sans-serif", 22).into_font().color(&TEXT),
            )
            .margin(18)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .right_y_label_area_size(64)
            .build_cartesian_2d(0.0..end, 0.0..100.0)
            .map_err(words)?
            .set_secondary_coord(0.0..end, 0.0..fastest * 1.15);
        let labels = ("sans-serif", 14).into_font().color(&TEXT);
        chart
            .configure_mesh()
            .x_desc("seconds")
            .y_desc("prefix hit rate, %")
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .label_style(labels.clone())
            .draw()
            .map_err(words)?;
        chart.configure_secondary_axes().y_desc("GB/s").label_style(labels).draw().map_err(words)?;
        let (rate, speed) = (colour(Op::Get).stroke_width(2), colour(Op::Put).stroke_width(2));
        let rates = seconds.iter().map(|second| (second.at_s, 100.0 * second.prefix_hit_rate));
        chart
            .draw_series(LineSeries::new(rates, rate))
            .map_err(words)?
            .label("prefix hit rate")
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], rate));
        let speeds = seconds.iter().map(|second| (second.at_s, second.gb_per_s));
        chart
            .draw_secondary_series(LineSeries::new(speeds, speed))
            .map_err(words)?
            .label("GB/s")
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], speed));
        draw_legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
        area.present().map_err(words)?;
    }
    Ok(svg)
}

/// Without a last row that is too short to have a rate.
fn whole_seconds(seconds: &[Second]) -> &[Second] {
    match seconds {
        [before @ .., last_but_one, last] if last.at_s - last_but_one.at_s < SHORTEST_SECOND_S => {
            &seconds[..before.len() + 1]
        }
        _ => seconds,
    }
}

fn draw_legend<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    position: SeriesLabelPosition,
) -> Result<(), String>
where
    X: Ranged,
    Y: Ranged,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font(("sans-serif", 15).into_font().color(&TEXT))
        .draw()
        .map_err(words)
}

/// (1 / (1 - p), microseconds) from p = 0 to what the number of calls can tell.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let decades = (histogram.len().max(1) as f64).log10();
    let points = (decades * POINTS_PER_DECADE as f64).ceil() as usize;
    let rarenesses = (0..=points).map(|point| 10f64.powf(point as f64 / POINTS_PER_DECADE as f64));
    rarenesses.map(|rareness| (rareness, quantile_us(histogram, 1.0 - 1.0 / rareness).max(0.001))).collect()
}

/// 100 as `99 %`, 1000 as `99.9 %`.
fn percentile_name(rareness: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / rareness);
    let digits = (rareness.log10().round() as usize).saturating_sub(2);
    format!("{percent:.digits$}")
}

fn short_number(value: f64) -> String {
    if value >= 1.0 { format!("{value:.0}") } else { format!("{value}") }
}

/// A panel of curves over a logarithmic axis.
pub(crate) struct Panel<'a> {
    pub(crate) caption: String,
    pub(crate) x: (&'a str, Range<f64>),
    /// Percent.
    pub(crate) y: (&'a str, Range<f64>),
    pub(crate) legend: SeriesLabelPosition,
    pub(crate) curves: Vec<Curve<'a>>,
}

/// Points joined by a line.
pub(crate) struct Curve<'a> {
    pub(crate) label: &'a str,
    pub(crate) colour: RGBColor,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws panels in so many columns, each of this size.
pub(crate) fn panels(panels: Vec<Panel<'_>>, columns: usize, size: (u32, u32)) -> Result<String, String> {
    let rows = panels.len().div_ceil(columns).max(1);
    let mut svg = String::new();
    {
        let all = (size.0 * columns as u32, size.1 * rows as u32);
        let area = SVGBackend::with_string(&mut svg, all).into_drawing_area();
        area.fill(&WHITE).map_err(words)?;
        for (place, panel) in area.split_evenly((rows, columns)).iter().zip(panels) {
            draw_panel(place, panel)?;
        }
        area.present().map_err(words)?;
    }
    Ok(svg)
}

fn draw_panel(place: &DrawingArea<SVGBackend<'_>, Shift>, panel: Panel<'_>) -> Result<(), String> {
    let mut chart = ChartBuilder::on(place)
        .caption(panel.caption, ("sans-serif", 18).into_font().color(&TEXT))
        .margin(14)
        .x_label_area_size(40)
        .y_label_area_size(54)
        .build_cartesian_2d(panel.x.1.log_scale(), panel.y.1)
        .map_err(words)?;
    chart
        .configure_mesh()
        .x_desc(panel.x.0)
        .y_desc(panel.y.0)
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .label_style(("sans-serif", 13).into_font().color(&TEXT))
        .draw()
        .map_err(words)?;
    for Curve { label, colour, points } in panel.curves {
        let style = colour.stroke_width(2);
        let dots = points.iter().map(|&point| Circle::new(point, 3, style.filled()));
        chart.draw_series(dots).map_err(words)?;
        chart
            .draw_series(LineSeries::new(points, style))
            .map_err(words)?
            .label(label)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], style));
    }
    draw_legend(&mut chart, panel.legend)
}

fn words(error: impl std::fmt::Display) -> String {
    format!("cannot draw the plot: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_their_names() {
        assert_eq!(
            [1.0, 10.0, 100.0, 1_000.0, 10_000.0].map(percentile_name),
            ["0", "90", "99", "99.9", "99.99"]
        );
    }

    #[test]
    fn a_moment_at_the_end_is_no_second() {
        let at = |at_s| Second { at_s, ..Second::default() };
        assert_eq!(whole_seconds(&[at(1.0), at(2.0), at(2.1)]).len(), 2);
        assert_eq!(whole_seconds(&[at(1.0), at(2.0)]).len(), 2);
        assert_eq!(whole_seconds(&[at(0.1)]).len(), 1);
    }

    #[test]
    fn curves_rise() {
        let mut recorder = Recorder::default();
        (1..=1_000).for_each(|i| recorder.latency(Op::Get, std::time::Duration::from_micros(i)));
        let (_, histogram) = recorder.latencies().next().unwrap();
        let points = curve(histogram);
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        assert!((points.last().unwrap().0 - 1_000.0).abs() < 1.0);
    }
}
