//! The memory of a pipe within one process, byte by byte: for tests, of whatever atomics they watch.

use super::atomic::{AtomicU8, AtomicU64, Ordering};
use super::pipe::{CONTROL_WORDS, Memory};
use std::ops::Deref;

#[derive(Debug)]
pub(super) struct Heap {
    pub(super) words: Vec<AtomicU64>,
    bytes: Vec<AtomicU8>,
}

impl Heap {
    pub(super) fn new(bytes: usize) -> Self {
        Heap {
            words: (0..CONTROL_WORDS).map(|_| AtomicU64::new(0)).collect(),
            bytes: (0..bytes).map(|_| AtomicU8::new(0)).collect(),
        }
    }
}

impl<H: Deref<Target = Heap>> Memory for H {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        let to = &self.bytes[at..at + bytes.len()];
        to.iter().zip(bytes).for_each(|(to, byte)| to.store(*byte, Ordering::Relaxed));
    }

    fn read(&self, at: usize, buffer: &mut [u8]) {
        let from = &self.bytes[at..at + buffer.len()];
        buffer.iter_mut().zip(from).for_each(|(to, byte)| *to = byte.load(Ordering::Relaxed));
    }
}
