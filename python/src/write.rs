//! Puts.

use crate::errors::answers;
use crate::ffi::memory::Memory;
use crate::keys::Keys;
use crate::options::Options;
use crate::steps::steps;
use crate::store::Handle;
use pyo3::prelude::{Bound, PyAny, PyResult, Python};
use pyo3::types::PyBool;
use snowskin_client::{BlockingClient, Error, PutOptions, PutOutcome};
use std::ops::Range;

/// Puts values; True for each that was stored, False for each whose key was held already.
pub(crate) fn put<'py>(
    py: Python<'py>,
    handle: &Handle,
    keys: &Keys,
    memory: &Memory,
    options: &Options,
) -> PyResult<Bound<'py, PyAny>> {
    let client = handle.within(options.deadline)?;
    let results = steps(py, memory.sizes(), |numbers| put_some(&client, keys, memory, options, numbers))?;
    let say = |py: Python<'py>, outcome: PutOutcome| {
        Ok(PyBool::new(py, outcome == PutOutcome::Stored).to_owned().into_any())
    };
    answers(py, results.into_iter(), keys.is_one, say)
}

/// Puts those with these numbers.
fn put_some(
    client: &BlockingClient,
    keys: &Keys,
    memory: &Memory,
    options: &Options,
    numbers: Range<usize>,
) -> Vec<Result<PutOutcome, Error>> {
    if options.is_plain() {
        let items: Vec<(&[u8], &[u8])> =
            numbers.map(|number| (keys.get(number), memory.readable(number))).collect();
        return if options.replace { client.upsert(&items) } else { client.put(&items) };
    }
    let item = |number| (keys.get(number), memory.readable(number), options.of_object(keys, number));
    let items: Vec<(&[u8], &[u8], PutOptions)> = numbers.map(item).collect();
    if options.replace { client.upsert_with(&items) } else { client.put_with(&items) }
}
