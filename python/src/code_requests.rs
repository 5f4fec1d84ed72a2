//! `snowskin._snowskin.CodeRequests`: the verbs of [`crate::codes::Codes`] as calls that do not wait ([`crate::mailbox`]).
//!
//! They are answered in the same numbers, by the same client: what a store has connected to and registered is there for both. `snowskin/mooncake/loops.py`
//! makes coroutines of them. Memory is held until nothing reads or writes it any more, whoever still waits for the answer.

use crate::code_replicas;
use crate::codes::{
    Codes, INVALID, PutSettings, buffers_of, bytes_of, code_of_count, code_of_exist, code_of_put,
    code_of_read, code_of_removal, view_of,
};
use crate::errors::raised;
use crate::ffi::copies::Copies;
use crate::ffi::lists::integers;
use crate::ffi::memory::Room;
use crate::ffi::named::Named;
use crate::ffi::text::key_bytes;
use crate::ffi::view::Held;
use crate::keys::Keys;
use crate::mailbox::{Mailbox, Say};
use crate::read::copied;
use crate::steps::cut;
use crate::store::{Desk, Handle};
use bytes::Bytes;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::{Bound, IntoPyObject, PyAny, PyResult, Python, pyclass, pymethods};
use pyo3::types::PyList;
use snowskin_client::{Client, Error};
use std::future::Future;
use std::sync::Arc;

/// See the module's head.
#[pyclass(frozen, module = "snowskin._snowskin")]
pub(crate) struct CodeRequests {
    desk: Desk,
    mailbox: Mailbox,
}

impl CodeRequests {
    /// Has a future run that answers numbers.
    fn launch(&self, py: Python<'_>, future: impl Future<Output = Vec<i64>> + Send + 'static) -> u64 {
        self.mailbox.launch(py, async move { say_codes(future.await, ()) })
    }

    /// Has values put. `None`: the lists of the call do not fit.
    fn launch_put(
        &self,
        py: Python<'_>,
        handle: &Handle,
        keys: Keys,
        named: Option<Named>,
        settings: &PutSettings,
    ) -> u64 {
        let (client, settings) = (handle.client().asynchronous(), settings.clone());
        let Some(named) = named.filter(|_| settings.fits(keys.count())) else {
            return self.launch(py, async move { vec![INVALID; keys.count()] });
        };
        self.mailbox.launch(py, async move {
            let kept = named.kept();
            say_codes(put(&client, &keys, named, &settings).await, kept)
        })
    }

    /// Has values read. `None`: the lists of the call do not fit.
    fn launch_get(&self, py: Python<'_>, handle: &Handle, keys: Keys, named: Option<Named>) -> u64 {
        let client = handle.client().asynchronous();
        let Some(named) = named else {
            return self.launch(py, async move { vec![INVALID; keys.count()] });
        };
        self.launch(py, async move { get(&client, &keys, named).await })
    }
}

/// Numbers as an answer, with what is let go of where the interpreter is held.
fn say_codes(codes: Vec<i64>, kept: impl Send + 'static) -> Say {
    Box::new(move |py: Python<'_>| {
        drop(kept);
        Ok(PyList::new(py, codes)?.into_any().unbind())
    })
}

/// An answer that needs no more of the interpreter than to be made.
fn say<T: for<'py> IntoPyObject<'py> + Send + 'static>(answer: Result<T, Error>) -> Say {
    Box::new(move |py: Python<'_>| {
        let answer = answer.map_err(|error| raised(py, &error))?;
        answer.into_py_any(py)
    })
}

/// Puts what may be put, in steps; the code of each.
async fn put(client: &Client, keys: &Keys, named: Named, settings: &PutSettings) -> Vec<i64> {
    let mut codes = vec![INVALID; keys.count()];
    let usable = named.usable();
    let steps: Vec<_> = cut(usable.iter().map(|&number| named.bytes(number))).collect();
    for step in steps {
        let numbers = &usable[step];
        let key = |number: usize| keys.get(number).to_vec();
        let results = if settings.is_plain() {
            let items: Vec<(Vec<u8>, Vec<Bytes>)> =
                numbers.iter().map(|&number| (key(number), named.pieces(number))).collect();
            if settings.replace { client.upsert_parts(items).await } else { client.put_parts(items).await }
        } else {
            let item = |&number: &usize| (key(number), named.pieces(number), settings.of_object(number));
            let items: Vec<_> = numbers.iter().map(item).collect();
            match settings.replace {
                true => client.upsert_parts_with(items).await,
                false => client.put_parts_with(items).await,
            }
        };
        numbers.iter().zip(&results).for_each(|(&number, result)| codes[number] = code_of_put(result));
    }
    codes
}

/// Reads what may be read, in steps; the code of each.
async fn get(client: &Client, keys: &Keys, mut named: Named) -> Vec<i64> {
    let mut codes = vec![INVALID; keys.count()];
    let usable = named.usable();
    let steps: Vec<_> = cut(usable.iter().map(|&number| named.bytes(number))).collect();
    for step in steps {
        let numbers = &usable[step];
        if let Some(rooms) = named.rooms(numbers) {
            read(client, keys, numbers, rooms, &mut codes).await;
            continue;
        }
        // Whoever reads two values into the same bytes has the last one there; the pieces of one value may not overlap.
        for &number in numbers {
            if let Some(rooms) = named.rooms(&[number]) {
                read(client, keys, &[number], rooms, &mut codes).await;
            }
        }
    }
    codes
}

/// Reads the values of some keys into rooms, which are given up when it ends.
async fn read(client: &Client, keys: &Keys, numbers: &[usize], rooms: Vec<Vec<Room>>, codes: &mut [i64]) {
    let reads = numbers.iter().map(|&number| keys.get(number).to_vec()).zip(rooms).collect();
    for (&number, (_, result)) in numbers.iter().zip(client.get_parts_into(reads).await) {
        codes[number] = code_of_read(result);
    }
}

#[pymethods]
impl CodeRequests {
    /// With the client of a store.
    #[new]
    fn new(py: Python<'_>, codes: &Bound<'_, Codes>) -> PyResult<Self> {
        Ok(CodeRequests { desk: codes.get().desk.beside(py)?, mailbox: Mailbox::new()? })
    }

    /// Readable when something can be drained.
    fn fileno(&self) -> i32 {
        self.mailbox.fileno()
    }

    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.mailbox.drain(py)
    }

    fn close(&self, py: Python<'_>) {
        self.desk.close(py);
    }

    fn submit_put_from(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        addresses: &Bound<'_, PyAny>,
        sizes: &Bound<'_, PyAny>,
        settings: &PutSettings,
    ) -> PyResult<u64> {
        let (keys, starts, sizes) = (Keys::many(keys)?, integers(addresses)?, integers(sizes)?);
        let handle = self.desk.handle(py)?;
        let named = Named::of_one_each(&handle.regions, keys.count(), &starts, &sizes);
        Ok(self.launch_put(py, &handle, keys, named, settings))
    }

    fn submit_put_pieces(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        addresses: Vec<Vec<usize>>,
        sizes: Vec<Vec<usize>>,
        settings: &PutSettings,
    ) -> PyResult<u64> {
        let (keys, handle) = (Keys::many(keys)?, self.desk.handle(py)?);
        let named = Named::of_pieces(&handle.regions, keys.count(), &addresses, &sizes);
        Ok(self.launch_put(py, &handle, keys, named, settings))
    }

    fn submit_put_values(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        values: Vec<Vec<Bound<'_, PyAny>>>,
        settings: &PutSettings,
    ) -> PyResult<u64> {
        let keys = Keys::many(keys)?;
        let named = Named::of_objects(buffers_of(&values)?);
        let handle = self.desk.handle(py)?;
        let named = (values.len() == keys.count()).then_some(named);
        Ok(self.launch_put(py, &handle, keys, named, settings))
    }

    fn submit_get_to(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        addresses: &Bound<'_, PyAny>,
        sizes: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let (keys, starts, sizes) = (Keys::many(keys)?, integers(addresses)?, integers(sizes)?);
        let handle = self.desk.handle(py)?;
        let named = Named::of_one_each(&handle.regions, keys.count(), &starts, &sizes);
        Ok(self.launch_get(py, &handle, keys, named))
    }

    fn submit_get_pieces(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        addresses: Vec<Vec<usize>>,
        sizes: Vec<Vec<usize>>,
    ) -> PyResult<u64> {
        let (keys, handle) = (Keys::many(keys)?, self.desk.handle(py)?);
        let named = Named::of_pieces(&handle.regions, keys.count(), &addresses, &sizes);
        Ok(self.launch_get(py, &handle, keys, named))
    }

    fn submit_get(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<u64> {
        let (keys, handle) = (Keys::many(keys)?, self.desk.handle(py)?);
        let client = handle.client().asynchronous();
        Ok(self.mailbox.launch(py, async move {
            let found = client.view(keys.to_vecs()).await;
            Box::new(move |py: Python<'_>| {
                let values = copied(py, &client.blocking(), &keys, found)?.into_iter();
                Ok(PyList::new(py, values.map(|value| bytes_of(py, value)).collect::<Vec<_>>())?
                    .into_any()
                    .unbind())
            }) as Say
        }))
    }

    fn submit_view(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<u64> {
        let (names, handle) = (Keys::many(keys)?.to_vecs(), self.desk.handle(py)?);
        let client = handle.client().asynchronous();
        Ok(self.mailbox.launch(py, async move {
            let found = client.view(names).await;
            Box::new(move |py: Python<'_>| {
                let views = found.into_iter().map(|found| view_of(py, found));
                Ok(PyList::new(py, views.collect::<PyResult<Vec<_>>>()?)?.into_any().unbind())
            }) as Say
        }))
    }

    fn submit_sizes(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<u64> {
        let (names, handle) = (Keys::many(keys)?.to_vecs(), self.desk.handle(py)?);
        let client = handle.client().asynchronous();
        let found = async move { client.lookup(names).await.into_iter().map(code_of_read).collect() };
        Ok(self.launch(py, found))
    }

    fn submit_exist(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<u64> {
        let (names, handle) = (Keys::many(keys)?.to_vecs(), self.desk.handle(py)?);
        let client = handle.client().asynchronous();
        let found = async move { client.lookup(names).await.into_iter().map(code_of_exist).collect() };
        Ok(self.launch(py, found))
    }

    fn submit_remove(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, force: bool) -> PyResult<u64> {
        let (names, handle) = (Keys::many(keys)?.to_vecs(), self.desk.handle(py)?);
        let client = handle.client().asynchronous();
        let removed =
            async move { client.remove(names, force).await.into_iter().map(code_of_removal).collect() };
        Ok(self.launch(py, removed))
    }

    fn submit_remove_matching(&self, py: Python<'_>, pattern: String, force: bool) -> PyResult<u64> {
        let client = self.desk.handle(py)?.client().asynchronous();
        let removed = async move { say(Ok(code_of_count(client.remove_by_regex(pattern, force).await))) };
        Ok(self.mailbox.launch(py, removed))
    }

    fn submit_holders(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<u64> {
        let (names, handle) = (Keys::many(keys)?.to_vecs(), self.desk.handle(py)?);
        let client = handle.client().asynchronous();
        Ok(self.mailbox.launch(py, async move { say(Ok(code_replicas::holders(&client, names).await)) }))
    }

    #[pyo3(signature = (key, targets, source))]
    fn submit_copy_object(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        targets: Vec<String>,
        source: Option<String>,
    ) -> PyResult<u64> {
        let (key, handle) = (key_bytes(key)?.to_vec(), self.desk.handle(py)?);
        let client = handle.client().asynchronous();
        Ok(self.mailbox.launch(py, async move {
            say(Ok(code_replicas::begin(&client, &key, &targets, source.as_ref()).await))
        }))
    }

    fn submit_task(&self, py: Python<'_>, high: u64, low: u64) -> PyResult<u64> {
        let client = self.desk.handle(py)?.client().asynchronous();
        Ok(self.mailbox.launch(py, async move { say(Ok(code_replicas::progress(&client, high, low).await)) }))
    }

    fn submit_clear(&self, py: Python<'_>, keys: &Bound<'_, PyAny>, segment: String) -> PyResult<u64> {
        let (names, handle) = (Keys::many(keys)?.to_vecs(), self.desk.handle(py)?);
        let client = handle.client().asynchronous();
        Ok(self.launch(py, async move { code_replicas::clear(&client, names, &segment).await }))
    }

    /// Whether the bytes of views match their checksums.
    fn submit_intact(&self, py: Python<'_>, views: Vec<Bound<'_, PyAny>>) -> PyResult<u64> {
        let client = self.desk.handle(py)?.client().asynchronous();
        let held = views.iter().map(Held::of).collect::<PyResult<Vec<_>>>()?;
        let look = async move |held: Option<Held>| match held {
            Some(held) => {
                let held = Arc::new(held);
                let looked_at = held.clone();
                (client.aside(move || looked_at.is_intact()).await, Some(held))
            }
            None => (Ok(false), None),
        };
        Ok(self.mailbox.launch(py, async move {
            let (mut found, mut kept) = (Vec::with_capacity(held.len()), Vec::with_capacity(held.len()));
            for view in held {
                let (is_intact, view) = look(view).await;
                found.push(is_intact);
                kept.push(view);
            }
            Box::new(move |py: Python<'_>| {
                drop(kept);
                say(found.into_iter().collect::<Result<Vec<bool>, Error>>())(py)
            }) as Say
        }))
    }

    /// Copies bytes between addresses, which `kept` has, or which are registered; true.
    fn submit_copy(
        &self,
        py: Python<'_>,
        to: Vec<usize>,
        from: Vec<usize>,
        sizes: Vec<usize>,
        kept: Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let client = self.desk.handle(py)?.client().asynchronous();
        let wrong = || PyValueError::new_err("copies are as many addresses on both sides, and as many sizes");
        let copies = Arc::new(Copies::of(&to, &from, &sizes, kept.unbind()).ok_or_else(wrong)?);
        Ok(self.mailbox.launch(py, async move {
            let mut left = Ok(Some(0));
            while let Ok(Some(first)) = left {
                let copies = copies.clone();
                left = client.aside(move || copies.copy_some(first)).await;
            }
            Box::new(move |py: Python<'_>| {
                drop(copies);
                say(left.map(|_| true))(py)
            }) as Say
        }))
    }
}
