//! The set of possibilities: states of a key, each with the open calls that have had their effect.

use super::history::Generation;
use std::collections::BTreeMap;

/// What a key may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Absent,
    Held(Generation),
    Hollow(Generation),
}

/// A state, and which open calls have had their effect: a bit for each.
pub(super) type Possibility = (State, u64);

/// Possibilities of which none is covered by another: one with the same state and the same changes had, in which a
/// superset of the reads were answered, is never worse.
#[derive(Clone, Debug, Default)]
pub(super) struct Possible(BTreeMap<Possibility, Vec<u64>>);

impl Possible {
    /// Adds a possibility. `changes`: the bits of calls that change the key. Answers whether it is not covered.
    pub(super) fn add(&mut self, (state, had): Possibility, changes: u64) -> bool {
        let reads = had & !changes;
        let known = self.0.entry((state, had & changes)).or_default();
        if known.iter().any(|other| other & reads == reads) {
            return false;
        }
        known.retain(|other| other & !reads != 0);
        known.push(reads);
        true
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Possibility> + '_ {
        self.0
            .iter()
            .flat_map(|(&(state, changes), reads)| reads.iter().map(move |reads| (state, changes | reads)))
    }

    /// The states among them.
    pub(super) fn states(&self) -> impl Iterator<Item = State> + '_ {
        self.0.keys().map(|(state, _)| *state)
    }

    /// Keeps those with such a state.
    pub(super) fn retain_states(&mut self, is_kept: impl Fn(State) -> bool) {
        self.0.retain(|(state, _), _| is_kept(*state));
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superset_of_reads_covers_its_subsets_and_changes_do_not() {
        let (changes, mut possible) = (0b1000, Possible::default());
        assert!(possible.add((State::Absent, 0b001), changes));
        assert!(!possible.add((State::Absent, 0b000), changes));
        assert!(possible.add((State::Absent, 0b110), changes));
        assert!(possible.add((State::Absent, 0b1001), changes));
        assert!(possible.add((State::Held(1), 0b001), changes));
        assert_eq!(possible.iter().count(), 4);
        assert!(possible.add((State::Absent, 0b111), changes));
        assert_eq!(possible.iter().count(), 3);
        assert_eq!(possible.states().collect::<Vec<_>>(), [State::Absent, State::Absent, State::Held(1)]);
        assert!(!possible.is_empty());
    }
}
