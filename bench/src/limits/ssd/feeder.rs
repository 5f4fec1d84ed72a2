//! Puts that never end, of values of 1 MiB under ever new names.

use super::rig::{await_room, stats};
use crate::store::{Failure, Store, Stored};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(super) const VALUE_BYTES: usize = 1 << 20;
/// Values in a call.
const BATCH: usize = 8;

/// How fast to put.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As fast as values go to the SSD: there is always more to go.
    Demotion,
    /// So many bytes a second.
    BytesPerS(f64),
}

/// See the module's head.
pub(super) struct Feeder {
    value: Vec<u8>,
    next: u64,
}

impl Feeder {
    pub(super) fn new() -> Self {
        // Not zero, lest anybody finds a shorter way for zeros.
        Feeder { value: vec![7; VALUE_BYTES], next: 0 }
    }

    /// Puts until so many bytes were put.
    pub(super) fn put_bytes(&mut self, store: &dyn Store, bytes: u64) -> Result<(), String> {
        for _ in 0..bytes.div_ceil((BATCH * VALUE_BYTES) as u64) {
            await_room(store)?;
            self.put(store)?;
        }
        Ok(())
    }

    /// Puts until it is over.
    pub(super) fn put_until(
        &mut self,
        store: &dyn Store,
        pace: Pace,
        is_over: &AtomicBool,
    ) -> Result<(), String> {
        let (begun, mut calls) = (Instant::now(), 0u32);
        while !is_over.load(Ordering::Relaxed) {
            match pace {
                Pace::Demotion => await_room(store)?,
                Pace::BytesPerS(rate) => {
                    let due = Duration::from_secs_f64(f64::from(calls) * (BATCH * VALUE_BYTES) as f64 / rate);
                    std::thread::sleep(due.saturating_sub(begun.elapsed()));
                }
            }
            self.put(store)?;
            calls += 1;
        }
        Ok(())
    }

    /// Bytes of values so far.
    pub(super) fn fed_bytes(&self) -> u64 {
        self.next * VALUE_BYTES as u64
    }

    /// One call.
    pub(super) fn put(&mut self, store: &dyn Store) -> Result<(), String> {
        let names: Vec<Vec<u8>> =
            (self.next..).take(BATCH).map(|number| format!("feed/{number:010}").into_bytes()).collect();
        self.next += BATCH as u64;
        let items: Vec<(&[u8], &[u8])> =
            names.iter().map(|name| (name.as_slice(), &self.value[..])).collect();
        let outcomes: Result<Vec<Stored>, Failure> = store.put(&items, false).into_iter().collect();
        outcomes.map(drop).map_err(|failure| failure.sentence)
    }
}

/// Does something while values are put in a thread of its own.
pub(super) fn while_feeding<T>(
    (store, feeder, pace): (&dyn Store, &mut Feeder, Pace),
    work: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feeder.put_until(store, pace, &is_over));
        let outcome = work();
        is_over.store(true, Ordering::Relaxed);
        feeding.join().map_err(|_| "the thread that puts panicked")??;
        outcome
    })
}

/// Writes the whole volume once, so that no block of the file is new, and reclaim works.
pub(super) fn wrap_around(store: &dyn Store, feeder: &mut Feeder) -> Result<(), String> {
    let stats = stats(store)?;
    feeder.put_bytes(store, stats.capacity_bytes + stats.ssd_capacity_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;
    use snowskin_protocol::Code;

    #[test]
    fn names_are_new_and_the_pace_is_kept() {
        let (store, mut feeder) = (FakeStore::default(), Feeder::new());
        let rate = 10.0 * (BATCH * VALUE_BYTES) as f64;
        while_feeding((&store, &mut feeder, Pace::BytesPerS(rate)), || {
            std::thread::sleep(Duration::from_millis(250));
            Ok(())
        })
        .unwrap();
        let put = store.values.lock().unwrap().len();
        assert!((BATCH..=4 * BATCH).contains(&put) && put == feeder.next as usize, "{put}");
    }

    #[test]
    fn a_failing_store_is_told() {
        let store = FakeStore { fails: Some(Code::RpcTimeout), ..FakeStore::default() };
        let mut feeder = Feeder::new();
        let failed = while_feeding((&store, &mut feeder, Pace::BytesPerS(1.0)), || {
            std::thread::sleep(Duration::from_millis(50));
            Ok(())
        });
        assert!(failed.is_err());
        assert!(Feeder::new().put_bytes(&store, 1).is_err());
    }
}
