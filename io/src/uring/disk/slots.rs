//! Operations from their beginning to the moment somebody takes the result: each in a slot, with all it needs.
//!
//! ```text
//!            first poll          handed over             completion            its future asks
//!   future ────────────► queued ─────────────► in kernel ───────────► done ───────────────────► free
//!                           ▲                      │ not begun: again    └─ its future is gone ──► free, at once
//!                           └──────────────────────┘
//! ```
//!
//! Invariant, on which the `unsafe` of handing over rests: from queued to done a slot owns the operation's buffer and
//! its file, whatever becomes of the future. Nothing but [`Slots::complete`] makes it done.

use super::kernel::is_to_be_tried_again;
use super::open::Opened;
use super::parcel::Parcel;
use crate::disk::{Memory, SECTOR_BYTES};
use io_uring::types::{Fd, Fixed, FsyncFlags};
use io_uring::{opcode, squeue};
use rustix::fs::FallocateFlags;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Flush,
    Discard,
}

/// What is to be done, where, with whose memory.
pub(super) struct Operation {
    pub(super) disk: Rc<Opened>,
    pub(super) kind: Kind,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// The memory of reads and writes, `bytes` long.
    pub(super) start: *mut u8,
    /// Used instead, where the disk cannot use the other.
    pub(super) bounce: Option<Memory>,
    /// Owns the memory.
    pub(super) parcel: Parcel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Queued,
    InKernel,
    Done(i32),
}

/// An operation, and who waits for it.
pub(super) struct Slot {
    operation: Operation,
    phase: Phase,
    tries: u8,
    waker: Option<Waker>,
    /// Its future is gone: nobody takes the result.
    is_forgotten: bool,
}

/// What a completion leads to.
pub(super) enum Completed {
    /// It is to be handed over again.
    Again,
    /// Somebody waits for it.
    Wake(Option<Waker>),
    /// Nobody wants it any more. To be dropped when nothing is borrowed: a buffer's code is foreign.
    Forgotten(Slot),
}

/// All operations of a ring.
#[derive(Default)]
pub(super) struct Slots {
    list: Vec<Option<Slot>>,
    free: Vec<u32>,
}

impl Slots {
    /// An operation begins: queued.
    pub(super) fn insert(&mut self, operation: Operation, waker: &Waker) -> u32 {
        let slot = Slot {
            operation,
            phase: Phase::Queued,
            tries: 0,
            waker: Some(waker.clone()),
            is_forgotten: false,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.list.push(None);
            u32::try_from(self.list.len() - 1).expect("fewer than 2^32 operations")
        });
        self.list[index as usize] = Some(slot);
        index
    }

    /// A queued operation is handed over to the kernel.
    pub(super) fn hand_over(&mut self, index: u32) -> &Operation {
        let slot = self.slot_mut(index);
        assert_eq!(slot.phase, Phase::Queued, "handed over once");
        slot.phase = Phase::InKernel;
        &slot.operation
    }

    /// The kernel has given an operation back.
    pub(super) fn complete(&mut self, index: u32, result: i32) -> Completed {
        let slot = self.slot_mut(index);
        assert_eq!(slot.phase, Phase::InKernel, "completed once");
        if is_to_be_tried_again(result, slot.tries) {
            (slot.phase, slot.tries) = (Phase::Queued, slot.tries + 1);
            return Completed::Again;
        }
        slot.phase = Phase::Done(result);
        match slot.is_forgotten {
            true => Completed::Forgotten(self.remove(index)),
            false => Completed::Wake(slot.waker.take()),
        }
    }

    /// Takes a slot that is done, or notes who waits for it.
    pub(super) fn poll(&mut self, index: u32, context: &Context<'_>) -> Poll<Slot> {
        let slot = self.slot_mut(index);
        if let Phase::Done(_) = slot.phase {
            return Poll::Ready(self.remove(index));
        }
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            slot.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Its future is gone. What is done is taken out, to be dropped when nothing is borrowed; what is not goes on.
    pub(super) fn forget(&mut self, index: u32) -> Option<Slot> {
        let slot = self.slot_mut(index);
        if let Phase::Done(_) = slot.phase {
            return Some(self.remove(index));
        }
        (slot.is_forgotten, slot.waker) = (true, None);
        None
    }

    pub(super) fn operation(&self, index: u32) -> &Operation {
        &self.list[index as usize].as_ref().expect("a slot in use").operation
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        self.list[index as usize].as_mut().expect("a slot in use")
    }

    fn remove(&mut self, index: u32) -> Slot {
        self.free.push(index);
        self.list[index as usize].take().expect("a slot in use")
    }
}

impl Slot {
    /// The bytes that were transferred, whole sectors of them, and the buffer. What a read brought by way of other memory
    /// is in the buffer then.
    pub(super) fn into_result(self) -> (io::Result<usize>, Parcel) {
        let Phase::Done(result) = self.phase else { unreachable!("only what is done is taken") };
        let Operation { kind, start, bounce, parcel, bytes, .. } = self.operation;
        if result < 0 {
            return (Err(io::Error::from_raw_os_error(-result)), parcel);
        }
        let done = result as u64 / SECTOR_BYTES * SECTOR_BYTES;
        assert!(done <= bytes, "the kernel says {result} of {bytes} bytes");
        if let (Kind::Read, Some(bounce)) = (kind, bounce) {
            // SAFETY: `start` is the beginning of `bytes` bytes that the parcel owns, for writing, since it is a read; the
            // other memory is at least that long, and its own.
            unsafe { start.copy_from_nonoverlapping(bounce.slice().as_ptr(), done as usize) };
        }
        (Ok(done as usize), parcel)
    }
}

impl Operation {
    /// Where the kernel reads or writes.
    fn memory(&self) -> *mut u8 {
        self.bounce.as_ref().map_or(self.start, |bounce| bounce.start())
    }

    /// The addresses that the kernel uses: where they begin, and how many.
    pub(super) fn addresses(&self) -> (usize, usize) {
        (self.memory().addr(), self.bytes as usize)
    }

    /// As the kernel wants it, for memory that is registered under a number, or is not.
    pub(super) fn entry(&self, index: u32, registered: Option<u16>) -> squeue::Entry {
        let (memory, bytes, at) = (self.memory(), self.bytes as u32, self.disk.in_file(self.offset));
        // The kinds of files are of two types.
        macro_rules! entry {
            ($file:expr) => {
                match (self.kind, registered) {
                    (Kind::Read, None) => opcode::Read::new($file, memory, bytes).offset(at).build(),
                    (Kind::Read, Some(piece)) => {
                        opcode::ReadFixed::new($file, memory, bytes, piece).offset(at).build()
                    }
                    (Kind::Write, None) => opcode::Write::new($file, memory, bytes).offset(at).build(),
                    (Kind::Write, Some(piece)) => {
                        opcode::WriteFixed::new($file, memory, bytes, piece).offset(at).build()
                    }
                    (Kind::Flush, _) => opcode::Fsync::new($file).flags(FsyncFlags::DATASYNC).build(),
                    (Kind::Discard, _) => {
                        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                        let punch = opcode::Fallocate::new($file, self.bytes);
                        punch.offset(at).mode(mode.bits() as i32).build()
                    }
                }
            };
        }
        let entry = match self.disk.fixed {
            Some(fixed) => entry!(Fixed(fixed)),
            None => entry!(Fd(self.disk.held().file.as_raw_fd())),
        };
        entry.user_data(u64::from(index))
    }
}
