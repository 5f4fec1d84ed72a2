//! Who is a member: cores, their lives, and whether they have been heard of lately. Pure: time is an argument.
//!
//! ```text
//!                register               in a table          3 s of silence
//!   (unknown) ─────────────► Joining ─────────────► Active ◄───────────────► Suspect
//!       ▲                       │                     │  ▲      a report        │
//!       │ 10 min                │                     │  └── adopted table      │
//!       │                       │                     ├──────── leave ──────────┤
//!       │                       ▼ leave               ▼                         │
//!       ├──────────────────── (unknown) ◄───────── Leaving                      │
//!       │                               gone          │                         │
//!      Dead ◄───────── 10 s of silence ───────────────┴─────────────────────────┘
//! ```
//!
//! Missing on purpose: Dead → Active (a core that was given up registers again, and joins again) and Leaving →
//! Active (leaving is final for a life).
//!
//! Invariants:
//!
//! * All rows of an engine that have not been given up are of one life: an incarnation is a life of the whole
//!   process, so the first core that registers with a new one ends the old one for all its siblings.
//! * A life that was replaced never comes back, even if a frame of it was stuck somewhere.
//! * Nobody is given up while nobody at all is heard: then it is the master that is cut off (or stood still), and giving
//!   up everyone would make it forget who has what. When the silence ends, everyone's clock starts anew.

use crate::config::Timing;
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::limits::MEMBERS_MAX;
use snowskin_protocol::wire::control::{Load, Report};
use snowskin_protocol::{CoreId, EngineId, Epoch, Incarnation, Member, RoutingTable};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How long a dead core is shown to people who ask what happened.
const DEAD_SHOWN: Duration = Duration::from_secs(600);
/// Ended lives that are remembered for each engine.
const FORMER_LIVES_MAX: usize = 8;

/// Above this, an epoch is not a count of changes but a mistake.
pub const EPOCH_MAX: Epoch = Epoch(1 << 48);

/// Where a core is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// Registered, not in a table yet.
    Joining,
    /// In the table and heard of.
    Active,
    /// In the table, and silent for a while.
    Suspect,
    /// Gives its slots away.
    Leaving,
    /// Silent for so long that its slots are given away.
    Dead,
}

impl MemberState {
    /// All states.
    pub const ALL: [MemberState; 5] = [
        MemberState::Joining,
        MemberState::Active,
        MemberState::Suspect,
        MemberState::Leaving,
        MemberState::Dead,
    ];

    /// Its name in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            MemberState::Joining => "joining",
            MemberState::Active => "active",
            MemberState::Suspect => "suspect",
            MemberState::Leaving => "leaving",
            MemberState::Dead => "dead",
        }
    }
}

/// Who is as close as this to being dead is waited for when somebody else has died: two heartbeats.
pub(crate) const DYING_TIME: Duration = Duration::from_secs(2);

/// What is known of a core.
#[derive(Clone, Debug)]
pub struct MemberRow {
    /// Which core, in which life, where, with what weight of its own.
    pub member: Member,
    /// Cores of its engine; 0 while it is only known from a table.
    pub engine_cores: u16,
    /// How full it said it is.
    pub load: Load,
    /// The newest table it said it has.
    pub epoch: Epoch,
    /// Slots on their way to it or from it, by its last report.
    pub slots_moving: u32,
    /// Where it is in its life.
    pub state: MemberState,
    /// When it registered, or was adopted with a table.
    pub since: Moment,
    /// When it was last heard of.
    pub last_seen: Moment,
    /// Whether it has reported itself, and is not only known from an adopted table.
    pub is_heard: bool,
}

/// Why a core was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Another life of its engine registered after this one.
    #[error(
        "engine {0} has registered with a newer life since: if that is another process, give one of them another name"
    )]
    Replaced(EngineId),
    /// The table is full.
    #[error("the cluster has {MEMBERS_MAX} cores, and that is the limit")]
    Full,
    /// Nobody could connect to it.
    #[error("{0} is no address that others can connect to: advertise the host's own")]
    Address(std::net::SocketAddr),
    /// Its number is not below its engine's number of cores.
    #[error("core {core} of an engine with {engine_cores} cores: numbers begin at 0")]
    Core {
        /// The number it gave itself.
        core: u16,
        /// How many it said there are.
        engine_cores: u16,
    },
}

/// The cores, their lives, and when they were heard of.
#[derive(Debug)]
pub struct Membership {
    timing: Timing,
    rows: BTreeMap<CoreId, MemberRow>,
    former_lives: BTreeMap<EngineId, VecDeque<Incarnation>>,
    last_heard: Option<Moment>,
}

impl Membership {
    /// Nobody yet.
    pub fn new(timing: Timing) -> Self {
        Membership { timing, rows: BTreeMap::new(), former_lives: BTreeMap::new(), last_heard: None }
    }

    /// All rows, in the order of their ids; the dead of the last minutes among them.
    pub fn rows(&self) -> impl Iterator<Item = &MemberRow> {
        self.rows.values()
    }

    /// What is known of a core.
    pub fn row(&self, id: CoreId) -> Option<&MemberRow> {
        self.rows.get(&id)
    }

    /// A core introduces itself for the first time on its connection. Answers whether that is enough: to end another life
    /// of its engine it has to say so again, in the knowledge of this answer. A frame of a dead process that was stuck
    /// somewhere does not, so it cannot end the life that came after it.
    pub fn introduce(&mut self, now: Moment, report: &Report) -> Result<bool, RegisterError> {
        let ends_another =
            self.other_lives(report.member.id.engine, report.member.incarnation).next().is_some();
        if ends_another && !self.is_former(report) && !seeded_bug!("one frame ends a life") {
            check(report)?;
            return Ok(false);
        }
        self.register(now, report).map(|()| true)
    }

    /// A core introduces itself. The same life may do so again at any time.
    pub fn register(&mut self, now: Moment, report: &Report) -> Result<(), RegisterError> {
        check(report)?;
        let (id, incarnation) = (report.member.id, report.member.incarnation);
        if self.is_former(report) {
            return Err(RegisterError::Replaced(id.engine));
        }
        self.end_other_lives(id.engine, incarnation);
        self.hear(now);
        if self.rows.get(&id).is_some_and(|row| row.state != MemberState::Dead) {
            self.note(now, report);
            return Ok(());
        }
        self.make_room()?;
        log::info!("core {id} at {} registers with weight {}", report.member.address, report.member.weight);
        let row = MemberRow {
            member: report.member,
            engine_cores: report.engine_cores,
            load: report.load,
            epoch: report.epoch,
            slots_moving: report.slots_moving,
            state: MemberState::Joining,
            since: now,
            last_seen: now,
            is_heard: true,
        };
        self.rows.insert(id, row);
        Ok(())
    }

    /// A core is still there. Answers whether it is known; if not, it should register.
    pub fn heartbeat(&mut self, now: Moment, report: &Report) -> bool {
        self.hear(now);
        self.is_alive(report) && check(report).is_ok() && {
            self.note(now, report);
            true
        }
    }

    /// A core wants to give its slots away; with weight 0 it says that it is done, and is forgotten. Answers whether
    /// it is known.
    pub fn leave(&mut self, now: Moment, report: &Report) -> bool {
        self.hear(now);
        let id = report.member.id;
        if !self.is_alive(report) {
            return false;
        }
        self.siblings_leave(report);
        let row = self.rows.get_mut(&id).expect("it is alive");
        if row.state == MemberState::Joining || report.member.weight == 0 {
            log::info!("core {id} is gone");
            self.rows.remove(&id);
            return true;
        }
        if row.state != MemberState::Leaving {
            log::info!("core {id} leaves");
        }
        row.state = MemberState::Leaving;
        self.note(now, report);
        true
    }

    /// An engine leaves as a whole: its cores say so one after the other, and none is to get slots from another one meanwhile.
    fn siblings_leave(&mut self, report: &Report) {
        let engine = report.member.id.engine;
        let siblings = self.rows.range_mut(CoreId { engine, core: 0 }..=CoreId { engine, core: u16::MAX });
        for (_, row) in siblings.filter(|(id, _)| **id != report.member.id) {
            if matches!(row.state, MemberState::Active | MemberState::Suspect) {
                row.state = MemberState::Leaving;
            }
        }
    }

    /// Moves those on who have been silent for too long.
    pub fn advance(&mut self, now: Moment) {
        let Timing { suspect_after, dead_after, .. } = self.timing;
        let anyone = self.last_heard.is_some_and(|last| now - last < suspect_after);
        for (id, row) in &mut self.rows {
            let silence = now - row.last_seen;
            if row.state == MemberState::Active && silence >= suspect_after {
                log::warn!("core {id} is suspect: nothing heard for {:.1} s", silence.as_secs_f64());
                row.state = MemberState::Suspect;
            }
            if row.state != MemberState::Dead && silence >= dead_after && anyone {
                log::warn!("core {id} is dead: nothing heard for {:.1} s", silence.as_secs_f64());
                row.state = MemberState::Dead;
            }
        }
        self.rows.retain(|_, row| row.state != MemberState::Dead || now - row.last_seen < DEAD_SHOWN);
        let engines: BTreeSet<EngineId> = self.rows.keys().map(|id| id.engine).collect();
        self.former_lives.retain(|engine, _| engines.contains(engine));
    }

    /// Takes the members of a table that others have for alive until they are silent for too long.
    pub fn adopt(&mut self, now: Moment, table: &RoutingTable) {
        self.rows.retain(|_, row| row.is_heard);
        let lives: BTreeMap<EngineId, Incarnation> =
            self.alive().map(|row| (row.member.id.engine, row.member.incarnation)).collect();
        for member in &table.members {
            let is_other_life = lives.get(&member.id.engine).is_some_and(|life| *life != member.incarnation);
            if is_other_life {
                continue;
            }
            let known = self.rows.get(&member.id);
            if known.is_some_and(|row| row.member.incarnation == member.incarnation) {
                continue;
            }
            let state = if member.weight == 0 { MemberState::Leaving } else { MemberState::Active };
            let row = MemberRow {
                member: *member,
                engine_cores: 0,
                load: Load::default(),
                epoch: Epoch(0),
                slots_moving: 0,
                state,
                since: now,
                last_seen: now,
                is_heard: false,
            };
            self.rows.insert(member.id, row);
        }
        self.published(table);
    }

    /// A table is in force: who is in it has joined.
    pub fn published(&mut self, table: &RoutingTable) {
        for member in &table.members {
            if let Some(row) = self.rows.get_mut(&member.id)
                && row.state == MemberState::Joining
                && row.member.incarnation == member.incarnation
            {
                row.state = MemberState::Active;
            }
        }
    }

    /// Who should be in the next table, in the order of ids.
    pub fn wanted(&self) -> Vec<Member> {
        self.alive()
            .take(MEMBERS_MAX)
            .map(|row| match row.state {
                MemberState::Leaving => Member { weight: 0, ..row.member },
                _ => row.member,
            })
            .collect()
    }

    /// Whether an engine's cores are still coming in.
    pub fn is_settling(&self, now: Moment) -> bool {
        let rows: Vec<&MemberRow> = self.alive().collect();
        rows.chunk_by(|one, other| one.member.id.engine == other.member.id.engine).any(|engine| {
            let joining = engine.iter().filter(|row| row.state == MemberState::Joining);
            let cores = engine.iter().map(|row| usize::from(row.engine_cores)).max().unwrap_or(0);
            let since = joining.map(|row| row.since).min();
            engine.len() < cores && since.is_some_and(|since| now - since < self.timing.settle)
        })
    }

    /// Whether members of an adopted table have not reported yet.
    pub fn is_anyone_unheard(&self) -> bool {
        self.alive().any(|row| !row.is_heard)
    }

    /// The highest epoch that a live core has reported.
    pub fn epoch_max(&self) -> Epoch {
        self.alive().map(|row| row.epoch).filter(|epoch| *epoch <= EPOCH_MAX).max().unwrap_or_default()
    }

    /// Whether a core has slots on their way, or may have some that it does not know to be no longer its own: it was
    /// given up and has come back, and knows an older table only.
    pub fn is_anything_moving(&self, table: &RoutingTable) -> bool {
        let has_old_slots = |row: &MemberRow| row.epoch > Epoch(0) && row.epoch < table.epoch;
        self.alive().any(|row| row.slots_moving > 0 || has_old_slots(row))
    }

    /// Whether somebody who counts as alive has been silent for nearly as long as the dead.
    pub fn is_anyone_dying(&self, now: Moment) -> bool {
        let silence = self.timing.dead_after.saturating_sub(DYING_TIME);
        self.alive().any(|row| row.state == MemberState::Suspect && now - row.last_seen >= silence)
    }

    /// Whether a live member of this table has not said yet that it knows it.
    pub fn is_anyone_behind(&self, table: &RoutingTable) -> bool {
        self.alive().filter(|row| row.epoch < table.epoch).any(|row| {
            let is_row =
                |member: &Member| (member.id, member.incarnation) == (row.member.id, row.member.incarnation);
            table.members.iter().any(is_row)
        })
    }

    fn alive(&self) -> impl Iterator<Item = &MemberRow> {
        self.rows.values().filter(|row| row.state != MemberState::Dead)
    }

    fn is_alive(&self, report: &Report) -> bool {
        self.rows.get(&report.member.id).is_some_and(|row| {
            row.member.incarnation == report.member.incarnation && row.state != MemberState::Dead
        })
    }

    /// The cores of an engine's other lives that have not ended.
    fn other_lives(&self, engine: EngineId, incarnation: Incarnation) -> impl Iterator<Item = CoreId> + '_ {
        self.rows
            .range(CoreId { engine, core: 0 }..=CoreId { engine, core: u16::MAX })
            .filter(move |(_, row)| row.member.incarnation != incarnation)
            .map(|(id, _)| *id)
    }

    /// Whether a life has ended that says it is there.
    fn is_former(&self, report: &Report) -> bool {
        let lives = self.former_lives.get(&report.member.id.engine);
        lives.is_some_and(|lives| lives.contains(&report.member.incarnation))
    }

    /// Somebody is heard. If nobody was for a while, the master was cut off or stood still, and nobody is to blame.
    fn hear(&mut self, now: Moment) {
        if self.last_heard.is_some_and(|last| now - last >= self.timing.suspect_after) {
            for row in self.rows.values_mut().filter(|row| row.state != MemberState::Dead) {
                row.last_seen = now;
            }
        }
        self.last_heard = Some(now);
    }

    fn note(&mut self, now: Moment, report: &Report) {
        let row = self.rows.get_mut(&report.member.id).expect("only known cores are noted");
        match row.state {
            // The weight 0 that it was adopted with may have been its own: then it only lends memory.
            MemberState::Leaving if !row.is_heard && report.member.weight == 0 => {
                row.state = MemberState::Active;
            }
            MemberState::Suspect => {
                log::info!("core {} is heard of again", report.member.id);
                row.state = MemberState::Active;
            }
            _ => {}
        }
        row.member = report.member;
        row.engine_cores = report.engine_cores;
        row.load = report.load;
        (row.epoch, row.slots_moving) = (report.epoch, report.slots_moving);
        row.last_seen = now;
        row.is_heard = true;
    }

    fn end_other_lives(&mut self, engine: EngineId, incarnation: Incarnation) {
        let ended: Vec<CoreId> = self.other_lives(engine, incarnation).collect();
        for id in ended {
            let row = self.rows.remove(&id).expect("it was just found");
            let lives = self.former_lives.entry(engine).or_default();
            if !lives.contains(&row.member.incarnation) {
                log::info!("engine {engine} has a new life: what the old one held in memory is lost");
                lives.truncate(FORMER_LIVES_MAX - 1);
                lives.push_front(row.member.incarnation);
            }
        }
    }

    /// Drops the longest dead row if there is no room for another.
    fn make_room(&mut self) -> Result<(), RegisterError> {
        if self.rows.len() < MEMBERS_MAX {
            return Ok(());
        }
        let dead = self.rows.values().filter(|row| row.state == MemberState::Dead);
        let longest = dead.min_by_key(|row| row.last_seen).map(|row| row.member.id);
        longest.and_then(|id| self.rows.remove(&id)).map(|_| ()).ok_or(RegisterError::Full)
    }
}

fn check(report: &Report) -> Result<(), RegisterError> {
    let Report { member, engine_cores, .. } = *report;
    if member.id.core >= engine_cores {
        return Err(RegisterError::Core { core: member.id.core, engine_cores });
    }
    if member.address.ip().is_unspecified() || member.address.port() == 0 {
        return Err(RegisterError::Address(member.address));
    }
    Ok(())
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
