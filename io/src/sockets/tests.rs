use super::*;
use crate::platform::{Accept, ByteReader, ByteWriter, Listener, Stream, with_deadline};
use std::cell::Cell;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const LOOPBACK: &str = "127.0.0.1:0";

fn runtime() -> SocketsRuntime {
    SocketsRuntime::new(Duration::from_micros(50)).unwrap()
}

async fn echo_server(platform: &SocketsPlatform) -> SocketAddr {
    let mut listener = platform.listen(LOOPBACK.parse().unwrap()).await.unwrap();
    let address = listener.local_address();
    let spawner = platform.clone();
    platform.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut reader, mut writer) = stream.split();
            spawner.spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                    let mut done = 0;
                    while done < count {
                        done += writer.write(&[IoSlice::new(&buffer[done..count])]).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

async fn ask(platform: &SocketsPlatform, address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = platform.connect(address).await.unwrap().split();
    let slices = [IoSlice::new(&bytes[..1]), IoSlice::new(&bytes[1..])];
    assert_eq!(writer.write(&slices).await.unwrap(), bytes.len());
    let mut reply = vec![0; bytes.len()];
    let mut done = 0;
    while done < reply.len() {
        done += reader.read(&mut reply[done..]).await.unwrap();
    }
    reply
}

#[test]
fn bytes_come_back() {
    let reply = runtime().run(|platform| async move {
        let address = echo_server(&platform).await;
        ask(&platform, address, b"hello").await
    });
    assert_eq!(reply.as_deref(), Some(&b"hello"[..]));
}

#[test]
fn a_slow_reader_holds_the_writer_back_and_loses_nothing() {
    const TOTAL: usize = 32 << 20;
    let sum = runtime().run(|platform| async move {
        let mut listener = platform.listen(LOOPBACK.parse().unwrap()).await.unwrap();
        let address = listener.local_address();
        let writing = platform.clone();
        platform.spawn(async move {
            let (_reader, mut writer) = writing.connect(address).await.unwrap().split();
            let block: Vec<u8> = (0..1 << 20).map(|index| (index % 251) as u8).collect();
            let mut done = 0;
            while done < TOTAL {
                let rest = &block[done % block.len()..];
                done += writer.write(&[IoSlice::new(rest)]).await.unwrap();
            }
            writer.shutdown();
        });
        let (stream, _) = listener.accept().await.unwrap();
        let (mut reader, mut writer) = stream.split();
        platform.sleep(Duration::from_millis(50)).await;
        let (mut buffer, mut total) = (vec![0; 100_000], 0_usize);
        loop {
            let count = reader.read(&mut buffer).await.unwrap();
            if count == 0 {
                break;
            }
            for (index, byte) in buffer[..count].iter().enumerate() {
                assert_eq!(*byte, (((total + index) % (1 << 20)) % 251) as u8);
            }
            total += count;
            if total.is_multiple_of(7) {
                platform.sleep(Duration::from_millis(1)).await;
            }
        }
        // The peer is gone: writing says so, sooner or later, and never by a signal.
        while writer.try_write(&[IoSlice::new(b"x")]).is_ok() {
            platform.sleep(Duration::from_millis(1)).await;
        }
        total
    });
    assert_eq!(sum, Some(TOTAL));
}

#[test]
fn a_full_socket_would_block() {
    let kind = runtime().run(|platform| async move {
        let mut listener = platform.listen(LOOPBACK.parse().unwrap()).await.unwrap();
        let (_reader, mut writer) = platform.connect(listener.local_address()).await.unwrap().split();
        let _accepted = listener.accept().await.unwrap();
        let block = vec![0; 1 << 20];
        loop {
            if let Err(error) = writer.try_write(&[IoSlice::new(&block)]) {
                break error.kind();
            }
        }
    });
    assert_eq!(kind, Some(io::ErrorKind::WouldBlock));
}

#[test]
fn threads_share_a_runtime_and_each_call_completes() {
    let runtime = runtime();
    let address = Arc::new(std::sync::OnceLock::new());
    let found = address.clone();
    let shared = Arc::new(Resident::new(runtime, |platform| Rc::new((platform, Cell::new(0_usize)))));
    let (sender, receiver) = tokio::sync::oneshot::channel();
    shared.spawn(|value| {
        let value = value.clone();
        async move {
            found.set(echo_server(&value.0).await).unwrap();
            sender.send(()).unwrap();
        }
    });
    shared.block_on(receiver).unwrap();
    let address = *address.get().unwrap();
    let threads: Vec<_> = (0..4_u8)
        .map(|thread| {
            let shared = shared.clone();
            std::thread::spawn(move || {
                for call in 0..200_u8 {
                    let (sender, receiver) = tokio::sync::oneshot::channel();
                    shared.spawn(move |value| {
                        let value = value.clone();
                        async move {
                            let reply = ask(&value.0, address, &[thread, call, 7]).await;
                            value.1.set(value.1.get() + 1);
                            sender.send(reply).unwrap();
                        }
                    });
                    assert_eq!(shared.block_on(receiver).unwrap(), [thread, call, 7]);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (sender, receiver) = tokio::sync::oneshot::channel();
    shared.spawn(|value| {
        let count = value.1.get();
        async move { sender.send(count).unwrap() }
    });
    assert_eq!(shared.block_on(receiver).unwrap(), 800);
}

#[test]
fn dropping_the_runtime_drops_its_tasks() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counted(#[allow(dead_code, reason = "makes it neither Send nor Sync")] Rc<()>);
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let runtime = runtime();
    runtime.run(|platform| async move {
        let address = echo_server(&platform).await;
        for _ in 0..3 {
            let counted = Counted(Rc::default());
            let (mut reader, writer) = platform.connect(address).await.unwrap().split();
            platform.spawn(async move {
                let _held = (counted, writer);
                reader.read(&mut [0; 8]).await.unwrap();
            });
        }
    });
    // A task that never ran goes too.
    runtime.enter_with(|_| async move {
        let _counted = Counted(Rc::default());
        std::future::pending::<()>().await;
    });
    runtime.block_on(async {
        tokio::task::yield_now().await;
    });
    let sent = Builder::new_current_thread().build().unwrap();
    sent.block_on(async move { drop(runtime) });
    assert!(DROPPED.load(Ordering::Relaxed) >= 3);
}

#[test]
fn deadlines_refused_connections_and_entropy() {
    runtime().run(|platform| async move {
        let begun = platform.now();
        let never = std::future::pending::<()>();
        let deadline = begun + Duration::from_millis(20);
        assert_eq!(with_deadline(&platform, deadline, never).await, None);
        assert!(platform.now() >= deadline && platform.now() - deadline < Duration::from_millis(200));
        assert_ne!(platform.entropy(), platform.entropy());
        let closed = platform.listen(LOOPBACK.parse().unwrap()).await.unwrap().local_address();
        let refused = platform.connect(closed).await.err().expect("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        platform.spawn(async {});
        drop(platform.sleep(Duration::MAX));
    });
}

#[test]
fn the_writer_may_go_before_the_reader() {
    runtime().run(|platform| async move {
        let mut listener = platform.listen("[::1]:0".parse().unwrap()).await.unwrap();
        let (mut reader, writer) = platform.connect(listener.local_address()).await.unwrap().split();
        let (accepted, _) = listener.accept().await.unwrap();
        let (mut far_reader, mut far_writer) = accepted.split();
        drop(writer);
        far_writer.write(&[IoSlice::new(b"still")]).await.unwrap();
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 5);
        drop(reader);
        assert_eq!(far_reader.read(&mut buffer).await.unwrap(), 0);
    });
}
