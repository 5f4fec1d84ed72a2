//! Filling memory before it is used, with several threads.
//!
//! The memory is cut into steps. Each thread takes the next step until there are none, so that none waits for a slow
//! one; after each step it tells the caller's thread, which tells the progress and may say stop. A thread looks at the
//! stop flag between two steps.

use super::address::Range;
use super::{Progress, TWO_MIB};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// Bytes of a step, where pages are not larger.
const STEP_BYTES: usize = 64 << 20;
/// Threads, at most: the kernel's locks let no more be useful.
const THREADS_MAX: usize = 16;

/// How pages are got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// All of them are touched.
    Populate,
    /// One in each 2 MiB is touched, then the kernel is told to gather them in huge pages; then the rest is touched.
    Gather,
}

/// Why memory was not filled.
#[derive(Debug)]
pub(super) enum Failure {
    /// The progress said so.
    Stopped,
    /// A thread could not be made, or there was no page.
    Kernel { done: usize, source: io::Error },
}

struct Work<'a> {
    range: &'a Range,
    step_bytes: usize,
    fill: Fill,
    next: AtomicUsize,
    halt: AtomicBool,
}

/// Fills all of `range`, with a thread on each of `processors`, or with one thread if that is empty. `step` says how
/// large a page is and how it is got.
pub(super) fn run(
    range: &Range,
    processors: &[usize],
    step: (usize, Fill),
    progress: Progress<'_>,
) -> Result<(), Failure> {
    let (page_bytes, fill) = step;
    let step_bytes = page_bytes.max(STEP_BYTES);
    let work = Work { range, step_bytes, fill, next: AtomicUsize::new(0), halt: AtomicBool::new(false) };
    let steps = range.bytes().div_ceil(step_bytes);
    let threads = processors.len().clamp(1, THREADS_MAX).min(steps);
    thread::scope(|scope| {
        // A thread is at most two steps ahead of what the progress was told, however late the caller's thread runs.
        let (sender, done_steps) = sync_channel(threads);
        for thread in 0..threads {
            let (work, sender) = (&work, sender.clone());
            let cpu = processors.get(thread).copied();
            let run = move || {
                cpu.into_iter().for_each(pin);
                work.run(&sender);
            };
            let spawned = thread::Builder::new().name("snowskin-memory".to_owned()).spawn_scoped(scope, run);
            match spawned {
                Ok(_) => {}
                Err(source) if thread == 0 => return Err(Failure::Kernel { done: 0, source }),
                // Those that run do it all.
                Err(_) => break,
            }
        }
        drop(sender);
        let (mut done, mut failed, mut stopped) = (0, None, false);
        for result in done_steps {
            match result {
                Ok(bytes) => done += bytes,
                Err(source) => failed = failed.or(Some(source)),
            }
            stopped |= progress(done, range.bytes()) == ControlFlow::Break(());
            if stopped || failed.is_some() {
                work.halt.store(true, Ordering::Relaxed);
            }
        }
        match failed {
            Some(source) => Err(Failure::Kernel { done, source }),
            None if stopped && done < range.bytes() => Err(Failure::Stopped),
            None => Ok(()),
        }
    })
}

impl Work<'_> {
    fn run(&self, done: &SyncSender<io::Result<usize>>) {
        while !self.halt.load(Ordering::Relaxed) {
            let offset = self.next.fetch_add(1, Ordering::Relaxed).saturating_mul(self.step_bytes);
            if offset >= self.range.bytes() {
                return;
            }
            let bytes = self.step_bytes.min(self.range.bytes() - offset);
            let result = self.fill(offset, bytes).map(|()| bytes);
            // The receiver lives as long as the scope.
            let _ = done.send(result);
        }
    }

    fn fill(&self, offset: usize, bytes: usize) -> io::Result<()> {
        if self.fill == Fill::Gather {
            for at in (offset..offset + bytes).step_by(TWO_MIB) {
                self.range.populate(at, 1)?;
            }
            // What the kernel does not gather stays plain and is counted by whoever asks what was had.
            let _ = self.range.gather(offset, bytes);
        }
        self.range.populate(offset, bytes)
    }
}

/// Runs the calling thread on one processor. Where that is forbidden it runs where it may: slower, not wrong.
fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    if cpu < CpuSet::MAX_CPU {
        cpus.set(cpu);
        if let Err(error) = sched_setaffinity(None, &cpus) {
            log::debug!("pre-faulting is not pinned to processor {cpu}: {error}");
        }
    }
}
