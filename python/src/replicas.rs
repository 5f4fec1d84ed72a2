//! Who has objects, and having them copied, moved and given up. These verbs are rare: each is written once, as a future, for which blocking callers wait.

use crate::errors::{answers, named, raised};
use crate::keys::Keys;
use crate::mailbox::Say;
use crate::outcomes;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::{Bound, Py, PyAny, PyAnyMethods, PyErr, PyResult, Python};
use pyo3::types::{PyBool, PyString};
use snowskin_client::{Client, CoreId, Error, Found, MissReason, RoutingTable, TaskId, TaskStart};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Why something was not asked, or not begun.
pub(crate) enum Trouble {
    NoSuchCore(String),
    Failed(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Failed(error)
    }
}

fn exception(py: Python<'_>, trouble: &Trouble) -> PyErr {
    match trouble {
        Trouble::Failed(error) => raised(py, error),
        Trouble::NoSuchCore(name) => {
            let words = format!(
                "{name:?} is no core of this cluster: stats()[\"cores\"] has the names of all, and where they listen"
            );
            named(py, "NoSuchCoreError", &words)
        }
    }
}

/// The core that a caller means: by its name, as `stats` has it, or by where it listens.
pub(crate) fn core_of(table: &RoutingTable, name: &str) -> Option<CoreId> {
    let is_meant = |id: CoreId, address: String| id.to_string() == name || address == name;
    let mut members = table.members.iter();
    members.find(|member| is_meant(member.id, member.address.to_string())).map(|member| member.id)
}

async fn cores_of(client: &Client, names: &[String]) -> Result<Vec<CoreId>, Trouble> {
    let table = client.fresh_table().await?;
    let core = |name: &String| core_of(&table, name).ok_or_else(|| Trouble::NoSuchCore(name.clone()));
    names.iter().map(core).collect()
}

/// Has an object copied to cores that are named so; with a source, moved from there.
pub(crate) async fn begin(
    client: &Client,
    key: &[u8],
    targets: &[String],
    source: Option<&String>,
) -> Result<TaskStart, Trouble> {
    let targets = cores_of(client, targets).await?;
    let source = match source {
        Some(source) => cores_of(client, std::slice::from_ref(source)).await?.first().copied(),
        None => None,
    };
    Ok(client.copy(key, targets, source).await?)
}

// -- answers of `Store` --

/// Says who has objects.
pub(crate) async fn holders(client: Client, keys: Keys) -> Say {
    let found = client.holders(keys.to_vecs()).await;
    Box::new(move |py: Python<'_>| {
        let say = |py, found| match found {
            Found::Hit(held) => outcomes::holders(py, &held),
            Found::Miss(reason) => outcomes::miss(py, reason),
        };
        answers(py, found.into_iter(), keys.is_one, say).map(Bound::unbind)
    })
}

/// Says which task copies or moves an object.
pub(crate) async fn start(client: Client, key: Vec<u8>, targets: Vec<String>, source: Option<String>) -> Say {
    let begun = begin(&client, &key, &targets, source.as_ref()).await;
    Box::new(move |py: Python<'_>| match begun.map_err(|trouble| exception(py, &trouble))? {
        TaskStart::Begun(task) => outcomes::task(py, task).map(Bound::unbind),
        TaskStart::NotHeld => outcomes::miss(py, MissReason::NotHeld).map(Bound::unbind),
        TaskStart::TooMany => {
            Err(named(py, "OverloadedError", "too many tasks are under way: try again later"))
        }
        TaskStart::Refused(sentence) => Err(named(py, "RefusedError", &sentence)),
    })
}

/// Says how far a task is. With its core, it is forgotten.
pub(crate) async fn progress(client: Client, core: String, number: u64) -> Say {
    let found = match cores_of(&client, &[core]).await {
        Ok(cores) => client.task(TaskId { core: cores[0], number }).await.map_err(Trouble::from),
        Err(Trouble::NoSuchCore(_)) => Ok(None),
        Err(trouble) => Err(trouble),
    };
    Box::new(move |py: Python<'_>| {
        let info = found.map_err(|trouble| exception(py, &trouble))?;
        outcomes::task_info(py, info.as_ref()).map(Bound::unbind)
    })
}

/// Says whether a holder has given an object up.
pub(crate) async fn give_up(client: Client, key: Vec<u8>, core: String) -> Say {
    let given_up = match cores_of(&client, &[core]).await {
        Ok(cores) => client.give_up(&key, cores[0]).await.map_err(Trouble::from),
        Err(trouble) => Err(trouble),
    };
    Box::new(move |py: Python<'_>| match given_up.map_err(|trouble| exception(py, &trouble))? {
        Found::Hit(has_left) => Ok(PyBool::new(py, has_left).to_owned().into_any().unbind()),
        Found::Miss(reason) => outcomes::miss(py, reason).map(Bound::unbind),
    })
}

/// The cores that a caller names: one, or a list.
pub(crate) fn names_of(names: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if names.is_instance_of::<PyString>() {
        return Ok(vec![names.extract()?]);
    }
    names.extract().map_err(|_| PyTypeError::new_err("cores are a str, or a list of these"))
}

// -- waiting --

/// Waits for an answer without the interpreter, and says it.
pub(crate) fn answer(py: Python<'_>, future: impl Future<Output = Say> + Send) -> PyResult<Py<PyAny>> {
    py.detach(|| wait(future))(py)
}

/// Who waits for a future that another thread wakes.
struct Waiting(Thread);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Waiting(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}
