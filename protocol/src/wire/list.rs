//! Bodies of listing the keys of a tenant that one core answers for, a step at a time.
//!
//! ```text
//!   request:  [ cursor, keys at most, lengths: 12 B ][ tenant ][ pattern ]
//!   reply:    [ cursor of the next step, 8 B ][ value bytes, length: 16 B ][ key ][ 16 B ][ key ] …
//! ```

use super::{Cursor, WireError};
use crate::key::NameRef;
use crate::limits::{BODY_BYTES_MAX, KEY_BYTES_MAX, PATTERN_BYTES_MAX, TENANT_BYTES_MAX};
use bytemuck::{Pod, Zeroable};

/// A step of listing the keys of a tenant that match a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListKeys<'a> {
    /// Where to go on; 0 at first, then what the last step answered.
    pub cursor: u32,
    /// Keys in the answer, at most; 1 at least.
    pub keys_max: u32,
    /// The tenant.
    pub tenant: &'a [u8],
    /// A regular expression that is searched for in each key; empty: all keys.
    pub pattern: &'a str,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireListKeys {
    cursor: u32,
    keys_max: u32,
    pattern_bytes: u16,
    tenant_bytes: u8,
    reserved: u8,
}

impl<'a> ListKeys<'a> {
    /// The body of the request.
    pub fn encode(&self) -> Vec<u8> {
        let head = WireListKeys {
            cursor: self.cursor,
            keys_max: self.keys_max,
            pattern_bytes: self.pattern.len() as u16,
            tenant_bytes: self.tenant.len() as u8,
            reserved: 0,
        };
        [bytemuck::bytes_of(&head), self.tenant, self.pattern.as_bytes()].concat()
    }

    /// Reads the body of the request.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let head: WireListKeys = rest.pod()?;
        let (count, limit) = (usize::from(head.pattern_bytes), PATTERN_BYTES_MAX);
        if count > limit {
            return Err(WireError::TooMany { what: "pattern bytes", count, limit });
        }
        let tenant = rest.take(usize::from(head.tenant_bytes))?;
        let pattern = std::str::from_utf8(rest.take(count)?).map_err(|_| WireError::Value("pattern"))?;
        rest.end()?;
        if tenant.is_empty() || tenant.len() > TENANT_BYTES_MAX || tenant.contains(&0) {
            return Err(WireError::Value("tenant"));
        }
        if head.keys_max == 0 || head.reserved != 0 {
            return Err(WireError::Value("number of keys or reserved part"));
        }
        Ok(ListKeys { cursor: head.cursor, keys_max: head.keys_max, tenant, pattern })
    }
}

/// A key that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedKey<'a> {
    /// The key, without its tenant.
    pub key: &'a [u8],
    /// Bytes of its value.
    pub value_bytes: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WireListedKey {
    value_bytes: u64,
    key_bytes: u16,
    reserved: [u16; 3],
}

/// The answer to a step of [`ListKeys`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPage<'a> {
    /// Where the next step begins; [`KeyPage::DONE`] after the last one.
    pub cursor: u32,
    /// What was found.
    pub keys: Vec<ListedKey<'a>>,
}

impl<'a> KeyPage<'a> {
    /// The cursor after the last step.
    pub const DONE: u32 = u32::MAX;

    /// Reads the body of the reply.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut rest = Cursor::new(body);
        let [cursor, reserved]: [u32; 2] = rest.pod()?;
        if reserved != 0 {
            return Err(WireError::Value("reserved part of the page"));
        }
        let mut keys = Vec::new();
        while !rest.rest().is_empty() {
            let head: WireListedKey = rest.pod()?;
            if head.value_bytes == 0 || head.reserved != [0; 3] {
                return Err(WireError::Value("value length or reserved part of a key"));
            }
            let key = rest.take(usize::from(head.key_bytes))?;
            NameRef::check_key(key)?;
            keys.push(ListedKey { key, value_bytes: head.value_bytes });
        }
        Ok(KeyPage { cursor, keys })
    }
}

/// Writes a page of keys.
#[derive(Debug)]
pub struct KeyPageWriter {
    body: Vec<u8>,
    count: u32,
}

impl Default for KeyPageWriter {
    fn default() -> Self {
        KeyPageWriter { body: vec![0; 8], count: 0 }
    }
}

impl KeyPageWriter {
    /// Keys so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is room for a key of any length.
    pub fn has_room(&self) -> bool {
        self.body.len() + size_of::<WireListedKey>() + KEY_BYTES_MAX <= BODY_BYTES_MAX
    }

    /// Adds a key.
    pub fn push(&mut self, listed: ListedKey<'_>) {
        let ListedKey { key, value_bytes } = listed;
        let head = WireListedKey { value_bytes, key_bytes: key.len() as u16, reserved: [0; 3] };
        self.body.extend_from_slice(bytemuck::bytes_of(&head));
        self.body.extend_from_slice(key);
        self.count += 1;
    }

    /// The body, which goes on at `cursor` or is [`KeyPage::DONE`].
    pub fn finish(mut self, cursor: u32) -> Vec<u8> {
        self.body[..4].copy_from_slice(&cursor.to_le_bytes());
        self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    #[test]
    fn a_question_is_read_as_it_was_written() {
        let request = ListKeys { cursor: 512, keys_max: 7, tenant: b"default", pattern: "^llama-.*/7$" };
        assert_eq!(ListKeys::decode(&request.encode()), Ok(request));
        for tenant in [&b""[..], &[b'x'; 65], b"a\0b"] {
            assert!(ListKeys::decode(&ListKeys { tenant, ..request }.encode()).is_err());
        }
        assert!(ListKeys::decode(&ListKeys { keys_max: 0, ..request }.encode()).is_err());
        let long = "x".repeat(PATTERN_BYTES_MAX + 1);
        let long = ListKeys { pattern: &long, ..request };
        assert!(matches!(ListKeys::decode(&long.encode()), Err(WireError::TooMany { .. })));
    }

    #[test]
    fn a_page_has_room_for_any_key_as_long_as_it_says_so() {
        let key = [b'k'; KEY_BYTES_MAX];
        let mut page = KeyPageWriter::default();
        while page.has_room() {
            page.push(ListedKey { key: &key, value_bytes: 1 });
        }
        let count = page.count() as usize;
        let body = page.finish(KeyPage::DONE);
        assert!(body.len() <= BODY_BYTES_MAX && body.len() + 16 + key.len() > BODY_BYTES_MAX);
        let read = KeyPage::decode(&body).unwrap();
        assert_eq!((read.cursor, read.keys.len()), (KeyPage::DONE, count));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let page = |key: &[u8], value_bytes| {
            let mut page = KeyPageWriter::default();
            page.push(ListedKey { key, value_bytes });
            page.finish(3)
        };
        assert!(KeyPage::decode(&page(b"key", 5)).is_ok());
        for (key, value_bytes) in [(&b""[..], 5), (b"k\0", 5), (b"key", 0), (&[b'k'; KEY_BYTES_MAX + 1], 5)] {
            assert!(KeyPage::decode(&page(key, value_bytes)).is_err(), "{} bytes", key.len());
        }
        for at in [4, 8 + 10] {
            let mut reserved = page(b"key", 5);
            reserved[at] = 1;
            assert!(KeyPage::decode(&reserved).is_err(), "byte {at}");
        }
    }

    quickcheck! {
        fn garbage_never_panics(body: Vec<u8>) -> bool {
            let _ = (ListKeys::decode(&body), KeyPage::decode(&body));
            true
        }
    }
}
