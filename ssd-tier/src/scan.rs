//! What stands in a region: from its footer, or, if there is none that is whole, record by record.
//!
//! Without a footer each sector may be the beginning of a record, and a record counts only if its value matches its checksum: what was under way when
//! somebody died may be half there. What is damaged is passed over sector by sector, so what stands behind it is found.

use crate::error::TierError;
use crate::format::{
    Entry, Footer, FooterWriter, Head, Kind, Record, RegionHeader, SECTOR_BYTES, Sequence, Tombstone,
    entries_of, record_bytes, tombstones_of, whole_sectors,
};
use crate::volume::Volume;
use crate::{Facts, RecordAddress};
use snowskin_io::Platform;
use snowskin_io::disk::DiskBuffer;
use snowskin_protocol::{CHUNK_BYTES, Checksum, NameRef, ObjectName};

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
    /// It was read record by record: what its footer would list.
    pub(crate) scan: Option<Scan>,
    /// What was there and is not whole any more: a footer, an index, records.
    pub(crate) damage: Damage,
    /// Bytes that were read for it.
    pub(crate) bytes: u64,
}

/// What is damaged, by the rules of `docs/FORMAT.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Superblocks, headers, footers and indexes.
    pub structures: u64,
    /// Records.
    pub records: u64,
    /// Records behind the last one of a region without footer: what was under way when somebody died, or former content. No damage.
    pub torn: u64,
}

impl Damage {
    /// Whether there is any.
    pub fn is_none(&self) -> bool {
        (self.structures, self.records) == (0, 0)
    }

    pub(crate) fn add(&mut self, other: Damage) {
        self.structures += other.structures;
        self.records += other.records;
        self.torn += other.torn;
    }
}

/// What the last sector of a region says.
enum FooterRead {
    Whole(Footer),
    /// It was a footer of this region.
    Damaged,
    /// It is none, or one of other content.
    None,
}

/// What was found record by record.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) footer: FooterWriter,
    /// Where the last record ends.
    pub(crate) end: u32,
    /// The tombstones of the last record, if it has any: the next one may be its twin.
    list: Vec<u8>,
}

impl Contents {
    /// A record that is whole.
    fn found(
        &mut self,
        Head { region, offset, .. }: Head,
        record: Record,
        name: &[u8],
        list: Option<Vec<u8>>,
    ) {
        let scan = self.scan.as_mut().expect("read record by record");
        let end = offset + record.bytes(name.len()) as u32;
        // With a whole record behind them they are not the end of what was under way.
        self.damage.records += std::mem::take(&mut self.damage.torn);
        let is_twin = list.is_some() && list.as_ref() == Some(&scan.list) && scan.end == offset;
        scan.end = end;
        let Some(list) = list else {
            scan.list.clear();
            let (name, Record { version, value_bytes, checksum, .. }) = (NameRef::known(name), record);
            scan.footer.push(&Entry { record, offset, name });
            let facts = Facts { version, value_bytes, checksum };
            let address = RecordAddress { region, offset };
            return self.items.push(Item::Value { name: name.to_owned(), facts, address });
        };
        if !is_twin {
            for Tombstone { version, name } in tombstones_of(&list).map_while(Result::ok) {
                let record = Record { version, value_bytes: 0, checksum: Checksum(0), ..record };
                scan.footer.push(&Entry { record, offset, name });
                self.items.push(Item::Tombstone { name: name.to_owned() });
            }
        }
        scan.list = list;
    }
}

impl<P: Platform> Volume<P> {
    /// Since when a region holds something, if that is not before `floor`. `None`: it holds nothing, or that cannot be known. And whether its header
    /// is damaged.
    pub(crate) async fn sequence_from(
        &self,
        region: u32,
        floor: Sequence,
    ) -> Result<(Option<Sequence>, bool), TierError> {
        let is_now = |sequence: &Sequence| *sequence >= floor;
        let sector = self.read_sectors(region, 0, SECTOR_BYTES).await?;
        let header =
            sector.as_ref().and_then(|sector| RegionHeader::decode(sector, self.inner.id, region).ok());
        if let Some(sequence) = header.map(|header| header.sequence).filter(is_now) {
            return Ok((Some(sequence), false));
        }
        if let FooterRead::Whole(footer) = self.footer_of(region).await?
            && is_now(&footer.sequence)
        {
            // It was written after the header was durable.
            return Ok((Some(footer.sequence), true));
        }
        let is_damaged = sector.is_none_or(|sector| RegionHeader::was_there(&sector, self.inner.id, region));
        Ok((self.sequence_of_first(region).await?.filter(is_now), is_damaged))
    }

    /// The sequence of a region's first record, if that is whole.
    async fn sequence_of_first(&self, region: u32) -> Result<Option<Sequence>, TierError> {
        let Some(first) = self.read_sectors(region, SECTOR_BYTES as u64, SECTOR_BYTES).await? else {
            return Ok(None);
        };
        let Ok(sequence) = Record::sequence(&first) else { return Ok(None) };
        let at = Head { volume: self.inner.id, region, sequence, offset: SECTOR_BYTES as u32 };
        let head = Window::new(self, region).head_at(at).await?;
        Ok(matches!(head, HeadRead::Whole(..)).then_some(sequence))
    }

    /// The footer of a region.
    async fn footer_of(&self, region: u32) -> Result<FooterRead, TierError> {
        let geometry = self.inner.geometry;
        let sector = self.read_sectors(region, geometry.footer_offset(), SECTOR_BYTES).await?;
        let Some(sector) = sector else { return Ok(FooterRead::Damaged) };
        Ok(match Footer::decode(&sector, self.inner.id, region, geometry.region_bytes) {
            Ok(footer) => FooterRead::Whole(footer),
            Err(error) if Footer::was_there(error) => FooterRead::Damaged,
            Err(_) => FooterRead::None,
        })
    }

    /// What stands in a region that was opened with this sequence.
    pub(crate) async fn contents(&self, region: u32, sequence: Sequence) -> Result<Contents, TierError> {
        let is_damaged = match self.footer_of(region).await? {
            FooterRead::Whole(footer) if footer.sequence == sequence => {
                match self.listed(region, &footer).await? {
                    Some(contents) => return Ok(contents),
                    None => true,
                }
            }
            FooterRead::Whole(_) | FooterRead::None => false,
            FooterRead::Damaged => true,
        };
        let mut contents = self.scanned(region, sequence).await?;
        if is_damaged {
            // So it was complete, and nothing was under way there.
            let Damage { structures, records, torn } = contents.damage;
            contents.damage = Damage { structures: structures + 1, records: records + torn, torn: 0 };
        }
        Ok(contents)
    }

    /// What a footer lists; `None`: its index is damaged.
    async fn listed(&self, region: u32, footer: &Footer) -> Result<Option<Contents>, TierError> {
        let offset = footer.entries_offset(self.inner.geometry.region_bytes);
        if footer.entries_bytes == 0 {
            return Ok(Some(Contents { bytes: SECTOR_BYTES as u64, ..Contents::default() }));
        }
        let mut index = Vec::with_capacity(footer.entries_bytes as usize);
        while index.len() < footer.entries_bytes as usize {
            let bytes = (footer.entries_bytes as usize - index.len()).min(self.inner.window_bytes);
            let Some(sectors) = self.read_sectors(region, offset + index.len() as u64, bytes).await? else {
                return Ok(None);
            };
            index.extend_from_slice(&sectors);
        }
        let Ok(entries) = entries_of(footer, &index) else { return Ok(None) };
        let items = entries.into_iter().map(|Entry { record, offset, name }| match record.kind {
            Kind::Value => {
                let Record { version, value_bytes, checksum, .. } = record;
                let facts = Facts { version, value_bytes, checksum };
                Item::Value { name: name.to_owned(), facts, address: RecordAddress { region, offset } }
            }
            Kind::Tombstones => Item::Tombstone { name: name.to_owned() },
        });
        let bytes = SECTOR_BYTES as u64 + whole_sectors(footer.entries_bytes.into());
        Ok(Some(Contents { items: items.collect(), bytes, ..Contents::default() }))
    }

    /// Looks for records from sector to sector.
    async fn scanned(&self, region: u32, sequence: Sequence) -> Result<Contents, TierError> {
        let scan = Scan { footer: FooterWriter::default(), end: SECTOR_BYTES as u32, list: Vec::new() };
        let bytes = self.inner.geometry.region_bytes;
        let mut contents = Contents { scan: Some(scan), bytes, ..Contents::default() };
        let mut window = Window::new(self, region);
        let mut offset = SECTOR_BYTES as u64;
        while offset < window.end {
            let at = Head { volume: self.inner.id, region, sequence, offset: offset as u32 };
            offset += match window.record_at(at, &mut contents).await? {
                Some(bytes) => bytes,
                None => SECTOR_BYTES as u64,
            };
        }
        Ok(contents)
    }
}

/// What stands where a head may.
enum HeadRead {
    /// One, with the name, and the end of the value.
    Whole(Record, Vec<u8>, Vec<u8>),
    /// There was one, or it cannot be read.
    NotWhole,
    /// Nothing, or what belongs elsewhere.
    None,
}

/// Sectors of a region that have been read at once, and are looked at one after the other.
struct Window<'v, P: Platform> {
    volume: &'v Volume<P>,
    region: u32,
    /// Where the region ends.
    end: u64,
    sectors: Option<DiskBuffer>,
    /// Where they begin in the region.
    offset: u64,
}

impl<'v, P: Platform> Window<'v, P> {
    fn new(volume: &'v Volume<P>, region: u32) -> Self {
        Window { volume, region, end: volume.inner.geometry.region_bytes, sectors: None, offset: 0 }
    }

    /// Some bytes of the region, of whole sectors, not more than a window has. `None`: they cannot be read, or are not there.
    async fn sectors(&mut self, offset: u64, bytes: usize) -> Result<Option<&[u8]>, TierError> {
        if offset + bytes as u64 > self.end {
            return Ok(None);
        }
        let has = self.sectors.as_ref().map_or(0, |sectors| sectors.len()) as u64;
        if offset < self.offset || offset + bytes as u64 > self.offset + has {
            // The old ones make room for the new ones.
            self.sectors = None;
            let window = (self.end - offset).min(self.volume.inner.window_bytes as u64) as usize;
            let mut read = self.volume.read_sectors(self.region, offset, window).await?;
            if read.is_none() {
                // One bad sector does not take its neighbours with it.
                read = self.volume.read_sectors(self.region, offset, bytes).await?;
            }
            (self.sectors, self.offset) = (read, offset);
        }
        let from = (offset - self.offset) as usize;
        Ok(self.sectors.as_ref().map(|sectors| &sectors[from..from + bytes]))
    }

    /// The head of the record at a place.
    async fn head_at(&mut self, at: Head) -> Result<HeadRead, TierError> {
        let Some(first) = self.sectors(at.offset.into(), SECTOR_BYTES).await? else {
            return Ok(HeadRead::NotWhole);
        };
        let head_bytes = match Record::head_bytes(first) {
            Ok(head_bytes) => head_bytes,
            Err(error) if Record::was_there(error) => return Ok(HeadRead::NotWhole),
            Err(_) => return Ok(HeadRead::None),
        };
        let end = self.end;
        let Some(head) = self.sectors(at.offset.into(), head_bytes).await? else {
            return Ok(HeadRead::NotWhole);
        };
        Ok(match Record::decode(head, at) {
            Ok((record, name, _)) if u64::from(at.offset) + record.bytes(name.len()) > end => {
                HeadRead::NotWhole
            }
            Ok((record, name, end)) => HeadRead::Whole(record, name.to_vec(), end.to_vec()),
            Err(error) if Record::was_there(error) => HeadRead::NotWhole,
            Err(_) => HeadRead::None,
        })
    }

    /// Adds the record at a place to what is found, if there is one and it is whole. Answers its bytes.
    async fn record_at(&mut self, at: Head, contents: &mut Contents) -> Result<Option<u64>, TierError> {
        let (record, name, end) = match self.head_at(at).await? {
            HeadRead::Whole(record, name, end) => (record, name, end),
            HeadRead::NotWhole => {
                contents.damage.torn += 1;
                return Ok(None);
            }
            HeadRead::None => return Ok(None),
        };
        let mut list = (record.kind == Kind::Tombstones).then(Vec::new);
        let body_at = u64::from(at.offset) + record_bytes(name.len(), record.value_bytes).0;
        if self.checksum_of(body_at, &record, &end, list.as_mut()).await? != Some(record.checksum) {
            contents.damage.torn += 1;
            return Ok(None);
        }
        contents.found(at, record, &name, list);
        Ok(Some(record.bytes(name.len())))
    }

    /// The checksum of a record's value, which is added to `kept` if that is wanted. `None`: it cannot be read.
    async fn checksum_of(
        &mut self,
        body_at: u64,
        record: &Record,
        end: &[u8],
        mut kept: Option<&mut Vec<u8>>,
    ) -> Result<Option<Checksum>, TierError> {
        let body_bytes = record.value_bytes - end.len() as u64;
        let (mut sum, mut done, mut last) = (Checksum(0), 0, Vec::new());
        while done < body_bytes {
            let bytes = (body_bytes - done).min(CHUNK_BYTES as u64);
            let Some(chunk) = self.sectors(body_at + done, bytes as usize).await? else { return Ok(None) };
            match chunk.len() == CHUNK_BYTES {
                true => sum = sum.plus(Checksum::of_chunk(done / CHUNK_BYTES as u64, chunk)),
                // The last chunk goes on in the head.
                false => last.extend_from_slice(chunk),
            }
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(chunk);
            }
            done += bytes;
        }
        last.extend_from_slice(end);
        if !last.is_empty() {
            sum = sum.plus(Checksum::of_chunk(body_bytes / CHUNK_BYTES as u64, &last));
        }
        if let Some(kept) = kept {
            kept.extend_from_slice(end);
        }
        Ok(Some(sum))
    }
}
