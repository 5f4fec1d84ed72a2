//! `snowskin.Engine`: an engine within the interpreter's process.

use crate::errors::named;
use crate::ours::Ours;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::{Bound, Py, PyAny, PyAnyMethods, PyResult, Python, pyclass, pyfunction, pymethods};
use pyo3::types::{PyBool, PyDict, PyDictMethods};
use snowskin_engine::config::Config;
use snowskin_engine::embedded::{EmbeddedEngine, EmbeddedError};
use snowskin_engine::launch::Stop;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How often somebody who waits for an engine looks whether the user wants to stop.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// Where the engine is, until it is closed.
struct Place(Mutex<Option<Ours<EmbeddedEngine>>>);

impl Place {
    fn take(&self) -> Option<Ours<EmbeddedEngine>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let engine = self.take();
        // Others go on while it leaves; the interpreter may be ending, too.
        let _ = Python::try_attach(|py| py.detach(|| drop(engine)));
    }
}

/// Those that run: the interpreter closes them before it ends.
static RUNNING: Mutex<Vec<Weak<Place>>> = Mutex::new(Vec::new());

/// An engine in this process: memory for values, a pinned thread for each core, and a master of its own unless it is given one.
///
/// `memory` is a number of bytes, or a size such as `"4GB"`. `master` is where the master of a cluster to join answers (`"host:port"`). `listen` is
/// where the first core listens; port 0 is any that is free. `memory_file` names a file whose first bytes are the memory, of one core: it is there, and long
/// enough, and keeps its length; what these bytes had is gone, and nobody may make it shorter meanwhile. All else that `snowskin-engine --help` names may be given by its name with
/// underscores: `ssd="/var/lib/snowskin", ssd_size="100GB"`. What it logs goes to standard error, from the level on that the environment
/// variable `SNOWSKIN_LOG` names (`warn` if it names none).
///
/// It ends with `close()`, at the end of a `with` block, or with the interpreter: its memory, and what was only there, is gone then. A process that is
/// forked from this one has no part of it.
#[pyclass(frozen, module = "snowskin", name = "Engine")]
pub(crate) struct Engine {
    place: Arc<Place>,
    cores: Vec<String>,
    master: String,
    http: Option<String>,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, memory, cores = 1, master = None, listen = "127.0.0.1:0", memory_file = None, **flags))]
    fn new(
        py: Python<'_>,
        memory: &Bound<'_, PyAny>,
        cores: u16,
        master: Option<&str>,
        listen: &str,
        memory_file: Option<PathBuf>,
        flags: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Engine> {
        let mut arguments = Vec::new();
        let mut flag = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        flag("memory", size_of(memory)?);
        flag("cores", cores.to_string());
        flag("listen", listen.to_owned());
        match master {
            Some(master) => flag("master", master.to_owned()),
            None if has(flags, "master_http")? => {}
            None => flag("master-http", "127.0.0.1:0".to_owned()),
        }
        for (name, value) in flags.into_iter().flatten() {
            if value.is_none() {
                continue;
            }
            if value.is_instance_of::<PyBool>() {
                let words =
                    format!("{name}: write the value as snowskin-engine --help says, not True or False");
                return Err(PyTypeError::new_err(words));
            }
            flag(&name.extract::<String>()?.replace('_', "-"), value.str()?.extract()?);
        }
        let read = || {
            let config = Config::from_flags(&arguments)?;
            memory_file.map_or(Ok(config.clone()), |path| config.lend_file(path))
        };
        let config = py.detach(read).map_err(|error| failed(py, &error))?;
        let engine = start(py, config)?;
        let listed = |address: &SocketAddr| address.to_string();
        let (cores, master) = (engine.cores().iter().map(listed).collect(), listed(&engine.master()));
        let http = engine.master_http().map(|address| address.to_string());
        let place = Arc::new(Place(Mutex::new(Some(Ours::new(engine)))));
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|place| place.strong_count() > 0);
        running.push(Arc::downgrade(&place));
        Ok(Engine { place, cores, master, http })
    }

    /// Where its cores listen: what a `Store` takes.
    #[getter]
    fn cores(&self) -> Vec<String> {
        self.cores.clone()
    }

    /// Where its master answers, its own or the one that it was given: what other engines of the cluster take.
    #[getter]
    fn master(&self) -> String {
        self.master.clone()
    }

    /// Where its own master shows the cluster to a browser; None if it was given a master.
    #[getter]
    fn http(&self) -> Option<String> {
        self.http.clone()
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.place.is_empty()
    }

    /// Leaves the cluster and ends: what others take over is given to them, memory is given back.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        close(py, &self.place)
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
    ) -> PyResult<()> {
        close(py, &self.place)
    }

    fn __repr__(&self) -> String {
        let state = if self.closed() { "closed " } else { "" };
        format!("<{state}snowskin.Engine, cores on {}, master on {}>", self.cores.join(", "), self.master)
    }

    fn __reduce__(&self) -> PyResult<Py<PyAny>> {
        Err(PyTypeError::new_err("an engine cannot be pickled: start one in each process"))
    }
}

/// Starts an engine beside this thread, which listens to signals meanwhile.
fn start(py: Python<'_>, config: Config) -> PyResult<EmbeddedEngine> {
    let stop = Stop::default();
    let (sender, started) = channel();
    // Only to be lent to a thread that has given the interpreter back.
    let started = Mutex::new(started);
    let started = || started.lock().unwrap_or_else(PoisonError::into_inner);
    let switch = stop.clone();
    let work = move || {
        // An engine that nobody waits for any more ends here.
        let _ = sender.send(EmbeddedEngine::start_with(&config, switch));
    };
    std::thread::Builder::new().name("snowskin-start".to_owned()).spawn(work)?;
    loop {
        match py.detach(|| started().recv_timeout(SIGNALS_EVERY)) {
            Ok(Ok(engine)) => return Ok(engine),
            Ok(Err(error)) => return Err(failed(py, &error)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(named(py, "EngineError", "the engine could not be started"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Err(interrupt) = py.check_signals() {
            stop.stop();
            // What it has got by then is given back.
            py.detach(|| drop(started().recv()));
            return Err(interrupt);
        }
    }
}

fn close(py: Python<'_>, place: &Place) -> PyResult<()> {
    let engine = place.take().and_then(Ours::take);
    let ended = py.detach(|| engine.map_or(Ok(()), EmbeddedEngine::stop));
    ended.map_err(|error: EmbeddedError| failed(py, &error))
}

/// Closes all engines of this process: for the end of the interpreter.
#[pyfunction]
pub(crate) fn close_engines(py: Python<'_>) {
    let running = std::mem::take(&mut *RUNNING.lock().unwrap_or_else(PoisonError::into_inner));
    for place in running.iter().filter_map(Weak::upgrade) {
        if let Err(error) = close(py, &place) {
            error.print(py);
        }
    }
}

fn failed(py: Python<'_>, error: &dyn std::error::Error) -> pyo3::PyErr {
    named(py, "EngineError", &error.to_string())
}

fn has(flags: Option<&Bound<'_, PyDict>>, name: &str) -> PyResult<bool> {
    flags.map_or(Ok(false), |flags| flags.contains(name))
}

/// A size in bytes, or in words.
fn size_of(memory: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(bytes) = memory.extract::<u64>() {
        return Ok(bytes.to_string());
    }
    memory
        .extract()
        .map_err(|_| PyTypeError::new_err("memory is a number of bytes, or a size such as \"4GB\""))
}
