//! Memory that a call reads from or writes into: buffers of objects, or addresses in regions that were registered.

use super::buffer::{Buffer, Use};
use super::lists::integers;
use super::span::{Span, first_overlap};
use crate::errors::named;
use bytes::Bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::{Bound, PyAny, PyAnyMethods, PyResult, Python};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

/// Memory that callers have registered, by its start. No two regions overlap.
#[derive(Default)]
pub(crate) struct Regions(RwLock<BTreeMap<usize, usize>>);

impl Regions {
    /// Takes in so many bytes from an address on; false: some of them are registered already.
    pub(crate) fn register(&self, span: Span) -> bool {
        let Some(end) = span.end() else { return false };
        let mut regions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_free =
            regions.range(..end).next_back().is_none_or(|(start, bytes)| start + bytes <= span.start());
        if is_free {
            regions.insert(span.start(), span.bytes());
        }
        is_free
    }

    /// Forgets the region that begins there; false: there is none.
    pub(crate) fn unregister(&self, start: usize) -> bool {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&start).is_some()
    }

    /// Of each span, whether it is within a region, and something.
    pub(crate) fn are_inside(&self, spans: &[Span]) -> Vec<bool> {
        let regions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // Most spans of a call are in the same region.
        let mut last = (0, 0);
        let is_inside = |span: &Span| {
            let Some(end) = span.end() else { return false };
            let holds = |(start, stop): (usize, usize)| start <= span.start() && end <= stop;
            if !holds(last) {
                let below = regions.range(..=span.start()).next_back();
                last = below.map_or((0, 0), |(start, bytes)| (*start, start + bytes));
            }
            span.bytes() > 0 && holds(last)
        };
        spans.iter().map(is_inside).collect()
    }
}

/// Memory of a call, a span for each key, and what keeps it.
pub(crate) struct Memory {
    spans: Vec<Span>,
    /// Empty where callers name addresses: these are kept by the promise of [`Regions`].
    _buffers: Vec<Buffer>,
}

impl Memory {
    /// The memory of an object.
    pub(crate) fn of_one(object: &Bound<'_, PyAny>, purpose: Use) -> PyResult<Memory> {
        let buffer = Buffer::of(object, purpose)?;
        Ok(Memory { spans: vec![buffer.span()], _buffers: vec![buffer] })
    }

    /// The memory of as many objects as there are keys.
    pub(crate) fn of_many(objects: &Bound<'_, PyAny>, purpose: Use, keys: usize) -> PyResult<Memory> {
        let (mut spans, mut buffers) = (Vec::with_capacity(keys), Vec::with_capacity(keys));
        let not_a_list = |_| PyTypeError::new_err("a list of keys needs a list of buffers, one for each");
        for object in objects.try_iter().map_err(not_a_list)? {
            let buffer = Buffer::of(&object?, purpose)?;
            spans.push(buffer.span());
            buffers.push(buffer);
        }
        expect_count("buffers", spans.len(), keys)?;
        let memory = Memory { spans, _buffers: buffers };
        if purpose == Use::Write { memory.without_overlap() } else { Ok(memory) }
    }

    /// Registered memory, an address and a length for each key.
    pub(crate) fn of_addresses(
        py: Python<'_>,
        regions: &Regions,
        addresses: &Bound<'_, PyAny>,
        sizes: &Bound<'_, PyAny>,
        purpose: Use,
        keys: usize,
    ) -> PyResult<Memory> {
        let (addresses, sizes) = (numbers("addresses", addresses)?, numbers("sizes", sizes)?);
        expect_count("addresses", addresses.len(), keys)?;
        expect_count("sizes", sizes.len(), keys)?;
        let spans: Vec<Span> =
            addresses.iter().zip(&sizes).map(|(&start, &bytes)| Span::new(start, bytes)).collect();
        if let Some(number) = regions.are_inside(&spans).iter().position(|is_inside| !is_inside) {
            let span = spans[number];
            let words = match (span.start(), span.bytes()) {
                (0, _) => format!("address {number} is null"),
                (_, 0) => format!("size {number} is 0: a buffer has at least one byte"),
                _ => {
                    format!("{span} (number {number}) are not registered: call register(address, size) first")
                }
            };
            return Err(named(py, "BufferNotRegisteredError", &words));
        }
        let memory = Memory { spans, _buffers: Vec::new() };
        if purpose == Use::Write { memory.without_overlap() } else { Ok(memory) }
    }

    /// Spans, and the objects that keep them, if any do.
    pub(super) fn new(spans: Vec<Span>, buffers: Vec<Buffer>) -> Memory {
        Memory { spans, _buffers: buffers }
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The memory of each as bytes that keep all of it.
    pub(crate) fn into_bytes(self) -> Vec<Bytes> {
        let shared = Arc::new(self);
        (0..shared.spans.len()).map(|number| shared.piece(number)).collect()
    }

    /// A span as bytes that keep all of it.
    pub(super) fn piece(self: &Arc<Self>, number: usize) -> Bytes {
        Bytes::from_owner(Piece { memory: self.clone(), number })
    }

    /// The memory of each as a room to write into, that keeps all of it. No two overlap.
    pub(crate) fn into_rooms(self) -> Vec<Room> {
        let shared = Arc::new(self);
        (0..shared.spans.len()).map(|number| Room::new(shared.clone(), number)).collect()
    }

    fn without_overlap(self) -> PyResult<Memory> {
        match first_overlap(&self.spans) {
            None => Ok(self),
            Some((one, other)) => {
                let words = format!(
                    "buffers {one} and {other} overlap: two values cannot be read into the same bytes"
                );
                Err(PyValueError::new_err(words))
            }
        }
    }

    /// Bytes of each.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = usize> {
        self.spans.iter().map(|span| span.bytes())
    }

    /// The bytes, to be read.
    pub(crate) fn readable(&self, number: usize) -> &[u8] {
        // SAFETY: an export holds them as long as we are there; or they are within a region that the caller has registered, and promises to
        // keep until it is unregistered and no call uses it.
        unsafe { self.spans[number].to_read() }
    }

    /// The bytes of some, to be written.
    pub(crate) fn writable(&mut self, numbers: Range<usize>) -> Vec<&mut [u8]> {
        // SAFETY: as in `readable`; no two overlap, which was looked at when they were taken in, and we are borrowed for writing.
        self.spans[numbers].iter().map(|span| unsafe { span.to_write() }).collect()
    }
}

/// One span of memory that others keep, too.
struct Piece {
    memory: Arc<Memory>,
    number: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.memory.readable(self.number)
    }
}

/// One span of memory to write into, whose others are written by others.
pub(crate) struct Room {
    memory: Arc<Memory>,
    number: usize,
}

impl Room {
    /// The room of a span that overlaps none which another room has.
    pub(super) fn new(memory: Arc<Memory>, number: usize) -> Room {
        Room { memory, number }
    }
}

impl AsMut<[u8]> for Room {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: the memory is kept; there is one room for each span, no two spans overlap, and this one is borrowed for writing.
        unsafe { self.memory.spans[self.number].to_write() }
    }
}

/// A list of numbers that are not negative.
fn numbers(what: &str, list: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let not_numbers =
        |_| PyTypeError::new_err(format!("{what} are a list of integers that are not negative"));
    integers(list).map_err(not_numbers)
}

fn expect_count(what: &str, count: usize, keys: usize) -> PyResult<()> {
    match count == keys {
        true => Ok(()),
        false => {
            Err(PyValueError::new_err(format!("{keys} keys and {count} {what}: one for each is needed")))
        }
    }
}
