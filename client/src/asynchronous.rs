//! The asynchronous client: futures on owned data, for any executor.

mod into;

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
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::{CoreId, Member, RoutingTable};
use std::sync::Arc;
use std::time::Duration;

/// A client whose calls are futures. Cheap to clone; clones share connections and one background thread, which the
/// first call starts.
///
/// The futures need no runtime of the caller's. Dropping one does not undo what it asked for.
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
        self.put_values(false, items.into_iter().map(|(key, value)| (key, PutValue::owned(value)))).await
    }

    /// Stores values, replacing what is held. Readers see the old value or the new one.
    pub async fn upsert(&self, items: Vec<(Vec<u8>, Bytes)>) -> Vec<Result<PutOutcome, Error>> {
        self.put_values(true, items.into_iter().map(|(key, value)| (key, PutValue::owned(value)))).await
    }

    /// Stores values whose keys are not held, each with its options.
    pub async fn put_with(&self, items: Vec<(Vec<u8>, Bytes, PutOptions)>) -> Vec<Result<PutOutcome, Error>> {
        self.put_values(false, self.with_hints(items, PutValue::owned)).await
    }

    /// Stores values, replacing what is held, each with its options.
    pub async fn upsert_with(
        &self,
        items: Vec<(Vec<u8>, Bytes, PutOptions)>,
    ) -> Vec<Result<PutOutcome, Error>> {
        self.put_values(true, self.with_hints(items, PutValue::owned)).await
    }

    /// Stores values that lie in several pieces each, whose keys are not held. The value is what the pieces are when put
    /// end to end; [`Bytes::from_owner`] makes a piece of anybody's memory, without a copy.
    pub async fn put_parts(&self, items: Vec<(Vec<u8>, Vec<Bytes>)>) -> Vec<Result<PutOutcome, Error>> {
        self.put_values(false, items.into_iter().map(|(key, parts)| (key, PutValue::parts(parts)))).await
    }

    /// Stores values that lie in several pieces each, replacing what is held.
    pub async fn upsert_parts(&self, items: Vec<(Vec<u8>, Vec<Bytes>)>) -> Vec<Result<PutOutcome, Error>> {
        self.put_values(true, items.into_iter().map(|(key, parts)| (key, PutValue::parts(parts)))).await
    }

    /// Stores values that lie in several pieces each, whose keys are not held, each with its options.
    pub async fn put_parts_with(
        &self,
        items: Vec<(Vec<u8>, Vec<Bytes>, PutOptions)>,
    ) -> Vec<Result<PutOutcome, Error>> {
        self.put_values(false, self.with_hints(items, PutValue::parts)).await
    }

    /// Stores values that lie in several pieces each, replacing what is held, each with its options.
    pub async fn upsert_parts_with(
        &self,
        items: Vec<(Vec<u8>, Vec<Bytes>, PutOptions)>,
    ) -> Vec<Result<PutOutcome, Error>> {
        self.put_values(true, self.with_hints(items, PutValue::parts)).await
    }

    fn with_hints<T>(
        &self,
        items: Vec<(Vec<u8>, T, PutOptions)>,
        value: fn(T) -> PutValue,
    ) -> impl Iterator<Item = (Vec<u8>, PutValue)> + use<T> {
        let hints = self.driver.hints(items.iter().map(|(key, _, options)| (key.as_slice(), options)));
        let value = move |((key, bytes, _), hints)| (key, value(bytes).with_hints(hints));
        items.into_iter().zip(hints).map(value)
    }

    async fn put_values(
        &self,
        replace: bool,
        items: impl Iterator<Item = (Vec<u8>, PutValue)>,
    ) -> Vec<Result<PutOutcome, Error>> {
        let (keys, mut values): (Vec<_>, Vec<_>) = items.unzip();
        let names = self.driver.names(keys.iter().map(Vec::as_slice));
        for (index, _) in names.invalid.iter().rev() {
            values.remove(*index);
        }
        let (valid, count) = (names.valid, values.len());
        let work = self.driver.run(move |session, deadline| async move {
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

    /// The routing table in use.
    pub async fn table(&self) -> Result<Arc<RoutingTable>, Error> {
        self.driver.run(|session, deadline| async move { session.table(deadline).await }).await?
    }

    /// What this client and its clones have done so far.
    pub async fn counters(&self) -> ClientCounters {
        let counters = self.driver.run(|session, _| async move { session.counters() }).await;
        self.driver.with_local(counters.unwrap_or_default())
    }
}
