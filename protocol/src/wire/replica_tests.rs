use super::*;
use crate::key::ObjectName;

fn order(name: &ObjectName) -> ReplicaOrder<'_> {
    let core = |engine, core| CoreId { engine: EngineId(engine), core };
    ReplicaOrder {
        verb: ReplicaVerb::Keep,
        home: (core(1, 2), Incarnation(3)),
        source: core(4, 5),
        name: name.as_ref(),
        version: Version(6),
        value_bytes: 7,
        checksum: Checksum(8),
        lease_ms: 9,
    }
}

#[test]
fn what_is_written_is_read() {
    let name = ObjectName::new("t", b"key").unwrap();
    for verb in [ReplicaVerb::Take, ReplicaVerb::Keep, ReplicaVerb::Release] {
        let order = ReplicaOrder { verb, ..order(&name) };
        assert_eq!(ReplicaOrder::decode(&order.encode()), Ok(order));
    }
    for status in [ReplicaStatus::Done, ReplicaStatus::Absent, ReplicaStatus::NotYet] {
        let reply = ReplicaReply { status, capacity_bytes: 3, free_bytes: 2, free_range_bytes_max: 1 };
        let mut body = Vec::new();
        reply.encode(&mut body);
        assert_eq!(ReplicaReply::decode(&body), Ok(reply));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let name = ObjectName::new("t", b"key").unwrap();
    let good = order(&name).encode();
    let with = |at: usize, byte: u8| {
        let mut body = good.clone();
        body[at] = byte;
        ReplicaOrder::decode(&body).unwrap_err()
    };
    assert_eq!(with(56, 0), WireError::Value("verb of an order"));
    assert_eq!(with(56, 4), WireError::Value("verb of an order"));
    assert_eq!(with(57, 1), WireError::Value("reserved part of an order"));
    assert_eq!(with(0, 0), WireError::Value("version"));
    assert_eq!(with(8, 0), WireError::Value("value length"));
    assert_eq!(with(15, 0x80), WireError::Value("value length"));
    assert!(matches!(ReplicaOrder::decode(&good[..64]), Err(WireError::Name(_))));
    assert!(matches!(ReplicaOrder::decode(&good[..63]), Err(WireError::Short(1))));

    let mut reply = Vec::new();
    let status = ReplicaStatus::Done;
    ReplicaReply { status, capacity_bytes: 3, free_bytes: 2, free_range_bytes_max: 1 }.encode(&mut reply);
    let with = |at: usize| {
        let mut body = reply.clone();
        body[at] = 9;
        ReplicaReply::decode(&body).unwrap_err()
    };
    assert_eq!(with(24), WireError::Value("status of a holder's answer"));
    assert_eq!(with(25), WireError::Value("reserved part of a holder's answer"));
    assert_eq!(ReplicaReply::decode(&reply[1..]), Err(WireError::Short(1)));
    reply.push(0);
    assert_eq!(ReplicaReply::decode(&reply), Err(WireError::Long(1)));
}
