//! What calls answer: the classes are in `snowskin/outcomes.py`.

use pyo3::prelude::{Bound, Py, PyAny, PyAnyMethods, PyResult, Python};
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use snowskin_client::{MissReason, RemoveOutcome, RemovedCount};

/// The members of the enumerations, looked up once.
struct Members {
    misses: [Py<PyAny>; MissReason::ALL.len()],
    removed: Py<PyAny>,
    missing: Py<PyAny>,
    leased: Py<PyAny>,
    removed_count: Py<PyAny>,
}

static MEMBERS: PyOnceLock<Members> = PyOnceLock::new();

fn members(py: Python<'_>) -> PyResult<&Members> {
    MEMBERS.get_or_try_init(py, || {
        let module = PyModule::import(py, "snowskin.outcomes")?;
        let miss =
            |name: &str| -> PyResult<Py<PyAny>> { Ok(module.getattr("Miss")?.getattr(name)?.unbind()) };
        let removal =
            |name: &str| -> PyResult<Py<PyAny>> { Ok(module.getattr("Removal")?.getattr(name)?.unbind()) };
        Ok(Members {
            misses: [
                miss("NOT_HELD")?,
                miss("EVICTED")?,
                miss("REMOVED")?,
                miss("OWNER_LOST")?,
                miss("CORRUPT")?,
            ],
            removed: removal("REMOVED")?,
            missing: removal("MISSING")?,
            leased: removal("LEASED")?,
            removed_count: module.getattr("RemovedCount")?.unbind(),
        })
    })
}

/// A reason as a `Miss`.
pub(crate) fn miss<'py>(py: Python<'py>, reason: MissReason) -> PyResult<Bound<'py, PyAny>> {
    let number = MissReason::ALL.into_iter().position(|other| other == reason).unwrap_or(0);
    Ok(members(py)?.misses[number].bind(py).clone())
}

/// What became of a key, as a `Removal`.
pub(crate) fn removal<'py>(py: Python<'py>, outcome: &RemoveOutcome) -> PyResult<Bound<'py, PyAny>> {
    let members = members(py)?;
    let member = match outcome {
        RemoveOutcome::Removed => &members.removed,
        RemoveOutcome::Missing(_) => &members.missing,
        RemoveOutcome::Leased => &members.leased,
    };
    Ok(member.bind(py).clone())
}

/// What a removal by pattern did, as a `RemovedCount`.
pub(crate) fn removed_count<'py>(py: Python<'py>, count: RemovedCount) -> PyResult<Bound<'py, PyAny>> {
    members(py)?.removed_count.bind(py).call1((count.removed, count.leased))
}
