//! The 64 bytes that every frame begins with.
//!
//! ```text
//!   0      4       6    7     8        16      24        28        32            40
//!   ├magic─┼version┼op──┼flags┼request─┼epoch──┼items────┼body len─┼payload len──┤
//!   40          44      46       48            56               64
//!   ├deadline───┼refusal┼reserved┼body checksum┼header checksum ┤
//! ```

use super::WireError;
use crate::checksum::Checksum;
use crate::ids::Epoch;
use crate::limits::{BATCH_ITEMS_MAX, BODY_BYTES_MAX, HEADER_BYTES};
use bytemuck::{Pod, Zeroable};

/// "SNOW", read as a little-endian number.
pub const MAGIC: u32 = u32::from_le_bytes(*b"SNOW");

/// What a frame asks for, or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// First frame on a connection: versions, roles.
    Hello = 1,
    /// Store values whose keys are not held. Payload: the values.
    Put = 2,
    /// Store values, replacing what is held. Payload: the values.
    Upsert = 3,
    /// Read values. The reply has the payload.
    Get = 4,
    /// Are these keys held? Grants leases.
    Lookup = 5,
    /// How many leading keys are held? Grants leases on those.
    MatchPrefix = 6,
    /// Remove keys.
    Remove = 7,
    /// Remove the keys of a tenant that match a pattern, a step at a time.
    RemoveMatching = 8,
    /// The holder no longer has the bytes that the home's entry points to: drop the entry.
    Forget = 9,
    /// From a home to a holder: these replicas are no longer referred to.
    DropReplicas = 10,
    /// The routing table, from a core or the master.
    Table = 11,
    /// A core's counters.
    Stats = 12,
    /// From an operator to a core: see [`super::admin`].
    Admin = 13,
    /// The keys of a tenant that match a pattern, a step at a time.
    ListKeys = 14,
    /// From a core to the master: here I am.
    Register = 16,
    /// From a core to the master: I am still here, and this full.
    Heartbeat = 17,
    /// From a core to the master: give my slots away.
    Leave = 18,
    /// From a core to a master that has forgotten its table: the newest one.
    OfferTable = 19,
    /// From a new home to the origin: freeze these slots and give me a page of their entries.
    TakeSlots = 20,
    /// From a new home to the origin: I have all of them.
    SlotsTaken = 21,
    /// From a home to a holder: see [`super::replica`].
    Replica = 22,
    /// From the home of slots whose last home is gone to all others: give me a page of what you keep of them.
    OfferReplicas = 23,
    /// From the same: I have all of it.
    ReplicasClaimed = 24,
}

impl Opcode {
    /// All operations.
    pub const ALL: [Opcode; 23] = [
        Opcode::Hello,
        Opcode::Put,
        Opcode::Upsert,
        Opcode::Get,
        Opcode::Lookup,
        Opcode::MatchPrefix,
        Opcode::Remove,
        Opcode::RemoveMatching,
        Opcode::Forget,
        Opcode::DropReplicas,
        Opcode::Table,
        Opcode::Stats,
        Opcode::Admin,
        Opcode::ListKeys,
        Opcode::Register,
        Opcode::Heartbeat,
        Opcode::Leave,
        Opcode::OfferTable,
        Opcode::TakeSlots,
        Opcode::SlotsTaken,
        Opcode::Replica,
        Opcode::OfferReplicas,
        Opcode::ReplicasClaimed,
    ];

    /// The operation with this number.
    pub fn from_wire(number: u8) -> Result<Self, WireError> {
        Self::ALL.into_iter().find(|op| *op as u8 == number).ok_or(WireError::Opcode(number))
    }

    /// Whether a request of this kind carries values behind its body.
    pub fn request_has_payload(self) -> bool {
        matches!(self, Opcode::Put | Opcode::Upsert)
    }

    /// Whether a reply of this kind carries values behind its body.
    pub fn reply_has_payload(self) -> bool {
        matches!(self, Opcode::Get)
    }
}

/// Why a whole frame was not carried out. The body of such a reply is a sentence for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Refusal {
    /// The frame makes no sense. The connection is closed.
    BadFrame = 1,
    /// No common version. The connection is closed.
    Version = 2,
    /// This peer does not do that: a data request to the master, membership to an engine.
    WrongRole = 3,
    /// A limit of this peer is reached. Try again later.
    Overloaded = 4,
    /// The origin has not got the slots itself yet, or has not heard of the epoch. Ask again soon.
    NotYet = 5,
    /// The epoch of the request is older than what this peer knows.
    Stale = 6,
    /// The pattern is not a regular expression.
    BadPattern = 7,
}

impl Refusal {
    /// All refusals.
    pub const ALL: [Refusal; 7] = [
        Refusal::BadFrame,
        Refusal::Version,
        Refusal::WrongRole,
        Refusal::Overloaded,
        Refusal::NotYet,
        Refusal::Stale,
        Refusal::BadPattern,
    ];
}

const FLAG_REPLY: u8 = 1;

/// What a header says, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of everything behind the first 8 bytes.
    pub version: u16,
    /// What is asked or answered.
    pub opcode: Opcode,
    /// Whether this answers the request with the same `request` on the same connection.
    pub is_reply: bool,
    /// Chosen by the asker; unique among its requests in flight on the connection.
    pub request: u64,
    /// The sender's table.
    pub epoch: Epoch,
    /// Items in the body.
    pub items: u32,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    /// Request: milliseconds after which the asker no longer wants the answer; 0: it waits.
    pub deadline_ms: u32,
    /// Reply: why nothing was done.
    pub refusal: Option<Refusal>,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireHeader {
    magic: u32,
    version: u16,
    opcode: u8,
    flags: u8,
    request: u64,
    epoch: u64,
    items: u32,
    body_bytes: u32,
    payload_bytes: u64,
    deadline_ms: u32,
    refusal: u16,
    reserved: u16,
    body_checksum: u64,
    header_checksum: u64,
}

const _: () = assert!(size_of::<WireHeader>() == HEADER_BYTES);
/// The header's own checksum covers everything before it.
const CHECKED_BYTES: usize = HEADER_BYTES - 8;

impl Header {
    /// A request for `opcode` with no items, body, payload or deadline yet.
    pub fn request(opcode: Opcode, request: u64, epoch: Epoch) -> Self {
        Header {
            version: super::hello::VERSION,
            opcode,
            is_reply: false,
            request,
            epoch,
            items: 0,
            body_bytes: 0,
            payload_bytes: 0,
            deadline_ms: 0,
            refusal: None,
        }
    }

    /// The header of an answer to this request, empty so far.
    pub fn reply(&self, epoch: Epoch) -> Self {
        Header { is_reply: true, ..Header::request(self.opcode, self.request, epoch) }
    }

    /// The 64 bytes of this header, for a frame with this body. Sets `body_bytes`.
    pub fn encode(mut self, body: &[u8]) -> [u8; HEADER_BYTES] {
        self.body_bytes = body.len() as u32;
        let mut wire = WireHeader {
            magic: MAGIC,
            version: self.version,
            opcode: self.opcode as u8,
            flags: if self.is_reply { FLAG_REPLY } else { 0 },
            request: self.request,
            epoch: self.epoch.0,
            items: self.items,
            body_bytes: self.body_bytes,
            payload_bytes: self.payload_bytes,
            deadline_ms: self.deadline_ms,
            refusal: self.refusal.map_or(0, |refusal| refusal as u16),
            reserved: 0,
            body_checksum: Checksum::of(body).0,
            header_checksum: 0,
        };
        wire.header_checksum = Checksum::of(&bytemuck::bytes_of(&wire)[..CHECKED_BYTES]).0;
        bytemuck::cast(wire)
    }

    /// Checks the first 64 bytes of a frame: magic, own checksum, known operation, sizes within their limits.
    /// Answers the header and the checksum that the body must have.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<(Header, Checksum), WireError> {
        let wire: WireHeader = bytemuck::pod_read_unaligned(bytes);
        if wire.magic != MAGIC {
            return Err(WireError::Magic(wire.magic));
        }
        if Checksum::of(&bytes[..CHECKED_BYTES]).0 != wire.header_checksum {
            return Err(WireError::Checksum("header"));
        }
        let opcode = Opcode::from_wire(wire.opcode)?;
        if wire.flags & !FLAG_REPLY != 0 || wire.reserved != 0 {
            return Err(WireError::Value("reserved part of the header"));
        }
        let is_reply = wire.flags & FLAG_REPLY != 0;
        let limited = |what, count: usize, limit| {
            if count > limit { Err(WireError::TooMany { what, count, limit }) } else { Ok(()) }
        };
        limited("items", wire.items as usize, BATCH_ITEMS_MAX)?;
        limited("body bytes", wire.body_bytes as usize, BODY_BYTES_MAX)?;
        let may_have_payload =
            if is_reply { opcode.reply_has_payload() } else { opcode.request_has_payload() };
        if wire.payload_bytes != 0 && !may_have_payload {
            return Err(WireError::Value("payload length"));
        }
        let refusal = match wire.refusal {
            0 => None,
            _ if !is_reply => return Err(WireError::Value("refusal")),
            number => Some(
                Refusal::ALL
                    .into_iter()
                    .find(|refusal| *refusal as u16 == number)
                    .ok_or(WireError::Value("refusal"))?,
            ),
        };
        let header = Header {
            version: wire.version,
            opcode,
            is_reply,
            request: wire.request,
            epoch: Epoch(wire.epoch),
            items: wire.items,
            body_bytes: wire.body_bytes,
            payload_bytes: wire.payload_bytes,
            deadline_ms: wire.deadline_ms,
            refusal,
        };
        Ok((header, Checksum(wire.body_checksum)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    fn sample() -> Header {
        Header {
            items: 3,
            payload_bytes: 1 << 33,
            deadline_ms: 250,
            ..Header::request(Opcode::Put, 9, Epoch(4))
        }
    }

    #[test]
    fn round_trip() {
        let bytes = sample().encode(b"body");
        let (header, checksum) = Header::decode(&bytes).unwrap();
        assert_eq!(header, Header { body_bytes: 4, ..sample() });
        assert_eq!(checksum, Checksum::of(b"body"));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = sample().encode(b"body");
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn limits_hold_even_with_a_right_checksum() {
        let mut header = sample();
        header.items = BATCH_ITEMS_MAX as u32 + 1;
        assert!(matches!(Header::decode(&header.encode(b"")), Err(WireError::TooMany { what: "items", .. })));
        let giant = vec![0; BODY_BYTES_MAX + 1];
        assert!(matches!(
            Header::decode(&sample().encode(&giant)),
            Err(WireError::TooMany { what: "body bytes", .. })
        ));
        let mut header = Header::request(Opcode::Lookup, 1, Epoch(1));
        header.payload_bytes = 1;
        assert_eq!(Header::decode(&header.encode(b"")), Err(WireError::Value("payload length")));
    }

    quickcheck! {
        fn garbage_never_passes(bytes: Vec<u8>) -> bool {
            let mut header = [0; HEADER_BYTES];
            let n = bytes.len().min(HEADER_BYTES);
            header[..n].copy_from_slice(&bytes[..n]);
            Header::decode(&header).is_err()
        }
    }
}
