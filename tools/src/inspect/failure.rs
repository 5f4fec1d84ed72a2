//! Why a command did not do what was asked, and the exit status that says so.
//!
//! | status | |
//! |---|---|
//! | 0 | done; what was read is whole, volumes are alike |
//! | 1 | something is damaged, absent or different; or the command makes no sense |
//! | 2 | it cannot be read at all: no file, no volume, another version |

use snowskin_protocol::ByteSize;
use snowskin_ssd_tier::format::{FORMAT_VERSION, FormatError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a command ends with when nothing kept it from its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is wrong.
    Whole,
    /// Something is damaged, absent or different; it has been said what.
    Damaged,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Whole => ExitCode::SUCCESS,
            Verdict::Damaged => ExitCode::from(1),
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{path}: {1}", path = .0.display())]
    Open(PathBuf, io::Error),
    #[error("{} is a directory: name the file or the block device that the volume is on", .0.display())]
    Directory(PathBuf),
    #[error(
        "{path} is divided among cores: name one of {names}; `snowskin-inspect parts {path}` says more",
        path = .0.display(),
        names = names(.0, .1)
    )]
    Divided(PathBuf, Vec<u16>),
    #[error("{path} is not divided among cores: name it without a number", path = .0.display())]
    Undivided(PathBuf),
    #[error("{path}: {1}", path = .0.display())]
    Table(PathBuf, FormatError),
    #[error(
        "there is no superblock in {}: it is no volume of Snowskin, or both copies are destroyed. Is it the whole device, and not a \
         partition of it or another file?",
        .0.display()
    )]
    NoVolume(PathBuf),
    #[error(
        "{path} was written in format version {1}, and this program reads version {FORMAT_VERSION} only: use the snowskin-inspect that came \
         with the engine that has written it",
        path = .0.display()
    )]
    OtherVersion(PathBuf, u32),
    #[error(
        "the volume needs {needed}, and {file} has {there}: it is cut off, or not all of the device; copy it whole and try again",
        file = .path.display()
    )]
    Larger { path: PathBuf, needed: ByteSize, there: ByteSize },
    #[error("no superblock of {} counts: at 0: {}; at 4096: {}. `snowskin-inspect superblock` shows both", .0.display(), .1[0], .1[1])]
    NoSuperblock(PathBuf, [String; 2]),
    #[error("{path}: {1}", path = .0.display())]
    Write(PathBuf, io::Error),
    #[error("standard output: {0}")]
    Output(io::Error),
    #[error("{0}")]
    Asked(String),
}

impl Failure {
    /// The exit status.
    pub(crate) fn status(&self) -> ExitCode {
        match self {
            Failure::Write(..) | Failure::Output(_) | Failure::Asked(_) => ExitCode::from(1),
            _ => ExitCode::from(2),
        }
    }

    /// Why one copy of the superblock does not count.
    pub(crate) fn of_copies(path: PathBuf, disk_bytes: u64, errors: [FormatError; 2]) -> Self {
        for error in errors {
            match error {
                FormatError::Version(version) => return Failure::OtherVersion(path, version),
                FormatError::Geometry { region_bytes, regions, .. } => {
                    let regions_bytes = region_bytes.saturating_mul(regions.into());
                    let needed = regions_bytes.saturating_add(snowskin_ssd_tier::format::REGIONS_AT);
                    if needed > disk_bytes {
                        return Failure::Larger {
                            path,
                            needed: ByteSize(needed),
                            there: ByteSize(disk_bytes),
                        };
                    }
                }
                _ => {}
            }
        }
        match errors {
            [FormatError::Magic(_), FormatError::Magic(_)] => Failure::NoVolume(path),
            _ => Failure::NoSuperblock(path, errors.map(|error| error.to_string())),
        }
    }
}

/// The parts of a disk, as they are named.
fn names(path: &Path, cores: &[u16]) -> String {
    let names: Vec<String> = cores.iter().map(|core| format!("{}@{core}", path.display())).collect();
    names.join(", ")
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}
