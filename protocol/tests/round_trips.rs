//! Every message there is: what is written is read back, and what is not quite what was written is refused, or read
//! as what would have been written so. Nothing panics.
//!
//! | operation | bodies | property |
//! |---|---|---|
//! | all | the header | `frames` |
//! | `Hello` | hello, welcome | `greetings` |
//! | `Put`, `Upsert` | a batch of put items, replies | `puts`, `replies` |
//! | `Get`, `Lookup`, `MatchPrefix`, `Remove`, `Forget`, `DropReplicas` | a batch of key items, replies | `keys`, `replies` |
//! | `RemoveMatching` | a step, its answer | `removals` |
//! | `ListKeys` | a step, its answer | `lists` |
//! | `Table`, `OfferTable` | a routing table | `tables` |
//! | `Stats` | counters | `stats` |
//! | `Admin` | a request, a reply | `admin` |
//! | `Register`, `Heartbeat`, `Leave` | a report, orders | `reports`, `orders` |
//! | `TakeSlots`, `SlotsTaken`, `OfferReplicas`, `ReplicasClaimed` | a question, a page of entries | `questions_for_slots`, `pages` |
//! | `Replica` | an order, the holder's answer | `orders_of_replicas` |

use bytemuck::bytes_of;
use quickcheck::{QuickCheck, quickcheck};
use snowskin_protocol::code::MissReason;
use snowskin_protocol::limits::{
    BATCH_ITEMS_MAX, HEADER_BYTES, KEY_BYTES_MAX, TENANT_BYTES_MAX, VALUE_BYTES_MAX,
};
use snowskin_protocol::table::{LOST, NOBODY};
use snowskin_protocol::wire::admin::{AdminReply, AdminRequest, Evict, Mount, Unmount};
use snowskin_protocol::wire::control::{Entry, Load, Orders, Page, PageWriter, Report, SlotSet, TakeSlots};
use snowskin_protocol::wire::data::{
    Batch, BatchWriter, ItemReply, ItemStatus, KeyItem, NamedItem, PutHints, PutItem, RemoveMatching,
    RemovedStep, decode_replies,
};
use snowskin_protocol::wire::hello::{Hello, ROLE_CORE, ROLE_MASTER, Welcome};
use snowskin_protocol::wire::list::{KeyPage, KeyPageWriter, ListKeys, ListedKey};
use snowskin_protocol::wire::replica::{ReplicaOrder, ReplicaReply, ReplicaStatus, ReplicaVerb};
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::wire::{Header, Opcode, Refusal};
use snowskin_protocol::{
    Checksum, CoreId, EngineId, Epoch, Incarnation, Life, Member, ObjectName, RoutingTable, SLOT_COUNT,
    Settings, Slot, Version,
};
use std::net::{IpAddr, SocketAddr};

/// Bytes of a body in which every single bit is flipped; of longer ones, the ends, and some between.
const TRIED_WHOLE: usize = 2048;

/// A message read, and what was read written again.
type Rewrite<'a> = &'a dyn Fn(&[u8]) -> Option<Vec<u8>>;

/// The places of a message that are worth a try: all, or the ends and `between` others.
fn places(bytes: usize, between: usize) -> impl Iterator<Item = usize> {
    let step = ((bytes.saturating_sub(TRIED_WHOLE)) / between).max(1);
    let is_near_end = move |at: usize| at < TRIED_WHOLE / 2 || at + TRIED_WHOLE / 2 >= bytes;
    (0..bytes).filter(move |&at| is_near_end(at) || at.is_multiple_of(step))
}

/// That `good` is read and written again, and that so is all that is accepted of what is like it: cut off anywhere,
/// longer by a byte, with any bit flipped at one of the places.
fn holds(good: &[u8], tried: impl Iterator<Item = usize>, rewrite: Rewrite<'_>) -> bool {
    assert_eq!(rewrite(good).as_deref(), Some(good), "a message is not read back as it was written");
    let plausible = |bytes: &[u8]| rewrite(bytes).is_none_or(|again| again == bytes);
    let mut bytes = good.to_vec();
    for at in tried {
        assert!(plausible(&good[..at]), "cut at {at}");
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            assert!(plausible(&bytes), "bit {bit} of byte {at}");
            bytes[at] ^= 1 << bit;
        }
    }
    bytes.push(0);
    plausible(&bytes)
}

/// As above, for a message of fixed length: every cut and every longer one is refused.
fn holds_at_this_length(good: &[u8], rewrite: Rewrite<'_>) -> bool {
    let refused = |bytes: &[u8]| rewrite(bytes).is_none();
    (0..good.len()).all(|cut| refused(&good[..cut]))
        && refused(&[good, &[0]].concat())
        && holds(good, 0..good.len(), rewrite)
}

fn core((engine, core): (u64, u16)) -> CoreId {
    CoreId { engine: EngineId(engine), core }
}

/// Any tenant and key, made valid.
fn name((tenant, key): &(Vec<u8>, Vec<u8>)) -> ObjectName {
    let letters = tenant.iter().map(|byte| char::from(b'a' + byte % 26));
    let tenant: String = letters.chain(['t']).take(TENANT_BYTES_MAX).collect();
    let key: Vec<u8> = key.iter().map(|byte| *byte.max(&1)).chain([1]).take(KEY_BYTES_MAX).collect();
    ObjectName::new(&tenant, &key).unwrap()
}

/// `(engine, core), (incarnation, weight), (address, port)`
type AnyMember = ((u64, u16), (u64, u32), (IpAddr, u16));

fn member(((engine, number), (incarnation, weight), (ip, port)): AnyMember) -> Member {
    Member {
        id: core((engine, number)),
        incarnation: Incarnation(incarnation),
        address: SocketAddr::new(ip, port),
        weight,
    }
}

fn slots(numbers: &[u16]) -> SlotSet {
    let mut set = SlotSet::new();
    numbers.iter().for_each(|number| set.insert(Slot(*number)));
    set
}

/// A valid header: only what may have a payload has one, only replies refuse.
fn header(
    (opcode, is_reply, items): (usize, bool, u32),
    numbers: (u64, u64, u64, u32),
    refusal: usize,
) -> Header {
    let opcode = Opcode::ALL[opcode % Opcode::ALL.len()];
    let has_payload = if is_reply { opcode.reply_has_payload() } else { opcode.request_has_payload() };
    let refusals = [None].into_iter().chain(Refusal::ALL.map(Some)).collect::<Vec<_>>();
    Header {
        is_reply,
        items: items % (BATCH_ITEMS_MAX as u32 + 1),
        payload_bytes: if has_payload { numbers.2 } else { 0 },
        deadline_ms: numbers.3,
        refusal: if is_reply { refusals[refusal % refusals.len()] } else { None },
        ..Header::request(opcode, numbers.0, Epoch(numbers.1))
    }
}

/// The header with its own checksum put right, as a peer would send it that means what it says.
fn sealed(head: &[u8]) -> [u8; HEADER_BYTES] {
    let mut head: [u8; HEADER_BYTES] = head.try_into().expect("a header");
    let checksum = Checksum::of(&head[..HEADER_BYTES - 8]);
    head[HEADER_BYTES - 8..].copy_from_slice(&checksum.0.to_le_bytes());
    head
}

quickcheck! {
    fn frames(kind: (usize, bool, u32), numbers: (u64, u64, u64, u32), refusal: usize, body: Vec<u8>) -> bool {
        let header = header(kind, numbers, refusal);
        let frame = [&header.encode(&body)[..], &body].concat();
        let read = |frame: &[u8]| {
            let (head, body) = frame.split_first_chunk::<HEADER_BYTES>()?;
            let (header, checksum) = Header::decode(head).ok()?;
            let is_whole = header.body_bytes as usize == body.len() && checksum == Checksum::of(body);
            is_whole.then_some(header)
        };
        assert_eq!(read(&frame), Some(Header { body_bytes: body.len() as u32, ..header }));
        // On the wire: no damage of a bit and no cut gets through.
        let mut damaged = frame.clone();
        for at in 0..frame.len() {
            assert_eq!(read(&frame[..at]), None, "cut at {at}");
            for bit in 0..8 {
                damaged[at] ^= 1 << bit;
                assert_eq!(read(&damaged), None, "bit {bit} of byte {at}");
                damaged[at] ^= 1 << bit;
            }
        }
        // From a peer that means it: what is accepted for this body is what we would have written.
        for bit in 0..(HEADER_BYTES - 8) * 8 {
            let mut head = frame[..HEADER_BYTES].to_vec();
            head[bit / 8] ^= 1 << (bit % 8);
            let head = sealed(&head);
            if let Ok((read, checksum)) = Header::decode(&head)
                && (read.body_bytes as usize, checksum) == (body.len(), Checksum::of(&body))
            {
                assert_eq!(read.encode(&body), head, "bit {bit} flipped: {read:?}");
                let opcode = read.opcode;
                let may_pay = if read.is_reply { opcode.reply_has_payload() } else { opcode.request_has_payload() };
                assert!(may_pay || read.payload_bytes == 0, "{read:?}");
                assert!(read.is_reply || read.refusal.is_none(), "{read:?}");
                assert!(read.items as usize <= BATCH_ITEMS_MAX, "{read:?}");
            }
        }
        true
    }

    fn greetings(versions: (u16, u16), welcome: (u16, bool), who: (u64, u16), lives: (u64, u64)) -> bool {
        let hello = Hello { version_min: versions.0, version_max: versions.1, reserved: 0 };
        assert_eq!(Hello::decode(bytes_of(&hello)), Ok(hello));
        let role = if welcome.1 { ROLE_CORE } else { ROLE_MASTER };
        let whole = Welcome::of_core(welcome.0, core(who), Incarnation(lives.0), Epoch(lives.1));
        let welcome = Welcome { role, ..whole };
        assert_eq!(Welcome::decode(bytes_of(&welcome)), Ok(welcome));
        assert_eq!(welcome.core_id(), core(who));
        holds_at_this_length(bytes_of(&hello), &|body| Some(bytes_of(&Hello::decode(body).ok()?).to_vec()))
            && holds_at_this_length(bytes_of(&welcome), &|body| {
                let welcome = Welcome::decode(body).ok()?;
                assert!([ROLE_CORE, ROLE_MASTER].contains(&welcome.role));
                Some(bytes_of(&welcome).to_vec())
            })
    }
}

fn written<T: NamedItem>(items: &[(T, ObjectName)]) -> Vec<u8> {
    let mut writer = BatchWriter::default();
    items.iter().for_each(|(item, name)| writer.push(*item, name.as_ref()));
    assert_eq!(writer.count() as usize, items.len());
    writer.finish()
}

/// Whether an item means something, said once more than in the code.
type Means<T> = fn(&T) -> bool;

fn rewritten<T: NamedItem>(count: u32, body: &[u8], means: Means<T>) -> Option<Vec<u8>> {
    let batch = Batch::<T>::decode(count, body).ok()?;
    let items: Vec<(T, ObjectName)> = batch.iter().map(|(item, name)| (item, name.to_owned())).collect();
    assert!(items.iter().all(|(item, _)| means(item)));
    Some(written(&items))
}

/// A batch is read back item by item, also with another count than it has.
fn batch_holds<T: NamedItem + PartialEq + std::fmt::Debug>(
    items: &[(T, ObjectName)],
    means: Means<T>,
) -> bool {
    let (body, count) = (written(items), items.len() as u32);
    let batch = Batch::<T>::decode(count, &body).expect("as it was written");
    assert!(batch.iter().map(|(item, name)| (item, name.to_owned())).eq(items.iter().cloned()));
    for wrong in [count + 1, count.wrapping_sub(1), BATCH_ITEMS_MAX as u32] {
        let again = rewritten(wrong, &body, means);
        assert!(
            wrong == count || again.is_none_or(|again| again == body),
            "{wrong} items instead of {count}"
        );
    }
    holds(&body, places(body.len(), 16), &|body| rewritten(count, body, means))
}

/// What an item of a reply says: `(status, reason), (lease, bytes), (checksum, version), holder`
type AnyReply = ((usize, usize), (u32, u64), (u64, u64), (u64, u16));

fn reply(((status, reason), (lease_ms, value_bytes), (checksum, version), holder): AnyReply) -> ItemReply {
    let status = ItemStatus::ALL[status % ItemStatus::ALL.len()];
    let reason = MissReason::ALL[reason % MissReason::ALL.len()];
    ItemReply {
        miss: (status == ItemStatus::Miss).then_some(reason),
        lease_ms,
        value_bytes,
        checksum: Checksum(checksum),
        version: Version(version),
        holder: core(holder),
        ..ItemReply::status(status)
    }
}

/// `tenant, key` of a name.
type AnyName = (Vec<u8>, Vec<u8>);

quickcheck! {
    fn puts(items: Vec<(AnyName, u64, u64)>, hints: Vec<(u64, u64, u32, u32)>, wraps: bool) -> bool {
        let mut hints = hints.into_iter().map(|(parent, group, soft_pin_ms, flags)| {
            PutHints { parent, group, soft_pin_ms, flags: flags & 0xf1f }
        });
        let mut items: Vec<(PutItem, ObjectName)> = items.iter().take(8).map(|(parts, bytes, checksum)| {
            let name = name(parts);
            let hints = hints.next().unwrap_or_default();
            (PutItem { hints, ..PutItem::new(name.as_ref(), *bytes, Checksum(*checksum)) }, name)
        }).collect();
        if let (true, Some((last, rest))) = (wraps, items.split_last_mut()) {
            // Together 2^64 + 7, or 7 alone.
            let others = rest.iter().fold(0_u64, |sum, (item, _)| sum.wrapping_add(item.value_bytes));
            last.0.value_bytes = 7_u64.wrapping_sub(others);
        }
        let body = written(&items);
        let batch = Batch::<PutItem>::decode(items.len() as u32, &body).unwrap();
        let sum = items.iter().map(|(item, _)| u128::from(item.value_bytes)).sum::<u128>();
        let all_have_bytes = items.iter().all(|(item, _)| item.value_bytes > 0);
        for claimed in [0, 1, sum as u64, (sum as u64).wrapping_add(1), u64::MAX] {
            let accepted = batch.check_payload(claimed).is_ok();
            let fits = sum <= u128::from(snowskin_protocol::limits::PUT_PAYLOAD_BYTES_MAX);
            assert_eq!(accepted, all_have_bytes && fits && u128::from(claimed) == sum, "{claimed} of {sum}");
        }
        batch_holds(&items, |item| item.reserved == [0; 3] && item.hints.flags & !0xf1f == 0)
    }

    /// JSON: what is written is read back, and what is cut off is refused.
    fn admin(numbers: (u64, u64, u16), words: (String, Option<String>), flag: bool) -> bool {
        let ((bytes, grace_ms, segment), (pages, path)) = (numbers, words);
        let mount = Mount { bytes, path: path.map(Into::into), huge_pages: flag.then(|| pages.clone()) };
        let requests = [
            AdminRequest::Segments,
            AdminRequest::Mount(mount),
            AdminRequest::Unmount(Unmount { segment, grace_ms }),
            AdminRequest::Evict(Evict { permille: segment }),
        ];
        let replies = [
            AdminReply::Mounted { segment, bytes, pages: pages.clone() },
            AdminReply::Evicted { objects: bytes, bytes: grace_ms, reached: flag },
            AdminReply::Refused(pages),
        ];
        requests.iter().all(|request| {
            let body = request.encode();
            AdminRequest::decode(&body).as_ref() == Ok(request)
                && (0..body.len()).all(|end| AdminRequest::decode(&body[..end]).is_err())
        }) && replies.iter().all(|reply| AdminReply::decode(&reply.encode()).as_ref() == Ok(reply))
    }

    fn keys(items: Vec<(AnyName, u64, u8, u8)>) -> bool {
        let items: Vec<(KeyItem, ObjectName)> = items.iter().take(8).map(|(parts, version, flags, miss)| {
            let name = name(parts);
            let (flags, miss) = (flags & 7, miss % 6);
            (KeyItem { flags, miss, ..KeyItem::at_holder(name.as_ref(), Version(*version)) }, name)
        }).collect();
        let means = |item: &KeyItem| item.flags <= 7 && item.miss <= 5;
        batch_holds(&items, means)
    }

    fn replies(replies: Vec<AnyReply>) -> bool {
        let replies: Vec<ItemReply> = replies.into_iter().take(8).map(reply).collect();
        let write = |replies: &[ItemReply]| {
            let mut body = Vec::new();
            replies.iter().for_each(|reply| reply.encode(&mut body));
            body
        };
        let (body, count) = (write(&replies), replies.len() as u32);
        assert_eq!(decode_replies(count, &body).as_ref(), Ok(&replies));
        assert!(decode_replies(count + 1, &body).is_err() && (count == 0 || decode_replies(count - 1, &body).is_err()));
        holds_at_this_length(&body, &|body| Some(write(&decode_replies(count, body).ok()?)))
    }

    fn removals(cursor: u32, force: bool, tenant: Vec<u8>, pattern: String, answer: (u32, u64)) -> bool {
        let tenant = name(&(tenant, Vec::new())).as_ref().tenant().to_vec();
        let pattern: String = pattern.chars().take(300).collect();
        let step = RemoveMatching { cursor, force, tenant: &tenant, pattern: &pattern };
        assert_eq!(RemoveMatching::decode(&step.encode()), Ok(step));
        let answer = RemovedStep { cursor, leased: answer.0, removed: answer.1 };
        assert_eq!(RemovedStep::decode(bytes_of(&answer)), Ok(answer));
        holds_at_this_length(&step.encode(), &|body| Some(RemoveMatching::decode(body).ok()?.encode()))
            && holds_at_this_length(bytes_of(&answer), &|body| Some(bytes_of(&RemovedStep::decode(body).ok()?).to_vec()))
    }

    fn lists(cursor: u32, keys_max: u32, tenant: Vec<u8>, pattern: String, keys: Vec<(Vec<u8>, u64)>) -> bool {
        let tenant = name(&(tenant, Vec::new())).as_ref().tenant().to_vec();
        let pattern: String = pattern.chars().take(300).collect();
        let step = ListKeys { cursor, keys_max: keys_max.max(1), tenant: &tenant, pattern: &pattern };
        assert_eq!(ListKeys::decode(&step.encode()), Ok(step));
        let names: Vec<ObjectName> = keys.iter().take(8).map(|(key, _)| name(&(Vec::new(), key.clone()))).collect();
        let listed: Vec<ListedKey<'_>> = names.iter().zip(&keys).map(|(name, (_, bytes))| {
            ListedKey { key: name.as_ref().key(), value_bytes: (*bytes).max(1) }
        }).collect();
        let write = |page: &KeyPage<'_>| {
            let mut writer = KeyPageWriter::default();
            page.keys.iter().for_each(|listed| writer.push(*listed));
            writer.finish(page.cursor)
        };
        let page = KeyPage { cursor, keys: listed };
        let body = write(&page);
        assert_eq!(KeyPage::decode(&body).as_ref(), Ok(&page));
        holds_at_this_length(&step.encode(), &|body| Some(ListKeys::decode(body).ok()?.encode()))
            && holds(&body, 0..body.len(), &|body| Some(write(&KeyPage::decode(body).ok()?)))
    }

    fn reports(who: AnyMember, engine_cores: u16, epoch: u64, load: (u64, u64, u64), more: (u64, u64, u64)) -> bool {
        let load = Load {
            capacity_bytes: load.0,
            free_bytes: load.1,
            free_range_bytes_max: load.2,
            objects: more.0,
            service_ns_p50: more.1,
            service_ns_p99: more.2,
        };
        let engine_cores = engine_cores.max(1);
        let report = Report { member: member(who), engine_cores, epoch: Epoch(epoch), slots_moving: load.objects as u32, keeps: load.free_bytes.is_multiple_of(2), load };
        assert_eq!(Report::decode(&report.encode()), Ok(report));
        holds_at_this_length(&report.encode(), &|body| {
            let report = Report::decode(body).ok()?;
            assert!(report.engine_cores > 0);
            Some(report.encode())
        })
    }

    fn orders(epoch: u64, watermarks: (u16, u16), lease_ms: u32, wants: (bool, bool)) -> bool {
        let high_watermark_permille = watermarks.0 % 1000 + 1;
        let low_watermark_permille = watermarks.1 % high_watermark_permille + 1;
        let orders = Orders {
            epoch: Epoch(epoch),
            settings: Settings { high_watermark_permille, low_watermark_permille, lease_ms, ..Settings::default() },
            wants_table: wants.0.into(),
            wants_register: wants.1.into(),
            heritage: (epoch % 3) as u8,
            reserved: [0; 5],
        };
        assert_eq!(Orders::decode(bytes_of(&orders)), Ok(orders));
        holds_at_this_length(bytes_of(&orders), &|body| {
            let orders = Orders::decode(body).ok()?;
            assert!(orders.settings.checked().is_ok() && orders.reserved == [0; 5]);
            assert!(orders.wants_table <= 1 && orders.wants_register <= 1 && orders.heritage <= 2);
            Some(bytes_of(&orders).to_vec())
        })
    }

    fn stats(numbers: Vec<u64>) -> bool {
        let mut stats = CoreStats::default();
        let words: &mut [u64] = bytemuck::cast_slice_mut(bytemuck::bytes_of_mut(&mut stats));
        words.iter_mut().zip(numbers.iter()).for_each(|(word, number)| *word = *number);
        let named: Vec<u64> = stats.named().into_iter().map(|(_, number)| number).collect();
        assert_eq!(bytemuck::cast_slice::<u64, u8>(&named), bytes_of(&stats), "not in the order of the wire");
        assert_eq!(CoreStats::decode(bytes_of(&stats)), Ok(stats));
        holds_at_this_length(bytes_of(&stats), &|body| Some(bytes_of(&CoreStats::decode(body).ok()?).to_vec()))
    }
}

/// The long messages: fewer of them, and not every bit of their columns and sets.
fn some<A: quickcheck::Testable>(count: u64, property: A) {
    QuickCheck::new().tests(count).quickcheck(property);
}

#[test]
fn questions_for_slots() {
    fn property(taker: (u64, u16), incarnation: u64, cursor: u32, wanted: Vec<u16>) -> bool {
        let slots = slots(&wanted);
        assert!(slots.iter().all(|slot| wanted.contains(&slot.0)) && slots.len() <= wanted.len());
        let take = TakeSlots { taker: core(taker), incarnation: Incarnation(incarnation), cursor, slots };
        let body = take.encode();
        assert_eq!(TakeSlots::decode(&body), Ok(take));
        holds(&body, places(body.len(), 50), &|body| Some(TakeSlots::decode(body).ok()?.encode()))
    }
    some(12, property as fn(_, _, _, _) -> _);
}

fn write_page(page: &Page<'_>) -> Vec<u8> {
    let mut writer = PageWriter::new(&page.given, &page.declined);
    page.entries.iter().for_each(|entry| writer.push(entry));
    writer.finish(page.cursor)
}

quickcheck! {
    fn orders_of_replicas(named: AnyName, any: AnyReply, home: (u64, u64, u16), kinds: (u8, u8)) -> bool {
        let (name, any) = (name(&named), reply(any));
        let order = ReplicaOrder {
            verb: [ReplicaVerb::Take, ReplicaVerb::Keep, ReplicaVerb::Release][usize::from(kinds.0 % 3)],
            home: (CoreId { engine: EngineId(home.0), core: home.2 }, Incarnation(home.1)),
            source: any.holder,
            name: name.as_ref(),
            version: Version(any.version.0.max(1)),
            value_bytes: any.value_bytes.clamp(1, VALUE_BYTES_MAX),
            checksum: any.checksum,
            lease_ms: any.lease_ms,
        };
        let body = order.encode();
        assert_eq!(ReplicaOrder::decode(&body), Ok(order));
        let statuses = [ReplicaStatus::Done, ReplicaStatus::Absent, ReplicaStatus::NotYet];
        let (status, capacity_bytes) = (statuses[usize::from(kinds.1 % 3)], home.0);
        let answer = ReplicaReply {
            status, capacity_bytes, free_bytes: home.1, free_range_bytes_max: any.value_bytes,
        };
        let write = |answer: &ReplicaReply| {
            let mut body = Vec::new();
            answer.encode(&mut body);
            body
        };
        holds(&body, places(body.len(), 50), &|body| Some(ReplicaOrder::decode(body).ok()?.encode()))
            && holds_at_this_length(&write(&answer), &|body| Some(write(&ReplicaReply::decode(body).ok()?)))
    }
}

#[test]
fn pages() {
    fn property(cursor: u32, sets: (Vec<u16>, Vec<u16>), entries: Vec<(AnyName, AnyReply)>) -> bool {
        let (given, declined) = (slots(&sets.0), slots(&sets.1));
        let names: Vec<ObjectName> = entries.iter().take(6).map(|(parts, _)| name(parts)).collect();
        let entry = |(name, (_, any)): (_, &(AnyName, AnyReply))| {
            let any = reply(*any);
            let (version, value_bytes) =
                (Version(any.version.0.max(1)), any.value_bytes.clamp(1, VALUE_BYTES_MAX));
            let ItemReply { checksum, holder, lease_ms, .. } = any;
            let is_kept = lease_ms % 2 == 1;
            Entry { name, version, value_bytes, checksum, holder, lease_ms, is_kept }
        };
        let entries = names.iter().map(ObjectName::as_ref).zip(&entries).map(entry).collect();
        let page = Page { cursor, given, declined, entries };
        let body = write_page(&page);
        assert_eq!(Page::decode(&body), Ok(page));
        holds(&body, places(body.len(), 50), &|body| {
            let page = Page::decode(body).ok()?;
            let mean = |entry: &Entry<'_>| {
                (1..=VALUE_BYTES_MAX).contains(&entry.value_bytes) && entry.version != Version::ANY
            };
            assert!(page.entries.iter().all(mean));
            Some(write_page(&page))
        })
    }
    some(12, property as fn(_, _, _) -> _);
}

#[test]
fn tables() {
    fn property(epoch: u64, members: Vec<AnyMember>, homes: Vec<u16>, origins: Vec<u16>) -> bool {
        let members: Vec<Member> = members.into_iter().take(5).map(member).collect();
        let column = |numbers: &[u16], others: &[u16]| -> Vec<u16> {
            let choices: Vec<u16> = (0..members.len() as u16).chain(others.iter().copied()).collect();
            let choose = |number: &u16| choices[usize::from(*number) % choices.len()];
            numbers.iter().chain([&0]).map(choose).cycle().take(SLOT_COUNT).collect()
        };
        let former: Vec<Life> = members.iter().skip(2).map(|one| (one.id, Incarnation(epoch))).collect();
        let gone: Vec<u16> =
            (members.len()..members.len() + former.len()).map(|index| index as u16).collect();
        let homes = column(&homes, &[NOBODY]);
        let origins = column(&origins, &[&[NOBODY, LOST][..], &gone].concat());
        let table = RoutingTable { epoch: Epoch(epoch), members, former, homes, origins };
        let write = |table: &RoutingTable| {
            let mut bytes = Vec::new();
            table.encode(&mut bytes);
            bytes
        };
        let bytes = write(&table);
        assert!(RoutingTable::decode(&bytes).as_ref() == Ok(&table), "not read back as it was written");
        let head = bytes.len() - 4 * SLOT_COUNT;
        // Heads and members whole, and a few slots.
        let tried = (0..head).chain((head..bytes.len()).step_by(16_411)).chain([bytes.len() - 1]);
        holds(&bytes, tried, &|bytes| {
            let table = RoutingTable::decode(bytes).ok()?;
            let is_known = |entry: u16| usize::from(entry) < table.members.len() || entry == NOBODY;
            assert!(table.homes.iter().all(|home| is_known(*home)));
            let all = table.members.len() + table.former.len();
            let is_former = |entry: u16| usize::from(entry) < all || entry == LOST;
            assert!(table.origins.iter().all(|origin| is_known(*origin) || is_former(*origin)));
            Some(write(&table))
        })
    }
    some(4, property as fn(_, _, _, _) -> _);
}

/// A property that nobody calls for an operation would be a gap: whoever adds one adds its row above.
#[test]
fn every_operation_is_in_the_table() {
    let head = include_str!("round_trips.rs").split("use bytemuck").next().expect("the head");
    for opcode in Opcode::ALL {
        assert!(head.contains(&format!("`{opcode:?}`")), "{opcode:?} has no property");
    }
}
