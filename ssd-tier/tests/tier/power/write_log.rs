//! What a disk was told, in order, in the format of dm-log-writes: each record is a block with where, how much and what, and the bytes if there
//! are any. The first block says how many records there are and how large a block is.

use std::rc::Rc;

use crate::paper::{SECTOR, Write};

const MAGIC: u64 = 0x6a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// What the disk was told.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// What was written before is durable.
    Flush,
    /// Sectors, one behind the other.
    Write(Vec<Write>),
    /// Sectors that are zeros or what they were.
    Discard(Vec<Write>),
}

/// All that a disk was told.
pub(crate) fn records(log: &[u8]) -> Vec<Record> {
    let word = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!(word(0), MAGIC, "this is no log of writes");
    let (count, block) = (word(16), word(24) as u32 as usize);
    assert!(SECTOR.is_multiple_of(block), "blocks of {block} bytes");
    let zeros: Rc<[u8]> = [0; SECTOR].into();
    let (mut at, mut records) = (block, Vec::new());
    for _ in 0..count {
        let [first, blocks, flags] = [0, 8, 16].map(|field| word(at + field) as usize);
        at += block;
        let (first, bytes) = (first * block, blocks * block);
        assert!(first.is_multiple_of(SECTOR) && bytes.is_multiple_of(SECTOR), "{bytes} bytes at {first}");
        let places = (first / SECTOR) as u64..;
        if flags as u64 & FLUSH != 0 {
            records.push(Record::Flush);
        }
        if flags as u64 & DISCARD != 0 {
            records.push(Record::Discard(places.zip(vec![zeros.clone(); bytes / SECTOR]).collect()));
        } else if bytes > 0 {
            let sectors = log[at..at + bytes].chunks_exact(SECTOR).map(Rc::from);
            records.push(Record::Write(places.zip(sectors).collect()));
            at += bytes;
        }
    }
    records
}
