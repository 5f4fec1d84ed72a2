//! `snowskin.Store`: the blocking client. Every call gives the interpreter back before it works.

use crate::ask;
use crate::errors::{named, raised};
use crate::ffi::buffer::Use;
use crate::ffi::memory::{Memory, Regions};
use crate::ffi::span::Span;
use crate::ffi::text::key_bytes;
use crate::ffi::view;
use crate::keys::Keys;
use crate::options::{Options, duration};
use crate::ours::Ours;
use crate::{read, replicas, write};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::{Bound, Py, PyAny, PyAnyMethods, PyErr, PyResult, Python, pyclass, pymethods};
use pyo3::types::{PyDict, PyString};
use snowskin_client::{BlockingClient, ClientConfig, Error, Transport};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A client, and what callers have registered with it.
pub(crate) struct Handle {
    client: BlockingClient,
    pub(crate) regions: Regions,
}

impl Handle {
    pub(crate) fn client(&self) -> &BlockingClient {
        &self.client
    }

    /// The client with another deadline, if one is given.
    pub(crate) fn within(&self, deadline: Option<f64>) -> PyResult<BlockingClient> {
        match deadline {
            None => Ok(self.client.clone()),
            Some(seconds) => Ok(self.client.with_deadline(duration("deadline", seconds)?)),
        }
    }
}

/// Where the client is, until the store is closed.
pub(crate) struct Desk(Mutex<Option<Ours<Arc<Handle>>>>);

impl Desk {
    pub(crate) fn connect(py: Python<'_>, config: ClientConfig) -> PyResult<Desk> {
        Desk::connect_by(py, config, BlockingClient::connect)
    }

    /// Connects in a way of connecting.
    pub(crate) fn connect_by(
        py: Python<'_>,
        config: ClientConfig,
        connect: fn(ClientConfig) -> Result<BlockingClient, Error>,
    ) -> PyResult<Desk> {
        let client = py.detach(|| connect(config)).map_err(|error| raised(py, &error))?;
        let handle = Handle { client, regions: Regions::default() };
        Ok(Desk(Mutex::new(Some(Ours::new(Arc::new(handle))))))
    }

    /// The same client, at another desk, which is closed for itself.
    pub(crate) fn beside(&self, py: Python<'_>) -> PyResult<Desk> {
        Ok(Desk(Mutex::new(Some(Ours::new(self.handle(py)?)))))
    }

    pub(crate) fn handle(&self, py: Python<'_>) -> PyResult<Arc<Handle>> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            None => Err(named(py, "ClosedError", "the store is closed: make another one")),
            Some(ours) => ours.get().cloned().ok_or_else(|| forked(py)),
        }
    }

    pub(crate) fn close(&self, py: Python<'_>) {
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(handle));
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// A client of a cluster. Any number of threads may use it at once; every call gives the interpreter back while it works.
///
/// `seeds` are addresses such as `"127.0.0.1:7300"`: of masters, or of any cores of engines. Several with commas, or a list. Waits for the first
/// engine until the deadline; that nobody can be reached, it says at once.
///
/// A call on one key (`str`, which is taken as UTF-8, or `bytes`; 1 to 4,096 bytes without NUL) answers one thing, and raises what went wrong.
/// A call on a list of keys answers a list in the same order; if anything went wrong with some of them, it raises `BatchError`, whose `outcomes`
/// has the answers of the others. A key that is not held is a `Miss`, which is false.
///
/// What went wrong: `snowskin.errors`. A call that ends with `DeadlineError` or `BrokenError` may have happened.
#[pyclass(frozen, module = "snowskin", name = "Store", subclass)]
pub(crate) struct Store {
    pub(crate) desk: Desk,
    words: String,
}

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (seeds, **settings))]
    fn new(
        py: Python<'_>,
        seeds: &Bound<'_, PyAny>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Store> {
        let config = config_of(py, seeds, settings)?;
        let listed: Vec<String> = config.seeds.iter().map(ToString::to_string).collect();
        let words = format!("snowskin.Store({:?}, tenant={:?})", listed.join(","), config.tenant);
        Ok(Store { desk: Desk::connect(py, config)?, words })
    }

    /// Stores values whose keys are not held: True for each that was stored, False for each whose key was held already.
    ///
    /// Values are anything with contiguous memory: `bytes`, `bytearray`, `memoryview`, numpy arrays, tensors on the CPU. They go out straight
    /// from where they are. A long batch goes in steps, between which an interrupt ends it.
    #[pyo3(signature = (keys, values, **options))]
    fn put<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        values: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let handle = self.desk.handle(py)?;
        let keys = Keys::of(keys)?;
        let memory = memory_of(&keys, values, Use::Read)?;
        write::put(py, &handle, &keys, &memory, &Options::of(options, &keys)?)
    }

    /// Stores values that lie at addresses in registered memory.
    #[pyo3(signature = (keys, addresses, sizes, **options))]
    fn put_from<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        addresses: &Bound<'py, PyAny>,
        sizes: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let handle = self.desk.handle(py)?;
        let keys = Keys::many(keys)?;
        let memory = Memory::of_addresses(py, &handle.regions, addresses, sizes, Use::Read, keys.count())?;
        write::put(py, &handle, &keys, &memory, &Options::of(options, &keys)?)
    }

    /// Reads values into fresh `bytes`: one copy, checksums compared on the way.
    #[pyo3(signature = (keys, *, deadline = None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?;
        read::get(py, &client, &Keys::of(keys)?)
    }

    /// Reads values into writable buffers, without a copy in between; answers how many bytes each value has.
    ///
    /// What a buffer holds whose read did not hit means nothing. When the call returns, nothing writes into the buffers any more.
    #[pyo3(signature = (keys, buffers, *, deadline = None))]
    fn get_into<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        buffers: &Bound<'py, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?;
        let keys = Keys::of(keys)?;
        let mut memory = memory_of(&keys, buffers, Use::Write)?;
        read::get_into(py, &client, &keys, &mut memory)
    }

    /// Reads values to addresses in registered memory; answers how many bytes each value has.
    #[pyo3(signature = (keys, addresses, sizes, *, deadline = None))]
    fn get_to<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        addresses: &Bound<'py, PyAny>,
        sizes: &Bound<'py, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let handle = self.desk.handle(py)?;
        let client = handle.within(deadline)?;
        let keys = Keys::many(keys)?;
        let mut memory =
            Memory::of_addresses(py, &handle.regions, addresses, sizes, Use::Write, keys.count())?;
        read::get_into(py, &client, &keys, &mut memory)
    }

    /// Reads values where they lie: in the memory of engines on this machine, without a copy; of others, a copy.
    ///
    /// A read-only memoryview holds a pin: the engine keeps the bytes until it is released, also if the value is removed, replaced or evicted
    /// meanwhile, or the store is closed. Bytes in place are not compared with their checksum: see `View.is_intact`.
    #[pyo3(signature = (keys, *, deadline = None))]
    fn view<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?;
        read::view(py, &client, &Keys::of(keys)?)
    }

    /// How many bytes the values have. Grants leases: what was found is not evicted for a while.
    #[pyo3(signature = (keys, *, deadline = None))]
    fn lookup<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?;
        ask::lookup(py, &client, &Keys::of(keys)?)
    }

    /// Whether keys are held. Grants leases.
    #[pyo3(signature = (keys, *, deadline = None))]
    fn exists<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?;
        ask::exists(py, &client, &Keys::of(keys)?)
    }

    /// How many leading keys are held. Grants leases on those.
    #[pyo3(signature = (keys, *, deadline = None))]
    fn match_prefix(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<usize> {
        let client = self.desk.handle(py)?.within(deadline)?;
        ask::match_prefix(py, &client, &Keys::many(keys)?)
    }

    /// Removes keys; with `force` those too that a lease protects.
    #[pyo3(signature = (keys, *, force = false, deadline = None))]
    fn remove<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        force: bool,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?;
        ask::remove(py, &client, &Keys::of(keys)?, force)
    }

    /// Removes all keys of the tenant in which a regular expression is found.
    #[pyo3(signature = (pattern, *, force = false, deadline = None))]
    fn remove_matching<'py>(
        &self,
        py: Python<'py>,
        pattern: &str,
        force: bool,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?;
        ask::remove_matching(py, &client, pattern, force)
    }

    /// Removes all keys of the tenant.
    #[pyo3(signature = (*, force = false, deadline = None))]
    fn remove_all<'py>(
        &self,
        py: Python<'py>,
        force: bool,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?;
        ask::remove_matching(py, &client, "", force)
    }

    /// The keys of the tenant in which a regular expression is found, all of them if there is none, each with the bytes of its value.
    ///
    /// For people and their tools: it looks at all objects. Grants no leases. `KeysMovedError` says that slots have changed hands meanwhile.
    #[pyo3(signature = (pattern = "", *, deadline = None))]
    fn list_keys<'py>(
        &self,
        py: Python<'py>,
        pattern: &str,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?;
        let keys = ask::list_keys(py, &client, pattern)?;
        ask::say_keys(py, keys)
    }

    /// Counters: `"cores"` has a dictionary for each core of the cluster (or its `"error"`), `"client"` has those of this store.
    #[pyo3(signature = (*, deadline = None))]
    fn stats<'py>(&self, py: Python<'py>, deadline: Option<f64>) -> PyResult<Bound<'py, PyDict>> {
        let client = self.desk.handle(py)?.within(deadline)?;
        ask::stats(py, &client)
    }

    /// Who has objects: the bytes of the value, and the names of the cores that have it, as `stats` has them; first the one that readers are
    /// sent to. Grants no leases.
    #[pyo3(signature = (keys, *, deadline = None))]
    fn holders(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, deadline: Option<f64>) -> PyResult<Py<PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?.asynchronous();
        replicas::answer(py, replicas::holders(client, Keys::of(keys)?))
    }

    /// Begins to copy an object to cores, which are named as `stats` has them, or by where they listen: the task, or a `Miss`.
    ///
    /// Any core of an engine stands for the engine: where it has the object already, nothing is copied.
    #[pyo3(signature = (key, targets, *, deadline = None))]
    fn copy(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        targets: &Bound<'_, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?.asynchronous();
        let (key, targets) = (key_bytes(key)?.to_vec(), replicas::names_of(targets)?);
        replicas::answer(py, replicas::start(client, key, targets, None))
    }

    /// Begins to move an object from the engine of one core to another's: as `copy`, and then the first one gives it up.
    #[pyo3(name = "move", signature = (key, source, target, *, deadline = None))]
    fn move_to(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        source: String,
        target: String,
        deadline: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?.asynchronous();
        let key = key_bytes(key)?.to_vec();
        replicas::answer(py, replicas::start(client, key, vec![target], Some(source)))
    }

    /// How far a task of `copy` or `move` is; None if it is not known any more. The newest some thousand of a core are remembered.
    #[pyo3(signature = (task, *, deadline = None))]
    fn task(&self, py: Python<'_>, task: (String, u64), deadline: Option<f64>) -> PyResult<Py<PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?.asynchronous();
        replicas::answer(py, replicas::progress(client, task.0, task.1))
    }

    /// Has the engine of a core give up an object that others have, too: whether it did. False: it did not have it, or nobody else has.
    #[pyo3(signature = (key, core, *, deadline = None))]
    fn give_up(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        core: String,
        deadline: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let client = self.desk.handle(py)?.within(deadline)?.asynchronous();
        replicas::answer(py, replicas::give_up(client, key_bytes(key)?.to_vec(), core))
    }

    /// From now on `put_from` and `get_to` may use these bytes. They must stay mapped until they are unregistered.
    fn register(&self, py: Python<'_>, address: usize, size: usize) -> PyResult<()> {
        let handle = self.desk.handle(py)?;
        let span = Span::new(address, size);
        if address == 0 || size == 0 {
            return Err(PyValueError::new_err("memory to register has an address and at least one byte"));
        }
        match handle.regions.register(span) {
            true => Ok(()),
            false => {
                let words = format!("{span} overlap memory that is registered already: unregister it first");
                Err(PyValueError::new_err(words))
            }
        }
    }

    /// Forgets the memory that begins there.
    fn unregister(&self, py: Python<'_>, address: usize) -> PyResult<()> {
        match self.desk.handle(py)?.regions.unregister(address) {
            true => Ok(()),
            false => {
                let words = format!("no registered memory begins at {address:#x}");
                Err(named(py, "BufferNotRegisteredError", &words))
            }
        }
    }

    /// Ends it. Views stay valid; calls raise `ClosedError`. Calls of other threads that are under way go on to their end.
    fn close(&self, py: Python<'_>) {
        self.desk.close(py);
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.desk.is_closed()
    }

    fn __enter__<'py>(slf: Bound<'py, Self>) -> Bound<'py, Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) {
        self.desk.close(py);
    }

    fn __repr__(&self) -> String {
        if self.desk.is_closed() { format!("<closed {}>", self.words) } else { format!("<{}>", self.words) }
    }

    fn __reduce__(&self) -> PyResult<Py<PyAny>> {
        let words = "a store cannot be pickled: make one in each process";
        Err(PyTypeError::new_err(words))
    }
}

/// What was made before a fork was asked of the forked process.
pub(crate) fn forked(py: Python<'_>) -> PyErr {
    named(py, "ForkedError", "this process was forked after the store was made: make one here")
}

/// Buffers of objects for keys: one for one, a list for a list.
pub(crate) fn memory_of(keys: &Keys, objects: &Bound<'_, PyAny>, purpose: Use) -> PyResult<Memory> {
    match keys.is_one {
        true => Memory::of_one(objects, purpose),
        false => Memory::of_many(objects, purpose, keys.count()),
    }
}

/// Addresses such as `host:port`: one, several with commas, or a list. Names are looked up.
fn seeds_of(py: Python<'_>, seeds: &Bound<'_, PyAny>) -> PyResult<Vec<SocketAddr>> {
    let listed: Vec<String> = match seeds.cast::<PyString>() {
        Ok(text) => text.to_string().split(',').map(|seed| seed.trim().to_owned()).collect(),
        Err(_) => seeds.extract().map_err(|_| {
            PyTypeError::new_err("seeds are \"host:port\", several with commas, or a list of these")
        })?,
    };
    let mut addresses = Vec::new();
    for seed in listed {
        let found = py.detach(|| seed.to_socket_addrs().map(|found| found.collect::<Vec<_>>()));
        addresses.extend(found.map_err(|error| {
            PyValueError::new_err(format!("{seed:?} is no address such as 127.0.0.1:7300: {error}"))
        })?);
    }
    match addresses.is_empty() {
        false => Ok(addresses),
        true => Err(PyValueError::new_err("no seeds: name a master or an engine, such as 127.0.0.1:7300")),
    }
}

/// Whom to ask, and how. A setting that is not known is refused.
pub(crate) fn config_of(
    py: Python<'_>,
    seeds: &Bound<'_, PyAny>,
    settings: Option<&Bound<'_, PyDict>>,
) -> PyResult<ClientConfig> {
    let mut config = ClientConfig::new(seeds_of(py, seeds)?);
    for (name, value) in settings.into_iter().flatten() {
        let name: String = name.extract()?;
        match name.as_str() {
            "tenant" => config.tenant = value.extract()?,
            "deadline" => config.deadline = duration("deadline", value.extract()?)?,
            "verify" => config.verify = value.extract()?,
            "transport" => {
                let text: String = value.extract()?;
                config.transport = text.parse::<Transport>().map_err(PyValueError::new_err)?;
            }
            "local_sockets" if value.is_none() => {}
            "local_sockets" => config.local_sockets = value.extract()?,
            "copy_helpers" => config.copy_helpers = value.extract()?,
            "spin" => config.spin = spin_of(value.extract()?)?,
            _ => {
                let words = format!(
                    "there is no setting {name:?}: use tenant, deadline, verify, transport, local_sockets, copy_helpers or spin"
                );
                return Err(PyTypeError::new_err(words));
            }
        }
    }
    Ok(config)
}

fn spin_of(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("spin is a time in seconds, or 0, not {seconds}")))
}

/// The class of views, for the module.
pub(crate) fn view_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    Ok(view::class(py)?.clone().into_any())
}
