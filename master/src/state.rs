//! What the master knows, and what it makes of what it hears. Pure: time is an argument, nothing is written.
//!
//! The table follows from the members: at every tick the members that should be in it are compared with those that
//! are, and if they differ a next table is planned. There is nothing else that could be forgotten to be updated.
//!
//! A change waits (and nothing is lost by waiting: cores and clients go on with the table they have) while
//!
//! 1. the master has just been started without a ledger and may still meet cores that have a table;
//! 2. a live core has reported a newer epoch than ours: it is asked for its table (`wants_table`), and the highest one
//!    offered is adopted. If none is offered within [`Timing::dead_after`], a new one is made above that epoch, in
//!    which all entries count as lost;
//! 3. members of an adopted table have neither reported nor been silent for long enough to be dead: one of them may
//!    have a table that is newer still;
//! 4. an engine's cores are still coming in, for at most [`Timing::change_wait_max`];
//! 5. somebody has died, and others have been silent for nearly as long: engines and hosts die with all that they have, and slots that
//!    went from one of the dead to another would have been lost twice;
//! 6. slots are on their way, or a core that was given up has come back and does not know it yet. Then nobody joins,
//!    leaves or changes weight; who is dead is taken out all the same, since others may wait for it.
//!
//! Because of 6 a slot is never on two ways at once: whoever is named as its origin has its entries, and nobody who gave
//! them away waits for the thanks of a core that has passed them on since. (Chains of moves were allowed once. Each link
//! then needs to know what became of all the others; `docs/notes/2026-11-21-simulated-cluster.md` has the end of that.)
//!
//! Cores say when they keep their slots: what they answer from is on their volumes. That is remembered (in the ledger, too) until a table
//! gives them more slots, and makes them origins when they are gone ([`planner`]).
//!
//! So a master can die and be replaced by one that knows nothing, and the epoch never goes back for anybody.

use crate::config::Timing;
use crate::membership::{DYING_TIME, EPOCH_MAX, Membership, RegisterError};
use crate::planner;
use crate::settings::SettingsChange;
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::settings::SettingsError;
use snowskin_protocol::table::LOST;
use snowskin_protocol::wire::control::{Heritage, Orders, Report};
use snowskin_protocol::{CoreId, Epoch, Life, Member, RoutingTable, Settings};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Why a table that was offered is not adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// A core is in it twice.
    #[error("the table has core {0} twice")]
    Twice(CoreId),
    /// Its epoch cannot have been reached by counting.
    #[error("no table has epoch {0}")]
    Epoch(Epoch),
}

/// Members, table and settings of a cluster.
#[derive(Debug)]
pub struct MasterState {
    timing: Timing,
    membership: Membership,
    settings: Settings,
    table: RoutingTable,
    table_bytes: Rc<[u8]>,
    /// Members that keep their slots.
    kept: BTreeSet<Life>,
    /// Members that were given the table in force.
    told: BTreeSet<Life>,
    /// Until when cores that have a table may show up; see 1.
    quiet_until: Moment,
    /// Since when a newer table is known to exist; see 2.
    newer_since: Option<Moment>,
    /// Since when the table differs from what it should be; see 4.
    change_since: Option<Moment>,
}

impl MasterState {
    /// A master that knows nothing but its settings.
    pub fn new(now: Moment, timing: Timing, settings: Settings) -> Self {
        let table = RoutingTable::empty();
        MasterState {
            timing,
            membership: Membership::new(timing),
            settings,
            table_bytes: encoded(&table),
            table,
            kept: BTreeSet::new(),
            told: BTreeSet::new(),
            quiet_until: now + timing.quiet,
            newer_since: None,
            change_since: None,
        }
    }

    /// A master that remembers a table, and who of its members kept their slots. `are_gone`: none of them lives any more.
    pub fn with_table(
        now: Moment,
        timing: Timing,
        settings: Settings,
        (table, kept): (RoutingTable, BTreeSet<Life>),
        are_gone: bool,
    ) -> Self {
        let mut state = MasterState::new(now, timing, settings);
        if table.epoch == Epoch(0) {
            return state;
        }
        // Whoever might have a newer table is a member of this one, and rule 3 waits for those.
        state.quiet_until = now;
        match are_gone {
            true => state.publish(planner::plan(&table, &[], &kept)),
            false => {
                state.adopt(now, table);
                state.kept = kept;
            }
        }
        state
    }

    /// The table in force.
    pub fn table(&self) -> &RoutingTable {
        &self.table
    }

    /// The table in force, encoded once.
    pub fn table_bytes(&self) -> Rc<[u8]> {
        self.table_bytes.clone()
    }

    /// Members that keep their slots: what they answer from is on their volumes.
    pub fn kept(&self) -> &BTreeSet<Life> {
        &self.kept
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Who is there.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// A core introduces itself for the first time on its connection; it may be asked to do so again.
    pub fn introduce(&mut self, now: Moment, report: &Report) -> Result<Orders, RegisterError> {
        let is_enough = self.membership.introduce(now, report)?;
        self.note_kept(report);
        Ok(self.orders(report, is_enough))
    }

    /// A core introduces itself.
    pub fn register(&mut self, now: Moment, report: &Report) -> Result<Orders, RegisterError> {
        self.membership.register(now, report)?;
        self.note_kept(report);
        Ok(self.orders(report, true))
    }

    /// A core is still there.
    pub fn heartbeat(&mut self, now: Moment, report: &Report) -> Orders {
        let is_known = self.membership.heartbeat(now, report);
        self.note_kept(report);
        self.orders(report, is_known)
    }

    /// A core wants to give its slots away, or (with weight 0) has done so and is gone.
    pub fn leave(&mut self, now: Moment, report: &Report) -> Orders {
        let is_known = self.membership.leave(now, report);
        // Who is gone need not come back to say so.
        self.orders(report, is_known || report.member.weight == 0)
    }

    /// A core gives us its table. Answers whether it was newer than ours and is in force now.
    pub fn offer_table(&mut self, now: Moment, table: RoutingTable) -> Result<bool, OfferError> {
        if table.epoch > EPOCH_MAX {
            return Err(OfferError::Epoch(table.epoch));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = table.members.iter().find(|member| !seen.insert(member.id)) {
            return Err(OfferError::Twice(twice.id));
        }
        if table.epoch <= self.table.epoch {
            return Ok(false);
        }
        self.adopt(now, table);
        Ok(true)
    }

    /// The answer to an offer: which epoch is in force now.
    pub fn orders_of_offer(&self) -> Orders {
        Orders {
            epoch: self.table.epoch,
            settings: self.settings,
            wants_table: 0,
            wants_register: 0,
            heritage: Heritage::default() as u8,
            reserved: [0; 5],
        }
    }

    /// Changes the settings. They reach every core with its next heartbeat.
    pub fn change_settings(&mut self, change: SettingsChange) -> Result<Settings, SettingsError> {
        self.settings = change.apply(self.settings)?;
        log::info!("settings are now: {}", self.settings);
        Ok(self.settings)
    }

    /// Looks at the clock. Answers whether there is a new table.
    pub fn tick(&mut self, now: Moment) -> bool {
        self.membership.advance(now);
        let newest = self.membership.epoch_max();
        if newest > self.table.epoch {
            return self.outlive(now, newest);
        }
        self.newer_since = None;
        if now < self.quiet_until || self.membership.is_anyone_unheard() {
            return false;
        }
        let wanted = planner::ordered(&self.table, &self.membership.wanted());
        if wanted == self.table.members {
            self.change_since = None;
            return false;
        }
        let since = *self.change_since.get_or_insert(now);
        if self.membership.is_settling(now) && now - since < self.timing.change_wait_max {
            return false;
        }
        if self.drops_anyone(&wanted) && self.membership.is_anyone_dying(now) && now - since < DYING_TIME {
            return false;
        }
        // A core that skips a table does not learn that it was to give entries away. So each table is known to all
        // who live before there is the next one; a core that does not take it is dead soon.
        if self.membership.is_anyone_behind(&self.table) && !seeded_bug!("table before the last one is known")
        {
            return false;
        }
        let is_moving =
            self.membership.is_anything_moving(&self.table) && !seeded_bug!("slots on two ways at once");
        let next = if is_moving { self.survivors(&wanted) } else { wanted };
        if next == self.table.members {
            return false;
        }
        self.publish(planner::plan(&self.table, &next, &self.kept));
        true
    }

    /// Whether a member of the table is not there any more.
    fn drops_anyone(&self, wanted: &[Member]) -> bool {
        self.survivors(wanted).len() < self.table.members.len()
    }

    /// The members of the table that are wanted in whatever way, as they are in it.
    fn survivors(&self, wanted: &[Member]) -> Vec<Member> {
        let is_there = |member: &&Member| wanted.iter().any(|other| other.life() == member.life());
        self.table.members.iter().filter(is_there).copied().collect()
    }

    /// Waits for the table of a newer epoch, or makes one above it when nobody can give it to us.
    fn outlive(&mut self, now: Moment, newest: Epoch) -> bool {
        let since = *self.newer_since.get_or_insert(now);
        if now - since < self.timing.dead_after {
            return false;
        }
        log::error!("nobody offered the table of epoch {newest}: all entries count as lost");
        let mut unknown = RoutingTable { epoch: newest, ..RoutingTable::empty() };
        unknown.origins.fill(LOST);
        self.kept.clear();
        self.publish(planner::plan(&unknown, &self.membership.wanted(), &self.kept));
        self.newer_since = None;
        true
    }

    fn adopt(&mut self, now: Moment, table: RoutingTable) {
        log::info!("adopting the table of epoch {} with {} members", table.epoch, table.members.len());
        self.membership.adopt(now, &table);
        self.kept.clear();
        self.publish(table);
    }

    fn publish(&mut self, table: RoutingTable) {
        log::info!("epoch {}: {} members", table.epoch, table.members.len());
        self.membership.published(&table);
        self.kept = planner::still_kept(&self.table, &table, &self.kept);
        self.table_bytes = encoded(&table);
        self.table = table;
        self.told.clear();
        self.change_since = None;
    }

    /// A core was given the table of an epoch.
    pub fn note_told(&mut self, life: Life, epoch: Epoch) {
        if epoch == self.table.epoch && self.table.members.iter().any(|member| member.life() == life) {
            self.told.insert(life);
        }
    }

    /// Whether the table is what it should be, and all its members have it; or nobody is there any more.
    pub fn do_all_know(&self) -> bool {
        let wanted = planner::ordered(&self.table, &self.membership.wanted());
        let knows = |member: &Member| {
            let row = self.membership.row(member.id);
            self.told.contains(&member.life()) || row.is_some_and(|row| row.epoch >= self.table.epoch)
        };
        wanted.is_empty() || wanted == self.table.members && wanted.iter().all(knows)
    }

    /// A core may have said that it keeps its slots, by the table in force.
    fn note_kept(&mut self, report: &Report) {
        let life = report.member.life();
        if report.keeps && report.epoch == self.table.epoch && !self.kept.contains(&life) {
            let is_member = self.table.members.iter().any(|member| member.life() == life);
            if is_member {
                self.kept.insert(life);
            }
        }
    }

    fn orders(&self, report: &Report, is_known: bool) -> Orders {
        Orders {
            wants_table: (report.epoch > self.table.epoch && report.epoch <= EPOCH_MAX).into(),
            wants_register: (!is_known).into(),
            ..self.orders_of_offer()
        }
    }
}

fn encoded(table: &RoutingTable) -> Rc<[u8]> {
    let mut bytes = Vec::new();
    table.encode(&mut bytes);
    bytes.into()
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
