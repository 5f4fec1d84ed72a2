//! Where a thread that asks for one key after the other keeps what it needs: the routing table, and the lane it used last.
//!
//! To look both up and to give them back costs as much as the rest of a call. So they stay with a seat, which a thread comes
//! back to, and a call takes the seat by one exchange. Threads that share one do not wait for each other: who finds it taken
//! asks as a batch does. A lane in a seat that nobody uses is anybody's who finds none idle.

use super::lane::LocalLane;
use super::{Core, Directory, Local};
use snowskin_io::Latch;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seats of a client. More threads than this share them.
const SEATS: usize = 32;

/// The seats. Each in lines of its own.
#[derive(Default)]
pub(super) struct Seats([Line; SEATS]);

#[derive(Default)]
#[repr(align(128))]
struct Line(Latch<Seat>);

/// What stays from one call to the next.
#[derive(Default)]
pub(super) struct Seat {
    /// Which directory it is: see [`Local`]; 0: none.
    version: u64,
    directory: Option<Arc<Directory>>,
    lane: Option<KeptLane>,
}

/// A lane, behind the place of its core in the directory.
type KeptLane = (u16, Box<LocalLane>);

/// The threads of this process that have asked for a single key.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The number of this thread.
#[inline]
fn number() -> usize {
    match NUMBER.get() {
        usize::MAX => {
            NUMBER.set(THREADS.fetch_add(1, Ordering::Relaxed));
            NUMBER.get()
        }
        number => number,
    }
}

impl Seats {
    /// The seat of this thread.
    #[inline]
    pub(super) fn mine(&self) -> &Latch<Seat> {
        &self.0[number() % SEATS].0
    }

    fn all(&self) -> impl Iterator<Item = &Latch<Seat>> {
        self.0.iter().map(|line| &line.0)
    }
}

impl Seat {
    /// The directory, and the place of the lane to the home of this hash, if there is one.
    #[inline]
    pub(super) fn way_to(&mut self, local: &Local, hash: u64) -> Option<(&Directory, &mut Option<KeptLane>)> {
        let version = local.version.load(Ordering::Acquire);
        if self.version != version {
            self.leave(local);
            (self.version, self.directory) = (version, Some(local.directory.load_full()));
        }
        let directory = self.directory.as_deref()?;
        let home = directory.home(hash)?;
        if self.lane.as_ref().is_none_or(|(place, _)| *place != home) {
            if let Some((place, lane)) = self.lane.take() {
                directory.cores[usize::from(place)].put_back(lane, &local.counters);
            }
            self.lane = Some((home, local.lane_to(&directory.cores[usize::from(home)])?));
        }
        Some((directory, &mut self.lane))
    }

    /// Gives back all that is kept.
    fn leave(&mut self, local: &Local) {
        if let (Some(directory), Some((home, lane))) = (&self.directory, self.lane.take()) {
            directory.cores[usize::from(home)].put_back(lane, &local.counters);
        }
        (self.version, self.directory) = (0, None);
    }

    /// The core whose lane is kept here, and the lane.
    fn kept(&self) -> Option<(&Arc<Core>, &LocalLane)> {
        let (home, lane) = self.lane.as_ref()?;
        Some((&self.directory.as_ref()?.cores[usize::from(*home)], lane))
    }

    fn keeps_lane_to(&self, core: &Core) -> bool {
        self.kept().is_some_and(|(kept, _)| std::ptr::eq(&**kept, core))
    }
}

impl Local {
    /// Seats that no call uses give back what they keep.
    pub(super) fn clear_seats(&self) {
        for seat in self.seats.all() {
            seat.try_with(|seat| seat.leave(self));
        }
    }

    /// A lane to a core, from a seat that no call uses.
    #[cold]
    pub(super) fn lane_from_seat(&self, core: &Core) -> Option<Box<LocalLane>> {
        let take = |seat: &mut Seat| match seat.keeps_lane_to(core) {
            true => seat.lane.take().map(|(_, lane)| lane),
            false => None,
        };
        self.seats.all().find_map(|seat| seat.try_with(take).flatten())
    }

    /// Whether a seat that no call uses has a lane to a core.
    pub(super) fn has_seat_with_lane(&self, core: &Core) -> bool {
        self.seats.all().any(|seat| seat.try_with(|seat| seat.keeps_lane_to(core)) == Some(true))
    }

    /// Shows the lanes in seats that no call uses.
    pub(super) fn each_lane_in_seats(&self, mut show: impl FnMut(&LocalLane)) {
        for seat in self.seats.all() {
            seat.try_with(|seat| {
                if let Some((_, lane)) = seat.kept() {
                    show(lane);
                }
            });
        }
    }
}
