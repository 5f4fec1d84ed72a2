//! One region, as far as it can be read: by its footer where there is one, otherwise sector by sector.
//!
//! ```text
//!   header whole, sequence >= floor? ── no ──► footer whole, sequence >= floor? ── no ──► first record whole, sequence >= floor? ── no ──► free
//!                     │ yes                                  │ yes                                          │ yes
//!                     └──────────────────┬───────────────────┴──────────────────────────────────────────────┘
//!                                        ▼
//!   footer and index whole, of the same sequence ──► complete
//!                  └── otherwise ──► each sector is tried: unfinished; with a footer that is damaged: damaged
//! ```
//!
//! A mount goes the same way (`docs/FORMAT.md`, "What a mount finds").
//!
//! What cannot be decoded is a [`Trouble`], with its place and its reason: damage, or something to know (a write that was cut off, what an
//! earlier volume left). Nothing is dropped silently. Values are read in windows; an index is held whole, it is what a mount holds as well.

use super::device::{Device, Window};
use super::value::{HeadRead, Unread, read_head, read_value};
use snowskin_protocol::{Checksum, NameRef, Version};
use snowskin_ssd_tier::format::{
    Entry, Footer, Kind, Record, RegionHeader, SECTOR_BYTES, Sequence, Superblock, Tombstone, entries_of,
    record_bytes, tombstones_of,
};
use std::ops::Range;

const SECTOR: u64 = SECTOR_BYTES as u64;

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// May be written to.
    Free,
    /// Is being written to, or was when its writer stopped.
    Unfinished,
    /// Has its footer.
    Complete,
    /// Something of its own is damaged, other than records.
    Damaged,
}

impl State {
    /// For people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Free => "free",
            State::Unfinished => "unfinished",
            State::Complete => "complete",
            State::Damaged => "damaged",
        }
    }
}

/// Whether a record counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is the last of its name.
    Live,
    /// There is a later one.
    Replaced,
    /// There is a later tombstone.
    Removed,
    /// A tombstone: ends all earlier records of its name.
    Tombstone,
    /// Its value does not match; so it does not count.
    NotWhole,
}

impl Fate {
    /// For people and programs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Fate::Live => "live",
            Fate::Replaced => "replaced",
            Fate::Removed => "removed",
            Fate::Tombstone => "tombstone",
            Fate::NotWhole => "not whole",
        }
    }
}

/// A record, or one of the tombstones of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// As the index or the head has it; of a tombstone: without a value.
    pub(crate) record: Record,
    /// Where it begins in the region.
    pub(crate) offset: u32,
    /// On the medium; of the second and later tombstones of a record: 0.
    pub(crate) bytes: u64,
    pub(crate) fate: Fate,
    name: Range<usize>,
}

/// Something that is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Whether it is damage; if not, it is to be expected after a crash, or of a disk that was used before.
    pub(crate) is_damage: bool,
    pub(crate) region: u32,
    /// Where, within the region.
    pub(crate) offset: u64,
    pub(crate) words: String,
}

/// A region.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) number: u32,
    pub(crate) state: State,
    /// If it is whole.
    pub(crate) header: Option<RegionHeader>,
    /// Since when it holds something, if it does.
    pub(crate) sequence: Option<Sequence>,
    /// If it is whole and of the same sequence.
    pub(crate) footer: Option<Footer>,
    /// In the order of their offsets.
    pub(crate) found: Vec<Found>,
    pub(crate) troubles: Vec<Trouble>,
    /// Where the records end.
    pub(crate) records_end: u64,
    names: Vec<u8>,
}

impl Region {
    /// Reads it.
    pub(crate) fn read(device: &Device, block: &Superblock, number: u32) -> Region {
        let mut reading =
            Reading { device, block, window: Window::new(device), region: Region::empty(number) };
        reading.read();
        reading.region
    }

    fn empty(number: u32) -> Self {
        Region {
            number,
            state: State::Free,
            header: None,
            sequence: None,
            footer: None,
            found: Vec::new(),
            troubles: Vec::new(),
            records_end: SECTOR,
            names: Vec::new(),
        }
    }

    /// The name of one of its records.
    pub(crate) fn name(&self, found: &Found) -> NameRef<'_> {
        NameRef::known(&self.names[found.name.clone()])
    }

    /// When it was opened last, also if it is free by now.
    pub(crate) fn opened(&self) -> Option<Sequence> {
        self.sequence.or(self.header.map(|header| header.sequence))
    }

    /// Bytes of records with such a fate.
    pub(crate) fn bytes_of(&self, has: impl Fn(Fate) -> bool) -> u64 {
        self.found.iter().filter(|found| has(found.fate)).map(|found| found.bytes).sum()
    }

    /// How many have such a fate.
    pub(crate) fn count_of(&self, has: impl Fn(Fate) -> bool) -> u64 {
        self.found.iter().filter(|found| has(found.fate)).count() as u64
    }

    /// Whether a fault of records was found in it, or of the region itself.
    pub(crate) fn is_damaged(&self) -> bool {
        self.troubles.iter().any(|trouble| trouble.is_damage)
    }

    fn push(&mut self, name: NameRef<'_>, record: Record, offset: u32, bytes: u64, fate: Fate) {
        let begin = self.names.len();
        self.names.extend_from_slice(name.bytes());
        self.found.push(Found { record, offset, bytes, fate, name: begin..self.names.len() });
    }

    fn trouble(&mut self, is_damage: bool, offset: u64, words: impl Into<String>) {
        self.troubles.push(Trouble { is_damage, region: self.number, offset, words: words.into() });
    }
}

/// What a record's place turned out to hold.
enum Tried {
    /// It is whole: so many bytes.
    Whole(u64),
    /// Its head is whole, its value is not.
    NotWhole,
    /// Nothing of this time.
    Nothing,
}

struct Reading<'a> {
    device: &'a Device,
    block: &'a Superblock,
    window: Window<'a>,
    region: Region,
}

impl Reading<'_> {
    fn read(&mut self) {
        let (volume, number) = (self.block.volume, self.region.number);
        let sector = self.sector(0);
        let header = match &sector {
            Ok(sector) => RegionHeader::decode(sector, volume, number).map_err(|error| error.to_string()),
            Err(words) => Err(words.clone()),
        };
        self.region.header = header.clone().ok();
        let is_now = |sequence: &Sequence| *sequence >= self.block.floor;
        let of_header = self.region.header.map(|header| header.sequence).filter(is_now);
        let of_footer = || self.footer(None).ok().flatten().map(|footer| footer.sequence).filter(is_now);
        let found = of_header.map(|sequence| (sequence, None)).or_else(|| {
            let of_footer = of_footer().map(|sequence| (sequence, Some("footer")));
            of_footer.or_else(|| Some((self.sequence_of_first().filter(is_now)?, Some("first record"))))
        });
        let is_zeros = sector.as_ref().is_ok_and(|sector| sector.iter().all(|byte| *byte == 0));
        let was_there = sector.is_err()
            || sector.as_ref().is_ok_and(|sector| RegionHeader::was_there(sector, volume, number));
        let words = header.err().unwrap_or_else(|| "the header is one of former content".to_owned());
        match found {
            Some((sequence, None)) => self.read_records(sequence),
            Some((sequence, Some(what))) => {
                self.read_records(sequence);
                // A footer is written after the header is durable; a first record may be older than it.
                let is_damage = was_there || what == "footer";
                self.region.trouble(is_damage, 0, format!("{words}; the {what} says which region it is"));
                if is_damage {
                    self.region.state = State::Damaged;
                }
            }
            None if self.region.header.is_some() || is_zeros => {}
            None => {
                self.region.state = if was_there { State::Damaged } else { State::Free };
                self.region.trouble(was_there, 0, words);
            }
        }
    }

    /// The sequence of the first record, if that is whole.
    fn sequence_of_first(&self) -> Option<Sequence> {
        let sequence = Record::sequence(&self.sector(SECTOR).ok()?).ok()?;
        let place = (self.region.number, sequence, SECTOR);
        read_head(&mut Window::new(self.device), self.block, place).ok().map(|_| sequence)
    }

    fn read_records(&mut self, sequence: Sequence) {
        self.region.sequence = Some(sequence);
        match self.footer(Some(sequence)) {
            Ok(Some(footer)) => match self.list(&footer) {
                Ok(()) => {
                    (self.region.footer, self.region.state) = (Some(footer), State::Complete);
                    return;
                }
                Err((offset, words)) => self.unusable_index(offset, words),
            },
            Ok(None) => self.region.state = State::Unfinished,
            Err(words) => self.unusable_index(self.block.geometry.footer_offset(), words),
        }
        self.scan(sequence);
    }

    fn unusable_index(&mut self, offset: u64, words: String) {
        self.region.state = State::Damaged;
        self.region.trouble(true, offset, format!("{words}; each sector was tried instead"));
    }

    /// The footer, if there is one of this sequence (or of any); an error if there is one that is damaged.
    fn footer(&self, sequence: Option<Sequence>) -> Result<Option<Footer>, String> {
        let geometry = self.block.geometry;
        let sector = self.sector(geometry.footer_offset())?;
        match Footer::decode(&sector, self.block.volume, self.region.number, geometry.region_bytes) {
            Ok(footer) if sequence.is_none_or(|sequence| sequence == footer.sequence) => Ok(Some(footer)),
            Err(error) if Footer::was_there(error) => Err(error.to_string()),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Takes the records from the index.
    fn list(&mut self, footer: &Footer) -> Result<(), (u64, String)> {
        let offset = footer.entries_offset(self.block.geometry.region_bytes);
        let at = self.block.geometry.region_at(self.region.number) + offset;
        let index = self.device.read(at, footer.entries_bytes as usize);
        let index = index.map_err(|error| (offset, format!("index cannot be read: {error}")))?;
        let entries = entries_of(footer, &index).map_err(|error| (offset, error.to_string()))?;
        let mut rest = &entries[..];
        let mut end = SECTOR;
        while let Some(first) = rest.first() {
            let alike = match first.record.kind {
                Kind::Value => 1,
                Kind::Tombstones => rest.iter().take_while(|entry| is_beside(entry, first)).count(),
            };
            let (group, behind) = rest.split_at(alike);
            let bytes = match first.record.kind {
                Kind::Value => first.record.bytes(first.name.bytes().len()),
                Kind::Tombstones => tombstones_bytes(group),
            };
            if u64::from(first.offset) < end {
                let words = "two entries of the index overlap, or they are in disorder";
                self.region.trouble(true, first.offset.into(), words);
            }
            end = u64::from(first.offset) + bytes;
            for (place, entry) in group.iter().enumerate() {
                let fate = match entry.record.kind {
                    Kind::Value => Fate::Live,
                    Kind::Tombstones => Fate::Tombstone,
                };
                let bytes = if place == 0 { bytes } else { 0 };
                self.region.push(entry.name, entry.record, entry.offset, bytes, fate);
            }
            rest = behind;
        }
        if end > footer.records_end.into() {
            self.region.trouble(true, end, "records reach beyond their end, as the footer has it");
        }
        self.region.records_end = footer.records_end.into();
        Ok(())
    }

    /// Tries every sector.
    fn scan(&mut self, sequence: Sequence) {
        let end = self.block.geometry.region_bytes;
        let mut offset = SECTOR;
        let mut not_whole: Vec<(u64, String)> = Vec::new();
        while offset < end {
            match self.try_record(sequence, offset, &mut not_whole) {
                Tried::Whole(bytes) => {
                    offset += bytes;
                    self.region.records_end = offset;
                }
                Tried::NotWhole | Tried::Nothing => offset += SECTOR,
            }
        }
        let records_end = self.region.records_end;
        for (offset, words) in not_whole {
            let is_tail = offset >= records_end && self.region.state == State::Unfinished;
            let words = match is_tail {
                true => {
                    format!("{words}; nothing is behind it: a write that was under way, or former content")
                }
                false => words,
            };
            self.region.trouble(!is_tail, offset, words);
        }
    }

    fn try_record(&mut self, sequence: Sequence, offset: u64, not_whole: &mut Vec<(u64, String)>) -> Tried {
        let head = match self.head(sequence, offset) {
            Ok(head) => head,
            Err(Unread::Format(error)) if !Record::was_there(error) => return Tried::Nothing,
            Err(error) => {
                not_whole.push((offset, error.to_string()));
                return Tried::Nothing;
            }
        };
        let HeadRead { record, ref name, .. } = head;
        let bytes = record.bytes(name.len());
        let (kind, mut list) = (record.kind, Vec::new());
        let read = read_value(&mut self.window, self.block, (self.region.number, offset), &head, |piece| {
            if kind == Kind::Tombstones {
                list.extend_from_slice(piece);
            }
            Ok(())
        });
        let whole = read.is_ok();
        not_whole.extend(read.err().map(|error| (offset, error.to_string())));
        match (kind, NameRef::parse(name)) {
            (Kind::Value, Ok(name)) => {
                let fate = if whole { Fate::Live } else { Fate::NotWhole };
                self.region.push(name, record, offset as u32, bytes, fate);
            }
            _ if whole => self.push_tombstones(&record, offset, bytes, &list),
            _ => {}
        }
        if whole { Tried::Whole(bytes) } else { Tried::NotWhole }
    }

    fn push_tombstones(&mut self, record: &Record, offset: u64, bytes: u64, list: &[u8]) {
        let mut count = 0;
        for tombstone in tombstones_of(list) {
            match tombstone {
                Ok(tombstone) => {
                    let entry = Record {
                        version: tombstone.version,
                        value_bytes: 0,
                        checksum: Checksum(0),
                        ..*record
                    };
                    let bytes = if count == 0 { bytes } else { 0 };
                    self.region.push(tombstone.name, entry, offset as u32, bytes, Fate::Tombstone);
                    count += 1;
                }
                Err(error) => self.region.trouble(true, offset, error.to_string()),
            }
        }
        if Version(count) != record.version {
            let words = format!("there should be {} tombstones, and there are {count}", record.version.0);
            self.region.trouble(true, offset, words);
        }
    }

    fn head(&mut self, sequence: Sequence, offset: u64) -> Result<HeadRead, Unread> {
        read_head(&mut self.window, self.block, (self.region.number, sequence, offset))
    }

    fn sector(&self, offset: u64) -> Result<Vec<u8>, String> {
        let at = self.block.geometry.region_at(self.region.number) + offset;
        self.device.read(at, SECTOR_BYTES).map_err(|error| format!("cannot be read: {error}"))
    }
}

/// Whether both are tombstones of one record.
fn is_beside(entry: &Entry<'_>, first: &Entry<'_>) -> bool {
    entry.record.kind == Kind::Tombstones && entry.offset == first.offset
}

/// Bytes of the record whose tombstones these are.
fn tombstones_bytes(entries: &[Entry<'_>]) -> u64 {
    let mut list = Vec::new();
    for entry in entries {
        Tombstone { version: entry.record.version, name: entry.name }.push_to(&mut list);
    }
    let (head, body) = record_bytes(0, list.len() as u64);
    head + body
}
