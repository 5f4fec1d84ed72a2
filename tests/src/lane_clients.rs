//! Clients of simulated clusters that have a lane to a core: sessions, and those that do as they like with it.

use crate::simulated::{SimCluster, patiently};
use crate::values::value_of;
use bytes::Bytes;
use snowskin_client::{PutOutcome, Session, View};
use snowskin_io::framing::{FrameReader, say_hello};
use snowskin_io::lane::{Caller, LaneRegion, PinReturns};
use snowskin_io::sim::{SimBell, SimPlatform};
use snowskin_io::{Bell, Platform, Stream, local_socket};
use snowskin_protocol::wire::data::{KeyItem, PutItem};
use snowskin_protocol::wire::lane::{LaneOpcode, LaneRecord, LaneReply, LaneRequest};
use snowskin_protocol::{Checksum, Epoch, ObjectName};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// A session, and where it runs.
pub type Client = (SimPlatform, Rc<Session<SimPlatform>>);

/// Of the object with this number.
pub fn key(number: usize) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

/// Of the object with this number.
pub fn name(number: usize) -> ObjectName {
    ObjectName::new("default", &key(number)).unwrap()
}

/// Stores values of so many bytes, in place of what is there.
pub fn put(
    cluster: &mut SimCluster,
    client: &Client,
    numbers: std::ops::Range<usize>,
    generation: u64,
    bytes: usize,
) {
    let (node, session) = client.clone();
    let items: Vec<_> =
        numbers.map(|n| (name(n), Bytes::from(value_of(&key(n), generation, bytes)))).collect();
    let count = items.len();
    let platform = node.clone();
    let outcomes = cluster.run(&node, async move { session.upsert(items, patiently(&platform)).await });
    assert_eq!(outcomes, vec![Ok(PutOutcome::Stored); count]);
}

/// Reads values, which must be held.
pub fn view(cluster: &mut SimCluster, client: &Client, numbers: std::ops::Range<usize>) -> Vec<View> {
    let (node, session) = client.clone();
    let names: Vec<_> = numbers.map(name).collect();
    let platform = node.clone();
    let views = cluster.run(&node, async move { session.view(names, patiently(&platform)).await });
    views.into_iter().map(|found| found.expect("no errors here").hit().expect("held")).collect()
}

/// That another client is served, and that nothing is reserved, pinned or left of any lane but its own.
pub fn nothing_is_left(cluster: &mut SimCluster, friend: &Client) {
    cluster.pass(Duration::from_secs(1));
    put(cluster, friend, 900..910, 0, 5_000);
    let views = view(cluster, friend, 900..910);
    assert!(views.iter().all(|view| view.is_in_place() && view.is_intact()));
    drop(views);
    cluster.pass(Duration::from_secs(1));
    let stats = cluster.stats();
    assert_eq!((stats.lanes, stats.lane_pins, stats.lane_puts), (1, 0, 0));
    assert_eq!((stats.pinned_bytes, stats.reserved_bytes), (0, 0));
}

/// A lane, and nothing that would use it well.
pub struct RawLane {
    /// Requests and replies.
    pub caller: Caller<LaneRegion>,
    /// Pins that it gives back.
    pub returns: PinReturns<LaneRegion>,
    /// All of it, for who scribbles.
    pub memory: LaneRegion,
    /// Wakes the core, and hears of it.
    pub bell: SimBell,
    /// Where the client runs.
    pub platform: SimPlatform,
}

impl RawLane {
    /// A lane to a core of the same host, from the moment that the core has welcomed it.
    pub async fn open(platform: &SimPlatform, core: SocketAddr) -> RawLane {
        let path = local_socket(Path::new("/simulated"), core);
        let mut stream = platform.connect_local(&path).await.expect("a core of this host");
        let lane = stream.take_lane().expect("a lane");
        let (reader, mut writer) = stream.split();
        say_hello(&mut FrameReader::new(reader), &mut writer).await.expect("a welcome");
        let memory = lane.memory;
        RawLane {
            caller: Caller::new(memory.clone()),
            returns: PinReturns::new(memory.clone()),
            memory,
            bell: lane.bell,
            platform: platform.clone(),
        }
    }

    /// Sends a request, whatever it is.
    pub fn submit(&mut self, opcode: LaneOpcode, items: u16, body: &[u8]) {
        let request = LaneRequest { opcode, items, body_bytes: body.len() as u32, epoch: Epoch(1) };
        self.caller.submit(&request.encode(), body);
        self.bell.ring();
    }

    /// The only record of the next reply.
    pub async fn record(&mut self) -> LaneRecord {
        for _ in 0..1_000 {
            if let Some(completion) = self.caller.take() {
                assert_eq!(LaneReply::decode(completion.head()).expect("a head").items, 1);
                return LaneRecord::decode(completion.record()).expect("a record");
            }
            self.platform.sleep(Duration::from_millis(1)).await;
        }
        panic!("no reply");
    }

    /// Asks for a value.
    pub fn ask_get(&mut self, number: usize) {
        let name = name(number);
        let item = KeyItem::at_home(name.as_ref());
        self.submit(LaneOpcode::Get, 1, &[bytemuck::bytes_of(&item), name.bytes()].concat());
    }

    /// Asks for room for a value.
    pub fn ask_reserve(&mut self, number: usize, bytes: u64) {
        let name = name(number);
        let item = PutItem::new(name.as_ref(), bytes, Checksum(0));
        self.submit(LaneOpcode::Reserve, 1, &[bytemuck::bytes_of(&item), name.bytes()].concat());
    }

    /// Asks for a value, and for the answer.
    pub async fn get(&mut self, number: usize) -> LaneRecord {
        self.ask_get(number);
        self.record().await
    }

    /// Waits until something has arrived since.
    pub async fn arrival(&mut self, seen: u32) {
        for _ in 0..1_000 {
            if self.caller.arrivals() != seen {
                return;
            }
            self.platform.sleep(Duration::from_millis(1)).await;
        }
        panic!("nothing arrives");
    }
}
