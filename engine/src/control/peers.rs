//! Connections to other cores that are kept for the next question, for a second.

use crate::percore::PerCore;
use snowskin_io::framing::{Channel, FrameError};
use snowskin_io::{Moment, Platform, with_deadline};
use snowskin_protocol::{CoreId, Life, Member};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

/// Connections to one core that are kept at most.
const IDLE_MAX: usize = 4;

/// How long a connection is kept on which nothing is asked.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// Connections to one core on which nothing is under way, and since when.
type Idle<P> = Vec<(Moment, Channel<P>)>;

/// Those to all cores.
pub struct Peers<P: Platform>(RefCell<BTreeMap<Life, Idle<P>>>);

impl<P: Platform> Default for Peers<P> {
    fn default() -> Self {
        Peers(RefCell::default())
    }
}

impl<P: Platform> Peers<P> {
    /// Closes those to cores that are no members any more.
    pub(crate) fn keep_only(&self, members: &[Member]) {
        self.0.borrow_mut().retain(|life, _| members.iter().any(|member| member.life() == *life));
    }

    /// Closes those that nobody has needed lately.
    pub(crate) fn close_idle(&self, now: Moment) {
        let mut peers = self.0.borrow_mut();
        peers.values_mut().for_each(|idle| idle.retain(|(since, _)| now < *since + IDLE_TIME));
        peers.retain(|_, idle| !idle.is_empty());
    }

    fn take(&self, of: Life) -> Option<Channel<P>> {
        self.0.borrow_mut().get_mut(&of)?.pop().map(|(_, channel)| channel)
    }

    fn give_back(&self, of: Life, channel: Channel<P>, now: Moment) {
        let mut peers = self.0.borrow_mut();
        let idle = peers.entry(of).or_default();
        if idle.len() < IDLE_MAX {
            idle.push((now, channel));
        }
    }
}

/// The member that a core is in the table, in whatever life.
pub(crate) fn member<P: Platform>(core: &PerCore<P>, id: CoreId) -> Option<Member> {
    core.routing.borrow().table.members.iter().find(|member| member.id == id).copied()
}

/// Asks a core something, in so much time. The connection is kept if that ends well.
pub(crate) async fn ask<P: Platform, T>(
    core: &PerCore<P>,
    of: &Member,
    time: Duration,
    question: impl AsyncFnOnce(&mut Channel<P>) -> Result<T, FrameError>,
) -> Result<T, FrameError> {
    let life = of.life();
    let asking = async {
        let mut channel = match core.peers.take(life) {
            Some(channel) => channel,
            None => open(core, of).await?,
        };
        let answer = question(&mut channel).await;
        if answer.is_ok() && core.routing.borrow().table.members.contains(of) {
            core.peers.give_back(life, channel, core.platform.now());
        }
        answer
    };
    let deadline = core.platform.now() + time;
    let late = || FrameError::Io(ErrorKind::TimedOut.into());
    with_deadline(&core.platform, deadline, asking).await.unwrap_or_else(|| Err(late()))
}

async fn open<P: Platform>(core: &PerCore<P>, of: &Member) -> Result<Channel<P>, FrameError> {
    let channel = Channel::open(&core.platform, of.address).await?;
    let welcome = channel.welcome();
    if (welcome.core_id(), welcome.incarnation) != of.life() {
        // Somebody else listens there now.
        return Err(FrameError::Io(ErrorKind::ConnectionRefused.into()));
    }
    Ok(channel)
}
