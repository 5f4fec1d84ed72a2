//! A peer that says whatever a test wants it to say, byte by byte, and hears what it is answered.

use snowskin_io::framing::{FrameReader, write_frame};
use snowskin_io::sim::{ConnectionId, SimPlatform, SimReader, SimWriter};
use snowskin_io::{ByteWriter, Platform, Stream};
use snowskin_protocol::wire::data::{BatchWriter, ItemReply, KeyItem, NamedItem, PutItem, decode_replies};
use snowskin_protocol::wire::hello::Hello;
use snowskin_protocol::wire::{Header, Opcode, Refusal};
use snowskin_protocol::{Checksum, Epoch, ObjectName};
use std::io::{self, IoSlice};
use std::net::SocketAddr;

/// A frame as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// Its body.
    pub body: Vec<u8>,
    /// The values behind it.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The refusal and its sentence. Panics if the frame is none.
    pub fn refusal(&self) -> (Refusal, &str) {
        let sentence = std::str::from_utf8(&self.body).expect("a sentence");
        (self.header.refusal.expect("a refusal"), sentence)
    }

    /// The answers for the items of a batch. Panics if the frame is something else.
    pub fn replies(&self) -> Vec<ItemReply> {
        assert_eq!(self.header.refusal, None, "{}", String::from_utf8_lossy(&self.body));
        decode_replies(self.header.items, &self.body).expect("a reply to a batch")
    }
}

/// One end of a connection to a core.
pub struct Peer {
    reader: FrameReader<SimReader>,
    writer: SimWriter,
    connection: ConnectionId,
    request: u64,
}

impl Peer {
    /// Connects and says nothing.
    pub async fn connect(platform: &SimPlatform, address: SocketAddr) -> io::Result<Peer> {
        let stream = platform.connect(address).await?;
        let connection = stream.connection();
        let (reader, writer) = stream.split();
        Ok(Peer { reader: FrameReader::new(reader), writer, connection, request: 0 })
    }

    /// Connects and says a right hello. Panics if that is not answered with a welcome.
    pub async fn greet(platform: &SimPlatform, address: SocketAddr) -> Peer {
        let mut peer = Peer::connect(platform, address).await.expect("somebody listens");
        peer.send(&hello()).await.expect("the connection stands");
        let welcome = peer.hear().await.expect("a welcome");
        assert_eq!((welcome.header.opcode, welcome.header.refusal), (Opcode::Hello, None));
        peer
    }

    /// Which connection this is, to cut it.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Sends bytes, whatever they mean.
    pub async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.writer.write(&[IoSlice::new(bytes)]).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// The next frame; `None` when the connection is over.
    pub async fn hear(&mut self) -> Option<Frame> {
        let (header, checksum) = self.reader.header().await.ok()??;
        let (mut body, mut payload) = (Vec::new(), vec![0; header.payload_bytes as usize]);
        self.reader.body(&header, checksum, &mut body).await.ok()?;
        self.reader.payload(&mut payload).await.ok()?;
        Some(Frame { header, body, payload })
    }

    /// All frames until the connection is over. Does not end before the core closes it.
    pub async fn last_words(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.hear().await {
            frames.push(frame);
        }
        frames
    }

    /// Sends a request and waits for its answer. Panics if the connection ends instead.
    pub async fn ask(&mut self, header: Header, body: &[u8], payload: &[u8]) -> Frame {
        self.request += 1;
        let header = Header { request: self.request, ..header };
        write_frame(&mut self.writer, header, body).await.expect("the connection stands");
        self.send(payload).await.expect("the connection stands");
        let answer = self.hear().await.expect("an answer");
        assert_eq!((answer.header.request, answer.header.opcode), (self.request, header.opcode));
        answer
    }

    /// Puts one value.
    pub async fn put(&mut self, key: &str, value: &[u8]) -> ItemReply {
        let (header, body) = puts(&[(key, value)]);
        self.ask(header, &body, value).await.replies()[0]
    }

    /// Gets one value.
    pub async fn get(&mut self, key: &str) -> (ItemReply, Vec<u8>) {
        let (header, body) = keys(Opcode::Get, &[key]);
        let answer = self.ask(header, &body, &[]).await;
        (answer.replies()[0], answer.payload)
    }

    /// Removes one object, whatever lease it has.
    pub async fn remove(&mut self, key: &str) -> ItemReply {
        let (header, body) = keys(Opcode::Remove, &[key]);
        self.ask(header, &body, &[]).await.replies()[0]
    }
}

/// A header and a body, as bytes; with the checksums they should have.
pub fn frame(header: Header, body: &[u8]) -> Vec<u8> {
    [&header.encode(body)[..], body].concat()
}

/// The same bytes with the header's checksum put right, after something in the header was changed.
pub fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = Checksum::of(&bytes[..56]).0.to_le_bytes();
    bytes[56..64].copy_from_slice(&checksum);
    bytes
}

/// A right hello.
pub fn hello() -> Vec<u8> {
    let ours = Hello::ours();
    hello_of(ours.version_min, ours.version_max)
}

/// A hello of a peer that speaks these versions.
pub fn hello_of(version_min: u16, version_max: u16) -> Vec<u8> {
    let hello = Hello { version_min, version_max, reserved: 0 };
    frame(Header::request(Opcode::Hello, 0, Epoch(0)), bytemuck::bytes_of(&hello))
}

/// Header and body of a put of these values, with their right lengths and checksums.
pub fn puts(values: &[(&str, &[u8])]) -> (Header, Vec<u8>) {
    let item = |name: &ObjectName, value: &[u8]| {
        PutItem::new(name.as_ref(), value.len() as u64, Checksum::of(value))
    };
    let items = values.iter().map(|(key, value)| {
        let name = name(key);
        (item(&name, value), name)
    });
    let payload_bytes = values.iter().map(|(_, value)| value.len() as u64).sum();
    let (header, body) = batch(Opcode::Put, items);
    (Header { payload_bytes, ..header }, body)
}

/// Header and body of a put of one value that the peer only announces.
pub fn announced(key: &str, value_bytes: u64) -> (Header, Vec<u8>) {
    let name = name(key);
    let item = PutItem::new(name.as_ref(), value_bytes, Checksum(0));
    let (header, body) = batch(Opcode::Put, [(item, name)]);
    (Header { payload_bytes: value_bytes, ..header }, body)
}

/// Header and body of a request for keys; removals are forced.
pub fn keys(opcode: Opcode, keys: &[&str]) -> (Header, Vec<u8>) {
    let flags = if opcode == Opcode::Remove { KeyItem::FORCE } else { 0 };
    let items = keys.iter().map(|key| {
        let name = name(key);
        (KeyItem { flags, ..KeyItem::at_home(name.as_ref()) }, name)
    });
    batch(opcode, items)
}

fn batch<T: NamedItem>(
    opcode: Opcode,
    items: impl IntoIterator<Item = (T, ObjectName)>,
) -> (Header, Vec<u8>) {
    let mut writer = BatchWriter::default();
    items.into_iter().for_each(|(item, name)| writer.push(item, name.as_ref()));
    let items = writer.count();
    let body = writer.finish();
    (Header { items, ..Header::request(opcode, 1, Epoch(1)) }, body)
}

fn name(key: &str) -> ObjectName {
    ObjectName::new("hostile", key.as_bytes()).expect("a key")
}
