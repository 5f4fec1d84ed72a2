//! Why there is no memory, and what to do about it.

use super::PageChoice;
use super::prefault::Failure;
use rustix::io::Errno;
use snowskin_protocol::ByteSize;
use std::io;
use std::path::PathBuf;

/// Why memory could not be had. Each sentence ends with what to do, where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The size is zero, and there is nothing that has one.
    #[error("a segment needs at least one byte: say how many")]
    Empty,
    /// More than can be addressed.
    #[error("{bytes} bytes are more than a process can address: ask for less")]
    TooLarge {
        /// What was asked for.
        bytes: usize,
    },
    /// The kernel refused.
    #[error("cannot get {} of memory ({step}): {source}", ByteSize(*bytes as u64))]
    Kernel {
        /// What was asked for.
        bytes: usize,
        /// Which call failed.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Pages that were asked for by name cannot be had.
    #[error("{reason}; {remedy}")]
    Pages {
        /// Why not.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The kernel had no more pages, or a broken one.
    #[error(
        "only {} of {} of memory could be filled: {source}; {remedy}",
        ByteSize(*done as u64),
        ByteSize(*bytes as u64)
    )]
    Fill {
        /// Bytes that were filled.
        done: usize,
        /// Bytes wanted.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The caller said so.
    #[error("stopped before all of the memory was ready")]
    Stopped,
    /// The file or device could not be opened or made.
    #[error("cannot open or make {}: {source}", path.display())]
    Open {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another mapping has it.
    #[error("{} is in use by another engine or segment: choose another file, or end that one", path.display())]
    InUse {
        /// Which one.
        path: PathBuf,
    },
    /// It has bytes in it that are not ours.
    #[error(
        "{} has {} in it that no segment left there: remove it or choose another name; only an empty file, or one \
         that was made for a segment and not changed since, is used",
        path.display(),
        ByteSize(*bytes)
    )]
    NotEmpty {
        /// Which one.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Neither a regular file nor a device-dax device.
    #[error("{} is neither a regular file nor a device-dax device: name one, such as /dev/dax0.0", path.display())]
    WrongKind {
        /// Which one.
        path: PathBuf,
    },
    /// Not a regular file.
    #[error("{} is not a regular file: only such a file can be lent", path.display())]
    NotLent {
        /// Which one.
        path: PathBuf,
    },
    /// The disk is full, or the file system cannot set space aside.
    #[error("cannot set aside {} for {}: {source}; {remedy}", ByteSize(*bytes as u64), path.display())]
    NoSpace {
        /// Which one.
        path: PathBuf,
        /// What was asked for.
        bytes: usize,
        /// What the system said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The device or file has less.
    #[error("{} has {}, and {} were asked for: ask for at most that", path.display(), ByteSize(*has), ByteSize(*asked))]
    TooSmall {
        /// Which one.
        path: PathBuf,
        /// Its size.
        has: u64,
        /// What was asked for.
        asked: u64,
    },
}

impl MappingError {
    pub(super) fn kernel(bytes: usize, step: &'static str, source: impl Into<io::Error>) -> Self {
        MappingError::Kernel { bytes, step, source: source.into() }
    }

    pub(super) fn no_huge_file(choice: PageChoice, path: PathBuf) -> Self {
        MappingError::Pages {
            reason: format!("{} has no pages of {choice}", path.display()),
            remedy: format!(
                "use auto, name no file, or put it on a file system of such pages: \
                 mount -t hugetlbfs -o pagesize={} none <directory>",
                if choice == PageChoice::OneGiB { "1G" } else { "2M" }
            ),
        }
    }
}

/// What a failure to fill means for memory of `bytes`.
pub(super) fn of_failure(failure: Failure, bytes: usize) -> MappingError {
    let (done, source) = match failure {
        Failure::Stopped => return MappingError::Stopped,
        Failure::Kernel { done, source } => (done, source),
    };
    let is = |errno: Errno| source.raw_os_error() == Some(errno.raw_os_error());
    let remedy = if is(Errno::NOMEM) {
        "the machine, the NUMA node or the cgroup has no more: use less memory or raise the limit"
    } else if is(Errno::HWPOISON) {
        "a memory module is broken: look at the kernel's log"
    } else if is(Errno::INVAL) {
        "a kernel from 5.14 on can do this"
    } else {
        "no page could be had: use less memory, set more huge pages aside, or look at the kernel's log"
    };
    MappingError::Fill { done, bytes, source, remedy }
}
