//! Tasks: objects that an operator has copied or moved. Their home does it, beside requests, and remembers what came of it.

use super::{peers, replicas};
use crate::percore::PerCore;
use crate::shard::Holders;
use snowskin_io::Platform;
use snowskin_protocol::wire::admin::{
    AdminReply, CopyObject, HexName, LeaveObject, ObjectHolders, TaskInfo, TaskState,
};
use snowskin_protocol::{CoreId, EngineId, Member, ObjectName};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tasks under way at most.
const RUNNING_MAX: usize = 256;
/// Tasks that are remembered.
const REMEMBERED_MAX: usize = 4096;

/// The tasks of a core, the oldest first.
#[derive(Debug, Default)]
pub struct Tasks {
    last: u64,
    all: VecDeque<(u64, TaskInfo)>,
}

impl Tasks {
    /// A new task; `None`: there are too many.
    fn begin(&mut self, is_move: bool) -> Option<u64> {
        let running = self.all.iter().filter(|(_, task)| task.state == TaskState::Running).count();
        if running >= RUNNING_MAX {
            return None;
        }
        if self.all.len() >= REMEMBERED_MAX {
            let oldest = self.all.iter().position(|(_, task)| task.state != TaskState::Running);
            oldest.map(|oldest| self.all.remove(oldest));
        }
        self.last += 1;
        let (state, now) = (TaskState::Running, unix_ms());
        let task = TaskInfo { is_move, state, created_ms: now, updated_ms: now, message: String::new() };
        self.all.push_back((self.last, task));
        Some(self.last)
    }

    fn end(&mut self, number: u64, outcome: Result<(), String>) {
        let found = self.all.iter_mut().find(|(known, _)| *known == number);
        let (_, task) = found.expect("who is under way is not forgotten");
        task.updated_ms = unix_ms();
        (task.state, task.message) = match outcome {
            Ok(()) => (TaskState::Done, "done".to_owned()),
            Err(sentence) => (TaskState::Failed, sentence),
        };
    }

    /// How far a task is, if it is remembered.
    pub(crate) fn get(&self, number: u64) -> Option<&TaskInfo> {
        self.all.iter().find(|(known, _)| *known == number).map(|(_, task)| task)
    }
}

/// For people: nothing is decided by it.
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// What is held, of these; `Err`: not to be said here, or not yet.
fn held<P: Platform>(core: &PerCore<P>, name: &ObjectName) -> Result<Option<Holders>, AdminReply> {
    let mut shard = core.shard.borrow_mut();
    match shard.serves(name.as_ref().slot()) {
        true => Ok(shard.holders(name.as_ref().hashed())),
        false => Err(AdminReply::NotHome),
    }
}

/// Answers who has objects.
pub(super) fn holders<P: Platform>(core: &PerCore<P>, names: &[HexName]) -> AdminReply {
    let of_one = |name: &HexName| {
        let held = held(core, &name.0)?;
        Ok(held.map(|held| ObjectHolders {
            value_bytes: held.value_bytes,
            cores: held.cores.into_iter().map(Into::into).collect(),
        }))
    };
    let all: Result<Vec<_>, AdminReply> = names.iter().map(of_one).collect();
    all.map_or_else(|reply| reply, AdminReply::Holders)
}

/// Begins to copy, or to move.
pub(super) fn begin<P: Platform>(core: &Rc<PerCore<P>>, request: CopyObject) -> AdminReply {
    let CopyObject { name: HexName(name), targets, source } = request;
    let source: Option<CoreId> = source.map(Into::into);
    let held = match held(core, &name) {
        Ok(Some(held)) => held,
        Ok(None) => return AdminReply::NotHeld,
        Err(reply) => return reply,
    };
    if targets.is_empty() {
        return AdminReply::Refused("name a core at least that is to have it".to_owned());
    }
    let mut members = Vec::new();
    for target in targets {
        let target = CoreId::from(target);
        match peers::member(core, target).filter(|member| member.weight > 0) {
            Some(member) => members.push(member),
            None => return AdminReply::Refused(format!("{target} is no core of this cluster, or leaves it")),
        }
    }
    if let Some(source) = source {
        if members.iter().any(|member| member.id.engine == source.engine) {
            return AdminReply::Refused("it cannot move to where it comes from".to_owned());
        }
        if !held.cores.iter().any(|holder| holder.engine == source.engine) {
            return AdminReply::Refused(format!("{source} does not have it"));
        }
    }
    let Some(number) = core.tasks.borrow_mut().begin(source.is_some()) else {
        return AdminReply::TooManyTasks;
    };
    let core = core.clone();
    core.clone().platform.spawn(async move {
        let outcome = carry_out(&core, &name, &held, &members, source.map(|source| source.engine)).await;
        core.tasks.borrow_mut().end(number, outcome);
    });
    AdminReply::TaskBegun(number)
}

async fn carry_out<P: Platform>(
    core: &Rc<PerCore<P>>,
    name: &ObjectName,
    held: &Holders,
    targets: &[Member],
    source: Option<EngineId>,
) -> Result<(), String> {
    let me = core.identity.id;
    for target in targets {
        if held.cores.iter().any(|holder| holder.engine == target.id.engine) {
            continue;
        }
        let is_there = match target.id.engine == me.engine {
            true => replicas::bring_home(core, name, held.version).await,
            false => replicas::make_one(core, name, held.version, target).await,
        };
        if !is_there {
            return Err(format!(
                "{} does not have it: it has no room, does not answer, or the object has changed",
                target.id
            ));
        }
    }
    let Some(source) = source else { return Ok(()) };
    match leave(core, name, source).await {
        true => Ok(()),
        false => {
            Err(format!("the cores of {source} have it still: they do not answer, or the object has changed"))
        }
    }
}

/// Has all cores of an engine give up an object that others have, too.
async fn leave<P: Platform>(core: &Rc<PerCore<P>>, name: &ObjectName, engine: EngineId) -> bool {
    let held = core.shard.borrow_mut().holders(name.as_ref().hashed());
    let Some(Holders { version, cores, .. }) = held else { return false };
    let mut has_left = false;
    for holder in cores.into_iter().filter(|holder| holder.engine == engine) {
        if !replicas::leave(core, name, version, holder).await {
            return false;
        }
        has_left = true;
    }
    has_left
}

/// Has an engine give up an object.
pub(super) async fn give_up<P: Platform>(core: &Rc<PerCore<P>>, request: LeaveObject) -> AdminReply {
    let LeaveObject { name: HexName(name), holder } = request;
    match held(core, &name) {
        Ok(Some(_)) => AdminReply::Left(leave(core, &name, EngineId(holder.engine)).await),
        Ok(None) => AdminReply::NotHeld,
        Err(reply) => reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_forgotten_first_and_what_runs_is_not() {
        let mut tasks = Tasks::default();
        let running: Vec<u64> = (0..RUNNING_MAX).map(|_| tasks.begin(false).unwrap()).collect();
        assert_eq!(tasks.begin(true), None, "too many");
        tasks.end(running[0], Err("no room".to_owned()));
        let failed = tasks.get(running[0]).unwrap();
        assert_eq!((failed.state, failed.message.as_str()), (TaskState::Failed, "no room"));
        for _ in 0..REMEMBERED_MAX {
            let number = tasks.begin(true).unwrap();
            tasks.end(number, Ok(()));
        }
        assert!(tasks.get(running[0]).is_none() && tasks.get(running[1]).is_some());
        assert_eq!(tasks.all.len(), REMEMBERED_MAX);
        let newest = tasks.get(tasks.last).unwrap();
        assert_eq!((newest.is_move, newest.state), (true, TaskState::Done));
    }
}
