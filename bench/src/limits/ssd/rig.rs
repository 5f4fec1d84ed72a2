//! An engine of one core with an SSD tier, and values that are to be on its SSD.

use crate::cluster::{Cluster, ClusterPlan, SsdPlace};
use crate::limits::filled::Set;
use crate::limits::{LimitsPlan, go_on};
use crate::scratch::Scratch;
use crate::store::{Reach, Store, connect};
use snowskin_protocol::wire::stats::CoreStats;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bytes of a region, as an engine has them by itself.
const REGION_BYTES: u64 = 64 << 20;
/// Of the memory so much in a thousand stays free while values are put: an engine that evicts would not demote them, and one
/// that demotes has always more to do, because it begins to with 80.
const FREE_PERMILLE: u64 = 65;
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// How long nothing may go to the SSD before that is an error.
const STUCK: Duration = Duration::from_secs(20);
/// Bytes of values in a call of put.
const FILL_BYTES_PER_CALL: usize = 8 << 20;
/// Short: what was just read may go at once.
const LEASE_MS: u64 = 1;

/// See the module's head. The files go with it.
pub(super) struct Rig {
    // Ends before its files go.
    cluster: Option<Cluster>,
    plan: ClusterPlan,
    transport: snowskin_client::Transport,
    checksums: bool,
    scratch: Scratch,
}

impl Rig {
    /// Starts it; without an SSD tier if that has no bytes.
    pub(super) fn start(plan: &LimitsPlan, memory_bytes: u64, ssd_bytes: u64) -> Result<Rig, String> {
        let parent = plan.ssd.as_ref().ok_or("no folder for the SSD tier")?;
        let scratch = Scratch::new(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        let ssd = (ssd_bytes > 0).then(|| SsdPlace {
            folder: scratch.path().to_owned(),
            bytes_per_engine: ssd_bytes,
            region_bytes: Some(REGION_BYTES),
            manner: Vec::new(),
        });
        let cluster_plan = ClusterPlan {
            engines: 1,
            cores_per_engine: 1,
            memory_bytes_per_engine: memory_bytes,
            lease_ms: LEASE_MS,
            spin_us: None,
            ssd,
        };
        let (transport, checksums) = (plan.transport, plan.checksums);
        let mut rig = Rig { cluster: None, plan: cluster_plan, transport, checksums, scratch };
        rig.restart()?;
        Ok(rig)
    }

    /// Ends the engine and starts it again, over the same files.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        self.cluster = None;
        self.cluster = Some(Cluster::start(&self.plan).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// A client of its own.
    pub(super) fn join(&self) -> Result<Box<dyn Store>, String> {
        let seeds = self.cluster.as_ref().expect("it runs").seeds();
        let (transport, checksums) = (self.transport, self.checksums);
        connect(&Reach { seeds, spin: Duration::ZERO, checksums, transport })
            .map_err(|failure| failure.sentence)
    }

    /// The file of its core, for fio to read.
    pub(super) fn volume(&self) -> PathBuf {
        self.scratch.path().join("engine-1").join("core-0.snowskin")
    }

    /// Where other files may be.
    pub(super) fn folder(&self) -> &std::path::Path {
        self.scratch.path()
    }
}

/// The counters of the engine.
pub(super) fn stats(store: &dyn Store) -> Result<CoreStats, String> {
    store.stats().map_err(|failure| failure.sentence)
}

/// How fast a counter grows.
pub(super) fn rate(
    store: &dyn Store,
    time: Duration,
    counter: impl Fn(&CoreStats) -> u64,
) -> Result<f64, String> {
    let (begun, before) = (Instant::now(), counter(&stats(store)?));
    std::thread::sleep(time);
    let after = counter(&stats(store)?);
    Ok((after - before) as f64 / begun.elapsed().as_secs_f64())
}

/// Puts a set, in an order that is not that of its names, no faster than it goes to the SSD.
pub(super) fn fill(store: &dyn Store, set: &Set) -> Result<(), String> {
    let at_a_time = (FILL_BYTES_PER_CALL / set.value_bytes()).max(1);
    for numbers in scattered(set.count()).chunks(at_a_time) {
        await_room(store)?;
        set.put_some(store, numbers)?;
    }
    Ok(())
}

/// All numbers below `count`, each far from the one before.
fn scattered(count: usize) -> Vec<usize> {
    let mut step = (count * 5 / 8).max(1);
    while gcd(step, count) != 1 {
        step += 1;
    }
    (0..count).map(|number| number * step % count).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Waits until values can be put without evicting others.
pub(super) fn await_room(store: &dyn Store) -> Result<(), String> {
    let mut since = (Instant::now(), 0);
    loop {
        let stats = stats(store)?;
        if has_room(&stats) {
            return Ok(());
        }
        go_on()?;
        if stats.demoted_bytes != since.1 {
            since = (Instant::now(), stats.demoted_bytes);
        } else if since.0.elapsed() > STUCK {
            return Err(format!("nothing has gone to the SSD for {STUCK:?}"));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

/// Whether there is memory for a call of put.
pub(super) fn has_room(stats: &CoreStats) -> bool {
    stats.free_bytes > stats.capacity_bytes / 1000 * FREE_PERMILLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_numbers_are_all_of_them() {
        for count in [1, 2, 7, 64, 100] {
            let mut numbers = scattered(count);
            assert!(count < 7 || numbers[1] > 1, "{numbers:?}");
            numbers.sort_unstable();
            assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn there_is_room_above_a_part_of_the_memory() {
        let with = |free_bytes| CoreStats { capacity_bytes: 1_000_000, free_bytes, ..CoreStats::default() };
        assert!(has_room(&with(65_001)) && !has_room(&with(65_000)));
    }
}
