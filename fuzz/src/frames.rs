//! A stream of frames, however it arrives: read the same in one piece and in many, and exactly what was sent.

use snowskin_io::framing::{FrameError, FrameReader, accept_hello};
use snowskin_io::{ByteReader, ByteWriter};
use snowskin_protocol::limits::{BODY_BYTES_MAX, HEADER_BYTES};
use snowskin_protocol::wire::hello::Welcome;
use snowskin_protocol::{Checksum, CoreId, Epoch, Incarnation};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Payload up to this is read and compared; more is thrown away, as a server does with what it does not want.
const PAYLOAD_KEPT_MAX: u64 = 48 * 1024;

/// The first byte decides about the chunks, the second whether a hello comes first; the rest is the stream, of
/// which sealed frames are made where it has none.
pub fn frames(bytes: &[u8]) {
    let Some((&[chunks, begins], stream)) = bytes.split_first_chunk::<2>() else { return };
    for stream in [stream.to_vec(), sealed_frames(stream)] {
        let whole = read_all(&stream, Chunks::Whole, begins & 1 == 1);
        let pieces = read_all(&stream, Chunks::Random(u64::from(chunks) + 1), begins & 1 == 1);
        assert_eq!(whole, pieces);
        if begins & 1 == 0 {
            let taken = whole.taken.len();
            assert!(whole.taken == stream[..taken], "bytes were lost or altered on the way");
        }
    }
}

/// What came out of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Frames that were accepted, written again.
    taken: Vec<u8>,
    end: String,
}

fn read_all(stream: &[u8], chunks: Chunks, says_hello: bool) -> Outcome {
    let memory = Memory { bytes: stream.to_vec(), done: 0, chunks };
    let mut outcome = Outcome::default();
    let ended = {
        let mut reading = pin!(read_frames(memory, says_hello, &mut outcome.taken));
        match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => ended,
            Poll::Pending => panic!("memory is always ready"),
        }
    };
    outcome.end = match ended {
        Ok(()) => "the end".to_owned(),
        Err(error) => error.to_string(),
    };
    outcome
}

async fn read_frames(memory: Memory, says_hello: bool, taken: &mut Vec<u8>) -> Result<(), FrameError> {
    let mut reader = FrameReader::new(memory);
    if says_hello {
        let welcome =
            |version| Welcome::of_core(version, CoreId::default(), Incarnation::default(), Epoch(1));
        let mut answer = Written(Vec::new());
        let met = accept_hello(&mut reader, &mut answer, welcome).await;
        let answered = answer.0.len() >= HEADER_BYTES;
        let refused =
            matches!(&met, Err(FrameError::Wire(_) | FrameError::Unexpected | FrameError::Refused(..)));
        assert_eq!(answered, met.is_ok() || refused, "who is met or refused is told so: {met:?}");
        met?;
    }
    let mut body = Vec::new();
    while let Some((header, checksum)) = reader.header().await? {
        reader.body(&header, checksum, &mut body).await?;
        assert!(body.len() <= BODY_BYTES_MAX && Checksum::of(&body) == checksum);
        taken.extend_from_slice(&header.encode(&body));
        taken.extend_from_slice(&body);
        if header.payload_bytes <= PAYLOAD_KEPT_MAX {
            let mut payload = vec![0; header.payload_bytes as usize];
            reader.payload(&mut payload).await?;
            taken.extend_from_slice(&payload);
        } else {
            reader.discard(header.payload_bytes).await?;
            panic!("no input has so many bytes");
        }
    }
    assert!(!reader.has_buffered(), "nothing follows the end");
    Ok(())
}

/// Frames with right checksums: each begins with a header of the input, whose lengths are cut to what is there.
fn sealed_frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let announced =
            |range: std::ops::Range<usize>| head[range].iter().map(|&byte| usize::from(byte)).sum();
        let (body, rest) = rest.split_at(rest.len().min(announced(28..30)));
        let payload_bytes: usize = rest.len().min(announced(32..34));
        let (payload, rest) = rest.split_at(payload_bytes);
        let mut head = *head;
        head[..4].copy_from_slice(b"SNOW");
        head[28..32].copy_from_slice(&(body.len() as u32).to_le_bytes());
        head[32..40].copy_from_slice(&(payload_bytes as u64).to_le_bytes());
        head[48..56].copy_from_slice(&Checksum::of(body).0.to_le_bytes());
        let checksum = Checksum::of(&head[..56]);
        head[56..].copy_from_slice(&checksum.0.to_le_bytes());
        stream.extend_from_slice(&head);
        stream.extend_from_slice(body);
        stream.extend_from_slice(payload);
        bytes = rest;
    }
    stream.extend_from_slice(bytes);
    stream
}

/// How much one read gives.
enum Chunks {
    Whole,
    Random(u64),
}

/// A stream that has all its bytes already.
struct Memory {
    bytes: Vec<u8>,
    done: usize,
    chunks: Chunks,
}

impl ByteReader for Memory {
    fn poll_read(&mut self, _context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let there = buffer.len().min(self.bytes.len() - self.done);
        let count = match &mut self.chunks {
            Chunks::Whole => there,
            Chunks::Random(state) => {
                *state =
                    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                there.min(1 + (*state >> 33) as usize % 200)
            }
        };
        buffer[..count].copy_from_slice(&self.bytes[self.done..][..count]);
        self.done += count;
        Poll::Ready(Ok(count))
    }
}

/// A stream that takes everything.
struct Written(Vec<u8>);

impl ByteWriter for Written {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let before = self.0.len();
        slices.iter().for_each(|slice| self.0.extend_from_slice(slice));
        Ok(self.0.len() - before)
    }

    fn poll_write(&mut self, _context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.try_write(slices))
    }

    fn shutdown(&mut self) {}
}
