//! Keys, where they lie.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::{Bound, PyAny, PyAnyMethods, PyErr, PyResult, PyTypeMethods, Python};
use pyo3::types::{PyBytes, PyBytesMethods, PyString};
use std::ffi::c_char;

// SAFETY: this is its declaration in `Python.h`; every CPython has it, and it is part of the stable API since 3.10.
unsafe extern "C" {
    fn PyUnicode_AsUTF8AndSize(unicode: *mut ffi::PyObject, size: *mut ffi::Py_ssize_t) -> *const c_char;
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
    // SAFETY: the text is borrowed.
    let bytes = unsafe { utf8_of(text.py(), text.as_ptr()) };
    bytes.unwrap_or(Ok(&[]))
}

/// The same of an object that may be none; then it is `None`. Runs no Python code.
///
/// # Safety
///
/// `object` is an object, and is kept as long as the bytes are used.
pub(super) unsafe fn utf8_of<'a>(py: Python<'_>, object: *mut ffi::PyObject) -> Option<PyResult<&'a [u8]>> {
    // SAFETY: it is an object, as this function asks for; the interpreter is held.
    if unsafe { ffi::PyUnicode_Check(object) } == 0 {
        return None;
    }
    let mut bytes = 0;
    // SAFETY: it is a str, and the interpreter is held.
    let start = unsafe { PyUnicode_AsUTF8AndSize(object, &raw mut bytes) };
    if start.is_null() {
        return Some(Err(PyErr::fetch(py)));
    }
    // SAFETY: the interpreter keeps that many bytes, unchanged, as long as the text.
    Some(Ok(unsafe { std::slice::from_raw_parts(start.cast(), usize::try_from(bytes).unwrap_or(0)) }))
}

/// The bytes of an object that may have none; then it is `None`. Runs no Python code.
///
/// # Safety
///
/// `object` is an object, and is kept as long as the bytes are used.
pub(super) unsafe fn bytes_of<'a>(object: *mut ffi::PyObject) -> Option<&'a [u8]> {
    // SAFETY: it is an object, as this function asks for; and bytes, where they are asked for their own.
    unsafe {
        (ffi::PyBytes_Check(object) != 0).then(|| {
            let (start, bytes) = (ffi::PyBytes_AsString(object), ffi::PyBytes_Size(object));
            std::slice::from_raw_parts(start.cast(), usize::try_from(bytes).unwrap_or(0))
        })
    }
}
