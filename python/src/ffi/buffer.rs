//! Memory of Python objects, held as long as it is used.

use super::span::Span;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi::{Py_ssize_t, PyObject};
use pyo3::prelude::{Bound, Py, PyAny, PyAnyMethods, PyErr, PyResult, PyTypeMethods, Python};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

/// `Py_buffer`, the same since Python 3.0.
#[repr(C)]
pub(super) struct RawBuffer {
    buf: *mut c_void,
    obj: *mut PyObject,
    len: Py_ssize_t,
    itemsize: Py_ssize_t,
    readonly: c_int,
    ndim: c_int,
    format: *mut c_char,
    shape: *mut Py_ssize_t,
    strides: *mut Py_ssize_t,
    suboffsets: *mut Py_ssize_t,
    internal: *mut c_void,
}

impl RawBuffer {
    fn empty() -> Self {
        RawBuffer {
            buf: ptr::null_mut(),
            obj: ptr::null_mut(),
            len: 0,
            itemsize: 0,
            readonly: 0,
            ndim: 0,
            format: ptr::null_mut(),
            shape: ptr::null_mut(),
            strides: ptr::null_mut(),
            suboffsets: ptr::null_mut(),
            internal: ptr::null_mut(),
        }
    }

    /// As a failed export has to leave it.
    pub(super) fn forget_exporter(&mut self) {
        self.obj = ptr::null_mut();
    }
}

// SAFETY: these are their declarations in `Python.h`; every CPython has them, and they are part of the stable API since 3.11.
unsafe extern "C" {
    fn PyObject_CheckBuffer(object: *mut PyObject) -> c_int;
    fn PyObject_GetBuffer(object: *mut PyObject, view: *mut RawBuffer, flags: c_int) -> c_int;
    fn PyBuffer_Release(view: *mut RawBuffer);
}

/// One run of bytes, one after the other.
const SIMPLE: c_int = 0;
const WRITABLE: c_int = 1;

/// What to do with the memory of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

/// Memory of an object, which stays where it is until this is dropped.
pub(crate) struct Buffer {
    span: Span,
    _holder: Holder,
}

/// What keeps the memory where it is.
#[expect(dead_code, reason = "held, and not looked at")]
enum Holder {
    Export(Export),
    /// A tensor has no exports: whoever holds it and resizes it meanwhile has been warned by its own documentation.
    Tensor(Py<PyAny>),
}

/// An export by the buffer protocol. Boxed: some exporters remember where the structure was.
struct Export(Box<RawBuffer>);

// SAFETY: an export may be released by any thread that holds the interpreter, as `drop` does.
unsafe impl Send for Export {}
// SAFETY: nothing can be done with a reference to one.
unsafe impl Sync for Export {}

impl Drop for Export {
    fn drop(&mut self) {
        // SAFETY: it was filled by `PyObject_GetBuffer`, is released once, and the interpreter is held. If it is ending, nobody has use for the
        // memory, and nobody waits.
        let _ = Python::try_attach(|_| unsafe { PyBuffer_Release(&raw mut *self.0) });
    }
}

impl Buffer {
    /// The memory of an object with the buffer protocol, or of a tensor on the CPU.
    pub(crate) fn of(object: &Bound<'_, PyAny>, purpose: Use) -> PyResult<Buffer> {
        // SAFETY: the object is one, and the interpreter is held.
        if unsafe { PyObject_CheckBuffer(object.as_ptr()) } == 0 {
            return Buffer::of_tensor(object);
        }
        let mut raw = Box::new(RawBuffer::empty());
        let flags = if purpose == Use::Write { WRITABLE } else { SIMPLE };
        // SAFETY: the structure is ours, and stays where it is.
        if unsafe { PyObject_GetBuffer(object.as_ptr(), &raw mut *raw, flags) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        let span = Span::new(raw.buf as usize, usize::try_from(raw.len).unwrap_or(0));
        Ok(Buffer { span, _holder: Holder::Export(Export(raw)) })
    }

    fn of_tensor(object: &Bound<'_, PyAny>) -> PyResult<Buffer> {
        let kind = object.get_type().name()?;
        let Ok(address) = object.call_method0("data_ptr") else {
            let words = format!(
                "{kind} has no memory to use: give bytes, a bytearray, a memoryview, a numpy array or a tensor on the CPU"
            );
            return Err(PyTypeError::new_err(words));
        };
        let device: String = object.getattr("device")?.getattr("type")?.extract()?;
        if device != "cpu" {
            let words =
                format!("a tensor on {device} cannot be used yet: copy it to the CPU first (tensor.cpu())");
            return Err(PyValueError::new_err(words));
        }
        if !object.call_method0("is_contiguous")?.extract::<bool>()? {
            return Err(PyValueError::new_err("the tensor is not contiguous: use tensor.contiguous()"));
        }
        let bytes = object.call_method0("numel")?.extract::<usize>()?
            * object.call_method0("element_size")?.extract::<usize>()?;
        let span = Span::new(address.extract()?, bytes);
        Ok(Buffer { span, _holder: Holder::Tensor(object.clone().unbind()) })
    }

    /// The bytes.
    pub(crate) fn readable(&self) -> &[u8] {
        // SAFETY: they stay where they are as long as we are there.
        unsafe { self.span.to_read() }
    }

    pub(crate) fn span(&self) -> Span {
        self.span
    }
}
