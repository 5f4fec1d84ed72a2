//! Who has an object, and having it copied or moved: what is asked of its home, which does it.

use super::Session;
use super::scan::unreadable;
use crate::error::Error;
use crate::outcome::{Found, Holders, TaskId, TaskStart};
use futures_util::future::join_all;
use snowskin_io::{Moment, Platform};
use snowskin_protocol::wire::WireError;
use snowskin_protocol::wire::admin::{AdminReply, AdminRequest, CopyObject, HexName, LeaveObject, TaskInfo};
use snowskin_protocol::{CoreId, Member, MissReason, ObjectName};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Pause before a home is asked again that is not the home, or not yet.
const NOT_HOME_PAUSE: Duration = Duration::from_millis(10);
/// Objects that are asked for at the same time.
const TOGETHER: usize = 64;

impl<P: Platform> Session<P> {
    /// Who has these objects.
    pub async fn holders(
        self: &Rc<Self>,
        names: Vec<ObjectName>,
        deadline: Moment,
    ) -> Vec<Result<Found<Holders>, Error>> {
        let mut all = Vec::with_capacity(names.len());
        for some in names.chunks(TOGETHER) {
            all.extend(join_all(some.iter().map(|name| self.holders_of(name, deadline))).await);
        }
        all
    }

    async fn holders_of(
        self: &Rc<Self>,
        name: &ObjectName,
        deadline: Moment,
    ) -> Result<Found<Holders>, Error> {
        let request = AdminRequest::Holders(vec![HexName(name.clone())]);
        match self.ask_home(name, &request, deadline).await? {
            (_, AdminReply::Holders(found)) => {
                let held = found.into_iter().next().flatten();
                Ok(held.map_or(Found::Miss(MissReason::NotHeld), |held| {
                    let cores = held.cores.into_iter().map(Into::into).collect();
                    Found::Hit(Holders { value_bytes: held.value_bytes, cores })
                }))
            }
            (home, _) => Err(strange(&home)),
        }
    }

    /// Has an object copied to these cores, or, if there is a source, moved away from there. Asked once: a task that began twice would be
    /// done twice.
    pub async fn copy_object(
        self: &Rc<Self>,
        name: ObjectName,
        targets: Vec<CoreId>,
        source: Option<CoreId>,
        deadline: Moment,
    ) -> Result<TaskStart, Error> {
        let targets = targets.into_iter().map(Into::into).collect();
        let source = source.map(Into::into);
        let request = AdminRequest::Copy(CopyObject { name: HexName(name.clone()), targets, source });
        match self.ask_home(&name, &request, deadline).await? {
            (home, AdminReply::TaskBegun(number)) => Ok(TaskStart::Begun(TaskId { core: home.id, number })),
            (_, AdminReply::NotHeld) => Ok(TaskStart::NotHeld),
            (_, AdminReply::TooManyTasks) => Ok(TaskStart::TooMany),
            (_, AdminReply::Refused(sentence)) => Ok(TaskStart::Refused(sentence)),
            (home, _) => Err(strange(&home)),
        }
    }

    /// How far a task is; `None`: it is not known, or not any more.
    pub async fn task(self: &Rc<Self>, task: TaskId, deadline: Moment) -> Result<Option<TaskInfo>, Error> {
        match self.admin(task.core, &AdminRequest::Task(task.number), deadline).await {
            Ok(AdminReply::Task(info)) => Ok(info),
            // With its core, a task is gone.
            Err(Error::NoSuchCore(_)) => Ok(None),
            Ok(_) => Err(Error::NoSuchCore(task.core)),
            Err(error) => Err(error),
        }
    }

    /// Has an engine give up an object that others hold, too. Whether it did: it had it, and is not the only one.
    pub async fn give_up(
        self: &Rc<Self>,
        name: ObjectName,
        holder: CoreId,
        deadline: Moment,
    ) -> Result<Found<bool>, Error> {
        let holder = holder.into();
        let request = AdminRequest::Leave(LeaveObject { name: HexName(name.clone()), holder });
        match self.ask_home(&name, &request, deadline).await? {
            (_, AdminReply::Left(has_left)) => Ok(Found::Hit(has_left)),
            (_, AdminReply::NotHeld) => Ok(Found::Miss(MissReason::NotHeld)),
            (home, _) => Err(strange(&home)),
        }
    }

    /// Asks the home of an object, wherever that is by then.
    async fn ask_home(
        self: &Rc<Self>,
        name: &ObjectName,
        request: &AdminRequest,
        deadline: Moment,
    ) -> Result<(Member, AdminReply), Error> {
        let asking = async {
            loop {
                let table = self.some_table().await?;
                let home = *table.home(name.as_ref().slot()).ok_or(Error::NoEngines)?;
                match self.admin(home.id, request, deadline).await {
                    Ok(AdminReply::NotHome) => {}
                    // It has left just now.
                    Err(Error::NoSuchCore(_)) => {}
                    reply => return Ok((home, reply?)),
                }
                let _ = self.refresh(Some(home.address)).await;
                self.shared.platform.sleep(NOT_HOME_PAUSE).await;
            }
        };
        self.alarm.until(deadline, pin!(asking)).await.unwrap_or_else(|| Err(self.expired()))
    }
}

fn strange(home: &Member) -> Error {
    unreadable(home, &WireError::Value("admin reply"))
}
