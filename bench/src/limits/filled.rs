//! A cluster to be measured, and values in it that are known.

use crate::cluster::{Cluster, ClusterPlan};
use crate::store::{Failure, Store};
use crate::values::Values;
use std::time::Duration;

/// The most bytes of values in one call while a store is filled, and the most values.
const PUT_BYTES_PER_CALL: usize = 8 << 20;
const PUT_VALUES_PER_CALL: usize = 256;

/// Starts an engine of so many cores; a core polls for `spin` before it sleeps.
pub(crate) fn start_cluster(cores: usize, memory_bytes: u64, spin: Duration) -> Result<Cluster, String> {
    let plan = ClusterPlan {
        engines: 1,
        cores_per_engine: cores,
        memory_bytes_per_engine: memory_bytes,
        lease_ms: 50,
        spin_us: Some(spin.as_micros() as u64),
        ssd: None,
    };
    Cluster::start(&plan).map_err(|error| error.to_string())
}

/// Values of one size. Reads of them are errors when they are not there.
pub(crate) struct Set {
    value_bytes: usize,
    keys: Vec<Vec<u8>>,
    values: Values,
}

impl Set {
    /// Names for so many; `name` tells them from those of other sets.
    pub(crate) fn new(name: &str, value_bytes: usize, count: usize) -> Self {
        let keys = (0..count).map(|number| format!("{name}/{value_bytes}/{number:06}").into_bytes());
        Set { value_bytes, keys: keys.collect(), values: Values::new(1) }
    }

    pub(crate) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.keys.len()
    }

    /// All keys, in order.
    pub(crate) fn keys(&self) -> Vec<&[u8]> {
        self.keys.iter().map(Vec::as_slice).collect()
    }

    /// Puts all of them.
    pub(crate) fn put(&self, store: &dyn Store) -> Result<(), String> {
        let at_a_time = (PUT_BYTES_PER_CALL / self.value_bytes).clamp(1, PUT_VALUES_PER_CALL);
        let numbers: Vec<usize> = (0..self.keys.len()).collect();
        numbers.chunks(at_a_time).try_for_each(|numbers| self.put_some(store, numbers))
    }

    /// Puts those with these numbers, in one call.
    pub(crate) fn put_some(&self, store: &dyn Store, numbers: &[usize]) -> Result<(), String> {
        let value = |&number: &usize| self.values.make(self.key(number), self.value_bytes);
        let values: Vec<Vec<u8>> = numbers.iter().map(value).collect();
        let pairs = numbers.iter().zip(&values);
        let items: Vec<(&[u8], &[u8])> =
            pairs.map(|(&number, value)| (self.key(number), value.as_slice())).collect();
        let outcomes = store.put(&items, false).into_iter();
        outcomes.map(|outcome| outcome.map_err(|failure| failure.sentence)).try_for_each(|put| put.map(drop))
    }

    /// Reads one value; the count goes on from the last to the first.
    pub(crate) fn get(&self, store: &dyn Store, number: usize, to: &mut [u8]) -> Result<(), String> {
        self.is_whole(store.get_into(&mut [(self.key(number), to)]).pop())
    }

    /// Reads consecutive values in one call, into consecutive places.
    pub(crate) fn get_batch(&self, store: &dyn Store, first: usize, to: &mut [u8]) -> Result<(), String> {
        let keys = (first..).map(|number| self.key(number));
        let places = to.chunks_exact_mut(self.value_bytes);
        let mut reads: Vec<(&[u8], &mut [u8])> = keys.zip(places).collect();
        let outcomes = store.get_into(&mut reads);
        outcomes.into_iter().try_for_each(|outcome| self.is_whole(Some(outcome)))
    }

    /// Reads one value in place.
    pub(crate) fn view(&self, store: &dyn Store, number: usize) -> Result<(), String> {
        // Judged where it is shown: to carry the outcome out of here takes as long as some steps of the get.
        let mut judged = None;
        store.views(&[self.key(number)], &mut |_, view| {
            judged = Some(self.is_whole(Some(view.map(|value| value.map(<[u8]>::len)))));
        });
        judged.unwrap_or_else(|| self.is_whole(None))
    }

    /// Compares each byte of a value that was read.
    pub(crate) fn check(&self, number: usize, value: &[u8]) -> Result<(), String> {
        self.values.check(self.key(number), value).map_err(|wrong| format!("WRONG VALUE: {wrong}"))
    }

    /// Compares each byte of consecutive values.
    pub(crate) fn check_batch(&self, first: usize, values: &[u8]) -> Result<(), String> {
        let mut values = values.chunks_exact(self.value_bytes).enumerate();
        values.try_for_each(|(place, value)| self.check(first + place, value))
    }

    fn key(&self, number: usize) -> &[u8] {
        &self.keys[number % self.keys.len()]
    }

    fn is_whole(&self, outcome: Option<Result<Option<usize>, Failure>>) -> Result<(), String> {
        match outcome {
            Some(Ok(Some(length))) if length == self.value_bytes => Ok(()),
            Some(Err(failure)) => Err(failure.sentence),
            other => Err(format!("a value that must be held is not: {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;

    #[test]
    fn what_was_put_is_read_in_order_and_around_the_end() {
        let (store, set) = (FakeStore::default(), Set::new("test", 100, 3));
        set.put(&store).unwrap();
        let mut to = [0; 200];
        set.get(&store, 4, &mut to[..100]).unwrap();
        set.check(1, &to[..100]).unwrap();
        set.get_batch(&store, 2, &mut to).unwrap();
        set.check_batch(2, &to).unwrap();
        set.view(&store, 5).unwrap();
        assert_eq!(set.keys().len(), 3);
        assert!(set.check_batch(1, &to).expect_err("others").contains("WRONG VALUE"));
    }

    #[test]
    fn what_is_not_there_or_not_put_is_an_error() {
        let set = Set::new("test", 100, 2);
        assert!(set.get(&FakeStore::default(), 0, &mut [0; 100]).is_err());
        assert!(set.view(&FakeStore::default(), 0).is_err());
        assert!(set.put(&FakeStore { values_max: 1, ..FakeStore::default() }).is_err());
    }
}
