//! Whether we are still the process that made something, or one that was forked from it.

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, madvise};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const PAGE_BYTES: usize = 4096;
/// A page that the kernel empties in forked processes; `None`: it does not (before Linux 4.14), and nobody notices a fork. It has the number
/// of the generation that this process is of.
static PAGE: OnceLock<Option<MmapRaw>> = OnceLock::new();
/// Generations so far, from the first process on: a forked one inherits the count, and is of the next generation.
static GENERATIONS: AtomicU32 = AtomicU32::new(0);

/// Where something was made: [`Birth::is_here`] is false in processes that are forked afterwards. Costs a look into memory.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    generation: u32,
}

impl Birth {
    /// Here and now.
    pub fn new() -> Self {
        Birth { generation: mark().map_or(0, generation) }
    }

    /// Whether this is the process.
    #[inline]
    pub fn is_here(self) -> bool {
        mark().is_none_or(|mark| mark.load(Ordering::Relaxed) == self.generation)
    }
}

/// The generation of this process: what has just been forked gets one.
fn generation(mark: &AtomicU32) -> u32 {
    let next = || GENERATIONS.fetch_add(1, Ordering::Relaxed) + 1;
    match mark.load(Ordering::Relaxed) {
        0 => {
            let ours = next();
            mark.compare_exchange(0, ours, Ordering::Relaxed, Ordering::Relaxed)
                .map_or_else(|other| other, |_| ours)
        }
        known => known,
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
    fn we_are_here_and_a_forked_process_is_not() {
        let ours = Birth::new();
        assert!(ours.is_here() && Birth::new().is_here());
        let Some(mark) = mark() else { return };
        let number = mark.load(Ordering::Relaxed);
        // As the kernel leaves it in a child, which then makes something of its own.
        mark.store(0, Ordering::Relaxed);
        assert!(!ours.is_here());
        let theirs = Birth::new();
        assert!(
            theirs.is_here() && !ours.is_here(),
            "what is made in a child does not revive what its parent has"
        );
        mark.store(number, Ordering::Relaxed);
        assert!(ours.is_here() && !theirs.is_here());
    }
}
