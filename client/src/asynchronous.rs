//! The asynchronous client: futures on owned data, for any executor.

mod into;
mod replicas;

use crate::blocking::BlockingClient;
use crate::config::ClientConfig;
use crate::driver::{Driver, spread};
use crate::error::Error;
use crate::lane::View;
use crate::options::PutOptions;
use crate::outcome::{ClientCounters, Found, KeyPage, KeysCursor, PutOutcome, RemoveOutcome, RemovedCount};
use crate::session::PutValue;
use bytes::Bytes;
use snowskin_protocol::wire::admin::{AdminReply, AdminRequest};
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::{CoreId, Member, RoutingTable};
use std::sync::Arc;
use std::time::Duration;

/// A client whose calls are futures. Cheap to clone; clones share connections and one background thread, which the
/// first call starts.
///
/// The futures need no runtime of the caller's. Dropping one does not undo what it asked for; buffers that were given to it are dropped
/// with it, and nothing writes into them any more ([`Client::get_into`]).
#[derive(Clone)]
pub struct Client {
    driver: Driver,
}

impl Client {
    /// A client that has a routing table with at least one engine. Waits for the first engine until the deadline;
    /// that no seed can be reached, it says at once.
    pub async fn connect(config: ClientConfig) -> Result<Self, Error> {
        let client = Client { driver: Driver::new(config)? };
        client.table().await?;
        Ok(client)
    }

    pub(crate) fn of(driver: Driver) -> Self {
        Client { driver }
    }

    /// The blocking client of the same connections.
    pub fn blocking(&self) -> BlockingClient {
        BlockingClient::of(self.driver.clone())
    }

    /// The same client with another deadline for its calls.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Client { driver: self.driver.with_deadline(deadline) }
    }

    /// Stores values whose keys are not held.
    pub async fn put(&self, items: Vec<(Vec<u8>, Bytes)>) -> Vec<Result<PutOutcome, Error>> {
        self.put_values(false, items, PutValue::owned).await
    }

    /// Stores values, replacing what is held. Readers see the old value or the new one.
    pub async fn upsert(&self, items: Vec<(Vec<u8>, Bytes)>) -> Vec<Result<PutOutcome, Error>> {
        self.put_values(true, items, PutValue::owned).await
    }

    /// Stores values whose keys are not held, each with its options.
    pub async fn put_with(&self, items: Vec<(Vec<u8>, Bytes, PutOptions)>) -> Vec<Result<PutOutcome, Error>> {
        self.put_values_with(false, items, PutValue::owned).await
    }

    /// Stores values, replacing what is held, each with its options.
    pub async fn upsert_with(
        &self,
        items: Vec<(Vec<u8>, Bytes, PutOptions)>,
    ) -> Vec<Result<PutOutcome, Error>> {
        self.put_values_with(true, items, PutValue::owned).await
    }

    /// Stores values that lie in several pieces each, whose keys are not held. The value is what the pieces are when put
    /// end to end; [`Bytes::from_owner`] makes a piece of anybody's memory, without a copy: it is dropped when nobody
    /// reads it any more, which may be a moment behind an answer that the deadline has forced.
    pub async fn put_parts(&self, items: Vec<(Vec<u8>, Vec<Bytes>)>) -> Vec<Result<PutOutcome, Error>> {
        self.put_values(false, items, PutValue::parts).await
    }

    /// Stores values that lie in several pieces each, replacing what is held.
    pub async fn upsert_parts(&self, items: Vec<(Vec<u8>, Vec<Bytes>)>) -> Vec<Result<PutOutcome, Error>> {
        self.put_values(true, items, PutValue::parts).await
    }

    /// Stores values that lie in several pieces each, whose keys are not held, each with its options.
    pub async fn put_parts_with(
        &self,
        items: Vec<(Vec<u8>, Vec<Bytes>, PutOptions)>,
    ) -> Vec<Result<PutOutcome, Error>> {
        self.put_values_with(false, items, PutValue::parts).await
    }

    /// Stores values that lie in several pieces each, replacing what is held, each with its options.
    pub async fn upsert_parts_with(
        &self,
        items: Vec<(Vec<u8>, Vec<Bytes>, PutOptions)>,
    ) -> Vec<Result<PutOutcome, Error>> {
        self.put_values_with(true, items, PutValue::parts).await
    }

    async fn put_values<T: Send + 'static>(
        &self,
        replace: bool,
        items: Vec<(Vec<u8>, T)>,
        value: fn(T) -> PutValue,
    ) -> Vec<Result<PutOutcome, Error>> {
        let (keys, bytes): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        let hints = vec![PutHints::default(); bytes.len()];
        self.put_hinted(replace, &keys, bytes.into_iter().zip(hints).collect(), value).await
    }

    async fn put_values_with<T: Send + 'static>(
        &self,
        replace: bool,
        items: Vec<(Vec<u8>, T, PutOptions)>,
        value: fn(T) -> PutValue,
    ) -> Vec<Result<PutOutcome, Error>> {
        let hints = self.driver.hints(items.iter().map(|(key, _, options)| (key.as_slice(), options)));
        let (keys, bytes): (Vec<_>, Vec<_>) = items.into_iter().map(|(key, bytes, _)| (key, bytes)).unzip();
        self.put_hinted(replace, &keys, bytes.into_iter().zip(hints).collect(), value).await
    }

    /// Values are made of bytes, which takes a look at all of them, by the thread that works for us: whoever polls this has no time.
    async fn put_hinted<T: Send + 'static>(
        &self,
        replace: bool,
        keys: &[Vec<u8>],
        mut bytes: Vec<(T, PutHints)>,
        value: fn(T) -> PutValue,
    ) -> Vec<Result<PutOutcome, Error>> {
        let names = self.driver.names(keys.iter().map(Vec::as_slice));
        for (index, _) in names.invalid.iter().rev() {
            drop(bytes.remove(*index));
        }
        let (valid, count) = (names.valid, bytes.len());
        let work = self.driver.run(move |session, deadline| async move {
            let values = bytes.into_iter().map(|(bytes, hints)| value(bytes).with_hints(hints)).collect();
            session.put_values(replace, valid, values, deadline).await
        });
        spread(work.await, count, names.invalid)
    }

    /// Reads values.
    pub async fn get(&self, keys: Vec<Vec<u8>>) -> Vec<Result<Found<Vec<u8>>, Error>> {
        let names = self.driver.names(keys.iter().map(Vec::as_slice));
        let (valid, count) = (names.valid, keys.len() - names.invalid.len());
        let work =
            self.driver.run(move |session, deadline| async move { session.get(valid, deadline).await });
        spread(work.await, count, names.invalid)
    }

    /// Reads values where they lie: in the memory of engines on this machine, without a copy; of others, a copy.
    pub async fn view(&self, keys: Vec<Vec<u8>>) -> Vec<Result<Found<View>, Error>> {
        let names = self.driver.names(keys.iter().map(Vec::as_slice));
        let (valid, count) = (names.valid, keys.len() - names.invalid.len());
        let work =
            self.driver.run(move |session, deadline| async move { session.view(valid, deadline).await });
        spread(work.await, count, names.invalid)
    }

    /// Are these keys held, and how many bytes have their values? Grants leases.
    pub async fn lookup(&self, keys: Vec<Vec<u8>>) -> Vec<Result<Found<u64>, Error>> {
        let names = self.driver.names(keys.iter().map(Vec::as_slice));
        let (valid, count) = (names.valid, keys.len() - names.invalid.len());
        let work =
            self.driver.run(move |session, deadline| async move { session.lookup(valid, deadline).await });
        spread(work.await, count, names.invalid)
    }

    /// How many bytes do the values of these keys have? The same as [`Client::lookup`].
    pub async fn size(&self, keys: Vec<Vec<u8>>) -> Vec<Result<Found<u64>, Error>> {
        self.lookup(keys).await
    }

    /// How many leading keys are held? Grants leases on those.
    pub async fn match_prefix(&self, keys: Vec<Vec<u8>>) -> Result<usize, Error> {
        let names = self.driver.names(keys.iter().map(Vec::as_slice));
        if let Some((_, error)) = names.invalid.into_iter().next() {
            return Err(error);
        }
        let valid = names.valid;
        self.driver
            .run(move |session, deadline| async move { session.match_prefix(valid, deadline).await })
            .await?
    }

    /// Removes keys; with `force` those too that a lease protects.
    pub async fn remove(&self, keys: Vec<Vec<u8>>, force: bool) -> Vec<Result<RemoveOutcome, Error>> {
        let names = self.driver.names(keys.iter().map(Vec::as_slice));
        let (valid, count) = (names.valid, keys.len() - names.invalid.len());
        let work = self
            .driver
            .run(move |session, deadline| async move { session.remove(valid, force, deadline).await });
        spread(work.await, count, names.invalid)
    }

    /// Asks a core what an operator asks: list, mount and unmount segments, evict down to a level.
    pub async fn admin(&self, core: CoreId, request: AdminRequest) -> Result<AdminReply, Error> {
        self.driver
            .run(move |session, deadline| async move { session.admin(core, &request, deadline).await })
            .await?
    }

    /// Removes all keys of the tenant in which the regular expression is found.
    pub async fn remove_by_regex(&self, pattern: String, force: bool) -> Result<RemovedCount, Error> {
        self.driver
            .run(move |session, deadline| async move {
                session.remove_matching(&pattern, force, deadline).await
            })
            .await?
    }

    /// Removes all keys of the tenant.
    pub async fn remove_all(&self, force: bool) -> Result<RemovedCount, Error> {
        self.remove_by_regex(String::new(), force).await
    }

    /// Lists keys of the tenant that are held: see [`BlockingClient::list_keys`].
    pub async fn list_keys(
        &self,
        pattern: String,
        limit: usize,
        after: Option<KeysCursor>,
    ) -> Result<KeyPage, Error> {
        self.driver
            .run(move |session, deadline| async move {
                session.list_keys(&pattern, limit, after, deadline).await
            })
            .await?
    }

    /// The counters of every core, or why it does not answer.
    #[allow(clippy::type_complexity, reason = "a list of two things that have names")]
    pub async fn stats(&self) -> Result<Vec<(Member, Result<CoreStats, Error>)>, Error> {
        self.driver.run(|session, deadline| async move { session.stats(deadline).await }).await?
    }

    /// Does something between the client's other work, on the thread that does that: copies, say, for which whoever waits has no thread.
    pub async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.driver.run(move |_, _| async move { work() }).await
    }

    /// The routing table in use.
    pub async fn table(&self) -> Result<Arc<RoutingTable>, Error> {
        self.driver.run(|session, deadline| async move { session.table(deadline).await }).await?
    }

    /// [`crate::BlockingClient::fresh_table`].
    pub async fn fresh_table(&self) -> Result<Arc<RoutingTable>, Error> {
        self.driver.run(|session, deadline| async move { session.fresh_table(deadline).await }).await?
    }

    /// What this client and its clones have done so far.
    pub async fn counters(&self) -> ClientCounters {
        let counters = self.driver.run(|session, _| async move { session.counters() }).await;
        self.driver.with_local(counters.unwrap_or_default())
    }
}
