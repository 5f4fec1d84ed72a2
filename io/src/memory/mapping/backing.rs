//! What is behind a mapping: a memfd, a file or a device, open, locked and large enough.
//!
//! Whose is a file that has bytes in it? One that a mapping made carries the extended attribute [`MARK`] with its
//! length. If mark and length agree, nobody has written it anew since, and it is used again; all others are refused.

use super::{MappingError, PageKind, TWO_MIB, whole};
use rustix::fs::{
    FallocateFlags, FlockOperation, MemfdFlags, OFlags, SealFlags, XattrFlags, fallocate, fcntl_add_seals,
    fgetxattr, flock, fremovexattr, fsetxattr, fstatfs, fstatvfs, major, memfd_create, minor,
};
use rustix::io::Errno;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The attribute of a file that a mapping made; its value is the file's length in decimal.
const MARK: &str = "user.snowskin.segment";
/// Digits of a length, at most.
const MARK_BYTES_MAX: usize = 20;
/// What statfs says of a file system of huge pages.
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
/// Where devices are. A file there would be memory, and in the way of a device of that name.
const DEVICES_FOLDER: &str = "/dev";
/// Where the kernel describes character devices.
const DEVICES_PATH: &str = "/sys/dev/char";

/// A file that can be mapped.
#[derive(Debug)]
pub(super) struct Opened {
    /// To map, and for clients.
    pub(super) file: File,
    /// Holds the lock.
    pub(super) lock: File,
    pub(super) path: PathBuf,
    /// Bytes to map: whole pages.
    pub(super) bytes: usize,
    /// The pages, if the file decides.
    pub(super) own_pages: Option<PageKind>,
    /// What somebody should know.
    pub(super) notes: Option<String>,
    before: Before,
}

/// How to leave things as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// There was no file.
    Nothing,
    /// It was so long.
    Length(u64),
    /// A device, or a file that keeps its length.
    Same,
}

impl Opened {
    /// Leaves the file as it was, for it was not used after all.
    pub(super) fn undo(self) {
        restore(&self.lock, &self.path, self.before);
    }
}

fn restore(file: &File, path: &Path, before: Before) {
    // Best effort: the error that led here is the one to tell.
    let _ = match before {
        Before::Nothing => fs::remove_file(path),
        Before::Length(0) => file.set_len(0).and_then(|()| Ok(fremovexattr(file, MARK)?)),
        Before::Length(length) => file.set_len(length).and_then(|()| mark(file, length)),
        Before::Same => Ok(()),
    };
}

/// A memfd of `bytes`, of huge pages of `page_bytes` or of small ones. Nobody can change its size, so that no client
/// can take away what others have mapped.
pub(super) fn memfd(bytes: usize, page_bytes: Option<usize>) -> Result<File, MappingError> {
    let failed = |step| move |errno: Errno| MappingError::kernel(bytes, step, errno);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let pages = match page_bytes {
        None => MemfdFlags::empty(),
        Some(TWO_MIB) => MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
        Some(_) => MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB,
    };
    let file = File::from(memfd_create("snowskin-segment", flags | pages).map_err(failed("memfd_create"))?);
    rustix::fs::ftruncate(&file, bytes as u64).map_err(failed("ftruncate"))?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).map_err(failed("fcntl(F_ADD_SEALS)"))?;
    Ok(file)
}

/// Opens or makes the file, or opens the device, locks it and sees to it that it has `bytes`; 0: all that it has.
pub(super) fn open(path: &Path, bytes: usize) -> Result<Opened, MappingError> {
    let failed = |source| MappingError::Open { path: path.to_owned(), source };
    let options = || OpenOptions::new().read(true).write(true).clone();
    if !path.exists() {
        why_not_made(path, bytes)
            .map_or(Ok(()), |why| Err(failed(io::Error::new(io::ErrorKind::NotFound, why))))?;
    }
    let (lock, is_new) = match options().create_new(true).mode(0o600).open(path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            (options().custom_flags(OFlags::NONBLOCK.bits() as i32).open(path).map_err(failed)?, false)
        }
        Err(error) => return Err(failed(error)),
    };
    let (file, found) = locked(&lock, path)?;
    let before = if is_new { Before::Nothing } else { Before::Length(found.len()) };
    let path = path.to_owned();
    if found.file_type().is_char_device() {
        let (bytes, kind) = size_device(&path, found.rdev(), bytes)?;
        return Ok(Opened {
            file,
            lock,
            path,
            bytes,
            own_pages: Some(kind),
            notes: None,
            before: Before::Same,
        });
    }
    if !found.is_file() {
        return Err(MappingError::WrongKind { path });
    }
    match size_file(&lock, &path, found.len(), bytes) {
        Ok((bytes, own_pages, notes)) => Ok(Opened { file, lock, path, bytes, own_pages, notes, before }),
        Err(error) => {
            // A file that is not ours was not changed.
            if !matches!(error, MappingError::NotEmpty { .. }) {
                restore(&lock, &path, before);
            }
            Err(error)
        }
    }
}

/// Locks a file. Answers another description of it: a lock belongs to a description, and that one is given away.
fn locked(lock: &File, path: &Path) -> Result<(File, Metadata), MappingError> {
    let failed = |source| MappingError::Open { path: path.to_owned(), source };
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(MappingError::InUse { path: path.to_owned() }),
        Err(errno) => return Err(failed(errno.into())),
    }
    let found = lock.metadata().map_err(failed)?;
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let same = file.metadata().is_ok_and(|other| (other.dev(), other.ino()) == (found.dev(), found.ino()));
    match same {
        true => Ok((file, found)),
        false => Err(failed(io::Error::other("it was replaced while it was opened"))),
    }
}

/// Opens and locks a file that has at least `bytes`, of which blocks are set aside: these bytes are zero then, and others stay as they are.
pub(super) fn lent(path: &Path, bytes: usize) -> Result<Opened, MappingError> {
    let failed = |source| MappingError::Open { path: path.to_owned(), source };
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let lock =
        OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    let (file, found) = locked(&lock, path)?;
    if !found.is_file() {
        return Err(MappingError::NotLent { path: path.to_owned() });
    }
    let own_page_bytes = huge_page_bytes(&lock).map_err(failed)?;
    let asked = whole(bytes, own_page_bytes.unwrap_or_else(rustix::param::page_size))?;
    if asked == 0 {
        return Err(MappingError::Empty);
    }
    if found.len() < asked as u64 {
        let (has, asked) = (found.len(), asked as u64);
        return Err(MappingError::TooSmall { path: path.to_owned(), has, asked });
    }
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let filled = match retried(|| fallocate(&lock, punch, 0, asked as u64)) {
        Ok(()) | Err(Errno::OPNOTSUPP) => {
            retried(|| fallocate(&lock, FallocateFlags::KEEP_SIZE, 0, asked as u64))
        }
        failed => failed,
    };
    filled.map_err(|errno| no_space(path, asked, errno, own_page_bytes.is_some()))?;
    let (path, own_pages) = (path.to_owned(), own_page_bytes.map(PageKind::Huge));
    Ok(Opened { file, lock, path, bytes: asked, own_pages, notes: None, before: Before::Same })
}

fn no_space(path: &Path, bytes: usize, errno: Errno, is_huge: bool) -> MappingError {
    let remedy = match errno {
        Errno::OPNOTSUPP => {
            "this file system cannot set space aside: use another, such as ext4, xfs or tmpfs"
        }
        _ if is_huge => "ask for less, or set more huge pages aside",
        _ => "ask for less, or make room",
    };
    MappingError::NoSpace { path: path.to_owned(), bytes, source: errno.into(), remedy }
}

/// Why no file is made where there is none; `None`: it is.
fn why_not_made(path: &Path, bytes: usize) -> Option<&'static str> {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok()).unwrap_or_default();
    if folder == Path::new(DEVICES_FOLDER) {
        return Some("there is no such device");
    }
    (bytes == 0).then_some("there is no such file: say how many bytes one is to have that is made now")
}

type Sized = (usize, Option<PageKind>, Option<String>);

/// Sets space aside for `bytes` in a locked file of `length` bytes.
fn size_file(file: &File, path: &Path, length: u64, bytes: usize) -> Result<Sized, MappingError> {
    let failed = |source: io::Error| MappingError::Open { path: path.to_owned(), source };
    if length > 0 && !is_marked(file, length) {
        return Err(MappingError::NotEmpty { path: path.to_owned(), bytes: length });
    }
    let asked = if bytes == 0 { usize::try_from(length).unwrap_or(usize::MAX) } else { bytes };
    if asked == 0 {
        return Err(MappingError::Empty);
    }
    let own_page_bytes = huge_page_bytes(file).map_err(failed)?;
    let bytes = whole(asked, own_page_bytes.unwrap_or_else(rustix::param::page_size))?;
    let marked = set_aside(file, length, bytes as u64, own_page_bytes.is_some())
        .map_err(|errno| no_space(path, bytes, errno, own_page_bytes.is_some()))?;
    let notes = marked.err().map(|error| {
        format!("{} cannot be marked ({error}): remove it before it is to be used again", path.display())
    });
    Ok((bytes, own_page_bytes.map(PageKind::Huge), notes))
}

/// Empties a file of `length` bytes, marks it and sets blocks aside for `bytes` of it, so that a full disk is an error
/// now. Huge pages are set aside by their mapping, on its node. Tells whether it could be marked.
fn set_aside(file: &File, length: u64, bytes: u64, is_huge: bool) -> Result<io::Result<()>, Errno> {
    if length > 0 {
        // What was there is nobody's: without it nothing is read from the disk to be overwritten.
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match retried(|| fallocate(file, flags, 0, length)) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    // Some file systems find out by filling the disk, at the cost of everybody else. Those without a limit say 0.
    let system = fstatvfs(file)?;
    if system.f_blocks > 0 && system.f_bavail.saturating_mul(system.f_frsize) < bytes {
        return Err(Errno::NOSPC);
    }
    // First the mark, so that a file has one before it has bytes.
    let marked = mark(file, length.max(bytes));
    if length < bytes {
        rustix::fs::ftruncate(file, bytes)?;
    }
    if !is_huge {
        retried(|| fallocate(file, FallocateFlags::empty(), 0, bytes))?;
    }
    Ok(marked)
}

fn retried(mut call: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            answer => return answer,
        }
    }
}

fn mark(file: &File, length: u64) -> io::Result<()> {
    Ok(fsetxattr(file, MARK, length.to_string().as_bytes(), XattrFlags::empty())?)
}

fn is_marked(file: &File, length: u64) -> bool {
    let mut value = [0_u8; MARK_BYTES_MAX];
    let read = fgetxattr(file, MARK, &mut value);
    read.is_ok_and(|bytes| value[..bytes] == *length.to_string().as_bytes())
}

/// Bytes of a page, if the file system consists of huge ones.
fn huge_page_bytes(file: &File) -> io::Result<Option<usize>> {
    let system = fstatfs(file)?;
    // Types differ between machines; the numbers are small.
    let (kind, bytes) = (system.f_type as u64 & 0xffff_ffff, system.f_bsize as usize);
    Ok((kind == HUGETLBFS_MAGIC).then_some(bytes))
}

/// The bytes to map of a device, and its pages.
fn size_device(path: &Path, number: u64, bytes: usize) -> Result<(usize, PageKind), MappingError> {
    let name = format!("{}:{}", major(number), minor(number));
    let facts = dax_facts(&Path::new(DEVICES_PATH).join(name));
    let (size, page_bytes) = facts.ok_or_else(|| MappingError::WrongKind { path: path.to_owned() })?;
    let usable = size - size % page_bytes;
    let asked = if bytes == 0 { usable } else { whole(bytes, page_bytes)? };
    if asked == 0 || asked > usable {
        let (has, asked) = (usable as u64, asked as u64);
        return Err(MappingError::TooSmall { path: path.to_owned(), has, asked });
    }
    Ok((asked, PageKind::Device(page_bytes)))
}

/// Size and page of a device-dax device in bytes, from its directory in sysfs; `None`: it is no such device.
fn dax_facts(directory: &Path) -> Option<(usize, usize)> {
    let subsystem = fs::read_link(directory.join("subsystem")).ok()?;
    if subsystem.file_name()? != "dax" {
        return None;
    }
    let number = |name: &str| fs::read_to_string(directory.join(name)).ok()?.trim().parse::<usize>().ok();
    let page_bytes = number("align").filter(|bytes| bytes.is_power_of_two()).unwrap_or(TWO_MIB);
    Some((number("size")?, page_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_dax_device_is_known_by_its_subsystem() {
        let directory = std::env::temp_dir().join(format!("snowskin-dax-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(dax_facts(&directory), None);
        symlink("../../../bus/dax", directory.join("subsystem")).unwrap();
        assert_eq!(dax_facts(&directory), None);
        fs::write(directory.join("size"), "4294967296\n").unwrap();
        assert_eq!(dax_facts(&directory), Some((4 << 30, TWO_MIB)));
        fs::write(directory.join("align"), "1073741824\n").unwrap();
        assert_eq!(dax_facts(&directory), Some((4 << 30, 1 << 30)));
        fs::remove_file(directory.join("subsystem")).unwrap();
        symlink("../../../class/mem", directory.join("subsystem")).unwrap();
        assert_eq!(dax_facts(&directory), None);
        fs::remove_dir_all(directory).unwrap();
    }
}
