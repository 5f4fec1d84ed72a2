//! The state with what surrounds it: the ledger it is written to, and the counters of what was asked.
//!
//! One value behind one `Rc<RefCell<…>>`, shared by the tasks of one thread; no task keeps it borrowed while it waits.
//! Whatever changes table or settings goes through here, so that the ledger has it before anybody is told.

use crate::config::MasterConfig;
use crate::ledger::{Ledger, LedgerError, Record};
use crate::settings::SettingsChange;
use crate::state::{MasterState, OfferError};
use snowskin_io::Moment;
use snowskin_io::seeded_bug;
use snowskin_protocol::settings::SettingsError;
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::control::{Heritage, Orders, Report};
use snowskin_protocol::{Epoch, Incarnation, Life, RoutingTable, Settings};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Time between two attempts to write a ledger that could not be written.
const LEDGER_RETRY: Duration = Duration::from_secs(1);

/// Why a master does not start, or stops.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// Somebody else listens there, or the address is not this host's.
    #[error(
        "cannot listen on {address}: {error}: is another master running? Name another port, or 0 for any"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The settings cannot hold.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The kernel refused something else.
    #[error("the master cannot run: {0}")]
    Io(#[from] io::Error),
    /// A bug: a task of the master panicked.
    #[error("a task of the master panicked: its message is above")]
    Panicked,
}

/// What was asked on all connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameCounters {
    by_opcode: [u64; Opcode::ALL.len()],
    /// Frames about data: all of them refused. The proof that no data and no lookup passes the master.
    pub data_frames_refused: u64,
    /// Frames that made no sense; each cost its sender the connection.
    pub bad_frames: u64,
    /// Connections now open.
    pub connections: u64,
    /// Connections closed at once because there were too many.
    pub connections_refused: u64,
}

impl FrameCounters {
    /// Frames of each operation, answered or refused.
    pub fn by_opcode(&self) -> impl Iterator<Item = (Opcode, u64)> + '_ {
        Opcode::ALL.into_iter().zip(self.by_opcode)
    }

    /// Frames of one operation, answered or refused.
    pub fn of(&self, opcode: Opcode) -> u64 {
        self.by_opcode().find(|(other, _)| *other == opcode).map_or(0, |(_, count)| count)
    }

    pub(crate) fn count(&mut self, opcode: Opcode) {
        let index = Opcode::ALL.iter().position(|other| *other == opcode).expect("all are listed");
        self.by_opcode[index] += 1;
    }
}

/// A master's state, ledger and counters.
#[derive(Debug)]
pub struct Master {
    /// Members, table and settings.
    pub state: MasterState,
    /// What was asked.
    pub frames: FrameCounters,
    /// Times that the ledger was written.
    pub ledger_writes: u64,
    /// Attempts to write the ledger that failed.
    pub ledger_errors: u64,
    incarnation: Incarnation,
    started: Moment,
    ledger: Option<Ledger>,
    /// What the ledger has: epoch, settings, and who keeps its slots.
    saved: Option<(Epoch, Settings, BTreeSet<Life>)>,
    retry_at: Moment,
}

impl Master {
    /// A master as configured, with what its ledger remembers.
    pub fn open(now: Moment, incarnation: Incarnation, config: &MasterConfig) -> Result<Self, MasterError> {
        let (ledger, record) = match &config.ledger {
            None => (None, None),
            Some(path) => {
                let (ledger, record) = Ledger::open(path)?;
                (Some(ledger), record)
            }
        };
        let saved = record.as_ref().map(|record| (record.table.epoch, record.settings, record.kept.clone()));
        let settings = config.settings.apply(record.as_ref().map_or(Settings::default(), |r| r.settings))?;
        let state = match record {
            Some(Record { table, kept, .. }) => {
                // The cores of a process that has its own master end with it.
                MasterState::with_table(now, config.timing, settings, (table, kept), config.is_embedded)
            }
            None => MasterState::new(now, config.timing, settings),
        };
        let mut master = Master {
            state,
            frames: FrameCounters::default(),
            ledger_writes: 0,
            ledger_errors: 0,
            incarnation,
            started: now,
            ledger,
            saved,
            retry_at: now,
        };
        // A ledger that can never be written is better known at the start than after a crash.
        master.write_ledger()?;
        Ok(master)
    }

    /// This life of the master.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// When this life began.
    pub fn started(&self) -> Moment {
        self.started
    }

    /// Looks at the clock. Answers whether there is a new table.
    pub fn tick(&mut self, now: Moment) -> bool {
        let is_new = self.state.tick(now);
        self.save(now, is_new);
        is_new
    }

    /// Whether what a core keeps that has reported is still to be written down.
    pub(crate) fn is_to_be_written(&self, report: &Report) -> bool {
        self.ledger.is_some() && self.state.kept().contains(&report.member.life()) && !self.is_saved()
    }

    /// What a core is answered that has reported: also whether what it keeps is remembered, by the table that its orders speak of. It is written
    /// down first.
    pub(crate) fn remember(&mut self, now: Moment, report: &Report, orders: Orders) -> Orders {
        let life = report.member.life();
        // What it is told counts for that table alone: meanwhile there may be another.
        let is_kept = self.state.kept().contains(&life) && orders.epoch == self.state.table().epoch;
        if is_kept {
            self.save(now, true);
        }
        let heritage = match &self.ledger {
            None => Heritage::Forgotten,
            Some(_) if is_kept && self.is_saved() => Heritage::Remembered,
            Some(_) => Heritage::Unknown,
        };
        Orders { heritage: heritage as u8, ..orders }
    }

    /// A core gives us its table. Answers whether it is in force now.
    pub fn offer_table(&mut self, now: Moment, table: RoutingTable) -> Result<bool, OfferError> {
        let is_new = self.state.offer_table(now, table)?;
        self.save(now, is_new);
        Ok(is_new)
    }

    /// Changes the settings.
    pub fn change_settings(
        &mut self,
        now: Moment,
        change: SettingsChange,
    ) -> Result<Settings, SettingsError> {
        let settings = self.state.change_settings(change)?;
        self.save(now, true);
        Ok(settings)
    }

    /// Writes what has changed; what could not be written is tried again a second later.
    fn save(&mut self, now: Moment, is_new: bool) {
        if !is_new && now < self.retry_at {
            return;
        }
        if let Err(error) = self.write_ledger() {
            self.ledger_errors += 1;
            self.retry_at = now + LEDGER_RETRY;
            log::error!("{error}; going on without: a restarted master would ask the cores");
        }
    }

    /// Whether the ledger has what a next master has to know.
    fn is_saved(&self) -> bool {
        let now = (self.state.table().epoch, self.state.settings(), self.state.kept());
        self.saved.as_ref().is_some_and(|(epoch, settings, kept)| (*epoch, *settings, kept) == now)
    }

    fn write_ledger(&mut self) -> Result<(), LedgerError> {
        if self.is_saved() || seeded_bug!("ledger not written") {
            return Ok(());
        }
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let (table, settings, kept) = (self.state.table(), self.state.settings(), self.state.kept());
        ledger.write(&Record { settings, table: table.clone(), kept: kept.clone() })?;
        self.ledger_writes += 1;
        self.saved = Some((table.epoch, settings, kept.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timing;
    use crate::testing::{at, member, report};
    use std::path::Path;

    fn config(ledger: &Path) -> MasterConfig {
        let timing = Timing { quiet: Duration::ZERO, ..Timing::default() };
        MasterConfig { ledger: Some(ledger.to_owned()), timing, ..MasterConfig::default() }
    }

    fn open(config: &MasterConfig) -> Master {
        Master::open(at(0), Incarnation(1), config).unwrap()
    }

    #[test]
    fn the_ledger_has_every_table_and_setting_before_anybody_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory.path().join("ledger"));
        let mut master = open(&config);
        master.state.register(at(10), &report(1, 0, 1)).unwrap();
        assert!(master.tick(at(20)));
        let change = SettingsChange { lease_ms: Some(123), ..SettingsChange::default() };
        master.change_settings(at(30), change).unwrap();
        let table = master.state.table().clone();
        drop(master);

        let mut master = open(&config);
        assert_eq!(master.state.table(), &table);
        assert_eq!(master.state.settings().lease_ms, 123);
        let newer = RoutingTable { epoch: Epoch(7), ..table };
        assert_eq!(master.offer_table(at(10), newer.clone()), Ok(true));
        assert_eq!(master.offer_table(at(20), newer), Ok(false));
        drop(master);
        assert_eq!(open(&config).state.table().epoch, Epoch(7));
    }

    #[test]
    fn the_command_line_overrides_the_ledger_which_overrides_the_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(&directory.path().join("ledger"));
        config.settings.lease_ms = Some(1);
        drop(open(&config));
        config.settings = SettingsChange { low_watermark_permille: Some(900), ..SettingsChange::default() };
        let settings = open(&config).state.settings();
        let expected = Settings { lease_ms: 1, low_watermark_permille: 900, ..Settings::default() };
        assert_eq!(settings, expected);
        config.settings.high_watermark_permille = Some(899);
        assert!(matches!(Master::open(at(0), Incarnation(1), &config), Err(MasterError::Settings(_))));
    }

    #[test]
    fn a_ledger_that_cannot_be_written_is_counted_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("place");
        std::fs::create_dir(&place).unwrap();
        let config = config(&place.join("ledger"));
        let mut master = open(&config);
        let away = directory.path().join("away");
        std::fs::rename(&place, &away).unwrap();
        master.state.register(at(10), &report(1, 0, 1)).unwrap();
        assert!(master.tick(at(100)));
        assert_eq!((master.state.table().epoch, master.ledger_errors), (Epoch(1), 1));
        master.tick(at(200));
        assert_eq!(master.ledger_errors, 1);
        master.tick(at(1_100));
        assert_eq!(master.ledger_errors, 2);
        std::fs::rename(&away, &place).unwrap();
        master.tick(at(2_100));
        assert_eq!(master.ledger_errors, 2);
        drop(master);
        assert_eq!(open(&config).state.table().members, [member(1, 0, 64)]);
    }

    #[test]
    fn a_ledger_that_cannot_be_used_stops_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        std::fs::write(&path, b"something else").unwrap();
        let error = Master::open(at(0), Incarnation(1), &config(&path)).unwrap_err();
        assert!(matches!(error, MasterError::Ledger(LedgerError::Damaged { .. })), "{error}");
    }

    #[test]
    fn frames_are_counted_by_operation() {
        let mut frames = FrameCounters::default();
        frames.count(Opcode::Table);
        frames.count(Opcode::Table);
        assert_eq!((frames.of(Opcode::Table), frames.of(Opcode::Put)), (2, 0));
        assert_eq!(frames.by_opcode().map(|(_, count)| count).sum::<u64>(), 2);
    }
}
