//! The ledger: a small file in which the master remembers epoch, table, who keeps its slots, and settings over a restart.
//!
//! ```text
//!   0        8         12        16            24                      40       44
//!   ├ magic ─┼ version ┼ reserved┼ body bytes ─┼ settings (16 bytes) ───┼ kept ──┼ index of each, 2 bytes … ┼ table … ┼ checksum ┤
//! ```
//!
//! *Kept*: how many members of the table keep their slots, and their indexes, in order.
//!
//! The checksum covers everything before it. The file is replaced as a whole: written beside itself, synced, renamed,
//! and the directory synced, so that after a crash it is the old one or the new one. A ledger that cannot be read
//! stops the start with a sentence that says what to do; it is never taken for an empty one. A file lock beside it
//! keeps a second master off.
//!
//! A ledger that could not be written is logged and counted, and the master goes on: the cores remember the table as
//! well, and a master that starts with an old ledger asks them for it.

use bytemuck::{Pod, Zeroable};
use snowskin_protocol::limits::MEMBERS_MAX;
use snowskin_protocol::wire::Cursor;
use snowskin_protocol::{Checksum, Life, RoutingTable, Settings};
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"SNOWLEDG";
const VERSION: u32 = 4;
/// A ledger with the largest table is smaller than this; what is larger is not read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The settings in force.
    pub settings: Settings,
    /// The table in force, with its epoch and members.
    pub table: RoutingTable,
    /// Members of that table that keep their slots.
    pub kept: BTreeSet<Life>,
}

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file system said no.
    #[error("the ledger {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
    /// Another process has it.
    #[error("the ledger {0} is in use by another master: stop that one, or name another file")]
    InUse(PathBuf),
    /// The bytes are not what a master wrote.
    #[error(
        "the ledger {path} is damaged ({what}): restore it from a copy, or move it away to start without; \
         the master then learns the table from the cores that are running"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Another release wrote it.
    #[error(
        "the ledger {path} has format version {version}, and this release reads {VERSION}: use the release that wrote it, \
         or move it away to start without; the master then learns the table from the cores that are running"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct FileHead {
    magic: [u8; 8],
    version: u32,
    reserved: u32,
    body_bytes: u64,
}

const _: () = assert!(size_of::<FileHead>() == 24);

/// An open ledger. No other master can open it while it lives.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    _lock: File,
}

impl Ledger {
    /// Opens the ledger and reads what it remembers; nothing, if there is no file yet.
    pub fn open(path: &Path) -> Result<(Self, Option<Record>), LedgerError> {
        let failed = |error| LedgerError::Io { path: path.to_owned(), error };
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(beside(path, "lock"))
            .map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LedgerError::InUse(path.to_owned()),
            TryLockError::Error(error) => failed(error),
        })?;
        let record = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(LedgerError::Damaged { path: path.to_owned(), what: "too long" });
            }
            Ok(_) => Some(decode(path, &fs::read(path).map_err(failed)?)?),
        };
        Ok((Ledger { path: path.to_owned(), _lock: lock }, record))
    }

    /// Replaces what is remembered. When it returns, the record is on the disk.
    pub fn write(&self, record: &Record) -> Result<(), LedgerError> {
        self.replace(&encode(record)).map_err(|error| LedgerError::Io { path: self.path.clone(), error })
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let fresh = beside(&self.path, "new");
        let mut file = File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory)?.sync_all()
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn encode(record: &Record) -> Vec<u8> {
    let mut body = bytemuck::bytes_of(&record.settings).to_vec();
    let kept: Vec<u16> = (0..)
        .zip(&record.table.members)
        .filter(|(_, member)| record.kept.contains(&member.life()))
        .map(|(index, _)| index)
        .collect();
    body.extend_from_slice(bytemuck::bytes_of(&(kept.len() as u32)));
    body.extend_from_slice(bytemuck::cast_slice(&kept));
    record.table.encode(&mut body);
    let head = FileHead { magic: MAGIC, version: VERSION, reserved: 0, body_bytes: body.len() as u64 };
    let mut bytes = [bytemuck::bytes_of(&head), &body].concat();
    let checksum = Checksum::of(&bytes);
    bytes.extend_from_slice(bytemuck::bytes_of(&checksum));
    bytes
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Record, LedgerError> {
    let damaged = |what| LedgerError::Damaged { path: path.to_owned(), what };
    let mut rest = Cursor::new(bytes);
    let head: FileHead = rest.pod().map_err(|_| damaged("too short"))?;
    if head.magic != MAGIC {
        return Err(damaged("not a ledger"));
    }
    if head.version != VERSION {
        return Err(LedgerError::Version { path: path.to_owned(), version: head.version });
    }
    let checked = bytes.len().checked_sub(size_of::<Checksum>()).ok_or_else(|| damaged("too short"))?;
    if (checked - size_of::<FileHead>().min(checked)) as u64 != head.body_bytes {
        return Err(damaged("its length is not what it says"));
    }
    if bytes[checked..] != *bytemuck::bytes_of(&Checksum::of(&bytes[..checked])) {
        return Err(damaged("its checksum does not match"));
    }
    let mut body = Cursor::new(&bytes[size_of::<FileHead>()..checked]);
    let settings: Settings = body.pod().map_err(|_| damaged("too short"))?;
    let settings = settings.checked().map_err(|_| damaged("its settings cannot hold"))?;
    let kept_count: u32 = body.pod().map_err(|_| damaged("too short"))?;
    let kept_count = (kept_count as usize).min(MEMBERS_MAX);
    let kept: Vec<u16> =
        (0..kept_count).map(|_| body.pod()).collect::<Result<_, _>>().map_err(|_| damaged("too short"))?;
    let table = RoutingTable::decode(body.rest()).map_err(|_| damaged("its table cannot be read"))?;
    let life = |index: &u16| table.members.get(usize::from(*index)).map(|member| member.life());
    let kept = kept.iter().map(life).collect::<Option<_>>().ok_or_else(|| damaged("it names no member"))?;
    Ok(Record { settings, table, kept })
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
