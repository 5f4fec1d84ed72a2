//! Hit density: rows in classes that are used alike, each class in order of use, and of the oldest of each the one to
//! go that promises the fewest uses per time ([`super::life`] learns how many).
//!
//! | class | rows |
//! |---|---|
//! | `FRESH` | used once (that is: put), of a first request or by somebody who gives no hints |
//! | `CONTINUED` | used once, of a request whose beginning was held |
//! | `LEAF` | used once, the last block of a request: rarely full, and another one when the prefix goes on |
//! | `TWICE` | used twice, evicted in between or not |
//! | `OFTEN` | used three times or more |
//!
//! The uses of a row that is evicted are remembered, so all blocks of a chain that comes back are of one class.

use super::ghosts::USES_MAX;
use super::life::CLASSES;
use super::{Arrival, Eviction, LOOKED_AT_MAX, LOOKED_AT_SOFT, Position, Seat, Seats};

const FRESH: u8 = 0;
const CONTINUED: u8 = 1;
const LEAF: u8 = 2;
const TWICE: u8 = 3;
const OFTEN: u8 = 4;

/// Rows of each class that are looked at.
const LOOKED_AT: usize = (LOOKED_AT_MAX - LOOKED_AT_SOFT) / CLASSES;
/// Those who left that are remembered for each row held, as long as they are no more than [`MEMORIES_CHEAP`] (1 MiB): a
/// small cache knows by its memory alone what is used often. A large one remembers as many as it holds.
const MEMORIES_PER_ROW: usize = 64;
const MEMORIES_CHEAP: usize = 131_072;

/// A row was used while held.
pub(super) fn promote(seat: &mut Seat) {
    seat.uses = (seat.uses + 1).min(USES_MAX);
    seat.set_class(if seat.uses < USES_MAX { TWICE } else { OFTEN });
}

impl Eviction {
    /// The class of a row that comes, and its uses, this one included.
    pub(super) fn density_class(&mut self, arrival: &Arrival) -> (u8, u8) {
        let uses = (self.ghosts.recall(arrival.hash) + 1).min(USES_MAX);
        let class = match uses {
            1 if arrival.is_leaf => LEAF,
            1 if arrival.continues => CONTINUED,
            1 => FRESH,
            2 => TWICE,
            _ => OFTEN,
        };
        (class, uses)
    }

    pub(super) fn density_remember(&mut self, hash: u64, seat: &Seat) {
        let rows = self.count();
        let memories = (rows * MEMORIES_PER_ROW).min(rows.max(MEMORIES_CHEAP));
        self.ghosts.remember(hash, seat.uses, memories);
    }

    /// Of the oldest of each class that may go, the one of the least worth; of equals, the oldest.
    pub(super) fn density_victim<S: Seats>(
        &mut self,
        seats: &mut S,
        may_go: &mut impl FnMut(&S, Position) -> bool,
    ) -> Option<Position> {
        // With few classes in use, there are looks left for the next few of each.
        let in_use = (0..CLASSES as u8).filter(|&class| self.queues.queue(class).count > 0).count();
        for _ in 0..CLASSES / in_use.max(1) {
            let victim = self.least_worth(seats, may_go);
            if victim.is_some() {
                return victim;
            }
            (0..CLASSES as u8).for_each(|class| self.pass_over(seats, class, LOOKED_AT));
        }
        None
    }

    fn least_worth<S: Seats>(
        &self,
        seats: &S,
        may_go: &mut impl FnMut(&S, Position) -> bool,
    ) -> Option<Position> {
        let life = self.life.as_ref().expect("this policy has a life table");
        let mut least: [Option<(f32, u32, Position)>; 2] = [None; 2];
        for class in 0..CLASSES as u8 {
            let found = self.look(seats, class, LOOKED_AT, may_go);
            for (least, found) in least.iter_mut().zip([found.childless, found.parent]) {
                let Some(at) = found else { continue };
                let age = self.clock.wrapping_sub(seats.seat(at).stamp);
                let worth = life.worth(class, age);
                if least.is_none_or(|(than, younger, _)| worth < than || worth == than && age > younger) {
                    *least = Some((worth, age, at));
                }
            }
        }
        let [childless, parent] = least;
        childless.or(parent).map(|(_, _, at)| at)
    }
}
