//! The SSD tier of clusters that a command starts: where it is, and what came of it.

use crate::cluster::SsdPlace;
use crate::scratch::Scratch;
use crate::store::{Failure, Store};
use rustix::fs::{statfs, statvfs};
use serde::Serialize;
use snowskin_protocol::ByteSize;
use snowskin_protocol::wire::stats::CoreStats;
use std::path::Path;

/// What a file system says that keeps its files in memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Of the free space of a file system so many hundredths are left to others.
const LEFT_PERCENT: u64 = 10;

/// The part of a summary that only runs with an SSD tier have. Byte counts are those of the measured part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct SsdSummary {
    pub(crate) capacity_bytes: u64,
    /// Of values that were read from the SSD; of those that several asked for at once, once.
    pub(crate) read_bytes: u64,
    /// Of values that went there, from memory or beside it.
    pub(crate) demoted_bytes: u64,
    /// Of all that was written there.
    pub(crate) written_bytes: u64,
    /// Of records that were written once more.
    pub(crate) reinserted_bytes: u64,
    /// Objects that were evicted because they were not let onto it.
    pub(crate) not_admitted: u64,
    /// Objects whose records could not be read.
    pub(crate) lost: u64,
    /// Written by demoted.
    pub(crate) write_amplification: Option<f64>,
}

impl SsdSummary {
    /// What has come of it between two looks at the counters. `None`: there is no SSD tier.
    pub(crate) fn between(before: &CoreStats, after: &CoreStats) -> Option<Self> {
        let grown = |which: fn(&CoreStats) -> u64| which(after).saturating_sub(which(before));
        let written_bytes = grown(|stats| stats.ssd_written_bytes);
        let demoted_bytes = grown(|stats| stats.demoted_bytes) + grown(|stats| stats.ssd_copied_bytes);
        (after.ssd_capacity_bytes > 0).then(|| SsdSummary {
            capacity_bytes: after.ssd_capacity_bytes,
            read_bytes: grown(|stats| stats.ssd_read_bytes),
            demoted_bytes,
            written_bytes,
            reinserted_bytes: grown(|stats| stats.ssd_reinserted_bytes),
            not_admitted: grown(|stats| stats.ssd_not_admitted) + grown(|stats| stats.ssd_over_budget),
            lost: grown(|stats| stats.ssd_lost),
            write_amplification: (demoted_bytes > 0).then(|| written_bytes as f64 / demoted_bytes as f64),
        })
    }

    /// For people.
    pub(crate) fn line(&self) -> String {
        let amplification = self
            .write_amplification
            .map_or_else(String::new, |times| format!(", {times:.3} × of that written"));
        format!(
            "  SSD of {}: {} read from it; {} of values went there{amplification} ({} once more); {} not admitted, {} lost",
            ByteSize(self.capacity_bytes),
            ByteSize(self.read_bytes),
            ByteSize(self.demoted_bytes),
            ByteSize(self.reinserted_bytes),
            self.not_admitted,
            self.lost
        )
    }
}

/// All counters of the store's cores. The error says what to do.
pub(crate) fn look(stores: &[Box<dyn Store>]) -> Result<CoreStats, Failure> {
    let store = stores.first().expect("there is a client at least");
    store.stats().map_err(|Failure { code, sentence }| Failure {
        code,
        sentence: format!("a core does not tell its counters: {sentence}; snowskin-ctl status shows which"),
    })
}

/// A folder below `parent` for the tiers of so many engines, which goes with its guard; or why there is to be none.
pub(crate) fn temporary(
    parent: &Path,
    engines: usize,
    bytes_per_engine: u64,
    region_bytes: u64,
) -> Result<(Scratch, SsdPlace), String> {
    let is_in_memory = statfs(parent).is_ok_and(|facts| facts.f_type as u64 == TMPFS_MAGIC);
    if is_in_memory {
        return Err(format!("{} is memory", parent.display()));
    }
    let space = statvfs(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize) / 100 * (100 - LEFT_PERCENT);
    let needed_bytes = bytes_per_engine.saturating_mul(engines as u64);
    if needed_bytes > free_bytes {
        let (needed, free) = (ByteSize(needed_bytes), ByteSize(free_bytes));
        return Err(format!("{} has room for {free}, and it would need {needed}", parent.display()));
    }
    let scratch = Scratch::new(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let folder = scratch.path().to_owned();
    Ok((scratch, SsdPlace { folder, bytes_per_engine, region_bytes: Some(region_bytes), manner: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;
    use snowskin_protocol::Code;

    #[test]
    fn what_came_of_it_is_the_difference() {
        let before = CoreStats { ssd_capacity_bytes: 9, ssd_written_bytes: 10, ..CoreStats::default() };
        let after = CoreStats {
            ssd_written_bytes: 32,
            demoted_bytes: 15,
            ssd_copied_bytes: 5,
            ssd_lost: 1,
            ..before
        };
        let summary = SsdSummary::between(&before, &after).unwrap();
        assert_eq!((summary.written_bytes, summary.write_amplification, summary.lost), (22, Some(1.1), 1));
        assert!(summary.line().contains("1.100 × of that written"), "{}", summary.line());
        assert_eq!(SsdSummary::between(&before, &before).unwrap().write_amplification, None);
        assert_eq!(SsdSummary::between(&CoreStats::default(), &CoreStats::default()), None);
    }

    #[test]
    fn who_does_not_tell_its_counters_has_no_zeros() {
        let fails = FakeStore { fails: Some(Code::RpcTimeout), ..FakeStore::default() };
        let failure = look(&[Box::new(fails) as Box<dyn Store>]).expect_err("told to fail");
        assert_eq!(failure.code, Code::RpcTimeout);
        assert!(failure.sentence.contains("told to fail; snowskin-ctl status"), "{}", failure.sentence);
        assert!(look(&[Box::new(FakeStore::default()) as Box<dyn Store>]).is_ok());
    }

    #[test]
    fn a_file_system_that_is_too_small_gets_no_tier() {
        let parent = tempfile::tempdir().unwrap();
        let error = temporary(parent.path(), 2, u64::MAX / 4, 1).expect_err("too large");
        assert!(error.contains("would need") || error.contains("is memory"), "{error}");
    }
}
