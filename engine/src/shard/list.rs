//! Which keys are held: a walk over the rows, in steps.

use super::Shard;
use regex::bytes::Regex;
use snowskin_protocol::limits::SCAN_ROWS_PER_STEP;
use snowskin_protocol::wire::list::{KeyPage, KeyPageWriter, ListKeys, ListedKey};

/// Rows that are matched with a pattern in one step: matching may be slow.
pub(super) const MATCHED_ROWS_PER_STEP: u32 = 512;

impl Shard {
    /// A step of listing the keys of a tenant that match (all of them, without a pattern): what a get would find, wherever its bytes
    /// are. Nothing is used by that, and no lease granted. Answers the body of the reply: as many keys as it may have, of so many rows
    /// at most.
    pub fn list_keys(&self, request: &ListKeys<'_>, pattern: Option<&Regex>) -> Vec<u8> {
        let rows_max = if pattern.is_some() { MATCHED_ROWS_PER_STEP } else { SCAN_ROWS_PER_STEP as u32 };
        let end = self.index.end().min(request.cursor.saturating_add(rows_max));
        let mut page = KeyPageWriter::default();
        let mut position = request.cursor;
        while position < end && page.count() < request.keys_max && page.has_room() {
            if let Some(row) = self.index.get(position)
                && self.serves(row.slot())
                && self.is_entry(row)
            {
                let name = self.index.name(position);
                // The pattern last: it is the dear part.
                if name.tenant() == request.tenant
                    && pattern.is_none_or(|pattern| pattern.is_match(name.key()))
                {
                    page.push(ListedKey { key: name.key(), value_bytes: row.value_bytes() });
                }
            }
            position += 1;
        }
        page.finish(if position >= self.index.end() { KeyPage::DONE } else { position })
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
