//! The verbs that ask every core: remove by pattern, list keys, counters.

use super::{LinkError, Session};
use crate::error::Error;
use crate::outcome::{KeyPage, KeysCursor, RemovedCount};
use futures_util::future::join_all;
use snowskin_io::{Moment, Platform};
use snowskin_protocol::limits::PATTERN_BYTES_MAX;
use snowskin_protocol::wire::admin::{AdminReply, AdminRequest};
use snowskin_protocol::wire::data::{RemoveMatching, RemovedStep};
use snowskin_protocol::wire::list::{ListKeys, ListedKey};
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::wire::{self, Opcode, Refusal, WireError};
use snowskin_protocol::{CoreId, Member, RoutingTable};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Pause before a core is asked again that is not ready yet.
const NOT_YET_PAUSE: Duration = Duration::from_millis(10);

impl<P: Platform> Session<P> {
    /// Removes all keys of the tenant in which the regular expression is found; empty: all keys. All cores at once,
    /// a step at a time each.
    pub async fn remove_matching(
        self: &Rc<Self>,
        pattern: &str,
        force: bool,
        deadline: Moment,
    ) -> Result<RemovedCount, Error> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(Error::BadPattern(format!("it has more than {PATTERN_BYTES_MAX} bytes")));
        }
        let request = RemoveMatching { cursor: 0, force, tenant: self.config.tenant.as_bytes(), pattern };
        let removal = async {
            let mut removed = 0;
            loop {
                let table = self.some_table().await?;
                let of_cores =
                    table.members.iter().map(|member| self.remove_from(*member, request, deadline));
                let counts: Vec<RemovedCount> =
                    join_all(of_cores).await.into_iter().collect::<Result<_, _>>()?;
                removed += counts.iter().map(|count| count.removed).sum::<u64>();
                // Slots that changed hands meanwhile may have slipped through: then all cores are asked again.
                if self.shared.epoch.get() == table.epoch {
                    return Ok(RemovedCount {
                        removed,
                        leased: counts.iter().map(|count| count.leased).sum(),
                    });
                }
            }
        };
        self.alarm.until(deadline, pin!(removal)).await.unwrap_or_else(|| Err(self.expired()))
    }

    async fn remove_from(
        self: &Rc<Self>,
        member: Member,
        mut request: RemoveMatching<'_>,
        deadline: Moment,
    ) -> Result<RemovedCount, Error> {
        let mut count = RemovedCount::default();
        loop {
            let body = self.ask_member(&member, Opcode::RemoveMatching, &request.encode(), deadline).await?;
            let step = RemovedStep::decode(&body).map_err(|error| unreadable(&member, &error))?;
            count.removed += step.removed;
            count.leased += u64::from(step.leased);
            if step.cursor == RemovedStep::DONE {
                return Ok(count);
            }
            request.cursor = step.cursor;
        }
    }

    /// Lists keys of the tenant in which the regular expression is found; empty: all keys. `limit` of them at a time, core by core;
    /// `after` is where the last page says that the next one begins.
    pub async fn list_keys(
        self: &Rc<Self>,
        pattern: &str,
        limit: usize,
        after: Option<KeysCursor>,
        deadline: Moment,
    ) -> Result<KeyPage, Error> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(Error::BadPattern(format!("it has more than {PATTERN_BYTES_MAX} bytes")));
        }
        let listing = async {
            loop {
                let table = self.some_table().await?;
                let from = after.unwrap_or(KeysCursor { epoch: table.epoch, member: 0, position: 0 });
                let is_of_this_table = from.epoch == table.epoch;
                let page = self.list_from(&table, from, pattern, limit.max(1), deadline);
                // Keys of slots that changed hands meanwhile may have slipped through.
                match if is_of_this_table { page.await? } else { None } {
                    Some(page) => return Ok(page),
                    None if after.is_some() => return Err(Error::KeysMoved),
                    None => {}
                }
            }
        };
        self.alarm.until(deadline, pin!(listing)).await.unwrap_or_else(|| Err(self.expired()))
    }

    /// A page of keys; `None`: there is a newer table.
    async fn list_from(
        self: &Rc<Self>,
        table: &RoutingTable,
        mut from: KeysCursor,
        pattern: &str,
        limit: usize,
        deadline: Moment,
    ) -> Result<Option<KeyPage>, Error> {
        let mut keys = Vec::new();
        while let Some(member) = table.members.get(from.member).filter(|_| keys.len() < limit) {
            let keys_max = u32::try_from(limit - keys.len()).unwrap_or(u32::MAX);
            let tenant = self.config.tenant.as_bytes();
            let request = ListKeys { cursor: from.position, keys_max, tenant, pattern };
            let body = self.ask_member(member, Opcode::ListKeys, &request.encode(), deadline).await?;
            let page = wire::list::KeyPage::decode(&body).map_err(|error| unreadable(member, &error))?;
            if page.keys.len() > keys_max as usize {
                return Err(unreadable(member, &WireError::Value("number of keys")));
            }
            if self.shared.epoch.get() != table.epoch {
                return Ok(None);
            }
            keys.extend(page.keys.iter().map(|listed| {
                let ListedKey { key, value_bytes } = *listed;
                crate::outcome::ListedKey { key: key.to_vec(), value_bytes }
            }));
            match page.cursor {
                wire::list::KeyPage::DONE => {
                    (from.member, from.position) = (from.member + 1, 0);
                }
                position => from.position = position,
            }
        }
        let next = (from.member < table.members.len()).then_some(from);
        Ok(Some(KeyPage { keys, next }))
    }

    /// The counters of every core.
    pub async fn stats(
        self: &Rc<Self>,
        deadline: Moment,
    ) -> Result<Vec<(Member, Result<CoreStats, Error>)>, Error> {
        let table = self.table(deadline).await?;
        let of_cores = table.members.iter().map(async |member| {
            let asked = pin!(self.ask_member(member, Opcode::Stats, &[], deadline));
            let body = self.alarm.until(deadline, asked).await.unwrap_or_else(|| Err(self.expired()));
            let decode = |body: Vec<u8>| CoreStats::decode(&body).map_err(|error| unreadable(member, &error));
            (*member, body.and_then(decode))
        });
        Ok(join_all(of_cores).await)
    }

    /// Asks a core what an operator asks. Once only: not everything may be done twice.
    pub async fn admin(
        self: &Rc<Self>,
        core: CoreId,
        request: &AdminRequest,
        deadline: Moment,
    ) -> Result<AdminReply, Error> {
        let table = self.table(deadline).await?;
        let index = table.index_of(core).ok_or(Error::NoSuchCore(core))?;
        let member = table.members[usize::from(index)];
        let body = request.encode();
        let asked = pin!(self.ask_plain(member.address, Opcode::Admin, &body, deadline));
        let body = match self.alarm.until(deadline, asked).await {
            Some(Ok(body)) => body,
            Some(Err(error)) => return Err(error.into_error(Some(core), member.address)),
            None => return Err(self.expired()),
        };
        AdminReply::decode(&body).map_err(|error| unreadable(&member, &error))
    }

    /// Asks a core something that is no batch; once more if the connection breaks.
    async fn ask_member(
        self: &Rc<Self>,
        member: &Member,
        opcode: Opcode,
        body: &[u8],
        deadline: Moment,
    ) -> Result<Vec<u8>, Error> {
        let mut is_second = false;
        loop {
            match self.ask_plain(member.address, opcode, body, deadline).await {
                Ok(body) => return Ok(body),
                Err(LinkError::Refused(Refusal::NotYet, _)) => {
                    self.shared.platform.sleep(NOT_YET_PAUSE).await;
                }
                Err(LinkError::Refused(Refusal::Stale, _)) => {
                    // Without a newer table we ask again by the old one, and learn whether that is still stale.
                    let _ = self.refresh(Some(member.address)).await;
                    self.shared.platform.sleep(NOT_YET_PAUSE).await;
                }
                Err(LinkError::Broken(_)) if !is_second => is_second = true,
                Err(error) => {
                    // It may be gone for good: the next call should know.
                    self.start_refresh(None);
                    return Err(error.into_error(Some(member.id), member.address));
                }
            }
        }
    }
}

pub(super) fn unreadable(member: &Member, error: &WireError) -> Error {
    LinkError::Broken(format!("its answer cannot be read: {error}"))
        .into_error(Some(member.id), member.address)
}
