//! A pipe beside a queue of bytes, its sides in any order; two threads; and a side that scribbles.

use super::*;
use crate::shm::heap::Heap;
use quickcheck::quickcheck;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

fn pipe(bytes: usize) -> (PipeWriter<Rc<Heap>>, PipeReader<Rc<Heap>>) {
    let memory = Rc::new(Heap::new(bytes));
    (PipeWriter::new(memory.clone()), PipeReader::new(memory))
}

quickcheck! {
    fn it_is_a_queue_of_bytes(steps: Vec<(bool, Vec<u8>, u8)>, size: u8) -> bool {
        let capacity = 1 << (size % 8);
        let (mut writer, mut reader) = pipe(capacity);
        let mut model = VecDeque::<u8>::new();
        let mut next = 0_u8;
        for (is_write, lengths, length) in steps {
            if is_write {
                let slices: Vec<Vec<u8>> = lengths
                    .iter()
                    .take(4)
                    .map(|length| (0..length % 40).map(|_| { next = next.wrapping_add(1); next }).collect())
                    .collect();
                let all: Vec<u8> = slices.concat();
                let slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
                let count = writer.write(&slices).unwrap();
                assert_eq!(count, all.len().min(capacity - model.len()), "as much as fits");
                model.extend(&all[..count]);
                next = next.wrapping_sub((all.len() - count) as u8);
            } else {
                let mut buffer = vec![0; usize::from(length)];
                let count = reader.read(&mut buffer).unwrap();
                assert!(count <= model.len() && (count > 0 || buffer.is_empty() || model.is_empty()));
                assert!(model.drain(..count).eq(buffer[..count].iter().copied()));
            }
            assert_eq!(writer.doze(), Ok(model.len() == capacity));
            assert_eq!(reader.doze(), Ok(model.is_empty()));
            assert!(reader.wakes_writer() && writer.wakes_reader(), "both have said that they sleep");
            assert!(!reader.wakes_writer() && !writer.wakes_reader(), "nobody is woken twice");
        }
        true
    }

    /// Counts and bytes are anything at any time: a side says that they are broken, or goes on; it never has more than
    /// the memory.
    fn scribbled_counts_are_survived(steps: Vec<(u8, u64)>) -> bool {
        const BYTES: usize = 64;
        let memory = Rc::new(Heap::new(BYTES));
        let (mut writer, mut reader) = (PipeWriter::new(memory.clone()), PipeReader::new(memory.clone()));
        for (kind, number) in steps {
            let near = memory.words[if kind % 2 == 0 { WRITTEN } else { READ }].load(Ordering::Relaxed);
            match kind % 7 {
                0 => memory.words[WRITTEN].store(number, Ordering::Relaxed),
                1 => memory.words[READ].store(number, Ordering::Relaxed),
                2 => memory.words[WRITTEN].store(near.wrapping_add(number % 99).wrapping_sub(9), Ordering::Relaxed),
                3 => memory.words[READ].store(near.wrapping_add(number % 99).wrapping_sub(9), Ordering::Relaxed),
                4 => memory.words[(number % 64) as usize].store(number, Ordering::Relaxed),
                5 => {
                    let bytes = [7; 100];
                    let count = writer.write(&[IoSlice::new(&bytes[..(number % 100) as usize])]);
                    assert!(count.is_ok_and(|count| count <= BYTES) || count == Err(Broken));
                    let _ = (writer.wakes_reader(), writer.doze());
                }
                _ => {
                    let mut buffer = [0; 100];
                    let count = reader.read(&mut buffer);
                    assert!(count.is_ok_and(|count| count <= BYTES) || count == Err(Broken));
                    let _ = (reader.wakes_writer(), reader.doze());
                }
            }
        }
        true
    }
}

#[test]
fn impossible_counts_are_told() {
    let (mut writer, mut reader) = pipe(8);
    assert_eq!(writer.write(&[IoSlice::new(&[1; 20])]), Ok(8));
    reader.memory.words[WRITTEN].store(9, Ordering::Relaxed);
    assert_eq!(reader.read(&mut [0; 20]), Err(Broken), "more than the memory has");
    reader.memory.words[READ].store(9, Ordering::Relaxed);
    assert_eq!(writer.write(&[IoSlice::new(&[1])]), Err(Broken), "more than was written");
    reader.memory.words[READ].store(u64::MAX, Ordering::Relaxed);
    assert_eq!(writer.doze(), Err(Broken), "less than was read before");
}

#[test]
fn two_threads_pass_a_long_text() {
    let memory = Arc::new(Heap::new(512));
    let (mut writer, mut reader) = (PipeWriter::new(memory.clone()), PipeReader::new(memory));
    const BYTES: usize = 4 << 20;
    let byte = |at: usize| (at * 7 + at / 251) as u8;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut at = 0;
            while at < BYTES {
                let text: Vec<u8> = (at..(at + 1 + at % 700).min(BYTES)).map(byte).collect();
                match writer.write(&[IoSlice::new(&text)]).unwrap() {
                    0 => std::thread::yield_now(),
                    count => at += count,
                }
            }
        });
        let (mut at, mut buffer) = (0, [0; 333]);
        while at < BYTES {
            let count = reader.read(&mut buffer).unwrap();
            assert!((at..at + count).map(byte).eq(buffer[..count].iter().copied()), "from {at}");
            at += count;
            if count == 0 {
                std::thread::yield_now();
            }
        }
    });
}

#[test]
#[should_panic(expected = "a pipe of 24 bytes")]
fn a_memory_has_a_power_of_two_of_bytes() {
    PipeReader::new(Rc::new(Heap::new(24)));
}
