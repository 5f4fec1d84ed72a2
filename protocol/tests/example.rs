//! The worked example of `docs/PROTOCOL.md` is what the code writes, byte for byte.

use snowskin_protocol::wire::data::{Batch, BatchWriter, ItemReply, ItemStatus, KeyItem, decode_replies};
use snowskin_protocol::wire::{Header, Opcode};
use snowskin_protocol::{Checksum, CoreId, EngineId, Epoch, ObjectName, Version};

const PAGE: &str = include_str!("../../docs/PROTOCOL.md");
const VALUE: &[u8] = b"hello";

/// The bytes of a block of the page: two digits each, up to the bar.
fn bytes_of_block(title: &str) -> Vec<u8> {
    let block = PAGE.split(&format!("```hex {title}\n")).nth(1).expect("the block is there");
    let lines = block.split("```").next().expect("the block ends").lines();
    let digits = lines.flat_map(|line| line.split('|').next().unwrap_or("").split_whitespace());
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("two digits")).collect()
}

fn name() -> ObjectName {
    ObjectName::new("default", b"greeting").unwrap()
}

fn request() -> Vec<u8> {
    let name = name();
    let mut batch = BatchWriter::default();
    batch.push(KeyItem::at_home(name.as_ref()), name.as_ref());
    let header = Header { items: 1, deadline_ms: 250, ..Header::request(Opcode::Get, 1, Epoch(7)) };
    let body = batch.finish();
    [&header.encode(&body)[..], &body].concat()
}

fn reply() -> Vec<u8> {
    let (asked, _) = Header::decode(request()[..64].try_into().unwrap()).unwrap();
    let item = ItemReply {
        lease_ms: 5_000,
        value_bytes: VALUE.len() as u64,
        checksum: Checksum::of(VALUE),
        version: Version(3),
        holder: CoreId { engine: EngineId(5), core: 0 },
        ..ItemReply::status(ItemStatus::Ok)
    };
    let mut body = Vec::new();
    item.encode(&mut body);
    let header = Header { items: 1, payload_bytes: VALUE.len() as u64, ..asked.reply(Epoch(7)) };
    [&header.encode(&body)[..], &body, VALUE].concat()
}

#[test]
fn the_request_on_the_page_is_what_is_written() {
    assert_eq!(bytes_of_block("request"), request(), "on the page, and written: {:02x?}", request());
}

#[test]
fn the_reply_on_the_page_is_what_is_written() {
    assert_eq!(bytes_of_block("reply"), reply(), "on the page, and written: {:02x?}", reply());
}

#[test]
fn the_page_is_read_back() {
    let (request, reply) = (bytes_of_block("request"), bytes_of_block("reply"));
    let (header, checksum) = Header::decode(request[..64].try_into().unwrap()).unwrap();
    assert_eq!(checksum, Checksum::of(&request[64..]));
    let batch = Batch::<KeyItem>::decode(header.items, &request[64..]).unwrap();
    assert_eq!(batch.iter().next().unwrap().1, name().as_ref());
    let (header, checksum) = Header::decode(reply[..64].try_into().unwrap()).unwrap();
    let (body, payload) = reply[64..].split_at(header.body_bytes as usize);
    assert_eq!((checksum, header.payload_bytes as usize), (Checksum::of(body), payload.len()));
    let item = decode_replies(header.items, body).unwrap()[0];
    assert_eq!((item.checksum, payload), (Checksum::of(payload), VALUE));
}
