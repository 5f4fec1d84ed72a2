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

/// The processes with lanes.
#[derive(Debug, Default)]
pub(super) struct Clients(RefCell<HashMap<Peer, Weak<Client>>>);

/// One process: what all its lanes hold.
#[derive(Debug, Default)]
pub(super) struct Client {
    lanes: Cell<u32>,
    pinned_bytes: Cell<u64>,
    reserved_bytes: Cell<u64>,
}

impl Clients {
    /// One lane more of a process. `None`: it has as many as it may have.
    pub(super) fn enter(&self, peer: Peer) -> Option<Rc<Client>> {
        let mut clients = self.0.borrow_mut();
        clients.retain(|_, client| client.strong_count() > 0);
        let client = clients.get(&peer).and_then(Weak::upgrade).unwrap_or_default();
        if client.lanes.get() == LANES_MAX {
            return None;
        }
        client.lanes.set(client.lanes.get() + 1);
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
    pub(super) fn may_pin(&self, bytes: u64, capacity_bytes: u64) -> bool {
        self.pinned_bytes.get() + bytes <= capacity_bytes / PINNED_SHARE
    }

    /// Whether it may reserve so much more of so much memory.
    pub(super) fn may_reserve(&self, bytes: u64, capacity_bytes: u64) -> bool {
        self.reserved_bytes.get().saturating_add(bytes) <= capacity_bytes / RESERVED_SHARE
    }

    /// It has pinned so much.
    pub(super) fn pin(&self, bytes: u64) {
        self.pinned_bytes.set(self.pinned_bytes.get() + bytes);
    }

    /// It has given so much back.
    pub(super) fn unpin(&self, bytes: u64) {
        self.pinned_bytes.set(self.pinned_bytes.get() - bytes);
    }

    /// It has reserved so much.
    pub(super) fn reserve(&self, bytes: u64) {
        self.reserved_bytes.set(self.reserved_bytes.get() + bytes);
    }

    /// So much is published, or given up.
    pub(super) fn unreserve(&self, bytes: u64) {
        self.reserved_bytes.set(self.reserved_bytes.get() - bytes);
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
        lanes[0].leave();
        drop(lanes);
        assert!(clients.enter(one).is_some_and(|client| client.may_reserve(250, 1000)), "all anew");
        assert_eq!(clients.0.borrow().len(), 1, "who has gone is forgotten");
    }
}
