//! `snowskin._snowskin.Requests`: calls that do not wait ([`crate::mailbox`]), on objects with memory.
//!
//! `snowskin/aio.py` makes coroutines of them. Buffers are held until nothing reads or writes them any more, whoever still waits for the answer.

use crate::ask::{PAGE_KEYS, say_keys, stats_of};
use crate::errors::{answers, named, raised};
use crate::ffi::buffer::Use;
use crate::ffi::memory::{Memory, Room};
use crate::ffi::text::key_bytes;
use crate::keys::Keys;
use crate::mailbox::{Mailbox, Say};
use crate::options::{Options, duration};
use crate::ours::Ours;
use crate::outcomes::{miss, removal, removed_count};
use crate::read::{integer, say_view, size_or_miss, spread_bytes};
use crate::replicas;
use crate::store::{Store, config_of, forked, memory_of};
use pyo3::prelude::{Bound, IntoPyObject, PyAny, PyResult, Python, pyclass, pymethods};
use pyo3::types::{PyBool, PyDict, PyList};
use snowskin_client::{Client, Error, Found, PutOutcome};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

/// The client, as soon as there is one.
type Slot = Arc<Mutex<Option<Ours<Client>>>>;

/// See the module's head.
#[pyclass(frozen, module = "snowskin._snowskin")]
pub(crate) struct Requests {
    client: Slot,
    mailbox: Mailbox,
}

impl Requests {
    fn of(client: Option<Client>) -> PyResult<Self> {
        let client = Arc::new(Mutex::new(client.map(Ours::new)));
        Ok(Requests { client, mailbox: Mailbox::new()? })
    }

    fn client(&self, py: Python<'_>, deadline: Option<f64>) -> PyResult<Client> {
        let client = match self.client.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            None => Err(named(py, "ClosedError", "the store is closed, or not connected yet")),
            Some(ours) => ours.get().cloned().ok_or_else(|| forked(py)),
        }?;
        match deadline {
            None => Ok(client),
            Some(seconds) => Ok(client.with_deadline(duration("deadline", seconds)?)),
        }
    }

    fn launch(&self, py: Python<'_>, future: impl Future<Output = Say> + Send + 'static) -> u64 {
        self.mailbox.launch(py, future)
    }

    /// The same of a batch, with an answer for each key.
    fn launch_batch<T: Send + 'static>(
        &self,
        py: Python<'_>,
        is_one: bool,
        future: impl Future<Output = Vec<Result<T, Error>>> + Send + 'static,
        say: impl for<'py> FnMut(Python<'py>, T) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
    ) -> u64 {
        self.launch(py, async move {
            let results = future.await;
            Box::new(move |py: Python<'_>| answers(py, results.into_iter(), is_one, say).map(Bound::unbind))
                as Say
        })
    }
}

fn say_stored(py: Python<'_>, outcome: PutOutcome) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyBool::new(py, outcome == PutOutcome::Stored).to_owned().into_any())
}

fn say_size(py: Python<'_>, found: Found<u64>) -> PyResult<Bound<'_, PyAny>> {
    match found {
        Found::Hit(bytes) => Ok(integer(py, bytes).into_any()),
        Found::Miss(reason) => miss(py, reason),
    }
}

fn say_held(py: Python<'_>, found: Found<u64>) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyBool::new(py, matches!(found, Found::Hit(_))).to_owned().into_any())
}

fn say_count(py: Python<'_>, count: usize) -> PyResult<Bound<'_, PyAny>> {
    Ok(integer(py, count as u64).into_any())
}

/// One answer, or why there is none.
fn say_one<T: Send + 'static>(
    result: Result<T, Error>,
    say: impl for<'py> FnOnce(Python<'py>, T) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
) -> Say {
    Box::new(move |py: Python<'_>| match result {
        Ok(answer) => say(py, answer).map(Bound::unbind),
        Err(error) => Err(raised(py, &error)),
    })
}

#[pymethods]
impl Requests {
    /// Not connected: `submit_connect` does that.
    #[new]
    fn new() -> PyResult<Self> {
        Requests::of(None)
    }

    /// With the connections of a store.
    #[staticmethod]
    fn beside(py: Python<'_>, store: &Bound<'_, Store>) -> PyResult<Self> {
        Requests::of(Some(store.get().desk.handle(py)?.client().asynchronous()))
    }

    /// Readable when something can be drained.
    fn fileno(&self) -> i32 {
        self.mailbox.fileno()
    }

    /// Answers that have come: the number of each request, whether it went well, and the answer or exception.
    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.mailbox.drain(py)
    }

    fn close(&self, py: Python<'_>) {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(client));
    }

    #[pyo3(signature = (seeds, **settings))]
    fn submit_connect(
        &self,
        py: Python<'_>,
        seeds: &Bound<'_, PyAny>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        let config = config_of(py, seeds, settings)?;
        let slot = self.client.clone();
        Ok(self.launch(py, async move {
            let connected = Client::connect(config).await.map(|client| {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Ours::new(client));
            });
            say_one(connected, |py, ()| Ok(py.None().into_bound(py)))
        }))
    }

    #[pyo3(signature = (keys, values, **options))]
    fn submit_put(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        let keys = Keys::of(keys)?;
        let memory: Memory = memory_of(&keys, values, Use::Read)?;
        let options = Options::of(options, &keys)?;
        let client = self.client(py, options.deadline)?;
        let is_one = keys.is_one;
        let values = memory.into_bytes();
        let item = |(number, value)| (keys.get(number).to_vec(), value, options.of_object(&keys, number));
        let items: Vec<_> = values.into_iter().enumerate().map(item).collect();
        let put = async move {
            if options.replace { client.upsert_with(items).await } else { client.put_with(items).await }
        };
        Ok(self.launch_batch(py, is_one, put, say_stored))
    }

    #[pyo3(signature = (keys, *, deadline = None))]
    fn submit_get(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, deadline: Option<f64>) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        let keys = Keys::of(keys)?;
        let (names, is_one) = (keys.to_vecs(), keys.is_one);
        Ok(self.launch(py, async move {
            let found = client.view(names).await;
            Box::new(move |py: Python<'_>| {
                spread_bytes(py, &client.blocking(), &keys, found, is_one).map(Bound::unbind)
            }) as Say
        }))
    }

    #[pyo3(signature = (keys, buffers, *, deadline = None))]
    fn submit_get_into(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        buffers: &Bound<'_, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        let keys = Keys::of(keys)?;
        let rooms = memory_of(&keys, buffers, Use::Write)?.into_rooms();
        let (is_one, reads) = (keys.is_one, keys.to_vecs().into_iter().zip(rooms).collect());
        Ok(self.launch(py, async move {
            // The rooms come back when nothing writes into them any more, and go where the interpreter is held.
            let (rooms, results): (Vec<Room>, Vec<_>) = client.get_into(reads).await.into_iter().unzip();
            Box::new(move |py: Python<'_>| {
                drop(rooms);
                answers(py, results.into_iter(), is_one, size_or_miss).map(Bound::unbind)
            }) as Say
        }))
    }

    #[pyo3(signature = (keys, *, deadline = None))]
    fn submit_view(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, deadline: Option<f64>) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        let keys = Keys::of(keys)?;
        let (names, is_one) = (keys.to_vecs(), keys.is_one);
        Ok(self.launch_batch(py, is_one, async move { client.view(names).await }, say_view))
    }

    #[pyo3(signature = (keys, *, deadline = None))]
    fn submit_lookup(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, deadline: Option<f64>) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        let keys = Keys::of(keys)?;
        let (names, is_one) = (keys.to_vecs(), keys.is_one);
        Ok(self.launch_batch(py, is_one, async move { client.lookup(names).await }, say_size))
    }

    #[pyo3(signature = (keys, *, deadline = None))]
    fn submit_exists(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, deadline: Option<f64>) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        let keys = Keys::of(keys)?;
        let (names, is_one) = (keys.to_vecs(), keys.is_one);
        Ok(self.launch_batch(py, is_one, async move { client.lookup(names).await }, say_held))
    }

    #[pyo3(signature = (keys, *, deadline = None))]
    fn submit_match_prefix(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        let names = Keys::many(keys)?.to_vecs();
        Ok(self.launch(py, async move { say_one(client.match_prefix(names).await, say_count) }))
    }

    #[pyo3(signature = (keys, *, force = false, deadline = None))]
    fn submit_remove(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        force: bool,
        deadline: Option<f64>,
    ) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        let keys = Keys::of(keys)?;
        let (names, is_one) = (keys.to_vecs(), keys.is_one);
        let remove = async move { client.remove(names, force).await };
        Ok(self.launch_batch(py, is_one, remove, |py, outcome| removal(py, &outcome)))
    }

    #[pyo3(signature = (pattern, *, force = false, deadline = None))]
    fn submit_remove_matching(
        &self,
        py: Python<'_>,
        pattern: String,
        force: bool,
        deadline: Option<f64>,
    ) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        Ok(self
            .launch(py, async move { say_one(client.remove_by_regex(pattern, force).await, removed_count) }))
    }

    #[pyo3(signature = (pattern, *, deadline = None))]
    fn submit_list_keys(&self, py: Python<'_>, pattern: String, deadline: Option<f64>) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        Ok(self.launch(py, async move {
            let (mut keys, mut after) = (Vec::new(), None);
            let listed = loop {
                match client.list_keys(pattern.clone(), PAGE_KEYS, after).await {
                    Ok(page) => {
                        keys.extend(page.keys);
                        after = page.next;
                    }
                    Err(error) => break Err(error),
                }
                if after.is_none() {
                    break Ok(keys);
                }
            };
            say_one(listed, say_keys)
        }))
    }

    #[pyo3(signature = (keys, *, deadline = None))]
    fn submit_holders(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        Ok(self.launch(py, replicas::holders(client, Keys::of(keys)?)))
    }

    /// With a source, the object moves.
    #[pyo3(signature = (key, targets, source, *, deadline = None))]
    fn submit_copy(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        targets: &Bound<'_, PyAny>,
        source: Option<String>,
        deadline: Option<f64>,
    ) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        let (key, targets) = (key_bytes(key)?.to_vec(), replicas::names_of(targets)?);
        Ok(self.launch(py, replicas::start(client, key, targets, source)))
    }

    #[pyo3(signature = (task, *, deadline = None))]
    fn submit_task(&self, py: Python<'_>, task: (String, u64), deadline: Option<f64>) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        Ok(self.launch(py, replicas::progress(client, task.0, task.1)))
    }

    #[pyo3(signature = (key, core, *, deadline = None))]
    fn submit_give_up(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        core: String,
        deadline: Option<f64>,
    ) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        Ok(self.launch(py, replicas::give_up(client, key_bytes(key)?.to_vec(), core)))
    }

    #[pyo3(signature = (*, deadline = None))]
    fn submit_stats(&self, py: Python<'_>, deadline: Option<f64>) -> PyResult<u64> {
        let client = self.client(py, deadline)?;
        Ok(self.launch(py, async move {
            let cores = client.stats().await;
            let counters = client.counters().await;
            say_one(cores, move |py, cores| Ok(stats_of(py, cores, &counters)?.into_pyobject(py)?.into_any()))
        }))
    }
}
