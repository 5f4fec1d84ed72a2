//! The keys of a workload, and the values that belong under them.

use crate::model::{Generation, KeyId};
use crate::values::{generation_of, value_of};
use bytes::Bytes;
use snowskin_protocol::{ObjectName, Slot};

/// Tenants that use the same keys.
pub(super) const TENANTS: [&str; 2] = ["default", "other"];
/// Generations of one key whose values differ in length.
const LENGTHS: u64 = 1_000;
/// The least length: that of a value that can describe itself.
const BYTES_MIN: u64 = 16;

/// The keys.
#[derive(Debug)]
pub(super) struct Keys {
    names: Vec<ObjectName>,
    /// No value is longer.
    bytes_max: u64,
}

impl Keys {
    /// Keys of both tenants, in turn. The first two are as long as a key may be.
    pub(super) fn new(count: usize, bytes_max: u64) -> Keys {
        let name = |number: usize| {
            let key = match number / TENANTS.len() {
                0 => "k".repeat(4_000),
                number => format!("key-{number}"),
            };
            ObjectName::new(TENANTS[number % TENANTS.len()], key.as_bytes()).expect("a good name")
        };
        Keys { names: (0..count).map(name).collect(), bytes_max }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// The name of a key.
    pub(super) fn name(&self, key: KeyId) -> &ObjectName {
        &self.names[key]
    }

    /// The keys of a tenant.
    pub(super) fn of_tenant(&self, tenant: usize) -> impl Iterator<Item = KeyId> + use<> {
        (0..self.count()).skip(tenant).step_by(TENANTS.len())
    }

    /// The slot of a key.
    pub(super) fn slot(&self, key: KeyId) -> Slot {
        self.names[key].as_ref().slot()
    }

    /// The key with this hash.
    pub(super) fn with_hash(&self, hash: u64) -> Option<KeyId> {
        self.names.iter().position(|name| name.hash() == hash)
    }

    /// No value is longer.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// The length of a generation: of a class that it draws, and different from that of (nearly) all others.
    pub(super) fn bytes_of(&self, key: KeyId, generation: Generation) -> u64 {
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
    pub(super) fn value(&self, key: KeyId, generation: Generation) -> Bytes {
        let bytes = self.bytes_of(key, generation) as usize;
        Bytes::from(value_of(self.names[key].as_ref().bytes(), generation, bytes))
    }

    /// The generation of a value, if it is a whole value of this key; else what is wrong.
    pub(super) fn generation(&self, key: KeyId, value: &[u8]) -> Result<Generation, String> {
        let of = |key: KeyId| generation_of(self.names[key].as_ref().bytes(), value);
        match of(key) {
            Some(generation) if self.bytes_of(key, generation) == value.len() as u64 => Ok(generation),
            Some(generation) => Err(format!("{} bytes of generation {generation}", value.len())),
            None => match (0..self.count()).find_map(|other| of(other).map(|generation| (other, generation)))
            {
                Some((other, generation)) => Err(format!("generation {generation} of key {other}")),
                None => Err(format!("{} bytes: {:02x?} …", value.len(), &value[..value.len().min(24)])),
            },
        }
    }
}
