//! The decoders of the protocol: none panics, and what one accepts, its encoder would have written.
//!
//! Each function takes the fuzzer's bytes. Where a message is long but dull (65,536 columns of a table, bit sets of
//! slots) a short input is also drawn out to full length, so that the fuzzer gets behind it.

use bytemuck::Pod;
use snowskin_protocol::limits::{BATCH_ITEMS_MAX, BODY_BYTES_MAX, HEADER_BYTES};
use snowskin_protocol::wire::admin::{AdminReply, AdminRequest};
use snowskin_protocol::wire::control::{Orders, Page, PageWriter, Report, TakeSlots};
use snowskin_protocol::wire::data::{
    Batch, BatchWriter, KeyItem, NamedItem, PutItem, RemoveMatching, RemovedStep, decode_replies,
};
use snowskin_protocol::wire::hello::{Hello, Welcome};
use snowskin_protocol::wire::lane::{
    BODY_BYTES_MAX as LANE_BODY_BYTES_MAX, ITEMS_MAX as LANE_ITEMS_MAX, LaneOpcode, LaneRecord, LaneReply,
    LaneRequest, PublishItem, RECORD_BYTES,
};
use snowskin_protocol::wire::list::{KeyPage, KeyPageWriter, ListKeys};
use snowskin_protocol::wire::replica::{ReplicaOrder, ReplicaReply};
use snowskin_protocol::wire::stats::CoreStats;
use snowskin_protocol::wire::{Header, WireError, header};
use snowskin_protocol::{Checksum, NameRef, ObjectName, RoutingTable, SLOT_COUNT, Version};

/// Bytes of one bit per slot.
const SLOT_SET_BYTES: usize = SLOT_COUNT / 8;
/// Bytes of a table's head and of a member, as [`RoutingTable::encode`] writes them.
const TABLE_HEAD_BYTES: usize = 16;
const MEMBER_BYTES: usize = 56;
/// Bytes of a former life.
const FORMER_BYTES: usize = 24;

/// Panics when something does not hold for an input.
pub type Oracle = fn(&[u8]);

/// What is to be tried: the name of its corpus, and its function.
pub const TARGETS: [(&str, Oracle); 20] = [
    ("header", header),
    ("hello", hello),
    ("welcome", welcome),
    ("put_batch", put_batch),
    ("key_batch", key_batch),
    ("replies", replies),
    ("remove_matching", remove_matching),
    ("removed_step", removed_step),
    ("list_keys", list_keys),
    ("key_page", key_page),
    ("report", report),
    ("orders", orders),
    ("take_slots", take_slots),
    ("page", page),
    ("replica_order", replica_order),
    ("replica_reply", replica_reply),
    ("routing_table", routing_table),
    ("stats", stats),
    ("admin", admin),
    ("lane", lane),
];

/// A header and the body behind it: as they are, and with magic, lengths and checksums put right.
pub fn header(bytes: &[u8]) {
    let Some((head, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return };
    let _ = Header::decode(head);
    if let Ok((decoded, checksum)) = Header::decode(&sealed(head, body)) {
        assert_eq!(checksum, Checksum::of(body));
        assert_eq!(decoded.body_bytes as usize, body.len());
        assert!(body.len() <= BODY_BYTES_MAX && decoded.items as usize <= BATCH_ITEMS_MAX);
        assert_eq!(decoded.encode(body), sealed(head, body), "{decoded:?}");
    }
}

/// The same header with the magic, the body's length and both checksums put right.
pub fn sealed(head: &[u8; HEADER_BYTES], body: &[u8]) -> [u8; HEADER_BYTES] {
    let mut sealed = *head;
    sealed[..4].copy_from_slice(&header::MAGIC.to_le_bytes());
    sealed[28..32].copy_from_slice(&(body.len() as u32).to_le_bytes());
    sealed[48..56].copy_from_slice(&Checksum::of(body).0.to_le_bytes());
    let checksum = Checksum::of(&sealed[..56]);
    sealed[56..].copy_from_slice(&checksum.0.to_le_bytes());
    sealed
}

/// A hello, and what comes of it.
pub fn hello(bytes: &[u8]) {
    if let Some(hello) = written_again(bytes, Hello::decode) {
        let ours = Hello::ours();
        match hello.agree() {
            Some(version) => {
                assert!((ours.version_min..=ours.version_max).contains(&version));
                assert!((hello.version_min..=hello.version_max).contains(&version));
            }
            None => assert!(
                hello.version_min > ours.version_max
                    || hello.version_max < ours.version_min
                    || hello.version_min > hello.version_max
            ),
        }
    }
}

/// A welcome.
pub fn welcome(bytes: &[u8]) {
    written_again(bytes, Welcome::decode);
}

/// A count of items (2 bytes), then the body of a put.
pub fn put_batch(bytes: &[u8]) {
    let Some(batch) = batch::<PutItem>(bytes) else { return };
    let sum: u128 = batch.iter().map(|(item, _)| u128::from(item.value_bytes)).sum();
    let accepted = u64::try_from(sum).is_ok_and(|sum| batch.check_payload(sum).is_ok());
    if accepted {
        assert!(batch.iter().all(|(item, _)| item.value_bytes > 0));
        assert!(batch.check_payload(sum as u64 + 1).is_err());
    }
}

/// A count of items (2 bytes), then the body of a get, lookup, remove …
pub fn key_batch(bytes: &[u8]) {
    batch::<KeyItem>(bytes);
}

fn batch<T: NamedItem>(bytes: &[u8]) -> Option<Batch<'_, T>> {
    let (count, body) = counted(bytes)?;
    batch_of(count, body)
}

fn batch_of<T: NamedItem>(count: u32, body: &[u8]) -> Option<Batch<'_, T>> {
    let batch = Batch::<T>::decode(count, body).ok()?;
    assert_eq!((batch.len(), batch.is_empty()), (count as usize, count == 0));
    let mut writer = BatchWriter::default();
    for (item, name) in batch.iter() {
        name_is_one(name);
        writer.push(item, name);
    }
    assert_eq!((writer.count(), writer.body_bytes()), (count, body.len()));
    assert!(writer.finish() == body, "a batch is written otherwise than it was read");
    Some(batch)
}

/// A count of items (2 bytes), then the body of a reply.
pub fn replies(bytes: &[u8]) {
    let Some((count, body)) = counted(bytes) else { return };
    if let Ok(replies) = decode_replies(count, body) {
        assert_eq!(replies.len(), count as usize);
        let mut again = Vec::new();
        replies.iter().for_each(|reply| reply.encode(&mut again));
        assert!(again == body, "replies are written otherwise than they were read");
    }
}

/// A step of a removal by pattern.
pub fn remove_matching(bytes: &[u8]) {
    if let Ok(request) = RemoveMatching::decode(bytes) {
        assert_eq!(request.encode(), bytes, "{request:?}");
    }
}

/// The answer to it.
pub fn removed_step(bytes: &[u8]) {
    written_again(bytes, RemovedStep::decode);
}

/// A step of listing keys.
pub fn list_keys(bytes: &[u8]) {
    if let Ok(request) = ListKeys::decode(bytes) {
        assert_eq!(request.encode(), bytes, "{request:?}");
    }
}

/// The answer to it.
pub fn key_page(bytes: &[u8]) {
    if let Ok(page) = KeyPage::decode(bytes) {
        let mut writer = KeyPageWriter::default();
        for listed in &page.keys {
            assert!(ObjectName::new("t", listed.key).is_ok() && listed.value_bytes > 0);
            writer.push(*listed);
        }
        assert_eq!(writer.count() as usize, page.keys.len());
        assert!(writer.finish(page.cursor) == bytes, "a page is written otherwise than it was read");
    }
}

/// A registration or heartbeat.
pub fn report(bytes: &[u8]) {
    if let Ok(report) = Report::decode(bytes) {
        assert_eq!(report.encode(), bytes, "{report:?}");
    }
}

/// The master's answer to it.
pub fn orders(bytes: &[u8]) {
    if let Some(orders) = written_again(bytes, Orders::decode) {
        assert!(orders.settings.checked().is_ok());
    }
}

/// A question for slots, as it is and with its set of slots drawn out.
pub fn take_slots(bytes: &[u8]) {
    let check = |bytes: &[u8]| {
        if let Ok(take) = TakeSlots::decode(bytes) {
            assert!(take.encode() == bytes, "{take:?} is written otherwise than it was read");
        }
    };
    check(bytes);
    if let Some((head, set)) = bytes.split_at_checked(24) {
        check(&[head, &drawn_out(set, SLOT_SET_BYTES)].concat());
    }
}

/// What a home tells a holder of a replica.
pub fn replica_order(bytes: &[u8]) {
    if let Ok(order) = ReplicaOrder::decode(bytes) {
        name_is_one(order.name);
        assert!(order.value_bytes > 0 && order.version != Version::ANY);
        assert!(order.encode() == bytes, "{order:?} is written otherwise than it was read");
    }
}

/// The holder's answer.
pub fn replica_reply(bytes: &[u8]) {
    if let Ok(reply) = ReplicaReply::decode(bytes) {
        let mut again = Vec::new();
        reply.encode(&mut again);
        assert!(again == bytes, "{reply:?} is written otherwise than it was read");
    }
}

/// A page of entries: as it is, and with its two sets of slots (8 bytes each) drawn out.
pub fn page(bytes: &[u8]) {
    let check = |bytes: &[u8]| {
        if let Ok(page) = Page::decode(bytes) {
            let mut writer = PageWriter::new(&page.given, &page.declined);
            for entry in &page.entries {
                name_is_one(entry.name);
                writer.push(entry);
            }
            assert_eq!(writer.body_bytes(), bytes.len());
            assert!(writer.finish(page.cursor) == bytes, "a page is written otherwise than it was read");
        }
    };
    check(bytes);
    if let Some((head, entries)) = bytes.split_at_checked(24) {
        let (given, declined) =
            (drawn_out(&head[8..16], SLOT_SET_BYTES), drawn_out(&head[16..], SLOT_SET_BYTES));
        check(&[&head[..8], &given, &declined, entries].concat());
    }
}

/// A table: as it is, and with what follows the members drawn out to two columns.
pub fn routing_table(bytes: &[u8]) {
    let check = |bytes: &[u8]| {
        if let Ok(table) = RoutingTable::decode(bytes) {
            let mut again = Vec::new();
            table.encode(&mut again);
            assert!(again == bytes, "a table is written otherwise than it was read");
            for slot in [0, SLOT_COUNT - 1] {
                let home = table.home(snowskin_protocol::Slot(slot as u16));
                let _ = table.origin(snowskin_protocol::Slot(slot as u16));
                assert_eq!(home.is_some(), usize::from(table.homes[slot]) < table.members.len());
            }
        }
    };
    check(bytes);
    let count = |at: usize| bytes.get(at).map(|count| usize::from(*count));
    let Some((members, former)) = count(8).zip(count(12)) else { return };
    let lives_bytes = members * MEMBER_BYTES + former * FORMER_BYTES;
    if let Some((head, columns)) = bytes.split_at_checked(TABLE_HEAD_BYTES + lives_bytes) {
        check(&[head, &drawn_out(columns, 4 * SLOT_COUNT)].concat());
    }
}

/// A core's counters.
pub fn stats(bytes: &[u8]) {
    if let Some(stats) = written_again(bytes, CoreStats::decode) {
        let mut twice = stats;
        twice.add(&stats);
        assert!(stats.named().len() * 8 == bytes.len());
    }
}

/// What an operator asks, and a core's answer: people may write them in more than one way, so what is read is written and
/// read again.
pub fn admin(bytes: &[u8]) {
    if let Ok(request) = AdminRequest::decode(bytes) {
        assert_eq!(AdminRequest::decode(&request.encode()), Ok(request));
    }
    if let Ok(reply) = AdminReply::decode(bytes) {
        assert_eq!(AdminReply::decode(&reply.encode()), Ok(reply));
    }
}

/// A lane's request, head and body, and the same bytes as its answer: a record, and the head of a reply with records
/// behind it.
pub fn lane(bytes: &[u8]) {
    lane_request(bytes);
    lane_reply(bytes);
    bytes.as_chunks::<RECORD_BYTES>().0.iter().for_each(lane_record);
}

fn lane_request(bytes: &[u8]) {
    let Some((head, body)) = bytes.split_first_chunk() else { return };
    let Ok(request) = LaneRequest::decode(head) else { return };
    assert_eq!(request.encode(), *head, "{request:?}");
    assert!((1..=LANE_ITEMS_MAX).contains(&usize::from(request.items)));
    assert!(request.body_bytes as usize <= LANE_BODY_BYTES_MAX);
    let count = u32::from(request.items);
    // As much of the body as the head says, and all that came.
    for body in [body.get(..request.body_bytes as usize).unwrap_or(body), body] {
        match request.opcode {
            LaneOpcode::Get | LaneOpcode::Lookup | LaneOpcode::MatchPrefix => {
                batch_of::<KeyItem>(count, body);
            }
            LaneOpcode::Reserve | LaneOpcode::ReserveUpsert => reservations(count, body),
            LaneOpcode::Publish => {
                if let Ok(items) = PublishItem::decode(request.items, body) {
                    let items: Vec<PublishItem> = items.collect();
                    assert_eq!(items.len(), usize::from(request.items));
                    assert_eq!(bytemuck::cast_slice::<_, u8>(&items), body);
                }
            }
        }
    }
}

/// Puts whose sum is not known beforehand.
fn reservations(count: u32, body: &[u8]) {
    let Some(batch) = batch_of::<PutItem>(count, body) else { return };
    if let Ok(sum) = batch.check_values() {
        assert!(batch.iter().all(|(item, _)| item.value_bytes > 0));
        assert_eq!(batch.iter().map(|(item, _)| u128::from(item.value_bytes)).sum::<u128>(), u128::from(sum));
        assert!(batch.check_payload(sum).is_ok());
    }
}

fn lane_reply(bytes: &[u8]) {
    let Some((head, records)) = bytes.split_first_chunk() else { return };
    if let Ok(reply) = LaneReply::decode(head) {
        assert_eq!(reply.encode(), *head, "{reply:?}");
        assert!(usize::from(reply.items) <= LANE_ITEMS_MAX);
        records.as_chunks().0.iter().take(usize::from(reply.items)).for_each(lane_record);
    }
}

fn lane_record(bytes: &[u8; RECORD_BYTES]) {
    if let Ok(record) = LaneRecord::decode(bytes) {
        assert_eq!(record.encode(), *bytes, "{record:?}");
    }
}

/// A message that is plain old data.
fn written_again<T: Pod>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, WireError>) -> Option<T> {
    let message = decode(bytes).ok()?;
    assert_eq!(bytemuck::bytes_of(&message), bytes);
    Some(message)
}

/// A number of 2 bytes, and the rest.
fn counted(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (count, body) = bytes.split_first_chunk::<2>()?;
    Some((u32::from(u16::from_le_bytes(*count)), body))
}

/// As many bytes, by repetition.
fn drawn_out(bytes: &[u8], count: usize) -> Vec<u8> {
    bytes.iter().copied().chain(bytes.is_empty().then_some(0)).cycle().take(count).collect()
}

/// A name that was accepted is one that could have been made.
fn name_is_one(name: NameRef<'_>) {
    assert!(!name.tenant().contains(&0) && !name.key().contains(&0));
    if let Ok(tenant) = std::str::from_utf8(name.tenant()) {
        let made = ObjectName::new(tenant, name.key()).expect("an accepted name is valid");
        assert_eq!(made.bytes(), name.bytes());
    }
}
