//! What a master is started with, and how long it waits for what.

use crate::run::Stop;
use crate::settings::SettingsChange;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Where frames are answered when nothing else is said.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7300);
/// Where admin HTTP is answered when nothing else is said.
pub const HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7380);

/// How long the master waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Silence after which a core is suspect. Cores send a heartbeat a second.
    pub suspect_after: Duration,
    /// Silence after which a core is dead and its slots are given away.
    pub dead_after: Duration,
    /// How long the first core of an engine waits for its siblings, so that an engine joins in one epoch.
    pub settle: Duration,
    /// How long any change of the table waits for engines that are still settling.
    pub change_wait_max: Duration,
    /// After a start without a ledger: how long to listen for cores that have a table already, before the first
    /// table is made. A bit more than the time in which every core sends a heartbeat.
    pub quiet: Duration,
    /// Time between two looks at the clock.
    pub tick: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            suspect_after: Duration::from_secs(3),
            dead_after: Duration::from_secs(10),
            settle: Duration::from_millis(300),
            change_wait_max: Duration::from_secs(1),
            quiet: Duration::from_secs(2),
            tick: Duration::from_millis(100),
        }
    }
}

/// What a master is started with.
#[derive(Clone, Debug)]
pub struct MasterConfig {
    /// Where it answers frames. Port 0: any free one.
    pub listen: SocketAddr,
    /// Where it answers admin HTTP, if at all. Only [`crate::run_blocking`] looks at this.
    pub http: Option<SocketAddr>,
    /// The file that remembers epoch, table and settings over a restart. Without one they are learnt from the cores.
    pub ledger: Option<PathBuf>,
    /// Whoever was a member before this master's start is gone: it is part of the only engine that could come back.
    pub is_embedded: bool,
    /// Settings that are to hold whatever the ledger says.
    pub settings: SettingsChange,
    /// How long it waits for what.
    pub timing: Timing,
    /// Ends [`crate::run_blocking`] from another thread.
    pub stop: Stop,
    /// Whether SIGTERM and SIGINT end [`crate::run_blocking`]: in a process that is nothing but a master.
    pub stops_at_signals: bool,
}

impl Default for MasterConfig {
    fn default() -> Self {
        MasterConfig {
            listen: LISTEN_DEFAULT,
            http: Some(HTTP_DEFAULT),
            ledger: None,
            is_embedded: false,
            settings: SettingsChange::default(),
            timing: Timing::default(),
            stop: Stop::new(),
            stops_at_signals: false,
        }
    }
}

impl MasterConfig {
    /// A master within the process of the only engine that needs it: frames on any free port of the loopback
    /// interface, no HTTP, and no waiting for cores that remember an older table.
    pub fn embedded() -> Self {
        MasterConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            http: None,
            is_embedded: true,
            timing: Timing { quiet: Duration::ZERO, ..Timing::default() },
            ..MasterConfig::default()
        }
    }
}
