//! Replicas: in the simulated cluster, with a look inside, and of real engines that are killed.

use snowskin_client::admin::TaskState;
use snowskin_client::{
    BlockingClient, ClientConfig, CoreId, CoreStats, Found, Holders, MissReason, PutOptions, PutOutcome,
    PutValue, RemoveOutcome, Session, TaskId, TaskStart,
};
use snowskin_io::Platform;
use snowskin_io::sim::SimPlatform;
use snowskin_protocol::wire::data::PutHints;
use snowskin_protocol::{ObjectName, Settings};
use snowskin_tests::processes::{Process, binary};
use snowskin_tests::simulated::{Shape, SimCluster, patiently};
use snowskin_tests::values::{generation_of, value_of};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

const BYTES: usize = 3_000;
const LEASE: Duration = Duration::from_millis(50);

type Client = Rc<Session<SimPlatform>>;

fn key(number: usize) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

fn name(number: usize) -> ObjectName {
    ObjectName::new("default", &key(number)).unwrap()
}

fn value(number: usize, generation: u64) -> Vec<u8> {
    value_of(name(number).as_ref().bytes(), generation, BYTES)
}

fn cluster(seed: u64, engines: usize) -> SimCluster {
    let settings = Settings { lease_ms: LEASE.as_millis() as u32, ..Settings::default() };
    SimCluster::start(seed, engines, Shape { cores: 2, settings, ..Shape::default() })
}

async fn put_all(client: &Client, numbers: std::ops::Range<usize>, more: usize) {
    let values = numbers.clone().map(|number| {
        PutValue::owned(value(number, 1).into()).with_hints(PutHints::default().with_more_replicas(more))
    });
    let names = numbers.map(name).collect();
    let deadline = patiently(client.platform());
    let put = client.put_values(false, names, values.collect(), deadline).await;
    assert!(put.iter().all(|put| *put == Ok(PutOutcome::Stored)), "{put:?}");
}

/// How many of these keys are found, each with its value of this generation; the others are lost.
async fn found(client: &Client, numbers: std::ops::Range<usize>, generation: u64) -> usize {
    let deadline = patiently(client.platform());
    let got = client.get(numbers.clone().map(name).collect(), deadline).await;
    let is_hit = |(number, got)| match got {
        Ok(Found::Hit(read)) => {
            assert!(read == value(number, generation), "wrong bytes under key {number}");
            true
        }
        Ok(Found::Miss(MissReason::OwnerLost)) => false,
        other => panic!("key {number}: {other:?}"),
    };
    numbers.zip(got).filter(|(number, got)| is_hit((*number, got.clone()))).count()
}

async fn holders(client: &Client, number: usize) -> Vec<CoreId> {
    match client.holders(vec![name(number)], patiently(client.platform())).await.remove(0) {
        Ok(Found::Hit(Holders { value_bytes, cores })) => {
            assert_eq!(value_bytes, BYTES as u64);
            cores
        }
        other => panic!("{other:?}"),
    }
}

/// What became of a task, in the end.
async fn outcome(client: &Client, start: TaskStart) -> (TaskState, String) {
    let TaskStart::Begun(task) = start else { panic!("{start:?}") };
    loop {
        let info = client.task(task, patiently(client.platform())).await.unwrap().expect("it is remembered");
        if info.state != TaskState::Running {
            return (info.state, info.message);
        }
        client.platform().sleep(Duration::from_millis(2)).await;
    }
}

fn engines_of(cores: &[CoreId]) -> usize {
    let mut engines: Vec<_> = cores.iter().map(|core| core.engine).collect();
    engines.sort_unstable();
    engines.dedup();
    engines.len()
}

#[test]
fn a_lost_engine_loses_nothing_that_has_a_replica_at_another() {
    for seed in 0..3 {
        let mut cluster = cluster(seed, 3);
        let (node, client) = cluster.client("client");
        let ours = client.clone();
        let victim = cluster.engines[0].cores[0].inside().expect("it runs").identity.id.engine;
        let (in_all, at_victim) = cluster.run(&node, async move {
            put_all(&ours, 0..60, 1).await;
            put_all(&ours, 60..120, 0).await;
            let mut at_victim = 0;
            for number in 0..60 {
                let cores = holders(&ours, number).await;
                assert_eq!((cores.len(), engines_of(&cores)), (2, 2), "two engines have it");
                at_victim += u64::from(cores[0].engine == victim);
            }
            (found(&ours, 0..120, 1).await, at_victim)
        });
        assert_eq!((in_all, cluster.stats().replicas_made), (120, 60));
        let faults = cluster.sim.faults();
        cluster.engines[0].cores.iter().for_each(|core| faults.kill(&core.platform));
        cluster.pass(Duration::from_secs(12));
        cluster.settle();
        let ours = client.clone();
        let (replicated, alone) =
            cluster.run(&node, async move { (found(&ours, 0..60, 1).await, found(&ours, 60..120, 1).await) });
        assert_eq!(replicated, 60, "seed {seed}");
        assert!(alone < 60, "who was alone at the lost engine is lost");
        assert_eq!(cluster.stats().replicas_found, at_victim, "seed {seed}");
    }
}

#[test]
fn what_was_replaced_or_removed_does_not_come_back_from_a_replica() {
    let mut cluster = cluster(7, 3);
    let (node, client) = cluster.client("client");
    let ours = client.clone();
    cluster.run(&node, async move {
        put_all(&ours, 0..60, 2).await;
        let deadline = patiently(ours.platform());
        let again = (0..20).map(|number| PutValue::owned(value(number, 2).into())).collect();
        let put = ours.put_values(true, (0..20).map(name).collect(), again, deadline).await;
        assert!(put.iter().all(|put| *put == Ok(PutOutcome::Stored)), "{put:?}");
        let removed = ours.remove((20..40).map(name).collect(), true, deadline).await;
        assert!(removed.iter().all(|removed| *removed == Ok(RemoveOutcome::Removed)), "{removed:?}");
    });
    let faults = cluster.sim.faults();
    cluster.engines[1].cores.iter().for_each(|core| faults.kill(&core.platform));
    cluster.pass(Duration::from_secs(12));
    cluster.settle();
    cluster.run(&node, async move {
        let deadline = patiently(client.platform());
        assert!(found(&client, 0..20, 2).await < 20, "some had one place, and that is lost");
        let got = client.get((20..40).map(name).collect(), deadline).await;
        assert!(got.iter().all(|got| matches!(got, Ok(Found::Miss(_)))), "{got:?}");
        assert_eq!(found(&client, 40..60, 1).await, 60 - 40);
        let count = client.remove_matching("", true, deadline).await.unwrap();
        assert!(count.removed >= 20 && count.leased == 0, "{count:?}");
    });
}

#[test]
fn tasks_copy_and_move_objects_and_say_what_came_of_it() {
    let mut cluster = cluster(3, 3);
    let (node, client) = cluster.client("client");
    cluster.run(&node, async move {
        put_all(&client, 0..1, 0).await;
        let deadline = patiently(client.platform());
        let table = client.table(deadline).await.unwrap();
        let home = holders(&client, 0).await[0];
        let others: Vec<CoreId> =
            table.members.iter().map(|member| member.id).filter(|id| id.engine != home.engine).collect();
        let (one, two) = (others[0], *others.iter().find(|other| other.engine != others[0].engine).unwrap());

        let copy = client.copy_object(name(0), vec![one], None, deadline).await.unwrap();
        assert_eq!(outcome(&client, copy).await.0, TaskState::Done);
        assert_eq!(holders(&client, 0).await, [home, one]);
        // Where a copy is, there is nothing to do.
        let copy = client.copy_object(name(0), vec![one], None, deadline).await.unwrap();
        assert_eq!(outcome(&client, copy).await.0, TaskState::Done);
        // It is leased, and moves all the same, lease and all.
        assert_eq!(found(&client, 0..1, 1).await, 1);
        let to_two = client.copy_object(name(0), vec![two], Some(home), deadline).await.unwrap();
        assert_eq!(outcome(&client, to_two).await.0, TaskState::Done);
        let cores = holders(&client, 0).await;
        assert!(cores.len() == 2 && !cores.contains(&home), "{cores:?}");
        assert_eq!(found(&client, 0..1, 1).await, 1);
        // Back home, and away from both others.
        let back = client.copy_object(name(0), vec![home], Some(cores[0]), deadline).await.unwrap();
        assert_eq!(outcome(&client, back).await, (TaskState::Done, "done".to_owned()));
        assert_eq!(client.give_up(name(0), cores[1], deadline).await, Ok(Found::Hit(true)));
        assert_eq!(holders(&client, 0).await, [home]);
        assert_eq!(client.give_up(name(0), home, deadline).await, Ok(Found::Hit(false)), "the last one");
        assert_eq!(client.give_up(name(0), one, deadline).await, Ok(Found::Hit(false)), "it has nothing");

        let missing = client.copy_object(name(1), vec![one], None, deadline).await;
        assert_eq!(missing, Ok(TaskStart::NotHeld));
        assert_eq!(client.give_up(name(1), one, deadline).await, Ok(Found::Miss(MissReason::NotHeld)));
        let stranger = CoreId { core: 77, ..one };
        for (targets, source) in
            [(vec![stranger], None), (vec![], None), (vec![one], Some(two)), (vec![home], Some(home))]
        {
            let refused = client.copy_object(name(0), targets, source, deadline).await.unwrap();
            assert!(matches!(refused, TaskStart::Refused(_)), "{refused:?}");
        }
        assert_eq!(client.task(TaskId { core: home, number: 99 }, deadline).await, Ok(None));
        assert_eq!(client.task(TaskId { core: stranger, number: 1 }, deadline).await, Ok(None));
        assert_eq!(found(&client, 0..1, 1).await, 1);
    });
}

#[test]
fn a_core_without_room_is_no_holder_and_the_put_is_done_all_the_same() {
    let mut cluster = cluster(9, 2);
    let (node, client) = cluster.client("client");
    cluster.run(&node, async move {
        // No segment has room for that beside what it has, and what it has is leased.
        let deadline = patiently(client.platform());
        let large = ObjectName::new("default", b"large").unwrap();
        let bytes = 700 << 10;
        let hints = PutHints::default().with_more_replicas(1);
        let table = client.table(deadline).await.unwrap();
        let pinned = PutHints { flags: PutHints::HARD_PIN, ..PutHints::default() };
        for member in &table.members {
            let home = |number: &usize| {
                let slot = ObjectName::new("default", format!("pin-{number}").as_bytes()).unwrap();
                table.home(slot.as_ref().slot()).unwrap().id == member.id
            };
            let number = (0..1_000).find(home).unwrap();
            let pin = ObjectName::new("default", format!("pin-{number}").as_bytes()).unwrap();
            if member.id.engine != table.home(large.as_ref().slot()).unwrap().id.engine {
                let value = PutValue::owned(vec![1; 600 << 10].into()).with_hints(pinned);
                let put = client.put_values(false, vec![pin], vec![value], deadline).await;
                assert_eq!(put, [Ok(PutOutcome::Stored)]);
            }
        }
        let value = PutValue::owned(vec![7; bytes].into()).with_hints(hints);
        let put = client.put_values(false, vec![large.clone()], vec![value], deadline).await;
        assert_eq!(put, [Ok(PutOutcome::Stored)]);
        let held = client.holders(vec![large], deadline).await.remove(0).unwrap().hit().unwrap();
        assert_eq!(held.cores.len(), 1);
    });
    assert!(cluster.stats().replicas_not_made > 0);
}

// -- real engines --

fn connect(seed: std::net::SocketAddr) -> BlockingClient {
    let deadline = Duration::from_secs(5);
    BlockingClient::connect(ClientConfig { deadline, ..ClientConfig::new([seed]) })
        .expect("the cluster answers")
}

fn sum(client: &BlockingClient) -> CoreStats {
    let mut sum = CoreStats::default();
    for (_, stats) in client.stats().expect("the table is known") {
        stats.into_iter().for_each(|stats| sum.add(&stats));
    }
    sum
}

#[test]
fn values_with_a_replica_outlive_a_killed_engine() {
    let master = Process::master("127.0.0.1:0");
    let a = Process::engine("a", master.address(), "64MB");
    let b = Process::engine("b", master.address(), "64MB");
    let client = connect(master.address());
    let limit = Instant::now() + Duration::from_secs(20);
    while client.table().map_or(0, |table| table.members.len()) < 4 {
        assert!(Instant::now() < limit, "two engines with two cores");
        std::thread::sleep(Duration::from_millis(20));
        let _ = client.stats();
    }
    let options = PutOptions { more_replicas: 1, ..PutOptions::default() };
    let values: Vec<(Vec<u8>, Vec<u8>)> =
        (0..100).map(|number| (key(number), value_of(&key(number), 1, 100_000 + number))).collect();
    let items: Vec<_> =
        values.iter().map(|(key, value)| (key.as_slice(), value.as_slice(), options.clone())).collect();
    let put = client.put_with(&items);
    assert!(put.iter().all(|put| *put == Ok(PutOutcome::Stored)), "{put:?}");
    let stats = sum(&client);
    assert_eq!((stats.replicas_made, stats.replicas_kept), (100, 100));
    b.kill();
    let limit = Instant::now() + Duration::from_secs(40);
    let keys: Vec<&[u8]> = values.iter().map(|(key, _)| key.as_slice()).collect();
    loop {
        let got = client.get(&keys);
        let mut hits = 0;
        for (got, (key, value)) in got.iter().zip(&values) {
            match got {
                Ok(Found::Hit(read)) => {
                    assert!(generation_of(key, read) == Some(1) && read.len() == value.len());
                    hits += 1;
                }
                Ok(Found::Miss(reason)) => panic!("lost, because {reason:?}"),
                Err(_) => {}
            }
        }
        if hits == values.len() {
            break;
        }
        assert!(Instant::now() < limit, "{hits} of {} are there", values.len());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(sum(&client).replicas_found > 0);
    drop(a);
}

/// Runs `snowskin-ctl`: whether it succeeded, and what it said.
fn ctl(at: std::net::SocketAddr, arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new(binary("snowskin-ctl")).args(["--at", &at.to_string()]).args(arguments).output();
    let output = output.expect("it can be started");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).expect("text"))
}

#[test]
fn an_operator_copies_and_moves_objects() {
    let master = Process::master("127.0.0.1:0");
    let _engines = ["a", "b"].map(|name| Process::engine(name, master.address(), "32MB"));
    let client = connect(master.address());
    let limit = Instant::now() + Duration::from_secs(20);
    while client.table().map_or(0, |table| table.members.len()) < 4 {
        assert!(Instant::now() < limit, "two engines with two cores");
        std::thread::sleep(Duration::from_millis(20));
        let _ = client.stats();
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), value_of(b"object", 1, BYTES)).expect("it can be written");
    let path = file.path().to_str().expect("text");
    let ask = |arguments: &[&str]| ctl(master.address(), arguments);
    assert_eq!(ask(&["put", "object", path]), (true, String::new()));
    let (_, alone) = ask(&["holders", "object", "nothing"]);
    let (home, rest) = alone.strip_prefix("object: 3000 bytes at ").unwrap().split_once('\n').unwrap();
    assert_eq!(rest, format!("nothing: {}\n", MissReason::NotHeld.words()));
    let table = client.table().unwrap();
    let home = table.members.iter().find(|member| member.id.to_string() == home).unwrap().id;
    let other = table.members.iter().find(|member| member.id.engine != home.engine).unwrap().id;
    let (home, other) = (home.to_string(), other.to_string());
    assert_eq!(ask(&["copy", "object", "--to", &other]), (true, String::new()));
    assert_eq!(ask(&["holders", "object"]).1, format!("object: 3000 bytes at {home}, {other}\n"));
    assert_eq!(ask(&["put", "--replace", "object", path]), (true, String::new()));
    assert_eq!(ask(&["move", "object", "--from", &home, "--to", &other]), (true, String::new()));
    assert_eq!(ask(&["holders", "object"]).1, format!("object: 3000 bytes at {other}\n"));
    assert_eq!(client.get(&[b"object"]), [Ok(Found::Hit(value_of(b"object", 1, BYTES)))]);
    let (is_done, said) = ask(&["copy", "nothing", "--to", &other]);
    assert!(!is_done && said.contains("nothing is not held"), "{said}");
    let (is_done, said) = ask(&["copy", "object", "--to", "0/0"]);
    assert!(!is_done && said.contains("there is no core 0/0"), "{said}");
    let (is_done, said) = ask(&["copy", "object"]);
    assert!(!is_done && said.contains("name a core"), "{said}");
    let (is_done, said) = ask(&["move", "object", "--from", &home, "--to", &home]);
    assert!(!is_done && said.contains("where it comes from"), "{said}");
    let (is_done, said) = ask(&["holders"]);
    assert!(!is_done && said.contains("which keys"), "{said}");
    assert_eq!(ask(&["put", "--replicas", "2", "twice", path]), (true, String::new()));
    assert_eq!(ask(&["holders", "twice"]).1.matches('/').count(), 2);
}
