//! Values in several pieces, and ranges of values.

use crate::fake::{Fake, Trick};
use crate::{HEADER, ITEM_REPLY, block, client, hit, keys, name};
use quickcheck::quickcheck;
use snowskin_client::{
    BlockingClient, Client, ClientConfig, Error, Found, MissReason, PutOptions, PutOutcome,
};
use snowskin_protocol::wire::data::PutHints;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Waker};
use std::time::Duration;

const UNTOUCHED: u8 = 0xa5;

type Put<'a> = (&'a [u8], &'a [&'a [u8]], PutOptions);
type RangesRead<'a> = (&'a [u8], &'a mut [(u64, &'a mut [u8])]);

fn value(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Buffers of these lengths.
fn buffers(lengths: &[usize]) -> Vec<Vec<u8>> {
    lengths.iter().map(|bytes| vec![UNTOUCHED; *bytes]).collect()
}

fn lent(buffers: &mut [Vec<u8>]) -> Vec<&mut [u8]> {
    buffers.iter_mut().map(Vec::as_mut_slice).collect()
}

#[test]
fn values_in_pieces_are_put_each_with_its_options() {
    let fake = Fake::start(2, 2);
    let client = client(&fake);
    let pinned = PutOptions { hard_pin: true, ..PutOptions::default() };
    let grouped = PutOptions { group: Some(b"g".to_vec()), ..PutOptions::default() };
    let (large, other): (Vec<u8>, Vec<u8>) = (vec![b'x'; 100_000], vec![b'y'; 9_000]);
    let (first, second): ([&[u8]; 3], [&[u8]; 2]) = ([b"in ", &large, b"pieces"], [b"", &other]);
    let items: [Put<'_>; 4] = [
        (b"first", &first, pinned.clone()),
        (b"", &first, pinned.clone()),
        (b"nothing", &[b"", b""], grouped.clone()),
        (b"second", &second, grouped),
    ];
    for is_first in [true, false] {
        let outcomes = client.put_parts_with(&items);
        assert!(matches!(outcomes[1], Err(Error::InvalidKey(_))));
        assert_eq!(outcomes[2], Err(Error::EmptyValue));
        let expected = if is_first { PutOutcome::Stored } else { PutOutcome::Existed };
        assert_eq!((&outcomes[0], &outcomes[3]), (&Ok(expected), &Ok(expected)));
    }
    assert_eq!(client.get(&[b"first", b"second"]), [hit(&first.concat()), hit(&other)]);
    let hints_of = |key: &[u8]| {
        fake.with(|world| {
            world.cores.iter().find_map(|core| core.hints.get(&name(key)).copied()).expect("it was put")
        })
    };
    assert_eq!((hints_of(b"first").flags, hints_of(b"first").group), (PutHints::HARD_PIN, 0));
    assert!(hints_of(b"second").flags == 0 && hints_of(b"second").group != 0);
    // Nothing behind much, which is written by itself.
    let (nothing_last, owned): ([&[u8]; 2], _) =
        ([&large, b""], vec![large.clone().into(), b"".to_vec().into()]);
    assert_eq!(client.put_parts(&[(b"third", &nothing_last)]), [Ok(PutOutcome::Stored)]);
    let asynchronous = block(client.asynchronous().put_parts(vec![(b"fourth".to_vec(), owned)]));
    assert_eq!(asynchronous, [Ok(PutOutcome::Stored)]);
    assert_eq!(client.get(&[b"third", b"fourth"]), [hit(&large), hit(&large)]);
    // The same, replacing.
    assert_eq!(client.upsert_parts(&[(b"first", &[b"n", b"ew"])]), [Ok(PutOutcome::Stored)]);
    assert_eq!(hints_of(b"first"), PutHints::default());
    let items: [Put<'_>; 2] = [(b"\0", &second, pinned.clone()), (b"second", &first, pinned)];
    assert_eq!(client.upsert_parts_with(&items)[1], Ok(PutOutcome::Stored));
    assert_eq!(hints_of(b"second").flags, PutHints::HARD_PIN);
    assert_eq!(client.get(&[b"first", b"second"]), [hit(b"new"), hit(&first.concat())]);
}

#[test]
fn the_asynchronous_client_puts_pieces_of_anybodys_memory() {
    let fake = Fake::start(2, 2);
    let client = block(Client::connect(ClientConfig::new([fake.addresses[0]]))).unwrap();
    let (sender, dropped) = channel();
    let piece = || bytes::Bytes::from_owner(Owner(vec![7; 50_000], sender.clone()));
    let pinned = PutOptions { hard_pin: true, ..PutOptions::default() };
    let items = vec![
        (b"a".to_vec(), vec![piece(), b"tail".to_vec().into()], pinned.clone()),
        (b"".to_vec(), vec![piece()], pinned.clone()),
    ];
    let outcomes = block(client.put_parts_with(items));
    assert!(outcomes[0] == Ok(PutOutcome::Stored) && matches!(outcomes[1], Err(Error::InvalidKey(_))));
    let value = [&[7; 50_000][..], b"tail"].concat();
    assert_eq!(block(client.get(vec![b"a".to_vec()])), [hit(&value)]);
    let upserts = vec![(b"a".to_vec(), vec![piece()])];
    assert_eq!(block(client.upsert_parts(upserts)), [Ok(PutOutcome::Stored)]);
    let upserts = vec![(b"b".to_vec(), vec![piece(), piece()], pinned)];
    assert_eq!(block(client.upsert_parts_with(upserts)), [Ok(PutOutcome::Stored)]);
    assert_eq!(
        block(client.size(vec![b"b".to_vec(), b"no".to_vec()])),
        [Ok(Found::Hit(100_000)), Ok(Found::Miss(MissReason::Evicted))]
    );
    for _ in 0..5 {
        dropped.recv_timeout(Duration::from_secs(5)).expect("nobody keeps a piece");
    }
}

/// Memory that tells when nobody uses it any more.
#[derive(Debug)]
struct Owner(Vec<u8>, Sender<()>);

impl Owner {
    fn new(bytes: usize) -> (Owner, Receiver<()>) {
        let (sender, dropped) = channel();
        (Owner(vec![UNTOUCHED; bytes], sender), dropped)
    }
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Owner {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // The test may have failed already.
        let _ = self.1.send(());
    }
}

#[test]
fn values_are_scattered_each_over_its_buffers() {
    let fake = Fake::start(2, 2);
    let client = client(&fake);
    let values = [value(1), value(70_000), value(5_000), value(9)];
    for (key, value) in keys(4).iter().zip(&values) {
        assert_eq!(client.put(&[(key, value)]), [Ok(PutOutcome::Stored)]);
    }
    let lengths: [&[usize]; 7] =
        [&[0, 1, 5], &[30_000, 1, 0, 17, 39_000, 982], &[1], &[4_990, 9], &[2, 2, 2, 2, 2], &[3], &[]];
    let mut all: Vec<Vec<Vec<u8>>> = lengths.iter().map(|lengths| buffers(lengths)).collect();
    let mut parts: Vec<Vec<&mut [u8]>> = all.iter_mut().map(|buffers| lent(buffers)).collect();
    let names: [&[u8]; 7] = [b"key-0", b"key-1", b"", b"key-2", b"key-3", b"no", b"key-0"];
    let mut reads: Vec<(&[u8], &mut [&mut [u8]])> =
        names.into_iter().zip(&mut parts).map(|(name, parts)| (name, &mut parts[..])).collect();
    let found = client.get_parts_into(&mut reads);
    assert_eq!((&found[0], &found[1]), (&Ok(Found::Hit(1)), &Ok(Found::Hit(70_000))));
    assert!(matches!(found[2], Err(Error::InvalidKey(_))));
    assert_eq!(found[3], Err(Error::BufferTooSmall { needed: 5_000 }));
    assert_eq!(found[4..6], [Ok(Found::Hit(9)), Ok(Found::Miss(MissReason::Evicted))]);
    assert_eq!(found[6], Err(Error::BufferTooSmall { needed: 1 }));
    assert_eq!(all[0].concat(), [&values[0][..], &[UNTOUCHED; 5]].concat());
    assert!(all[1].concat() == values[1]);
    assert_eq!(all[4].concat(), [&values[3][..], &[UNTOUCHED]].concat());
    assert!([2, 3, 5].iter().all(|read| all[*read].concat().iter().all(|byte| *byte == UNTOUCHED)));
}

#[test]
fn ranges_are_read_and_those_beyond_the_end_are_named() {
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    let (large, small) = (value(200_000), value(10));
    client.put(&[(b"large", &large), (b"small", &small)]).iter().for_each(|put| assert!(put.is_ok()));
    let ranges: [(&[u8], &[Range<usize>]); 6] = [
        // The last before the first, overlapping, none, at the very end.
        (b"large", &[199_000..200_000, 5..10, 0..150_000, 149_999..150_001, 200_000..200_000]),
        (b"small", &[]),
        (b"\0", &[0..1, 1..2]),
        (b"small", &[0..10, 9..11, 20..20]),
        (b"no", &[0..1, 1..2]),
        (b"small", &[10..10, 3..4]),
    ];
    let mut all: Vec<Vec<Vec<u8>>> = Vec::new();
    for (_, ranges) in &ranges {
        all.push(buffers(&ranges.iter().map(Range::len).collect::<Vec<_>>()));
    }
    let mut wanted: Vec<Vec<(u64, &mut [u8])>> = Vec::new();
    for ((_, ranges), buffers) in ranges.iter().zip(&mut all) {
        wanted.push(ranges.iter().map(|range| range.start as u64).zip(lent(buffers)).collect());
    }
    let mut reads: Vec<RangesRead<'_>> =
        ranges.iter().zip(&mut wanted).map(|((name, _), wanted)| (*name, &mut wanted[..])).collect();
    let found = client.get_ranges_into(&mut reads);
    assert_eq!(found[..2], [Ok(Found::Hit(200_000)), Ok(Found::Hit(10))]);
    assert!(matches!(found[2], Err(Error::InvalidKey(_))));
    let beyond = Error::RangeBeyondEnd { offset: 9, bytes: 2, value_bytes: 10 };
    assert_eq!(found[3..], [Err(beyond), Ok(Found::Miss(MissReason::Evicted)), Ok(Found::Hit(10))]);
    for (range, buffer) in ranges[0].1.iter().zip(&all[0]) {
        assert!(large[range.clone()] == buffer[..], "{range:?}");
    }
    assert_eq!(all[5][1], [small[3]]);
    assert!(all[3].concat().iter().all(|byte| *byte == UNTOUCHED));
    assert_eq!(fake.asked(0).len(), 2, "one put, one get");
}

/// Reads "a" in parts or in ranges into a buffer of many pieces.
fn read_pieces(client: &BlockingClient, is_ranges: bool, buffer: &mut [u8]) -> Result<Found<usize>, Error> {
    let pieces = buffer.chunks_mut(7_777);
    if !is_ranges {
        return client.get_parts_into(&mut [(b"a", &mut pieces.collect::<Vec<_>>())]).remove(0);
    }
    let mut ranges: Vec<(u64, &mut [u8])> = (0..).step_by(7_777).zip(pieces).collect();
    client.get_ranges_into(&mut [(b"a", &mut ranges)]).remove(0)
}

#[test]
fn wrong_bytes_are_an_error_in_pieces_too() {
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    let value = value(100_000);
    assert_eq!(client.put(&[(b"a", &value)]), [Ok(PutOutcome::Stored)]);
    let flip = |reply: &mut Vec<u8>| reply[HEADER + ITEM_REPLY + 50_000] ^= 1;
    let trusting = ClientConfig { verify: false, ..ClientConfig::new([fake.addresses[0]]) };
    let trusting = BlockingClient::connect(trusting).unwrap();
    for is_ranges in [false, true] {
        let mut buffer = vec![0; value.len()];
        fake.trick(0, Trick::Change(flip));
        assert_eq!(read_pieces(&client, is_ranges, &mut buffer), Err(Error::Checksum));
        assert_eq!(read_pieces(&client, is_ranges, &mut buffer), Ok(Found::Hit(value.len())));
        assert!(buffer == value);
        fake.trick(0, Trick::Change(flip));
        assert_eq!(read_pieces(&trusting, is_ranges, &mut buffer), Ok(Found::Hit(value.len())));
        assert!(buffer != value);
    }
    // What is wrong may be where nobody reads.
    fake.trick(0, Trick::Change(flip));
    assert_eq!(client.get_ranges_into(&mut [(b"a", &mut [(0, &mut [0; 9])])]), [Err(Error::Checksum)]);
    assert_eq!(client.counters().checksum_mismatches, 3);
}

#[test]
fn at_the_deadline_pieces_are_the_callers_again() {
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    let value = value(400_000);
    assert_eq!(client.put(&[(b"a", &value)]), [Ok(PutOutcome::Stored)]);
    let hasty = client.with_deadline(Duration::from_millis(150));
    for is_ranges in [false, true] {
        // In the middle of a piece; the rest comes when nobody wants it any more.
        fake.trick(0, Trick::PauseAt(HEADER + ITEM_REPLY + 100_000, Duration::from_millis(300)));
        let mut buffer = vec![0; value.len()];
        assert_eq!(read_pieces(&hasty, is_ranges, &mut buffer), Err(Error::Deadline));
        buffer.fill(UNTOUCHED);
        assert_eq!(client.get(&[b"a"]), [hit(&value)]);
        assert!(buffer.iter().all(|byte| *byte == UNTOUCHED));
    }
}

#[test]
fn a_connection_that_breaks_in_a_piece_is_not_noticed() {
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    let value = value(300_000);
    assert_eq!(client.put(&[(b"a", &value)]), [Ok(PutOutcome::Stored)]);
    for is_ranges in [false, true] {
        fake.trick(0, Trick::CutAt(HEADER + ITEM_REPLY + 150_000));
        let mut buffer = vec![0; value.len()];
        assert_eq!(read_pieces(&client, is_ranges, &mut buffer), Ok(Found::Hit(value.len())));
        assert!(buffer == value);
    }
}

#[test]
fn buffers_of_any_kind_come_back_with_every_answer() {
    let fake = Fake::start(1, 1);
    let client = block(Client::connect(ClientConfig::new([fake.addresses[0]]))).unwrap();
    let value = value(60_000);
    block(client.put(vec![(b"a".to_vec(), value.clone().into())])).remove(0).unwrap();
    let owner = |bytes| Owner::new(bytes).0;
    let reads = vec![(b"a".to_vec(), owner(70_000)), (b"".to_vec(), owner(2)), (b"no".to_vec(), owner(3))];
    let read = block(client.get_into(reads));
    assert!(read[0].1 == Ok(Found::Hit(60_000)) && read[0].0.0[..60_000] == value);
    assert!(matches!(read[1].1, Err(Error::InvalidKey(_))));
    assert_eq!(read[2].1, Ok(Found::Miss(MissReason::Evicted)));
    assert_eq!(read.iter().map(|(owner, _)| owner.0.len()).collect::<Vec<_>>(), [70_000, 2, 3]);
    let parts = vec![
        (b"\0".to_vec(), vec![owner(1)]),
        (b"a".to_vec(), vec![owner(59_999), owner(0), owner(2)]),
        (b"a".to_vec(), vec![]),
    ];
    let read = block(client.get_parts_into(parts));
    assert_eq!(read[1].1, Ok(Found::Hit(60_000)));
    assert!(read[1].0[0].0 == value[..59_999] && read[1].0[2].0 == [value[59_999], UNTOUCHED]);
    assert_eq!((read[0].0.len(), &read[2].1), (1, &Err(Error::BufferTooSmall { needed: 60_000 })));
    let ranges = vec![
        (b"no".to_vec(), vec![(7, owner(5))]),
        (b"a".to_vec(), vec![(59_000, owner(1_000)), (1, owner(1))]),
        (b"".to_vec(), vec![(1, owner(2)), (3, owner(4))]),
        (b"a".to_vec(), vec![(60_001, owner(0))]),
    ];
    let read = block(client.get_ranges_into(ranges));
    assert_eq!(read[1].1, Ok(Found::Hit(60_000)));
    assert!(read[1].0[0].1.0 == value[59_000..] && read[1].0[1].1.0 == value[1..2]);
    let kept =
        |read: &Vec<(u64, Owner)>| read.iter().map(|(at, owner)| (*at, owner.0.len())).collect::<Vec<_>>();
    assert_eq!([kept(&read[0].0), kept(&read[2].0)], [vec![(7, 5)], vec![(1, 2), (3, 4)]]);
    assert_eq!(read[3].1, Err(Error::RangeBeyondEnd { offset: 60_001, bytes: 0, value_bytes: 60_000 }));
}

#[test]
fn at_the_deadline_buffers_of_any_kind_come_back_and_stay_as_they_are() {
    let fake = Fake::start(1, 1);
    let client = block(Client::connect(ClientConfig::new([fake.addresses[0]]))).unwrap();
    let value = value(400_000);
    block(client.put(vec![(b"a".to_vec(), value.clone().into())])).remove(0).unwrap();
    let hasty = client.with_deadline(Duration::from_millis(150));
    let pause = || Trick::PauseAt(HEADER + ITEM_REPLY + 100_000, Duration::from_millis(300));
    fake.trick(0, pause());
    let owners = (0..4).map(|_| Owner::new(100_000).0).collect();
    let (mut owners, result) = block(hasty.get_parts_into(vec![(b"a".to_vec(), owners)])).remove(0);
    assert_eq!((owners.len(), result), (4, Err(Error::Deadline)));
    owners.iter_mut().for_each(|owner| owner.0.fill(UNTOUCHED));
    fake.trick(0, pause());
    let reads = vec![(b"a".to_vec(), vec![(0, Owner::new(100_000).0)])];
    let (ranges, result) = block(hasty.get_ranges_into(reads)).remove(0);
    assert_eq!((ranges[0].0, ranges[0].1.0.len(), result), (0, 100_000, Err(Error::Deadline)));
    assert_eq!(block(client.get(vec![b"a".to_vec()])), [hit(&value)]);
    assert!(owners.iter().all(|owner| owner.0.iter().all(|byte| *byte == UNTOUCHED)));
}

/// Whoever drops the future has its memory back when the drop returns.
#[test]
fn buffers_of_a_future_that_is_dropped_are_dropped_with_it() {
    let fake = Fake::start(1, 1);
    let client = block(Client::connect(ClientConfig::new([fake.addresses[0]]))).unwrap();
    let value = value(400_000);
    block(client.put(vec![(b"a".to_vec(), value.clone().into())])).remove(0).unwrap();
    for (round, kind) in [0, 1, 2].into_iter().cycle().take(9).enumerate() {
        fake.trick(0, Trick::PauseAt(HEADER + ITEM_REPLY + 100_000, Duration::from_millis(50)));
        let (owner, dropped) = Owner::new(400_000);
        let (key, context) = (b"a".to_vec(), &mut Context::from_waker(Waker::noop()));
        let is_ready = match kind {
            0 => Box::pin(client.get_into(vec![(key, owner)])).as_mut().poll(context).is_ready(),
            1 => {
                let mut read = Box::pin(client.get_parts_into(vec![(key, vec![owner])]));
                let is_ready = read.as_mut().poll(context).is_ready();
                // Until some of it has come.
                std::thread::sleep(Duration::from_millis(10 * round as u64));
                is_ready
            }
            _ => {
                let mut read = Box::pin(client.get_ranges_into(vec![(key, vec![(0, owner)])]));
                let is_ready = read.as_mut().poll(context).is_ready();
                std::thread::sleep(Duration::from_millis(10 * round as u64));
                is_ready
            }
        };
        assert!(!is_ready && dropped.try_recv().is_ok(), "round {round}");
    }
    // And all goes on.
    assert_eq!(block(client.get(vec![b"a".to_vec()])), [hit(&value)]);
}

/// A buffer that changes its length gets nothing written beyond its end, and harms nobody.
#[test]
fn buffers_that_shrink_get_no_value() {
    struct Shrinking(Vec<u8>, usize);
    impl AsMut<[u8]> for Shrinking {
        fn as_mut(&mut self) -> &mut [u8] {
            self.1 = self.1.saturating_sub(1);
            let length = if self.1 == 0 { 100 } else { self.0.len() };
            &mut self.0[..length]
        }
    }
    let fake = Fake::start(1, 1);
    let client = block(Client::connect(ClientConfig::new([fake.addresses[0]]))).unwrap();
    let value = value(400_000);
    block(client.put(vec![(b"a".to_vec(), value.clone().into())])).remove(0).unwrap();
    let shrinking = || Shrinking(vec![0; 400_000], 2);
    let found = block(client.get_into(vec![(b"a".to_vec(), shrinking())])).remove(0).1;
    assert_eq!(found, Err(Error::Deadline), "nobody has it");
    let pair = vec![shrinking(), shrinking()];
    assert_eq!(block(client.get_parts_into(vec![(b"a".to_vec(), pair)])).remove(0).1, Err(Error::Deadline));
    let found = block(client.get_ranges_into(vec![(b"a".to_vec(), vec![(0, shrinking())])])).remove(0).1;
    assert_eq!(found, Err(Error::Deadline));
    assert_eq!(block(client.get(vec![b"a".to_vec()])), [hit(&value)]);
}

/// Cuts of a value into pieces, from none to some hundred kilobytes each.
fn lengths_of(cuts: &[(u8, u16)]) -> Vec<usize> {
    let length = |&(kind, length): &(u8, u16)| match kind % 4 {
        0 => usize::from(length % 70),
        1 => usize::from(length % 9) * 4_096,
        2 => usize::from(length),
        _ => usize::from(length) * 5,
    };
    cuts.iter().map(length).collect()
}

quickcheck! {
    fn any_value_goes_out_and_comes_back_in_any_pieces(put_in: Vec<(u8, u16)>, got_in: Vec<(u8, u16)>) -> bool {
        thread_local! {
            static CLUSTER: (Fake, BlockingClient) = {
                let fake = Fake::start(1, 1);
                let client = client(&fake);
                (fake, client)
            };
        }
        let (put_in, got_in) = (lengths_of(&put_in), lengths_of(&got_in));
        let value = value(got_in.iter().sum::<usize>().max(1));
        let mut rest = &value[..];
        let mut pieces: Vec<&[u8]> = Vec::new();
        for length in put_in {
            let (now, later) = rest.split_at(length.min(rest.len()));
            pieces.push(now);
            rest = later;
        }
        pieces.push(rest);
        let mut parts = buffers(&got_in);
        parts.push(vec![UNTOUCHED; 3]);
        let mut ranges = buffers(&got_in);
        CLUSTER.with(|(_, client)| {
            assert_eq!(client.upsert_parts(&[(b"a", &pieces)]), [Ok(PutOutcome::Stored)]);
            assert_eq!(client.get_parts_into(&mut [(b"a", &mut lent(&mut parts))]), [Ok(Found::Hit(value.len()))]);
            let mut at = 0;
            let mut wanted: Vec<(u64, &mut [u8])> = Vec::new();
            for buffer in lent(&mut ranges) {
                at += buffer.len() as u64;
                wanted.push((at - buffer.len() as u64, buffer));
            }
            wanted.reverse();
            assert_eq!(client.get_ranges_into(&mut [(b"a", &mut wanted)]), [Ok(Found::Hit(value.len()))]);
        });
        let parts = parts.concat();
        parts[..value.len()] == value && parts[value.len()..].iter().all(|byte| *byte == UNTOUCHED)
            && (got_in.is_empty() || ranges.concat()[..] == value[..ranges.concat().len()])
    }
}
