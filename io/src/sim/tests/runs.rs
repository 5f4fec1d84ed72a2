//! Time, order, bounds, and that a seed says it all.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::super::{Limit, Options, Order, SimPlatform, Simulation, Unfinished};
use super::{ask_echo, calm, serve_echo};
use crate::platform::{Moment, Platform, with_deadline};

const SECOND: Duration = Duration::from_secs(1);

/// A small cluster under fire: two servers, three clients that ask on and on, and something broken every while.
fn workload(seed: u64) -> (u64, u64, u64) {
    let sim = Simulation::new(seed);
    let servers = [sim.node("server 0"), sim.node("server 1")];
    servers.iter().for_each(serve_echo);
    let answered = Rc::new(Cell::new(0));
    let clients: Vec<SimPlatform> = (0..3).map(|number| sim.node(&format!("client {number}"))).collect();
    for (number, client) in clients.iter().enumerate() {
        let (platform, servers, answered) = (client.clone(), servers.clone(), Rc::clone(&answered));
        client.spawn(async move {
            for round in 0..10 {
                let server = servers[platform.entropy() as usize % 2].clone();
                let ask = ask_echo(platform.clone(), server, number as u64, 100 + 300 * round);
                let deadline = platform.now() + Duration::from_millis(20);
                if let Some(Ok(())) = with_deadline(&platform, deadline, ask).await {
                    answered.set(answered.get() + 1);
                }
                platform.sleep(Duration::from_micros(platform.entropy() % 1_000)).await;
            }
        });
    }
    let faults = sim.faults();
    for (client, server) in clients.iter().zip(servers.iter().cycle()) {
        sim.run_for(Duration::from_millis(2)).expect("within the limit");
        faults.cut_all(server);
        faults.partition(client, server);
        sim.run_for(Duration::from_millis(3)).expect("within the limit");
        faults.heal_all();
        faults.pause(server);
        sim.run_for(Duration::from_millis(3)).expect("within the limit");
        faults.resume(server);
    }
    faults.power_off(&servers[0]);
    faults.kill(&servers[1]);
    sim.run_for(Duration::from_millis(5)).expect("within the limit");
    serve_echo(&faults.restart(&servers[0]));
    sim.run_for(SECOND).expect("within the limit");
    (sim.event_hash(), sim.events(), answered.get())
}

#[test]
fn one_seed_gives_one_run() {
    let first: Vec<_> = (0..20).map(workload).collect();
    let again: Vec<_> = (0..20).map(workload).collect();
    assert_eq!(first, again);
    let hashes: BTreeSet<u64> = first.iter().map(|(hash, _, _)| *hash).collect();
    assert_eq!(hashes.len(), 20, "different seeds give different runs");
}

#[test]
fn a_hundred_seeds_run_and_work_gets_done() {
    let (mut events, mut answered) = (0, 0);
    for seed in 100..200 {
        let run = workload(seed);
        events += run.1;
        answered += run.2;
    }
    assert!(events > 100_000 && answered > 1_000, "{events} events, {answered} answers");
}

#[test]
fn a_deadline_ends_exactly_on_time() {
    let sim = Simulation::new(1);
    let node = sim.node("node");
    let platform = node.clone();
    let begin = sim.now();
    let late = Duration::from_nanos(1_234_567_891);
    let result = sim.block_on(&node, async move {
        let deadline = platform.now() + late;
        let never = platform.sleep(Duration::MAX);
        let expired = with_deadline(&platform, deadline, never).await;
        let past = with_deadline(&platform, Moment(0), std::future::pending::<()>()).await;
        let early = with_deadline(&platform, deadline + SECOND, platform.sleep(SECOND)).await;
        (expired, past, early)
    });
    assert_eq!(result, Some((None, None, Some(()))));
    assert_eq!(sim.now() - begin, late + SECOND);
}

#[test]
fn runs_end_at_their_limits() {
    let sim = Simulation::new(2);
    let node = sim.node("node");
    assert_eq!(sim.run(&node, Limit::default(), std::future::pending::<()>()), Err(Unfinished::Idle));

    let platform = node.clone();
    let busy = async move {
        loop {
            platform.sleep(Duration::ZERO).await;
        }
    };
    let steps = Limit { steps: 1_000, ..Limit::default() };
    assert_eq!(sim.run::<()>(&node, steps, busy), Err(Unfinished::Steps));

    let begin = sim.now();
    let time = Limit { time: Duration::from_millis(2_500), ..Limit::default() };
    assert_eq!(sim.run(&node, time, node.sleep(3 * SECOND)), Err(Unfinished::Time));
    assert_eq!(sim.now() - begin, time.time, "the clock stands at the limit");
    assert_eq!(sim.run(&node, Limit::default(), std::future::pending::<()>()), Err(Unfinished::Idle));

    let platform = node.clone();
    node.spawn(async move {
        loop {
            platform.sleep(Duration::ZERO).await;
        }
    });
    let endless = sim.run(&node, steps, std::future::pending::<()>());
    assert_eq!(endless, Err(Unfinished::Steps), "a task that spins beside it ends it too");
}

#[test]
fn a_task_that_is_woken_twice_runs_once() {
    let sim = calm(3);
    let node = sim.node("node");
    let polls = Rc::new(Cell::new(0));
    let count = Rc::clone(&polls);
    let twice = std::future::poll_fn(move |context| {
        count.set(count.get() + 1);
        if count.get() == 1 {
            context.waker().wake_by_ref();
            context.waker().wake_by_ref();
        }
        std::task::Poll::<()>::Pending
    });
    assert_eq!(sim.run(&node, Limit::default(), twice), Err(Unfinished::Idle));
    assert_eq!(polls.get(), 2);
}

fn order_of_ten(seed: u64, order: Order) -> Vec<u32> {
    let sim = Simulation::with_options(seed, Options { order, ..Options::default() });
    let node = sim.node("node");
    let list = Rc::new(RefCell::new(Vec::new()));
    for number in 0..10 {
        let list = Rc::clone(&list);
        node.spawn(async move { list.borrow_mut().push(number) });
    }
    sim.run_for(SECOND).expect("within the limit");
    list.take()
}

#[test]
fn tasks_run_in_a_seeded_order_or_first_come_first_served() {
    assert_eq!(order_of_ten(1, Order::Fifo), (0..10).collect::<Vec<u32>>());
    let orders: BTreeSet<Vec<u32>> = (0..10).map(|seed| order_of_ten(seed, Order::Random)).collect();
    assert_eq!(orders.len(), 10);
}

#[test]
fn nodes_draw_from_streams_of_their_own() {
    let draws = |other_draws: u64| {
        let sim = calm(4);
        let (one, other) = (sim.node("one"), sim.node("other"));
        for _ in 0..other_draws {
            other.entropy();
        }
        [one.entropy(), one.entropy(), other.entropy()]
    };
    let (few, many) = (draws(0), draws(5));
    assert_eq!(few[..2], many[..2]);
    assert_ne!(few[2], many[2]);
}

#[test]
fn clocks_of_nodes_may_differ() {
    let sim = Simulation::with_options(5, Options { clock_ahead_max: 100 * SECOND, ..Options::default() });
    let (one, other) = (sim.node("one"), sim.node("other"));
    assert_ne!(one.now(), other.now());
    let (before, ahead) = (one.now(), one.now() - sim.now());
    sim.run_for(SECOND).expect("within the limit");
    assert_eq!((one.now() - before, one.now() - sim.now()), (SECOND, ahead));
}

#[test]
fn a_dropped_simulation_drops_its_tasks() {
    let witness = Rc::new(());
    let node = {
        let sim = Simulation::new(6);
        let node = sim.node("node");
        let (held, platform) = (Rc::clone(&witness), node.clone());
        node.spawn(async move {
            let _held = held;
            platform.sleep(SECOND).await;
        });
        sim.run_for(Duration::from_millis(1)).expect("within the limit");
        node
    };
    assert_eq!(Rc::strong_count(&witness), 1);
    assert!(!node.is_alive());
}
