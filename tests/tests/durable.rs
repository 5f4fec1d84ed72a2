//! Puts that are acknowledged when they are on the SSD, and what they are told when they cannot be; on disks that stall, fail and are full.

use bytes::Bytes;
use snowskin_client::{Error, Found, PutOutcome, PutValue, Session};
use snowskin_io::Platform;
use snowskin_io::sim::{DiskFaults, SimPlatform};
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::{ObjectName, Settings};
use snowskin_tests::simulated::{Shape, SimCluster, patiently};
use snowskin_tests::values::value_of;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

type Client = (SimPlatform, Rc<Session<SimPlatform>>);
type Outcomes = Vec<Result<PutOutcome, Error>>;

const DURABLE: PutHints = PutHints { parent: 0, group: 0, soft_pin_ms: 0, flags: PutHints::DURABLE };

fn cluster(seed: u64, ssd_bytes: u64, lease_ms: u32) -> SimCluster {
    cluster_with(seed, ssd_bytes, Settings { lease_ms, ..Settings::default() })
}

fn cluster_with(seed: u64, ssd_bytes: u64, settings: Settings) -> SimCluster {
    SimCluster::start_remembering(seed, 1, Shape { cores: 1, ssd_bytes, settings, ..Shape::default() })
}

fn disk(cluster: &SimCluster) -> DiskFaults {
    cluster.sim.faults().disks().remove(0)
}

fn key(number: usize) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

fn name(number: usize) -> ObjectName {
    ObjectName::new("default", &key(number)).unwrap()
}

fn value(number: usize) -> Bytes {
    Bytes::from(value_of(&key(number), 1, 4_000))
}

/// Puts keys, durable or not, within a minute.
async fn put(
    session: Rc<Session<SimPlatform>>,
    numbers: std::ops::Range<usize>,
    hints: PutHints,
) -> Outcomes {
    let names = numbers.clone().map(name).collect();
    let values = numbers.map(|number| PutValue::owned(value(number)).with_hints(hints)).collect();
    let deadline = session.platform().now() + Duration::from_secs(60);
    session.put_values(false, names, values, deadline).await
}

fn put_now(
    cluster: &mut SimCluster,
    (node, session): &Client,
    numbers: std::ops::Range<usize>,
    hints: PutHints,
) -> Outcomes {
    cluster.run(node, put(session.clone(), numbers, hints))
}

fn is_held(cluster: &mut SimCluster, (node, session): &Client, number: usize) -> bool {
    let (session, platform) = (session.clone(), node.clone());
    let found = cluster.run(node, async move { session.get(vec![name(number)], patiently(&platform)).await });
    found == [Ok(Found::Hit(value(number).to_vec()))]
}

#[test]
fn a_durable_put_waits_for_the_disk_and_nobody_else_does() {
    let mut cluster = cluster(1, 8 << 20, 50);
    let (waiting, other) = (cluster.client("waiting"), cluster.client("other"));
    disk(&cluster).stall(Duration::from_secs(2));
    let outcome = Rc::new(Cell::new(None));
    let (begun, told) = (cluster.sim.now(), outcome.clone());
    let session = waiting.1.clone();
    waiting.0.spawn(async move {
        let outcomes = put(session.clone(), 0..1, DURABLE).await;
        told.set(Some((outcomes, session.platform().now())));
    });
    cluster.pass(Duration::from_millis(100));
    assert_eq!(put_now(&mut cluster, &other, 1..20, PutHints::default()), vec![Ok(PutOutcome::Stored); 19]);
    assert!(is_held(&mut cluster, &other, 0), "it is seen as soon as it is in memory");
    assert!(cluster.sim.now() - begun < Duration::from_millis(300));
    assert!(outcome.take().is_none(), "it is on no disk yet");
    cluster.pass(Duration::from_secs(3));
    assert_eq!(outcome.take().expect("an answer").0, [Ok(PutOutcome::Stored)]);
    assert_eq!((cluster.stats().puts_durable, cluster.stats().ssd_copied), (1, 1));
}

#[test]
fn puts_of_one_moment_share_a_flush() {
    let mut cluster = cluster(2, 8 << 20, 50);
    let clients: Vec<Client> = (0..8).map(|number| cluster.client(&format!("client {number}"))).collect();
    let before = disk(&cluster).counts().flushes;
    for (number, (node, session)) in clients.iter().enumerate() {
        let session = session.clone();
        node.spawn(async move {
            let outcomes = put(session, number * 16..(number + 1) * 16, DURABLE).await;
            assert_eq!(outcomes, vec![Ok(PutOutcome::Stored); 16]);
        });
    }
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.stats().puts_durable, 8 * 16);
    let flushes = disk(&cluster).counts().flushes - before;
    assert!(flushes <= 24, "{flushes} flushes for 128 puts in 8 frames, and the ends of regions");
}

#[test]
fn on_a_broken_disk_a_durable_put_is_held_and_not_durable_and_other_puts_go_on() {
    let mut cluster = cluster(3, 8 << 20, 50);
    let client = cluster.client("client");
    assert_eq!(put_now(&mut cluster, &client, 0..1, DURABLE), [Ok(PutOutcome::Stored)]);
    disk(&cluster).break_down();
    assert_eq!(put_now(&mut cluster, &client, 1..2, DURABLE), [Err(Error::NotDurable)]);
    assert!(is_held(&mut cluster, &client, 1));
    assert_eq!(put_now(&mut cluster, &client, 2..9, PutHints::default()), vec![Ok(PutOutcome::Stored); 7]);
    // Mended or not: something that was said to be written may not have been.
    disk(&cluster).mend();
    assert_eq!(put_now(&mut cluster, &client, 9..11, DURABLE), vec![Err(Error::NotDurable); 2]);
    let stats = cluster.stats();
    assert_eq!((stats.puts_durable, stats.puts_not_durable), (1, 3));
}

#[test]
fn a_write_that_the_disk_refuses_once_is_written_again() {
    let mut cluster = cluster(4, 8 << 20, 50);
    let client = cluster.client("client");
    assert_eq!(put_now(&mut cluster, &client, 0..1, DURABLE), [Ok(PutOutcome::Stored)]);
    disk(&cluster).arm(snowskin_io::sim::DiskFault::FailedWrite);
    assert_eq!(put_now(&mut cluster, &client, 1..2, DURABLE), [Ok(PutOutcome::Stored)]);
    assert!(disk(&cluster).counts().failed > 0, "one was refused");
}

#[test]
fn what_finds_no_room_in_time_is_told_so_and_may_ask_again() {
    // Four regions of 64 KiB, and what is leased and has left memory, which it does soon, is not reclaimed.
    let settings = Settings {
        lease_ms: 100_000,
        high_watermark_permille: 50,
        low_watermark_permille: 20,
        ..Settings::default()
    };
    let mut cluster = cluster_with(5, 1_300 << 10, settings);
    let client = cluster.client("client");
    let mut count = 0;
    let told = loop {
        let begun = cluster.sim.now();
        let outcome = put_now(&mut cluster, &client, count..count + 1, DURABLE).remove(0);
        count += 1;
        if outcome != Ok(PutOutcome::Stored) {
            assert!(
                cluster.sim.now() - begun >= Duration::from_secs(30),
                "{count}: not before it has waited"
            );
            break outcome;
        }
        assert!(is_held(&mut cluster, &client, count - 1), "this read leases it");
        assert!(count < 100, "the volume is never full");
    };
    assert_eq!(told, Err(Error::NotDurableYet));
    let last = count - 1;
    assert!(is_held(&mut cluster, &client, last));
    assert_eq!(
        put_now(&mut cluster, &client, count..count + 1, PutHints::default()),
        [Ok(PutOutcome::Stored)],
        "who does not ask for that does not wait"
    );
    cluster.pass(Duration::from_secs(100));
    // Held already: what is held is written by now.
    let before = cluster.stats().puts_durable;
    assert_eq!(put_now(&mut cluster, &client, last..count, DURABLE), [Ok(PutOutcome::Existed)]);
    assert_eq!(cluster.stats().puts_durable, before + 1);
    assert!(is_held(&mut cluster, &client, last));
}

#[test]
fn without_an_ssd_nothing_is_durable() {
    let mut cluster = cluster(6, 0, 50);
    let client = cluster.client("client");
    let outcomes = put_now(&mut cluster, &client, 0..3, DURABLE);
    assert_eq!(outcomes, vec![Err(Error::NotDurable); 3]);
    assert!(is_held(&mut cluster, &client, 2));
}

#[test]
fn a_client_beside_its_core_puts_durably_too() {
    let mut cluster = cluster(7, 8 << 20, 50);
    let client = cluster.client_beside("client", 0, 0);
    for number in 0..10 {
        let hints = if number % 2 == 0 { DURABLE } else { PutHints::default() };
        assert_eq!(
            put_now(&mut cluster, &client, number..number + 1, hints),
            [Ok(PutOutcome::Stored)],
            "{number}"
        );
    }
    assert!(cluster.stats().lanes > 0, "it has a lane, in which nobody waits");
    assert_eq!((cluster.stats().puts_durable, cluster.stats().puts_stored), (5, 10));
}
