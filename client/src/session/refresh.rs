//! Getting the routing table: at the start, and whenever somebody learns that it has changed.
//!
//! At most one fetch is under way, others wait for its end. It asks one peer after the other, a moment apart and
//! without waiting for those that are slow: the one that knows best first, then members, then seeds.

use super::link::Link;
use super::{LinkError, Session};
use crate::error::Error;
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use snowskin_io::seeded_bug;
use snowskin_io::{Platform, with_deadline};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::{Member, RoutingTable};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// After so long without an answer the next peer is asked as well.
const NEXT_PEER_AFTER: Duration = Duration::from_millis(30);
/// Peers asked in one refresh.
const PEERS_MAX: usize = 12;
/// How long a refresh may take.
const REFRESH_MAX: Duration = Duration::from_secs(2);
/// Pauses while the cluster has no engine: they double from the first to the last.
const NO_ENGINES_PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];

impl<P: Platform> Session<P> {
    /// The table in use; fetched if there is none, and waited for until there is an engine in it.
    pub(super) async fn some_table(self: &Rc<Self>) -> Result<Arc<RoutingTable>, Error> {
        let [mut pause, longest] = NO_ENGINES_PAUSES;
        loop {
            let table = self.table_now();
            if !table.members.is_empty() {
                return Ok(table);
            }
            self.refresh(None).await?;
            if self.table_now().members.is_empty() {
                self.shared.platform.sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }

    /// Fetches the table, or waits for the fetch that is under way. `hint` is asked first.
    pub(super) async fn refresh(self: &Rc<Self>, hint: Option<SocketAddr>) -> Result<(), Error> {
        let refreshed = self.refreshed.next();
        self.start_refresh(hint);
        refreshed.await;
        self.refresh_error.borrow().clone().map_or(Ok(()), Err)
    }

    /// Fetches the table in the background, if nobody does already.
    pub(super) fn start_refresh(self: &Rc<Self>, hint: Option<SocketAddr>) {
        if self.is_refreshing.replace(true) {
            return;
        }
        let session = self.clone();
        self.shared.platform.spawn(async move {
            let platform = &session.shared.platform;
            let limit = platform.now() + REFRESH_MAX;
            let result = with_deadline(platform, limit, session.fetch_table(hint)).await;
            *session.refresh_error.borrow_mut() = result.unwrap_or(Err(Error::Deadline)).err();
            session.shared.counters.borrow_mut().refreshes += 1;
            session.is_refreshing.set(false);
            session.refreshed.happen();
        });
    }

    async fn fetch_table(self: &Rc<Self>, hint: Option<SocketAddr>) -> Result<(), Error> {
        let mut peers = self.peers(hint).into_iter();
        let mut asked = FuturesUnordered::new();
        let mut last_error = Error::NoEngines;
        asked.extend(peers.next().map(|address| self.ask_table(address)));
        loop {
            let waited = {
                let pause = pin!(self.shared.platform.sleep(NEXT_PEER_AFTER));
                match select(asked.next(), pause).await {
                    Either::Left((answer, _)) => Some(answer),
                    Either::Right(_) => None,
                }
            };
            match waited {
                Some(Some(Ok(table))) => {
                    self.adopt(table);
                    return Ok(());
                }
                Some(Some(Err(error))) => last_error = error,
                Some(None) => return Err(last_error),
                None => {}
            }
            asked.extend(peers.next().map(|address| self.ask_table(address)));
        }
    }

    /// Whom to ask, in order.
    fn peers(&self, hint: Option<SocketAddr>) -> Vec<SocketAddr> {
        let mut peers: Vec<SocketAddr> = hint.into_iter().collect();
        let mut add = |address: SocketAddr, limit: usize| {
            if peers.len() < limit && !peers.contains(&address) {
                peers.push(address);
            }
        };
        let open = |link: &&Rc<Link<P>>| link.open_connection().is_some();
        let mut connected: Vec<_> =
            self.links.borrow().values().filter(open).map(|link| link.address).collect();
        connected.sort_unstable();
        let table = self.table_now();
        let turn = self.shared.platform.entropy() as usize;
        for offset in 0..connected.len() {
            add(
                connected[(offset % connected.len() + turn % connected.len()) % connected.len()],
                PEERS_MAX / 3,
            );
        }
        self.config.seeds.iter().for_each(|&seed| add(seed, PEERS_MAX * 2 / 3));
        for offset in 0..table.members.len().min(PEERS_MAX) {
            let index = (turn % table.members.len() + offset) % table.members.len();
            add(table.members[index].address, PEERS_MAX);
        }
        peers
    }

    async fn ask_table(self: &Rc<Self>, address: SocketAddr) -> Result<RoutingTable, Error> {
        let limit = self.shared.platform.now() + REFRESH_MAX;
        let reply = self.ask_plain(address, Opcode::Table, &[], limit).await;
        let body = reply.map_err(|error| error.into_error(None, address))?;
        let unreadable =
            |error| LinkError::Broken(format!("its table cannot be read: {error}")).into_error(None, address);
        RoutingTable::decode(&body).map_err(unreadable)
    }

    /// Takes a table over, unless ours is as new.
    fn adopt(&self, table: RoutingTable) {
        self.found_no_engine.set(table.members.is_empty());
        let ours = self.table_now();
        let lives_on = |member: &Member| {
            table.members.iter().any(|other| (other.id, other.incarnation) == (member.id, member.incarnation))
        };
        // A cluster that was started anew counts its epochs anew: nobody whom we know lives in it.
        let is_reborn = !table.members.is_empty() && !ours.members.iter().any(lives_on);
        let is_emptied = table.members.is_empty() && !ours.members.is_empty();
        let is_older = table.epoch <= ours.epoch && !seeded_bug!("older table adopted");
        if is_emptied || (is_older && !is_reborn) {
            return;
        }
        log::debug!("routing table of epoch {} with {} cores", table.epoch, table.members.len());
        self.shared.epoch.set(table.epoch);
        let is_known = |address: &SocketAddr| {
            self.config.seeds.contains(address)
                || table.members.iter().any(|member| member.address == *address)
        };
        self.links.borrow_mut().retain(|address, link| {
            let is_kept = is_known(address);
            if !is_kept {
                // What is pending there is asked again at the new homes, also if the core only hangs.
                link.give_up("it is no longer a member");
            }
            is_kept
        });
        let table = Arc::new(table);
        self.observer.borrow().iter().for_each(|observer| observer(&table));
        *self.table.borrow_mut() = table;
    }
}
