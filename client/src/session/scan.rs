//! The verbs that ask every core: remove by pattern, counters.

use super::{LinkError, Session};
use crate::error::Error;
use crate::outcome::RemovedCount;
use futures_util::future::join_all;
use snowskin_io::{Moment, Platform};
use snowskin_protocol::limits::PATTERN_BYTES_MAX;
use snowskin_protocol::wire::admin::{AdminReply, AdminRequest};
use snowskin_protocol::wire::data::{RemoveMatching, RemovedStep};
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::wire::{Opcode, Refusal, WireError};
use snowskin_protocol::{CoreId, Member};
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

fn unreadable(member: &Member, error: &WireError) -> Error {
    LinkError::Broken(format!("its answer cannot be read: {error}"))
        .into_error(Some(member.id), member.address)
}
