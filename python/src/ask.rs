//! Questions and removals: what moves no values.

use crate::errors::{answers, raised};
use crate::keys::Keys;
use crate::outcomes::{miss, removal, removed_count};
use crate::read::integer;
use crate::steps::steps;
use pyo3::prelude::{Bound, PyAny, PyResult, Python};
use pyo3::types::{PyBool, PyBytes, PyDict, PyDictMethods, PyList, PyListMethods};
use snowskin_client::{BlockingClient, ClientCounters, CoreStats, Error, Found, ListedKey, Member};

pub(crate) fn found(
    py: Python<'_>,
    client: &BlockingClient,
    keys: &Keys,
) -> PyResult<Vec<Result<Found<u64>, Error>>> {
    steps(py, (0..keys.count()).map(|_| 0), |numbers| {
        client.lookup(&numbers.map(|number| keys.get(number)).collect::<Vec<_>>())
    })
}

/// How many bytes the values have.
pub(crate) fn lookup<'py>(
    py: Python<'py>,
    client: &BlockingClient,
    keys: &Keys,
) -> PyResult<Bound<'py, PyAny>> {
    let say = |py, found| match found {
        Found::Hit(bytes) => Ok(integer(py, bytes).into_any()),
        Found::Miss(reason) => miss(py, reason),
    };
    answers(py, found(py, client, keys)?.into_iter(), keys.is_one, say)
}

/// Whether they are held.
pub(crate) fn exists<'py>(
    py: Python<'py>,
    client: &BlockingClient,
    keys: &Keys,
) -> PyResult<Bound<'py, PyAny>> {
    let say =
        |py: Python<'py>, found| Ok(PyBool::new(py, matches!(found, Found::Hit(_))).to_owned().into_any());
    answers(py, found(py, client, keys)?.into_iter(), keys.is_one, say)
}

/// How many leading keys are held.
pub(crate) fn match_prefix(py: Python<'_>, client: &BlockingClient, keys: &Keys) -> PyResult<usize> {
    py.detach(|| client.match_prefix(&keys.slices())).map_err(|error| raised(py, &error))
}

/// Removes keys.
pub(crate) fn remove<'py>(
    py: Python<'py>,
    client: &BlockingClient,
    keys: &Keys,
    force: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let results = steps(py, (0..keys.count()).map(|_| 0), |numbers| {
        client.remove(&numbers.map(|number| keys.get(number)).collect::<Vec<_>>(), force)
    })?;
    answers(py, results.into_iter(), keys.is_one, |py, outcome| removal(py, &outcome))
}

/// Removes the keys in which a regular expression is found.
pub(crate) fn remove_matching<'py>(
    py: Python<'py>,
    client: &BlockingClient,
    pattern: &str,
    force: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let count = py.detach(|| client.remove_by_regex(pattern, force)).map_err(|error| raised(py, &error))?;
    removed_count(py, count)
}

/// Keys that are asked for at a time.
pub(crate) const PAGE_KEYS: usize = 4_096;

/// The keys of the tenant in which a regular expression is found, each with the bytes of its value.
pub(crate) fn list_keys(py: Python<'_>, client: &BlockingClient, pattern: &str) -> PyResult<Vec<ListedKey>> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = py.detach(|| client.list_keys(pattern, PAGE_KEYS, after));
        let page = page.map_err(|error| raised(py, &error))?;
        keys.extend(page.keys);
        after = page.next;
        if after.is_none() {
            return Ok(keys);
        }
        py.check_signals()?;
    }
}

/// Keys as pairs of bytes and integers.
pub(crate) fn say_keys(py: Python<'_>, keys: Vec<ListedKey>) -> PyResult<Bound<'_, PyAny>> {
    let pairs = keys.iter().map(|listed| (PyBytes::new(py, &listed.key), listed.value_bytes));
    Ok(PyList::new(py, pairs.collect::<Vec<_>>())?.into_any())
}

/// Counters of every core, and of this client.
pub(crate) fn stats<'py>(py: Python<'py>, client: &BlockingClient) -> PyResult<Bound<'py, PyDict>> {
    let (cores, counters) = py.detach(|| (client.stats(), client.counters()));
    stats_of(py, cores.map_err(|error| raised(py, &error))?, &counters)
}

/// What each core says of itself, or why it says nothing.
pub(crate) type Cores = Vec<(Member, Result<CoreStats, Error>)>;

/// Counters as a dictionary.
pub(crate) fn stats_of<'py>(
    py: Python<'py>,
    cores: Cores,
    counters: &ClientCounters,
) -> PyResult<Bound<'py, PyDict>> {
    let list = PyList::empty(py);
    for (member, stats) in cores {
        let core = PyDict::new(py);
        core.set_item("core", member.id.to_string())?;
        core.set_item("address", member.address.to_string())?;
        match stats {
            Ok(stats) => {
                stats.named().into_iter().try_for_each(|(name, number)| core.set_item(name, number))?
            }
            Err(error) => core.set_item("error", error.to_string())?,
        }
        list.append(core)?;
    }
    let ours = PyDict::new(py);
    for (name, number) in [
        ("frames_sent", counters.frames_sent.total()),
        ("frames_received", counters.frames_received.total()),
        ("found", counters.found),
        ("value_bytes_sent", counters.value_bytes_sent),
        ("value_bytes_received", counters.value_bytes_received),
        ("retries", counters.retries),
        ("elsewhere", counters.elsewhere),
        ("refreshes", counters.refreshes),
        ("checksum_mismatches", counters.checksum_mismatches),
        ("connects", counters.connects),
        ("connects_local", counters.connects_local),
        ("lanes_opened", counters.lanes_opened),
        ("connects_failed", counters.connects_failed),
        ("connections_broken", counters.connections_broken),
        ("deadlines", counters.deadlines),
    ] {
        ours.set_item(name, number)?;
    }
    let all = PyDict::new(py);
    all.set_item("cores", list)?;
    all.set_item("client", ours)?;
    Ok(all)
}
