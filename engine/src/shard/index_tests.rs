use super::*;
use crate::segment::{Extent, Mapping, Segments, allocated_bytes};
use quickcheck::quickcheck;
use snowskin_protocol::{Checksum, ObjectName};
use std::collections::BTreeMap;

/// Few keys, so that steps meet.
const KEYS: u8 = 16;
const FAR: CoreId = CoreId { engine: snowskin_protocol::EngineId(7), core: 3 };

fn name(number: u8) -> ObjectName {
    ObjectName::new("t", format!("key-{number}").as_bytes()).unwrap()
}

fn segments() -> Segments {
    Segments::of(Mapping::plain(1 << 20).unwrap(), 1)
}

fn insert(index: &mut Index, segments: &mut Segments, key: u8, value_bytes: u64, here: bool) -> Position {
    let version = Version(value_bytes + 1);
    let facts = Facts { version, value_bytes, checksum: Checksum(u64::from(key)), generation: 0 };
    let place = match here {
        true => Place::Here(segments.reserve(value_bytes as usize).unwrap().publish()),
        false => Place::At(CoreId { core: u16::from(key % 3), ..FAR }),
    };
    index.insert(name(key).as_ref().hashed(), facts, place, &PutHints::default())
}

/// A row as the model has it.
#[derive(Clone, Debug, PartialEq)]
struct Listed {
    key: u8,
    position: Position,
    value_bytes: u64,
    is_here: bool,
    /// In milliseconds.
    lease_until: u64,
    generation: u32,
}

/// The index beside a list of its rows.
struct Beside {
    index: Index,
    list: Vec<Listed>,
    segments: Segments,
    /// Extents of removed rows that somebody still reads.
    pins: Vec<(u64, Extent)>,
    rows_max: usize,
}

impl Beside {
    fn new(policy: u8) -> Self {
        let policy = PolicyKind::ALL[usize::from(policy) % PolicyKind::ALL.len()];
        let index = Index::new(policy);
        Beside { index, list: Vec::new(), segments: segments(), pins: Vec::new(), rows_max: 0 }
    }

    fn find(&self, key: u8) -> Option<Position> {
        self.index.find(name(key).as_ref().hashed())
    }

    /// One of the things that verbs do with rows. `kind` chooses, `number` is its argument.
    fn step(&mut self, kind: u8, key: u8, number: u8) {
        let Some(at) = self.list.iter().position(|listed| listed.key == key) else {
            return self.insert(key, !kind.is_multiple_of(4), number);
        };
        let position = self.list[at].position;
        match kind % 7 {
            0 | 1 => self.index.touch(position, name(key).hash()),
            2 => {
                self.index.extend_lease(position, Moment(u64::from(number) * 1_000_000));
                self.list[at].lease_until = self.list[at].lease_until.max(u64::from(number));
            }
            3 => {
                self.index.vouch(position, u32::from(number));
                self.list[at].generation = u32::from(number);
            }
            4 => self.evict(number),
            _ => self.remove(at, Why::Dropped, number.is_multiple_of(2)),
        }
    }

    fn insert(&mut self, key: u8, is_here: bool, number: u8) {
        let value_bytes = u64::from(number) * 16 + 1;
        let position = insert(&mut self.index, &mut self.segments, key, value_bytes, is_here);
        assert!(self.list.iter().all(|other| other.position != position), "two rows at {position}");
        self.list.push(Listed { key, position, value_bytes, is_here, lease_until: 0, generation: 0 });
        self.rows_max = self.rows_max.max(self.list.len());
        assert_eq!(self.index.is_newest(position), is_here);
    }

    /// The policy names somebody who may go, if there is one and it has not to look at too many.
    fn evict(&mut self, number: u8) {
        let protected_until = u64::from(number);
        let may_go = |listed: &Listed| listed.is_here && listed.lease_until <= protected_until;
        let victim =
            self.index.victim(true, |_, row| row.lease_until() <= Moment(protected_until * 1_000_000));
        assert_eq!(victim.is_some(), self.list.iter().any(may_go));
        let Some(victim) = victim else { return };
        let at = self.list.iter().position(|listed| listed.position == victim).unwrap();
        assert!(may_go(&self.list[at]));
        self.remove(at, Why::Evicted, false);
    }

    fn remove(&mut self, at: usize, why: Why, is_read: bool) {
        let listed = self.list.remove(at);
        let place = self.index.place(listed.position);
        if let Place::Here(extent) = place {
            if is_read {
                let pin = self.segments.pin(extent, listed.value_bytes);
                self.pins.push((allocated_bytes(listed.value_bytes), pin));
            }
            self.segments.let_go(extent);
        }
        let gone = self.index.remove(listed.position, why);
        let expected = (name(listed.key).hash(), listed.value_bytes, place);
        assert_eq!((gone.hash, gone.value_bytes, gone.place), expected);
    }

    fn check(&self) {
        self.check_rows();
        let here = |listed: &&Listed| listed.is_here;
        let here_count = self.list.iter().filter(here).count();
        assert_eq!(self.index.here_count(), here_count as u64);
        assert_eq!(self.index.elsewhere_count(), (self.list.len() - here_count) as u64);
        let live: u64 = self.list.iter().filter(here).map(|it| allocated_bytes(it.value_bytes)).sum();
        let pinned: u64 = self.pins.iter().map(|(bytes, _)| bytes).sum();
        let usage = self.segments.usage();
        let kept = usage.capacity_bytes - usage.free_bytes - usage.reserved_bytes - usage.pinned_bytes;
        assert_eq!((self.index.live_bytes(), kept, usage.pinned_bytes), (live, live, pinned));
    }

    /// Every row is found where it was put, as it was put; nothing else is found, by name or by position.
    fn check_rows(&self) {
        let expected: BTreeMap<u8, &Listed> = self.list.iter().map(|listed| (listed.key, listed)).collect();
        for key in 0..KEYS {
            assert_eq!(self.find(key), expected.get(&key).map(|listed| listed.position), "key {key}");
        }
        for listed in &self.list {
            assert_eq!(&as_listed(&self.index, listed.key, listed.position), listed);
        }
        // Positions are used again before there are more of them.
        assert_eq!(self.index.end() as usize, self.rows_max);
        let standing = (0..self.index.end()).filter(|&position| self.index.get(position).is_some());
        assert_eq!(standing.count(), self.list.len());
        assert!(self.index.get(self.index.end()).is_none() && self.index.get(NOWHERE).is_none());
    }
}

fn as_listed(index: &Index, key: u8, position: Position) -> Listed {
    let row = index.row(position);
    assert_eq!(index.name(position), name(key).as_ref());
    assert_eq!((row.version(), row.checksum()), (Version(row.value_bytes() + 1), Checksum(u64::from(key))));
    let is_here = match index.place(position) {
        Place::Here(_) => true,
        Place::OnSsd(record) => panic!("nothing went to {record:?}"),
        Place::At(holder) => holder != CoreId { core: u16::from(key % 3), ..FAR },
    };
    let lease_until = row.lease_until().0 / 1_000_000;
    let (value_bytes, generation) = (row.value_bytes(), row.generation());
    Listed { key, position, value_bytes, is_here, lease_until, generation }
}

quickcheck! {
    fn every_history_agrees_with_a_list(steps: Vec<(u8, u8, u8)>, policy: u8) -> bool {
        let mut beside = Beside::new(policy);
        for (kind, key, number) in steps {
            beside.step(kind, key % KEYS, number);
            beside.check();
        }
        true
    }

    /// What hand-over and removal by pattern rely on: they stop and go on by position while rows come, go and age.
    fn a_slow_walk_sees_once_each_row_that_stays(before: Vec<(u8, u8, u8)>, during: Vec<(u8, u8, u8)>) -> bool {
        let mut beside = Beside::new(0);
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
    let (mut index, mut segments) = (Index::new(PolicyKind::default()), segments());
    let positions: Vec<_> = (0..3).map(|key| insert(&mut index, &mut segments, key, 1, true)).collect();
    index.remove(positions[1], Why::Dropped);
    assert_eq!(index.name(positions[2]), name(2).as_ref());
    assert!(index.get(positions[1]).is_none());
    assert_eq!(insert(&mut index, &mut segments, 9, 1, true), positions[1]);
    assert_eq!(index.end(), 3);
}

/// What a million objects cost beside their keys, as they are counted by the structures themselves.
#[test]
fn a_million_objects_cost_no_more_than_96_bytes_each() {
    const OBJECTS: u32 = 1_000_000;
    let mut index = Index::new(PolicyKind::default());
    for number in 0..OBJECTS {
        let key = format!("model@0@{:064x}", u128::from(number) * 0x9E37_79B9_7F4A_7C15);
        let name = ObjectName::new("default", key.as_bytes()).unwrap();
        let range = crate::segment::RangeId::from_number(number);
        let facts = Facts { version: Version(1), value_bytes: 1, checksum: Checksum(0), generation: 0 };
        let place = Place::Here(crate::segment::ExtentId { segment: 0, range });
        index.insert(name.as_ref().hashed(), facts, place, &PutHints::default());
    }
    let each = index.heap_bytes_beside_names() as f64 / f64::from(OBJECTS);
    println!("{each:.1} bytes an object beside its name");
    assert!(each <= 96.0, "{each:.1} bytes an object");
}
