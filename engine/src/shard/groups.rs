//! Groups: objects that are evicted together.
//!
//! When one of a group is evicted, the others here are condemned: they go next, before the policy is asked. Whoever is
//! protected just then (by a lease, or a hard pin) is spared, and stays in the group for the next time. What is in a
//! group at another core is that core's business.

use super::row::Position;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// The groups of a core's rows.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// By the hash of the group's name.
    members: HashMap<u64, BTreeSet<Position>>,
    group_of: HashMap<Position, u64>,
    /// Rows to evict, by the group for whose sake.
    condemned: VecDeque<(u64, BTreeSet<Position>)>,
}

impl Groups {
    /// The row belongs to a group.
    pub(super) fn join(&mut self, position: Position, group: u64) {
        self.group_of.insert(position, group);
        self.members.entry(group).or_default().insert(position);
    }

    /// The row is gone; `evicted`: the others of its group go with it.
    pub(super) fn leave(&mut self, position: Position, evicted: bool) {
        if self.group_of.is_empty() {
            return;
        }
        let Some(group) = self.group_of.remove(&position) else { return };
        let Some(members) = self.members.get_mut(&group) else { return };
        members.remove(&position);
        if members.is_empty() {
            self.members.remove(&group);
        } else if evicted {
            let members = self.members.remove(&group).unwrap_or_default();
            self.condemned.push_back((group, members));
        }
    }

    /// The next row that has to go with its group. Its sentence ends with this: if it cannot go now, [`Groups::spare`] it.
    pub(super) fn next_condemned(&mut self) -> Option<Position> {
        loop {
            let (group, members) = self.condemned.front_mut()?;
            let group = *group;
            let Some(position) = members.pop_first() else {
                self.condemned.pop_front();
                continue;
            };
            // It may be gone, and another row there, which is in this group only if it joined after the sentence.
            let rejoined = || self.members.get(&group).is_some_and(|members| members.contains(&position));
            if self.group_of.get(&position) == Some(&group) && !rejoined() {
                return Some(position);
            }
        }
    }

    /// The row cannot go yet: it belongs to its group again.
    pub(super) fn spare(&mut self, position: Position) {
        if let Some(&group) = self.group_of.get(&position) {
            self.members.entry(group).or_default().insert(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_go_with_the_first() {
        let mut groups = Groups::default();
        (0..4).for_each(|position| groups.join(position, 7));
        groups.join(9, 8);
        groups.leave(3, false);
        groups.leave(0, true);
        let mut condemned = [groups.next_condemned().unwrap(), groups.next_condemned().unwrap()];
        condemned.sort_unstable();
        assert_eq!((condemned, groups.next_condemned()), ([1, 2], None));
        // One of them is read just then: it stays with those that came meanwhile.
        groups.spare(1);
        groups.leave(2, true);
        groups.join(5, 7);
        groups.leave(5, true);
        assert_eq!(groups.next_condemned(), Some(1));
        groups.leave(1, true);
        groups.leave(9, true);
        assert!(groups.members.is_empty() && groups.group_of.is_empty() && groups.next_condemned().is_none());
    }

    #[test]
    fn a_sentence_is_for_the_row_not_for_its_place() {
        let mut groups = Groups::default();
        groups.join(0, 7);
        groups.join(1, 7);
        groups.leave(0, true);
        // Removed before its turn; another row stands there, in the same group, then in none.
        groups.leave(1, false);
        groups.join(1, 7);
        assert_eq!(groups.next_condemned(), None);
        groups.leave(1, false);
        assert!(groups.members.is_empty() && groups.group_of.is_empty());
    }
}
