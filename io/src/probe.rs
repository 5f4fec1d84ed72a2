//! Can an engine's core run here at all? Tried, not guessed: a real executor is made and thrown away.
//!
//! Container profiles often forbid io_uring, and no file says so; only the attempt does.

use glommio::{GlommioError, LocalExecutorBuilder, Placement, ReactorErrorKind};
use std::io;

/// Bytes of registered memory of the trial executor: the least there is.
const TRIAL_IO_MEMORY_BYTES: usize = 64 << 10;

/// Why no executor can be made.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorProbeError {
    /// The kernel refused a ring.
    #[error("the kernel refuses an io_uring: {0}")]
    Refused(#[source] io::Error),
    /// The process may lock too little memory.
    #[error("the memlock limit is {limit_bytes} bytes, and {least_bytes} are needed")]
    MemoryLock {
        /// The limit now.
        limit_bytes: u64,
        /// The least that will do.
        least_bytes: u64,
    },
    /// Something else, in the executor's words.
    #[error("an executor cannot be made: {0}")]
    Other(String),
}

impl ExecutorProbeError {
    /// The operating system's error number, if it was the kernel that said no.
    pub fn errno(&self) -> Option<i32> {
        match self {
            ExecutorProbeError::Refused(error) => error.raw_os_error(),
            ExecutorProbeError::MemoryLock { .. } | ExecutorProbeError::Other(_) => None,
        }
    }
}

/// Makes an executor with its rings in a thread of its own, runs an empty task in it and drops it.
pub fn probe_executor() -> Result<(), ExecutorProbeError> {
    let trial = LocalExecutorBuilder::new(Placement::Unbound)
        .name("probe")
        .io_memory(TRIAL_IO_MEMORY_BYTES)
        .spawn(|| async {})
        .map_err(explain)?;
    trial.join().map_err(explain)
}

fn explain(error: GlommioError<()>) -> ExecutorProbeError {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => {
            ExecutorProbeError::Refused(source)
        }
        GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(limit_bytes, least_bytes)) => {
            ExecutorProbeError::MemoryLock { limit_bytes, least_bytes }
        }
        other => ExecutorProbeError::Other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_runs_here() {
        probe_executor().expect("these tests need io_uring, as the engine does");
    }

    #[test]
    fn refusals_keep_their_number() {
        let refused = explain(GlommioError::IoError(io::Error::from_raw_os_error(1)));
        assert_eq!(refused.errno(), Some(1));
        let limited = explain(GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(4096, 524_288)));
        assert_eq!(limited.to_string(), "the memlock limit is 4096 bytes, and 524288 are needed");
        assert_eq!(limited.errno(), None);
        assert!(matches!(
            explain(GlommioError::TimedOut(std::time::Duration::ZERO)),
            ExecutorProbeError::Other(_)
        ));
    }
}
