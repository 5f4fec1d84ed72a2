//! What calls answer: the classes are in `snowskin/outcomes.py`.

use pyo3::prelude::{Bound, Py, PyAny, PyAnyMethods, PyResult, Python};
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use snowskin_client::admin::{TaskInfo, TaskState};
use snowskin_client::{Holders, MissReason, RemoveOutcome, RemovedCount, TaskId};

/// The members of the enumerations, looked up once.
struct Members {
    misses: [Py<PyAny>; MissReason::ALL.len()],
    removed: Py<PyAny>,
    missing: Py<PyAny>,
    leased: Py<PyAny>,
    removed_count: Py<PyAny>,
    holders: Py<PyAny>,
    task: Py<PyAny>,
    task_info: Py<PyAny>,
    task_states: [Py<PyAny>; 3],
}

static MEMBERS: PyOnceLock<Members> = PyOnceLock::new();

fn members(py: Python<'_>) -> PyResult<&Members> {
    MEMBERS.get_or_try_init(py, || {
        let module = PyModule::import(py, "snowskin.outcomes")?;
        let miss =
            |name: &str| -> PyResult<Py<PyAny>> { Ok(module.getattr("Miss")?.getattr(name)?.unbind()) };
        let removal =
            |name: &str| -> PyResult<Py<PyAny>> { Ok(module.getattr("Removal")?.getattr(name)?.unbind()) };
        let state =
            |name: &str| -> PyResult<Py<PyAny>> { Ok(module.getattr("TaskState")?.getattr(name)?.unbind()) };
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
            holders: module.getattr("Holders")?.unbind(),
            task: module.getattr("Task")?.unbind(),
            task_info: module.getattr("TaskInfo")?.unbind(),
            task_states: [state("RUNNING")?, state("DONE")?, state("FAILED")?],
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

/// Who has an object, as `Holders`.
pub(crate) fn holders<'py>(py: Python<'py>, held: &Holders) -> PyResult<Bound<'py, PyAny>> {
    let cores: Vec<String> = held.cores.iter().map(ToString::to_string).collect();
    members(py)?.holders.bind(py).call1((held.value_bytes, cores))
}

/// A task, as a `Task`.
pub(crate) fn task<'py>(py: Python<'py>, task: TaskId) -> PyResult<Bound<'py, PyAny>> {
    members(py)?.task.bind(py).call1((task.core.to_string(), task.number))
}

/// How far a task is, as a `TaskInfo`; `None` if nobody knows.
pub(crate) fn task_info<'py>(py: Python<'py>, info: Option<&TaskInfo>) -> PyResult<Bound<'py, PyAny>> {
    let Some(info) = info else { return Ok(py.None().into_bound(py)) };
    let members = members(py)?;
    let state = match info.state {
        TaskState::Running => &members.task_states[0],
        TaskState::Done => &members.task_states[1],
        TaskState::Failed => &members.task_states[2],
    };
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let (created, updated) = (seconds(info.created_ms), seconds(info.updated_ms));
    members.task_info.bind(py).call1((state.bind(py), info.is_move, created, updated, info.message.as_str()))
}
