//! Damage to a volume at rest: bits, sectors of zeros, sectors in the place of others, sectors as they once were.
//!
//! A volume is opened all the same, or refused with a reason. What is lost is explained by what was damaged: a record's own sectors; headers, footers,
//! indexes, superblocks and a copy of tombstones lose nothing. What is buried comes back only from two damaged sectors: both copies of its
//! tombstone, or all that says when a region without footer was opened.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use snowskin_ssd_tier::TierError;
use snowskin_ssd_tier::format::{FormatError, Kind, record_bytes};

use crate::inspect::Compared;
use crate::keeper::{Core, Row, name_of};
use crate::model::{Key, Model};
use crate::paper::{Image, PaperDisk, Plan, SECTOR};
use crate::{BEFORE_REGIONS, Lives, disk_bytes, on_paper, options};

const REGION_SECTORS: u64 = 10;
const REGIONS: u64 = 5;
/// Bytes at the beginning of a sector that are a structure of the format, at most.
const STRUCTURE_BYTES: usize = 160;

/// A volume, as it is and as it was before its present regions were written.
struct Rest {
    now: Image,
    before: Image,
    rows: BTreeMap<Key, Row>,
    /// Names that were buried, by the sector of their tombstone.
    buried: BTreeSet<Key>,
    compared: RefCell<Compared>,
}

/// What a sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    Superblock,
    Header,
    Record(Key),
    Tombstones,
    Other,
}

impl Rest {
    fn new() -> Self {
        let mut volume = Lives::new(REGION_SECTORS, REGIONS);
        volume.live_calmly(|core| async move {
            for key in 20..32 {
                core.put_by_force(key, 3 * SECTOR).await.expect("no faults");
            }
            core.commit_by_force().await.expect("no faults");
        });
        let before = volume.image.clone();
        let rows = volume.live_calmly(|core| async move {
            for key in (0..12).chain([1, 5]) {
                core.put_by_force(key, [100, SECTOR + 50, 2 * SECTOR, 4_000][usize::from(key) % 4])
                    .await
                    .expect("no faults");
            }
            core.commit_by_force().await.expect("no faults");
            for key in [2, 8] {
                core.bury(key);
            }
            core.commit_by_force().await.expect("no faults");
            core.put_by_force(12, 70).await.expect("no faults");
            core.commit_by_force().await.expect("no faults");
            core.rows.borrow().clone()
        });
        Rest {
            now: volume.image,
            before,
            rows,
            buried: [1, 2, 5, 8].into(),
            compared: RefCell::new(Compared::new()),
        }
    }

    fn holds(&self, sector: u64) -> Holds {
        let first = BEFORE_REGIONS / SECTOR as u64;
        let Some(inside) = sector.checked_sub(first) else { return Holds::Superblock };
        let (region, inside) = ((inside / REGION_SECTORS) as u32, inside % REGION_SECTORS);
        if inside == 0 {
            return Holds::Header;
        }
        for (key, row) in &self.rows {
            let address = row.address.expect("written");
            let (head, body) = record_bytes(name_of(*key).bytes().len(), row.facts.value_bytes);
            let from = u64::from(address.offset) / SECTOR as u64;
            if address.region == region && (from..from + (head + body) / SECTOR as u64).contains(&inside) {
                return Holds::Record(*key);
            }
        }
        let is_list = self.now.get(&sector).is_some_and(|bytes| bytes.starts_with(b"SNOWRCRD"));
        let kind = self.now.get(&sector).map_or(0, |bytes| bytes[78]);
        if is_list && kind == Kind::Tombstones as u8 + 1 { Holds::Tombstones } else { Holds::Other }
    }

    /// Whether nothing says any more that a region without footer holds anything: its header is damaged, and its first record.
    fn is_region_lost(&self, region: u32, damaged: &[u64]) -> bool {
        let first = BEFORE_REGIONS / SECTOR as u64 + u64::from(region) * REGION_SECTORS;
        let footer = self.now.get(&(first + REGION_SECTORS - 1));
        let sequence = self.now.get(&first).map(|header| &header[32..40]);
        let has_footer =
            footer.is_some_and(|footer| footer.starts_with(b"SNOWFOOT") && Some(&footer[32..40]) == sequence);
        !has_footer && [first, first + 1].iter().all(|sector| damaged.contains(sector))
    }

    /// Opens what is left of a volume after damage to some sectors. Answers how many names were lost.
    fn check(&self, image: Image, damaged: &[u64]) -> u64 {
        self.compared.borrow_mut().compare(&image, REGION_SECTORS, REGIONS);
        let hurt: BTreeSet<Holds> = damaged.iter().map(|sector| self.holds(*sector)).collect();
        let superblocks = damaged.iter().filter(|sector| self.holds(**sector) == Holds::Superblock).count();
        let disk = PaperDisk::new(disk_bytes(REGION_SECTORS, REGIONS), image, Plan::Calm);
        let (model, rows) = (Rc::new(RefCell::new(Model::default())), self.rows.clone());
        let is_lost = |region: u32| self.is_region_lost(region, damaged);
        let lost: Vec<u32> = (0..REGIONS as u32).filter(|region| is_lost(*region)).collect();
        let copies = damaged.iter().filter(|sector| self.holds(**sector) == Holds::Tombstones).count();
        let may_rise = if copies > 1 || !lost.is_empty() { self.buried.clone() } else { BTreeSet::new() };
        // Whatever is found is held against the rows here.
        on_paper(&disk, |platform, disk| async move {
            let opened = Core::open_any(platform, disk, options(REGION_SECTORS), model).await;
            let (core, recovered) = match opened {
                Ok(opened) => opened,
                Err(TierError::Format(error)) => {
                    let is_other = matches!(error, FormatError::Version(_));
                    assert!(superblocks == 2 || superblocks == 1 && is_other, "{error}: {hurt:?}");
                    return 0;
                }
                Err(error) => panic!("{error}"),
            };
            let found = core.rows.borrow().clone();
            for (key, row) in &found {
                let is_known = rows.get(key) == Some(row) || may_rise.contains(key);
                assert!(is_known, "{key} is there: {row:?}, {hurt:?}");
            }
            let regions_lost = lost;
            let mut lost = 0;
            for (key, row) in &rows {
                let is_away = regions_lost.contains(&row.address.expect("written").region);
                let is_hurt = is_away || hurt.contains(&Holds::Record(*key));
                match core.read(*key).await {
                    Ok(true) => {}
                    Ok(false) | Err(TierError::Damaged) => {
                        assert!(is_hurt, "{key} is gone: {hurt:?}, {recovered:?}");
                        lost += 1;
                    }
                    Err(error) => panic!("{key}: {error}"),
                }
            }
            core.put_by_force(50, 100).await.expect("it goes on");
            lost
        })
        .expect("it ends")
    }

    fn sectors(&self) -> Vec<u64> {
        self.now.keys().copied().collect()
    }

    /// Sectors that begin with a structure, one of each kind and region.
    fn structures(&self) -> Vec<u64> {
        let is_one = |sector: &u64| self.now[sector].starts_with(b"SNOW");
        self.sectors().into_iter().filter(is_one).collect()
    }
}

fn changed(image: &Image, sector: u64, change: impl FnOnce(&mut Vec<u8>)) -> Image {
    let mut image = image.clone();
    let mut bytes = image[&sector].to_vec();
    change(&mut bytes);
    image.insert(sector, bytes.into());
    image
}

#[test]
fn a_calm_volume_is_whole() {
    let rest = Rest::new();
    assert_eq!(rest.check(rest.now.clone(), &[]), 0);
    let holds: Vec<Holds> = rest.sectors().into_iter().map(|sector| rest.holds(sector)).collect();
    for kind in [Holds::Superblock, Holds::Header, Holds::Tombstones, Holds::Other] {
        assert!(holds.contains(&kind), "{kind:?}: {holds:?}");
    }
}

#[test]
fn every_bit_of_every_structure_may_flip() {
    let rest = Rest::new();
    let is_full = std::env::var_os("SNOWSKIN_CRASH_FULL").is_some();
    let (mut flips, mut lost) = (0_u64, 0);
    for (number, sector) in rest.structures().into_iter().enumerate() {
        for bit in 0..STRUCTURE_BYTES * 8 {
            // A sample that meets each bit of one structure or another.
            if !is_full && bit % 7 != number % 7 {
                continue;
            }
            let image = changed(&rest.now, sector, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            lost += rest.check(image, &[sector]);
            flips += 1;
        }
    }
    assert!(lost > 0 && flips > 1_000, "{flips} flips, {lost} lost");
}

#[test]
fn every_sector_may_become_zeros_or_what_it_once_was() {
    let rest = Rest::new();
    for sector in rest.sectors() {
        let zeros = changed(&rest.now, sector, |bytes| bytes.fill(0));
        assert!(rest.check(zeros, &[sector]) <= 1);
        let old = changed(&rest.now, sector, |bytes| match rest.before.get(&sector) {
            Some(old) => bytes.copy_from_slice(old),
            None => bytes.fill(0),
        });
        assert!(rest.check(old, &[sector]) <= 1);
    }
}

#[test]
fn any_two_sectors_may_change_places() {
    let rest = Rest::new();
    let sectors = rest.sectors();
    for (number, one) in sectors.iter().enumerate() {
        for other in &sectors[number + 1..] {
            let mut image = rest.now.clone();
            let (first, second) = (image[one].clone(), image[other].clone());
            image.insert(*one, second);
            image.insert(*other, first);
            rest.check(image, &[*one, *other]);
        }
    }
}

#[test]
fn any_region_may_be_what_it_once_was() {
    let rest = Rest::new();
    for region in 0..REGIONS {
        let first = BEFORE_REGIONS / SECTOR as u64 + region * REGION_SECTORS;
        let sectors: Vec<u64> = (first..first + REGION_SECTORS).collect();
        let mut image = rest.now.clone();
        for sector in &sectors {
            match rest.before.get(sector) {
                Some(old) => image.insert(*sector, old.clone()),
                None => image.remove(sector),
            };
        }
        rest.check(image, &sectors);
    }
}
