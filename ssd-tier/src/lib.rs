//! The SSD tier's public types. The tier itself (format, writer, reader, reclaim, recovery, backends) comes with its
//! own change; what is here is what its callers will hold, so that engine and tools can be written against it.
//!
//! The tier knows nothing of sockets, slots or the master: it stores records under names and gives them back whole.

use snowskin_protocol::{Checksum, Version};

/// Bytes of a region unless told otherwise: the unit of writing in order and of reclaim.
pub const REGION_BYTES_DEFAULT: u64 = 64 << 20;

/// Records begin at multiples of this many bytes, the sector that every device can write whole.
pub const RECORD_ALIGNMENT: u64 = 4096;

/// Where a record lies: enough to read it with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordAddress {
    /// Which region, counted from the beginning of the volume.
    pub region: u32,
    /// Where in the region, in bytes; a multiple of [`RECORD_ALIGNMENT`].
    pub offset: u32,
}

/// What is known of a record without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordInfo {
    /// Where it lies.
    pub address: RecordAddress,
    /// Of the object.
    pub version: Version,
    /// Bytes of the value.
    pub value_bytes: u64,
    /// Of the value.
    pub checksum: Checksum,
}

impl RecordAddress {
    /// The byte of the volume at which the record begins, for regions of `region_bytes`.
    pub fn volume_offset(self, region_bytes: u64) -> u64 {
        u64::from(self.region) * region_bytes + u64::from(self.offset)
    }
}

// A region's offsets must fit the 32 bits of an address.
const _: () = assert!(REGION_BYTES_DEFAULT <= u32::MAX as u64);
const _: () = assert!(REGION_BYTES_DEFAULT.is_multiple_of(RECORD_ALIGNMENT));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_far_back_does_not_overflow() {
        let address = RecordAddress { region: u32::MAX, offset: 4096 };
        assert_eq!(
            address.volume_offset(REGION_BYTES_DEFAULT),
            u64::from(u32::MAX) * REGION_BYTES_DEFAULT + 4096
        );
    }
}
