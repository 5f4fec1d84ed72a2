//! The client against a cluster that does as it is told: every status, every way to break.

mod fake;
#[path = "scripted/lists.rs"]
mod lists;
#[path = "scripted/parts.rs"]
mod parts;

use fake::{Fake, Trick, core_id};
use snowskin_client::{
    BlockingClient, Client, ClientConfig, Code, Error, Found, MissReason, ObjectName, PutOutcome,
    RemoveOutcome, RemovedCount,
};
use snowskin_protocol::Version;
use snowskin_protocol::wire::data::ItemStatus;
use snowskin_protocol::wire::{Opcode, Refusal};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const ITEM_REPLY: usize = snowskin_protocol::wire::data::ITEM_REPLY_BYTES;
const HEADER: usize = snowskin_protocol::limits::HEADER_BYTES;

fn client(fake: &Fake) -> BlockingClient {
    BlockingClient::connect(ClientConfig::new([fake.addresses[0]])).unwrap()
}

/// Calls until the client has heard of the table of this epoch: it fetches newer tables beside its calls.
fn until_epoch(client: &BlockingClient, epoch: u64) {
    let begun = Instant::now();
    // By the newer table nobody may answer.
    let hasty = client.with_deadline(Duration::from_millis(100));
    while client.table().unwrap().epoch.0 < epoch {
        let _ = hasty.lookup(&[b"anything"]);
        assert!(begun.elapsed() < Duration::from_secs(5), "the table of epoch {epoch} does not arrive");
    }
}

fn name(key: &[u8]) -> Vec<u8> {
    ObjectName::new("default", key).unwrap().bytes().to_vec()
}

fn keys(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| format!("key-{index}").into_bytes()).collect()
}

fn slices(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    keys.iter().map(Vec::as_slice).collect()
}

fn hit(value: &[u8]) -> Result<Found<Vec<u8>>, Error> {
    Ok(Found::Hit(value.to_vec()))
}

#[test]
fn every_verb_over_several_cores() {
    let fake = Fake::start(3, 3);
    let client = client(&fake);
    let keys = keys(100);
    let values: Vec<Vec<u8>> = (0..100).map(|index| vec![index as u8; 1 + index * 997]).collect();
    let items: Vec<_> = keys.iter().zip(&values).map(|(key, value)| (&key[..], &value[..])).collect();
    assert!(client.put(&items).iter().all(|outcome| *outcome == Ok(PutOutcome::Stored)));
    assert!(client.put(&items[..9]).iter().all(|outcome| *outcome == Ok(PutOutcome::Existed)));
    assert_eq!(client.upsert(&[(b"key-0", b"new")]), [Ok(PutOutcome::Stored)]);
    let parts: [&[u8]; 3] = [b"in ", &[b'x'; 10_000], b"parts"];
    assert_eq!(client.put_parts(&[(b"parts", &parts)]), [Ok(PutOutcome::Stored)]);
    assert_eq!(client.get(&[b"parts"]), [hit(&parts.concat())]);
    let got = client.get(&slices(&keys));
    assert_eq!(got[0], hit(b"new"));
    for index in 1..100 {
        assert_eq!(got[index], hit(&values[index]), "{index}");
    }
    let mut buffers = vec![vec![0; 100_000]; 100];
    let mut reads: Vec<_> =
        keys.iter().zip(&mut buffers).map(|(key, buffer)| (&key[..], &mut buffer[..])).collect();
    for (index, found) in client.get_into(&mut reads).into_iter().enumerate().skip(1) {
        assert_eq!(found, Ok(Found::Hit(values[index].len())));
        assert_eq!(reads[index].1[..values[index].len()], values[index]);
    }
    assert_eq!(client.size(&[b"key-9", b"no"]), [Ok(Found::Hit(8974)), Ok(Found::Miss(MissReason::Evicted))]);
    assert_eq!(client.match_prefix(&slices(&keys)), Ok(100));
    fake.with(|world| world.cores.iter_mut().for_each(|core| drop(core.held.remove(&name(b"key-41")))));
    assert_eq!(client.match_prefix(&slices(&keys)), Ok(41));
    assert_eq!(client.put(&[(b"l", b"leased")]), [Ok(PutOutcome::Stored)]);
    assert_eq!(
        client.remove(&[b"l", b"key-1", b"no"], false),
        [
            Ok(RemoveOutcome::Leased),
            Ok(RemoveOutcome::Removed),
            Ok(RemoveOutcome::Missing(MissReason::Evicted))
        ]
    );
    assert_eq!(client.remove(&[b"l"], true), [Ok(RemoveOutcome::Removed)]);
    assert_eq!(client.remove_by_regex("^key", false), Ok(RemovedCount { removed: 24, leased: 12 }));
    assert_eq!(client.remove_all(true), Ok(RemovedCount { removed: 24, leased: 12 }));
    let stats = client.stats().unwrap();
    assert_eq!(stats.len(), 3);
    assert_eq!(stats.iter().map(|(_, stats)| stats.as_ref().unwrap().objects).sum::<u64>(), 99);
    let counters = client.counters();
    assert_eq!(counters.frames_sent, counters.frames_received);
    assert_eq!((counters.connects, counters.retries, counters.connections_broken), (3, 0, 0));
}

#[test]
fn invalid_arguments_are_answered_in_their_place() {
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    let outcomes = client.put(&[(b"a", b"1"), (b"", b"2"), (b"b", b""), (b"c", b"3")]);
    assert_eq!((&outcomes[0], &outcomes[3]), (&Ok(PutOutcome::Stored), &Ok(PutOutcome::Stored)));
    assert_eq!(outcomes[1].as_ref().unwrap_err().code(), Code::InvalidKey);
    assert_eq!(outcomes[2], Err(Error::EmptyValue));
    let got = client.get(&[b"x\0y", b"c", b""]);
    assert!(matches!((&got[0], &got[2]), (Err(Error::InvalidKey(_)), Err(Error::InvalidKey(_)))));
    assert_eq!(got[1], hit(b"3"));
    let (mut small, mut large, mut other) = ([0; 0], [9; 4], [0; 1]);
    let found = client.get_into(&mut [(b"a", &mut small), (b"a", &mut large), (b"\0", &mut other)]);
    assert_eq!(found[..2], [Err(Error::BufferTooSmall { needed: 1 }), Ok(Found::Hit(1))]);
    assert_eq!(large, [b'1', 9, 9, 9]);
    assert!(client.put(&[]).is_empty() && client.get(&[]).is_empty());
    assert_eq!(client.match_prefix(&[]), Ok(0));
    assert!(matches!(client.match_prefix(&[b"a", b""]), Err(Error::InvalidKey(_))));
    assert!(matches!(client.remove_by_regex(&"x".repeat(5000), false), Err(Error::BadPattern(_))));
    fake.with(|world| world.cores[0].tricks.push_back(Trick::Refuse(Refusal::BadPattern)));
    let mut config = ClientConfig::new([fake.addresses[0]]);
    config.tenant = String::new();
    let nobody = BlockingClient::connect(config).unwrap();
    assert!(matches!(nobody.get(&[b"a"])[0], Err(Error::InvalidKey(_))));
}

#[test]
fn a_wrong_home_is_asked_once_and_the_new_table_used() {
    let fake = Fake::start(2, 1);
    let client = client(&fake);
    assert_eq!(client.put(&[(b"a", b"1")]), [Ok(PutOutcome::Stored)]);
    fake.with(|world| {
        let held = std::mem::take(&mut world.cores[0].held);
        world.cores[1].held = held;
    });
    fake.move_slots_to(&[1]);
    assert_eq!(client.get(&[b"a"]), [hit(b"1")]);
    assert_eq!(client.get(&[b"a"]), [hit(b"1")]);
    assert_eq!(fake.asked(0), [Opcode::Put, Opcode::Get]);
    assert_eq!(fake.asked(1), [Opcode::Get, Opcode::Get]);
    assert_eq!(client.table().unwrap().epoch.0, 2);
    assert_eq!(client.counters().refreshes, 2);
}

/// A key whose home is core 0, whether there are two cores or three.
fn key_at_zero() -> Vec<u8> {
    let is_it = |key: &Vec<u8>| ObjectName::new("default", key).unwrap().as_ref().slot().0.is_multiple_of(6);
    keys(1_000).into_iter().find(is_it).unwrap()
}

#[test]
fn an_older_table_is_not_taken_over() {
    let fake = Fake::start(2, 1);
    let first = fake.with(|world| world.table.clone());
    let client = client(&fake);
    fake.move_slots_to(&[0, 1]);
    until_epoch(&client, 2);
    assert_eq!(client.put(&[(&key_at_zero(), b"1")]), [Ok(PutOutcome::Stored)]);
    // Whoever is asked has heard nothing of the second table yet.
    fake.with(|world| world.cores.iter_mut().for_each(|core| core.known = vec![first.clone(); 3].into()));
    for _ in 0..3 {
        fake.trick(0, Trick::Status(ItemStatus::WrongHome));
        assert_eq!(client.get(&[&key_at_zero()]), [hit(b"1")]);
        assert_eq!(client.table().unwrap().epoch.0, 2);
    }
    assert!(
        fake.with(|world| world.cores.iter().map(|core| core.known.len()).sum::<usize>()) < 6,
        "it was told"
    );
}

#[test]
fn a_holder_that_joined_after_our_table_was_made_is_not_lost() {
    let fake = Fake::start(3, 2);
    let first = fake.with(|world| world.table.clone());
    let (client, key) = (client(&fake), key_at_zero());
    fake.move_slots_to(&[0, 1, 2]);
    fake.with(|world| {
        world.cores[0].elsewhere.insert(name(&key), (core_id(2), Version(5)));
        world.cores[2].held.insert(name(&key), (b"there".to_vec(), Version(5)));
        // The news takes its time: the first questions for the table are answered with the one that we have.
        world.cores[..2].iter_mut().for_each(|core| core.known = vec![first.clone(); 3].into());
    });
    assert_eq!(client.get(&[&key]), [hit(b"there")]);
    assert_eq!(client.table().unwrap().epoch.0, 2);
}

/// Whether it still has the bytes nobody knows: a miss would be a guess.
#[test]
fn a_holder_that_cannot_be_reached_is_an_error_and_no_miss() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fake = Fake::start(3, 3);
    let (client, key) = (client(&fake), key_at_zero());
    fake.with(|world| {
        world.cores[0].elsewhere.insert(name(&key), (core_id(2), Version(5)));
        world.table.epoch = world.table.epoch.next();
        world.table.members[2].address = nobody;
    });
    until_epoch(&client, 2);
    let error = client.get(&[&key]).remove(0).unwrap_err();
    assert!(matches!(error, Error::Unreachable { address, .. } if address == nobody), "{error:?}");
    assert!(fake.with(|world| world.cores[0].forgotten.is_empty()), "its home is told nothing");
}

#[test]
fn statuses_that_ask_for_patience_or_say_no() {
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    for (key, value) in [(b"a", b"1"), (b"b", b"2")] {
        client.put(&[(key, value)])[0].as_ref().unwrap();
    }
    for _ in 0..3 {
        fake.trick(0, Trick::Status(ItemStatus::Moving));
    }
    fake.trick(0, Trick::Refuse(Refusal::NotYet));
    assert_eq!(client.get(&[b"a"]), [hit(b"1")]);
    fake.trick(0, Trick::DeferRest);
    assert_eq!(client.get(&[b"a", b"b", b"a"]), [hit(b"1"), hit(b"2"), hit(b"1")]);
    fake.trick(0, Trick::Status(ItemStatus::WrongHome));
    fake.trick(0, Trick::Refuse(Refusal::Stale));
    assert_eq!(client.match_prefix(&[b"a", b"b"]), Ok(2));
    assert_eq!(client.counters().retries, 4 + 2 + 2 + 2);
    let refused = [
        (ItemStatus::NoSpace, Error::NoSpace),
        (ItemStatus::TooLarge, Error::TooLarge),
        (ItemStatus::ChecksumMismatch, Error::Checksum),
        (ItemStatus::Leased, Error::Unexpected(ItemStatus::Leased)),
    ];
    for (status, error) in refused {
        fake.trick(0, Trick::Status(status));
        assert_eq!(client.put(&[(b"c", b"3")]), [Err(error)]);
    }
    fake.trick(0, Trick::Refuse(Refusal::Overloaded));
    assert_eq!(client.get(&[b"a"]), [Err(Error::Overloaded)]);
    fake.trick(0, Trick::Refuse(Refusal::WrongRole));
    let error = client.get(&[b"a"]).remove(0).unwrap_err();
    assert!(
        matches!(error, Error::Refused { refusal: Refusal::WrongRole, .. })
            && error.to_string().contains("because")
    );
    fake.trick(0, Trick::Refuse(Refusal::BadPattern));
    assert_eq!(client.remove_by_regex("(", false), Err(Error::BadPattern("because".into())));
}

#[test]
fn bytes_that_are_elsewhere() {
    let fake = Fake::start(2, 2);
    let client = client(&fake);
    // Keys whose home is core 0.
    let at_zero: Vec<Vec<u8>> = keys(100)
        .into_iter()
        .filter(|key| ObjectName::new("default", key).unwrap().as_ref().slot().0.is_multiple_of(2))
        .take(4)
        .collect();
    fake.with(|world| {
        for key in &at_zero {
            world.cores[0].elsewhere.insert(name(key), (core_id(1), Version(5)));
        }
        world.cores[1].held.insert(name(&at_zero[0]), (b"there".to_vec(), Version(5)));
        world.cores[1].held.insert(name(&at_zero[1]), (b"older".to_vec(), Version(4)));
        // Its holder is no member: the home is told, and asked again.
        world.cores[0].elsewhere.insert(name(&at_zero[2]), (core_id(9), Version(6)));
    });
    let got = client.get(&slices(&at_zero[..3]));
    assert_eq!(
        got,
        [hit(b"there"), Ok(Found::Miss(MissReason::Evicted)), Ok(Found::Miss(MissReason::Evicted))]
    );
    // Another call, so that what nobody waits for has arrived.
    client.stats().unwrap();
    let forgotten = fake.with(|world| world.cores[0].forgotten.clone());
    assert!(forgotten.contains(&(name(&at_zero[1]), Version(5))), "{forgotten:?}");
    assert!(forgotten.contains(&(name(&at_zero[2]), Version(6))));
    assert_eq!(client.match_prefix(&slices(&at_zero)), Ok(1));
    assert!(client.counters().elsewhere >= 3);
}

#[test]
fn a_corrupt_value_is_never_handed_out() {
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    client
        .put(&[(b"a", &[5; 100_000]), (b"b", &[6; 10])])
        .iter()
        .for_each(|outcome| assert_eq!(*outcome, Ok(PutOutcome::Stored)));
    let flip = |reply: &mut Vec<u8>| reply[HEADER + 2 * ITEM_REPLY + 99_999] ^= 1;
    fake.trick(0, Trick::Change(flip));
    assert_eq!(client.get(&[b"a", b"b"]), [Err(Error::Checksum), hit(&[6; 10])]);
    fake.trick(0, Trick::Change(flip));
    let (mut a, mut b) = (vec![0; 100_000], vec![0; 10]);
    let found = client.get_into(&mut [(b"a", &mut a), (b"b", &mut b)]);
    assert_eq!(found, [Err(Error::Checksum), Ok(Found::Hit(10))]);
    assert_eq!(client.counters().checksum_mismatches, 2);
    let trusting = ClientConfig { verify: false, ..ClientConfig::new([fake.addresses[0]]) };
    let trusting = BlockingClient::connect(trusting).unwrap();
    fake.trick(0, Trick::Change(flip));
    assert!(matches!(&trusting.get(&[b"a", b"b"])[0], Ok(Found::Hit(value)) if value.len() == 100_000));
}

#[test]
fn a_connection_that_breaks_once_is_not_noticed() {
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    let value = vec![7; 300_000];
    client.put(&[(b"a", &value)])[0].as_ref().unwrap();
    let breaks = [
        Trick::CutAt(0),
        Trick::CutAt(10),
        Trick::CutAt(HEADER + 5),
        Trick::CutAt(150_000),
        // Another request's number, an unknown magic, a wrong checksum of the body, more payload than items say.
        Trick::Change(|reply| renumber(reply, 4711)),
        Trick::Change(|reply| reply[0] ^= 1),
        Trick::Change(|reply| reply[HEADER] ^= 1),
        Trick::Change(|reply| reply.truncate(HEADER)),
    ];
    let count = breaks.len() as u64;
    for trick in breaks {
        // A reply that is too short is answered by silence, not by an end.
        let is_short =
            matches!(&trick, Trick::Change(_)) && fake.with(|world| world.cores[0].tricks.is_empty());
        fake.trick(0, trick);
        let found = client.with_deadline(Duration::from_millis(1500)).get(&[b"a"]);
        assert!(found == [hit(&value)] || (is_short && found == [Err(Error::Deadline)]), "{found:?}");
    }
    assert!(client.counters().connections_broken >= count - 1, "{:?}", client.counters());
}

fn renumber(reply: &mut [u8], request: u64) {
    let bytes: [u8; HEADER] = reply[..HEADER].try_into().unwrap();
    let (header, _) = snowskin_protocol::wire::Header::decode(&bytes).unwrap();
    let header = snowskin_protocol::wire::Header { request, ..header };
    let body_end = HEADER + header.body_bytes as usize;
    let sealed = header.encode(&reply[HEADER..body_end]);
    reply[..HEADER].copy_from_slice(&sealed);
}

#[test]
fn a_connection_that_breaks_twice_is_an_error_at_once() {
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    fake.trick(0, Trick::CutAt(3));
    fake.trick(0, Trick::CutAt(3));
    let begun = Instant::now();
    let error = client.get(&[b"a"]).remove(0).unwrap_err();
    assert!(matches!(error, Error::Broken { core: Some(_), .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(client.get(&[b"a"]), [Ok(Found::Miss(MissReason::Evicted))]);
}

#[test]
fn a_refused_connection_is_an_error_at_once_for_its_keys_only() {
    let fake = Fake::start(2, 2);
    let client = client(&fake);
    let closed: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fake.with(|world| {
        world.table.epoch = world.table.epoch.next();
        world.table.members[1].address = closed;
    });
    until_epoch(&client, 2);
    let keys = keys(20);
    let begun = Instant::now();
    let got = client.get(&slices(&keys));
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    for (key, found) in keys.iter().zip(&got) {
        let is_at_one = !ObjectName::new("default", key).unwrap().as_ref().slot().0.is_multiple_of(2);
        match found {
            Ok(Found::Miss(_)) => {}
            Err(Error::Unreachable { address, .. }) => assert!(is_at_one && *address == closed),
            other => panic!("{other:?}"),
        }
    }
    let got = client.get(&slices(&keys));
    assert!(got.iter().any(|found| matches!(found, Err(Error::Unreachable { .. }))), "{got:?}");
    assert!(client.counters().connects_failed > 0);
    assert!(client.stats().unwrap()[1].1.is_err());
    assert!(client.remove_all(false).is_err());
}

#[test]
fn no_seed_and_no_engine() {
    let closed: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let error = BlockingClient::connect(ClientConfig::new([closed])).err().unwrap();
    assert!(matches!(error, Error::Unreachable { core: None, .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(BlockingClient::connect(ClientConfig::new([])).err(), Some(Error::NoEngines));
    let fake = Fake::start(1, 0);
    let config =
        ClientConfig { deadline: Duration::from_millis(200), ..ClientConfig::new(fake.addresses.clone()) };
    assert_eq!(BlockingClient::connect(config).err(), Some(Error::NoEngines));
    let (now, begun) =
        (|| BlockingClient::connect_now(ClientConfig::new(fake.addresses.clone())), Instant::now());
    assert_eq!(now().err(), Some(Error::NoEngines));
    let error = BlockingClient::connect_now(ClientConfig::new([closed])).err().unwrap();
    assert!(matches!(error, Error::Unreachable { core: None, .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));
    let late = ClientConfig::new([closed, fake.addresses[0]]);
    let waiting = std::thread::spawn(move || BlockingClient::connect(late));
    std::thread::sleep(Duration::from_millis(100));
    fake.move_slots_to(&[0]);
    assert!(waiting.join().unwrap().is_ok() && now().is_ok());
}

#[test]
fn a_frozen_peer_costs_the_deadline_and_not_more() {
    let fake = Fake::start(2, 2);
    let client = client(&fake);
    let keys = keys(20);
    let value = vec![1; 400_000];
    let items: Vec<_> = keys.iter().map(|key| (&key[..], &value[..])).collect();
    client.put(&items).iter().for_each(|outcome| assert_eq!(*outcome, Ok(PutOutcome::Stored)));
    let home = |key: &[u8]| usize::from(ObjectName::new("default", key).unwrap().as_ref().slot().0 % 2);
    let hasty = client.with_deadline(Duration::from_millis(200));
    // In the middle of the third value.
    fake.trick(1, Trick::FreezeAt(HEADER + 20 * ITEM_REPLY + 1_000_000));
    let mut buffers = vec![vec![0; 400_000]; 20];
    let mut reads: Vec<_> =
        keys.iter().zip(&mut buffers).map(|(key, buffer)| (&key[..], &mut buffer[..])).collect();
    let begun = Instant::now();
    let found = hasty.get_into(&mut reads);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(199) && took < Duration::from_millis(260), "{took:?}");
    for (key, found) in keys.iter().zip(&found) {
        match home(key) {
            0 => assert_eq!(*found, Ok(Found::Hit(400_000))),
            _ => assert_eq!(*found, Err(Error::Deadline)),
        }
    }
    // The peer wakes up late; nothing of it reaches the buffers, and the connection goes on or is made anew.
    buffers.iter_mut().for_each(|buffer| buffer.fill(3));
    fake.trick(0, Trick::PauseAt(HEADER + ITEM_REPLY + 100_000, Duration::from_millis(300)));
    let at_zero: Vec<_> = keys.iter().filter(|key| home(key) == 0).collect();
    let mut buffer = vec![0; 400_000];
    assert_eq!(hasty.get_into(&mut [(at_zero[0], &mut buffer)]), [Err(Error::Deadline)]);
    buffer.fill(3);
    assert_eq!(client.get(&[at_zero[0]]), [hit(&value)]);
    assert!(buffer.iter().all(|byte| *byte == 3) && buffers.iter().flatten().all(|byte| *byte == 3));
    assert_eq!(client.counters().deadlines, 2);
    // Core 1's connection is silent: after a second it is doubted and given up, and a new one asked.
    let patient = client.with_deadline(Duration::from_millis(2500));
    let at_one = keys.iter().find(|key| home(key) == 1).unwrap();
    let last = patient.get(&[at_one]);
    assert!(
        last == [hit(&value)],
        "{:?}",
        last.iter().map(|found| found.as_ref().map(|_| ())).collect::<Vec<_>>()
    );
}

#[test]
fn a_put_that_nobody_reads_ends_at_its_deadline_and_frees_the_buffer() {
    // Accepts, and never says hello.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    fake.with(|world| {
        world.table.epoch = world.table.epoch.next();
        world.table.members[0].address = deaf.local_addr().unwrap();
    });
    until_epoch(&client, 2);
    let hasty = client.with_deadline(Duration::from_millis(150));
    let begun = Instant::now();
    let mut value = vec![1; 64 << 20];
    let outcome = hasty.put(&[(b"a", &value)]);
    assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
    assert_eq!(outcome, [Err(Error::Deadline)]);
    value.fill(2);
}

#[test]
fn large_values_go_and_come_whole() {
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    let value: Vec<u8> = (0..40 << 20).map(|index: u32| (index % 253) as u8).collect();
    assert_eq!(client.put(&[(b"large", &value)]), [Ok(PutOutcome::Stored)]);
    assert_eq!(client.get(&[b"large"]), [hit(&value)]);
    let many = keys(9000);
    let items: Vec<_> = many.iter().map(|key| (&key[..], &b"v"[..])).collect();
    assert!(client.put(&items).iter().all(|outcome| *outcome == Ok(PutOutcome::Stored)));
    assert_eq!(client.match_prefix(&slices(&many)), Ok(9000));
    assert_eq!(fake.asked(0).len(), 2 + 3 + 3);
}

#[test]
fn threads_share_a_client() {
    let fake = Fake::start(2, 2);
    let client = client(&fake);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let client = client.clone();
            scope.spawn(move || {
                for call in 0..200_u8 {
                    let key = format!("{thread}-{call}").into_bytes();
                    let value = vec![thread ^ call; 10 + usize::from(call) * 100];
                    client.upsert(&[(&key, &value)])[0].as_ref().unwrap();
                    assert_eq!(client.get(&[&key]), [hit(&value)]);
                }
            });
        }
    });
    assert_eq!(client.counters().connects, 2);
}

#[test]
fn the_asynchronous_client_needs_no_runtime() {
    let fake = Fake::start(2, 2);
    let client = block(Client::connect(ClientConfig::new([fake.addresses[1]]))).unwrap();
    let items = vec![(b"a".to_vec(), b"1".to_vec().into()), (b"".to_vec(), b"2".to_vec().into())];
    let outcomes = block(client.put(items));
    assert_eq!(outcomes[0], Ok(PutOutcome::Stored));
    assert!(matches!(outcomes[1], Err(Error::InvalidKey(_))));
    assert_eq!(block(client.get(vec![b"a".to_vec()])), [hit(b"1")]);
    let reads = vec![(b"a".to_vec(), vec![0; 3]), (b"".to_vec(), vec![1; 2]), (b"no".to_vec(), vec![2; 1])];
    let read = block(client.get_into(reads));
    assert_eq!(read[0], (vec![b'1', 0, 0], Ok(Found::Hit(1))));
    assert_eq!((read[1].0.len(), read[2].0.len()), (2, 1));
    let parts = vec![(b"p".to_vec(), vec![b"x".to_vec().into(), vec![b'y'; 9000].into()])];
    assert_eq!(block(client.put_parts(parts)), [Ok(PutOutcome::Stored)]);
    assert_eq!(block(client.size(vec![b"p".to_vec()])), [Ok(Found::Hit(9001))]);
    assert_eq!(block(client.match_prefix(vec![b"a".to_vec(), b"z".to_vec()])), Ok(1));
    // Both kinds at once.
    assert_eq!(client.blocking().get(&[b"a"]), [hit(b"1")]);
    assert_eq!(block(client.remove(vec![b"a".to_vec()], false)), [Ok(RemoveOutcome::Removed)]);
    assert_eq!(block(client.remove_all(false)), Ok(RemovedCount { removed: 16, leased: 8 }));
    assert_eq!(block(client.stats()).unwrap().len(), 2);
    assert!(block(client.counters()).frames_sent.total() > 5);
    let frozen = client.with_deadline(Duration::from_millis(100));
    for core in 0..2 {
        fake.trick(core, Trick::FreezeAt(HEADER));
    }
    let read = block(frozen.get_into(vec![(b"p".to_vec(), vec![9; 10_000])])).remove(0);
    assert_eq!((read.0.len(), read.1), (10_000, Err(Error::Deadline)));
}

/// Runs a future on this thread, by parking.
fn block<F: Future>(future: F) -> F::Output {
    use std::task::{Context, Poll, Wake, Waker};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
