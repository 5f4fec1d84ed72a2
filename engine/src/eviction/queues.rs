//! Queues of rows, linked through the rows' own seats: no memory of their own, every step a handful of words.

use super::{NOWHERE, Position, Seats};

/// Queues there can be: those of the policy, and those of the pinned.
pub(super) const QUEUES: usize = 8;

/// One queue: its ends and what stands in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    pub(super) newest: Position,
    pub(super) oldest: Position,
    pub(super) count: usize,
    pub(super) bytes: u64,
}

/// All of them. A row stands in one at most; its seat says in which.
#[derive(Debug)]
pub(super) struct Queues {
    queues: [Queue; QUEUES],
}

impl Queues {
    pub(super) fn new() -> Self {
        let empty = Queue { newest: NOWHERE, oldest: NOWHERE, count: 0, bytes: 0 };
        Queues { queues: [empty; QUEUES] }
    }

    pub(super) fn queue(&self, queue: u8) -> &Queue {
        &self.queues[usize::from(queue)]
    }

    /// Rows and bytes of all queues.
    pub(super) fn totals(&self) -> (usize, u64) {
        self.queues.iter().fold((0, 0), |sums, queue| (sums.0 + queue.count, sums.1 + queue.bytes))
    }

    /// At the newest end.
    pub(super) fn push(&mut self, seats: &mut impl Seats, at: Position, queue: u8) {
        self.place(seats, at, queue, NOWHERE, self.queue(queue).newest);
    }

    /// Next to a row of a queue, on its older side.
    pub(super) fn push_behind(&mut self, seats: &mut impl Seats, at: Position, front: Position) {
        let seat = seats.seat(front);
        let (queue, older) = (seat.linked(), seat.older);
        self.place(seats, at, queue, front, older);
    }

    fn place(&mut self, seats: &mut impl Seats, at: Position, queue: u8, newer: Position, older: Position) {
        seats.seat_mut(at).link(queue);
        self.count(queue, 1, seats.bytes(at) as i64);
        self.join(seats, queue, newer, at);
        self.join(seats, queue, at, older);
    }

    /// Takes a row out of its queue.
    pub(super) fn take_out(&mut self, seats: &mut impl Seats, at: Position) {
        let seat = seats.seat_mut(at);
        let (newer, older, queue) = (seat.newer, seat.older, seat.linked());
        (seat.newer, seat.older) = (NOWHERE, NOWHERE);
        self.count(queue, -1, -(seats.bytes(at) as i64));
        self.join(seats, queue, newer, older);
    }

    /// Two rows stand next to each other, or one of them at an end.
    fn join(&mut self, seats: &mut impl Seats, queue: u8, newer: Position, older: Position) {
        let queue = &mut self.queues[usize::from(queue)];
        match newer {
            NOWHERE => queue.newest = older,
            _ => seats.seat_mut(newer).older = older,
        }
        match older {
            NOWHERE => queue.oldest = newer,
            _ => seats.seat_mut(older).newer = newer,
        }
    }

    fn count(&mut self, queue: u8, rows: isize, bytes: i64) {
        let queue = &mut self.queues[usize::from(queue)];
        queue.count = queue.count.strict_add_signed(rows);
        queue.bytes = queue.bytes.strict_add_signed(bytes);
    }
}
