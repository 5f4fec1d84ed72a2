//! The names of the strategies by which a place for a value is chosen: a segment of a core, or a core among cores.

use std::fmt;
use std::str::FromStr;

/// How a place is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Strategy {
    /// Any.
    Random = 0,
    /// The emptiest.
    FreeRatioFirst = 1,
    /// The tightest that fits.
    #[default]
    FragmentationAware = 2,
    /// Those on this host, then the tightest that fits.
    LocalFirst = 3,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Strategy; 4] =
        [Strategy::Random, Strategy::FreeRatioFirst, Strategy::FragmentationAware, Strategy::LocalFirst];

    /// The strategy with this number on the wire.
    pub fn from_wire(number: u8) -> Option<Self> {
        Strategy::ALL.into_iter().find(|strategy| *strategy as u8 == number)
    }

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Random => "random",
            Strategy::FreeRatioFirst => "free_ratio_first",
            Strategy::FragmentationAware => "fragmentation_aware",
            Strategy::LocalFirst => "local_first",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of a strategy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no allocation strategy: give random, free_ratio_first, fragmentation_aware or local_first")]
pub struct UnknownStrategy(String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        let is_it = |strategy: &Strategy| strategy.name() == name;
        Strategy::ALL.into_iter().find(is_it).ok_or_else(|| UnknownStrategy(name.to_owned()))
    }
}
