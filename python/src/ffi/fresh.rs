//! `bytes` that nobody has seen yet.

use pyo3::ffi;
use pyo3::prelude::{Bound, Py, PyErr, PyResult, Python};
use pyo3::types::PyBytes;

/// `bytes` that is being filled, also by a thread that has given the interpreter back.
pub(crate) struct Fresh {
    object: Py<PyBytes>,
    start: *mut u8,
    bytes: usize,
}

// SAFETY: nobody else knows the object until it is given away, which takes it by value.
unsafe impl Send for Fresh {}

impl Fresh {
    /// So many bytes, which mean nothing yet: they are not written before they are filled.
    pub(crate) fn new(py: Python<'_>, bytes: usize) -> PyResult<Fresh> {
        let size = ffi::Py_ssize_t::try_from(bytes).unwrap_or(ffi::Py_ssize_t::MAX);
        // SAFETY: the interpreter is held; a null pointer asks for bytes that are not set.
        let object = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), size) };
        // SAFETY: a new reference to bytes, or null with an exception set.
        let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
        // SAFETY: it is bytes, and these stay where they are as long as the object.
        let start = unsafe { ffi::PyBytes_AsString(object.as_ptr()) };
        if start.is_null() {
            return Err(PyErr::fetch(py));
        }
        // The C API wrote a NUL behind them; what is in them is whatever was there.
        let object = object.cast_into::<PyBytes>()?.unbind();
        Ok(Fresh { object, start: start.cast(), bytes })
    }

    /// The bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the object has them, is kept by us, and is known to nobody else. They may be old bytes of this process; any byte is a number.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }

    /// They are what they should be.
    pub(crate) fn into_bytes(self, py: Python<'_>) -> Bound<'_, PyBytes> {
        self.object.into_bound(py)
    }
}
