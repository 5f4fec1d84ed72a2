//! Lanes: how clients of this machine ask without frames, and use values where they lie.
//!
//! ```text
//!              bell rung                     request found
//!   dozing ──────────────► awake: looked at ─────────────► served ──┐
//!     ▲                      ▲   │                                  │
//!     └── nothing came ──────┼───┘                                  │
//!                            └──────────────────────────────────────┘
//! ```
//!
//! One task of the core looks at all lanes that are awake, one after the other, and does nothing else. While requests come it
//! makes no system call and does not wait; when none comes for a while it says so in each lane's memory and waits for a
//! bell. It is fair: a few requests of a lane at a time, and after a millisecond everybody else on the core has a turn.
//!
//! What a client holds (pins of values that it reads, reservations that it fills, values that are loaded for it) is kept here, and goes with its
//! lane, whenever and however that ends: see [`Served`]. Every word that comes out of the memory of a lane may be anything.

mod answer;
mod client;
mod loads;
mod served;

use crate::percore::PerCore;
use answer::Desk;
use client::Clients;
use served::Served;
use snowskin_io::lane::{Broken, Heard};
use snowskin_io::sync::Signal;
use snowskin_io::{Bell, Lane, Moment, Patience, Peer, Platform, Stream};
use snowskin_protocol::wire::WireError;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

/// Looks at all lanes, without finding a request, before the clock is looked at.
const LOOKS: u32 = 64;
/// Items that are answered before others on the core may have a turn.
const ITEMS_PER_TURN: usize = 4096;
/// Requests of one lane before the next one is looked at.
const REQUESTS_AT_ONCE: u32 = 4;
/// Requests that are further apart are all alike.
const GAP_MAX: Duration = Duration::from_millis(2);
/// Values that are being loaded for lanes, all of them together; what is more is asked for by frames.
const LOADING_MAX: usize = 1024;
/// A lane in which nothing came for so many looks is no longer looked at, while others are busy.
const QUIET_LOOKS: u32 = 4096;

/// How often the hour is said.
const HOUR_PAUSE: Duration = Duration::from_millis(300);

type BellOf<P> = <<P as Platform>::Stream as Stream>::Bell;

/// The lanes of a core.
pub struct Lanes<B> {
    all: RefCell<Vec<Rc<Served<B>>>>,
    /// Those that are looked at.
    awake: RefCell<Vec<Rc<Served<B>>>>,
    /// One has woken up.
    woken: Signal,
    clients: Clients,
    /// Values that are being loaded.
    loading: Cell<usize>,
    /// Lanes that there may be.
    lanes_max: usize,
}

/// Why a lane ends, besides that its client has gone.
#[derive(Debug, thiserror::Error)]
enum LaneError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Counts(#[from] Broken),
    #[error("pin {0} was given back, and is not held")]
    Pin(u32),
    #[error("value {0} was published, and is not reserved")]
    Put(u32),
}

impl<B: Bell> Lanes<B> {
    /// None yet, and so many at most.
    pub(crate) fn new(lanes_max: usize) -> Self {
        let (all, awake) = (RefCell::default(), RefCell::default());
        let (clients, loading) = (Clients::default(), Cell::new(0));
        Lanes { all, awake, woken: Signal::new(), clients, loading, lanes_max }
    }

    /// Lanes that are open.
    pub(crate) fn count(&self) -> usize {
        self.all.borrow().len()
    }

    /// Pins that their clients hold, and values that they are to write.
    pub(crate) fn held(&self) -> (u64, u64) {
        let sum = |of: fn(&Served<B>) -> usize| self.all.borrow().iter().map(|lane| of(lane) as u64).sum();
        (sum(Served::pins), sum(Served::puts))
    }

    /// Takes pins back that were given back in lanes that ask nothing. Answers how many those were.
    pub(crate) fn take_back(&self) -> usize {
        let take_back = |lane: &Rc<Served<B>>| {
            lane.take_back().unwrap_or_else(|error| {
                lane.close(&error);
                0
            })
        };
        self.all.borrow().iter().map(take_back).sum()
    }

    /// A segment is there no more: whoever knows it should let it go.
    pub(crate) fn tell_gone(&self, serial: u32) {
        self.all.borrow().iter().for_each(|lane| lane.tell_gone(serial));
    }

    fn wake(&self, lane: &Rc<Served<B>>) {
        if lane.is_awake.replace(true) {
            return;
        }
        lane.quiet_looks.set(0);
        self.awake.borrow_mut().push(lane.clone());
        self.woken.raise();
    }

    /// Lets the lanes sleep in which nothing has come; whether that is all of them.
    fn doze(&self) -> bool {
        let mut awake = self.awake.borrow_mut();
        awake.retain(|lane| !lane.doze());
        awake.is_empty()
    }
}

/// Takes a lane in; it is served until its client goes, or does what it must not. One that is too many is closed at once:
/// its client asks by frames.
pub(super) fn open<P: Platform>(core: &Rc<PerCore<P>>, lane: Lane<BellOf<P>>, peer: Peer) {
    let has_room = core.lanes.count() < core.lanes.lanes_max;
    let Some(client) = has_room.then(|| core.lanes.clients.enter(peer)).flatten() else {
        log::info!("core {}: no lane for {peer}: there are as many as there may be", core.identity.id);
        return lane.bell.close();
    };
    let served = Served::new(lane, client, core.platform.cpu(), &mut core.shard.borrow_mut());
    let served = Rc::new(served);
    core.lanes.all.borrow_mut().push(served.clone());
    core.lanes.wake(&served);
    core.platform.spawn(listen(core.clone(), served, peer));
}

/// Waits at the bell of a lane, to its end.
async fn listen<P: Platform>(core: Rc<PerCore<P>>, lane: Rc<Served<BellOf<P>>>, peer: Peer) {
    while !lane.is_over.get() {
        match poll_fn(|context| lane.bell.borrow_mut().poll_hear(context)).await {
            Heard::End => break,
            Heard::Silence | Heard::Ring | Heard::News(..) => core.lanes.wake(&lane),
        }
    }
    // A client that is there after all hears that nothing is kept for it any more.
    lane.bell.borrow().close();
    log::debug!("core {}: a lane of {peer} ends", core.identity.id);
    core.lanes.all.borrow_mut().retain(|other| !Rc::ptr_eq(other, &lane));
    core.lanes.awake.borrow_mut().retain(|other| !Rc::ptr_eq(other, &lane));
    lane.end(&mut core.shard.borrow_mut(), core.platform.now());
}

/// Says the hour on the shelf, for as long as the core runs: clients do not believe one that hangs. And hears what they have used, so that
/// a lease begins soon after it.
pub(crate) async fn say_hours<P: Platform>(core: Rc<PerCore<P>>) {
    let hours = Hours(core);
    let core = &hours.0;
    while core.shard.borrow().shelf().is_some() {
        core.shard.borrow().say_hour(core.platform.host_ms());
        core.shard.borrow_mut().take_in_uses(core.platform.now());
        core.platform.sleep(HOUR_PAUSE).await;
    }
}

/// With the core's tasks its shelf ends, whoever still has the core.
struct Hours<P: Platform>(Rc<PerCore<P>>);

impl<P: Platform> Drop for Hours<P> {
    fn drop(&mut self) {
        // If the shard is in use just now, somebody panics: then the process ends, and the kernel says so.
        if let Ok(mut shard) = self.0.shard.try_borrow_mut() {
            shard.end_shelf();
        }
    }
}

/// Serves all lanes, for as long as the core runs.
pub(crate) async fn serve<P: Platform>(core: Rc<PerCore<P>>) {
    let mut patience = core.platform.patience();
    let mut desk = Desk::default();
    let mut pace = Pace::default();
    loop {
        poll_fn(|context| patience.poll_turn(context)).await;
        let found = poll_fn(|context| patience.poll_attempt(context, || serve_some(&core, &mut desk))).await;
        let now = core.platform.now();
        if found.is_some() {
            pace.note(now);
        } else if pace.is_due(now, patience.linger_max()) {
            // Not too much of the time goes to letting others in, during which nobody looks.
            patience.end_turn();
            patience.expect();
        } else if core.lanes.doze() {
            core.shard.borrow_mut().take_in_uses(now);
            patience.rest();
            core.lanes.woken.wait().await;
        }
    }
}

/// How far requests are apart. A client that copies a large value asks for the next one a moment later: to sleep in between
/// costs it more than all the rest.
#[derive(Debug, Default)]
struct Pace {
    last: Moment,
    /// From one to the next, on average.
    gap: Duration,
}

impl Pace {
    fn note(&mut self, now: Moment) {
        let gap = (now - self.last).min(GAP_MAX);
        self.gap = (self.gap * 3 + gap) / 4;
        self.last = now;
    }

    /// Whether the next one is likely to come soon.
    fn is_due(&self, now: Moment, linger_max: Duration) -> bool {
        self.gap * 2 <= linger_max && now - self.last < self.gap * 2
    }
}

/// Serves what comes, until nothing comes for a number of looks or others should have a turn. `None`: nothing came.
fn serve_some<P: Platform>(core: &Rc<PerCore<P>>, desk: &mut Desk) -> Option<()> {
    let (mut items, mut looks) = (0, 0);
    desk.pass(u32::MAX);
    while looks < LOOKS && items < ITEMS_PER_TURN {
        match look_around(core, desk) {
            0 => {
                std::hint::spin_loop();
                desk.pass(1);
                looks += 1;
            }
            some => (items, looks) = (items + some, 0),
        }
    }
    if items == 0 {
        // What was put off, while there is nothing to do.
        core.shard.borrow_mut().note_uses();
        return None;
    }
    Some(())
}

/// Looks at each lane that is awake, and answers what was asked. Answers how many items that were.
fn look_around<P: Platform>(core: &Rc<PerCore<P>>, desk: &mut Desk) -> usize {
    let awake = core.lanes.awake.borrow();
    let (mut items, mut has_quiet) = (0, false);
    let first = if desk.first < awake.len() { desk.first } else { 0 };
    for (place, lane) in awake.iter().enumerate().skip(first).chain(awake.iter().enumerate().take(first)) {
        desk.first = place + 1;
        let before = items;
        for _ in 0..REQUESTS_AT_ONCE {
            match lane.serve_next(core, desk) {
                Ok(0) => break,
                Ok(some) => items += some,
                Err(error) => {
                    lane.close(&error);
                    break;
                }
            }
        }
        has_quiet |= lane.note_look(items > before);
        if items >= ITEMS_PER_TURN {
            // The next look begins behind it.
            break;
        }
    }
    drop(awake);
    if has_quiet {
        core.lanes.awake.borrow_mut().retain(|lane| !(lane.is_over.get() || lane.is_quiet() && lane.doze()));
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_request_is_expected_as_long_as_they_come_often() {
        let us = Duration::from_micros;
        let mut pace = Pace::default();
        let mut now = Moment(0);
        for _ in 0..30 {
            now = now + us(100);
            pace.note(now);
        }
        assert!(pace.is_due(now + us(150), us(300)) && !pace.is_due(now + us(250), us(300)));
        assert!(!pace.is_due(now, us(150)) && !pace.is_due(now, Duration::ZERO));
        // One long pause is not forgotten at once, and many short gaps make up for it.
        now = now + Duration::from_secs(9);
        pace.note(now);
        assert!(!pace.is_due(now, us(300)));
        (0..30).for_each(|_| pace.note(now));
        assert!(pace.gap < us(1));
    }
}
