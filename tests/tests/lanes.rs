//! Lanes, in the simulator: values are used where they lie, and whatever a client does with its lane, or does not do any more,
//! nothing is left behind and nobody else notices.

use bytes::Bytes;
use snowskin_client::{Found, View};
use snowskin_io::lane::{LANE_PINS_MAX, LANE_SLOTS, LaneMemory};
use snowskin_io::{Bell, Platform, SplitMix};
use snowskin_protocol::wire::data::ItemStatus;
use snowskin_protocol::wire::lane::{LaneOpcode, PublishItem};
use snowskin_protocol::{Checksum, Settings};
use snowskin_tests::lane_clients::{Client, RawLane, key, name, nothing_is_left, put, view};
use snowskin_tests::simulated::{Shape, SimCluster};
use snowskin_tests::values::{generation_of, value_of};
use std::time::Duration;

const CORE_BYTES: usize = 1 << 20;

/// One core, so that it is the home of everything.
fn lone(seed: u64) -> SimCluster {
    let settings = Settings { lease_ms: 1, ..Settings::default() };
    SimCluster::start(seed, 1, Shape { cores: 1, core_bytes: CORE_BYTES, settings, ..Shape::default() })
}

#[test]
fn values_are_read_where_they_lie_until_their_views_go() {
    let mut cluster = lone(1);
    let client = cluster.client_beside("client", 0, 0);
    put(&mut cluster, &client, 0..20, 0, 9_000);
    let views = view(&mut cluster, &client, 0..20);
    for (number, view) in views.iter().enumerate() {
        assert!(view.is_in_place() && view.is_intact());
        assert_eq!(generation_of(&key(number), view), Some(0));
    }
    assert_eq!(cluster.stats().lane_pins, 20);
    // They are replaced, and their memory is wanted: readers keep what they have.
    for round in 1..40 {
        put(&mut cluster, &client, 0..20, round, 9_000);
    }
    assert!(views.iter().enumerate().all(|(number, view)| generation_of(&key(number), view) == Some(0)));
    assert!(cluster.stats().pinned_bytes >= 20 * 9_000);
    drop(views);
    cluster.pass(Duration::from_secs(1));
    let stats = cluster.stats();
    assert_eq!((stats.lane_pins, stats.pinned_bytes), (0, 0));
    let now = view(&mut cluster, &client, 0..20);
    assert!(now.iter().enumerate().all(|(number, view)| generation_of(&key(number), view) == Some(39)));
}

#[test]
fn who_is_elsewhere_gets_copies() {
    let mut cluster = lone(2);
    let (near, far) = (cluster.client_beside("near", 0, 0), cluster.client("far"));
    put(&mut cluster, &far, 0..3, 7, 700);
    let views = view(&mut cluster, &far, 0..3);
    assert!(views.iter().all(|view| !view.is_in_place() && view.is_intact()));
    let views = view(&mut cluster, &near, 0..3);
    assert!(views.iter().all(|view| view.is_in_place() && view.is_intact()));
}

/// Who holds half of a core's memory gets copies of the rest; a value that is larger than a reservation may be goes by frames.
#[test]
fn who_holds_too_much_is_served_by_frames() {
    let mut cluster = lone(3);
    let client = cluster.client_beside("client", 0, 0);
    put(&mut cluster, &client, 0..1, 0, CORE_BYTES / 3);
    put(&mut cluster, &client, 1..21, 0, 30_000);
    let views = view(&mut cluster, &client, 0..21);
    let in_place: u64 = views.iter().filter(|view| view.is_in_place()).map(|view| view.len() as u64).sum();
    assert!((CORE_BYTES as u64 * 2 / 5..=CORE_BYTES as u64 / 2).contains(&in_place), "{in_place}");
    assert!(views.iter().all(View::is_intact), "copies are right, too");
    drop(views);
    nothing_is_left(&mut cluster, &client);
}

#[test]
fn there_are_as_many_lanes_as_there_may_be() {
    let shape = Shape { cores: 1, lanes_max: 2, ..Shape::default() };
    let mut cluster = SimCluster::start(4, 1, shape);
    let clients: Vec<Client> = (0..4).map(|n| cluster.client_beside(&format!("client {n}"), 0, 0)).collect();
    for (number, client) in clients.iter().enumerate() {
        put(&mut cluster, client, number..number + 1, 0, 3_000);
    }
    let in_place: Vec<bool> =
        clients.iter().map(|client| view(&mut cluster, client, 0..1)[0].is_in_place()).collect();
    assert_eq!(in_place, [true, true, false, false]);
    assert_eq!(cluster.stats().lanes, 2);
}

// -- clients that do as they like --

/// What a client does before it dies. A step is everything up to something that another process could see.
#[derive(Clone, Copy, Debug)]
enum Step {
    Opened,
    HalfARequest,
    Asked,
    Pinned,
    GivenBackUnseen,
    FullRing,
    AskedToReserve,
    Reserved,
    PublishedUnheard,
    ReservedAndPinned,
    SleepsAtTheBell,
}

const STEPS: [Step; 11] = [
    Step::Opened,
    Step::HalfARequest,
    Step::Asked,
    Step::Pinned,
    Step::GivenBackUnseen,
    Step::FullRing,
    Step::AskedToReserve,
    Step::Reserved,
    Step::PublishedUnheard,
    Step::ReservedAndPinned,
    Step::SleepsAtTheBell,
];

async fn take_step(lane: &mut RawLane, step: Step) {
    match step {
        Step::Opened => {}
        // All but the stamp.
        Step::HalfARequest => lane.memory.write(4, &[1; 60]),
        Step::Asked => lane.ask_get(1),
        Step::Pinned => {
            lane.ask_get(1);
            assert_eq!(lane.record().await.reply.status, ItemStatus::Ok);
        }
        Step::GivenBackUnseen => {
            lane.ask_get(1);
            let pin = lane.record().await.place.handle;
            lane.returns.give_back(pin);
        }
        Step::FullRing => (0..LANE_SLOTS).for_each(|slot| match slot % 2 {
            0 => lane.ask_get(slot as usize % 5),
            _ => lane.ask_reserve(100 + slot as usize, 3_000),
        }),
        Step::AskedToReserve => lane.ask_reserve(50, 40_000),
        Step::Reserved => {
            lane.ask_reserve(50, 40_000);
            assert_eq!(lane.record().await.reply.status, ItemStatus::Ok);
        }
        Step::PublishedUnheard => {
            lane.ask_reserve(50, 40_000);
            let handle = lane.record().await.place.handle;
            let item = PublishItem { handle, is_given_up: 0, checksum: Checksum(5) };
            lane.submit(LaneOpcode::Publish, 1, bytemuck::bytes_of(&item));
        }
        Step::ReservedAndPinned => {
            lane.ask_get(2);
            lane.ask_reserve(51, 1);
            lane.record().await;
            lane.record().await;
        }
        Step::SleepsAtTheBell => {
            lane.ask_get(3);
            lane.caller.doze();
        }
    }
}

#[test]
fn a_client_that_dies_at_any_step_leaves_nothing() {
    for (seed, step) in (10..).zip(STEPS) {
        for after_us in [0, 300, 50_000] {
            let mut cluster = lone(seed);
            let friend = cluster.client_beside("friend", 0, 0);
            put(&mut cluster, &friend, 0..5, 0, 20_000);
            let core = cluster.engines[0].cores[0].platform.clone();
            let victim = cluster.sim.node_at("victim", core.ip());
            let address = cluster.cores().next().expect("one core").identity.address;
            let platform = victim.clone();
            victim.spawn(async move {
                let mut lane = RawLane::open(&platform, address).await;
                take_step(&mut lane, step).await;
                std::future::pending::<()>().await;
            });
            cluster.pass(Duration::from_millis(20));
            cluster.pass(Duration::from_micros(after_us));
            cluster.sim.faults().kill(&victim);
            nothing_is_left(&mut cluster, &friend);
            let held = view(&mut cluster, &friend, 0..5);
            assert!(held.iter().all(View::is_intact), "{step:?}");
        }
    }
}

/// A frozen client keeps what it holds and stops nobody; when it goes on, it goes on.
#[test]
fn a_client_that_is_frozen_stops_nobody() {
    let mut cluster = lone(5);
    let (friend, frozen) = (cluster.client_beside("friend", 0, 0), cluster.client_beside("frozen", 0, 0));
    put(&mut cluster, &friend, 0..10, 0, 20_000);
    let views = view(&mut cluster, &frozen, 0..10);
    cluster.sim.faults().pause(&frozen.0);
    for round in 1..30 {
        put(&mut cluster, &friend, 0..10, round, 20_000);
    }
    assert_eq!(cluster.stats().lane_pins, 10);
    cluster.sim.faults().resume(&frozen.0);
    assert!(views.iter().enumerate().all(|(number, view)| generation_of(&key(number), view) == Some(0)));
    drop(views);
    let again = view(&mut cluster, &frozen, 0..10);
    assert!(again.iter().enumerate().all(|(number, view)| generation_of(&key(number), view) == Some(29)));
}

/// What a stranger does with its lane.
type Act = fn(&mut RawLane);

/// What makes no sense ends the lane that it comes from.
#[test]
fn nonsense_ends_the_lane() {
    let nonsense: [(&str, Act); 6] = [
        ("an unknown operation", |lane| lane.caller.submit(&[99; 16], &[])),
        ("no items", |lane| lane.submit(LaneOpcode::Get, 0, &[])),
        ("a body that is no batch", |lane| lane.submit(LaneOpcode::Get, 3, &[7; 100])),
        ("a value that is not reserved", |lane| {
            let item = PublishItem { handle: 77, is_given_up: 0, checksum: Checksum(0) };
            lane.submit(LaneOpcode::Publish, 1, bytemuck::bytes_of(&item));
        }),
        ("a pin that is not held", |lane| lane.returns.give_back(5)),
        ("more pins than there are", |lane| {
            (0..=LANE_PINS_MAX as u32).for_each(|pin| lane.returns.give_back(pin));
        }),
    ];
    for (seed, (what, act)) in (40..).zip(nonsense) {
        let mut cluster = lone(seed);
        let friend = cluster.client_beside("friend", 0, 0);
        put(&mut cluster, &friend, 0..5, 0, 20_000);
        let core = cluster.engines[0].cores[0].platform.clone();
        let (node, address) =
            (cluster.sim.node_at("stranger", core.ip()), cluster.cores().next().unwrap().identity.address);
        let platform = node.clone();
        cluster.run(&node, async move {
            let mut lane = RawLane::open(&platform, address).await;
            lane.ask_get(1);
            lane.record().await;
            act(&mut lane);
            lane.bell.ring();
            for _ in 0..1_000 {
                if matches!(lane.bell.hear(), snowskin_io::lane::Heard::End) {
                    return;
                }
                platform.sleep(Duration::from_millis(1)).await;
            }
            panic!("{what}: the lane goes on");
        });
        nothing_is_left(&mut cluster, &friend);
    }
}

/// A client writes anything anywhere into its lane, all the time, beside requests that make sense.
#[test]
fn a_client_that_scribbles_harms_nobody() {
    for seed in 60..90 {
        let mut cluster = lone(seed);
        let friend = cluster.client_beside("friend", 0, 0);
        put(&mut cluster, &friend, 0..5, 0, 20_000);
        let core = cluster.engines[0].cores[0].platform.clone();
        let node = cluster.sim.node_at("scribbler", core.ip());
        let address = cluster.cores().next().unwrap().identity.address;
        let platform = node.clone();
        let lanes = cluster.run(&node, async move {
            let random = SplitMix::new(seed);
            let mut lanes = 0;
            for _ in 0..20 {
                let mut lane = RawLane::open(&platform, address).await;
                lanes += 1;
                for _ in 0..random.draw() % 60 {
                    match random.draw() % 7 {
                        // Slots, words, the ring of pins, chunks.
                        0 => lane.memory.write(random.draw() as usize % 3_000, &random.draw().to_le_bytes()),
                        1 => lane
                            .memory
                            .write(3_000 + random.draw() as usize % 900, &random.draw().to_le_bytes()),
                        2 => lane
                            .memory
                            .write(4_096 + random.draw() as usize % 80_000, &[random.draw() as u8; 99]),
                        // What it says it holds and has used.
                        6 => lane
                            .memory
                            .write(561_152 + random.draw() as usize % 17_000, &random.draw().to_le_bytes()),
                        3 if lane.caller.has_room() => lane.ask_get(random.draw() as usize % 9),
                        4 if lane.caller.has_room() => {
                            lane.ask_reserve(200 + random.draw() as usize % 9, random.draw() % 90_000)
                        }
                        _ => platform.sleep(Duration::from_micros(random.draw() % 900)).await,
                    }
                    lane.bell.ring();
                    let _ = lane.caller.take();
                }
            }
            lanes
        });
        assert_eq!(lanes, 20);
        nothing_is_left(&mut cluster, &friend);
        let held = view(&mut cluster, &friend, 0..5);
        assert!(held.iter().all(View::is_intact));
    }
}

/// A session whose calls are given up in the middle gives back what they had got.
#[test]
fn calls_that_are_given_up_leave_nothing() {
    let mut cluster = lone(6);
    let (friend, hasty) = (cluster.client_beside("friend", 0, 0), cluster.client_beside("hasty", 0, 0));
    put(&mut cluster, &friend, 0..20, 0, 9_000);
    let (node, session) = hasty.clone();
    let platform = node.clone();
    cluster.run(&node, async move {
        for wait_us in (0..3_000).step_by(50) {
            let deadline = platform.now() + Duration::from_micros(wait_us);
            let found = session.get((0..20).map(name).collect(), deadline).await;
            assert!(found.iter().all(|found| !matches!(found, Ok(Found::Miss(_)))));
            let items = (100..120).map(|n| (name(n), Bytes::from(value_of(&key(n), 0, 4_000)))).collect();
            let deadline = platform.now() + Duration::from_micros(wait_us);
            session.upsert(items, deadline).await;
        }
    });
    cluster.pass(Duration::from_secs(1));
    let stats = cluster.stats();
    assert_eq!((stats.lane_pins, stats.lane_puts, stats.reserved_bytes), (0, 0, 0));
    drop(hasty);
}
