//! How a segment gets its memory: a shared mapping of a memfd, a file or a device-dax device.
//!
//! ```text
//!   auto ──► 1 GiB huge pages ──► 2 MiB huge pages ──► transparent huge pages ──► plain pages
//!            (set aside by root, free on the node)     (asked for and looked at)
//! ```
//!
//! Promises:
//! * [`PagesUsed`] is what the kernel gave, looked up after the fact, with a reason for each step that was not taken.
//!   Pages that were asked for by name are had or are an error that says what to do.
//! * Huge pages are reserved when they are mapped and filled at once, so that a shortage is an error here and not a
//!   SIGBUS later. Space of a file is set aside on its disk for the same reason.
//! * Fresh memory reads as zero, that of a file too: what it had is thrown away unread. A device's has what was there
//!   before. Only a file that is empty, was made here or is lent by its owner is used, and nobody else uses it meanwhile.
//!
//! Plain and transparent pages are not reserved by anybody. When they are filled and the machine or the cgroup has no
//! more, the kernel ends a process, mostly this one (cgroup v2, or the whole machine), or says ENOMEM, which is an
//! error here. So an engine compares its plan with what is available before it starts.
//!
//! | file | what lives there |
//! |---|---|
//! | `address.rs` | the range of addresses; binding to a node; which pages really lie there |
//! | `backing.rs` | memfd, files and devices: opened, locked, sized |
//! | `facts.rs` | what the system has set aside, and what would be used |
//! | `prefault.rs` | filling it with several threads |
//! | `shared.rs` | a segment of another process, mapped here |

mod address;
mod backing;
mod error;
mod facts;
mod prefault;
mod shared;

pub use error::MappingError;
pub use facts::{HugePagePool, PageFacts, PageForecast, TransparentTrial, try_transparent_pages};
pub use shared::SharedSegment;

use address::{Binding, Range};
use backing::Opened;
use facts::Candidate;
use prefault::{Failure, Fill};
use rustix::fs::FallocateFlags;
use snowskin_protocol::ByteSize;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Bytes of the smaller huge page, and of a transparent one.
const TWO_MIB: usize = 2 << 20;
/// Bytes of the larger huge page.
const ONE_GIB: usize = 1 << 30;

/// What is behind the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A memfd: memory without a name.
    Anonymous,
    /// A regular file, made if there is none, or a device-dax device. What changes in a file on a disk is written to
    /// the disk sooner or later, and filling it changes all of it.
    File {
        /// Which one.
        path: PathBuf,
    },
    /// The beginning of a regular file that somebody lends: it is there, and long enough, and keeps its length. What was in these bytes is
    /// thrown away; whoever makes the file shorter meanwhile ends this process.
    Lent {
        /// Which one.
        path: PathBuf,
    },
}

/// Which pages are wanted. A file's own pages (hugetlbfs, device-dax) are what they are: then only a size that differs
/// is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageChoice {
    /// The largest that can be had.
    #[default]
    Auto,
    /// Huge pages of 1 GiB, or an error.
    OneGiB,
    /// Huge pages of 2 MiB, or an error.
    TwoMiB,
    /// Transparent huge pages, or an error.
    Transparent,
    /// Plain pages.
    Plain,
}

impl fmt::Display for PageChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PageChoice::Auto => "auto",
            PageChoice::OneGiB => "1GiB",
            PageChoice::TwoMiB => "2MiB",
            PageChoice::Transparent => "transparent",
            PageChoice::Plain => "off",
        })
    }
}

/// As [`fmt::Display`] writes them; sizes also as people do: `1GB`, `2m`.
impl FromStr for PageChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match (text, text.parse::<ByteSize>()) {
            ("auto", _) => Ok(PageChoice::Auto),
            ("transparent", _) => Ok(PageChoice::Transparent),
            ("off", _) => Ok(PageChoice::Plain),
            (_, Ok(ByteSize(bytes))) if bytes == ONE_GIB as u64 => Ok(PageChoice::OneGiB),
            (_, Ok(ByteSize(bytes))) if bytes == TWO_MIB as u64 => Ok(PageChoice::TwoMiB),
            _ => {
                Err(format!("\"{text}\" is not a kind of pages: write auto, 1GiB, 2MiB, transparent or off"))
            }
        }
    }
}

/// Filling memory before it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefault {
    /// A thread for each, pinned to it; empty: one thread where the caller may run.
    pub processors: Vec<usize>,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingRequest {
    /// How much. Rounded up to whole pages. 0: all that the device has, or the file that was made here.
    pub bytes: usize,
    /// What is behind it.
    pub backing: Backing,
    /// Which pages.
    pub pages: PageChoice,
    /// The NUMA node to take it from; `None`: the node of the processor that touches it first. Huge pages come from
    /// this node or not at all; others come from elsewhere when it is full, and [`PagesUsed::notes`] say how many.
    pub node: Option<u32>,
    /// Fill it now; `None`: pages come at their first use. Huge pages are filled in any case.
    pub prefault: Option<Prefault>,
}

impl MappingRequest {
    /// Plain memory without a name, filled as it is used: for tests and small things.
    pub fn plain(bytes: usize) -> Self {
        let (backing, pages) = (Backing::Anonymous, PageChoice::Plain);
        MappingRequest { bytes, backing, pages, node: None, prefault: None }
    }
}

/// What the pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Set aside for this mapping; bytes of one.
    Huge(usize),
    /// As the kernel gives them: how many bytes lie in pages of 2 MiB now. Those not touched yet are not counted.
    Transparent {
        /// Bytes.
        huge_bytes: usize,
    },
    /// Of 4 KiB, or what this machine has.
    Plain,
    /// A device's; bytes of one.
    Device(usize),
}

/// What the pages are, and why they are not larger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagesUsed {
    /// What they are.
    pub kind: PageKind,
    /// A line for each step that was not taken, for rounding, for a node that was not had.
    pub notes: Vec<String>,
}

/// `2 MiB huge pages (1 GiB huge pages: none is set aside)`.
impl fmt::Display for PagesUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            PageKind::Huge(bytes) => write!(f, "{} huge pages", ByteSize(bytes as u64))?,
            PageKind::Transparent { huge_bytes } => {
                write!(f, "transparent huge pages, {} of it so far", ByteSize(huge_bytes as u64))?;
            }
            PageKind::Plain => write!(f, "plain pages")?,
            PageKind::Device(bytes) => write!(f, "a device's pages of {}", ByteSize(bytes as u64))?,
        }
        match self.notes.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", self.notes.join("; ")),
        }
    }
}

/// Told how many bytes of how many are filled; break ends it with [`MappingError::Stopped`].
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>;

/// A range of shared memory. Unmapped when dropped; a file stays, with its size, and may be used again.
#[derive(Debug)]
pub struct Mapping {
    range: Range,
    file: File,
    /// Held until the range is unmapped. Another description than `file`, so that a client that was given that one
    /// does not keep the next engine from locking the file.
    lock: Option<File>,
    pages: PagesUsed,
    /// Ends when its pages are others, or gone.
    life: Life,
}

/// As long as it has one clone, whoever holds the pages of a mapping holds those at its addresses.
type Life = Mutex<Arc<()>>;

impl Mapping {
    /// Gets the memory, which can take seconds for each GiB: not on a thread that serves. `progress` is called from
    /// this thread, after each 64 MiB at the latest or each huge page, and with all bytes at the end.
    pub fn create(request: &MappingRequest, progress: Progress<'_>) -> Result<Mapping, MappingError> {
        match &request.backing {
            Backing::Anonymous => anonymous(request, progress),
            Backing::File { path } => Mapping::of(request, backing::open(path, request.bytes)?, progress),
            Backing::Lent { path } => Mapping::of(request, backing::lent(path, request.bytes)?, progress),
        }
    }

    fn of(request: &MappingRequest, opened: Opened, progress: Progress<'_>) -> Result<Mapping, MappingError> {
        match of_opened(request, &opened, progress) {
            Ok((range, pages)) => {
                let Opened { file, lock, .. } = opened;
                Ok(Mapping { range, file, lock: Some(lock), pages, life: Life::default() })
            }
            Err(error) => {
                opened.undo();
                Err(error)
            }
        }
    }

    /// Plain memory without a name, filled as it is used: for tests and small things.
    pub fn plain(bytes: usize) -> Result<Mapping, MappingError> {
        Mapping::create(&MappingRequest::plain(bytes), &mut |_, _| ControlFlow::Continue(()))
    }

    /// Bytes that can be used: those asked for, rounded up to whole pages.
    pub fn bytes(&self) -> usize {
        self.range.bytes()
    }

    /// What the pages are.
    pub fn pages(&self) -> &PagesUsed {
        &self.pages
    }

    /// What is mapped, from its beginning: to be mapped by clients too. A client gets transparent huge pages only at
    /// an address that is a multiple of 2 MiB.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What is mapped, for another process. Nobody can make it smaller under us: the size
    /// of a memfd is sealed, and a file, whose is not, is given to be read only.
    pub fn share(&self) -> io::Result<OwnedFd> {
        if self.is_writable_by_others() {
            return Ok(self.file.try_clone()?.into());
        }
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(File::open(path)?.into())
    }

    /// Gives the memory back to the system, also where other processes have mapped it, who must use none of it any more. What is
    /// left reads as zero. Not that of a file.
    pub fn empty(&self) -> io::Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, flags, 0, self.bytes() as u64)?)
    }

    /// Whether those with whom it is shared may write to it.
    pub fn is_writable_by_others(&self) -> bool {
        self.lock.is_none()
    }

    /// Lives as long as the pages at its addresses are those that are there now.
    pub(crate) fn life(&self) -> Weak<()> {
        Arc::downgrade(&self.life.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where it begins. Valid for [`Mapping::bytes`] as long as `self` lives.
    pub(crate) fn start(&self) -> *mut u8 {
        self.range.start()
    }
}

fn anonymous(request: &MappingRequest, progress: Progress<'_>) -> Result<Mapping, MappingError> {
    if request.bytes == 0 {
        return Err(MappingError::Empty);
    }
    let facts = PageFacts::read();
    let mut notes = Vec::new();
    for candidate in facts.candidates(request.bytes, request.node, request.pages, &mut notes) {
        let Candidate::Huge(page_bytes) = candidate else { break };
        match huge_pages(request, page_bytes, &facts, progress) {
            Ok((range, file)) => {
                let pages = PagesUsed { kind: PageKind::Huge(page_bytes), notes };
                return Ok(finished(request, range, file, pages));
            }
            Err(MappingError::Pages { reason, .. }) if request.pages == PageChoice::Auto => {
                notes.push(reason);
            }
            Err(error) => return Err(error),
        }
    }
    let bytes = whole(request.bytes, rustix::param::page_size())?;
    let file = backing::memfd(bytes, None)?;
    let range = Range::of_small_pages(&file, bytes)?;
    let pages = small_pages(request, &range, notes, progress)?;
    Ok(finished(request, range, file, pages))
}

/// Says what the size was rounded to, and what lies on another node.
fn finished(request: &MappingRequest, range: Range, file: File, mut pages: PagesUsed) -> Mapping {
    pages.notes.extend(rounding_note(request.bytes, range.bytes()));
    pages.notes.extend(request.node.and_then(|node| elsewhere_note(&range, node)));
    Mapping { range, file, lock: None, pages, life: Life::default() }
}

fn rounding_note(asked: usize, got: usize) -> Option<String> {
    let words = |bytes: usize| match ByteSize(bytes as u64).to_string() {
        exact if bytes.is_multiple_of(1 << 20) => exact,
        _ => format!("{bytes} bytes"),
    };
    (0 < asked && asked < got).then(|| format!("{} rounded up to {}: whole pages", words(asked), words(got)))
}

fn elsewhere_note(range: &Range, node: u32) -> Option<String> {
    let elsewhere = range.bytes_off_node(node)?;
    let words = || format!("{} of it is not on NUMA node {node}", ByteSize(elsewhere as u64));
    (elsewhere > 0).then(words)
}

/// `bytes` rounded up to whole pages.
fn whole(bytes: usize, page_bytes: usize) -> Result<usize, MappingError> {
    let rounded =
        bytes.checked_next_multiple_of(page_bytes).filter(|&rounded| rounded <= isize::MAX as usize);
    rounded.ok_or(MappingError::TooLarge { bytes })
}

/// Huge pages that were set aside: reserved by the mapping, bound to the node, all filled.
fn huge_pages(
    request: &MappingRequest,
    page_bytes: usize,
    facts: &PageFacts,
    progress: Progress<'_>,
) -> Result<(Range, File), MappingError> {
    let bytes = whole(request.bytes, page_bytes)?;
    let missing = |source: io::Error| facts.shortage(bytes, page_bytes, request.node, source);
    let file = match backing::memfd(bytes, Some(page_bytes)) {
        Ok(file) => file,
        Err(MappingError::Kernel { source, .. }) => return Err(missing(source)),
        Err(error) => return Err(error),
    };
    let range = Range::of_own_pages(&file, bytes).map_err(missing)?;
    if let Some(node) = request.node {
        // Where binding is forbidden the pages may come from another node; `elsewhere_note` tells.
        let _ = range.bind(node, Binding::Only);
    }
    let prefault = request.prefault.clone().unwrap_or_default();
    match prefault::run(&range, &prefault.processors, (page_bytes, Fill::Populate), progress) {
        Ok(()) => Ok((range, file)),
        Err(Failure::Stopped) => Err(MappingError::Stopped),
        Err(Failure::Kernel { source, .. }) => Err(missing(source)),
    }
}

/// Transparent huge pages if they are wanted and had, else plain ones.
fn small_pages(
    request: &MappingRequest,
    range: &Range,
    mut notes: Vec<String>,
    progress: Progress<'_>,
) -> Result<PagesUsed, MappingError> {
    if let Some(node) = request.node
        && let Err(error) = range.bind(node, Binding::Rather)
    {
        notes.push(format!("cannot be bound to NUMA node {node} ({error}); whoever touches a page decides"));
    }
    let fill = match request.pages {
        PageChoice::Plain => {
            range.forbid_huge_pages();
            None
        }
        choice => match transparent_way(request, range) {
            Ok(way) => Some(way),
            Err(reason) if choice == PageChoice::Transparent => {
                let reason = format!("no transparent huge pages: {reason}");
                return Err(MappingError::Pages { reason, remedy: facts::transparent_remedy() });
            }
            Err(reason) => {
                notes.push(format!("transparent huge pages: {reason}"));
                None
            }
        },
    };
    if let Some(prefault) = &request.prefault {
        let step = (TWO_MIB, fill.unwrap_or(Fill::Populate));
        let bytes = range.bytes();
        prefault::run(range, &prefault.processors, step, progress)
            .map_err(|failure| error::of_failure(failure, bytes))?;
    }
    let kind = match fill {
        Some(_) => PageKind::Transparent { huge_bytes: range.huge_bytes() },
        None => PageKind::Plain,
    };
    Ok(PagesUsed { kind, notes })
}

/// How the range comes to transparent huge pages, or why it does not.
fn transparent_way(request: &MappingRequest, range: &Range) -> Result<Fill, String> {
    match range.find_transparent_way() {
        Some(Fill::Gather) if request.prefault.is_none() => {
            Err("only memory that is pre-faulted gets them here".to_owned())
        }
        Some(way) => Ok(way),
        None => Err(facts::no_transparent_reason(range.bytes())),
    }
}

/// The memory of a file or device that is open, locked and large enough.
fn of_opened(
    request: &MappingRequest,
    opened: &Opened,
    progress: Progress<'_>,
) -> Result<(Range, PagesUsed), MappingError> {
    let notes: Vec<String> = opened.notes.iter().cloned().collect();
    let (range, mut pages) = match opened.own_pages {
        None => {
            if let PageChoice::OneGiB | PageChoice::TwoMiB = request.pages {
                return Err(MappingError::no_huge_file(request.pages, opened.path.clone()));
            }
            let range = Range::of_small_pages(&opened.file, opened.bytes)?;
            let pages = small_pages(request, &range, notes, progress)?;
            (range, pages)
        }
        Some(kind) => own_pages(request, opened, kind, notes, progress)?,
    };
    pages.notes.extend(rounding_note(request.bytes, range.bytes()));
    pages.notes.extend(request.node.and_then(|node| elsewhere_note(&range, node)));
    Ok((range, pages))
}

/// A file or device that has pages of its own.
fn own_pages(
    request: &MappingRequest,
    opened: &Opened,
    kind: PageKind,
    mut notes: Vec<String>,
    progress: Progress<'_>,
) -> Result<(Range, PagesUsed), MappingError> {
    let (PageKind::Huge(page_bytes) | PageKind::Device(page_bytes)) = kind else {
        unreachable!("other pages are nobody's own")
    };
    match (request.pages, page_bytes) {
        (PageChoice::OneGiB, ONE_GIB) | (PageChoice::TwoMiB, TWO_MIB) | (PageChoice::Auto, _) => {}
        (PageChoice::OneGiB | PageChoice::TwoMiB, _) => {
            return Err(MappingError::no_huge_file(request.pages, opened.path.clone()));
        }
        (choice, _) => {
            notes.push(format!("{choice} was asked for, but a file like this has pages of its own"))
        }
    }
    let refused = |step, source| match kind {
        PageKind::Huge(_) => PageFacts::read().shortage(opened.bytes, page_bytes, request.node, source),
        _ => MappingError::kernel(opened.bytes, step, source),
    };
    let range = Range::of_own_pages(&opened.file, opened.bytes).map_err(|source| refused("mmap", source))?;
    if let (Some(node), PageKind::Huge(_)) = (request.node, kind) {
        let _ = range.bind(node, Binding::Only);
    }
    let wanted = request.prefault.is_some() || matches!(kind, PageKind::Huge(_));
    if wanted {
        let processors = request.prefault.clone().unwrap_or_default().processors;
        match prefault::run(&range, &processors, (page_bytes, Fill::Populate), progress) {
            Ok(()) => {}
            Err(Failure::Kernel { source, .. })
                if source.kind() == io::ErrorKind::InvalidInput && matches!(kind, PageKind::Device(_)) =>
            {
                notes.push("the device cannot be pre-faulted; its memory is there all the same".to_owned());
            }
            Err(Failure::Kernel { source, .. }) if matches!(kind, PageKind::Huge(_)) => {
                return Err(refused("madvise", source));
            }
            Err(failure) => return Err(error::of_failure(failure, opened.bytes)),
        }
    }
    Ok((range, PagesUsed { kind, notes }))
}

#[cfg(test)]
mod tests;
