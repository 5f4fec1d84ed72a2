//! How long rows wait for their next use: a life table for each class, learnt from a sample of the names.
//!
//! ```text
//!   age, in touches of any row     0 ······ │ 160 │ 192 │ 224 │ 256 ── │ 320 ── │ …     four buckets for each doubling
//!   followed names by age bucket   ▢ ▢ ▢ ▢    ▢ ▢    ▢     ▢ ▢    ▢        ▢         each in order of last touch
//! ```
//!
//! A followed name stands in the queue of its age's bucket. When it grows out of it unused, its class has one more
//! that *stayed* in that bucket; when it is touched, one more that was *reused* there. Reused / (reused + stayed) is
//! the chance of a use in that stretch of age, known also for ages far beyond those at which rows are evicted: names
//! are followed whether held or not. From these chances follows the [`worth`](LifeTable::worth) of going on to hold a
//! row of a class and an age: the most uses per time that any further stay promises (hit density: Beckmann, Chen,
//! Cidon, "LHD", NSDI 2018; with the best stay instead of the mean one: Gittins 1979). Two things are known beforehand
//! and mended where a small sample says otherwise: worth does not grow with age, and rows used more often are worth no
//! less. So a block is never worth less than those behind it in its chain, which are no younger and were used no more.
//!
//! Bounded: at most [`FOLLOWED_MAX`] names (a part of all that are touched in a window of [`WINDOW`] times the number
//! of rows), and a bounded step for each touch.

use super::mixed;
use hashbrown::HashTable;
use std::collections::VecDeque;

/// Classes of rows: see [`super::density`].
pub(super) const CLASSES: usize = 5;
/// Which classes' rows are worth no less than which others'.
const NO_LESS: [(usize, usize); 3] = [(3, 0), (3, 1), (4, 3)];

/// Names that are followed at the same time: some 2 MiB at most.
const FOLLOWED_MAX: usize = 65_536;
/// For how many touches a name is followed, times the number of rows.
const WINDOW: u32 = 16;
const WINDOW_MIN: u32 = 4_096;
/// Names that may grow out of their buckets at one touch.
const GROWN_MAX: usize = 256;

/// The width of the first buckets is a quarter of this.
const AGE_OFFSET: u64 = 64;
const BUCKETS_PER_DOUBLING: usize = 4;
const BUCKETS: usize = 27 * BUCKETS_PER_DOUBLING;

/// Half of the way round, as times go.
const NOT_SOON: u32 = 1 << 31;
/// Touches between two reckonings of worth.
const RECKON_EVERY: u32 = 2_048;
/// Followed touches after which everything counted so far counts half.
const HALVE_EVERY: u32 = 32_768;
/// Before anything is known: the chance of a use in any bucket. It makes all classes equal, and the older worth less:
/// LRU.
const CHANCE_AT_FIRST: f32 = 0.03;
/// So many observations of one's own weigh as much as what is known of all classes together.
const DOUBT: f32 = 20.0;

/// A name that is followed.
#[derive(Clone, Copy, Debug)]
struct Followed {
    tag: u32,
    stamp: u32,
    class: u8,
}

#[derive(Clone, Debug)]
struct Class {
    reused: [f32; BUCKETS],
    stayed: [f32; BUCKETS],
    worth: [f32; BUCKETS],
}

/// The tables of all classes.
#[derive(Debug)]
pub(super) struct LifeTable {
    classes: Vec<Class>,
    names: HashTable<Followed>,
    by_age: Vec<VecDeque<(u32, u32)>>,
    /// When the first name of each grows out of it; of an empty one: not soon.
    due: [u32; BUCKETS],
    /// Names are followed whose tag has zeros in these bits.
    skipped: u32,
    window: u32,
    touches: u32,
    followed_touches: u32,
}

impl LifeTable {
    pub(super) fn new() -> Self {
        let class = Class { reused: [0.0; BUCKETS], stayed: [0.0; BUCKETS], worth: [0.0; BUCKETS] };
        let mut table = LifeTable {
            classes: vec![class; CLASSES],
            names: HashTable::new(),
            by_age: vec![VecDeque::new(); BUCKETS],
            due: [NOT_SOON; BUCKETS],
            skipped: 0,
            window: WINDOW_MIN,
            touches: 0,
            followed_touches: 0,
        };
        table.reckon();
        table
    }

    /// A row was put or used at `now`, and is of this class until its next use; `rows` are held.
    pub(super) fn touched(&mut self, hash: u64, class: u8, now: u32, rows: usize) {
        self.touches = self.touches.wrapping_add(1);
        if self.touches.is_multiple_of(RECKON_EVERY) {
            self.resize(rows);
            self.reckon();
        }
        let tag = tag_of(hash);
        if tag & self.skipped != 0 {
            return;
        }
        self.grow_older(now);
        if let Some(name) = self.names.find_mut(tag.into(), |name| name.tag == tag) {
            let (bucket, _) = bucket_of(now.wrapping_sub(name.stamp));
            self.classes[usize::from(name.class)].reused[bucket] += 1.0;
            (name.stamp, name.class) = (now, class);
        } else if self.names.len() < FOLLOWED_MAX {
            let name = Followed { tag, stamp: now, class };
            self.names.insert_unique(tag.into(), name, |name| name.tag.into());
        } else {
            return;
        }
        self.stand_in(0, tag, now);
        self.followed_touches += 1;
        if self.followed_touches >= HALVE_EVERY {
            self.followed_touches = 0;
            for class in &mut self.classes {
                class.reused.iter_mut().chain(&mut class.stayed).for_each(|count| *count *= 0.5);
            }
        }
    }

    /// A name is gone that nobody will ask for.
    pub(super) fn forget(&mut self, hash: u64) {
        self.drop_name(tag_of(hash));
    }

    /// Uses per touch that a row of this class and age promises, at the best.
    pub(super) fn worth(&self, class: u8, age: u32) -> f32 {
        let (bucket, within) = bucket_of(age);
        let worth = &self.classes[usize::from(class)].worth;
        let next = worth[(bucket + 1).min(BUCKETS - 1)];
        worth[bucket] + (next - worth[bucket]) * within
    }

    /// Bytes of memory.
    pub(super) fn footprint_bytes(&self) -> usize {
        let waiting: usize = self.by_age.iter().map(VecDeque::capacity).sum();
        self.names.capacity() * (size_of::<Followed>() + 1)
            + waiting * size_of::<(u32, u32)>()
            + CLASSES * size_of::<Class>()
    }

    /// Names that have grown out of their bucket go on to the next, or out of sight.
    fn grow_older(&mut self, now: u32) {
        let mut left = GROWN_MAX;
        for bucket in 0..BUCKETS {
            if is_over(self.due[bucket], now) && !self.pass_on(bucket, now, &mut left) {
                return;
            }
        }
    }

    /// A name of this stamp is the last one in its bucket.
    fn stand_in(&mut self, bucket: usize, tag: u32, stamp: u32) {
        if self.by_age[bucket].is_empty() {
            self.due[bucket] = due_at(stamp, bucket);
        }
        self.by_age[bucket].push_back((tag, stamp));
    }

    /// Those that have grown out of a bucket go on; whether all have, so many being `left`.
    fn pass_on(&mut self, bucket: usize, now: u32, left: &mut usize) -> bool {
        let end = AGE_AT[bucket + 1];
        while let Some(&(tag, stamp)) = self.by_age[bucket].front() {
            if now.wrapping_sub(stamp) < end {
                self.due[bucket] = due_at(stamp, bucket);
                return true;
            }
            if *left == 0 {
                return false;
            }
            *left -= 1;
            self.by_age[bucket].pop_front();
            let name = self.names.find(tag.into(), |name| name.tag == tag);
            let Some(name) = name.filter(|name| name.stamp == stamp) else { continue };
            if tag & self.skipped != 0 {
                self.drop_name(tag);
                continue;
            }
            self.classes[usize::from(name.class)].stayed[bucket] += 1.0;
            if end >= self.window || bucket + 1 == BUCKETS {
                self.drop_name(tag);
            } else {
                self.stand_in(bucket + 1, tag, stamp);
            }
        }
        self.due[bucket] = now.wrapping_add(NOT_SOON);
        true
    }

    fn drop_name(&mut self, tag: u32) {
        if let Ok(entry) = self.names.find_entry(tag.into(), |name| name.tag == tag) {
            entry.remove();
        }
    }

    fn resize(&mut self, rows: usize) {
        self.window = u32::try_from(rows).unwrap_or(u32::MAX).saturating_mul(WINDOW).max(WINDOW_MIN);
        let one_in = (self.window as usize).div_ceil(FOLLOWED_MAX).next_power_of_two();
        self.skipped = one_in as u32 - 1;
    }

    /// Works out the worth of all classes and ages from what was counted.
    fn reckon(&mut self) {
        let mut known = [CHANCE_AT_FIRST; BUCKETS];
        for (bucket, known) in known.iter_mut().enumerate() {
            let reused: f32 = self.classes.iter().map(|class| class.reused[bucket]).sum();
            let stayed: f32 = self.classes.iter().map(|class| class.stayed[bucket]).sum();
            *known = (reused + DOUBT * CHANCE_AT_FIRST) / (reused + stayed + DOUBT);
        }
        let (last, _) = bucket_of(self.window);
        for class in &mut self.classes {
            class.reckon(&known, last);
        }
        for (more, less) in NO_LESS {
            for bucket in 0..BUCKETS {
                let least = self.classes[less].worth[bucket];
                let worth = &mut self.classes[more].worth[bucket];
                *worth = worth.max(least);
            }
        }
    }
}

impl Class {
    fn reckon(&mut self, known: &[f32; BUCKETS], last: usize) {
        let mut left = [1.0_f32; BUCKETS + 1];
        for bucket in 0..BUCKETS {
            let (reused, stayed) = (self.reused[bucket], self.stayed[bucket]);
            let chance = (reused + DOUBT * known[bucket]) / (reused + stayed + DOUBT);
            left[bucket + 1] = left[bucket] * (1.0 - chance);
        }
        self.best_stays(&left, last);
        self.smooth(last);
        // Nobody was followed beyond: as if uses became rarer just as the time grows.
        for bucket in last + 1..BUCKETS {
            self.worth[bucket] =
                self.worth[last] * (AGE_AT[last + 1] as f32 / AGE_AT[bucket + 1].max(1) as f32);
        }
    }

    /// For each bucket the best ratio of uses to time over all stays that begin there: stays are joined from the end
    /// backwards, as long as the later one raises the ratio of the earlier.
    fn best_stays(&mut self, left: &[f32; BUCKETS + 1], last: usize) {
        let mut stays = [(0.0_f32, 0.0_f32); BUCKETS];
        let mut count = 0;
        for bucket in (0..=last).rev() {
            let width = (AGE_AT[bucket + 1] - AGE_AT[bucket]) as f32;
            let time = 0.5 * (left[bucket] + left[bucket + 1]) * width;
            let mut stay = (left[bucket] - left[bucket + 1], time.max(f32::MIN_POSITIVE));
            while count > 0 && stay.0 * stays[count - 1].1 <= stays[count - 1].0 * stay.1 {
                count -= 1;
                stay = (stay.0 + stays[count].0, stay.1 + stays[count].1);
            }
            self.worth[bucket] = stay.0 / stay.1;
            stays[count] = stay;
            count += 1;
        }
    }

    /// Makes worth fall with age: where it grows, the buckets are given their mean.
    fn smooth(&mut self, last: usize) {
        let mut runs = [(0.0_f32, 0_usize); BUCKETS];
        let mut count = 0;
        for bucket in 0..=last {
            let mut run = (self.worth[bucket], 1);
            while count > 0 && runs[count - 1].0 / (runs[count - 1].1 as f32) < run.0 / run.1 as f32 {
                count -= 1;
                run = (run.0 + runs[count].0, run.1 + runs[count].1);
            }
            runs[count] = run;
            count += 1;
        }
        let mut from = 0;
        for &(sum, length) in &runs[..count] {
            self.worth[from..from + length].fill(sum / length as f32);
            from += length;
        }
    }
}

/// When a name of this stamp grows out of a bucket; looked for too early where that is half of the way round.
fn due_at(stamp: u32, bucket: usize) -> u32 {
    stamp.wrapping_add(AGE_AT[bucket + 1].min(NOT_SOON - 1))
}

/// Whether the time `due` has come: times go round.
fn is_over(due: u32, now: u32) -> bool {
    now.wrapping_sub(due) < NOT_SOON
}

fn tag_of(hash: u64) -> u32 {
    (mixed(hash) >> 20) as u32
}

/// The bucket of an age, and how far into it.
fn bucket_of(age: u32) -> (usize, f32) {
    let shifted = u64::from(age) + AGE_OFFSET;
    let doubling = shifted.ilog2();
    let quarters = BUCKETS_PER_DOUBLING as u64 * (shifted - (1 << doubling));
    let within = (quarters % (1 << doubling)) as f32 / (1_u64 << doubling) as f32;
    let first = (doubling - AGE_OFFSET.ilog2()) as usize * BUCKETS_PER_DOUBLING;
    ((first + (quarters >> doubling) as usize).min(BUCKETS - 1), within)
}

/// The age at which a bucket begins, and the last one ends.
const AGE_AT: [u32; BUCKETS + 1] = {
    let mut ages = [0; BUCKETS + 1];
    let mut bucket = 0;
    while bucket <= BUCKETS {
        let quarters = (BUCKETS_PER_DOUBLING + bucket % BUCKETS_PER_DOUBLING) as u64;
        let age = ((quarters * AGE_OFFSET) << (bucket / BUCKETS_PER_DOUBLING)) / BUCKETS_PER_DOUBLING as u64
            - AGE_OFFSET;
        ages[bucket] = if age > u32::MAX as u64 { u32::MAX } else { age as u32 };
        bucket += 1;
    }
    ages
};
