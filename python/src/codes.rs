//! `snowskin._snowskin.Codes`: verbs that answer in numbers, as callers of Mooncake Store's API expect them: what `mooncake` is made of.
//!
//! 0 or a size is well, a negative number says what went wrong (`snowskin_protocol::Code`). Nothing is raised but for arguments of wrong types.
//! A key with wrong arguments has its code, and the others of the batch have theirs.

use crate::ask::{found, list_keys, say_keys};
use crate::code_replicas::{self, Begun, Held, Progress};
use crate::errors::raised;
use crate::ffi::buffer::{Buffer, Use};
use crate::ffi::fresh::Fresh;
use crate::ffi::lists::integers;
use crate::ffi::named::Named;
use crate::ffi::span::Span;
use crate::ffi::text::key_bytes;
use crate::ffi::view;
use crate::keys::Keys;
use crate::options::REPLICAS_MAX;
use crate::read::{values_of, views};
use crate::replicas::wait;
use crate::steps::steps;
use crate::store::{Desk, Handle, config_of};
use pyo3::prelude::{Bound, PyAny, PyResult, Python, pyclass, pymethods};
use pyo3::types::{PyBytes, PyDict};
use snowskin_client::{
    BlockingClient, Code, Error, Found, Member, PutOptions, PutOutcome, RemoveOutcome, RemovedCount, View,
};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const INVALID: i64 = Code::InvalidParameters as i64;
const NOT_FOUND: i64 = Code::ObjectNotFound as i64;
const LEASED: i64 = Code::ObjectHasLease as i64;
/// Not set up.
const CLOSED: i64 = INVALID;

/// What to do with objects besides storing them.
#[derive(Clone)]
#[pyclass(frozen, module = "snowskin._snowskin")]
pub(crate) struct PutSettings {
    pub(crate) replace: bool,
    shared: PutOptions,
    /// One for each object, if there are any.
    groups: Option<Vec<Vec<u8>>>,
}

#[pymethods]
impl PutSettings {
    /// `soft_pin_ms`: 0 for none. `keep_soft_pin`: that of what is replaced. `replicas`: how many in all. `groups`: one for each object.
    #[new]
    #[pyo3(signature = (*, replace = false, soft_pin_ms = 0, keep_soft_pin = false, hard_pin = false, replicas = 1, groups = None))]
    fn new(
        replace: bool,
        soft_pin_ms: u64,
        keep_soft_pin: bool,
        hard_pin: bool,
        replicas: u64,
        groups: Option<Vec<String>>,
    ) -> Self {
        let soft_pin = Some(Duration::from_millis(soft_pin_ms)).filter(|time| !time.is_zero());
        let more_replicas = replicas.clamp(1, REPLICAS_MAX as u64) as usize - 1;
        let shared = PutOptions { soft_pin, keep_soft_pin, hard_pin, more_replicas, ..PutOptions::default() };
        let groups = groups.map(|groups| groups.into_iter().map(String::into_bytes).collect());
        PutSettings { replace, shared, groups }
    }
}

impl PutSettings {
    /// Those of the object with this number.
    pub(crate) fn of_object(&self, number: usize) -> PutOptions {
        let group =
            self.groups.as_ref().and_then(|groups| groups.get(number)).filter(|group| !group.is_empty());
        PutOptions { group: group.cloned(), ..self.shared.clone() }
    }

    /// Whether there is nothing to say but whether to replace.
    pub(crate) fn is_plain(&self) -> bool {
        self.groups.is_none() && self.shared == PutOptions::default()
    }

    /// Whether there is a group for each of so many objects, or none at all.
    pub(crate) fn fits(&self, objects: usize) -> bool {
        self.groups.as_ref().is_none_or(|groups| groups.len() == objects)
    }
}

/// See the module's head.
#[pyclass(frozen, module = "snowskin._snowskin")]
pub(crate) struct Codes {
    pub(crate) desk: Desk,
}

impl Codes {
    /// The client, unless the store is closed or was made by the process that this one was forked from.
    fn handle(&self, py: Python<'_>) -> Option<Arc<Handle>> {
        self.desk.handle(py).ok()
    }
}

pub(crate) fn code_of_error(error: &Error) -> i64 {
    match error {
        // Mooncake Store says so of all three.
        Error::BufferTooSmall { .. } | Error::InvalidKey(_) | Error::EmptyValue => INVALID,
        error => error.code().number().into(),
    }
}

pub(crate) fn code_of_put(result: &Result<PutOutcome, Error>) -> i64 {
    match result {
        Ok(PutOutcome::Stored | PutOutcome::Existed) => 0,
        Err(error) => code_of_error(error),
    }
}

pub(crate) fn code_of_read<N: TryInto<i64>>(result: Result<Found<N>, Error>) -> i64 {
    match result {
        Ok(Found::Hit(bytes)) => bytes.try_into().unwrap_or(i64::MAX),
        Ok(Found::Miss(_)) | Err(Error::InvalidKey(_)) => NOT_FOUND,
        Err(error) => code_of_error(&error),
    }
}

/// The memory of objects, some for each key.
pub(crate) fn buffers_of(values: &[Vec<Bound<'_, PyAny>>]) -> PyResult<Vec<Vec<Buffer>>> {
    let own =
        |pieces: &Vec<Bound<'_, PyAny>>| pieces.iter().map(|piece| Buffer::of(piece, Use::Read)).collect();
    values.iter().map(own).collect()
}

pub(crate) fn code_of_exist(result: Result<Found<u64>, Error>) -> i64 {
    match result {
        Ok(Found::Hit(_)) => 1,
        Ok(Found::Miss(_)) | Err(Error::InvalidKey(_)) => 0,
        Err(error) => code_of_error(&error),
    }
}

pub(crate) fn code_of_removal(result: Result<RemoveOutcome, Error>) -> i64 {
    match result {
        Ok(RemoveOutcome::Removed) => 0,
        Ok(RemoveOutcome::Missing(_)) | Err(Error::InvalidKey(_)) => NOT_FOUND,
        Ok(RemoveOutcome::Leased) => LEASED,
        Err(error) => code_of_error(&error),
    }
}

pub(crate) fn code_of_count(result: Result<RemovedCount, Error>) -> i64 {
    match result {
        Ok(count) => count.removed.try_into().unwrap_or(i64::MAX),
        Err(error) => code_of_error(&error),
    }
}

/// A value as `bytes`; one that cannot be had is `b""`.
pub(crate) fn bytes_of<'py>(py: Python<'py>, value: Result<Found<Fresh>, Error>) -> Bound<'py, PyBytes> {
    match value {
        Ok(Found::Hit(fresh)) => fresh.into_bytes(py),
        Ok(Found::Miss(_)) | Err(_) => PyBytes::new(py, b""),
    }
}

/// A value where it lies; one that cannot be had is `None`.
pub(crate) fn view_of<'py>(
    py: Python<'py>,
    found: Result<Found<View>, Error>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match found {
        Ok(Found::Hit(value)) => view::new(py, value).map(Some),
        Ok(Found::Miss(_)) | Err(_) => Ok(None),
    }
}

/// Puts what may be put, in steps; the code of each.
fn put(
    py: Python<'_>,
    handle: &Handle,
    keys: &Keys,
    named: &Named,
    settings: &PutSettings,
) -> PyResult<Vec<i64>> {
    let mut codes = vec![INVALID; keys.count()];
    if !settings.fits(keys.count()) {
        return Ok(codes);
    }
    let usable = named.usable();
    let results = steps(py, usable.iter().map(|&number| named.bytes(number)), |step| {
        let numbers = &usable[step];
        put_pieces(handle.client(), keys, numbers, &named.readable(numbers), settings)
    })?;
    usable.iter().zip(&results).for_each(|(&number, result)| codes[number] = code_of_put(result));
    Ok(codes)
}

/// A key, the pieces of its value, and what to do with it.
type Item<'a> = (&'a [u8], &'a [&'a [u8]], PutOptions);

/// Puts the values of some keys, each in pieces.
fn put_pieces(
    client: &BlockingClient,
    keys: &Keys,
    numbers: &[usize],
    pieces: &[Vec<&[u8]>],
    settings: &PutSettings,
) -> Vec<Result<PutOutcome, Error>> {
    let named = numbers.iter().zip(pieces);
    if settings.is_plain() {
        let items: Vec<(&[u8], &[&[u8]])> =
            named.map(|(&number, pieces)| (keys.get(number), pieces.as_slice())).collect();
        return if settings.replace { client.upsert_parts(&items) } else { client.put_parts(&items) };
    }
    let item = |(&number, pieces)| (keys.get(number), Vec::as_slice(pieces), settings.of_object(number));
    let items: Vec<Item<'_>> = named.map(item).collect();
    if settings.replace { client.upsert_parts_with(&items) } else { client.put_parts_with(&items) }
}

/// Reads what may be read, in steps; the code of each.
fn get(py: Python<'_>, handle: &Handle, keys: &Keys, named: &mut Named) -> PyResult<Vec<i64>> {
    let mut codes = vec![INVALID; keys.count()];
    let usable = named.usable();
    let sizes: Vec<usize> = usable.iter().map(|&number| named.bytes(number)).collect();
    let results = steps(py, sizes.into_iter(), |step| {
        let numbers = &usable[step];
        match named.writable(numbers) {
            Some(rooms) => get_pieces(handle.client(), keys, numbers, rooms),
            // Whoever reads two values into the same bytes has the last one there.
            None => {
                numbers.iter().flat_map(|number| get_alone(handle.client(), keys, *number, named)).collect()
            }
        }
    })?;
    usable.iter().zip(results).for_each(|(&number, result)| codes[number] = code_of_read(result));
    Ok(codes)
}

fn get_alone(
    client: &BlockingClient,
    keys: &Keys,
    number: usize,
    named: &mut Named,
) -> Vec<Result<Found<usize>, Error>> {
    match named.writable(&[number]) {
        Some(room) => get_pieces(client, keys, &[number], room),
        // The pieces of one value overlap.
        None => vec![Err(Error::BufferTooSmall { needed: 0 })],
    }
}

/// Reads the values of some keys, each into pieces.
fn get_pieces(
    client: &BlockingClient,
    keys: &Keys,
    numbers: &[usize],
    mut rooms: Vec<Vec<&mut [u8]>>,
) -> Vec<Result<Found<usize>, Error>> {
    let named = numbers.iter().map(|&number| keys.get(number));
    if rooms.iter().all(|room| room.len() == 1) {
        let mut reads: Vec<(&[u8], &mut [u8])> = named.zip(rooms.into_iter().flatten()).collect();
        return client.get_into(&mut reads);
    }
    let mut reads: Vec<(&[u8], &mut [&mut [u8]])> =
        named.zip(rooms.iter_mut().map(Vec::as_mut_slice)).collect();
    client.get_parts_into(&mut reads)
}

#[pymethods]
impl Codes {
    /// Connects; raises if that is not possible.
    #[new]
    #[pyo3(signature = (seeds, **settings))]
    fn new(py: Python<'_>, seeds: &Bound<'_, PyAny>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Ok(Codes { desk: Desk::connect(py, config_of(py, seeds, settings)?)? })
    }

    /// The same, but waits for no engine: raises if the cluster has none.
    #[staticmethod]
    #[pyo3(signature = (seeds, **settings))]
    fn connect_now(
        py: Python<'_>,
        seeds: &Bound<'_, PyAny>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let config = config_of(py, seeds, settings)?;
        Ok(Codes { desk: Desk::connect_by(py, config, BlockingClient::connect_now)? })
    }

    fn close(&self, py: Python<'_>) {
        self.desk.close(py);
    }

    /// Whether calls can work at all.
    fn is_usable(&self, py: Python<'_>) -> bool {
        self.handle(py).is_some()
    }

    fn register(&self, py: Python<'_>, address: usize, size: usize) -> i64 {
        let Some(handle) = self.handle(py) else { return CLOSED };
        let is_taken = address > 0 && size > 0 && handle.regions.register(Span::new(address, size));
        if is_taken { 0 } else { INVALID }
    }

    fn unregister(&self, py: Python<'_>, address: usize) -> i64 {
        let Some(handle) = self.handle(py) else { return CLOSED };
        if handle.regions.unregister(address) { 0 } else { INVALID }
    }

    /// Puts values that lie at addresses.
    fn put_from(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        addresses: &Bound<'_, PyAny>,
        sizes: &Bound<'_, PyAny>,
        settings: &PutSettings,
    ) -> PyResult<Vec<i64>> {
        let keys = Keys::many(keys)?;
        let (starts, sizes) = (integers(addresses)?, integers(sizes)?);
        let Some(handle) = self.handle(py) else { return Ok(vec![CLOSED; keys.count()]) };
        match Named::of_one_each(&handle.regions, keys.count(), &starts, &sizes) {
            Some(named) => put(py, &handle, &keys, &named, settings),
            None => Ok(vec![INVALID; keys.count()]),
        }
    }

    /// Puts values that lie in pieces at addresses.
    fn put_pieces(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        addresses: Vec<Vec<usize>>,
        sizes: Vec<Vec<usize>>,
        settings: &PutSettings,
    ) -> PyResult<Vec<i64>> {
        let keys = Keys::many(keys)?;
        let Some(handle) = self.handle(py) else { return Ok(vec![CLOSED; keys.count()]) };
        match Named::of_pieces(&handle.regions, keys.count(), &addresses, &sizes) {
            Some(named) => put(py, &handle, &keys, &named, settings),
            None => Ok(vec![INVALID; keys.count()]),
        }
    }

    /// Puts values of objects with memory; `values` has a list of them for each key.
    fn put_values(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        values: Vec<Vec<Bound<'_, PyAny>>>,
        settings: &PutSettings,
    ) -> PyResult<Vec<i64>> {
        let keys = Keys::many(keys)?;
        let buffers = buffers_of(&values)?;
        let Some(handle) = self.handle(py) else { return Ok(vec![CLOSED; keys.count()]) };
        if buffers.len() != keys.count() || !settings.fits(keys.count()) {
            return Ok(vec![INVALID; keys.count()]);
        }
        let bytes = |pieces: &Vec<Buffer>| pieces.iter().map(|piece| piece.span().bytes()).sum();
        let results = steps(py, buffers.iter().map(bytes), |step| {
            let values = buffers[step.clone()].iter();
            let pieces: Vec<Vec<&[u8]>> =
                values.map(|pieces| pieces.iter().map(Buffer::readable).collect()).collect();
            put_pieces(handle.client(), &keys, &step.collect::<Vec<_>>(), &pieces, settings)
        })?;
        Ok(results.iter().map(code_of_put).collect())
    }

    /// Reads values into memory at addresses: how many bytes each has.
    fn get_to(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        addresses: &Bound<'_, PyAny>,
        sizes: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<i64>> {
        let keys = Keys::many(keys)?;
        let (starts, sizes) = (integers(addresses)?, integers(sizes)?);
        let Some(handle) = self.handle(py) else { return Ok(vec![CLOSED; keys.count()]) };
        match Named::of_one_each(&handle.regions, keys.count(), &starts, &sizes) {
            Some(mut named) => get(py, &handle, &keys, &mut named),
            None => Ok(vec![INVALID; keys.count()]),
        }
    }

    /// Reads values into pieces of memory at addresses.
    fn get_pieces(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        addresses: Vec<Vec<usize>>,
        sizes: Vec<Vec<usize>>,
    ) -> PyResult<Vec<i64>> {
        let keys = Keys::many(keys)?;
        let Some(handle) = self.handle(py) else { return Ok(vec![CLOSED; keys.count()]) };
        match Named::of_pieces(&handle.regions, keys.count(), &addresses, &sizes) {
            Some(mut named) => get(py, &handle, &keys, &mut named),
            None => Ok(vec![INVALID; keys.count()]),
        }
    }

    /// Values as `bytes`; those that cannot be had are `b""`.
    fn get<'py>(&self, py: Python<'py>, keys: &Bound<'_, PyAny>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let keys = Keys::many(keys)?;
        let nothing = || PyBytes::new(py, b"");
        let Some(handle) = self.handle(py) else { return Ok((0..keys.count()).map(|_| nothing()).collect()) };
        let values = values_of(py, handle.client(), &keys)?;
        Ok(values.into_iter().map(|value| bytes_of(py, value)).collect())
    }

    /// Values where they lie, as `View`; those that cannot be had are `None`.
    fn view<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let keys = Keys::many(keys)?;
        let Some(handle) = self.handle(py) else { return Ok((0..keys.count()).map(|_| None).collect()) };
        views(py, handle.client(), &keys)?.into_iter().map(|found| view_of(py, found)).collect()
    }

    /// How many bytes the values have.
    fn sizes(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<Vec<i64>> {
        let keys = Keys::many(keys)?;
        let Some(handle) = self.handle(py) else { return Ok(vec![CLOSED; keys.count()]) };
        Ok(found(py, handle.client(), &keys)?.into_iter().map(code_of_read).collect())
    }

    /// 1 for each key that is held, 0 for each that is not.
    fn exist(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<Vec<i64>> {
        let keys = Keys::many(keys)?;
        let Some(handle) = self.handle(py) else { return Ok(vec![CLOSED; keys.count()]) };
        Ok(found(py, handle.client(), &keys)?.into_iter().map(code_of_exist).collect())
    }

    /// 0 for each key that was removed.
    fn remove(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, force: bool) -> PyResult<Vec<i64>> {
        let keys = Keys::many(keys)?;
        let Some(handle) = self.handle(py) else { return Ok(vec![CLOSED; keys.count()]) };
        let results = py.detach(|| handle.client().remove(&keys.slices(), force));
        Ok(results.into_iter().map(code_of_removal).collect())
    }

    /// How many keys in which a regular expression is found were removed.
    fn remove_matching(&self, py: Python<'_>, pattern: &str, force: bool) -> i64 {
        let Some(handle) = self.handle(py) else { return CLOSED };
        code_of_count(py.detach(|| handle.client().remove_by_regex(pattern, force)))
    }

    /// Keys in which a regular expression is found, with the bytes of their values.
    fn keys<'py>(&self, py: Python<'py>, pattern: &str) -> PyResult<Bound<'py, PyAny>> {
        let handle = self.desk.handle(py)?;
        say_keys(py, list_keys(py, handle.client(), pattern)?)
    }

    /// Who has objects: bytes of the value or a code, and where the cores listen that have it. Grants no leases.
    fn holders(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<Vec<Held>> {
        let names = Keys::many(keys)?.to_vecs();
        let Some(handle) = self.handle(py) else { return Ok(vec![(CLOSED, Vec::new()); names.len()]) };
        Ok(py.detach(|| wait(code_replicas::holders(&handle.client().asynchronous(), names))))
    }

    /// Has an object copied to segments, or, with a source, moved from there: the two numbers of a task, and 0; or a code.
    #[pyo3(signature = (key, targets, source = None))]
    fn copy(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        targets: Vec<String>,
        source: Option<String>,
    ) -> PyResult<Begun> {
        let key = key_bytes(key)?.to_vec();
        let Some(handle) = self.handle(py) else { return Ok((0, 0, CLOSED)) };
        let client = handle.client().asynchronous();
        Ok(py.detach(|| wait(code_replicas::begin(&client, &key, &targets, source.as_ref()))))
    }

    /// How far a task is, and 0; or a code.
    fn task(&self, py: Python<'_>, high: u64, low: u64) -> (Option<Progress>, i64) {
        let Some(handle) = self.handle(py) else { return (None, CLOSED) };
        py.detach(|| wait(code_replicas::progress(&handle.client().asynchronous(), high, low)))
    }

    /// Has a segment give up objects; what nobody else has is removed. 0 for each that is not there any more.
    fn clear(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, segment: &str) -> PyResult<Vec<i64>> {
        let names = Keys::many(keys)?.to_vecs();
        let Some(handle) = self.handle(py) else { return Ok(vec![CLOSED; names.len()]) };
        Ok(py.detach(|| wait(code_replicas::clear(&handle.client().asynchronous(), names, segment))))
    }

    /// The cores of the cluster now, and where each listens.
    fn cores(&self, py: Python<'_>) -> PyResult<Vec<(String, String)>> {
        let Some(handle) = self.handle(py) else { return Ok(Vec::new()) };
        let table = py.detach(|| handle.client().fresh_table()).map_err(|error| raised(py, &error))?;
        let member = |member: &Member| (member.id.to_string(), member.address.to_string());
        Ok(table.members.iter().map(member).collect())
    }
}
