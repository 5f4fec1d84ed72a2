//! A store for tests: a map with a limit, told to misbehave where a test wants it.

use crate::store::{Failure, Membership, Reached, Store, Stored, Viewer};
use snowskin_protocol::Code;
use snowskin_protocol::wire::stats::CoreStats;
use std::collections::HashMap;
use std::sync::Mutex;

#[derive(Default)]
pub(crate) struct FakeStore {
    /// The most values that are held; puts beyond find no space. 0: no limit.
    pub(crate) values_max: usize,
    /// Flip a bit in every value that is read.
    pub(crate) corrupts: bool,
    /// Leave out the last byte of every value that is read in place.
    pub(crate) shortens: bool,
    /// Say in a match that one more key is held than is.
    pub(crate) overpromises: bool,
    /// Fail every call with this.
    pub(crate) fails: Option<Code>,
    pub(crate) values: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

impl FakeStore {
    fn refusal(&self) -> Option<Failure> {
        self.fails.map(|code| Failure { code, sentence: "told to fail".to_owned() })
    }
}

impl Store for FakeStore {
    fn put(&self, items: &[(&[u8], &[u8])], replace: bool) -> Vec<Result<Stored, Failure>> {
        let mut values = self.values.lock().unwrap();
        let mut put = |key: &[u8], value: &[u8]| {
            if let Some(refusal) = self.refusal() {
                return Err(refusal);
            }
            if values.contains_key(key) && !replace {
                return Ok(Stored::Existed);
            }
            if self.values_max > 0 && values.len() >= self.values_max {
                return Err(Failure { code: Code::NoSpace, sentence: "full".to_owned() });
            }
            values.insert(key.to_vec(), value.to_vec());
            Ok(Stored::New)
        };
        items.iter().map(|(key, value)| put(key, value)).collect()
    }

    fn get_into(&self, reads: &mut [(&[u8], &mut [u8])]) -> Vec<Result<Option<usize>, Failure>> {
        let values = self.values.lock().unwrap();
        let get = |key: &[u8], into: &mut [u8]| match (self.refusal(), values.get(key)) {
            (Some(refusal), _) => Err(refusal),
            (None, None) => Ok(None),
            (None, Some(value)) => {
                into[..value.len()].copy_from_slice(value);
                into[value.len() / 2] ^= u8::from(self.corrupts);
                Ok(Some(value.len()))
            }
        };
        reads.iter_mut().map(|(key, into)| get(key, into)).collect()
    }

    fn views(&self, keys: &[&[u8]], show: &mut Viewer<'_>) {
        let mut values: Vec<Option<Vec<u8>>> = {
            let values = self.values.lock().unwrap();
            keys.iter().map(|key| values.get(*key).cloned()).collect()
        };
        for (place, value) in values.iter_mut().enumerate() {
            if let Some(value) = value {
                let middle = value.len() / 2;
                value[middle] ^= u8::from(self.corrupts);
                value.truncate(value.len() - usize::from(self.shortens));
            }
            show(place, self.refusal().map_or(Ok(value.as_deref()), Err));
        }
    }

    fn lookup(&self, keys: &[&[u8]]) -> Vec<Result<bool, Failure>> {
        let values = self.values.lock().unwrap();
        keys.iter().map(|key| self.refusal().map_or_else(|| Ok(values.contains_key(*key)), Err)).collect()
    }

    fn match_prefix(&self, keys: &[&[u8]]) -> Result<usize, Failure> {
        let values = self.values.lock().unwrap();
        let held = keys.iter().take_while(|key| values.contains_key(**key)).count();
        let promised = if self.overpromises { keys.len().min(held + 1) } else { held };
        self.refusal().map_or(Ok(promised), Err)
    }

    fn stats(&self) -> Result<CoreStats, Failure> {
        let objects = self.values.lock().unwrap().len() as u64;
        self.refusal().map_or(Ok(CoreStats { objects, ..CoreStats::default() }), Err)
    }

    fn members(&self) -> Result<Membership, Failure> {
        Ok(Membership { cores: 1, slots_waiting: 0 })
    }

    fn reached(&self) -> Reached {
        Reached { connections_tcp: 1, ..Reached::default() }
    }
}
