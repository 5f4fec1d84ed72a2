//! Changing the cluster-wide [`Settings`] at run time: from the command line, and from the admin API.

use serde::{Deserialize, Serialize};
use snowskin_protocol::settings::SettingsError;
use snowskin_protocol::{Settings, Strategy};

/// The settings that are to change; the others stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsChange {
    /// Thousandths of a core's memory at which eviction starts.
    pub high_watermark_permille: Option<u16>,
    /// Thousandths at which it stops.
    pub low_watermark_permille: Option<u16>,
    /// Milliseconds for which a read or a lookup protects an object.
    pub lease_ms: Option<u32>,
    /// How places for values are chosen: the name of a [`Strategy`].
    #[serde(default, with = "strategy_name")]
    pub allocation_strategy: Option<Strategy>,
}

impl SettingsChange {
    /// `settings` with these changes, if they can hold.
    pub fn apply(self, settings: Settings) -> Result<Settings, SettingsError> {
        Settings {
            high_watermark_permille: self.high_watermark_permille.unwrap_or(settings.high_watermark_permille),
            low_watermark_permille: self.low_watermark_permille.unwrap_or(settings.low_watermark_permille),
            lease_ms: self.lease_ms.unwrap_or(settings.lease_ms),
            ..settings
        }
        .with_strategy(self.allocation_strategy.unwrap_or(settings.strategy()))
        .checked()
    }
}

impl From<Settings> for SettingsChange {
    fn from(settings: Settings) -> Self {
        SettingsChange {
            high_watermark_permille: Some(settings.high_watermark_permille),
            low_watermark_permille: Some(settings.low_watermark_permille),
            lease_ms: Some(settings.lease_ms),
            allocation_strategy: Some(settings.strategy()),
        }
    }
}

/// Strategies by their names.
mod strategy_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use snowskin_protocol::Strategy;

    pub(super) fn serialize<S: Serializer>(strategy: &Option<Strategy>, to: S) -> Result<S::Ok, S::Error> {
        strategy.map(Strategy::name).serialize(to)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Option<Strategy>, D::Error> {
        let name = Option::<String>::deserialize(from)?;
        name.map(|name| name.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let change = SettingsChange { lease_ms: Some(7), ..SettingsChange::default() };
        let changed = change.apply(Settings::default()).unwrap();
        assert_eq!(changed, Settings { lease_ms: 7, ..Settings::default() });
        assert_eq!(SettingsChange::from(changed).apply(Settings::default()), Ok(changed));
    }

    #[test]
    fn what_cannot_hold_is_refused() {
        let change = SettingsChange { low_watermark_permille: Some(990), ..SettingsChange::default() };
        assert!(change.apply(Settings::default()).is_err());
        let unknown =
            serde_json::from_str::<SettingsChange>(r#"{"allocation_strategy": "best"}"#).unwrap_err();
        assert!(unknown.to_string().contains("fragmentation_aware"), "{unknown}");
    }

    #[test]
    fn strategies_have_names() {
        let change: SettingsChange = serde_json::from_str(r#"{"allocation_strategy": "random"}"#).unwrap();
        let changed = change.apply(Settings::default()).unwrap();
        assert_eq!(changed.strategy(), Strategy::Random);
        let written = serde_json::to_string(&SettingsChange::from(changed)).unwrap();
        assert!(written.contains(r#""allocation_strategy":"random""#), "{written}");
    }
}
