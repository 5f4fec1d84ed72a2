//! Threads that help a caller with a loop.
//!
//! ```text
//!   caller   for_each(pieces, work) ─► queue the batch, wake helpers ─► take pieces … none left ─► wait ─► return
//!   helper   sleep ············ woken ─► take pieces … none left ─► sleep
//! ```
//!
//! Invariant: `work` is called only with a piece that was taken, each piece is taken once, and the caller stays until
//! all pieces are done, whatever happens in any of them. So nobody is in `work` after the caller has left, and a helper
//! that comes late, with the batch still in its hands, finds no piece and does not look at `work`.

#[cfg(all(test, snowskin_loom))]
use loom::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle},
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
#[cfg(not(all(test, snowskin_loom)))]
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle},
};

/// How often a caller looks for the end before it sleeps: some 20 µs, which is as long as a helper's last piece takes
/// and shorter than a wake-up. loom would try each of them.
const LOOKS_MAX: usize = if cfg!(all(test, snowskin_loom)) { 0 } else { 1000 };

/// The threads. Any number of callers use them at once; the first one starts them.
pub(super) struct Helpers {
    count: usize,
    shared: Arc<Shared>,
    /// Those that could be started, once somebody has tried.
    threads: Mutex<Option<Vec<JoinHandle<()>>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Something was queued, or all is over.
    queued: Condvar,
}

#[derive(Default)]
struct Queue {
    batches: Vec<Arc<Batch>>,
    closed: bool,
}

struct Batch {
    work: Work,
    pieces: usize,
    /// The first piece that nobody has taken. Goes beyond `pieces`.
    next: AtomicUsize,
    /// Pieces that are not done, taken or not.
    undone: AtomicUsize,
    panicked: AtomicBool,
    /// Held to go to sleep, and to wake who does.
    gate: Mutex<()>,
    done: Condvar,
}

/// The body of a caller's loop, without the lifetime of what it borrows.
struct Work(*const (dyn Fn(usize) + Sync));

// SAFETY: what it points to is `Sync`; that it is there when it is called is the invariant of this file.
unsafe impl Send for Work {}
// SAFETY: as above.
unsafe impl Sync for Work {}

impl Helpers {
    pub(super) fn new(count: usize) -> Self {
        let shared = Shared { queue: Mutex::default(), queued: Condvar::new() };
        Helpers { count, shared: Arc::new(shared), threads: Mutex::new(None) }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Calls `work` once with each number below `pieces`, here and in the helpers.
    ///
    /// # Panics
    ///
    /// If a call of `work` did, when all of them have ended.
    pub(super) fn for_each(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        self.start();
        let batch = Arc::new(Batch::new(pieces, work));
        // Nothing from here to the end of the wait unwinds: locks are taken poisoned or not, and pieces are caught.
        locked(&self.shared.queue).batches.push(batch.clone());
        (1..pieces).take(self.count).for_each(|_| self.shared.queued.notify_one());
        batch.take_pieces();
        self.shared.forget(&batch);
        batch.wait();
        assert!(!batch.panicked.load(Ordering::Relaxed), "a piece of the work has panicked");
    }

    fn start(&self) {
        let mut threads = locked(&self.threads);
        if threads.is_none() {
            let start = |_| {
                let shared = self.shared.clone();
                Builder::new().name("snowskin-copy".to_owned()).spawn(move || shared.help()).ok()
            };
            let started: Vec<_> = (0..self.count).map_while(start).collect();
            if started.len() < self.count {
                log::warn!(
                    "{} threads that copy, of {}: no more could be started",
                    started.len(),
                    self.count
                );
            }
            *threads = Some(started);
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        locked(&self.shared.queue).closed = true;
        self.shared.queued.notify_all();
        for thread in locked(&self.threads).take().into_iter().flatten() {
            // It catches what panics, so it has nothing to say.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The life of a helper.
    fn help(&self) {
        let mut queue = locked(&self.queue);
        loop {
            if let Some(batch) = queue.batches.first().cloned() {
                drop(queue);
                batch.take_pieces();
                self.forget(&batch);
                queue = locked(&self.queue);
            } else if queue.closed {
                return;
            } else {
                queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Nobody needs to look at this batch any more: all its pieces are taken.
    fn forget(&self, batch: &Arc<Batch>) {
        locked(&self.queue).batches.retain(|other| !Arc::ptr_eq(other, batch));
    }
}

impl Batch {
    fn new(pieces: usize, work: &(dyn Fn(usize) + Sync)) -> Self {
        let work: *const (dyn Fn(usize) + Sync + '_) = work;
        // SAFETY: only the lifetime is taken off; the invariant of this file stands in for it.
        let work = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(
                work,
            )
        };
        Batch {
            work: Work(work),
            pieces,
            next: AtomicUsize::new(0),
            undone: AtomicUsize::new(pieces),
            panicked: AtomicBool::new(false),
            gate: Mutex::new(()),
            done: Condvar::new(),
        }
    }

    /// Does pieces until none is left to take.
    fn take_pieces(&self) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.pieces {
                return;
            }
            // SAFETY: this piece was taken and is not done, so the caller that borrowed `work` has not left.
            let work = unsafe { &*self.work.0 };
            if catch_unwind(AssertUnwindSafe(|| work(piece))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            // What was done here is before what the caller does next, and so is what earlier pieces did.
            if self.undone.fetch_sub(1, Ordering::AcqRel) == 1 {
                drop(locked(&self.gate));
                self.done.notify_one();
            }
        }
    }

    fn wait(&self) {
        for _ in 0..LOOKS_MAX {
            if self.is_done() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut gate = locked(&self.gate);
        while !self.is_done() {
            gate = self.done.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn is_done(&self) -> bool {
        self.undone.load(Ordering::Acquire) == 0
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, snowskin_loom))]
#[path = "helpers_loom.rs"]
mod loom_tests;
