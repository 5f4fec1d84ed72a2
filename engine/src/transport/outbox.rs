//! Replies on their way out of a connection.
//!
//! A reply is a head (header and body, copied) and values (pinned extents, not copied). Most replies fit into the
//! socket's buffer at once and are written by the task that made them. What does not fit waits here for the drain
//! task, with its pins; when the connection dies, everything here is dropped and unpinned.

use crate::segment::Extent;
use snowskin_io::ByteWriter;
use snowskin_io::sync::Signal;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Slices gathered for one system call.
const SLICES_MAX: usize = 64;
/// Replies that wait before the connection stops reading requests.
const REPLIES_MAX: usize = 256;
/// Bytes of waiting replies at which it stops as well: what a peer that does not read may keep pinned, but for the one
/// reply that goes beyond.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Bytes of a head that is kept for reuse; few replies have more.
pub(super) const SPARE_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Heads kept for reuse.
pub(super) const SPARE_HEADS_MAX: usize = 2;

/// A reply: its header and body, and the values behind them.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) head: Vec<u8>,
    pub(super) values: Vec<Extent>,
}

impl Reply {
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.head.as_slice()).chain(self.values.iter().map(Extent::value))
    }

    fn bytes(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }
}

/// The outgoing half of a connection.
pub(super) struct Outbox<W> {
    inner: Rc<Inner<W>>,
}

struct Inner<W> {
    writer: RefCell<W>,
    queue: RefCell<Queue>,
    /// Raised when the drain task has something to do, or should end.
    work: Signal,
    /// Raised when there is room again.
    room: Signal,
    closed: Cell<bool>,
}

#[derive(Default)]
struct Queue {
    replies: VecDeque<Reply>,
    /// Bytes of all of them.
    bytes: usize,
    /// Bytes of the first reply that are written already.
    done: usize,
    spare_heads: Vec<Vec<u8>>,
}

impl<W> Clone for Outbox<W> {
    fn clone(&self) -> Self {
        Outbox { inner: self.inner.clone() }
    }
}

impl<W: ByteWriter> Outbox<W> {
    pub(super) fn new(writer: W) -> Self {
        let inner = Inner {
            writer: RefCell::new(writer),
            queue: RefCell::default(),
            work: Signal::new(),
            room: Signal::new(),
            closed: Cell::new(false),
        };
        Outbox { inner: Rc::new(inner) }
    }

    /// An empty reply, with a head that has been used before where there is one.
    pub(super) fn blank(&self) -> Reply {
        let mut head = self.inner.queue.borrow_mut().spare_heads.pop().unwrap_or_default();
        head.clear();
        Reply { head, values: Vec::new() }
    }

    /// Sends a reply: at once if nothing waits before it and the socket takes it, else through the drain task.
    pub(super) fn send(&self, reply: Reply) {
        if self.inner.closed.get() {
            return;
        }
        let was_empty = {
            let mut queue = self.inner.queue.borrow_mut();
            queue.bytes += reply.bytes();
            queue.replies.push_back(reply);
            queue.replies.len() == 1
        };
        if was_empty {
            self.write_at_once();
        }
    }

    fn write_at_once(&self) {
        while !self.is_empty() {
            let mut writer = self.inner.writer.borrow_mut();
            let written = self.inner.queue.borrow().gathered(|slices| writer.try_write(slices));
            match written {
                Ok(count) => self.inner.queue.borrow_mut().advance(count),
                // A broken socket is found again, and reported, by the drain task.
                Err(_) => return self.inner.work.raise(),
            }
        }
    }

    /// Waits until so few replies wait that another request may be read.
    pub(super) async fn room(&self) {
        while self.inner.queue.borrow().is_full() && !self.inner.closed.get() {
            self.inner.room.wait().await;
        }
    }

    /// Writes what waits, until the outbox is closed or the socket breaks.
    pub(super) async fn drain(self) -> io::Result<()> {
        loop {
            self.inner.work.wait().await;
            if self.inner.closed.get() {
                return Ok(());
            }
            while !self.is_empty() {
                if let Err(error) = poll_fn(|context| self.poll_write(context)).await {
                    self.close();
                    return Err(error);
                }
                self.inner.room.raise();
            }
        }
    }

    /// Ends the connection in both directions and drops what waits.
    pub(super) fn close(&self) {
        if !self.inner.closed.replace(true) {
            self.inner.writer.borrow_mut().shutdown();
            let dropped = std::mem::take(&mut *self.inner.queue.borrow_mut());
            drop(dropped);
            self.inner.work.raise();
            self.inner.room.raise();
        }
    }

    /// Waits until all replies are written or the connection is closed.
    pub(super) async fn flushed(&self) {
        while !self.is_empty() && !self.inner.closed.get() {
            self.inner.room.wait().await;
        }
    }

    fn is_empty(&self) -> bool {
        self.inner.queue.borrow().replies.is_empty()
    }

    fn poll_write(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.inner.closed.get() || self.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut writer = self.inner.writer.borrow_mut();
        let count = ready!(self.inner.queue.borrow().gathered(|slices| writer.poll_write(context, slices)))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.inner.queue.borrow_mut().advance(count);
        Poll::Ready(Ok(()))
    }
}

impl Queue {
    fn is_full(&self) -> bool {
        self.replies.len() >= REPLIES_MAX || self.bytes >= WAITING_BYTES_MAX
    }

    /// Calls `write` with the next bytes to write, in as many slices as one call takes.
    fn gathered<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut used = 0;
        let mut skip = self.done;
        for part in self.replies.iter().flat_map(Reply::parts) {
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            slices[used] = IoSlice::new(&part[skip..]);
            skip = 0;
            used += 1;
            if used == SLICES_MAX {
                break;
            }
        }
        write(&slices[..used])
    }

    fn advance(&mut self, count: usize) {
        self.done += count;
        while let Some(first) = self.replies.front() {
            let bytes = first.bytes();
            if self.done < bytes {
                return;
            }
            self.done -= bytes;
            self.bytes -= bytes;
            let written = self.replies.pop_front().expect("there is a first");
            if self.spare_heads.len() < SPARE_HEADS_MAX && written.head.capacity() <= SPARE_HEAD_BYTES_MAX {
                self.spare_heads.push(written.head);
            }
        }
    }
}
