//! A lane beside a queue of requests, its ends in any order; two threads; and a client that scribbles.

use super::*;
use crate::lane::LaneRegion;
use quickcheck::quickcheck;
use std::collections::{BTreeSet, VecDeque};

fn lane() -> (Caller<LaneRegion>, Server<LaneRegion>, PinReturns<LaneRegion>, LaneRegion) {
    let (client, core) = LaneRegion::pair().unwrap();
    (Caller::new(client.clone()), Server::new(core.clone()), PinReturns::new(client), core)
}

fn head(number: u64) -> [u8; REQUEST_HEAD_BYTES] {
    let mut head = [7; REQUEST_HEAD_BYTES];
    head[..8].copy_from_slice(&number.to_le_bytes());
    head
}

fn text(number: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (number as usize * 31 + at * 7 + at / 251) as u8).collect()
}

/// The next request: its number.
fn serve(server: &mut Server<LaneRegion>, bytes: impl Fn(u64) -> (usize, usize)) -> Option<u64> {
    let submission = server.next()?;
    let number = u64::from_le_bytes(*submission.head().first_chunk().unwrap());
    let mut buffer = Vec::new();
    let (body, records) = bytes(number);
    assert_eq!(submission.head(), &head(number));
    assert_eq!(server.body(&submission, body, &mut buffer), text(number, body));
    let mut answer = [0; REPLY_HEAD_BYTES];
    answer[..8].copy_from_slice(&number.to_le_bytes());
    server.answer(&answer, &text(number + 1, records));
    Some(number)
}

/// The next reply, as that of this request.
fn take(caller: &mut Caller<LaneRegion>, number: u64, records: usize) -> bool {
    let Some(completion) = caller.take() else { return false };
    assert_eq!(completion.head()[..8], number.to_le_bytes());
    let mut got = vec![0; records];
    if records <= RECORD_BYTES {
        got.copy_from_slice(&completion.record()[..records]);
    } else {
        caller.read_records(&completion, &mut got);
    }
    assert!(got == text(number + 1, records), "the records of {number}");
    true
}

quickcheck! {
    fn it_is_a_queue_of_requests_with_their_replies(steps: Vec<(u8, u16)>) -> bool {
        let (mut caller, mut server, _, _) = lane();
        let bytes = |number: u64| {
            let size = (number * 2_654_435_761 % 40) as usize;
            if number.is_multiple_of(3) { (size * 400, size * RECORD_BYTES) } else { (size, size) }
        };
        let (mut next, mut asked, mut answered) = (0, VecDeque::new(), VecDeque::new());
        for (kind, _) in steps {
            match kind % 3 {
                0 if caller.has_room() => {
                    caller.submit(&head(next), &text(next, bytes(next).0));
                    asked.push_back(next);
                    next += 1;
                }
                0 => assert_eq!(asked.len() + answered.len(), LANE_SLOTS as usize),
                1 => {
                    let served = serve(&mut server, bytes);
                    assert_eq!(served, asked.pop_front());
                    answered.extend(served);
                }
                _ => match answered.pop_front() {
                    Some(number) => assert!(take(&mut caller, number, bytes(number).1)),
                    None => assert!(caller.take().is_none()),
                },
            }
            assert_eq!(caller.under_way() as usize, asked.len() + answered.len());
            assert_eq!((server.doze(), caller.doze()), (asked.is_empty(), answered.is_empty()));
            assert!(caller.wakes_server() && server.wakes_caller(), "both have said that they sleep");
            assert!(!caller.wakes_server() && !server.wakes_caller(), "nobody is woken twice");
        }
        true
    }

    fn pins_come_back_once_each(steps: Vec<u8>) -> bool {
        let (_, mut server, mut returns, _) = lane();
        let (mut next, mut under_way) = (0, BTreeSet::new());
        for step in steps {
            for _ in 0..u32::from(step) * 40 {
                if under_way.len() < LANE_PINS_MAX {
                    returns.give_back(next * 7);
                    under_way.insert(next * 7);
                    next += 1;
                }
            }
            if step % 3 == 0 {
                server.given_back(|pin| assert!(under_way.remove(&pin), "{pin}")).unwrap();
                assert!(under_way.is_empty());
            }
        }
        true
    }

    /// All memory is anything at any time. The core's end has a request, or not; it never reads or writes elsewhere.
    fn scribbled_memory_is_survived(steps: Vec<(u8, u32)>) -> bool {
        let (mut caller, mut server, mut returns, memory) = lane();
        for (kind, number) in steps {
            let slot = number % LANE_SLOTS;
            match kind % 8 {
                0 => memory.word(submission_at(slot)).store(number, Ordering::Relaxed),
                1 => memory.word(submission_at(slot)).store(server.served.wrapping_add(1), Ordering::Relaxed),
                2 => memory.word(GIVEN_BACK_AT).store(number, Ordering::Relaxed),
                3 => memory.write(number as usize % (LANE_BYTES - 99), &[kind; 99]),
                4 => memory.word(SERVER_SLEEPS_AT).store(number, Ordering::Relaxed),
                5 => returns.give_back(number),
                6 if caller.has_room() => caller.submit(&head(number.into()), &[kind; 200]),
                _ => {
                    let mut buffer = Vec::new();
                    if let Some(submission) = server.next() {
                        let bytes = number as usize % (BODY_BYTES_MAX + 1);
                        assert_eq!(server.body(&submission, bytes, &mut buffer).len(), bytes);
                        server.answer(&[1; REPLY_HEAD_BYTES], &vec![2; bytes]);
                        server.wakes_caller();
                    }
                    let mut count = 0;
                    let result = server.given_back(|_| count += 1);
                    assert!(count <= LANE_PINS_MAX && (result.is_ok() || count == 0));
                    server.doze();
                    server.rise();
                }
            }
            let _ = caller.take();
        }
        true
    }
}

#[test]
fn what_the_dead_write_nobody_sees() {
    let (client, core) = LaneRegion::pair().unwrap();
    let (mut caller, mut server) = (Caller::new(client.clone()), Server::new(core));
    caller.submit(&head(1), &text(1, 9));
    client.sever();
    caller.submit(&head(2), &text(2, 9));
    assert_eq!(serve(&mut server, |_| (9, 9)), Some(1));
    assert!(server.next().is_none() && caller.take().is_none());
    drop(caller);
    assert!(client.is_last());
}

#[test]
fn more_pins_than_there_can_be_are_told() {
    let (_, mut server, _, memory) = lane();
    memory.word(GIVEN_BACK_AT).store(LANE_PINS_MAX as u32 + 1, Ordering::Relaxed);
    assert_eq!(server.given_back(|_| panic!("none of them")), Err(Broken));
}

#[test]
fn numbers_of_requests_wrap() {
    let (mut caller, mut server, _, memory) = lane();
    let before = u32::MAX - 20;
    (caller.submitted, caller.taken, server.served) = (before, before, before);
    for slot in 0..LANE_SLOTS {
        // As so many requests would have left it.
        let last = before.wrapping_sub((before - slot) % LANE_SLOTS);
        for at in [submission_at(slot), completion_at(slot)] {
            memory.word(at).store(last, Ordering::Relaxed);
        }
    }
    for number in 0..60 {
        assert!(server.next().is_none() && caller.take().is_none());
        caller.submit(&head(number), &text(number, 9));
        assert_eq!(serve(&mut server, |_| (9, 40)), Some(number));
        assert!(take(&mut caller, number, 40));
    }
}

#[test]
fn two_threads_ask_and_answer() {
    const REQUESTS: u64 = 40_000;
    let (mut caller, mut server, mut returns, _) = lane();
    let bytes = |number: u64| {
        if number.is_multiple_of(5) { (3_000, 90 * RECORD_BYTES) } else { (number as usize % 100, 48) }
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut served, mut pins) = (0, 0);
            while served < REQUESTS || pins < REQUESTS as u32 {
                match serve(&mut server, bytes) {
                    Some(number) => {
                        assert_eq!(number, served);
                        served += 1;
                    }
                    None => std::thread::yield_now(),
                }
                server
                    .given_back(|pin| {
                        assert_eq!(pin, pins);
                        pins += 1;
                    })
                    .unwrap();
            }
        });
        let (mut asked, mut taken) = (0, 0);
        while taken < REQUESTS {
            while asked < REQUESTS && caller.has_room() {
                caller.submit(&head(asked), &text(asked, bytes(asked).0));
                asked += 1;
            }
            match take(&mut caller, taken, bytes(taken).1) {
                true => {
                    returns.give_back(taken as u32);
                    taken += 1;
                }
                false => std::thread::yield_now(),
            }
        }
    });
}

#[test]
#[should_panic(expected = "16385 bytes")]
fn a_body_that_is_too_long_is_the_askers_mistake() {
    let (mut caller, ..) = lane();
    caller.submit(&head(1), &vec![0; BODY_BYTES_MAX + 1]);
}
