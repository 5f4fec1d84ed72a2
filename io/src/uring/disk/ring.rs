//! The ring of a core: operations go to the kernel in batches, completions come back.
//!
//! ```text
//!   a task begins an operation ──► queue ──► [turn: hand over, enter, take what is complete] ──► wakes its task
//!                                    │         ▲            ▲
//!                                    └ rings ──┘ driver     └ eventfd: the kernel has completed something
//! ```
//!
//! **Owned:** the kernel's ring, all operations from beginning to end, the tables of registered files and memory. At most
//! [`Ring::in_kernel_max`] operations are in the kernel; the others wait in the order in which they began.
//!
//! **Life.** An operation's slot has its disk, and a disk has its ring: as long as an operation is in flight there is a ring,
//! somebody drives it, and its buffer is there. A core that ends waits for what is in flight ([`Ring::finish`]), up to
//! a limit. What is in flight then is *leaked*, ring, buffers, lock of the file and all, until the process ends: the
//! kernel may still write there.

use super::driver::Doorbell;
use super::kernel::Kernel;
use super::pieces::{PIECES_MAX, Pieces};
use super::slots::{Completed, Kind, Operation, Slot, Slots};
use crate::disk::DiskMemory;
use crate::memory::Mapping;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Operations in the kernel at once.
pub(super) const IN_KERNEL_MAX: u32 = 256;
/// So many that wait are handed over at once, by who begins the last of them.
const WAITING_MAX: usize = 64;
/// A turn hands over no more bytes than this, and at least an operation: a MiB in pages of 4 KiB costs the core up to 90 µs.
const TURN_BYTES_MAX: u64 = 4 << 20;
/// Files in the kernel's table. More work, and cost a little more.
const FILES_MAX: u32 = 64;
/// How long a core that ends waits between two looks.
const FINISH_STEP: Duration = Duration::from_millis(10);

/// The ring of one core. Only its thread uses it.
pub(super) struct Ring {
    state: RefCell<State>,
    /// The core has ended.
    has_ended: Cell<bool>,
    pub(super) doorbell: Rc<Doorbell>,
}

struct State {
    kernel: Kernel,
    slots: Slots,
    /// Begun and not handed over, in their order.
    queue: VecDeque<u32>,
    in_kernel: u32,
    in_kernel_max: u32,
    reads_in_kernel: u32,
    /// Which places of the kernel's table of files are free; `None`: there is no table.
    free_files: Option<Vec<u32>>,
    /// `None`: no memory was ever registered.
    pieces: Option<Pieces>,
    is_refused: bool,
    counts: Counts,
}

/// How much has happened on a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations handed over to the kernel, those handed over again too.
    pub handed_over: u64,
    /// Of them, those whose memory was registered.
    pub of_registered_memory: u64,
    /// Operations whose memory the disk cannot use, so that other memory was used in between.
    pub bounced: u64,
    /// Turns, i.e. looks at the kernel.
    pub turns: u64,
}

/// What a turn leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// To wait.
    Wait,
    /// To go on soon, after others had their turn.
    More,
    /// The kernel takes nothing: to go on after a while.
    Stuck,
}

impl Ring {
    /// A ring that nobody drives yet.
    pub(super) fn open(in_kernel_max: u32) -> io::Result<Rc<Ring>> {
        Ok(Ring::of(Kernel::open(in_kernel_max)?, in_kernel_max))
    }

    /// The same, with a kernel's ring that has room for so many operations.
    pub(super) fn of(kernel: Kernel, in_kernel_max: u32) -> Rc<Ring> {
        let free_files = match kernel.make_file_table(FILES_MAX) {
            Ok(()) => Some((0..FILES_MAX).rev().collect()),
            Err(error) => {
                log::info!("the kernel has no table of files for the disk's ring, which costs more: {error}");
                None
            }
        };
        let state = State {
            kernel,
            slots: Slots::default(),
            queue: VecDeque::new(),
            in_kernel: 0,
            in_kernel_max,
            reads_in_kernel: 0,
            free_files,
            pieces: None,
            is_refused: false,
            counts: Counts::default(),
        };
        Rc::new(Ring { state: RefCell::new(state), has_ended: Cell::new(false), doorbell: Rc::default() })
    }

    // -- operations --

    /// Begins an operation; returns its number.
    pub(super) fn begin(&self, operation: Operation, waker: &Waker) -> u32 {
        let mut state = self.state.borrow_mut();
        state.counts.bounced += u64::from(operation.bounce.is_some());
        let index = state.slots.insert(operation, waker);
        state.queue.push_back(index);
        let is_full = state.queue.len() >= WAITING_MAX && state.in_kernel < state.in_kernel_max;
        drop(state);
        if is_full {
            self.turn();
        }
        self.doorbell.ring();
        index
    }

    /// The slot of an operation, when it is done.
    pub(super) fn poll(&self, index: u32, context: &Context<'_>) -> Poll<Slot> {
        self.state.borrow_mut().slots.poll(index, context)
    }

    /// The future of an operation is gone.
    pub(super) fn forget(&self, index: u32) {
        let slot = self.state.borrow_mut().slots.forget(index);
        drop(slot);
    }

    // -- turns --

    /// Hands over what waits, and wakes who waits for what is complete.
    pub(super) fn turn(&self) -> Turned {
        let turned = {
            let mut state = self.state.borrow_mut();
            state.counts.turns += 1;
            state.hand_over();
            match state.kernel.enter() {
                false => Turned::Stuck,
                true if state.queue.is_empty() || state.in_kernel >= state.in_kernel_max => Turned::Wait,
                true => Turned::More,
            }
        };
        let mut has_room = false;
        loop {
            let mut state = self.state.borrow_mut();
            let Some((number, result)) = state.kernel.next() else {
                has_room &= !state.queue.is_empty();
                break;
            };
            let completed = state.complete(number as u32, result);
            // What is foreign runs while nothing is borrowed.
            drop(state);
            has_room = true;
            match completed {
                Completed::Wake(Some(waker)) => waker.wake(),
                Completed::Wake(None) | Completed::Again => {}
                Completed::Forgotten(slot) => drop(slot),
            }
        }
        match turned {
            Turned::Wait if has_room => Turned::More,
            turned => turned,
        }
    }

    /// Whether the kernel has completed something that no turn has taken. Costs no system call.
    pub(super) fn has_news(&self) -> bool {
        self.state.borrow_mut().kernel.has_news()
    }

    /// How many operations the kernel has, and how many of them are reads.
    pub(super) fn in_kernel(&self) -> (u32, u32) {
        let state = self.state.borrow();
        (state.in_kernel, state.reads_in_kernel)
    }

    /// The eventfd rings for completions. `true`: there are some already.
    pub(super) fn listen(&self) -> bool {
        self.state.borrow_mut().kernel.listen()
    }

    /// It does not.
    pub(super) fn silence(&self) {
        self.state.borrow_mut().kernel.silence();
    }

    /// The eventfd, for who waits.
    pub(super) fn eventfd(&self) -> io::Result<OwnedFd> {
        self.state.borrow().kernel.eventfd().try_clone_to_owned()
    }

    /// The core ends, and nobody drives the ring any more: waits until nothing is in flight, for so long at most. Returns
    /// how many operations are left.
    pub(super) fn finish(&self, max: Duration) -> usize {
        self.has_ended.set(true);
        let begun = Instant::now();
        loop {
            self.turn();
            let left = self.in_flight();
            if left == 0 || begun.elapsed() >= max {
                return left;
            }
            self.state.borrow_mut().kernel.enter_and_wait(FINISH_STEP);
        }
    }

    /// The core has ended: nothing is to begin any more.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Operations that have begun and are not complete.
    pub(super) fn in_flight(&self) -> usize {
        let state = self.state.borrow();
        state.in_kernel as usize + state.queue.len()
    }

    /// How much has happened.
    pub(super) fn counts(&self) -> Counts {
        self.state.borrow().counts
    }

    // -- files --

    /// Enters a file in the kernel's table, if there is room.
    pub(super) fn add_file(&self, file: BorrowedFd<'_>) -> Option<u32> {
        let mut state = self.state.borrow_mut();
        let index = state.free_files.as_mut()?.pop()?;
        match state.kernel.set_file(index, file.as_raw_fd()) {
            Ok(()) => Some(index),
            Err(error) => {
                log::info!("the kernel does not take a file in its table, which costs more: {error}");
                state.free_files = None;
                None
            }
        }
    }

    /// A file's last operation has ended, and nobody has it any more.
    pub(super) fn remove_file(&self, index: u32) {
        let mut state = self.state.borrow_mut();
        if let Err(error) = state.kernel.set_file(index, -1) {
            log::warn!("the kernel keeps a file in its table until the engine ends: {error}");
        } else if let Some(free) = &mut state.free_files {
            free.push(index);
        }
    }

    // -- memory --

    /// Registers memory until what is returned is dropped. If the kernel refuses, says so once and goes on without.
    pub(super) fn register(self: &Rc<Self>, mapping: &Mapping) -> DiskMemory {
        let registered = self.state.borrow_mut().register(mapping);
        match registered {
            Ok(pieces) => DiskMemory::new(Registered { ring: self.clone(), pieces }),
            Err(error) => {
                if !std::mem::replace(&mut self.state.borrow_mut().is_refused, true) {
                    log::warn!(
                        "memory is not registered with the disk's ring, so that large reads and writes cost more: \
                         {error}; raise the limit of locked memory (ulimit -l, LimitMEMLOCK) to change that"
                    );
                }
                DiskMemory::default()
            }
        }
    }
}

impl Drop for Ring {
    /// Nothing is in flight: operations have their ring. The driver ends.
    fn drop(&mut self) {
        self.doorbell.ring();
        if let Err(error) = self.state.get_mut().kernel.ring_eventfd() {
            log::warn!("a task waits for a disk's ring that is gone: {error}");
        }
    }
}

impl State {
    /// Hands operations over in their order, as long as there is room.
    fn hand_over(&mut self) {
        let mut bytes = 0;
        while self.in_kernel < self.in_kernel_max && bytes < TURN_BYTES_MAX {
            let Some(index) = self.queue.pop_front() else { return };
            let Operation { kind, .. } = *self.slots.operation(index);
            let operation = self.slots.hand_over(index);
            let registered = match (kind, &self.pieces) {
                (Kind::Read | Kind::Write, Some(pieces)) => {
                    let (start, bytes) = operation.addresses();
                    pieces.find(start, bytes)
                }
                _ => None,
            };
            if let (Kind::Read | Kind::Write, None) = (kind, registered) {
                bytes += operation.bytes;
            }
            // SAFETY: the slot owns memory and file until `complete` makes it done, which only a completion does; reads
            // and writes have memory that nobody else uses meanwhile, as `DiskSource` and `DiskTarget` demand.
            let is_pushed = unsafe { self.kernel.push(&operation.entry(index, registered)) };
            assert!(is_pushed, "as many places as operations in the kernel");
            self.in_kernel += 1;
            self.reads_in_kernel += u32::from(kind == Kind::Read);
            self.counts.handed_over += 1;
            self.counts.of_registered_memory += u64::from(registered.is_some());
        }
    }

    /// The kernel has given an operation back.
    fn complete(&mut self, index: u32, result: i32) -> Completed {
        self.in_kernel -= 1;
        self.reads_in_kernel -= u32::from(self.slots.operation(index).kind == Kind::Read);
        let completed = self.slots.complete(index, result);
        if let Completed::Again = completed {
            self.queue.push_front(index);
        }
        completed
    }

    fn register(&mut self, mapping: &Mapping) -> io::Result<Vec<u16>> {
        if self.pieces.is_none() {
            self.kernel.make_memory_table(u32::from(PIECES_MAX))?;
            self.pieces = Some(Pieces::new());
        }
        let dead = self.pieces.as_ref().map(Pieces::dead).unwrap_or_default();
        self.unregister(&dead);
        let mut registered = Vec::new();
        for part in Pieces::parts(mapping) {
            if let Err(error) = self.register_piece(part, mapping, &mut registered) {
                self.unregister(&registered);
                return Err(error);
            }
        }
        Ok(registered)
    }

    fn register_piece(
        &mut self,
        (start, bytes): (*mut u8, usize),
        mapping: &Mapping,
        registered: &mut Vec<u16>,
    ) -> io::Result<()> {
        let pieces = self.pieces.as_mut().expect("the table was made");
        let index = pieces.reserve().ok_or(io::ErrorKind::QuotaExceeded)?;
        // SAFETY: the piece is used only while its mapping lives, which `Pieces::find` sees to.
        if let Err(error) = unsafe { self.kernel.set_memory(u32::from(index), start, bytes) } {
            pieces.release(index);
            return Err(error);
        }
        pieces.insert(index, (start, bytes), mapping.life());
        registered.push(index);
        Ok(())
    }

    fn unregister(&mut self, indexes: &[u16]) {
        let Some(pieces) = &mut self.pieces else { return };
        for index in indexes.iter().filter(|index| pieces.remove(**index)).collect::<Vec<_>>() {
            // SAFETY: nothing is not used.
            match unsafe { self.kernel.set_memory(u32::from(*index), std::ptr::null_mut(), 0) } {
                Ok(()) => pieces.release(*index),
                Err(error) => log::warn!("the kernel keeps memory until the engine ends: {error}"),
            }
        }
    }
}

/// Memory that is registered with a ring until this is dropped.
struct Registered {
    ring: Rc<Ring>,
    pieces: Vec<u16>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.ring.state.borrow_mut().unregister(&self.pieces);
    }
}
