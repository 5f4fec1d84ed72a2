//! Long batches in steps: between two of them the interpreter may say that the user wants to stop.

use pyo3::prelude::{PyResult, Python};
use snowskin_client::Error;
use std::ops::Range;

/// Bytes of a step, at most, unless one value has more: a twentieth of a second or so.
const STEP_BYTES: usize = 256 << 20;
/// Keys of a step.
const STEP_KEYS: usize = 16_384;

/// Does a batch in steps, and gives the interpreter back meanwhile. `sizes`: bytes that each key moves. An interrupt (or what else a signal
/// handler raises) ends it after the step that is under way; what has been put by then is put.
pub(crate) fn steps<T: Send>(
    py: Python<'_>,
    sizes: impl Iterator<Item = usize>,
    mut step: impl FnMut(Range<usize>) -> Vec<Result<T, Error>> + Send,
) -> PyResult<Vec<Result<T, Error>>> {
    let mut results = Vec::new();
    let (mut first, mut end, mut bytes) = (0, 0, 0_usize);
    let mut run = |numbers: Range<usize>| -> PyResult<()> {
        if numbers.start > 0 {
            py.check_signals()?;
        }
        let mut answered = py.detach(|| step(numbers));
        if results.is_empty() {
            results = answered
        } else {
            results.append(&mut answered)
        }
        Ok(())
    };
    for size in sizes {
        if end > first && (bytes.saturating_add(size) > STEP_BYTES || end - first == STEP_KEYS) {
            run(first..end)?;
            (first, bytes) = (end, 0);
        }
        end += 1;
        bytes = bytes.saturating_add(size);
    }
    if end > first {
        run(first..end)?;
    }
    Ok(results)
}
