//! What a client and a core say to each other in a lane: the direct way through shared memory, without frames.
//!
//! ```text
//!   request:   head 16 B │ body: items and names as in a frame's body, or the puts to publish
//!   reply:     head 12 B │ records of 48 B, one for each item (fewer after match_prefix)
//! ```
//!
//! Values are not in messages. A get answers *where* a value lies in the core's memory, pinned until the client gives the
//! pin back; a put is two requests: *reserve* answers where to write the value, *publish* says that it is written. There are
//! no checksums of messages: memory is not a network, and both sides treat each word as one that may be anything.

use super::data::{ItemReply, ItemStatus};
use super::{Cursor, WireError};
use crate::checksum::Checksum;
use crate::code::MissReason;
use crate::ids::{CoreId, EngineId, Epoch, Version};
use bytemuck::{Pod, Zeroable};

/// Bytes of the head of a request.
pub const REQUEST_HEAD_BYTES: usize = 16;
/// Bytes of the head of a reply.
pub const REPLY_HEAD_BYTES: usize = 12;
/// Bytes of the record that answers an item.
pub const RECORD_BYTES: usize = 48;
/// Bytes of the body of a request, at most: items and names.
pub const BODY_BYTES_MAX: usize = 16 << 10;
/// Items of a request, at most: so many records fit beside such a body.
pub const ITEMS_MAX: usize = BODY_BYTES_MAX / RECORD_BYTES;

const _: () = assert!(crate::limits::NAME_BYTES_MAX + 64 <= BODY_BYTES_MAX);
const _: () = assert!(size_of::<WireRequest>() == REQUEST_HEAD_BYTES);
const _: () = assert!(size_of::<WireReply>() == REPLY_HEAD_BYTES);
const _: () = assert!(size_of::<WireRecord>() == RECORD_BYTES);

/// What is asked in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LaneOpcode {
    /// Key items: where are the values? Pins those that are here.
    Get = 1,
    /// Key items: are they held?
    Lookup = 2,
    /// Key items: the leading ones that are held.
    MatchPrefix = 3,
    /// Put items, whose checksums mean nothing yet: where may the values be written? First writer wins.
    Reserve = 4,
    /// The same for values that replace what is held.
    ReserveUpsert = 5,
    /// [`PublishItem`]s: these values are written.
    Publish = 6,
}

impl LaneOpcode {
    /// All of them, in the order of their numbers.
    pub const ALL: [LaneOpcode; 6] = [
        LaneOpcode::Get,
        LaneOpcode::Lookup,
        LaneOpcode::MatchPrefix,
        LaneOpcode::Reserve,
        LaneOpcode::ReserveUpsert,
        LaneOpcode::Publish,
    ];
}

/// The head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRequest {
    /// What is asked.
    pub opcode: LaneOpcode,
    /// For how many items, at least 1.
    pub items: u16,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Of the asker's table.
    pub epoch: Epoch,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed)]
struct WireRequest {
    opcode: u8,
    reserved: u8,
    items: u16,
    body_bytes: u32,
    epoch: Epoch,
}

impl LaneRequest {
    /// The head's bytes.
    #[inline]
    pub fn encode(&self) -> [u8; REQUEST_HEAD_BYTES] {
        let LaneRequest { opcode, items, body_bytes, epoch } = *self;
        bytemuck::cast(WireRequest { opcode: opcode as u8, reserved: 0, items, body_bytes, epoch })
    }

    /// Reads a head.
    #[inline]
    pub fn decode(head: &[u8; REQUEST_HEAD_BYTES]) -> Result<Self, WireError> {
        let WireRequest { opcode, reserved, items, body_bytes, epoch } = bytemuck::cast(*head);
        let known = LaneOpcode::ALL.into_iter().find(|known| *known as u8 == opcode);
        let opcode = known.ok_or(WireError::Opcode(opcode))?;
        if reserved != 0 {
            return Err(WireError::Value("reserved part of a lane's request"));
        }
        let count = usize::from(items);
        if count == 0 || count > ITEMS_MAX {
            return Err(WireError::TooMany { what: "items in a lane's request", count, limit: ITEMS_MAX });
        }
        if body_bytes as usize > BODY_BYTES_MAX {
            let (count, limit) = (body_bytes as usize, BODY_BYTES_MAX);
            return Err(WireError::TooMany { what: "bytes in a lane's request", count, limit });
        }
        Ok(LaneRequest { opcode, items, body_bytes, epoch })
    }
}

/// The head of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneReply {
    /// Records of the reply.
    pub items: u16,
    /// There is news of segments at the lane's socket.
    pub has_news: bool,
    /// Of the core's table.
    pub epoch: Epoch,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, packed)]
struct WireReply {
    items: u16,
    flags: u8,
    reserved: u8,
    epoch: Epoch,
}

impl LaneReply {
    /// The head's bytes.
    #[inline]
    pub fn encode(&self) -> [u8; REPLY_HEAD_BYTES] {
        let LaneReply { items, has_news, epoch } = *self;
        bytemuck::cast(WireReply { items, flags: u8::from(has_news), reserved: 0, epoch })
    }

    /// Reads a head.
    #[inline]
    pub fn decode(head: &[u8; REPLY_HEAD_BYTES]) -> Result<Self, WireError> {
        let WireReply { items, flags, reserved, epoch } = bytemuck::cast(*head);
        if flags > 1 || reserved != 0 || usize::from(items) > ITEMS_MAX {
            return Err(WireError::Value("head of a lane's reply"));
        }
        Ok(LaneReply { items, has_news: flags == 1, epoch })
    }
}

/// A value that a client has written where it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PublishItem {
    /// The handle of the reservation.
    pub handle: u32,
    /// 1: it will not be written; forget it.
    pub is_given_up: u32,
    /// Of the value.
    pub checksum: Checksum,
}

impl PublishItem {
    /// Reads the body of a request to publish.
    #[inline]
    pub fn decode(count: u16, body: &[u8]) -> Result<impl Iterator<Item = PublishItem> + Clone, WireError> {
        let mut rest = Cursor::new(body);
        let items = rest.take(usize::from(count) * size_of::<PublishItem>())?;
        rest.end()?;
        let items =
            items.chunks_exact(size_of::<PublishItem>()).map(bytemuck::pod_read_unaligned::<PublishItem>);
        match items.clone().all(|item| item.is_given_up <= 1) {
            true => Ok(items),
            false => Err(WireError::Value("flag of a value to publish")),
        }
    }
}

/// Where the bytes of a value are, or are to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedPlace {
    /// The segment: a number that the core gives to one mapping in its life.
    pub segment: u32,
    /// The pin, or the reservation: a number of this lane.
    pub handle: u32,
    /// Bytes from the beginning of the segment.
    pub offset: u64,
}

/// The answer for one item: as in a frame, and where the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRecord {
    /// What happened. Its holder is told only with [`ItemStatus::Elsewhere`].
    pub reply: ItemReply,
    /// With [`ItemStatus::Ok`] after a get or a reservation.
    pub place: SharedPlace,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireRecord {
    status: u8,
    miss: u8,
    holder_core: u16,
    lease_ms: u32,
    value_bytes: u64,
    checksum: Checksum,
    version: Version,
    /// The holder's engine if it is elsewhere, else the offset.
    engine_or_offset: u64,
    segment: u32,
    handle: u32,
}

impl LaneRecord {
    /// An answer without a place.
    #[inline]
    pub fn of(reply: ItemReply) -> Self {
        LaneRecord { reply, place: SharedPlace::default() }
    }

    /// The record's bytes.
    #[inline]
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let LaneRecord { reply, place } = self;
        let is_elsewhere = reply.status == ItemStatus::Elsewhere;
        bytemuck::cast(WireRecord {
            status: reply.status as u8,
            miss: reply.miss.map_or(0, |reason| reason as u8),
            holder_core: if is_elsewhere { reply.holder.core } else { 0 },
            lease_ms: reply.lease_ms,
            value_bytes: reply.value_bytes,
            checksum: reply.checksum,
            version: reply.version,
            engine_or_offset: if is_elsewhere { reply.holder.engine.0 } else { place.offset },
            segment: place.segment,
            handle: place.handle,
        })
    }

    /// Reads a record.
    #[inline]
    pub fn decode(bytes: &[u8; RECORD_BYTES]) -> Result<Self, WireError> {
        let wire: WireRecord = bytemuck::cast(*bytes);
        let status = *ItemStatus::ALL.get(usize::from(wire.status)).ok_or(WireError::Value("item status"))?;
        let miss = MissReason::from_wire(wire.miss);
        if (status == ItemStatus::Miss) != miss.is_some() || (miss.is_none() && wire.miss != 0) {
            return Err(WireError::Value("miss reason"));
        }
        let is_elsewhere = status == ItemStatus::Elsewhere;
        if !is_elsewhere && wire.holder_core != 0 {
            return Err(WireError::Value("holder"));
        }
        let (engine, offset) =
            if is_elsewhere { (wire.engine_or_offset, 0) } else { (0, wire.engine_or_offset) };
        let reply = ItemReply {
            status,
            miss,
            lease_ms: wire.lease_ms,
            value_bytes: wire.value_bytes,
            checksum: wire.checksum,
            version: wire.version,
            holder: CoreId { engine: EngineId(engine), core: wire.holder_core },
        };
        Ok(LaneRecord { reply, place: SharedPlace { segment: wire.segment, handle: wire.handle, offset } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn what_is_accepted_would_have_been_written(bytes: Vec<u8>) -> bool {
            let mut whole = bytes;
            whole.resize(RECORD_BYTES, 0);
            let request: [u8; REQUEST_HEAD_BYTES] = whole[..REQUEST_HEAD_BYTES].try_into().unwrap();
            let reply: [u8; REPLY_HEAD_BYTES] = whole[..REPLY_HEAD_BYTES].try_into().unwrap();
            let record: [u8; RECORD_BYTES] = whole[..].try_into().unwrap();
            LaneRequest::decode(&request).map_or(true, |read| read.encode() == request)
                && LaneReply::decode(&reply).map_or(true, |read| read.encode() == reply)
                && LaneRecord::decode(&record).map_or(true, |read| read.encode() == record)
        }
    }

    #[test]
    fn heads_and_records_survive() {
        let request = LaneRequest { opcode: LaneOpcode::Publish, items: 3, body_bytes: 48, epoch: Epoch(7) };
        assert_eq!(LaneRequest::decode(&request.encode()), Ok(request));
        let reply = LaneReply { items: 341, has_news: true, epoch: Epoch(9) };
        assert_eq!(LaneReply::decode(&reply.encode()), Ok(reply));
        let held = ItemReply { value_bytes: 5, lease_ms: 6, ..ItemReply::status(ItemStatus::Ok) };
        let place = SharedPlace { segment: 1, handle: 2, offset: 512 };
        let elsewhere = ItemReply {
            holder: CoreId { engine: EngineId(4), core: 2 },
            ..ItemReply::status(ItemStatus::Elsewhere)
        };
        for record in [
            LaneRecord { reply: held, place },
            LaneRecord::of(elsewhere),
            LaneRecord::of(ItemReply::miss(MissReason::Evicted)),
        ] {
            assert_eq!(LaneRecord::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn heads_that_cannot_be_are_refused() {
        let good = LaneRequest { opcode: LaneOpcode::Get, items: 1, body_bytes: 9, epoch: Epoch(1) };
        for bad in [
            LaneRequest { items: 0, ..good },
            LaneRequest { items: ITEMS_MAX as u16 + 1, ..good },
            LaneRequest { body_bytes: BODY_BYTES_MAX as u32 + 1, ..good },
        ] {
            assert!(matches!(LaneRequest::decode(&bad.encode()), Err(WireError::TooMany { .. })), "{bad:?}");
        }
        let mut head = good.encode();
        head[0] = 0;
        assert_eq!(LaneRequest::decode(&head), Err(WireError::Opcode(0)));
        let items = [PublishItem { handle: 1, is_given_up: 2, checksum: Checksum(3) }];
        assert!(PublishItem::decode(1, bytemuck::cast_slice(&items)).is_err());
        assert!(PublishItem::decode(2, bytemuck::cast_slice(&items)).is_err());
    }
}
