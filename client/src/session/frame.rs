//! A request on its way out: header, body and values, written without copying large values.
//!
//! ```text
//!   bytes:   [ header 64 ][ items ][ names ][ small values … ]
//!   pieces:                                                   [ large value ][ large value ][ small ones, copied ] …
//! ```
//!
//! A value that a caller has lent is looked at only while it is written, a system call at a time. When the loan ends
//! in the middle of a frame, the frame can never be completed: the connection has to go.

use bytes::Bytes;
use snowskin_io::memory::Loan;
use snowskin_protocol::limits::HEADER_BYTES;
use snowskin_protocol::wire::data::{NamedItem, PutHints, PutItem};
use snowskin_protocol::wire::{Header, Opcode};
use snowskin_protocol::{Checksum, Epoch, NameRef};
use std::io::IoSlice;

/// Lent pieces up to this size are copied into the frame: cheaper than a system call of their own.
const COPY_BYTES_MAX: usize = 8 * 1024;
/// Slices of one system call.
const SLICES_MAX: usize = 64;

/// The loan of the bytes to send has ended.
#[derive(Debug)]
pub(super) struct LoanEnded;

/// A value to put: bytes that the session owns or that a caller has lent, in one piece or several.
#[derive(Clone)]
pub struct PutValue {
    source: Source,
    bytes: u64,
    checksum: Checksum,
    hints: PutHints,
}

#[derive(Clone)]
enum Source {
    Owned(Bytes),
    Parts(Vec<Bytes>),
    Lent { loan: Loan, first: usize, count: usize },
}

impl PutValue {
    /// A value in one piece. The checksum is computed here.
    pub fn owned(bytes: Bytes) -> Self {
        let (length, checksum) = (bytes.len() as u64, Checksum::of(&bytes));
        PutValue { source: Source::Owned(bytes), bytes: length, checksum, hints: PutHints::default() }
    }

    /// A value whose bytes lie in several pieces, to be put end to end. The checksum is computed here.
    pub fn parts(parts: Vec<Bytes>) -> Self {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        let checksum = Checksum::of_parts(parts.iter().map(|part| &part[..]));
        PutValue { source: Source::Parts(parts), bytes, checksum, hints: PutHints::default() }
    }

    /// A value whose pieces are `parts`, which are lent as buffers `first`, `first + 1` … of `loan`. The checksum is
    /// computed here.
    pub fn lent(loan: &Loan, first: usize, parts: &[&[u8]]) -> Self {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        let checksum = match parts {
            [part] => Checksum::of(part),
            parts => Checksum::of_parts(parts.iter().copied()),
        };
        let source = Source::Lent { loan: loan.clone(), first, count: parts.len() };
        PutValue { source, bytes, checksum, hints: PutHints::default() }
    }

    /// The same value, with what is said about its place among others.
    pub fn with_hints(self, hints: PutHints) -> Self {
        PutValue { hints, ..self }
    }

    /// Writes it to `room`, which has as many bytes.
    pub(super) fn write_to(&self, room: &mut [u8]) -> Result<(), LoanEnded> {
        let mut rest = room;
        let mut write = |part: &[u8]| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(part.len());
            now.copy_from_slice(part);
            rest = later;
        };
        match &self.source {
            Source::Owned(bytes) => write(bytes),
            Source::Parts(parts) => parts.iter().for_each(|part| write(part)),
            Source::Lent { loan, first, count } => {
                for index in *first..first + count {
                    loan.with(index, &mut write).ok_or(LoanEnded)?;
                }
            }
        }
        Ok(())
    }

    /// The item that announces it.
    pub(super) fn item(&self, name: NameRef<'_>) -> PutItem {
        PutItem { hints: self.hints, ..PutItem::new(name, self.bytes, self.checksum) }
    }

    /// Bytes of the value.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of the value.
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }
}

/// Part of a payload.
enum Piece {
    Owned(Bytes),
    Copied(Vec<u8>),
    Lent { loan: Loan, index: usize, bytes: usize },
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Owned(bytes) => bytes.len(),
            Piece::Copied(bytes) => bytes.len(),
            Piece::Lent { bytes, .. } => *bytes,
        }
    }
}

/// A request that is being built, then written.
pub(super) struct Frame {
    pub(super) opcode: Opcode,
    pub(super) items: u32,
    pub(super) payload_bytes: u64,
    /// Chosen by the connection.
    pub(super) request: u64,
    bytes: Vec<u8>,
    body_end: usize,
    pieces: Vec<Piece>,
    /// Bytes written of `bytes`, pieces written whole, bytes written of the next piece.
    written: (usize, usize, usize),
}

impl Frame {
    /// A request with a body that is no batch.
    pub(super) fn plain(opcode: Opcode, body: &[u8]) -> Self {
        let mut frame = Frame::with_capacity(opcode, body.len());
        frame.bytes.extend_from_slice(body);
        frame.body_end = frame.bytes.len();
        frame
    }

    /// A batch: these items with their names, in this order; `body_bytes` is how many bytes they need.
    pub(super) fn batch<'a, T: NamedItem>(
        opcode: Opcode,
        body_bytes: usize,
        items: impl Iterator<Item = (T, NameRef<'a>)> + Clone,
    ) -> Self {
        let mut frame = Frame::with_capacity(opcode, body_bytes);
        for (item, _) in items.clone() {
            frame.bytes.extend_from_slice(bytemuck::bytes_of(&item));
            frame.items += 1;
        }
        for (_, name) in items {
            frame.bytes.extend_from_slice(name.bytes());
        }
        frame.body_end = frame.bytes.len();
        frame
    }

    fn with_capacity(opcode: Opcode, body_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body_bytes);
        bytes.resize(HEADER_BYTES, 0);
        let (items, payload_bytes, request) = (0, 0, 0);
        Frame {
            opcode,
            items,
            payload_bytes,
            request,
            body_end: HEADER_BYTES,
            bytes,
            pieces: Vec::new(),
            written: (0, 0, 0),
        }
    }

    /// Adds a value to the payload.
    pub(super) fn push_value(&mut self, value: &PutValue) -> Result<(), LoanEnded> {
        self.payload_bytes += value.bytes;
        match &value.source {
            Source::Owned(bytes) => self.push_owned(bytes),
            Source::Parts(parts) => parts.iter().for_each(|part| self.push_owned(part)),
            Source::Lent { loan, first, count } => {
                for index in *first..first + count {
                    self.push_lent(loan, index)?;
                }
            }
        }
        Ok(())
    }

    fn push_owned(&mut self, bytes: &Bytes) {
        // A piece of nothing would be a write of nothing, which is how a stream ends.
        if bytes.is_empty() {
            return;
        }
        if bytes.len() <= COPY_BYTES_MAX {
            self.copy_target().extend_from_slice(bytes);
        } else {
            self.pieces.push(Piece::Owned(bytes.clone()));
        }
    }

    fn push_lent(&mut self, loan: &Loan, index: usize) -> Result<(), LoanEnded> {
        let bytes = loan.with(index, <[u8]>::len).ok_or(LoanEnded)?;
        // As above.
        if bytes == 0 {
            return Ok(());
        }
        if bytes <= COPY_BYTES_MAX {
            let target = self.copy_target();
            loan.with(index, |bytes| target.extend_from_slice(bytes)).ok_or(LoanEnded)?;
        } else {
            self.pieces.push(Piece::Lent { loan: loan.clone(), index, bytes });
        }
        Ok(())
    }

    fn copy_target(&mut self) -> &mut Vec<u8> {
        if self.pieces.is_empty() {
            return &mut self.bytes;
        }
        if !matches!(self.pieces.last(), Some(Piece::Copied(_))) {
            self.pieces.push(Piece::Copied(Vec::new()));
        }
        match self.pieces.last_mut() {
            Some(Piece::Copied(bytes)) => bytes,
            _ => unreachable!("pushed just now"),
        }
    }

    /// Fills the header in. Nothing may be added afterwards.
    pub(super) fn seal(&mut self, request: u64, version: u16, epoch: Epoch, deadline_ms: u32) {
        self.request = request;
        let header = Header {
            version,
            items: self.items,
            payload_bytes: self.payload_bytes,
            deadline_ms,
            ..Header::request(self.opcode, request, epoch)
        };
        let header = header.encode(&self.bytes[HEADER_BYTES..self.body_end]);
        self.bytes[..HEADER_BYTES].copy_from_slice(&header);
    }

    /// Whether all of it has been written.
    pub(super) fn is_done(&self) -> bool {
        self.written.0 == self.bytes.len() && self.written.1 == self.pieces.len()
    }

    /// Whether some of it has been written.
    pub(super) fn has_begun(&self) -> bool {
        self.written.0 > 0
    }

    /// Whether bytes that a caller has lent are still to be written.
    pub(super) fn needs_loan(&self) -> bool {
        self.pieces[self.written.1..].iter().any(|piece| matches!(piece, Piece::Lent { .. }))
    }

    /// Notes that `count` more bytes have been written.
    pub(super) fn advance(&mut self, mut count: usize) {
        let of_bytes = count.min(self.bytes.len() - self.written.0);
        self.written.0 += of_bytes;
        count -= of_bytes;
        while count > 0 {
            let rest = self.pieces[self.written.1].len() - self.written.2;
            if count < rest {
                self.written.2 += count;
                return;
            }
            count -= rest;
            (self.written.1, self.written.2) = (self.written.1 + 1, 0);
        }
    }

    /// Calls `write` with what comes next.
    pub(super) fn with_slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> Result<R, LoanEnded> {
        let (bytes_done, piece, piece_done) = self.written;
        let bytes = &self.bytes[bytes_done..];
        let first = match self.pieces.get(piece) {
            None => return Ok(write(&[IoSlice::new(bytes)])),
            Some(Piece::Lent { loan, index, bytes: length }) => {
                let rest = piece_done..*length;
                return loan
                    .with(*index, |lent| match bytes {
                        [] => write(&[IoSlice::new(&lent[rest])]),
                        bytes => write(&[IoSlice::new(bytes), IoSlice::new(&lent[rest])]),
                    })
                    .ok_or(LoanEnded);
            }
            Some(Piece::Owned(owned)) => &owned[piece_done..],
            Some(Piece::Copied(copied)) => &copied[piece_done..],
        };
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        slices[0] = IoSlice::new(bytes);
        slices[1] = IoSlice::new(first);
        let mut count = 2;
        for piece in self.pieces[piece + 1..].iter().take(SLICES_MAX - 2) {
            slices[count] = match piece {
                Piece::Owned(owned) => IoSlice::new(owned),
                Piece::Copied(copied) => IoSlice::new(copied),
                Piece::Lent { .. } => break,
            };
            count += 1;
        }
        Ok(write(&slices[usize::from(bytes.is_empty())..count]))
    }
}
