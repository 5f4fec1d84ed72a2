//! Whether we are still the process that made something, or one that was forked from it.

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, madvise};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const PAGE_BYTES: usize = 4096;
/// A page that the kernel empties in forked processes; `None`: it does not (before Linux 4.14), and nobody notices a fork.
static PAGE: OnceLock<Option<MmapRaw>> = OnceLock::new();

/// Where something was made: [`Birth::is_here`] is false in processes that are forked afterwards. Costs a look into memory.
#[derive(Clone, Copy, Debug)]
pub struct Birth(());

impl Birth {
    /// Here and now.
    pub fn new() -> Self {
        if let Some(mark) = mark() {
            mark.store(1, Ordering::Relaxed);
        }
        Birth(())
    }

    /// Whether this is the process.
    #[inline]
    pub fn is_here(self) -> bool {
        mark().is_none_or(|mark| mark.load(Ordering::Relaxed) != 0)
    }
}

impl Default for Birth {
    fn default() -> Self {
        Birth::new()
    }
}

fn mark() -> Option<&'static AtomicU32> {
    let page = PAGE.get_or_init(|| {
        let page = MmapRaw::from(MmapOptions::new().len(PAGE_BYTES).map_anon().ok()?);
        // SAFETY: the page is ours alone, and is emptied in processes that are forked from this one, nowhere else.
        unsafe { madvise(page.as_mut_ptr().cast(), PAGE_BYTES, Advice::LinuxWipeOnFork) }.ok()?;
        Some(page)
    });
    // SAFETY: the page is mapped for reading and writing as long as the process, begins at a page and is only used as this
    // word; zero is a number, too.
    page.as_ref().map(|page| unsafe { &*page.as_mut_ptr().cast::<AtomicU32>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_here() {
        let birth = Birth::new();
        assert!(birth.is_here());
        // As the kernel would leave it in a child.
        if let Some(mark) = mark() {
            mark.store(0, Ordering::Relaxed);
            assert!(!birth.is_here());
            mark.store(1, Ordering::Relaxed);
        }
    }
}
