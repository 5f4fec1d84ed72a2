//! Processes of one host that share memory: a connection for bytes, one for rings, and the memory of a lane.
//!
//! Nodes with one address are on one host. There is no file system: the name of a socket's file is the address of its core,
//! and stands for two listeners there, on ports of their own. What is written to the memory of a lane is seen at once; rings
//! and the end of a process take the time of a packet. A lane's memory stays as it was when a process dies, whatever it was
//! doing.

use super::network::ConnectionId;
use super::node::SimPlatform;
use super::stream::{Connect, SimListener, SimReader, SimStream, SimWriter};
use super::world::{NodeId, World};
use crate::lane::{Heard, LaneRegion, SegmentNews};
use crate::platform::{Accept, Bell, ByteReader, ByteWriter, Lane, Peer, Stream};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How far the ports of the two listeners are from the core's.
const RINGS_OFFSET: u16 = 10_000;
const BYTES_OFFSET: u16 = 20_000;

/// What has been shown to the connecting side and not been heard.
type Shown = Rc<RefCell<VecDeque<(SegmentNews, Option<OwnedFd>)>>>;

/// What the two ends of a lane have in common, kept until the accepting side takes it.
pub(super) struct Meeting {
    rings: ConnectionId,
    memory: LaneRegion,
    shown: Shown,
}

impl World {
    /// Remembers a lane that a process has opened.
    fn keep_lane(&mut self, node: NodeId, memory: LaneRegion) {
        self.network.lanes.retain(|(_, lane)| !lane.is_last());
        self.network.lanes.push((node, memory));
    }

    /// A process dies, with its lanes as they are.
    pub(super) fn sever_lanes(&mut self, dead: NodeId) {
        let severed = self.network.lanes.extract_if(.., |(node, _)| *node == dead);
        severed.for_each(|(_, lane)| lane.sever());
    }
}

/// The listeners' addresses for a socket's file. `None`: not a core's.
fn addresses(path: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let core: SocketAddr = path.file_name()?.to_str()?.strip_suffix(".sock")?.parse().ok()?;
    let at = |offset| Some(SocketAddr::new(core.ip(), core.port().checked_add(offset)?));
    Some((at(RINGS_OFFSET)?, at(BYTES_OFFSET)?))
}

/// A listener for processes of the same host.
pub struct SimLocalListener {
    bytes: SimListener,
    rings: SimListener,
    /// Connections for rings whose partners have not been accepted yet.
    early: Vec<SimStream>,
}

impl SimLocalListener {
    pub(super) fn open(platform: &SimPlatform, path: &Path) -> io::Result<Self> {
        let (rings, bytes) = addresses(path).ok_or(io::ErrorKind::InvalidInput)?;
        let listen = |address| {
            let (number, address) = platform.shared.with(|world| world.listen(platform.node, address))?;
            Ok::<_, io::Error>(SimListener { shared: platform.shared.clone(), number, address })
        };
        Ok(SimLocalListener { bytes: listen(bytes)?, rings: listen(rings)?, early: Vec::new() })
    }
}

impl Accept for SimLocalListener {
    type Stream = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, Peer)> {
        let (mut stream, _) = self.bytes.accept().await?;
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok((rings, _))) = self.rings.poll_accept(&mut context) {
            self.early.push(rings);
        }
        let shared = stream.shared().clone();
        let process = stream.peer().map_or(0, |node| node.0 + 1);
        if let Some(met) = shared.with(|world| world.network.meetings.remove(&stream.connection()))
            && let Some(place) = self.early.iter().position(|early| early.connection() == met.rings)
        {
            let bell = SimBell::new(self.early.swap_remove(place), met.shown);
            stream.lane = Some(Lane { memory: met.memory, bell, life: None });
        }
        stream.is_local = true;
        Ok((stream, Peer::Process(process)))
    }
}

/// Connects to a core of this host.
pub(super) async fn connect(platform: SimPlatform, path: &Path) -> io::Result<SimStream> {
    let (rings, bytes) = addresses(path).ok_or(io::ErrorKind::NotFound)?;
    let is_there = bytes.ip() == platform.ip()
        && platform.shared.with(|world| world.network.listeners.contains_key(&bytes));
    if !is_there {
        return Err(io::ErrorKind::NotFound.into());
    }
    let ((ours, theirs), shown) = (LaneRegion::pair()?, Shown::default());
    platform.shared.with(|world| world.keep_lane(platform.node, ours.clone()));
    let rings = Connect::new(&platform.shared, platform.node, rings).await?;
    let meeting = Meeting { rings: rings.connection(), memory: theirs, shown: shown.clone() };
    let mut connecting = Connect::new(&platform.shared, platform.node, bytes);
    connecting.meet(meeting)?;
    let mut stream = connecting.await?;
    stream.lane = Some(Lane { memory: ours, bell: SimBell::new(rings, shown), life: None });
    stream.is_local = true;
    Ok(stream)
}

/// The bell of a lane.
pub struct SimBell {
    reader: SimReader,
    writer: RefCell<SimWriter>,
    shown: Shown,
}

impl SimBell {
    fn new(rings: SimStream, shown: Shown) -> Self {
        let (reader, writer) = rings.split();
        SimBell { reader, writer: RefCell::new(writer), shown }
    }
}

impl Bell for SimBell {
    fn ring(&self) {
        // Where there is no room, many have not been heard yet; who is gone hears nothing.
        let _ = self.writer.borrow_mut().try_write(&[IoSlice::new(&[1])]);
    }

    fn show(&self, news: &SegmentNews, memory: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let memory = memory.map(|memory| memory.try_clone_to_owned()).transpose()?;
        self.shown.borrow_mut().push_back((*news, memory));
        self.ring();
        Ok(())
    }

    fn close(&self) {
        self.writer.borrow_mut().shutdown();
    }

    fn hear(&mut self) -> Heard {
        match self.poll_hear(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(heard) => heard,
            Poll::Pending => Heard::Silence,
        }
    }

    fn poll_hear(&mut self, context: &mut Context<'_>) -> Poll<Heard> {
        if let Some((news, memory)) = self.shown.borrow_mut().pop_front() {
            return Poll::Ready(Heard::News(news, memory));
        }
        self.reader.poll_read(context, &mut [0; 64]).map(|read| match read {
            Ok(1..) => Heard::Ring,
            Ok(0) | Err(_) => Heard::End,
        })
    }
}
