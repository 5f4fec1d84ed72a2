//! The table beside a list; and, when asked for, what it costs.

use super::*;
use quickcheck::quickcheck;
use std::hint::black_box;
use std::time::Instant;

fn hash_of(part: u64, tag: u32) -> u64 {
    part << PART_SHIFT | u64::from(tag)
}

/// Recounts everything that a part keeps.
fn assert_sound(part: &Part) {
    let count = part.buckets.len();
    let mut passed = vec![0; count];
    let mut len = 0;
    for (at, bucket) in part.buckets.iter().enumerate() {
        for &tag in bucket.tags() {
            let mut before = home(tag, count);
            while before != at {
                passed[before] += 1;
                before = next(before, count);
            }
            len += 1;
        }
    }
    assert_eq!(part.len, len);
    assert!(len * LOAD_MAX.1 <= count * WAYS * LOAD_MAX.0, "{len} entries in {count} buckets");
    for (bucket, passed) in part.buckets.iter().zip(passed) {
        assert_eq!(bucket.passed, passed);
        assert!(bucket.is_full() || passed == 0, "passed a bucket with room");
    }
}

/// The table and the same entries in a list.
struct Beside {
    table: Table,
    entries: Vec<(u64, u32)>,
    next_position: u32,
}

impl Beside {
    fn new() -> Self {
        Beside { table: Table::new(), entries: Vec::new(), next_position: 0 }
    }

    fn insert(&mut self, hash: u64) {
        self.table.insert(hash, self.next_position);
        self.entries.push((hash, self.next_position));
        self.next_position += 1;
    }

    fn remove(&mut self, chance: usize) {
        let (hash, position) = self.entries.swap_remove(chance % self.entries.len());
        assert!(self.table.remove(hash, position));
        assert!(!self.table.remove(hash, position));
        assert_eq!(self.table.find(hash, |found| found == position), None);
    }

    fn assert_equal(&self) {
        assert_eq!(self.table.len(), self.entries.len());
        for &(hash, position) in &self.entries {
            assert_eq!(self.table.find(hash, |found| found == position), Some(position));
        }
        // Asked about are all that have part and tag in common, whatever their slot, and no other.
        for &(hash, _) in self.entries.iter().take(5) {
            let mut asked = Vec::new();
            assert_eq!(self.table.find(hash, |found| (asked.push(found), false).1), None);
            assert!(self.table.first_position(hash).is_none_or(|first| first == asked[0]));
            let same = self.entries.iter().filter(|(other, _)| (other ^ hash) << 16 == 0);
            let mut same: Vec<u32> = same.map(|(_, position)| *position).collect();
            asked.sort_unstable();
            same.sort_unstable();
            assert_eq!(asked, same);
        }
        self.table.parts.iter().filter(|part| !part.buckets.is_empty()).for_each(assert_sound);
    }
}

/// Few parts, and few tags: equal ones, neighbours, those of the last bucket, which runs over into the first.
fn crowded(kind: u8, number: u16) -> u64 {
    let number = u32::from(number);
    let tag = match kind % 8 {
        0 => 0,
        1 => u32::MAX,
        2 => u32::MAX - number % 4,
        3 => number % 4,
        4 => 1 << 31,
        5 => number % 8 * (u32::MAX / 8),
        _ => number << 16,
    };
    let part = if kind & 8 == 0 { 0 } else { (1 << PART_BITS) - 1 };
    hash_of(part, tag) | u64::from(kind) << 48
}

quickcheck! {
    fn it_agrees_with_a_list(steps: Vec<(u8, u16)>, rounds: u8, few: bool) -> bool {
        let mut both = Beside::new();
        for round in 0..u16::from(rounds % 16) + 1 {
            for &(kind, number) in &steps {
                // One in four takes out, and in every fourth round three in four do.
                let takes_out = (number ^ round) % 4 < if round % 4 == 3 { 3 } else { 1 };
                if takes_out && !both.entries.is_empty() {
                    both.remove(usize::from(number) * 31 + usize::from(round));
                } else {
                    both.insert(crowded(if few { kind & 0xc1 } else { kind }, number.wrapping_mul(round | 1)));
                }
            }
            both.assert_equal();
        }
        // Out in any order; nothing is left behind.
        for step in 0..both.entries.len() {
            both.remove(step * 7919);
            if step % 16 == 0 {
                both.assert_equal();
            }
        }
        both.assert_equal();
        both.table.parts.iter().flat_map(|part| &part.buckets).all(|bucket| bucket.held + bucket.passed == 0)
    }
}

#[test]
fn an_empty_table_answers() {
    let mut table = Table::new();
    assert_eq!((table.find(7, |_| true), table.first_position(7), table.len()), (None, None, 0));
    assert!(!table.remove(7, 7));
    table.prefetch(7);
    assert_eq!(table.lines_for(7), 0);
    assert!(table.heap_bytes() <= 64 << 10, "{}", table.heap_bytes());
    table.insert(7, 70);
    assert_eq!((table.find(7, |_| true), table.first_position(7)), (Some(70), Some(70)));
    assert_eq!((table.find(8, |_| true), table.lines_for(8)), (None, 1));
    assert_eq!(format!("{table:?}"), "Table { len: 1, .. }");
}

#[test]
fn equal_hashes_run_over() {
    let mut both = Beside::new();
    (0..1_000).for_each(|_| both.insert(hash_of(3, u32::MAX)));
    both.assert_equal();
    assert!(both.table.lines_for(hash_of(3, u32::MAX)) > 1_000 / WAYS);
    (0..993).for_each(|step| both.remove(step * 7919));
    both.assert_equal();
    assert_eq!(both.table.lines_for(hash_of(3, u32::MAX)), 1, "what passed came back");
}

/// Numbers without order, the same in every run.
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 31).wrapping_mul(0x7fb5_d329_728e_a185);
    let number = (number ^ number >> 27).wrapping_mul(0x81da_def4_bc2d_d44d);
    number ^ number >> 33
}

fn share_of_one_line(table: &Table) -> f64 {
    let asked = 100_000;
    let ones = (0..asked).filter(|&number| table.lines_for(mixed(number + (1 << 40))) == 1).count();
    ones as f64 / asked as f64
}

#[test]
fn it_is_dense_and_stays_so() {
    let count = 300_000;
    let mut table = Table::new();
    let mut at_home = 0;
    for number in 0..count {
        table.insert(mixed(number), number as u32);
        at_home += usize::from(table.first_position(mixed(number)) == Some(number as u32));
    }
    let bytes = table.heap_bytes() as f64 / count as f64;
    assert!((12.0..16.0).contains(&bytes), "{bytes} bytes an entry");
    let fresh = share_of_one_line(&table);
    assert!(fresh > 0.8 && at_home > 220_000, "{fresh} of absent names need one line, {at_home} came home");
    // Five times as many come and go.
    for number in count..6 * count {
        assert!(table.remove(mixed(number - count), (number - count) as u32));
        table.insert(mixed(number), number as u32);
    }
    let aged = share_of_one_line(&table);
    assert!(aged > fresh - 0.03, "{aged} of absent names need one line, {fresh} when it was fresh");
    table.parts.iter().for_each(assert_sound);
}

// -- figures: `cargo test --release -p snowskin-engine table -- --ignored --nocapture --test-threads 1` --

const BATCH: usize = 32;

/// Nanoseconds a search, each name alone or in batches that are asked for first: the median of many rounds, so that
/// it matters little what else the machine does.
fn search_ns(table: &Table, number: impl Fn(u64) -> u64, in_batches: bool) -> f64 {
    let mut rounds: Vec<f64> = (0..200_u64)
        .map(|round| {
            let numbers = (0..32 * 400).map(|step| number(mixed(round << 32 | step)));
            let hashes: Vec<u64> = numbers.map(mixed).collect();
            let start = Instant::now();
            for batch in hashes.chunks(BATCH) {
                if in_batches {
                    batch.iter().for_each(|&hash| table.prefetch(hash));
                }
                for &hash in batch {
                    black_box(table.find(hash, |_| true));
                }
            }
            start.elapsed().as_nanos() as f64 / hashes.len() as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// Microseconds for the growth of a part: for each the best of five, of all the greatest.
fn growth_us_max(table: &Table) -> f64 {
    let once = |part: &Part| {
        let mut part = part.clone();
        let start = Instant::now();
        part.grow();
        start.elapsed().as_nanos() as f64 / 1e3
    };
    let best = |part| (0..5).map(|_| once(part)).fold(f64::MAX, f64::min);
    table.parts.iter().map(best).fold(0.0, f64::max)
}

fn print_figures(table: &Table, count: u64) {
    let bytes = table.heap_bytes() as f64 / count as f64;
    let lines: usize = (0..1_000_000).map(|number| table.lines_for(mixed(number + (1 << 40)))).sum();
    println!("{count} entries: {bytes:.2} bytes an entry");
    println!("  absent: one line {:.4}, mean {:.3}", share_of_one_line(table), lines as f64 / 1e6);
    let is_first = |&number: &u64| table.first_position(mixed(number)) == Some(number as u32);
    let firsts = (0..100_000).map(|step| mixed(step) % count).filter(is_first).count();
    println!("  present: at home {:.4}", firsts as f64 / 1e5);
    println!("  growth of a part: {:.1} us at most", growth_us_max(table));
    for in_batches in [false, true] {
        let present = search_ns(table, |number| number % count, in_batches);
        let absent = search_ns(table, |number| number | 1 << 40, in_batches);
        println!("  batches: {in_batches}: present {present:.1} ns, absent {absent:.1} ns");
    }
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    let mut table = Table::new();
    let (mut densest, mut widest) = (f64::MAX, 0.0_f64);
    for thousand in 0..10_000 {
        for number in thousand * 1_000..(thousand + 1) * 1_000 {
            table.insert(mixed(number), number as u32);
        }
        let count = (thousand + 1) * 1_000;
        if count >= 1_000_000 {
            let bytes = table.heap_bytes() as f64 / count as f64;
            (densest, widest) = (densest.min(bytes), widest.max(bytes));
        }
        if count == 1_000_000 || count == 10_000_000 {
            print_figures(&table, count);
        }
    }
    println!("bytes an entry from 1 to 10 million: {densest:.2} to {widest:.2}");
    let start = Instant::now();
    for number in 10_000_000..20_000_000 {
        assert!(table.remove(mixed(number - 10_000_000), (number - 10_000_000) as u32));
        table.insert(mixed(number), number as u32);
    }
    println!("a removal and an insertion: {} ns", start.elapsed().as_nanos() / 10_000_000);
    println!("after that, absent: one line {:.4}", share_of_one_line(&table));
    let start = Instant::now();
    let mut table = Table::new();
    (0..10_000_000).for_each(|number| table.insert(mixed(number), number as u32));
    println!("an insertion, from nothing to 10 million: {} ns", start.elapsed().as_nanos() / 10_000_000);
}
