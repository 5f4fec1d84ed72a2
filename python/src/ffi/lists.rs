//! Long lists, item by item, without counting references: a call has thousands of keys and addresses, and nothing else to do for them here.

use super::text::{bytes_of, key_bytes, utf8_of};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::{Bound, PyAny, PyAnyMethods, PyErr, PyResult, Python};
use pyo3::types::{PyList, PyListMethods};

/// Calls `take` with the bytes of each key of a list.
pub(crate) fn each_key(list: &Bound<'_, PyList>, mut take: impl FnMut(&[u8])) -> PyResult<()> {
    let mut number = 0;
    while number < list.len() {
        // SAFETY: the list is one, the interpreter is held, and the number is below the length.
        let item = unsafe { ffi::PyList_GetItem(list.as_ptr(), number as ffi::Py_ssize_t) };
        // SAFETY: the item is the list's, which is not changed as long as no Python code runs: none does in between.
        let (text, bytes) = unsafe { (utf8_of(list.py(), item), bytes_of(item)) };
        match (text, bytes) {
            (Some(text), _) => take(text?),
            (None, Some(bytes)) => take(bytes),
            (None, None) => take(key_bytes(&owned(list.py(), item))?),
        }
        number += 1;
    }
    Ok(())
}

/// The numbers of a list (or of anything else that can be iterated), none of them negative.
pub(crate) fn integers(list: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let Ok(list) = list.cast::<PyList>() else { return list.extract() };
    let mut numbers = Vec::with_capacity(list.len());
    while numbers.len() < list.len() {
        // SAFETY: as in `each_key`.
        let item = unsafe { ffi::PyList_GetItem(list.as_ptr(), numbers.len() as ffi::Py_ssize_t) };
        // SAFETY: the item is the list's, as above; what is no integer is refused with an exception.
        let number = unsafe { ffi::PyLong_AsSize_t(item) };
        numbers.push(match number {
            usize::MAX if PyErr::take(list.py()).is_some() => integer_like(&owned(list.py(), item))?,
            number => number,
        });
    }
    Ok(numbers)
}

/// Of numpy, say.
fn integer_like(item: &Bound<'_, PyAny>) -> PyResult<usize> {
    item.extract().map_err(|error: PyErr| {
        if error.is_instance_of::<PyTypeError>(item.py()) {
            PyTypeError::new_err("addresses and sizes are integers")
        } else {
            error
        }
    })
}

fn owned<'py>(py: Python<'py>, item: *mut ffi::PyObject) -> Bound<'py, PyAny> {
    // SAFETY: the item was just borrowed from a list that is not changed in between.
    unsafe { Bound::from_borrowed_ptr(py, item) }
}
