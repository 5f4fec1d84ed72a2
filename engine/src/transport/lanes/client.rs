//! Processes with lanes, and how much each may hold.
//!
//! A process that asks for more than its share is not refused: it is told to ask by frames, where a core has what it reads
//! and writes in its own hands.

use snowskin_io::Peer;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

/// Lanes of one process at one core.
const LANES_MAX: u32 = 64;
/// A process may keep this part of a core's memory pinned, and this part reserved.
const PINNED_SHARE: u64 = 2;
const RESERVED_SHARE: u64 = 4;
/// All of them together may keep so many hundredths pinned, and so many reserved: nobody can take them away while they are used,
/// so the rest must be enough to go on.
const PINNED_BY_ALL_PERCENT: u64 = 75;
const RESERVED_BY_ALL_PERCENT: u64 = 50;

/// The processes with lanes.
#[derive(Debug, Default)]
pub(super) struct Clients {
    by_peer: RefCell<HashMap<Peer, Weak<Client>>>,
    all: Rc<Held>,
}

/// What is held.
#[derive(Debug, Default)]
struct Held {
    pinned_bytes: Cell<u64>,
    reserved_bytes: Cell<u64>,
}

/// One process: what all its lanes hold.
#[derive(Debug, Default)]
pub(super) struct Client {
    lanes: Cell<u32>,
    own: Held,
    all: Rc<Held>,
}

/// A counter goes up or down.
fn change<T: Copy>(counter: &Cell<T>, change: impl FnOnce(T) -> T) {
    counter.set(change(counter.get()));
}

impl Clients {
    /// One lane more of a process. `None`: it has as many as it may have. Of a process that we cannot see, each lane counts for
    /// itself.
    pub(super) fn enter(&self, peer: Peer) -> Option<Rc<Client>> {
        let mut clients = self.by_peer.borrow_mut();
        clients.retain(|_, client| client.strong_count() > 0);
        let known = clients.get(&peer).and_then(Weak::upgrade).filter(|_| peer != Peer::Process(0));
        let fresh = || Rc::new(Client { all: self.all.clone(), ..Client::default() });
        let client = known.unwrap_or_else(fresh);
        if client.lanes.get() == LANES_MAX {
            return None;
        }
        change(&client.lanes, |lanes| lanes + 1);
        clients.insert(peer, Rc::downgrade(&client));
        Some(client)
    }
}

impl Client {
    /// One lane less.
    pub(super) fn leave(&self) {
        self.lanes.set(self.lanes.get() - 1);
    }

    /// Whether it may pin so much more of so much memory.
    #[inline]
    pub(super) fn may_pin(&self, bytes: u64, capacity_bytes: u64) -> bool {
        self.own.pinned_bytes.get() + bytes <= capacity_bytes / PINNED_SHARE
            && self.all.pinned_bytes.get() + bytes <= capacity_bytes / 100 * PINNED_BY_ALL_PERCENT
    }

    /// Whether it may reserve so much more of so much memory.
    pub(super) fn may_reserve(&self, bytes: u64, capacity_bytes: u64) -> bool {
        self.own.reserved_bytes.get().saturating_add(bytes) <= capacity_bytes / RESERVED_SHARE
            && self.all.reserved_bytes.get().saturating_add(bytes)
                <= capacity_bytes / 100 * RESERVED_BY_ALL_PERCENT
    }

    /// It has pinned so much.
    #[inline]
    pub(super) fn pin(&self, bytes: u64) {
        [&self.own, &self.all].into_iter().for_each(|held| change(&held.pinned_bytes, |sum| sum + bytes));
    }

    /// It has given so much back.
    pub(super) fn unpin(&self, bytes: u64) {
        [&self.own, &self.all].into_iter().for_each(|held| change(&held.pinned_bytes, |sum| sum - bytes));
    }

    /// It has reserved so much.
    pub(super) fn reserve(&self, bytes: u64) {
        [&self.own, &self.all].into_iter().for_each(|held| change(&held.reserved_bytes, |sum| sum + bytes));
    }

    /// So much is published, or given up.
    pub(super) fn unreserve(&self, bytes: u64) {
        [&self.own, &self.all].into_iter().for_each(|held| change(&held.reserved_bytes, |sum| sum - bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_its_share_over_all_its_lanes() {
        let clients = Clients::default();
        let (one, other) = (Peer::Process(1), Peer::Process(2));
        let lanes: Vec<_> = (0..LANES_MAX).map(|_| clients.enter(one).expect("below the limit")).collect();
        assert!(clients.enter(one).is_none() && clients.enter(other).is_some());
        lanes[0].pin(100);
        assert!(lanes[1].may_pin(400, 1000) && !lanes[1].may_pin(401, 1000));
        lanes[1].unpin(100);
        assert!(lanes[0].may_pin(500, 1000));
        lanes[0].reserve(250);
        assert!(lanes[9].may_reserve(0, 1000) && !lanes[9].may_reserve(1, 1000));
        assert!(!lanes[9].may_reserve(u64::MAX, 1000));
        lanes[9].unreserve(250);
        // All together have less than the sum of their shares.
        let others: Vec<_> = (3..6).map(|pid| clients.enter(Peer::Process(pid)).unwrap()).collect();
        others.iter().for_each(|client| client.reserve(200));
        assert!(!lanes[0].may_reserve(1, 1000));
        others.iter().for_each(|client| client.unreserve(200));
        drop(others);
        lanes[0].leave();
        drop(lanes);
        assert!(clients.enter(one).is_some_and(|client| client.may_reserve(250, 1000)), "all anew");
        assert_eq!(clients.by_peer.borrow().len(), 1, "who has gone is forgotten");
    }
}
