//! Byte streams on a network without faults.

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use super::super::{NetworkOptions, Options, Simulation};
use super::{
    PORT, ask_echo, bytes_of, calm, connected, fill, read_exactly, read_rest, serve_echo, write_all,
};
use crate::platform::{Accept, ByteReader, ByteWriter, Listener, Platform, Stream, with_deadline};

quickcheck::quickcheck! {
    fn echo_returns_each_stream_whole(seed: u64, window: u16, segment: u16, short_percent: u8) -> bool {
        let network = NetworkOptions {
            window_bytes: usize::from(window) + 1,
            segment_bytes_max: usize::from(segment) + 1,
            short_percent: u32::from(short_percent) % 90,
            ..NetworkOptions::default()
        };
        let sim = Simulation::with_options(seed, Options { network, ..Options::default() });
        let (server, client) = (sim.node("server"), sim.node("client"));
        serve_echo(&server);
        let platform = client.clone();
        let work = async move {
            platform.sleep(Duration::from_millis(1)).await;
            let asks = (0..3).map(|number| ask_echo(platform.clone(), server.clone(), number, 700 * number as usize));
            futures_util::future::join_all(asks).await.into_iter().all(|result| result.is_ok())
        };
        sim.block_on(&client, work) == Some(true)
    }
}

#[test]
fn a_full_window_blocks_until_the_reader_reads() {
    let network = NetworkOptions { window_bytes: 1_000, ..NetworkOptions::default() };
    let sim = Simulation::with_options(1, Options { network, ..Options::default() });
    let (a, b) = (sim.node("a"), sim.node("b"));
    let (opened, accepted) = connected(&sim, &a, &b);
    let ((_a_reader, mut writer), (mut reader, _b_writer)) = (opened.split(), accepted.split());
    assert_eq!(fill(&mut writer), 1_000);
    assert!(sim.counts().blocked_writes > 0);

    let wrote = Rc::new(Cell::new(false));
    let flag = Rc::clone(&wrote);
    a.spawn(async move {
        assert!(writer.write(&[IoSlice::new(&[9])]).await.is_ok());
        flag.set(true);
    });
    sim.run_for(Duration::from_secs(1)).expect("within the limit");
    assert!(!wrote.get(), "delivered bytes still fill the window until they are read");
    for (bytes, writes_on) in [(10, false), (400, true)] {
        let read = async move {
            let read = read_exactly(&mut reader, bytes).await;
            (reader, read)
        };
        let (back, read) = sim.block_on(&b, read).expect("ends");
        reader = back;
        assert_eq!(read.expect("reads").len(), bytes);
        sim.run_for(Duration::from_secs(1)).expect("within the limit");
        assert_eq!(wrote.get(), writes_on, "a third of the window must be free");
    }
}

#[test]
fn reads_and_writes_are_often_short_unless_calm() {
    for (sim, is_calm) in [(Simulation::new(3), false), (calm(3), true)] {
        let (server, client) = (sim.node("server"), sim.node("client"));
        serve_echo(&server);
        sim.run_for(Duration::from_millis(1)).expect("within the limit");
        let done = sim.block_on(&client, ask_echo(client.clone(), server, 5, 100_000));
        assert!(done.is_some_and(|result| result.is_ok()));
        let counts = sim.counts();
        assert_eq!(counts.bytes_sent, 200_000);
        assert_eq!(counts.short_writes == 0 && counts.short_reads == 0, is_calm, "{counts:?}");
        assert_eq!(counts.bytes_delivered, counts.bytes_read);
    }
}

#[test]
fn a_calm_write_is_one_segment() {
    let sim = calm(4);
    let (a, b) = (sim.node("a"), sim.node("b"));
    let (opened, accepted) = connected(&sim, &a, &b);
    let ((_, mut writer), (mut reader, _)) = (opened.split(), accepted.split());
    let begin = sim.now();
    for _ in 0..3 {
        let slices = [IoSlice::new(b"head"), IoSlice::new(&[]), IoSlice::new(b"body")];
        assert_eq!(writer.try_write(&slices).expect("fits"), 8);
    }
    assert_eq!(writer.try_write(&[]).expect("nothing is fine"), 0);
    let read =
        sim.block_on(&b, async move { read_exactly(&mut reader, 24).await }).expect("ends").expect("reads");
    assert_eq!(read, b"headbodyheadbodyheadbody");
    assert_eq!((sim.counts().writes, sim.counts().segments), (3, 3));
    assert_eq!(sim.now() - begin, Duration::from_micros(100));
}

#[test]
fn a_connect_to_nobody_is_refused_after_a_round_trip() {
    let sim = calm(5);
    let (a, b) = (sim.node("a"), sim.node("b"));
    let begin = sim.now();
    for address in [b.address(PORT), "10.9.9.9:1".parse().expect("an address"), a.address(1)] {
        let error = sim.block_on(&a, a.connect(address)).expect("ends").err().expect("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(sim.now() - begin, Duration::from_micros(600));
    assert_eq!(sim.counts().refused, 3);
    assert!(sim.faults().connections().is_empty());
}

#[test]
fn addresses_of_listeners_are_checked_and_given_out() {
    let sim = calm(6);
    let (a, b) = (sim.node("a"), sim.node("b"));
    let sibling = sim.node_at("core 1 of a", a.ip());
    let (node, other) = (a.clone(), b.clone());
    let work = async move {
        let any = node.listen("0.0.0.0:0".parse().expect("an address")).await?;
        let own = node.listen("127.0.0.1:0".parse().expect("an address")).await?;
        assert_eq!(any.local_address().ip(), node.ip());
        assert_ne!(any.local_address(), own.local_address());
        let taken = sibling.listen(any.local_address()).await.err().map(|error| error.kind());
        assert_eq!(taken, Some(ErrorKind::AddrInUse));
        let foreign = node.listen(other.address(1)).await.err().map(|error| error.kind());
        assert_eq!(foreign, Some(ErrorKind::AddrNotAvailable));
        let address = any.local_address();
        drop(any);
        let again = sibling.listen(address).await?;
        assert_eq!(again.local_address(), address, "a closed port is free");
        io::Result::Ok(())
    };
    sim.block_on(&a, work).expect("ends").expect("listens");
}

#[test]
fn accept_names_the_opener() {
    let sim = calm(7);
    let (a, b) = (sim.node("a"), sim.node("b"));
    let (opened, accepted) = connected(&sim, &a, &b);
    let [local, remote] = opened.addresses().expect("both live");
    assert_eq!(accepted.addresses(), Some([remote, local]));
    assert_eq!((local.ip(), remote.ip()), (a.ip(), b.ip()));
    assert_eq!(opened.connection(), accepted.connection());
}

#[test]
fn a_graceful_close_shows_the_rest_and_then_the_end() {
    let sim = Simulation::new(8);
    let (a, b) = (sim.node("a"), sim.node("b"));
    let (opened, accepted) = connected(&sim, &a, &b);
    let bytes = bytes_of(1, 50_000);
    let sent = bytes.clone();
    a.spawn(async move {
        let (_reader, mut writer) = opened.split();
        write_all(&mut writer, &sent).await.expect("the peer reads");
    });
    let node = b.clone();
    let kind = sim.block_on(&b, async move {
        let (mut reader, mut writer) = accepted.split();
        let (read, end) = read_rest(&mut reader).await;
        assert!(read == bytes && end.is_ok());
        assert!(writer.try_write(&[IoSlice::new(b"too late")]).is_ok(), "the reset has yet to come");
        node.sleep(Duration::from_millis(10)).await;
        assert_eq!(reader.read(&mut [0; 8]).await.expect("still the end"), 0);
        writer.write(&[IoSlice::new(b"later still")]).await.err().map(|error| error.kind())
    });
    assert_eq!(kind, Some(Some(ErrorKind::BrokenPipe)));
    assert!(sim.faults().connections().is_empty());
}

#[test]
fn dropping_one_half_shows_nothing() {
    let sim = calm(9);
    let (a, b) = (sim.node("a"), sim.node("b"));
    for keeps_reader in [true, false] {
        let (opened, accepted) = connected(&sim, &a, &b);
        let (reader, writer) = opened.split();
        let kept: Box<dyn std::any::Any> = match keeps_reader {
            true => (Box::new(reader), drop(writer)).0,
            false => (Box::new(writer), drop(reader)).0,
        };
        let (mut peer_reader, mut peer_writer) = accepted.split();
        let node = b.clone();
        let work = async move {
            let deadline = node.now() + Duration::from_secs(5);
            let end = with_deadline(&node, deadline, peer_reader.read(&mut [0; 8])).await;
            assert!(end.is_none(), "the connection is open");
            assert!(peer_writer.try_write(&[IoSlice::new(b"ok")]).is_ok());
            node.sleep(Duration::from_millis(1)).await;
            assert!(peer_writer.try_write(&[IoSlice::new(b"ok")]).is_ok());
            drop(kept);
            read_rest(&mut peer_reader).await.1.err().map(|error| error.kind())
        };
        assert_eq!(
            sim.block_on(&b, work),
            Some(Some(ErrorKind::ConnectionReset)),
            "closed with unread bytes"
        );
    }
}

#[test]
fn shutdown_ends_both_directions() {
    let sim = calm(10);
    let (a, b) = (sim.node("a"), sim.node("b"));
    let (opened, accepted) = connected(&sim, &a, &b);
    let ((mut reader, mut writer), (mut peer_reader, mut peer_writer)) = (opened.split(), accepted.split());
    let own_end = Rc::new(Cell::new(false));
    let flag = Rc::clone(&own_end);
    a.spawn(async move {
        assert_eq!(reader.read(&mut [0; 8]).await.expect("an end"), 0);
        flag.set(true);
    });
    let node = a.clone();
    let kind = sim.block_on(&a, async move {
        writer.write(&[IoSlice::new(b"last")]).await?;
        node.sleep(Duration::from_millis(1)).await;
        writer.shutdown();
        writer.shutdown();
        Ok::<_, io::Error>(writer.try_write(&[IoSlice::new(b"x")]).err().map(|error| error.kind()))
    });
    assert_eq!(kind.expect("ends").expect("writes"), Some(ErrorKind::BrokenPipe));
    let (read, end) = sim.block_on(&b, async move { read_rest(&mut peer_reader).await }).expect("ends");
    assert!(read == b"last" && end.is_ok());
    assert!(own_end.get(), "a reader that waits wakes up");
    assert!(peer_writer.try_write(&[IoSlice::new(b"x")]).is_ok());
    sim.run_for(Duration::from_millis(1)).expect("within the limit");
    let late = peer_writer.try_write(&[IoSlice::new(b"x")]).err().map(|error| error.kind());
    assert!(matches!(late, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)));
}

#[test]
fn a_full_backlog_makes_connects_wait() {
    let network = NetworkOptions { backlog: 2, ..NetworkOptions::calm() };
    let sim = Simulation::with_options(11, Options { network, ..Options::default() });
    let (a, b) = (sim.node("a"), sim.node("b"));
    let mut listener = sim.block_on(&b, b.listen(b.address(PORT))).expect("ends").expect("listens");
    let connects = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let (node, address, connects) = (a.clone(), listener.local_address(), Rc::clone(&connects));
        a.spawn(async move {
            let stream = node.connect(address).await.expect("connects in the end");
            connects.set(connects.get() + 1);
            std::future::pending::<()>().await;
            drop(stream);
        });
    }
    sim.run_for(Duration::from_secs(1)).expect("within the limit");
    assert_eq!(connects.get(), 2);
    let accepted = sim.block_on(&b, async move {
        let first = listener.accept().await?;
        Ok::<_, io::Error>((first, listener.accept().await?, listener.accept().await?))
    });
    assert!(accepted.is_some_and(|result| result.is_ok()));
}

#[test]
fn a_dropped_listener_resets_who_waits_and_a_dropped_connect_is_forgotten() {
    let sim = calm(12);
    let (a, b) = (sim.node("a"), sim.node("b"));
    let listener = sim.block_on(&b, b.listen(b.address(PORT))).expect("ends").expect("listens");
    let node = a.clone();
    let address = listener.local_address();
    let stream =
        sim.block_on(&a, async move { node.connect(address).await }).expect("ends").expect("connects");
    drop(listener);
    let (mut reader, writer) = stream.split();
    let kind =
        sim.block_on(&a, async move { reader.read(&mut [0; 1]).await.err().map(|error| error.kind()) });
    assert_eq!(kind, Some(Some(ErrorKind::ConnectionReset)));
    drop(writer);

    // One is given up before it arrives, one after.
    let listener = sim.block_on(&b, b.listen(address)).expect("ends").expect("listens");
    for micros in [50, 150] {
        let node = a.clone();
        let given_up = sim.block_on(&a, async move {
            let deadline = node.now() + Duration::from_micros(micros);
            with_deadline(&node, deadline, node.connect(address)).await.is_none()
        });
        assert_eq!(given_up, Some(true));
    }
    assert_eq!(sim.faults().connections().len(), 1, "the second waits to be accepted, and to end");
    drop(listener);
    assert!(sim.faults().connections().is_empty());
}
