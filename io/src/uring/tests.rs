use super::*;
use crate::platform::{Accept, ByteReader, ByteWriter, Listener, Stream};
use std::cell::Cell;
use std::io::IoSlice;
use std::sync::mpsc;

fn on_core<F: Future<Output = ()> + 'static>(main: impl FnOnce(UringPlatform) -> F + Send + 'static) {
    spawn_core("test", 0, Duration::from_micros(50), main).unwrap().join().unwrap();
}

const LOOPBACK: &str = "127.0.0.1:0";

#[test]
fn a_large_value_passes_whole_against_back_pressure() {
    on_core(async |platform| {
        let mut listener = platform.listen(LOOPBACK.parse().unwrap()).await.unwrap();
        let address = listener.local_address();
        let value: Vec<u8> =
            (0..8_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let expected = value.clone();
        platform.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (_reader, mut writer) = stream.split();
            let (first, second) = value.split_at(3);
            let mut done = 0;
            while done < value.len() {
                let slices = [IoSlice::new(&first[done.min(3)..]), IoSlice::new(&second[done.max(3) - 3..])];
                done += writer.write(&slices).await.unwrap();
            }
            writer.shutdown();
        });
        let (mut reader, _writer) = platform.connect(address).await.unwrap().split();
        let mut received = Vec::new();
        let mut buffer = vec![0; 100_000];
        loop {
            match reader.read(&mut buffer).await.unwrap() {
                0 => break,
                count => received.extend_from_slice(&buffer[..count]),
            }
        }
        assert!(received == expected);
    });
}

#[test]
fn a_taken_port_is_an_error() {
    on_core(async |platform| {
        let listener = platform.listen(LOOPBACK.parse().unwrap()).await.unwrap();
        let again = platform.listen(listener.local_address()).await;
        assert_eq!(again.err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
    });
}

#[test]
fn nobody_listens_is_an_error() {
    on_core(async |platform| {
        let listener = platform.listen(LOOPBACK.parse().unwrap()).await.unwrap();
        let address = listener.local_address();
        drop(listener);
        let error = platform.connect(address).await.err().expect("refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_yielding_task_does_not_stall_the_others() {
    // See the module's head. Without the heartbeat the count stands still for seconds at a time.
    let (sender, counted) = mpsc::channel();
    on_core(async move |platform| {
        let yields = Rc::new(Cell::new(0_u64));
        let counter = yields.clone();
        platform.spawn(async move {
            loop {
                counter.set(counter.get() + 1);
                glommio::yield_if_needed().await;
                glommio::executor().yield_task_queue_now().await;
            }
        });
        let mut stalls = 0;
        for _ in 0..20 {
            let before = yields.get();
            platform.sleep(Duration::from_millis(20)).await;
            stalls += u32::from(yields.get() == before);
        }
        sender.send(stalls).unwrap();
    });
    assert!(counted.recv().unwrap() <= 2, "the yielding task stood still");
}

#[test]
fn a_stream_that_never_waits_leaves_others_their_turn() {
    // Two ends of one connection on one core, each always with something to do: timers must go on all the same.
    on_core(async |platform| {
        let mut listener = platform.listen(LOOPBACK.parse().unwrap()).await.unwrap();
        let address = listener.local_address();
        let flood = std::net::TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (stopped, mut sender) = (stop.clone(), flood.try_clone().unwrap());
        let flooder = std::thread::spawn(move || {
            use std::io::Write;
            while !stopped.load(std::sync::atomic::Ordering::Relaxed)
                && sender.write_all(&[7; 65_536]).is_ok()
            {}
        });
        let read_bytes = Rc::new(Cell::new(0_usize));
        let counter = read_bytes.clone();
        platform.spawn(async move {
            let (mut reader, _writer) = stream.split();
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                counter.set(counter.get() + count);
            }
        });
        let begun = Instant::now();
        for _ in 0..20 {
            platform.sleep(Duration::from_millis(10)).await;
        }
        let took = begun.elapsed();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        flood.shutdown(std::net::Shutdown::Both).unwrap();
        flooder.join().unwrap();
        assert!(read_bytes.get() > 1 << 20, "the flood was real: {} bytes", read_bytes.get());
        assert!(took < Duration::from_secs(2), "20 sleeps of 10 ms took {took:?}");
    });
}

#[test]
fn tasks_end_with_their_core_and_give_back_what_they_have() {
    use std::sync::Arc;
    let witness = Arc::new(());
    let held = witness.clone();
    on_core(async move |platform| {
        let mut listener = platform.listen(LOOPBACK.parse().unwrap()).await.unwrap();
        let address = listener.local_address();
        // One that waits for the ring, one for a timer, one for ever, and one that is over.
        let (accepting, sleeping, waiting) = (held.clone(), held.clone(), held.clone());
        platform.spawn(async move {
            let _held = accepting;
            while listener.accept().await.is_ok() {}
        });
        let asleep = platform.sleep(Duration::from_secs(3600));
        platform.spawn(async move {
            let _held = sleeping;
            asleep.await;
        });
        // Its end begins another one.
        let beginning = Beginning(platform.clone(), waiting);
        platform.spawn(async move {
            let _beginning = beginning;
            std::future::pending().await
        });
        platform.spawn(async {});
        assert_eq!(platform.inner.shared.tasks.count(), 4, "with the heartbeat");
        drop(platform.connect(address).await.unwrap());
    });
    assert_eq!(Arc::strong_count(&witness), 1);

    struct Beginning(UringPlatform, Arc<()>);

    impl Drop for Beginning {
        fn drop(&mut self) {
            let held = self.1.clone();
            self.0.spawn(async move {
                let _held = held;
                std::future::pending().await
            });
        }
    }
}
