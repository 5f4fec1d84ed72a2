//! From one routing table and the cores that are there now to the next table. Pure: no clock, no chance, no I/O.
//!
//! Homes come from [`crate::rendezvous`] alone: the same members get the same homes, whatever happened before.
//! Origins come from the previous table. For a slot whose home was `old` and is `new`:
//!
//! | what became of `old` | `new` is `old` | `new` is another |
//! |---|---|---|
//! | it is there, in the same life | the origin stays (`LOST` if that core is gone) | `old` |
//! | it is gone, or in a new life | – | `old` as a former life if it kept its slots, else `LOST` |
//! | there was no home | – | the origin stays: `NOBODY`, `LOST`, a former life, or the last who left; if that one is gone, as above |
//!
//! "Origin `old`" is right because a slot is not moved again before its home has its entries (`crate::state`, rule 6).
//! Who *kept* its slots has left their entries on its volume; whoever comes next may be its heir (`docs/notes/2026-11-28-lineage.md`). So a former
//! life is only named if nobody has been the home since.
//!
//! Members that are still there keep their order, new ones follow in the order of their ids. A member with weight 0
//! is listed, so that it can be asked for what it has, and is no home.

use crate::rendezvous::Candidates;
use snowskin_io::seeded_bug;
use snowskin_protocol::limits::FORMER_MAX;
use snowskin_protocol::table::{LOST, NOBODY};
use snowskin_protocol::{CoreId, Life, Member, RoutingTable, Slot};
use std::collections::{BTreeMap, BTreeSet};

/// The members of the next table, in its order. `members` has each core once, in any order.
pub fn ordered(previous: &RoutingTable, members: &[Member]) -> Vec<Member> {
    let mut rest: BTreeMap<CoreId, Member> = members.iter().map(|member| (member.id, *member)).collect();
    let mut ordered: Vec<Member> = previous.members.iter().filter_map(|old| rest.remove(&old.id)).collect();
    ordered.extend(rest.into_values());
    ordered
}

/// The table that follows `previous` when exactly `members` are there: active, suspect, or leaving (with weight 0). `kept`: who of the
/// previous members kept their slots. Its epoch is the next one, whether or not anything changes.
pub fn plan(previous: &RoutingTable, members: &[Member], kept: &BTreeSet<Life>) -> RoutingTable {
    let members = ordered(previous, members);
    let candidates = Candidates::of(&members);
    let mut moved = Moved::between(previous, &members, kept);
    let mut homes = Vec::with_capacity(previous.homes.len());
    let mut origins = Vec::with_capacity(previous.homes.len());
    for slot in Slot::all() {
        let home = candidates.home(slot).unwrap_or(NOBODY);
        homes.push(home);
        origins.push(moved.origin(previous, slot, home));
    }
    RoutingTable { epoch: previous.epoch.next(), members, former: moved.former, homes, origins }
}

/// The lives that kept their slots and have got none since: they keep them by the next table, too.
pub fn still_kept(previous: &RoutingTable, next: &RoutingTable, kept: &BTreeSet<Life>) -> BTreeSet<Life> {
    let is_there = |life: &Life| next.members.iter().any(|member| member.life() == *life);
    let mut still: BTreeSet<Life> = kept.iter().copied().filter(is_there).collect();
    for slot in Slot::all() {
        if let Some(life) = next.home(slot).map(Member::life)
            && still.contains(&life)
            && previous.home(slot).map(Member::life) != Some(life)
        {
            still.remove(&life);
        }
    }
    still
}

/// Where those of the previous table's columns are in the next one's.
struct Moved {
    /// Of each of the previous table's members and former lives: its place, if it is a member.
    places: Vec<Option<u16>>,
    /// Of each: its place among the former, as soon as a slot needs it.
    places_as_former: Vec<Option<u16>>,
    /// Whether it has left what it had.
    has_left_all: Vec<bool>,
    lives: Vec<Life>,
    members: usize,
    /// The next table's former lives.
    former: Vec<Life>,
}

impl Moved {
    fn between(previous: &RoutingTable, members: &[Member], kept: &BTreeSet<Life>) -> Self {
        let lives: Vec<Life> =
            previous.members.iter().map(Member::life).chain(previous.former.iter().copied()).collect();
        let places: BTreeMap<Life, u16> = members.iter().map(Member::life).zip(0..).collect();
        let was_former = |index: usize| index >= previous.members.len();
        Moved {
            places: (0..lives.len())
                .map(|index| places.get(&lives[index]).copied().filter(|_| !was_former(index)))
                .collect(),
            places_as_former: vec![None; lives.len()],
            has_left_all: (0..lives.len())
                .map(|index| was_former(index) || kept.contains(&lives[index]))
                .collect(),
            lives,
            members: members.len(),
            former: Vec::new(),
        }
    }

    /// An entry of the previous table's columns, in the next one's terms; `None`: it is a life that is gone.
    fn translate(&self, old: u16) -> Option<u16> {
        match old {
            NOBODY | LOST => Some(old),
            index => self.places[usize::from(index)],
        }
    }

    /// The same of one that has no home after it: it may have left something.
    fn last(&mut self, old: u16) -> u16 {
        self.translate(old).unwrap_or_else(|| self.heritage(usize::from(old)))
    }

    /// What a life that is gone has left: itself as an origin, or nothing.
    fn heritage(&mut self, index: usize) -> u16 {
        if !self.has_left_all[index] {
            return LOST;
        }
        if self.places_as_former[index].is_none() && self.former.len() < FORMER_MAX {
            self.places_as_former[index] = Some((self.members + self.former.len()) as u16);
            self.former.push(self.lives[index]);
        }
        self.places_as_former[index].unwrap_or(LOST)
    }

    fn origin(&mut self, previous: &RoutingTable, slot: Slot, home: u16) -> u16 {
        if seeded_bug!("origin forgotten") {
            return NOBODY;
        }
        let (old_home, old_origin) = (previous.homes[slot.index()], previous.origins[slot.index()]);
        let origin = match self.translate(old_home) {
            // Nobody is the home after who was: what that one has left is the last.
            None => self.heritage(usize::from(old_home)),
            // Nobody's slot: whoever has the entries still has them, or has left them.
            Some(NOBODY) => self.last(old_origin),
            // Its home's before and after. A former life stays what it was at the beginning of that home.
            Some(old) if old == home => match self.translate(old_origin) {
                Some(origin) => origin,
                None if usize::from(old_origin) >= previous.members.len() => {
                    self.heritage(usize::from(old_origin))
                }
                None => LOST,
            },
            Some(old) => old,
        };
        // A core that gave all its slots to nobody and then got them back has no one to ask but the holders.
        if origin == home && home != NOBODY { LOST } else { origin }
    }
}

#[cfg(test)]
#[path = "lineage_tests.rs"]
mod lineage_tests;
#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
