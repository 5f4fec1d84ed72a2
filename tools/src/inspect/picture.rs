//! What takes which part of a region: the matter of a map, as text or as SVG.

use super::region::{Fate, Region, State};
use snowskin_ssd_tier::format::{Geometry, SECTOR_BYTES};

/// What a piece of a region mostly is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Live,
    Dead,
    Tombstones,
    /// Header, index, footer.
    Index,
    /// In use, and nothing is there.
    Room,
    Free,
    /// If any of it is damaged.
    Damaged,
}

impl Cell {
    /// All of them, in the order of a legend.
    pub(crate) const ALL: [Cell; 7] =
        [Cell::Live, Cell::Dead, Cell::Tombstones, Cell::Index, Cell::Room, Cell::Free, Cell::Damaged];

    /// For people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Cell::Live => "live",
            Cell::Dead => "dead",
            Cell::Tombstones => "tombstones",
            Cell::Index => "header, index",
            Cell::Room => "room",
            Cell::Free => "free",
            Cell::Damaged => "damaged",
        }
    }

    /// As text; each is another one without colours too.
    pub(crate) fn letter(self) -> char {
        match self {
            Cell::Live => '█',
            Cell::Dead => '▒',
            Cell::Tombstones => '†',
            Cell::Index => '≡',
            Cell::Room => '_',
            Cell::Free => '·',
            Cell::Damaged => '×',
        }
    }

    /// The colour on a terminal (SGR).
    pub(crate) fn terminal_colour(self) -> u8 {
        match self {
            Cell::Live => 32,
            Cell::Dead => 33,
            Cell::Tombstones => 35,
            Cell::Index => 36,
            Cell::Room | Cell::Free => 90,
            Cell::Damaged => 31,
        }
    }

    /// The colour in SVG.
    pub(crate) fn colour(self) -> &'static str {
        match self {
            Cell::Live => "#2e7d4f",
            Cell::Dead => "#d9a441",
            Cell::Tombstones => "#8e5ea2",
            Cell::Index => "#3a7ca5",
            Cell::Room => "#dfe3e6",
            Cell::Free => "#f4f5f6",
            Cell::Damaged => "#c62828",
        }
    }
}

/// A region cut into so many pieces.
pub(crate) fn cells(region: &Region, geometry: Geometry, count: usize) -> Vec<Cell> {
    let spans = match region.state {
        State::Free => return vec![Cell::Free; count],
        State::Damaged if region.found.is_empty() => return vec![Cell::Damaged; count],
        _ => spans(region, geometry),
    };
    // What of each piece is taken by whom, in bytes.
    let mut taken = vec![[0_u64; Cell::ALL.len()]; count];
    let begin = |piece: usize| geometry.region_bytes * piece as u64 / count as u64;
    for (from, to, cell) in spans {
        let first = (from * count as u64 / geometry.region_bytes) as usize;
        for (piece, taken) in taken.iter_mut().enumerate().skip(first) {
            if begin(piece) >= to {
                break;
            }
            taken[cell as usize] += to.min(begin(piece + 1)).saturating_sub(from.max(begin(piece)));
        }
    }
    let pieces = taken.iter().enumerate();
    pieces.map(|(piece, taken)| mostly(taken, begin(piece + 1) - begin(piece))).collect()
}

fn mostly(taken: &[u64; Cell::ALL.len()], bytes: u64) -> Cell {
    if taken[Cell::Damaged as usize] > 0 {
        return Cell::Damaged;
    }
    let room = bytes.saturating_sub(taken.iter().sum());
    let most = Cell::ALL.into_iter().max_by_key(|&cell| taken[cell as usize]).expect("there are some");
    if taken[most as usize] >= room { most } else { Cell::Room }
}

/// From where to where what stands.
fn spans(region: &Region, geometry: Geometry) -> Vec<(u64, u64, Cell)> {
    let sector = SECTOR_BYTES as u64;
    let header = if region.header.is_some() { Cell::Index } else { Cell::Damaged };
    let mut spans = vec![(0, sector, header)];
    for found in &region.found {
        let cell = match found.fate {
            Fate::Live => Cell::Live,
            Fate::Replaced | Fate::Removed => Cell::Dead,
            Fate::Tombstone => Cell::Tombstones,
            Fate::NotWhole => Cell::Damaged,
        };
        let from = u64::from(found.offset);
        spans.push((from, from + found.bytes, cell));
    }
    if let Some(footer) = &region.footer {
        spans.push((footer.entries_offset(geometry.region_bytes), geometry.region_bytes, Cell::Index));
    }
    let damages = region.troubles.iter().filter(|trouble| trouble.is_damage);
    spans.extend(damages.map(|trouble| (trouble.offset, trouble.offset + sector, Cell::Damaged)));
    spans.retain(|&(from, to, _)| from < to && to <= geometry.region_bytes);
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_most_is_shown_and_damage_always() {
        let mut taken = [0; Cell::ALL.len()];
        assert_eq!(mostly(&taken, 100), Cell::Room);
        (taken[Cell::Live as usize], taken[Cell::Dead as usize]) = (40, 30);
        assert_eq!(mostly(&taken, 100), Cell::Live);
        assert_eq!(mostly(&taken, 200), Cell::Room);
        taken[Cell::Damaged as usize] = 1;
        assert_eq!(mostly(&taken, 200), Cell::Damaged);
    }

    #[test]
    fn cells_are_told_apart_without_colours() {
        for (place, cell) in Cell::ALL.into_iter().enumerate() {
            assert_eq!(cell as usize, place);
            assert!(Cell::ALL[..place].iter().all(|other| other.letter() != cell.letter()));
        }
    }
}
