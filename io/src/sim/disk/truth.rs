//! What can break, by name: how often, how often it has, and where.
//!
//! What each fault does is in the head of `disk.rs`.

use crate::platform::Moment;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskFault {
    /// Sectors cannot be read until they are written again.
    ReadError,
    /// A bit has flipped.
    Rot,
    /// A read returned the bytes of another place.
    MisdirectedRead,
    /// A write landed at another place.
    MisdirectedWrite,
    /// A write was acknowledged and did not happen.
    LostWrite,
    /// A write failed, some sectors written and some not.
    FailedWrite,
    /// A flush failed, and forgot some of what it was for.
    FailedFlush,
    /// An operation took much longer.
    Slow,
    /// Nothing completed for a while.
    Stall,
    /// A write found no room within the quota, or not enough.
    Full,
    /// Nothing worked.
    Breakdown,
    /// Unflushed bytes were lost, or torn, with the power.
    PowerLoss,
}

impl DiskFault {
    /// All of them.
    pub const ALL: [DiskFault; 12] = [
        DiskFault::ReadError,
        DiskFault::Rot,
        DiskFault::MisdirectedRead,
        DiskFault::MisdirectedWrite,
        DiskFault::LostWrite,
        DiskFault::FailedWrite,
        DiskFault::FailedFlush,
        DiskFault::Slow,
        DiskFault::Stall,
        DiskFault::Full,
        DiskFault::Breakdown,
        DiskFault::PowerLoss,
    ];

    /// Whether it comes over single operations, at random or armed. The others have causes of their own.
    pub fn is_of_operations(self) -> bool {
        !matches!(self, DiskFault::Full | DiskFault::Breakdown | DiskFault::PowerLoss)
    }

    /// Its place in a set of faults.
    pub(super) fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// How often operations suffer which fault, in a million of those that can. None does by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaultRates([u32; DiskFault::ALL.len()]);

impl DiskFaultRates {
    /// The same rates with another one for `fault`. Panics if that is none of operations, or above a million.
    pub fn with(mut self, fault: DiskFault, rate_ppm: u32) -> DiskFaultRates {
        assert!(fault.is_of_operations(), "{fault:?} has no rate");
        assert!(rate_ppm <= 1_000_000, "{rate_ppm} in a million");
        self.0[fault as usize] = rate_ppm;
        self
    }

    /// How many of a million operations suffer `fault`.
    pub fn of(&self, fault: DiskFault) -> u32 {
        self.0[fault as usize]
    }

    /// Half of the faults, chosen by `entropy`, each at a rate up to `rate_ppm_max`: different seeds look for
    /// different combinations, and what one fault hides another seed shows.
    pub fn swarm(entropy: u64, rate_ppm_max: u32) -> DiskFaultRates {
        let mut word = entropy;
        DiskFault::ALL.into_iter().filter(|fault| fault.is_of_operations()).fold(
            DiskFaultRates::default(),
            |rates, fault| {
                word = xxhash_rust::xxh3::xxh3_64(&word.to_le_bytes());
                let rate_ppm = (word >> 32) % (u64::from(rate_ppm_max) + 1);
                if word & 1 == 0 { rates } else { rates.with(fault, rate_ppm as u32) }
            },
        )
    }
}

/// How much has happened on one disk. All but `in_flight_max` are sums since the simulation began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Reads that succeeded.
    pub reads: u64,
    /// Reads that returned fewer bytes than asked for.
    pub short_reads: u64,
    /// Bytes that reads returned.
    pub bytes_read: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Writes that took fewer bytes than asked for.
    pub short_writes: u64,
    /// Bytes that were acknowledged.
    pub bytes_written: u64,
    /// Flushes that succeeded.
    pub flushes: u64,
    /// Discards that succeeded.
    pub discards: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Operations whose process died before they were complete.
    pub abandoned: u64,
    /// The most operations that were in flight at once.
    pub in_flight_max: u64,
    /// How often the power was lost.
    pub power_losses: u64,
    /// Faults, by their number.
    pub(super) faults: [u64; DiskFault::ALL.len()],
}

impl DiskCounts {
    /// How often a fault has come, to however many places at once.
    pub fn faults(&self, fault: DiskFault) -> u64 {
        self.faults[fault as usize]
    }
}

/// A fault, as it came to one place. One that comes to several at once is several incidents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    /// When, on the simulation's clock.
    pub at: Moment,
    /// What.
    pub fault: DiskFault,
    /// Where it begins, in bytes; 0 if it concerned no place.
    pub offset: u64,
    /// How long the place is; 0 if it concerned none.
    pub bytes: u64,
}

/// A range whose present content is not what its writers were promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// Why.
    pub fault: DiskFault,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_numbered_in_their_order_and_swarms_differ() {
        assert!(DiskFault::ALL.into_iter().enumerate().all(|(number, fault)| fault as usize == number));
        let swarms: Vec<DiskFaultRates> = (0..100).map(|seed| DiskFaultRates::swarm(seed, 1_000)).collect();
        for fault in DiskFault::ALL {
            let with = swarms.iter().filter(|rates| rates.of(fault) > 0).count();
            assert_eq!((25..75).contains(&with), fault.is_of_operations(), "{fault:?} in {with} of 100");
        }
        assert!(swarms.iter().all(|rates| rates.0.iter().all(|rate_ppm| *rate_ppm <= 1_000)));
    }
}
