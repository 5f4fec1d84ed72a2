//! What is listed, beside what a get finds.

use super::*;
use crate::shard::Answer;
use crate::shard::tests::{NOW, empty_shard, get, hand_over, name, put, put_named, remove, shard, table};
use quickcheck::quickcheck;
use snowskin_io::Moment;
use snowskin_protocol::ObjectName;
use snowskin_protocol::limits::{BODY_BYTES_MAX, KEY_BYTES_MAX};
use snowskin_protocol::wire::data::{ItemStatus, KeyItem, PutHints};
use std::collections::BTreeMap;
use std::time::Duration;

/// Keys, with the bytes of their values.
type Listed = BTreeMap<Vec<u8>, u64>;

fn request(pattern: &str, keys_max: u32) -> ListKeys<'_> {
    ListKeys { cursor: 0, keys_max, tenant: b"t", pattern }
}

/// One step, added to what was listed before. Answers how many keys it had.
fn step(shard: &Shard, request: &mut ListKeys<'_>, listed: &mut Listed) -> usize {
    let pattern = (!request.pattern.is_empty()).then(|| Regex::new(request.pattern).unwrap());
    let body = shard.list_keys(request, pattern.as_ref());
    let page = KeyPage::decode(&body).unwrap();
    assert!(page.cursor > request.cursor && page.keys.len() <= request.keys_max as usize);
    request.cursor = page.cursor;
    listed.extend(page.keys.iter().map(|listed| (listed.key.to_vec(), listed.value_bytes)));
    page.keys.len()
}

/// All of it, step by step, and how many that were.
fn list(shard: &Shard, mut request: ListKeys<'_>) -> (Listed, usize) {
    let (mut listed, mut steps, mut keys) = (Listed::new(), 0, 0);
    while request.cursor != KeyPage::DONE {
        keys += step(shard, &mut request, &mut listed);
        steps += 1;
    }
    assert_eq!(keys, listed.len(), "some are listed twice");
    (listed, steps)
}

/// Whether a get of the key finds it, and how long its value is. (Like a get it leaves a lease.)
fn found(shard: &mut Shard, key: &str, now: Moment) -> Option<u64> {
    let name = name(key);
    let reply = match shard.get(name.as_ref().hashed(), &KeyItem::at_home(name.as_ref()), now) {
        Answer::Held(held) => held.reply,
        Answer::OnSsd(_, reply) | Answer::Not(reply) => reply,
    };
    matches!(reply.status, ItemStatus::Ok | ItemStatus::Elsewhere).then_some(reply.value_bytes)
}

fn put_other(shard: &mut Shard, key: &str) {
    let other = ObjectName::new("other", key.as_bytes()).unwrap();
    put_named(shard, &other, b"of another tenant", PutHints::default(), true, NOW);
}

quickcheck! {
    /// Memory is short, so that some are evicted; the walk stops and goes on between the steps of the history.
    fn what_is_listed_is_what_a_get_finds(history: Vec<(u8, u8, u16)>, keys_max: u8) -> bool {
        let mut shard = shard(16 * 512);
        let keys: Vec<String> = (0..24).map(|key| format!("k{key}")).collect();
        let mut now = NOW;
        let (mut walk, mut walked) = (request("", u32::from(keys_max % 5) + 1), Listed::new());
        let mut always: Option<Vec<usize>> = None;
        for (action, key, size) in history {
            now = now + Duration::from_secs(1);
            let text = &keys[usize::from(key % 24)];
            match action % 8 {
                0..4 => {
                    let (value, replace) = (vec![action; usize::from(size) % 3000 + 1], action % 2 == 0);
                    put_named(&mut shard, &name(text), &value, PutHints::default(), replace, now);
                }
                4 => put_other(&mut shard, text),
                5 => drop(remove(&mut shard, text, true, now)),
                _ if walk.cursor != KeyPage::DONE => drop(step(&shard, &mut walk, &mut walked)),
                _ => {}
            }
            let held = |shard: &mut Shard| (0..24).filter(|key| found(shard, &keys[*key], now).is_some()).collect::<Vec<_>>();
            let held: Vec<usize> = held(&mut shard);
            match &mut always {
                None => always = Some(held),
                Some(always) => always.retain(|key| held.contains(key)),
            }
            let expected: Listed = keys.iter().filter_map(|key| {
                Some((key.clone().into_bytes(), found(&mut shard, key, now)?))
            }).collect();
            assert_eq!(list(&shard, request("", u32::from(keys_max % 5) + 1)).0, expected);
            let odd = expected.into_iter().filter(|(key, _)| key.ends_with(b"1")).collect::<Listed>();
            assert_eq!(list(&shard, request("1$", 1_000)).0, odd);
        }
        while walk.cursor != KeyPage::DONE {
            step(&shard, &mut walk, &mut walked);
        }
        always.unwrap_or_default().iter().all(|key| walked.contains_key(keys[*key].as_bytes()))
    }
}

#[test]
fn a_step_is_bounded_in_rows_keys_and_bytes() {
    let mut shard = shard(8 << 20);
    for key in 0..5_000 {
        put(&mut shard, &format!("key-{key}"), b"v");
    }
    let all = list(&shard, request("", u32::MAX));
    assert_eq!((all.0.len(), all.1), (5_000, 2));
    assert_eq!(list(&shard, request("", 100)).1, 50);
    let matched = list(&shard, request("-4999$", 100));
    assert_eq!((matched.0.len(), matched.1), (1, 5_000_usize.div_ceil(MATCHED_ROWS_PER_STEP as usize)));
    for key in 0..500 {
        put(&mut shard, &format!("{key:0>width$}", width = KEY_BYTES_MAX), b"v");
    }
    assert_eq!(list(&shard, request("", u32::MAX)).0.len(), 5_500);
    let body = shard.list_keys(&ListKeys { cursor: 5_000, ..request("", u32::MAX) }, None);
    assert!(body.len() <= BODY_BYTES_MAX && KeyPage::decode(&body).unwrap().cursor < 5_500);
    // From a place where no row is, and never was.
    let beyond = shard.list_keys(&ListKeys { cursor: 70_000, ..request("", 1) }, None);
    assert_eq!(KeyPage::decode(&beyond).unwrap(), KeyPage { cursor: KeyPage::DONE, keys: Vec::new() });
}

#[test]
fn who_lists_has_no_lease() {
    let mut shard = shard(1 << 16);
    put(&mut shard, "k", b"value");
    assert_eq!(list(&shard, request("", 9)).0, [(b"k".to_vec(), 5)].into());
    assert_eq!(remove(&mut shard, "k", false, NOW).status, ItemStatus::Ok);
}

#[test]
fn keys_are_listed_by_the_home_of_their_slot() {
    let (mut old, mut new) = (shard(1 << 16), empty_shard(1, 1 << 16));
    put(&mut old, "k", b"bytes");
    for shard in [&mut old, &mut new] {
        shard.apply_table(&table(2, 1, 0));
        assert!(list(shard, request("", 9)).0.is_empty(), "who has given it up, and who has not got it yet");
    }
    hand_over(&mut old, &mut new);
    assert_eq!(get(&mut new, "k", NOW).unwrap_err().status, ItemStatus::Elsewhere);
    assert_eq!(list(&new, request("", 9)).0, [(b"k".to_vec(), 5)].into());
    assert!(list(&old, request("", 9)).0.is_empty(), "its bytes are here, and it is not ours");
}
