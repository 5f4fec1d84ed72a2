//! Files stand for devices: they are divided in the same way.

use super::*;
use crate::shard::TierPolicy;
use crate::tiering::{ScrubRate, Trim};
use snowskin_ssd_tier::format::Geometry;
use std::fs;
use std::os::unix::fs::FileExt;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A folder, and files in it that are as good as devices.
fn disks(sizes: &[u64]) -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<PathBuf> =
        (0..sizes.len()).map(|number| folder.path().join(format!("disk-{number}"))).collect();
    for (path, bytes) in paths.iter().zip(sizes) {
        fs::File::create(path).and_then(|file| file.set_len(*bytes)).expect("room");
    }
    (folder, paths)
}

fn plan(places: &[PathBuf], cores: usize) -> SsdPlan {
    let settings = TierSettings {
        region_bytes: MIB,
        scrub: ScrubRate::default(),
        trim: Trim::Auto,
        policy: TierPolicy::default(),
        write_bytes_per_day: None,
        unix_ms: || 7,
    };
    SsdPlan { places: places.to_vec(), bytes: None, settings, nodes: vec![None; cores] }
}

fn places(plan: &SsdPlan) -> Vec<DiskPlace> {
    plan.prepare().expect("they can be had").configs.into_iter().map(|config| config.place).collect()
}

fn refusal(plan: &SsdPlan) -> String {
    plan.prepare().err().expect("a refusal").to_string()
}

#[test]
fn a_device_is_divided_once_among_all_cores() {
    let (_folder, paths) = disks(&[65 * MIB]);
    let plan = plan(&paths, 4);
    let disk = || DiskPlace::existing(&paths[0]);
    let expected: Vec<DiskPlace> = (0..4).map(|core| disk().part(MIB + core * 16 * MIB, 16 * MIB)).collect();
    assert_eq!(places(&plan), expected);
    let table = fs::read(&paths[0]).expect("it is there");
    assert_eq!(places(&plan), expected, "the next time it is found");
    assert_eq!(fs::read(&paths[0]).expect("it is there"), table, "and nothing is written");
    // What it has is what it was asked for, or may be left out.
    assert_eq!(places(&SsdPlan { bytes: Some(65 * MIB), ..plan.clone() }).len(), 4);
    let held = plan.prepare().expect("it can be had");
    assert_eq!((held.devices(), held.configs[3].settings.region_bytes), (1, MIB));
    assert_eq!((held.configs[0].settings.unix_ms)(), 7);
    assert!(refusal(&plan).contains("is used by another engine"), "the device is locked");
}

#[test]
fn another_number_of_cores_or_another_size_is_refused_and_nothing_is_written() {
    let (_folder, paths) = disks(&[65 * MIB]);
    places(&plan(&paths, 4));
    let before = fs::read(&paths[0]).expect("it is there");
    for cores in [1, 2, 3, 5, 8] {
        let said = refusal(&plan(&paths, cores));
        assert!(said.contains("divided for an engine of 4 cores") && said.contains("--cores 4"), "{said}");
    }
    let grown = fs::OpenOptions::new().write(true).open(&paths[0]).expect("it is ours");
    grown.set_len(100 * MIB).expect("room");
    assert_eq!(places(&plan(&paths, 4))[3], DiskPlace::existing(&paths[0]).part(49 * MIB, 16 * MIB));
    let said = refusal(&SsdPlan { bytes: Some(100 * MIB), ..plan(&paths, 4) });
    assert!(said.contains("parts of 16 MiB") && said.contains("leave --ssd-size out"), "{said}");
    grown.set_len(60 * MIB).expect("it shrinks");
    let said = refusal(&plan(&paths, 4));
    assert!(said.contains("4 parts of 16777216 bytes on a disk of 62914560"), "{said}");
    grown.set_len(65 * MIB).expect("room");
    // What was cut off is zeros now, and nothing else has changed.
    let after = fs::read(&paths[0]).expect("it is there");
    assert_eq!(after[..60 << 20], before[..60 << 20]);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let (_folder, paths) = disks(&[65 * MIB]);
    let plan = plan(&paths, 2);
    let mut bytes = vec![0; 65 << 20];
    // Where other file systems have their first words.
    for at in [0, 1_024, 65_536, (1 << 20) - 1] {
        bytes[at] = 0x53;
        fs::write(&paths[0], &bytes).expect("room");
        let said = refusal(&plan);
        assert!(said.contains("is not Snowskin's") && said.contains("dd if=/dev/zero of=/"), "{said}");
        assert!(fs::read(&paths[0]).expect("it is there") == bytes, "nothing is written");
        bytes[at] = 0;
    }
    // A table that is damaged, in both copies, and in one.
    fs::write(&paths[0], &bytes).expect("room");
    places(&plan);
    let mut bytes = fs::read(&paths[0]).expect("it is there");
    bytes[20] ^= 1;
    fs::write(&paths[0], &bytes).expect("room");
    assert_eq!(places(&plan).len(), 2);
    bytes[4_096 + 20] ^= 1;
    fs::write(&paths[0], &bytes).expect("room");
    let said = refusal(&plan);
    assert!(said.contains("checksum of the table of parts"), "{said}");
    // A volume by itself.
    let mut block = vec![0; SECTOR];
    let geometry = Geometry { region_bytes: MIB, regions: 60 };
    let (volume, floor, owner) = Default::default();
    Superblock { volume, generation: 2, geometry, floor, mounts: 1, owner }.encode(&mut block);
    bytes[..1 << 20].fill(0);
    bytes[..SECTOR].copy_from_slice(&block);
    fs::write(&paths[0], &bytes).expect("room");
    let said = refusal(&plan);
    assert!(said.contains("is a volume by itself"), "{said}");
}

#[test]
fn what_stood_in_a_part_before_is_no_volume_any_more() {
    let (_folder, paths) = disks(&[65 * MIB]);
    let plan = plan(&paths, 4);
    places(&plan);
    let mut bytes = fs::read(&paths[0]).expect("it is there");
    bytes[1 << 20..].fill(7);
    // As the error says: begin anew.
    bytes[..1 << 20].fill(0);
    fs::write(&paths[0], &bytes).expect("room");
    let parts = places(&plan);
    let after = fs::read(&paths[0]).expect("it is there");
    for part in parts.iter().filter_map(|place| place.part) {
        let at = part.at as usize;
        assert!(after[at..at + 2 * SECTOR].iter().all(|byte| *byte == 0), "at {at}");
        assert!(after[at + 2 * SECTOR..at + part.bytes as usize].iter().all(|byte| *byte == 7));
    }
}

#[test]
fn several_devices_belong_together() {
    let (folder, paths) = disks(&[33 * MIB, 33 * MIB]);
    let plan = plan(&paths, 3);
    let first = places(&plan);
    use_parts(&first);
    let by_disk = |number: usize| first.iter().filter(|place| place.path == paths[number]).count();
    assert_eq!((by_disk(0), by_disk(1)), (2, 1));
    // In whatever order they are named.
    let turned = SsdPlan { places: vec![paths[1].clone(), paths[0].clone()], ..plan.clone() };
    assert_eq!(places(&turned), first);
    for few in [&paths[..1], &paths[1..]] {
        assert!(
            refusal(&SsdPlan { places: few.to_vec(), ..plan.clone() })
                .contains("does not belong to the others")
        );
    }
    let third = folder.path().join("third");
    fs::File::create(&third).and_then(|file| file.set_len(33 * MIB)).expect("room");
    let more = SsdPlan { places: [&paths[..], &[third]].concat(), ..plan.clone() };
    assert!(refusal(&more).contains("does not belong to the others"));
    // One of another making.
    let (_other, others) = disks(&[33 * MIB, 33 * MIB]);
    use_parts(&places(&SsdPlan { places: others.clone(), ..plan.clone() }));
    let mixed = SsdPlan { places: vec![paths[0].clone(), others[1].clone()], ..plan.clone() };
    assert!(refusal(&mixed).contains("does not belong to the others"));
    assert!(
        refusal(&SsdPlan { nodes: vec![None], ..plan.clone() })
            .contains("2 places for the SSD tier of 1 cores")
    );
    let folder =
        SsdPlan { places: vec![paths[0].clone(), folder.path().to_owned()], bytes: Some(66 * MIB), ..plan };
    assert!(refusal(&folder).contains("folders only, or devices only"));
}

/// As cores do that begin.
fn use_parts(places: &[DiskPlace]) {
    for place in places {
        let at = place.part.expect("of a device").at;
        let file = fs::OpenOptions::new().write(true).open(&place.path).expect("it is ours");
        file.write_all_at(b"SNOWTIER", at + SUPERBLOCKS_AT[1]).expect("room");
    }
}

#[test]
fn what_was_not_divided_to_the_end_is_divided_anew_if_nobody_has_used_it() {
    let (_folder, paths) = disks(&[33 * MIB, 33 * MIB]);
    let plan = plan(&paths, 3);
    let first = places(&plan);
    let tables =
        || paths.iter().map(|path| fs::read(path).expect("it is there")[..1 << 20].to_vec()).collect();
    let before: Vec<Vec<u8>> = tables();
    // Killed before the second table was written, and as well if the first device has that of a later try.
    for zeroed in [1, 0] {
        let file = fs::OpenOptions::new().write(true).open(&paths[zeroed]).expect("it is ours");
        file.write_all_at(&[0; 1 << 20], 0).expect("room");
        assert_eq!(places(&plan), first);
        let after: Vec<Vec<u8>> = tables();
        assert!(after.iter().zip(&before).all(|(after, before)| after != before), "both are of another set");
        assert_eq!((places(&plan), tables()), (first.clone(), after), "the next time nothing is written");
    }
    let of_another_try = tables();
    let file = fs::OpenOptions::new().write(true).open(&paths[0]).expect("it is ours");
    file.write_all_at(&before[0], 0).expect("room");
    assert_eq!(places(&plan), first);
    assert!(tables().iter().zip(&of_another_try).all(|(after, before)| after != before));
    // Whoever has used one part has left something there: nothing is written.
    use_parts(&first[1..2]);
    let file = fs::OpenOptions::new().write(true).open(&paths[0]).expect("it is ours");
    file.write_all_at(&[0; 1 << 20], 0).expect("room");
    let used = tables();
    let said = refusal(&plan);
    assert!(said.contains("does not belong to the others") && said.contains("dd if=/dev/zero"), "{said}");
    assert_eq!(tables(), used);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let (_folder, paths) = disks(&[18 * MIB, 0]);
    let whole = plan(&paths[..1], 2);
    let said = refusal(&whole);
    assert!(said.contains("has 18 MiB, which is less than 19 MiB for 2 cores"), "{said}");
    assert!(fs::read(&paths[0]).expect("it is there").iter().all(|byte| *byte == 0), "nothing is written");
    assert_eq!(places(&SsdPlan { nodes: vec![None], ..whole.clone() }).len(), 1);
    // A file that is empty is made as large as it is to be.
    let made = SsdPlan { places: vec![paths[1].clone()], bytes: Some(40 * MIB), ..whole };
    assert_eq!(places(&made)[1], DiskPlace::sized(&paths[1], 40 * MIB).part(20 * MIB, 19 * MIB));
    assert_eq!(fs::metadata(&paths[1]).expect("it is there").len(), 40 * MIB);
    let missing = SsdPlan { bytes: Some(50 * MIB), ..made };
    assert!(refusal(&missing).contains("has 41943040 bytes and not 52428800"));
}

#[test]
fn each_part_has_its_regions_whatever_the_sizes_and_numbers() {
    // Of two devices one has the parts of two cores, and half of all bytes.
    let (_folder, paths) = disks(&[0, 0]);
    let three = SsdPlan { bytes: Some(bytes_min(3, MIB) + 3 * MIB), ..plan(&paths, 3) };
    let said = refusal(&three);
    assert!(said.contains("gives 15 MiB of") && said.contains("less than 19 MiB for 2 cores"), "{said}");
    // Some bytes more are no sector.
    let (_folder, paths) = disks(&[0, 0]);
    let enough = SsdPlan { bytes: Some(2 * 19 * MIB + 5), ..plan(&paths, 3) };
    assert_eq!(parts_in_regions(&enough), [8, 17, 8]);
    // The table has its place, too, and parts are rounded.
    let (_folder, paths) = disks(&[0, 0, 20 * MIB]);
    let exactly = SsdPlan { bytes: Some(bytes_min(1, MIB)), ..plan(&paths[..1], 1) };
    let said = refusal(&exactly);
    assert!(said.contains("gives 9 MiB of") && said.contains("less than 10 MiB for 1 cores"), "{said}");
    assert_eq!(parts_in_regions(&SsdPlan { bytes: Some(10 * MIB), ..plan(&paths[1..2], 1) }), [8]);
    let mut odd = plan(&paths[2..], 2);
    odd.settings.region_bytes = MIB + 4_096;
    let said = refusal(&odd);
    assert!(said.contains("has 20 MiB, which is less than 21 MiB for 2 cores"), "{said}");
    assert_eq!(
        bytes_min(2, MIB + 4_096) + PARTS_AT,
        19 * MIB + (64 << 10),
        "it seems to have more than enough"
    );
}

/// Regions of each core's part.
fn parts_in_regions(plan: &SsdPlan) -> Vec<u32> {
    let parts = places(plan).into_iter().map(|place| place.part.expect("of a device").bytes);
    let geometry = |bytes| Geometry::of_disk(bytes, plan.settings.region_bytes).expect("it is divided");
    parts.map(|bytes| geometry(bytes).regions).collect()
}

#[test]
fn each_core_has_a_file_in_a_folder_and_keeps_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = ["a", "b"].map(|name| folder.path().join(name));
    let plan = SsdPlan { bytes: Some(1 << 30), ..plan(&paths, 2) };
    let said = refusal(&plan);
    assert!(said.contains("a is not there: make that folder") && !paths[0].exists(), "{said}");
    paths.iter().for_each(|path| fs::create_dir(path).expect("a folder"));
    let file = |folder: usize, core: usize| paths[folder].join(format!("core-{core}.snowskin"));
    let expected = [(0, 0), (1, 1)].map(|(folder, core)| DiskPlace::sized(file(folder, core), 512 * MIB));
    assert_eq!(places(&plan), expected);
    // Where it is, whatever would be chosen now.
    fs::write(file(0, 1), []).expect("room");
    assert_eq!(places(&plan)[1].path, file(0, 1));
    fs::write(file(1, 2), []).expect("room");
    let said = refusal(&plan);
    assert!(said.contains("core-2.snowskin is of an engine with more cores than 2"), "{said}");
    assert_eq!(places(&SsdPlan { nodes: vec![None; 3], ..plan })[2].path, file(1, 2));
}

#[test]
fn cores_have_their_parts_near_them_and_evenly() {
    let node = Some;
    let cores = [node(0), node(0), node(1), node(1)];
    assert_eq!(spread(&cores, &[node(1), node(0)]), [1, 1, 0, 0]);
    assert_eq!(spread(&cores, &[node(0), None]), [0, 0, 1, 1]);
    assert_eq!(spread(&cores, &[None, None]), [0, 1, 0, 1]);
    assert_eq!(spread(&cores, &[node(0), node(0), node(1)]), [0, 1, 2, 0]);
    assert_eq!(spread(&[None; 5], &[None, None]), [0, 1, 0, 1, 0]);
    // Evenly, also where they are not near.
    assert_eq!(spread(&[node(0); 4], &[node(0), node(1)]), [0, 0, 1, 1]);
    assert_eq!(spread(&cores, &[node(1)]), [0; 4]);
}
