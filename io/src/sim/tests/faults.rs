//! Each fault, as both sides see it.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use super::super::{Limit, SimPlatform, SimReader, Simulation, Unfinished};
use super::{PORT, ask_echo, bytes_of, calm, connected, read_exactly, read_rest, serve_echo, write_all};
use crate::platform::{Accept, ByteReader, ByteWriter, Listener, Moment, Platform, Stream, with_deadline};

const SECOND: Duration = Duration::from_secs(1);

/// What a read sees within a second: `None` for nothing.
fn read_soon(
    sim: &Simulation,
    node: &SimPlatform,
    mut reader: SimReader,
) -> Option<Result<Vec<u8>, ErrorKind>> {
    let platform = node.clone();
    let work = async move {
        let deadline = platform.now() + SECOND;
        let mut buffer = [0; 64];
        let read = with_deadline(&platform, deadline, reader.read(&mut buffer)).await;
        read.map(|result| result.map(|bytes| buffer[..bytes].to_vec()).map_err(|error| error.kind()))
    };
    sim.block_on(node, work).expect("a deadline ends it")
}

#[test]
fn a_cut_connection_is_reset_on_both_sides() {
    let sim = Simulation::new(1);
    let (a, b, c) = (sim.node("a"), sim.node("b"), sim.node("c"));
    let (to_b, from_a) = connected(&sim, &a, &b);
    let (to_c, _from_a_too) = connected(&sim, &a, &c);
    let ((a_reader, mut a_writer), (b_reader, _b_writer)) = (to_b.split(), from_a.split());
    a_writer.try_write(&[IoSlice::new(b"lost")]).expect("fits");
    assert!(sim.faults().cut(sim.faults().connections()[0].id));
    assert_eq!(read_soon(&sim, &a, a_reader), Some(Err(ErrorKind::ConnectionReset)));
    assert_eq!(read_soon(&sim, &b, b_reader), Some(Err(ErrorKind::ConnectionReset)));
    let written = a_writer.try_write(&[IoSlice::new(b"x")]).map_err(|error| error.kind());
    assert_eq!(written, Err(ErrorKind::ConnectionReset));
    let (c_reader, _c_writer) = to_c.split();
    assert_eq!(read_soon(&sim, &a, c_reader), None, "another connection is untouched");
}

#[test]
fn cuts_choose_by_node() {
    let sim = calm(2);
    let (a, b, c) = (sim.node("a"), sim.node("b"), sim.node("c"));
    let _streams = [connected(&sim, &a, &b), connected(&sim, &b, &a), connected(&sim, &a, &c)];
    assert_eq!(sim.faults().cut_between(&b, &c), 0);
    assert_eq!(sim.faults().cut_between(&a, &b), 2);
    assert_eq!(sim.faults().cut_all(&c), 1);
    assert_eq!(sim.counts().resets, 6);
}

#[test]
fn a_partition_holds_bytes_and_healing_delivers_them() {
    let sim = Simulation::new(3);
    let (a, b) = (sim.node("a"), sim.node("b"));
    let (opened, accepted) = connected(&sim, &a, &b);
    let ((mut a_reader, mut a_writer), (mut reader, mut b_writer)) = (opened.split(), accepted.split());
    let bytes = bytes_of(3, 60_000);
    let sent = bytes.clone();
    a.spawn(async move {
        write_all(&mut a_writer, &sent).await.expect("the window takes it");
        std::future::pending::<()>().await;
    });
    // Some segments are under way when the partition begins, some are written in it.
    sim.run_for(Duration::from_micros(100)).expect("within the limit");
    sim.faults().partition_one_way(&a, &b);
    sim.run_for(60 * SECOND).expect("within the limit");
    let delivered = sim.counts().bytes_delivered;
    assert!(delivered < 60_000 && sim.counts().held > 0);
    // The other direction passes.
    b_writer.try_write(&[IoSlice::new(b"!")]).expect("fits");
    let there = sim.block_on(&a, async move { read_exactly(&mut a_reader, 1).await });
    assert!(there.is_some_and(|result| result.is_ok_and(|read| read == b"!")));
    sim.faults().heal(&b, &a);
    let read = sim
        .block_on(&b, async move { read_exactly(&mut reader, 60_000).await })
        .expect("ends")
        .expect("reads");
    assert!(read == bytes);
}

#[test]
fn a_partition_holds_acknowledgements_and_connects() {
    let sim = calm(4);
    let (a, b) = (sim.node("a"), sim.node("b"));
    let (opened, accepted) = connected(&sim, &a, &b);
    let ((_a_reader, mut writer), (mut reader, _b_writer)) = (opened.split(), accepted.split());
    sim.faults().partition_one_way(&b, &a);
    let filled = super::fill(&mut writer);
    let read = sim.block_on(&b, async move { read_exactly(&mut reader, filled).await.map(|_| reader) });
    let _reader = read.expect("ends").expect("bytes pass this way");
    sim.run_for(SECOND).expect("within the limit");
    assert_eq!(super::fill(&mut writer), 0, "acknowledgements do not");

    serve_echo(&b);
    sim.run_for(SECOND).expect("within the limit");
    let node = a.clone();
    let address = b.address(PORT);
    let limit = Limit { time: 60 * SECOND, ..Limit::default() };
    let hung = sim.run(&a, limit, async move { node.connect(address).await.is_ok() });
    assert_eq!(hung, Err(Unfinished::Idle), "a connect hangs");
    let asked = Rc::new(Cell::new(false));
    let (flag, ask) = (Rc::clone(&asked), ask_echo(a.clone(), b.clone(), 1, 1_000));
    a.spawn(async move { flag.set(ask.await.is_ok()) });
    sim.run_for(SECOND).expect("within the limit");
    assert!(!asked.get());
    sim.faults().heal_all();
    sim.run_for(SECOND).expect("within the limit");
    assert!(asked.get());
    assert_eq!(super::fill(&mut writer), filled);
}

/// Calls every verb of the platform when it is dropped.
struct Testament {
    platform: SimPlatform,
    list: Rc<RefCell<Vec<u64>>>,
}

impl Drop for Testament {
    fn drop(&mut self) {
        self.list.borrow_mut().push(self.platform.entropy());
        let heir = Testament { platform: self.platform.clone(), list: Rc::clone(&self.list) };
        let task = async move {
            let _heir = heir;
        };
        // A destructor that always left another heir would never end.
        if self.list.borrow().len() < 5 {
            self.platform.spawn(task);
        } else {
            std::mem::forget(task);
        }
        drop(self.platform.sleep(SECOND));
        drop(self.platform.listen(self.platform.address(1)));
        drop(self.platform.connect(self.platform.address(1)));
        assert!(self.platform.now() > Moment(0));
    }
}

#[test]
fn a_killed_node_drops_its_tasks_and_resets_its_peers() {
    let sim = Simulation::new(5);
    let (server, client) = (sim.node("server"), sim.node("client"));
    serve_echo(&server);
    let list = Rc::new(RefCell::new(Vec::new()));
    let (opened, accepted) = connected(&sim, &client, &server);
    let held = Testament { platform: server.clone(), list: Rc::clone(&list) };
    server.spawn(async move {
        let (mut reader, mut writer) = accepted.split();
        let _held = held;
        let _ = read_rest(&mut reader).await;
        let _ = writer.try_write(&[]);
    });
    sim.run_for(SECOND).expect("within the limit");
    let faults = sim.faults();
    let victim = server.clone();
    // The fault comes from a task of another node.
    client.spawn(async move { faults.kill(&victim) });
    let (reader, mut writer) = opened.split();
    assert_eq!(read_soon(&sim, &client, reader), Some(Err(ErrorKind::ConnectionReset)));
    assert!(writer.try_write(&[IoSlice::new(b"x")]).is_err());
    assert!(list.borrow().len() >= 5, "destructors have run and called the platform");
    assert!(!server.is_alive());
    let refused = sim.block_on(&client, client.connect(server.address(PORT))).expect("ends");
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));
    let dead = sim.run(&server, Limit::default(), server.connect(client.address(1))).map(|_| ());
    assert_eq!(dead, Err(Unfinished::Killed));
    let down = sim.block_on(&client, server.listen(server.address(1))).expect("ends");
    assert_eq!(down.err().map(|error| error.kind()), Some(ErrorKind::NetworkDown));
}

#[test]
fn a_task_may_kill_its_own_node() {
    let sim = calm(6);
    let node = sim.node("suicidal");
    let (faults, victim) = (sim.faults(), node.clone());
    let witness = Rc::new(());
    let held = Rc::clone(&witness);
    let result = sim.run(&node, Limit::default(), async move {
        let _held = held;
        faults.kill(&victim);
        victim.sleep(SECOND).await;
    });
    assert_eq!(result, Err(Unfinished::Killed));
    assert_eq!(Rc::strong_count(&witness), 1, "its own task is dropped too");
}

#[test]
fn a_power_loss_is_silent_until_the_machine_returns() {
    let sim = Simulation::new(7);
    let (server, client) = (sim.node("server"), sim.node("client"));
    serve_echo(&server);
    let (opened, accepted) = connected(&sim, &client, &server);
    server.spawn(async move {
        let (_reader, _writer) = accepted.split();
        std::future::pending::<()>().await;
    });
    sim.run_for(SECOND).expect("within the limit");
    sim.faults().power_off(&server);
    let (mut reader, mut writer) = opened.split();
    writer.try_write(&[IoSlice::new(b"anyone?")]).expect("the window takes it");
    let waiting = Rc::new(Cell::new(None));
    let outcome = Rc::clone(&waiting);
    client.spawn(async move { outcome.set(reader.read(&mut [0; 1]).await.err().map(|error| error.kind())) });
    let connecting = Rc::new(Cell::new(false));
    let (flag, ask) = (Rc::clone(&connecting), ask_echo(client.clone(), server.clone(), 1, 10));
    client.spawn(async move { flag.set(ask.await.is_ok()) });
    sim.run_for(600 * SECOND).expect("within the limit");
    assert_eq!((waiting.get(), connecting.get()), (None, false));

    let server = sim.faults().restart(&server);
    serve_echo(&server);
    sim.run_for(SECOND).expect("within the limit");
    assert_eq!(waiting.get(), Some(ErrorKind::ConnectionReset), "the old connection is unknown there");
    assert!(connecting.get(), "the connect that hung has come through");
}

#[test]
fn who_waits_for_room_at_a_machine_that_lost_power_learns_of_it_when_that_is_back() {
    let sim = Simulation::new(7);
    let (server, client) = (sim.node("server"), sim.node("client"));
    let (opened, _accepted) = connected(&sim, &client, &server);
    let (_reader, mut writer) = opened.split();
    while writer.try_write(&[IoSlice::new(&[7; 1 << 16])]).is_ok() {}
    sim.run_for(SECOND).expect("within the limit");
    sim.faults().power_off(&server);
    let outcome = Rc::new(Cell::new(None));
    let seen = Rc::clone(&outcome);
    client.spawn(async move {
        seen.set(writer.write(&[IoSlice::new(b"more")]).await.err().map(|error| error.kind()));
    });
    sim.run_for(600 * SECOND).expect("within the limit");
    assert_eq!(outcome.get(), None);
    sim.faults().restart(&server);
    sim.run_for(SECOND).expect("within the limit");
    assert_eq!(outcome.get(), Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_keep_alive_ends_connections_to_who_is_gone_and_no_others() {
    let sim = Simulation::new(7);
    let (server, client, other) = (sim.node("server"), sim.node("client"), sim.node("other"));
    let (opened, accepted) = connected(&sim, &client, &server);
    let (_opened, kept) = connected(&sim, &other, &server);
    sim.faults().power_off(&client);
    drop(opened);
    sim.run_for(600 * SECOND).expect("within the limit");
    assert_eq!(sim.faults().connections().len(), 2);
    assert_eq!(sim.faults().keep_alive(), 1);
    let (mut cut, mut whole) = (accepted.split().0, kept.split().0);
    let ends = Rc::new(Cell::new((None, None)));
    let seen = Rc::clone(&ends);
    server.spawn(async move {
        let end = cut.read(&mut [0; 1]).await.err().map(|error| error.kind());
        seen.set((end, None));
        let end = whole.read(&mut [0; 1]).await.err().map(|error| error.kind());
        seen.set((None, end));
    });
    sim.run_for(SECOND).expect("within the limit");
    assert_eq!(ends.get(), (Some(ErrorKind::ConnectionReset), None));
}

#[test]
fn a_paused_node_does_nothing_and_loses_nothing() {
    let sim = calm(8);
    let (server, client) = (sim.node("server"), sim.node("client"));
    serve_echo(&server);
    let fired = Rc::new(Cell::new(0));
    let (count, platform) = (Rc::clone(&fired), server.clone());
    server.spawn(async move {
        for round in 1..=10 {
            platform.sleep(SECOND).await;
            count.set(round);
        }
    });
    sim.run_for(Duration::from_millis(1_500)).expect("within the limit");
    sim.faults().pause(&server);
    let asked = Rc::new(Cell::new(false));
    let (flag, ask) = (Rc::clone(&asked), ask_echo(client.clone(), server.clone(), 1, 5_000));
    client.spawn(async move { flag.set(ask.await.is_ok()) });
    sim.run_for(100 * SECOND).expect("within the limit");
    assert_eq!((fired.get(), asked.get()), (1, false));
    assert_eq!(sim.counts().bytes_delivered, 5_000, "its kernel receives");
    sim.faults().resume(&server);
    sim.run_for(Duration::from_millis(1)).expect("within the limit");
    assert_eq!((fired.get(), asked.get()), (2, true), "one timer was due, the next begins now");
}

#[test]
fn a_restarted_node_is_a_new_one_at_the_old_address() {
    let sim = calm(9);
    let old = sim.node("node");
    serve_echo(&old);
    sim.run_for(SECOND).expect("within the limit");
    let new = sim.faults().restart(&old);
    assert_ne!(old.id(), new.id());
    assert_eq!((old.ip(), old.name()), (new.ip(), new.name()));
    assert!(!old.is_alive() && new.is_alive());
    let listener =
        sim.block_on(&new, new.listen(new.address(PORT))).expect("ends").expect("the port is free");
    let spawned = Rc::new(());
    let held = Rc::clone(&spawned);
    old.spawn(async move { drop(held) });
    assert_eq!(Rc::strong_count(&spawned), 1, "the dead take no tasks");
    assert_eq!(listener.local_address(), new.address(PORT));
}

#[test]
fn a_listener_of_a_killed_node_fails_elsewhere() {
    let sim = calm(10);
    let (a, b) = (sim.node("a"), sim.node("b"));
    let mut listener = sim.block_on(&a, a.listen(a.address(PORT))).expect("ends").expect("listens");
    sim.faults().kill(&a);
    let kind = sim.block_on(&b, async move { listener.accept().await.err().map(|error| error.kind()) });
    assert_eq!(kind, Some(Some(ErrorKind::ConnectionAborted)));
}

#[test]
fn a_clock_that_jumps_ends_the_timers_that_it_overtakes() {
    let sim = calm(11);
    let node = sim.node("node");
    let (platform, faults) = (node.clone(), sim.faults());
    let begin = sim.now();
    let jumped = sim.block_on(&node, async move {
        let before = platform.now();
        let (short, long) = (platform.sleep(SECOND), platform.sleep(11 * SECOND));
        let jump = platform.sleep(SECOND / 2);
        let node = platform.clone();
        platform.spawn(async move {
            jump.await;
            faults.advance_clock(&node, 10 * SECOND);
        });
        short.await;
        let overtaken = platform.now() - before;
        long.await;
        (overtaken, platform.now() - before)
    });
    assert_eq!(jumped, Some((21 * SECOND / 2, 11 * SECOND)));
    assert_eq!(sim.now() - begin, SECOND);
}
