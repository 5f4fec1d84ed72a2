//! Gets of objects that are on the SSD only, beside fio's random reads of as many bytes.
//!
//! Some threads ask for batches, so that as many reads are under way as fio has. fio reads the very file in which the records
//! are. Ours is what the core counts as read from the SSD, between two moments in which all threads are busy: what came from
//! memory after all does not count.

use super::beside_fio::{BesideFio, Round};
use super::fio::{DEPTH, Fio, Job, Pattern, RAMP};
use super::rig::{Rig, fill, rate, stats};
use crate::limits::filled::Set;
use crate::limits::memcpy::Buffer;
use crate::limits::{LimitsPlan, go_on};
use crate::progress::Progress;
use crate::store::Store;
use serde::Serialize;
use snowskin_protocol::ByteSize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Filled from the last to the first: the largest while memory is in one piece.
const VALUE_BYTES: [usize; 4] = [128 << 10, 1 << 20, 3_274_752, 16 << 20];
const THREADS: usize = 4;
const BATCH: usize = DEPTH / THREADS;
/// Bytes of values of each size: with those of the other sizes, far more than memory.
const SET_BYTES: usize = 1_536 << 20;
/// Room for what is under way of the largest values, twice.
const MEMORY_BYTES: u64 = 1 << 30;
const SSD_BYTES: u64 = 9 << 30;
/// Bytes of the values that push the others out of memory, and of each.
const FILLER_BYTES: usize = 1 << 30;
const FILLER_VALUE_BYTES: usize = 1 << 20;

/// How long an engine took to open a volume.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Mount {
    pub(super) seconds: f64,
    pub(super) gib: f64,
    pub(super) objects: u64,
}

/// An engine whose SSD is full of values.
pub(super) struct Filled {
    rig: Rig,
    sets: Vec<Set>,
}

impl Filled {
    pub(super) fn new(plan: &LimitsPlan) -> Result<Filled, String> {
        let rig = Rig::start(plan, MEMORY_BYTES, SSD_BYTES)?;
        let store = rig.join()?;
        let sets = VALUE_BYTES.map(|bytes| Set::new("read", bytes, SET_BYTES / bytes));
        let filler = Set::new("filler", FILLER_VALUE_BYTES, FILLER_BYTES / FILLER_VALUE_BYTES);
        let mut progress = Progress::new("fill", sets.len() as u64 + 1);
        for (number, set) in sets.iter().rev().chain([&filler]).enumerate() {
            progress.at(number as u64, format!("{} each", ByteSize(set.value_bytes() as u64)));
            fill(store.as_ref(), set)?;
        }
        progress.finish();
        let filled = stats(store.as_ref())?;
        log::debug!("filled: {:?}", filled.named());
        match filled.evicted {
            0 => Ok(Filled { rig, sets: sets.into() }),
            evicted => Err(format!("{evicted} values were evicted on their way to the SSD")),
        }
    }

    pub(super) fn measure(&self, plan: &LimitsPlan, fio: Option<Fio>) -> Result<Vec<BesideFio>, String> {
        let mut stores = Vec::new();
        for _ in 0..THREADS {
            stores.push(self.rig.join()?);
        }
        let mut measured: Vec<Vec<Round>> = vec![Vec::new(); self.sets.len()];
        let next: Vec<AtomicUsize> = self.sets.iter().map(|_| AtomicUsize::new(0)).collect();
        let mut progress = Progress::new("reads", plan.rounds as u64);
        for round in 0..plan.rounds {
            for ((set, measured), next) in self.sets.iter().zip(&mut measured).zip(&next) {
                go_on()?;
                progress.at(round as u64, ByteSize(set.value_bytes() as u64).to_string());
                let volume = self.rig.volume();
                let job = Job {
                    file: &volume,
                    file_bytes: SET_BYTES as u64 * VALUE_BYTES.len() as u64,
                    block_bytes: set.value_bytes(),
                    pattern: Pattern::Reads,
                };
                let fio = fio.map(|fio| {
                    let job = &job;
                    move || fio.bytes_per_s(job, plan.slice)
                });
                measured.push(Round::measure(round, fio, || ours(&stores, set, next, plan.slice))?);
                log::debug!("reads: {:?}", stats(stores[0].as_ref())?.named());
            }
        }
        progress.finish();
        let rows = self.sets.iter().zip(&measured);
        Ok(rows.map(|(set, rounds)| BesideFio::new(set.value_bytes(), rounds)).collect())
    }

    /// Ends the engine and starts it again. Nobody remembers for it whose the values were, so it gives them up afterwards: what it had to find
    /// is what was there before.
    pub(super) fn mount(mut self) -> Result<Mount, String> {
        let before = stats(self.rig.join()?.as_ref())?;
        self.rig.restart()?;
        let after = stats(self.rig.join()?.as_ref())?;
        let used_bytes = before.ssd_capacity_bytes - before.ssd_free_bytes;
        Ok(Mount {
            seconds: after.ssd_open_us as f64 / 1e6,
            gib: used_bytes as f64 / f64::from(1 << 30),
            objects: before.objects_on_ssd,
        })
    }
}

/// All threads at once; each checks the last values that it has read.
fn ours(stores: &[Box<dyn Store>], set: &Set, next: &AtomicUsize, time: Duration) -> Result<f64, String> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let readers: Vec<_> = stores
            .iter()
            .map(|store| scope.spawn(move || read_until(store.as_ref(), set, next, is_over)))
            .collect();
        std::thread::sleep(RAMP);
        let measured = rate(stores[0].as_ref(), time, |stats| stats.ssd_read_bytes);
        is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().map_err(|_| "a reader panicked")??;
        }
        measured
    })
}

fn read_until(store: &dyn Store, set: &Set, next: &AtomicUsize, is_over: &AtomicBool) -> Result<(), String> {
    let mut to = Buffer::new(BATCH * set.value_bytes());
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed) % set.count();
        set.get_batch(store, first, &mut to)?;
        if is_over.load(Ordering::Relaxed) {
            return set.check_batch(first, &to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;

    #[test]
    fn what_is_read_is_checked_by_each_thread() {
        let set = Set::new("read", 1_000, 20);
        let store = FakeStore::default();
        set.put(&store).unwrap();
        let stores: Vec<Box<dyn Store>> = vec![Box::new(store)];
        let next = AtomicUsize::new(15);
        assert_eq!(ours(&stores, &set, &next, Duration::ZERO), Ok(0.0), "a fake has no SSD");
        assert!(next.into_inner() > 15);
        let corrupt = FakeStore { corrupts: true, ..FakeStore::default() };
        set.put(&corrupt).unwrap();
        let wrong = ours(&[Box::new(corrupt)], &set, &AtomicUsize::new(0), Duration::ZERO);
        assert!(wrong.expect_err("corrupt").contains("WRONG VALUE"));
    }
}
