//! Copies between runs of memory that callers name by addresses, done later, where the interpreter is not.

use super::span::Span;
use pyo3::prelude::{Py, PyAny};

/// Bytes that are copied at a time, at most: whoever does it has other work, too.
const TURN_BYTES: usize = 16 << 20;

/// Copies that are to be done, and what keeps their memory.
pub(crate) struct Copies {
    /// From where, and where to: as many bytes each.
    runs: Vec<(Span, Span)>,
    _kept: Py<PyAny>,
}

impl Copies {
    /// `None`: not as many of each. Whoever names addresses has looked whether the bytes are of what is kept, or registered, as in [`super::named`].
    pub(crate) fn of(to: &[usize], from: &[usize], sizes: &[usize], kept: Py<PyAny>) -> Option<Copies> {
        if to.len() != sizes.len() || from.len() != sizes.len() {
            return None;
        }
        let mut runs = Vec::with_capacity(sizes.len());
        for ((&to, &from), &size) in to.iter().zip(from).zip(sizes) {
            Span::new(from, size).end()?;
            Span::new(to, size).end()?;
            for done in (0..size).step_by(TURN_BYTES) {
                let bytes = TURN_BYTES.min(size - done);
                runs.push((Span::new(from + done, bytes), Span::new(to + done, bytes)));
            }
        }
        Some(Copies { runs, _kept: kept })
    }

    /// Copies some from the one with this number on; the number of the first that is left, if any is.
    pub(crate) fn copy_some(&self, first: usize) -> Option<usize> {
        let mut bytes = 0;
        for (number, (from, to)) in self.runs.iter().enumerate().skip(first) {
            if bytes > 0 && bytes + from.bytes() > TURN_BYTES {
                return Some(number);
            }
            bytes += from.bytes();
            // SAFETY: both are mapped, one to be read and one to be written, as `of` was promised; they may overlap.
            unsafe { std::ptr::copy(from.start() as *const u8, to.start() as *mut u8, from.bytes()) };
        }
        None
    }
}
