//! Outcomes in words and numbers. The numbers are those of Mooncake Store's Python module, because callers
//! compare them; the words are ours.

/// Why a key has no bytes to give. Always true when said; when the store no longer knows, it says [`MissReason::NotHeld`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MissReason {
    /// The store holds nothing under this key and does not remember having held anything.
    NotHeld = 1,
    /// It was held and had to make room.
    Evicted = 2,
    /// It was held and somebody removed it.
    Removed = 3,
    /// The core that held the key's entry or its bytes was lost; what it held is gone.
    OwnerLost = 4,
    /// Its bytes no longer matched their checksum and were dropped.
    Corrupt = 5,
}

impl MissReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [MissReason; 5] = [
        MissReason::NotHeld,
        MissReason::Evicted,
        MissReason::Removed,
        MissReason::OwnerLost,
        MissReason::Corrupt,
    ];

    /// The reason with this number on the wire.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// A few words for people.
    pub fn words(self) -> &'static str {
        match self {
            MissReason::NotHeld => "not held",
            MissReason::Evicted => "evicted",
            MissReason::Removed => "removed",
            MissReason::OwnerLost => "owner lost",
            MissReason::Corrupt => "corrupt and dropped",
        }
    }
}

/// The numbers that callers of Mooncake Store's API compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// Something that should not happen did.
    Internal = -1,
    /// The caller's buffer is smaller than the value.
    BufferOverflow = -10,
    /// No memory for the value, even after eviction.
    NoSpace = -200,
    /// The key is empty, too long or contains NUL.
    InvalidKey = -400,
    /// An argument is out of range, or the store is not set up.
    InvalidParameters = -600,
    /// Not held.
    ObjectNotFound = -704,
    /// Held already.
    ObjectExists = -705,
    /// Protected by a lease.
    ObjectHasLease = -706,
    /// The connection broke while bytes were moving.
    TransferFailed = -800,
    /// The bytes do not match their checksum.
    ChecksumMismatch = -801,
    /// The peer refused, or could not be reached.
    RpcFailed = -900,
    /// No answer within the deadline.
    RpcTimeout = -901,
    /// Not now: the cluster is changing, or a limit is reached. Try again.
    UnavailableNow = -1010,
}

impl Code {
    /// The number.
    pub fn number(self) -> i32 {
        self as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_survive_the_wire() {
        for reason in MissReason::ALL {
            assert_eq!(MissReason::from_wire(reason as u8), Some(reason));
        }
        assert_eq!(MissReason::from_wire(0), None);
        assert_eq!(MissReason::from_wire(6), None);
    }
}
