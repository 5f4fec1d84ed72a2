//! Errors as exceptions: the classes are in `snowskin/errors.py`, one for each thing that a caller may want to tell from others.

use pyo3::prelude::{Bound, IntoPyObject, Py, PyAny, PyAnyMethods, PyErr, PyResult, Python};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyModule};
use snowskin_client::Error;

static CLASSES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn classes(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let load = || PyModule::import(py, "snowskin.errors").map(Bound::unbind);
    CLASSES.get_or_try_init(py, load).map(|module| module.bind(py))
}

/// The class of an error.
fn class_of(error: &Error) -> &'static str {
    match error {
        Error::InvalidKey(_) => "InvalidKeyError",
        Error::EmptyValue => "EmptyValueError",
        Error::NoSpace => "NoSpaceError",
        Error::TooLarge => "TooLargeError",
        Error::NotDurable | Error::NotDurableYet => "NotDurableError",
        Error::BufferTooSmall { .. } => "BufferTooSmallError",
        Error::Checksum => "ChecksumError",
        Error::Deadline => "DeadlineError",
        Error::Unreachable { .. } => "UnreachableError",
        Error::Broken { .. } => "BrokenError",
        Error::NoEngines => "NoEnginesError",
        Error::NoSuchCore(_) => "NoSuchCoreError",
        Error::Refused { .. } => "RefusedError",
        Error::Overloaded => "OverloadedError",
        Error::BadPattern(_) => "BadPatternError",
        Error::RangeBeyondEnd { .. } => "RangeBeyondEndError",
        Error::KeysMoved => "KeysMovedError",
        Error::Closed => "ClosedError",
        // Also what a later release of the client may say.
        _ => "SnowskinError",
    }
}

/// An error as an exception, which is raised or put beside the other answers of a batch.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let exception = classes(py)?.getattr(class_of(error))?.call1((error.to_string(),))?;
    exception.setattr("code", error.code().number())?;
    if let Error::BufferTooSmall { needed } = error {
        exception.setattr("needed", needed)?;
    }
    Ok(exception)
}

/// An error that ends the call.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).map_or_else(|error| error, PyErr::from_value)
}

/// An exception of a class of ours.
pub(crate) fn named(py: Python<'_>, class: &str, words: &str) -> PyErr {
    let make = || classes(py)?.getattr(class)?.call1((words,));
    make().map_or_else(|error| error, PyErr::from_value)
}

/// Some keys of a batch failed: the answers of all, exceptions among them.
pub(crate) fn of_batch(answers: &Bound<'_, PyList>, failed: usize, first: &Error) -> PyErr {
    let py = answers.py();
    let count = answers.len().unwrap_or(0);
    let words = format!("{failed} of {count} keys failed, the first of them: {first}");
    let make = || classes(py)?.getattr("BatchError")?.call1((words, answers));
    make().map_or_else(|error| error, PyErr::from_value)
}

/// The answers of a call as its caller expects them: one, or a list. If there are exceptions among them, they are raised.
pub(crate) fn answers<'py, T>(
    py: Python<'py>,
    results: impl ExactSizeIterator<Item = Result<T, Error>>,
    is_one: bool,
    mut say: impl FnMut(Python<'py>, T) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut failed = 0;
    let mut first = None;
    let mut said = Vec::with_capacity(results.len());
    for result in results {
        match result {
            Ok(answer) => said.push(say(py, answer)?),
            Err(error) if is_one => return Err(raised(py, &error)),
            Err(error) => {
                failed += 1;
                said.push(exception(py, &error)?);
                first.get_or_insert(error);
            }
        }
    }
    if is_one {
        return said.pop().ok_or_else(|| raised(py, &Error::Closed));
    }
    let list = PyList::new(py, said)?;
    match first {
        None => Ok(list.into_pyobject(py)?.into_any()),
        Some(first) => Err(of_batch(&list, failed, &first)),
    }
}
