//! Every interleaving of the two ends of a lane (`make loom`): what is in a slot is read after it was written, and nobody sleeps
//! while there is something to do. The bytes of slots are cells that loom watches: two at the same time would be a failure.

use super::slots::{Caller, LaneMemory, PinReturns, Server};
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;
use loom::sync::{Arc, Notify};
use loom::thread;
use std::collections::BTreeMap;

/// Words and places of the memory that two slots use.
struct Small {
    words: BTreeMap<usize, AtomicU32>,
    places: BTreeMap<usize, UnsafeCell<Vec<u8>>>,
}

// SAFETY: of a model: loom sees who uses which cell, and fails where two do.
unsafe impl Send for Small {}
// SAFETY: as above.
unsafe impl Sync for Small {}

impl Small {
    fn new() -> Arc<Self> {
        let words = [0, 128, 2048, 2112, 3072, 3200, 3328, 3712];
        let places = [4, 20, 132, 148, 2052, 2064, 2116, 2128, 4096, 4100];
        Arc::new(Small {
            words: words.into_iter().map(|at| (at, AtomicU32::new(0))).collect(),
            places: places.into_iter().map(|at| (at, UnsafeCell::new(Vec::new()))).collect(),
        })
    }
}

#[derive(Clone)]
struct Shared(Arc<Small>);

impl LaneMemory for Shared {
    const SLOTS: u32 = 2;

    fn word(&self, at: usize) -> &AtomicU32 {
        &self.0.words[&at]
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        // SAFETY: of a model, as above.
        self.0.places[&at].with_mut(|place| unsafe { *place = bytes.to_vec() });
    }

    fn read(&self, at: usize, buffer: &mut [u8]) {
        let mut all = Vec::new();
        for (_, place) in self.0.places.range(at..at + buffer.len()) {
            // SAFETY: of a model, as above.
            place.with(|place| all.extend_from_slice(unsafe { &*place }));
        }
        let count = all.len().min(buffer.len());
        buffer[..count].copy_from_slice(&all[..count]);
    }
}

/// So many requests, at most `under_way` at a time; both ends sleep when they have nothing to do.
fn ask(requests: u8, under_way: u32) {
    loom::model(move || {
        let memory = Shared(Small::new());
        let (mut caller, mut server) = (Caller::new(memory.clone()), Server::new(memory));
        let bells = Arc::new([Notify::new(), Notify::new()]);
        let others = bells.clone();
        let serving = thread::spawn(move || {
            for number in 0..requests {
                let submission = loop {
                    match server.next() {
                        Some(submission) => break submission,
                        None if server.doze() => others[0].wait(),
                        None => server.rise(),
                    }
                };
                assert_eq!(submission.head(), &[number; 16]);
                server.answer(&[number + 100; 12], &[number + 200]);
                if server.wakes_caller() {
                    others[1].notify();
                }
            }
        });
        let (mut asked, mut taken) = (0, 0);
        while taken < requests {
            while asked < requests && caller.under_way() < under_way {
                caller.submit(&[asked; 16], &[asked]);
                asked += 1;
                if caller.wakes_server() {
                    bells[0].notify();
                }
            }
            match caller.take() {
                Some(completion) => {
                    assert_eq!(completion.head(), &[taken + 100; 12]);
                    taken += 1;
                }
                None if caller.doze() => bells[1].wait(),
                None => caller.rise(),
            }
        }
        serving.join().expect("it ends");
    });
}

#[test]
fn loom_one_request_and_its_reply() {
    ask(1, 1);
}

#[test]
fn loom_slots_are_used_again() {
    ask(3, 2);
}

/// A request is answered with "on its way"; what arrives then, at any moment, is not slept through.
#[test]
fn loom_nobody_sleeps_through_an_arrival() {
    loom::model(|| {
        let memory = Shared(Small::new());
        let (mut caller, mut server) = (Caller::new(memory.clone()), Server::new(memory));
        let bells = Arc::new([Notify::new(), Notify::new()]);
        let others = bells.clone();
        let seen = caller.arrivals();
        caller.submit(&[1; 16], &[1]);
        let serving = thread::spawn(move || {
            assert!(server.next().is_some(), "it was sent before");
            server.answer(&[2; 12], &[3]);
            if server.wakes_caller() {
                others[1].notify();
            }
            server.arrive();
            if server.wakes_caller() {
                others[1].notify();
            }
        });
        while caller.take().is_none() {
            match caller.doze() {
                true => bells[1].wait(),
                false => caller.rise(),
            }
        }
        while caller.arrivals() == seen {
            match caller.doze_until_arrival(seen) {
                true => bells[1].wait(),
                false => caller.rise(),
            }
        }
        serving.join().expect("it ends");
    });
}

#[test]
fn loom_pins_are_read_after_they_were_written() {
    loom::model(|| {
        let memory = Shared(Small::new());
        let (mut server, mut returns) = (Server::new(memory.clone()), PinReturns::new(memory));
        let giving = thread::spawn(move || {
            returns.give_back(7);
            returns.give_back(8);
        });
        let mut pins = Vec::new();
        server.given_back(|pin| pins.push(pin)).expect("an honest client");
        giving.join().expect("it ends");
        server.given_back(|pin| pins.push(pin)).expect("an honest client");
        assert_eq!(pins, [7, 8]);
    });
}
