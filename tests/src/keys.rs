//! The keys of a workload, and the values that belong under them.

use crate::model::{Generation, KeyId, Outcome};
use crate::values::{generation_of, value_of};
use bytes::Bytes;
use snowskin_protocol::{ObjectName, Slot};

/// Generations of one key whose values differ in length.
const LENGTHS: u64 = 1_000;
/// The least length: that of a value that can describe itself.
const BYTES_MIN: u64 = 16;

/// The keys.
#[derive(Debug)]
pub(crate) struct Keys {
    names: Vec<ObjectName>,
    /// No value is longer.
    bytes_max: u64,
}

impl Keys {
    /// Keys of these names, whose values are `bytes_max` long at most.
    pub(crate) fn new(names: impl IntoIterator<Item = ObjectName>, bytes_max: u64) -> Keys {
        Keys { names: names.into_iter().collect(), bytes_max }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.names.len()
    }

    /// The name of a key.
    pub(crate) fn name(&self, key: KeyId) -> &ObjectName {
        &self.names[key]
    }

    /// The slot of a key.
    pub(crate) fn slot(&self, key: KeyId) -> Slot {
        self.names[key].as_ref().slot()
    }

    /// The key with this hash.
    pub(crate) fn with_hash(&self, hash: u64) -> Option<KeyId> {
        self.names.iter().position(|name| name.hash() == hash)
    }

    /// No value is longer.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The length of a generation: of a class that it draws, and different from that of (nearly) all others.
    pub(crate) fn bytes_of(&self, key: KeyId, generation: Generation) -> u64 {
        let drawn = (key as u64).wrapping_mul(0x9e37_79b9).wrapping_add(generation.wrapping_mul(0x85eb_ca6b));
        let class = match drawn >> 7 & 7 {
            0..4 => 0,
            4..6 => self.bytes_max / 16,
            6 => self.bytes_max / 4,
            _ => self.bytes_max - LENGTHS - BYTES_MIN,
        };
        BYTES_MIN + class + generation % LENGTHS
    }

    /// The value of a generation.
    pub(crate) fn value(&self, key: KeyId, generation: Generation) -> Bytes {
        let bytes = self.bytes_of(key, generation) as usize;
        Bytes::from(value_of(self.names[key].as_ref().bytes(), generation, bytes))
    }

    /// What a get says that returned these bytes: a hit, if they are a whole value of this key; else what they are.
    pub(crate) fn read(&self, key: KeyId, value: &[u8]) -> Outcome {
        let of = |key: KeyId| generation_of(self.names[key].as_ref().bytes(), value);
        let other = || (0..self.count()).find_map(|other| of(other).map(|generation| (other, generation)));
        Outcome::Garbage(match of(key) {
            Some(generation) if self.bytes_of(key, generation) == value.len() as u64 => {
                return Outcome::Hit(generation);
            }
            Some(generation) => format!("{} bytes of generation {generation}", value.len()),
            None => match other() {
                Some((other, generation)) => format!("generation {generation} of key {other}"),
                None => format!("{} bytes: {:02x?} …", value.len(), &value[..value.len().min(24)]),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_are_no_value_of_a_key() {
        let name = |number: usize| ObjectName::new("default", format!("key-{number}").as_bytes()).unwrap();
        let keys = Keys::new((0..5).map(name), 40_000);
        let whole = keys.value(3, 7);
        assert_eq!(whole.len() as u64, keys.bytes_of(3, 7));
        assert_eq!(keys.read(3, &whole), Outcome::Hit(7));
        assert_eq!(keys.read(4, &whole), Outcome::Garbage("generation 7 of key 3".into()));
        assert!(matches!(keys.read(3, &whole[..whole.len() - 1]), Outcome::Garbage(_)));
        assert!(matches!(keys.read(3, &[1; 20]), Outcome::Garbage(_)));
    }
}
