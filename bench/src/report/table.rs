//! Tables and figures for people.

use super::summary::Summary;
use snowskin_protocol::ByteSize;

/// Columns of text, the first to the left, the others to the right.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these heads.
    pub(crate) fn new(heads: &[&str]) -> Self {
        Table { rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    /// One row more.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, indented by two.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut lines: Vec<String> = self.rows.iter().map(|row| line(row, &widths)).collect();
        let rule: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
        lines.insert(1, line(&rule, &widths));
        lines
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, &width))| match column {
        0 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    format!("  {}", cells.collect::<Vec<_>>().join("   ")).trim_end().to_owned()
}

/// A whole number with commas.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds with a unit that fits.
pub(crate) fn microseconds(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.2} s", value / 1e6),
        _ if value >= 1e3 => format!("{:.2} ms", value / 1e3),
        _ => format!("{value:.1} µs"),
    }
}

/// 0.366 as `36.6 %`.
pub(crate) fn percent(rate: f64) -> String {
    format!("{:.1} %", 100.0 * rate)
}

/// The latencies of a summary.
pub(crate) fn latencies(summary: &Summary) -> Vec<String> {
    let mut table = Table::new(&["call", "calls", "p50", "p90", "p99", "p99.9", "max"]);
    for (op, latency) in &summary.latency_us {
        let quantiles = [latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max];
        table.row([(*op).to_owned(), number(latency.count)].into_iter().chain(quantiles.map(microseconds)));
    }
    table.lines()
}

/// All of a summary.
pub(crate) fn summary_lines(summary: &Summary) -> Vec<String> {
    let mut lines = vec![
        format!(
            "  {} operations in {:.1} s: {} operations/s, {:.2} GB/s ({} read, {} written)",
            number(summary.operations),
            summary.seconds,
            number(summary.operations_per_s as u64),
            summary.gb_per_s,
            ByteSize(summary.bytes_read),
            ByteSize(summary.bytes_written)
        ),
        format!(
            "  hits {} of {} keys asked for; puts: {} stored, {} existed, {} found no space",
            percent(summary.hit_rate),
            number(summary.hits + summary.misses),
            number(summary.stored),
            number(summary.existed),
            number(summary.no_space)
        ),
        format!(
            "  CPU {:.2} s, {:.2} s a GB (client with its checks, and cluster); wrong values {}; errors {}",
            summary.cpu_seconds,
            summary.cpu_seconds_per_gb,
            summary.wrong_values,
            summary.errors.values().sum::<u64>()
        ),
        format!("  cores reached by {}", summary.reached),
        String::new(),
    ];
    if let Some(ssd) = &summary.ssd {
        lines.insert(lines.len() - 1, ssd.line());
    }
    lines.extend(latencies(summary));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["op", "µs"]);
        table.row(["get".to_owned(), "1".to_owned()]);
        table.row(["match_prefix".to_owned(), "1,000".to_owned()]);
        assert_eq!(
            table.lines(),
            [
                "  op                µs",
                "  ────────────   ─────",
                "  get                1",
                "  match_prefix   1,000"
            ]
        );
    }

    #[test]
    fn figures_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.5, 1_500.0, 2e6].map(microseconds), ["0.5 µs", "1.50 ms", "2.00 s"]);
        assert_eq!(percent(0.3664), "36.6 %");
    }
}
