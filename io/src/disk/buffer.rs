//! Buffers for disks, outside of segments: [`DiskBuffer`], from a pool that is bounded and uses memory again.

use super::{DiskSource, DiskTarget, SECTOR_BYTES};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

/// Every address that a disk could ask for.
const ALIGNMENT: usize = SECTOR_BYTES as usize;

/// A pool of buffers, of one thread. Clones are the same one. What is free in it is freed when the last clone and the
/// last buffer are gone.
#[derive(Clone)]
pub struct DiskBuffers(Rc<RefCell<Pool>>);

struct Pool {
    limit_bytes: usize,
    /// Of all its memory, taken or free.
    held_bytes: usize,
    free: Vec<Memory>,
}

impl DiskBuffers {
    /// A pool of at most so many bytes, those in use and those that wait for it together.
    pub fn new(limit_bytes: usize) -> DiskBuffers {
        DiskBuffers(Rc::new(RefCell::new(Pool { limit_bytes, held_bytes: 0, free: Vec::new() })))
    }

    /// A buffer of zeros; `None`: the pool's limit is reached, until somebody drops one. Panics if `bytes` is not a number
    /// of sectors.
    pub fn take(&self, bytes: usize) -> Option<DiskBuffer> {
        let (memory, is_fresh) = self.0.borrow_mut().take(bytes)?;
        let mut buffer = DiskBuffer { memory: Some(memory), pool: self.clone() };
        if !is_fresh {
            buffer.fill(0);
        }
        Some(buffer)
    }

    /// [`DiskBuffers::take`] for who overwrites all of it anyway: its bytes are any that the pool's users had.
    pub fn take_used(&self, bytes: usize) -> Option<DiskBuffer> {
        let (memory, _) = self.0.borrow_mut().take(bytes)?;
        Some(DiskBuffer { memory: Some(memory), pool: self.clone() })
    }

    /// Bytes of all its memory, in use or waiting for it.
    pub fn held_bytes(&self) -> usize {
        self.0.borrow().held_bytes
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        let pool = self.0.borrow();
        pool.held_bytes - pool.free.iter().map(|memory| memory.bytes).sum::<usize>()
    }
}

impl fmt::Debug for DiskBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskBuffers").field("held_bytes", &self.held_bytes()).finish_non_exhaustive()
    }
}

impl Pool {
    /// Memory of that length, and whether it is fresh, i.e. zeros.
    fn take(&mut self, bytes: usize) -> Option<(Memory, bool)> {
        assert!(bytes > 0 && bytes.is_multiple_of(ALIGNMENT), "a buffer of {bytes} bytes is not of sectors");
        if let Some(index) = self.free.iter().rposition(|memory| memory.bytes == bytes) {
            return Some((self.free.swap_remove(index), false));
        }
        // What waits in other lengths makes room.
        while self.held_bytes.checked_add(bytes)? > self.limit_bytes {
            self.held_bytes -= self.free.pop()?.bytes;
        }
        self.held_bytes += bytes;
        Some((Memory::zeroed(bytes), true))
    }
}

/// Memory at a multiple of [`SECTOR_BYTES`], some sectors long. Goes back to its pool when dropped.
pub struct DiskBuffer {
    /// There until dropped.
    memory: Option<Memory>,
    pool: DiskBuffers,
}

impl DiskBuffer {
    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("there until dropped")
    }
}

impl Deref for DiskBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory().slice()
    }
}

impl DerefMut for DiskBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().expect("there until dropped").slice_mut()
    }
}

impl fmt::Debug for DiskBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskBuffer").field("bytes", &self.memory().bytes).finish_non_exhaustive()
    }
}

impl Drop for DiskBuffer {
    fn drop(&mut self) {
        let memory = self.memory.take().expect("there until dropped");
        self.pool.0.borrow_mut().free.push(memory);
    }
}

// SAFETY: the bytes are on the heap, where a move of the buffer leaves them, and the buffer owns them alone.
unsafe impl DiskSource for DiskBuffer {
    fn bytes(&self) -> &[u8] {
        self
    }
}

// SAFETY: as above.
unsafe impl DiskTarget for DiskBuffer {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Memory of the heap at a multiple of [`ALIGNMENT`]. Always initialised.
pub(crate) struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

impl Memory {
    /// Fresh memory, `bytes` > 0.
    pub(crate) fn zeroed(bytes: usize) -> Memory {
        let layout = Memory::layout(bytes);
        // SAFETY: the layout is not of zero bytes, which `layout` sees to.
        match NonNull::new(unsafe { alloc_zeroed(layout) }) {
            Some(start) => Memory { start, bytes },
            None => handle_alloc_error(layout),
        }
    }

    fn layout(bytes: usize) -> Layout {
        assert!(bytes > 0, "memory of no bytes");
        Layout::from_size_align(bytes, ALIGNMENT).expect("fewer bytes than there are addresses")
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn slice(&self) -> &[u8] {
        // SAFETY: `start` is the beginning of `bytes` initialised bytes that this value owns until it is dropped.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub(crate) fn slice_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `slice`, and `&mut self` is the only way here.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this layout, and nobody refers to it after this value.
        unsafe { dealloc(self.start.as_ptr(), Memory::layout(self.bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTOR: usize = ALIGNMENT;

    #[test]
    fn buffers_are_aligned_zeroed_and_used_again() {
        let pool = DiskBuffers::new(4 * SECTOR);
        let mut buffer = pool.take(2 * SECTOR).expect("room");
        assert!(buffer.as_ptr().addr().is_multiple_of(SECTOR) && buffer.iter().all(|byte| *byte == 0));
        buffer.fill(7);
        let place = buffer.as_ptr();
        drop(buffer);
        let buffer = pool.take_used(2 * SECTOR).expect("room");
        assert!(buffer.as_ptr() == place && buffer.iter().all(|byte| *byte == 7));
        drop(buffer);
        let buffer = pool.take(2 * SECTOR).expect("room");
        assert!(buffer.as_ptr() == place && buffer.iter().all(|byte| *byte == 0));
        assert_eq!((pool.held_bytes(), pool.used_bytes()), (2 * SECTOR, 2 * SECTOR));
    }

    #[test]
    fn the_limit_holds_and_what_waits_makes_room() {
        let pool = DiskBuffers::new(4 * SECTOR);
        let small: Vec<_> = (0..4).map(|_| pool.take(SECTOR).expect("room")).collect();
        assert!(pool.take(SECTOR).is_none());
        drop(small);
        assert_eq!((pool.held_bytes(), pool.used_bytes()), (4 * SECTOR, 0));
        let large = pool.take(3 * SECTOR).expect("the small ones are freed");
        assert_eq!((pool.held_bytes(), pool.used_bytes()), (4 * SECTOR, 3 * SECTOR));
        assert!(pool.take(2 * SECTOR).is_none() && pool.take(usize::MAX & !(SECTOR - 1)).is_none());
        drop(pool);
        assert_eq!(large.len(), 3 * SECTOR, "a buffer outlives the pool's handle");
    }

    #[test]
    #[should_panic(expected = "not of sectors")]
    fn a_buffer_is_of_sectors() {
        DiskBuffers::new(1 << 20).take(512);
    }
}
