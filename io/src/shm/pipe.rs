//! One direction of a connection: bytes through shared memory, from one writer to one reader.
//!
//! ```text
//!   word   0          16      32              48              64
//!          ├ written ─┼ read ─┼ reader sleeps ┼ writer sleeps ┼ bytes: a power of two of them ┤
//! ```
//!
//! *Written* and *read* count all bytes that ever passed. Each side keeps its own count to itself and publishes a copy;
//! of the other side's it believes only what is possible, and everything else is [`Broken`]. What is in the memory is
//! copied out before anybody looks at it. So whoever scribbles over a pipe harms the connection, and nothing else.
//!
//! A count is published after the bytes that it counts were written or read.
//!
//! Sleeping: who finds nothing to do says so ([`PipeReader::doze`], [`PipeWriter::doze`]), looks once more, and waits for
//! the bell. Who publishes looks whether the other one sleeps ([`PipeWriter::wakes_reader`], [`PipeReader::wakes_writer`])
//! and rings it. Between "I publish" and "does it sleep" on one side, and "I sleep" and "is there something" on the other, stands a
//! fence: at least one of them sees the other.

use super::atomic::{AtomicU64, Ordering, fence};
use std::io::IoSlice;

/// Counts that different sides write are not in the same line, nor in neighbours that are fetched together.
const WRITTEN: usize = 0;
const READ: usize = 16;
const READER_SLEEPS: usize = 32;
const WRITER_SLEEPS: usize = 48;
/// Words before the bytes.
pub(super) const CONTROL_WORDS: usize = 64;

/// The memory of a pipe, zero at first.
pub(crate) trait Memory {
    /// [`CONTROL_WORDS`], always the same.
    fn words(&self) -> &[AtomicU64];

    /// How many bytes there are: a power of two, always the same.
    fn capacity(&self) -> usize;

    /// Writes bytes from `at` on, which has room for them.
    fn write(&self, at: usize, bytes: &[u8]);

    /// Reads the bytes from `at` on.
    fn read(&self, at: usize, buffer: &mut [u8]);
}

/// The other side has written what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the counts in shared memory are impossible: the other side is broken, or not what it says")]
pub struct Broken;

/// The end that writes.
#[derive(Debug)]
pub(crate) struct PipeWriter<M> {
    memory: M,
    written: u64,
    /// The last count of the reader's that was possible.
    read: u64,
}

/// The end that reads.
#[derive(Debug)]
pub(crate) struct PipeReader<M> {
    memory: M,
    read: u64,
    /// The last count of the writer's that was possible.
    written: u64,
}

/// Checks what a memory must be.
fn checked<M: Memory>(memory: M) -> M {
    let bytes = memory.capacity();
    assert!(bytes.is_power_of_two(), "a pipe of {bytes} bytes");
    memory
}

impl<M: Memory> PipeWriter<M> {
    /// Of a fresh memory, of which this is the only writer.
    pub(super) fn new(memory: M) -> Self {
        PipeWriter { memory: checked(memory), written: 0, read: 0 }
    }

    /// Writes as many bytes as there is room for; 0: there is none.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, Broken> {
        let mut room = self.room(slices.iter().map(|slice| slice.len()).sum())?;
        let begun = self.written;
        for slice in slices {
            let bytes = &slice[..slice.len().min(room)];
            room -= bytes.len();
            self.put(bytes);
        }
        if self.written != begun {
            self.memory.words()[WRITTEN].store(self.written, Ordering::Release);
        }
        Ok((self.written - begun) as usize)
    }

    /// Whether the reader is to be woken for what was written. Only once for each time that it sleeps.
    pub(super) fn wakes_reader(&self) -> bool {
        wakes(&self.memory.words()[READER_SLEEPS])
    }

    /// Says that this end will sleep, and whether it may: not if there is room now.
    pub(super) fn doze(&mut self) -> Result<bool, Broken> {
        doze(&self.memory.words()[WRITER_SLEEPS]);
        Ok(self.room(1)? == 0)
    }

    /// Room for up to `wanted` bytes.
    fn room(&mut self, wanted: usize) -> Result<usize, Broken> {
        let capacity = self.memory.capacity() as u64;
        if capacity - (self.written - self.read) < wanted as u64 {
            let read = self.memory.words()[READ].load(Ordering::Acquire);
            let is_possible = read.wrapping_sub(self.read) <= self.written - self.read;
            self.read = if is_possible { read } else { return Err(Broken) };
        }
        Ok(wanted.min((capacity - (self.written - self.read)) as usize))
    }

    /// Writes bytes that there is room for, in two parts where the memory ends between them.
    fn put(&mut self, bytes: &[u8]) {
        let at = place(self.written, self.memory.capacity());
        let (first, second) = bytes.split_at(bytes.len().min(self.memory.capacity() - at));
        self.memory.write(at, first);
        self.memory.write(0, second);
        self.written += bytes.len() as u64;
    }
}

impl<M: Memory> PipeReader<M> {
    /// Of a fresh memory, of which this is the only reader.
    pub(super) fn new(memory: M) -> Self {
        PipeReader { memory: checked(memory), read: 0, written: 0 }
    }

    /// Reads what is there into the beginning of `buffer`; 0: there is nothing.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        let count = buffer.len().min(self.there()? as usize);
        if count > 0 {
            self.take(&mut buffer[..count]);
            self.memory.words()[READ].store(self.read, Ordering::Release);
        }
        Ok(count)
    }

    /// Whether the writer is to be woken for the room that there is now. Only once for each time that it sleeps.
    pub(super) fn wakes_writer(&self) -> bool {
        wakes(&self.memory.words()[WRITER_SLEEPS])
    }

    /// Says that this end will sleep, and whether it may: not if there is something now.
    pub(super) fn doze(&mut self) -> Result<bool, Broken> {
        doze(&self.memory.words()[READER_SLEEPS]);
        Ok(self.there()? == 0)
    }

    /// Bytes that are there: some that are known of, or else all.
    fn there(&mut self) -> Result<u64, Broken> {
        if self.written == self.read {
            let written = self.memory.words()[WRITTEN].load(Ordering::Acquire);
            let is_possible = written.wrapping_sub(self.read) <= self.memory.capacity() as u64;
            self.written = if is_possible { written } else { return Err(Broken) };
        }
        Ok(self.written - self.read)
    }

    /// Reads bytes that are there, in two parts where the memory ends between them.
    fn take(&mut self, buffer: &mut [u8]) {
        let at = place(self.read, self.memory.capacity());
        self.read += buffer.len() as u64;
        let (first, second) = buffer.split_at_mut(buffer.len().min(self.memory.capacity() - at));
        self.memory.read(at, first);
        self.memory.read(0, second);
    }
}

/// Where the byte with this count is.
fn place(count: u64, capacity: usize) -> usize {
    count as usize & (capacity - 1)
}

fn doze(sleeps: &AtomicU64) {
    sleeps.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

fn wakes(sleeps: &AtomicU64) -> bool {
    fence(Ordering::SeqCst);
    sleeps.load(Ordering::Relaxed) != 0 && sleeps.swap(0, Ordering::Relaxed) != 0
}

#[cfg(all(test, not(snowskin_loom)))]
#[path = "pipe_tests.rs"]
mod tests;
