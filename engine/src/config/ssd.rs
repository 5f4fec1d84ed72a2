//! What is said about the SSD tier. Where each core's part is, is decided when the engine starts (`tiering/devices.rs`).

use super::error::{ConfigError, Warning};
use super::source::{Layers, Setting};
use super::value::{self, ValueError};
use super::{only_default, refused};
use crate::shard::{Admission, TierPolicy, WriteMode};
use crate::tiering::devices::{self, SsdPlan};
use crate::tiering::{ScrubRate, TierSettings, Trim};
use snowskin_protocol::ByteSize;
use snowskin_ssd_tier::format::REGION_BYTES_DEFAULT;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// When objects go to the SSD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SsdMode {
    /// Before memory is needed.
    #[default]
    WriteBack,
    /// When they are put.
    WriteThrough,
    /// Never: there is no SSD tier, wherever it would be.
    Off,
}

impl SsdMode {
    /// How the tier writes; `None`: there is none.
    pub(super) fn write_mode(self) -> Option<WriteMode> {
        match self {
            SsdMode::WriteBack => Some(WriteMode::Back),
            SsdMode::WriteThrough => Some(WriteMode::Through),
            SsdMode::Off => None,
        }
    }
}

impl fmt::Display for SsdMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            SsdMode::WriteBack => "write-back",
            SsdMode::WriteThrough => "write-through",
            SsdMode::Off => "off",
        })
    }
}

/// All that is said about the SSD tier.
#[derive(Clone, Debug)]
pub struct SsdSettings {
    /// The folders, or else devices, of what goes from memory to an SSD.
    pub places: Setting<Vec<PathBuf>>,
    /// Bytes there, of all cores together.
    pub size: Setting<Option<ByteSize>>,
    /// Bytes of a region there, when it is made.
    pub region: Setting<ByteSize>,
    /// When objects go there.
    pub mode: Setting<SsdMode>,
    /// Which do.
    pub admission: Setting<Admission>,
    /// Bytes that may be written there in a day, of all cores together; `None`: any number.
    pub write_budget: Setting<Option<ByteSize>>,
    /// Bytes that are read there in a second, of all cores together, to find what is damaged.
    pub scrub: Setting<ScrubRate>,
    /// Whether devices hear what is of no use there.
    pub trim: Setting<Trim>,
}

impl SsdSettings {
    pub(super) fn of(layers: &Layers) -> Result<Self, ConfigError> {
        Ok(SsdSettings {
            places: layers.setting("ssd", value::ssd, Vec::new)?,
            size: layers.setting("ssd-size", |text| Ok(Some(text.parse()?)), || None)?,
            region: layers.setting("ssd-region", value::ssd_region, || ByteSize(REGION_BYTES_DEFAULT))?,
            mode: layers.setting("ssd-mode", value::ssd_mode, SsdMode::default)?,
            admission: layers.setting("ssd-admission", value::ssd_admission, Admission::default)?,
            write_budget: layers.setting("ssd-write-budget", value::ssd_write_budget, || None)?,
            scrub: layers.setting("ssd-scrub", value::ssd_choice, ScrubRate::default)?,
            trim: layers.setting("ssd-trim", value::ssd_choice, Trim::default)?,
        })
    }

    /// A tier has a size, and room for a few regions in each core's part. A device has its size anyway.
    pub(super) fn fits(&self, cores: u16) -> Result<(), ConfigError> {
        let places = &self.places.value;
        if places.is_empty() {
            return self.is_silent();
        }
        let least = ByteSize(devices::bytes_min(cores.into(), self.region.value.0));
        match self.size.value {
            None if places.iter().all(|path| devices::is_device(path)) => Ok(()),
            Some(size) if size >= least => Ok(()),
            given => {
                let given = given.unwrap_or(ByteSize(0));
                Err(refused("ssd-size", &self.size, ValueError::SsdSize { given, cores, least }))
            }
        }
    }

    /// Nothing is said about a tier that is not there.
    fn is_silent(&self) -> Result<(), ConfigError> {
        let missing = || ValueError::SsdMissing;
        only_default("ssd-size", &self.size, missing)?;
        only_default("ssd-region", &self.region, missing)?;
        only_default("ssd-mode", &self.mode, missing)?;
        only_default("ssd-admission", &self.admission, missing)?;
        only_default("ssd-write-budget", &self.write_budget, missing)?;
        only_default("ssd-scrub", &self.scrub, missing)?;
        only_default("ssd-trim", &self.trim, missing)
    }

    /// That there is none, although somebody says where.
    pub(super) fn warning(&self) -> Option<Warning> {
        let place = self.places.value.first().filter(|_| self.mode.value == SsdMode::Off)?;
        Some(Warning::SsdOff(place.clone()))
    }

    /// What is asked for, for a core on each of these NUMA nodes; `None`: there is no tier.
    pub(super) fn plan(&self, nodes: Vec<Option<u32>>) -> Option<SsdPlan> {
        let policy = TierPolicy { mode: self.mode.value.write_mode()?, admission: self.admission.value };
        let (places, cores) = (self.places.value.clone(), nodes.len() as u16);
        (!places.is_empty()).then(|| SsdPlan {
            places,
            bytes: self.size.value.map(|size| size.0),
            settings: TierSettings {
                region_bytes: self.region.value.0,
                policy,
                write_bytes_per_day: self.write_budget.value.map(|bytes| bytes.0 / u64::from(cores)),
                scrub: self.scrub.value.of_core(cores),
                trim: self.trim.value,
                unix_ms,
            },
            nodes,
        })
    }
}

/// Where the engine's own master remembers who has kept what on it: in the folder. On a device there is no room for that.
pub(super) fn ledger(path: &Path) -> Option<PathBuf> {
    path.is_dir().then(|| path.join("ledger"))
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;

    fn given<T>(value: T) -> Setting<T> {
        Setting { value, source: Source::Default("given".to_owned()) }
    }

    fn settings(places: &[&str]) -> SsdSettings {
        SsdSettings {
            places: given(places.iter().map(PathBuf::from).collect()),
            size: given(Some(ByteSize(1 << 30))),
            region: given(ByteSize(64 << 20)),
            mode: given(SsdMode::WriteThrough),
            admission: given(Admission::SecondTouch),
            write_budget: given(Some(ByteSize(1_000))),
            scrub: given(ScrubRate::default()),
            trim: given(Trim::default()),
        }
    }

    #[test]
    fn each_core_has_its_share_of_what_may_be_written() {
        let plan = settings(&["/ssd"]).plan(vec![None, Some(1)]).expect("there is one");
        let policy = TierPolicy { mode: WriteMode::Through, admission: Admission::SecondTouch };
        assert_eq!((plan.settings.policy, plan.settings.write_bytes_per_day), (policy, Some(500)));
        assert!((plan.settings.unix_ms)() > 1_700_000_000_000 && plan.nodes == [None, Some(1)]);
    }

    #[test]
    fn what_is_off_is_not_there_and_that_is_said() {
        let on = settings(&["/ssd"]);
        assert_eq!(on.warning(), None);
        let off = SsdSettings { mode: given(SsdMode::Off), ..on };
        assert!(off.plan(vec![None]).is_none());
        assert_eq!(off.warning(), Some(Warning::SsdOff("/ssd".into())));
    }

    #[test]
    fn ways_of_writing_have_names_and_others_are_refused_with_a_sentence() {
        for mode in [SsdMode::WriteBack, SsdMode::WriteThrough, SsdMode::Off] {
            assert_eq!(value::ssd_mode(&mode.to_string()).unwrap(), mode);
        }
        let refused = value::ssd_mode("sometimes").unwrap_err().to_string();
        assert!(refused.ends_with("use write-back, write-through or off"), "{refused}");
        let refused = value::ssd_admission("some").unwrap_err().to_string();
        assert!(refused.ends_with("use all or second-touch"), "{refused}");
        assert_eq!(value::ssd_write_budget("none").unwrap(), None);
        assert_eq!(value::ssd_write_budget("500GB").unwrap(), Some(ByteSize(500 << 30)));
        let refused = value::ssd_write_budget("1MB").unwrap_err().to_string();
        assert!(refused.contains("write 1GiB or more, or none"), "{refused}");
        assert!(value::ssd_write_budget("much").is_err());
    }

    #[test]
    fn what_is_said_about_no_ssd_is_refused() {
        let nowhere = settings(&[]);
        assert!(nowhere.fits(1).is_ok(), "nobody has said anything");
        let flag = |value| Setting { value, source: Source::Flag("ssd-mode") };
        let nowhere = SsdSettings { mode: flag(SsdMode::Off), ..nowhere };
        assert!(nowhere.fits(1).unwrap_err().to_string().contains("there is no --ssd"));
    }
}
