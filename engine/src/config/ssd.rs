//! Each core's part of the SSD tier.

use crate::tiering::SsdConfig;
use snowskin_io::{DiskPlace, SECTOR_BYTES};
use snowskin_protocol::ByteSize;
use snowskin_ssd_tier::format::REGIONS_AT;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Regions of a core's part, at least: fewer would be reclaimed as soon as they are filled.
const REGIONS_MIN: u64 = 8;

/// The least that will do for so many cores.
pub(super) fn bytes_min(cores: u16, region: ByteSize) -> ByteSize {
    let each = REGIONS_AT.saturating_add(region.0.saturating_mul(REGIONS_MIN));
    ByteSize(each.saturating_mul(u64::from(cores)))
}

/// The part of one core of so many: a file of its own in a folder; or all of a device, of a single core.
pub(super) fn of_core(path: &Path, size: ByteSize, region: ByteSize, (core, cores): (u16, u16)) -> SsdConfig {
    let share = size.0 / u64::from(cores) / SECTOR_BYTES * SECTOR_BYTES;
    let is_disk = cores == 1 && path.exists() && !path.is_dir();
    let place = match is_disk {
        true => DiskPlace::sized(path, share),
        false => DiskPlace::sized(path.join(format!("core-{core}.snowskin")), share),
    };
    SsdConfig { place, region_bytes: region.0, unix_ms }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_core_has_a_file_and_a_single_one_may_have_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let (size, region) = (ByteSize(1 << 30), ByteSize(64 << 20));
        let second = of_core(folder.path(), size, region, (1, 2));
        assert_eq!(second.place, DiskPlace::sized(folder.path().join("core-1.snowskin"), 512 << 20));
        let device = folder.path().join("device");
        std::fs::write(&device, []).unwrap();
        assert_eq!(of_core(&device, size, region, (0, 1)).place, DiskPlace::sized(&device, 1 << 30));
        assert!(second.region_bytes == 64 << 20 && (second.unix_ms)() > 1_700_000_000_000);
    }

    #[test]
    fn a_part_has_a_few_regions() {
        assert_eq!(bytes_min(2, ByteSize(64 << 20)), ByteSize(2 * ((8 * 64 + 1) << 20)));
    }
}
