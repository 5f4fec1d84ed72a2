//! From one routing table and the cores that are there now to the next table. Pure: no clock, no chance, no I/O.
//!
//! Homes come from [`crate::rendezvous`] alone: the same members get the same homes, whatever happened before.
//! Origins come from the previous table. For a slot whose home was `old` and is `new`:
//!
//! | what became of `old` | `new` is `old` | `new` is another |
//! |---|---|---|
//! | it is there, in the same life | the origin stays (`LOST` if that core is gone) | `old` |
//! | it is gone, or in a new life | `LOST` | `LOST` |
//! | there was no home | – | the origin stays: `NOBODY`, or `LOST`, or the last who left |
//!
//! "Origin `old`" is right because a slot is not moved again before its home has its entries (`crate::state`, rule 5).
//!
//! Members that are still there keep their order, new ones follow in the order of their ids. A member with weight 0
//! is listed, so that it can be asked for what it has, and is no home.

use crate::rendezvous::Candidates;
use snowskin_io::seeded_bug;
use snowskin_protocol::table::{LOST, NOBODY};
use snowskin_protocol::{CoreId, Incarnation, Member, RoutingTable, Slot};
use std::collections::BTreeMap;

/// The members of the next table, in its order. `members` has each core once, in any order.
pub fn ordered(previous: &RoutingTable, members: &[Member]) -> Vec<Member> {
    let mut rest: BTreeMap<CoreId, Member> = members.iter().map(|member| (member.id, *member)).collect();
    let mut ordered: Vec<Member> = previous.members.iter().filter_map(|old| rest.remove(&old.id)).collect();
    ordered.extend(rest.into_values());
    ordered
}

/// The table that follows `previous` when exactly `members` are there: active, suspect, or leaving (with weight 0).
/// Its epoch is the next one, whether or not anything changes.
pub fn plan(previous: &RoutingTable, members: &[Member]) -> RoutingTable {
    let members = ordered(previous, members);
    let candidates = Candidates::of(&members);
    let moved = Moved::between(previous, &members);
    let mut homes = Vec::with_capacity(previous.homes.len());
    let mut origins = Vec::with_capacity(previous.homes.len());
    for slot in Slot::all() {
        let home = candidates.home(slot).unwrap_or(NOBODY);
        homes.push(home);
        origins.push(moved.origin(previous, slot, home));
    }
    RoutingTable { epoch: previous.epoch.next(), members, homes, origins }
}

/// Where the members of the previous table are in the next one.
struct Moved(Vec<Option<u16>>);

impl Moved {
    fn between(previous: &RoutingTable, members: &[Member]) -> Self {
        let places: BTreeMap<(CoreId, Incarnation), u16> =
            members.iter().zip(0..).map(|(member, index)| ((member.id, member.incarnation), index)).collect();
        let place = |old: &Member| places.get(&(old.id, old.incarnation)).copied();
        Moved(previous.members.iter().map(place).collect())
    }

    /// An entry of the previous table's columns, in the next one's terms.
    fn translate(&self, old: u16) -> u16 {
        match old {
            NOBODY | LOST => old,
            index => self.0.get(usize::from(index)).copied().flatten().unwrap_or(LOST),
        }
    }

    fn origin(&self, previous: &RoutingTable, slot: Slot, home: u16) -> u16 {
        if seeded_bug!("origin forgotten") {
            return NOBODY;
        }
        let old_home = self.translate(previous.homes[slot.index()]);
        let origin = match old_home {
            LOST => LOST,
            // Nobody's slot, or its home's before and after: whoever has the entries still has them.
            _ if old_home == NOBODY || old_home == home => self.translate(previous.origins[slot.index()]),
            _ => old_home,
        };
        // A core that gave all its slots to nobody and then got them back has no one to ask but the holders.
        if origin == home && home != NOBODY { LOST } else { origin }
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
