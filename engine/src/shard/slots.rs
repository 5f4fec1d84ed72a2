//! Which slots a core answers for, and how they change hands.
//!
//! The routing table says who *is* the home; a core may serve a slot only once it also *has* the slot's entries.
//! New homes pull from the origin that the table names. A slot at one core:
//!
//! ```text
//!             table: mine, no origin                     table: not mine, origin: me
//!   NotMine ───────────────────────────► Serving ─────────────────────────────────────► Frozen
//!     │  ▲                                  ▲                                              │
//!     │  │  table: mine, origin             │ entries have come, or                        │
//!     └──┼─────────────────────► Awaiting ──┘ origin lost: others have said what they keep │
//!        │                                                                                 │
//!        └──────────────────────────────────── taker has confirmed, or nobody will ask ────┘
//! ```
//!
//! An origin that is a former life (`RoutingTable::former`) is lost, unless this core has opened that life's volume: then what it has found there
//! counts, and the slot is served with it and with what others keep; what was only in memory is lost.
//!
//! *Frozen*: has the entries and changes nothing, until the taker confirms.
//!
//! The master moves no slot that is still on its way, so whom a table names as the origin has the entries, and whom it
//! names as the home is the taker.
//!
//! Invariants: a slot is served by at most one core at a time, because an origin freezes before it gives, and a
//! taker serves only after it was given everything. An entry counts only if it carries the slot's current
//! generation; raising the generation forgets all entries of a slot at once.

use snowskin_io::memory::prefetch;
use snowskin_io::seeded_bug;
use snowskin_protocol::key::SLOT_COUNT;
use snowskin_protocol::wire::control::SlotSet;
use snowskin_protocol::{Life, Origin, RoutingTable, Slot};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    NotMine,
    Serving,
    /// Serving, and what the last home held is gone.
    ServingAfterLoss,
    Frozen,
    Awaiting,
}

/// What a core may answer about a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// It is the home.
    Home {
        /// Entries of an earlier home were lost.
        after_loss: bool,
    },
    /// It will be, in a moment.
    Moving,
    /// It is not.
    WrongHome,
}

/// Numbers of slots by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotCounts {
    pub(crate) served: u64,
    pub(crate) awaited: u64,
    pub(crate) frozen: u64,
}

impl SlotCounts {
    fn of(&mut self, state: State) -> Option<&mut u64> {
        match state {
            State::Serving | State::ServingAfterLoss => Some(&mut self.served),
            State::Awaiting => Some(&mut self.awaited),
            State::Frozen => Some(&mut self.frozen),
            State::NotMine => None,
        }
    }
}

/// The slots of one core.
#[derive(Debug)]
pub(crate) struct Slots {
    states: Vec<State>,
    generations: Vec<u32>,
    /// Whom an awaited slot is asked of.
    origins: BTreeMap<Slot, Life>,
    /// Awaited slots whose last home is gone: all others are asked what they keep of them.
    claiming: SlotSet,
    /// Who gave a slot that was taken, until it knows that it may forget it.
    unconfirmed: BTreeMap<Slot, Life>,
    counts: SlotCounts,
    /// Slots that were served and are not any more, so far.
    losses: u64,
    /// Rows of slots that we serve may be no entries, since a generation was raised.
    has_raised: bool,
    /// No table makes us a home any more.
    is_retired: bool,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Slots {
            states: vec![State::NotMine; SLOT_COUNT],
            generations: vec![0; SLOT_COUNT],
            origins: BTreeMap::new(),
            claiming: SlotSet::new(),
            unconfirmed: BTreeMap::new(),
            counts: SlotCounts::default(),
            losses: 0,
            has_raised: false,
            is_retired: false,
        }
    }

    /// Serves nothing from now on, whatever tables say: the next one may have other homes for our slots.
    pub(crate) fn retire(&mut self) {
        self.is_retired = true;
        for slot in Slot::all().filter(|_| !seeded_bug!("served after the farewell")) {
            if self.states[slot.index()] != State::NotMine {
                self.give_up(slot);
            }
        }
    }

    /// Whether it does.
    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired
    }

    /// Asks the processor for what is known of a slot.
    pub(crate) fn prefetch(&self, slot: Slot) {
        prefetch(&self.states[slot.index()]);
        prefetch(&self.generations[slot.index()]);
    }

    /// What may be answered about a slot now.
    #[inline]
    pub(crate) fn service(&self, slot: Slot) -> Service {
        match self.states[slot.index()] {
            State::Serving => Service::Home { after_loss: false },
            State::ServingAfterLoss => Service::Home { after_loss: true },
            State::Awaiting => Service::Moving,
            State::NotMine | State::Frozen => Service::WrongHome,
        }
    }

    /// The generation that entries of a slot must have to count.
    #[inline]
    pub(crate) fn generation(&self, slot: Slot) -> u32 {
        self.generations[slot.index()]
    }

    /// Takes over what a newer table says. What it says of an earlier life of this core is not about us: that one's
    /// slots are lost, and the next table will say so. `heir_of`: the life that has left what was found when the core started.
    pub(crate) fn apply(&mut self, table: &RoutingTable, (me, incarnation): Life, heir_of: Option<Life>) {
        if self.is_retired {
            return;
        }
        let is_me = |&index: &u16| {
            table.members[usize::from(index)].incarnation == incarnation
                || seeded_bug!("another life's slots")
        };
        let my_index = table.index_of(me).filter(is_me);
        for slot in Slot::all() {
            let home = table.homes[slot.index()];
            let mine = my_index == Some(home);
            if mine || self.states[slot.index()] != State::NotMine {
                self.apply_slot(table, slot, mine, (my_index, heir_of));
            }
        }
    }

    fn apply_slot(
        &mut self,
        table: &RoutingTable,
        slot: Slot,
        mine: bool,
        (my_index, heir_of): (Option<u16>, Option<Life>),
    ) {
        match (self.states[slot.index()], mine) {
            (State::Serving | State::ServingAfterLoss, true) => {}
            (State::Serving | State::ServingAfterLoss | State::Frozen, false) => {
                let is_wanted = my_index.is_some_and(|index| table.origin(slot) == Origin::Member(index));
                match is_wanted {
                    true if seeded_bug!("origin does not freeze") => {}
                    true => self.set(slot, State::Frozen),
                    // We were given up: what we had counts as lost.
                    false => self.give_up(slot),
                }
            }
            (State::NotMine | State::Frozen, true) => match table.origin(slot) {
                Origin::Nobody => self.set(slot, State::Serving),
                // What was found counts; what was only in memory may have replicas.
                Origin::Former(life) if Some(life) == heir_of => self.ask_all(slot),
                Origin::Lost | Origin::Former(_) => self.claim(slot),
                Origin::Member(index) if Some(index) == my_index || seeded_bug!("serve before taking") => {
                    self.set(slot, State::Serving);
                }
                Origin::Member(index) => {
                    self.origins.insert(slot, table.members[usize::from(index)].life());
                    self.unconfirmed.remove(&slot);
                    self.set(slot, State::Awaiting);
                }
            },
            (State::Awaiting, true) if self.claiming.contains(slot) => {}
            (State::Awaiting, true) if self.is_origin_there(table, slot) => {}
            (State::Awaiting, true) => self.claim(slot),
            (State::Awaiting, false) => self.give_up(slot),
            (State::NotMine, false) => {}
        }
    }

    /// Whether whoever is asked for an awaited slot is a member.
    fn is_origin_there(&self, table: &RoutingTable, slot: Slot) -> bool {
        let (origin, incarnation) = self.origins[&slot];
        let index = table.index_of(origin);
        index.is_some_and(|index| table.members[usize::from(index)].incarnation == incarnation)
    }

    /// The slots whose entries are to be asked for, by origin.
    pub(crate) fn awaited(&self) -> BTreeMap<Life, SlotSet> {
        by_life(&self.origins)
    }

    /// The slots that were taken and whose givers do not know it yet, by giver.
    pub(crate) fn unconfirmed(&self) -> BTreeMap<Life, SlotSet> {
        by_life(&self.unconfirmed)
    }

    /// The giver knows that these slots were taken, or is gone.
    pub(crate) fn forget_unconfirmed(&mut self, giver: Life, slots: &SlotSet) {
        self.unconfirmed.retain(|slot, other| *other != giver || !slots.contains(*slot));
    }

    /// Of the slots that a taker asks for: those to give, and those we never had.
    pub(crate) fn asked(&self, slots: &SlotSet) -> (SlotSet, SlotSet) {
        let (mut given, mut declined) = (SlotSet::new(), SlotSet::new());
        for slot in slots.iter() {
            match self.states[slot.index()] {
                State::Frozen => given.insert(slot),
                State::Serving if seeded_bug!("given while served") => given.insert(slot),
                State::NotMine => declined.insert(slot),
                State::Serving | State::ServingAfterLoss | State::Awaiting => {}
            }
        }
        (given, declined)
    }

    /// The first page of these slots' entries is here: what we knew of them no longer counts.
    pub(crate) fn begin_taking(&mut self, given: &SlotSet) {
        if seeded_bug!("old entries count") {
            return;
        }
        self.has_raised = true;
        for slot in given.iter().filter(|slot| self.origins.contains_key(slot)) {
            self.generations[slot.index()] += 1;
        }
    }

    /// Whether the entries of this slot are still waited for.
    pub(crate) fn is_awaited(&self, slot: Slot) -> bool {
        self.origins.contains_key(&slot) || self.claiming.contains(slot)
    }

    /// The slots whose replicas all others are to be asked for.
    pub(crate) fn claiming(&self) -> &SlotSet {
        &self.claiming
    }

    /// Whoever could be asked has said what it keeps of these slots.
    pub(crate) fn finish_claiming(&mut self, slots: &SlotSet) {
        for slot in slots.iter() {
            if self.claiming.remove(slot) {
                self.set(slot, State::ServingAfterLoss);
            }
        }
    }

    /// All entries of these slots are here.
    pub(crate) fn finish_taking(&mut self, slots: &SlotSet) {
        for slot in slots.iter() {
            if let Some(origin) = self.origins.remove(&slot) {
                self.unconfirmed.insert(slot, origin);
                self.set(slot, State::Serving);
            }
        }
    }

    /// A taker has confirmed that it has all entries of these slots.
    pub(crate) fn confirm_given(&mut self, slots: &SlotSet) {
        for slot in slots.iter() {
            if self.states[slot.index()] == State::Frozen && !seeded_bug!("confirmation ignored") {
                self.give_up(slot);
            }
        }
    }

    /// Slots that were served and are not any more, so far: also those that are served again, with other entries.
    pub(crate) fn losses(&self) -> u64 {
        self.losses
    }

    /// Numbers of slots by state.
    pub(crate) fn counts(&self) -> SlotCounts {
        self.counts
    }

    fn set(&mut self, slot: Slot, state: State) {
        let old = std::mem::replace(&mut self.states[slot.index()], state);
        let serves = |state| matches!(state, State::Serving | State::ServingAfterLoss);
        self.losses += u64::from(serves(old) && !serves(state));
        if let Some(count) = self.counts.of(old) {
            *count -= 1;
        }
        if let Some(count) = self.counts.of(state) {
            *count += 1;
        }
    }

    fn give_up(&mut self, slot: Slot) {
        self.origins.remove(&slot);
        self.claiming.remove(slot);
        self.generations[slot.index()] += u32::from(!seeded_bug!("given entries count"));
        self.set(slot, State::NotMine);
    }

    /// The last home is gone, and what it knew: others may keep replicas.
    fn claim(&mut self, slot: Slot) {
        self.give_up(slot);
        self.has_raised = true;
        self.ask_all(slot);
    }

    fn ask_all(&mut self, slot: Slot) {
        self.claiming.insert(slot);
        self.set(slot, State::Awaiting);
    }

    /// Whether rows of slots that are served may be no entries, since it was asked last.
    pub(crate) fn take_raised(&mut self) -> bool {
        std::mem::take(&mut self.has_raised)
    }
}

fn by_life(lives: &BTreeMap<Slot, Life>) -> BTreeMap<Life, SlotSet> {
    let mut slots: BTreeMap<Life, SlotSet> = BTreeMap::new();
    for (&slot, &life) in lives {
        slots.entry(life).or_default().insert(slot);
    }
    slots
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
