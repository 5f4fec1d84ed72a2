//! A disk on paper: what was written and flushed is listed, so that a test can stop it anywhere and choose what survives.
//!
//! An operation has its effect when it is first polled, and completes one turn later. What a plan says happens to one of them,
//! counted from 0.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, pending, poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use snowskin_io::disk::{DiskSource, DiskTarget};
use snowskin_io::sim::{SimListener, SimLocalListener, SimPlatform, SimStream};
use snowskin_io::{Disk, DiskPlace, LocalUsers, Moment, NoPatience, Platform};

pub(crate) const SECTOR: usize = 4096;
const EIO: i32 = 5;

/// Sectors that were ever written.
pub(crate) type Image = BTreeMap<u64, Rc<[u8]>>;

/// A sector, and what was written to it.
pub(crate) type Write = (u64, Rc<[u8]>);

/// What happens to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing.
    Calm,
    /// Nothing happens any more, from before this one.
    Before(u64),
    /// Or from after it.
    After(u64),
    /// It fails: with nothing, half or all of its sectors written.
    Fails(u64, Part),
    /// A write finds no room.
    Full(u64),
    /// It takes one sector only.
    Short(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Nothing,
    Half,
    All,
}

/// What the plan makes of an operation.
enum Outcome {
    Done,
    Never { is_done: bool },
    Error(Part),
    Full,
    Short,
}

#[derive(Clone)]
pub(crate) struct PaperDisk(Rc<RefCell<Paper>>);

struct Paper {
    bytes: u64,
    flushed: Image,
    now: Image,
    unflushed: Vec<Write>,
    operations: u64,
    plan: Plan,
    is_over: bool,
    reads_bytes: u64,
    reads: u64,
    writes: u64,
    discards: u64,
    /// What the next read says instead.
    refusal: Option<io::ErrorKind>,
}

impl PaperDisk {
    pub(crate) fn new(bytes: u64, image: Image, plan: Plan) -> Self {
        PaperDisk(Rc::new(RefCell::new(Paper {
            bytes,
            now: image.clone(),
            flushed: image,
            unflushed: Vec::new(),
            operations: 0,
            plan,
            is_over: false,
            reads_bytes: 0,
            reads: 0,
            writes: 0,
            discards: 0,
            refusal: None,
        })))
    }

    /// The next read gets nothing but this.
    pub(crate) fn refuse_a_read(&self, error: io::ErrorKind) {
        self.0.borrow_mut().refusal = Some(error);
    }

    /// Everything that was written.
    pub(crate) fn image(&self) -> Image {
        self.0.borrow().now.clone()
    }

    /// What is durable, and what was written since, in that order.
    pub(crate) fn remains(&self) -> (Image, Vec<Write>) {
        let paper = self.0.borrow();
        (paper.flushed.clone(), paper.unflushed.clone())
    }

    /// Operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// A byte of a sector changes by itself.
    pub(crate) fn spoil(&self, sector: u64, at: usize) {
        let mut paper = self.0.borrow_mut();
        let mut bytes = paper.now[&sector].to_vec();
        bytes[at] ^= 1;
        paper.now.insert(sector, bytes.into());
    }

    /// Reads so far, and their bytes.
    pub(crate) fn reads(&self) -> (u64, u64) {
        let paper = self.0.borrow();
        (paper.reads, paper.reads_bytes)
    }

    /// Writes so far.
    pub(crate) fn writes(&self) -> u64 {
        self.0.borrow().writes
    }

    /// Discards that were asked for, all in vain.
    pub(crate) fn discards(&self) -> u64 {
        self.0.borrow().discards
    }

    /// Whether the plan's end has come.
    pub(crate) fn is_over(&self) -> bool {
        self.0.borrow().is_over
    }

    fn begin(&self) -> Outcome {
        let mut paper = self.0.borrow_mut();
        if paper.is_over {
            return Outcome::Never { is_done: false };
        }
        let number = paper.operations;
        paper.operations += 1;
        let (outcome, is_over) = match paper.plan {
            Plan::Before(at) if at == number => (Outcome::Never { is_done: false }, true),
            Plan::After(at) if at == number => (Outcome::Never { is_done: true }, true),
            Plan::Fails(at, part) if at == number => (Outcome::Error(part), false),
            Plan::Full(at) if at == number => (Outcome::Full, false),
            Plan::Short(at) if at == number => (Outcome::Short, false),
            _ => (Outcome::Done, false),
        };
        paper.is_over |= is_over;
        outcome
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        let mut paper = self.0.borrow_mut();
        for (number, sector) in (offset / SECTOR as u64..).zip(bytes.chunks_exact(SECTOR)) {
            let sector: Rc<[u8]> = sector.into();
            paper.now.insert(number, sector.clone());
            paper.unflushed.push((number, sector));
        }
    }

    fn get(&self, offset: u64, bytes: &mut [u8]) {
        let mut paper = self.0.borrow_mut();
        (paper.reads, paper.reads_bytes) = (paper.reads + 1, paper.reads_bytes + bytes.len() as u64);
        for (number, sector) in (offset / SECTOR as u64..).zip(bytes.chunks_exact_mut(SECTOR)) {
            match paper.now.get(&number) {
                Some(there) => sector.copy_from_slice(there),
                None => sector.fill(0),
            }
        }
    }
}

async fn turn() {
    let mut is_first = true;
    poll_fn(|context| {
        if std::mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(EIO)
}

impl Disk for PaperDisk {
    fn bytes(&self) -> u64 {
        self.0.borrow().bytes
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn wants_discards(&self) -> bool {
        false
    }

    fn read<B: DiskTarget>(
        &self,
        offset: u64,
        mut buffer: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static {
        let disk = self.clone();
        async move {
            let bytes = buffer.bytes_mut().len();
            let refusal = disk.0.borrow_mut().refusal.take();
            let read = match disk.begin() {
                _ if refusal.is_some() => Err(refusal.expect("there is one").into()),
                Outcome::Done => Ok(bytes),
                Outcome::Short => Ok(SECTOR),
                Outcome::Never { .. } => pending().await,
                Outcome::Error(_) | Outcome::Full => Err(eio()),
            };
            if let Ok(bytes) = read {
                disk.get(offset, &mut buffer.bytes_mut()[..bytes]);
            }
            turn().await;
            (read, buffer)
        }
    }

    fn write<B: DiskSource>(
        &self,
        offset: u64,
        buffer: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + 'static {
        let disk = self.clone();
        async move {
            let bytes = buffer.bytes().len();
            disk.0.borrow_mut().writes += 1;
            let (written, result) = match disk.begin() {
                Outcome::Done => (bytes, Ok(bytes)),
                Outcome::Short => (SECTOR, Ok(SECTOR)),
                Outcome::Never { is_done: true } => {
                    disk.put(offset, buffer.bytes());
                    pending().await
                }
                Outcome::Never { is_done: false } => pending().await,
                Outcome::Error(Part::Nothing) => (0, Err(eio())),
                Outcome::Error(Part::Half) => (bytes / SECTOR / 2 * SECTOR, Err(eio())),
                Outcome::Error(Part::All) => (bytes, Err(eio())),
                Outcome::Full => (0, Err(io::ErrorKind::StorageFull.into())),
            };
            disk.put(offset, &buffer.bytes()[..written]);
            turn().await;
            (result, buffer)
        }
    }

    fn flush(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let disk = self.clone();
        async move {
            let result = match disk.begin() {
                Outcome::Never { is_done: false } => pending().await,
                // What was not flushed is forgotten, and can be read until the end.
                Outcome::Error(_) | Outcome::Full => {
                    disk.0.borrow_mut().unflushed.clear();
                    Err(eio())
                }
                Outcome::Done | Outcome::Short | Outcome::Never { is_done: true } => {
                    let mut paper = disk.0.borrow_mut();
                    let unflushed = std::mem::take(&mut paper.unflushed);
                    paper.flushed.extend(unflushed);
                    Ok(())
                }
            };
            if disk.is_over() {
                return pending().await;
            }
            turn().await;
            result
        }
    }

    fn discard(&self, _offset: u64, _bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        self.0.borrow_mut().discards += 1;
        ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// The simulator's platform with a disk on paper.
#[derive(Clone)]
pub(crate) struct PaperPlatform(pub(crate) SimPlatform);

impl Platform for PaperPlatform {
    type Stream = SimStream;
    type Listener = SimListener;
    type LocalListener = SimLocalListener;
    type Patience = NoPatience;
    type Disk = PaperDisk;

    fn now(&self) -> Moment {
        self.0.now()
    }

    fn entropy(&self) -> u64 {
        self.0.entropy()
    }

    fn secret(&self) -> io::Result<[u8; 16]> {
        self.0.secret()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.0.sleep(duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task);
    }

    fn listen(&self, address: SocketAddr) -> impl Future<Output = io::Result<SimListener>> + 'static {
        self.0.listen(address)
    }

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<SimStream>> + 'static {
        self.0.connect(address)
    }

    fn listen_local(&self, path: &Path, users: LocalUsers) -> io::Result<SimLocalListener> {
        self.0.listen_local(path, users)
    }

    fn patience(&self) -> NoPatience {
        NoPatience
    }

    fn connect_local(&self, path: &Path) -> impl Future<Output = io::Result<SimStream>> + 'static {
        self.0.connect_local(path)
    }

    fn open_disk(&self, _place: &DiskPlace) -> io::Result<PaperDisk> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
