//! Who has an object, and having it copied or moved.

use super::BlockingClient;
use crate::driver::spread;
use crate::error::Error;
use crate::outcome::{Found, Holders, TaskId, TaskStart};
use snowskin_protocol::CoreId;
use snowskin_protocol::wire::admin::TaskInfo;

impl BlockingClient {
    /// Who has these objects. Grants no leases, and is no use of them.
    pub fn holders(&self, keys: &[&[u8]]) -> Vec<Result<Found<Holders>, Error>> {
        let names = self.driver.names(keys.iter().copied());
        let (valid, count) = (names.valid, keys.len() - names.invalid.len());
        let answers = self
            .driver
            .block_on(move |session, deadline| async move { session.holders(valid, deadline).await });
        spread(answers, count, names.invalid)
    }

    /// Has an object copied to these cores, beside what its home does otherwise. Any core of an engine stands for the engine: where one of its
    /// cores has the object already, nothing is copied.
    pub fn copy(&self, key: &[u8], targets: &[CoreId]) -> Result<TaskStart, Error> {
        self.copy_or_move(key, targets.to_vec(), None)
    }

    /// The same, and the engine of the source gives it up then.
    pub fn move_to(&self, key: &[u8], source: CoreId, target: CoreId) -> Result<TaskStart, Error> {
        self.copy_or_move(key, vec![target], Some(source))
    }

    fn copy_or_move(
        &self,
        key: &[u8],
        targets: Vec<CoreId>,
        source: Option<CoreId>,
    ) -> Result<TaskStart, Error> {
        let name = self.driver.name(key)?;
        self.driver.block_on(move |session, deadline| async move {
            session.copy_object(name, targets, source, deadline).await
        })?
    }

    /// How far a task is; `None`: its core does not know it, or not any more. The newest some thousand are remembered.
    pub fn task(&self, task: TaskId) -> Result<Option<TaskInfo>, Error> {
        self.driver.block_on(move |session, deadline| async move { session.task(task, deadline).await })?
    }

    /// Has an engine give up an object that others hold, too. Whether it did: it had it, and is not the only one.
    pub fn give_up(&self, key: &[u8], holder: CoreId) -> Result<Found<bool>, Error> {
        let name = self.driver.name(key)?;
        self.driver
            .block_on(move |session, deadline| async move { session.give_up(name, holder, deadline).await })?
    }
}
