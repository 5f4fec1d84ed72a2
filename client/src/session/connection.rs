//! One connection to one peer: many requests under way, replies in any order.
//!
//! ```text
//!   asker ── ask ──► written at once, if nothing is queued ──────────────► socket ──► reader task
//!              └───► queue ──► writer task ──► socket                                    │
//!   asker ◄── ticket ◄── its place among the pending requests ◄──────────────────────────┘
//! ```
//!
//! A request is *pending* from `ask` until its reply is complete, also when its asker has given up: then the reply is
//! read and thrown away. The connection breaks as a whole: when the stream breaks, when the peer sends what it must
//! not, when a lent value ends in the middle of its frame, or when the peer is silent and askers give up. Then all
//! that is pending fails, and the tasks end.

use super::frame::{Frame, LoanEnded};
use super::lane::SessionLane;
use super::sink::{Delivery, Sink, receive};
use super::{LinkError, Shared};
use crate::config::Transport;
use snowskin_io::framing::{FrameError, FrameReader};
use snowskin_io::seeded_bug;
use snowskin_io::sync::Signal;
use snowskin_io::{ByteWriter, Lane, Moment, Platform, Stream, local_socket};
use snowskin_protocol::limits::VALUE_BYTES_MAX;
use snowskin_protocol::wire::data::{ItemReply, ItemStatus, decode_replies};
use snowskin_protocol::wire::hello::Welcome;
use snowskin_protocol::wire::{Header, Opcode, WireError};
use snowskin_protocol::{Epoch, Member};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// Requests under way on one connection, those included whose asker has given up.
const PENDING_MAX: usize = 4096;
/// Bytes of values that wait to be written; one frame is always accepted.
const QUEUED_BYTES_MAX: u64 = 2 << 30;
/// So many bytes that have been read are worth a look at the clock.
const PROGRESS_BYTES: usize = 32 * 1024;
/// A peer that says nothing for this long while an asker gives up is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(1);

type ReaderOf<P> = FrameReader<<<P as Platform>::Stream as Stream>::Reader>;
type WriterOf<P> = <<P as Platform>::Stream as Stream>::Writer;
/// Who is at the other end, whether through shared memory, and the lane.
type Met<P> = (Welcome, bool, Option<Lane<<<P as Platform>::Stream as Stream>::Bell>>);

/// An answer.
pub(super) struct Reply {
    /// Its header; never with a refusal.
    pub(super) header: Header,
    /// The answers to a batch's items.
    pub(super) items: Vec<Answered>,
    /// The body, of operations that are no batch.
    pub(super) body: Vec<u8>,
}

/// The answer for one item.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) reply: ItemReply,
    pub(super) delivery: Delivery,
}

/// A request that waits for its reply.
struct Pending {
    request: u64,
    opcode: Opcode,
    items: u32,
    sent: Moment,
    sinks: RefCell<Vec<Sink>>,
    is_abandoned: Cell<bool>,
    outcome: RefCell<Outcome>,
}

#[derive(Default)]
struct Outcome {
    result: Option<Result<Reply, LinkError>>,
    waker: Option<Waker>,
}

impl Pending {
    fn finish(&self, result: Result<Reply, LinkError>) {
        let waker = {
            let mut outcome = self.outcome.borrow_mut();
            outcome.result = Some(result);
            outcome.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// An open connection.
pub(super) struct Connection<P: Platform> {
    shared: Rc<Shared<P>>,
    welcome: Welcome,
    is_local: bool,
    /// The direct way beside it.
    lane: Option<Rc<SessionLane<P>>>,
    writer: RefCell<WriterOf<P>>,
    queue: RefCell<VecDeque<Frame>>,
    queued_bytes: Cell<u64>,
    /// In the order of their numbers.
    pending: RefCell<VecDeque<Rc<Pending>>>,
    next_request: Cell<u64>,
    last_progress: Cell<Moment>,
    is_broken: Cell<bool>,
    write_wanted: Signal,
    read_wanted: Signal,
}

impl<P: Platform> Connection<P> {
    /// Takes a stream over, after the hello, and starts its tasks.
    pub(super) fn start(
        shared: &Rc<Shared<P>>,
        (welcome, is_local, lane): Met<P>,
        reader: ReaderOf<P>,
        writer: WriterOf<P>,
    ) -> Rc<Self> {
        let connection = Rc::new(Connection {
            shared: shared.clone(),
            welcome,
            is_local,
            lane: lane.map(|lane| SessionLane::start(shared, lane)),
            writer: RefCell::new(writer),
            queue: RefCell::default(),
            queued_bytes: Cell::new(0),
            pending: RefCell::default(),
            next_request: Cell::new(1),
            last_progress: Cell::new(shared.platform.now()),
            is_broken: Cell::new(false),
            write_wanted: Signal::new(),
            read_wanted: Signal::new(),
        });
        shared.platform.spawn(connection.clone().read_all(reader));
        shared.platform.spawn(connection.clone().write_all());
        connection
    }

    /// Who is at the other end.
    pub(super) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Whether it goes through shared memory.
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// The direct way beside it, if there is one that is of use.
    pub(super) fn lane(&self) -> Option<&Rc<SessionLane<P>>> {
        self.lane.as_ref().filter(|lane| !lane.is_over())
    }

    /// Whether it is of no more use.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.get()
    }

    /// Sends a request; its ticket becomes the reply. The values of a get go into `sinks`, one for each item.
    pub(super) fn ask(
        self: &Rc<Self>,
        mut frame: Frame,
        sinks: Vec<Sink>,
        epoch: Epoch,
        deadline: Moment,
    ) -> Result<Ticket<P>, LinkError> {
        if self.is_broken.get() {
            return Err(LinkError::Broken("it broke a moment ago".into()));
        }
        let queued = self.queued_bytes.get();
        let is_full = queued > 0 && queued + frame.payload_bytes > QUEUED_BYTES_MAX;
        if is_full || self.pending.borrow().len() >= PENDING_MAX {
            return Err(LinkError::Overloaded);
        }
        let now = self.shared.platform.now();
        let request = self.next_request.get();
        self.next_request.set(request + 1);
        frame.seal(request, self.welcome.version, epoch, deadline_ms(deadline - now));
        let pending = Rc::new(Pending {
            request,
            opcode: frame.opcode,
            items: frame.items,
            sent: now,
            sinks: RefCell::new(sinks),
            is_abandoned: Cell::new(false),
            outcome: RefCell::default(),
        });
        {
            let mut counters = self.shared.counters.borrow_mut();
            counters.frames_sent.count(frame.opcode);
            counters.value_bytes_sent += frame.payload_bytes;
        }
        self.pending.borrow_mut().push_back(pending.clone());
        self.send(frame);
        self.read_wanted.raise();
        Ok(Ticket { connection: self.clone(), pending, is_done: false })
    }

    /// Writes the frame now, as far as the socket takes it, and queues the rest.
    fn send(&self, mut frame: Frame) {
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            let written = frame.with_slices(|slices| self.writer.borrow_mut().try_write(slices));
            match written {
                Ok(Ok(count)) => frame.advance(count),
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The writer task meets the same end, and tells everybody.
                Ok(Err(_)) | Err(LoanEnded) => {}
            }
            if frame.is_done() {
                return;
            }
        }
        self.queued_bytes.set(self.queued_bytes.get() + frame.payload_bytes);
        queue.push_back(frame);
        drop(queue);
        self.write_wanted.raise();
    }

    async fn write_all(self: Rc<Self>) {
        while !self.is_broken.get() {
            self.write_wanted.wait().await;
            if let Err(reason) = poll_fn(|context| self.poll_flush(context)).await {
                self.break_down(&reason);
            }
        }
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), String>> {
        let mut queue = self.queue.borrow_mut();
        while let Some(frame) = queue.front_mut() {
            let written = frame.with_slices(|slices| self.writer.borrow_mut().poll_write(context, slices));
            match written {
                Err(LoanEnded) if !frame.has_begun() => {}
                Err(LoanEnded) => {
                    return Poll::Ready(Err("the asker gave up in the middle of a value".into()));
                }
                Ok(written) => match ready!(written) {
                    Ok(0) => return Poll::Ready(Err("the stream takes no more".into())),
                    Ok(count) => {
                        // What had to wait for room goes on: the peer reads.
                        self.last_progress.set(self.shared.platform.now());
                        frame.advance(count);
                        if !frame.is_done() {
                            continue;
                        }
                    }
                    Err(error) => return Poll::Ready(Err(error.to_string())),
                },
            }
            self.queued_bytes.set(self.queued_bytes.get() - frame.payload_bytes);
            queue.pop_front();
        }
        Poll::Ready(Ok(()))
    }

    async fn read_all(self: Rc<Self>, mut reader: ReaderOf<P>) {
        let mut body = Vec::new();
        while !self.is_broken.get() {
            // Reading only while something is pending: an idle connection costs nothing, and whether it is still
            // alive shows at the next request.
            if self.pending.borrow().is_empty() {
                self.read_wanted.wait().await;
                continue;
            }
            if let Err(error) = self.read_reply(&mut reader, &mut body).await {
                self.break_down(&error.to_string());
            }
        }
    }

    async fn read_reply(&self, reader: &mut ReaderOf<P>, body: &mut Vec<u8>) -> Result<(), FrameError> {
        let Some((header, checksum)) = reader.header().await? else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        };
        reader.body(&header, checksum, body).await?;
        self.last_progress.set(self.shared.platform.now());
        let pending = self.take_pending(header.request).ok_or(FrameError::Unexpected)?;
        let result = self.read_rest(reader, &pending, &header, body).await;
        match result {
            Ok(result) => {
                self.shared.counters.borrow_mut().frames_received.count(pending.opcode);
                pending.finish(result);
                Ok(())
            }
            Err(error) => {
                pending.finish(Err(LinkError::Broken(error.to_string())));
                Err(error)
            }
        }
    }

    /// Makes the reply out of header and body, and reads its payload.
    async fn read_rest(
        &self,
        reader: &mut ReaderOf<P>,
        pending: &Pending,
        header: &Header,
        body: &[u8],
    ) -> Result<Result<Reply, LinkError>, FrameError> {
        if !header.is_reply || header.opcode != pending.opcode {
            return Err(FrameError::Unexpected);
        }
        if let Some(refusal) = header.refusal {
            reader.discard(header.payload_bytes).await?;
            return Ok(Err(LinkError::Refused(refusal, String::from_utf8_lossy(body).into_owned())));
        }
        if pending.items == 0 {
            return Ok(Ok(Reply { header: *header, items: Vec::new(), body: body.to_vec() }));
        }
        let is_count_right = match pending.opcode {
            Opcode::MatchPrefix => (1..=pending.items).contains(&header.items),
            _ => header.items == pending.items,
        };
        if !is_count_right {
            return Err(FrameError::Unexpected);
        }
        let replies = decode_replies(header.items, body)?;
        let items = if pending.opcode == Opcode::Get {
            self.read_values(reader, pending, header, replies).await?
        } else {
            replies.into_iter().map(|reply| Answered { reply, delivery: Delivery::None }).collect()
        };
        Ok(Ok(Reply { header: *header, items, body: Vec::new() }))
    }

    async fn read_values(
        &self,
        reader: &mut ReaderOf<P>,
        pending: &Pending,
        header: &Header,
        replies: Vec<ItemReply>,
    ) -> Result<Vec<Answered>, FrameError> {
        let announced = |reply: &&ItemReply| reply.status == ItemStatus::Ok;
        let mut sum = 0_u64;
        for reply in replies.iter().filter(announced) {
            if reply.value_bytes == 0 || reply.value_bytes > VALUE_BYTES_MAX {
                return Err(WireError::Value("value length").into());
            }
            sum = sum.saturating_add(reply.value_bytes);
        }
        if sum != header.payload_bytes {
            return Err(WireError::Value("payload length").into());
        }
        let mut sinks = std::mem::take(&mut *pending.sinks.borrow_mut()).into_iter();
        let mut answered = Vec::with_capacity(replies.len());
        let unseen = Cell::new(0);
        let progress = |count| {
            unseen.set(unseen.get() + count);
            if unseen.get() >= PROGRESS_BYTES {
                unseen.set(0);
                self.last_progress.set(self.shared.platform.now());
            }
        };
        for reply in replies {
            // An asker that has given up took its sinks with it.
            let sink = sinks.next().unwrap_or(Sink::Owned);
            let delivery = if reply.status == ItemStatus::Ok {
                receive(reader, sink, &reply, self.shared.verify, &pending.is_abandoned, progress).await?
            } else {
                Delivery::None
            };
            let mut counters = self.shared.counters.borrow_mut();
            match delivery {
                Delivery::None => {}
                Delivery::Corrupt => counters.checksum_mismatches += 1,
                _ => counters.value_bytes_received += reply.value_bytes,
            }
            answered.push(Answered { reply, delivery });
        }
        Ok(answered)
    }

    fn take_pending(&self, request: u64) -> Option<Rc<Pending>> {
        let mut pending = self.pending.borrow_mut();
        let index = pending.binary_search_by_key(&request, |pending| pending.request).ok()?;
        pending.remove(index)
    }

    /// The asker of `pending` has given up.
    fn abandon(&self, pending: &Pending) {
        pending.is_abandoned.set(true);
        pending.sinks.borrow_mut().clear();
        // What hangs before us shows that the peer is silent, also if our own frame has not left.
        let oldest = self.pending.borrow().front().map(|pending| pending.sent);
        let heard = oldest.map_or(Moment::NEVER, |sent| sent.max(self.last_progress.get()));
        let mut queue = self.queue.borrow_mut();
        if let Some(index) = queue.iter().position(|frame| frame.request == pending.request) {
            if !queue[index].has_begun() {
                if let Some(frame) = queue.remove(index) {
                    self.queued_bytes.set(self.queued_bytes.get() - frame.payload_bytes);
                }
                self.take_pending(pending.request);
            } else if queue[index].needs_loan() {
                drop(queue);
                self.break_down("the asker gave up in the middle of a value");
                return;
            }
        }
        drop(queue);
        if self.shared.platform.now() - heard >= SILENCE_MAX && !seeded_bug!("silence endured") {
            self.break_down("the peer is silent");
        }
    }

    /// Closes the connection and fails all that is pending.
    pub(super) fn break_down(&self, reason: &str) {
        if self.is_broken.replace(true) {
            return;
        }
        self.writer.borrow_mut().shutdown();
        self.lane.iter().for_each(|lane| lane.break_down(reason));
        self.queue.borrow_mut().clear();
        self.shared.counters.borrow_mut().connections_broken += 1;
        log::debug!("connection to core {}: {reason}", self.welcome.core_id());
        for pending in std::mem::take(&mut *self.pending.borrow_mut()) {
            pending.finish(Err(LinkError::Broken(reason.to_owned())));
        }
        self.write_wanted.raise();
        self.read_wanted.raise();
    }
}

/// The asker's end of a request. Dropping it gives the request up.
pub(super) struct Ticket<P: Platform> {
    connection: Rc<Connection<P>>,
    pending: Rc<Pending>,
    is_done: bool,
}

impl<P: Platform> Ticket<P> {
    /// Lets the request go its way, and its reply be thrown away.
    pub(super) fn ignore(mut self) {
        self.is_done = true;
    }
}

impl<P: Platform> Future for Ticket<P> {
    type Output = Result<Reply, LinkError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = {
            let mut outcome = self.pending.outcome.borrow_mut();
            if outcome.result.is_none() {
                outcome.waker = Some(context.waker().clone());
            }
            outcome.result.take()
        };
        match result {
            Some(result) => {
                self.is_done = true;
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }
}

impl<P: Platform> Drop for Ticket<P> {
    fn drop(&mut self) {
        if !self.is_done && self.pending.outcome.borrow().result.is_none() {
            self.connection.abandon(&self.pending);
        }
    }
}

/// Milliseconds for the header: at least one, because 0 means for ever.
fn deadline_ms(left: Duration) -> u32 {
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Connects and says hello: by shared memory if that is wanted and there is somebody, else by TCP.
pub(super) async fn open<P: Platform>(
    shared: &Rc<Shared<P>>,
    address: SocketAddr,
) -> Result<Rc<Connection<P>>, FrameError> {
    if shared.transport != Transport::Tcp {
        let path = local_socket(&shared.local_sockets, address);
        match open_local(shared, &path).await {
            Ok(connection) => return Ok(connection),
            // Nobody is there: masters never are, and an engine that was killed leaves its socket behind, which may be named like whoever
            // has its port now. Or shared memory is not for this platform.
            Err(FrameError::Io(error))
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::Unsupported
                ) => {}
            Err(error) if shared.transport == Transport::SharedMemory => return Err(error),
            Err(error) => log::info!("{}: {error}; {address} is asked by TCP", path.display()),
        }
    }
    greet(shared, shared.platform.connect(address).await?).await
}

async fn open_local<P: Platform>(
    shared: &Rc<Shared<P>>,
    path: &Path,
) -> Result<Rc<Connection<P>>, FrameError> {
    greet(shared, shared.platform.connect_local(path).await?).await
}

/// A lane of its own to a core, without a connection of frames beside it. `None`: it cannot be had, or somebody else is there.
pub(super) async fn open_lane<P: Platform>(
    shared: &Rc<Shared<P>>,
    member: &Member,
) -> Option<Lane<<P::Stream as Stream>::Bell>> {
    let path = local_socket(&shared.local_sockets, member.address);
    let mut stream = shared.platform.connect_local(&path).await.ok()?;
    let lane = stream.take_lane()?;
    let (reader, mut writer) = stream.split();
    let welcome = snowskin_io::framing::say_hello(&mut FrameReader::new(reader), &mut writer).await.ok()?;
    ((welcome.core_id(), welcome.incarnation) == (member.id, member.incarnation)).then_some(lane)
}

async fn greet<P: Platform>(
    shared: &Rc<Shared<P>>,
    mut stream: P::Stream,
) -> Result<Rc<Connection<P>>, FrameError> {
    let (is_local, lane) = (stream.is_local(), stream.take_lane());
    let (reader, mut writer) = stream.split();
    let mut reader = FrameReader::new(reader);
    let welcome = snowskin_io::framing::say_hello(&mut reader, &mut writer).await?;
    shared.counters.borrow_mut().connects_local += u64::from(is_local);
    Ok(Connection::start(shared, (welcome, is_local, lane), reader, writer))
}
