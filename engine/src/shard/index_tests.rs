use super::*;
use crate::segment::Segment;
use quickcheck::quickcheck;

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

/// The index beside a list of (key, here), oldest first.
fn agrees_with_a_list(steps: Vec<(u8, u8)>) -> bool {
    let segment = Segment::map(1 << 20, false).unwrap();
    let mut index = Index::new();
    let mut list: Vec<(u8, bool)> = Vec::new();
    for (action, key) in steps {
        let key = key % 32;
        let known = name(key);
        let found = index.find(known.as_ref(), known.hash());
        let listed = list.iter().position(|(listed, _)| *listed == key);
        if found.is_some() != listed.is_some() {
            return false;
        }
        match (found, listed) {
            (None, None) => {
                let here = action % 4 != 0;
                index.insert(row(&segment, key, here));
                list.push((key, here));
            }
            (Some(position), Some(at)) if action % 2 == 0 => {
                index.touch(position);
                if list[at].1 {
                    let touched = list.remove(at);
                    list.push(touched);
                }
            }
            (Some(position), Some(at)) => {
                index.remove(position);
                list.remove(at);
            }
            _ => return false,
        }
        let here: Vec<ObjectName> =
            list.iter().filter(|(_, here)| *here).map(|(key, _)| name(*key)).collect();
        let order: Vec<ObjectName> = index.oldest_first().map(|at| index.row(at).name.clone()).collect();
        let allocated = segment.usage().published_bytes();
        if order != here || index.here_count() != here.len() as u64 || index.live_bytes() != allocated {
            return false;
        }
        if index.elsewhere_count() != (list.len() - here.len()) as u64 {
            return false;
        }
    }
    true
}

quickcheck! {
    fn every_history_agrees_with_a_list(steps: Vec<(u8, u8)>) -> bool {
        agrees_with_a_list(steps)
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
