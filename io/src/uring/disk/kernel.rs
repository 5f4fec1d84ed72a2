//! The kernel's side of the ring: set up, entered, emptied, and what its answers mean.
//!
//! Wanted is a ring whose completions are put into its queue only when this thread asks (`SINGLE_ISSUER` and
//! `DEFER_TASKRUN`): no interrupts of other tasks, and a flag in shared memory that says that there are some. Kernels
//! before 6.1 have less, and work.
//!
//! Who waits does so at an eventfd. While nobody waits it is silenced, where that is without a race: else each look at
//! the queue would ring it.

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, squeue};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// How often one call enters the kernel at most while that is interrupted or takes only a part.
const ENTERS_MAX: u32 = 16;
/// How often an operation is begun again that the kernel has not begun.
const TRIES_MAX: u8 = 16;

/// How a ring is set up, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Completions come when this thread asks.
    Deferred,
    /// Completions come when this thread is in the kernel anyway.
    Cooperative,
    /// Completions interrupt this thread.
    Plain,
}

impl Flavour {
    pub(super) const ALL: [Flavour; 3] = [Flavour::Deferred, Flavour::Cooperative, Flavour::Plain];
}

/// What to do after the kernel was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    Fine,
    /// A signal came.
    Again,
    /// It has no room or no memory now.
    Later,
}

/// Panics where nothing will ever be better: operations would wait for ever.
fn after_enter(answer: io::Result<usize>) -> Entered {
    match answer.as_ref().map_err(Errno::from_io_error) {
        // A wait that was over before something came is no failure.
        Ok(_) | Err(Some(Errno::TIME)) => Entered::Fine,
        Err(Some(Errno::INTR)) => Entered::Again,
        Err(Some(Errno::AGAIN | Errno::BUSY | Errno::NOMEM)) => Entered::Later,
        Err(_) => panic!("the disk's ring takes no operations any more: {answer:?}"),
    }
}

/// Whether the kernel has not begun an operation and is to be asked again, after so many times.
pub(super) fn is_to_be_tried_again(result: i32, tries: u8) -> bool {
    let is_passing = [Errno::INTR, Errno::AGAIN].iter().any(|errno| result == -errno.raw_os_error());
    is_passing && tries < TRIES_MAX
}

/// A ring of the kernel. Its operations use memory of others: see [`Kernel::push`].
pub(super) struct Kernel {
    ring: IoUring,
    flavour: Flavour,
    eventfd: OwnedFd,
}

impl Kernel {
    /// A ring for so many operations at once, as good as can be had. Belongs to this thread.
    pub(super) fn open(entries: u32) -> io::Result<Kernel> {
        let mut refused = Vec::new();
        for flavour in Flavour::ALL {
            match Kernel::open_as(flavour, entries) {
                Ok(kernel) => {
                    if !refused.is_empty() {
                        log::info!(
                            "the disk's ring is {flavour:?}, which costs more: {}",
                            refused.join("; ")
                        );
                    }
                    return Ok(kernel);
                }
                Err(error) if flavour == Flavour::Plain => return Err(error),
                Err(error) => refused.push(format!("{flavour:?}: {error}")),
            }
        }
        unreachable!("the last flavour returns")
    }

    pub(super) fn open_as(flavour: Flavour, entries: u32) -> io::Result<Kernel> {
        let mut builder = IoUring::builder();
        // An operation has one completion, so there is always room for it.
        builder.setup_clamp().setup_cqsize(2 * entries);
        match flavour {
            Flavour::Deferred => {
                builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all()
            }
            Flavour::Cooperative => builder.setup_coop_taskrun().setup_taskrun_flag(),
            Flavour::Plain => &mut builder,
        };
        let ring: IoUring = builder.build(entries)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        Ok(Kernel { ring, flavour, eventfd })
    }

    /// Rings when there are completions and nobody has silenced it.
    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// Rings, for who waits and nothing will come any more.
    pub(super) fn ring_eventfd(&self) -> io::Result<()> {
        rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes())?;
        Ok(())
    }

    // -- operations --

    /// Puts an operation into the queue of those to be handed over; `false`: the queue is full.
    ///
    /// # Safety
    ///
    /// Its memory and its file stay as they are, and the memory is used by nobody else, until [`Kernel::next`] has given
    /// its completion.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Hands over what was pushed, and has completions put where [`Kernel::next`] finds them. `false`: the kernel does not
    /// take all now.
    pub(super) fn enter(&mut self) -> bool {
        for _ in 0..ENTERS_MAX {
            let pushed = self.ring.submission().len();
            let is_news = self.is_flagged();
            if pushed == 0 && !is_news {
                return true;
            }
            // SAFETY: no argument is given, so there is nothing that could be wrong with it; what was pushed is as
            // `push` demands.
            let answer = unsafe {
                self.ring.submitter().enter::<()>(pushed as u32, 0, EnterFlags::GETEVENTS.bits(), None)
            };
            match after_enter(answer) {
                Entered::Fine if self.ring.submission().is_empty() => return true,
                Entered::Fine | Entered::Again => {}
                Entered::Later => return false,
            }
        }
        false
    }

    /// [`Kernel::enter`] for who has nothing else to do: waits for a completion, for so long at most.
    pub(super) fn enter_and_wait(&mut self, max: Duration) {
        let timespec = Timespec::from(max);
        let answer = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timespec));
        if after_enter(answer) == Entered::Later {
            std::thread::sleep(max);
        }
    }

    /// The next operation that has ended: its number and the kernel's answer.
    pub(super) fn next(&mut self) -> Option<(u64, i32)> {
        let completion = self.ring.completion().next()?;
        Some((completion.user_data(), completion.result()))
    }

    /// Whether there are completions. Costs no system call.
    pub(super) fn has_news(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.is_flagged()
    }

    /// Whether the kernel has something that it wants to be entered for.
    fn is_flagged(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    // -- waiting --

    /// Whether completions can be waited for without missing one although the eventfd was silent. The kernel raises its
    /// flag, then looks whether the eventfd is silent; we end the silence, then look for the flag. That needs an order
    /// between both, which on this architecture every atomic operation of the kernel has.
    fn may_be_silent(&self) -> bool {
        cfg!(target_arch = "x86_64") && self.flavour == Flavour::Deferred
    }

    /// Completions do not ring from now on.
    pub(super) fn silence(&mut self) {
        if self.may_be_silent() {
            self.ring.completion().disable_eventfd();
        }
    }

    /// Completions ring from now on. `true`: there are some already, which may not have.
    pub(super) fn listen(&mut self) -> bool {
        if self.may_be_silent() {
            self.ring.completion().enable_eventfd();
            fence(Ordering::SeqCst);
        }
        self.has_news()
    }

    // -- tables --

    pub(super) fn make_file_table(&self, files: u32) -> io::Result<()> {
        self.ring.submitter().register_files_sparse(files)
    }

    /// Puts a file into its table, or (-1) nothing.
    pub(super) fn set_file(&self, index: u32, file: RawFd) -> io::Result<()> {
        self.ring.submitter().register_files_update(index, &[file]).map(|_| ())
    }

    pub(super) fn make_memory_table(&self, pieces: u32) -> io::Result<()> {
        self.ring.submitter().register_buffers_sparse(pieces)
    }

    /// Puts memory into its table, or (null, 0) nothing. The kernel holds its pages from now on, not its addresses.
    ///
    /// # Safety
    ///
    /// Operations use this entry only while the memory is mapped where it is now.
    pub(super) unsafe fn set_memory(&self, index: u32, start: *mut u8, bytes: usize) -> io::Result<()> {
        #[repr(C)]
        struct IoVector(*mut u8, usize);
        let vector = IoVector(start, bytes);
        // SAFETY: `struct iovec` is an address and a length, in this order; the kernel has read it when this returns.
        let vectors = unsafe { std::slice::from_raw_parts((&raw const vector).cast(), 1) };
        // SAFETY: the caller's promise.
        unsafe { self.ring.submitter().register_buffers_update(index, vectors, None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: Errno) -> io::Result<usize> {
        Err(errno.into())
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_told() {
        assert_eq!(after_enter(Ok(3)), Entered::Fine);
        assert_eq!(after_enter(refused(Errno::TIME)), Entered::Fine);
        assert_eq!(after_enter(refused(Errno::INTR)), Entered::Again);
        for errno in [Errno::AGAIN, Errno::BUSY, Errno::NOMEM] {
            assert_eq!(after_enter(refused(errno)), Entered::Later);
        }
        let again = |errno: Errno, tries| is_to_be_tried_again(-errno.raw_os_error(), tries);
        assert!(again(Errno::INTR, 0) && again(Errno::AGAIN, TRIES_MAX - 1));
        assert!(!again(Errno::AGAIN, TRIES_MAX) && !again(Errno::IO, 0) && !is_to_be_tried_again(4_096, 0));
    }

    #[test]
    #[should_panic(expected = "takes no operations any more")]
    fn a_ring_that_is_lost_is_told_at_once() {
        after_enter(refused(Errno::BADF));
    }

    #[test]
    fn all_flavours_complete_and_ring() {
        for flavour in Flavour::ALL {
            let mut kernel = Kernel::open_as(flavour, 8).expect("this kernel has them all");
            assert!(kernel.enter() && kernel.next().is_none() && !kernel.listen());
            let entry = io_uring::opcode::Nop::new().build().user_data(7);
            // SAFETY: it uses no memory and no file.
            assert!(unsafe { kernel.push(&entry) });
            assert!(kernel.enter());
            kernel.enter_and_wait(Duration::from_secs(10));
            assert_eq!(kernel.next(), Some((7, 0)), "{flavour:?}");
            kernel.silence();
            kernel.enter_and_wait(Duration::from_millis(1));
            assert_eq!(kernel.next(), None);
        }
    }

    #[test]
    fn a_full_queue_takes_no_more_until_it_is_handed_over() {
        let mut kernel = Kernel::open(4).expect("a ring");
        let entry = io_uring::opcode::Nop::new().build();
        // SAFETY: it uses no memory and no file.
        let push = |kernel: &mut Kernel| unsafe { kernel.push(&entry) };
        assert!((0..4).all(|_| push(&mut kernel)) && !push(&mut kernel));
        assert!(kernel.enter() && push(&mut kernel));
    }
}
