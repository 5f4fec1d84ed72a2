//! A core as the master sees it: registers, sends heartbeats, fetches and offers tables. It holds no data.

use snowskin_io::framing::{Channel, FrameError};
use snowskin_io::sim::SimPlatform;
use snowskin_io::{Platform, with_deadline};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::control::{Load, Orders, Report};
use snowskin_protocol::{CoreId, EngineId, Incarnation, Member, RoutingTable};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// A scripted core, shared by its task and the test.
#[derive(Clone)]
pub(crate) struct ScriptedCore {
    /// What it says of itself.
    pub(crate) report: Rc<RefCell<Report>>,
    /// The newest table it has.
    pub(crate) table: Rc<RefCell<RoutingTable>>,
    /// Tables it has offered.
    pub(crate) offers: Rc<Cell<u32>>,
    /// What it asks for each second.
    pub(crate) opcode: Rc<Cell<Opcode>>,
}

impl ScriptedCore {
    /// A core of `engine` in a life. It does nothing before [`ScriptedCore::live`].
    pub(crate) fn new(platform: &SimPlatform, engine: &str, core: u16, engine_cores: u16, life: u64) -> Self {
        let member = Member {
            id: CoreId { engine: EngineId::of_name(engine), core },
            incarnation: Incarnation(life),
            address: platform.address(7400 + core),
            weight: 1024,
        };
        let load = Load { capacity_bytes: 1 << 30, free_bytes: 1 << 29, ..Load::default() };
        let table = RoutingTable::empty();
        let report = Report { member, engine_cores, epoch: table.epoch, slots_moving: 0, keeps: false, load };
        ScriptedCore {
            report: Rc::new(RefCell::new(report)),
            table: Rc::new(RefCell::new(table)),
            offers: Rc::default(),
            opcode: Rc::new(Cell::new(Opcode::Register)),
        }
    }

    /// Lives as a task on its node, until the node dies.
    pub(crate) fn live(&self, platform: &SimPlatform, master: SocketAddr) {
        let (core, node) = (self.clone(), platform.clone());
        platform.spawn(async move {
            loop {
                // Whatever ended the conversation, the core tries again.
                let _ = core.converse(&node, master).await;
                node.sleep(Duration::from_millis(200)).await;
            }
        });
    }

    async fn converse(&self, node: &SimPlatform, master: SocketAddr) -> Result<(), FrameError> {
        let timeout = || FrameError::Io(std::io::ErrorKind::TimedOut.into());
        let soon = || node.now() + Duration::from_secs(2);
        let open = with_deadline(node, soon(), Channel::open(node, master));
        let mut channel: Channel<SimPlatform> = open.await.ok_or_else(timeout)??;
        loop {
            let step = with_deadline(node, soon(), self.step(&mut channel));
            step.await.ok_or_else(timeout)??;
            node.sleep(Duration::from_secs(1)).await;
        }
    }

    /// One question, and what follows from its answer.
    async fn step(&self, channel: &mut Channel<SimPlatform>) -> Result<(), FrameError> {
        let mut reply = Vec::new();
        let mut orders = self.ask(channel, self.opcode.get()).await?;
        if orders.wants_register == 1 {
            orders = self.ask(channel, Opcode::Register).await?;
        }
        if self.opcode.get() == Opcode::Register {
            self.opcode.set(Opcode::Heartbeat);
        }
        let epoch = self.table.borrow().epoch;
        if orders.wants_table == 1 {
            self.offers.set(self.offers.get() + 1);
            let mut body = Vec::new();
            self.table.borrow().encode(&mut body);
            channel.call(Opcode::OfferTable, epoch, &body, &mut reply).await?;
            orders = Orders::decode(&reply)?;
        }
        if orders.epoch > epoch {
            channel.call(Opcode::Table, epoch, &[], &mut reply).await?;
            let table = RoutingTable::decode(&reply)?;
            self.report.borrow_mut().epoch = table.epoch;
            *self.table.borrow_mut() = table;
        }
        Ok(())
    }

    async fn ask(&self, channel: &mut Channel<SimPlatform>, opcode: Opcode) -> Result<Orders, FrameError> {
        let report = *self.report.borrow();
        let mut reply = Vec::new();
        channel.call(opcode, report.epoch, &report.encode(), &mut reply).await?;
        Ok(Orders::decode(&reply)?)
    }

    /// The epoch of the newest table it has.
    pub(crate) fn epoch(&self) -> u64 {
        self.table.borrow().epoch.0
    }

    /// Slots whose home it is by its own table.
    pub(crate) fn slots(&self) -> usize {
        let (id, table) = (self.report.borrow().member.id, self.table.borrow());
        let index = table.index_of(id);
        table.homes.iter().filter(|&&home| Some(home) == index).count()
    }
}
