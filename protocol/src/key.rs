//! Names of objects, and the slot each one belongs to.
//!
//! A *name* is the tenant, a NUL byte and the key. Neither part contains a NUL, so no two (tenant, key) pairs
//! share a name. A name's hash decides everything about where the object lives:
//!
//! ```text
//!   tenant NUL key ── xxh3_64 ──► 64 bits ──► top 16 bits: slot ──► routing table ──► home core
//!                                    └──────► all 64: index of that core
//! ```

use crate::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX, TENANT_BYTES_MAX};
use std::fmt;

/// Slices of the key space.
pub const SLOT_COUNT: usize = 65_536;

/// The tenant of callers that name none.
pub const DEFAULT_TENANT: &str = "default";

/// One slice of the key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of a name with this hash.
    pub fn of_hash(hash: u64) -> Self {
        Slot((hash >> 48) as u16)
    }

    /// Its position in a column of [`SLOT_COUNT`] entries.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// All slots, in order.
    pub fn all() -> impl Iterator<Item = Slot> {
        (0..=u16::MAX).map(Slot)
    }
}

/// Why a tenant and a key do not make a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A key has at least one byte.
    #[error("the key is empty: use 1 to {KEY_BYTES_MAX} bytes")]
    KeyEmpty,
    /// A key has at most [`KEY_BYTES_MAX`] bytes.
    #[error("the key has {0} bytes: use 1 to {KEY_BYTES_MAX}, for example a hash of a longer key")]
    KeyTooLong(usize),
    /// A key may contain any byte but NUL.
    #[error("the key contains a NUL byte: encode it, for example as hexadecimal digits")]
    KeyHasNul,
    /// A tenant has 1 to [`TENANT_BYTES_MAX`] bytes, none of them NUL.
    #[error("the tenant must have 1 to {TENANT_BYTES_MAX} bytes and no NUL")]
    Tenant,
    /// Bytes from the wire without the NUL that ends the tenant.
    #[error("the name has no tenant: send tenant, NUL, key")]
    NoTenant,
}

/// A valid name, borrowed: `tenant NUL key`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NameRef<'a>(&'a [u8]);

impl<'a> NameRef<'a> {
    /// Checks bytes that came from a peer.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NameError> {
        let searched = &bytes[..bytes.len().min(TENANT_BYTES_MAX + 1)];
        let end = first_nul(searched).ok_or(NameError::NoTenant)?;
        if end == 0 {
            return Err(NameError::Tenant);
        }
        check_key(&bytes[end + 1..])?;
        Ok(NameRef(bytes))
    }

    /// Whether bytes are a key.
    #[inline]
    pub fn check_key(key: &[u8]) -> Result<(), NameError> {
        check_key(key)
    }

    /// The name of `key` within `tenant`, which is a valid one, written to `room`.
    pub fn compose(tenant: &str, key: &[u8], room: &'a mut Vec<u8>) -> Result<Self, NameError> {
        check_key(key)?;
        room.clear();
        room.extend_from_slice(tenant.as_bytes());
        room.push(0);
        room.extend_from_slice(key);
        Ok(NameRef::known(room))
    }

    /// Bytes of a name that was checked before.
    #[inline]
    pub fn known(bytes: &'a [u8]) -> Self {
        debug_assert!(NameRef::parse(bytes).is_ok());
        NameRef(bytes)
    }

    /// The name with its hash.
    #[inline]
    pub fn hashed(self) -> HashedName<'a> {
        HashedName { name: self, hash: self.hash() }
    }

    /// The bytes: `tenant NUL key`.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The tenant's bytes.
    pub fn tenant(self) -> &'a [u8] {
        &self.0[..self.tenant_bytes()]
    }

    /// The key's bytes.
    pub fn key(self) -> &'a [u8] {
        &self.0[self.tenant_bytes() + 1..]
    }

    /// The hash that places the object.
    #[inline]
    pub fn hash(self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(self.0)
    }

    /// The slot of [`NameRef::hash`].
    pub fn slot(self) -> Slot {
        Slot::of_hash(self.hash())
    }

    /// A copy that owns its bytes.
    pub fn to_owned(self) -> ObjectName {
        ObjectName(self.0.into())
    }

    fn tenant_bytes(self) -> usize {
        first_nul(self.0).expect("checked by parse")
    }
}

impl fmt::Debug for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tenant().escape_ascii(), self.key().escape_ascii())
    }
}

/// A name and its hash, which is computed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedName<'a> {
    /// The name.
    pub name: NameRef<'a>,
    /// [`NameRef::hash`] of it.
    pub hash: u64,
}

impl HashedName<'_> {
    /// The slot of its hash.
    pub fn slot(self) -> Slot {
        Slot::of_hash(self.hash)
    }
}

/// A valid name that owns its bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName(Box<[u8]>);

impl ObjectName {
    /// The name of `key` within `tenant`.
    pub fn new(tenant: &str, key: &[u8]) -> Result<Self, NameError> {
        let tenant = tenant.as_bytes();
        if tenant.is_empty() || tenant.len() > TENANT_BYTES_MAX || tenant.contains(&0) {
            return Err(NameError::Tenant);
        }
        check_key(key)?;
        let mut bytes = Vec::with_capacity(tenant.len() + 1 + key.len());
        bytes.extend_from_slice(tenant);
        bytes.push(0);
        bytes.extend_from_slice(key);
        debug_assert!(bytes.len() <= NAME_BYTES_MAX);
        Ok(ObjectName(bytes.into()))
    }

    /// The same name, borrowed.
    pub fn as_ref(&self) -> NameRef<'_> {
        NameRef(&self.0)
    }

    /// The bytes: `tenant NUL key`.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The hash that places the object.
    pub fn hash(&self) -> u64 {
        self.as_ref().hash()
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

fn check_key(key: &[u8]) -> Result<(), NameError> {
    match key.len() {
        0 => Err(NameError::KeyEmpty),
        length if length > KEY_BYTES_MAX => Err(NameError::KeyTooLong(length)),
        _ if first_nul(key).is_some() => Err(NameError::KeyHasNul),
        _ => Ok(()),
    }
}

/// Where the first NUL is. `memchr` looks byte by byte through what is shorter than its vectors, as most keys and tenants are:
/// those are looked through in words.
#[inline]
fn first_nul(bytes: &[u8]) -> Option<usize> {
    const WORD_BYTES: usize = size_of::<u64>();
    const VECTOR_BYTES: usize = 32;
    if bytes.len() >= VECTOR_BYTES {
        return memchr::memchr(0, bytes);
    }
    let Some(last) = bytes.last_chunk() else { return bytes.iter().position(|&byte| byte == 0) };
    for (place, word) in bytes.as_chunks::<WORD_BYTES>().0.iter().enumerate() {
        if let Some(within) = first_nul_of(*word) {
            return Some(place * WORD_BYTES + within);
        }
    }
    // The rest, with bytes that have been looked at.
    first_nul_of(*last).map(|within| bytes.len() - WORD_BYTES + within)
}

/// The lowest byte in which subtracting one borrows for the first time: source "Hacker's Delight", 2nd edition, 6-1.
#[inline]
fn first_nul_of(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    let word = u64::from_le_bytes(word);
    let borrows = word.wrapping_sub(ONES) & !word & HIGH_BITS;
    (borrows != 0).then(|| (borrows.trailing_zeros() / u8::BITS) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    quickcheck! {
        fn the_first_nul_is_found_in_any_bytes(bytes: Vec<u8>) -> bool {
            // Few different bytes, those next to NUL among them.
            let bytes: Vec<u8> = bytes.into_iter().map(|byte| [1, 0, 0x80, 0x81, 0xff, 2, 3, 4][usize::from(byte % 8)]).collect();
            (0..=bytes.len()).all(|from| {
                let rest = &bytes[from..];
                first_nul(rest) == rest.iter().position(|&byte| byte == 0)
            })
        }
    }

    #[test]
    fn limits_of_names() {
        assert!(ObjectName::new("default", &[b'k'; KEY_BYTES_MAX]).is_ok());
        assert_eq!(ObjectName::new("t", b""), Err(NameError::KeyEmpty));
        assert_eq!(
            ObjectName::new("t", &[1; KEY_BYTES_MAX + 1]),
            Err(NameError::KeyTooLong(KEY_BYTES_MAX + 1))
        );
        assert_eq!(ObjectName::new("t", b"a\0b"), Err(NameError::KeyHasNul));
        assert_eq!(ObjectName::new("", b"k"), Err(NameError::Tenant));
        assert_eq!(ObjectName::new(&"t".repeat(65), b"k"), Err(NameError::Tenant));
        assert_eq!(NameRef::parse(b"no tenant"), Err(NameError::NoTenant));
        assert_eq!(NameRef::parse(b"\0key"), Err(NameError::Tenant));
        assert_eq!(NameRef::parse(b"t\0"), Err(NameError::KeyEmpty));
    }

    #[test]
    fn tenants_do_not_share_names() {
        let one = ObjectName::new("a", b"bc").unwrap();
        let other = ObjectName::new("ab", b"c").unwrap();
        assert_ne!(one, other);
        assert_eq!(one.as_ref().tenant(), b"a");
        assert_eq!(other.as_ref().key(), b"c");
    }

    quickcheck! {
        fn parse_accepts_exactly_what_new_makes(bytes: Vec<u8>) -> bool {
            match NameRef::parse(&bytes) {
                Err(_) => true,
                Ok(name) => match std::str::from_utf8(name.tenant()) {
                    Ok(tenant) => ObjectName::new(tenant, name.key()).unwrap().bytes() == bytes,
                    Err(_) => true,
                },
            }
        }
    }
}
