//! Keys, where they lie.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::{Bound, PyAny, PyAnyMethods, PyErr, PyResult, PyTypeMethods};
use pyo3::types::{PyBytes, PyBytesMethods, PyString};
use std::ffi::c_char;

unsafe extern "C" {
    /// In every CPython; part of the stable API since 3.10.
    fn PyUnicode_AsUTF8AndSize(
        unicode: *mut pyo3::ffi::PyObject,
        size: *mut pyo3::ffi::Py_ssize_t,
    ) -> *const c_char;
}

/// The bytes of a key: those of `bytes`, or of `str` in UTF-8.
pub(crate) fn key_bytes<'a>(key: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    if let Ok(text) = key.cast::<PyString>() {
        return utf8(text);
    }
    match key.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes()),
        Err(_) => {
            let kind = key.get_type().name()?;
            Err(PyTypeError::new_err(format!("a key is str or bytes, not {kind}")))
        }
    }
}

/// The text in UTF-8: that of ASCII is the text itself, any other is made once and kept with it.
fn utf8<'a>(text: &'a Bound<'_, PyString>) -> PyResult<&'a [u8]> {
    let mut bytes = 0;
    // SAFETY: `text` is a str and we hold the interpreter, as the bound reference shows.
    let start = unsafe { PyUnicode_AsUTF8AndSize(text.as_ptr(), &raw mut bytes) };
    if start.is_null() {
        return Err(PyErr::fetch(text.py()));
    }
    // SAFETY: the interpreter keeps that many bytes, unchanged, as long as the text; and the text is borrowed.
    Ok(unsafe { std::slice::from_raw_parts(start.cast(), usize::try_from(bytes).unwrap_or(0)) })
}
