//! Changing the cluster-wide [`Settings`] at run time: from the command line, and from the admin API.

use serde::{Deserialize, Serialize};
use snowskin_protocol::Settings;
use snowskin_protocol::settings::SettingsError;

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
}

impl SettingsChange {
    /// `settings` with these changes, if they can hold.
    pub fn apply(self, settings: Settings) -> Result<Settings, SettingsError> {
        Settings {
            high_watermark_permille: self.high_watermark_permille.unwrap_or(settings.high_watermark_permille),
            low_watermark_permille: self.low_watermark_permille.unwrap_or(settings.low_watermark_permille),
            lease_ms: self.lease_ms.unwrap_or(settings.lease_ms),
        }
        .checked()
    }
}

impl From<Settings> for SettingsChange {
    fn from(settings: Settings) -> Self {
        SettingsChange {
            high_watermark_permille: Some(settings.high_watermark_permille),
            low_watermark_permille: Some(settings.low_watermark_permille),
            lease_ms: Some(settings.lease_ms),
        }
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
    }
}
