//! Values in several pieces, and ranges of values, out of a real engine: in its memory, through shared memory by frames, and over TCP.

use snowskin_client::{
    BlockingClient, Client, ClientConfig, Error, Found, MissReason, PutOptions, PutOutcome, Transport,
};
use snowskin_io::SplitMix;
use snowskin_tests::processes::Process;
use snowskin_tests::values::value_of;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const MIB: usize = 1 << 20;
const UNTOUCHED: u8 = 0xa5;

type PartsRead<'a> = (&'a [u8], &'a mut [&'a mut [u8]]);
/// Reads a value in some way into a buffer.
type Read = fn(&BlockingClient, &[u8], &mut [u8]) -> Result<Found<usize>, Error>;
type RangesRead<'a> = (&'a [u8], &'a mut [(u64, &'a mut [u8])]);

/// A master, an engine and clients beside it; in this order they end.
struct Machine {
    near: BlockingClient,
    /// With threads that help to copy.
    helped: BlockingClient,
    far: BlockingClient,
    /// Does not verify.
    trusting: BlockingClient,
    engine: Process,
    _master: Process,
    folder: PathBuf,
}

impl Machine {
    fn start(name: &str, cores: &str) -> Machine {
        let folder = PathBuf::from(format!("/tmp/snowskin-test-{name}-{}", std::process::id()));
        let master = Process::master("127.0.0.1:0");
        let (at, sockets) = (master.address().to_string(), folder.to_str().unwrap());
        let args = ["--cores", cores, "--memory", "64MiB", "--log", "warn", "--listen", "127.0.0.1:0"];
        // So that its memory can be written to by `damage`.
        let more = ["--name", "a", "--master", &at, "--local-sockets", sockets, "--huge-pages", "off"];
        let engine = Process::start("snowskin-engine", &[&args[..], &more].concat());
        let config = config_of(master.address(), &folder);
        let connect = |config| BlockingClient::connect(config).expect("the master answers");
        Machine {
            near: connect(config.clone()),
            helped: connect(ClientConfig { copy_helpers: 2, ..config.clone() }),
            far: connect(ClientConfig { transport: Transport::Tcp, ..config.clone() }),
            trusting: connect(ClientConfig { verify: false, ..config }),
            engine,
            _master: master,
            folder,
        }
    }

    /// Clients that have what they need to go the way that they usually go.
    fn all(&self) -> [&BlockingClient; 4] {
        [&self.near, &self.helped, &self.far, &self.trusting]
    }

    /// Puts a value and lets every client see it once.
    fn put(&self, key: &[u8], value: &[u8]) {
        assert_eq!(self.near.upsert(&[(key, value)]), [Ok(PutOutcome::Stored)]);
        self.all().iter().for_each(|client| assert!(client.lookup(&[key])[0].is_ok()));
    }

    /// Changes a bit of a value in the engine's memory, `at` bytes behind its beginning.
    fn damage(&self, value: &[u8], at: usize) {
        let folder = format!("/proc/{}/fd", self.engine.pid());
        let mut found = 0;
        for entry in std::fs::read_dir(folder).expect("the engine is ours").flatten() {
            let is_segment = std::fs::read_link(entry.path())
                .is_ok_and(|name| name.to_string_lossy().contains("snowskin-segment"));
            if !is_segment {
                continue;
            }
            let file = OpenOptions::new().read(true).write(true).open(entry.path()).expect("it is ours");
            let mut memory = vec![0; 64 * MIB];
            let bytes = file.read_at(&mut memory, 0).expect("it can be read");
            for start in (0..bytes.saturating_sub(value.len())).step_by(64) {
                if memory[start..start + value.len()] == *value {
                    let byte = [value[at] ^ 1];
                    assert_eq!(file.write_at(&byte, (start + at) as u64).expect("it can be written"), 1);
                    found += 1;
                }
            }
        }
        assert!(found > 0, "the value is nowhere in the engine's memory");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn config_of(seed: SocketAddr, folder: &Path) -> ClientConfig {
    let config = ClientConfig::new([seed]);
    ClientConfig { local_sockets: folder.to_owned(), deadline: Duration::from_secs(10), ..config }
}

/// Buffers of these lengths.
fn buffers(lengths: &[usize]) -> Vec<Vec<u8>> {
    lengths.iter().map(|bytes| vec![UNTOUCHED; *bytes]).collect()
}

fn lent(buffers: &mut [Vec<u8>]) -> Vec<&mut [u8]> {
    buffers.iter_mut().map(Vec::as_mut_slice).collect()
}

/// Pieces of a value, from nothing to a MiB each, many of whole pages; some MiB together.
fn lengths(random: &SplitMix) -> Vec<usize> {
    let (mut lengths, mut left) = (Vec::new(), 4 * MIB);
    for _ in 0..random.draw() % 40 {
        let length = match random.draw() % 8 {
            0..3 => random.draw() as usize % 100,
            3..5 => random.draw() as usize % 17 * 4_096,
            5..7 => random.draw() as usize % 70_000,
            _ => random.draw() as usize % MIB,
        };
        lengths.push(length.min(left));
        left -= length.min(left);
    }
    lengths
}

/// A value in pieces of these lengths; the last has the rest.
fn cut<'v>(mut value: &'v [u8], lengths: &[usize]) -> Vec<&'v [u8]> {
    let mut pieces = Vec::new();
    for length in lengths {
        let (now, later) = value.split_at(value.len().min(*length));
        pieces.push(now);
        value = later;
    }
    pieces.push(value);
    pieces
}

/// Reads a value into buffers of these lengths and one more.
fn read_parts(reader: &BlockingClient, key: &[u8], value: &[u8], lengths: &[usize]) {
    let mut parts = buffers(lengths);
    parts.push(vec![UNTOUCHED; 5]);
    let found = reader.get_parts_into(&mut [(key, &mut lent(&mut parts))]);
    assert_eq!(found, [Ok(Found::Hit(value.len()))]);
    let all = parts.concat();
    assert!(all[..value.len()] == *value, "{lengths:?}");
    assert!(all[value.len()..].iter().all(|byte| *byte == UNTOUCHED), "{lengths:?}");
}

/// Reads ranges of these lengths, from anywhere in the value.
fn read_ranges(reader: &BlockingClient, key: &[u8], value: &[u8], lengths: &[usize], random: &SplitMix) {
    let range = |length: &usize| {
        let start = random.draw() as usize % value.len();
        start..start + (*length).min(value.len() - start)
    };
    let ranges: Vec<Range<usize>> = lengths.iter().map(range).collect();
    let mut copies = buffers(&ranges.iter().map(Range::len).collect::<Vec<_>>());
    let starts = ranges.iter().map(|range| range.start as u64);
    let mut wanted: Vec<(u64, &mut [u8])> = starts.zip(lent(&mut copies)).collect();
    assert_eq!(reader.get_ranges_into(&mut [(key, &mut wanted)]), [Ok(Found::Hit(value.len()))]);
    for (range, copy) in ranges.iter().zip(&copies) {
        assert!(value[range.clone()] == copy[..], "{range:?} of {ranges:?}");
    }
}

#[test]
fn any_value_goes_out_and_comes_back_in_any_pieces() {
    let machine = Machine::start("parts-any", "2");
    machine.put(b"first", b"value");
    for seed in 0..60 {
        let random = SplitMix::new(seed);
        let (put_in, got_in) = (lengths(&random), lengths(&random));
        let key = format!("key-{}", seed % 20).into_bytes();
        let value = value_of(&key, seed, got_in.iter().sum::<usize>().max(1));
        let writer = [&machine.near, &machine.far, &machine.helped][seed as usize % 3];
        let pieces = cut(&value, &put_in);
        assert_eq!(writer.upsert_parts(&[(&key, &pieces)]), [Ok(PutOutcome::Stored)], "seed {seed}");
        for reader in machine.all() {
            read_parts(reader, &key, &value, &got_in);
            read_ranges(reader, &key, &value, &put_in, &random);
        }
    }
    for client in [&machine.near, &machine.helped, &machine.trusting] {
        let counters = client.counters();
        assert!(counters.lanes_opened > 0 && counters.checksum_mismatches == 0, "{counters:?}");
    }
}

#[test]
fn batches_have_an_answer_for_each_key() {
    let machine = Machine::start("parts-batches", "2");
    let keys: Vec<Vec<u8>> = (0..60).map(|number| format!("key-{number}").into_bytes()).collect();
    let bytes_of = |number: usize| 1 + number * number * 97;
    for (number, key) in keys.iter().enumerate().filter(|(number, _)| number % 5 != 4) {
        machine.put(key, &value_of(key, 0, bytes_of(number)));
    }
    for client in machine.all() {
        let room_of = |number: usize| match number % 5 {
            // Too little.
            2 => bytes_of(number) - 1,
            _ => bytes_of(number) + number,
        };
        let mut all: Vec<Vec<Vec<u8>>> =
            (0..keys.len()).map(|n| buffers(&[room_of(n) / 3, 0, room_of(n) - room_of(n) / 3])).collect();
        let mut parts: Vec<Vec<&mut [u8]>> = all.iter_mut().map(|buffers| lent(buffers)).collect();
        // No key.
        let named = |number: usize| if number % 5 == 3 { &b""[..] } else { &keys[number] };
        let mut reads: Vec<PartsRead<'_>> =
            parts.iter_mut().enumerate().map(|(number, parts)| (named(number), &mut parts[..])).collect();
        let found = client.get_parts_into(&mut reads);
        assert_eq!(found.len(), keys.len());
        for (number, found) in found.into_iter().enumerate() {
            let (read, needed) = (all[number].concat(), bytes_of(number));
            let is_right = match number % 5 {
                2 => found == Err(Error::BufferTooSmall { needed: needed as u64 }),
                3 => matches!(found, Err(Error::InvalidKey(_))),
                4 => found == Ok(Found::Miss(MissReason::NotHeld)),
                _ => found == Ok(Found::Hit(needed)) && read[..needed] == value_of(&keys[number], 0, needed),
            };
            let rest = if matches!(number % 5, 0 | 1) { needed } else { 0 };
            assert!(is_right, "key {number}: {found:?}");
            assert!(read[rest..].iter().all(|byte| *byte == UNTOUCHED), "key {number}");
        }
        // The last byte of each, and of some the one behind it.
        let mut bytes = vec![[UNTOUCHED]; keys.len()];
        let ranges = bytes.iter_mut().enumerate().map(|(number, byte)| {
            let offset = bytes_of(number) as u64 - u64::from(number % 5 != 2);
            [(0, &mut [][..]), (offset, &mut byte[..])]
        });
        let mut ranges: Vec<_> = ranges.collect();
        let mut reads: Vec<RangesRead<'_>> =
            ranges.iter_mut().enumerate().map(|(number, ranges)| (named(number), &mut ranges[..])).collect();
        let found = client.get_ranges_into(&mut reads);
        for (number, found) in found.into_iter().enumerate() {
            let value_bytes = bytes_of(number) as u64;
            let is_right = match number % 5 {
                2 => found == Err(Error::RangeBeyondEnd { offset: value_bytes, bytes: 1, value_bytes }),
                3 => matches!(found, Err(Error::InvalidKey(_))),
                4 => found == Ok(Found::Miss(MissReason::NotHeld)),
                _ => {
                    let value = value_of(&keys[number], 0, bytes_of(number));
                    found == Ok(Found::Hit(value.len())) && value.last() == Some(&bytes[number][0])
                }
            };
            assert!(is_right, "key {number}: {found:?}");
        }
    }
}

#[test]
fn options_go_with_their_pieces() {
    let machine = Machine::start("parts-options", "1");
    let pinned = PutOptions { hard_pin: true, ..PutOptions::default() };
    let value = |key: &[u8]| value_of(key, 0, MIB);
    machine.put(b"first", b"value");
    for (number, client) in [&machine.near, &machine.far].into_iter().enumerate() {
        for (key, replace) in [("put", false), ("upserted", true)] {
            let (kept, others) = (format!("{key}-kept-{number}"), format!("{key}-not-{number}"));
            let (one, other) = (value(kept.as_bytes()), value(others.as_bytes()));
            let (one, other) = (cut(&one, &[5, 300_000]), cut(&other, &[7]));
            let items = [
                (kept.as_bytes(), &one[..], pinned.clone()),
                (others.as_bytes(), &other[..], PutOptions::default()),
            ];
            let put = if replace { client.upsert_parts_with(&items) } else { client.put_parts_with(&items) };
            assert_eq!(put, [Ok(PutOutcome::Stored), Ok(PutOutcome::Stored)]);
        }
    }
    // Leases end, and memory is used up twice over.
    std::thread::sleep(Duration::from_millis(300));
    for number in 0..140 {
        let key = format!("flood-{number}").into_bytes();
        assert_eq!(machine.near.put(&[(&key, &value(&key))]), [Ok(PutOutcome::Stored)]);
    }
    for number in 0..2 {
        for key in ["put", "upserted"] {
            let (kept, others) = (format!("{key}-kept-{number}"), format!("{key}-not-{number}"));
            let found = machine.far.get(&[kept.as_bytes(), others.as_bytes()]);
            assert!(found[0] == Ok(Found::Hit(value(kept.as_bytes()))), "{kept} is pinned");
            assert_eq!(found[1], Ok(Found::Miss(MissReason::Evicted)), "{others} is not");
        }
    }
}

#[test]
fn wrong_bytes_in_memory_are_told_and_never_taken_for_right() {
    let machine = Machine::start("parts-wrong", "1");
    let read: [Read; 4] = [
        |client, key, to| client.get_into(&mut [(key, to)]).remove(0),
        |client, key, to| {
            client.get_parts_into(&mut [(key, &mut to.chunks_mut(10_001).collect::<Vec<_>>())]).remove(0)
        },
        |client, key, to| client.get_ranges_into(&mut [(key, &mut [(1_000, &mut to[..64])])]).remove(0),
        // As a part of a batch.
        |client, key, to| {
            let (first, last) = to.split_at_mut(90_000);
            client.get_parts_into(&mut [(key, &mut [first, last]), (b"\0", &mut [])]).remove(0)
        },
    ];
    for (number, read) in read.into_iter().enumerate() {
        for (client, name) in [(&machine.near, "near"), (&machine.helped, "helped"), (&machine.far, "far")] {
            let key = format!("{name}-{number}").into_bytes();
            let value = value_of(&key, 1, 100_000);
            machine.put(&key, &value);
            let mut buffer = vec![0; value.len()];
            assert_eq!(read(client, &key, &mut buffer), Ok(Found::Hit(value.len())), "{name} {number}");
            machine.damage(&value, 70_000);
            assert_eq!(read(&machine.trusting, &key, &mut buffer), Ok(Found::Hit(value.len())));
            let mismatches = client.counters().checksum_mismatches;
            assert_eq!(read(client, &key, &mut buffer), Err(Error::Checksum), "{name} {number}");
            assert!(client.counters().checksum_mismatches > mismatches);
        }
    }
}

#[test]
fn at_the_deadline_buffers_are_the_callers_again() {
    let machine = Machine::start("parts-deadline", "1");
    let value = value_of(b"key", 0, 3 * MIB);
    machine.put(b"key", &value);
    let clients =
        [&machine.near, &machine.far].map(|client| client.with_deadline(Duration::from_millis(400)));
    machine.engine.signal(rustix::process::Signal::STOP);
    // What is on its shelf may be read for a second.
    std::thread::sleep(Duration::from_millis(1_100));
    let mut all = buffers(&[3 * MIB; 4]);
    for (number, buffer) in all.iter_mut().enumerate() {
        let client = &clients[number % 2];
        let found = match number / 2 {
            0 => client.get_parts_into(&mut [(b"key", &mut buffer.chunks_mut(50_000).collect::<Vec<_>>())]),
            _ => client.get_ranges_into(&mut [(b"key", &mut [(0, buffer)])]),
        };
        assert_eq!(found, [Err(Error::Deadline)], "client {number}");
        buffer.fill(UNTOUCHED);
    }
    machine.engine.signal(rustix::process::Signal::CONT);
    for client in [&machine.near, &machine.far] {
        read_parts(client, b"key", &value, &[MIB, MIB, MIB]);
    }
    assert!(all.iter().flatten().all(|byte| *byte == UNTOUCHED), "nobody writes any more");
}

/// A buffer of anybody's, which may refuse to show its bytes.
struct Owner {
    bytes: Vec<u8>,
    panics: bool,
}

impl AsMut<[u8]> for Owner {
    fn as_mut(&mut self) -> &mut [u8] {
        if self.panics {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        &mut self.bytes
    }
}

#[test]
fn the_asynchronous_client_fills_buffers_of_any_kind() {
    let machine = Machine::start("parts-async", "1");
    let value = value_of(b"key", 0, 2 * MIB);
    machine.put(b"key", &value);
    let owner = |bytes, panics| Owner { bytes: vec![UNTOUCHED; bytes], panics };
    for client in [machine.near.asynchronous(), machine.far.asynchronous()] {
        let key = b"key".to_vec();
        let (parts, found) = block(client.get_parts_into(vec![(
            key.clone(),
            vec![owner(MIB - 5, false), owner(17, false), owner(MIB, false)],
        )]))
        .remove(0);
        assert_eq!(found, Ok(Found::Hit(2 * MIB)));
        let all: Vec<u8> = parts.into_iter().flat_map(|part| part.bytes).collect();
        assert!(all[..2 * MIB] == value && all[2 * MIB..] == [UNTOUCHED; 12]);
        let ranges = vec![(MIB as u64, owner(70_000, false)), (3, owner(2, false))];
        let (ranges, found) = block(client.get_ranges_into(vec![(key.clone(), ranges)])).remove(0);
        assert_eq!(found, Ok(Found::Hit(2 * MIB)));
        assert!(ranges[0].1.bytes == value[MIB..][..70_000] && ranges[1].1.bytes == value[3..5]);
        let beyond = vec![(2 * MIB as u64, owner(1, false))];
        let (_, found) = block(client.get_ranges_into(vec![(key.clone(), beyond)])).remove(0);
        assert!(matches!(found, Err(Error::RangeBeyondEnd { .. })));
        let (_, found) = block(client.get_into(vec![(key.clone(), owner(9, false))])).remove(0);
        assert_eq!(found, Err(Error::BufferTooSmall { needed: 2 * MIB as u64 }));
    }
}

/// Whatever becomes of a call, its buffers come back.
#[test]
fn a_call_that_ends_in_a_panic_gives_its_buffers_back() {
    let machine = Machine::start("parts-panic", "1");
    machine.put(b"key", &value_of(b"key", 0, 1_000));
    let client: Client = machine.near.asynchronous();
    let panics = || Owner { bytes: vec![UNTOUCHED; 1_000], panics: true };
    let (owner, found) = block(client.get_into(vec![(b"key".to_vec(), panics())])).remove(0);
    assert_eq!((owner.bytes.len(), found), (1_000, Err(Error::Closed)));
    let (owners, found) =
        block(client.get_parts_into(vec![(b"key".to_vec(), vec![panics(), panics()])])).remove(0);
    assert_eq!((owners.len(), found), (2, Err(Error::Closed)));
    read_parts(&machine.near, b"key", &value_of(b"key", 0, 1_000), &[300, 700]);
}

/// Runs a future on this thread, by parking.
fn block<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
