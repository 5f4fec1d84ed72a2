//! Something that is started by whoever needs it first, at most once, and ends with its owner.

#[cfg(all(test, snowskin_loom))]
use loom::sync::Mutex;
#[cfg(not(all(test, snowskin_loom)))]
use std::sync::Mutex;
use std::sync::PoisonError;

/// What has been started, if it has: the background thread's end, which stops it when it is dropped.
pub(crate) struct Started<T>(Mutex<Option<T>>);

impl<T> Started<T> {
    /// Nothing is started yet.
    pub(crate) fn new() -> Self {
        Started(Mutex::new(None))
    }

    /// When this returns `Ok`, it has been started, by this call or by another one. A start that fails is the failure
    /// of the call that made it; the next call tries again. Calls that come meanwhile wait.
    pub(crate) fn ensure<E>(&self, start: impl FnOnce() -> Result<T, E>) -> Result<(), E> {
        // A start that panicked has left nothing.
        let mut started = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if started.is_none() {
            *started = Some(start()?);
        }
        Ok(())
    }
}

#[cfg(all(test, snowskin_loom))]
#[path = "started_loom.rs"]
mod loom_tests;
