//! A value where it lies, as an object with the buffer protocol: `memoryview(view)`, `numpy.frombuffer(view, …)`.
//!
//! PyO3 cannot make classes with this protocol under the stable API of Python 3.9, so this one is made by hand.

use super::buffer::RawBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::{Bound, Py, PyAny, PyAnyMethods, PyResult, Python};
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use snowskin_client::View;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

// SAFETY: this is its declaration in `Python.h`; every CPython has it, and it is part of the stable API since 3.11.
unsafe extern "C" {
    fn PyBuffer_FillInfo(
        view: *mut RawBuffer,
        exporter: *mut ffi::PyObject,
        buf: *mut c_void,
        len: ffi::Py_ssize_t,
        readonly: c_int,
        flags: c_int,
    ) -> c_int;
}

/// An instance.
#[repr(C)]
struct Instance {
    head: ffi::PyObject,
    /// Null in what somebody has made by calling the class.
    value: *mut View,
}

static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

const DOC: &std::ffi::CStr = c"A value where it lies: in the memory of an engine on this machine, which keeps it there as long as this object, \
    or anything made of it (memoryview, numpy.frombuffer), is alive. Of an engine on another machine, a copy.\n\nRead only.";

/// The class of views.
pub(crate) fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    CLASS.get_or_try_init(py, || make_class(py)).map(|class| class.bind(py))
}

/// A view as a Python object.
pub(crate) fn new(py: Python<'_>, value: View) -> PyResult<Bound<'_, PyAny>> {
    let class = class(py)?.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: the class is ours, and so instances have room for an `Instance`; the interpreter is held.
    let object = unsafe { ffi::PyType_GenericAlloc(class, 0) };
    // SAFETY: a new reference, or null with an exception set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    // SAFETY: nobody else knows the object yet; it was filled with zeros.
    unsafe { (*object.as_ptr().cast::<Instance>()).value = Box::into_raw(Box::new(value)) };
    Ok(object)
}

/// A view that is looked at where the interpreter is not.
pub(crate) struct Held {
    _object: Py<PyAny>,
    value: *const View,
}

// SAFETY: the value is there as long as the object, and any thread may look at it.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

impl Held {
    /// `None`: it is no view, or one without a value.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Option<Held>> {
        if !object.is_exact_instance(class(object.py())?) {
            return Ok(None);
        }
        // SAFETY: it is an instance of the class, which is held from here on.
        let found = unsafe { value(object.as_ptr()) };
        Ok(found.map(|value| Held { _object: object.clone().unbind(), value }))
    }

    /// Whether the bytes match their checksum.
    pub(crate) fn is_intact(&self) -> bool {
        // SAFETY: the object is held.
        unsafe { &*self.value }.is_intact()
    }
}

fn make_class(py: Python<'_>) -> PyResult<Py<PyType>> {
    let method = |name: &'static std::ffi::CStr, call: ffi::PyCFunction, doc: &'static std::ffi::CStr| {
        ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: call },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: doc.as_ptr(),
        }
    };
    // The interpreter keeps these for the life of the class, which is that of the process.
    let methods: &'static mut [ffi::PyMethodDef; 5] = Box::leak(Box::new([
        method(c"ptr", ptr_of, c"The address of the first byte."),
        method(c"size", size_of_value, c"Bytes of the value."),
        method(
            c"is_in_place",
            is_in_place,
            c"Whether the bytes are where the engine has them, and not a copy.",
        ),
        method(
            c"is_intact",
            is_intact,
            c"Whether the bytes match the checksum that was made when they were put. Reads all of them.",
        ),
        // SAFETY: an entry of zeros ends the list.
        unsafe { std::mem::zeroed() },
    ]));
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_doc, DOC.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(ffi::Py_sq_length, length as *mut c_void),
        slot(ffi::Py_bf_getbuffer, get_buffer as *mut c_void),
        slot(0, ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"snowskin.View".as_ptr(),
        basicsize: size_of::<Instance>() as c_int,
        itemsize: 0,
        flags: ffi::Py_TPFLAGS_DEFAULT as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the specification is whole, ends with an empty slot, and what has to outlive it does.
    let class = unsafe { ffi::PyType_FromSpec(&raw mut spec) };
    // SAFETY: a new reference to a type, or null with an exception set.
    let class = unsafe { Bound::from_owned_ptr_or_err(py, class) }?;
    Ok(class.cast_into::<PyType>()?.unbind())
}

/// The value of an instance.
///
/// # Safety
///
/// `object` is an instance of the class, and alive as long as the reference is used.
unsafe fn value<'a>(object: *mut ffi::PyObject) -> Option<&'a View> {
    // SAFETY: as this function asks for; the value is set once, before anybody knows the object, and goes with it.
    unsafe { (*object.cast::<Instance>()).value.as_ref() }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this once, for an instance of the class that nobody refers to any more.
    unsafe {
        let value = (*object.cast::<Instance>()).value;
        if !value.is_null() {
            drop(Box::from_raw(value));
        }
        let class = ffi::Py_TYPE(object);
        let free = ffi::PyType_GetSlot(class, ffi::Py_tp_free);
        let free: ffi::freefunc = std::mem::transmute(free);
        free(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}

// SAFETY: for the interpreter alone, which holds itself and gives an instance of the class and room for an export.
unsafe extern "C" fn get_buffer(object: *mut ffi::PyObject, view: *mut RawBuffer, flags: c_int) -> c_int {
    // SAFETY: the interpreter calls this with an instance, which the export keeps alive.
    let Some(value) = (unsafe { value(object) }) else {
        // SAFETY: the exporter of a failed export is null.
        unsafe { (*view).forget_exporter() };
        Python::attach(|py| {
            PyBufferError::new_err("this view has no value: get one from Store.view").restore(py)
        });
        return -1;
    };
    let (start, bytes) = (value.as_ptr().cast_mut().cast(), value.len() as ffi::Py_ssize_t);
    // SAFETY: the bytes stay where they are as long as the instance, to which the export refers; they are read only.
    unsafe { PyBuffer_FillInfo(view, object, start, bytes, 1, flags) }
}

unsafe extern "C" fn length(object: *mut ffi::PyObject) -> ffi::Py_ssize_t {
    // SAFETY: the interpreter calls this with an instance.
    unsafe { value(object) }.map_or(0, |value| value.len() as ffi::Py_ssize_t)
}

unsafe extern "C" fn ptr_of(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with an instance, and is held.
    unsafe {
        let start = value(object).map_or(0, |value| value.as_ptr() as usize);
        ffi::PyLong_FromUnsignedLongLong(start as u64)
    }
}

unsafe extern "C" fn size_of_value(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with an instance, and is held.
    unsafe { ffi::PyLong_FromSsize_t(length(object)) }
}

unsafe extern "C" fn is_in_place(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with an instance, and is held.
    unsafe { ffi::PyBool_FromLong(value(object).is_some_and(View::is_in_place).into()) }
}

unsafe extern "C" fn is_intact(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with an instance that its caller holds.
    let value = unsafe { value(object) };
    let is_intact = Python::attach(|py| py.detach(|| value.is_some_and(View::is_intact)));
    // SAFETY: the interpreter is held again.
    unsafe { ffi::PyBool_FromLong(is_intact.into()) }
}

const _: fn() = || {
    fn is_send<T: Send + Sync>() {}
    // Any thread may use a view, and drop it.
    is_send::<View>();
};
