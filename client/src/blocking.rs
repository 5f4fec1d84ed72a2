//! The blocking client: calls from any thread, on borrowed buffers.

mod into;
mod replicas;

use crate::asynchronous::Client;
use crate::config::ClientConfig;
use crate::driver::{Driver, LocalSession, is_valid, spread};
use crate::error::Error;
use crate::lane::View;
use crate::local::Answers;
use crate::options::PutOptions;
use crate::outcome::{ClientCounters, Found, KeyPage, KeysCursor, PutOutcome, RemoveOutcome, RemovedCount};
use crate::session::PutValue;
use snowskin_io::Moment;
use snowskin_io::memory::lend;
use snowskin_protocol::wire::admin::{AdminReply, AdminRequest};
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::{CoreId, Member, ObjectName, RoutingTable};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long opening lanes may take, all of them together: the call that needed them is over already.
const LANE_OPENING_MAX: Duration = Duration::from_millis(500);

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

    /// The same, but waits for no engine: that there is none, it says at once.
    pub fn connect_now(config: ClientConfig) -> Result<Self, Error> {
        let client = BlockingClient { driver: Driver::new(config)? };
        client.driver.block_on(|session, deadline| async move { session.first_table(deadline).await })??;
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
        self.put_pieces(false, items.len(), |index| whole(items[index].0, &items[index].1), &[])
    }

    /// Stores values, replacing what is held. Readers see the old value or the new one.
    pub fn upsert(&self, items: &[(&[u8], &[u8])]) -> Vec<Result<PutOutcome, Error>> {
        self.put_pieces(true, items.len(), |index| whole(items[index].0, &items[index].1), &[])
    }

    /// Stores values whose keys are not held, each with its options.
    pub fn put_with(&self, items: &[(&[u8], &[u8], PutOptions)]) -> Vec<Result<PutOutcome, Error>> {
        let hints = self.driver.hints(items.iter().map(|(key, _, options)| (*key, options)));
        self.put_pieces(false, items.len(), |index| whole(items[index].0, &items[index].1), &hints)
    }

    /// Stores values, replacing what is held, each with its options.
    pub fn upsert_with(&self, items: &[(&[u8], &[u8], PutOptions)]) -> Vec<Result<PutOutcome, Error>> {
        let hints = self.driver.hints(items.iter().map(|(key, _, options)| (*key, options)));
        self.put_pieces(true, items.len(), |index| whole(items[index].0, &items[index].1), &hints)
    }

    /// Stores values that lie in several pieces each, whose keys are not held. The value is what the pieces are when put
    /// end to end.
    pub fn put_parts(&self, items: &[(&[u8], &[&[u8]])]) -> Vec<Result<PutOutcome, Error>> {
        self.put_pieces(false, items.len(), |index| items[index], &[])
    }

    /// Stores values that lie in several pieces each, replacing what is held.
    pub fn upsert_parts(&self, items: &[(&[u8], &[&[u8]])]) -> Vec<Result<PutOutcome, Error>> {
        self.put_pieces(true, items.len(), |index| items[index], &[])
    }

    /// Stores values that lie in several pieces each, whose keys are not held, each with its options.
    #[allow(clippy::type_complexity, reason = "a list of keys, each with its pieces and options")]
    pub fn put_parts_with(&self, items: &[(&[u8], &[&[u8]], PutOptions)]) -> Vec<Result<PutOutcome, Error>> {
        let hints = self.driver.hints(items.iter().map(|(key, _, options)| (*key, options)));
        self.put_pieces(false, items.len(), |index| (items[index].0, items[index].1), &hints)
    }

    /// Stores values that lie in several pieces each, replacing what is held, each with its options.
    #[allow(clippy::type_complexity, reason = "a list of keys, each with its pieces and options")]
    pub fn upsert_parts_with(
        &self,
        items: &[(&[u8], &[&[u8]], PutOptions)],
    ) -> Vec<Result<PutOutcome, Error>> {
        let hints = self.driver.hints(items.iter().map(|(key, _, options)| (*key, options)));
        self.put_pieces(true, items.len(), |index| (items[index].0, items[index].1), &hints)
    }

    fn put_pieces<'a>(
        &self,
        replace: bool,
        count: usize,
        item: impl Fn(usize) -> (&'a [u8], &'a [&'a [u8]]),
        hints: &[PutHints],
    ) -> Vec<Result<PutOutcome, Error>> {
        let Some(local) = self.driver.local() else {
            return self.put_by_session(replace, count, item, hints);
        };
        let (answers, slept) = local.put(self.driver.manner(), replace, count, &item, hints);
        self.complete(
            answers,
            slept,
            |place| item(place).0,
            |client, rest| {
                let hints: Vec<PutHints> = if hints.is_empty() {
                    Vec::new()
                } else {
                    rest.iter().map(|&place| hints[place]).collect()
                };
                client.put_by_session(replace, rest.len(), |index| item(rest[index]), &hints)
            },
        )
    }

    fn put_by_session<'a>(
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
        let by_session = |client: &Self, keys: &[&[u8]]| {
            client
                .ask(keys, move |session, names, deadline| async move { session.get(names, deadline).await })
        };
        match self.driver.local() {
            None => by_session(self, keys),
            Some(local) => self.complete_keys(local.get(self.driver.manner(), keys), keys, by_session),
        }
    }

    /// Reads values where they lie: in the memory of engines on this machine, without a copy; of others, a copy.
    pub fn view(&self, keys: &[&[u8]]) -> Vec<Result<Found<View>, Error>> {
        let by_session = |client: &Self, keys: &[&[u8]]| {
            client
                .ask(keys, move |session, names, deadline| async move { session.view(names, deadline).await })
        };
        match self.driver.local() {
            None => by_session(self, keys),
            Some(local) => self.complete_keys(local.view(self.driver.manner(), keys), keys, by_session),
        }
    }

    /// Reads one value where it lies, as [`BlockingClient::view`] does: the shortest way to it.
    #[inline]
    pub fn view_one(&self, key: &[u8]) -> Result<Found<View>, Error> {
        let by_batch = |client: &Self| client.view(&[key]).pop().unwrap_or(Err(Error::Closed));
        let Some(local) = self.driver.local() else { return by_batch(self) };
        match local.view_one(self.driver.manner(), key) {
            (Some(answer), _) => answer,
            (None, slept) => by_batch(&BlockingClient { driver: self.driver.after(slept) }),
        }
    }

    /// Are these keys held, and how many bytes have their values? Grants leases.
    pub fn lookup(&self, keys: &[&[u8]]) -> Vec<Result<Found<u64>, Error>> {
        let by_session = |client: &Self, keys: &[&[u8]]| {
            client.ask(
                keys,
                move |session, names, deadline| async move { session.lookup(names, deadline).await },
            )
        };
        match self.driver.local() {
            None => by_session(self, keys),
            Some(local) => {
                let answers = match keys {
                    [key] => {
                        let (answer, slept) = local.lookup_one(self.driver.manner(), key);
                        (vec![answer], slept)
                    }
                    keys => local.lookup(self.driver.manner(), keys),
                };
                self.complete_keys(answers, keys, by_session)
            }
        }
    }

    /// Asks a session for keys; each that is none has its error.
    fn ask<F, R, T>(&self, keys: &[&[u8]], make: F) -> Vec<Result<T, Error>>
    where
        F: FnOnce(LocalSession, Vec<ObjectName>, Moment) -> R + Send + 'static,
        R: Future<Output = Vec<Result<T, Error>>> + 'static,
        T: Send + 'static,
    {
        let names = self.driver.names(keys.iter().copied());
        let (valid, count) = (names.valid, keys.len() - names.invalid.len());
        let answers = self.driver.block_on(move |session, deadline| make(session, valid, deadline));
        spread(answers, count, names.invalid)
    }

    /// Has the session ask for those keys that have no answer yet.
    fn complete<T, K: AsRef<[u8]>>(
        &self,
        mut answers: Answers<T>,
        slept: Duration,
        key: impl Fn(usize) -> K,
        by_session: impl FnOnce(&Self, &[usize]) -> Vec<Result<T, Error>>,
    ) -> Vec<Result<T, Error>> {
        let rest: Vec<usize> = (0..answers.len()).filter(|&place| answers[place].is_none()).collect();
        if !rest.is_empty() {
            let client = BlockingClient { driver: self.driver.after(slept) };
            let answered = by_session(&client, &rest);
            rest.iter().zip(answered).for_each(|(&place, answer)| answers[place] = Some(answer));
            self.open_lanes(rest.iter().map(|&place| key(place)));
        }
        answers.into_iter().flatten().collect()
    }

    fn complete_keys<T>(
        &self,
        (answers, slept): (Answers<T>, Duration),
        keys: &[&[u8]],
        by_session: impl FnOnce(&Self, &[&[u8]]) -> Vec<Result<T, Error>>,
    ) -> Vec<Result<T, Error>> {
        self.complete(
            answers,
            slept,
            |place| keys[place],
            |client, rest| by_session(client, &rest.iter().map(|&place| keys[place]).collect::<Vec<_>>()),
        )
    }

    /// Opens lanes to those homes of keys that are on this machine, for the calls to come.
    fn open_lanes<K: AsRef<[u8]>>(&self, keys: impl Iterator<Item = K>) {
        let Some(local) = self.driver.local() else { return };
        let mut room = Vec::new();
        let mut hashes = keys.filter_map(|key| self.driver.hash(key.as_ref(), &mut room));
        let begun = Instant::now();
        for core in local.missing(&mut hashes) {
            let within = LANE_OPENING_MAX.saturating_sub(begun.elapsed());
            if within.is_zero() {
                return;
            }
            let member = core.member;
            let opened = self
                .driver
                .block_on(move |session, _| async move { session.open_lane(&member, within).await });
            local.opened(&core, opened.ok().flatten());
        }
    }

    /// How many bytes do the values of these keys have? The same as [`BlockingClient::lookup`].
    pub fn size(&self, keys: &[&[u8]]) -> Vec<Result<Found<u64>, Error>> {
        self.lookup(keys)
    }

    /// How many leading keys are held? Grants leases on those.
    pub fn match_prefix(&self, keys: &[&[u8]]) -> Result<usize, Error> {
        if let Some(local) = self.driver.local() {
            let (held, slept) = local.match_prefix(self.driver.manner(), keys);
            return match held {
                Some(held) => held,
                None => {
                    let held = BlockingClient { driver: self.driver.after(slept) }.match_by_session(keys);
                    self.open_lanes(keys.iter());
                    held
                }
            };
        }
        self.match_by_session(keys)
    }

    fn match_by_session(&self, keys: &[&[u8]]) -> Result<usize, Error> {
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

    /// Lists keys of the tenant that are held, in memory or on an SSD, and in which the regular expression is found (empty: all keys);
    /// `limit` of them at a time (0 is taken for 1). The next page begins where the last one says; one that has no next may have fewer
    /// keys, or none.
    ///
    /// A key that is held from the first page to the last is listed once. If slots change hands in between, that cannot be said, and is
    /// [`Error::KeysMoved`]: then the listing is to be begun anew. Grants no leases. Cores look at some hundred to some thousand
    /// objects at a time: for a page of many keys, or of a pattern that is rarely found, allow time.
    pub fn list_keys(
        &self,
        pattern: &str,
        limit: usize,
        after: Option<KeysCursor>,
    ) -> Result<KeyPage, Error> {
        let pattern = pattern.to_owned();
        self.driver.block_on(move |session, deadline| async move {
            session.list_keys(&pattern, limit, after, deadline).await
        })?
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

    /// The routing table as it is now, for whoever wants to know the members: that of the first seed, or of whoever answers in its place.
    pub fn fresh_table(&self) -> Result<Arc<RoutingTable>, Error> {
        self.driver.block_on(|session, deadline| async move { session.fresh_table(deadline).await })?
    }

    /// What this client and its clones have done so far.
    pub fn counters(&self) -> ClientCounters {
        let counters = self.driver.block_on(|session, _| async move { session.counters() });
        self.driver.with_local(counters.unwrap_or_default())
    }
}

/// A value in one piece, as one of several.
fn whole<'a>(key: &'a [u8], value: &'a &'a [u8]) -> (&'a [u8], &'a [&'a [u8]]) {
    (key, std::slice::from_ref(value))
}
