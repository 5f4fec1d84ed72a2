//! A real core against peers that mean no good, or that are broken: whatever they send, another client is served as
//! if they were not there, the core's bytes add up, and nothing stays reserved, pinned or connected. Where the protocol
//! promises a refusal, the peer must hear it, as a sentence.

use snowskin_io::Platform;
use snowskin_io::sim::NetworkOptions;
use snowskin_protocol::wire::control::{Page, SlotSet, TakeSlots};
use snowskin_protocol::wire::data::{ItemStatus, RemoveMatching};
use snowskin_protocol::wire::list::{KeyPage, ListKeys};
use snowskin_protocol::wire::{Header, Opcode, Refusal};
use snowskin_protocol::{Checksum, CoreId, Epoch, Incarnation, MissReason, Slot};
use snowskin_tests::lone_core::LoneCore;
use snowskin_tests::peer::{Frame, Peer, announced, frame, hello, hello_of, keys, puts, sealed};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const MEMORY: usize = 1 << 20;
const CONNECTIONS: u64 = 16;
/// Bytes of the values with which readers are flooded.
const BLOCK: usize = 64 << 10;

fn start(seed: u64) -> LoneCore {
    LoneCore::start(seed, MEMORY, CONNECTIONS)
}

/// What a peer hears after these bytes, until the core closes the connection. `greeted`: after a right hello.
fn answers_to(lone: &LoneCore, greeted: bool, bytes: Vec<u8>) -> Vec<Frame> {
    let (peers, address) = (lone.peers.clone(), lone.address());
    lone.run(async move {
        let mut peer = match greeted {
            true => Peer::greet(&peers, address).await,
            false => Peer::connect(&peers, address).await.expect("somebody listens"),
        };
        // The core may close before it has read everything.
        let _ = peer.send(&bytes).await;
        peer.last_words().await
    })
}

/// That these bytes bring one refusal with these words, and the end of the connection.
fn is_refused(lone: &mut LoneCore, greeted: bool, bytes: Vec<u8>, refusal: Refusal, words: &str) {
    let before = lone.stats().frames_refused;
    let answers = answers_to(lone, greeted, bytes);
    let [answer] = &answers[..] else { panic!("{words}: {} answers: {answers:?}", answers.len()) };
    let (said, sentence) = answer.refusal();
    assert_eq!(said, refusal, "{sentence}");
    assert!(sentence.contains(words), "{sentence:?} does not say {words:?}");
    assert_eq!(lone.stats().frames_refused, before + 1);
    lone.is_well(0);
}

fn bad(lone: &mut LoneCore, bytes: Vec<u8>, words: &str) {
    is_refused(lone, true, bytes, Refusal::BadFrame, words);
}

#[test]
fn garbage() {
    let mut lone = start(1);
    for greeted in [false, true] {
        for round in 1..=5_u64 {
            let garbage = (0..round * 997 + 64).map(|at| (at * at * round % 251) as u8 | 1).collect();
            is_refused(&mut lone, greeted, garbage, Refusal::BadFrame, "no Snowskin frame");
        }
        let web =
            b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: a browser that has lost its way\r\n\r\n";
        is_refused(&mut lone, greeted, web.to_vec(), Refusal::BadFrame, "is the peer a Snowskin client?");
    }
}

#[test]
fn headers_that_cannot_be() {
    let mut lone = start(2);
    let lookup = || {
        let (header, body) = keys(Opcode::Lookup, &["k"]);
        frame(header, &body)
    };
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = lookup();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    bad(&mut lone, changed(0, b"SNOB"), "no Snowskin frame");
    bad(&mut lone, changed(8, &[0xee]), "the header does not match its checksum");
    bad(&mut lone, sealed(changed(6, &[0])), "unknown operation 0");
    bad(&mut lone, sealed(changed(6, &[99])), "unknown operation 99");
    bad(&mut lone, sealed(changed(7, &[0x80])), "reserved part of the header");
    bad(&mut lone, sealed(changed(24, &u32::MAX.to_le_bytes())), "4294967295 items, and the limit is 4096");
    bad(
        &mut lone,
        sealed(changed(28, &u32::MAX.to_le_bytes())),
        "4294967295 body bytes, and the limit is 1048576",
    );
    bad(&mut lone, sealed(changed(32, &u64::MAX.to_le_bytes())), "payload length");
    bad(&mut lone, sealed(changed(44, &3_u16.to_le_bytes())), "refusal has a value");
    bad(&mut lone, sealed(changed(46, &[1])), "reserved part of the header");
    bad(&mut lone, sealed(changed(48, &[0; 8])), "the body does not match its checksum");
    bad(&mut lone, changed(64, &[0xff]), "the body does not match its checksum");
}

#[test]
fn versions_that_nobody_agreed_on() {
    let mut lone = start(3);
    for (oldest, newest) in [(2, 9), (0, 0), (9, 1)] {
        let words = format!("we speak versions 1 to 1, you speak {oldest} to {newest}");
        is_refused(&mut lone, false, hello_of(oldest, newest), Refusal::Version, &words);
    }
    let (header, body) = keys(Opcode::Lookup, &["k"]);
    let newer = frame(Header { version: 2, ..header }, &body);
    is_refused(&mut lone, true, newer, Refusal::Version, "version 2, and this connection speaks 1");
}

#[test]
fn no_hello_no_service() {
    let mut lone = start(4);
    let (header, body) = puts(&[("stranger", b"value")]);
    let put = [&frame(header, &body)[..], b"value"].concat();
    is_refused(&mut lone, false, put, Refusal::BadFrame, "say hello first");
    let offer = frame(Header::request(Opcode::OfferTable, 1, Epoch(9)), &[]);
    is_refused(&mut lone, false, offer, Refusal::BadFrame, "say hello first");
    let mut answer = Header::request(Opcode::Hello, 0, Epoch(0));
    answer.is_reply = true;
    is_refused(&mut lone, false, frame(answer, &[0; 8]), Refusal::BadFrame, "say hello first");
    let long = frame(Header::request(Opcode::Hello, 0, Epoch(0)), &[0; 9]);
    is_refused(&mut lone, false, long, Refusal::BadFrame, "1 bytes are left over");
    let mut friend = lone.greet();
    let reply = lone.run(async move { friend.get("stranger").await.0 });
    assert_eq!(reply.miss, Some(MissReason::NotHeld), "what a stranger put was stored");
}

#[test]
fn who_says_nothing_is_dropped_in_time() {
    let mut lone = start(5);
    for begun in [0, 1, 63, 64, 71] {
        let (peers, address) = (lone.peers.clone(), lone.address());
        let waited = lone.run(async move {
            let mut peer = Peer::connect(&peers, address).await.expect("somebody listens");
            peer.send(&hello()[..begun]).await.expect("the connection stands");
            let before = peers.now();
            assert!(peer.last_words().await.is_empty());
            peers.now() - before
        });
        let limits = Duration::from_millis(9_900)..Duration::from_millis(10_100);
        assert!(limits.contains(&waited), "{begun} bytes of a hello: closed after {waited:?}");
        lone.is_well(0);
    }
}

#[test]
fn cut_anywhere() {
    let mut lone = start(6);
    let value = vec![7; 50_000];
    let (header, body) = puts(&[("first", b"whole"), ("second", &value)]);
    let bytes = [&frame(header, &body)[..], b"whole", &value].concat();
    let payload = bytes.len() - value.len();
    for (round, end) in [1, 63, 64, 80, 64 + body.len(), payload - 1, payload + 20_000, bytes.len() - 1]
        .into_iter()
        .enumerate()
    {
        for resets in [false, true] {
            let mut peer = lone.greet();
            let connection = peer.connection();
            let (half, peers) = (bytes[..end].to_vec(), lone.peers.clone());
            let peer = lone.run(async move {
                peer.send(&half).await.expect("the connection stands");
                peers.sleep(Duration::from_millis(20)).await;
                peer
            });
            assert_eq!(lone.stats().reserved_bytes > 0, end >= 64 + body.len(), "after {end} bytes");
            if resets {
                assert!(lone.sim.faults().cut(connection));
            }
            drop(peer);
            lone.is_well(0);
            let mut friend = lone.greet();
            let arrived = end >= payload;
            let (first, second) = lone.run(async move {
                let found = (friend.get("first").await.0.status, friend.get("second").await.0.status);
                friend.remove("first").await;
                found
            });
            let expected = if arrived { ItemStatus::Ok } else { ItemStatus::Miss };
            assert_eq!((first, second), (expected, ItemStatus::Miss), "round {round}, {end} bytes");
        }
    }
    assert!(lone.stats().puts_broken > 0);
}

#[test]
fn a_gibibyte_for_a_mebibyte_is_read_and_refused() {
    const GIB: usize = 1 << 30;
    let mut lone = start(7);
    let mut peer = lone.greet();
    lone.run(async move {
        let (header, body) = announced("giant", GIB as u64);
        peer.send(&frame(header, &body)).await.expect("the connection stands");
        let zeros = vec![0; 1 << 20];
        for _ in 0..GIB / zeros.len() {
            peer.send(&zeros).await.expect("the connection stands");
        }
        let answer = peer.hear().await.expect("an answer");
        assert_eq!(answer.replies()[0].status, ItemStatus::TooLarge);
        assert_eq!(peer.put("small", b"value").await.status, ItemStatus::Ok);
        assert_eq!(peer.get("small").await.1, b"value");
        peer.remove("small").await;
    });
    lone.is_well(0);
}

#[test]
fn lengths_that_do_not_add_up() {
    let mut lone = start(8);
    let (header, body) = puts(&[("a", b"12345"), ("b", b"67890")]);
    let with = |payload_bytes, items| frame(Header { payload_bytes, items, ..header }, &body);
    bad(&mut lone, [&with(11, 2)[..], b"12345678901"].concat(), "payload length");
    bad(&mut lone, with(9, 2), "payload length");
    bad(&mut lone, with(0, 2), "payload length");
    bad(&mut lone, with(10, 1), "the key contains a NUL byte");
    bad(&mut lone, with(10, 3), "the message ends early");
    bad(&mut lone, with(10, 0), "bytes are left over after the message");
    let (header, body) = announced("empty", 0);
    bad(&mut lone, frame(header, &body), "value length");
    let (header, body) = announced("endless", u64::MAX);
    bad(&mut lone, frame(header, &body), "18446744073709551615 payload bytes, and the limit is");
    let (header, mut body) = keys(Opcode::Get, &["k"]);
    body[10] = 0x80;
    bad(&mut lone, frame(header, &body), "flag or reserved part of an item");
    let (header, mut body) = keys(Opcode::Get, &["key"]);
    *body.last_mut().expect("a name") = 0;
    bad(&mut lone, frame(header, &body), "NUL");
    bad(&mut lone, frame(Header::request(Opcode::RemoveMatching, 1, Epoch(1)), &[0; 7]), "ends early");
    bad(&mut lone, frame(Header::request(Opcode::ListKeys, 1, Epoch(1)), &[0; 12]), "tenant");
    bad(&mut lone, frame(Header::request(Opcode::TakeSlots, 1, Epoch(1)), &[0; 24]), "ends early");
}

#[test]
fn answers_and_hellos_are_no_requests() {
    let mut lone = start(9);
    let (header, body) = keys(Opcode::Get, &["k"]);
    bad(&mut lone, frame(Header { is_reply: true, ..header }, &body), "send requests here");
    bad(&mut lone, hello(), "send requests here");
    let refusal = Header { is_reply: true, refusal: Some(Refusal::Stale), ..header };
    bad(&mut lone, frame(refusal, b"no"), "send requests here");
}

#[test]
fn what_is_not_a_cores_business_is_refused_and_the_connection_stays() {
    let mut lone = start(10);
    let mut peer = lone.greet();
    let peer = lone.run(async move {
        for opcode in [Opcode::Register, Opcode::Heartbeat, Opcode::Leave, Opcode::OfferTable] {
            let answer = peer.ask(Header::request(opcode, 1, Epoch(1)), b"whatever", &[]).await;
            let (refusal, sentence) = answer.refusal();
            assert_eq!(refusal, Refusal::WrongRole);
            assert!(sentence.contains("membership is the master's business"), "{sentence}");
        }
        let pattern = RemoveMatching { cursor: 0, force: true, tenant: b"hostile", pattern: "(unclosed" };
        let header = Header::request(Opcode::RemoveMatching, 1, Epoch(1));
        let answer = peer.ask(header, &pattern.encode(), &[]).await;
        assert_eq!(answer.refusal().0, Refusal::BadPattern);
        let list = ListKeys { cursor: 0, keys_max: 1, tenant: b"hostile", pattern: "(unclosed" };
        let header_of_list = Header::request(Opcode::ListKeys, 1, Epoch(1));
        let answer = peer.ask(header_of_list, &list.encode(), &[]).await;
        assert_eq!(answer.refusal().0, Refusal::BadPattern);
        let endless = ListKeys { cursor: u32::MAX, keys_max: u32::MAX, pattern: "", ..list };
        let answer = peer.ask(header_of_list, &endless.encode(), &[]).await;
        assert!(KeyPage::decode(&answer.body).expect("a page").keys.is_empty());
        let greedy = RemoveMatching { pattern: "((a{1000}){1000}){1000}", ..pattern };
        let answer = peer.ask(header, &greedy.encode(), &[]).await;
        assert_eq!(answer.refusal().0, Refusal::BadPattern);
        assert_eq!(peer.put("after", b"all that").await.status, ItemStatus::Ok);
        peer.remove("after").await;
        peer
    });
    lone.is_well(1);
    drop(peer);
    lone.is_well(0);
}

#[test]
fn slots_are_not_given_to_whom_the_table_does_not_name() {
    let mut lone = start(11);
    let mut slots = SlotSet::new();
    Slot::all().for_each(|slot| slots.insert(slot));
    let take = TakeSlots { taker: CoreId::default(), incarnation: Incarnation(3), cursor: 0, slots };
    let mut peer = lone.greet();
    lone.run(async move {
        for (opcode, cursor) in [(Opcode::TakeSlots, 0), (Opcode::TakeSlots, 77), (Opcode::SlotsTaken, 0)] {
            let body = TakeSlots { cursor, ..take.clone() }.encode();
            let header = |epoch| Header::request(opcode, 1, Epoch(epoch));
            assert_eq!(peer.ask(header(0), &body, &[]).await.refusal().0, Refusal::Stale);
            assert_eq!(peer.ask(header(2), &body, &[]).await.refusal().0, Refusal::NotYet);
            let answer = peer.ask(header(1), &body, &[]).await;
            if opcode == Opcode::TakeSlots {
                let page = Page::decode(&answer.body).expect("a page");
                assert!(page.given.is_empty() && page.declined.is_empty() && page.entries.is_empty());
            }
        }
    });
    assert_eq!(lone.stats().slots_served, 65_536);
    lone.is_well(0);
}

#[test]
fn a_value_that_is_not_what_was_announced_is_not_stored() {
    let mut lone = start(12);
    let mut peer = lone.greet();
    let peer = lone.run(async move {
        let (header, body) = puts(&[("good", b"12345"), ("bad", b"67890"), ("also-good", b"abcde")]);
        let answer = peer.ask(header, &body, b"12345x7890abcde").await;
        let statuses: Vec<ItemStatus> = answer.replies().iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [ItemStatus::Ok, ItemStatus::ChecksumMismatch, ItemStatus::Ok]);
        assert_eq!(peer.get("bad").await.0.status, ItemStatus::Miss);
        for (key, value) in [("good", b"12345"), ("also-good", b"abcde")] {
            let (reply, found) = peer.get(key).await;
            assert_eq!((&found[..], reply.checksum), (&value[..], Checksum::of(value)));
        }
        peer
    });
    assert_eq!(lone.stats().puts_corrupt, 1);
    lone.is_well(1);
    drop(peer);
    lone.is_well(0);
}

#[test]
fn a_byte_every_tenth_of_a_second_slows_nobody_down() {
    let mut lone = start(13);
    let calm = (0..20).map(|_| lone.serves_its_friend()).max().expect("a longest time");
    let (header, body) = puts(&[("slow", b"0123456789")]);
    let bytes = [&frame(header, &body)[..], b"0123456789"].concat();
    let (mut peer, peers) = (lone.greet(), lone.peers.clone());
    let done = Rc::new(Cell::new(None));
    let end = done.clone();
    lone.peers.spawn(async move {
        for byte in bytes {
            peer.send(&[byte]).await.expect("the connection stands");
            peers.sleep(Duration::from_millis(100)).await;
        }
        end.set(peer.hear().await.map(|answer| answer.replies()[0].status));
    });
    let mut rounds = 0;
    while done.get().is_none() {
        let slowed = lone.serves_its_friend();
        assert!(slowed < 2 * calm, "{slowed:?} beside a slow peer, {calm:?} without");
        lone.stats();
        lone.pass(Duration::from_millis(30));
        rounds += 1;
        assert!(rounds < 2_000, "the slow peer's put does not end");
    }
    assert_eq!(done.get(), Some(ItemStatus::Ok));
    assert!(rounds > 100, "{rounds} rounds of the friend beside one put");
    lone.is_well(0);
}

/// Puts as many blocks as fit beside a little room; answers their keys.
fn fill(lone: &LoneCore) -> Vec<String> {
    let keys: Vec<String> = (0..12).map(|number| format!("block-{number}")).collect();
    let (mut peer, all) = (lone.greet(), keys.clone());
    lone.run(async move {
        for (number, key) in all.iter().enumerate() {
            assert_eq!(peer.put(key, &vec![number as u8; BLOCK]).await.status, ItemStatus::Ok);
        }
    });
    keys
}

/// Lets a peer ask for blocks, as often as its own window lets it, and never read an answer.
fn ask_and_never_read(lone: &LoneCore, requests: Vec<u8>) -> Peer {
    let (mut peer, peers) = (lone.greet(), lone.peers.clone());
    lone.run(async move {
        let deadline = peers.now() + Duration::from_secs(2);
        // Not all of it is taken when the core stops reading.
        let _ = snowskin_io::with_deadline(&peers, deadline, peer.send(&requests)).await;
        peers.sleep(Duration::from_millis(100)).await;
        peer
    })
}

#[test]
fn who_never_reads_pins_what_it_asked_for_and_no_more() {
    let mut lone = start(14);
    let blocks = fill(&lone);
    let requests = blocks.iter().cycle().take(100).map(|key| {
        let (header, body) = keys(Opcode::Get, &[key]);
        frame(header, &body)
    });
    let peer = ask_and_never_read(&lone, requests.collect::<Vec<_>>().concat());
    lone.serves_its_friend();
    let mut friend = lone.greet();
    let all = blocks.clone();
    lone.run(async move {
        for key in all {
            assert_eq!(friend.remove(&key).await.status, ItemStatus::Ok);
        }
    });
    let pinned = lone.stats().pinned_bytes;
    assert_eq!(
        pinned,
        (blocks.len() * BLOCK) as u64,
        "each block is pinned once, however often it is asked for"
    );
    lone.serves_its_friend();
    assert!(lone.sim.faults().cut(peer.connection()));
    lone.is_well(0);
    assert_eq!(lone.stats().live_bytes, 0);
    drop(peer);
}

#[test]
fn who_never_reads_is_not_read_from_either() {
    let mut lone = start(15);
    let blocks = fill(&lone);
    let few = keys(Opcode::Get, &[&blocks[0]]);
    let many_keys: Vec<&str> = blocks.iter().cycle().take(120).map(String::as_str).collect();
    let many = keys(Opcode::Get, &many_keys);
    // Single blocks stop at the number of replies that may wait, whole batches at their bytes.
    for ((header, body), count, limits) in [(few, 1_500, 250..=270), (many, 60, 8..=12)] {
        let before = lone.stats().data_frames_in;
        let peer = ask_and_never_read(&lone, frame(header, &body).repeat(count));
        let taken = lone.stats().data_frames_in - before;
        assert!(limits.contains(&taken), "{taken} of {count} requests were taken in");
        lone.serves_its_friend();
        drop(peer);
        lone.is_well(0);
    }
}

#[test]
fn who_reads_late_gets_everything() {
    let mut lone = start(16);
    let blocks = fill(&lone);
    let (header, body) = keys(Opcode::Get, &[&blocks[3]]);
    let mut peer = ask_and_never_read(&lone, frame(header, &body).repeat(600));
    lone.run(async move {
        for _ in 0..600 {
            let answer = peer.hear().await.expect("an answer");
            assert!(answer.payload == [3; BLOCK], "other bytes than were put");
        }
    });
    lone.is_well(0);
}

#[test]
fn one_connection_too_many() {
    let mut lone = LoneCore::start(17, MEMORY, 4);
    let mut strangers: Vec<Peer> = (0..3).map(|_| lone.greet()).collect();
    lone.is_well(3);
    is_turned_away(&lone);
    lone.is_well(3);
    strangers.pop();
    lone.is_well(2);
    strangers.push(lone.greet());
    lone.is_well(3);
    is_turned_away(&lone);
    strangers.clear();
    lone.is_well(0);
}

fn is_turned_away(lone: &LoneCore) {
    let answers = answers_to(lone, false, hello());
    assert_eq!(answers.len(), 1);
    let (refusal, sentence) = answers[0].refusal();
    assert_eq!(refusal, Refusal::Overloaded);
    assert!(sentence.contains("serves 4 connections already: try again later"), "{sentence}");
}

#[test]
fn a_burst_of_connections_is_counted() {
    for seed in 20..30 {
        // On a calm network all of them are there before the core serves the first one.
        let mut lone = LoneCore::on_network(seed, MEMORY, 4, NetworkOptions::calm());
        let (peers, address) = (lone.peers.clone(), lone.address());
        let outcomes = lone.run(async move {
            let attempts = (0..40).map(|_| async {
                let mut peer = Peer::connect(&peers, address).await.expect("somebody listens");
                peer.send(&hello()).await.expect("the connection stands");
                let answer = peer.hear().await.expect("an answer");
                (peer, answer.header.refusal)
            });
            futures_util::future::join_all(attempts).await
        });
        let refused = outcomes.iter().filter(|(_, refusal)| *refusal == Some(Refusal::Overloaded)).count();
        assert_eq!((refused, lone.stats().connections), (37, 4), "seed {seed}");
        drop(outcomes);
        lone.is_well(0);
    }
}

#[test]
fn an_epoch_that_nobody_made_costs_the_master_one_question() {
    let mut lone = start(18);
    let mut peer = lone.greet();
    let peer = lone.run(async move {
        let (header, body) = keys(Opcode::Lookup, &["k"]);
        let header = Header { epoch: Epoch(u64::MAX), ..header };
        assert_eq!(peer.ask(header, &body, &[]).await.replies()[0].status, ItemStatus::Miss);
        peer
    });
    let before = lone.reports.get();
    lone.pass(Duration::from_secs(10));
    let reports = lone.reports.get() - before;
    assert!((9..=13).contains(&reports), "{reports} reports in ten seconds");
    lone.is_well(1);
    drop(peer);
}

#[test]
fn many_attacks_at_once() {
    for seed in 100..110 {
        let mut lone = start(seed);
        let (header, body) = puts(&[("cut", &[1; 30_000])]);
        let put = [&frame(header, &body)[..], &[1; 29_000]].concat();
        let attacks = [
            put,
            b"garbage that is longer than a header would be, so that it is looked at".to_vec(),
            hello(),
            frame(Header { version: 7, ..header }, &body),
            sealed(vec![0; 64]),
        ];
        for round in 0..6_usize {
            for bytes in &attacks {
                let bytes = bytes.clone();
                let (peers, address) = (lone.peers.clone(), lone.address());
                lone.peers.spawn(async move {
                    peers.sleep(Duration::from_millis(peers.entropy() % 20)).await;
                    let Ok(mut peer) = Peer::connect(&peers, address).await else { return };
                    let _ = peer.send(&hello()).await;
                    let _ = peer.send(&bytes).await;
                    peers.sleep(Duration::from_millis(peers.entropy() % 20)).await;
                });
            }
            lone.serves_its_friend();
            lone.stats();
            lone.pass(Duration::from_millis(round as u64 * 3));
        }
        lone.is_well(0);
    }
}
