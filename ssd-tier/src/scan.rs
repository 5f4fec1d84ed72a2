//! What stands in a region: from its footer, or, if there is none that is whole, record by record.
//!
//! Without a footer each sector may be the beginning of a record, and a record counts only if its value matches its checksum: what was under way when
//! somebody died may be half there. What is damaged is passed over sector by sector, so what stands behind it is found.

use crate::error::TierError;
use crate::format::{
    Entry, Footer, Head, Kind, Record, RegionHeader, SECTOR_BYTES, Sequence, entries_of, record_bytes,
    tombstones_of, whole_sectors,
};
use crate::volume::Volume;
use crate::{Facts, RecordAddress};
use snowskin_io::Platform;
use snowskin_protocol::{CHUNK_BYTES, Checksum, NameRef, ObjectName};

/// Bytes that are read at a time: whole chunks of a checksum.
const WINDOW_BYTES: usize = 1 << 20;

const _: () = assert!(WINDOW_BYTES.is_multiple_of(CHUNK_BYTES));

/// What stands under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// An object.
    Value { name: ObjectName, facts: Facts, address: RecordAddress },
    /// Nothing any more.
    Tombstone { name: ObjectName },
}

/// The items of a region, in the order in which they were written.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) items: Vec<Item>,
    /// It was read record by record.
    pub(crate) is_scanned: bool,
    /// Records that were there and were not whole.
    pub(crate) damaged: u64,
    /// Bytes of values that were checked.
    pub(crate) checked_bytes: u64,
}

impl<P: Platform> Volume<P> {
    /// Since when a region holds something, as its header says. `None`: it holds nothing, or that cannot be known.
    pub(crate) async fn sequence_of(&self, region: u32) -> Result<Option<Sequence>, TierError> {
        let sector = self.read_sectors(region, 0, SECTOR_BYTES).await?;
        let header = sector.and_then(|sector| RegionHeader::decode(&sector, self.inner.id, region).ok());
        Ok(header.map(|header| header.sequence))
    }

    /// The footer of a region, if it has one that is whole.
    pub(crate) async fn footer_of(&self, region: u32) -> Result<Option<Footer>, TierError> {
        let geometry = self.inner.geometry;
        let sector = self.read_sectors(region, geometry.footer_offset(), SECTOR_BYTES).await?;
        Ok(sector
            .and_then(|sector| Footer::decode(&sector, self.inner.id, region, geometry.region_bytes).ok()))
    }

    /// What stands in a region that was opened with this sequence.
    pub(crate) async fn contents(&self, region: u32, sequence: Sequence) -> Result<Contents, TierError> {
        if let Some(footer) = self.footer_of(region).await?.filter(|footer| footer.sequence == sequence)
            && let Some(contents) = self.listed(region, &footer).await?
        {
            return Ok(contents);
        }
        self.scanned(region, sequence).await
    }

    /// What a footer lists; `None`: its index is damaged.
    async fn listed(&self, region: u32, footer: &Footer) -> Result<Option<Contents>, TierError> {
        let offset = footer.entries_offset(self.inner.geometry.region_bytes);
        if footer.entries_bytes == 0 {
            return Ok(Some(Contents::default()));
        }
        let Some(index) = self.read_sectors(region, offset, footer.entries_bytes as usize).await? else {
            return Ok(None);
        };
        let Ok(entries) = entries_of(footer, &index) else { return Ok(None) };
        let items = entries.into_iter().map(|Entry { record, offset, name }| match record.kind {
            Kind::Value => {
                let Record { version, value_bytes, checksum, .. } = record;
                let facts = Facts { version, value_bytes, checksum };
                Item::Value { name: name.to_owned(), facts, address: RecordAddress { region, offset } }
            }
            Kind::Tombstones => Item::Tombstone { name: name.to_owned() },
        });
        Ok(Some(Contents { items: items.collect(), ..Contents::default() }))
    }

    /// Looks for records from sector to sector.
    async fn scanned(&self, region: u32, sequence: Sequence) -> Result<Contents, TierError> {
        let mut contents = Contents { is_scanned: true, ..Contents::default() };
        let end = self.inner.geometry.region_bytes;
        let mut offset = SECTOR_BYTES as u64;
        while offset < end {
            let at = Head { volume: self.inner.id, region, sequence, offset: offset as u32 };
            offset += match self.record_at(at, &mut contents).await? {
                Some(bytes) => bytes,
                None => SECTOR_BYTES as u64,
            };
        }
        Ok(contents)
    }

    /// Adds the record at a place to what is found, if there is one and it is whole. Answers its bytes.
    async fn record_at(&self, at: Head, contents: &mut Contents) -> Result<Option<u64>, TierError> {
        let Head { region, offset, .. } = at;
        let left = self.inner.geometry.region_bytes - u64::from(offset);
        let Some(mut head) = self.read_sectors(region, offset.into(), SECTOR_BYTES).await? else {
            return Ok(None);
        };
        let Ok(head_bytes) = Record::head_bytes(&head) else { return Ok(None) };
        if head_bytes as u64 > left {
            return Ok(None);
        }
        if head_bytes > SECTOR_BYTES {
            match self.read_sectors(region, offset.into(), head_bytes).await? {
                Some(whole) => head = whole,
                None => return Ok(None),
            }
        }
        let Ok((record, name, end)) = Record::decode(&head, at) else { return Ok(None) };
        let bytes = record.bytes(name.len());
        if bytes > left {
            return Ok(None);
        }
        let address = RecordAddress { region, offset };
        let list = (record.kind == Kind::Tombstones).then(Vec::new);
        let (checksum, list) = self.value_of(address, name.len(), &record, end, list).await?;
        contents.checked_bytes += record.value_bytes;
        if checksum != Some(record.checksum) {
            contents.damaged += 1;
            return Ok(None);
        }
        match list {
            None => {
                let name = NameRef::known(name).to_owned();
                let Record { version, value_bytes, checksum, .. } = record;
                contents.items.push(Item::Value {
                    name,
                    facts: Facts { version, value_bytes, checksum },
                    address,
                });
            }
            Some(list) => {
                let names = tombstones_of(&list).map_while(Result::ok);
                contents
                    .items
                    .extend(names.map(|tombstone| Item::Tombstone { name: tombstone.name.to_owned() }));
            }
        }
        Ok(Some(bytes))
    }

    /// The checksum of a record's value, and the value itself behind what `kept` has, if it is wanted. `None`: it cannot be read.
    pub(crate) async fn value_of(
        &self,
        address: RecordAddress,
        name_bytes: usize,
        record: &Record,
        end: &[u8],
        mut kept: Option<Vec<u8>>,
    ) -> Result<(Option<Checksum>, Option<Vec<u8>>), TierError> {
        let (head_bytes, body_bytes) = record_bytes(name_bytes, record.value_bytes);
        let body_at = u64::from(address.offset) + head_bytes;
        let (mut sum, mut done) = (Checksum(0), 0);
        let mut last = Vec::new();
        while done < body_bytes {
            let bytes = (body_bytes - done).min(WINDOW_BYTES as u64);
            let Some(window) = self.read_sectors(address.region, body_at + done, bytes as usize).await?
            else {
                return Ok((None, kept));
            };
            // The last chunk may go on in the head.
            let whole = bytes as usize / CHUNK_BYTES * CHUNK_BYTES;
            sum = sum.plus(Checksum::of_chunks(done / CHUNK_BYTES as u64, &window[..whole]));
            last.extend_from_slice(&window[whole..bytes as usize]);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(&window[..bytes as usize]);
            }
            done += bytes;
        }
        last.extend_from_slice(end);
        if !last.is_empty() {
            sum = sum.plus(Checksum::of_chunks(body_bytes / CHUNK_BYTES as u64, &last));
        }
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(end);
        }
        debug_assert!(whole_sectors(record.value_bytes) >= record.value_bytes);
        Ok((Some(sum), kept))
    }
}
