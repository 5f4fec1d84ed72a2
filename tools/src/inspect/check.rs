//! Reads everything that was found on a volume and compares every checksum: what a mount and a scrub would find damaged.

use super::device::{Device, Window};
use super::region::{Found, Region, State, Trouble};
use super::text::label;
use super::value::{Unread, read_head, read_value};
use super::volume::{Volume, is_value};
use snowskin_protocol::Version;
use snowskin_ssd_tier::format::{FormatError, RegionHeader, SECTOR_BYTES, tombstones_of};

/// What was read.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) regions: u64,
    pub(crate) values: u64,
    pub(crate) tombstones: u64,
    pub(crate) bytes: u64,
}

/// Reads all values and compares all checksums. Answers what was known before, too.
pub(crate) fn check(
    device: &Device,
    volume: &Volume,
    sums: &mut Sums,
    progress: &mut dyn FnMut(u64, u64),
) -> Vec<Trouble> {
    let used = || volume.regions.iter().filter(|region| !region.found.is_empty());
    let all: u64 = used().map(|region| region.bytes_of(|_| true)).sum();
    let mut troubles = Vec::new();
    for region in &volume.regions {
        let mut found = region.troubles.clone();
        let mut window = Window::new(device);
        let mut rest = &region.found[..];
        while let Some(first) = rest.first() {
            let count = rest.iter().take_while(|other| other.offset == first.offset).count();
            let (group, behind) = rest.split_at(if is_value(first) { 1 } else { count });
            // Those of other regions were tried when they were found.
            if region.footer.is_some()
                && let Err(error) = check_one(volume, &mut window, region, group)
            {
                found.push(trouble(region, first, &error));
            }
            sums.bytes += first.bytes;
            progress(sums.bytes, all);
            rest = behind;
        }
        sums.regions += u64::from(region.state != State::Free);
        sums.values += region.found.iter().filter(|found| is_value(found)).count() as u64;
        sums.tombstones += region.found.iter().filter(|found| !is_value(found)).count() as u64;
        troubles.extend(forgiven(device, volume, region, found));
    }
    troubles
}

/// One record: a value, or tombstones.
fn check_one(
    volume: &Volume,
    window: &mut Window<'_>,
    region: &Region,
    group: &[Found],
) -> Result<(), Unread> {
    let first = &group[0];
    if is_value(first) {
        return volume.read_value(window, (region, first), |_| Ok(()));
    }
    let sequence = region.sequence.expect("a region with records has a sequence");
    let offset = u64::from(first.offset);
    let head = read_head(window, &volume.superblock, (region.number, sequence, offset))?;
    let mut list = Vec::new();
    let place = (region.number, offset);
    read_value(window, &volume.superblock, place, &head, |piece| {
        list.extend_from_slice(piece);
        Ok(())
    })?;
    let there: Result<Vec<(&[u8], Version)>, FormatError> =
        tombstones_of(&list).map(|one| one.map(|one| (one.name.bytes(), one.version))).collect();
    let listed: Vec<(&[u8], Version)> =
        group.iter().map(|found| (region.name(found).bytes(), found.record.version)).collect();
    let counts = head.record.kind == first.record.kind && head.record.version == Version(listed.len() as u64);
    match there.map_err(Unread::Format)? == listed && counts {
        true => Ok(()),
        false => Err(Unread::Index),
    }
}

fn trouble(region: &Region, found: &Found, error: &Unread) -> Trouble {
    let what = match is_value(found) {
        true => format!("{} ({})", label(region.name(found)), found.fate.word()),
        false => "tombstones, which the index has as well".to_owned(),
    };
    let words = format!("{what}: {error}");
    Trouble { is_damage: is_value(found), region: region.number, offset: found.offset.into(), words }
}

/// What was found in a region that has changed meanwhile is no damage.
fn forgiven(device: &Device, volume: &Volume, region: &Region, found: Vec<Trouble>) -> Vec<Trouble> {
    if !found.iter().any(|trouble| trouble.is_damage) || region.header.is_none() {
        return found;
    }
    let at = volume.superblock.geometry.region_at(region.number);
    let now = device.read(at, SECTOR_BYTES).ok();
    let now = now.map(|sector| RegionHeader::decode(&sector, volume.superblock.volume, region.number).ok());
    match now == Some(region.header) {
        true => found,
        false => {
            let words =
                "it was reclaimed while it was read: verify again to know what is in it now".to_owned();
            vec![Trouble { is_damage: false, region: region.number, offset: 0, words }]
        }
    }
}
