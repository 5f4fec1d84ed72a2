//! What is put beside fio: rounds of bytes a second, ours and fio's, and the row that comes of them.

use crate::limits::{at_least, spread_in_words};
use crate::report::table::Table;
use crate::spread::Spread;
use serde::Serialize;
use snowskin_protocol::ByteSize;

/// The least ratio.
const BAR: f64 = 0.92;

/// Bytes a second, ours and fio's, one right after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) ours: f64,
    /// `None`: it is not there.
    pub(super) fio: Option<f64>,
}

impl Round {
    /// Measures both: in every other round ours first, since what goes before may leave a device faster, or slower.
    pub(super) fn measure(
        number: usize,
        fio: Option<impl FnOnce() -> Result<f64, String>>,
        ours: impl FnOnce() -> Result<f64, String>,
    ) -> Result<Round, String> {
        let Some(fio) = fio else { return Ok(Round { ours: ours()?, fio: None }) };
        if number.is_multiple_of(2) {
            let fio = Some(fio()?);
            Ok(Round { ours: ours()?, fio })
        } else {
            let ours = ours()?;
            Ok(Round { ours, fio: Some(fio()?) })
        }
    }
}

/// Values of one size beside fio's blocks of as many bytes. `--json` writes this.
#[derive(Debug, Serialize)]
pub(super) struct BesideFio {
    value_bytes: usize,
    ours_gb_per_s: Spread,
    fio_gb_per_s: Option<Spread>,
    /// Ours by fio's, within each round.
    ratio: Option<Spread>,
    bar: f64,
}

impl BesideFio {
    /// Of at least one round, all of them with fio, or none.
    pub(super) fn new(value_bytes: usize, rounds: &[Round]) -> Self {
        let fio: Option<Vec<f64>> = rounds.iter().map(|round| round.fio).collect();
        let ratios = |fio: &Vec<f64>| Spread::of(rounds.iter().zip(fio).map(|(round, fio)| round.ours / fio));
        BesideFio {
            value_bytes,
            ours_gb_per_s: Spread::of(rounds.iter().map(|round| round.ours / 1e9)),
            ratio: fio.as_ref().map(ratios),
            fio_gb_per_s: fio.map(|fio| Spread::of(fio.iter().map(|rate| rate / 1e9))),
            bar: BAR,
        }
    }
}

/// For people; `what` heads the sizes.
pub(super) fn table<'a>(what: &str, rows: impl IntoIterator<Item = &'a BesideFio>) -> Table {
    let mut table = Table::new(&[what, "fio GB/s", "ours GB/s", "ratio", "bar"]);
    let or_blank = |spread: Option<Spread>| spread.map_or_else(String::new, spread_in_words);
    for row in rows {
        table.row([
            ByteSize(row.value_bytes as u64).to_string(),
            or_blank(row.fio_gb_per_s),
            spread_in_words(row.ours_gb_per_s),
            or_blank(row.ratio),
            row.ratio.map_or_else(String::new, |ratio| at_least(ratio.median, row.bar)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let rounds = [(1e9, 2e9), (2e9, 4e9), (4e9, 2e9)].map(|(ours, fio)| Round { ours, fio: Some(fio) });
        let row = BesideFio::new(1 << 20, &rounds);
        assert_eq!(row.ratio, Some(Spread { median: 0.5, min: 0.5, max: 2.0 }));
        assert!(table("get", [&row]).lines()[2].contains("BELOW"));
    }

    #[test]
    fn without_fio_there_is_no_ratio() {
        let with = BesideFio::new(1 << 20, &[Round { ours: 2e9, fio: Some(2e9) }]);
        let without = BesideFio::new(1 << 20, &[Round { ours: 1e9, fio: None }]);
        let lines = table("get", [&with, &without]).lines();
        assert!(lines[2].contains("met") && !lines[3].contains("met"), "{lines:?}");
    }
}
