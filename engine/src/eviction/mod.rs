//! Who goes when memory is needed: the order of a core's rows under one of three policies.
//!
//! Plain synchronous code: no clock (time is the number of touches), no bytes, no rows. A row carries a [`Seat`] of 20
//! bytes and is known by its position; whoever owns the rows lends them as [`Seats`]. So the shard's index, a hot
//! cache and a simulator of traces use the same code, and the same calls have the same outcome.
//!
//! | policy | goes first |
//! |---|---|
//! | [`PolicyKind::HitDensity`] | of the oldest of each class (used how often, continuing a prefix or not, a request's end), the one that promises the fewest uses per time: `density` |
//! | [`PolicyKind::S3Fifo`] | what was not used while it was in a small first queue; then the oldest not used since it was last looked at (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023) |
//! | [`PolicyKind::Lru`] | the least recently used |
//!
//! ```text
//!             insert                     hit: on to the newest end, or (S3-FIFO) a mark
//!   vacant ──────────► in a queue ◄─────────────────────────────────────────┐
//!      ▲                │      │ └──────────────────────────────────────────┘
//!      │     remove     │      └─ victim: looks at the oldest few, says which one should go
//!      └────────────────┘      └─ set_pin: into the queue of the soft-pinned (they go when only they are left)
//!                                 or of the hard-pinned (never looked at), and back
//! ```
//!
//! **Chains.** Whoever puts a block may say which row is its parent. A row with children here is passed over as long
//! as the few that are looked at have one without. Positions are used again, so a child must not take for its parent
//! whoever stands there later: when a row leaves before its children, its position and their number are kept
//! (`orphans`), and until the last of them has left, nobody who stands there is given children. So all rows that name
//! a position as their parent's mean the same row, and the count of each is exact. One entry for a row that left
//! before its children, no more than half of what is held.
//!
//! **Bounds.** A choice looks at [`LOOKED_AT_MAX`] rows at most (S3-FIFO moves up to 512 that were used), never at all
//! of them. Besides the seats: S3-FIFO remembers as many as are held (6.4 to 12.8 bytes each); hit density does, too,
//! and 64 times as many while that takes no more than 1 MiB, and it follows 65,536 names at most (some 2 MiB).

mod density;
mod ghosts;
mod life;
mod queues;
mod s3fifo;

use ghosts::Ghosts;
use life::LifeTable;
use queues::Queues;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// Where a row stands. It may stand there for as long as it likes; when it has left, another one may.
pub type Position = u32;

/// No position.
pub const NOWHERE: Position = Position::MAX;

/// Rows that one choice of a victim looks at.
pub const LOOKED_AT_MAX: usize = 32;
/// Of these, soft-pinned ones.
const LOOKED_AT_SOFT: usize = 8;

/// A child that is put so soon after its parent was touched belongs to the same request: all of a long prefix is read
/// in between.
const PUT_AFTER_MAX: u32 = 1_024;
/// A child that is used so soon after its parent is read in order with it. Not longer: in the next request the parent
/// has its old place until its own turn comes.
const USED_AFTER_MAX: u32 = 4;

/// The queues of the pinned. Those of the policies count from 0.
const SOFT: u8 = 6;
const HARD: u8 = 7;
/// A seat in no queue.
const VACANT: u8 = u8::MAX;
/// The queue of all rows in LRU.
const ALL: u8 = 0;

/// What a row carries for its policy.
///
/// ```text
///   0       4       8       12      16         18      19     20
///   ├ newer ┼ older ┼ stamp ┼ parent┼ children ┼ queue ┼ uses ┤      queue: class << 4 | where it is linked
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Seat {
    newer: Position,
    older: Position,
    stamp: u32,
    parent: Position,
    children: u16,
    queue: u8,
    uses: u8,
}

const _: () = assert!(size_of::<Seat>() == 20 && align_of::<Seat>() == 4);

impl Default for Seat {
    fn default() -> Self {
        Seat {
            newer: NOWHERE,
            older: NOWHERE,
            stamp: 0,
            parent: NOWHERE,
            children: 0,
            queue: VACANT,
            uses: 0,
        }
    }
}

impl Seat {
    /// Whether its row is in no queue.
    pub fn is_vacant(&self) -> bool {
        self.queue == VACANT
    }

    /// Whether its row does not go.
    pub fn is_hard(&self) -> bool {
        !self.is_vacant() && self.linked() == HARD
    }

    /// Whether its row was used since it came, or is known to have been used before, as far as its policy knows.
    pub fn was_used(&self, kind: PolicyKind) -> bool {
        match kind {
            PolicyKind::HitDensity => self.uses > 1,
            PolicyKind::S3Fifo => self.uses > 0 || s3fifo::is_main(self),
            PolicyKind::Lru => self.uses > 0,
        }
    }

    /// Those beside it in its queue, whose seats change when it moves; [`NOWHERE`] at the ends.
    pub fn neighbours(&self) -> [Position; 2] {
        [self.newer, self.older]
    }

    fn linked(&self) -> u8 {
        self.queue & 0xf
    }

    fn link(&mut self, queue: u8) {
        self.queue = self.queue & 0xf0 | queue;
    }

    /// The policy's queue for it, where it stands unless it is pinned.
    fn class(&self) -> u8 {
        self.queue >> 4
    }

    fn set_class(&mut self, class: u8) {
        self.queue = class << 4 | self.linked();
    }
}

/// The rows. Only positions of rows that were inserted and not removed are asked for, and those that callers give.
pub trait Seats {
    /// A row's seat.
    fn seat(&self, at: Position) -> &Seat;

    /// A row's seat, to change it.
    fn seat_mut(&mut self, at: Position) -> &mut Seat;

    /// The bytes that go with it: the same from insertion to removal.
    fn bytes(&self, at: Position) -> u64;
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyKind {
    /// Of the oldest of each class, the one with the least hope.
    #[default]
    HitDensity,
    /// Two queues and a memory.
    S3Fifo,
    /// The least recently used.
    Lru,
}

/// There is no policy of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no eviction policy \"{0}\": use hit_density, s3fifo or lru")]
pub struct UnknownPolicy(String);

impl PolicyKind {
    /// All of them.
    pub const ALL: [PolicyKind; 3] = [PolicyKind::HitDensity, PolicyKind::S3Fifo, PolicyKind::Lru];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            PolicyKind::HitDensity => "hit_density",
            PolicyKind::S3Fifo => "s3fifo",
            PolicyKind::Lru => "lru",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let is_it = |kind: &PolicyKind| kind.name() == name;
        PolicyKind::ALL.into_iter().find(is_it).ok_or_else(|| UnknownPolicy(name.to_owned()))
    }
}

/// What keeps a row from going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// Nothing.
    #[default]
    None,
    /// It goes when nothing else may.
    Soft,
    /// It does not go.
    Hard,
}

/// A row that comes, and what is known of it. Hints that nobody gave are `None` and `false`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival {
    /// The hash of its name.
    pub hash: u64,
    /// The row of the block before it.
    pub parent: Option<Position>,
    /// Blocks before it were held already when its request came: a further turn, not a first one.
    pub continues: bool,
    /// Its request's last block.
    pub is_leaf: bool,
    /// Whether it may go.
    pub pin: Pin,
}

/// The order in which a core's rows go.
#[derive(Debug)]
pub struct Eviction {
    kind: PolicyKind,
    queues: Queues,
    ghosts: Ghosts,
    life: Option<Box<LifeTable>>,
    /// Positions of rows that left before their children, and how many of these are still here.
    orphans: HashMap<Position, u32>,
    /// What was inserted last.
    newest: Position,
    /// Touches so far.
    clock: u32,
}

/// What a look at the oldest of a queue has found that may go: one without children, and one with.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    childless: Option<Position>,
    parent: Option<Position>,
}

impl Eviction {
    /// Of no rows.
    pub fn new(kind: PolicyKind) -> Self {
        Eviction {
            kind,
            queues: Queues::new(),
            ghosts: Ghosts::new(),
            life: (kind == PolicyKind::HitDensity).then(|| Box::new(LifeTable::new())),
            orphans: HashMap::new(),
            newest: NOWHERE,
            clock: 0,
        }
    }

    /// Takes in a row whose seat is vacant. A parent that has left again is none.
    pub fn insert(&mut self, seats: &mut impl Seats, at: Position, arrival: &Arrival) {
        assert!(seats.seat(at).is_vacant(), "row {at} is inserted twice");
        self.clock = self.clock.wrapping_add(1);
        let (class, uses) = match self.kind {
            PolicyKind::Lru => (ALL, 0),
            PolicyKind::S3Fifo => self.s3fifo_class(arrival.hash),
            PolicyKind::HitDensity => self.density_class(arrival),
        };
        *seats.seat_mut(at) = Seat { stamp: self.clock, uses, ..Seat::default() };
        seats.seat_mut(at).set_class(class);
        let parent = arrival.parent.filter(|&parent| parent != at && !seats.seat(parent).is_vacant());
        let queue = queue_of(class, arrival.pin);
        self.push(seats, at, queue, parent, PUT_AFTER_MAX);
        if let Some(parent) = parent {
            self.adopt(seats, at, parent);
        }
        self.newest = at;
        self.note_touch(arrival.hash, class);
    }

    /// A row was used. Of a request's blocks, the deepest first: then the beginnings stay the longest.
    pub fn hit(&mut self, seats: &mut impl Seats, at: Position, hash: u64) {
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        let seat = seats.seat_mut(at);
        match self.kind {
            PolicyKind::Lru => seat.uses = 1,
            PolicyKind::S3Fifo => return s3fifo::mark(seat),
            PolicyKind::HitDensity => density::promote(seat),
        }
        seat.stamp = clock;
        let (class, linked) = (seat.class(), seat.linked());
        let queue = if linked < SOFT { class } else { linked };
        let parent =
            Some(seat.parent).filter(|parent| *parent != NOWHERE && !self.orphans.contains_key(parent));
        self.queues.take_out(seats, at);
        self.push(seats, at, queue, parent, USED_AFTER_MAX);
        self.note_touch(hash, class);
    }

    /// Takes a row out; its seat is vacant then. An `evicted` one is remembered, others are not: nobody asks for them.
    pub fn remove(&mut self, seats: &mut impl Seats, at: Position, hash: u64, evicted: bool) {
        let seat = *seats.seat(at);
        assert!(!seat.is_vacant(), "row {at} is removed twice");
        self.queues.take_out(seats, at);
        self.leave_parent(seats, seat.parent);
        if seat.children > 0 {
            self.orphans.insert(at, seat.children.into());
        }
        if self.newest == at {
            self.newest = NOWHERE;
        }
        *seats.seat_mut(at) = Seat::default();
        match (self.kind, evicted) {
            (PolicyKind::Lru, _) => {}
            (PolicyKind::S3Fifo, true) => self.s3fifo_remember(hash, &seat),
            (PolicyKind::HitDensity, true) => self.density_remember(hash, &seat),
            (_, false) => {
                self.ghosts.recall(hash);
                self.life.iter_mut().for_each(|life| life.forget(hash));
            }
        }
    }

    /// Who should go next; they are not removed. `may_go` says whether leases and the like allow it. A soft-pinned row is
    /// named only if `soft_too`, when none of the others that were looked at may go; what was inserted last, when there is
    /// nothing else. Those that were looked at in vain are not looked at again before the others.
    pub fn victim<S: Seats>(
        &mut self,
        seats: &mut S,
        soft_too: bool,
        mut may_go: impl FnMut(&S, Position) -> bool,
    ) -> Option<Position> {
        let victim = match self.kind {
            PolicyKind::Lru => self.lru_victim(seats, &mut may_go),
            PolicyKind::S3Fifo => self.s3fifo_victim(seats, &mut may_go),
            PolicyKind::HitDensity => self.density_victim(seats, &mut may_go),
        };
        if victim.is_some() {
            return victim;
        }
        if soft_too {
            let soft = self.look(seats, SOFT, LOOKED_AT_SOFT, &mut may_go).any();
            if soft.is_some() {
                return soft;
            }
            self.pass_over(seats, SOFT, LOOKED_AT_SOFT);
        }
        let newest = Some(self.newest).filter(|&newest| newest != NOWHERE);
        newest.filter(|&newest| match seats.seat(newest).linked() {
            HARD => false,
            SOFT => soft_too && may_go(seats, newest),
            _ => may_go(seats, newest),
        })
    }

    /// Gives a row another pin, or none: then it is as if it was just used.
    pub fn set_pin(&mut self, seats: &mut impl Seats, at: Position, pin: Pin) {
        let seat = seats.seat_mut(at);
        let queue = queue_of(seat.class(), pin);
        if seat.linked() != queue {
            seat.stamp = self.clock;
            self.queues.take_out(seats, at);
            self.queues.push(seats, at, queue);
        }
    }

    /// Whether it is what was inserted last. It should not be evicted at once.
    pub fn is_newest(&self, at: Position) -> bool {
        self.newest == at && at != NOWHERE
    }

    /// Which policy it is.
    pub fn kind(&self) -> PolicyKind {
        self.kind
    }

    /// Rows.
    pub fn count(&self) -> usize {
        self.queues.totals().0
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.queues.totals().1
    }

    /// Bytes that are remembered besides the seats.
    pub fn footprint_bytes(&self) -> usize {
        let orphans = self.orphans.capacity() * size_of::<(Position, u32)>();
        self.ghosts.footprint_bytes() + self.life.as_ref().map_or(0, |life| life.footprint_bytes()) + orphans
    }

    /// At the newest end of a queue; or behind its parent, if that is in the same queue and was touched no more than
    /// `after_max` touches ago: a chain that is put or used in order stands with its end as the oldest.
    fn push(
        &mut self,
        seats: &mut impl Seats,
        at: Position,
        queue: u8,
        parent: Option<Position>,
        after_max: u32,
    ) {
        let is_in_use = |parent: &Position| {
            let seat = seats.seat(*parent);
            seat.linked() == queue && self.clock.wrapping_sub(seat.stamp) <= after_max
        };
        match parent.filter(is_in_use) {
            Some(parent) => self.queues.push_behind(seats, at, parent),
            None => self.queues.push(seats, at, queue),
        }
    }

    fn note_touch(&mut self, hash: u64, class: u8) {
        if self.life.is_some() {
            let rows = self.count();
            let clock = self.clock;
            self.life.iter_mut().for_each(|life| life.touched(hash, class, clock, rows));
        }
    }

    // -- chains --

    fn adopt(&mut self, seats: &mut impl Seats, child: Position, parent: Position) {
        let children = &mut seats.seat_mut(parent).children;
        if *children < u16::MAX && !self.orphans.contains_key(&parent) {
            *children += 1;
            seats.seat_mut(child).parent = parent;
        }
    }

    fn leave_parent(&mut self, seats: &mut impl Seats, parent: Position) {
        if parent == NOWHERE {
            return;
        }
        match self.orphans.get_mut(&parent) {
            Some(1) => {
                self.orphans.remove(&parent);
            }
            Some(orphans) => *orphans -= 1,
            None => seats.seat_mut(parent).children -= 1,
        }
    }

    // -- looking for a victim --

    fn lru_victim<S: Seats>(
        &mut self,
        seats: &mut S,
        may_go: &mut impl FnMut(&S, Position) -> bool,
    ) -> Option<Position> {
        const LOOKED_AT: usize = LOOKED_AT_MAX - LOOKED_AT_SOFT;
        let found = self.look(seats, ALL, LOOKED_AT, may_go).any();
        if found.is_none() {
            self.pass_over(seats, ALL, LOOKED_AT);
        }
        found
    }

    /// Looks at the oldest few of a queue, not at what was inserted last.
    fn look<S: Seats>(
        &self,
        seats: &S,
        queue: u8,
        steps: usize,
        may_go: &mut impl FnMut(&S, Position) -> bool,
    ) -> Found {
        let mut found = Found::default();
        let mut at = self.queues.queue(queue).oldest;
        for _ in 0..steps {
            if at == NOWHERE {
                break;
            }
            let seat = seats.seat(at);
            if at != self.newest && (seat.children == 0 || found.parent.is_none()) && may_go(seats, at) {
                if seat.children == 0 {
                    found.childless = Some(at);
                    break;
                }
                found.parent = Some(at);
            }
            at = seat.newer;
        }
        found
    }

    /// The oldest few, of whom none may go, are put to the newest end: the next look is at others.
    fn pass_over(&mut self, seats: &mut impl Seats, queue: u8, steps: usize) {
        for _ in 0..steps.min(self.queues.queue(queue).count) {
            let at = self.queues.queue(queue).oldest;
            self.queues.take_out(seats, at);
            self.queues.push(seats, at, queue);
        }
    }
}

impl Found {
    fn any(self) -> Option<Position> {
        self.childless.or(self.parent)
    }
}

fn queue_of(class: u8, pin: Pin) -> u8 {
    match pin {
        Pin::None => class,
        Pin::Soft => SOFT,
        Pin::Hard => HARD,
    }
}

/// All bits of a hash in each of its bits: the hashes of one core have some in common.
fn mixed(hash: u64) -> u64 {
    let mixed = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

#[cfg(test)]
#[path = "eviction_tests.rs"]
mod tests;
