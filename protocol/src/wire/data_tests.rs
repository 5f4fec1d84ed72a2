use super::*;
use crate::key::ObjectName;
use quickcheck::quickcheck;

fn name(key: &str) -> ObjectName {
    ObjectName::new("default", key.as_bytes()).unwrap()
}

#[test]
fn a_batch_of_puts() {
    let mut writer = BatchWriter::default();
    let names = [name("a"), name("bb"), name("ccc")];
    for (index, name) in names.iter().enumerate() {
        writer.push(PutItem::new(name.as_ref(), index as u64 + 1, Checksum(7)), name.as_ref());
    }
    let body = writer.finish();
    let batch = Batch::<PutItem>::decode(3, &body).unwrap();
    assert_eq!(batch.len(), 3);
    for (index, (item, found)) in batch.iter().enumerate() {
        assert_eq!(item.value_bytes, index as u64 + 1);
        assert_eq!(found, names[index].as_ref());
    }
    assert_eq!(batch.check_payload(6), Ok(()));
    assert_eq!(batch.check_payload(7), Err(WireError::Value("payload length")));
}

#[test]
fn counts_names_and_lengths_are_checked() {
    let name = name("k");
    let mut writer = BatchWriter::default();
    writer.push(KeyItem::at_home(name.as_ref()), name.as_ref());
    let body = writer.finish();
    assert!(Batch::<KeyItem>::decode(1, &body).is_ok());
    assert!(matches!(Batch::<KeyItem>::decode(2, &body), Err(WireError::Short(_))));
    assert!(matches!(Batch::<KeyItem>::decode(0, &body), Err(WireError::Long(_))));
    let mut bad = body.clone();
    *bad.last_mut().unwrap() = 0;
    assert!(matches!(Batch::<KeyItem>::decode(1, &bad), Err(WireError::Name(_))));
    for (at, unknown) in [(10, 8), (11, 6)] {
        let mut body = body.clone();
        body[at] = unknown;
        let refused = WireError::Value("flag or reserved part of an item");
        assert_eq!(Batch::<KeyItem>::decode(1, &body).map(|batch| batch.len()), Err(refused));
    }
    let mut writer = BatchWriter::default();
    writer.push(PutItem::new(name.as_ref(), 1, Checksum(0)), name.as_ref());
    let body = writer.finish();
    for (at, unknown) in [(36, 32), (37, 16), (42, 1)] {
        let mut body = body.clone();
        body[at] = unknown;
        let refused = WireError::Value("flag or reserved part of an item");
        assert_eq!(Batch::<PutItem>::decode(1, &body).map(|batch| batch.len()), Err(refused), "{at}");
    }
}

#[test]
fn hints_say_how_many_replicas_and_cores_are_named_briefly() {
    for (asked, said) in [(0, 0), (1, 1), (15, 15), (1000, 15)] {
        let flags = PutHints::DURABLE | PutHints::HARD_PIN;
        let hints = PutHints { flags, ..PutHints::default() }.with_more_replicas(asked);
        assert_eq!((hints.more_replicas(), hints.has(PutHints::DURABLE)), (said, true));
        assert_eq!(hints.with_more_replicas(0).flags, flags);
    }
    let name = name("k");
    let core = |core| CoreId { engine: EngineId(7), core };
    let item = KeyItem::at_holder(name.as_ref(), Version(1));
    assert!(item.is_of_holder(core(1)) && item.is_of_holder(core(2)), "it does not say of whom");
    let item = item.of_holder(core(1));
    assert!(item.is_of_holder(core(1)) && !item.is_of_holder(core(2)) && item.holder != 0);
}

#[test]
fn empty_values_and_overflowing_sums_are_refused() {
    let name = name("k");
    let mut writer = BatchWriter::default();
    writer.push(PutItem::new(name.as_ref(), 0, Checksum(0)), name.as_ref());
    let body = writer.finish();
    let batch = Batch::<PutItem>::decode(1, &body).unwrap();
    assert_eq!(batch.check_payload(0), Err(WireError::Value("value length")));
    let mut writer = BatchWriter::default();
    for _ in 0..2 {
        writer.push(PutItem::new(name.as_ref(), u64::MAX, Checksum(0)), name.as_ref());
    }
    let body = writer.finish();
    let batch = Batch::<PutItem>::decode(2, &body).unwrap();
    assert!(matches!(batch.check_payload(u64::MAX - 1), Err(WireError::TooMany { .. })));
}

#[test]
fn replies_round_trip() {
    let replies = [
        ItemReply::miss(MissReason::Evicted),
        ItemReply { value_bytes: 5, lease_ms: 9, checksum: Checksum(3), ..ItemReply::status(ItemStatus::Ok) },
        ItemReply {
            holder: CoreId { engine: EngineId(77), core: 3 },
            version: Version(12),
            ..ItemReply::status(ItemStatus::Elsewhere)
        },
    ];
    let mut body = Vec::new();
    replies.iter().for_each(|reply| reply.encode(&mut body));
    assert_eq!(decode_replies(3, &body), Ok(replies.to_vec()));
    body[0] = 99;
    assert_eq!(decode_replies(3, &body), Err(WireError::Value("item status")));
    body[0] = ItemStatus::Ok as u8;
    assert_eq!(decode_replies(3, &body), Err(WireError::Value("miss reason")));
}

#[test]
fn remove_matching_round_trip() {
    let request = RemoveMatching { cursor: 4096, force: true, tenant: b"default", pattern: "^llama-.*/7$" };
    assert_eq!(RemoveMatching::decode(&request.encode()), Ok(request));
    for tenant in [&b""[..], &[b't'; TENANT_BYTES_MAX + 1]] {
        assert!(RemoveMatching::decode(&RemoveMatching { tenant, ..request }.encode()).is_err());
    }
    let long = "x".repeat(PATTERN_BYTES_MAX + 1);
    let long = RemoveMatching { pattern: &long, ..request };
    assert!(matches!(RemoveMatching::decode(&long.encode()), Err(WireError::TooMany { .. })));
}

quickcheck! {
    fn garbage_bodies_never_panic(count: u16, body: Vec<u8>) -> bool {
        let count = u32::from(count);
        let puts = Batch::<PutItem>::decode(count, &body).map(|batch| batch.iter().count());
        let keys = Batch::<KeyItem>::decode(count, &body).map(|batch| batch.iter().count());
        let _ = decode_replies(count, &body);
        let _ = RemoveMatching::decode(&body);
        let _ = RemovedStep::decode(&body);
        puts.is_ok_and(|n| n == count as usize) || keys.is_ok_and(|n| n == count as usize) || count != 0 || !body.is_empty()
    }
}
