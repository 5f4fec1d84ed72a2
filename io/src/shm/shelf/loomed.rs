//! The same cards and holds, made of what loom watches; without what is mapped.

use super::atomic::AtomicU64;

#[path = "cards.rs"]
mod cards;
#[path = "holds.rs"]
mod holds;

/// As in `mod.rs`.
trait Words {
    fn word(&self, at: usize) -> &AtomicU64;
}

#[path = "shelf_loom.rs"]
mod tests;
