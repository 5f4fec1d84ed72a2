//! Plain TCP request and response: what a store over TCP is put beside.
//!
//! A process of its own (this program with the hidden command `raw-server`) answers a request of 64 bytes with a
//! value of the size that the request names, from a buffer that was filled beforehand; or takes in a value and
//! answers with 64 bytes; or sends values on and on. One connection at a time, ordinary blocking sockets. In the
//! *spin* mode both sides try to receive without blocking for at most 50 µs before they block, as Snowskin's core
//! and client do; in the *block* mode they block at once. No checksum, no key, no memory management: this is the
//! floor.

use crate::cpu;
use crate::limits::SPIN;
use crate::limits::slices::{Slice, slice};
use crate::process::{Process, find};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The hidden command.
pub(crate) const RAW_SERVER: &str = "raw-server";
/// Bytes of a request, and of the answer to a put: what a header of Snowskin's has.
const REQUEST_BYTES: usize = 64;
/// The largest value the server has.
const VALUE_BYTES_MAX: usize = 64 << 20;
/// Bytes of one stretch of a stream.
pub(crate) const STREAM_BYTES: usize = 64 << 20;
/// Bytes that a stream is sent and received in at a time.
const STREAM_CHUNK_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Get = 0,
    Put = 1,
    Stream = 2,
}

/// What the client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ask {
    kind: Kind,
    spin: bool,
    size: usize,
}

impl Ask {
    fn encode(self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[0] = self.kind as u8;
        bytes[1] = u8::from(self.spin);
        bytes[8..16].copy_from_slice(&(self.size as u64).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; REQUEST_BYTES]) -> io::Result<Self> {
        let refuse = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let kind = match bytes[0] {
            0 => Kind::Get,
            1 => Kind::Put,
            2 => Kind::Stream,
            _ => return Err(refuse("unknown kind of request")),
        };
        let size = u64::from_le_bytes(bytes[8..16].try_into().expect("8 bytes"));
        if size > VALUE_BYTES_MAX as u64 {
            return Err(refuse("larger than any value"));
        }
        Ok(Ask { kind, spin: bytes[1] != 0, size: size as usize })
    }
}

/// The hidden command: serves until it is killed.
pub(crate) fn serve_forever(cpu: Option<usize>) -> io::Result<()> {
    if let Some(cpu) = cpu {
        cpu::pin_to(cpu)?;
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{RAW_SERVER} is ready: {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        // A client that goes away is the usual end of a connection.
        if let Err(error) = serve(&stream) {
            log::debug!("connection ended: {error}");
        }
    }
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut value = vec![7u8; VALUE_BYTES_MAX];
    let mut request = [0; REQUEST_BYTES];
    let mut spin = false;
    loop {
        receive(stream, &mut request, spin)?;
        let ask = Ask::decode(&request)?;
        spin = ask.spin;
        match ask.kind {
            Kind::Get => (&mut &*stream).write_all(&value[..ask.size])?,
            Kind::Stream => {
                for chunk in value[..ask.size].chunks(STREAM_CHUNK_BYTES) {
                    (&mut &*stream).write_all(chunk)?;
                }
            }
            Kind::Put => {
                receive(stream, &mut value[..ask.size], spin)?;
                (&mut &*stream).write_all(&request)?;
            }
        }
    }
}

/// Fills `bytes`, in the wake mode that was asked for.
fn receive(mut stream: &TcpStream, bytes: &mut [u8], spin: bool) -> io::Result<()> {
    if !spin {
        return stream.read_exact(bytes);
    }
    let mut filled = 0;
    while filled < bytes.len() {
        let received = match spin_for_bytes(stream, &mut bytes[filled..])? {
            Some(received) => received,
            None => stream.read(&mut bytes[filled..])?,
        };
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += received;
    }
    Ok(())
}

/// Tries without blocking for [`SPIN`]; `None`: nothing came.
fn spin_for_bytes(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<Option<usize>> {
    let begun = Instant::now();
    loop {
        match recv(stream, &mut *bytes, RecvFlags::DONTWAIT) {
            Ok((_, received)) => return Ok(Some(received)),
            Err(Errno::AGAIN) if begun.elapsed() < SPIN => std::hint::spin_loop(),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The server's process, and a connection to it.
pub(crate) struct Raw {
    stream: TcpStream,
    value: Vec<u8>,
    _server: Option<Process>,
}

impl Raw {
    /// Starts a server, pinned if asked, and connects.
    pub(crate) fn start(cpu: Option<usize>) -> Result<Self, String> {
        let program = find(env!("CARGO_PKG_NAME")).map_err(|error| error.to_string())?;
        let arguments: Vec<String> =
            [RAW_SERVER.to_owned()].into_iter().chain(cpu.map(|cpu| cpu.to_string())).collect();
        let ready = format!("{RAW_SERVER} is ready: ");
        let (server, line) =
            Process::start(RAW_SERVER, &program, &arguments, &ready).map_err(|error| error.to_string())?;
        let address: SocketAddr =
            line[ready.len()..].parse().map_err(|_| format!("no address in \"{line}\""))?;
        Self::connect(address, Some(server)).map_err(|error| error.to_string())
    }

    fn connect(address: SocketAddr, server: Option<Process>) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Raw { stream, value: vec![0; VALUE_BYTES_MAX], _server: server })
    }

    /// Requests of 64 bytes, answered by `size` bytes.
    pub(crate) fn get(&mut self, size: usize, spin: bool, time: Duration) -> Result<Slice, String> {
        self.ask(Ask { kind: Kind::Get, spin, size }, time)
    }

    /// Requests of 64 + `size` bytes, answered by 64 bytes.
    pub(crate) fn put(&mut self, size: usize, spin: bool, time: Duration) -> Result<Slice, String> {
        self.ask(Ask { kind: Kind::Put, spin, size }, time)
    }

    /// [`STREAM_BYTES`] a call, without a request between.
    pub(crate) fn stream(&mut self, time: Duration) -> Result<Slice, String> {
        self.ask(Ask { kind: Kind::Stream, spin: false, size: STREAM_BYTES }, time)
    }

    fn ask(&mut self, ask: Ask, time: Duration) -> Result<Slice, String> {
        slice(time, || self.call(ask).map_err(|error| format!("raw server: {error}")))
    }

    fn call(&mut self, ask: Ask) -> io::Result<()> {
        (&self.stream).write_all(&ask.encode())?;
        match ask.kind {
            Kind::Get => receive(&self.stream, &mut self.value[..ask.size], ask.spin),
            Kind::Put => {
                (&self.stream).write_all(&self.value[..ask.size])?;
                receive(&self.stream, &mut [0; REQUEST_BYTES], ask.spin)
            }
            Kind::Stream => self.value[..ask.size]
                .chunks_mut(STREAM_CHUNK_BYTES)
                .try_for_each(|chunk| receive(&self.stream, chunk, ask.spin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_wire_and_nonsense_is_refused() {
        for (kind, spin) in [(Kind::Get, true), (Kind::Put, false), (Kind::Stream, true)] {
            let ask = Ask { kind, spin, size: 12_345 };
            assert_eq!(Ask::decode(&ask.encode()).unwrap(), ask);
        }
        assert!(Ask::decode(&[9; REQUEST_BYTES]).is_err());
        let huge = Ask { kind: Kind::Get, spin: false, size: VALUE_BYTES_MAX + 1 };
        assert!(Ask::decode(&huge.encode()).is_err());
    }

    #[test]
    fn all_kinds_are_answered_in_both_wake_modes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || serve(&listener.accept().unwrap().0));
        let mut raw = Raw::connect(address, None).unwrap();
        for spin in [false, true] {
            for size in [1, 64, 300_000] {
                assert!(raw.get(size, spin, Duration::ZERO).unwrap().calls_per_s > 0.0);
                assert_eq!(&raw.value[..size], vec![7; size], "the server's bytes arrived");
                raw.put(size, spin, Duration::ZERO).unwrap();
            }
        }
        raw.stream(Duration::ZERO).unwrap();
        drop(raw);
        assert!(server.join().unwrap().is_err(), "the server sees the end of the connection");
    }
}
