use super::*;
use crate::key::ObjectName;
use quickcheck::quickcheck;

fn report() -> Report {
    Report {
        member: Member {
            id: CoreId { engine: EngineId(5), core: 1 },
            incarnation: Incarnation(6),
            address: "[::1]:7401".parse().unwrap(),
            weight: 1024,
        },
        engine_cores: 2,
        slots_moving: 7,
        keeps: true,
        epoch: Epoch(3),
        load: Load { capacity_bytes: 1 << 30, free_bytes: 5, ..Load::default() },
    }
}

#[test]
fn report_round_trip() {
    assert_eq!(Report::decode(&report().encode()), Ok(report()));
    let coreless = Report { engine_cores: 0, ..report() };
    assert_eq!(Report::decode(&coreless.encode()), Err(WireError::Value("number of cores")));
    let mut odd = report().encode();
    let flag_at = odd.len() - 6;
    assert_eq!(odd[flag_at], 1);
    odd[flag_at] = 2;
    assert_eq!(Report::decode(&odd), Err(WireError::Value("flag of the report")));
}

#[test]
fn orders_are_checked() {
    let orders = Orders {
        epoch: Epoch(4),
        settings: Settings::default(),
        wants_table: 1,
        wants_register: 0,
        heritage: 2,
        reserved: [0; 5],
    };
    assert_eq!(Orders::decode(bytemuck::bytes_of(&orders)), Ok(orders));
    assert_eq!(Orders::decode(&[0; 32]), Err(WireError::Value("settings")));
    let heritage = |heritage| Orders { heritage, ..orders }.heritage();
    let all = [Heritage::Unknown, Heritage::Remembered, Heritage::Forgotten];
    assert_eq!([heritage(0), heritage(1), heritage(2)], all);
    let odd = [
        Orders { wants_table: 2, ..orders },
        Orders { heritage: 3, ..orders },
        Orders { reserved: [1, 0, 0, 0, 0], ..orders },
    ];
    for odd in odd {
        let refused = Err(WireError::Value("flag or reserved part of the orders"));
        assert_eq!(Orders::decode(bytemuck::bytes_of(&odd)), refused);
    }
}

#[test]
fn take_slots_round_trip() {
    let mut slots = SlotSet::new();
    [0, 63, 64, 65_535].into_iter().for_each(|slot| slots.insert(Slot(slot)));
    assert_eq!(slots.len(), 4);
    assert_eq!(slots.iter().map(|slot| slot.0).collect::<Vec<_>>(), [0, 63, 64, 65_535]);
    let take = TakeSlots { taker: report().member.id, incarnation: Incarnation(6), cursor: 9, slots };
    assert_eq!(TakeSlots::decode(&take.encode()), Ok(take.clone()));
    assert!(TakeSlots::decode(&take.encode()[1..]).is_err());
}

#[test]
fn pages_round_trip() {
    let names = [ObjectName::new("default", b"a").unwrap(), ObjectName::new("other", b"b").unwrap()];
    let (mut given, declined) = (SlotSet::new(), SlotSet::new());
    given.insert(Slot(7));
    let mut page = PageWriter::new(&given, &declined);
    for (index, name) in names.iter().enumerate() {
        page.push(&Entry {
            name: name.as_ref(),
            version: Version(index as u64 + 1),
            value_bytes: 9,
            checksum: Checksum(1),
            holder: CoreId { engine: EngineId(2), core: 3 },
            lease_ms: 4,
            is_kept: index == 1,
        });
    }
    let body = page.finish(LAST_PAGE);
    let page = Page::decode(&body).unwrap();
    assert_eq!((page.cursor, &page.given, &page.declined), (LAST_PAGE, &given, &declined));
    assert_eq!(page.entries.len(), 2);
    assert_eq!(page.entries[1].name, names[1].as_ref());
    assert_eq!(page.entries[1].version, Version(2));
    assert_eq!((page.entries[0].is_kept, page.entries[1].is_kept), (false, true));
    let mut strange = body.clone();
    strange[8 + 2 * SLOT_COUNT / 8 + 40] = 2;
    assert_eq!(Page::decode(&strange), Err(WireError::Value("flag or reserved part of an entry")));
    assert!(Page::decode(&body[..body.len() - 1]).is_err());
}

quickcheck! {
    fn garbage_never_panics(body: Vec<u8>) -> bool {
        let _ = Page::decode(&body);
        let _ = Report::decode(&body);
        let _ = Orders::decode(&body);
        TakeSlots::decode(&body).is_err()
    }
}
