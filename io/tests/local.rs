//! A client's platform and an engine's core, by shared memory: bytes both ways, back-pressure, and the end of either.

use snowskin_io::sockets::{SocketsPlatform, SocketsRuntime, SocketsStream};
use snowskin_io::uring::{CoreThread, UringPlatform, spawn_core};
use snowskin_io::{Accept, ByteReader, ByteWriter, LocalUsers, Platform, Stream};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

const SPIN: Duration = Duration::from_micros(50);
/// More than a pipe holds, many times.
const LARGE_BYTES: usize = 6_000_001;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Folder(std::env::temp_dir().join(format!("snowskin-local-{name}-{}", std::process::id())))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("core.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A core that sends back what it gets, on so many connections, until each ends.
fn echo(path: &Path, connections: usize) -> CoreThread {
    let (path, (sender, ready)) = (path.to_owned(), channel());
    let core = spawn_core("echo", 0, SPIN, move |platform: UringPlatform| async move {
        let mut listener = platform.listen_local(&path, LocalUsers::Owner).unwrap();
        sender.send(()).unwrap();
        let mut served = 0;
        while served < connections {
            // Whoever does not speak as we do is not served.
            let Ok((stream, _)) = listener.accept().await else { continue };
            served += 1;
            let (mut reader, mut writer) = stream.split();
            let mut buffer = vec![0; 100_000];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                let mut rest = &buffer[..count];
                while !rest.is_empty() {
                    match writer.write(&[IoSlice::new(rest)]).await {
                        Ok(count) => rest = &rest[count..],
                        Err(_) => break,
                    }
                }
            }
        }
    });
    ready.recv().unwrap();
    core.unwrap()
}

fn on_client<T, F>(make: impl FnOnce(SocketsPlatform) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    SocketsRuntime::new(SPIN).unwrap().run(make).expect("it does not panic")
}

async fn pass(stream: SocketsStream, platform: &SocketsPlatform, bytes: usize) -> Vec<u8> {
    let (mut reader, mut writer) = stream.split();
    let value: Vec<u8> = (0..bytes).map(|at| (at * 31 + at / 257) as u8).collect();
    platform.spawn(async move {
        let mut rest = &value[..];
        while !rest.is_empty() {
            let (first, second) = rest.split_at(rest.len().min(3));
            rest = &rest[writer.write(&[IoSlice::new(first), IoSlice::new(second)]).await.unwrap()..];
        }
        // The writing half goes, the reading half goes on.
    });
    let (mut all, mut buffer) = (Vec::new(), vec![0; 33_333]);
    while all.len() < bytes {
        match reader.read(&mut buffer).await.unwrap() {
            0 => panic!("the end after {} bytes", all.len()),
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
    all
}

#[test]
fn small_and_large_texts_come_back() {
    let folder = Folder::new("echo");
    let core = echo(&folder.socket(), 2);
    let path = folder.socket();
    on_client(async move |platform| {
        for bytes in [1, LARGE_BYTES] {
            let stream = platform.connect_local(&path).await.unwrap();
            let all = pass(stream, &platform, bytes).await;
            assert!(all.len() == bytes && (0..bytes).all(|at| all[at] == (at * 31 + at / 257) as u8));
        }
    });
    core.join().unwrap();
}

#[test]
fn who_sleeps_long_is_woken() {
    let folder = Folder::new("sleep");
    let core = echo(&folder.socket(), 1);
    let path = folder.socket();
    on_client(async move |platform| {
        let (mut reader, mut writer) = platform.connect_local(&path).await.unwrap().split();
        for round in 0..20_u8 {
            // Longer than anybody spins.
            platform.sleep(Duration::from_millis(5)).await;
            assert_eq!(writer.write(&[IoSlice::new(&[round])]).await.unwrap(), 1);
            let mut buffer = [0; 9];
            assert_eq!((reader.read(&mut buffer).await.unwrap(), buffer[0]), (1, round));
        }
    });
    core.join().unwrap();
}

#[test]
fn the_end_of_the_engine_is_the_end_of_the_stream() {
    let folder = Folder::new("end");
    let core = echo(&folder.socket(), 2);
    let path = folder.socket();
    on_client(async move |platform| {
        let (mut reader, mut writer) = platform.connect_local(&path).await.unwrap().split();
        assert_eq!(writer.write(&[IoSlice::new(b"still here")]).await.unwrap(), 10);
        let mut buffer = [0; 99];
        let mut count = 0;
        while count < 10 {
            count += reader.read(&mut buffer).await.unwrap();
        }
        // Our end is the end of its echo.
        writer.shutdown();
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 0);
        assert!(writer.write(&[IoSlice::new(b"?")]).await.is_err());
        // And whoever goes without a word has gone, too: the core, which serves two, ends.
        drop(platform.connect_local(&path).await.unwrap());
    });
    core.join().unwrap();
}

/// Somebody who connects and sends garbage, or rings without end, is one who gets nothing; others do not notice.
#[test]
fn a_client_that_only_rings_does_not_stop_the_core() {
    let folder = Folder::new("ring");
    let core = echo(&folder.socket(), 2);
    let mut noise = UnixStream::connect(folder.socket()).unwrap();
    // Until the core has greeted: who has gone before is not served, and the core would wait for another one.
    noise.read_exact(&mut [0; 16]).unwrap();
    noise.set_nonblocking(true).unwrap();
    for _ in 0..10_000 {
        match noise.write(&[1; 4096]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
            Ok(_) => {}
        }
    }
    drop(noise);
    let path = folder.socket();
    on_client(async move |platform| {
        let stream = platform.connect_local(&path).await.unwrap();
        assert_eq!(pass(stream, &platform, 1000).await.len(), 1000);
    });
    core.join().unwrap();
}

/// In a folder that is everybody's, the socket may be anybody's, who would answer what he likes.
#[test]
fn a_socket_in_a_folder_of_everybody_is_not_believed() {
    let folder = Folder::new("everybody");
    let core = echo(&folder.socket(), 1);
    let path = folder.socket();
    let (mode, of) = (std::fs::Permissions::from_mode, path.parent().unwrap().to_owned());
    std::fs::set_permissions(&of, mode(0o777)).unwrap();
    let asked = path.clone();
    let kind =
        on_client(async move |platform| platform.connect_local(&asked).await.err().map(|error| error.kind()));
    assert_eq!(kind, Some(io::ErrorKind::PermissionDenied));
    std::fs::set_permissions(&of, mode(0o700)).unwrap();
    on_client(async move |platform| drop(platform.connect_local(&path).await.unwrap()));
    core.join().unwrap();
}

#[test]
fn nobody_listens_is_an_error() {
    let folder = Folder::new("nobody");
    let path = folder.socket();
    let kind =
        on_client(async move |platform| platform.connect_local(&path).await.err().map(|error| error.kind()));
    assert_eq!(kind, Some(io::ErrorKind::NotFound));
}
