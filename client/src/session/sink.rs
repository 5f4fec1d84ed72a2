//! Where the values of a get go, and the reading of them.

use crate::lane::View;
use snowskin_io::ByteReader;
use snowskin_io::framing::{FrameError, FrameReader};
use snowskin_io::memory::{LoanMut, copied, copied_checked, copy, copy_checked};
use snowskin_io::seeded_bug;
use snowskin_protocol::wire::data::ItemReply;
use snowskin_protocol::{Checksum, Growing};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Bytes by which an owned value grows while it is read. Fresh bytes are zeroed first: in steps that stay in the
/// cache.
const GROW_BYTES: usize = 256 * 1024;
/// Bytes reserved for a value at once, because a peer says that so many will come.
const RESERVE_BYTES_MAX: usize = 64 << 20;
/// Bytes that are read and thrown away after the asker has given up; for more, a new connection is cheaper.
const DISCARD_BYTES_MAX: u64 = 8 << 20;

/// A buffer that its owner may take back at any time.
pub(super) type SharedBuffer = Rc<RefCell<Option<Vec<u8>>>>;

/// Where one value goes.
pub(super) enum Sink {
    /// Into a fresh vector.
    Owned,
    /// Nowhere, if it can be used in place; else into a fresh vector.
    View,
    /// Into a buffer that a caller has lent.
    Lent(LoanMut, usize),
    /// Into a buffer that a caller has given and gets back.
    Shared(SharedBuffer),
}

/// What became of one value.
#[derive(Debug)]
pub(super) enum Delivery {
    /// The reply had none.
    None,
    /// It is here.
    Value(Vec<u8>),
    /// It is where it was, and can be read there.
    View(View),
    /// So many bytes are in the caller's buffer.
    Written(usize),
    /// The caller's buffer has not so many bytes.
    TooSmall(u64),
    /// It did not match its checksum.
    Corrupt,
    /// The asker had given up.
    Abandoned,
}

/// Reads the value that `reply` announces. `is_abandoned` is looked at before every read; `progress` is told
/// how many bytes came.
pub(super) async fn receive<R: ByteReader>(
    reader: &mut FrameReader<R>,
    sink: Sink,
    reply: &ItemReply,
    verify: bool,
    is_abandoned: &Cell<bool>,
    progress: impl Fn(usize),
) -> Result<Delivery, FrameError> {
    let growing = Cell::new((verify && !seeded_bug!("read unverified")).then(Growing::default));
    let bytes = reply.value_bytes as usize;
    let intake = Intake { bytes, growing, found: Cell::new(None), is_abandoned, progress };
    let delivery = match sink {
        Sink::Owned | Sink::View => intake.owned(reader).await?,
        Sink::Lent(loan, index) => intake.borrowed(reader, |use_bytes| loan.with(index, use_bytes)).await?,
        Sink::Shared(shared) => {
            let with = |use_bytes: &mut dyn FnMut(&mut [u8])| {
                shared.borrow_mut().as_mut().map(|bytes| use_bytes(bytes))
            };
            intake.borrowed(reader, with).await?
        }
    };
    let is_whole = matches!(delivery, Delivery::Value(_) | Delivery::Written(_));
    let is_corrupt = is_whole && intake.found.get().is_some_and(|found| found != reply.checksum);
    Ok(if is_corrupt { Delivery::Corrupt } else { delivery })
}

/// Copies a value that is in memory to where it is wanted.
pub(super) fn deliver(sink: Sink, value: &[u8], checksum: Checksum, verify: bool) -> Delivery {
    let verify = verify && !seeded_bug!("read unverified");
    let mut delivery = Delivery::Abandoned;
    let mut fill = |buffer: &mut [u8]| {
        delivery = match buffer.get_mut(..value.len()) {
            None => Delivery::TooSmall(value.len() as u64),
            Some(room) if verify => match copy_checked(room, value) == checksum {
                true => Delivery::Written(value.len()),
                false => Delivery::Corrupt,
            },
            Some(room) => {
                copy(room, value);
                Delivery::Written(value.len())
            }
        };
    };
    match sink {
        Sink::Owned | Sink::View => {
            if !verify {
                return Delivery::Value(copied(value));
            }
            let (copied, found) = copied_checked(value);
            return if found == checksum { Delivery::Value(copied) } else { Delivery::Corrupt };
        }
        // A buffer that is its owner's again is not touched.
        Sink::Lent(loan, index) => drop(loan.with(index, fill)),
        Sink::Shared(shared) => drop(shared.borrow_mut().as_mut().map(|bytes| fill(bytes))),
    }
    delivery
}

struct Intake<'a, F> {
    bytes: usize,
    /// Of what has been read of the value, if it is to be verified.
    growing: Cell<Option<Growing>>,
    /// Of the whole value.
    found: Cell<Option<Checksum>>,
    is_abandoned: &'a Cell<bool>,
    progress: F,
}

impl<F: Fn(usize)> Intake<'_, F> {
    async fn owned<R: ByteReader>(&self, reader: &mut FrameReader<R>) -> Result<Delivery, FrameError> {
        let mut value = Vec::with_capacity(self.bytes.min(RESERVE_BYTES_MAX));
        while value.len() < self.bytes {
            let mut done = value.len();
            value.resize(done + GROW_BYTES.min(self.bytes - done), 0);
            while done < value.len() {
                match poll_fn(|context| self.poll(reader, context, &mut value, done)).await? {
                    Some(count) => done += count,
                    None => return self.discard(reader, self.bytes - done).await,
                }
            }
        }
        Ok(Delivery::Value(value))
    }

    /// `with` calls a function with the buffer, unless the buffer is its owner's again.
    async fn borrowed<R: ByteReader>(
        &self,
        reader: &mut FrameReader<R>,
        with: impl Fn(&mut dyn FnMut(&mut [u8])) -> Option<()>,
    ) -> Result<Delivery, FrameError> {
        let mut room = 0;
        if with(&mut |buffer| room = buffer.len()).is_none() {
            return self.discard(reader, self.bytes).await;
        }
        if room < self.bytes {
            reader.discard(self.bytes as u64).await?;
            return Ok(Delivery::TooSmall(self.bytes as u64));
        }
        let mut done = 0;
        while done < self.bytes {
            let read = poll_fn(|context| {
                let mut result = Poll::Ready(Ok(None));
                with(&mut |buffer| result = self.poll(reader, context, &mut buffer[..self.bytes], done));
                result
            });
            match read.await? {
                Some(count) => done += count,
                None => return self.discard(reader, self.bytes - done).await,
            }
        }
        Ok(Delivery::Written(self.bytes))
    }

    /// Reads some bytes into `buffer`, which has `done` of them; `None` when nobody wants them any more.
    fn poll<R: ByteReader>(
        &self,
        reader: &mut FrameReader<R>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        done: usize,
    ) -> Poll<io::Result<Option<usize>>> {
        if self.is_abandoned.get() {
            return Poll::Ready(Ok(None));
        }
        match reader.poll_payload(context, &mut buffer[done..]) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(count)) => {
                self.digest(&buffer[..done + count]);
                (self.progress)(count);
                Poll::Ready(Ok(Some(count)))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// So much is there: what is complete of it is hashed while it is still in the cache.
    fn digest(&self, so_far: &[u8]) {
        let Some(mut growing) = self.growing.get() else { return };
        if so_far.len() == self.bytes {
            return self.found.set(Some(growing.finish(so_far)));
        }
        growing.advance(so_far);
        self.growing.set(Some(growing));
    }

    async fn discard<R: ByteReader>(
        &self,
        reader: &mut FrameReader<R>,
        rest: usize,
    ) -> Result<Delivery, FrameError> {
        if rest as u64 > DISCARD_BYTES_MAX {
            return Err(io::Error::other("the asker gave up in the middle of a large value").into());
        }
        reader.discard(rest as u64).await?;
        Ok(Delivery::Abandoned)
    }
}
