//! What belongs to the process that made it.

use snowskin_io::Birth;

/// A client or an engine of this process. One that is forked from it has its sockets and memory, and none of its threads: it has no use for it, and
/// lets go of nothing.
pub(crate) struct Ours<T> {
    /// There until this is dropped or taken apart.
    value: Option<T>,
    birth: Birth,
}

impl<T> Ours<T> {
    pub(crate) fn new(value: T) -> Self {
        Ours { value: Some(value), birth: Birth::new() }
    }

    /// The value, in the process that made it.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.birth.is_here())
    }

    /// The same, given away.
    pub(crate) fn take(mut self) -> Option<T> {
        if self.birth.is_here() { self.value.take() } else { None }
    }
}

impl<T> Drop for Ours<T> {
    fn drop(&mut self) {
        if !self.birth.is_here() {
            std::mem::forget(self.value.take());
        }
    }
}
