//! S3-FIFO: a small queue that most leave unused, a main queue with second chances, and a memory of who left the small
//! one.

use super::ghosts::USES_MAX;
use super::{Eviction, LOOKED_AT_MAX, LOOKED_AT_SOFT, Position, Seat, Seats};

const SMALL: u8 = 0;
const MAIN: u8 = 1;
/// The small queue may have one byte of so many.
const SMALL_ONE_IN: u64 = 10;
/// Uses in the small queue that lead to the main one.
const USES_FOR_MAIN: u8 = 1;
/// Rows of each queue that one choice passes over at most.
const PASSED_OVER_MAX: usize = (LOOKED_AT_MAX - LOOKED_AT_SOFT) / 2;
/// Rows that one choice moves at most. Each move takes away a mark that a use has made, so there are no more moves
/// than uses; but the blocks of a chain are marked together and stand together, and a choice that ends among them
/// makes a hole.
pub(super) const STEPS_MAX: usize = 512;

/// A use is only marked: nothing moves.
pub(super) fn mark(seat: &mut Seat) {
    seat.uses = (seat.uses + 1).min(USES_MAX);
}

/// Whether a row has left the small queue, or has passed it by.
pub(super) fn is_main(seat: &Seat) -> bool {
    seat.class() == MAIN
}

impl Eviction {
    /// The queue for a row that comes, and its uses.
    pub(super) fn s3fifo_class(&mut self, hash: u64) -> (u8, u8) {
        (if self.ghosts.recall(hash) > 0 { MAIN } else { SMALL }, 0)
    }

    /// Who left the small queue is remembered, as many as rows are held.
    pub(super) fn s3fifo_remember(&mut self, hash: u64, seat: &Seat) {
        if seat.class() == SMALL {
            self.ghosts.remember(hash, 1, self.count());
        }
    }

    /// Each step looks at the oldest of one queue: it is named, or goes to a newest end.
    pub(super) fn s3fifo_victim<S: Seats>(
        &mut self,
        seats: &mut S,
        may_go: &mut impl FnMut(&S, Position) -> bool,
    ) -> Option<Position> {
        let (mut parent, mut used) = (None, None);
        // Rows of each queue that may not go, or have children.
        let mut passed_over = [0; 2];
        for _ in 0..STEPS_MAX {
            let (small, main) = (self.queues.queue(SMALL), self.queues.queue(MAIN));
            let has_more = [small, main].map(|queue| queue.count.min(PASSED_OVER_MAX));
            let is_over = [SMALL, MAIN].map(|it| passed_over[usize::from(it)] >= has_more[usize::from(it)]);
            let is_small_due = small.bytes.saturating_mul(SMALL_ONE_IN) >= small.bytes + main.bytes;
            let (queue, at) = match is_over {
                [true, true] => break,
                [false, is_main_over] if is_small_due || is_main_over => (SMALL, small.oldest),
                [_, false] => (MAIN, main.oldest),
                [false, true] => (SMALL, small.oldest),
            };
            let is_newest = self.newest == at;
            let seat = seats.seat_mut(at);
            let has_children = seat.children > 0;
            let is_used = seat.uses >= if queue == SMALL { USES_FOR_MAIN } else { 1 };
            if is_used && queue == SMALL {
                seat.uses = 0;
                seat.set_class(MAIN);
            } else if is_used {
                seat.uses -= 1;
            }
            let to = seat.class();
            let fallback = if is_used { &mut used } else { &mut parent };
            let is_candidate = !is_newest && (fallback.is_none() || !is_used && !has_children);
            if is_candidate && may_go(seats, at) {
                if !is_used && !has_children {
                    return Some(at);
                }
                *fallback = Some(at);
            }
            passed_over[usize::from(queue)] += usize::from(!is_used);
            self.queues.take_out(seats, at);
            self.queues.push(seats, at, to);
        }
        parent.or(used)
    }
}
