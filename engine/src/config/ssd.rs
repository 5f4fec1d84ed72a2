//! The SSD tier as it is asked for. Where each core's part is, is decided when the engine starts (`tiering/devices.rs`).

use super::value::ValueError;
use super::{Config, ConfigError, refused};
use crate::tiering::TierSettings;
use crate::tiering::devices::{self, SsdPlan};
use snowskin_protocol::ByteSize;
use std::time::{SystemTime, UNIX_EPOCH};

impl Config {
    /// The SSD tier; `None`: there is none.
    pub fn ssd_plan(&self) -> Option<SsdPlan> {
        let places = self.ssd.value.clone();
        (!places.is_empty()).then(|| SsdPlan {
            places,
            bytes: self.ssd_size.value.map(|size| size.0),
            settings: TierSettings {
                region_bytes: self.ssd_region.value.0,
                scrub: self.ssd_scrub.value.of_core(self.cores.value),
                trim: self.ssd_trim.value,
                unix_ms,
            },
            nodes: self.cpu_plan.cores.iter().map(|core| core.node).collect(),
        })
    }

    /// A tier has a size, and room for a few regions in each core's part. A device has its size anyway.
    pub(super) fn ssd_fits(&self) -> Result<(), ConfigError> {
        let (cores, region) = (self.cores.value, self.ssd_region.value);
        let least = ByteSize(devices::bytes_min(cores.into(), region.0));
        let is_sized =
            !self.ssd.value.is_empty() && self.ssd.value.iter().all(|path| devices::is_device(path));
        match self.ssd_size.value {
            None if self.ssd.value.is_empty() || is_sized => Ok(()),
            Some(_) if self.ssd.value.is_empty() => {
                Err(refused("ssd-size", &self.ssd_size, ValueError::SsdMissing))
            }
            Some(size) if size >= least => Ok(()),
            given => {
                let given = given.unwrap_or(ByteSize(0));
                Err(refused("ssd-size", &self.ssd_size, ValueError::SsdSize { given, cores, least }))
            }
        }
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
