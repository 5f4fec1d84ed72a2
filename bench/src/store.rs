//! What the bench asks of a store, and the one place that calls the client library.
//!
//! Workloads and replays are written against [`Store`], so that they are tested against a store of a few lines
//! that can be told to misbehave.

use serde::Serialize;
use snowskin_client::{BlockingClient, ClientConfig, Error, Found, PutOutcome, Transport, View};
use snowskin_protocol::Code;
use snowskin_protocol::wire::stats::CoreStats;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// How long one call may take before it is an error.
const DEADLINE: Duration = Duration::from_secs(10);

/// A call or a key that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What it is counted as.
    pub(crate) code: Code,
    /// What the client said.
    pub(crate) sentence: String,
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    New,
    Existed,
}

/// Is shown what became of the read of a key in place: which one it is, and its value where it lies, or `None` for a miss.
pub(crate) type Viewer<'a> = dyn FnMut(usize, Result<Option<&[u8]>, Failure>) + 'a;

/// A store that can be measured. Batches answer per key, in order.
pub(crate) trait Store: Send + Sync {
    fn put(&self, items: &[(&[u8], &[u8])], replace: bool) -> Vec<Result<Stored, Failure>>;
    /// The bytes of each value, or `None` for a miss.
    fn get_into(&self, reads: &mut [(&[u8], &mut [u8])]) -> Vec<Result<Option<usize>, Failure>>;
    /// Reads values in place and shows them, each key once and in order, before it lets go of them; they are not copied
    /// where the store can avoid it.
    fn views(&self, keys: &[&[u8]], show: &mut Viewer<'_>);
    fn lookup(&self, keys: &[&[u8]]) -> Vec<Result<bool, Failure>>;
    /// How many leading keys are held.
    fn match_prefix(&self, keys: &[&[u8]]) -> Result<usize, Failure>;
    /// The counters of all cores together.
    fn stats(&self) -> Result<CoreStats, Failure>;
    /// Cores that the routing table names, and whether every slot has a home and is served.
    fn members(&self) -> Result<Membership, Failure>;
    /// How its cores have been reached so far.
    fn reached(&self) -> Reached;
}

/// How far a cluster has come together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) cores: usize,
    pub(crate) slots_waiting: u64,
}

/// How cores have been reached: what was opened, also if it is closed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Reached {
    /// Ways through shared memory without frames.
    pub(crate) lanes: u64,
    /// Connections of frames through shared memory.
    pub(crate) connections_local: u64,
    /// Connections by TCP, those to the master among them.
    pub(crate) connections_tcp: u64,
}

impl Reached {
    /// By all of these together.
    pub(crate) fn by(stores: &[Box<dyn Store>]) -> Self {
        stores.iter().map(|store| store.reached()).fold(Reached::default(), |sum, one| Reached {
            lanes: sum.lanes + one.lanes,
            connections_local: sum.connections_local + one.connections_local,
            connections_tcp: sum.connections_tcp + one.connections_tcp,
        })
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reached { lanes, connections_local, connections_tcp } = self;
        match lanes + connections_local {
            0 => write!(f, "tcp (connections: {connections_tcp}, to the master among them)"),
            _ => write!(
                f,
                "shared memory (lanes: {lanes}, connections: {connections_local}; by tcp {connections_tcp}, to the \
                 master among them)"
            ),
        }
    }
}

/// How to reach a store.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// The master or engines.
    pub(crate) seeds: Vec<SocketAddr>,
    /// How long a caller polls for the answer before it sleeps.
    pub(crate) spin: Duration,
    /// Whether the client compares checksums of what it reads.
    pub(crate) checksums: bool,
    /// How cores are reached.
    pub(crate) transport: Transport,
}

/// Opens one set of connections.
pub(crate) fn connect(reach: &Reach) -> Result<Box<dyn Store>, Failure> {
    let mut config = ClientConfig::new(reach.seeds.iter().copied());
    config.deadline = DEADLINE;
    config.spin = reach.spin;
    config.verify = reach.checksums;
    config.transport = reach.transport;
    Ok(Box::new(BlockingClient::connect(config).map_err(failure)?))
}

impl Store for BlockingClient {
    fn put(&self, items: &[(&[u8], &[u8])], replace: bool) -> Vec<Result<Stored, Failure>> {
        let outcomes = if replace { self.upsert(items) } else { BlockingClient::put(self, items) };
        outcomes.into_iter().map(|outcome| outcome.map(stored).map_err(failure)).collect()
    }

    fn get_into(&self, reads: &mut [(&[u8], &mut [u8])]) -> Vec<Result<Option<usize>, Failure>> {
        BlockingClient::get_into(self, reads)
            .into_iter()
            .map(|read| read.map(held).map_err(failure))
            .collect()
    }

    fn views(&self, keys: &[&[u8]], show: &mut Viewer<'_>) {
        let mut show = |place, found: Result<Found<View>, Error>| match found {
            Ok(found) => show(place, Ok(held(found).as_deref())),
            Err(error) => show(place, Err(failure(error))),
        };
        match keys {
            [key] => show(0, self.view_one(key)),
            _ => self.view(keys).into_iter().enumerate().for_each(|(place, found)| show(place, found)),
        }
    }

    fn lookup(&self, keys: &[&[u8]]) -> Vec<Result<bool, Failure>> {
        let found = BlockingClient::lookup(self, keys);
        found.into_iter().map(|found| found.map(|found| held(found).is_some()).map_err(failure)).collect()
    }

    fn match_prefix(&self, keys: &[&[u8]]) -> Result<usize, Failure> {
        BlockingClient::match_prefix(self, keys).map_err(failure)
    }

    fn stats(&self) -> Result<CoreStats, Failure> {
        let mut sum = CoreStats::default();
        for (_, stats) in BlockingClient::stats(self).map_err(failure)? {
            sum.add(&stats.map_err(failure)?);
        }
        Ok(sum)
    }

    fn members(&self) -> Result<Membership, Failure> {
        let cores = self.table().map_err(failure)?.members.len();
        Ok(Membership { cores, slots_waiting: Store::stats(self)?.slots_awaited })
    }

    fn reached(&self) -> Reached {
        let counters = self.counters();
        Reached {
            lanes: counters.lanes_opened,
            connections_local: counters.connects_local,
            connections_tcp: counters.connects.saturating_sub(counters.connects_local),
        }
    }
}

fn stored(outcome: PutOutcome) -> Stored {
    match outcome {
        PutOutcome::Stored => Stored::New,
        PutOutcome::Existed => Stored::Existed,
    }
}

fn held<T>(found: Found<T>) -> Option<T> {
    match found {
        Found::Hit(what) => Some(what),
        Found::Miss(_) => None,
    }
}

fn failure(error: Error) -> Failure {
    Failure { code: error.code(), sentence: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeStore;

    #[test]
    fn how_cores_were_reached_in_words() {
        let stores: Vec<Box<dyn Store>> =
            vec![Box::new(FakeStore::default()), Box::new(FakeStore::default())];
        let by_tcp = Reached::by(&stores);
        assert_eq!(by_tcp, Reached { connections_tcp: 2, ..Reached::default() });
        assert_eq!(by_tcp.to_string(), "tcp (connections: 2, to the master among them)");
        let by_lanes = Reached { lanes: 12, ..by_tcp };
        assert!(by_lanes.to_string().starts_with("shared memory (lanes: 12,"), "{by_lanes}");
    }
}
