//! One core of an engine, the real code, in the simulator, with a master that is ten lines of script: for tests that
//! look at what a single core does to whom.

use crate::peer::Peer;
use snowskin_engine::control::{self, CoreConfig, Supervisor};
use snowskin_engine::eviction::PolicyKind;
use snowskin_engine::percore::PerCore;
use snowskin_engine::segment::MappingRequest;
use snowskin_io::framing::{FrameError, FrameReader, accept_hello, write_frame};
use snowskin_io::sim::{Limit, NetworkOptions, Options, SimPlatform, SimStream, Simulation};
use snowskin_io::{Accept, Platform, Stream};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::control::{Heritage, Orders, Report};
use snowskin_protocol::wire::data::ItemStatus;
use snowskin_protocol::wire::hello::Welcome;
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::{CoreId, EngineId, Epoch, Incarnation, Member, RoutingTable, Settings};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

const MASTER_PORT: u16 = 7300;
const CORE_PORT: u16 = 7400;
/// Steps that a run may take: a gigabyte passes in a fraction of them.
const STEPS_MAX: u64 = 50_000_000;
/// Time for a core to notice that a peer has gone.
const SETTLE: Duration = Duration::from_millis(100);

/// A core that is the home of everything, its world, and a client that behaves well all the time.
pub struct LoneCore {
    /// The world.
    pub sim: Simulation,
    /// Where peers are.
    pub peers: SimPlatform,
    /// The core.
    pub core: Rc<PerCore<SimPlatform>>,
    /// Reports that the master has got.
    pub reports: Rc<Cell<u64>>,
    friend: Option<Peer>,
    puts: u64,
}

struct Forever;

impl Supervisor for Forever {
    fn listening(&self, _address: SocketAddr) {}

    fn do_all_listen(&self) -> bool {
        true
    }

    fn joined(&self) {}

    fn should_stop(&self) -> bool {
        false
    }
}

impl LoneCore {
    /// A core with so much memory that accepts so many connections, serving; one of them is the well-behaved client's.
    pub fn start(seed: u64, memory_bytes: usize, connections_max: u64) -> Self {
        let network = NetworkOptions { segment_bytes_max: 256 << 10, ..NetworkOptions::default() };
        Self::on_network(seed, memory_bytes, connections_max, network)
    }

    /// The same, on a network of one's own.
    pub fn on_network(seed: u64, memory_bytes: usize, connections_max: u64, network: NetworkOptions) -> Self {
        let sim = Simulation::with_options(seed, Options { network, ..Options::default() });
        let (master, node, peers) = (sim.node("master"), sim.node("core"), sim.node("peers"));
        let reports = Rc::new(Cell::new(0));
        master.spawn(be_master(master.clone(), reports.clone()));
        let config = CoreConfig {
            id: CoreId { engine: EngineId(1), core: 0 },
            incarnation: Incarnation(1),
            engine_cores: 1,
            listen: node.address(CORE_PORT),
            local: None,
            advertise: None,
            master: master.address(MASTER_PORT),
            memory: MappingRequest::plain(memory_bytes),
            ssd: None,
            policy: PolicyKind::default(),
            connections_max,
            settings: settings(),
        };
        let platform = node.clone();
        let opened = sim.block_on(&node, async move {
            let (core, listener) = control::open(&platform, &config, &mut |_, _| ControlFlow::Continue(()))
                .await
                .expect("the port is free");
            platform.spawn(control::run(core.clone(), listener, config.master, Forever));
            core
        });
        let core = opened.expect("the core opens");
        let mut lone = LoneCore { sim, peers, core, reports, friend: None, puts: 0 };
        lone.pass(Duration::from_secs(1));
        assert!(lone.core.is_member(), "the core has joined");
        let friend = lone.greet();
        lone.friend = Some(friend);
        lone
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.core.identity.address
    }

    /// Runs something on the peers' node to its end.
    pub fn run<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> T {
        let limit = Limit { steps: STEPS_MAX, ..Limit::default() };
        self.sim.run(&self.peers, limit, task).expect("the task ends")
    }

    /// Lets virtual time pass.
    pub fn pass(&self, time: Duration) {
        self.sim.run_for(time).expect("a bounded number of steps");
    }

    /// A new peer that has said hello.
    pub fn greet(&self) -> Peer {
        let (peers, address) = (self.peers.clone(), self.address());
        self.run(async move { Peer::greet(&peers, address).await })
    }

    /// The core's counters. Panics if its bytes do not add up.
    pub fn stats(&self) -> CoreStats {
        let stats = self.core.stats();
        let bytes = stats.free_bytes + stats.live_bytes + stats.pinned_bytes + stats.reserved_bytes;
        assert_eq!(bytes, stats.capacity_bytes, "the bytes do not add up: {stats:?}");
        stats
    }

    /// That the well-behaved client is served with right bytes; answers how long that took.
    pub fn serves_its_friend(&mut self) -> Duration {
        self.puts += 1;
        let (key, byte) = (format!("friend-{}", self.puts), self.puts as u8);
        let mut friend = self.friend.take().expect("the friend is only away in here");
        let before = self.sim.now();
        self.friend = Some(self.run(async move {
            let value = vec![byte; 3000];
            assert_eq!(friend.put(&key, &value).await.status, ItemStatus::Ok);
            let (reply, found) = friend.get(&key).await;
            assert_eq!(reply.status, ItemStatus::Ok);
            assert!(found == value, "other bytes than were put");
            assert_eq!(friend.remove(&key).await.status, ItemStatus::Ok);
            friend
        }));
        self.sim.now() - before
    }

    /// That nothing is left of any attack: the well-behaved client is served, nothing is reserved or pinned, and only
    /// so many strangers are connected.
    pub fn is_well(&mut self, strangers: u64) {
        self.pass(SETTLE);
        self.serves_its_friend();
        let stats = self.stats();
        assert_eq!((stats.reserved_bytes, stats.pinned_bytes), (0, 0), "{stats:?}");
        assert_eq!(stats.connections, 1 + strangers, "{stats:?}");
    }
}

fn settings() -> Settings {
    Settings { lease_ms: 0, ..Settings::default() }
}

/// Makes whoever registers the only member.
async fn be_master(platform: SimPlatform, reports: Rc<Cell<u64>>) {
    let mut listener = platform.listen(platform.address(MASTER_PORT)).await.expect("the port is free");
    let table = Rc::new(RefCell::new(RoutingTable::empty()));
    while let Ok((stream, _)) = listener.accept().await {
        let (reports, table) = (reports.clone(), table.clone());
        platform.spawn(async move {
            let ended = answer_core(stream, &reports, &table).await;
            log::debug!("the master's connection ends: {ended:?}");
        });
    }
}

async fn answer_core(
    stream: SimStream,
    reports: &Cell<u64>,
    table: &RefCell<RoutingTable>,
) -> Result<(), FrameError> {
    let (reader, mut writer) = stream.split();
    let mut reader = FrameReader::new(reader);
    let welcome = |version| Welcome::of_master(version, Incarnation(9), Epoch(0));
    accept_hello(&mut reader, &mut writer, welcome).await?;
    let mut body = Vec::new();
    while let Some((header, checksum)) = reader.header().await? {
        reader.body(&header, checksum, &mut body).await?;
        let mut answer = Vec::new();
        if header.opcode == Opcode::Table {
            table.borrow().encode(&mut answer);
        } else {
            reports.set(reports.get() + 1);
            *table.borrow_mut() = table_of(Report::decode(&body)?.member);
            let orders = Orders {
                epoch: Epoch(1),
                settings: settings(),
                wants_table: 0,
                wants_register: 0,
                heritage: Heritage::Remembered as u8,
                reserved: [0; 5],
            };
            answer.extend_from_slice(bytemuck::bytes_of(&orders));
        }
        write_frame(&mut writer, header.reply(Epoch(1)), &answer).await?;
    }
    Ok(())
}

fn table_of(member: Member) -> RoutingTable {
    let mut table = RoutingTable::empty();
    table.epoch = Epoch(1);
    table.members.push(member);
    table.homes.fill(0);
    table
}
