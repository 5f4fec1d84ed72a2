//! One of two kinds of streams: of this machine by shared memory, or of any machine by TCP.

use crate::platform::{ByteReader, ByteWriter, Lane, Stream};
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

/// One or the other.
#[derive(Debug)]
pub enum Either<T, L> {
    /// By TCP.
    Tcp(T),
    /// By shared memory.
    Local(L),
}

impl<T: Stream, L: Stream> Stream for Either<T, L> {
    type Reader = Either<T::Reader, L::Reader>;
    type Writer = Either<T::Writer, L::Writer>;
    type Bell = L::Bell;

    fn take_lane(&mut self) -> Option<Lane<L::Bell>> {
        match self {
            Either::Tcp(_) => None,
            Either::Local(stream) => stream.take_lane(),
        }
    }

    fn is_local(&self) -> bool {
        matches!(self, Either::Local(_))
    }

    fn split(self) -> (Self::Reader, Self::Writer) {
        match self {
            Either::Tcp(stream) => {
                let (reader, writer) = stream.split();
                (Either::Tcp(reader), Either::Tcp(writer))
            }
            Either::Local(stream) => {
                let (reader, writer) = stream.split();
                (Either::Local(reader), Either::Local(writer))
            }
        }
    }
}

impl<T: ByteReader, L: ByteReader> ByteReader for Either<T, L> {
    #[inline]
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Either::Tcp(reader) => reader.poll_read(context, buffer),
            Either::Local(reader) => reader.poll_read(context, buffer),
        }
    }
}

impl<T: ByteWriter, L: ByteWriter> ByteWriter for Either<T, L> {
    #[inline]
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Either::Tcp(writer) => writer.try_write(slices),
            Either::Local(writer) => writer.try_write(slices),
        }
    }

    #[inline]
    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Either::Tcp(writer) => writer.poll_write(context, slices),
            Either::Local(writer) => writer.poll_write(context, slices),
        }
    }

    fn shutdown(&mut self) {
        match self {
            Either::Tcp(writer) => writer.shutdown(),
            Either::Local(writer) => writer.shutdown(),
        }
    }
}
