//! A disk or an image of one, read only: opened for nothing else, so nothing here can write to it.
//!
//! A [`Window`] reads ahead in bounded memory; where a part of it cannot be read, it reads no more than was asked for, so that a bad sector
//! costs what stands in it and nothing else.
//!
//! A disk that cores share is divided, and says so in its table: then a volume is one part of it, and `PATH@2` is that of core 2.

use super::failure::Failure;
use snowskin_ssd_tier::format::{FormatError, PartTable, SECTOR_BYTES, TABLES_AT};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes that a window reads at a time.
pub(crate) const WINDOW_BYTES: usize = 1 << 20;

/// A file or block device, or a part of one.
pub(crate) struct Device {
    file: File,
    path: PathBuf,
    /// Where the part begins.
    at: u64,
    bytes: u64,
}

impl Device {
    /// Opens the part that has a volume for reading: the one named, or the only one, or all of it.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let (whole_path, core) = match numbered(path) {
            Some((whole, core)) if !path.exists() => (whole, Some(core)),
            _ => (path.to_owned(), None),
        };
        let whole = Device::open_whole(&whole_path)?;
        let table = match (whole.table()?, core) {
            (None, None) => return Ok(whole),
            (None, Some(_)) => return Err(Failure::Undivided(whole_path)),
            (Some(table), _) => table,
        };
        let at = match (core, &table.cores[..]) {
            (Some(core), _) => table.part_of(core),
            (None, [only]) => table.part_of(*only),
            (None, _) => None,
        };
        let path = path.to_owned();
        match at {
            Some(at) => Ok(Device { path, at, bytes: table.part_bytes, ..whole }),
            None => Err(Failure::Divided(whole_path, table.cores)),
        }
    }

    /// Opens all of it for reading.
    pub(crate) fn open_whole(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error| Failure::Open(path.to_owned(), error);
        let mut file = File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.is_dir() {
            return Err(Failure::Directory(path.to_owned()));
        }
        // A block device has no length of its own, and an end all the same.
        let bytes = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
        Ok(Device { file, path: path.to_owned(), at: 0, bytes })
    }

    /// Its table of parts, if it has one.
    pub(crate) fn table(&self) -> Result<Option<PartTable>, Failure> {
        let copies = TABLES_AT.map(|at| self.read(at, SECTOR_BYTES).unwrap_or_default());
        match PartTable::choose([&copies[0], &copies[1]], self.bytes) {
            Ok(table) => Ok(Some(table)),
            // Of a sector that cannot be read nothing is known.
            Err(FormatError::Magic(_) | FormatError::Nonsense(_)) => Ok(None),
            Err(error) => Err(Failure::Table(self.path.clone(), error)),
        }
    }

    /// How it is called.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads exactly so many bytes.
    pub(crate) fn read(&self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        self.file.read_exact_at(&mut buffer, self.at + at)?;
        Ok(buffer)
    }
}

/// `PATH@2` as a path and a core.
fn numbered(path: &Path) -> Option<(PathBuf, u16)> {
    let (path, core) = path.to_str()?.rsplit_once('@')?;
    Some((path.into(), core.parse().ok()?))
}

/// What is read one behind the other.
pub(crate) struct Window<'d> {
    device: &'d Device,
    at: u64,
    buffer: Vec<u8>,
}

impl<'d> Window<'d> {
    /// With nothing read yet.
    pub(crate) fn new(device: &'d Device) -> Self {
        Window { device, at: 0, buffer: Vec::new() }
    }

    /// Bytes at a place, at most [`WINDOW_BYTES`]; what lies behind them, up to `end`, is read with them.
    pub(crate) fn get(&mut self, at: u64, bytes: usize, end: u64) -> io::Result<&[u8]> {
        assert!(bytes <= WINDOW_BYTES, "windows are bounded");
        let is_here = at >= self.at && at + bytes as u64 <= self.at + self.buffer.len() as u64;
        if !is_here {
            let ahead = end.saturating_sub(at).min(WINDOW_BYTES as u64) as usize;
            self.buffer.clear();
            self.buffer = self
                .device
                .read(at, ahead.max(bytes))
                .or_else(|error| if ahead > bytes { self.device.read(at, bytes) } else { Err(error) })?;
            self.at = at;
        }
        Ok(&self.buffer[(at - self.at) as usize..][..bytes])
    }
}
