//! Keys of a call: one, or a batch.

use crate::ffi::lists::each_key;
use crate::ffi::text::key_bytes;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::{Bound, PyAny, PyAnyMethods, PyResult};
use pyo3::types::{PyBytes, PyList, PyListMethods, PyString};

/// The bytes of keys, one after the other: copied, because other threads of the interpreter may change the list meanwhile.
pub(crate) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The caller gave a key and not a list of keys, and expects an answer and not a list of answers.
    pub(crate) is_one: bool,
}

/// A guess.
const KEY_BYTES: usize = 64;

impl Keys {
    /// A key, or a list (or anything else that can be iterated) of keys.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Keys> {
        if object.is_instance_of::<PyString>() || object.is_instance_of::<PyBytes>() {
            let mut keys = Keys::with_room_for(1);
            keys.push(object)?;
            keys.is_one = true;
            return Ok(keys);
        }
        Keys::many(object)
    }

    /// A list of keys, and nothing else.
    pub(crate) fn many(object: &Bound<'_, PyAny>) -> PyResult<Keys> {
        if let Ok(list) = object.cast::<PyList>() {
            let mut keys = Keys::with_room_for(list.len());
            each_key(list, |key| keys.add(key))?;
            return Ok(keys);
        }
        let not_keys = |_| PyTypeError::new_err("keys are a str, bytes, or a list of these");
        if object.is_instance_of::<PyString>() || object.is_instance_of::<PyBytes>() {
            return Err(PyTypeError::new_err("this takes a list of keys: put the key into brackets"));
        }
        let mut keys = Keys::with_room_for(object.len().unwrap_or(0));
        object.try_iter().map_err(not_keys)?.try_for_each(|key| keys.push(&key?))?;
        Ok(keys)
    }

    fn with_room_for(count: usize) -> Self {
        Keys { bytes: Vec::with_capacity(count * KEY_BYTES), ends: Vec::with_capacity(count), is_one: false }
    }

    fn push(&mut self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.add(key_bytes(key)?);
        Ok(())
    }

    fn add(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The key with this number.
    pub(crate) fn get(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }

    /// All of them.
    pub(crate) fn slices(&self) -> Vec<&[u8]> {
        (0..self.count()).map(|number| self.get(number)).collect()
    }

    /// All of them, owned.
    pub(crate) fn to_vecs(&self) -> Vec<Vec<u8>> {
        (0..self.count()).map(|number| self.get(number).to_vec()).collect()
    }
}
