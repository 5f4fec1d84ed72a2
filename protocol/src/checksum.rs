//! The checksum of a value: CRC-64/NVME, computed where the bytes enter and carried with every replica.
//!
//! Polynomial 0xad93d23594c93659, reflected, initial value and final XOR all ones: the `CRC-64/NVME` of the
//! catalogue of parametrised CRC algorithms. It finds every burst of up to 64 bits.

use bytemuck::{Pod, Zeroable};
use std::fmt;

/// A CRC-64/NVME.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Checksum(pub u64);

impl Checksum {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Checksum(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes))
    }

    /// The checksum of what the slices hold when put behind each other.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digest = Digest::new();
        parts.into_iter().for_each(|part| digest.update(part));
        digest.checksum()
    }
}

/// A checksum in the making: of bytes that arrive piece by piece, each digested while it is still in the cache.
#[derive(Clone, Debug)]
pub struct Digest(crc_fast::Digest);

impl Digest {
    /// Of no bytes yet.
    pub fn new() -> Self {
        Digest(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme))
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub fn checksum(&self) -> Checksum {
        Checksum(self.0.finalize())
    }
}

impl Default for Digest {
    fn default() -> Self {
        Digest::new()
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    #[test]
    fn the_check_value_of_the_catalogue() {
        assert_eq!(Checksum::of(b"123456789"), Checksum(0xae8b_1486_0a79_9888));
    }

    quickcheck! {
        fn parts_and_whole_agree(bytes: Vec<u8>, cut: usize) -> bool {
            let cut = cut % (bytes.len() + 1);
            Checksum::of_parts([&bytes[..cut], &bytes[cut..]]) == Checksum::of(&bytes)
        }
    }
}
