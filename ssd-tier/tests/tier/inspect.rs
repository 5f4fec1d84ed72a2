//! What `snowskin-inspect` says of an image, beside what a mount finds and a scrub reads there: both go by `docs/FORMAT.md`, with nothing in common but
//! the format's code. These are the tool's own sources.

#![allow(dead_code, reason = "not all of the tool is used here")]

#[path = "../../../tools/src/inspect/check.rs"]
mod check;
#[path = "../../../tools/src/inspect/device.rs"]
mod device;
#[path = "../../../tools/src/inspect/failure.rs"]
mod failure;
#[path = "../../../tools/src/inspect/region.rs"]
mod region;
#[path = "../../../tools/src/inspect/text.rs"]
mod text;
#[path = "../../../tools/src/inspect/value.rs"]
mod value;
#[path = "../../../tools/src/inspect/volume.rs"]
mod volume;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use snowskin_protocol::{ObjectName, Version};
use snowskin_ssd_tier::RecordAddress;

use crate::keeper::Core;
use crate::paper::{Image, PaperDisk, Plan, SECTOR};
use crate::scrub::round;
use crate::{disk_bytes, on_paper, options};
use device::Device;
use volume::{Copies, Volume};

/// What is there, and whether anything is damaged. `None`: it is no volume.
type Findings = Option<(BTreeSet<(ObjectName, Version, RecordAddress)>, bool)>;

/// Whoever compares has a file for the images.
pub(crate) struct Compared {
    file: tempfile::NamedTempFile,
    pub(crate) images: u64,
    pub(crate) damaged: u64,
}

impl Compared {
    pub(crate) fn new() -> Self {
        let file = match Path::new("/dev/shm") {
            memory if memory.is_dir() => tempfile::NamedTempFile::new_in(memory),
            _ => tempfile::NamedTempFile::new(),
        };
        Compared { file: file.expect("a file"), images: 0, damaged: 0 }
    }

    /// The tool and a mount say the same of an image.
    pub(crate) fn compare(&mut self, image: &Image, region_sectors: u64, regions: u64) {
        let bytes = disk_bytes(region_sectors, regions);
        self.write(image, bytes);
        let (said, troubles) = self.tool();
        let disk = PaperDisk::new(bytes, image.clone(), Plan::Calm);
        let found = on_paper(&disk, move |platform, disk| async move {
            let opened = Core::open_any(platform, disk, options(region_sectors), Rc::default()).await;
            let (core, recovered) = opened.ok()?;
            let objects = recovered
                .objects
                .iter()
                .map(|found| (found.name.clone(), found.facts.version, found.address));
            let (objects, damaged) = (objects.collect(), round(&core).await.0);
            let counters = core.volume.counters();
            let is_damaged = !recovered.damage.is_none()
                || !damaged.is_empty()
                || counters.records_damaged.get() + counters.structures_damaged.get() > 0;
            Some((objects, is_damaged))
        });
        let found: Findings = found.expect("it ends");
        if said != found {
            let kept = std::env::temp_dir().join("image-of-disagreement");
            std::fs::copy(self.file.path(), &kept).expect("kept");
            panic!("{}: the tool says {said:?} ({troubles:#?}), and a mount {found:?}", kept.display());
        }
        self.images += 1;
        self.damaged += u64::from(found.is_none_or(|(_, is_damaged)| is_damaged));
    }

    fn write(&self, image: &Image, bytes: u64) {
        let file: &File = self.file.as_file();
        file.set_len(0).and_then(|()| file.set_len(bytes)).expect("a length");
        for (sector, bytes) in image {
            file.write_all_at(bytes, sector * SECTOR as u64).expect("written");
        }
    }

    fn tool(&self) -> (Findings, Vec<String>) {
        let device = Device::open(self.file.path()).expect("it opens");
        let Ok(volume) = Volume::read(&device, &mut |_, _| {}) else { return (None, Vec::new()) };
        let live = volume.live().map(|(region, found)| {
            let address = RecordAddress { region: region.number, offset: found.offset };
            (region.name(found).to_owned(), found.record.version, address)
        });
        let mut troubles = Copies::read(&device).troubles();
        let found = check::check(&device, &volume, &mut check::Sums::default(), &mut |_, _| {});
        troubles
            .extend(found.iter().filter(|trouble| trouble.is_damage).map(|trouble| format!("{trouble:?}")));
        (Some((live.collect(), !troubles.is_empty())), troubles)
    }
}
