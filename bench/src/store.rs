//! What the bench asks of a store, and the one place that calls the client library.
//!
//! Workloads and replays are written against [`Store`], so that they are tested against a store of a few lines
//! that can be told to misbehave.

use snowskin_client::{BlockingClient, ClientConfig, Error, Found, PutOutcome, Transport};
use snowskin_protocol::Code;
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

/// A store that can be measured. Batches answer per key, in order.
pub(crate) trait Store: Send + Sync {
    fn put(&self, items: &[(&[u8], &[u8])], replace: bool) -> Vec<Result<Stored, Failure>>;
    /// The bytes of each value, or `None` for a miss.
    fn get_into(&self, reads: &mut [(&[u8], &mut [u8])]) -> Vec<Result<Option<usize>, Failure>>;
    /// Reads one value in place and says how long it is; the value is not copied where the store can avoid it.
    fn view(&self, key: &[u8]) -> Result<Option<usize>, Failure>;
    fn lookup(&self, keys: &[&[u8]]) -> Vec<Result<bool, Failure>>;
    /// How many leading keys are held.
    fn match_prefix(&self, keys: &[&[u8]]) -> Result<usize, Failure>;
    /// Cores that the routing table names, and whether every slot has a home and is served.
    fn members(&self) -> Result<Membership, Failure>;
}

/// How far a cluster has come together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) cores: usize,
    pub(crate) slots_waiting: u64,
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

    fn view(&self, key: &[u8]) -> Result<Option<usize>, Failure> {
        let found = self.view_one(key);
        found.map(|found| held(found).map(|view| view.len())).map_err(failure)
    }

    fn lookup(&self, keys: &[&[u8]]) -> Vec<Result<bool, Failure>> {
        let found = BlockingClient::lookup(self, keys);
        found.into_iter().map(|found| found.map(|found| held(found).is_some()).map_err(failure)).collect()
    }

    fn match_prefix(&self, keys: &[&[u8]]) -> Result<usize, Failure> {
        BlockingClient::match_prefix(self, keys).map_err(failure)
    }

    fn members(&self) -> Result<Membership, Failure> {
        let cores = self.table().map_err(failure)?.members.len();
        let mut slots_waiting = 0;
        for (_, stats) in self.stats().map_err(failure)? {
            slots_waiting += stats.map_err(failure)?.slots_awaited;
        }
        Ok(Membership { cores, slots_waiting })
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
