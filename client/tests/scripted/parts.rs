//! Values in several pieces.

use crate::fake::Fake;
use crate::{block, client, hit, name};
use snowskin_client::{Client, ClientConfig, Error, Found, MissReason, PutOptions, PutOutcome};
use snowskin_protocol::wire::data::PutHints;

#[test]
fn values_in_pieces_are_put_each_with_its_options() {
    let fake = Fake::start(2, 2);
    let client = client(&fake);
    let pinned = PutOptions { hard_pin: true, ..PutOptions::default() };
    let grouped = PutOptions { group: Some(b"g".to_vec()), ..PutOptions::default() };
    let (large, other): (Vec<u8>, Vec<u8>) = (vec![b'x'; 100_000], vec![b'y'; 9_000]);
    let (first, second): ([&[u8]; 3], [&[u8]; 2]) = ([b"in ", &large, b"pieces"], [b"", &other]);
    let items: [(&[u8], &[&[u8]], PutOptions); 4] = [
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
    let items: [(&[u8], &[&[u8]], PutOptions); 2] =
        [(b"\0", &second, pinned.clone()), (b"second", &first, pinned)];
    assert_eq!(client.upsert_parts_with(&items)[1], Ok(PutOutcome::Stored));
    assert_eq!(hints_of(b"second").flags, PutHints::HARD_PIN);
    assert_eq!(client.get(&[b"first", b"second"]), [hit(b"new"), hit(&first.concat())]);
}

#[test]
fn the_asynchronous_client_puts_pieces_of_anybodys_memory() {
    let fake = Fake::start(2, 2);
    let client = block(Client::connect(ClientConfig::new([fake.addresses[0]]))).unwrap();
    let (sender, dropped) = std::sync::mpsc::channel();
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
        dropped.recv_timeout(std::time::Duration::from_secs(5)).expect("nobody keeps a piece");
    }
}

/// Memory that tells when nobody uses it any more.
struct Owner(Vec<u8>, std::sync::mpsc::Sender<()>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // The test may have failed already.
        let _ = self.1.send(());
    }
}
