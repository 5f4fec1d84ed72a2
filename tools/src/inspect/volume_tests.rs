//! Volumes beside a model of what was written to them: whole, cut off, and damaged anywhere.

use super::check::{Sums, check};
use super::device::{Device, Window};
use super::failure::{Failure, Verdict};
use super::picture::cells;
use super::region::{Fate, Found, Region, State, Trouble};
use super::value::Unread;
use super::volume::Volume;
use image::{Image, Place, name, value};
use quickcheck::{Arbitrary, Gen, quickcheck};
use snowskin_protocol::{Checksum, ObjectName};
use snowskin_ssd_tier::format::{REGIONS_AT, Sequence};
use std::collections::BTreeMap;
use std::io::Write;

#[allow(dead_code, reason = "shared with the golden images")]
#[path = "../../../ssd-tier/tests/image/mod.rs"]
mod image;

const REGIONS: u32 = 5;
const REGION_BYTES: u64 = 64 << 10;

/// What a writer does.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u16),
    Remove(Vec<u8>),
    Complete,
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 12 {
            0 => Step::Complete,
            1..=3 => Step::Remove((0..1 + u8::arbitrary(g) % 4).map(|_| u8::arbitrary(g)).collect()),
            _ => Step::Put(u8::arbitrary(g), u16::arbitrary(g)),
        }
    }
}

/// A volume and what should be in it.
struct Written {
    image: Image,
    /// The live ones.
    model: BTreeMap<ObjectName, (Vec<u8>, Place)>,
    /// All values that a name ever had.
    history: BTreeMap<ObjectName, Vec<Vec<u8>>>,
    opened: u32,
}

/// One of a few names, so that they meet often.
fn key(letter: u8) -> ObjectName {
    let tenant = if letter.is_multiple_of(5) { "llama" } else { "default" };
    let rest = if letter.is_multiple_of(7) { "k".repeat(4_000) } else { String::new() };
    name(tenant, &format!("key/{}{rest}", letter % 12))
}

impl Written {
    fn by(steps: &[Step]) -> Self {
        let image = Image::new(REGIONS, REGION_BYTES);
        let mut written = Written { image, model: BTreeMap::new(), history: BTreeMap::new(), opened: 0 };
        steps.iter().for_each(|step| written.step(step));
        written
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(letter, bytes) => {
                let (name, value) = (key(*letter), value(*letter, 1 + usize::from(*bytes) % 20_000));
                self.make_room(|image| image.has_room(&name, value.len() as u64));
                let place = self.image.put(&name, &value);
                self.history.entry(name.clone()).or_default().push(value.clone());
                self.model.insert(name, (value, place));
            }
            Step::Remove(letters) => {
                let names: Vec<ObjectName> = letters.iter().map(|&letter| key(letter)).collect();
                self.make_room(|image| image.has_room_to_remove(&names));
                self.image.remove(&names);
                names.iter().for_each(|name| drop(self.model.remove(name)));
            }
            Step::Complete if self.image.filling().is_some() => self.image.complete(),
            Step::Complete => {}
        }
    }

    fn make_room(&mut self, has_room: impl Fn(&Image) -> bool) {
        if has_room(&self.image) {
            return;
        }
        if self.image.filling().is_some() {
            self.image.complete();
        }
        // Round and round: the oldest region is the one that comes next.
        let region = self.opened % REGIONS;
        if self.opened >= REGIONS {
            let floor = Sequence(u64::from(self.opened - REGIONS) + 2);
            self.image.raise_floor(floor);
            self.model.retain(|_, (_, place)| place.sequence >= floor);
        }
        self.image.open(region);
        self.opened += 1;
    }

    fn on_disk(&self) -> Disk {
        Disk::of(&self.image.bytes)
    }
}

/// An image in a file.
struct Disk {
    device: Device,
    _file: tempfile::NamedTempFile,
}

impl Disk {
    fn of(bytes: &[u8]) -> Self {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("written");
        Disk { device: Device::open(file.path()).expect("opened"), _file: file }
    }

    fn read(&self) -> Result<Volume, Failure> {
        Volume::read(&self.device, &mut |_, _| {})
    }

    fn value(&self, volume: &Volume, record: (&Region, &Found)) -> Result<Vec<u8>, Unread> {
        let mut value = Vec::new();
        let take = |piece: &[u8]| value.write_all(piece);
        volume.read_value(&mut Window::new(&self.device), record, take).map(|()| value)
    }
}

/// Where the live ones are, and what they should be.
fn live_places(volume: &Volume) -> BTreeMap<ObjectName, (u32, u32, Checksum)> {
    let place = |(region, found): (&Region, &Found)| {
        (region.name(found).to_owned(), (region.number, found.offset, found.record.checksum))
    };
    volume.live().map(place).collect()
}

#[test]
fn values_around_the_ends_of_windows_are_read_whole() {
    let window = crate::device::WINDOW_BYTES;
    let around = [4_096, 16_384, window - 4_096, window, window + 4_096, 2 * window, 3 * window - 16_384];
    let mut image = Image::new(3, 32 << 20);
    image.open(0);
    let mut sizes = vec![1, 2 * window + 12_345];
    sizes.extend(around.iter().flat_map(|&bytes| [bytes - 1, bytes, bytes + 1]));
    for (place, &bytes) in sizes.iter().enumerate() {
        if !image.has_room(&name("default", &place.to_string()), bytes as u64) {
            image.complete();
            image.open(1);
        }
        image.put(&name("default", &place.to_string()), &value(place as u8, bytes));
    }
    let disk = Disk::of(&image.bytes);
    let volume = disk.read().expect("a volume");
    assert_eq!(volume.live().count(), sizes.len());
    for (place, &bytes) in sizes.iter().enumerate() {
        let record = volume.find(name("default", &place.to_string()).as_ref()).expect("it is live");
        assert!(disk.value(&volume, record).expect("it is whole") == value(place as u8, bytes), "{bytes}");
    }
}

#[test]
fn what_reclaim_has_freed_stays_free() {
    let steps: Vec<Step> = (0..40).map(|letter| Step::Put(letter, 19_000)).collect();
    let written = Written::by(&steps);
    assert!(written.opened > 2 * REGIONS, "the log has gone round");
    let volume = written.on_disk().read().expect("a volume");
    assert!(volume.superblock.floor > Sequence(u64::from(REGIONS)));
    assert!(volume.regions.iter().all(|region| region.state != State::Damaged));
}

#[test]
fn a_damaged_value_of_an_unfinished_region_gives_way_to_the_record_before_it() {
    let mut image = Image::new(REGIONS, REGION_BYTES);
    image.open(0);
    let first = image.put(&name("default", "key"), &value(1, 5_000));
    image.complete();
    image.open(1);
    let second = image.put(&name("default", "key"), &value(2, 5_000));
    let behind = image.put(&name("default", "other"), b"behind");
    let at = image.at(second.region, u64::from(second.offset) + second.bytes - 1);
    image.bytes[at] ^= 1;
    let volume = Disk::of(&image.bytes).read().expect("a volume");
    let places: Vec<(u32, u32)> =
        volume.live().map(|(region, found)| (region.number, found.offset)).collect();
    assert_eq!(places, [(0, first.offset), (1, behind.offset)]);
    let troubles: Vec<&Trouble> = volume.troubles().collect();
    assert_eq!((troubles.len(), troubles[0].is_damage, troubles[0].offset), (1, true, second.offset.into()));
}

#[test]
fn a_region_whose_header_is_damaged_counts_if_something_else_says_which_it_is() {
    for is_complete in [true, false] {
        let mut image = Image::new(REGIONS, REGION_BYTES);
        image.open(0);
        image.put(&name("default", "key"), b"old");
        image.complete();
        image.open(1);
        image.put(&name("default", "key"), b"new");
        if is_complete {
            image.complete();
        }
        let at = image.at(1, 0);
        image.bytes[at + 60] ^= 1;
        let volume = Disk::of(&image.bytes).read().expect("a volume");
        assert_eq!(volume.regions[1].state, State::Damaged);
        assert_eq!(volume.regions[1].found[0].fate, Fate::Live);
        assert_eq!(volume.find(name("default", "key").as_ref()).map(|(region, _)| region.number), Some(1));
        assert_eq!(volume.verdict(), Verdict::Damaged);
        // Was it never there, it may have been on its way.
        image.bytes[at..at + 64].fill(0);
        let volume = Disk::of(&image.bytes).read().expect("a volume");
        assert_eq!(volume.find(name("default", "key").as_ref()).map(|(region, _)| region.number), Some(1));
        assert_eq!(volume.verdict(), if is_complete { Verdict::Damaged } else { Verdict::Whole });
    }
}

#[test]
fn a_header_that_was_ours_is_damaged_and_one_of_another_volume_is_not() {
    let mut image = Image::new(REGIONS, REGION_BYTES);
    image.open(0);
    image.put(&name("default", "key"), b"value");
    let mut former = Image::new(REGIONS, REGION_BYTES);
    former.superblock.volume.0 = *b"another volume..";
    former.open(1);
    let (ours, theirs) = (image.at(0, 0), image.at(1, 0));
    image.bytes[ours] ^= 1;
    image.bytes[theirs..][..REGION_BYTES as usize]
        .copy_from_slice(&former.bytes[theirs..][..REGION_BYTES as usize]);
    let volume = Disk::of(&image.bytes).read().expect("a volume");
    let states: Vec<State> = volume.regions.iter().map(|region| region.state).collect();
    assert_eq!(states[..3], [State::Damaged, State::Free, State::Free]);
    let said: Vec<(u32, bool)> =
        volume.troubles().map(|trouble| (trouble.region, trouble.is_damage)).collect();
    assert_eq!(said, [(0, true), (1, false)]);
}

#[test]
fn two_regions_of_one_sequence_are_said() {
    let mut image = Image::new(REGIONS, REGION_BYTES);
    image.open(0);
    image.complete();
    image.sequence = Sequence(0);
    image.open(1);
    let volume = Disk::of(&image.bytes).read().expect("a volume");
    assert!(
        volume.troubles().any(|trouble| trouble.is_damage && trouble.words.contains("the same sequence"))
    );
}

#[test]
fn a_volume_that_is_cut_off_is_larger_than_its_file() {
    let image = Image::new(REGIONS, REGION_BYTES);
    for bytes in [REGIONS_AT as usize, image.bytes.len() - 1] {
        let failure = Disk::of(&image.bytes[..bytes]).read().err().expect("it is refused");
        assert!(matches!(failure, Failure::Larger { .. }), "{failure}");
    }
    let failure = Disk::of(&image.bytes[..100]).read().err().expect("it is refused");
    assert!(matches!(failure, Failure::NoSuperblock(..)), "{failure}");
}

quickcheck! {
    fn what_is_live_is_what_the_model_has(steps: Vec<Step>) -> bool {
        let written = Written::by(&steps);
        let disk = written.on_disk();
        let volume = disk.read().expect("a volume");
        let should: BTreeMap<_, _> = written
            .model
            .iter()
            .map(|(name, (value, place))| (name.clone(), (place.region, place.offset, Checksum::of(value))))
            .collect();
        assert_eq!(live_places(&volume), should);
        for (name, (value, _)) in &written.model {
            let record = volume.find(name.as_ref()).expect("it is live");
            assert!(disk.value(&volume, record).expect("it is whole") == *value, "{name:?}");
        }
        // The head of a former record may have lost its second sector to a former index: that is noted.
        let troubles = check(&disk.device, &volume, &mut Sums::default(), &mut |_, _| {});
        assert!(troubles.iter().all(|trouble| !trouble.is_damage), "{troubles:?}");
        volume.verdict() == Verdict::Whole
    }

    fn a_damaged_value_is_found_and_nothing_else(steps: Vec<Step>, which: usize, bit: usize) -> bool {
        let mut written = Written::by(&steps);
        if written.image.filling().is_some() {
            written.image.complete();
        }
        if written.model.is_empty() {
            return true;
        }
        let (name, (value, place)) =
            written.model.iter().nth(which % written.model.len()).map(|(a, b)| (a.clone(), b.clone())).expect("one");
        let before = live_places(&written.on_disk().read().expect("a volume"));
        // The value's first byte is in its body, or behind the name.
        let (head, body) = snowskin_ssd_tier::format::record_bytes(name.bytes().len(), value.len() as u64);
        let begin = if body > 0 { head } else { 88 + name.bytes().len() as u64 };
        let at = written.image.at(place.region, u64::from(place.offset) + begin);
        written.image.bytes[at] ^= 1 << (bit % 8);
        let disk = written.on_disk();
        let volume = disk.read().expect("a volume");
        assert_eq!(live_places(&volume), before, "a mount reads no values of complete regions");
        let troubles = check(&disk.device, &volume, &mut Sums::default(), &mut |_, _| {});
        let places: Vec<(u32, u64)> = troubles.iter().map(|trouble| (trouble.region, trouble.offset)).collect();
        places == [(place.region, u64::from(place.offset))] && troubles[0].is_damage
    }

    fn damage_anywhere_is_no_panic_and_no_other_value(steps: Vec<Step>, bits: Vec<(u16, u16, u8)>) -> bool {
        let mut written = Written::by(&steps);
        let sectors = (written.image.bytes.len() - REGIONS_AT as usize) / 4_096;
        for (sector, byte, bit) in bits {
            // Where structures are: in the first bytes of sectors, mostly.
            let byte = if bit.is_multiple_of(2) { usize::from(byte) % 128 } else { usize::from(byte) % 4_096 };
            let at = REGIONS_AT as usize + usize::from(sector) % sectors * 4_096 + byte;
            written.image.bytes[at] ^= 1 << (bit / 2 % 8);
        }
        let disk = written.on_disk();
        let volume = disk.read().expect("the superblocks are whole");
        let troubles = check(&disk.device, &volume, &mut Sums::default(), &mut |_, _| {});
        for region in &volume.regions {
            cells(region, volume.superblock.geometry, 64);
        }
        for record in volume.live() {
            let name = record.0.name(record.1).to_owned();
            match disk.value(&volume, record) {
                Ok(value) => assert!(written.history[&name].contains(&value), "{name:?} never had this value"),
                Err(error) => assert!(troubles.iter().any(|trouble| trouble.is_damage), "{name:?}: {error}"),
            }
        }
        true
    }
}
