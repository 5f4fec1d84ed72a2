//! The plot: how full segments are at the first failure, by their number; a panel for each kind of sizes, a curve for each
//! strategy.

use super::cell::{Outcome, Shares, Sizes};
use crate::report::plot::{Curve, Panel, panels};
use plotters::prelude::{RGBColor, SeriesLabelPosition};
use snowskin_engine::segment::Strategy;

const PANEL: (u32, u32) = (550, 390);
const COLUMNS: usize = 2;
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
    panels(Sizes::ALL.into_iter().map(|sizes| panel(sizes, outcomes)).collect(), COLUMNS, PANEL)
}

fn panel(sizes: Sizes, outcomes: &[Outcome]) -> Panel<'static> {
    let is_shown = |outcome: &&Outcome| {
        let cell = &outcome.cell;
        cell.sizes == sizes && cell.copies == 1 && cell.shares == Shares::Even
    };
    let point = |outcome: &Outcome| {
        (outcome.cell.segments as f64, 100.0 * outcome.fill_at_first_failure.max(FILL_MIN))
    };
    let curve = |strategy: Strategy| {
        let of = outcomes.iter().filter(is_shown).filter(|outcome| outcome.cell.strategy == strategy);
        Curve { label: strategy.name(), colour: colour(strategy), points: of.map(point).collect() }
    };
    Panel {
        caption: format!("sizes: {}", sizes.name()),
        x: ("segments", 0.9..70.0),
        y: ("full at the first failure, %", 100.0 * FILL_MIN..100.0),
        legend: SeriesLabelPosition::LowerLeft,
        curves: Strategy::ALL.into_iter().map(curve).collect(),
    }
}
