//! Every limit of the protocol, in one place, with the relations between them asserted.
//!
//! A decoder compares with these before it allocates or reads on, so that a peer can make us hold at most
//! [`BODY_BYTES_MAX`] for a frame, whatever it claims.

use crate::units::{GIB, KIB, MIB};

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of the body of one frame: items, names, tables. Payload (values) does not count.
pub const BODY_BYTES_MAX: usize = MIB as usize;
/// Items (keys) in one frame. A client splits larger batches.
pub const BATCH_ITEMS_MAX: usize = 4096;
/// Bytes of a key, at least one.
pub const KEY_BYTES_MAX: usize = 4096;
/// Bytes of a tenant's name, at least one.
pub const TENANT_BYTES_MAX: usize = 64;
/// Bytes of a full name: tenant, NUL, key.
pub const NAME_BYTES_MAX: usize = TENANT_BYTES_MAX + 1 + KEY_BYTES_MAX;
/// Bytes of one value that is not striped. A core refuses what is larger than its largest segment besides.
pub const VALUE_BYTES_MAX: u64 = 16 * GIB;
/// Bytes of values in one put frame.
pub const PUT_PAYLOAD_BYTES_MAX: u64 = VALUE_BYTES_MAX;
/// Bytes of values in one response. What does not fit is answered `Deferred` and asked for again; one value
/// always fits.
pub const GET_PAYLOAD_BYTES_TARGET: u64 = 256 * MIB;
/// Bytes of a regular expression.
pub const PATTERN_BYTES_MAX: usize = 4 * KIB as usize;
/// Members (cores) in a routing table.
pub const MEMBERS_MAX: usize = 4096;
/// Lives in a routing table that are no members any more.
pub const FORMER_MAX: usize = 4096;
/// Rows that one page of a hand-over, or one step of a removal by pattern or of a list of keys, looks at.
pub const SCAN_ROWS_PER_STEP: usize = 4096;
/// Replicas of an object besides the first.
pub const MORE_REPLICAS_MAX: usize = 15;
/// Extents are multiples of this many bytes, and start at one.
pub const EXTENT_ALIGNMENT: usize = 512;

// One item with the longest name must fit into a body, or no batch could be split small enough.
const _: () = assert!(NAME_BYTES_MAX + 64 <= BODY_BYTES_MAX);
// Every item of a full batch must get its reply into one body.
const _: () = assert!(BATCH_ITEMS_MAX * 40 <= BODY_BYTES_MAX);
// A table with the most members is one body: 56 bytes a member, 24 a former life, and two 16-bit columns of slots.
const _: () = assert!(MEMBERS_MAX * 56 + FORMER_MAX * 24 + 2 * 2 * 65_536 + 64 <= BODY_BYTES_MAX);
// Column values of the table are 16 bits, and the two highest have a meaning of their own.
const _: () = assert!(MEMBERS_MAX < u16::MAX as usize - 1);
const _: () = assert!(NAME_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(EXTENT_ALIGNMENT.is_power_of_two());
