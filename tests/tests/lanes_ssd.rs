//! Lanes to a core with an SSD, in the simulator: nobody waits in a lane for what has to be loaded, and what is loaded for a client is
//! bounded, in bytes and in time.

use bytes::Bytes;
use snowskin_client::{Found, PutOutcome, View};
use snowskin_io::Platform;
use snowskin_protocol::Settings;
use snowskin_protocol::wire::data::ItemStatus;
use snowskin_tests::lane_clients::{Client, RawLane, key, name, nothing_is_left, put, view};
use snowskin_tests::simulated::{Shape, SimCluster, patiently};
use snowskin_tests::values::{generation_of, value_of};
use std::time::Duration;

const CORE_BYTES: usize = 1 << 20;
/// So many values of [`COLD_BYTES`] are more than twice the memory.
const COLD_KEYS: usize = 120;
const COLD_BYTES: usize = 20_000;

/// One core whose SSD has most of the values; and its friend, who has put them.
fn cold(seed: u64) -> (SimCluster, Client) {
    let settings = Settings { lease_ms: 1, ..Settings::default() };
    let shape = Shape { cores: 1, core_bytes: CORE_BYTES, settings, ssd_bytes: 8 << 20, ..Shape::default() };
    let mut cluster = SimCluster::start(seed, 1, shape);
    let friend = cluster.client_beside("friend", 0, 0);
    for first in (0..COLD_KEYS).step_by(2) {
        put(&mut cluster, &friend, first..first + 2, 0, COLD_BYTES);
        cluster.pass(Duration::from_millis(30));
    }
    let stats = cluster.stats();
    assert!(stats.objects_on_ssd > COLD_KEYS as u64 / 2 && stats.evicted == 0, "{:?}", stats.named());
    (cluster, friend)
}

/// A lane of a process beside the only core, kept by `act`.
fn beside<T: 'static, R: Future<Output = T> + 'static>(
    cluster: &mut SimCluster,
    name: &str,
    act: impl FnOnce(RawLane) -> R + 'static,
) -> T {
    let core = cluster.engines[0].cores[0].platform.clone();
    let (node, address) =
        (cluster.sim.node_at(name, core.ip()), cluster.cores().next().unwrap().identity.address);
    let platform = node.clone();
    cluster.run(&node, async move { act(RawLane::open(&platform, address).await).await })
}

#[test]
fn what_is_on_the_ssd_is_read_where_it_is_loaded() {
    let (mut cluster, friend) = cold(7);
    let before = cluster.stats();
    let frames = friend.1.counters().frames_sent.total();
    for number in 0..COLD_KEYS {
        let views = view(&mut cluster, &friend, number..number + 1);
        assert!(views[0].is_in_place() && views[0].is_intact(), "{number}");
        assert_eq!(generation_of(&key(number), &views[0]), Some(0));
    }
    let after = cluster.stats();
    assert!(after.ssd_reads - before.ssd_reads > COLD_KEYS as u64 / 2, "{:?}", after.named());
    assert_eq!(
        friend.1.counters().frames_sent.total() - frames,
        COLD_KEYS as u64,
        "each is asked for by one call"
    );
    // As a batch, many of which are loading at a time.
    let (node, session) = friend.clone();
    let platform = node.clone();
    let found = cluster.run(&node, async move {
        session.get((0..COLD_KEYS).map(name).collect(), patiently(&platform)).await
    });
    let mut hits = 0;
    for (number, found) in found.into_iter().enumerate() {
        // More than the memory at a time: what has no copy may have been dropped for others.
        if let Found::Hit(value) = found.expect("no errors here") {
            assert_eq!(generation_of(&key(number), &value), Some(0));
            hits += 1;
        }
    }
    assert!(hits > COLD_KEYS * 2 / 3, "{hits}");
    nothing_is_left(&mut cluster, &friend);
}

#[test]
fn a_lane_answers_others_while_values_are_loading_and_tells_when_they_have_come() {
    let (mut cluster, friend) = cold(8);
    let reads = cluster.stats().ssd_reads;
    beside(&mut cluster, "asker", |mut lane| async move {
        let seen = lane.caller.arrivals();
        (0..3).for_each(|_| lane.ask_get(0));
        for _ in 0..3 {
            assert_eq!(lane.record().await.reply.status, ItemStatus::Loading);
        }
        assert_eq!(lane.get(COLD_KEYS - 1).await.reply.status, ItemStatus::Ok, "that one is in memory");
        lane.arrival(seen).await;
        let there = lane.get(0).await;
        assert_eq!((there.reply.status, there.reply.value_bytes), (ItemStatus::Ok, COLD_BYTES as u64));
        assert!(there.place.segment != 0);
    });
    assert_eq!(cluster.stats().ssd_reads - reads, 1, "it was read once");
    cluster.pass(Duration::from_secs(2));
    nothing_is_left(&mut cluster, &friend);
}

/// Whoever asks again and again and never waits has one value under way, and then it is there.
#[test]
fn a_value_that_is_asked_for_a_thousand_times_is_read_once_or_twice() {
    let (mut cluster, friend) = cold(9);
    let reads = cluster.stats().ssd_reads;
    let (loading, there) = beside(&mut cluster, "impatient", |mut lane| async move {
        let mut counts = (0, 0);
        for _ in 0..1_000 {
            let record = lane.get(0).await;
            match record.reply.status {
                ItemStatus::Loading => counts.0 += 1,
                ItemStatus::Ok => {
                    lane.returns.give_back(record.place.handle);
                    counts.1 += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        counts
    });
    assert!(loading > 0 && there > 0, "{loading} {there}");
    assert!((1..=2).contains(&(cluster.stats().ssd_reads - reads)), "the second time it stays in memory");
    nothing_is_left(&mut cluster, &friend);
}

/// Half of the memory is what a process may have loaded, and for a second: then it is anybody's.
#[test]
fn values_that_nobody_fetches_are_bounded_and_let_go() {
    let (mut cluster, friend) = cold(10);
    let core = cluster.cores().next().unwrap();
    let loading = beside(&mut cluster, "forgetful", move |mut lane| async move {
        let mut loading = 0;
        for number in 0..60 {
            let record = lane.get(number).await;
            assert!(matches!(record.reply.status, ItemStatus::Loading | ItemStatus::Deferred), "{record:?}");
            loading += usize::from(record.reply.status == ItemStatus::Loading);
        }
        lane.platform.sleep(Duration::from_millis(100)).await;
        let pinned = core.stats().pinned_bytes as usize;
        // What the row keeps, too, is not among them.
        assert!(pinned > 0 && pinned <= CORE_BYTES / 2, "{pinned}");
        lane.platform.sleep(Duration::from_secs(2)).await;
        let stats = core.stats();
        assert_eq!((stats.pinned_bytes, stats.reserved_bytes), (0, 0));
        // The lane is as good as before.
        let seen = lane.caller.arrivals();
        assert_eq!(lane.get(59).await.reply.status, ItemStatus::Loading);
        lane.arrival(seen).await;
        assert_eq!(lane.get(59).await.reply.status, ItemStatus::Ok);
        loading
    });
    assert!(loading * COLD_BYTES <= CORE_BYTES / 2 && loading >= 20, "{loading}");
    nothing_is_left(&mut cluster, &friend);
}

#[test]
fn a_client_that_dies_between_load_and_fetch_leaves_nothing() {
    for (seed, after_us) in (100..).zip([0, 50, 200, 1_000, 20_000, 300_000, 900_000]) {
        for is_asleep in [false, true] {
            let (mut cluster, friend) = cold(seed);
            let core = cluster.engines[0].cores[0].platform.clone();
            let victim = cluster.sim.node_at("victim", core.ip());
            let address = cluster.cores().next().expect("one core").identity.address;
            let platform = victim.clone();
            victim.spawn(async move {
                let mut lane = RawLane::open(&platform, address).await;
                for number in 0..12 {
                    lane.get(number).await;
                }
                if is_asleep {
                    lane.caller.doze();
                }
                std::future::pending::<()>().await;
            });
            cluster.pass(Duration::from_millis(15));
            cluster.pass(Duration::from_micros(after_us));
            cluster.sim.faults().kill(&victim);
            nothing_is_left(&mut cluster, &friend);
            let views = view(&mut cluster, &friend, 0..12);
            assert!(views.iter().all(View::is_intact));
        }
    }
}

/// What is removed or replaced while it is loading is not read any more.
#[test]
fn a_value_that_goes_while_it_is_loading_is_gone() {
    let (mut cluster, friend) = cold(11);
    let session = friend.1.clone();
    beside(&mut cluster, "asker", |mut lane| async move {
        let seen = lane.caller.arrivals();
        assert_eq!(lane.get(0).await.reply.status, ItemStatus::Loading);
        assert_eq!(lane.get(1).await.reply.status, ItemStatus::Loading);
        let deadline = patiently(&lane.platform);
        session.remove(vec![name(0)], true, deadline).await.remove(0).expect("it is there");
        let newer = vec![(name(1), Bytes::from(value_of(&key(1), 1, 7)))];
        assert_eq!(session.upsert(newer, deadline).await, [Ok(PutOutcome::Stored)]);
        lane.arrival(seen).await;
        assert_eq!(lane.get(0).await.reply.status, ItemStatus::Miss);
        assert_eq!(lane.get(1).await.reply.value_bytes, 7);
    });
    nothing_is_left(&mut cluster, &friend);
}

/// Where there is no memory to load into, frames wait for some.
#[test]
fn what_cannot_be_loaded_is_asked_for_by_frames() {
    let (mut cluster, friend) = cold(12);
    let views = view(&mut cluster, &friend, 0..3);
    let fillers: Vec<RawLane> = (0..2)
        .map(|number| {
            beside(&mut cluster, &format!("filler {number}"), move |mut lane| async move {
                // As much as one may reserve.
                for at in 0..6 {
                    lane.ask_reserve(1_000 + number * 10 + at, CORE_BYTES as u64 / 25);
                    assert_eq!(lane.record().await.reply.status, ItemStatus::Ok);
                }
                lane
            })
        })
        .collect();
    let is_deferred = beside(&mut cluster, "asker", |mut lane| async move {
        let mut loaded = Vec::new();
        for number in COLD_KEYS / 4..COLD_KEYS / 2 {
            let seen = lane.caller.arrivals();
            match lane.get(number).await.reply.status {
                ItemStatus::Loading => lane.arrival(seen).await,
                other => panic!("{other:?}"),
            }
            let record = lane.get(number).await;
            match record.reply.status {
                ItemStatus::Ok => loaded.push(record),
                ItemStatus::Deferred => return true,
                other => panic!("{other:?}"),
            }
        }
        false
    });
    assert!(is_deferred);
    drop((views, fillers));
    cluster.pass(Duration::from_secs(1));
    let views = view(&mut cluster, &friend, 0..10);
    assert!(views.iter().all(View::is_intact));
}
