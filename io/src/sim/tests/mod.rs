//! Tests of the simulation itself, and what they share.

mod disk;
mod faults;
mod runs;
mod streams;

use std::io::{self, IoSlice};

use super::{NetworkOptions, Options, SimPlatform, SimReader, SimStream, SimWriter, Simulation};
use crate::platform::{Accept, ByteReader, ByteWriter, Listener, Platform};

const PORT: u16 = 7_000;

/// A simulation whose network neither varies nor shortens.
fn calm(seed: u64) -> Simulation {
    Simulation::with_options(seed, Options { network: NetworkOptions::calm(), ..Options::default() })
}

/// A connection from `a` to `b`: the opened end and the accepted one.
fn connected(sim: &Simulation, a: &SimPlatform, b: &SimPlatform) -> (SimStream, SimStream) {
    let (opener, acceptor) = (a.clone(), b.clone());
    let both = async move {
        let mut listener = acceptor.listen(acceptor.address(0)).await?;
        let (opened, accepted) =
            futures_util::future::join(opener.connect(listener.local_address()), listener.accept()).await;
        io::Result::Ok((opened?, accepted?.0))
    };
    sim.block_on(a, both).expect("the connect ends").expect("the connect succeeds")
}

/// The byte at `position` of the stream `number`: bytes that went astray are found.
fn byte_at(number: u64, position: usize) -> u8 {
    let word = (number << 40 | position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word >> 56) as u8
}

fn bytes_of(number: u64, length: usize) -> Vec<u8> {
    (0..length).map(|position| byte_at(number, position)).collect()
}

async fn write_all(writer: &mut SimWriter, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = writer.write(&[IoSlice::new(bytes)]).await?;
        assert!(written > 0, "a finished write has written");
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Writes as much as the window takes.
fn fill(writer: &mut SimWriter) -> usize {
    let mut total = 0;
    loop {
        match writer.try_write(&[IoSlice::new(&[7; 100]), IoSlice::new(&[8; 28])]) {
            Ok(written) => total += written,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                return total;
            }
        }
    }
}

/// Reads until the end or an error; both with what came before.
async fn read_rest(reader: &mut SimReader) -> (Vec<u8>, io::Result<()>) {
    let (mut all, mut buffer) = (Vec::new(), [0; 777]);
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return (all, Ok(())),
            Ok(bytes) => all.extend_from_slice(&buffer[..bytes]),
            Err(error) => return (all, Err(error)),
        }
    }
}

async fn read_exactly(reader: &mut SimReader, length: usize) -> io::Result<Vec<u8>> {
    let mut all = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match reader.read(&mut all[filled..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => filled += bytes,
        }
    }
    Ok(all)
}

/// Serves every connection to `PORT` of a node by sending back what comes.
fn serve_echo(node: &SimPlatform) {
    let platform = node.clone();
    node.spawn(async move {
        let mut listener = platform.listen(platform.address(PORT)).await.expect("the port is free");
        while let Ok((stream, _)) = listener.accept().await {
            platform.spawn(async move {
                let _ = echo(stream).await;
            });
        }
    });
}

async fn echo(stream: SimStream) -> io::Result<()> {
    let (mut reader, mut writer) = crate::platform::Stream::split(stream);
    let mut buffer = [0; 1_000];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(()),
            bytes => write_all(&mut writer, &buffer[..bytes]).await?,
        }
    }
}

/// Sends `length` bytes of the stream `number` to an echo server and checks what comes back.
async fn ask_echo(client: SimPlatform, server: SimPlatform, number: u64, length: usize) -> io::Result<()> {
    let stream = client.connect(server.address(PORT)).await?;
    let (mut reader, mut writer) = crate::platform::Stream::split(stream);
    let bytes = bytes_of(number, length);
    let (written, read) =
        futures_util::future::join(write_all(&mut writer, &bytes), read_exactly(&mut reader, length)).await;
    written?;
    assert!(read? == bytes, "the stream {number} came back altered");
    Ok(())
}
