//! Every interleaving of the two ends of a pipe (`make loom`): no byte is lost, doubled or read before it is written, and
//! nobody sleeps while there is something to do.

use super::heap::Heap;
use super::pipe::{PipeReader, PipeWriter};
use loom::sync::{Arc, Notify};
use loom::thread;
use std::io::IoSlice;

/// Passes texts of these lengths through a pipe, each end with a bell of its own; both sleep when they have nothing to do.
fn pass(lengths: &'static [usize], read_at_once: usize) {
    loom::model(move || {
        let memory = Arc::new(Heap::new(8));
        let (mut writer, mut reader) = (PipeWriter::new(memory.clone()), PipeReader::new(memory));
        let bells = Arc::new([Notify::new(), Notify::new()]);
        let all: usize = lengths.iter().sum();
        let others = bells.clone();
        let writing = thread::spawn(move || {
            let mut next = 1_u8;
            for &length in lengths {
                let text: Vec<u8> = (next..).take(length).collect();
                let mut rest = &text[..];
                while !rest.is_empty() {
                    let count = writer.write(&[IoSlice::new(rest)]).expect("an honest reader");
                    rest = &rest[count..];
                    if count > 0 && writer.wakes_reader() {
                        others[0].notify();
                    }
                    if count == 0 && writer.doze().expect("an honest reader") {
                        others[1].wait();
                    }
                }
                next += length as u8;
            }
        });
        let mut text = Vec::new();
        while text.len() < all {
            let mut buffer = [0; 16];
            let count = reader.read(&mut buffer[..read_at_once]).expect("an honest writer");
            text.extend_from_slice(&buffer[..count]);
            if count > 0 && reader.wakes_writer() {
                bells[1].notify();
            }
            if count == 0 && reader.doze().expect("an honest writer") {
                bells[0].wait();
            }
        }
        writing.join().expect("it ends");
        assert!(text.iter().copied().eq(1..=all as u8), "{text:?}");
    });
}

#[test]
fn loom_a_reader_that_sleeps_is_woken() {
    pass(&[3], 16);
}

#[test]
fn loom_a_writer_that_sleeps_is_woken() {
    pass(&[12], 5);
}

#[test]
fn loom_several_texts_in_order() {
    pass(&[2, 8, 1], 16);
}
