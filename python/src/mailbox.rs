//! Calls that do not wait, and their answers. Who made one is told by an event descriptor that its answer can be drained.
//!
//! ```text
//!   launch() ──► future ──► the client's thread (the only one) polls it to its end ──► queue, bell ──► event loop: drain()
//! ```

use async_task::Runnable;
use pyo3::prelude::{Bound, Py, PyAny, PyErr, PyResult, Python};
use pyo3::types::{PyList, PyListMethods};
use rustix::event::{EventfdFlags, eventfd};
use std::future::Future;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Says an answer when the interpreter is held.
pub(crate) type Say = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// Answers that have come, and the bell that tells of them.
struct Queue {
    answers: Mutex<Vec<(u64, Say)>>,
    bell: OwnedFd,
}

impl Queue {
    fn push(&self, number: u64, say: Say) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((number, say));
        if answers.len() == 1 {
            self.ring();
        }
    }

    fn ring(&self) {
        // It counts to 2^64, which nobody lives to see.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// What has come; the bell is silent then.
    fn take(&self) -> Vec<(u64, Say)> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
        std::mem::take(&mut *answers)
    }
}

/// See the module's head.
pub(crate) struct Mailbox {
    queue: Arc<Queue>,
    submitted: AtomicU64,
}

impl Mailbox {
    pub(crate) fn new() -> PyResult<Self> {
        let bell =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(std::io::Error::from)?;
        let queue = Arc::new(Queue { answers: Mutex::default(), bell });
        Ok(Mailbox { queue, submitted: AtomicU64::new(0) })
    }

    /// Readable when something can be drained.
    pub(crate) fn fileno(&self) -> i32 {
        self.queue.bell.as_raw_fd()
    }

    /// Answers that have come: the number of each request, whether it went well, and the answer or exception.
    pub(crate) fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (number, say) in self.queue.take() {
            let (is_well, answer) = match say(py) {
                Ok(answer) => (true, answer),
                Err(error) => (false, PyErr::into_value(error, py).into_any()),
            };
            list.append((number, is_well, answer))?;
        }
        Ok(list)
    }

    /// Has a future polled to its end: here until it waits for the first time, and then by whoever wakes it, which is the client's thread.
    pub(crate) fn launch(&self, py: Python<'_>, future: impl Future<Output = Say> + Send + 'static) -> u64 {
        let number = self.submitted.fetch_add(1, Ordering::Relaxed);
        let queue = self.queue.clone();
        let work = async move { queue.push(number, future.await) };
        let run_at_once = |runnable: Runnable| {
            runnable.run();
        };
        let (runnable, task) = async_task::spawn(work, run_at_once);
        task.detach();
        py.detach(|| runnable.run());
        number
    }
}
