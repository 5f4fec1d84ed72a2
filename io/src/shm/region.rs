//! The memory of a connection: two pipes and a lane in one sealed memfd.
//!
//! The other process may change each byte at any time, so there are never references to them but atomic ones: bytes are
//! copied in and out by address, and whatever they are is a byte.

use super::pipe::{CONTROL_WORDS, Memory};
use super::shelf::HOLD_BYTES;
use super::slots::{HOLDS_AT, LANE_BYTES, LaneMemory};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Bytes that a pipe holds.
const PIPE_BYTES: usize = 256 << 10;
/// Bytes of a pipe's memory: its words, then its bytes.
const PIPE_MEMORY_BYTES: usize = CONTROL_WORDS * size_of::<u64>() + PIPE_BYTES;
const LANE_AT: usize = 2 * PIPE_MEMORY_BYTES;
/// Bytes of a connection's memory, as far as it is used: pages come when they are touched.
pub const LINK_BYTES: usize = LANE_AT + LANE_BYTES;
/// The memory may not become smaller or larger, and nobody may allow that again.
pub(super) const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

const _: () = assert!(LANE_AT.is_multiple_of(128));

/// Fresh memory for a connection.
pub(super) fn create() -> io::Result<OwnedFd> {
    let memory = memfd_create("snowskin-link", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&memory, LINK_BYTES as u64)?;
    fcntl_add_seals(&memory, SEALS)?;
    Ok(memory)
}

/// The parts of such a memory, which nobody can make smaller: the pipe to the engine, the one to the client, the lane.
pub(super) fn map(memory: &File) -> io::Result<(PipeMemory, PipeMemory, LaneRegion)> {
    let region = Arc::new(MmapOptions::new().len(LINK_BYTES).map_raw(memory)?);
    let to_engine = PipeMemory { region: region.clone(), offset: 0 };
    let to_client = PipeMemory { region: region.clone(), offset: PIPE_MEMORY_BYTES };
    Ok((to_engine, to_client, LaneRegion { region }))
}

/// The memory of one pipe.
///
/// Invariant: `offset` is 0 or [`PIPE_MEMORY_BYTES`], and the region has [`LINK_BYTES`], is mapped for reading and writing as
/// long as it lives, and begins at a page ([`map`] sees to it). So the start is aligned, and [`PIPE_MEMORY_BYTES`] from it are
/// ours to use.
#[derive(Clone, Debug)]
pub(crate) struct PipeMemory {
    region: Arc<MmapRaw>,
    offset: usize,
}

impl PipeMemory {
    fn start(&self) -> *mut u8 {
        self.region.as_mut_ptr().wrapping_add(self.offset)
    }

    /// The address of a byte, from which on there are `count`.
    fn byte(&self, at: usize, count: usize) -> *mut u8 {
        assert!(at <= PIPE_BYTES && count <= PIPE_BYTES - at, "{count} bytes from {at}");
        self.start().wrapping_add(CONTROL_WORDS * size_of::<u64>() + at)
    }
}

impl Memory for PipeMemory {
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: by the invariant the words are there, aligned and zero or what somebody stored, as long as `self`; words that
        // another process changes at any time are what atomics are for.
        unsafe { std::slice::from_raw_parts(self.start().cast::<AtomicU64>(), CONTROL_WORDS) }
    }

    fn capacity(&self) -> usize {
        PIPE_BYTES
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        // SAFETY: `byte` has checked that so many bytes are there; nothing else refers to them, and `bytes` are not among them, as
        // they are behind a reference.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.byte(at, bytes.len()), bytes.len()) }
    }

    fn read(&self, at: usize, buffer: &mut [u8]) {
        // SAFETY: as above; what the other process writes meanwhile decides which bytes we get, and no more.
        unsafe {
            std::ptr::copy_nonoverlapping(self.byte(at, buffer.len()), buffer.as_mut_ptr(), buffer.len())
        }
    }
}

/// The memory of a lane.
///
/// Invariant: the region has [`LINK_BYTES`], is mapped for reading and writing as long as it lives, and begins at a page
/// ([`map`] sees to it). So [`LANE_BYTES`] from [`LANE_AT`] are ours to use.
#[derive(Clone, Debug)]
pub struct LaneRegion {
    region: Arc<MmapRaw>,
}

impl LaneRegion {
    /// A fresh one, as two processes have mapped it: for simulated ones, and tests.
    pub fn pair() -> io::Result<(Self, Self)> {
        let memory = File::from(create()?);
        let ((_, _, one), (_, _, other)) = (map(&memory)?, map(&memory)?);
        Ok((one, other))
    }

    /// A simulated process dies: what its destructors write from now on, nobody sees.
    pub(crate) fn sever(&self) {
        use rustix::mm::{MapFlags, ProtFlags};
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED);
        // SAFETY: MAP_FIXED replaces the whole mapping, which is ours as long as `self` and is unmapped as one by its owner;
        // references to it are only atomic ones for the length of a call, and there is none now.
        let replaced = unsafe {
            rustix::mm::mmap_anonymous(self.region.as_mut_ptr().cast(), LINK_BYTES, protection, flags)
        };
        assert!(replaced.is_ok(), "{replaced:?}");
    }

    /// Where the words are in which the client says what it has of the core's shelf: [`HOLD_BYTES`] from there on.
    #[inline]
    pub(super) fn hold_words(&self) -> *mut u8 {
        const { assert!(HOLDS_AT + HOLD_BYTES <= LANE_BYTES && (LANE_AT + HOLDS_AT).is_multiple_of(64)) }
        self.region.as_mut_ptr().wrapping_add(LANE_AT + HOLDS_AT)
    }

    /// Whether nobody else has it any more.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.region) == 1
    }

    /// The address of a byte, from which on there are `count`.
    #[inline]
    fn byte(&self, at: usize, count: usize) -> *mut u8 {
        assert!(at <= LANE_BYTES && count <= LANE_BYTES - at, "{count} bytes from {at}");
        self.region.as_mut_ptr().wrapping_add(LANE_AT + at)
    }
}

impl LaneMemory for LaneRegion {
    #[inline]
    fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(align_of::<AtomicU32>()), "{at} is no word");
        // SAFETY: `byte` has checked that the word is there, and it is aligned, as the lane's start is; words that another
        // process changes at any time are what atomics are for.
        unsafe { &*self.byte(at, size_of::<AtomicU32>()).cast::<AtomicU32>() }
    }

    #[inline]
    fn write(&self, at: usize, bytes: &[u8]) {
        // SAFETY: `byte` has checked that so many bytes are there; nothing else refers to them, and `bytes` are not among them, as
        // they are behind a reference.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.byte(at, bytes.len()), bytes.len()) }
    }

    #[inline]
    fn read(&self, at: usize, buffer: &mut [u8]) {
        // SAFETY: as above; what the other process writes meanwhile decides which bytes we get, and no more.
        unsafe {
            std::ptr::copy_nonoverlapping(self.byte(at, buffer.len()), buffer.as_mut_ptr(), buffer.len())
        }
    }
}
