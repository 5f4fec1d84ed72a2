//! What is let onto the SSD, and copies there of what stays in memory: of puts that are to be durable, and of all in write-through.

use super::Shard;
use super::row::{Place, Position, RecordId, Row};
use super::tiered::{Demotion, Tiered, UnderWay};
use snowskin_protocol::{HashedName, MissReason, Version};
use std::fmt;
use std::str::FromStr;

/// Rows that wait to be copied, at most. Of more the later ones are not: they go when their turn comes.
const FRESH_MAX: usize = 65_536;

/// When objects go to the SSD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// When memory is about to be needed.
    #[default]
    Back,
    /// When they are put; nobody waits for that. They stay in memory as well.
    Through,
}

/// Which objects go to the SSD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// All.
    #[default]
    All,
    /// Those that were used since they were put, or put again soon after they went.
    SecondTouch,
}

/// There is no admission of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no admission \"{0}\": use all or second-touch")]
pub struct UnknownAdmission(String);

impl fmt::Display for Admission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Admission::All => "all",
            Admission::SecondTouch => "second-touch",
        })
    }
}

impl FromStr for Admission {
    type Err = UnknownAdmission;

    fn from_str(name: &str) -> Result<Self, UnknownAdmission> {
        match name {
            "all" => Ok(Admission::All),
            "second-touch" => Ok(Admission::SecondTouch),
            _ => Err(UnknownAdmission(name.to_owned())),
        }
    }
}

/// What goes to the SSD, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierPolicy {
    /// When.
    pub mode: WriteMode,
    /// What. Puts that are to be durable are not asked.
    pub admission: Admission,
}

/// What there is to do for a copy of an object.
#[derive(Debug)]
pub enum CopyStart {
    /// Its bytes are to be written.
    Write(Demotion),
    /// They have been: it has this record, which may not be durable yet.
    Written(RecordId),
    /// They are being written.
    UnderWay,
    /// There is another value of this name, or it was removed: what was to be copied means nothing any more.
    Replaced,
    /// Its bytes are not here, or this core is not its home any more.
    NotHere,
}

/// Whether an object may go to the SSD, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// It has a record there, so that costs nothing; or it may be written.
    Open,
    /// So much has been written already.
    OverBudget,
    /// It has not been used a second time, or no record is so large.
    Closed,
}

impl Tiered {
    /// Whether a row may go to the SSD.
    pub(super) fn entrance(&self, at: Position, row: &Row, has_budget: bool) -> Entrance {
        if self.has_copy(at) {
            return Entrance::Open;
        }
        match row.value_bytes() <= self.value_bytes_max && self.is_proven(at, row) {
            true if has_budget => Entrance::Open,
            true => Entrance::OverBudget,
            false => Entrance::Closed,
        }
    }

    /// The same, without the reason.
    pub(super) fn lets_in(&self, at: Position, row: &Row, has_budget: bool) -> bool {
        self.entrance(at, row, has_budget) == Entrance::Open
    }

    fn is_proven(&self, at: Position, row: &Row) -> bool {
        match self.policy.admission {
            Admission::All => true,
            Admission::SecondTouch => row.seat.was_used(self.kind) || self.returned.contains(&at),
        }
    }
}

impl Shard {
    /// A value was put, under a name that had gone not long ago or not.
    pub(super) fn note_fresh(&mut self, position: Position, has_returned: bool) {
        let Some(tiered) = &mut self.tiered else { return };
        if has_returned && tiered.policy.admission == Admission::SecondTouch {
            tiered.returned.insert(position);
        }
        if tiered.policy.mode == WriteMode::Through && tiered.fresh.len() < FRESH_MAX {
            tiered.fresh.push_back((position, self.index.row(position).version()));
        }
    }

    /// The next object that was put and is to be copied, for who can write it now: it is not named again.
    pub fn next_fresh(&mut self, has_budget: bool) -> Option<Demotion> {
        loop {
            let (position, version) = self.tiered.as_mut()?.fresh.pop_front()?;
            let is_same =
                self.index.get(position).is_some_and(|row| row.version() == version && row.is_here());
            let tiered = self.tiered.as_ref()?;
            if !is_same || tiered.has_copy(position) || tiered.is_writing(position) {
                continue;
            }
            // What is not let in now is asked for once more when it is to leave memory.
            if tiered.lets_in(position, self.index.row(position), has_budget) {
                return self.demotion(position);
            }
        }
    }

    /// It could not be written now: it is the next one again.
    pub fn is_fresh_still(&mut self, fresh: &Demotion) {
        if let Some(tiered) = &mut self.tiered {
            tiered.fresh.push_front((fresh.position, fresh.version));
        }
    }

    /// The version of what is held under a name.
    pub fn version_of(&self, name: HashedName<'_>) -> Option<Version> {
        self.index.find(name).map(|position| self.index.row(position).version())
    }

    /// Begins to copy a version of an object to the SSD, if that is to be done.
    pub fn begin_copy(&mut self, name: HashedName<'_>, version: Version) -> CopyStart {
        let Some(position) = self.index.find(name) else {
            let is_removed = self.ghosts.reason(name.hash) == Some(MissReason::Removed);
            return if is_removed { CopyStart::Replaced } else { CopyStart::NotHere };
        };
        let row = self.index.row(position);
        if !(self.serves(row.slot()) && self.is_entry(row)) {
            return CopyStart::NotHere;
        }
        if row.version() != version {
            return CopyStart::Replaced;
        }
        let tiered = self.tiered.as_ref().expect("there is a tier");
        let copy = tiered.copies.get(&position).copied();
        let is_under_way = tiered.is_writing(position);
        match (self.index.place(position), copy) {
            (Place::At(_), _) => CopyStart::NotHere,
            (Place::OnSsd(record), _) | (Place::Here(_), Some(record)) => CopyStart::Written(record),
            (Place::Here(_), None) if is_under_way => CopyStart::UnderWay,
            (Place::Here(_), None) => self.demotion(position).map_or(CopyStart::NotHere, CopyStart::Write),
        }
    }

    /// Whether an object is being written, in this record.
    pub fn is_writing(&self, name: HashedName<'_>, record: RecordId) -> bool {
        let Some(tiered) = &self.tiered else { return false };
        let under_way = self.index.find(name).and_then(|position| tiered.writing.get(&position));
        under_way.is_some_and(|under_way| under_way.record == record)
    }

    /// It is being written from now on, and stays in memory.
    pub fn copy_begun(&mut self, position: Position, record: RecordId) {
        let tiered = self.tiered.as_mut().expect("there is a tier");
        tiered.writing.insert(position, UnderWay { record, stays: true });
    }

    /// A put that was to be durable has ended.
    pub fn note_durable(&mut self, is_durable: bool) {
        match is_durable {
            true => self.counters.puts_durable += 1,
            false => self.counters.puts_not_durable += 1,
        }
    }
}
