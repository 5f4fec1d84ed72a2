//! Tombstones: names that mean nothing any more.
//!
//! A tombstone ends all records of its name that stand before it in the log, and none behind it. Names wait for the next commit, so that many go into
//! one record; but what is written under such a name meanwhile has its place behind the tombstone, which takes its own first.
//!
//! The record is written twice, one copy behind the other: until the region has its footer nothing else says what is buried, and a sector that is
//! damaged meanwhile must not bring names back.

use crate::Facts;
use crate::error::TierError;
use crate::format::{Entry, Kind, Record, SECTOR_BYTES, Tombstone, record_bytes};
use crate::log::Room;
use crate::volume::Volume;
use crate::write::{Body, Writing, fresh_buffer};
use futures_util::future::join;
use snowskin_io::{Platform, seeded_bug};
use snowskin_protocol::{Checksum, NameRef, ObjectName, Version};
use std::collections::{HashMap, VecDeque};

/// Bytes of one record of tombstones, about, at most: what does not fit into it is written in the next.
const BURIAL_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a tombstone beside its name.
const TOMBSTONE_BYTES: usize = size_of::<u16>() + size_of::<Version>();

/// Names that wait for their tombstones.
#[derive(Debug, Default)]
pub(crate) struct Burials {
    names: VecDeque<(ObjectName, Version)>,
    /// How many of each hash. Another name of the same hash is only buried early.
    hashes: HashMap<u64, usize>,
}

impl Burials {
    fn push(&mut self, name: NameRef<'_>, version: Version) {
        *self.hashes.entry(name.hash()).or_default() += 1;
        self.names.push_back((name.to_owned(), version));
    }

    /// The first ones have their places.
    fn remove(&mut self, count: usize) {
        for (name, _) in self.names.drain(..count) {
            let hash = name.hash();
            let others = self.hashes.remove(&hash).expect("counted") - 1;
            if others > 0 {
                self.hashes.insert(hash, others);
            }
        }
    }
}

/// A record of tombstones that has its place.
pub(crate) struct Burying<P: Platform> {
    writing: Writing<P>,
    /// `None`: a region has no room for both.
    twin: Option<Writing<P>>,
    count: usize,
}

impl<P: Platform> Volume<P> {
    /// What is written under this name so far, of which this version is the last, means nothing any more: after the next
    /// [`Volume::commit`] not after a restart either.
    pub fn bury(&self, name: NameRef<'_>, version: Version) {
        // Where there is no room for a tombstone there was never a record.
        if self.tombstone_room(name.bytes().len()) != Room::Never {
            self.inner.burials.borrow_mut().push(name, version);
        }
    }

    /// Has tombstones written before a record of this name is, if there is one among those that wait.
    pub(crate) fn bury_first(&self, name: NameRef<'_>) -> Result<(), TierError> {
        while self.inner.burials.borrow().hashes.contains_key(&name.hash())
            && !seeded_bug!("tombstone behind the next record")
        {
            let Some(burying) = self.place_burials()? else { break };
            let volume = self.clone();
            self.inner.platform.spawn(async move {
                // The volume knows.
                let _ = volume.write_burials(burying).await;
            });
        }
        Ok(())
    }

    /// A place in the log for tombstones that wait, as many as go into one record. `None`: none wait. If there is no place they go on waiting.
    pub(crate) fn place_burials(&self) -> Result<Option<Burying<P>>, TierError> {
        if self.is_ended() {
            return Err(TierError::Ended);
        }
        let mut burials = self.inner.burials.borrow_mut();
        let (mut list, count) = self.tombstones_for_one(&burials.names);
        let names_bytes = list.len() - count * TOMBSTONE_BYTES;
        if count == 0 {
            return Ok(None);
        }
        let facts = Facts {
            version: Version(count as u64),
            value_bytes: list.len() as u64,
            checksum: Checksum::of(&list),
        };
        let record = self.record(Kind::Tombstones, facts);
        let entries: Vec<Entry<'_>> = burials
            .names
            .range(..count)
            .map(|(name, version)| {
                let record = Record { version: *version, value_bytes: 0, checksum: Checksum(0), ..record };
                Entry { record, offset: 0, name: name.as_ref() }
            })
            .collect();
        let end = list.split_off(list.len() / SECTOR_BYTES * SECTOR_BYTES);
        let record_bytes = record.bytes(0);
        let twin_bytes = match self.inner.log.borrow().room(2 * record_bytes, count, names_bytes) {
            Room::Never => 0,
            Room::Yes | Room::Next => record_bytes,
        };
        let writing = |entries: &[Entry<'_>], behind_bytes| {
            let head = fresh_buffer(crate::format::record_bytes(0, record.value_bytes).0 as usize);
            // These may not wait for room: reclaim's own is theirs, too.
            let (landing, head) = self.place(&record, &[], &end, entries, head, (true, behind_bytes))?;
            Ok::<_, TierError>(Writing { landing, head, body: body_of(&list) })
        };
        let first = writing(&entries, twin_bytes)?;
        // The index lists each name once. There is room: it was asked for.
        let twin = (twin_bytes > 0).then(|| writing(&[], 0)).transpose()?;
        drop(entries);
        burials.remove(count);
        Ok(Some(Burying { writing: first, twin, count }))
    }

    /// The list of as many names as go into one record, and how many.
    fn tombstones_for_one(&self, names: &VecDeque<(ObjectName, Version)>) -> (Vec<u8>, usize) {
        let (mut list, mut names_bytes, mut count) = (Vec::new(), 0, 0);
        for (name, version) in names {
            if list.len() >= BURIAL_BYTES_MAX {
                break;
            }
            let listed = list.len();
            Tombstone { version: *version, name: name.as_ref() }.push_to(&mut list);
            names_bytes += name.as_ref().bytes().len();
            if self.burial_room(list.len(), count + 1, names_bytes) == Room::Never {
                list.truncate(listed);
                break;
            }
            count += 1;
        }
        (list, count)
    }

    /// Whether there is room for the tombstone of a name of so many bytes.
    pub(crate) fn tombstone_room(&self, name_bytes: usize) -> Room {
        self.burial_room(TOMBSTONE_BYTES + name_bytes, 1, name_bytes)
    }

    fn burial_room(&self, list_bytes: usize, count: usize, names_bytes: usize) -> Room {
        let (head, body) = record_bytes(0, list_bytes as u64);
        self.inner.log.borrow().room(head + body, count, names_bytes)
    }

    /// Writes tombstones. What was buried would come back if they were not there, and later records may count on them: so nothing is
    /// written any more if they cannot be.
    pub(crate) async fn write_burials(&self, burying: Burying<P>) -> Result<(), TierError> {
        let Burying { writing, twin, count } = burying;
        let (region, bytes) = (writing.landing.address.region, writing.landing.record_bytes);
        let copies = 1 + u64::from(twin.is_some());
        let twin = async {
            match twin {
                Some(twin) => twin.finish().await.map(drop),
                None => Ok(()),
            }
        };
        let (first, twin) = join(writing.finish(), twin).await;
        if let Err(error) = first.and(twin) {
            self.end_writing(&error);
            return Err(error);
        }
        // Nobody wants a tombstone.
        self.release_bytes(region, copies * bytes);
        self.add(|counters| &counters.tombstones_written, count as u64);
        Ok(())
    }
}

/// The whole sectors of a list.
fn body_of(list: &[u8]) -> Body {
    if list.is_empty() {
        return Body::None;
    }
    let mut body = fresh_buffer(list.len());
    body.copy_from_slice(list);
    Body::Buffer(body)
}
