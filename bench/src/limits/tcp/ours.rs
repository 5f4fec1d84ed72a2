//! Snowskin in the same shape as the raw exchange: one engine, one core, one connection, one call at a time.

use crate::cluster::Cluster;
use crate::limits::filled::start_cluster;
use crate::limits::slices::{Slice, slice};
use crate::store::{Reach, Store, connect};
use crate::values::Values;
use snowskin_client::Transport;
use std::time::Duration;

/// Enough for the values of all sizes and the ones that replace them.
const MEMORY_BYTES: u64 = 512 << 20;
/// Values that puts replace in turn, so that memory does not fill up and no extent is reused at once.
const PUT_KEYS: usize = 4;
/// Keys that lookups go over.
const LOOKUP_KEYS: usize = 1_024;
/// Keys in one call of the batched lookup.
pub(crate) const LOOKUP_BATCH: usize = 32;

/// A cluster of one core and a connection to it.
pub(crate) struct Ours {
    store: Box<dyn Store>,
    values: Values,
    lookup_keys: Vec<Vec<u8>>,
    put_round: usize,
    into: Vec<u8>,
    _cluster: Option<Cluster>,
}

impl Ours {
    /// Starts the cluster; both sides poll for `spin` before they sleep.
    pub(crate) fn start_cluster(spin: Duration) -> Result<Cluster, String> {
        start_cluster(1, MEMORY_BYTES, spin)
    }

    /// Connects and puts what will be read.
    pub(crate) fn connect(
        cluster: Cluster,
        spin: Duration,
        checksums: bool,
        transport: Transport,
        sizes: &[usize],
    ) -> Result<Self, String> {
        let reach = Reach { seeds: cluster.seeds(), spin, checksums, transport };
        let store = connect(&reach).map_err(|failure| failure.sentence)?;
        Self::over(store, Some(cluster), sizes)
    }

    pub(crate) fn over(
        store: Box<dyn Store>,
        cluster: Option<Cluster>,
        sizes: &[usize],
    ) -> Result<Self, String> {
        let lookup_keys: Vec<Vec<u8>> =
            (0..LOOKUP_KEYS).map(|key| format!("lookup/{key:06}").into_bytes()).collect();
        let largest = sizes.iter().copied().max().unwrap_or(1);
        let ours = Ours {
            store,
            values: Values::new(1),
            lookup_keys,
            put_round: 0,
            into: vec![0; largest],
            _cluster: cluster,
        };
        for &size in sizes {
            let key = get_key(size);
            ours.put_one(&key, &ours.values.make(&key, size), false)?;
        }
        for key in &ours.lookup_keys {
            ours.put_one(key, &ours.values.make(key, 64), false)?;
        }
        Ok(ours)
    }

    /// Reads of one value of `size` bytes into memory of ours. Its bytes are checked after the time is taken.
    pub(crate) fn get(&mut self, size: usize, time: Duration) -> Result<Slice, String> {
        let key = get_key(size);
        let (store, into) = (&self.store, &mut self.into[..size]);
        let measured = slice(time, || match store.get_into(&mut [(&key, &mut *into)]).pop() {
            Some(Ok(Some(length))) if length == size => Ok(()),
            Some(Err(failure)) => Err(failure.sentence),
            other => Err(format!("a value that must be held is not: {other:?}")),
        })?;
        self.values.check(&key, &self.into[..size]).map_err(|wrong| format!("WRONG VALUE: {wrong}"))?;
        Ok(measured)
    }

    /// Puts of one value that replace an earlier one.
    pub(crate) fn put(&mut self, size: usize, time: Duration) -> Result<Slice, String> {
        let items: Vec<(Vec<u8>, Vec<u8>)> = (0..PUT_KEYS)
            .map(|number| {
                let key = format!("put/{size}/{number}").into_bytes();
                let value = self.values.make(&key, size);
                (key, value)
            })
            .collect();
        let mut round = self.put_round;
        let measured = slice(time, || {
            round += 1;
            let (key, value) = &items[round % PUT_KEYS];
            self.put_one(key, value, true)
        });
        self.put_round = round;
        measured
    }

    /// Lookups of `batch` keys a call.
    pub(crate) fn lookup(&mut self, batch: usize, time: Duration) -> Result<Slice, String> {
        let keys: Vec<&[u8]> = self.lookup_keys.iter().map(Vec::as_slice).collect();
        let mut batches = keys.chunks_exact(batch).cycle();
        slice(time, || {
            let keys = batches.next().expect("a cycle does not end");
            let held = self.store.lookup(keys);
            if held.len() == batch && held.iter().all(|outcome| *outcome == Ok(true)) {
                return Ok(());
            }
            Err(format!("keys that must be held are not: {held:?}"))
        })
    }

    fn put_one(&self, key: &[u8], value: &[u8], replace: bool) -> Result<(), String> {
        match self.store.put(&[(key, value)], replace).pop() {
            Some(Ok(_)) => Ok(()),
            Some(Err(failure)) => Err(failure.sentence),
            None => Err("a put without an outcome".to_owned()),
        }
    }
}

fn get_key(size: usize) -> Vec<u8> {
    format!("get/{size}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;

    fn over(fake: FakeStore) -> Result<Ours, String> {
        Ours::over(Box::new(fake), None, &[64, 4_096])
    }

    #[test]
    fn every_measurement_runs() {
        let mut ours = over(FakeStore::default()).unwrap();
        let moment = Duration::from_millis(2);
        assert!(ours.get(64, moment).unwrap().calls_per_s > 0.0);
        assert!(ours.put(4_096, moment).unwrap().calls_per_s > 0.0);
        assert!(ours.lookup(1, moment).unwrap().calls_per_s > 0.0);
        assert!(ours.lookup(LOOKUP_BATCH, moment).unwrap().p50_us > 0.0);
    }

    #[test]
    fn wrong_and_absent_values_are_errors() {
        let error =
            over(FakeStore { corrupts: true, ..FakeStore::default() }).unwrap().get(64, Duration::ZERO);
        assert!(error.expect_err("corrupt").contains("WRONG VALUE"));
        let error = over(FakeStore::default()).unwrap().get(65, Duration::ZERO);
        assert!(error.is_err());
        assert!(over(FakeStore { values_max: 3, ..FakeStore::default() }).is_err());
    }
}
