//! The same pipe, made of what loom watches.

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
}

#[path = "heap.rs"]
mod heap;
#[path = "pipe.rs"]
mod pipe;
#[path = "pipe_loom.rs"]
mod tests;
