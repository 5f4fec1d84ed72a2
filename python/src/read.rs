//! Gets: as bytes, into buffers, where they lie.

use crate::errors::answers;
use crate::ffi::fresh::Fresh;
use crate::ffi::memory::Memory;
use crate::ffi::view;
use crate::keys::Keys;
use crate::outcomes::miss;
use crate::steps::steps;
use pyo3::prelude::{Bound, IntoPyObject, PyAny, PyResult, Python};
use pyo3::types::{PyInt, PyMemoryView};
use snowskin_client::{BlockingClient, Error, Found, View};
use std::ops::Range;

/// Values as `bytes`.
pub(crate) fn get<'py>(py: Python<'py>, client: &BlockingClient, keys: &Keys) -> PyResult<Bound<'py, PyAny>> {
    let found = views(py, client, keys)?;
    spread_bytes(py, client, keys, found, keys.is_one)
}

/// Values that were found, as `bytes`: copied now, when it is known how long they are.
pub(crate) fn spread_bytes<'py>(
    py: Python<'py>,
    client: &BlockingClient,
    keys: &Keys,
    found: Vec<Result<Found<View>, Error>>,
    is_one: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let say = |py, answer| match answer {
        Found::Hit(fresh) => Ok(Fresh::into_bytes(fresh, py).into_any()),
        Found::Miss(reason) => miss(py, reason),
    };
    answers(py, copied(py, client, keys, found)?.into_iter(), is_one, say)
}

/// Values, found and copied.
pub(crate) fn values_of(
    py: Python<'_>,
    client: &BlockingClient,
    keys: &Keys,
) -> PyResult<Vec<Result<Found<Fresh>, Error>>> {
    copied(py, client, keys, views(py, client, keys)?)
}

/// Values that were found, copied.
pub(crate) fn copied(
    py: Python<'_>,
    client: &BlockingClient,
    keys: &Keys,
    found: Vec<Result<Found<View>, Error>>,
) -> PyResult<Vec<Result<Found<Fresh>, Error>>> {
    let mut values = Vec::with_capacity(found.len());
    for answer in found {
        values.push(match answer {
            Ok(Found::Hit(view)) => Ok(Found::Hit((Fresh::new(py, view.len())?, view))),
            Ok(Found::Miss(reason)) => Ok(Found::Miss(reason)),
            Err(error) => Err(error),
        });
    }
    Ok(py.detach(|| {
        let copy = |(number, answer)| match answer {
            Ok(Found::Hit((mut fresh, view))) => {
                fill(client, keys.get(number), &mut fresh, &view).map(|()| Found::Hit(fresh))
            }
            Ok(Found::Miss(reason)) => Ok(Found::Miss(reason)),
            Err(error) => Err(error),
        };
        values.into_iter().enumerate().map(copy).collect()
    }))
}

/// Copies a value and looks at its checksum on the way. Bytes that do not match are asked for again: the client knows what to do about them.
fn fill(client: &BlockingClient, key: &[u8], fresh: &mut Fresh, view: &View) -> Result<(), Error> {
    if view.copy_into(fresh.bytes_mut()) {
        return Ok(());
    }
    match client.get_into(&mut [(key, fresh.bytes_mut())]).pop() {
        Some(Ok(Found::Hit(bytes))) if bytes == view.len() => Ok(()),
        Some(Err(error)) => Err(error),
        // Another value of this length has not come in between.
        _ => Err(Error::Checksum),
    }
}

pub(crate) fn views(
    py: Python<'_>,
    client: &BlockingClient,
    keys: &Keys,
) -> PyResult<Vec<Result<Found<View>, Error>>> {
    steps(py, (0..keys.count()).map(|_| 0), |numbers| {
        let slices: Vec<&[u8]> = numbers.map(|number| keys.get(number)).collect();
        match slices[..] {
            [key] => vec![client.view_one(key)],
            _ => client.view(&slices),
        }
    })
}

/// Values where they lie, as read-only memoryviews.
pub(crate) fn view<'py>(
    py: Python<'py>,
    client: &BlockingClient,
    keys: &Keys,
) -> PyResult<Bound<'py, PyAny>> {
    let found = views(py, client, keys)?;
    answers(py, found.into_iter(), keys.is_one, say_view)
}

/// A value where it lies, or why there is none.
pub(crate) fn say_view(py: Python<'_>, found: Found<View>) -> PyResult<Bound<'_, PyAny>> {
    match found {
        Found::Hit(value) => Ok(PyMemoryView::from(&view::new(py, value)?)?.into_any()),
        Found::Miss(reason) => miss(py, reason),
    }
}

/// Values into memory; how many bytes each has.
pub(crate) fn get_into<'py>(
    py: Python<'py>,
    client: &BlockingClient,
    keys: &Keys,
    memory: &mut Memory,
) -> PyResult<Bound<'py, PyAny>> {
    let sizes: Vec<usize> = memory.sizes().collect();
    let results = steps(py, sizes.into_iter(), |numbers| get_some(client, keys, memory, numbers))?;
    answers(py, results.into_iter(), keys.is_one, size_or_miss)
}

/// Those with these numbers.
pub(crate) fn get_some(
    client: &BlockingClient,
    keys: &Keys,
    memory: &mut Memory,
    numbers: Range<usize>,
) -> Vec<Result<Found<usize>, Error>> {
    let named = numbers.clone().map(|number| keys.get(number));
    let mut reads: Vec<(&[u8], &mut [u8])> = named.zip(memory.writable(numbers)).collect();
    client.get_into(&mut reads)
}

pub(crate) fn size_or_miss<'py>(py: Python<'py>, found: Found<usize>) -> PyResult<Bound<'py, PyAny>> {
    match found {
        Found::Hit(bytes) => Ok(integer(py, bytes as u64).into_any()),
        Found::Miss(reason) => miss(py, reason),
    }
}

pub(crate) fn integer(py: Python<'_>, number: u64) -> Bound<'_, PyInt> {
    number.into_pyobject(py).unwrap_or_else(|never| match never {})
}
