//! What is wrong with a configuration, and what is probably not meant.

use super::source::{self, Source};
use super::value::ValueError;
use super::{KEYS, MemoryPlan};
use crate::placement::PlacementError;
use snowskin_io::topology::TopologyError;
use snowskin_protocol::ByteSize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::{fmt, io};

/// Why there is no configuration to start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The flags are none of an engine's, or ask for something else than to run one.
    #[error("{0}")]
    Flags(String),
    /// The file could not be read.
    #[error("cannot read the configuration file {}: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: this is not TOML: {problem}; write lines such as memory = \"4GB\"", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What the parser said.
        problem: String,
    },
    /// A key that no setting has.
    #[error("{}:{line}: there is no setting {key}{}", path.display(), instead(key))]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// Which line.
        line: usize,
        /// The key as written.
        key: String,
    },
    /// A list, a table or a date.
    #[error(
        "{}:{line}: {key}: no setting is of type {kind}: write a text, a decimal number, true or false",
        path.display()
    )]
    Kind {
        /// Which file.
        path: PathBuf,
        /// Which line.
        line: usize,
        /// Which setting.
        key: &'static str,
        /// TOML's word for what was written.
        kind: &'static str,
    },
    /// A value that cannot be used.
    #[error("{}: {error}", place(key, origin))]
    Value {
        /// Which setting.
        key: &'static str,
        /// Where it was written.
        origin: Source,
        /// What is wrong with it.
        error: Box<ValueError>,
    },
    /// Cores that cannot be placed.
    #[error("{}: {error}", place(key, origin))]
    Placement {
        /// The setting that is most likely the cause.
        key: &'static str,
        /// Where it was written.
        origin: Source,
        /// What is wrong.
        error: PlacementError,
    },
    /// The machine could not be looked at.
    #[error(transparent)]
    Machine(#[from] TopologyError),
    /// The processors are not those of this machine.
    #[error(
        "HWLOC_SYNTHETIC or HWLOC_XMLFILE describes another machine, and nothing can be pinned to it: unset it"
    )]
    Simulated,
    /// The plan needs more than there is.
    #[error(
        "{} of memory are missing:\n{plan}\nuse less memory, cores or connections-max, or start with --overcommit",
        ByteSize(plan.missing_bytes())
    )]
    Memory {
        /// The sum.
        plan: Box<MemoryPlan>,
    },
}

/// Something legal that is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Anybody who can reach the address can read and write.
    Unprotected(SocketAddr),
    /// An SSD was given, and is not to be used.
    SsdOff(PathBuf),
    /// Busy waiting was asked for and cannot be had.
    NoSpin,
    /// More memory is promised than there is.
    Overcommitted(ByteSize),
    /// What is on the SSD will not be found again.
    Forgetful,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Unprotected(address) => write!(
                f,
                "{address} is not a loopback address, and there is no authentication yet: everybody who can reach it \
                 can read and write all data; keep it behind a firewall"
            ),
            Warning::SsdOff(path) => {
                write!(
                    f,
                    "ssd-mode is off: {} is not looked at, and what it holds is not found",
                    path.display()
                )
            }
            Warning::NoSpin => {
                write!(
                    f,
                    "spin-us has no effect: cores share processors, or there is only one; use fewer cores"
                )
            }
            Warning::Overcommitted(missing) => {
                write!(f, "{missing} of memory are missing; the kernel may kill the engine when it fills up")
            }
            Warning::Forgetful => write!(
                f,
                "--ssd is no folder, so the engine's own master cannot remember there what it had, and a restart begins \
                 with an empty SSD: give a folder, or a --master with a ledger"
            ),
        }
    }
}

fn instead(key: &str) -> String {
    match source::nearest_key(key) {
        Some(nearest) => format!(", did you mean {nearest}?"),
        None => format!("; there are {}", KEYS.join(", ")),
    }
}

fn place(key: &str, source: &Source) -> String {
    match source {
        Source::Default(_) => format!("{key} (default)"),
        Source::File { path, line } => format!("{}:{line}: {key}", path.display()),
        Source::Flag(key) => format!("--{key}"),
    }
}
