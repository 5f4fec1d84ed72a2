//! The blocking client: calls from any thread, on borrowed buffers.

use crate::asynchronous::Client;
use crate::config::ClientConfig;
use crate::driver::{Driver, is_valid, spread};
use crate::error::Error;
use crate::lane::View;
use crate::options::PutOptions;
use crate::outcome::{ClientCounters, Found, PutOutcome, RemoveOutcome, RemovedCount};
use crate::session::PutValue;
use snowskin_io::memory::{lend, lend_mut};
use snowskin_protocol::wire::admin::{AdminReply, AdminRequest};
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::{CoreId, Member, RoutingTable};
use std::sync::Arc;
use std::time::Duration;

/// A client whose calls block. Cheap to clone; clones share connections. Any number of threads may call at once.
///
/// A call drives the sockets on its own thread, so between calls nothing happens: no traffic, no timers. Calls panic
/// inside an asynchronous runtime of tokio; there, use [`Client`].
#[derive(Clone)]
pub struct BlockingClient {
    driver: Driver,
}

impl BlockingClient {
    /// A client that has a routing table with at least one engine. Waits for the first engine until the deadline;
    /// that no seed can be reached, it says at once.
    pub fn connect(config: ClientConfig) -> Result<Self, Error> {
        let client = BlockingClient { driver: Driver::new(config)? };
        client.table()?;
        Ok(client)
    }

    pub(crate) fn of(driver: Driver) -> Self {
        BlockingClient { driver }
    }

    /// The asynchronous client of the same connections.
    pub fn asynchronous(&self) -> Client {
        Client::of(self.driver.clone())
    }

    /// The same client with another deadline for its calls.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        BlockingClient { driver: self.driver.with_deadline(deadline) }
    }

    /// Stores values whose keys are not held; the values go out straight from where they are.
    pub fn put(&self, items: &[(&[u8], &[u8])]) -> Vec<Result<PutOutcome, Error>> {
        self.put_pieces(
            false,
            items.len(),
            |index| (items[index].0, std::slice::from_ref(&items[index].1)),
            &[],
        )
    }

    /// Stores values whose keys are not held, each with its options.
    pub fn put_with(&self, items: &[(&[u8], &[u8], PutOptions)]) -> Vec<Result<PutOutcome, Error>> {
        self.put_pieces_with(false, items)
    }

    /// Stores values, replacing what is held, each with its options.
    pub fn upsert_with(&self, items: &[(&[u8], &[u8], PutOptions)]) -> Vec<Result<PutOutcome, Error>> {
        self.put_pieces_with(true, items)
    }

    fn put_pieces_with(
        &self,
        replace: bool,
        items: &[(&[u8], &[u8], PutOptions)],
    ) -> Vec<Result<PutOutcome, Error>> {
        let hints = self.driver.hints(items.iter().map(|(key, _, options)| (*key, options)));
        let item = |index: usize| (items[index].0, std::slice::from_ref(&items[index].1));
        self.put_pieces(replace, items.len(), item, &hints)
    }

    /// Stores values that lie in several pieces each, whose keys are not held.
    pub fn put_parts(&self, items: &[(&[u8], &[&[u8]])]) -> Vec<Result<PutOutcome, Error>> {
        self.put_pieces(false, items.len(), |index| items[index], &[])
    }

    /// Stores values, replacing what is held. Readers see the old value or the new one.
    pub fn upsert(&self, items: &[(&[u8], &[u8])]) -> Vec<Result<PutOutcome, Error>> {
        self.put_pieces(
            true,
            items.len(),
            |index| (items[index].0, std::slice::from_ref(&items[index].1)),
            &[],
        )
    }

    fn put_pieces<'a>(
        &self,
        replace: bool,
        count: usize,
        item: impl Fn(usize) -> (&'a [u8], &'a [&'a [u8]]),
        hints: &[PutHints],
    ) -> Vec<Result<PutOutcome, Error>> {
        let names = self.driver.names((0..count).map(|index| item(index).0));
        let valid = || (0..count).filter(|index| is_valid(&names.invalid, *index));
        let pieces: Vec<&[u8]> = valid().flat_map(|index| item(index).1).copied().collect();
        let valid_count = names.valid.len();
        let answers = lend(&pieces, |loan| {
            let mut first = 0;
            let value = |index: usize| {
                let (_, parts) = item(index);
                let value = PutValue::lent(&loan, first, parts);
                first += parts.len();
                value.with_hints(hints.get(index).copied().unwrap_or_default())
            };
            let values: Vec<PutValue> = valid().map(value).collect();
            let names = names.valid;
            self.driver.block_on(move |session, deadline| async move {
                session.put_values(replace, names, values, deadline).await
            })
        });
        spread(answers, valid_count, names.invalid)
    }

    /// Reads values into fresh vectors.
    pub fn get(&self, keys: &[&[u8]]) -> Vec<Result<Found<Vec<u8>>, Error>> {
        let names = self.driver.names(keys.iter().copied());
        let (valid, count) = (names.valid, keys.len() - names.invalid.len());
        let answers =
            self.driver.block_on(move |session, deadline| async move { session.get(valid, deadline).await });
        spread(answers, count, names.invalid)
    }

    /// Reads values into the caller's buffers, without a copy in between; a hit says how many bytes the value has.
    /// What a buffer holds whose read did not hit means nothing: parts of a value, perhaps. When the call returns,
    /// also at its deadline, nothing writes into the buffers any more.
    pub fn get_into(&self, reads: &mut [(&[u8], &mut [u8])]) -> Vec<Result<Found<usize>, Error>> {
        let names = self.driver.names(reads.iter().map(|(key, _)| *key));
        let numbers: Vec<usize> = (0..reads.len()).filter(|index| is_valid(&names.invalid, *index)).collect();
        let (valid, count) = (names.valid, numbers.len());
        let mut buffers: Vec<&mut [u8]> = reads.iter_mut().map(|(_, buffer)| &mut **buffer).collect();
        let answers = lend_mut(&mut buffers, |loan| {
            self.driver.block_on(move |session, deadline| async move {
                session.get_lent(valid, loan, numbers, deadline).await
            })
        });
        spread(answers, count, names.invalid)
    }

    /// Reads values where they lie: in the memory of engines on this machine, without a copy; of others, a copy.
    pub fn view(&self, keys: &[&[u8]]) -> Vec<Result<Found<View>, Error>> {
        let names = self.driver.names(keys.iter().copied());
        let (valid, count) = (names.valid, keys.len() - names.invalid.len());
        let answers =
            self.driver.block_on(move |session, deadline| async move { session.view(valid, deadline).await });
        spread(answers, count, names.invalid)
    }

    /// Are these keys held, and how many bytes have their values? Grants leases.
    pub fn lookup(&self, keys: &[&[u8]]) -> Vec<Result<Found<u64>, Error>> {
        let names = self.driver.names(keys.iter().copied());
        let (valid, count) = (names.valid, keys.len() - names.invalid.len());
        let answers = self
            .driver
            .block_on(move |session, deadline| async move { session.lookup(valid, deadline).await });
        spread(answers, count, names.invalid)
    }

    /// How many bytes do the values of these keys have? The same as [`BlockingClient::lookup`].
    pub fn size(&self, keys: &[&[u8]]) -> Vec<Result<Found<u64>, Error>> {
        self.lookup(keys)
    }

    /// How many leading keys are held? Grants leases on those.
    pub fn match_prefix(&self, keys: &[&[u8]]) -> Result<usize, Error> {
        let names = self.driver.names(keys.iter().copied());
        if let Some((_, error)) = names.invalid.into_iter().next() {
            return Err(error);
        }
        let valid = names.valid;
        self.driver
            .block_on(move |session, deadline| async move { session.match_prefix(valid, deadline).await })?
    }

    /// Removes keys; with `force` those too that a lease protects.
    pub fn remove(&self, keys: &[&[u8]], force: bool) -> Vec<Result<RemoveOutcome, Error>> {
        let names = self.driver.names(keys.iter().copied());
        let (valid, count) = (names.valid, keys.len() - names.invalid.len());
        let answers = self
            .driver
            .block_on(move |session, deadline| async move { session.remove(valid, force, deadline).await });
        spread(answers, count, names.invalid)
    }

    /// Asks a core what an operator asks: list, mount and unmount segments, evict down to a level.
    pub fn admin(&self, core: CoreId, request: AdminRequest) -> Result<AdminReply, Error> {
        self.driver
            .block_on(move |session, deadline| async move { session.admin(core, &request, deadline).await })?
    }

    /// Removes all keys of the tenant in which the regular expression is found.
    pub fn remove_by_regex(&self, pattern: &str, force: bool) -> Result<RemovedCount, Error> {
        let pattern = pattern.to_owned();
        self.driver.block_on(move |session, deadline| async move {
            session.remove_matching(&pattern, force, deadline).await
        })?
    }

    /// Removes all keys of the tenant.
    pub fn remove_all(&self, force: bool) -> Result<RemovedCount, Error> {
        self.remove_by_regex("", force)
    }

    /// The counters of every core, or why it does not answer.
    #[allow(clippy::type_complexity, reason = "a list of two things that have names")]
    pub fn stats(&self) -> Result<Vec<(Member, Result<CoreStats, Error>)>, Error> {
        self.driver.block_on(|session, deadline| async move { session.stats(deadline).await })?
    }

    /// The routing table in use.
    pub fn table(&self) -> Result<Arc<RoutingTable>, Error> {
        self.driver.block_on(|session, deadline| async move { session.table(deadline).await })?
    }

    /// What this client and its clones have done so far.
    pub fn counters(&self) -> ClientCounters {
        let counters = self.driver.block_on(|session, _| async move { session.counters() });
        counters.unwrap_or_default()
    }
}
