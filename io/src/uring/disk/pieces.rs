//! Memory that the kernel knows already: which piece of it a buffer lies in.
//!
//! The kernel holds the pages of a piece, not its addresses. If memory is unmapped, and other memory is mapped at the same
//! addresses, an operation that still named the piece would use the old pages. So a piece is used only while its mapping
//! lives ([`Mapping::life`]), whether or not somebody has unregistered it.

use crate::memory::Mapping;
use std::sync::Weak;

/// Pieces of all memory together.
pub(super) const PIECES_MAX: u16 = 1_024;
/// The kernel takes no larger piece.
const PIECE_BYTES_MAX: usize = 1 << 30;

/// A piece that is registered.
struct Piece {
    start: usize,
    bytes: usize,
    index: u16,
    life: Weak<()>,
}

/// All that is registered, by address.
pub(super) struct Pieces {
    list: Vec<Piece>,
    free: Vec<u16>,
}

impl Pieces {
    pub(super) fn new() -> Pieces {
        Pieces { list: Vec::new(), free: (0..PIECES_MAX).rev().collect() }
    }

    /// The parts of a mapping that the kernel takes.
    pub(super) fn parts(mapping: &Mapping) -> impl Iterator<Item = (*mut u8, usize)> {
        let (start, all) = (mapping.start(), mapping.bytes());
        let offsets = (0..all).step_by(PIECE_BYTES_MAX);
        offsets.map(move |offset| (start.wrapping_add(offset), PIECE_BYTES_MAX.min(all - offset)))
    }

    /// A number that is free.
    pub(super) fn reserve(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// A number is used for nothing after all.
    pub(super) fn release(&mut self, index: u16) {
        self.free.push(index);
    }

    /// A piece is registered under a reserved number.
    pub(super) fn insert(&mut self, index: u16, (start, bytes): (*mut u8, usize), life: Weak<()>) {
        let place = self.list.partition_point(|piece| piece.start <= start.addr());
        self.list.insert(place, Piece { start: start.addr(), bytes, index, life });
    }

    /// A piece is not to be used any more. `false`: it is none.
    pub(super) fn remove(&mut self, index: u16) -> bool {
        let place = self.list.iter().position(|piece| piece.index == index);
        place.map(|place| self.list.remove(place)).is_some()
    }

    /// Numbers of pieces whose memory is gone.
    pub(super) fn dead(&self) -> Vec<u16> {
        self.list.iter().filter(|piece| piece.life.strong_count() == 0).map(|piece| piece.index).collect()
    }

    /// The piece that these addresses lie in as a whole.
    pub(super) fn find(&self, start: usize, bytes: usize) -> Option<u16> {
        let after = self.list.partition_point(|piece| piece.start <= start);
        let piece = &self.list[after.checked_sub(1)?];
        let lies_within = start + bytes <= piece.start + piece.bytes;
        (lies_within && piece.life.strong_count() > 0).then_some(piece.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn buffers_are_found_in_pieces_that_live() {
        let (life, other) = (Arc::new(()), Arc::new(()));
        let mut pieces = Pieces::new();
        for (start, bytes, life) in
            [(0x8000, 0x1000, &other), (0x1000, 0x2000, &life), (0x3000, 0x1000, &life)]
        {
            let index = pieces.reserve().expect("a thousand");
            pieces.insert(index, (std::ptr::without_provenance_mut(start), bytes), Arc::downgrade(life));
        }
        assert_eq!(pieces.find(0x1000, 0x2000), Some(1));
        assert_eq!(pieces.find(0x2000, 0x1000), Some(1));
        assert_eq!(pieces.find(0x2000, 0x1001), None, "over the end of a piece");
        assert_eq!(pieces.find(0x3000, 1), Some(2));
        assert_eq!((pieces.find(0, 1), pieces.find(0x4000, 1), pieces.find(0x9000, 1)), (None, None, None));
        assert_eq!(pieces.find(0x8000, 8), Some(0));
        drop(other);
        assert_eq!((pieces.find(0x8000, 8), pieces.dead()), (None, vec![0]));
        assert!(pieces.remove(0) && !pieces.remove(0));
        pieces.release(0);
        assert_eq!((pieces.reserve(), pieces.dead()), (Some(0), Vec::new()));
    }
}
