//! The plot: how full segments are at the first failure, by their number; a panel for each kind of sizes, a curve for each
//! strategy.

use super::cell::{Outcome, Shares, Sizes};
use crate::report::plot::{GRID, TEXT, draw_legend, words};
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::prelude::{
    ChartBuilder, Circle, Color, IntoDrawingArea, IntoFont, IntoLogRange, LineSeries, PathElement, RGBColor,
    SVGBackend, SeriesLabelPosition, WHITE,
};
use snowskin_engine::segment::Strategy;

const SIZE: (u32, u32) = (1_100, 780);
/// The plot shows what the bars are about, not the half that all fill.
const FILL_MIN: f64 = 0.90;

/// Told apart by the colour-blind, too (Okabe, Ito 2008).
fn colour(strategy: Strategy) -> RGBColor {
    match strategy {
        Strategy::Random => RGBColor(86, 90, 96),
        Strategy::FreeRatioFirst => RGBColor(213, 94, 0),
        Strategy::FragmentationAware => RGBColor(0, 114, 178),
        Strategy::LocalFirst => RGBColor(0, 158, 115),
    }
}

/// One copy, even shares: how full.
pub(super) fn fill(outcomes: &[Outcome]) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(words)?;
        for (panel, sizes) in area.split_evenly((2, 2)).iter().zip(Sizes::ALL) {
            let shown = |outcome: &&Outcome| {
                let cell = &outcome.cell;
                cell.sizes == sizes && cell.copies == 1 && cell.shares == Shares::Even
            };
            draw(panel, sizes, &outcomes.iter().filter(shown).collect::<Vec<_>>())?;
        }
        area.present().map_err(words)?;
    }
    Ok(svg)
}

fn draw(
    panel: &DrawingArea<SVGBackend<'_>, Shift>,
    sizes: Sizes,
    outcomes: &[&Outcome],
) -> Result<(), String> {
    let mut chart = ChartBuilder::on(panel)
        .caption(format!("sizes: {}", sizes.name()), ("sans-serif", 18).into_font().color(&TEXT))
        .margin(14)
        .x_label_area_size(40)
        .y_label_area_size(54)
        .build_cartesian_2d((0.9..70.0).log_scale(), 100.0 * FILL_MIN..100.0)
        .map_err(words)?;
    chart
        .configure_mesh()
        .x_desc("segments")
        .y_desc("full at the first failure, %")
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .x_label_formatter(&|segments| format!("{segments:.0}"))
        .label_style(("sans-serif", 13).into_font().color(&TEXT))
        .draw()
        .map_err(words)?;
    for strategy in Strategy::ALL {
        let style = colour(strategy).stroke_width(2);
        let of = outcomes.iter().filter(|outcome| outcome.cell.strategy == strategy);
        let points: Vec<(f64, f64)> = of
            .map(|outcome| {
                (outcome.cell.segments as f64, 100.0 * outcome.fill_at_first_failure.max(FILL_MIN))
            })
            .collect();
        chart
            .draw_series(points.iter().map(|&point| Circle::new(point, 3, style.filled())))
            .map_err(words)?;
        chart
            .draw_series(LineSeries::new(points, style))
            .map_err(words)?
            .label(strategy.name())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], style));
    }
    draw_legend(&mut chart, SeriesLabelPosition::LowerLeft)
}
