//! The native part of the Python package `snowskin`: documentation for callers is in `snowskin/_snowskin.pyi`.
//!
//! ```text
//!   arguments ──► Keys, Memory ──► interpreter given back: steps of the blocking client ──► answers: objects, or exceptions
//!                 (the GIL held)                                                             (the GIL held)
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | `ffi` | the edge to the interpreter: all `unsafe` |
//! | `engine` | the class `Engine`: an engine in this process |
//! | `ours` | what a forked process must not touch |
//! | `keys`, `options` | what callers say |
//! | `store` | the class `Store`, and its life |
//! | `write`, `read`, `ask`, `replicas` | its verbs |
//! | `codes`, `code_replicas` | the same verbs in numbers, for `mooncake` |
//! | `requests`, `code_requests` | both as calls that do not wait, for event loops |
//! | `mailbox` | how these are made, and answered |
//! | `steps` | long batches, which can be interrupted |
//! | `outcomes`, `errors` | what callers hear |

mod ask;
mod code_replicas;
mod code_requests;
mod codes;
mod engine;
mod errors;
mod ffi;
mod keys;
mod mailbox;
mod options;
mod ours;
mod outcomes;
mod read;
mod replicas;
mod requests;
mod steps;
mod store;
mod write;

use pyo3::prelude::{Bound, PyModule, PyModuleMethods, PyResult, pymodule, wrap_pyfunction};

/// What `snowskin` is made of.
#[pymodule]
fn _snowskin(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // Engines write to standard error, and never wait for the interpreter.
    let _ = env_logger::Builder::new()
        .parse_env(env_logger::Env::new().filter_or("SNOWSKIN_LOG", "warn"))
        .try_init();
    module.add_class::<store::Store>()?;
    module.add_class::<engine::Engine>()?;
    module.add_function(wrap_pyfunction!(engine::close_engines, module)?)?;
    module.add_class::<requests::Requests>()?;
    module.add_class::<codes::Codes>()?;
    module.add_class::<code_requests::CodeRequests>()?;
    module.add_class::<codes::PutSettings>()?;
    module.add("View", store::view_class(py)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
