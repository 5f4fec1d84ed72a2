//! The body of a request: as many items as fit.

use snowskin_protocol::NameRef;
use snowskin_protocol::limits::GET_PAYLOAD_BYTES_TARGET;
use snowskin_protocol::wire::data::NamedItem;
use snowskin_protocol::wire::lane;
use snowskin_protocol::wire::lane::PublishItem;

/// Items of a request, at most.
const ITEMS_MAX: usize = lane::ITEMS_MAX;

/// A body that is being written. Names come behind all items, so they are kept apart until it is complete.
#[derive(Debug, Default)]
pub(crate) struct BodyWriter {
    items: Vec<u8>,
    names: Vec<u8>,
    count: usize,
    /// Of the values of a put.
    value_bytes: u64,
}

impl BodyWriter {
    /// Items so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Adds an item with its name, if there is room: always, if it is the first one.
    pub(crate) fn push<T: NamedItem>(&mut self, item: T, name: NameRef<'_>) -> bool {
        let bytes = self.items.len() + self.names.len() + size_of::<T>() + name.bytes().len();
        let value_bytes = self.value_bytes.saturating_add(item.value_bytes());
        let is_over =
            bytes > lane::BODY_BYTES_MAX || self.count == ITEMS_MAX || value_bytes > VALUES_BYTES_TARGET;
        if self.count > 0 && is_over {
            return false;
        }
        self.value_bytes = value_bytes;
        self.items.extend_from_slice(bytemuck::bytes_of(&item));
        self.names.extend_from_slice(name.bytes());
        self.count += 1;
        true
    }

    /// Adds a value to publish, if there is room.
    pub(crate) fn push_publish(&mut self, item: PublishItem) -> bool {
        if self.count == ITEMS_MAX {
            return false;
        }
        self.items.extend_from_slice(bytemuck::bytes_of(&item));
        self.count += 1;
        true
    }

    /// The complete body. The writer is to be cleared before it is used again.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.items.append(&mut self.names);
        &self.items
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.names.clear();
        self.count = 0;
        self.value_bytes = 0;
    }
}

/// Bytes of the values of one request; one value always fits.
const VALUES_BYTES_TARGET: u64 = GET_PAYLOAD_BYTES_TARGET;

const _: () = assert!(ITEMS_MAX * size_of::<PublishItem>() <= lane::BODY_BYTES_MAX);
