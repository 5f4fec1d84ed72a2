//! Who is who: engines, cores, their lives, and the two counters that order what happens.

use bytemuck::{Pod, Zeroable};
use std::fmt;

/// An engine: a hash of its name, so that it is the same after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct EngineId(pub u64);

impl EngineId {
    /// The id of the engine that calls itself `name`.
    pub fn of_name(name: &str) -> Self {
        EngineId(xxhash_rust::xxh3::xxh3_64(name.as_bytes()))
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

/// A core of an engine: the unit of membership, of a connection and of failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId {
    /// The engine it belongs to.
    pub engine: EngineId,
    /// Its number in that engine, from 0.
    pub core: u16,
}

impl CoreId {
    /// A short name, not 0, that two cores of a cluster hardly share.
    pub fn tag(self) -> u32 {
        let mixed = xxhash_rust::xxh3::xxh3_64_with_seed(&self.engine.0.to_le_bytes(), u64::from(self.core));
        (mixed as u32).max(1)
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.engine, self.core)
    }
}

/// One life of an engine process: drawn at random when it starts. What an earlier life held is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Incarnation(pub u64);

/// A core in one of its lives.
pub type Life = (CoreId, Incarnation);

/// The version of the routing table. 0: no table yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The version of an object: tells its bytes from all others that its holder has or had. 0: any version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Version(pub u64);

impl Version {
    /// Where a life of a core begins to count. Versions name the bytes at one holder: two lives of it must not give the
    /// same one to different values, so each begins somewhere else, in the lower half of the numbers.
    pub fn first_of(core: CoreId, incarnation: Incarnation) -> Self {
        let mut bytes = [0; 18];
        bytes[..8].copy_from_slice(&core.engine.0.to_le_bytes());
        bytes[8..10].copy_from_slice(&core.core.to_le_bytes());
        bytes[10..].copy_from_slice(&incarnation.0.to_le_bytes());
        Version(xxhash_rust::xxh3::xxh3_64(&bytes) >> 1)
    }

    /// No version in particular.
    pub const ANY: Version = Version(0);
}
