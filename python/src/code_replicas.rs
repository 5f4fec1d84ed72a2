//! Replicas and tasks in the numbers of Mooncake Store's API: futures, for [`crate::codes::Codes`] and [`crate::code_requests::CodeRequests`].
//!
//! A segment is named by where a core listens, and stands for its engine. A task's id is two numbers: its engine, and its core with its number there.

use crate::codes::{INVALID, code_of_error, code_of_read, code_of_removal};
use crate::replicas::{self, Trouble, core_of};
use snowskin_client::admin::{TaskInfo, TaskState};
use snowskin_client::{
    Client, Code, CoreId, EngineId, Error, Found, Holders, RoutingTable, TaskId, TaskStart,
};
use std::sync::Arc;

const NOT_FOUND: i64 = Code::ObjectNotFound as i64;
const NO_SEGMENT: i64 = -101;
const NO_REPLICA: i64 = -710;
const NO_TASK: i64 = -1400;
const TOO_MANY_TASKS: i64 = -1401;
/// Bits of a task's number in its core.
const NUMBER_BITS: u32 = 48;

/// Bytes of a value or a code, and where its holders listen.
pub(crate) type Held = (i64, Vec<String>);
/// A task's id and 0, or a code.
pub(crate) type Begun = (u64, u64, i64);
/// Whether it moves the object, its state, when it was asked for and when it changed last (milliseconds of the epoch), and what came of it.
pub(crate) type Progress = (bool, u8, u64, u64, String);

/// Who has objects; first the one that readers are sent to.
pub(crate) async fn holders(client: &Client, keys: Vec<Vec<u8>>) -> Vec<Held> {
    let found = client.holders(keys).await;
    let table = match client.table().await {
        // Somebody has joined since.
        Ok(table) if !found.iter().all(|found| knows_all(&table, found)) => client.fresh_table().await,
        table => table,
    };
    match table {
        Ok(table) => found.into_iter().map(|found| addresses(&table, found)).collect(),
        Err(error) => vec![(code_of_error(&error), Vec::new()); found.len()],
    }
}

fn knows_all(table: &RoutingTable, found: &Result<Found<Holders>, Error>) -> bool {
    match found {
        Ok(Found::Hit(held)) => held.cores.iter().all(|core| table.index_of(*core).is_some()),
        _ => true,
    }
}

fn addresses(table: &Arc<RoutingTable>, found: Result<Found<Holders>, Error>) -> Held {
    let address = |core: &CoreId| {
        let index = table.index_of(*core)?;
        Some(table.members[usize::from(index)].address.to_string())
    };
    let listening = match &found {
        Ok(Found::Hit(held)) => held.cores.iter().filter_map(address).collect(),
        _ => Vec::new(),
    };
    let bytes = found.map(|found| match found {
        Found::Hit(held) => Found::Hit(held.value_bytes),
        Found::Miss(reason) => Found::Miss(reason),
    });
    (code_of_read(bytes), listening)
}

/// Has an object copied to segments; with a source, moved from there.
pub(crate) async fn begin(client: &Client, key: &[u8], targets: &[String], source: Option<&String>) -> Begun {
    let code = match replicas::begin(client, key, targets, source).await {
        Ok(TaskStart::Begun(TaskId { core, number })) => {
            return (core.engine.0, u64::from(core.core) << NUMBER_BITS | number, 0);
        }
        Ok(TaskStart::NotHeld) | Err(Trouble::Failed(Error::InvalidKey(_))) => NOT_FOUND,
        Ok(TaskStart::TooMany) => TOO_MANY_TASKS,
        Ok(TaskStart::Refused(_)) => INVALID,
        Err(Trouble::Failed(error)) => code_of_error(&error),
        // That the object is missing is said first.
        Err(Trouble::NoSuchCore(_)) => {
            match client.holders(vec![key.to_vec()]).await.pop().map(code_of_holders) {
                Some(code) if code < 0 => code,
                _ => INVALID,
            }
        }
    };
    (0, 0, code)
}

fn code_of_holders(found: Result<Found<Holders>, Error>) -> i64 {
    match found {
        Ok(Found::Hit(_)) => 0,
        Ok(Found::Miss(_)) | Err(Error::InvalidKey(_)) => NOT_FOUND,
        Err(error) => code_of_error(&error),
    }
}

/// How far a task is, or a code.
pub(crate) async fn progress(client: &Client, high: u64, low: u64) -> (Option<Progress>, i64) {
    let core = CoreId { engine: EngineId(high), core: (low >> NUMBER_BITS) as u16 };
    let number = low & ((1 << NUMBER_BITS) - 1);
    match client.task(TaskId { core, number }).await {
        Ok(Some(info)) => (Some(progress_of(info)), 0),
        Ok(None) => (None, NO_TASK),
        Err(error) => (None, code_of_error(&error)),
    }
}

fn progress_of(info: TaskInfo) -> Progress {
    // As Mooncake Store numbers them.
    let state = match info.state {
        TaskState::Running => 1,
        TaskState::Failed => 2,
        TaskState::Done => 3,
    };
    (info.is_move, state, info.created_ms, info.updated_ms, info.message)
}

/// Has a segment give up objects; what nobody else has is removed, unless a lease protects it. 0 for each that is not there any more.
pub(crate) async fn clear(client: &Client, keys: Vec<Vec<u8>>, segment: &str) -> Vec<i64> {
    let core = match client.fresh_table().await {
        Ok(table) => core_of(&table, segment).ok_or(NO_SEGMENT),
        Err(error) => Err(code_of_error(&error)),
    };
    let core = match core {
        Ok(core) => core,
        Err(code) => return vec![code; keys.len()],
    };
    let mut codes = Vec::with_capacity(keys.len());
    for key in keys {
        codes.push(clear_one(client, key, core).await);
    }
    codes
}

async fn clear_one(client: &Client, key: Vec<u8>, core: CoreId) -> i64 {
    match client.give_up(&key, core).await {
        Ok(Found::Hit(true)) => return 0,
        Ok(Found::Hit(false)) => {}
        Ok(Found::Miss(_)) | Err(Error::InvalidKey(_)) => return NOT_FOUND,
        Err(error) => return code_of_error(&error),
    }
    match client.holders(vec![key.clone()]).await.pop() {
        Some(Ok(Found::Hit(held))) if held.cores.iter().all(|holder| holder.engine == core.engine) => {
            client.remove(vec![key], false).await.pop().map_or(NOT_FOUND, code_of_removal)
        }
        Some(Ok(Found::Hit(_))) => NO_REPLICA,
        Some(found) => code_of_holders(found),
        None => NOT_FOUND,
    }
}
