//! Clusters in the simulator: the same engine, master and client code as in real processes, under virtual time.

use bytes::Bytes;
use snowskin_client::{Error, Found, PutOutcome, RemoveOutcome, Session};
use snowskin_io::Platform;
use snowskin_io::sim::SimPlatform;
use snowskin_protocol::{MissReason, ObjectName, Settings};
use snowskin_tests::simulated::{Shape, SimCluster, patiently};
use snowskin_tests::values::{generation_of, value_of};
use std::rc::Rc;
use std::time::Duration;

type Client = (SimPlatform, Rc<Session<SimPlatform>>);

fn key(number: usize) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

fn name(number: usize) -> ObjectName {
    ObjectName::new("default", &key(number)).unwrap()
}

/// Puts keys in the given generation and asserts what became of them.
fn put(cluster: &mut SimCluster, client: &Client, numbers: std::ops::Range<usize>, bytes: usize) {
    let (node, session) = client.clone();
    let items: Vec<_> = numbers.map(|n| (name(n), Bytes::from(value_of(&key(n), 0, bytes)))).collect();
    let count = items.len();
    let platform = node.clone();
    let outcomes = cluster.run(&node, async move { session.put(items, patiently(&platform)).await });
    assert_eq!(outcomes, vec![Ok(PutOutcome::Stored); count]);
}

/// Reads keys; every hit must be a value of its key. Answers hits, and the reasons of the misses.
fn get(
    cluster: &mut SimCluster,
    client: &Client,
    numbers: std::ops::Range<usize>,
) -> (usize, Vec<MissReason>) {
    let (node, session) = client.clone();
    let names: Vec<_> = numbers.clone().map(name).collect();
    let platform = node.clone();
    let results = cluster.run(&node, async move { session.get(names, patiently(&platform)).await });
    let mut hits = 0;
    let mut misses = Vec::new();
    for (number, result) in numbers.zip(results) {
        match result.expect("no errors in this test") {
            Found::Hit(value) => {
                assert!(generation_of(&key(number), &value).is_some(), "wrong bytes under key {number}");
                hits += 1;
            }
            Found::Miss(reason) => misses.push(reason),
        }
    }
    (hits, misses)
}

/// Two engines, a client, and every verb; answers the event hash.
fn one_of_everything(seed: u64) -> u64 {
    let mut cluster = SimCluster::start(seed, 2, Shape::default());
    let client = cluster.client("client");
    put(&mut cluster, &client, 0..100, 3000);
    assert_eq!(get(&mut cluster, &client, 0..120), (100, vec![MissReason::NotHeld; 20]));
    let (node, session) = client.clone();
    let platform = node.clone();
    cluster.run(&node, async move {
        let deadline = patiently(&platform);
        let again = session.put(vec![(name(1), Bytes::from_static(b"second writer"))], deadline).await;
        assert_eq!(again, [Ok(PutOutcome::Existed)]);
        let chain = [0, 1, 2, 3, 4, 200, 5].map(name).to_vec();
        assert_eq!(session.match_prefix(chain, deadline).await, Ok(5));
        let sizes = session.lookup(vec![name(7), name(700)], deadline).await;
        assert_eq!(sizes, [Ok(Found::Hit(3000)), Ok(Found::Miss(MissReason::NotHeld))]);
        let leased = session.remove(vec![name(7)], false, deadline).await;
        assert_eq!(leased, [Ok(RemoveOutcome::Leased)]);
        platform.sleep(Duration::from_millis(100)).await;
        let removed = session.remove(vec![name(7), name(700)], false, deadline).await;
        let missing = Ok(RemoveOutcome::Missing(MissReason::NotHeld));
        assert_eq!(removed, [Ok(RemoveOutcome::Removed), missing]);
        let replaced = session.upsert(vec![(name(8), Bytes::from(value_of(&key(8), 1, 50)))], deadline).await;
        assert_eq!(replaced, [Ok(PutOutcome::Stored)]);
        let Ok(Found::Hit(value)) = session.get(vec![name(8)], deadline).await.remove(0) else {
            panic!("held")
        };
        assert_eq!(generation_of(&key(8), &value), Some(1));
        let nines = session.remove_matching("-9", true, deadline).await.unwrap();
        assert_eq!((nines.removed, nines.leased), (11, 0));
        let all = session.remove_matching("", true, deadline).await.unwrap();
        assert_eq!(all.removed, 100 - 1 - 11);
    });
    let stats = cluster.stats();
    assert_eq!((stats.objects, stats.live_bytes, stats.pinned_bytes, stats.reserved_bytes), (0, 0, 0, 0));
    cluster.sim.event_hash()
}

#[test]
fn the_same_seed_is_the_same_run() {
    let first = one_of_everything(1);
    assert_eq!(first, one_of_everything(1));
    assert_ne!(first, one_of_everything(2));
}

#[test]
fn puts_and_gets_go_once_over_the_network() {
    let mut cluster = SimCluster::start(3, 2, Shape::default());
    let client = cluster.client("client");
    put(&mut cluster, &client, 0..1, 1000);
    let before = cluster.stats();
    let sent_before = client.1.counters().frames_sent.total();
    for number in 1..11 {
        put(&mut cluster, &client, number..number + 1, 1000);
        assert_eq!(get(&mut cluster, &client, number..number + 1).0, 1);
    }
    assert_eq!(client.1.counters().frames_sent.total() - sent_before, 20, "one frame a put, one a get");
    assert_eq!(cluster.stats().data_frames_in - before.data_frames_in, 20, "and no core asked another one");
    assert_eq!(cluster.master().frames.data_frames_refused, 0, "nor did one reach the master");
}

#[test]
fn a_join_loses_no_key() {
    let shape = Shape { cores: 2, ..Shape::default() };
    let mut cluster = SimCluster::start(4, 1, shape);
    let client = cluster.client("client");
    put(&mut cluster, &client, 0..300, 2000);
    for engines in 2..=4 {
        cluster.add_engine();
        // Reads go on while slots move; none of them may miss.
        for _ in 0..8 {
            assert_eq!(get(&mut cluster, &client, 0..300), (300, vec![]));
            cluster.pass(Duration::from_millis(50));
        }
        cluster.settle();
        assert_eq!(cluster.engines.len(), engines);
        assert_eq!(get(&mut cluster, &client, 0..300), (300, vec![]));
    }
    let stats = cluster.stats();
    assert_eq!(stats.objects, 300, "bytes stay where they are");
    assert!(stats.objects_elsewhere > 150, "and most entries have moved: {}", stats.objects_elsewhere);
    put(&mut cluster, &client, 300..400, 2000);
    let newcomer = cluster.client("newcomer");
    assert_eq!(get(&mut cluster, &newcomer, 0..400), (400, vec![]));
}

#[test]
fn joins_in_quick_succession_lose_no_key() {
    for seed in 10..14 {
        let mut cluster = SimCluster::start(seed, 1, Shape::default());
        let client = cluster.client("client");
        put(&mut cluster, &client, 0..200, 1000);
        for pause_ms in [400, 10, 700, 350] {
            cluster.add_engine();
            cluster.pass(Duration::from_millis(pause_ms));
        }
        assert_eq!(get(&mut cluster, &client, 0..200), (200, vec![]), "seed {seed}");
        cluster.settle();
        assert_eq!(get(&mut cluster, &client, 0..200), (200, vec![]), "seed {seed}");
    }
}

#[test]
fn a_removal_after_a_join_frees_the_holder() {
    let mut cluster = SimCluster::start(5, 1, Shape::default());
    let client = cluster.client("client");
    put(&mut cluster, &client, 0..100, 2000);
    cluster.add_engine();
    cluster.settle();
    let (node, session) = client.clone();
    let platform = node.clone();
    let names: Vec<_> = (0..100).map(name).collect();
    let removed = cluster.run(&node, async move { session.remove(names, true, patiently(&platform)).await });
    assert_eq!(removed, vec![Ok(RemoveOutcome::Removed); 100]);
    cluster.pass(Duration::from_secs(1));
    assert_eq!((cluster.stats().objects, cluster.stats().live_bytes), (0, 0));
    assert_eq!(get(&mut cluster, &client, 0..100), (0, vec![MissReason::Removed; 100]));
}

#[test]
fn a_leaving_engine_takes_only_its_own_bytes_with_it() {
    let mut cluster = SimCluster::start(6, 2, Shape::default());
    let client = cluster.client("client");
    put(&mut cluster, &client, 0..200, 2000);
    let staying: u64 = cluster.engines[0]
        .cores
        .iter()
        .map(|core| core.core.borrow().as_ref().unwrap().stats().objects)
        .sum();
    cluster.leave(1);
    cluster.settle();
    let (hits, misses) = get(&mut cluster, &client, 0..200);
    assert_eq!(hits as u64, staying);
    assert_eq!(misses.len() as u64, 200 - staying);
    put(&mut cluster, &client, 200..300, 1000);
}

#[test]
fn a_dead_engine_is_replaced_and_its_losses_are_named() {
    let mut cluster = SimCluster::start(7, 2, Shape::default());
    let client = cluster.client("client");
    put(&mut cluster, &client, 0..200, 1000);
    for core in &cluster.engines[1].cores {
        cluster.sim.faults().power_off(&core.platform);
    }
    // Until it is declared dead, its keys end in a typed error at the deadline, the others are served.
    let (node, session) = client.clone();
    let platform = node.clone();
    let names: Vec<_> = (0..200).map(name).collect();
    let asked = cluster.sim.now();
    let results = cluster.run(&node, async move {
        let deadline = platform.now() + Duration::from_millis(300);
        session.get(names, deadline).await
    });
    let took = cluster.sim.now() - asked;
    assert!(took <= Duration::from_millis(310), "{took:?}");
    let served = results.iter().filter(|result| matches!(result, Ok(Found::Hit(_)))).count();
    assert!(
        results.iter().all(|result| matches!(result, Ok(Found::Hit(_)) | Err(Error::Deadline))),
        "{results:?}"
    );
    assert!((50..150).contains(&served), "{served}");
    cluster.pass(Duration::from_secs(12));
    cluster.settle();
    let (hits, misses) = get(&mut cluster, &client, 0..200);
    assert_eq!(hits, served);
    assert_eq!(misses, vec![MissReason::OwnerLost; 200 - served]);
}

#[test]
fn a_master_that_is_gone_changes_nothing_and_one_that_comes_back_learns() {
    let mut cluster = SimCluster::start(8, 2, Shape::default());
    let client = cluster.client("client");
    put(&mut cluster, &client, 0..100, 1000);
    cluster.sim.faults().kill(&cluster.master_platform);
    cluster.pass(Duration::from_secs(60));
    put(&mut cluster, &client, 100..200, 1000);
    assert_eq!(get(&mut cluster, &client, 0..200), (200, vec![]));
    let epoch = cluster.cores().next().unwrap().epoch();
    cluster.restart_master();
    cluster.pass(Duration::from_secs(20));
    assert_eq!(cluster.cores().next().unwrap().epoch(), epoch, "the table it learnt is the table that holds");
    cluster.add_engine();
    cluster.settle();
    assert!(cluster.cores().next().unwrap().epoch() > epoch);
    assert_eq!(get(&mut cluster, &client, 0..200), (200, vec![]));
}

#[test]
fn a_client_that_dies_in_a_put_leaves_nothing() {
    let shape = Shape { core_bytes: 8 << 20, ..Shape::default() };
    for seed in 20..40 {
        let mut cluster = SimCluster::start(seed, 2, shape);
        let (node, session) = cluster.client("client");
        let platform = node.clone();
        node.spawn(async move {
            let items = (0..8).map(|n| (name(n), Bytes::from(value_of(&key(n), 0, 1 << 20)))).collect();
            session.put(items, patiently(&platform)).await;
        });
        cluster.pass(Duration::from_micros(1500 + 311 * (seed - 20)));
        cluster.sim.faults().kill(&node);
        cluster.pass(Duration::from_secs(1));
        let stats = cluster.stats();
        assert_eq!((stats.reserved_bytes, stats.pinned_bytes, stats.connections), (0, 0, 0), "seed {seed}");
        let reader = cluster.client("reader");
        let (hits, _) = get(&mut cluster, &reader, 0..8);
        assert_eq!(cluster.stats().objects, hits as u64, "seed {seed}: only whole values are visible");
    }
}

#[test]
fn an_engine_that_dies_in_a_get_ends_in_a_typed_error() {
    let shape = Shape { core_bytes: 8 << 20, ..Shape::default() };
    for seed in 50..60 {
        let mut cluster = SimCluster::start(seed, 2, shape);
        let client = cluster.client("client");
        put(&mut cluster, &client, 0..12, 1 << 20);
        let victims: Vec<_> = cluster.engines[0].cores.iter().map(|core| core.platform.clone()).collect();
        let faults = cluster.sim.faults();
        let (node, session) = client.clone();
        let platform = node.clone();
        let after = Duration::from_micros(500 + 700 * (seed - 50));
        node.spawn(async move {
            platform.sleep(after).await;
            victims.iter().for_each(|victim| faults.kill(victim));
        });
        let platform = node.clone();
        let names: Vec<_> = (0..12).map(name).collect();
        let asked = cluster.sim.now();
        let results = cluster.run(&node, async move {
            let deadline = platform.now() + Duration::from_secs(2);
            session.get(names, deadline).await
        });
        assert!(cluster.sim.now() - asked <= Duration::from_millis(2010));
        for (number, result) in results.into_iter().enumerate() {
            match result {
                Ok(Found::Hit(value)) => assert!(generation_of(&key(number), &value).is_some()),
                Err(Error::Unreachable { .. } | Error::Broken { .. } | Error::Deadline) => {}
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
}

#[test]
fn full_memory_goes_on_taking_values() {
    let settings = Settings { lease_ms: 1, ..Settings::default() };
    let shape = Shape { core_bytes: 256 << 10, settings, ..Shape::default() };
    let mut cluster = SimCluster::start(9, 2, shape);
    let client = cluster.client("client");
    for batch in 0..20 {
        put(&mut cluster, &client, batch * 50..(batch + 1) * 50, 4000);
    }
    let stats = cluster.stats();
    assert_eq!(stats.puts_no_space, 0);
    assert_eq!(stats.objects + stats.evicted, 1000);
    let (hits, misses) = get(&mut cluster, &client, 0..1000);
    assert_eq!(hits as u64, stats.objects);
    assert!(misses.iter().all(|reason| *reason == MissReason::Evicted));
    let (newest, _) = get(&mut cluster, &client, 900..1000);
    assert_eq!(newest, 100, "the youngest are still there");
}

#[test]
fn damage_on_an_ssd_is_found_before_anybody_asks() {
    let shape = Shape { core_bytes: 256 << 10, ssd_bytes: 3 << 20, ..Shape::default() };
    let mut cluster = SimCluster::start(12, 1, shape);
    let client = cluster.client("client");
    for batch in 0..10 {
        put(&mut cluster, &client, batch * 20..(batch + 1) * 20, 4_000);
        cluster.pass(Duration::from_millis(200));
    }
    cluster.pass(Duration::from_secs(20));
    let before = cluster.stats();
    assert!(before.ssd_scrubbed_bytes > 1 << 20 && before.objects_on_ssd > 50, "{before:?}");
    assert_eq!((before.ssd_damaged, before.ssd_lost), (0, 0));
    // The first record of each region.
    let node = cluster.engines[0].cores[0].platform.clone();
    let disk = cluster.sim.faults().disk(&node, "ssd").expect("it is open");
    for region in 0..32 {
        let first = (1 << 20) + region * (64 << 10) + 4_096;
        disk.make_unreadable(first..first + 4_096);
    }
    cluster.pass(Duration::from_secs(20));
    let after = cluster.stats();
    let lost = after.ssd_lost;
    assert!(lost > 5 && after.ssd_damaged >= lost, "{after:?}");
    assert_eq!(after.objects_on_ssd, before.objects_on_ssd - lost);
    assert_eq!(after.get_hits + after.get_misses, 0, "nobody has asked");
    let (_, misses) = get(&mut cluster, &client, 0..200);
    let corrupt = misses.iter().filter(|reason| **reason == MissReason::Corrupt).count();
    assert_eq!(corrupt as u64, lost, "{misses:?}");
    assert_eq!(cluster.stats().ssd_lost, lost, "all of it was found");
}

#[test]
fn values_of_one_byte_to_a_whole_segment() {
    let mut cluster = SimCluster::start(11, 1, Shape::default());
    let client = cluster.client("client");
    for (number, bytes) in [1, 15, 511, 512, 513, 4096, 65_537, 1 << 20].into_iter().enumerate() {
        let (node, session) = client.clone();
        let platform = node.clone();
        let value: Vec<u8> = value_of(&key(number), 0, bytes);
        let (stored, found) = cluster.run(&node, async move {
            platform.sleep(Duration::from_millis(60)).await;
            let deadline = patiently(&platform);
            let stored =
                session.put(vec![(name(number), Bytes::from(value.clone()))], deadline).await.remove(0);
            let found = session.get(vec![name(number)], deadline).await.remove(0);
            (stored, found == Ok(Found::Hit(value)))
        });
        assert_eq!((stored, found), (Ok(PutOutcome::Stored), true), "{bytes} bytes");
    }
    let (node, session) = client.clone();
    let platform = node.clone();
    let too_large = Bytes::from(vec![1; (1 << 20) + 1]);
    let refused = cluster
        .run(&node, async move { session.put(vec![(name(99), too_large)], patiently(&platform)).await });
    assert_eq!(refused, [Err(Error::TooLarge)]);
}

#[test]
fn joins_while_connections_are_cut_lose_no_key() {
    for seed in 70..76 {
        let mut cluster = SimCluster::start(seed, 2, Shape::default());
        let client = cluster.client("client");
        put(&mut cluster, &client, 0..120, 1500);
        for step in 0..4 {
            cluster.add_engine();
            for cut in 0..6 {
                cluster.pass(Duration::from_millis(40 + (seed * 7 + cut * 13 + step * 29) % 97));
                let faults = cluster.sim.faults();
                let open = faults.connections();
                if let Some(chosen) = open.get((seed * 31 + cut * 17 + step) as usize % open.len().max(1)) {
                    faults.cut(chosen.id);
                }
            }
        }
        cluster.settle();
        assert_eq!(get(&mut cluster, &client, 0..120), (120, vec![]), "seed {seed}");
        assert_eq!(cluster.stats().pinned_bytes, 0, "seed {seed}");
    }
}
