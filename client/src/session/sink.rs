//! Where the values of a get go, and the reading of them.

use crate::error::Error;
use crate::given::Buffers;
use crate::lane::View;
use crate::room::{Room, job_of_ranges, range_of};
use snowskin_io::ByteReader;
use snowskin_io::framing::{FrameError, FrameReader};
use snowskin_io::memory::{CopyJob, LoanMut, copied, copied_checked};
use snowskin_io::seeded_bug;
use snowskin_protocol::wire::data::ItemReply;
use snowskin_protocol::{Checksum, Flowing, Growing};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Bytes by which an owned value grows while it is read. Fresh bytes are zeroed first: in steps that stay in the
/// cache.
const GROW_BYTES: usize = 256 * 1024;
/// Bytes reserved for a value at once, because a peer says that so many will come.
const RESERVE_BYTES_MAX: usize = 64 << 20;
/// Bytes that are read and thrown away after the asker has given up; for more, a new connection is cheaper.
const DISCARD_BYTES_MAX: u64 = 8 << 20;

/// Bytes that are read at a time of which only ranges are wanted: they stay in the second cache.
const SCRATCH_BYTES: usize = 64 * 1024;

/// A caller's buffers, which may be the caller's again at any time.
#[derive(Clone)]
pub(crate) enum Target {
    Lent(LoanMut),
    Given(Arc<dyn Buffers>),
}

impl Target {
    /// Calls `use_bytes` with buffer `index`, unless it is its owner's again.
    fn with(&self, index: usize, use_bytes: &mut dyn FnMut(&mut [u8])) -> Option<()> {
        match self {
            Target::Lent(loan) => loan.with(index, use_bytes),
            Target::Given(given) => given.with(index, use_bytes),
        }
    }

    /// Calls `use_bytes` with these buffers together, unless they are their owner's again.
    fn with_many(&self, indexes: Range<usize>, use_bytes: &mut dyn FnMut(&mut [&mut [u8]])) -> Option<()> {
        match self {
            Target::Lent(loan) => loan.with_many(indexes, use_bytes),
            Target::Given(given) => given.with_many(indexes, use_bytes),
        }
    }
}

/// Where one value goes.
pub(super) enum Sink {
    /// Into a fresh vector.
    Owned,
    /// Nowhere, if it can be used in place; else into a fresh vector.
    View,
    /// Into these buffers, one behind the other.
    Into(Target, Range<usize>),
    /// Ranges of it into these buffers; with the offset of each buffer's range, by the buffer's number.
    Ranges(Target, Range<usize>, Rc<[u64]>),
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
    /// So many bytes it has; what was wanted of them is in the caller's buffers.
    Written(usize),
    /// The caller's buffers have not so many bytes.
    TooSmall(u64),
    /// It has no such range.
    NoSuchRange(Error),
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
    let verify = verify && !seeded_bug!("read unverified");
    let growing = Cell::new(verify.then(Growing::default));
    let bytes = reply.value_bytes as usize;
    let intake = Intake { bytes, verify, growing, found: Cell::new(None), is_abandoned, progress };
    let delivery = match sink {
        Sink::Owned | Sink::View => intake.owned(reader).await?,
        Sink::Into(target, places) if places.len() == 1 => {
            intake.borrowed(reader, &target, places.start).await?
        }
        Sink::Into(target, places) => intake.scattered(reader, &target, places).await?,
        Sink::Ranges(target, places, offsets) => intake.ranges(reader, &target, places, &offsets).await?,
    };
    let is_whole = matches!(delivery, Delivery::Value(_) | Delivery::Written(_));
    let is_corrupt = is_whole && intake.found.get().is_some_and(|found| found != reply.checksum);
    Ok(if is_corrupt { Delivery::Corrupt } else { delivery })
}

/// Copies a value that is in memory to where it is wanted.
pub(super) fn deliver(sink: Sink, value: &[u8], checksum: Checksum, verify: bool) -> Delivery {
    let verify = verify && !seeded_bug!("read unverified");
    let make = |job: CopyJob<'_>| {
        if !verify {
            job.make();
        } else if job.make_checked() != checksum {
            return Delivery::Corrupt;
        }
        Delivery::Written(value.len())
    };
    // A buffer that is its owner's again is not touched.
    let mut delivery = Delivery::Abandoned;
    let _ = match sink {
        Sink::Owned | Sink::View => {
            if !verify {
                return Delivery::Value(copied(value));
            }
            let (copied, found) = copied_checked(value);
            return if found == checksum { Delivery::Value(copied) } else { Delivery::Corrupt };
        }
        Sink::Into(target, places) if places.len() == 1 => target.with(places.start, &mut |buffer| {
            delivery = buffer.job(value).map_or_else(Delivery::from, make);
        }),
        Sink::Into(target, places) => target.with_many(places, &mut |buffers| {
            delivery = buffers.job(value).map_or_else(Delivery::from, make);
        }),
        Sink::Ranges(target, places, offsets) => target.with_many(places.clone(), &mut |buffers| {
            let ranges = offsets[places.clone()].iter().copied().zip(buffers.iter_mut().map(|to| &mut **to));
            delivery = job_of_ranges(ranges, value).map_or_else(Delivery::from, make);
        }),
    };
    delivery
}

impl From<Error> for Delivery {
    fn from(error: Error) -> Self {
        match error {
            Error::BufferTooSmall { needed } => Delivery::TooSmall(needed),
            error => Delivery::NoSuchRange(error),
        }
    }
}

struct Intake<'a, F> {
    bytes: usize,
    verify: bool,
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

    /// Into one buffer.
    async fn borrowed<R: ByteReader>(
        &self,
        reader: &mut FrameReader<R>,
        target: &Target,
        index: usize,
    ) -> Result<Delivery, FrameError> {
        let mut room = 0;
        if target.with(index, &mut |buffer| room = buffer.len()).is_none() {
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
                target.with(index, &mut |buffer| {
                    // A buffer that has become shorter since is of no use.
                    if let Some(whole) = buffer.get_mut(..self.bytes) {
                        result = self.poll(reader, context, whole, done);
                    }
                });
                result
            });
            match read.await? {
                Some(count) => done += count,
                None => return self.discard(reader, self.bytes - done).await,
            }
        }
        Ok(Delivery::Written(self.bytes))
    }

    /// Into several buffers, one behind the other.
    async fn scattered<R: ByteReader>(
        &self,
        reader: &mut FrameReader<R>,
        target: &Target,
        places: Range<usize>,
    ) -> Result<Delivery, FrameError> {
        let mut room = 0;
        let count_room = &mut |buffers: &mut [&mut [u8]]| room = buffers.iter().map(|to| to.len()).sum();
        if target.with_many(places.clone(), count_room).is_none() {
            return self.discard(reader, self.bytes).await;
        }
        if room < self.bytes {
            reader.discard(self.bytes as u64).await?;
            return Ok(Delivery::TooSmall(self.bytes as u64));
        }
        let (mut flowing, mut rest) = (self.verify.then(Flowing::default), self.bytes);
        for place in places {
            let mut done = 0;
            loop {
                // No bytes: it is full.
                let read = poll_fn(|context| {
                    let mut result = Poll::Ready(Ok(None));
                    target.with(place, &mut |buffer| {
                        let end = buffer.len().min(done + rest);
                        let room = buffer.get_mut(done..end).unwrap_or_default();
                        result = match room.is_empty() {
                            true => Poll::Ready(Ok(Some(0))),
                            false => self.poll_into(reader, context, room, flowing.as_mut()),
                        };
                    });
                    result
                });
                match read.await? {
                    Some(0) => break,
                    Some(count) => (done, rest) = (done + count, rest - count),
                    None => return self.discard(reader, rest).await,
                }
            }
        }
        if rest > 0 {
            // Buffers that have become shorter since are of no use.
            return self.discard(reader, rest).await;
        }
        self.found.set(flowing.map(|flowing| flowing.finish()));
        Ok(Delivery::Written(self.bytes))
    }

    /// Ranges of it into buffers, by way of memory of our own.
    async fn ranges<R: ByteReader>(
        &self,
        reader: &mut FrameReader<R>,
        target: &Target,
        places: Range<usize>,
        offsets: &[u64],
    ) -> Result<Delivery, FrameError> {
        let mut ranges = Ok(Vec::new());
        let look = &mut |buffers: &mut [&mut [u8]]| {
            let range = |(to, &offset): (&&mut [u8], &u64)| range_of(offset, to.len(), self.bytes);
            ranges = buffers.iter().zip(&offsets[places.clone()]).map(range).collect();
        };
        if target.with_many(places.clone(), look).is_none() {
            return self.discard(reader, self.bytes).await;
        }
        let ranges = match ranges {
            Ok(ranges) => ranges,
            Err(error) => {
                reader.discard(self.bytes as u64).await?;
                return Ok(Delivery::NoSuchRange(error));
            }
        };
        let (mut flowing, mut done) = (self.verify.then(Flowing::default), 0);
        let mut scratch = vec![0; SCRATCH_BYTES.min(self.bytes)];
        while done < self.bytes {
            let room = scratch.len().min(self.bytes - done);
            let read =
                poll_fn(|context| self.poll_into(reader, context, &mut scratch[..room], flowing.as_mut()));
            let Some(count) = read.await? else { return self.discard(reader, self.bytes - done).await };
            for (place, range) in places.clone().zip(&ranges) {
                let part = range.start.max(done)..range.end.min(done + count);
                if part.is_empty() {
                    continue;
                }
                let mut is_filled = false;
                target.with(place, &mut |to: &mut [u8]| {
                    if let Some(to) = to.get_mut(part.start - range.start..part.end - range.start) {
                        to.copy_from_slice(&scratch[part.start - done..part.end - done]);
                        is_filled = true;
                    }
                });
                if !is_filled {
                    return self.discard(reader, self.bytes - done - count).await;
                }
            }
            done += count;
        }
        self.found.set(flowing.map(|flowing| flowing.finish()));
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
        let read = self.poll_into(reader, context, &mut buffer[done..], None);
        if let Poll::Ready(Ok(Some(count))) = read {
            self.digest(&buffer[..done + count]);
        }
        read
    }

    /// Reads some bytes into the beginning of `room`; `None` when nobody wants them any more.
    fn poll_into<R: ByteReader>(
        &self,
        reader: &mut FrameReader<R>,
        context: &mut Context<'_>,
        room: &mut [u8],
        flowing: Option<&mut Flowing>,
    ) -> Poll<io::Result<Option<usize>>> {
        if self.is_abandoned.get() {
            return Poll::Ready(Ok(None));
        }
        match reader.poll_payload(context, room) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(count)) => {
                if let Some(flowing) = flowing {
                    flowing.advance(&room[..count]);
                }
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
