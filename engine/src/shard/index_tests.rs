use super::*;
use crate::segment::Segment;
use quickcheck::quickcheck;
use std::collections::BTreeMap;

/// Few keys, so that steps meet; more than hashes when hashes collide.
const KEYS: u8 = 16;

fn name(number: u8) -> ObjectName {
    ObjectName::new("t", format!("key-{number}").as_bytes()).unwrap()
}

fn row(segment: &Segment, number: u8, here: bool) -> Row {
    let bytes = match here {
        true => Bytes::Here(segment.reserve(1).unwrap().publish()),
        false => Bytes::At(CoreId::default()),
    };
    Row::new(name(number), Version(1), 1, Checksum(0), bytes, 0)
}

/// A row as the model has it.
#[derive(Clone, Debug, PartialEq)]
struct Listed {
    key: u8,
    position: Position,
    version: Version,
    /// Of memory; `None`: at another core.
    allocated_bytes: Option<u64>,
    lease_until: Moment,
    generation: u32,
}

/// The index beside a list of its rows, the least recently used first.
struct Beside {
    index: Index,
    list: Vec<Listed>,
    segment: Segment,
    /// Extents of removed rows that somebody still reads.
    pins: Vec<crate::segment::Extent>,
    rows_max: usize,
    /// Whether all names hash to one of three numbers.
    collide: bool,
}

impl Beside {
    fn new(collide: bool) -> Self {
        let segment = Segment::map(1 << 20, false).unwrap();
        Beside { index: Index::new(), list: Vec::new(), segment, pins: Vec::new(), rows_max: 0, collide }
    }

    fn hash(&self, key: u8) -> u64 {
        if self.collide { u64::from(key % 3) } else { name(key).hash() }
    }

    fn find(&self, key: u8) -> Option<Position> {
        self.index.find(name(key).as_ref(), self.hash(key))
    }

    /// One of the things that verbs do with rows. `kind` chooses, `number` is its argument.
    fn step(&mut self, kind: u8, key: u8, number: u8) {
        let Some(at) = self.list.iter().position(|listed| listed.key == key) else {
            return self.insert(key, !kind.is_multiple_of(4), number);
        };
        let position = self.list[at].position;
        match kind % 6 {
            0 | 1 => {
                self.index.touch(position);
                if self.list[at].allocated_bytes.is_some() {
                    let touched = self.list.remove(at);
                    self.list.push(touched);
                }
            }
            2 => {
                let until = Moment(u64::from(number));
                self.index.extend_lease(position, until);
                self.list[at].lease_until = self.list[at].lease_until.max(until);
            }
            3 => {
                self.index.vouch(position, u32::from(number));
                self.list[at].generation = u32::from(number);
            }
            _ => {
                let removed = self.index.remove(position);
                assert_eq!(as_listed(&removed, key, position), self.list.remove(at));
                if let (Bytes::Here(extent), true) = (removed.bytes, number.is_multiple_of(2)) {
                    self.pins.push(extent);
                }
            }
        }
    }

    fn insert(&mut self, key: u8, here: bool, number: u8) {
        let mut row = row(&self.segment, key, false);
        row.hash = self.hash(key);
        row.version = Version(u64::from(number) + 1);
        if here {
            let extent = self.segment.reserve(usize::from(number) * 16).unwrap().publish();
            row.bytes = Bytes::Here(extent);
        }
        let listed = as_listed(&row, key, NOWHERE);
        let position = self.index.insert(row);
        assert!(self.list.iter().all(|other| other.position != position), "two rows at {position}");
        self.list.push(Listed { position, ..listed });
        self.rows_max = self.rows_max.max(self.list.len());
    }

    fn check(&self) {
        self.check_rows();
        self.check_ages();
        let here = |listed: &&Listed| listed.allocated_bytes.is_some();
        let here_count = self.list.iter().filter(here).count();
        assert_eq!(self.index.here_count(), here_count as u64);
        assert_eq!(self.index.elsewhere_count(), (self.list.len() - here_count) as u64);
        let live: u64 = self.list.iter().filter_map(|listed| listed.allocated_bytes).sum();
        let pinned: u64 = self.pins.iter().map(|pin| pin.allocated_bytes()).sum();
        assert_eq!((self.index.live_bytes(), self.segment.usage().published_bytes()), (live, live + pinned));
    }

    /// Every row is found where it was put, as it was put; nothing else is found, by name or by position.
    fn check_rows(&self) {
        let expected: BTreeMap<u8, &Listed> = self.list.iter().map(|listed| (listed.key, listed)).collect();
        for key in 0..KEYS {
            assert_eq!(self.find(key), expected.get(&key).map(|listed| listed.position), "key {key}");
        }
        for listed in &self.list {
            assert_eq!(&as_listed(self.index.row(listed.position), listed.key, listed.position), listed);
        }
        // Positions are used again before there are more of them.
        assert_eq!(self.index.end() as usize, self.rows_max);
        let standing = (0..self.index.end()).filter(|&position| self.index.get(position).is_some());
        assert_eq!(standing.count(), self.list.len());
        assert!(self.index.get(self.index.end()).is_none() && self.index.get(NOWHERE).is_none());
    }

    /// From the old end and from the young one: the rows whose bytes are here, in the order of their last use.
    fn check_ages(&self) {
        let here = |listed: &&Listed| listed.allocated_bytes.is_some();
        let order: Vec<Position> = self.list.iter().filter(here).map(|listed| listed.position).collect();
        // A ring of rows would never end.
        let most = order.len() + 1;
        assert_eq!(self.index.oldest_first().take(most).collect::<Vec<_>>(), order);
        let first = Some(self.index.youngest).filter(|&youngest| youngest != NOWHERE);
        let older = |&position: &Position| Some(self.index.get(position)?.older).filter(|&at| at != NOWHERE);
        let mut youngest_first: Vec<Position> = std::iter::successors(first, older).take(most).collect();
        youngest_first.reverse();
        assert_eq!(youngest_first, order);
        for listed in &self.list {
            assert_eq!(self.index.is_youngest(listed.position), order.last() == Some(&listed.position));
        }
    }
}

fn as_listed(row: &Row, key: u8, position: Position) -> Listed {
    assert_eq!(row.name, name(key));
    let allocated_bytes = match &row.bytes {
        Bytes::Here(extent) => Some(extent.allocated_bytes()),
        Bytes::At(_) => None,
    };
    let Row { version, lease_until, generation, .. } = *row;
    Listed { key, position, version, allocated_bytes, lease_until, generation }
}

quickcheck! {
    fn every_history_agrees_with_a_list(steps: Vec<(u8, u8, u8)>, collide: bool) -> bool {
        let mut beside = Beside::new(collide);
        for (kind, key, number) in steps {
            beside.step(kind, key % KEYS, number);
            beside.check();
        }
        true
    }

    /// What hand-over and removal by pattern rely on: they stop and go on by position while rows come, go and age.
    fn a_slow_walk_sees_once_each_row_that_stays(before: Vec<(u8, u8, u8)>, during: Vec<(u8, u8, u8)>) -> bool {
        let mut beside = Beside::new(false);
        before.into_iter().for_each(|(kind, key, number)| beside.step(kind, key % KEYS, number));
        let mut stay: BTreeMap<u8, Position> =
            beside.list.iter().map(|listed| (listed.key, listed.position)).collect();
        let mut seen = BTreeMap::<u8, usize>::new();
        let (mut during, mut cursor) = (during.into_iter(), 0);
        while cursor < beside.index.end() {
            if let Some(found) = beside.list.iter().find(|listed| listed.position == cursor) {
                assert!(beside.index.get(cursor).is_some());
                *seen.entry(found.key).or_default() += 1;
            }
            cursor += 1;
            if let Some((kind, key, number)) = during.next() {
                beside.step(kind, key % KEYS, number);
                stay.retain(|&key, &mut position| beside.find(key) == Some(position));
            }
        }
        stay.keys().all(|key| seen.get(key) == Some(&1))
    }
}

#[test]
fn positions_are_stable_and_reused() {
    let segment = Segment::map(1 << 20, false).unwrap();
    let mut index = Index::new();
    let positions: Vec<_> = (0..3).map(|key| index.insert(row(&segment, key, true))).collect();
    index.remove(positions[1]);
    assert_eq!(index.row(positions[2]).name, name(2));
    assert!(index.get(positions[1]).is_none());
    assert_eq!(index.insert(row(&segment, 9, true)), positions[1]);
    assert_eq!(index.end(), 3);
}
