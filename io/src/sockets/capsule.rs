//! Tasks that hold `Rc` and `RefCell`, on a runtime that several threads drive in turn.
//!
//! tokio wants spawned futures to be `Send`, because its current-thread runtime may be driven by one thread now and
//! by another one later. Ours are not, and need not be. The invariant:
//!
//! * Whatever is reachable from a capsule and not `Send` is reachable only from capsules of the same runtime, or from
//!   a [`Resident`] of it. Such values are made inside (`make` closures are `Send` and get nothing that is not), and
//!   have no way out: channels and threads demand `Send` of what crosses.
//! * Of one current-thread runtime at most one thread polls, wakes up or drops tasks at any time: the one that holds
//!   its core. The core is handed over through an atomic swap and a lock, so what one thread wrote the next one sees.
//! * The runtime is dropped by one thread that has the only reference to it, and drops all its tasks there.
//!
//! So there is never more than one thread in the whole set, and each sees what the last one did. What this cannot
//! police, and nobody does: a task must not keep what belongs to a thread (a lock's guard, something out of a
//! thread-local) from one poll to the next. `clippy::await_holding_lock` is denied in the workspace.

use super::{SocketsPlatform, SocketsRuntime};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

/// A future or value that stays within one runtime.
pub(super) struct Capsule<T>(T);

impl<T> Capsule<T> {
    /// `value` must obey the invariant of this module; the callers are [`SocketsPlatform::spawn`], which runs inside
    /// the set, and those that build the value out of a `Send` closure.
    pub(super) fn new(value: T) -> Self {
        Capsule(value)
    }
}

// SAFETY: the invariant of this module: one thread at a time is in the set, and handing over synchronises.
unsafe impl<T> Send for Capsule<T> {}
// SAFETY: as above; a shared reference to a capsule is used only by tasks of its runtime (see `Resident::spawn`).
unsafe impl<T> Sync for Capsule<T> {}

impl<F: Future> Future for Capsule<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: a projection to the only field; the capsule never moves it and has no drop of its own.
        let future = unsafe { self.map_unchecked_mut(|capsule| &mut capsule.0) };
        future.poll(context)
    }
}

/// A value that lives in a runtime of its own: tasks reach it, threads do not.
pub struct Resident<T: 'static> {
    /// First, so that it is dropped first: when the value goes, no task is left.
    runtime: SocketsRuntime,
    value: Arc<Capsule<T>>,
}

impl<T: 'static> Resident<T> {
    /// Moves a runtime in, and a value that `make` makes for it. The runtime must be fresh in the sense of the types:
    /// owned, so that no other thread is in it.
    pub fn new(runtime: SocketsRuntime, make: impl FnOnce(SocketsPlatform) -> T + Send) -> Self {
        let value = Arc::new(Capsule::new(make(runtime.platform())));
        Resident { runtime, value }
    }

    /// Starts a task on the value. `make` runs inside the runtime.
    pub fn spawn<F, U>(&self, make: F)
    where
        F: FnOnce(&T) -> U + Send + 'static,
        U: Future<Output = ()> + 'static,
    {
        let value = self.value.clone();
        let task = async move {
            // Pinned where it is made: a future that is awaited by value has room for itself twice.
            let future = pin!({
                let value = value;
                make(&value.0)
            });
            future.await;
        };
        self.runtime.runtime().spawn(Capsule::new(task));
    }

    /// See [`SocketsRuntime::block_on`].
    pub fn block_on<F: Future + Send>(&self, root: F) -> F::Output {
        self.runtime.block_on(root)
    }
}
