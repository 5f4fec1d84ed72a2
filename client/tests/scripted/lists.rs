//! Lists of keys.

use crate::fake::{Fake, Trick};
use crate::{block, client, keys, until_epoch};
use snowskin_client::{BlockingClient, Error, KeyPage, ListedKey};
use snowskin_protocol::wire::{Opcode, Refusal};

/// Puts so many keys, each with a value of another length.
fn put(client: &BlockingClient, count: usize) -> Vec<ListedKey> {
    let keys = keys(count);
    let values: Vec<Vec<u8>> = (1..=count).map(|bytes| vec![7; bytes]).collect();
    let items: Vec<(&[u8], &[u8])> =
        keys.iter().zip(&values).map(|(key, value)| (&key[..], &value[..])).collect();
    assert!(client.put(&items).iter().all(Result::is_ok));
    let listed = |(key, value): (Vec<u8>, Vec<u8>)| ListedKey { key, value_bytes: value.len() as u64 };
    keys.into_iter().zip(values).map(listed).collect()
}

/// All pages of so many keys, sorted.
fn list(client: &BlockingClient, pattern: &str, limit: usize) -> Vec<ListedKey> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let KeyPage { keys, next } = client.list_keys(pattern, limit, after).unwrap();
        assert!(keys.len() <= limit.max(1) && (next.is_none() || keys.len() == limit.max(1)));
        all.extend(keys);
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

#[test]
fn keys_of_all_cores_are_listed_once() {
    let fake = Fake::start(3, 3);
    let client = client(&fake);
    assert_eq!(client.list_keys("", 10, None), Ok(KeyPage::default()));
    let mut held = put(&client, 40);
    held.sort_by(|a, b| a.key.cmp(&b.key));
    for limit in [0, 1, 3, 7, 40, usize::MAX] {
        assert_eq!(list(&client, "", limit), held, "{limit} at a time");
    }
    held.retain(|listed| listed.key.ends_with(b"9"));
    assert_eq!(list(&client, "9", 2), held);
    let page = block(client.asynchronous().list_keys("9".to_owned(), 2, None)).unwrap();
    assert_eq!(Ok(page), client.list_keys("9", 2, None));
    let counters = client.counters();
    let asked = (0..3).flat_map(|core| fake.asked(core)).filter(|asked| *asked == Opcode::ListKeys).count();
    assert_eq!(counters.frames_sent.list_keys, asked as u64);
    assert_eq!(counters.frames_sent, counters.frames_received);
}

#[test]
fn a_listing_whose_keys_have_moved_is_begun_anew() {
    let fake = Fake::start(2, 2);
    let client = client(&fake);
    put(&client, 20);
    let first = client.list_keys("", 5, None).unwrap();
    fake.move_slots_to(&[1, 0]);
    until_epoch(&client, 2);
    assert_eq!(client.list_keys("", 5, first.next), Err(Error::KeysMoved));
    assert_eq!(list(&client, "", 5).len(), 20);
    // While a page is made: nobody has to hear of it, unless others come before.
    let first = client.list_keys("", 5, None).unwrap();
    let moved = || {
        fake.move_slots_to(&[0, 1]);
        fake.trick(0, Trick::Refuse(Refusal::Stale));
        fake.trick(1, Trick::Refuse(Refusal::Stale));
    };
    moved();
    assert_eq!(client.list_keys("", 15, first.next), Err(Error::KeysMoved));
    moved();
    assert_eq!(client.list_keys("", usize::MAX, None).unwrap().keys.len(), 20);
}

#[test]
fn what_is_no_list_is_an_error() {
    let fake = Fake::start(1, 1);
    let client = client(&fake);
    put(&client, 5);
    assert!(matches!(client.list_keys(&"x".repeat(5_000), 1, None), Err(Error::BadPattern(_))));
    fake.trick(0, Trick::Refuse(Refusal::BadPattern));
    assert_eq!(client.list_keys("(", 1, None), Err(Error::BadPattern("because".into())));
    fake.trick(0, Trick::Refuse(Refusal::NotYet));
    assert_eq!(client.list_keys("", 10, None).unwrap().keys.len(), 5);
    for (pattern, reason) in [("greedy", "number of keys"), ("garbled", "ends early")] {
        let error = client.list_keys(pattern, 2, None).unwrap_err();
        assert!(matches!(&error, Error::Broken { reason: said, .. } if said.contains(reason)), "{error:?}");
    }
    fake.trick(0, Trick::FreezeAt(0));
    let hasty = client.with_deadline(std::time::Duration::from_millis(100));
    assert_eq!(hasty.list_keys("", 10, None), Err(Error::Deadline));
}
