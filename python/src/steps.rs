//! Long batches in steps: between two of them the interpreter may say that the user wants to stop.

use pyo3::prelude::{PyResult, Python};
use snowskin_client::Error;
use std::ops::Range;

/// Bytes of a step, at most, unless one value has more: a twentieth of a second or so.
const STEP_BYTES: usize = 256 << 20;
/// Keys of a step.
const STEP_KEYS: usize = 16_384;

/// The steps of a batch. `sizes`: bytes that each key moves.
pub(crate) fn cut(sizes: impl Iterator<Item = usize>) -> impl Iterator<Item = Range<usize>> {
    let mut sizes = sizes.peekable();
    let mut first = 0;
    std::iter::from_fn(move || {
        let (mut end, mut bytes) = (first, 0_usize);
        while let Some(size) = sizes.peek() {
            if end > first && (bytes.saturating_add(*size) > STEP_BYTES || end - first == STEP_KEYS) {
                break;
            }
            bytes = bytes.saturating_add(*size);
            end += 1;
            sizes.next();
        }
        let step = first..end;
        first = end;
        Some(step).filter(|step| !step.is_empty())
    })
}

/// Does a batch in steps, and gives the interpreter back meanwhile. An interrupt (or what else a signal handler raises) ends it after the step that
/// is under way; what has been put by then is put.
pub(crate) fn steps<T: Send>(
    py: Python<'_>,
    sizes: impl Iterator<Item = usize>,
    mut step: impl FnMut(Range<usize>) -> Vec<Result<T, Error>> + Send,
) -> PyResult<Vec<Result<T, Error>>> {
    let mut results = Vec::new();
    for numbers in cut(sizes) {
        if numbers.start > 0 {
            py.check_signals()?;
        }
        let mut answered = py.detach(|| step(numbers));
        if results.is_empty() { results = answered } else { results.append(&mut answered) }
    }
    Ok(results)
}
