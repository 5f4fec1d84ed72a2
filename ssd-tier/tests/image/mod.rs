//! Volumes for tests, made in memory with nothing but the format: what a writer leaves on the medium, in the order in which it would.
//!
//! The clock and the versions are counted, so an image has the same bytes whenever it is made. Used by the golden images, and by the
//! tests of `snowskin-inspect`, which include this file by its path.

use snowskin_protocol::{Checksum, CoreId, EngineId, Incarnation, ObjectName, Version};
use snowskin_ssd_tier::format::{
    Entry, FooterWriter, Geometry, Head, Kind, Owner, REGIONS_AT, Record, RegionHeader, SECTOR_BYTES,
    Sequence, Superblock, Tombstone, VolumeId, record_bytes, whole_sectors,
};

/// Of all images, unless told otherwise.
pub(crate) const VOLUME: VolumeId = VolumeId(*b"a golden volume!");
/// When they were made: the 14th of November 2023.
pub(crate) const BEGAN_UNIX_MS: u64 = 1_700_000_000_000;
/// What time passes between two events.
const TICK_MS: u64 = 60_000;

/// A volume that is being written.
pub(crate) struct Image {
    /// All of the disk.
    pub(crate) bytes: Vec<u8>,
    /// The superblock that counts.
    pub(crate) superblock: Superblock,
    /// The last one that was given to a region.
    pub(crate) sequence: Sequence,
    filling: Option<Filling>,
    version: u64,
    now_unix_ms: u64,
}

/// The region that is written to.
struct Filling {
    region: u32,
    sequence: Sequence,
    /// Where the next record begins.
    end: u64,
    index: FooterWriter,
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) region: u32,
    pub(crate) sequence: Sequence,
    pub(crate) offset: u32,
    /// Of the whole record.
    pub(crate) bytes: u64,
}

impl Image {
    /// A volume that was made and mounted once.
    pub(crate) fn new(regions: u32, region_bytes: u64) -> Self {
        let disk_bytes = REGIONS_AT + u64::from(regions) * region_bytes;
        let superblock = Superblock {
            volume: VOLUME,
            generation: 0,
            geometry: Geometry { region_bytes, regions },
            floor: Sequence(1),
            mounts: 0,
            owner: Owner::default(),
        };
        let mut image = Image {
            bytes: vec![0; disk_bytes as usize],
            superblock,
            sequence: Sequence(0),
            filling: None,
            version: 0,
            now_unix_ms: BEGAN_UNIX_MS,
        };
        image.write_superblock(|_| {});
        let since_unix_ms = image.tick();
        image.write_superblock(|block| {
            block.mounts += 1;
            let core = CoreId { engine: EngineId::of_name("golden"), core: 1 };
            block.owner = Owner { core, incarnation: Incarnation(7), since_unix_ms };
        });
        image
    }

    /// Writes the next superblock, with what `change` makes of it.
    pub(crate) fn write_superblock(&mut self, change: impl FnOnce(&mut Superblock)) {
        self.superblock = self.superblock.next(change);
        let at = self.superblock.offset() as usize;
        self.superblock.encode(&mut self.bytes[at..][..SECTOR_BYTES]);
    }

    /// All regions below this sequence are free from now on.
    pub(crate) fn raise_floor(&mut self, floor: Sequence) {
        self.write_superblock(|block| block.floor = floor);
    }

    /// Opens a region, whatever stood in it.
    pub(crate) fn open(&mut self, region: u32) -> Sequence {
        assert!(self.filling.is_none(), "one region is written at a time");
        self.sequence = self.sequence.next();
        let (volume, sequence, opened_unix_ms) = (self.superblock.volume, self.sequence, self.tick());
        let at = self.at(region, 0);
        RegionHeader { volume, region, sequence, opened_unix_ms }
            .encode(&mut self.bytes[at..][..SECTOR_BYTES]);
        let (end, index) = (SECTOR_BYTES as u64, FooterWriter::default());
        self.filling = Some(Filling { region, sequence, end, index });
        sequence
    }

    /// Where on the disk an offset of a region is.
    pub(crate) fn at(&self, region: u32, offset: u64) -> usize {
        (self.superblock.geometry.region_at(region) + offset) as usize
    }

    /// The region that is written to.
    pub(crate) fn filling(&self) -> Option<u32> {
        self.filling.as_ref().map(|filling| filling.region)
    }

    /// Whether a value fits into the region that is written to.
    pub(crate) fn has_room(&self, name: &ObjectName, value_bytes: u64) -> bool {
        let (head, body) = record_bytes(name.bytes().len(), value_bytes);
        self.has_room_for(head + body, 1, name.bytes().len())
    }

    fn has_room_for(&self, record_bytes: u64, entries: usize, names_bytes: usize) -> bool {
        self.filling.as_ref().is_some_and(|filling| {
            let end = filling.index.sectors_bytes_with(entries, names_bytes);
            filling.end + record_bytes + end <= self.superblock.geometry.region_bytes
        })
    }

    /// Writes a value, for which there must be room.
    pub(crate) fn put(&mut self, name: &ObjectName, value: &[u8]) -> Place {
        assert!(self.has_room(name, value.len() as u64), "there is no room for {name:?}");
        self.version += 1;
        let record = Record {
            kind: Kind::Value,
            version: Version(self.version),
            value_bytes: value.len() as u64,
            checksum: Checksum::of(value),
            written_unix_ms: self.tick(),
        };
        let place = self.write(&record, name.bytes(), value);
        self.list(&record, place.offset, name);
        place
    }

    /// Whether a record of tombstones fits into the region that is written to.
    pub(crate) fn has_room_to_remove(&self, names: &[ObjectName]) -> bool {
        let names_bytes: usize = names.iter().map(|name| name.bytes().len()).sum();
        let (head, body) = record_bytes(0, (names.len() * 10 + names_bytes) as u64);
        self.has_room_for(head + body, names.len(), names_bytes)
    }

    /// Writes a record of tombstones, for which there must be room.
    pub(crate) fn remove(&mut self, names: &[ObjectName]) -> Place {
        assert!(self.has_room_to_remove(names), "there is no room for tombstones");
        let mut list = Vec::new();
        let gone = Version(self.version);
        names.iter().for_each(|name| Tombstone { version: gone, name: name.as_ref() }.push_to(&mut list));
        let record = Record {
            kind: Kind::Tombstones,
            version: Version(names.len() as u64),
            value_bytes: list.len() as u64,
            checksum: Checksum::of(&list),
            written_unix_ms: self.tick(),
        };
        let place = self.write(&record, &[], &list);
        let entry = Record { version: gone, value_bytes: 0, checksum: Checksum(0), ..record };
        names.iter().for_each(|name| self.list(&entry, place.offset, name));
        place
    }

    /// Writes index and footer: nothing more goes into the region.
    pub(crate) fn complete(&mut self) {
        let Filling { region, sequence, end, index } = self.filling.take().expect("a region is open");
        let tail = index.sectors_bytes_with(0, 0);
        let at = self.at(region, self.superblock.geometry.region_bytes - tail);
        let sectors = &mut self.bytes[at..][..tail as usize];
        index.encode((self.superblock.volume, region, sequence), end as u32, sectors);
    }

    fn write(&mut self, record: &Record, name: &[u8], value: &[u8]) -> Place {
        let filling = self.filling.as_mut().expect("a region is open");
        let (region, sequence, offset) = (filling.region, filling.sequence, filling.end as u32);
        let (head_bytes, body_bytes) = record_bytes(name.len(), value.len() as u64);
        filling.end += head_bytes + body_bytes;
        assert_eq!(filling.end, whole_sectors(filling.end), "records are whole sectors");
        let (body, end) = value.split_at(body_bytes as usize);
        let head_at = Head { volume: self.superblock.volume, region, sequence, offset };
        let at = self.at(region, offset.into());
        let (head, rest) = self.bytes[at..].split_at_mut(head_bytes as usize);
        record.encode(head_at, name, end, head);
        rest[..body.len()].copy_from_slice(body);
        Place { region, sequence, offset, bytes: head_bytes + body_bytes }
    }

    fn list(&mut self, record: &Record, offset: u32, name: &ObjectName) {
        let filling = self.filling.as_mut().expect("a region is open");
        filling.index.push(&Entry { record: *record, offset, name: name.as_ref() });
    }

    fn tick(&mut self) -> u64 {
        self.now_unix_ms += TICK_MS;
        self.now_unix_ms
    }
}

/// The name of a key.
pub(crate) fn name(tenant: &str, key: &str) -> ObjectName {
    ObjectName::new(tenant, key.as_bytes()).expect("a name")
}

/// As many bytes, told from those of other letters, and compressed well.
pub(crate) fn value(letter: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| letter.wrapping_add((at / 97) as u8)).collect()
}
