//! The link to the master: register, heartbeat, tables.
//!
//! A master that cannot be reached changes nothing: the core goes on with what it knows and tries again. A newer
//! table that only peers have is fetched from them.

use crate::percore::PerCore;
use snowskin_io::framing::{Channel, FrameError};
use snowskin_io::{Platform, with_deadline};
use snowskin_protocol::wire::control::Orders;
use snowskin_protocol::wire::{Opcode, Refusal};
use snowskin_protocol::{Epoch, RoutingTable};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time between two heartbeats while the core is not in the table yet, leaves, or has slots on their way: others wait
/// for the end of that.
const HEARTBEAT_IMPATIENT: Duration = Duration::from_millis(50);
/// Time between two exchanges at the least, whatever peers say of newer epochs.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Time for one answer of the master or a peer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// What the control loop and the membership task share.
#[derive(Clone, Debug)]
pub struct MasterLink {
    address: SocketAddr,
    stage: Rc<Cell<Stage>>,
    alone: Rc<Cell<bool>>,
    /// Slots on their way, by the last report.
    told_moving: Rc<Cell<u32>>,
}

/// How far a core is on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Staying,
    /// Its slots are to be given away; it still answers for its bytes.
    Leaving,
    /// It goes now, whatever it still has.
    Farewell,
    /// The master knows.
    Left,
}

impl MasterLink {
    /// A link to the master at `address`.
    pub fn new(address: SocketAddr) -> Self {
        MasterLink { address, stage: Rc::default(), alone: Rc::default(), told_moving: Rc::default() }
    }

    /// From now on the master is told that the core leaves.
    pub(super) fn leave(&self) {
        self.stage.set(Stage::Leaving);
    }

    /// From now on the master is told that the core is gone.
    pub(super) fn say_farewell(&self) {
        self.stage.set(Stage::Farewell);
    }

    /// Whether the master knows that the core is gone.
    pub(super) fn has_left(&self) -> bool {
        self.stage.get() == Stage::Left
    }

    /// Whether nobody is there who could take slots: no master, or no other member.
    pub(super) fn is_alone<P: Platform>(&self, core: &PerCore<P>) -> bool {
        let routing = core.routing.borrow();
        let engine = core.identity.id.engine;
        let others = routing.table.members.iter().any(|member| member.id.engine != engine);
        self.alone.get() || !others
    }
}

/// Keeps the core a member for as long as it runs.
pub(super) async fn run<P: Platform>(core: Rc<PerCore<P>>, link: MasterLink) {
    let mut channel = None;
    let mut registered = false;
    let mut last_complaint = None;
    while link.stage.get() != Stage::Left {
        match speak(&core, &link, &mut channel, &mut registered).await {
            Ok(()) => {
                if last_complaint.take().is_some() {
                    log::info!("core {}: the master at {} answers again", core.identity.id, link.address);
                }
                link.alone.set(false);
                // The master makes the epochs: what a peer claims beyond its answer is not so, or is said again.
                core.epoch_heard.set(core.epoch());
            }
            Err(error) => {
                channel = None;
                link.alone.set(true);
                let complaint = error.to_string();
                if last_complaint.as_ref() != Some(&complaint) {
                    let (id, address) = (core.identity.id, link.address);
                    log::warn!(
                        "core {id}: no answer from the master at {address}: {complaint}; going on without"
                    );
                    last_complaint = Some(complaint);
                }
                fetch_from_peers(&core).await;
            }
        }
        core.platform.sleep(PAUSE_MIN).await;
        let impatient = !core.is_member()
            || link.stage.get() != Stage::Staying
            || core.epoch_heard.get() > core.epoch()
            || link.told_moving.get() > 0;
        let pause = if impatient { HEARTBEAT_IMPATIENT } else { HEARTBEAT };
        let wanted = core.table_wanted.wait();
        with_deadline(&core.platform, core.platform.now() + pause, wanted).await;
    }
}

/// One exchange with the master, on a new channel if there is none.
async fn speak<P: Platform>(
    core: &Rc<PerCore<P>>,
    link: &MasterLink,
    channel: &mut Option<Channel<P>>,
    registered: &mut bool,
) -> Result<(), FrameError> {
    let exchange = async {
        let channel = match channel {
            Some(channel) => channel,
            None => {
                *registered = false;
                channel.insert(Channel::open(&core.platform, link.address).await?)
            }
        };
        let stage = link.stage.get();
        let opcode = match (stage, *registered) {
            (Stage::Staying, true) => Opcode::Heartbeat,
            (Stage::Staying, false) => Opcode::Register,
            _ => Opcode::Leave,
        };
        let mut report = core.report();
        link.told_moving.set(report.slots_moving);
        if matches!(stage, Stage::Farewell | Stage::Left) {
            report.member.weight = 0;
        }
        let mut reply = Vec::new();
        match channel.call(opcode, core.epoch(), &report.encode(), &mut reply).await {
            Ok(_) => {}
            Err(FrameError::Refused(Refusal::Stale, sentence)) => {
                // Another engine has our name and a later life. The table that says so ends our part.
                channel.call(Opcode::Table, core.epoch(), &[], &mut reply).await?;
                core.apply_table(RoutingTable::decode(&reply)?);
                return Err(FrameError::Refused(Refusal::Stale, sentence));
            }
            Err(error) => return Err(error),
        }
        if stage == Stage::Farewell {
            link.stage.set(Stage::Left);
            return Ok(());
        }
        let orders = Orders::decode(&reply)?;
        *registered = orders.wants_register == 0;
        core.apply_settings(orders.settings);
        core.heritage.set((orders.epoch, orders.heritage()));
        if orders.wants_table == 1 {
            let routing = core.routing.borrow().clone();
            channel.call(Opcode::OfferTable, core.epoch(), &routing.encoded, &mut reply).await?;
        }
        if orders.epoch > core.epoch() {
            channel.call(Opcode::Table, core.epoch(), &[], &mut reply).await?;
            core.apply_table(RoutingTable::decode(&reply)?);
        }
        Ok(())
    };
    let deadline = core.platform.now() + ANSWER_TIME;
    let late = || FrameError::Io(std::io::ErrorKind::TimedOut.into());
    with_deadline(&core.platform, deadline, exchange).await.unwrap_or_else(|| Err(late()))
}

/// Without the master: if peers have mentioned a newer epoch, asks them for its table.
async fn fetch_from_peers<P: Platform>(core: &Rc<PerCore<P>>) {
    let routing = core.routing.borrow().clone();
    for member in &routing.table.members {
        if core.epoch_heard.get() <= core.epoch() {
            return;
        }
        if member.id == core.identity.id {
            continue;
        }
        let fetch = fetch_table(&core.platform, member.address, core.epoch());
        let deadline = core.platform.now() + ANSWER_TIME;
        if let Some(Ok(table)) = with_deadline(&core.platform, deadline, fetch).await {
            core.apply_table(table);
        }
    }
}

async fn fetch_table<P: Platform>(
    platform: &P,
    address: SocketAddr,
    epoch: Epoch,
) -> Result<RoutingTable, FrameError> {
    let mut reply = Vec::new();
    Channel::open(platform, address).await?.call(Opcode::Table, epoch, &[], &mut reply).await?;
    Ok(RoutingTable::decode(&reply)?)
}
