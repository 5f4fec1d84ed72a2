//! Disks of an engine's cores: files and block devices behind an io_uring of their own, beside glommio's.
//!
//! **Why a second ring.** glommio's allocates for each read, knows no registered memory of ours and owns its buffers itself.
//! This one reads into and writes out of segments, in batches, and costs a core nothing while nothing is in flight.
//!
//! **Promises**, besides those of [`crate::disk`]:
//! * A buffer that the kernel may use is not freed, whatever is dropped, in whatever order, also when the core ends.
//! * No allocation for each operation, but for buffers that the disk cannot use (see below) and for the executor's own
//!   at each time it is woken.
//! * A disk is used by one owner: a second one, of this process or another, gets `ResourceBusy`. Cores of a process may have parts of one that
//!   do not overlap.
//! * A file's end is a disk's end: it never grows.
//!
//! **Faults.** What the kernel says is passed on with its number, once: nothing is written again here. `EINTR` and
//! `EAGAIN` mean that nothing has begun and are tried again a few times. A short transfer is passed on, without the part
//! of a sector at its end. Of a process that is killed the kernel completes what it has.
//!
//! **Addresses.** `O_DIRECT` wants buffers at multiples of what `statx` tells, mostly 512, which everything in segments
//! is. Other buffers are copied, in pieces of `BOUNCE_BYTES_MAX`, so that such transfers are short.
//!
//! | file | what lives there |
//! |---|---|
//! | `held.rs` | files and devices that the process has: locks, parts, sizes, `O_DIRECT` |
//! | `open.rs` | a disk of a core |
//! | `ring.rs` | the ring: operations, batches, registered files and memory |
//! | `slots.rs`, `parcel.rs` | operations in flight, and the buffers that they own |
//! | `pieces.rs` | memory that the kernel knows |
//! | `kernel.rs` | what is asked of the kernel, and what its answers mean |
//! | `driver.rs` | the task that drives it: when to submit, to look, to wait |

mod driver;
mod held;
mod kernel;
mod open;
mod parcel;
mod pieces;
mod ring;
mod slots;

pub use held::HeldDisk;
pub use ring::Counts as RingCounts;

use super::Shared;
use crate::disk::{Disk, DiskError, DiskMemory, DiskPlace, DiskSource, DiskTarget, Memory, check_sectors};
use crate::memory::Mapping;
use open::Opened;
use parcel::Parcel;
use ring::{IN_KERNEL_MAX, Ring};
use rustix::io::Errno;
use slots::{Kind, Operation};
use std::cell::{OnceCell, RefCell};
use std::future::Future;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::pin::Pin;
use std::ptr;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What the kernel takes at once: less than it could, and a number of sectors.
const TRANSFER_BYTES_MAX: u64 = 1 << 30;
/// What is copied at once for a buffer that the disk cannot use.
const BOUNCE_BYTES_MAX: u64 = 1 << 20;
/// How long a core that ends waits for its operations.
const FINISH_MAX: Duration = Duration::from_secs(10);

/// The ring of a core, made when its first disk is opened.
#[derive(Default)]
pub(super) struct CoreRing {
    ring: OnceCell<Rc<Ring>>,
    /// All disks that were opened, some of them gone.
    opened: RefCell<Vec<Weak<Opened>>>,
}

impl CoreRing {
    pub(super) fn open_disk(&self, place: &DiskPlace, shared: &Shared) -> io::Result<UringDisk> {
        let ring = match self.ring.get() {
            Some(ring) if ring.has_ended() => return Err(Errno::NODEV.into()),
            Some(ring) => ring.clone(),
            None => {
                let ring = Ring::open(IN_KERNEL_MAX)?;
                driver::start(&ring, shared)?;
                self.ring.get_or_init(|| ring).clone()
            }
        };
        let opened = Opened::open(ring, place)?;
        let mut all = self.opened.borrow_mut();
        all.retain(|opened| opened.strong_count() > 0);
        all.push(Rc::downgrade(&opened));
        Ok(UringDisk { opened })
    }

    /// The core's main task has ended, and other tasks are about to be dropped: nothing is to begin any more, and disks are given up here, when the
    /// kernel has completed what it has.
    pub(super) fn finish(&self) {
        let left = self.ring.get().map_or(0, |ring| ring.finish(FINISH_MAX));
        if left == 0 {
            self.opened.take().iter().filter_map(Weak::upgrade).for_each(|opened| opened.release());
        } else {
            log::warn!(
                "{left} disk operations have not ended within {FINISH_MAX:?}: their buffers and the disk's lock stay \
                 until the process ends"
            );
        }
    }
}

/// A file or block device, opened by one core.
#[derive(Clone)]
pub struct UringDisk {
    opened: Rc<Opened>,
}

impl UringDisk {
    /// What has happened on the core's ring, on all its disks.
    pub fn ring_counts(&self) -> RingCounts {
        self.opened.ring.counts()
    }

    /// What addresses of buffers are multiples of, if nothing is to be copied.
    pub fn memory_alignment(&self) -> usize {
        self.opened.held().memory_alignment
    }

    /// How many bytes of so many from `offset` there are.
    fn cut(&self, offset: u64, bytes: u64) -> u64 {
        bytes.min(self.opened.bytes().saturating_sub(offset))
    }

    /// Whether the disk cannot use memory at this address.
    fn needs_bounce(&self, start: *const u8) -> bool {
        !start.addr().is_multiple_of(self.opened.held().memory_alignment)
    }

    /// A read or write of `asked` bytes at `start`, or what comes of it at once.
    fn transfer(
        &self,
        kind: Kind,
        offset: u64,
        (start, asked): (*mut u8, u64),
    ) -> Result<Wanted, io::Result<usize>> {
        check_sectors(offset, asked).map_err(|error| Err(error.into()))?;
        let bytes = self.cut(offset, asked).min(TRANSFER_BYTES_MAX);
        match (bytes, kind) {
            (0, Kind::Write) if asked > 0 => {
                return Err(Err(DiskError::BehindTheEnd { offset, bytes: self.opened.bytes() }.into()));
            }
            (0, _) => return Err(Ok(0)),
            _ => {}
        }
        if !self.needs_bounce(start) {
            return Ok(Wanted { kind, offset, bytes, start, bounce: None });
        }
        let bytes = bytes.min(BOUNCE_BYTES_MAX);
        let mut bounce = Memory::zeroed(bytes as usize);
        if kind == Kind::Write {
            // SAFETY: `start` is the beginning of `asked` bytes, of a buffer that the caller has in hand, and `bytes` is no
            // more; the other memory is fresh.
            unsafe { bounce.slice_mut().as_mut_ptr().copy_from_nonoverlapping(start, bytes as usize) };
        }
        Ok(Wanted { kind, offset, bytes, start, bounce: Some(bounce) })
    }
}

impl Disk for UringDisk {
    fn bytes(&self) -> u64 {
        self.opened.bytes()
    }

    fn is_direct(&self) -> bool {
        self.opened.held().is_direct
    }

    fn wants_discards(&self) -> bool {
        self.opened.held().file.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device())
    }

    fn read<B: DiskTarget>(
        &self,
        offset: u64,
        buffer: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static {
        InFlight::new(self, buffer, move |disk, buffer: &mut B| {
            let bytes = buffer.bytes_mut();
            disk.transfer(Kind::Read, offset, (bytes.as_mut_ptr(), bytes.len() as u64))
        })
    }

    fn write<B: DiskSource>(
        &self,
        offset: u64,
        buffer: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static {
        InFlight::new(self, buffer, move |disk, buffer: &mut B| {
            let bytes = buffer.bytes();
            // The kernel only reads there.
            disk.transfer(Kind::Write, offset, (bytes.as_ptr().cast_mut(), bytes.len() as u64))
        })
    }

    fn flush(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let flush = InFlight::new(self, (), |_, ()| Ok(Wanted::whole(Kind::Flush, 0, 0)));
        async move { flush.await.0.map(|_| ()) }
    }

    fn discard(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let discard = InFlight::new(self, (), move |disk, ()| {
            check_sectors(offset, bytes).map_err(|error| Err(error.into()))?;
            match disk.cut(offset, bytes) {
                0 => Err(Ok(0)),
                bytes => Ok(Wanted::whole(Kind::Discard, offset, bytes)),
            }
        });
        async move { discard.await.0.map(|_| ()) }
    }

    fn register(&self, memory: &Mapping) -> DiskMemory {
        self.opened.ring.register(memory)
    }
}

/// An operation that is about to begin.
struct Wanted {
    kind: Kind,
    offset: u64,
    bytes: u64,
    start: *mut u8,
    bounce: Option<Memory>,
}

impl Wanted {
    /// One without memory.
    fn whole(kind: Kind, offset: u64, bytes: u64) -> Wanted {
        Wanted { kind, offset, bytes, start: ptr::null_mut(), bounce: None }
    }
}

/// An operation's future. The buffer is here until it begins, and its slot's until it is done.
struct InFlight<B: 'static, W> {
    disk: UringDisk,
    buffer: Option<B>,
    /// What is wanted of the buffer, or what comes of it without the kernel.
    wanted: W,
    /// Its slot, from beginning to end.
    slot: Option<u32>,
}

impl<B, W: Fn(&UringDisk, &mut B) -> Result<Wanted, io::Result<usize>>> InFlight<B, W> {
    fn new(disk: &UringDisk, buffer: B, wanted: W) -> InFlight<B, W> {
        InFlight { disk: disk.clone(), buffer: Some(buffer), wanted, slot: None }
    }
}

// Nothing in it is ever pinned.
impl<B, W> Unpin for InFlight<B, W> {}

impl<B, W: Fn(&UringDisk, &mut B) -> Result<Wanted, io::Result<usize>>> Future for InFlight<B, W> {
    type Output = (io::Result<usize>, B);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<(io::Result<usize>, B)> {
        let InFlight { disk, buffer, wanted, slot } = &mut *self;
        let ring = &disk.opened.ring;
        if let Some(index) = *slot {
            let done = ready!(ring.poll(index, context));
            *slot = None;
            let (result, parcel) = done.into_result();
            return Poll::Ready((result, parcel.take()));
        }
        let mut buffer = buffer.take().expect("polled after its end");
        if ring.has_ended() {
            return Poll::Ready((Err(Errno::NODEV.into()), buffer));
        }
        let Wanted { kind, offset, bytes, start, bounce } = match wanted(disk, &mut buffer) {
            Ok(wanted) => wanted,
            Err(result) => return Poll::Ready((result, buffer)),
        };
        let (disk, parcel) = (disk.opened.clone(), Parcel::new(buffer));
        let operation = Operation { disk, kind, offset, bytes, start, bounce, parcel };
        *slot = Some(ring.begin(operation, context.waker()));
        Poll::Pending
    }
}

impl<B: 'static, W> Drop for InFlight<B, W> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.disk.opened.ring.forget(slot);
        }
    }
}

#[cfg(test)]
mod tests;
