//! Frames over a byte stream: reading them without trusting the peer, writing them without copying values.
//!
//! A [`FrameReader`] has one small buffer for headers and bodies. Payload that happens to lie in it is copied out;
//! all the rest is read by the kernel straight to where it belongs. A [`Channel`] is the simple asker for control
//! traffic: one question at a time.

use crate::platform::{ByteReader, ByteWriter, Platform, Stream};
use snowskin_protocol::limits::HEADER_BYTES;
use snowskin_protocol::wire::hello::{Hello, Welcome};
use snowskin_protocol::wire::{Header, Opcode, Refusal, WireError};
use snowskin_protocol::{Checksum, Epoch};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

/// Bytes of a reader's own buffer: small, because what it holds of a payload is copied once more; large enough for
/// a small value with its header, or a burst of small requests.
pub const BUFFER_BYTES: usize = 4 * 1024;
/// Bytes thrown away per read when a payload is not wanted.
const DISCARD_BYTES: usize = 64 * 1024;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The peer closed the stream in the middle of a frame.
    #[error("the peer closed the connection in the middle of a frame")]
    Cut,
    /// The peer sent something that is no frame.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The peer refused.
    #[error("the peer refused ({0:?}): {1}")]
    Refused(Refusal, String),
    /// The peer answered something else than was asked.
    #[error("the peer answered something else than was asked")]
    Unexpected,
}

/// Reads frames from the reading half of a stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Agreed in the hello; before it, only a hello is honoured.
    version: Option<u16>,
}

impl<R: ByteReader> FrameReader<R> {
    /// A reader at a frame boundary.
    pub fn new(stream: R) -> Self {
        FrameReader { stream, buffer: vec![0; BUFFER_BYTES].into(), start: 0, end: 0, version: None }
    }

    /// The next header, checked, and the checksum its body must have; `None` when the peer has closed the stream
    /// between two frames.
    pub async fn header(&mut self) -> Result<Option<(Header, Checksum)>, FrameError> {
        while self.end - self.start < HEADER_BYTES {
            if self.fill().await? == 0 {
                return if self.start == self.end { Ok(None) } else { Err(FrameError::Cut) };
            }
        }
        let bytes = self.buffer[self.start..][..HEADER_BYTES].try_into().expect("64 bytes");
        let (header, checksum) = Header::decode(bytes)?;
        if let Some(version) = self.version
            && header.version != version
        {
            return Err(WireError::Version(header.version, version).into());
        }
        self.start += HEADER_BYTES;
        Ok(Some((header, checksum)))
    }

    /// Reads the body that follows `header` into `body` (cleared first) and verifies it.
    pub async fn body(
        &mut self,
        header: &Header,
        checksum: Checksum,
        body: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        body.clear();
        body.resize(header.body_bytes as usize, 0);
        self.payload(body).await?;
        if Checksum::of(body) == checksum { Ok(()) } else { Err(WireError::Checksum("body").into()) }
    }

    /// Fills `target` with the next bytes.
    pub async fn payload(&mut self, mut target: &mut [u8]) -> Result<(), FrameError> {
        while !target.is_empty() {
            match poll_fn(|context| self.poll_payload(context, target)).await? {
                0 => return Err(FrameError::Cut),
                count => target = &mut target[count..],
            }
        }
        Ok(())
    }

    /// Reads some of the next bytes into the beginning of `target`: what is buffered first, else from the stream.
    pub fn poll_payload(&mut self, context: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.start == self.end {
            // Read small rests by way of the buffer: the next header is probably right behind.
            if target.len() >= BUFFER_BYTES {
                return self.stream.poll_read(context, target);
            }
            (self.start, self.end) = (0, 0);
            self.end = ready!(self.stream.poll_read(context, &mut self.buffer))?;
        }
        let count = target.len().min(self.end - self.start);
        target[..count].copy_from_slice(&self.buffer[self.start..][..count]);
        self.start += count;
        Poll::Ready(Ok(count))
    }

    /// Reads `count` bytes and throws them away.
    pub async fn discard(&mut self, mut count: u64) -> Result<(), FrameError> {
        let mut scratch = Vec::new();
        while count > 0 {
            let buffered = (self.end - self.start) as u64;
            if buffered > 0 {
                let taken = buffered.min(count);
                self.start += taken as usize;
                count -= taken;
                continue;
            }
            scratch.resize(DISCARD_BYTES.min(usize::try_from(count).unwrap_or(DISCARD_BYTES)), 0);
            self.payload(&mut scratch).await?;
            count -= scratch.len() as u64;
        }
        Ok(())
    }

    /// Whether bytes of a next frame have already arrived.
    pub fn has_buffered(&self) -> bool {
        self.start < self.end
    }

    async fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let count = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += count;
        Ok(count)
    }
}

/// Writes a header and a body, all of it.
pub async fn write_frame<W: ByteWriter>(writer: &mut W, header: Header, body: &[u8]) -> io::Result<()> {
    let header = header.encode(body);
    let total = header.len() + body.len();
    let mut done = 0;
    while done < total {
        let head_done = done.min(header.len());
        let slices = [IoSlice::new(&header[head_done..]), IoSlice::new(&body[done - head_done..])];
        match writer.write(&slices).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => done += count,
        }
    }
    Ok(())
}

/// Answers a refusal; its body is a sentence for people.
pub async fn write_refusal<W: ByteWriter>(
    writer: &mut W,
    request: &Header,
    epoch: Epoch,
    refusal: Refusal,
    sentence: &str,
) -> io::Result<()> {
    let header = Header { refusal: Some(refusal), ..request.reply(epoch) };
    write_frame(writer, header, sentence.as_bytes()).await
}

/// The answering side of the first exchange. `welcome` makes the answer for the agreed version.
pub async fn accept_hello<R: ByteReader, W: ByteWriter>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    welcome: impl FnOnce(u16) -> Welcome,
) -> Result<(), FrameError> {
    let (header, hello) = match read_hello(reader).await {
        Ok((header, Some(hello))) => (header, hello),
        Ok((header, None)) => {
            write_refusal(writer, &header, Epoch(0), Refusal::BadFrame, "say hello first").await?;
            return Err(FrameError::Unexpected);
        }
        Err(FrameError::Wire(wire)) => {
            let hello = Header::request(Opcode::Hello, 0, Epoch(0));
            write_refusal(writer, &hello, Epoch(0), Refusal::BadFrame, &wire.to_string()).await?;
            return Err(FrameError::Wire(wire));
        }
        Err(error) => return Err(error),
    };
    let Some(version) = hello.agree() else {
        let (ours, theirs) = (Hello::ours(), hello);
        let sentence = format!(
            "we speak versions {} to {}, you speak {} to {}: upgrade the older side",
            ours.version_min, ours.version_max, theirs.version_min, theirs.version_max
        );
        write_refusal(writer, &header, Epoch(0), Refusal::Version, &sentence).await?;
        return Err(FrameError::Refused(Refusal::Version, sentence));
    };
    reader.version = Some(version);
    let welcome = welcome(version);
    write_frame(writer, header.reply(welcome.epoch), bytemuck::bytes_of(&welcome)).await?;
    Ok(())
}

/// The first frame's header, and the hello if it is one. Of another frame no more than the header is read.
async fn read_hello<R: ByteReader>(
    reader: &mut FrameReader<R>,
) -> Result<(Header, Option<Hello>), FrameError> {
    let (header, checksum) = reader.header().await?.ok_or(FrameError::Cut)?;
    if header.opcode != Opcode::Hello || header.is_reply {
        return Ok((header, None));
    }
    let mut body = Vec::new();
    reader.body(&header, checksum, &mut body).await?;
    Ok((header, Some(Hello::decode(&body)?)))
}

/// The asking side of the first exchange.
pub async fn say_hello<R: ByteReader, W: ByteWriter>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
) -> Result<Welcome, FrameError> {
    let header = Header::request(Opcode::Hello, 0, Epoch(0));
    write_frame(writer, header, bytemuck::bytes_of(&Hello::ours())).await?;
    let mut body = Vec::new();
    read_reply(reader, &header, &mut body).await?;
    let welcome = Welcome::decode(&body)?;
    let (offered, answered) = (Hello::ours(), welcome.version);
    if !(offered.version_min..=offered.version_max).contains(&answered) {
        return Err(WireError::Version(answered, offered.version_max).into());
    }
    reader.version = Some(welcome.version);
    Ok(welcome)
}

async fn read_reply<R: ByteReader>(
    reader: &mut FrameReader<R>,
    request: &Header,
    body: &mut Vec<u8>,
) -> Result<Header, FrameError> {
    let (header, checksum) = reader.header().await?.ok_or(FrameError::Cut)?;
    reader.body(&header, checksum, body).await?;
    if !header.is_reply || header.request != request.request || header.opcode != request.opcode {
        return Err(FrameError::Unexpected);
    }
    match header.refusal {
        Some(refusal) => Err(FrameError::Refused(refusal, String::from_utf8_lossy(body).into_owned())),
        None => Ok(header),
    }
}

/// A connection for control traffic and for single values: one question at a time.
pub struct Channel<P: Platform> {
    reader: FrameReader<<P::Stream as Stream>::Reader>,
    writer: <P::Stream as Stream>::Writer,
    welcome: Welcome,
    request: u64,
}

impl<P: Platform> Channel<P> {
    /// Connects and says hello. Has no deadline of its own: see [`crate::with_deadline`].
    pub async fn open(platform: &P, address: SocketAddr) -> Result<Self, FrameError> {
        let (reader, mut writer) = platform.connect(address).await?.split();
        let mut reader = FrameReader::new(reader);
        let welcome = say_hello(&mut reader, &mut writer).await?;
        Ok(Channel { reader, writer, welcome, request: 0 })
    }

    /// Who answers.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Asks, and waits for the answer's header; its body is put into `reply`. After an error other than
    /// [`FrameError::Refused`], or when dropped half-way, the channel is of no more use.
    pub async fn call(
        &mut self,
        opcode: Opcode,
        epoch: Epoch,
        body: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Header, FrameError> {
        self.call_items(opcode, epoch, 0, body, reply).await
    }

    /// [`Channel::call`] with a number of items in the body.
    pub async fn call_items(
        &mut self,
        opcode: Opcode,
        epoch: Epoch,
        items: u32,
        body: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Header, FrameError> {
        self.request += 1;
        let header = Header {
            version: self.welcome.version,
            items,
            body_bytes: body.len() as u32,
            ..Header::request(opcode, self.request, epoch)
        };
        write_frame(&mut self.writer, header, body).await?;
        read_reply(&mut self.reader, &header, reply).await
    }

    /// Reads some of the payload behind the last answer, all of which has to be read.
    pub fn poll_payload(&mut self, context: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<usize>> {
        self.reader.poll_payload(context, target)
    }
}
