//! The ledger is written once for the cores of an engine that come to keep their slots together.

use futures_util::future::join_all;
use snowskin_io::Platform;
use snowskin_io::framing::Channel;
use snowskin_io::sim::{SimPlatform, Simulation};
use snowskin_master::{MasterConfig, MasterHandle};
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::control::{Heritage, Load, Orders, Report};
use snowskin_protocol::{CoreId, EngineId, Epoch, Incarnation, Member};
use std::path::Path;
use std::time::Duration;

const CORES: u16 = 6;
const SECOND: Duration = Duration::from_secs(1);

fn report(platform: &SimPlatform, core: u16, epoch: Epoch, keeps: bool) -> Report {
    let member = Member {
        id: CoreId { engine: EngineId(1), core },
        incarnation: Incarnation(1),
        address: platform.address(7400 + core),
        weight: 64,
    };
    Report { member, engine_cores: CORES, epoch, slots_moving: 0, keeps, load: Load::default() }
}

async fn ask(channel: &mut Channel<SimPlatform>, opcode: Opcode, report: Report) -> Orders {
    let mut reply = Vec::new();
    channel.call(opcode, report.epoch, &report.encode(), &mut reply).await.expect("an answer");
    Orders::decode(&reply).expect("orders")
}

fn with_ledger(simulation: &Simulation, ledger: &Path) -> MasterHandle {
    let node = simulation.node("master");
    let (platform, listen, ledger) = (node.clone(), node.address(7300), Some(ledger.to_owned()));
    let config = MasterConfig { listen, ledger, ..MasterConfig::default() };
    let start = async move { snowskin_master::start(&platform, config).await };
    simulation.block_on(&node, start).expect("it ends").expect("it starts")
}

#[test]
fn cores_that_keep_their_slots_from_the_same_moment_on_share_a_write_of_the_ledger() {
    let directory = tempfile::tempdir().expect("a folder");
    let simulation = Simulation::new(5);
    let (handle, node) =
        (with_ledger(&simulation, &directory.path().join("ledger")), simulation.node("engine"));
    let (platform, master) = (node.clone(), handle.master.clone());
    let cores = async move {
        let mut channels = Vec::new();
        for core in 0..CORES {
            let mut channel = Channel::open(&platform, handle.address).await.expect("it answers");
            ask(&mut channel, Opcode::Register, report(&platform, core, Epoch(0), false)).await;
            channels.push(channel);
        }
        while master.borrow().state.table().members.len() < usize::from(CORES) {
            platform.sleep(SECOND).await;
        }
        let (epoch, writes) = (master.borrow().state.table().epoch, master.borrow().ledger_writes);
        let beats = (0..).zip(&mut channels);
        let beats = beats
            .map(|(core, channel)| ask(channel, Opcode::Heartbeat, report(&platform, core, epoch, true)));
        let orders = join_all(beats).await;
        assert!(
            orders.iter().all(|orders| (orders.epoch, orders.heritage()) == (epoch, Heritage::Remembered))
        );
        assert_eq!(master.borrow().ledger_writes - writes, 1, "of {CORES} cores");
        // Who says so once more hears it at once, and nothing is written.
        let begun = platform.now();
        let again = ask(&mut channels[0], Opcode::Heartbeat, report(&platform, 0, epoch, true)).await;
        assert_eq!((again.heritage(), master.borrow().ledger_writes - writes), (Heritage::Remembered, 1));
        assert!(platform.now() - begun < Duration::from_millis(2));
    };
    simulation.block_on(&node, cores).expect("it ends");
}
