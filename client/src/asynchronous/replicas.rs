//! Who has an object, and having it copied or moved: see [`crate::BlockingClient`].

use super::Client;
use crate::driver::spread;
use crate::error::Error;
use crate::outcome::{Found, Holders, TaskId, TaskStart};
use snowskin_protocol::CoreId;
use snowskin_protocol::wire::admin::TaskInfo;

impl Client {
    /// [`crate::BlockingClient::holders`].
    pub async fn holders(&self, keys: Vec<Vec<u8>>) -> Vec<Result<Found<Holders>, Error>> {
        let names = self.driver.names(keys.iter().map(Vec::as_slice));
        let (valid, count) = (names.valid, keys.len() - names.invalid.len());
        let work =
            self.driver.run(move |session, deadline| async move { session.holders(valid, deadline).await });
        spread(work.await, count, names.invalid)
    }

    /// [`crate::BlockingClient::copy`], or with a source [`crate::BlockingClient::move_to`].
    pub async fn copy(
        &self,
        key: &[u8],
        targets: Vec<CoreId>,
        source: Option<CoreId>,
    ) -> Result<TaskStart, Error> {
        let name = self.driver.name(key)?;
        let work = self.driver.run(move |session, deadline| async move {
            session.copy_object(name, targets, source, deadline).await
        });
        work.await?
    }

    /// [`crate::BlockingClient::task`].
    pub async fn task(&self, task: TaskId) -> Result<Option<TaskInfo>, Error> {
        let work =
            self.driver.run(move |session, deadline| async move { session.task(task, deadline).await });
        work.await?
    }

    /// [`crate::BlockingClient::give_up`].
    pub async fn give_up(&self, key: &[u8], holder: CoreId) -> Result<Found<bool>, Error> {
        let name = self.driver.name(key)?;
        let work = self
            .driver
            .run(move |session, deadline| async move { session.give_up(name, holder, deadline).await });
        work.await?
    }
}
