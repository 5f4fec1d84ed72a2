//! The same pipe and the same slots, made of what loom watches.

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
}

#[path = "heap.rs"]
mod heap;
#[allow(unreachable_pub, reason = "a copy of what others use")]
#[path = "pipe.rs"]
mod pipe;
#[allow(dead_code, unreachable_pub, reason = "a copy of what others use")]
#[path = "slots.rs"]
mod slots;

#[allow(dead_code, unreachable_pub, reason = "a copy of what others use")]
#[path = "shelf/loomed.rs"]
mod shelf;

#[path = "pipe_loom.rs"]
mod pipe_tests;
#[path = "slots_loom.rs"]
mod slots_tests;
