//! Memory of a call in pieces, some for each key: at addresses in registered regions, or of objects.

use super::buffer::Buffer;
use super::memory::{Memory, Regions, Room};
use super::span::{Span, first_overlap};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// See the module's head. Keys whose pieces cannot be used are left out by all verbs.
pub(crate) struct Named {
    memory: Arc<Memory>,
    /// Where the pieces of each key are among the spans.
    places: Vec<Range<usize>>,
    is_usable: Vec<bool>,
}

impl Named {
    /// A piece for each key. `None`: not one address and one size each.
    pub(crate) fn of_one_each(
        regions: &Regions,
        keys: usize,
        starts: &[usize],
        sizes: &[usize],
    ) -> Option<Named> {
        if starts.len() != keys || sizes.len() != keys {
            return None;
        }
        let spans: Vec<Span> =
            starts.iter().zip(sizes).map(|(&start, &bytes)| Span::new(start, bytes)).collect();
        let is_usable = regions.are_inside(&spans);
        let places = (0..keys).map(|number| number..number + 1).collect();
        Some(Named { memory: Arc::new(Memory::new(spans, Vec::new())), places, is_usable })
    }

    /// Several pieces for each key; those of nothing are left out. `None`: not a list of addresses and one of sizes each.
    pub(crate) fn of_pieces(
        regions: &Regions,
        keys: usize,
        starts: &[Vec<usize>],
        sizes: &[Vec<usize>],
    ) -> Option<Named> {
        if starts.len() != keys || sizes.len() != keys {
            return None;
        }
        let (mut spans, mut places, mut is_usable) = (Vec::new(), Vec::new(), Vec::new());
        for (starts, sizes) in starts.iter().zip(sizes) {
            let first = spans.len();
            let pieces = starts.iter().zip(sizes).map(|(&start, &bytes)| Span::new(start, bytes));
            spans.extend(pieces.filter(|span| span.bytes() > 0));
            let own = &spans[first..];
            let is_inside = !own.is_empty() && regions.are_inside(own).into_iter().all(|is_inside| is_inside);
            is_usable.push(is_inside && starts.len() == sizes.len());
            places.push(first..spans.len());
        }
        Some(Named { memory: Arc::new(Memory::new(spans, Vec::new())), places, is_usable })
    }

    /// The memory of objects, some for each key.
    pub(crate) fn of_objects(values: Vec<Vec<Buffer>>) -> Named {
        let mut end = 0;
        let place = |pieces: &Vec<Buffer>| {
            end += pieces.len();
            end - pieces.len()..end
        };
        let places: Vec<Range<usize>> = values.iter().map(place).collect();
        let buffers: Vec<Buffer> = values.into_iter().flatten().collect();
        let spans = buffers.iter().map(Buffer::span).collect();
        let is_usable = vec![true; places.len()];
        Named { memory: Arc::new(Memory::new(spans, buffers)), places, is_usable }
    }

    /// The keys with memory of use.
    pub(crate) fn usable(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|&number| self.is_usable[number]).collect()
    }

    /// Bytes for a key.
    pub(crate) fn bytes(&self, number: usize) -> usize {
        self.spans(number).iter().map(|span| span.bytes()).sum()
    }

    fn spans(&self, number: usize) -> &[Span] {
        &self.memory.spans()[self.places[number].clone()]
    }

    fn overlap(&self, numbers: &[usize]) -> bool {
        let own = |number: &usize| self.spans(*number).iter().copied();
        first_overlap(&numbers.iter().flat_map(own).collect::<Vec<_>>()).is_some()
    }

    /// The pieces of some keys, to be read.
    pub(crate) fn readable(&self, numbers: &[usize]) -> Vec<Vec<&[u8]>> {
        // SAFETY: objects that are held keep them; or they are within regions that the caller has registered, and promises to keep until these
        // are unregistered and no call uses them.
        let pieces =
            |number: &usize| self.spans(*number).iter().map(|span| unsafe { span.to_read() }).collect();
        numbers.iter().map(pieces).collect()
    }

    /// The pieces of a key, each as bytes that keep all memory of the call.
    pub(crate) fn pieces(&self, number: usize) -> Vec<Bytes> {
        self.places[number].clone().map(|place| self.memory.piece(place)).collect()
    }

    /// The pieces of some keys, to be written. `None`: some of them overlap, or others still have rooms.
    pub(crate) fn writable(&mut self, numbers: &[usize]) -> Option<Vec<Vec<&mut [u8]>>> {
        if Arc::get_mut(&mut self.memory).is_none() || self.overlap(numbers) {
            return None;
        }
        // SAFETY: as in `readable`; no two overlap, nobody else has the memory, and we are borrowed for writing.
        let pieces =
            |number: &usize| self.spans(*number).iter().map(|span| unsafe { span.to_write() }).collect();
        Some(numbers.iter().map(pieces).collect())
    }

    /// The pieces of some keys as rooms to write into. `None`: some of them overlap, or others still have rooms.
    pub(crate) fn rooms(&mut self, numbers: &[usize]) -> Option<Vec<Vec<Room>>> {
        if Arc::get_mut(&mut self.memory).is_none() || self.overlap(numbers) {
            return None;
        }
        let room = |place| Room::new(self.memory.clone(), place);
        Some(numbers.iter().map(|number| self.places[*number].clone().map(room).collect()).collect())
    }

    /// What keeps the memory of objects. It is let go of where the interpreter is held, so that nobody waits for that.
    pub(crate) fn kept(&self) -> impl Send + 'static {
        self.memory.clone()
    }
}
