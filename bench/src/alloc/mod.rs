//! The allocation matrix: how full segments get, and how fast, by strategy, number of segments, copies and sizes.
//!
//! Numbers only: the ranges of segments without their memory, so that a matrix over gigabytes takes a minute and none of
//! it. A cell fills its segments until a value has no place (*first failure*), then frees values at random and places others
//! in their stead for a while (*churn*).

mod cell;
mod chart;

pub(crate) use cell::{Cell, Shares, Sizes};

use crate::alloc::cell::{Outcome, measure};
use crate::cli::{AllocArguments, Failed};
use crate::interrupt;
use crate::progress::Progress;
use crate::report::table::{Table, number, percent};
use crate::report::write_figures;
use snowskin_engine::segment::Strategy;

/// Numbers of segments in the matrix.
const SEGMENTS: [usize; 6] = [1, 2, 4, 8, 16, 64];
/// Numbers of copies.
const COPIES: [usize; 3] = [1, 2, 3];

/// `snowskin-bench alloc`.
pub(crate) fn alloc(arguments: &AllocArguments) -> Result<(), Failed> {
    let cells = cells(arguments);
    if cells.is_empty() {
        return Err(Failed::Usage(
            "no cell of the matrix is left: there are 1, 2, 4, 8, 16 and 64 segments, 1 to 3 copies".into(),
        ));
    }
    println!(
        "{} cells, {} each, sizes and choices from seed {}",
        cells.len(),
        arguments.memory,
        arguments.seed
    );
    let mut progress = Progress::new("measure", cells.len() as u64);
    let mut outcomes = Vec::with_capacity(cells.len());
    for cell in cells {
        if interrupt::stop_requested() {
            break;
        }
        let what = format!("{}, {} segments, {}", cell.strategy, cell.segments, cell.sizes.name());
        progress.at(outcomes.len() as u64, what);
        outcomes.push(measure(cell, arguments.memory.0, arguments.churn, arguments.seed));
    }
    progress.finish();
    table(&outcomes).lines().into_iter().for_each(|line| println!("{line}"));
    let plot = chart::fill(&outcomes);
    write_figures(&arguments.report, "alloc", &outcomes, Some(plot)).map_err(Failed::Run)
}

/// The cells that the arguments leave.
fn cells(arguments: &AllocArguments) -> Vec<Cell> {
    let mut cells = Vec::new();
    let is_wanted = |wanted: Option<usize>, value: usize| wanted.is_none_or(|wanted| wanted == value);
    for strategy in
        Strategy::ALL.into_iter().filter(|it| arguments.strategy.is_none_or(|wanted| wanted == *it))
    {
        for segments in SEGMENTS.into_iter().filter(|&it| is_wanted(arguments.segments, it)) {
            for copies in COPIES.into_iter().filter(|&it| is_wanted(arguments.copies, it) && it <= segments) {
                for sizes in
                    Sizes::ALL.into_iter().filter(|it| arguments.sizes.is_none_or(|wanted| wanted == *it))
                {
                    // One segment cannot be larger than the others.
                    let shares = if segments == 1 { &Shares::ALL[..1] } else { &Shares::ALL };
                    cells.extend(shares.iter().map(|&shares| Cell {
                        strategy,
                        segments,
                        copies,
                        sizes,
                        shares,
                    }));
                }
            }
        }
    }
    cells
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(&[
        "strategy",
        "segments",
        "copies",
        "sizes",
        "shares",
        "full at first failure",
        "fragmentation then",
        "full after churn",
        "allocations/s",
        "p50 ns",
        "p99 ns",
        "free + allocate ns",
        "attempts refused",
    ]);
    for outcome in outcomes {
        let cell = &outcome.cell;
        table.row([
            cell.strategy.to_string(),
            cell.segments.to_string(),
            cell.copies.to_string(),
            cell.sizes.name().to_owned(),
            cell.shares.name().to_owned(),
            percent(outcome.fill_at_first_failure),
            percent(outcome.fragmentation_at_first_failure),
            percent(outcome.fill_in_churn),
            number(outcome.allocations_per_s as u64),
            number(outcome.p50_ns),
            number(outcome.p99_ns),
            format!("{:.0}", outcome.pair_ns),
            percent(outcome.attempts_refused),
        ]);
    }
    table
}
